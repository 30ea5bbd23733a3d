//! What the login shell starts with.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::accounts::{ALICE, BOB};
use crate::daemon::{Daemon, LEAK};
use crate::peer::{Peer, handshake};
use crate::world::{find_program, skip, world};

#[test]
fn the_environment_is_the_logins_and_nothing_of_the_daemons() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        // What the kernel was given at exec, before the shell added its own.
        let text = peer.run("tr '\\0' '\\n' </proc/$$/environ");
        let environment: BTreeMap<&str, &str> =
            text.lines().filter_map(|line| line.split_once('=')).collect();
        for (name, value) in [
            ("TERM", "vt100"),
            ("HOME", "/home/alice"),
            ("SHELL", "/bin/sh"),
            ("USER", "alice"),
            ("LOGNAME", "alice"),
            ("MAIL", "/var/mail/alice"),
            ("REMOTEHOST", "localhost"),
        ] {
            assert_eq!(environment.get(name), Some(&value), "{name} in {environment:?}");
        }
        let path = environment["PATH"];
        assert!(path.split(':').any(|dir| dir == "/usr/bin"), "{path}");
        assert!(!path.split(':').any(|dir| dir.ends_with("sbin")), "not a user's: {path}");
        assert_eq!(environment.len(), 8, "{environment:?}");
        assert!(!text.contains(LEAK));
    });
}

#[test]
fn names_of_the_clients_cannot_become_variables() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::connect();
        peer.send(handshake("LD_PRELOAD=/tmp/x", "alice", "vt100/38400"));
        peer.give_password(ALICE);
        assert_eq!(peer.run("tr '\\0' '\\n' </proc/$$/environ | grep -c LD_ || true"), "0");
    });
}

#[test]
fn the_shell_is_the_users_in_all_its_ids_and_groups() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("id"), "uid=1001(alice) gid=1001(alice) groups=1001(alice),50(staff)");
        let status = peer.run("cat /proc/$$/status");
        let ids = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(ids("Uid:"), Some("1001\t1001\t1001\t1001"));
        assert_eq!(ids("Gid:"), Some("1001\t1001\t1001\t1001"));
        assert_eq!(ids("CapEff:"), Some("0000000000000000"));
        assert_eq!(ids("CapPrm:"), Some("0000000000000000"));
        assert_eq!(ids("NoNewPrivs:"), Some("0"), "su and sudo must work");
    });
}

#[test]
fn the_shell_is_a_login_shell_in_the_home_directory() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run("echo $0"), "-sh");
        assert_eq!(peer.run("pwd"), "/home/alice");
        let mut peer = Peer::log_in(BOB);
        peer.send("shopt -q login_shell && echo lo\"\"gin $0\r");
        peer.expect("login -bash\r\n");
    });
}

#[test]
fn a_missing_home_directory_is_said_and_the_login_goes_on() {
    world(|world| {
        let _daemon = world.serve("");
        fs::remove_dir_all("/home/alice").unwrap();
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        assert!(String::from_utf8_lossy(&peer.data).contains("No directory, logging in with HOME=/"));
        assert_eq!(peer.run("echo $HOME; pwd"), "/\n/");
    });
}

#[test]
fn an_account_without_a_home_directory_starts_in_the_root() {
    world(|world| {
        let _daemon = world.serve("");
        let passwd = fs::read_to_string("/etc/passwd").unwrap();
        // A path that is not whole would be found from wherever the daemon is.
        for home in ["", "home/alice", "."] {
            fs::write("/etc/passwd", passwd.replace(":/home/alice:", &format!(":{home}:"))).unwrap();
            let mut peer = Peer::hello("nobody", "alice");
            peer.give_password(ALICE);
            assert!(String::from_utf8_lossy(&peer.data).contains("No directory, logging in with HOME=/"));
            assert_eq!(peer.run("tr '\\0' '\\n' </proc/$$/environ | grep ^HOME=; pwd"), "HOME=/\n/");
        }
        assert!(world.audit.wait("session-trouble").contains("the account names no home directory"));
    });
}

#[test]
fn the_terminal_is_the_users_and_closed_to_others() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let tty = peer.run("tty");
        assert!(tty.starts_with("/dev/pts/"), "{tty}");
        assert_eq!(peer.run("stat -c '%U:%G %a' $(tty)"), "alice:tty 620");
        assert_eq!(peer.run("echo yes >/dev/tty"), "yes");
    });
}

#[test]
fn the_terminal_is_cooked_and_echoes() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let settings = peer.run("stty -a").replace(';', " ");
        let words: Vec<&str> = settings.split_whitespace().collect();
        for setting in
            ["icanon", "echo", "echoe", "isig", "icrnl", "ixon", "opost", "onlcr", "cs8", "-parenb"]
        {
            assert!(words.contains(&setting), "{setting} in {words:?}");
        }
        assert!(settings.contains("erase = ^?") && settings.contains("intr = ^C"), "{settings}");
    });
}

