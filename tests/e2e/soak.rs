//! Very many logins, in a row and at once: whatever they took is given back.
//!
//! In the ordinary suite there are few of them; `make soak` has as many as
//! `RLOGIND_SOAK_LOGINS` and `RLOGIND_SOAK_AT_ONCE` say.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::accounts::{ALICE, PROMPT};
use crate::daemon::Daemon;
use crate::ending::nothing_is_left;
use crate::footprint::Footprint;
use crate::peer::{Peer, handshake};
use crate::world::{World, eventually, world};

const CONFIG: &str = "[limits]\nsessions = 10000\nper_source = 10000\nlogin = \"10m\"\n\
    [[trust.rule]]\nfrom = [\"127.0.0.0/8\"]\nverdict = \"trust\"\n";
/// What monitor and relay may grow by, each, once they have grown to their size, in KiB.
/// An allocator gives back what it likes; a leak of 128 bytes per login would be 2,500 in `make soak`.
const GROWTH: u64 = 1024;
/// So many are not logged in yet at any time.
const LOGGING_IN: usize = 24;
/// How long everything may take to be given back.
const PATIENCE: Duration = Duration::from_secs(60);

fn number(variable: &str, otherwise: usize) -> usize {
    env::var(variable).map_or(otherwise, |text| text.parse().expect(variable))
}

/// A client with an address of its own: the reserved ports of one address are soon
/// all waiting for old segments.
fn trusted(number: usize) -> Peer {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 0));
    let source = Ipv4Addr::from_bits(first + u32::try_from(number).unwrap());
    let mut peer = Peer::connect_from(source.into());
    peer.send(handshake("alice", "alice", "vt100/38400"));
    peer
}

/// A client that has to give its password.
fn untrusted() -> Peer {
    let mut peer = Peer::connect_unreserved();
    peer.send(handshake("nobody", "alice", "vt100/38400"));
    peer
}

/// Comes and goes, in one of the ways there are.
fn visit(number: usize) {
    if number.is_multiple_of(4) {
        let mut peer = untrusted();
        if number.is_multiple_of(16) {
            peer.expect("Password: ");
            return;
        }
        peer.give_password(ALICE);
        return leave(peer, number / 4);
    }
    let mut peer = trusted(number);
    peer.expect(PROMPT);
    leave(peer, number);
}

fn leave(mut peer: Peer, number: usize) {
    match number % 3 {
        0 => drop(peer),
        1 => peer.reset(),
        _ => {
            peer.send("exit\r");
            peer.wait_end(PATIENCE);
        }
    }
}

/// Resident memory of monitor and relay, in KiB.
fn memory(daemon: &Daemon) -> [u64; 2] {
    [daemon.monitor(), daemon.relay()].map(|process| process.resident())
}

fn assert_no_growth(before: [u64; 2], now: [u64; 2]) {
    for (before, now) in before.into_iter().zip(now) {
        assert!(now <= before + GROWTH, "{now} KiB instead of {before}");
    }
}

/// Every session that was opened was closed; the last line may still be on its way.
fn assert_all_closed(world: &World) {
    eventually("as many sessions closed as opened", PATIENCE, || {
        let [opened, closed] = ["session-opened", "session-closed"].map(|event| world.audit.of(event).len());
        (opened == closed).then_some(())
    });
}

#[test]
fn logins_in_a_row_leave_nothing() {
    world(|world| {
        let logins = number("RLOGIND_SOAK_LOGINS", 300);
        let warm_up = (logins / 10).max(100);
        let daemon = world.serve(CONFIG);
        visit(2);
        nothing_is_left(&daemon);
        let before = Footprint::of(&daemon);
        (0..warm_up).for_each(visit);
        before.wait_back(&daemon, PATIENCE).unwrap();
        let (warm, start) = (memory(&daemon), Instant::now());
        (warm_up..logins).for_each(visit);
        let time = start.elapsed();
        before.wait_back(&daemon, PATIENCE).unwrap();
        let now = memory(&daemon);
        println!(
            "{logins} logins, {:?} each; {warm:?} KiB, then {now:?}",
            time.div_f64((logins - warm_up) as f64)
        );
        assert_no_growth(warm, now);
        assert_all_closed(world);
    });
}

#[test]
fn sessions_at_once_leave_nothing() {
    world(|world| {
        // A descriptor for each, here as well.
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        let wanted = number("RLOGIND_SOAK_AT_ONCE", 100);
        let sessions = wanted.min(free_terminals());
        let daemon = world.serve(CONFIG);
        visit(2);
        nothing_is_left(&daemon);
        let before = Footprint::of(&daemon);
        let cold = memory(&daemon);
        all_at_once(sessions);
        before.wait_back(&daemon, PATIENCE).unwrap();
        // What so many need once is kept, but no more than that.
        let warm = memory(&daemon);
        all_at_once(sessions);
        before.wait_back(&daemon, PATIENCE).unwrap();
        let now = memory(&daemon);
        println!(
            "{sessions} of {wanted} at once; {cold:?} KiB before, {warm:?} behind the first, {now:?} behind the second"
        );
        assert_no_growth(warm, now);
        assert_all_closed(world);
    });
}

/// How many terminals the system still has for us, with some left to others.
fn free_terminals() -> usize {
    let [max, reserve, used] = ["max", "reserve", "nr"].map(|name| {
        let text = fs::read_to_string(format!("/proc/sys/kernel/pty/{name}")).unwrap();
        text.trim().parse::<usize>().unwrap()
    });
    max.saturating_sub(reserve + used + 100)
}

fn all_at_once(sessions: usize) {
    let mut peers: Vec<Peer> = Vec::new();
    for number in 0..sessions {
        peers.push(trusted(number));
        if let Some(ready) = (number + 1).checked_sub(LOGGING_IN) {
            peers[ready].expect(PROMPT);
        }
    }
    for peer in peers.iter_mut().rev().take(LOGGING_IN - 1) {
        peer.expect(PROMPT);
    }
    for (number, peer) in peers.iter_mut().enumerate() {
        assert_eq!(peer.run(&format!("echo {number}")), number.to_string());
    }
    for (number, peer) in peers.into_iter().enumerate() {
        leave(peer, number);
    }
}
