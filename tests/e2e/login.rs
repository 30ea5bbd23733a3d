//! Who gets in, by what, and what is said and written down about it.

use std::fs::{self, Permissions};
use std::net::Ipv6Addr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, BOB, PROMPT, ROOT};
use crate::audit::field;
use crate::daemon::{self, PROGRAM};
use crate::holes::spoil;
use crate::pam::change_shadow;
use crate::peer::{Peer, handshake};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};
use nix::sys::signal::Signal;

/// Whether this client is let in without a password, as far as it shows.
fn is_trusted(mut peer: Peer) -> bool {
    peer.wait("prompt of any kind", PATIENCE, |peer| {
        let text = String::from_utf8_lossy(&peer.data);
        text.contains("Password: ") || text.contains(PROMPT)
    });
    !String::from_utf8_lossy(&peer.data).contains("Password: ")
}

#[test]
fn an_empty_server_user_is_asked_for() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("alice", "");
        peer.expect("login: ");
        peer.send("alice\r");
        peer.give_password(ALICE);
        assert_eq!(peer.run("id -un"), "alice");
        let shown = String::from_utf8_lossy(&peer.data).into_owned();
        assert!(shown.contains("login: alice\r\n"), "the name is shown as it is typed: {shown:?}");
    });
}

#[test]
fn lines_at_the_prompts_may_end_in_newline() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("", "");
        peer.expect("login: ");
        peer.send("alice\n");
        peer.expect("Password: ");
        peer.send(format!("{}\n", ALICE.password));
        peer.expect(PROMPT);
    });
}

#[test]
fn erase_and_kill_work_at_the_prompts() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("", "");
        peer.expect("login: ");
        peer.send("rubbish\x15alicex\x7f\r");
        peer.expect("Password: ");
        peer.send(format!("rubbish\x15{}x\x7f\r", ALICE.password));
        peer.expect(PROMPT);
    });
}

/// What a client sees from the handshake to the next `login:`, when it gives a wrong password.
fn refusal_of(user: &str) -> String {
    let mut peer = Peer::hello("nobody", user);
    peer.expect("Password: ");
    peer.send("wrong-Secret-9\r");
    peer.expect("login: ");
    String::from_utf8(peer.data).unwrap()
}

#[test]
fn an_unknown_user_reads_the_same_as_a_wrong_password() {
    world(|world| {
        let _daemon = world.serve("");
        let wrong = refusal_of("alice");
        assert!(wrong.contains("Login incorrect"), "{wrong:?}");
        assert_eq!(refusal_of("mallory"), wrong);
        assert_eq!(refusal_of("daemon"), wrong, "an account without a password");
        assert_eq!(refusal_of("root"), wrong, "an account that may not log in so");
    });
}

#[test]
fn only_so_many_attempts_are_allowed() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        for attempt in 1..=3 {
            peer.expect("Password: ");
            peer.send("wrong-Secret-9\r");
            peer.expect("Login incorrect");
            if attempt < 3 {
                peer.expect("login: ");
                peer.send("alice\r");
            }
        }
        peer.wait_end(PATIENCE);
        assert!(!String::from_utf8_lossy(peer.rest()).contains("login: "));
        let lines = world.audit.wait_count("password-failed", 3);
        assert_eq!(field(&lines[2], "attempt"), Some("3"), "{}", lines[2]);
        assert_eq!(field(&lines[0], "user"), Some("alice"), "{}", lines[0]);
    });
}

