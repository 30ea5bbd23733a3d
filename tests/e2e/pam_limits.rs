//! The limits that pam_limits sets: the user's, and not the session process's.

use std::fs;

use crate::accounts::{ALICE, Account, BOB};
use crate::peer::Peer;
use crate::probe::{build, count, service_with};
use crate::processes::Process;
use crate::records::{WTMP, closed, counts, has_readers};
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

/// Each is one that had kept the session process from something: a record, memory, a descriptor, a process, time.
const TIGHT: [&str; 7] = [
    "hard fsize 64",
    "hard as 16384",
    "hard data 4096",
    "hard nproc 500",
    "hard cpu 60",
    "hard stack 256",
    "hard core 0",
];

/// pam_limits, with these lines for an account, and the tests' module behind it.
fn limit(account: Account, lines: &[&str]) {
    fs::create_dir_all("/etc/security").unwrap();
    let text: String = lines.iter().map(|line| format!("{} {line}\n", account.name)).collect();
    fs::write("/etc/security/limits.conf", text).unwrap();
    service_with("session required pam_limits.so\nsession optional PROBE");
}

/// Logs in and out, and leaves a login and a logout in wtmp, which is longer than `fsize`.
fn whole_session(account: Account, number: usize, look: impl FnOnce(&mut Peer)) {
    let before = counts(WTMP, "pts/0");
    let mut peer = Peer::log_in(account);
    look(&mut peer);
    peer.send("exit\r");
    peer.wait_end(PATIENCE);
    eventually("PAM is closed", PATIENCE, || (count("close") == number).then_some(()));
    eventually("login and logout are on record", PATIENCE, || {
        (counts(WTMP, "pts/0") == (before.0 + 1, before.1 + 1)).then_some(())
    });
}

#[test]
fn each_limit_of_the_user_leaves_records_and_pam_whole() {
    world(|world| {
        if !has_readers() || !build() {
            return;
        }
        // Records of nobody, 150 KB.
        fs::write(WTMP, vec![0; 384 * 400]).unwrap();
        let _daemon = world.serve("");
        for (number, line) in (1..).zip(TIGHT) {
            limit(ALICE, &[line]);
            whole_session(ALICE, number, |peer| drop(peer.run("echo")));
            closed(world, number);
        }
        let trouble = world.audit.of("session-trouble");
        assert!(trouble.is_empty() && world.audit.of("warning").is_empty(), "{trouble:?}");
    });
}

#[test]
fn a_shell_that_needs_few_descriptors_starts_with_few() {
    world(|world| {
        if !has_readers() || !build() {
            return;
        }
        let _daemon = world.serve("");
        limit(BOB, &["hard nofile 8"]);
        whole_session(BOB, 1, |peer| {
            let shown = peer.run("ulimit -n");
            // Behind what bash tells the terminal.
            assert!(shown.ends_with("\r8"), "{shown:?}");
        });
    });
}

#[test]
fn the_shell_has_all_limits_of_the_user_and_the_session_process_none() {
    world(|world| {
        if !has_readers() || !build() {
            return;
        }
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let ours = limits_of_session(&mut peer);
        peer.send("exit\r");
        peer.wait_end(PATIENCE);
        closed(world, 1);
        limit(ALICE, &[&TIGHT[..], &["soft memlock 32", "- priority 5"]].concat());
        whole_session(ALICE, 1, |peer| {
            let shown =
                peer.run("ulimit -f -H; ulimit -v; ulimit -d; ulimit -p; ulimit -t; ulimit -s; ulimit -c");
            let lines: Vec<&str> = shown.lines().collect();
            assert_eq!(lines, ["128", "16384", "4096", "500", "3600", "256", "0"]);
            assert_eq!(peer.run("ulimit -l; cut -d' ' -f19 /proc/$$/stat"), "32\n5");
            assert_eq!(limits_of_session(peer), ours);
        });
    });
}

/// The limits of the process that stands for the session of this shell, and its nice value.
fn limits_of_session(peer: &mut Peer) -> (String, String) {
    let shell: u32 = peer.run("echo $$").parse().unwrap();
    let session = Process::of(shell).unwrap().parent;
    let limits = fs::read_to_string(format!("/proc/{session}/limits")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{session}/stat")).unwrap();
    (limits, stat.split(' ').nth(18).unwrap().to_owned())
}

#[test]
fn a_file_mode_mask_that_a_module_sets_is_the_shells() {
    world(|world| {
        service_with("session required pam_umask.so umask=077");
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("umask"), "0077");
        let shell: u32 = peer.run("echo $$").parse().unwrap();
        let session = Process::of(shell).unwrap().parent;
        let status = fs::read_to_string(format!("/proc/{session}/status")).unwrap();
        assert!(status.lines().any(|line| line == "Umask:\t0022"), "{status}");
    });
}
