//! Real PAM modules: what they ask and say, and what becomes of their verdicts.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, BOB, PROMPT, ROOT};
use crate::audit::field;
use crate::ending::nothing_is_left;
use crate::peer::{Peer, handshake};
use crate::probe::{build, calls, count, service, service_with};
use crate::processes;
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

/// Changes a field of a user's line in shadow(5); 1 is the password, 2 the day of its last change, 7
/// the day the account expires.
pub(crate) fn change_shadow(user: &str, index: usize, change: impl Fn(&str) -> String) {
    let text = fs::read_to_string("/etc/shadow").unwrap();
    let lines = text.lines().map(|line| {
        let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        if fields[0] == user {
            fields[index] = change(&fields[index]);
        }
        fields.join(":") + "\n"
    });
    let text: String = lines.collect();
    fs::write("/etc/shadow", text).unwrap();
}

fn password_of(user: &str) -> String {
    let text = fs::read_to_string("/etc/shadow").unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{user}:"))).unwrap();
    line.split(':').nth(1).unwrap().to_owned()
}

/// What a client sees up to the next `login:` when it gives that password, and how long it takes.
fn attempt(user: &str, password: &str) -> (String, Duration) {
    let mut peer = Peer::hello("nobody", user);
    peer.expect("Password: ");
    let start = Instant::now();
    peer.send(format!("{password}\r"));
    peer.expect("login: ");
    (String::from_utf8(peer.data).unwrap(), start.elapsed())
}

#[test]
fn a_locked_account_reads_the_same_as_a_wrong_password() {
    world(|world| {
        let _daemon = world.serve("");
        change_shadow("bob", 1, |hash| format!("!{hash}"));
        let (wrong, _) = attempt("alice", "wrong-Secret-9");
        assert_eq!(attempt("bob", BOB.password).0, wrong);
        assert_eq!(attempt("mallory", BOB.password).0, wrong);
        assert_eq!(attempt("root", ROOT.password).0, wrong);
        world.audit.wait_count("password-failed", 4);
    });
}

/// Each of these addresses is a source of its own for limits.per_source, and open to every user of the machine.
#[test]
fn pam_limits_bounds_the_sessions_of_one_user_from_many_addresses() {
    world(|world| {
        fs::create_dir_all("/etc/security").unwrap();
        fs::write("/etc/security/limits.conf", "alice hard maxlogins 2\n").unwrap();
        let rlogin = fs::read_to_string("/etc/pam.d/rlogin").unwrap();
        fs::write("/etc/pam.d/rlogin", rlogin + "session required pam_limits.so\n").unwrap();
        world.hosts_equiv("127.0.1.1\n127.0.1.2\n127.0.1.3\n");
        let _daemon = world.serve("[limits]\nper_source = 1\n");
        let from = |last: u8| {
            let mut peer = Peer::connect_from([127, 0, 1, last].into());
            peer.send(handshake("alice", "alice", "vt100/38400"));
            peer
        };
        let mut open = [1, 2].map(from);
        open.iter_mut().for_each(|peer| drop(peer.expect(PROMPT)));
        let mut third = from(3);
        third.wait_end(PATIENCE);
        assert!(!String::from_utf8_lossy(third.rest()).contains(PROMPT), "pam_limits keeps it out");
        let _bob = Peer::log_in(BOB);
        let [first, _] = open;
        drop(first);
        eventually("her place is free again", PATIENCE, || {
            let mut peer = from(3);
            peer.listen(Duration::from_secs(1));
            String::from_utf8_lossy(&peer.data).contains(PROMPT).then_some(())
        });
    });
}

#[test]
fn an_expired_account_is_said_to_the_owner_only_and_the_log_says_which() {
    world(|world| {
        let _daemon = world.serve("");
        let (wrong, _) = attempt("alice", "wrong-Secret-9");
        change_shadow("alice", 7, |_| "1".to_owned());
        assert_eq!(attempt("alice", "wrong-Secret-9").0, wrong);
        let (told, _) = attempt("alice", ALICE.password);
        assert!(told.contains("Your account has expired"), "{told:?}");
        assert!(told.ends_with("Login incorrect\r\nlogin: "), "{told:?}");
        let line = world.audit.wait("account-refused");
        assert_eq!(field(&line, "user"), Some("alice"), "{line}");
        assert!(field(&line, "reason").unwrap().contains("expired"), "{line}");
    });
}

