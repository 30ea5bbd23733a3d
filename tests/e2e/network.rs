//! Addresses of both families, and the start.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::accounts::{ALICE, PROMPT, ROOT};
use crate::audit::field;
use crate::daemon::{self, Daemon, PROGRAM};
use crate::lacking::{without, without_family};
use crate::peer::{Peer, handshake};
use crate::processes::Process;
use crate::terminal::{Client, PATIENCE};
use crate::world::{eventually, world};

#[test]
fn a_client_comes_in_over_ipv6() {
    world(|world| {
        let _daemon = world.serve("");
        let args = ["-l", "alice", "::1"];
        let Some(mut screen) = world.client(Client::RshRedone, ROOT, &args) else { return };
        screen.log_in(ALICE);
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "address"), Some("::1"), "{line}");
        assert_eq!(field(&line, "host"), Some("localhost6"), "{line}");
    });
}

#[test]
fn an_ipv6_address_is_trusted_in_any_spelling() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("0:0:0:0:0:0:0:1\n");
        let mut peer = Peer::connect_from(Ipv6Addr::LOCALHOST.into());
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.expect(PROMPT);
    });
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_an_ipv4_client() {
    world(|world| {
        let _daemon = world.serve("listen = [\"[::]:513\"]\n");
        world.hosts_equiv("127.0.0.1\n");
        let mut peer = Peer::connect_from(Ipv4Addr::LOCALHOST.into());
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.expect(PROMPT);
        assert_eq!(peer.run("echo $REMOTEHOST"), "localhost");
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "address"), Some("127.0.0.1"), "{line}");
    });
}

#[test]
fn an_unconfirmed_name_is_not_used() {
    world(|world| {
        let _daemon = world.serve("");
        // No name at all: the address stands for it.
        let mut peer = Peer::connect_from(Ipv4Addr::new(127, 0, 0, 77).into());
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.give_password(ALICE);
        assert_eq!(peer.run("echo $REMOTEHOST"), "127.0.0.77");
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "host"), None, "{line}");
    });
}

#[test]
fn an_address_that_is_taken_is_an_error_at_the_start() {
    world(|_world| {
        let _taken = TcpListener::bind(("127.0.0.1", 513)).unwrap();
        let output = Command::new(PROGRAM).args(["--stderr", "--listen", "127.0.0.1:513"]).output().unwrap();
        assert!(!output.status.success());
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("127.0.0.1:513") && told.contains("in use"), "{told}");
    });
}

#[test]
fn a_family_that_the_kernel_lacks_is_a_warning_while_another_address_serves() {
    const BOTH: [&str; 3] =
        ["", "[tcpmux]\nenabled = true\n", "listen = [\"127.0.0.1:513\", \"[::1]:513\"]\n"];
    world(|world| {
        for (family, lacking, config) in [
            (libc::AF_INET6, "no IPv6", BOTH[0]),
            (libc::AF_INET6, "no IPv6", BOTH[1]),
            (libc::AF_INET6, "no IPv6", BOTH[2]),
            (libc::AF_INET, "no IPv4", BOTH[0]),
        ] {
            let first = world.audit.len();
            let mut program = Command::new(PROGRAM);
            without_family(&mut program, family);
            let daemon = Daemon::start_with(program, config);
            let from = if family == libc::AF_INET {
                IpAddr::from(Ipv6Addr::LOCALHOST)
            } else {
                Ipv4Addr::LOCALHOST.into()
            };
            let mut peer = Peer::connect_from(from);
            peer.send(handshake("nobody", "alice", "vt100/38400"));
            peer.give_password(ALICE);
            let warned = || world.audit.since(first).into_iter().find(|line| line.contains(lacking));
            let line = eventually("a warning", PATIENCE, warned);
            assert_eq!(field(&line, "event"), Some("warning"), "{line}");
            // Read again, it is the same, and nobody is the worse for it.
            let first = world.audit.len();
            daemon.signal(Signal::SIGHUP);
            eventually("a warning", PATIENCE, || {
                world.audit.since(first).into_iter().find(|line| line.contains(lacking))
            });
            assert_eq!(peer.run("echo still here"), "still here");
            drop(peer);
            let mut check = Command::new(PROGRAM);
            without_family(check.arg("check"), family);
            let told = check.output().unwrap();
            let text = String::from_utf8_lossy(&told.stdout);
            assert!(told.status.success() && text.contains("note  listen "), "{text}");
            assert!(text.contains(lacking), "{text}");
            drop(daemon);
            eventually("the port is free", PATIENCE, || (!daemon::listens(513)).then_some(()));
        }
    });
}

#[test]
fn without_any_address_of_a_family_that_the_kernel_has_it_does_not_start() {
    world(|_world| {
        for words in [&["--stderr"][..], &["check"]] {
            std::fs::write("/etc/rlogind.toml", "listen = [\"[::]:513\", \"[::1]:514\"]\n").unwrap();
            let mut program = Command::new(PROGRAM);
            without_family(program.args(words), libc::AF_INET6);
            let output = program.output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{told}");
            assert!(told.contains("[::]:513") && told.contains("[::1]:514"), "{told}");
            assert_eq!(told.matches("this system has no IPv6").count(), 2, "{told}");
        }
    });
}

