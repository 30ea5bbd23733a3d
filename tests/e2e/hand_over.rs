//! Sessions outlive their relay, and the monitor's executable.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::daemon::{Daemon, PROGRAM};
use crate::ending::nothing_is_left;
use crate::peer::{End, Peer, handshake, window_message};
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// Where a copy of the executable stands that a test may replace: in a folder that only root can write.
pub(crate) const COPY: &str = "/mnt/copy/rlogind";
/// The folder.
pub(crate) const COPY_FOLDER: &str = "/mnt/copy";

/// Lets the test's many addresses in without a password.
pub(crate) const TRUSTING: &str = "[limits]\nper_source = 1000\n[[trust.rule]]\nfrom = [\"127.0.1.0/24\"]\nremote_users = [\"alice\"]\nusers = [\"alice\"]\nverdict = \"trust\"\n";

fn kill_now(process: &Process) {
    kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), Signal::SIGKILL).unwrap();
}

/// Starts the daemon from an executable that the test may replace.
pub(crate) fn serve_copy() -> Daemon {
    serve_copy_with("")
}

/// The same with this configuration.
pub(crate) fn serve_copy_with(config: &str) -> Daemon {
    make_copy();
    Daemon::start_copy(COPY, config)
}

fn make_copy() {
    fs::create_dir(COPY_FOLDER).unwrap();
    fs::copy(PROGRAM, COPY).unwrap();
    fs::set_permissions(COPY, Permissions::from_mode(0o755)).unwrap();
}

/// Puts another file where the daemon's executable was, as a package manager does.
pub(crate) fn replace_copy(content: &[u8], mode: u32) {
    let new = format!("{COPY}.new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(mode)).unwrap();
    fs::rename(new, COPY).unwrap();
}

/// Has the executable on disk take over, and waits until it has.
pub(crate) fn upgrade(world: &World, daemon: &Daemon) {
    let before = world.audit.of("upgraded").len();
    let relay = daemon.relay();
    daemon.signal(Signal::SIGUSR2);
    eventually("the upgrade", PATIENCE, || (world.audit.of("upgraded").len() > before).then_some(()));
    daemon.next_relay(&relay);
}

/// Bytes that look like window messages now and then, and never are.
fn tricky(length: usize) -> Vec<u8> {
    let mut state: u64 = 513;
    let mut bytes: Vec<u8> = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [byte, kind, ..] = state.to_be_bytes();
        match kind {
            0..=9 => bytes.extend_from_slice(b"\xff\xffsx"),
            10..=19 => bytes.extend_from_slice(b"\xff\xff"),
            20..=29 => bytes.extend_from_slice(b"\xff"),
            _ => bytes.push(if byte == b's' { b't' } else { byte }),
        }
    }
    bytes.truncate(length);
    bytes
}

/// Sends bytes through a program that gives them back, while `disturb` goes on.
fn echo_through(peer: &mut Peer, length: usize, mut disturb: impl FnMut()) {
    peer.send("stty raw -echo; echo G\"\"O; exec cat\r");
    peer.expect("GO\n");
    let start = peer.data.len() - peer.rest().len();
    let bytes = tricky(length);
    let mut stream = peer.stream.try_clone().unwrap();
    let sent = bytes.clone();
    let sender = thread::spawn(move || {
        // In pieces, so that it lasts for as long as the disturbance does.
        for piece in sent.chunks(8 * 1024) {
            stream.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(2));
        }
    });
    while !sender.is_finished() {
        disturb();
        peer.listen(Duration::from_millis(30));
    }
    sender.join().unwrap();
    peer.wait("the last byte", Duration::from_secs(30), |peer| peer.data.len() >= start + length);
    let got = &peer.data[start..];
    let differs = got.iter().zip(&bytes).position(|(got, sent)| got != sent);
    assert_eq!((got.len(), differs), (length, None), "bytes lost, doubled or changed");
}

