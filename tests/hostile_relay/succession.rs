//! One relay after another, where one of them is hostile.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;
use rlogind::ipc::{ConnectionId, FromRelay, ToRelay};
use rlogind::relay::state::{ConnectionState, EntryState, PhaseState, RelayState};
use rlogind::sys::pty;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::hostile::{Heard, Hostile, Stage};
use crate::peer::Peer;
use crate::processes::descendants;
use crate::random::Random;
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

/// Has the hostile relay asked to hand back, and returns the memory file; another hostile
/// relay is ready meanwhile, unless the next one is real.
fn asked_back(stage: &Stage, relay: &Hostile, next: Option<()>) -> (File, Option<Hostile>) {
    stage.daemon.signal(Signal::SIGHUP);
    let next = next.map(|()| {
        let mut next = stage.accept();
        next.set_up();
        next.tell(&FromRelay::Ready, &[]);
        next
    });
    let heard = relay.hear_until("request to hand back", |message| matches!(message, ToRelay::HandBack));
    (file_of(heard), next)
}

fn file_of(heard: Heard) -> File {
    heard.into_iter().last().unwrap().1.pop().unwrap().into()
}

fn resumed(heard: &Heard) -> Vec<(ConnectionId, usize)> {
    let resumed = heard.iter().filter_map(|(message, descriptors)| match message {
        ToRelay::Resume(resumed) => Some((resumed.id, descriptors.len())),
        _ => None,
    });
    resumed.collect()
}

pub(crate) fn a_relay_that_does_not_hand_back_is_ended() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let relay = stage.replace();
        let before = stage.descriptors();
        relay.grow_old();
        let (file, next) = asked_back(&stage, &relay, Some(()));
        let asked = Instant::now();
        // What it says meanwhile gains it no time.
        for _ in 0..20 {
            relay.tell(&FromRelay::Carry(ConnectionId(1 << 20)), &[file.as_fd()]);
            thread::sleep(Duration::from_millis(20));
        }
        relay.wait_end(PATIENCE);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        let next = next.unwrap();
        let heard = next.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)));
        // Nothing of what the other one left, but the session.
        assert_eq!(resumed(&heard), [(ConnectionId(1), 2)]);
        assert!(!heard.iter().any(|(message, _)| matches!(message, ToRelay::Inherit)), "{heard:?}");
        assert_eq!(stage.reasons(), ["it does not hand back what it knows"]);
        drop((relay, file, heard));
        stage.keeps(before);
        stage.recover(next);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn an_upgrade_waits_for_no_relay() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let mut relay = stage.replace();
        let processes = || descendants(stage.daemon.pid()).len();
        let alone = processes();
        // What the first image had beyond its own is closed.
        let mut before = None;
        // One that does nothing, one that ends, and one that says what it may not.
        let ways: [fn(&Hostile); 3] = [
            |_| {},
            |relay| relay.exit(0),
            |relay| {
                relay.send(b"\xff", &[]);
            },
        ];
        for (number, way) in (1..).zip(ways) {
            relay.grow_old();
            stage.daemon.signal(Signal::SIGUSR2);
            stage.pass_trial();
            relay.hear_until("request to hand back", |message| matches!(message, ToRelay::HandBack));
            way(&relay);
            relay.wait_end(PATIENCE);
            drop(relay);
            relay = stage.next();
            let upgraded = world.audit.wait_count("upgraded", number);
            assert_eq!(field(&upgraded[number - 1], "sessions"), Some("1"));
            eventually("the copy that could take it back is gone", PATIENCE, || {
                (processes() == alone).then_some(())
            });
            let now = stage.descriptors();
            stage.keeps(*before.get_or_insert(now));
        }
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

/// A state in which that session, whatever it was, closes, or has not begun.
fn state_of(id: u64, phase: PhaseState) -> EntryState {
    EntryState {
        id: ConnectionId(id),
        peer: ([192, 0, 2, 1], 1023).into(),
        counted: true,
        open: true,
        connection: ConnectionState {
            phase,
            outgoing: vec![0; 100],
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            hung_up: false,
            sent_urgent: true,
            logged_in: true,
        },
    }
}

