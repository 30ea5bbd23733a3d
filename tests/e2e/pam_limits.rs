//! What pam_limits and other modules set for the shell: limits, the root directory, the file mode mask. They are the
//! user's, and not the session process's.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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

/// A root directory with the programs of this machine and a home of alice.
const JAIL: &str = "/tmp/jail";

/// Makes it, and has pam_limits put alice in it.
fn jail_alice() {
    fs::create_dir(JAIL).unwrap();
    for name in ["bin", "sbin", "usr", "lib", "lib32", "lib64"].map(|name| format!("/{name}")) {
        let place = format!("{JAIL}{name}");
        match fs::read_link(&name) {
            Ok(target) => symlink(target, place).unwrap(),
            Err(_) if Path::new(&name).is_dir() => {
                fs::create_dir_all(&place).unwrap();
                let bound = Command::new("mount").args(["--bind", &name, &place]).status().unwrap();
                assert!(bound.success());
            }
            Err(_) => {}
        }
    }
    fs::create_dir_all(format!("{JAIL}/etc")).unwrap();
    fs::copy("/etc/profile", format!("{JAIL}/etc/profile")).unwrap();
    fs::create_dir_all(format!("{JAIL}/proc")).unwrap();
    assert!(
        Command::new("mount")
            .args(["-t", "proc", "proc", &format!("{JAIL}/proc")])
            .status()
            .unwrap()
            .success()
    );
    // By a link that is right inside only.
    fs::create_dir_all(format!("{JAIL}/homes/alice")).unwrap();
    symlink("/homes", format!("{JAIL}/home")).unwrap();
    fs::write(format!("{JAIL}/homes/alice/inside"), "").unwrap();
    limit(ALICE, &[&format!("hard chroot {JAIL}")]);
}

/// The root and the working directory of the process that stands for the session of this shell, and its file mode mask.
fn place_of_session(peer: &mut Peer) -> [String; 3] {
    let shell: u32 = peer.run("echo $$").parse().unwrap();
    let session = Process::of(shell).unwrap().parent;
    let [root, working] = ["root", "cwd"]
        .map(|name| fs::read_link(format!("/proc/{session}/{name}")).unwrap().display().to_string());
    let status = fs::read_to_string(format!("/proc/{session}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("Umask:\t")).unwrap();
    [root, working, mask.to_owned()]
}

#[test]
fn a_root_directory_that_a_module_sets_is_the_shells() {
    world(|world| {
        if !has_readers() || !build() {
            return;
        }
        fs::write("/home/alice/outside", "").unwrap();
        jail_alice();
        let _daemon = world.serve("");
        whole_session(ALICE, 1, |peer| {
            assert_eq!(peer.run("pwd; echo *; echo $HOME; umask"), "/homes/alice\ninside\n/home/alice\n0022");
            assert_eq!(peer.run("cd /; echo e*/* h*"), "etc/profile home homes");
            // No descriptor leads out.
            let outside = peer.run("ls -l /proc/$$/fd | grep -v /pts/ | grep -- '->' | wc -l");
            assert_eq!(outside, "0");
            assert_eq!(place_of_session(peer), ["/", "/", "0022"]);
        });
        closed(world, 1);
        // The registry is reached, and what is written for the session stays outside.
        assert!(!fs::exists(format!("{JAIL}/var")).unwrap() && !fs::exists(format!("{JAIL}/run")).unwrap());
        assert_eq!(world.audit.of("session-trouble"), Vec::<String>::new());

        // The home and the shell are those inside.
        fs::rename(format!("{JAIL}/homes/alice"), format!("{JAIL}/homes/away")).unwrap();
        whole_session(ALICE, 2, |peer| {
            assert!(String::from_utf8_lossy(&peer.data).contains("No directory, logging in with HOME=/"));
            assert_eq!(peer.run("pwd; echo $HOME"), "/\n/");
        });
        world.audit.wait_count("session-trouble", 1);
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        fs::copy("/bin/sh", "/tmp/own-shell").unwrap();
        fs::write("/etc/passwd", passwd.replace("/home/alice:/bin/sh", "/home/alice:/tmp/own-shell"))
            .unwrap();
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("cannot start /tmp/own-shell: No such file or directory");
    });
}

#[test]
fn a_working_directory_that_a_module_sets_is_not_the_session_processs() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("session required PROBE chdir=/tmp\nsession required pam_umask.so umask=027");
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("pwd; umask"), "/home/alice\n0027");
        assert_eq!(place_of_session(&mut peer), ["/", "/", "0022"]);
    });
}