#[test]
fn the_login_has_a_deadline() {
    world(|world| {
        let _daemon = world.serve("[limits]\nlogin = \"2s\"\n");
        let start = Instant::now();
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.wait_end(PATIENCE);
        assert!((1500..6000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        world.audit.wait("login-abandoned");
    });
}

#[test]
fn the_logins_deadline_does_not_end_a_session() {
    world(|world| {
        let _daemon = world.serve("[limits]\nlogin = \"2s\"\n");
        let mut peer = Peer::log_in(ALICE);
        peer.listen(Duration::from_secs(3));
        assert_eq!(peer.run("echo still here"), "still here");
    });
}

#[test]
fn root_is_refused_with_the_right_password_unless_the_configuration_allows_it() {
    world(|world| {
        let mut daemon = world.serve("[login]\nattempts = 1\n");
        world.write_for(ROOT, "/root/.rhosts", "127.0.0.1 root\n");
        let mut peer = Peer::hello("root", "root");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ROOT.password));
        peer.expect("Login incorrect");
        peer.wait_end(PATIENCE);
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.wait(PATIENCE);

        let _daemon = world.serve("[login]\nroot = \"password\"\n");
        assert!(!is_trusted(Peer::hello("root", "root")));
        let mut peer = Peer::hello("root", "root");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ROOT.password));
        peer.expect(PROMPT);
        assert_eq!(peer.run("id -u"), "0");
    });
}

#[test]
fn root_is_trusted_by_its_own_rhosts_only() {
    world(|world| {
        let _daemon = world.serve("[login]\nroot = \"trust\"\n");
        world.hosts_equiv("127.0.0.1\n");
        assert!(is_trusted(Peer::hello("alice", "alice")));
        assert!(!is_trusted(Peer::hello("root", "root")));
        world.write_for(ROOT, "/root/.rhosts", "127.0.0.1 root\n");
        assert!(is_trusted(Peer::hello("root", "root")));
    });
}

#[test]
fn an_unreserved_port_is_never_trusted() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("127.0.0.1\n");
        let says = |mut peer: Peer| {
            peer.send(handshake("alice", "alice", "vt100/38400"));
            peer
        };
        assert!(is_trusted(says(Peer::connect())));
        assert!(!is_trusted(says(Peer::connect_unreserved())));
        assert!(is_trusted(says(Peer::connect_from_port(512))));
        assert!(!is_trusted(says(Peer::connect_from_port(511))), "below 512 are the servers' ports");
        let mut peer = says(Peer::connect_unreserved());
        peer.give_password(ALICE);
    });
}

#[test]
fn where_anybody_may_open_reserved_ports_this_machine_is_not_trusted() {
    world(|world| {
        world.hosts_equiv("127.0.0.2\n127.0.0.3\n127.0.0.4\n");
        let _daemon = world.serve("");
        let setting = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
        for (last, first, trusted) in [(2, "0", false), (3, "1023", false), (4, "1024", true)] {
            fs::write(setting, first).unwrap();
            // From port 1023, which is free of each.
            let mut peer = Peer::connect_from([127, 0, 0, last].into());
            peer.send(handshake("alice", "alice", "vt100/38400"));
            assert_eq!(is_trusted(peer), trusted, "{first}");
        }
        assert!(world.audit.of("trust-absent")[0].contains("ip_unprivileged_port_start"));
        // An address that stands on no interface, but comes here: anybody can bind it, told so (IPV6_FREEBIND).
        world.hosts_equiv("2001:db8:9::77\n2001:db8:9::78\n");
        let route = "-6 route add local 2001:db8:9::/48 dev lo";
        assert!(Command::new("ip").args(route.split(' ')).status().unwrap().success());
        let nonlocal = "/proc/sys/net/ipv6/ip_nonlocal_bind";
        for (last, first, trusted) in [(0x77, "0", false), (0x78, "1024", true)] {
            fs::write(setting, first).unwrap();
            fs::write(nonlocal, "1").unwrap();
            let mut peer = Peer::connect_from(Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, last).into());
            fs::write(nonlocal, "0").unwrap();
            peer.send(handshake("alice", "alice", "vt100/38400"));
            assert_eq!(is_trusted(peer), trusted, "{first}");
        }
    });
}

