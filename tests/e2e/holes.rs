//! Attacks on servers of this family, tried on the whole daemon: see the ledger in `docs/SECURITY.md`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::accounts::{ALICE, BOB, PROMPT};
use crate::audit::total;
use crate::ending::nothing_is_left;
use crate::peer::{Peer, handshake};
use crate::probe::compile;
use crate::processes::{self, Process};
use crate::terminal::{PATIENCE, find};
use crate::world::{World, world};

#[test]
fn names_typed_at_the_prompt_are_no_options_and_no_commands() {
    world(|world| {
        let mut daemon = world.serve("[login]\nattempts = 20\nroot = \"password\"\n");
        let mut peer = Peer::hello("nobody", "");
        let names = [
            "-froot",
            "-f root",
            "--",
            "-h localhost",
            "root -f",
            "$(touch /tmp/pwned)",
            "`touch /tmp/pwned`",
            "; touch /tmp/pwned #",
            "alice\tTTYPROMPT=x",
            "LD_PRELOAD=/tmp/x alice",
            "../alice",
            "%n%n%n%s",
            "alice:x:0:0",
            "\"alice\"",
        ];
        for name in names {
            peer.expect("login: ");
            peer.send(format!("{name}\r"));
            peer.wait("an answer", PATIENCE, |peer| {
                let text = String::from_utf8_lossy(peer.rest()).into_owned();
                text.contains("Password: ") || text.contains("Login incorrect") || text.contains(PROMPT)
            });
            if String::from_utf8_lossy(peer.rest()).contains("Password: ") {
                peer.expect("Password: ");
                peer.send(format!("{}\r", ALICE.password));
            }
            let text = peer.expect("Login incorrect");
            assert!(!text.contains(PROMPT), "{name:?} got in");
        }
        assert!(!fs::exists("/tmp/pwned").unwrap());
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
        drop(peer);
        nothing_is_left(&daemon);
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        // Ten lines, and one for those that came after.
        let lines = world.audit.wait_count("password-failed", 11);
        assert_eq!(total(&lines), names.len());
        // None of them is written down either: each could be a mistyped password.
        assert!(lines.iter().all(|line| line.contains("user=\"(unknown)\"")), "{lines:#?}");
    });
}

/// Where in a process's memory a text stands: the names of the mappings.
fn places_of(pid: u32, text: &str) -> Vec<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines().filter(|line| line.contains(" r") && !line.ends_with("[vvar]")) {
        let (range, _) = line.split_once(' ').unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Some mappings cannot be read, such as [vsyscall].
        if memory.read_exact_at(&mut bytes, start).is_ok()
            && let Some(at) = find(&bytes, text.as_bytes())
        {
            let from = at.saturating_sub(32);
            let around = String::from_utf8_lossy(&bytes[from..(at + 64).min(bytes.len())]).into_owned();
            found.push(format!("{line} at {at:#x}: {around:?}"));
        }
    }
    found
}

#[test]
fn no_password_stays_in_the_session_process() {
    world(|world| {
        let daemon = world.serve("");
        // Some clients send the password as the client's user.
        let mut peer = Peer::connect_unreserved();
        peer.send(handshake("client-Secret-8", "", "vt100/38400"));
        peer.expect("login: ");
        peer.send("typed-Secret-7\r");
        peer.expect("Password: ");
        peer.send("wrong-Secret-9\r");
        peer.expect("login: ");
        peer.send("alice\r");
        peer.give_password(ALICE);
        let shell: u32 = peer.run("echo $$").parse().unwrap();
        let session = Process::of(shell).unwrap().parent;
        // The search finds what is there.
        assert_ne!(places_of(session, "rlogind-session"), Vec::<String>::new());
        for secret in ["client-Secret-8", "typed-Secret-7", "wrong-Secret-9", ALICE.password] {
            assert_eq!(places_of(session, secret), Vec::<String>::new(), "{secret} in the session");
            assert_eq!(places_of(shell, secret), Vec::<String>::new(), "{secret} in the shell");
            assert_eq!(places_of(daemon.pid(), secret), Vec::<String>::new(), "{secret} in the monitor");
        }
    });
}

/// Puts a program before the daemon that spoils one system call, when the argument of that number has that value; false
/// without a compiler.
pub(crate) fn spoil(call: &str, argument: u32, value: u32, error: &str) -> bool {
    let definitions = [
        format!("-DCALL={call}"),
        format!("-DARGUMENT={argument}"),
        format!("-DVALUE={value}u"),
        format!("-DERROR={error}"),
    ];
    let mut args: Vec<&str> = definitions.iter().map(String::as_str).collect();
    args.extend(["-o", "/mnt/wrapper"]);
    if !compile(&args, include_str!("../pam/deny_ids.c")) {
        return false;
    }
    let mount = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success());
    if fs::exists("/mnt/real").unwrap() {
        assert!(Command::new("umount").arg("/mnt/rlogind").status().unwrap().success());
    } else {
        fs::write("/mnt/real", "").unwrap();
        mount(&["--bind", "/mnt/rlogind", "/mnt/real"]);
    }
    mount(&["--bind", "/mnt/wrapper", "/mnt/rlogind"]);
    true
}

