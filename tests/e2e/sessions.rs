//! What PAM, the terminal and the login are left with, however a session ends.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::ending::nothing_is_left;
use crate::peer::Peer;
use crate::probe::{build, calls, count, service_with};
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

/// Every way a session can end in which its own process has a say.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Exit,
    ClientCloses,
    ClientFinishes,
    ClientResets,
    ShellKilled,
    SessionTerminated,
    DaemonTerminated,
    ShellIgnoresHangUp,
}

pub(crate) const ENDINGS: [Ending; 8] = [
    Ending::Exit,
    Ending::ClientCloses,
    Ending::ClientFinishes,
    Ending::ClientResets,
    Ending::ShellKilled,
    Ending::SessionTerminated,
    Ending::ShellIgnoresHangUp,
    // Last: there is no daemon afterwards.
    Ending::DaemonTerminated,
];

/// Sends a signal to the process that a peer's shell is a child of.
pub(crate) fn signal_session(peer: &mut Peer, signal: Signal) {
    let shell: u32 = peer.run("echo $$").parse().unwrap();
    let session = Process::of(shell).unwrap().parent;
    kill(Pid::from_raw(i32::try_from(session).unwrap()), signal).unwrap();
}

/// Makes the shell a program that a hang-up does not end.
fn ignore_hang_up(peer: &mut Peer) {
    peer.send("exec sh -c \"trap '' HUP; echo h''eld; exec sleep 60\"\r");
    peer.expect("held\r\n");
}

/// Ends the session of a peer in that way, and waits until it is closed.
pub(crate) fn end(mut peer: Peer, ending: Ending, daemon: &mut crate::daemon::Daemon) {
    match ending {
        Ending::Exit => {
            peer.send("exit 3\r");
            peer.wait_end(PATIENCE);
        }
        Ending::ClientCloses => drop(peer),
        Ending::ClientFinishes => {
            peer.finish();
            peer.wait_end(PATIENCE);
        }
        Ending::ClientResets => peer.reset(),
        Ending::ShellKilled => {
            peer.send("kill -KILL $$\r");
            peer.wait_end(PATIENCE);
        }
        Ending::SessionTerminated => {
            signal_session(&mut peer, Signal::SIGTERM);
            peer.wait_end(PATIENCE);
        }
        Ending::DaemonTerminated => {
            // The harder case: nothing ends by itself.
            ignore_hang_up(&mut peer);
            daemon.signal(Signal::SIGTERM);
            daemon.wait(PATIENCE);
        }
        Ending::ShellIgnoresHangUp => {
            ignore_hang_up(&mut peer);
            drop(peer);
        }
    }
}

#[test]
fn credentials_and_session_are_closed_once_however_it_ends() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth required PROBE\nsession required PROBE");
        let mut daemon = world.serve("");
        for (number, ending) in (1..).zip(ENDINGS) {
            let peer = Peer::log_in(ALICE);
            assert_eq!(["establish", "open"].map(count), [number; 2], "{ending:?}");
            assert_eq!(["close", "delete"].map(count), [number - 1; 2], "before {ending:?}");
            end(peer, ending, &mut daemon);
            world.audit.wait_count("session-closed", number);
            assert_eq!(["establish", "open", "close", "delete"].map(count), [number; 4], "{ending:?}");
            let calls = calls();
            let order: Vec<&str> =
                calls[calls.len() - 4..].iter().map(|line| line.split(' ').next().unwrap()).collect();
            if matches!(ending, Ending::ShellIgnoresHangUp) {
                let line = world.audit.of("session-closed").pop().unwrap();
                assert_eq!(field(&line, "end"), Some("left-running"), "{line}");
            }
            assert_eq!(order, ["establish", "open", "close", "delete"], "{ending:?}");
        }
    });
}

#[test]
fn what_was_opened_is_closed_when_no_shell_starts() {
    world(|world| {
        if !build() {
            return;
        }
        let daemon = world.serve("");
        let counts = || ["establish", "open", "close", "delete"].map(count);
        // A session that a module refuses was not opened, but the credentials are there. 14 is PAM_SESSION_ERR.
        service_with("auth required PROBE\nsession required PROBE fail=14");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("rlogind: Permission denied.\r\n");
        peer.wait_end(PATIENCE);
        nothing_is_left(&daemon);
        assert_eq!(counts(), [1, 1, 0, 1]);
        let line = world.audit.wait("login-abandoned");
        assert!(line.contains("PAM session"), "{line}");

        service_with("auth required PROBE\nsession required PROBE");
        set_shell("alice", "/nonexistent/shell");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.wait_end(PATIENCE);
        nothing_is_left(&daemon);
        assert_eq!(counts(), [2, 2, 1, 2]);
    });
}

fn set_shell(user: &str, shell: &str) {
    let text = fs::read_to_string("/etc/passwd").unwrap();
    let lines = text.lines().map(|line| match line.strip_prefix(&format!("{user}:")) {
        Some(_) => format!("{}:{shell}\n", line.rsplit_once(':').unwrap().0),
        None => format!("{line}\n"),
    });
    fs::write("/etc/passwd", lines.collect::<String>()).unwrap();
}