/// As pwunconv(8) leaves the machine, or an administrator who has never had shadow(5); `passwd -l` writes there then.
#[test]
fn a_lock_in_passwd_counts_without_a_shadow_entry() {
    world(|world| {
        world.hosts_equiv("127.0.0.1\n");
        let _daemon = world.serve("");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        let shadow = fs::read_to_string("/etc/shadow").unwrap();
        let others = shadow.lines().filter(|line| !line.starts_with("alice:") && !line.starts_with("bob:"));
        fs::write("/etc/shadow", others.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let locked = passwd.replace("alice:x:", "alice:!$6$rounds=1000$x$y:").replace("bob:x:", "bob:!:");
        assert_ne!(locked, passwd);
        fs::write("/etc/passwd", locked).unwrap();
        assert!(!is_trusted(Peer::hello("alice", "alice")));
        let line = world.audit.wait("trust-absent");
        assert!(line.contains("the account's password is locked (trust.locked)"), "{line}");
        assert!(is_trusted(Peer::hello("bob", "bob")), "it never had a password");
        // The one in passwd(5) is what counts for PAM then, whatever an older entry says.
        fs::write("/etc/shadow", shadow).unwrap();
        assert!(!is_trusted(Peer::hello("alice", "alice")));
    });
}

#[test]
fn an_account_that_was_locked_is_not_trusted_unless_the_configuration_says_so() {
    world(|world| {
        world.hosts_equiv("127.0.0.1\n");
        let daemon = world.serve("");
        change_shadow("alice", 1, |hash| format!("!{hash}"));
        // As useradd(8) makes an account that is to log in without a password.
        change_shadow("bob", 1, |_| "!".to_owned());
        assert!(!is_trusted(Peer::hello("alice", "alice")));
        let line = world.audit.wait("trust-absent");
        assert!(line.contains("the account's password is locked (trust.locked)"), "{line}");
        let mut peer = Peer::hello("bob", "bob");
        peer.expect("$ ");
        fs::write("/etc/rlogind.toml", "[trust]\nlocked = \"trust\"\n").unwrap();
        daemon.signal(Signal::SIGHUP);
        world.audit.wait_count("config-read", 2);
        eventually("the configuration is in force", PATIENCE, || {
            is_trusted(Peer::hello("alice", "alice")).then_some(())
        });
    });
}

#[test]
fn an_unreserved_port_can_be_refused() {
    world(|world| {
        let _daemon = world.serve("[login]\nunreserved_port = \"refuse\"\n");
        let mut peer = Peer::connect_unreserved();
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.wait_end(PATIENCE);
        assert!(peer.data.starts_with(b"\x01rlogind: "), "{:?}", String::from_utf8_lossy(&peer.data));
        world.audit.wait("refused");
        Peer::log_in(ALICE);
    });
}

#[test]
fn hosts_equiv_trusts_the_same_name_only() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("127.0.0.1\n");
        assert!(is_trusted(Peer::hello("bob", "bob")));
        assert!(!is_trusted(Peer::hello("bob", "alice")));
        assert!(!is_trusted(Peer::hello("", "alice")));
    });
}

#[test]
fn a_refusal_in_hosts_equiv_stands_whatever_rhosts_says() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("-127.0.0.1\n");
        world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\n");
        assert!(!is_trusted(Peer::hello("alice", "alice")));
    });
}

#[test]
fn a_host_is_known_by_the_addresses_of_its_name() {
    world(|world| {
        let _daemon = world.serve("");
        world.write_for(ALICE, "/home/alice/.rhosts", "TRUSTED.example.net alice\n");
        let from = |last: u8| {
            let mut peer = Peer::connect_from([127, 0, 0, last].into());
            peer.send(handshake("alice", "alice", "vt100/38400"));
            peer
        };
        assert!(is_trusted(from(2)));
        assert!(!is_trusted(from(3)));
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "host"), Some("trusted.example.net"), "{line}");
        assert_eq!(field(&line, "address"), Some("127.0.0.2"), "{line}");
    });
}

#[test]
fn wildcards_count_only_when_the_configuration_says_so() {
    world(|world| {
        world.hosts_equiv("+\n");
        let mut daemon = world.serve("");
        assert!(!is_trusted(Peer::hello("alice", "alice")));
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        daemon.wait(PATIENCE);
        let _daemon = world.serve("[trust]\nwildcards = true\n");
        assert!(is_trusted(Peer::hello("alice", "alice")));
        assert!(!is_trusted(Peer::hello("bob", "alice")));
    });
}