#[test]
fn an_expired_account_is_not_trusted_either() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("127.0.0.1\n");
        change_shadow("alice", 7, |_| "1".to_owned());
        let mut peer = Peer::hello("alice", "alice");
        peer.expect("Your account has expired");
        peer.expect("rlogind: Permission denied.\r\n");
        peer.wait_end(PATIENCE);
        let line = world.audit.wait("account-refused");
        assert!(field(&line, "reason").unwrap().contains("expired"), "{line}");
        assert_eq!((field(&line, "user"), field(&line, "address")), (Some("alice"), Some("127.0.0.1")));
        // However often: each try would be a line, as who was let in is never thinned.
        for _ in 0..15 {
            Peer::hello("alice", "alice").wait_end(PATIENCE);
        }
        world.audit.wait_count("account-refused", 10);
        assert_eq!(world.audit.of("trust-granted"), Vec::<String>::new());
    });
}

#[test]
fn an_expired_password_is_changed_on_the_spot() {
    world(|world| {
        let _daemon = world.serve("");
        change_shadow("alice", 2, |_| "0".to_owned());
        let old = password_of("alice");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("You are required to change your password");
        peer.expect("Current password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("New password: ");
        peer.send("Quite-Another-77\r");
        peer.expect("Retype new password: ");
        peer.send("Quite-Another-77\r");
        peer.expect(PROMPT);
        assert_eq!(peer.run("id -un"), "alice");
        assert!(!String::from_utf8_lossy(&peer.data).contains("Another"), "it was shown");
        assert_ne!(password_of("alice"), old);
        assert!(!world.audit.text().contains("Another"));

        assert!(attempt("alice", ALICE.password).0.contains("Login incorrect"));
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send("Quite-Another-77\r");
        peer.expect(PROMPT);
    });
}

#[test]
fn an_expired_password_that_is_not_changed_lets_nobody_in() {
    world(|world| {
        let daemon = world.serve("");
        change_shadow("alice", 2, |_| "0".to_owned());
        let old = password_of("alice");
        let asked = || {
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            peer.send(format!("{}\r", ALICE.password));
            peer.expect("Current password: ");
            peer
        };
        drop(asked());
        world.audit.wait_count("login-abandoned", 1);
        let mut peer = asked();
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("New password: ");
        peer.send("\x03");
        peer.wait_end(PATIENCE);
        world.audit.wait_count("login-abandoned", 2);
        let mut peer = asked();
        peer.send("wrong-Secret-9\r");
        peer.expect("Login incorrect");
        drop(peer);
        nothing_is_left(&daemon);
        assert_eq!(password_of("alice"), old);
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
    });
}

#[test]
fn nologin_is_shown_and_the_log_says_it() {
    world(|world| {
        service_with("account requisite pam_nologin.so");
        fs::write("/etc/nologin", "Back at noon.\n").unwrap();
        let _daemon = world.serve("[login]\nroot = \"password\"\n");
        let (told, _) = attempt("alice", ALICE.password);
        assert!(told.contains("Back at noon.\r\n"), "{told:?}");
        let line = world.audit.wait("account-refused");
        assert!(field(&line, "reason").unwrap().contains("Back at noon."), "{line}");
        // Trust is no way around it.
        world.hosts_equiv("127.0.0.1\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.expect("Back at noon.\r\n");
        peer.expect("rlogind: Permission denied.\r\n");
        peer.wait_end(PATIENCE);
        world.audit.wait_count("account-refused", 2);
        // Root mends the machine.
        let mut peer = Peer::hello("root", "root");
        peer.give_password(ROOT);
    });
}

#[test]
fn an_account_that_may_not_come_from_here_is_refused_and_the_log_says_it() {
    world(|world| {
        service_with("account requisite pam_access.so accessfile=/etc/access.test");
        fs::write("/etc/access.test", "- : alice : 127.0.0.1 localhost\n+ : ALL : ALL\n").unwrap();
        let _daemon = world.serve("");
        let (wrong, _) = attempt("alice", "wrong-Secret-9");
        assert_eq!(attempt("alice", ALICE.password).0, wrong, "a right password must not show");
        let line = world.audit.wait("account-refused");
        assert_eq!(field(&line, "user"), Some("alice"), "{line}");
        Peer::log_in(BOB);
        let mut peer = Peer::connect_from([127, 0, 0, 77].into());
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.give_password(ALICE);
    });
}

#[test]
fn an_account_outside_its_times_is_refused() {
    world(|world| {
        service_with("account required pam_time.so conffile=/etc/time.test");
        // Never.
        fs::write("/etc/time.test", "rlogin;*;alice;!Al0000-2400\n").unwrap();
        let _daemon = world.serve("");
        let (wrong, _) = attempt("alice", "wrong-Secret-9");
        assert_eq!(attempt("alice", ALICE.password).0, wrong);
        let line = world.audit.wait("account-refused");
        assert_eq!(field(&line, "user"), Some("alice"), "{line}");
        Peer::log_in(BOB);
    });
}

#[test]
fn the_modules_delay_is_kept_whoever_fails_for_whatever_reason() {
    world(|world| {
        service_with("auth optional pam_faildelay.so delay=2000000");
        change_shadow("bob", 7, |_| "1".to_owned());
        let _daemon = world.serve("");
        // PAM varies it by half at most.
        for (user, password) in [
            ("alice", "wrong-Secret-9"),
            ("mallory", "wrong-Secret-9"),
            ("root", "wrong-Secret-9"),
            ("root", ROOT.password),
            ("bob", BOB.password),
        ] {
            let (_, time) = attempt(user, password);
            assert!((1000..5000).contains(&time.as_millis()), "{user} {password}: {time:?}");
        }
        let start = Instant::now();
        Peer::log_in(ALICE);
        assert!(start.elapsed() < Duration::from_secs(1), "a success waited: {:?}", start.elapsed());
    });
}

#[test]
fn the_modules_delay_is_not_shortened_by_the_user() {
    world(|world| {
        service_with("auth optional pam_faildelay.so delay=3000000");
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        let start = Instant::now();
        peer.send("wrong-Secret-9\r\x03");
        peer.expect("Login incorrect");
        assert!(start.elapsed() > Duration::from_millis(1400), "{:?}", start.elapsed());
    });
}

#[test]
fn a_failed_attempt_is_written_down_although_the_client_leaves_during_the_delay() {
    world(|world| {
        // Longer than the monitor waits for a login that nobody sits at any more.
        service_with("auth optional pam_faildelay.so delay=60000000");
        let daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send("wrong-Secret-9\r");
        thread::sleep(Duration::from_millis(500));
        drop(peer);
        let line = world.audit.wait("password-failed");
        assert_eq!(field(&line, "user"), Some("alice"), "{line}");
        eventually("the login is over", Duration::from_secs(40), || {
            (processes::descendants(daemon.pid()).len() == 1).then_some(())
        });
        world.audit.wait_count("password-failed", 1);
    });
}

#[test]
fn a_hanging_module_is_ended_by_the_logins_deadline_and_leaves_nothing() {
    world(|world| {
        fs::write("/mnt/hang", "#!/bin/sh\necho $$ >/mnt/hanging\nexec sleep 1000\n").unwrap();
        fs::set_permissions("/mnt/hang", Permissions::from_mode(0o755)).unwrap();
        service("auth required pam_exec.so /mnt/hang\naccount required pam_permit.so\n");
        let daemon = world.serve("[limits]\nlogin = \"2s\"\n");
        let mut peer = Peer::hello("nobody", "alice");
        let script: u32 = eventually("the script runs", PATIENCE, || {
            fs::read_to_string("/mnt/hanging").ok()?.trim().parse().ok()
        });
        assert!(processes::Process::of(script).is_some());
        peer.wait_end(PATIENCE);
        world.audit.wait("login-abandoned");
        // It runs in a session of its own, out of reach of the module's process group.
        eventually("the script is gone", PATIENCE, || processes::Process::of(script).is_none().then_some(()));
        nothing_is_left(&daemon);
        service_with("");
        Peer::log_in(ALICE);
    });
}

#[test]
fn a_crashing_module_takes_only_its_own_session_with_it() {
    world(|world| {
        if !build() {
            return;
        }
        let daemon = world.serve("");
        let mut other = Peer::log_in(ALICE);
        for (phase, crash, signal) in
            [("auth", "abort", "6"), ("account", "segv", "11"), ("session", "segv", "11")]
        {
            service_with(&format!("{phase} required PROBE {crash}"));
            let mut peer = Peer::hello("nobody", "bob");
            if phase != "auth" {
                peer.expect("Password: ");
                peer.send(format!("{}\r", BOB.password));
            }
            peer.wait_end(PATIENCE);
            eventually("a line that names the signal", PATIENCE, || {
                let lines = world.audit.of("login-abandoned");
                lines.iter().any(|line| line.contains(&format!("signal {signal}"))).then_some(())
            });
        }
        world.audit.wait_count("login-abandoned", 3);
        assert_eq!(other.run("echo still here"), "still here");
        drop(other);
        service_with("");
        drop(Peer::log_in(BOB));
        nothing_is_left(&daemon);
    });
}

#[test]
fn the_modules_environment_limits_and_umask_reach_the_shell() {
    world(|world| {
        fs::write("/mnt/environment", "SITE=a=b c\nHOME_TOWN=Zürich\n").unwrap();
        fs::write("/mnt/limits", "alice hard nofile 321\nalice soft nofile 123\nalice hard core 0\n")
            .unwrap();
        service_with(
            "session required pam_env.so envfile=/mnt/environment\n\
             session required pam_limits.so conf=/mnt/limits\nsession optional pam_umask.so umask=027",
        );
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("echo \"$SITE|$HOME_TOWN\""), "a=b c|Zürich");
        assert_eq!(peer.run("ulimit -Sn; ulimit -Hn"), "123\n321");
        assert_eq!(peer.run("umask"), "0027");
    });
}

#[test]
fn an_account_that_a_module_puts_in_the_place_of_another_counts() {
    world(|world| {
        if !build() {
            return;
        }
        service(
            "auth required pam_unix.so\nauth required PROBE from=alice to=bob\n\
             account required PROBE refuse=alice\nsession required PROBE\n",
        );
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        peer.send("id -un\r");
        peer.expect("\rbob\r\n");
        let line = world.audit.wait("session-opened");
        assert_eq!(field(&line, "user"), Some("bob"), "{line}");
    });
}

#[test]
fn an_account_changed_during_its_check_is_checked_afresh() {
    world(|world| {
        if !build() {
            return;
        }
        let stack = |refused: &str| {
            service(&format!(
                "auth required pam_unix.so\naccount required PROBE refuse={refused}\n\
                 account required PROBE from=alice to=bob\nsession required PROBE\n"
            ));
        };
        let _daemon = world.serve("");
        stack("nobody");
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        peer.send("id -un\r");
        peer.expect("\rbob\r\n");
        stack("bob");
        let (told, _) = attempt("alice", ALICE.password);
        assert!(told.contains("Login incorrect"), "{told:?}");
        // Nor does trust in one account say anything of another one's.
        world.hosts_equiv("127.0.0.1\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.wait_end(PATIENCE);
        assert!(String::from_utf8_lossy(&peer.data).contains("Permission denied"));
        world.audit.wait_count("session-opened", 1);
    });
}

#[test]
fn a_module_cannot_make_root_or_nobody_of_an_account() {
    world(|world| {
        if !build() {
            return;
        }
        let _daemon = world.serve("");
        for (phase, to) in
            [("auth", "root"), ("auth", "mallory"), ("account", "root"), ("account", "mallory")]
        {
            service_with("");
            let plain = fs::read_to_string("/etc/pam.d/rlogin").unwrap();
            service(&format!("{plain}{phase} required PROBE from=alice to={to}\n"));
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Password: ");
            peer.send(format!("{}\r", ALICE.password));
            peer.wait("refusal", PATIENCE, |peer| {
                let text = String::from_utf8_lossy(&peer.data);
                peer.end.is_some() || text.contains("login: ") || text.contains(PROMPT)
            });
            let text = String::from_utf8_lossy(&peer.data).into_owned();
            assert!(!text.contains(PROMPT), "{phase} {to}: {text:?}");
            assert!(
                text.contains("Login incorrect") || text.contains("Permission denied"),
                "nothing is said, {phase} {to}: {text:?}"
            );
        }
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
    });
}

/// The value of `key=` in a line of the module.
fn noted<'l>(line: &'l str, key: &str) -> &'l str {
    let start = line.find(&format!(" {key}=")).unwrap() + key.len() + 2;
    let rest = &line[start..];
    rest.find(" tty=").or(rest.find(' ')).filter(|_| key != "prompt").map_or(rest, |end| {
        let end = rest.find(' ').unwrap_or(end);
        &rest[..end]
    })
}