#[test]
fn the_shell_leads_its_session_in_the_terminals_foreground() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let line = peer.run("ps -o pid=,sid=,pgid=,tty=,stat= -p $$");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], words[1], "a session leader: {line}");
        assert_eq!(words[0], words[2], "a process group leader: {line}");
        assert!(words[3].starts_with("pts/"), "{line}");
        assert!(words[4].starts_with('S') && words[4].contains('s'), "asleep, a session leader: {line}");
        // Job control works: the foreground group is the job's, then the shell's again.
        peer.send("cat\r");
        peer.send("x\r");
        peer.expect("x\r\nx\r\n");
        peer.send("\x1a");
        peer.expect("Stopped");
    });
}

#[test]
fn the_shell_has_descriptors_0_to_2_and_no_others() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        // 10 is dash's own, its copy of the terminal for job control. (In a pipeline it would have pipes as well.)
        let list = peer.run("ls -1 /proc/$$/fd");
        assert_eq!(list.lines().filter(|&number| number != "10").collect::<Vec<_>>(), ["0", "1", "2"]);
        // ls itself adds the directory it reads, and nothing else is inherited.
        assert_eq!(peer.run("ls -1 /proc/self/fd"), "0\n1\n2\n3");
        let tty = peer.run("tty");
        let links = peer.run("readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2");
        assert_eq!(links, format!("{tty}\n{tty}\n{tty}"));
    });
}

#[test]
fn the_shell_has_default_signals_and_the_systems_limits() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        // Of a program that sets none itself, unlike an interactive shell.
        let status = peer.run("env cat /proc/self/status");
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        assert_eq!(value("SigBlk:"), Some("0000000000000000"));
        // 32 and 33 belong to the C library, whose posix_spawn(3) leaves them ignored.
        let ignored = u64::from_str_radix(value("SigIgn:").unwrap(), 16).unwrap();
        assert_eq!(ignored & !(0b11 << 31), 0, "{ignored:x}");
        let limits = peer.run("ulimit -Sn; ulimit -Hn");
        let ours = rlimits();
        assert_eq!(limits, format!("{}\n{}", ours.0, ours.1), "the daemon's own limit is not the shell's");
        assert_eq!(peer.run("umask"), "0022");
    });
}

/// Soft and hard limit of open files of this process, which started the daemon.
fn rlimits() -> (u64, u64) {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap()
}

#[test]
fn two_sessions_have_two_terminals() {
    world(|world| {
        let _daemon = world.serve("");
        let (mut one, mut other) = (Peer::log_in(ALICE), Peer::log_in(BOB));
        let tty = one.run("tty");
        other.send("tty; echo \"@\"\"@\"\r");
        other.expect("/dev/pts/");
        let number = other.expect("\r\n");
        let other_tty = format!("/dev/pts/{number}");
        assert_ne!(other_tty, tty);
        let attempt = one.run(&format!("(: <{other_tty}) 2>&1 | tr A-Z a-z"));
        assert!(attempt.contains("permission denied"), "{attempt}");
    });
}

/// What the shell has that a service manager can set: when memory is short, when, where and how it runs.
fn standing(process: &str) -> String {
    format!(
        "cat /proc/{process}/oom_score_adj; nice=$(cut -d' ' -f19 /proc/{process}/stat); echo nice $nice; \
         policy=$(cut -d' ' -f41 /proc/{process}/stat); echo policy $policy; \
         grep -E '^(Umask|Cpus_allowed_list)' /proc/{process}/status; ionice -p {process}"
    )
}

#[test]
fn what_a_unit_gives_the_daemon_is_not_the_shells() {
    world(|_world| {
        for tool in ["choom", "nice", "taskset", "chrt", "ionice"] {
            if find_program(tool).is_none() {
                return skip(&format!("there is no {tool}"));
            }
        }
        let others = Command::new("sh").args(["-c", &standing("1").replace("Umask|", "")]).output().unwrap();
        let others = String::from_utf8(others.stdout).unwrap();
        // Whatever this machine lets it have: not each lets a process leave what it was given.
        let program = "/mnt/as-a-unit";
        let script = "#!/bin/sh\numask 077\nfor how in 'choom -n 300 --' 'taskset -c 0' 'chrt -b 0' 'ionice -c 3' 'nice -n 7'\n\
                      do $how true && all=\"$all $how\"\ndone\nexec $all /mnt/rlogind \"$@\"\n";
        fs::write(program, script).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        let daemon = Daemon::start_copy(program, "");
        let given = Command::new("sh").args(["-c", &standing(&daemon.pid().to_string())]).output().unwrap();
        let given = String::from_utf8(given.stdout).unwrap();
        let is_given = |line: &str| given.lines().any(|given| given == line);
        assert!(is_given("300") && is_given("policy 3") && is_given("idle"), "{given}");
        assert!(!others.lines().any(|line| line.starts_with("nice") && is_given(line)), "{given}");
        let mut peer = Peer::log_in(ALICE);
        let shown = peer.run(&standing("$$"));
        assert!(shown.contains("Umask:\t0022"), "{shown}");
        let shown: String =
            shown.lines().filter(|line| !line.starts_with("Umask")).map(|line| format!("{line}\n")).collect();
        assert_eq!(shown, others);
    });
}