#[test]
fn a_system_call_that_a_login_needs_and_the_kernel_refuses_is_said_at_the_start() {
    const CALLS: [(i64, &str); 27] = [
        (libc::SYS_pidfd_open, "pidfd_open(2)"),
        (libc::SYS_waitid, "waitid(2) with P_PIDFD"),
        (libc::SYS_memfd_create, "memfd_create(2)"),
        (libc::SYS_clone, "clone(2) with CLONE_PIDFD"),
        (libc::SYS_execveat, "execveat(2)"),
        (libc::SYS_signalfd4, "signalfd(2)"),
        (libc::SYS_socketpair, "socketpair(2)"),
        (libc::SYS_getsockopt, "getsockopt(2) with SO_COOKIE"),
        (libc::SYS_clone3, "clone3(2)"),
        (libc::SYS_fchown, "fchown(2) and fchmod(2)"),
        (libc::SYS_fchmod, "fchown(2) and fchmod(2)"),
        (libc::SYS_prlimit64, "prlimit(2)"),
        (libc::SYS_setsid, "setsid(2)"),
        (libc::SYS_getgroups, "setgroups(2)"),
        (libc::SYS_setgroups, "setgroups(2)"),
        (libc::SYS_setresuid, "setresuid(2)"),
        (libc::SYS_setresgid, "setresgid(2)"),
        (libc::SYS_chroot, "chroot(2)"),
        (libc::SYS_capset, "capset(2)"),
        (libc::SYS_prctl, "bounding set"),
        (libc::SYS_seccomp, "seccomp(2)"),
        (libc::SYS_accept4, "accept4(2)"),
        (libc::SYS_sendmsg, "sendmsg(2)"),
        (libc::SYS_recvmsg, "recvmsg(2)"),
        (libc::SYS_epoll_create1, "epoll_create1(2)"),
        (libc::SYS_epoll_ctl, "epoll_ctl(2)"),
        (libc::SYS_epoll_wait, "epoll_wait(2)"),
    ];
    world(|_world| {
        std::fs::write("/etc/rlogind.toml", "").unwrap();
        for (errno, mend) in
            [(Errno::EPERM, "newer container runtime"), (Errno::ENOSYS, "Linux 5.4 or later")]
        {
            for (call, name) in CALLS {
                if call == libc::SYS_clone3 && errno == Errno::ENOSYS {
                    // The C library uses clone(2) then.
                    continue;
                }
                for words in ["--stderr", "check", "doctor"] {
                    let mut program = Command::new(PROGRAM);
                    without(program.arg(words), &[(call, None)], errno);
                    let output = program.output().unwrap();
                    let told =
                        String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                    let place = format!("{words:?} without {name}, {errno}: {told}");
                    assert_eq!(output.status.code(), Some(1), "{place}");
                    assert!(told.contains(name) && told.contains(errno.desc()), "{place}");
                    assert!(told.contains(mend), "{place}");
                }
            }
        }
    });
}

#[test]
fn a_system_call_with_something_in_its_place_may_be_refused() {
    world(|world| {
        for errno in [Errno::EPERM, Errno::ENOSYS] {
            let mut program = Command::new(PROGRAM);
            without(
                &mut program,
                &[(libc::SYS_close_range, None), (libc::SYS_pidfd_send_signal, None)],
                errno,
            );
            let daemon = Daemon::start_with(program, "");
            let mut peer = Peer::log_in(ALICE);
            assert_eq!(peer.run("echo in"), "in", "{errno}");
            drop((peer, daemon));
            eventually("the port is free", PATIENCE, || (!daemon::listens(513)).then_some(()));
        }
        assert_eq!(world.audit.of("session-opened").len(), 2);
    });
}

#[test]
fn a_wrong_configuration_is_an_error_at_the_start_that_names_file_line_and_key() {
    world(|_world| {
        for (text, key) in [
            ("[login]\n\nattempt = 3\n", "attempt"),
            ("[login]\n\nattempts = \"three\"\n", "attempts"),
            ("[limits]\n\nhandshake = \"10 parsecs\"\n", "handshake"),
        ] {
            std::fs::write("/etc/rlogind.toml", text).unwrap();
            let output = Command::new(PROGRAM).arg("--stderr").output().unwrap();
            assert!(!output.status.success(), "{text:?} was taken");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(told.contains("/etc/rlogind.toml") && told.contains('3') && told.contains(key), "{told}");
        }
    });
}

