//! A process of the daemon's that stands still: stopped by a signal here, but by whatever.
//!
//! `RLOGIND_STOP_SESSIONS` and `RLOGIND_STOP_SECONDS` say how many sessions stream and for how long a process is stopped in
//! the campaigns, for more than the ordinary suite has: 200 and 5 or 60. `RLOGIND_E2E_LONGEST` gives them the time for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{KEY, logs_in, send_signal, types};
use crate::accounts::{BOB, PROMPT};
use crate::daemon::Daemon;
use crate::ending::nothing_is_left;
use crate::hand_over::{HELD, Stream, TRUSTING, number, streams};
use crate::peer::{Peer, handshake};
use crate::processes::Process;
use crate::world::{World, eventually, world};

/// How soon another relay serves when one stands still.
const REPLACED: Duration = Duration::from_secs(20);

/// A session without a password, with an address of its own.
fn idle_session(number: u8) -> Peer {
    let mut peer = Peer::connect_from([127, 0, 1, number].into());
    peer.send(handshake("alice", "alice", "vt100/38400"));
    peer.expect(PROMPT);
    peer
}

/// Ends the stop when the test ends before it: nothing else would.
pub(super) struct Stopped(Process);

impl Stopped {
    pub(super) fn stop(process: Process) -> Stopped {
        send_signal(&process, Signal::SIGSTOP);
        eventually("it has stopped", KEY, || {
            Process::of(process.pid).is_some_and(|now| now.state == 'T').then_some(())
        });
        Stopped(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let id = nix::unistd::Pid::from_raw(i32::try_from(self.0.pid).unwrap());
        // It may have been replaced.
        let _ = nix::sys::signal::kill(id, Signal::SIGCONT);
    }
}

/// The relay stands still for good: another one serves soon after bob's next key, and nobody has lost a session.
fn stopped_relay_is_replaced(world: &World, idle: u8) {
    let daemon = world.serve(TRUSTING);
    let mut sessions: Vec<Peer> = (1..=idle).map(idle_session).collect();
    let mut bob = Peer::log_in(BOB);
    let (relay, said) = (daemon.relay(), world.audit.len());
    let stopped = Stopped::stop(relay.clone());
    bob.send("echo al''ive\r");
    bob.expect_bytes(b"alive\r\n", REPLACED);
    bob.expect(PROMPT);
    eventually("the relay that stands still is ended", REPLACED, || {
        Process::of(relay.pid).is_none_or(|old| old.state == 'Z').then_some(())
    });
    assert_ne!(daemon.relay().pid, relay.pid);
    let lines = world.audit.since(said);
    assert!(lines.iter().any(|line| line.contains("relay")), "the log says it: {lines:#?}");
    for peer in &mut sessions {
        assert_eq!(peer.run("echo here"), "here");
    }
    logs_in();
    drop((stopped, sessions, bob));
    nothing_is_left(&daemon);
}

#[test]
fn relay_that_stands_still_is_replaced_when_a_key_comes() {
    world(|world| stopped_relay_is_replaced(world, 0));
}

#[test]
fn relay_that_stands_still_is_replaced_with_all_its_sessions() {
    world(|world| stopped_relay_is_replaced(world, 60));
}

#[test]
fn relay_that_stands_still_for_a_moment_goes_on() {
    world(|world| {
        let daemon = world.serve(TRUSTING);
        let relay = daemon.relay();
        let figures = streams(5, || stop_for(relay.clone(), Duration::from_secs(5)));
        assert_eq!(daemon.relay().pid, relay.pid, "the same relay");
        for stream in figures {
            assert_eq!((stream.missing, stream.broken), (0, 0), "{stream:?}");
        }
        nothing_is_left(&daemon);
    });
}

#[test]
fn idle_sessions_wake_nobody() {
    world(|world| {
        let daemon = world.serve(TRUSTING);
        let sessions: Vec<Peer> = (1..=20).map(idle_session).collect();
        let processes = [daemon.monitor(), daemon.relay()];
        let wake_ups = || processes.each_ref().map(Process::wake_ups);
        // What a login leaves to be done is done.
        eventually("it is quiet", Duration::from_secs(60), || {
            let before = wake_ups();
            thread::sleep(Duration::from_secs(3));
            (wake_ups() == before).then_some(())
        });
        let before = wake_ups();
        thread::sleep(Duration::from_secs(30));
        assert_eq!(wake_ups(), before, "monitor, relay");
        drop(sessions);
    });
}

fn stop_for(process: Process, time: Duration) {
    let stopped = Stopped::stop(process);
    thread::sleep(time);
    drop(stopped);
}

/// Somebody who types a key after another, and how long he waited for one at most.
struct Typist {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(u64, Duration)>,
}

impl Typist {
    fn begin(mut peer: Peer) -> Typist {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let (mut keys, mut longest) = (0, Duration::ZERO);
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    peer.send("k");
                    peer.expect_bytes(b"k", Duration::from_secs(100));
                    longest = longest.max(begun.elapsed());
                    keys += 1;
                    thread::sleep(Duration::from_millis(20));
                }
                (keys, longest)
            }
        });
        Typist { stop, thread }
    }

    fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("every key comes back")
    }
}

/// Stops a process under streams of bytes, prints what that cost, and checks that no session is lost: each stream
/// fails that does not come to its end. Bytes are lost only if the relay had to be replaced, and no more than it holds.
fn campaign(world: &World, name: &str, seconds: u64, process: impl Fn(&Daemon) -> Process) {
    let sessions = number("RLOGIND_STOP_SESSIONS", 20);
    let daemon = world.serve(TRUSTING);
    let relay = daemon.relay();
    let typist = Typist::begin(Peer::log_in(BOB));
    let figures = streams(sessions, || stop_for(process(&daemon), Duration::from_secs(seconds)));
    let (keys, longest) = typist.end();
    let replaced = daemon.relay().pid != relay.pid;
    let total = |of: fn(&Stream) -> u64| figures.iter().map(of).sum::<u64>();
    let (missing, broken) = (total(|stream| stream.missing), total(|stream| stream.broken));
    println!(
        "{name} stopped for {seconds} s under {sessions} streaming sessions: 0 sessions lost, {} records sent, \
         {missing} missing ({} bytes), {broken} broken; {keys} keys, one waited {longest:?}; relay replaced: {replaced}",
        total(|stream| stream.sent),
        missing * RECORD,
    );
    assert!(replaced || (missing, broken) == (0, 0), "lost without a reason");
    let bound = u64::try_from(sessions * HELD).unwrap() / RECORD;
    assert!(missing <= bound, "{missing} of {bound}");
    types(&mut Peer::log_in(BOB));
    nothing_is_left(&daemon);
}

/// The length of what a stream sends, in bytes.
const RECORD: u64 = 17;

fn seconds() -> u64 {
    u64::try_from(number("RLOGIND_STOP_SECONDS", 5)).unwrap()
}

#[test]
fn streams_survive_a_relay_that_is_stopped() {
    world(|world| campaign(world, "relay", seconds(), Daemon::relay));
}

#[test]
fn streams_survive_a_monitor_that_is_stopped() {
    world(|world| campaign(world, "monitor", seconds(), Daemon::monitor));
}

#[test]
#[ignore = "takes more than a minute"]
fn streams_survive_a_monitor_that_is_stopped_for_a_minute() {
    world(|world| campaign(world, "monitor", 60, Daemon::monitor));
}

#[test]
#[ignore = "takes more than a minute"]
fn streams_survive_a_relay_that_is_stopped_for_a_minute() {
    world(|world| campaign(world, "relay", 60, Daemon::relay));
}