#[test]
fn no_shell_runs_when_an_id_cannot_be_changed() {
    world(|world| {
        // Alice's ids are 1001, and her groups are two. A result of 0 is worse than any kernel: it
        // says that it did what it did not do. (setresgid without effect would be without harm:
        // setgid has changed all three ids.)
        let spoilt = [
            ("SYS_setgid", ALICE.uid, "EPERM"),
            ("SYS_setgid", ALICE.uid, "0"),
            ("SYS_setgroups", 2, "EPERM"),
            ("SYS_setgroups", 2, "0"),
            ("SYS_setresgid", ALICE.uid, "EPERM"),
            ("SYS_setresuid", ALICE.uid, "EPERM"),
            ("SYS_setresuid", ALICE.uid, "EAGAIN"),
            ("SYS_setresuid", ALICE.uid, "0"),
        ];
        for (call, value, error) in spoilt {
            if !spoil(call, 0, value, error) {
                return;
            }
            let mut daemon = world.serve("");
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            peer.send(format!("{}\r", ALICE.password));
            peer.wait("end, or a shell", PATIENCE, |peer| {
                peer.end.is_some() || find(&peer.data, PROMPT.as_bytes()).is_some()
            });
            let text = String::from_utf8_lossy(&peer.data).into_owned();
            assert!(!text.contains(PROMPT), "{call} {error}: {text:?}");
            assert!(
                text.contains("rlogind: Permission denied") || text.contains("cannot start /bin/sh"),
                "{call} {error}: {text:?}"
            );
            nothing_is_left(&daemon);
            daemon.signal(Signal::SIGTERM);
            daemon.wait(PATIENCE);
        }
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
        world.audit.wait_count("login-abandoned", spoilt.len());
    });
}

/// What the server says to a client with that IP option.
fn says_to_option(option: &str) -> Option<String> {
    let definition = format!("-DOPTION={option}");
    if !compile(&[&definition, "-o", "/mnt/options"], include_str!("../pam/ip_options.c")) {
        return None;
    }
    let output = Command::new("/mnt/options").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_connection_with_ip_options_is_refused() {
    world(|world: &World| {
        let _daemon = world.serve("");
        world.hosts_equiv("127.0.0.1\n");
        let Some(without) = says_to_option("0") else { return };
        assert!(without.contains(PROMPT), "{without:?}");
        // To record the route, RFC 791, section 3.1: a source route would not come over loopback, and
        // all options are refused alike.
        let Some(text) = says_to_option("7,11,4,0,0,0,0,0,0,0,0,0") else { return };
        assert_eq!(text, "\x01rlogind: Permission denied.\r\n");
        let line = world.audit.wait("refused");
        assert!(line.contains("IP options"), "{line}");
        world.audit.wait_count("session-opened", 1);
    });
}

#[test]
fn passwords_stand_in_no_argument_and_no_environment() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::connect_unreserved();
        peer.send(handshake("client-Secret-8", "alice", "vt100/38400"));
        peer.give_password(ALICE);
        for process in processes::all() {
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
                assert!(find(&bytes, b"-Secret-").is_none(), "{file} of {process:?}");
            }
        }
        peer.listen(Duration::from_millis(1));
    });
}

#[test]
fn a_refused_account_is_not_reached_through_the_login_prompt() {
    world(|world| {
        let rule = "[[trust.rule]]\nfrom = [\"127.0.0.0/8\"]\nusers = [\"alice\"]\nverdict = \"refuse\"\n";
        let _daemon = world.serve(rule);
        let mut peer = Peer::hello("nobody", "");
        peer.expect("login: ");
        peer.send("alice\r");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        assert_eq!(peer.expect("login: "), "\r\nLogin incorrect\r\n");
        let line = world.audit.wait("password-failed");
        assert!(line.contains("a rule refuses this account from there"), "{line}");
        // Another account is not touched by it.
        peer.send("bob\r");
        peer.give_password(BOB);
    });
}

#[test]
fn a_client_user_that_a_wildcard_matched_is_not_shown() {
    world(|world| {
        let rule = "[[trust.rule]]\nfrom = [\"127.0.0.0/8\"]\nremote_users = [\"+\"]\nverdict = \"trust\"\n";
        let _daemon = world.serve(rule);
        let mut peer = Peer::hello("Hunter2pw", "alice");
        peer.expect(PROMPT);
        let line = world.audit.wait("session-opened");
        assert!(!line.contains("Hunter2pw"), "{line}");
        assert!(!world.audit.wait("trust-granted").contains("Hunter2pw"));
    });
}
