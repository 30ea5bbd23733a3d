//! All the ways a session can end, and what must be true after each.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::accounts::{ALICE, ROOT};
use crate::audit::field;
use crate::daemon::Daemon;
use crate::hand_over::{serve_copy_with, upgrade};
use crate::peer::{End, Peer};
use crate::processes;
use crate::terminal::{PATIENCE, terminals};
use crate::world::{World, eventually, world};

/// A command that writes a file when it is hung up, and says `ready` first.
pub(crate) const TELLS_OF_HANGUP: &str =
    "sh -c 'trap \"echo hung up >/tmp/hangup; exit 3\" HUP; echo r\"\"eady; while :; do sleep 0.1; done'";

/// Waits until that command was hung up.
pub(crate) fn wait_hung_up() {
    eventually("the command is hung up", PATIENCE, || {
        fs::read_to_string("/tmp/hangup").is_ok_and(|text| text == "hung up\n").then_some(())
    });
}

/// Checks that only monitor and relay are left, and no terminal.
pub(crate) fn nothing_is_left(daemon: &Daemon) {
    let relay = daemon.relay().pid;
    eventually("no process and no terminal of a session is left", PATIENCE, || {
        let left = processes::descendants(daemon.pid());
        let clean = left.iter().all(|process| process.pid == relay) && terminals() == 0;
        clean.then_some(())
    });
}

#[test]
fn a_client_that_closes_hangs_up_the_shell() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send(format!("{TELLS_OF_HANGUP}\r"));
        peer.expect("ready\r\n");
        drop(peer);
        let line = world.audit.wait("session-closed");
        assert_eq!(field(&line, "user"), Some("alice"), "{line}");
        assert_eq!(field(&line, "by"), Some("client"), "{line}");
        wait_hung_up();
        nothing_is_left(&daemon);
        world.audit.wait_count("session-closed", 1);
    });
}

#[test]
fn a_client_that_resets_hangs_up_the_shell() {
    world(|world| {
        let daemon = world.serve("");
        Peer::log_in(ALICE).reset();
        world.audit.wait_count("session-closed", 1);
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_client_that_goes_during_a_flood_leaves_nothing() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("yes\r");
        thread::sleep(Duration::from_millis(300));
        drop(peer);
        world.audit.wait_count("session-closed", 1);
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_client_that_goes_at_the_password_prompt_leaves_nothing() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        drop(peer);
        nothing_is_left(&daemon);
        assert_eq!(world.audit.of("session-closed"), Vec::<String>::new());
        world.audit.wait("login-abandoned");
    });
}

#[test]
fn an_exit_closes_the_connection_in_order_and_at_once() {
    world(|world| {
        let daemon = world.serve("");
        for status in ["0", "7", "255"] {
            let mut peer = Peer::log_in(ALICE);
            let start = Instant::now();
            peer.send(format!("exit {status}\r"));
            assert_eq!(peer.wait_end(PATIENCE), End::Closed);
            assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        }
        let lines = world.audit.wait_count("session-closed", 3);
        let told: Vec<_> = lines.iter().map(|line| field(line, "status")).collect();
        assert_eq!(told, [Some("0"), Some("7"), Some("255")]);
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_session_never_lingers_however_its_last_output_and_its_end_fall_together() {
    world(|world| {
        let _daemon = world.serve("[login]\nattempts = 1\n");
        let ends_at_once = |mut peer: Peer, last: &str| {
            let start = Instant::now();
            peer.send(last);
            peer.wait_end(PATIENCE);
            assert!(start.elapsed() < Duration::from_secs(3), "{:?} after {last:?}", start.elapsed());
        };
        for length in 1..=40 {
            ends_at_once(Peer::log_in(ALICE), &format!("exec seq {}\r", length * length));
            let mut wrong = Peer::hello("nobody", "alice");
            wrong.expect("Password: ");
            ends_at_once(wrong, "wrong-Secret-9\r");
        }
    });
}

#[test]
fn a_shell_that_is_killed_is_told_by_its_signal() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("kill -KILL $$\r");
        peer.wait_end(PATIENCE);
        let line = world.audit.wait("session-closed");
        assert_eq!((field(&line, "signal"), field(&line, "by")), (Some("9"), None), "{line}");
        nothing_is_left(&daemon);
    });
}

