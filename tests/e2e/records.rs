//! Login records, utmp(5): what who(1) and last(1) show of a session, and when it is over.

use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::daemon::Daemon;
use crate::peer::{Peer, handshake};
use crate::probe::service_with;
use crate::processes::{self, Process};
use crate::sessions::{ENDINGS, Ending, end};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, find_program, skip, world};

pub(crate) const UTMP: &str = "/run/utmp";
pub(crate) const WTMP: &str = "/var/log/wtmp";
const BTMP: &str = "/var/log/btmp";

/// Whether the programs that read the records are there.
pub(crate) fn has_readers() -> bool {
    let missing = ["who", "last", "lastb", "utmpdump"].into_iter().find(|name| find_program(name).is_none());
    if let Some(name) = missing {
        skip(&format!("there is no {name}"));
    }
    missing.is_none()
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("TZ", "UTC").output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The records of a file as utmpdump(1) prints them: type, pid, id, user, line, host, address, time.
pub(crate) fn dump(file: &str) -> Vec<Vec<String>> {
    let text = output("utmpdump", &[file]);
    let fields = |line: &str| -> Vec<String> {
        line.split(['[', ']']).skip(1).step_by(2).map(|field| field.trim().to_owned()).collect()
    };
    text.lines().map(fields).collect()
}

/// How many records of that line are logins and how many logouts.
pub(crate) fn counts(file: &str, line: &str) -> (usize, usize) {
    let records = dump(file);
    let of_line = || records.iter().filter(|fields| fields[4] == line);
    let logins = of_line().filter(|fields| fields[0] == "7" && !fields[3].is_empty()).count();
    let logouts = of_line().filter(|fields| fields[0] == "8" || fields[3].is_empty()).count();
    (logins, logouts)
}

pub(crate) fn line_of(peer: &mut Peer) -> String {
    peer.run("tty").strip_prefix("/dev/").unwrap().to_owned()
}

/// Waits until the last session's end is in the log.
pub(crate) fn closed(world: &World, sessions: usize) {
    world.audit.wait_count("session-closed", sessions);
}

#[test]
fn who_and_last_show_the_session_and_its_end() {
    world(|world| {
        if !has_readers() {
            return;
        }
        service_with("session optional pam_loginuid.so");
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        let shown = output("who", &[UTMP]);
        let words: Vec<&str> = shown.split_whitespace().collect();
        assert_eq!(words[..2], ["alice", line.as_str()], "{shown}");
        assert!(shown.contains("(localhost)"), "{shown}");
        let shown = output("last", &["-w", "-f", WTMP]);
        let entry = shown.lines().next().unwrap();
        let words: Vec<&str> = entry.split_whitespace().collect();
        assert_eq!(words[..3], ["alice", line.as_str(), "localhost"], "{shown}");
        // It asks for the login's uid of that process, which not every machine lets pam_loginuid set.
        assert!(entry.contains("still logged in") || entry.contains("gone - no logout"), "{shown}");
        assert!(output("last", &["-i", "-f", WTMP]).contains("127.0.0.1"));
        peer.send("exit\r");
        peer.wait_end(PATIENCE);
        closed(world, 1);
        assert_eq!(output("who", &[UTMP]), "");
        // What ended in this very second is shown as going on.
        thread::sleep(Duration::from_millis(1100));
        let shown = output("last", &["-f", WTMP]);
        assert!(shown.lines().next().unwrap().contains("(00:00)"), "{shown}");
        assert_eq!(counts(WTMP, &line), (1, 1), "{:#?}", dump(WTMP));
    });
}

#[test]
fn an_ipv6_address_is_recorded_whole() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let address: Ipv6Addr = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let added = Command::new("ip")
            .args(["-6", "addr", "add", &format!("{address}/128"), "dev", "lo", "nodad"])
            .status();
        assert!(added.unwrap().success());
        let _daemon = world.serve("");
        let mut peer = Peer::connect_from(IpAddr::V6(address));
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.give_password(ALICE);
        let shown = output("last", &["-w", "-i", "-f", WTMP]);
        assert!(shown.contains(&address.to_string()), "{shown}");
        let record = &dump(UTMP).into_iter().find(|fields| fields[3] == "alice").unwrap();
        // Without a name the address stands for it.
        assert_eq!((record[5].as_str(), record[6].as_str()), (&*address.to_string(), &*address.to_string()));
        assert!(output("who", &[UTMP]).contains(&format!("({address})")));
    });
}