pub(crate) fn what_it_hands_back_is_not_believed() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let heard = relay.serve();
        // What the real relay has written of the session, to be changed.
        let inherited = heard.into_iter().find(|(message, _)| matches!(message, ToRelay::Inherit));
        let file = File::from(inherited.unwrap().1.pop().unwrap());
        let mut own = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut own, 0).unwrap();
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        drop(peer);
        let mut random = Random::new(513);
        let mut states: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"rubbish".to_vec(),
            vec![0xff; 100_000],
            own[..own.len() / 2].to_vec(),
            [own.as_slice(), &[0; 7]].concat(),
        ];
        let far = Duration::MAX;
        let closing = |left| PhaseState::Closing { told: true, heard: true, budget: u32::MAX, left };
        let opening = PhaseState::Opening { early: vec![b'x'; 100_000], left: far };
        let entries = vec![
            state_of(1, opening.clone()),
            state_of(1, closing(Some(far))),
            state_of(1, closing(None)),
            state_of(u64::MAX, opening),
        ];
        states.push(RelayState { entries }.to_bytes().unwrap());
        for _ in 0..4 {
            let mut changed = own.clone();
            for _ in 0..random.between(1, 4) {
                let at = random.between(2, changed.len() - 1);
                changed[at] = random.byte();
            }
            states.push(changed);
        }
        for (number, state) in states.iter().enumerate() {
            // Whom such a relay has, it can lose, but only those.
            let lost = Peer::log_in(ALICE);
            let relay = stage.replace();
            relay.grow_old();
            stage.turn_real();
            let (mut file, _) = asked_back(&stage, &relay, None);
            file.write_all(state).unwrap();
            if number == 0 {
                // Longer than any state may be.
                file.set_len((1 << 30) + 1).unwrap();
            }
            relay.tell(&FromRelay::HandedBack, &[]);
            relay.wait_end(PATIENCE);
            drop((relay, file));
            let mut client = Peer::hello("alice", "alice");
            client.expect(PROMPT);
            assert_eq!(client.run("echo new"), "new", "state {number}");
            drop((client, lost));
        }
        assert_eq!(stage.reasons(), Vec::<String>::new());
        stage.has_sessions(0);
    });
}