#[test]
fn a_shell_that_cannot_start_is_said_to_the_client_and_in_the_log() {
    world(|world| {
        let daemon = world.serve("");
        fs::write("/mnt/noexec", "#!/bin/sh\n").unwrap();
        fs::set_permissions("/mnt/noexec", Permissions::from_mode(0o644)).unwrap();
        for (number, (shell, why)) in (1..).zip([
            ("/nonexistent/shell", "No such file or directory"),
            ("/mnt/noexec", "Permission denied"),
            ("/etc", "Permission denied"),
        ]) {
            set_shell("alice", shell);
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            peer.send(format!("{}\r", ALICE.password));
            peer.expect(&format!("cannot start {shell}: {why}\r\n"));
            peer.wait_end(PATIENCE);
            let lines = world.audit.wait_count("session-trouble", number);
            assert!(lines[number - 1].contains(shell) && lines[number - 1].contains(why), "{lines:#?}");
            world.audit.wait_count("login-abandoned", number);
        }
        nothing_is_left(&daemon);
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
        // An account without one has the standard shell, passwd(5).
        set_shell("alice", "");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("echo $0 $SHELL"), "-sh /bin/sh");
    });
}

#[test]
fn a_home_that_the_user_may_not_enter_is_none() {
    world(|world| {
        let _daemon = world.serve("");
        fs::set_permissions("/home/alice", Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown("/home/alice", Some(0), Some(0)).unwrap();
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        assert_eq!(peer.run("pwd"), "/");
        fs::remove_dir("/home/alice").unwrap();
        fs::write("/home/alice", "a file").unwrap();
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        assert!(String::from_utf8_lossy(&peer.data).contains("No directory, logging in with HOME=/\r\n"));
        assert_eq!(peer.run("pwd; echo $HOME"), "/\n/");
        let line = world.audit.wait("session-trouble");
        assert!(line.contains("/home/alice"), "{line}");
    });
}

#[test]
fn a_home_that_a_module_makes_is_there() {
    world(|world| {
        service_with("session required pam_mkhomedir.so");
        let _daemon = world.serve("");
        fs::remove_dir("/home/alice").unwrap();
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("pwd; echo $HOME"), "/home/alice\n/home/alice");
        assert!(!String::from_utf8_lossy(&peer.data).contains("No directory"));
    });
}

#[test]
fn the_terminal_is_roots_again_while_a_job_holds_it() {
    world(|world| {
        let _daemon = world.serve("");
        for ending in ["exit\r", ""] {
            let mut peer = Peer::log_in(ALICE);
            let tty = peer.run("tty");
            assert_eq!(fs::metadata(&tty).unwrap().uid(), ALICE.uid);
            // It has the terminal as its standard output, so the terminal lives on.
            peer.send("(trap '' HUP; echo $PPID >/tmp/job; exec sleep 20) & sleep 0.3; echo re\"\"ady\r");
            peer.expect("ready\r\n");
            peer.expect(PROMPT);
            if ending.is_empty() {
                drop(peer);
            } else {
                peer.send(ending);
                peer.wait_end(PATIENCE);
            }
            eventually("the terminal is root's", PATIENCE, || {
                let data = fs::metadata(&tty).ok();
                // Without the leader nobody can open it at all, not even by its name.
                let closed = data.is_none_or(|data| (data.uid(), data.mode() & 0o777) == (0, 0o600));
                closed.then_some(())
            });
            std::thread::sleep(Duration::from_millis(200));
            if let Ok(data) = fs::metadata(&tty) {
                assert_eq!((data.uid(), data.gid(), data.mode() & 0o777), (0, 0, 0o600));
            }
        }
    });
}

#[test]
fn the_message_of_the_day_comes_from_its_module() {
    world(|world| {
        service_with("session optional pam_motd.so motd=/etc/motd.test noupdate");
        fs::write("/etc/motd.test", "Be kind.\n").unwrap();
        let _daemon = world.serve("");
        let peer = Peer::log_in(ALICE);
        assert!(String::from_utf8_lossy(&peer.data).contains("Be kind.\r\n"));
        assert!(!Path::new("/home/alice/.hushlogin").exists());
    });
}

#[test]
fn trust_is_written_down_with_its_file_and_line() {
    world(|world| {
        let mut daemon = world.serve("[trust]\nwildcards = true\n");
        world.write_for(ALICE, "/home/alice/.rhosts", "# comment\n127.0.0.9 alice\nlocalhost alice\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.expect(PROMPT);
        let line = world.audit.wait("trust-granted");
        assert_eq!(field(&line, "file"), Some("/home/alice/.rhosts"), "{line}");
        assert_eq!(field(&line, "line"), Some("3"), "{line}");
        assert_eq!(field(&line, "remote_user"), Some("alice"), "{line}");
        assert_eq!(field(&line, "wildcard"), Some("no"), "{line}");
        // authpriv.info, and authpriv.warning for a wildcard.
        assert!(line.starts_with("<86>"), "{line}");
        world.hosts_equiv("+\n");
        let mut peer = Peer::hello("bob", "bob");
        peer.expect(PROMPT);
        let line = world.audit.wait_count("trust-granted", 2).pop().unwrap();
        assert_eq!(field(&line, "wildcard"), Some("yes"), "{line}");
        assert_eq!(field(&line, "file"), Some("/etc/hosts.equiv"), "{line}");
        assert!(line.starts_with("<84>"), "{line}");
        drop(peer);
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);

        let _daemon = world.serve("[[trust.rule]]\nfrom = [\"127.0.0.1\"]\nverdict = \"refuse\"\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.wait_end(PATIENCE);
        let line = world.audit.wait("trust-denied");
        assert_eq!(field(&line, "file"), Some("/etc/rlogind.toml"), "{line}");
        assert!(field(&line, "line").is_some(), "{line}");
    });
}