#[test]
fn modules_are_told_who_asks_from_where() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth required PROBE\naccount required PROBE\nsession required PROBE");
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let tty = peer.run("tty");
        for name in ["authenticate", "account", "open"] {
            let line = calls().into_iter().find(|line| line.starts_with(&format!("{name} "))).unwrap();
            assert_eq!(noted(&line, "user"), "alice", "{line}");
            assert_eq!(noted(&line, "rhost"), "127.0.0.1", "{line}");
            // Not set: otherwise a pam_rhosts that was left behind would decide.
            assert_eq!(noted(&line, "ruser"), "(none)", "{line}");
            assert_eq!(Some(noted(&line, "tty")), tty.strip_prefix("/dev/"), "{line}");
            // Nobody but the login itself asks for a name.
            assert_eq!(noted(&line, "prompt"), "(none)", "{line}");
        }
        // The address, whether or not it has a name.
        let mut peer = Peer::connect_from([127, 0, 0, 77].into());
        peer.send(handshake("nobody", "bob", "vt100/38400"));
        peer.give_password(BOB);
        let line = calls().into_iter().find(|line| line.contains("user=bob")).unwrap();
        assert_eq!(noted(&line, "rhost"), "127.0.0.77", "{line}");
        // Only where a rule has decided already is the client's user told.
        let asked = count("authenticate");
        world.hosts_equiv("127.0.0.1\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.expect(PROMPT);
        let line = calls().into_iter().rfind(|line| line.starts_with("open ")).unwrap();
        assert_eq!(noted(&line, "ruser"), "alice", "{line}");
        assert_eq!(count("authenticate"), asked, "a trusted login asks nobody");
    });
}

