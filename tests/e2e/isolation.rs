//! The harness itself: what tests do stays in their own machine.

use std::fs;
use std::path::Path;

use crate::accounts::ALICE;
use crate::processes;
use crate::terminal::terminals;
use crate::world::{is_inside, world};

/// What a test could spoil, as far as it can be told apart from what others do meanwhile.
fn machine() -> Vec<String> {
    let mut facts: Vec<String> =
        ["/etc/passwd", "/etc/shadow", "/etc/group", "/etc/hosts", "/etc/pam.d/login"]
            .map(|file| fs::read_to_string(file).unwrap_or_default())
            .into();
    facts.push(fs::read_to_string("/proc/self/mounts").unwrap());
    facts.push(fs::read_to_string("/proc/sys/kernel/hostname").unwrap());
    facts.push(format!("{:?}", processes::namespaces()));
    facts
}

#[test]
fn a_test_leaves_the_machine_as_it_was() {
    // The test's two lives share one mark: a name that is not used elsewhere.
    let marks = ["/etc", "/home", "/root", "/run", "/var/log", "/tmp", "/dev"]
        .map(|dir| format!("{dir}/rlogind-e2e-mark"));
    let before = machine();
    world(|_world| {
        for mark in &marks {
            fs::write(mark, "mark").unwrap();
        }
        fs::write("/etc/passwd", "").unwrap();
        fs::write("/etc/hosts", "").unwrap();
        fs::remove_dir_all("/home/alice").unwrap();
    });
    if is_inside() {
        return;
    }
    assert_eq!(machine(), before);
    for mark in marks {
        assert!(!Path::new(&mark).exists(), "{mark} came out");
    }
}

#[test]
fn a_test_sees_a_machine_of_its_own() {
    world(|_world| {
        let init = fs::read_to_string("/proc/1/cmdline").unwrap();
        assert!(init.contains("world.sh"), "process 1 is {init:?}");
        let interfaces = fs::read_to_string("/proc/net/dev").unwrap();
        assert_eq!(interfaces.lines().skip(2).count(), 1, "only lo: {interfaces}");
        assert_eq!(fs::read_dir("/tmp").unwrap().count(), 0);
        assert_eq!(terminals(), 0);
        assert_eq!(nix::unistd::User::from_name(ALICE.name).unwrap().unwrap().uid.as_raw(), ALICE.uid);
    });
}
