//! The administrator's commands, with the daemon and its socket as they are.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rlogind::sys::channel::{Channel, Received};
use rlogind::sys::local;
use serde_json::Value;

use crate::accounts::{ALICE, BOB, PROMPT};
use crate::audit::{field, total};
use crate::daemon::PROGRAM;
use crate::ending::nothing_is_left;
use crate::hand_over::{replace_copy, serve_copy, serve_copy_with};
use crate::peer::{End, Peer, handshake};
use crate::processes;
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

const SOCKET: &str = "/run/rlogind/control";

/// Carol is trusted, everybody else is asked.
const TRUSTING: &str = "[[trust.rule]]\nfrom = [\"127.0.0.1\"]\nremote_users = [\"caroline\"]\nusers = [\"carol\"]\nverdict = \"trust\"\n";

fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a command that has to succeed, and returns what it printed.
fn ask(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a command that has to fail with status 1, and returns what it printed.
fn fails(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", told(&output));
    told(&output)
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ask(args)).unwrap()
}

/// The rows of `sessions --json`.
fn sessions() -> Vec<Value> {
    json(&["sessions", "--json"])["sessions"].as_array().unwrap().clone()
}

fn is_logged(world: &World, command: &str) {
    eventually(&format!("a line about {command}"), PATIENCE, || {
        let lines = world.audit.of("control");
        let found = |line: &String| {
            field(line, "command").is_some_and(|told| told.starts_with(command))
                && field(line, "uid") == Some("0")
        };
        lines.iter().any(found).then_some(())
    });
}

/// Carol, by a rule.
fn trusted_carol() -> Peer {
    let mut peer = Peer::hello("caroline", "carol");
    peer.expect(PROMPT);
    peer
}