#[test]
fn the_log_has_the_duration_and_the_bytes() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let sent = "seq 1 1000; sleep 1; exit\r";
        peer.send(sent);
        peer.wait_end(PATIENCE);
        let line = world.audit.wait("session-closed");
        let number = |key| -> usize { field(&line, key).and_then(|value| value.parse().ok()).expect(&line) };
        // The password and its return key were sent before.
        assert_eq!(number("bytes_in"), sent.len() + ALICE.password.len() + 1, "{line}");
        // All but the zero byte came from the terminal.
        assert_eq!(number("bytes_out"), peer.data.len() - 1, "{line}");
        let duration = field(&line, "duration").unwrap();
        let seconds: f64 = duration.trim_end_matches('s').parse().expect(duration);
        assert!((1.0..5.0).contains(&seconds), "{line}");
    });
}

#[test]
fn the_last_output_arrives_although_the_client_reads_late() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("exec seq 1 20000\r");
        thread::sleep(Duration::from_secs(1));
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        let text = String::from_utf8_lossy(&peer.data).into_owned();
        let numbers = text.lines().filter_map(|line| line.parse::<u32>().ok());
        assert!(numbers.eq(1..=20000), "the last output is missing: {:?}", text.lines().last());
    });
}

#[test]
fn a_background_job_does_not_hold_the_connection() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("(trap '' HUP; exec sleep 60) & exit 4\r");
        let start = Instant::now();
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        let line = world.audit.wait("session-closed");
        assert_eq!(field(&line, "status"), Some("4"), "{line}");
        eventually("no session process is left", PATIENCE, || {
            (processes::descendants(daemon.pid()).len() == 1).then_some(())
        });
    });
}

#[test]
fn a_session_process_that_is_killed_ends_its_session_only() {
    world(|world| {
        let daemon = world.serve("");
        let mut other = Peer::log_in(ALICE);
        let mut peer = Peer::log_in(ALICE);
        let shell: u32 = peer.run("echo $$").parse().unwrap();
        let session = processes::Process::of(shell).unwrap().parent;
        assert_ne!(session, daemon.pid(), "the shell's parent is the session process");
        let session = nix::unistd::Pid::from_raw(i32::try_from(session).unwrap());
        nix::sys::signal::kill(session, Signal::SIGKILL).unwrap();
        peer.wait_end(PATIENCE);
        world.audit.wait_count("session-closed", 1);
        eventually("its shell is gone", PATIENCE, || processes::Process::of(shell).is_none().then_some(()));
        assert_eq!(other.run("echo still here"), "still here");
    });
}

#[test]
fn sigterm_ends_everything_and_writes_it_down() {
    world(|world| {
        let mut daemon = world.serve("[login]\nroot = \"password\"\n");
        let mut peers: Vec<Peer> = [ALICE, ALICE, ROOT].map(Peer::log_in).into();
        // One that holds on: a stubborn job in the foreground.
        peers[0].send("trap '' HUP TERM; echo h\"\"eld; while :; do sleep 1; done\r");
        peers[0].expect("held\r\n");
        let mut waiting = Peer::hello("nobody", "alice");
        waiting.expect("Password: ");
        let pid = daemon.pid();
        let family = processes::descendants(pid);
        daemon.signal(Signal::SIGTERM);
        let status = daemon.wait(Duration::from_secs(10));
        assert!(status.success(), "{status}");
        for mut peer in peers {
            peer.wait_end(PATIENCE);
        }
        waiting.wait_end(PATIENCE);
        let closed = world.audit.wait_count("session-closed", 3);
        assert!(closed.iter().all(|line| field(line, "by") == Some("stop")), "{closed:#?}");
        let abandoned = world.audit.wait("login-abandoned");
        assert_eq!(field(&abandoned, "reason"), Some("rlogind stops"), "{abandoned}");
        world.audit.wait_count("stopped", 1);
        let ours = |process: &&processes::Process| process.name.starts_with("rlogind");
        let left: Vec<_> =
            family.iter().filter(ours).filter_map(|process| processes::Process::of(process.pid)).collect();
        assert!(left.iter().all(|process| process.state == 'Z'), "{left:?}");
        assert!(!Path::new("/run/rlogind/control").exists(), "the control socket is left");
    });
}