#[test]
fn a_relay_that_is_killed_takes_no_session_with_it() {
    world(|world| {
        let daemon = world.serve("");
        let mut peers = [(); 3].map(|()| Peer::log_in(ALICE));
        let relay = daemon.relay();
        let asked = peers[0].urgent.len();
        kill_now(&relay);
        let killed = Instant::now();
        let next = daemon.next_relay(&relay);
        assert_ne!(next.pid, relay.pid);
        for peer in &mut peers {
            assert_eq!(peer.run("echo still here"), "still here");
        }
        // Not a measurement: it is told apart from a relay that is waited for.
        assert!(killed.elapsed() < Duration::from_secs(3), "{:?}", killed.elapsed());
        // Whether the client was ever asked is not known any more.
        peers[0].wait_urgent(0x80, asked);
        peers[0].send_size(33, 99);
        eventually("the new size", PATIENCE, || (peers[0].run("stty size") == "33 99").then_some(()));
        assert_eq!(Peer::log_in(ALICE).run("echo new"), "new");
        for peer in &mut peers {
            peer.send("exit 3\r");
            assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        }
        let closed = world.audit.wait_count("session-closed", 4);
        assert_eq!(closed.iter().filter(|line| field(line, "status") == Some("3")).count(), 3, "{closed:#?}");
        // The kernel's count stands in for that of the relay that died.
        let output: u64 = field(&closed[0], "bytes_out").unwrap().parse().unwrap();
        assert!(output > 60, "{closed:#?}");
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_login_at_its_prompt_outlives_the_relay() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        let relay = daemon.relay();
        kill_now(&relay);
        daemon.next_relay(&relay);
        peer.send(format!("{}\r", ALICE.password));
        peer.expect(PROMPT);
        assert_eq!(peer.run("echo in"), "in");
    });
}

#[test]
fn what_ended_while_there_was_no_relay_is_told_to_the_end() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("sleep 1; echo la\"\"st; exit\r");
        peer.expect("exit\r\n");
        // One that ends at once is followed by others behind pauses only.
        for _ in 0..4 {
            let relay = daemon.relay();
            kill_now(&relay);
            eventually("the relay has gone", PATIENCE, || {
                Process::of(relay.pid).is_none_or(|old| old.state == 'Z').then_some(())
            });
        }
        peer.expect("last\r\n");
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        world.audit.wait_count("session-closed", 1);
        assert!(daemon.monitor().state != 'Z');
    });
}

#[test]
fn a_reload_in_mid_stream_loses_no_byte_and_doubles_none() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let first = daemon.relay();
        let mut reloads = 0;
        echo_through(&mut peer, 3 * 1024 * 1024, || {
            daemon.signal(Signal::SIGHUP);
            reloads += 1;
        });
        assert!(reloads > 5, "{reloads}");
        assert_ne!(daemon.relay().pid, first.pid);
        assert_eq!(Process::of(daemon.pid()).map(|monitor| monitor.state == 'Z'), Some(false));
        eventually("every reload is noted", PATIENCE, || {
            (world.audit.of("config-read").len() > 5).then_some(())
        });
        assert_eq!(world.audit.of("warning"), Vec::<String>::new());
    });
}