#[test]
fn the_shells_start_files_find_their_session_recorded() {
    world(|world| {
        if !has_readers() {
            return;
        }
        world.write_for(
            ALICE,
            "/home/alice/.profile",
            "who am i >/tmp/am; last -f /var/log/wtmp >/tmp/last\n",
        );
        let _daemon = world.serve("");
        for _ in 0..5 {
            drop(Peer::log_in(ALICE));
            assert!(fs::read_to_string("/tmp/am").unwrap().starts_with("alice "));
            assert!(fs::read_to_string("/tmp/last").unwrap().starts_with("alice "));
            fs::write(WTMP, "").unwrap();
        }
    });
}

#[test]
fn the_logout_is_recorded_once_however_the_session_ends() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let mut daemon = world.serve("");
        for (number, ending) in (1..).zip(ENDINGS) {
            let mut peer = Peer::log_in(ALICE);
            let line = line_of(&mut peer);
            let (logins, logouts) = counts(WTMP, &line);
            assert_eq!(logins, logouts + 1, "before {ending:?}: {:#?}", dump(WTMP));
            assert_eq!(counts(UTMP, &line), (1, 0), "before {ending:?}");
            end(peer, ending, &mut daemon);
            closed(world, number);
            assert_eq!(counts(WTMP, &line), (logins, logins), "{ending:?}: {:#?}", dump(WTMP));
            assert_eq!(counts(UTMP, &line), (0, 1), "{ending:?}: {:#?}", dump(UTMP));
            assert_eq!(output("who", &[UTMP]), "", "{ending:?}");
        }
    });
}

#[test]
fn what_a_module_records_is_not_recorded_twice() {
    world(|world| {
        if !has_readers() {
            return;
        }
        // It writes wtmp, login and logout, unless it is told not to.
        service_with("session optional pam_lastlog.so");
        let mut daemon = world.serve("");
        for (number, ending) in (1..).zip([Ending::Exit, Ending::ClientCloses, Ending::DaemonTerminated]) {
            let mut peer = Peer::log_in(ALICE);
            let line = line_of(&mut peer);
            end(peer, ending, &mut daemon);
            closed(world, number);
            assert_eq!(counts(WTMP, &line), (number, number), "{ending:?}: {:#?}", dump(WTMP));
        }
        let shown = output("last", &["-f", WTMP]);
        assert_eq!(shown.lines().filter(|line| line.starts_with("alice")).count(), 3, "{shown}");
    });
}

#[test]
fn a_login_without_a_shell_leaves_nobody_logged_in() {
    world(|world| {
        if !has_readers() {
            return;
        }
        service_with("session optional pam_lastlog.so");
        let text = fs::read_to_string("/etc/passwd").unwrap();
        fs::write("/etc/passwd", text.replace("/home/alice:/bin/sh", "/home/alice:/nonexistent")).unwrap();
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.wait_end(PATIENCE);
        world.audit.wait("login-abandoned");
        assert_eq!(output("who", &[UTMP]), "");
        let records = dump(WTMP);
        let (logins, logouts) = counts(WTMP, "pts/0");
        assert_eq!(logins, logouts, "{records:#?}");
    });
}

/// Logs in and out, and fails to log in once.
fn use_daemon(world: &World, sessions: usize) {
    let mut peer = Peer::hello("nobody", "alice");
    peer.expect("Password: ");
    peer.send("wrong-Secret-9\r");
    peer.expect("login: ");
    peer.send("alice\r");
    peer.give_password(ALICE);
    peer.send("exit\r");
    peer.wait_end(PATIENCE);
    closed(world, sessions);
}

pub(crate) fn stop(mut daemon: Daemon) {
    daemon.signal(Signal::SIGTERM);
    daemon.wait(PATIENCE);
}

#[test]
fn records_no_writes_nothing_and_auto_makes_no_file() {
    world(|world| {
        let daemon = world.serve("[audit]\nrecords = \"no\"\n");
        use_daemon(world, 1);
        for file in [UTMP, WTMP, BTMP] {
            assert_eq!(fs::metadata(file).unwrap().len(), 0, "{file}");
            fs::remove_file(file).unwrap();
        }
        stop(daemon);
        let _daemon = world.serve("");
        use_daemon(world, 2);
        for file in [UTMP, WTMP, BTMP] {
            assert!(!fs::exists(file).unwrap(), "{file} was made");
        }
    });
}

#[test]
fn records_yes_makes_the_files_and_only_root_and_utmp_can_write_them() {
    world(|world| {
        if !has_readers() {
            return;
        }
        for file in [UTMP, WTMP, BTMP] {
            fs::remove_file(file).unwrap();
        }
        let _daemon = world.serve("[audit]\nrecords = \"yes\"\n");
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        peer.send("exit\r");
        peer.wait_end(PATIENCE);
        // So that the next one gets the same terminal.
        closed(world, 1);
        use_daemon(world, 2);
        assert_eq!(counts(WTMP, &line), (2, 2));
        assert_eq!(counts(UTMP, &line), (0, 1));
        assert_eq!(dump(BTMP).len(), 1);
        // As Debian makes them, tmpfiles.d and base-files; 43 is the group utmp.
        for (file, mode) in [(UTMP, 0o664), (WTMP, 0o664), (BTMP, 0o660)] {
            let data = fs::metadata(file).unwrap();
            assert_eq!((data.uid(), data.gid()), (0, 43), "{file}");
            assert_eq!(data.permissions().mode() & 0o7777, mode, "{file}");
        }
    });
}