#[test]
fn the_relay_is_unprivileged_and_the_monitor_reads_no_network() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.run("true");
        let relay = daemon.relay();
        assert_eq!(relay.uid, 990, "the account of the configuration");
        let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid)).unwrap();
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(value("Uid:"), Some("990\t990\t990\t990"));
        assert_eq!(value("Gid:"), Some("990\t990\t990\t990"));
        assert_eq!(value("Groups:"), Some(""));
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:", "CapBnd:"] {
            assert_eq!(value(set), Some("0000000000000000"), "{set}");
        }
        assert_eq!(value("NoNewPrivs:"), Some("1"));
        assert_eq!(value("Threads:"), Some("1"));
        // 2 is a filter, proc(5).
        assert_eq!(value("Seccomp:"), Some("2"));
        let root = std::fs::read_link(format!("/proc/{}/root", relay.pid)).unwrap();
        assert!(root.to_string_lossy().ends_with(" (deleted)"), "{root:?}");
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", relay.pid)).unwrap();
        for (limit, value) in
            [("Max processes", "0"), ("Max core file size", "0"), ("Max file size", "1073741824")]
        {
            let line = limits.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
            assert!(line.split_whitespace().take(2).eq([value, value]), "{limit}{line}");
        }
        for descriptor in relay.descriptor_list() {
            let (number, what) = descriptor.split_once('=').unwrap();
            let known = match number {
                "0" | "1" => what == "/dev/null",
                "2" => what == "/mnt/stderr",
                // Its channel, a client or a listener; the loop's; a terminal's leader.
                _ => {
                    what.starts_with("socket:") || what == "anon_inode:[eventpoll]" || what.ends_with("ptmx")
                }
            };
            assert!(known, "{descriptor} of {:?}", relay.descriptor_list());
        }
    });
}

#[test]
fn a_relay_closes_what_it_was_not_handed() {
    world(|_world| {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (_ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        // Without close-on-exec it reaches whatever is started.
        let leak = nix::unistd::dup(File::open("/etc/passwd").unwrap()).unwrap();
        let mut relay = Command::new(PROGRAM).arg("--role=relay").stdin(theirs).spawn().unwrap();
        let list = eventually("it has taken its channel", PATIENCE, || {
            let list = Process::of(relay.id())?.descriptor_list();
            list.contains(&"0=/dev/null".to_owned()).then_some(list)
        });
        // The next step is the last.
        let closed = eventually("it has closed the rest", PATIENCE, || {
            let list = Process::of(relay.id())?.descriptor_list();
            (!list.iter().any(|descriptor| descriptor.ends_with("/passwd"))).then_some(list)
        });
        assert!(closed.iter().any(|descriptor| descriptor.contains("socket:")), "{list:?}, then {closed:?}");
        drop(leak);
        relay.kill().unwrap();
        relay.wait().unwrap();
    });
}

#[test]
fn without_an_account_of_its_own_the_relay_runs_as_an_unused_user_id_and_says_so() {
    world(|world| {
        // An account, a group and a process have one of the first ids each.
        std::fs::write(
            "/etc/passwd",
            std::fs::read_to_string("/etc/passwd").unwrap() + "x:x:61184:50::/:/bin/sh\n",
        )
        .unwrap();
        std::fs::write("/etc/group", std::fs::read_to_string("/etc/group").unwrap() + "x:x:61185:\n")
            .unwrap();
        let mut other = Command::new("sleep").arg("1000").uid(61186).gid(61186).spawn().unwrap();
        for (name, problem) in [("nosuchaccount", "not found"), ("nobody", "is shared with other programs")] {
            let before = world.audit.len();
            let mut daemon = world.serve(&format!("user = \"{name}\"\n"));
            assert_eq!(daemon.relay().uid, 61187);
            let line = eventually("a warning", PATIENCE, || {
                world.audit.since(before).into_iter().find(|line| line.contains("event=\"warning\""))
            });
            assert!(line.contains(&format!("account '{name}' {problem}")), "{line}");
            assert!(line.contains("; the relay runs as the unused user id 61187"), "{line}");
            Peer::log_in(ALICE);
            daemon.signal(Signal::SIGTERM);
            daemon.wait(PATIENCE);
        }
        other.kill().unwrap();
        other.wait().unwrap();
    });
}

#[test]
fn without_its_service_file_pam_uses_login_and_says_so() {
    world(|world| {
        std::fs::remove_file("/etc/pam.d/rlogin").unwrap();
        let _daemon = world.serve("");
        Peer::log_in(ALICE);
        let warnings = world.audit.of("warning").join("\n");
        assert!(warnings.contains("/etc/pam.d") || warnings.contains("login"), "{warnings}");
    });
}

#[test]
fn audit_lines_go_to_syslog_and_to_standard_error() {
    world(|world| {
        let mut daemon = world.serve("");
        Peer::log_in(ALICE);
        world.audit.wait("started");
        world.audit.wait("session-opened");
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        for event in ["started", "connection", "session-opened", "session-closed", "stopped"] {
            world.audit.wait(event);
            assert!(daemon::told().contains(&format!("event=\"{event}\"")), "{event} in {}", daemon::told());
        }
        // <86>: authpriv (10) times eight, and informational (6); see RFC 3164, section 4.1.1.
        let opened = world.audit.wait("session-opened");
        assert!(opened.starts_with("<86>"), "{opened}");
    });
}
