//! Random messages with random descriptors, from seeds.
//!
//! Among the descriptors are clients, but none that a rule trusts: nobody may get a shell.

use std::env;
use std::fs::File;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rlogind::audit::event::Via;
use rlogind::ipc::{CloseCause, ConnectionId, FromRelay, HandshakeFields, ToRelay};

use crate::accounts::ALICE;
use crate::hostile::{Hostile, Stage, fields};
use crate::peer::Peer;
use crate::processes::Process;
use crate::random::Random;
use crate::terminal::PATIENCE;
use crate::world::world;

/// How long it lasts when nobody says otherwise, in seconds.
const SECONDS: u64 = 8;
/// The first seed.
const SEED: u64 = 513;
/// The session that lives; a relay that closes it is believed.
const LIVING: ConnectionId = ConnectionId(1);

/// What is sent with messages.
struct Descriptors {
    all: Vec<OwnedFd>,
    /// The other ends, to be kept open.
    clients: Vec<Peer>,
}

impl Descriptors {
    fn new(listener: &OwnedFd) -> Descriptors {
        let listener = TcpListener::from(listener.try_clone().unwrap());
        let clients: Vec<Peer> = (0..3).map(|_| Peer::connect_unreserved()).collect();
        let mut all: Vec<OwnedFd> = Vec::new();
        while all.len() < clients.len() {
            if let Ok((stream, _)) = listener.accept() {
                all.push(stream.into());
            }
        }
        let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
        all.push(TcpStream::connect(foreign.local_addr().unwrap()).unwrap().into());
        all.push(foreign.into());
        all.push(listener.into());
        all.push(UdpSocket::bind("127.0.0.1:0").unwrap().into());
        all.push(File::open("/etc/passwd").unwrap().into());
        let (reader, writer) = std::io::pipe().unwrap();
        all.extend([OwnedFd::from(reader), OwnedFd::from(writer)]);
        Descriptors { all, clients }
    }

    fn choose(&self, random: &mut Random) -> Vec<BorrowedFd<'_>> {
        let count = match random.between(0, 9) {
            0..=3 => 0,
            4..=7 => 1,
            8 => random.between(2, 8),
            _ => random.between(60, 253),
        };
        // Clients seldom, for each costs the monitor a process.
        let first = if random.one_in(20) { 0 } else { self.clients.len() };
        (0..count).map(|_| self.all[random.between(first, self.all.len() - 1)].as_fd()).collect()
    }
}

fn text(random: &mut Random) -> Vec<u8> {
    const WORDS: [&[u8]; 6] = [b"alice", b"root", b"-froot", b"vt100/38400", b"\0", b"\n"];
    match random.between(0, 7) {
        number @ 0..=5 => WORDS[number].to_vec(),
        _ => (0..random.between(0, 300)).map(|_| random.byte()).collect(),
    }
}

fn handshake(random: &mut Random) -> HandshakeFields {
    fields(&text(random), &text(random), &text(random))
}

fn id(random: &mut Random, first: u64) -> u64 {
    match random.between(0, 9) {
        0 => LIVING.0,
        1 => random.next(),
        2 => [0, first.wrapping_sub(1), first + (1 << 36), u64::MAX][random.between(0, 3)],
        _ => first + random.next() % 8,
    }
}

/// A message; one that is harmless ends no relay.
fn message(random: &mut Random, first: u64, harmless: bool) -> FromRelay {
    let peer = ([192, 0, 2, random.byte()], 1023).into();
    let cause = [CloseCause::Ended, CloseCause::Idle, CloseCause::Silent][random.between(0, 2)];
    let number = random.next();
    let own = first + 10 + number % (1 << 30);
    match random.between(0, if harmless { 3 } else { 7 }) {
        0 => FromRelay::Connection { peer, via: Via::Tcpmux },
        1 => FromRelay::Refused { peer, reason: String::from_utf8_lossy(&text(random)).into_owned() },
        2 => {
            let id = ConnectionId(if harmless { own } else { id(random, first).max(2) });
            FromRelay::Closed { id, cause, bytes_in: number, bytes_out: !number }
        }
        3 | 4 => {
            let id = ConnectionId(if harmless { own } else { id(random, first) });
            FromRelay::Open { id, peer, fields: handshake(random) }
        }
        5 => FromRelay::Carry(ConnectionId(id(random, first))),
        6 => FromRelay::HandedBack,
        _ => FromRelay::Ready,
    }
}

/// A message's bytes, perhaps changed.
fn bytes(random: &mut Random, first: u64, harmless: bool) -> Vec<u8> {
    let mut bytes = postcard::to_stdvec(&message(random, first, harmless)).unwrap();
    if !harmless && random.one_in(8) {
        for _ in 0..random.between(1, 3) {
            let at = random.between(0, bytes.len() - 1);
            match random.between(0, 2) {
                0 => bytes[at] = random.byte(),
                1 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random.byte()),
            }
        }
        if let Ok(FromRelay::Closed { id: LIVING, .. }) = postcard::from_bytes(&bytes) {
            bytes.push(0);
        }
    }
    bytes
}

/// The life of one relay; returns the one that serves next.
fn live(stage: &Stage, relay: Hostile, given: &Descriptors, seed: u64) -> Hostile {
    let mut random = Random::new(seed);
    let grown = Instant::now() + Duration::from_millis(1050);
    let reads = !random.one_in(8);
    let mut dangerous = random.between(1, 60);
    let mut next = None;
    while dangerous > 0 && !relay.has_ended() {
        let harmless = Instant::now() < grown;
        if !harmless {
            dangerous -= 1;
        }
        let bytes = bytes(&mut random, relay.first_id, harmless);
        relay.send(&bytes, &given.choose(&mut random));
        if !harmless && next.is_none() && random.one_in(20) {
            stage.daemon.signal(Signal::SIGHUP);
            next = ready(stage);
        }
        while reads && !relay.has_ended() && relay.hear(Duration::ZERO).is_some() {}
    }
    relay.kill();
    drop(relay);
    loop {
        // That one may have been ended meanwhile.
        if let Some(next) = next.take().or_else(|| ready(stage))
            && serves(&next)
        {
            return next;
        }
    }
}

/// The relay that is started next, when it has said that it is ready. One that waited here for
/// too long has been ended.
fn ready(stage: &Stage) -> Option<Hostile> {
    let mut next = stage.accept();
    (next.is_set_up() && next.tell(&FromRelay::Ready, &[])).then_some(next)
}

fn serves(relay: &Hostile) -> bool {
    while let Some((message, _)) = relay.hear(PATIENCE) {
        if matches!(message, ToRelay::Listen(_)) {
            return true;
        }
    }
    false
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

pub(crate) fn random_messages_lead_nowhere() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let listener = relay.serve().pop().unwrap().1.remove(0);
        let given = Descriptors::new(&listener);
        drop(listener);
        let before = stage.descriptors();
        let until =
            Instant::now() + Duration::from_secs(number("RLOGIND_HOSTILE_SECONDS").unwrap_or(SECONDS));
        for seed in number("RLOGIND_HOSTILE_SEED").unwrap_or(SEED).. {
            if Instant::now() > until {
                break;
            }
            eprintln!("RLOGIND_HOSTILE_SEED={seed}");
            relay = live(&stage, relay, &given, seed);
            assert!(Process::of(stage.daemon.pid()).is_some_and(|monitor| monitor.state != 'Z'));
            assert_eq!(stage.opened(), 1, "somebody got a shell");
        }
        drop(given);
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
        stage.keeps(before);
    });
}