#[test]
fn sessions_are_listed_for_people_and_for_programs() {
    world(|world| {
        let _daemon = world.serve(TRUSTING);
        assert_eq!(ask(&["sessions"]), "ID  USER  FROM  TTY  SINCE  IDLE  IN  OUT  BY\n");
        let mut alice = Peer::log_in(ALICE);
        let _carol = trusted_carol();
        let mut at_prompt = Peer::hello("nobody", "bob");
        at_prompt.expect("Password: ");
        alice.run("printf %01000d 0 >/dev/null; yes | head -c 5000");

        let rows = sessions();
        let is =
            |row: usize, key: &str, want: &str| assert_eq!(rows[row][key], want, "{key} of {:#}", rows[row]);
        assert_eq!(rows.iter().map(|row| row["id"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 2, 3]);
        for (row, user, state) in [(0, "alice", "open"), (1, "carol", "open"), (2, "bob", "login")] {
            is(row, "user", user);
            is(row, "state", state);
            is(row, "address", "127.0.0.1");
        }
        is(0, "by", "password");
        is(1, "by", "trust");
        assert!(rows[2]["by"].is_null() && rows[0]["remote_user"].is_null());
        is(1, "remote_user", "caroline");
        is(1, "host", "localhost");
        assert!(rows[0]["tty"].as_str().unwrap().starts_with("pts/"));
        assert!(rows[0]["bytes_in"].as_u64().unwrap() > 40, "{:#}", rows[0]);
        assert!(rows[0]["bytes_out"].as_u64().unwrap() > 5000, "{:#}", rows[0]);
        assert!(rows[0]["idle"].as_u64().unwrap() < 10);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(rows[0]["since"].as_u64().unwrap().abs_diff(now) < 60);

        let table = ask(&["sessions"]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[1].contains("alice  localhost") && lines[1].ends_with("password"), "{table}");
        assert!(lines[2].contains("carol  caroline@localhost") && lines[2].ends_with("trust"), "{table}");
        assert!(lines[3].contains("bob") && lines[3].ends_with("(login)"), "{table}");

        // Silence is counted from the client's last byte on.
        thread::sleep(Duration::from_millis(2100));
        assert!(sessions()[0]["idle"].as_u64().unwrap() >= 2);
        assert!(world.audit.of("control").is_empty(), "looking changes nothing");
    });
}

#[test]
fn the_table_is_as_wide_as_the_terminal_and_is_looked_at_again() {
    world(|world| {
        let _daemon = world.serve(TRUSTING);
        let _carol = trusted_carol();
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = nix::pty::openpty(&size, None).unwrap();
        let mut watch = Command::new(PROGRAM)
            .args(["sessions", "--watch"])
            .stdout(fs::File::from(pty.slave))
            .spawn()
            .unwrap();
        thread::sleep(Duration::from_millis(2500));
        watch.kill().unwrap();
        watch.wait().unwrap();
        let mut shown = vec![0; 4096];
        let length = nix::unistd::read(&pty.master, &mut shown).unwrap();
        let shown = String::from_utf8(shown[..length].to_vec()).unwrap();
        let screens: Vec<&str> = shown.split("\x1b[H\x1b[2J").skip(1).collect();
        assert_eq!(screens.len(), 2, "{shown:?}");
        for screen in screens {
            let lines: Vec<&str> = screen.lines().collect();
            assert!(lines[0].starts_with("ID  USER   FROM"), "{screen}");
            assert!(lines[1].starts_with(" 1  carol  caroline"), "{screen}");
            assert!(lines.iter().all(|line| line.len() <= 50), "{screen}");
        }
        let mut watch = Command::new(PROGRAM)
            .args(["sessions", "--watch", "--json"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        for line in lines.take(2) {
            let value: Value = serde_json::from_str(&line.unwrap()).unwrap();
            assert_eq!(value["sessions"][0]["user"], "carol");
        }
        watch.kill().unwrap();
        watch.wait().unwrap();
    });
}

#[test]
fn a_killed_session_ends_in_order_and_no_other_does() {
    world(|world| {
        let daemon = world.serve(TRUSTING);
        let mut alice = Peer::log_in(ALICE);
        let mut carol = trusted_carol();
        let mut at_prompt = Peer::hello("nobody", "bob");
        at_prompt.expect("Password: ");
        let told = fails(&["kill", "1", "7"]);
        assert_eq!(told, "session 1: hung up\nsession 7: there is no such session\n");
        assert_eq!(alice.wait_end(PATIENCE), End::Closed);
        assert_eq!(carol.run("echo here"), "here");
        assert_eq!(ask(&["kill", "3"]), "session 3: hung up\n");
        assert_eq!(at_prompt.wait_end(PATIENCE), End::Closed);
        let closed = world.audit.wait("session-closed");
        assert_eq!(field(&closed, "user"), Some("alice"));
        assert_eq!((field(&closed, "by"), field(&closed, "uid")), (Some("kill"), Some("0")), "{closed}");
        let abandoned = world.audit.wait("login-abandoned");
        assert_eq!(field(&abandoned, "reason"), Some("user 0 asked to kill it"), "{abandoned}");
        is_logged(world, "kill 1 (alice on pts/");
        eventually("one session is left", PATIENCE, || (sessions().len() == 1).then_some(()));
        assert_eq!(sessions()[0]["id"], 2);
        // The numbers go on, they are not used again.
        let _another = Peer::log_in(ALICE);
        assert_eq!(sessions()[1]["id"], 4);
        ask(&["kill", "2", "4"]);
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_message_is_shown_to_whom_it_is_for_and_does_nothing_else() {
    world(|world| {
        let _daemon = world.serve(TRUSTING);
        let mut alice = Peer::log_in(ALICE);
        let mut carol = trusted_carol();
        let mut at_prompt = Peer::hello("nobody", "bob");
        at_prompt.expect("Password: ");
        assert_eq!(ask(&["message", "1", "down", "at \x1b[2J five"]), "session 1: shown\n");
        alice.expect("\r\n\x07Message from root on e2e:\r");
        alice.expect("\ndown at ^[[2J five\r");
        assert_eq!(ask(&["message", "--all", "bye"]), "session 1: shown\nsession 2: shown\n");
        alice.expect("\nbye\r");
        carol.expect("\nbye\r");
        let told = fails(&["message", "3", "hello"]);
        assert_eq!(told, "session 3: nobody is logged in there yet\n");
        at_prompt.listen(Duration::from_millis(200));
        assert!(!String::from_utf8_lossy(at_prompt.rest()).contains("hello"));
        // A terminal that is stopped, and one whose program fills it while nobody reads.
        alice.send("\x13");
        eventually("the stopped terminal", PATIENCE, || {
            told_stopped(&run(&["message", "1", "stopped"])).then_some(())
        });
        carol.send("yes\r");
        thread::sleep(Duration::from_secs(1));
        let begun = Instant::now();
        let _ = run(&["message", "2", "flooded"]);
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        alice.send("\x11echo he\"\"re\r");
        alice.expect("here\r\n");
        is_logged(world, "message (down at ");
        assert_eq!(run(&["message", "alice", "hi"]).status.code(), Some(2));
    });
}

fn told_stopped(output: &Output) -> bool {
    output.status.code() == Some(1) && told(output) == "session 1: its terminal takes nothing now\n"
}

#[test]
fn only_root_writes_to_whom_takes_no_messages() {
    world(|world| {
        let _daemon = world.serve("[control]\ngroup = \"staff\"\n");
        let mut alice = Peer::log_in(ALICE);
        let output = as_user("1002", &["50"], &["message", "1", "from the group"]);
        assert!(output.status.success(), "{}", told(&output));
        alice.expect("Message from bob (uid 1002) on e2e:");
        alice.expect("from the group");
        alice.run("chmod g-w $(tty)");
        let output = as_user("1002", &["50"], &["message", "1", "again"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(told(&output), "session 1: its user takes no messages\n");
        ask(&["message", "1", "from root"]);
        alice.expect("from root");
    });
}

/// Runs a command as somebody else, in those groups besides his own.
fn as_user(id: &str, groups: &[&str], args: &[&str]) -> Output {
    let groups = if groups.is_empty() {
        "--clear-groups".to_owned()
    } else {
        format!("--groups={}", groups.join(","))
    };
    let words = ["--reuid", id, "--regid", id, &groups, PROGRAM];
    Command::new("setpriv").args(words).args(args).output().unwrap()
}

/// Runs a command of alice's, who is in the group, again and again until it is dropped.
struct Loop(std::process::Child);

impl Loop {
    fn start(command: &str) -> Loop {
        let again = format!("while :; do {command}; done >/dev/null 2>&1");
        let words = ["--reuid", "1001", "--regid", "1001", "--groups=50", "--pdeathsig", "KILL", "sh", "-c"];
        Loop(Command::new("setpriv").args(words).arg(again).spawn().unwrap())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_member_who_reloads_and_upgrades_without_end_keeps_root_from_nothing() {
    world(|_world| {
        let daemon = serve_copy_with("[control]\ngroup = \"staff\"\n");
        let mut alice = Peer::log_in(ALICE);
        let reload = format!("{PROGRAM} reload");
        let upgrade = format!("{PROGRAM} upgrade");
        // One that does not wait for the answer asks again before the daemon is done.
        let hasty = [&reload, &upgrade].map(|command| format!("timeout -s KILL 0.02 {command}"));
        let commands = [&reload, &upgrade, &reload, &upgrade, &reload, &upgrade, &hasty[0], &hasty[1]];
        let loops = commands.map(|command| Loop::start(command));
        for _ in 0..20 {
            for command in ["status", "sessions", "reload"] {
                ask(&[command]);
            }
        }
        assert!(ask(&["upgrade"]).contains("took over from"));
        drop(loops);
        assert_eq!(alice.run("echo here"), "here");
        drop(alice);
        eventually("the last of them is done", PATIENCE, || {
            let relay = daemon.relay().pid;
            thread::sleep(Duration::from_millis(500));
            (daemon.relay().pid == relay).then_some(())
        });
        nothing_is_left(&daemon);
    });
}

/// Each reload and upgrade warns of it: there is no such service.
const WARNED_OF: &str = "[control]\ngroup = \"staff\"\n[login]\npam_service = \"nosuch\"\n";

#[test]
fn what_a_member_asks_without_end_hides_no_command_of_root_in_the_log() {
    world(|world| {
        let _daemon = world.serve(WARNED_OF);
        let by = |uid: &str| {
            let lines = world.audit.of("control").into_iter();
            lines.filter(|line| field(line, "uid") == Some(uid)).count()
        };
        let _loops = [(); 4].map(|()| Loop::start(&format!("{PROGRAM} reload")));
        eventually("the first of the member", PATIENCE, || (by("1001") == 10).then_some(()));
        for _ in 0..10 {
            ask(&["reload"]);
        }
        eventually("all of root", PATIENCE, || (by("0") == 10).then_some(()));
        assert_eq!(by("1001"), 10);
        // What comes of them is a few lines as well.
        let lines = world.audit.since(0);
        for (event, most) in [("config-read", 10), ("warning", 11)] {
            assert!((5..=most).contains(&world.audit.of(event).len()), "{event}: {lines:#?}");
        }
        assert!(lines.len() <= 10 + 10 + 10 + 11 + 1, "{lines:#?}");
    });
}

#[test]
fn a_member_who_upgrades_without_end_fills_no_log() {
    world(|world| {
        let mut daemon = serve_copy_with(WARNED_OF);
        let upgrades = Loop::start(&format!("{PROGRAM} upgrade && echo >> /tmp/upgrades"));
        let times = || fs::read_to_string("/tmp/upgrades").map_or(0, |text| text.len());
        eventually("many upgrades", Duration::from_secs(50), || (times() > 20).then_some(()));
        drop(upgrades);
        let number = |event: &str| world.audit.of(event).len();
        for (event, most) in [("control", 10), ("config-read", 10), ("warning", 11), ("upgraded", 10)] {
            assert!((5..=most).contains(&number(event)), "{event}: {:#?}", world.audit.since(0));
        }
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        world.audit.wait("stopped");
        let total_of = |event: &str| total(&world.audit.of(event));
        assert!(total_of("upgraded") > 20, "{:#?}", world.audit.since(0));
        assert!(total_of("control") >= total_of("upgraded"));
    });
}

#[test]
fn the_socket_is_roots_and_the_groups() {
    world(|world| {
        let daemon = world.serve("[control]\ngroup = \"staff\"\n");
        let mode = || {
            let data = fs::symlink_metadata(SOCKET).unwrap();
            (data.uid(), data.gid(), data.mode() & 0o777)
        };
        assert_eq!(mode(), (0, 50, 0o660));
        assert!(as_user("1001", &["50"], &["sessions"]).status.success());
        let stranger = as_user("1002", &[], &["sessions"]);
        assert_eq!(stranger.status.code(), Some(1));
        assert!(told(&stranger).contains("permission denied: /run/rlogind/control"), "{}", told(&stranger));
        // It comes back when somebody has removed it.
        fs::remove_file(SOCKET).unwrap();
        daemon.signal(Signal::SIGHUP);
        eventually("another socket", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
        eventually("its mode", PATIENCE, || (mode() == (0, 50, 0o660)).then_some(()));
        // Without a group, and with one that is not there, it is root's, and at once.
        fs::write("/etc/rlogind.toml", "").unwrap();
        assert_eq!(ask(&["reload"]), "");
        assert_eq!(mode(), (0, 0, 0o600));
        assert_eq!(as_user("1001", &["50"], &["sessions"]).status.code(), Some(1));
        fs::write("/etc/rlogind.toml", "[control]\ngroup = \"nosuch\"\n").unwrap();
        assert_eq!(ask(&["reload"]), "no group nosuch; only root may use the control socket\n");
        assert_eq!(mode(), (0, 0, 0o600));
        fs::write("/etc/rlogind.toml", "control = \"/run/elsewhere/control\"\n").unwrap();
        // Nobody is there yet, and the one that serves says when there will be.
        assert!(fails(&["reload"]).contains("/run/elsewhere/control"));
        let told = ask(&["reload", "--socket", SOCKET]);
        assert_eq!(told, "a change of control.socket counts from the next start or upgrade on\n");
        ask(&["status", "--socket", SOCKET]);
        daemon.signal(Signal::SIGTERM);
        eventually("the socket goes with the daemon", PATIENCE, || {
            (!Path::new(SOCKET).exists()).then_some(())
        });
    });
}

#[test]
fn status_counts_what_was_let_in_and_what_was_refused() {
    world(|world| {
        let daemon = world.serve(&format!("deny = [\"127.0.0.9\"]\n{TRUSTING}"));
        let mut alice = Peer::hello("nobody", "alice");
        alice.expect("Password: ");
        alice.send("wrong\r");
        alice.expect("login: ");
        alice.send("alice\r");
        alice.give_password(ALICE);
        let _carol = trusted_carol();
        let mut at_prompt = Peer::hello("nobody", "bob");
        at_prompt.expect("Password: ");
        for _ in 0..3 {
            Peer::connect_from([127, 0, 0, 9].into()).wait_end(PATIENCE);
        }
        let status = json(&["status", "--json"]);
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["pid"], daemon.pid());
        assert_eq!(status["sessions"], serde_json::json!({"open": 2, "login": 1, "closing": 0}));
        assert_eq!(
            status["listeners"][0],
            serde_json::json!({"address": "0.0.0.0:513", "service": "rlogin"})
        );
        assert_eq!(status["limits"]["sessions"], 1000);
        assert_eq!(status["draining"], false);
        let totals = &status["totals"];
        assert_eq!((&totals["by_trust"], &totals["by_password"]), (&1.into(), &1.into()), "{totals:#}");
        assert_eq!(totals["password_failures"], 1);
        assert_eq!(totals["connections"], 3);
        let refused = totals["refused"].as_object().unwrap();
        assert_eq!(refused.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 3, "{totals:#}");
        let text = ask(&["status"]);
        assert!(text.contains("3 of 1000: 2 open, 1 at login, 0 closing\n"), "{text}");

        let metrics = ask(&["status", "--metrics"]);
        for line in metrics.lines() {
            let sample = line.split_once(['{', ' ']).unwrap().0;
            assert!(sample == "#" || sample.starts_with("rlogind_"), "{line}");
            let number = line.rsplit(' ').next().unwrap();
            assert!(sample == "#" || number.parse::<u64>().is_ok(), "{line}");
        }
        assert!(metrics.contains("\nrlogind_sessions{state=\"open\"} 2\n"), "{metrics}");

        let relay = daemon.relay();
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(relay.pid).unwrap()),
            Signal::SIGKILL,
        )
        .unwrap();
        daemon.next_relay(&relay);
        assert_eq!(json(&["status", "--json"])["totals"]["relay_restarts"], 1);
    });
}

#[test]
fn a_reload_is_answered_when_it_is_in_force_or_refused() {
    world(|world| {
        let daemon = world.serve("");
        let mut alice = Peer::log_in(ALICE);
        let relay = daemon.relay();
        fs::write("/etc/rlogind.toml", "[limits]\nsessions = 7\n").unwrap();
        assert_eq!(ask(&["reload"]), "");
        let relays =
            processes::all().into_iter().filter(|process| process.parent == daemon.pid() && process.uid != 0);
        assert!(relays.into_iter().any(|other| other.pid != relay.pid), "one that has the new one serves");
        assert_eq!(json(&["status", "--json"])["limits"]["sessions"], 7);
        // The command finds the socket all the same.
        fs::write("/etc/rlogind.toml", "[limits]\nsesions = 8\n").unwrap();
        let refused = fails(&["reload"]);
        assert!(refused.contains("/etc/rlogind.toml:2: limits.sesions: unknown key"), "{refused}");
        assert_eq!(json(&["status", "--json"])["limits"]["sessions"], 7);
        // However much is wrong, the first of it is said, and how much more there is.
        for (nth, count) in [10, 20, 150, 3000].into_iter().enumerate() {
            let wrong: String = (1..=count).map(|n| format!("wrong{n} = 1\n")).collect();
            fs::write("/etc/rlogind.toml", format!("[limits]\n{wrong}")).unwrap();
            let answer = fails(&["reload", "--socket", SOCKET]);
            let logged = world.audit.wait_count("config-refused", nth + 2).pop().unwrap();
            for told in [answer.trim_end(), &logged] {
                assert!(told.contains("/etc/rlogind.toml:2: limits.wrong1: unknown key"), "{told}");
                let shown = told.split(" event=\"").next().unwrap().matches("unknown key").count();
                assert!((5..=10).contains(&shown), "{shown}: {told}");
                let more = format!("; … and {} more (rlogind check shows ", count - shown);
                assert!(shown == count || told.contains(&more), "{shown}: {told}");
            }
        }
        let checked = told(&run(&["check"]));
        assert_eq!(checked.matches("unknown key").count(), 100, "{checked}");
        assert!(checked.contains("FAIL  configuration  … and 2900 more\n"), "{checked}");
        // Several at once are all answered.
        fs::write("/etc/rlogind.toml", "[limits]\nsessions = 9\n").unwrap();
        let many: Vec<_> = (0..5).map(|_| thread::spawn(|| run(&["reload"]))).collect();
        for one in many {
            let output = one.join().unwrap();
            assert!(output.status.success(), "{}", told(&output));
        }
        assert_eq!(json(&["status", "--json"])["limits"]["sessions"], 9);
        assert_eq!(alice.run("echo here"), "here");
        is_logged(world, "reload");
    });
}

/// The daemon at the default socket is another one than the one that is meant.
#[test]
fn a_command_with_a_configuration_that_cannot_be_used_asks_nobody() {
    world(|world| {
        let _daemon = world.serve("");
        let mut alice = Peer::log_in(ALICE);
        fs::write("/etc/broken.toml", "[limits]\nsesions = 8\n").unwrap();
        fs::write("/etc/open.toml", "").unwrap();
        fs::set_permissions("/etc/open.toml", fs::Permissions::from_mode(0o666)).unwrap();
        let commands: [&[&str]; 7] = [
            &["sessions"],
            &["status"],
            &["kill", "1"],
            &["message", "--all", "out"],
            &["drain"],
            &["upgrade"],
            &["reload"],
        ];
        for (file, why) in [
            ("/etc/nosuch.toml", "No such file or directory"),
            ("/etc/broken.toml", ":2: limits.sesions: unknown key"),
            ("/etc/open.toml", "refused: writable by group or others"),
            ("/etc", "not a regular file"),
        ] {
            for command in commands {
                let (command, words) = command.split_first().unwrap();
                // A socket that is named as well makes it no better.
                for socket in [[].as_slice(), &["--socket", SOCKET]] {
                    let config: &[&str] = &["--config", file];
                    for args in [
                        [&[*command], config, socket, words].concat(),
                        [&[*command], words, config, socket].concat(),
                    ] {
                        let told = fails(&args);
                        assert!(
                            told.contains(why) && told.contains("the daemon is not asked"),
                            "{args:?}: {told}"
                        );
                    }
                }
            }
        }
        assert_eq!(alice.run("echo here"), "here");
        assert!(world.audit.of("control").is_empty());
        assert!(crate::daemon::listens(513));
    });
}

#[test]
fn an_upgrade_is_answered_by_the_image_that_took_over_or_refused() {
    world(|world| {
        let daemon = serve_copy();
        let mut alice = Peer::log_in(ALICE);
        let mut at_prompt = Peer::hello("nobody", "bob");
        at_prompt.expect("Password: ");
        Peer::hello("nobody", "carol").expect("Password: ");
        eventually("the third login is over", PATIENCE, || (sessions().len() == 2).then_some(()));
        thread::sleep(Duration::from_millis(1100));
        let (before, status) = (sessions(), json(&["status", "--json"]));
        replace_copy(b"#!/bin/sh\nexit 0\n", 0o755);
        let refused = fails(&["upgrade"]);
        assert!(refused.contains("nothing changed: it does not know of taking over"), "{refused}");
        replace_copy(&fs::read(PROGRAM).unwrap(), 0o755);
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!("rlogind {version} took over from {version} with 2 sessions\n");
        assert_eq!(ask(&["upgrade"]), expected);
        // At once, and by the one that is there now.
        let (after, later) = (sessions(), json(&["status", "--json"]));
        assert_eq!(world.audit.of("upgraded").len(), 1);
        for (before, after) in before.iter().zip(&after) {
            for key in ["id", "user", "host", "tty", "state", "by", "bytes_in"] {
                assert_eq!(before[key], after[key], "{key}");
            }
            let moved = before["since"].as_i64().unwrap() - after["since"].as_i64().unwrap();
            assert!(moved.abs() <= 1, "{before:#} {after:#}");
        }
        assert_eq!(before.len(), after.len());
        assert_eq!(status["totals"], later["totals"]);
        assert!(later["uptime"].as_u64() >= status["uptime"].as_u64() && later["uptime"].as_u64() >= Some(1));
        assert_eq!(later["pid"], daemon.pid());
        assert_eq!(alice.run("echo here"), "here");
        at_prompt.send(format!("{}\r", BOB.password));
        at_prompt.expect(PROMPT);
        let _next = Peer::log_in(ALICE);
        assert_eq!(sessions().last().unwrap()["id"], 4, "the numbers go on");
        ask(&["upgrade"]);
        assert_eq!(sessions().len(), 3);
        is_logged(world, "upgrade");
    });
}

#[test]
fn a_drained_daemon_goes_on_answering_until_its_last_user_leaves() {
    world(|world| {
        let mut daemon = world.serve("");
        let mut alice = Peer::log_in(ALICE);
        let told = ask(&["drain"]);
        assert_eq!(told, "rlogind lets nobody in any more, and ends with its last session of 1\n");
        eventually("nobody listens", PATIENCE, || (!crate::daemon::listens(513)).then_some(()));
        let status = json(&["status", "--json"]);
        assert_eq!((&status["draining"], &status["listeners"]), (&true.into(), &serde_json::json!([])));
        assert_eq!(alice.run("echo here"), "here");
        ask(&["drain"]);
        ask(&["kill", "1"]);
        assert_eq!(alice.wait_end(PATIENCE), End::Closed);
        assert!(daemon.wait(Duration::from_secs(10)).success());
        let gone = fails(&["status"]);
        assert!(
            gone.contains("rlogind does not run, or not with this control socket: /run/rlogind/control"),
            "{gone}"
        );
        assert!(!Path::new(SOCKET).exists());
        is_logged(world, "drain");
    });
}

#[test]
fn hostile_clients_of_the_socket_harm_nothing() {
    world(|world| {
        let daemon = world.serve("");
        let mut alice = Peer::log_in(ALICE);
        let connect = || -> Channel {
            eventually("a place in the queue", PATIENCE, || local::connect(Path::new(SOCKET)).ok())
        };
        let before = daemon.monitor().descriptors();
        // What is no request, what is too long, what asks twice, and what brings descriptors.
        for request in
            [b"garbage".as_slice(), b"{}", b"\"dance\"", b"{\"kill\":{\"ids\":[-1]}}", &[b'['; 16 * 1024]]
        {
            let client = connect();
            client.send(request, &[]).unwrap();
            assert!(matches!(client.receive(), Ok(Received::Message(..))), "it is told so");
            assert!(matches!(client.receive(), Ok(Received::Closed)));
        }
        let client = connect();
        client.send(&[b'x'; 100_000], &[]).unwrap();
        assert!(matches!(client.receive(), Ok(Received::Closed)));
        let files: Vec<_> = (0..60).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let client = connect();
        client.send(b"\"status\"", &files).unwrap();
        assert!(matches!(client.receive(), Ok(Received::Message(..))));
        // A hundred that ask for nothing, then a hundred that never read.
        let silent: Vec<Channel> = (0..100).map(|_| connect()).collect();
        ask(&["status"]);
        let deaf: Vec<Channel> = (0..100).map(|_| connect()).collect();
        for client in &deaf {
            let _ = client.send(b"\"sessions\"", &[]);
        }
        assert_eq!(sessions().len(), 1);
        assert_eq!(alice.run("echo here"), "here");
        drop((silent, deaf));
        // Those that stay and say nothing are closed.
        let silent = connect();
        let begun = Instant::now();
        assert!(matches!(silent.receive(), Ok(Received::Closed)));
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        eventually("no descriptor is left open", PATIENCE, || {
            (daemon.monitor().descriptors() == before).then_some(())
        });
        let wake_ups = daemon.monitor().wake_ups();
        thread::sleep(Duration::from_secs(1));
        assert!(daemon.monitor().wake_ups() - wake_ups < 3, "it goes on turning");
    });
}

#[test]
fn a_socket_that_was_left_behind_is_replaced_and_one_that_lives_is_not() {
    world(|world| {
        let daemon = world.serve("");
        // It listens for clients before.
        eventually("the first one's socket", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
        daemon.signal(Signal::SIGKILL);
        drop(daemon);
        assert!(Path::new(SOCKET).exists());
        assert!(fails(&["status"]).contains("does not run"));
        let daemon = world.serve("");
        let pid = || json(&["status", "--json"])["pid"].as_u64().unwrap();
        assert_eq!(pid(), u64::from(daemon.pid()));
        let mut second = Command::new(PROGRAM).args(["--listen", "127.0.0.1:1513"]).spawn().unwrap();
        let warned = world.audit.wait("warning");
        assert!(warned.contains("another process listens there"), "{warned}");
        assert_eq!(pid(), u64::from(daemon.pid()));
        // It takes the socket when it is asked to look again and the first one has gone.
        daemon.signal(Signal::SIGTERM);
        eventually("the first one's socket is gone", PATIENCE, || {
            (!Path::new(SOCKET).exists()).then_some(())
        });
        let id = nix::unistd::Pid::from_raw(i32::try_from(second.id()).unwrap());
        nix::sys::signal::kill(id, Signal::SIGHUP).unwrap();
        eventually("the second one's socket", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
        assert_eq!(pid(), u64::from(second.id()));
        second.kill().unwrap();
        second.wait().unwrap();
    });
}

#[test]
fn a_connection_of_a_superserver_makes_no_socket() {
    world(|_world| {
        fs::write("/etc/rlogind.toml", "").unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:513").unwrap();
        let mut peer = Peer::connect();
        let (stream, _) = listener.accept().unwrap();
        let input = std::os::fd::OwnedFd::from(stream);
        let mut server = Command::new(PROGRAM).arg("inetd").stdin(input).spawn().unwrap();
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.expect("Password: ");
        assert!(!Path::new(SOCKET).exists());
        drop((peer, listener));
        server.wait().unwrap();
    });
}