/// Checks that .rhosts counts, and counts no more when this was done to it.
fn rhosts_is_ignored_after(world: &World, spoil: impl FnOnce(&str)) {
    let _daemon = world.serve("");
    let file = "/home/alice/.rhosts";
    world.write_for(ALICE, file, "127.0.0.1 alice\n");
    assert!(is_trusted(Peer::hello("alice", "alice")));
    spoil(file);
    assert!(!is_trusted(Peer::hello("alice", "alice")));
}

#[test]
fn rhosts_that_others_can_write_is_ignored() {
    world(|world| {
        rhosts_is_ignored_after(world, |file| {
            fs::set_permissions(file, Permissions::from_mode(0o620)).unwrap()
        });
    });
}

#[test]
fn rhosts_that_is_somebody_elses_is_ignored() {
    world(|world| {
        rhosts_is_ignored_after(world, |file| world.write_for(BOB, file, "127.0.0.1 alice\n"));
    });
}

#[test]
fn rhosts_that_is_a_link_is_ignored() {
    world(|world| {
        rhosts_is_ignored_after(world, |file| {
            fs::rename(file, "/home/alice/real").unwrap();
            symlink("real", file).unwrap();
        });
    });
}

#[test]
fn rhosts_with_a_second_name_is_ignored() {
    world(|world| {
        rhosts_is_ignored_after(world, |file| fs::hard_link(file, "/home/alice/second").unwrap());
    });
}

#[test]
fn rhosts_that_is_a_fifo_does_not_hang_the_login() {
    world(|world| {
        rhosts_is_ignored_after(world, |file| {
            fs::remove_file(file).unwrap();
            nix::unistd::mkfifo(file, nix::sys::stat::Mode::S_IRUSR).unwrap();
            std::os::unix::fs::chown(file, Some(ALICE.uid), Some(ALICE.uid)).unwrap();
        });
    });
}

#[test]
fn rhosts_in_a_home_that_others_can_write_is_ignored() {
    world(|world| {
        rhosts_is_ignored_after(world, |_file| {
            fs::set_permissions("/home/alice", Permissions::from_mode(0o777)).unwrap();
        });
    });
}