#[test]
fn an_idle_session_ends_only_when_the_configuration_says_so() {
    world(|world| {
        let _daemon = world.serve("[limits]\nidle = \"2s\"\n");
        let mut peer = Peer::log_in(ALICE);
        for _ in 0..6 {
            thread::sleep(Duration::from_millis(500));
            peer.run("true");
        }
        let start = Instant::now();
        peer.wait_end(PATIENCE);
        assert!((1500..6000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        let line = world.audit.wait("session-closed");
        assert_eq!(field(&line, "by"), Some("idle"), "{line}");
    });
}

#[test]
fn the_last_output_waits_for_a_user_who_has_stopped_the_screen() {
    world(|world| {
        let daemon = world.serve("");
        for (bytes, patience) in [(50_000, 4), (40_000, 13)] {
            let mut peer = Peer::log_in(ALICE);
            // Little room: most of it is still the server's to send.
            if patience > 10 {
                peer.take_little();
            }
            peer.send(format!("head -c {bytes} /dev/zero | tr '\\0' x; echo LA\"\"ST; exit\r"));
            world.audit.wait_count("session-closed", if patience > 10 { 2 } else { 1 });
            // No session process and no terminal wait for it.
            nothing_is_left(&daemon);
            thread::sleep(Duration::from_secs(patience - 1));
            // A key, which a closed socket would answer with a reset.
            peer.try_send(b"q").unwrap();
            thread::sleep(Duration::from_secs(1));
            assert_eq!(peer.wait_end(PATIENCE), End::Closed);
            let text = String::from_utf8_lossy(&peer.data);
            assert!(text.ends_with("LAST\r\n"), "{}", &text[text.len().saturating_sub(200)..]);
            assert!(text.contains(&"x".repeat(bytes)), "{bytes}");
        }
    });
}

/// A user who has stopped the screen, and whose shell has ended meanwhile with this much output.
fn stop_screen(world: &World, bytes: usize) -> Peer {
    let mut peer = Peer::log_in(ALICE);
    peer.take_little();
    let before = world.audit.of("session-closed").len();
    peer.send(format!("head -c {bytes} /dev/zero | tr '\\0' x; echo LA\"\"ST; exit\r"));
    world.audit.wait_count("session-closed", before + 1);
    peer
}

#[test]
fn last_output_outlives_newcomers_reload_upgrade_and_drain() {
    const BYTES: usize = 40_000;
    world(|world| {
        let mut daemon = serve_copy_with("[limits]\nstartups = \"2:1:3\"\nper_source = 20\n");
        for what in ["reload", "upgrade", "drain"] {
            let mut peer = stop_screen(world, BYTES);
            let relay = daemon.relay();
            match what {
                "reload" => {
                    daemon.signal(Signal::SIGHUP);
                    daemon.next_relay(&relay);
                }
                "upgrade" => upgrade(world, &daemon),
                _ => {
                    daemon.signal(Signal::SIGUSR1);
                    world.audit.wait("draining");
                }
            }
            // More than there may be of those that are not logged in.
            let newcomers: Vec<_> = (0..5).map(|_| TcpStream::connect("127.0.0.1:513")).collect();
            thread::sleep(Duration::from_secs(4));
            drop(newcomers);
            assert_eq!(peer.wait_end(PATIENCE), End::Closed, "{what}");
            let text = String::from_utf8_lossy(&peer.data);
            assert!(
                text.contains(&"x".repeat(BYTES)) && text.ends_with("LAST\r\n"),
                "{what}: {}",
                text.len()
            );
            let line = world.audit.of("session-closed").pop().unwrap();
            // The zero byte is no output.
            assert_eq!(field(&line, "bytes_out"), Some((peer.data.len() - 1).to_string().as_str()), "{what}");
            drop(peer);
        }
        daemon.wait(PATIENCE);
    });
}

#[test]
fn last_output_of_a_user_who_is_away_ends_after_the_idle_time() {
    world(|world| {
        let daemon = world.serve("[limits]\nidle = \"3s\"\nper_source = 1\n");
        let before = daemon.relay().descriptors();
        let peer = stop_screen(world, 40_000);
        assert!(daemon.relay().descriptors() > before, "it is given up at once");
        eventually("its place is free", PATIENCE, || (daemon.relay().descriptors() <= before).then_some(()));
        drop(peer);
        Peer::log_in(ALICE);
    });
}

#[test]
fn last_output_that_nobody_takes_gives_its_place_to_newcomers() {
    world(|world| {
        for limits in ["sessions = 3", "per_source = 3"] {
            let daemon = world.serve(&format!("[limits]\n{limits}\n"));
            let first = world.audit.len();
            let waiting: Vec<Peer> = (0..3).map(|_| stop_screen(world, 40_000)).collect();
            let mut peers: Vec<Peer> = (0..3).map(|_| Peer::log_in(ALICE)).collect();
            assert!(peers.iter_mut().all(|peer| peer.run("echo here") == "here"), "{limits}");
            let given = world.audit.since(first);
            let given = given.iter().filter(|line| line.contains("another one needs its place"));
            assert_eq!(given.count(), 3, "{limits}");
            drop((waiting, peers));
            nothing_is_left(&daemon);
            drop(daemon);
        }
    });
}