#[test]
fn a_pam_rhosts_that_was_left_behind_lets_nobody_in() {
    world(|world| {
        service_with("auth sufficient pam_rhosts.so");
        world.hosts_equiv("127.0.0.1\n");
        world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\nlocalhost alice\n");
        let _daemon = world.serve("");
        // The file would let her in, but the port says nothing of who she is.
        let mut peer = Peer::connect_unreserved();
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.expect("Password: ");
        assert!(!String::from_utf8_lossy(&peer.data).contains(PROMPT));
        peer.send("wrong-Secret-9\r");
        peer.expect("Login incorrect");
        assert_eq!(world.audit.of("session-opened"), Vec::<String>::new());
    });
}

#[test]
fn an_empty_password_never_lets_in() {
    world(|world| {
        if !build() {
            return;
        }
        service(
            "auth required PROBE\nauth required pam_unix.so nullok nodelay\naccount required pam_unix.so\n\
             session required pam_unix.so\n",
        );
        change_shadow("alice", 1, |_| String::new());
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        for _ in 0..3 {
            peer.wait("refusal or shell", PATIENCE, |peer| {
                let text = String::from_utf8_lossy(peer.rest()).into_owned();
                text.contains(PROMPT) || text.contains("Password: ") || peer.end.is_some()
            });
            assert!(!String::from_utf8_lossy(&peer.data).contains(PROMPT));
            peer.expect("Password: ");
            peer.send("\r");
            peer.expect("Login incorrect");
            peer.listen(Duration::from_millis(300));
            if peer.end.is_none() {
                peer.send("alice\r");
            }
        }
        peer.wait_end(PATIENCE);
        world.audit.wait_count("password-failed", 3);
        assert_eq!((count("authenticate"), count("authenticate-null")), (3, 0));
    });
}