#[test]
fn failures_are_recorded_of_accounts_that_exist_and_of_no_mistyped_password() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let _daemon = world.serve("[login]\nattempts = 5\n");
        let mut peer = Peer::hello("client-Secret-8", "");
        for name in [ALICE.password, "alice", "-froot", "root", "alice; id"] {
            peer.expect("login: ");
            peer.send(format!("{name}\r"));
            peer.expect("Password: ");
            peer.send("wrong-Secret-9\r");
            peer.expect("Login incorrect");
        }
        peer.wait_end(PATIENCE);
        world.audit.wait_count("password-failed", 5);
        let records = dump(BTMP);
        let users: Vec<&str> = records.iter().map(|fields| fields[3].as_str()).collect();
        assert_eq!(users, ["alice", "root"], "{records:#?}");
        assert!(records.iter().all(|fields| fields[6] == "127.0.0.1" && fields[5] == "localhost"));
        let shown = output("lastb", &["-w", "-f", BTMP]);
        assert!(shown.lines().any(|line| line.starts_with("alice") && line.contains("localhost")), "{shown}");
        let bytes = fs::read(BTMP).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("Secret"));
        assert!(dump(WTMP).is_empty());
    });
}

#[test]
fn a_session_is_found_in_the_records_by_its_audit_line() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let _daemon = world.serve("");
        world.hosts_equiv("127.0.0.1\n");
        let mut peer = Peer::hello("alice", "alice");
        peer.expect(PROMPT);
        let line = world.audit.wait("session-opened");
        let record = eventually("a record of the line", Duration::from_secs(5), || {
            dump(UTMP).into_iter().find(|fields| Some(fields[4].as_str()) == field(&line, "tty"))
        });
        assert_eq!(Some(record[3].as_str()), field(&line, "user"));
        assert_eq!(Some(record[5].as_str()), field(&line, "host"));
        assert_eq!(Some(record[6].as_str()), field(&line, "address"));
    });
}

pub(crate) const ENTRIES: &str = "/run/rlogind/sessions";

pub(crate) fn send(process: &Process, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), signal).unwrap();
}

/// Kills every process of the daemon but those that are spared, at once: none has a say in it.
fn crash(daemon: Daemon, spared: impl Fn(&Process) -> bool) {
    let mut all = vec![daemon.monitor()];
    all.extend(processes::descendants(daemon.pid()).into_iter().filter(|process| !spared(process)));
    all.iter().for_each(|process| send(process, Signal::SIGSTOP));
    for process in &all {
        // The terminal may have hung up its shell meanwhile.
        let _ = kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), Signal::SIGKILL);
    }
    drop(daemon);
    eventually("all are gone", PATIENCE, || {
        // World's first process waits for orphans when it comes to it.
        all.iter().all(|process| Process::of(process.pid).is_none_or(|left| left.state == 'Z')).then_some(())
    });
}

/// Another program's login, whose process is gone: like the record of that line, but for these.
fn add_foreign_login(like: &str, line: &str) {
    let text = output("utmpdump", &[UTMP]);
    let entry = text.lines().find(|entry| entry.contains(&format!("[{like} "))).unwrap();
    let fields = dump(UTMP).into_iter().find(|fields| fields[4] == like).unwrap();
    // utmpdump reads its columns by their width.
    let put = |entry: String, from: &str, to: &str| {
        let width = from.len().max(to.len());
        entry.replacen(&format!("[{from:width$}"), &format!("[{to:width$}"), 1)
    };
    let entry = put(entry.to_owned(), &format!("{:0>5}", fields[1]), "29999");
    let entry = put(entry, &fields[2], &line[line.len() - 4..]);
    let entry = put(put(entry, "alice  ", "mallory"), &format!("{like} "), &format!("{line} "));
    fs::write("/tmp/foreign", entry + "\n").unwrap();
    let output = Command::new("utmpdump").args(["-r", "/tmp/foreign"]).output().unwrap();
    assert!(output.status.success());
    for file in [UTMP, WTMP] {
        let mut bytes = fs::read(file).unwrap();
        bytes.extend(&output.stdout);
        fs::write(file, bytes).unwrap();
    }
    assert_eq!((counts(UTMP, line), counts(WTMP, line)), ((1, 0), (1, 0)), "{:#?}", dump(UTMP));
}