#[test]
fn no_password_and_no_mistyped_name_is_ever_logged() {
    world(|world| {
        let _daemon = world.serve("");
        // Some clients send the password as the client's user, from unreserved ports.
        let mut peer = Peer::connect_unreserved();
        peer.send(handshake("client-Secret-8", "", "vt100/38400"));
        // A password typed where the name is asked for.
        peer.expect("login: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("Password: ");
        peer.send("wrong-Secret-9\r");
        peer.expect("login: ");
        peer.send("alice\r");
        peer.expect("Password: ");
        peer.send("wrong-Secret-9\r");
        peer.expect("login: ");
        peer.send("alice\r");
        peer.give_password(ALICE);
        peer.send("exit\r");
        peer.wait_end(PATIENCE);
        world.audit.wait("session-closed");
        let logged = world.audit.text() + &daemon::told();
        for secret in [ALICE.password, "wrong-Secret-9", "client-Secret-8"] {
            assert!(!logged.contains(secret), "{secret:?} is logged:\n{logged}");
        }
        world.audit.wait_count("password-failed", 2);
        world.audit.wait_count("password-accepted", 1);
    });
}

#[test]
fn the_banner_is_shown_before_the_login() {
    world(|world| {
        fs::write("/etc/issue.net", "Authorised use only.\nBe kind.\n").unwrap();
        let _daemon = world.serve("[login]\nbanner = \"/etc/issue.net\"\n");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        assert_eq!(peer.data, b"\0Authorised use only.\r\nBe kind.\r\nPassword: ");
    });
}

#[test]
fn a_banner_that_is_no_file_or_that_others_can_change_is_not_shown() {
    world(|world| {
        let _daemon = world.serve("[login]\nbanner = \"/etc/issue.net\"\n");
        let shows = |banner: &[u8]| {
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            assert_eq!(peer.data, [b"\0", banner, b"Password: "].concat());
        };
        fs::remove_file("/etc/issue.net").unwrap_or(());
        nix::unistd::mkfifo("/etc/issue.net", nix::sys::stat::Mode::S_IRUSR).unwrap();
        shows(b"");
        fs::remove_file("/etc/issue.net").unwrap();
        fs::write("/etc/banner", "Be kind.\n").unwrap();
        symlink("/etc/banner", "/etc/issue.net").unwrap();
        shows(b"Be kind.\r\n");
        fs::set_permissions("/etc/banner", Permissions::from_mode(0o646)).unwrap();
        shows(b"");
        world.write_for(ALICE, "/etc/banner", "Give me your password.\n");
        shows(b"");
        // Root's file, but she can put another one there.
        fs::remove_file("/etc/issue.net").unwrap();
        fs::write("/home/alice/banner", "Be kind.\n").unwrap();
        symlink("/home/alice/banner", "/etc/issue.net").unwrap();
        shows(b"");
    });
}

#[test]
fn a_banner_that_is_not_shown_is_in_the_log_at_the_start_and_at_each_login() {
    const CONFIG: &str = "[login]\nbanner = \"/etc/legal\"\n";
    world(|world| {
        let daemon = world.serve(CONFIG);
        let expected = "the banner /etc/legal is not shown: No such file or directory (os error 2)";
        assert!(world.audit.wait("warning").contains(expected));
        let visit = || {
            let mut peer = Peer::hello("nobody", "alice");
            peer.give_password(ALICE);
            peer.run("true");
        };
        visit();
        let line = world.audit.wait("banner-not-shown");
        assert_eq!(field(&line, "file"), Some("/etc/legal"), "{line}");
        assert_eq!(field(&line, "reason"), Some("No such file or directory (os error 2)"), "{line}");
        assert_eq!(field(&line, "address"), Some("127.0.0.1"), "{line}");
        fs::create_dir("/etc/legal").unwrap();
        visit();
        let lines = world.audit.wait_count("banner-not-shown", 2);
        assert_eq!(field(&lines[1], "reason"), Some("not a regular file"), "{}", lines[1]);
        // A reload says it as well; then it is shown, and nothing is said.
        daemon.signal(Signal::SIGHUP);
        let lines = world.audit.wait_count("warning", 2);
        assert!(lines[1].contains("the banner /etc/legal is not shown: not a regular file"), "{}", lines[1]);
        fs::remove_dir("/etc/legal").unwrap();
        fs::write("/etc/legal", "Authorised use only.\n").unwrap();
        visit();
        assert_eq!(world.audit.of("banner-not-shown").len(), 2);
        // Who only comes to fill the log does not fill it.
        fs::remove_file("/etc/legal").unwrap();
        for _ in 0..12 {
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
        }
        assert_eq!(world.audit.of("banner-not-shown").len(), 10);
    });
}

/// What the folder's owner would have shown to strangers.
#[test]
fn a_banner_that_a_user_has_made_a_link_to_a_secret_is_not_shown_and_check_says_why() {
    world(|world| {
        symlink("/etc/shadow", "/home/alice/banner").unwrap();
        fs::create_dir("/etc/banners").unwrap();
        symlink("/home/alice", "/etc/banners/alice").unwrap();
        let daemon = world.serve("");
        for (read, banner) in [(2, "/home/alice/banner"), (3, "/etc/banners/alice/banner")] {
            fs::write("/etc/rlogind.toml", format!("[login]\nbanner = \"{banner}\"\n")).unwrap();
            daemon.signal(Signal::SIGHUP);
            world.audit.wait_count("config-read", read);
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            assert_eq!(peer.data, b"\0Password: ", "{banner}");
            let output = Command::new(PROGRAM).arg("check").output().unwrap();
            let told = String::from_utf8(output.stdout).unwrap();
            let why = "not shown: the folder /home/alice is owned by user 1001, not by root";
            assert!(told.contains(&format!("WARN  banner         {banner}: {why}\n")), "{told}");
        }
    });
}

#[test]
fn every_login_is_written_down_with_who_and_where() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let port = peer.stream.local_addr().unwrap().port().to_string();
        let tty = peer.run("tty");
        let shell = peer.run("echo $$");
        for event in ["connection", "password-accepted", "session-opened"] {
            let line = world.audit.wait(event);
            assert_eq!(field(&line, "address"), Some("127.0.0.1"), "{line}");
            assert_eq!(field(&line, "port"), Some(port.as_str()), "{line}");
        }
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "tty"), tty.strip_prefix("/dev/"), "{line}");
        assert_eq!(field(&line, "pid"), Some(shell.as_str()), "{line}");
        assert_eq!(field(&line, "host"), Some("localhost"), "{line}");
    });
}