pub(crate) fn what_it_carries_is_not_believed() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let relay = stage.replace();
        let opened = stage.opened();
        relay.grow_old();
        stage.turn_real();
        let (file, _) = asked_back(&stage, &relay, None);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (udp, (reader, _writer)) = (UdpSocket::bind("127.0.0.1:0").unwrap(), std::io::pipe().unwrap());
        let leader = pty::open().unwrap().leader;
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let ends: [BorrowedFd; 7] = [
            listener.as_fd(),
            udp.as_fd(),
            reader.as_fd(),
            leader.as_fd(),
            file.as_fd(),
            relay.link().as_fd(),
            stream.as_fd(),
        ];
        let fresh = || PhaseState::Handshake { taken: b"\0alice\0alice\0vt".to_vec().into(), left: PATIENCE };
        let mut entries = Vec::new();
        for (id, end) in (relay.first_id..).zip(ends) {
            // Twice, and once more as the session that lives.
            for id in [id, id, 1] {
                relay.tell(&FromRelay::Carry(ConnectionId(id)), &[end]);
            }
            entries.push(state_of(id, fresh()));
        }
        relay.tell(&FromRelay::Carry(ConnectionId(relay.first_id + 100)), &[]);
        RelayState { entries }.store(&file).unwrap();
        relay.tell(&FromRelay::HandedBack, &[]);
        relay.wait_end(PATIENCE);
        drop((relay, file, leader));
        let mut client = Peer::hello("alice", "alice");
        client.expect(PROMPT);
        assert_eq!(peer.run("echo still here"), "still here");
        // Hers, and nobody else's.
        world.audit.wait_count("session-opened", opened + 1);
        assert_eq!(stage.reasons(), Vec::<String>::new());
        stage.has_sessions(2);

        // By the name of a connection that another relay may have to make one day.
        let relay = stage.replace();
        let before = stage.descriptors();
        relay.grow_old();
        let (_file, next) = asked_back(&stage, &relay, Some(()));
        relay.tell(&FromRelay::Carry(ConnectionId(relay.first_id + (1 << 36))), &[udp.as_fd()]);
        relay.wait_end(PATIENCE);
        drop(relay);
        let next = next.unwrap();
        next.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)));
        stage.keeps(before);

        // As many as it likes, until its time is over or it is told off.
        next.grow_old();
        let (_file, after) = asked_back(&stage, &next, Some(()));
        let mut sent = 0;
        while next.tell(&FromRelay::Carry(ConnectionId(next.first_id)), &[udp.as_fd()]) {
            sent += 1;
            assert!(sent < 200_000, "as many as it likes");
        }
        next.wait_end(PATIENCE);
        drop(next);
        let after = after.unwrap();
        after.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)));
        stage.keeps(before);
        let reasons = stage.reasons();
        assert_eq!(reasons[0], "it made up an id");
        assert!(
            ["it handed back what nobody asked for", "it does not hand back what it knows"]
                .contains(&reasons[1].as_str()),
            "{reasons:?}"
        );

        // More than fit into a link, for one that does not read them.
        after.grow_old();
        let (_file, deaf) = asked_back(&stage, &after, Some(()));
        for _ in 0..3000 {
            after.tell(&FromRelay::Carry(ConnectionId(after.first_id)), &[udp.as_fd()]);
        }
        after.tell(&FromRelay::HandedBack, &[]);
        after.wait_end(PATIENCE);
        drop(after);
        let deaf = deaf.unwrap();
        deaf.wait_end(PATIENCE);
        drop(deaf);
        let after = stage.next();
        assert_eq!(stage.reasons()[2..], ["it does not read"]);
        stage.keeps(before);
        stage.recover(after);
        assert_eq!(peer.run("echo still here"), "still here");
    });
}

pub(crate) fn descriptors_that_wait_do_not_stop_the_next_relay() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peers = [(); 2].map(|()| Peer::log_in(ALICE));
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let heard = relay.serve();
        // What it shares with every relay to come: listeners, clients and terminals.
        let shared: Vec<&OwnedFd> = heard
            .iter()
            .filter(|(message, _)| matches!(message, ToRelay::Resume(_) | ToRelay::Listen(_)))
            .flat_map(|(_, descriptors)| descriptors)
            .collect();
        assert!(shared.len() >= 5, "{heard:?}");
        for fd in shared {
            let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK), "{}", fd.as_raw_fd());
            fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK)).unwrap();
        }
        drop(heard);
        stage.recover(relay);
        for peer in &mut peers {
            assert_eq!(peer.run("echo still here"), "still here");
        }
        stage.has_sessions(2);
    });
}