#[test]
fn hushlogin_lets_modules_say_nothing() {
    world(|world| {
        fs::write("/etc/motd", "Maintenance at noon.\n").unwrap();
        service_with("session optional pam_motd.so motd=/etc/motd");
        let _daemon = world.serve("");
        let is_silent = || {
            let mut peer = Peer::hello("nobody", "alice");
            peer.give_password(ALICE);
            !String::from_utf8_lossy(&peer.data).contains("Maintenance")
        };
        fs::write("/etc/login.defs", "HUSHLOGIN_FILE .hushlogin\n").unwrap();
        assert!(!is_silent());
        // What she may not look at is not there.
        fs::write("/root/hidden", "").unwrap();
        fs::set_permissions("/root", Permissions::from_mode(0o700)).unwrap();
        symlink("/root/hidden", "/home/alice/.hushlogin").unwrap();
        assert!(!is_silent());
        fs::remove_file("/home/alice/.hushlogin").unwrap();
        world.write_for(ALICE, "/home/alice/.hushlogin", "");
        assert!(is_silent());
        // The administrator's list in its place.
        fs::write("/etc/login.defs", "HUSHLOGIN_FILE /etc/hushlogins\n").unwrap();
        assert!(!is_silent());
        fs::write("/etc/hushlogins", "bob\nalice\n").unwrap();
        assert!(is_silent());
        fs::write("/etc/hushlogins", "bob\n/bin/sh\n").unwrap();
        assert!(is_silent());
        fs::write("/etc/hushlogins", "bob\n").unwrap();
        assert!(!is_silent());
        // Without login(1)'s settings, both.
        fs::remove_file("/etc/login.defs").unwrap();
        assert!(is_silent());
        fs::write("/etc/login.defs", "HUSHLOGIN_FILE \"\"\n").unwrap();
        assert!(!is_silent());
    });
}