#[test]
fn a_group_that_the_kernel_refuses_keeps_nobody_out() {
    world(|world| {
        // The refused one first: the C library would leave out all that come behind it.
        let group = fs::read_to_string("/etc/group").unwrap();
        let group = format!("ghost:x:4294967295:alice\n{group}extra:x:51:alice\n");
        fs::write("/etc/group", group).unwrap();
        let _daemon = world.serve("");
        let expected = "1001 50 51";
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("id -G"), expected);
        let line = world.audit.wait("session-trouble");
        assert!(line.contains("4294967295") && field(&line, "user") == Some("alice"), "{line}");
        world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.expect(PROMPT);
        assert!(!String::from_utf8_lossy(&peer.data).contains("Password: "), "her .rhosts was not believed");
        assert_eq!(peer.run("id -G"), expected);
        world.audit.wait_count("session-trouble", 2);
        // Her own group can be left out by nobody: there would be none in its place.
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        fs::write("/etc/passwd", passwd.replace("alice:x:1001:1001", "alice:x:1001:4294967295")).unwrap();
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("Permission denied");
        let line = world.audit.wait("login-abandoned");
        assert!(line.contains("no groups for alice: setgid"), "{line}");
    });
}

#[test]
fn a_terminal_group_that_the_kernel_refuses_keeps_nobody_out() {
    world(|world| {
        for (number, (error, words)) in
            (1..).zip([("EINVAL", "Invalid argument"), ("EPERM", "Operation not permitted")])
        {
            if !spoil("SYS_fchown", 2, 5, error) {
                return;
            }
            let mut daemon = world.serve("");
            let mut peer = Peer::log_in(ALICE);
            let shown = peer.run("stat -c '%a %u' $(tty)");
            assert_eq!(shown, format!("600 {}", ALICE.uid));
            let line = world.audit.wait_count("session-trouble", number).pop().unwrap();
            let expected = format!("the kernel refuses the group tty (5): {words}; ");
            assert!(line.contains(&expected) && !line.contains(error), "{line}");
            drop(peer);
            daemon.signal(Signal::SIGTERM);
            daemon.wait(PATIENCE);
        }
    });
}

#[test]
fn more_groups_than_a_process_can_have_keep_nobody_out() {
    world(|world| {
        const MOST: usize = 65_536;
        let usual = fs::read_to_string("/etc/group").unwrap();
        let _daemon = world.serve("");
        world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\n");
        // Besides her own one and staff.
        for listed in [MOST - 3, MOST - 2, MOST - 1, 3 * MOST] {
            let mut group = usual.clone();
            (0..listed).for_each(|number| group += &format!("g{number}:x:{}:alice\n", 100_000 + number));
            fs::write("/etc/group", group).unwrap();
            let before = world.audit.of("session-trouble").len();
            let mut peer = Peer::hello("alice", "alice");
            peer.expect_bytes(PROMPT.as_bytes(), 3 * PATIENCE);
            let shown = String::from_utf8_lossy(&peer.data).into_owned();
            assert!(!shown.contains("Password: "), "{listed}: her .rhosts was not believed");
            let ids = peer.run("echo $(grep Groups: /proc/self/status | wc -w) $(id -g)");
            assert_eq!(ids, format!("{} 1001", (listed + 2).min(MOST) + 1), "{listed}");
            if listed + 2 > MOST {
                let line = world.audit.wait_count("session-trouble", before + 1).pop().unwrap();
                assert!(line.contains("the session is without them: "), "{line}");
            } else {
                assert_eq!(world.audit.of("session-trouble").len(), before, "{listed}");
            }
        }
    });
}