/// A point of the succession: goes there with the relay that serves, and a name for it.
type Point = (&'static str, fn(&mut Stage, Hostile));

/// The points at which the relay, or the next one, ends of its own accord.
const POINTS: [Point; 8] = [
    ("started", |stage, serving| {
        serving.kill();
        stage.accept().exit(0);
    }),
    ("set up", |stage, serving| {
        serving.kill();
        let mut next = stage.accept();
        next.set_up();
        next.exit(1);
    }),
    ("ready", |stage, serving| {
        serving.kill();
        let mut next = stage.accept();
        next.set_up();
        next.tell(&FromRelay::Ready, &[]);
        next.kill();
    }),
    ("ready while another one serves", |stage, serving| {
        stage.daemon.signal(Signal::SIGHUP);
        let mut next = stage.accept();
        next.set_up();
        next.tell(&FromRelay::Ready, &[]);
        next.kill();
        next.wait_end(PATIENCE);
        serving.kill();
    }),
    ("asked to hand back", |stage, serving| {
        let (_file, next) = asked_back(stage, &serving, Some(()));
        serving.exit(0);
        serving.wait_end(PATIENCE);
        let next = next.unwrap();
        next.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)));
        next.kill();
    }),
    ("while handing back", |stage, serving| {
        let (mut file, next) = asked_back(stage, &serving, Some(()));
        file.write_all(b"half").unwrap();
        serving.tell(&FromRelay::Carry(ConnectionId(serving.first_id)), &[file.as_fd()]);
        serving.kill();
        serving.wait_end(PATIENCE);
        let next = next.unwrap();
        let heard = next.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)));
        assert_eq!(resumed(&heard), [(ConnectionId(1), 2)]);
        next.kill();
    }),
    ("both, when one has handed back", |stage, serving| {
        let (_file, next) = asked_back(stage, &serving, Some(()));
        next.unwrap().kill();
        serving.tell(&FromRelay::HandedBack, &[]);
        serving.kill();
        serving.wait_end(PATIENCE);
    }),
    ("told the first of what it has to know", |stage, serving| {
        let (_file, next) = asked_back(stage, &serving, Some(()));
        serving.tell(&FromRelay::HandedBack, &[]);
        let next = next.unwrap();
        next.hear_until("inheritance", |message| matches!(message, ToRelay::Inherit));
        next.exit(3);
    }),
];

pub(crate) fn a_death_at_any_point_takes_no_session_with_it() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let mut before = None;
        for (name, go) in POINTS {
            let relay = stage.replace();
            assert_eq!(*before.get_or_insert_with(|| stage.descriptors()), stage.descriptors(), "{name}");
            relay.grow_old();
            go(&mut stage, relay);
            stage.turn_real();
            // One that was started before may have found the hostile place still.
            assert_eq!(peer.run(&format!("echo '{name}'")), name);
            assert!(stage.daemon.monitor().state != 'Z', "{name}");
        }
        assert_eq!(stage.reasons(), Vec::<String>::new());
        stage.has_sessions(1);
    });
}

pub(crate) fn a_successor_that_is_never_ready_changes_nothing() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let serving = stage.daemon.relay();
        let before = stage.descriptors();
        stage.turn_hostile();
        let rubbish = [0xff; 3].to_vec();
        let other = |message: &FromRelay| postcard::to_stdvec(message).unwrap();
        let says: [Option<Vec<u8>>; 4] = [
            Some(rubbish),
            Some(other(&FromRelay::HandedBack)),
            Some(other(&FromRelay::Carry(ConnectionId(1)))),
            None,
        ];
        for said in &says {
            let warned = world.audit.of("warning").len();
            stage.daemon.signal(Signal::SIGHUP);
            let mut next = stage.accept();
            next.set_up();
            if let Some(bytes) = said {
                next.send(bytes, &[peer.stream.as_fd()]);
                // Too late.
                let _ = next.link().send(&other(&FromRelay::Ready), &[]);
            }
            next.wait_end(PATIENCE);
            let why = if said.is_some() {
                "a new relay is ended: it said something else than that it is ready"
            } else {
                "a new relay is ended: it does not become ready"
            };
            let told = eventually("why it was ended", PATIENCE, || {
                Some(world.audit.of("warning")).filter(|lines| lines.len() > warned)
            });
            assert!(told[warned].contains(why), "{told:#?}");
            assert_eq!(stage.daemon.relay().pid, serving.pid);
            assert_eq!(peer.run("echo same"), "same");
            drop(next);
            stage.keeps(before);
        }
        // One that is ready twice may be so late enough to be the relay already.
        stage.daemon.signal(Signal::SIGHUP);
        let mut next = stage.accept();
        next.set_up();
        for _ in 0..2 {
            next.send(&other(&FromRelay::Ready), &[]);
        }
        stage.turn_real();
        next.wait_end(PATIENCE);
        drop(next);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}