#[test]
fn an_upgrade_in_mid_stream_loses_no_byte_and_doubles_none() {
    world(|world| {
        let daemon = serve_copy();
        let mut peer = Peer::log_in(ALICE);
        replace_copy(&fs::read(PROGRAM).unwrap(), 0o755);
        let mut upgrades = 0;
        echo_through(&mut peer, 3 * 1024 * 1024, || {
            daemon.signal(Signal::SIGUSR2);
            upgrades += 1;
            thread::sleep(Duration::from_millis(100));
        });
        assert!(upgrades > 3, "{upgrades}");
        let lines = world.audit.of("upgraded");
        assert!(lines.len() > 1, "{}", world.audit.text());
        assert_eq!(field(&lines[0], "sessions"), Some("1"));
        assert_eq!(daemon.monitor().name, "rlogind", "what ps(1) and the journal call it");
        let mut other = Peer::log_in(ALICE);
        assert_eq!(other.run("echo new"), "new");
        other.send("exit 5\r");
        other.wait_end(PATIENCE);
        peer.reset();
        let closed = world.audit.wait_count("session-closed", 2);
        assert!(closed.iter().any(|line| field(line, "status") == Some("5")), "{closed:#?}");
        // What the first image started, the last one has waited for.
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_hand_over_between_the_halves_of_anything_is_not_noticed() {
    world(|world| {
        let daemon = serve_copy();
        let halves = |first: &[u8], peer: &mut Peer, second: &[u8], upgraded: bool| {
            peer.send(first);
            thread::sleep(Duration::from_millis(20));
            if upgraded {
                upgrade(world, &daemon);
            } else {
                let relay = daemon.relay();
                daemon.signal(Signal::SIGHUP);
                daemon.next_relay(&relay);
            }
            peer.send(second);
        };
        for upgraded in [false, true] {
            let mut peer = Peer::connect();
            let hello = handshake("nobody", "alice", "vt100/38400");
            halves(&hello[..9], &mut peer, &hello[9..], upgraded);
            peer.expect("Password: ");
            let password = format!("{}\r", ALICE.password);
            halves(&password.as_bytes()[..5], &mut peer, &password.as_bytes()[5..], upgraded);
            peer.expect(PROMPT);
            peer.wait_urgent(0x80, 0);
            let size = window_message(41, 77);
            halves(&size[..6], &mut peer, &size[6..], upgraded);
            eventually("the size", PATIENCE, || (peer.run("stty size") == "41 77").then_some(()));
            assert_eq!(peer.stray_bytes(), Vec::<u8>::new());
            assert_eq!(peer.urgent_bytes(), [0x80], "asked for the size once");
        }
    });
}

#[test]
fn an_executable_that_cannot_take_over_changes_nothing() {
    world(|world| {
        let daemon = serve_copy();
        let mut peer = Peer::log_in(ALICE);
        let relay = daemon.relay();
        let other = fs::read("/bin/true").unwrap();
        let attempts: [(&[u8], u32, &str); 4] = [
            (b"#!/bin/sh\nexit 0\n", 0o755, "does not know of taking over"),
            (&other, 0o755, "does not know of taking over"),
            (b"no program at all", 0o755, "cannot be started"),
            (b"#!/bin/sh\n", 0o644, "cannot be started"),
        ];
        for (number, (content, mode, why)) in (1..).zip(attempts) {
            replace_copy(content, mode);
            daemon.signal(Signal::SIGUSR2);
            let lines = eventually("the reason", Duration::from_secs(15), || {
                Some(world.audit.of("warning")).filter(|lines| lines.len() >= number)
            });
            assert!(
                lines[number - 1].contains(why) && lines[number - 1].contains("no upgrade"),
                "{lines:#?}"
            );
            assert_eq!(peer.run("echo same"), "same");
        }
        assert_eq!(daemon.relay().pid, relay.pid);
        // A configuration that the next one would not take is no reason to stop, either.
        replace_copy(&fs::read(PROGRAM).unwrap(), 0o755);
        fs::write("/etc/rlogind.toml", "nonsense = 1\n").unwrap();
        daemon.signal(Signal::SIGUSR2);
        let told = eventually("the reason", PATIENCE, || world.audit.of("warning").get(4).cloned());
        assert!(told.contains("nonsense"), "{told}");
        fs::write("/etc/rlogind.toml", "").unwrap();
        upgrade(world, &daemon);
        assert_eq!(peer.run("echo same"), "same");
    });
}

/// A shell, or whoever was started by a daemon that had taken over, may have them.
#[test]
fn variables_that_no_image_has_left_are_ignored_with_a_warning() {
    const NAMES: [&str; 6] = [
        "RLOGIND_STATE",
        "RLOGIND_CONFIG",
        "RLOGIND_IMAGE",
        "RLOGIND_GUARD",
        "RLOGIND_UPGRADE_FAILED",
        "RLOGIND_TRIAL",
    ];
    world(|world| {
        make_copy();
        for value in ["x", "7"] {
            let lines = world.audit.of("warning").len();
            let mut program = Command::new(COPY);
            program.envs(NAMES.map(|name| (name, value)));
            let daemon = Daemon::start_with(program, "");
            let mut alice = Peer::log_in(ALICE);
            let warnings: Vec<String> = world.audit.of("warning").into_iter().skip(lines).collect();
            for name in NAMES {
                let told = format!("{name} in the environment is ignored: no rlogind has left it");
                assert!(warnings.iter().any(|line| line.contains(&told)), "{value:?}: {warnings:#?}");
            }
            // Those of a real upgrade count.
            upgrade(world, &daemon);
            assert_eq!(alice.run("echo here"), "here");
            drop(alice);
            nothing_is_left(&daemon);
        }
    });
}

#[test]
fn an_executable_that_others_can_change_is_not_executed() {
    world(|world| {
        let daemon = serve_copy();
        let mut peer = Peer::log_in(ALICE);
        let refused = |why: &str| {
            let before = world.audit.of("warning").len();
            daemon.signal(Signal::SIGUSR2);
            let line = eventually("the reason", PATIENCE, || world.audit.of("warning").get(before).cloned());
            let told =
                format!("no upgrade to {COPY}, nothing changed: others than root can change it: {why}");
            assert!(line.contains(&told), "{told:?} in {line}");
        };
        let mode = |path: &str, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let folder = |why: &str| format!("the folder {COPY_FOLDER} is {why}");
        chown(COPY, Some(ALICE.uid), None).unwrap();
        refused(&format!("owned by user {}, not by root", ALICE.uid));
        chown(COPY, Some(0), Some(50)).unwrap();
        mode(COPY, 0o775);
        refused("writable by group or others (mode 0775)");
        mode(COPY, 0o755);
        // The sticky bit is no help, and neither is a folder that is only its group's.
        mode(COPY_FOLDER, 0o1777);
        refused(&folder("writable by group or others (mode 1777)"));
        chown(COPY_FOLDER, None, Some(50)).unwrap();
        mode(COPY_FOLDER, 0o2775);
        refused(&folder("writable by group or others (mode 2775)"));
        mode(COPY_FOLDER, 0o755);
        // A link in alice's folder.
        fs::rename(COPY_FOLDER, "/mnt/moved").unwrap();
        symlink("/home/alice/copy", COPY_FOLDER).unwrap();
        symlink("/mnt/moved", "/home/alice/copy").unwrap();
        refused(&format!("the folder /home/alice is owned by user {}, not by root", ALICE.uid));
        fs::remove_file(COPY_FOLDER).unwrap();
        symlink("moved", COPY_FOLDER).unwrap();
        assert_eq!(peer.run("echo same"), "same");
        upgrade(world, &daemon);
        assert_eq!(peer.run("echo same"), "same");
    });
}

#[test]
fn a_drained_daemon_lets_nobody_in_and_ends_with_its_last_user() {
    world(|world| {
        let mut daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        daemon.signal(Signal::SIGUSR1);
        world.audit.wait("draining");
        eventually("nobody listens", PATIENCE, || (!crate::daemon::listens(513)).then_some(()));
        // Even a new relay opens no door.
        let relay = daemon.relay();
        kill_now(&relay);
        daemon.next_relay(&relay);
        assert_eq!(peer.run("echo still here"), "still here");
        assert!(!crate::daemon::listens(513));
        peer.send("exit\r");
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        assert!(daemon.wait(Duration::from_secs(10)).success());
        let stopped = world.audit.wait("stopped");
        assert_eq!(field(&stopped, "cause"), Some("drained"));
    });
}

#[test]
fn a_reload_opens_and_closes_doors_and_a_bad_one_changes_nothing() {
    world(|world| {
        let daemon = world.serve("listen = [\"127.0.0.1:513\"]\n");
        let mut peer = Peer::log_in(ALICE);
        let reload = |config: &str, event: &str| {
            let before = world.audit.of(event).len();
            fs::write("/etc/rlogind.toml", config).unwrap();
            daemon.signal(Signal::SIGHUP);
            eventually(event, PATIENCE, || world.audit.of(event).get(before).cloned())
        };
        reload("listen = [\"127.0.0.1:513\", \"127.0.0.1:1513\"]\n", "config-read");
        let mut second = Peer::connect_to([127, 0, 0, 1].into(), 1513);
        second.send(handshake("nobody", "alice", "vt100/38400"));
        second.give_password(ALICE);
        reload("listen = [\"127.0.0.1:1513\"]\n", "config-read");
        eventually("the old door is closed", PATIENCE, || (!crate::daemon::listens(513)).then_some(()));
        assert!(crate::daemon::listens(1513));
        // An address that is taken.
        let _taken = std::net::TcpListener::bind("127.0.0.1:2513").unwrap();
        let told = reload("listen = [\"127.0.0.1:513\", \"127.0.0.1:2513\"]\n", "config-refused");
        assert!(told.contains("127.0.0.1:2513"), "{told}");
        assert!(crate::daemon::listens(1513) && !crate::daemon::listens(513));
        assert_eq!(peer.run("echo first"), "first");
        assert_eq!(second.run("echo second"), "second");
    });
}

/// What one session's stream has come to.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) sent: u64,
    /// The number behind the last one that came back.
    next: u64,
    pub(crate) missing: u64,
    /// Pieces that are no whole record: what a crash has cut.
    pub(crate) broken: u64,
    parsed: usize,
}

impl Stream {
    const RECORD: usize = 17;

    fn record(number: u64) -> String {
        format!("{number:08x}{:08x}\n", check(number))
    }

    /// Reads the records among what came since the last call.
    fn parse(&mut self, data: &[u8]) {
        while let Some(length) = data[self.parsed..].iter().position(|&byte| byte == b'\n') {
            let line = &data[self.parsed..self.parsed + length];
            self.parsed += length + 1;
            let text = std::str::from_utf8(line).unwrap_or("");
            let number = text.get(..8).and_then(|digits| u64::from_str_radix(digits, 16).ok());
            match number.filter(|&number| Stream::record(number).trim_end() == text) {
                Some(number) => {
                    assert!(number >= self.next, "{number:x} came twice or out of its order");
                    self.missing += number - self.next;
                    self.next = number + 1;
                }
                None => self.broken += 1,
            }
        }
    }
}

/// Another number for each, so that a record cut in two and joined shows.
fn check(number: u64) -> u32 {
    u32::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap()
}

/// Streams records through a program that gives them back until told to stop, and some more: they come back only
/// if the session is alive.
fn stream_until(stop: &AtomicBool, running: &AtomicUsize, number: usize) -> Stream {
    let mut peer = Peer::connect_from([127, 0, 1, u8::try_from(number % 250 + 1).unwrap()].into());
    peer.send(handshake("alice", "alice", "vt100/38400"));
    peer.expect(PROMPT);
    peer.send("stty raw -echo; echo G\"\"O; exec cat\r");
    peer.expect("GO\n");
    running.fetch_add(1, Ordering::Relaxed);
    let mut stream = Stream { parsed: peer.data.len() - peer.rest().len(), ..Stream::default() };
    let mut last = 40;
    while last > 0 {
        if stop.load(Ordering::Relaxed) {
            last -= 1;
        }
        let batch: String = (0..32).map(|ahead| Stream::record(stream.sent + ahead)).collect();
        peer.send(batch);
        stream.sent += 32;
        peer.listen(Duration::from_millis(50));
        stream.parse(&peer.data);
    }
    let sent = stream.sent;
    let deadline = Instant::now() + Duration::from_secs(20);
    while stream.next < sent && Instant::now() < deadline {
        peer.listen(Duration::from_millis(50));
        stream.parse(&peer.data);
    }
    assert_eq!(stream.next, sent, "session {number} does not answer any more: {stream:?}, {:?}", peer.end);
    stream
}

/// Runs so many streams while `disturb` goes on; returns what they came to.
pub(crate) fn streams(count: usize, disturb: impl FnOnce()) -> Vec<Stream> {
    let (stop, running) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..count)
        .map(|number| {
            let (stop, running) = (Arc::clone(&stop), Arc::clone(&running));
            thread::spawn(move || stream_until(&stop, &running, number))
        })
        .collect();
    eventually("every stream runs", Duration::from_secs(60), || {
        (running.load(Ordering::Relaxed) == count).then_some(())
    });
    disturb();
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().map(|client| client.join().unwrap()).collect()
}

/// A number from the environment, for a longer run than that of the ordinary suite.
pub(crate) fn number(name: &str, ordinary: usize) -> usize {
    std::env::var(name).ok().map_or(ordinary, |text| text.parse().unwrap())
}

/// What a relay holds of one session at most: a queue each way, what one turn may add to it, and the
/// beginning of a window message.
pub(crate) const HELD: usize = 2 * (64 + 4) * 1024 + 11;

#[test]
fn crash_after_crash_loses_no_session_and_no_more_than_a_relay_holds() {
    world(|world| {
        let sessions = number("RLOGIND_CRASH_SESSIONS", 20);
        let crashes = number("RLOGIND_CRASHES", 8);
        let upgrades = number("RLOGIND_CRASH_UPGRADES", 3);
        make_copy();
        let daemon = Daemon::start_copy(COPY, TRUSTING);
        // What is planned loses nothing at all.
        let planned = streams(sessions, || {
            for round in 0..upgrades * 2 {
                if round % 2 == 0 {
                    upgrade(world, &daemon);
                } else {
                    let relay = daemon.relay();
                    daemon.signal(Signal::SIGHUP);
                    daemon.next_relay(&relay);
                }
            }
        });
        for stream in &planned {
            assert_eq!((stream.missing, stream.broken), (0, 0), "{stream:?}");
        }
        eventually("all sessions are closed", Duration::from_secs(30), || {
            (crate::terminal::terminals() == 0).then_some(())
        });
        let mut state: u64 = 50;
        let crashed = streams(sessions, || {
            for round in 0..crashes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                thread::sleep(Duration::from_millis(state >> 55));
                let relay = daemon.relay();
                kill_now(&relay);
                daemon.next_relay(&relay);
                if round * upgrades / crashes != (round + 1) * upgrades / crashes {
                    upgrade(world, &daemon);
                }
            }
        });
        let bound = crashes * HELD / Stream::RECORD;
        for stream in &crashed {
            assert!(stream.missing <= u64::try_from(bound).unwrap(), "{stream:?}");
            assert!(stream.broken <= 4 * u64::try_from(crashes).unwrap(), "{stream:?}");
        }
        let total = |of: fn(&Stream) -> u64| crashed.iter().map(of).sum::<u64>();
        eprintln!(
            "{sessions} sessions, {crashes} crashes: {} records sent, {} missing, {} broken",
            total(|stream| stream.sent),
            total(|stream| stream.missing),
            total(|stream| stream.broken)
        );
        nothing_is_left(&daemon);
    });
}