#[test]
fn what_a_crash_of_everything_left_open_is_closed_at_the_next_start() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = world.serve("");
        let mut peers = [Peer::log_in(ALICE), Peer::log_in(ALICE)];
        let lines = peers.each_mut().map(line_of);
        add_foreign_login(&lines[0], "pts/77");
        let data = fs::metadata(ENTRIES).unwrap();
        assert_eq!((data.uid(), data.gid(), data.permissions().mode() & 0o7777), (0, 0, 0o700));
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 2);
        crash(daemon, |_| false);
        assert_eq!(lines.each_ref().map(|line| counts(UTMP, line)), [(1, 0); 2], "nobody closed them");

        let daemon = world.serve("");
        let warning = world.audit.wait("warning");
        assert!(warning.contains("closed 2 stale login records left by killed sessions"), "{warning}");
        for line in &lines {
            assert_eq!((counts(UTMP, line), counts(WTMP, line)), ((0, 1), (1, 1)), "{:#?}", dump(WTMP));
        }
        let shown = output("who", &[UTMP]);
        assert!(shown.lines().count() == 1 && shown.starts_with("mallory"), "{shown}");
        assert_eq!((counts(UTMP, "pts/77"), counts(WTMP, "pts/77")), ((1, 0), (1, 0)));
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 0);

        // The terminals' next users are nobody's leftovers, and there is nothing to say again.
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 1);
        peer.send("exit\r");
        peer.wait_end(PATIENCE);
        closed(world, 1);
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 0);
        stop(daemon);
        let daemon = world.serve("");
        stop(daemon);
        assert_eq!(counts(UTMP, &line), (0, 1));
        assert_eq!(world.audit.of("warning").len(), 1, "{:?}", world.audit.of("warning"));
    });
}

#[test]
fn a_start_leaves_the_records_alone_of_a_session_that_closes_them_itself() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        let shell: u32 = peer.run("echo $$").parse().unwrap();
        let session = Process::of(Process::of(shell).unwrap().parent).unwrap();
        // It has lost its monitor, and has not come to its end.
        send(&session, Signal::SIGSTOP);
        crash(daemon, |process| [shell, session.pid].contains(&process.pid));
        let daemon = world.serve("");
        // The records worker has come and gone: what it says, it says before the daemon has stopped.
        stop(daemon);
        assert_eq!((counts(UTMP, &line), counts(WTMP, &line)), ((1, 0), (1, 0)));
        assert!(world.audit.of("warning").is_empty());
        send(&session, Signal::SIGCONT);
        eventually("it closes its records", PATIENCE, || {
            (counts(UTMP, &line) == (0, 1) && counts(WTMP, &line) == (1, 1)).then_some(())
        });
        eventually("it takes its note away", PATIENCE, || {
            fs::read_dir(ENTRIES).unwrap().next().is_none().then_some(())
        });
    });
}

#[test]
fn a_terminal_that_is_anothers_by_now_and_records_no_are_left_alone() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        crash(daemon, |_| false);
        let before = [UTMP, WTMP].map(|file| fs::read(file).unwrap());
        let notes = fs::read_dir(ENTRIES).unwrap().map(|entry| entry.unwrap().path());
        let notes: Vec<_> = notes.map(|path| (fs::read(&path).unwrap(), path)).collect();
        assert_eq!(notes.len(), 1);
        stop(world.serve("[audit]\nrecords = \"no\"\n"));
        assert_eq!([UTMP, WTMP].map(|file| fs::read(file).unwrap()), before);
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 0);

        for (bytes, path) in notes {
            fs::write(path, bytes).unwrap();
        }
        // Its record is replaced in utmp, and followed by the new one in wtmp.
        add_foreign_login(&line, "pts/77");
        let foreign = |bytes: &[u8]| {
            let (size, name) = (bytes.len() / 2, b"pts/77");
            let mut entry = bytes[size..].to_vec();
            let at = entry.windows(name.len()).position(|window| window == name).unwrap();
            entry[at..at + 6].fill(0);
            entry[at..at + line.len()].copy_from_slice(line.as_bytes());
            entry
        };
        let [utmp, wtmp] = [UTMP, WTMP].map(|file| fs::read(file).unwrap());
        fs::write(UTMP, foreign(&utmp)).unwrap();
        fs::write(WTMP, [&wtmp[..wtmp.len() / 2], &foreign(&wtmp)].concat()).unwrap();
        let before = [UTMP, WTMP].map(|file| fs::read(file).unwrap());
        stop(world.serve(""));
        assert_eq!([UTMP, WTMP].map(|file| fs::read(file).unwrap()), before);
        assert_eq!(fs::read_dir(ENTRIES).unwrap().count(), 0);
        assert!(world.audit.of("warning").is_empty());
    });
}
