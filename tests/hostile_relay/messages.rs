//! Messages that nobody may send, or not now, or not so many.

use std::fs::File;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rlogind::audit::event::Via;
use rlogind::ipc::{CloseCause, ConnectionId, FromRelay};
use rlogind::sys::channel::MAX_MESSAGE;

use crate::accounts::ALICE;
use crate::audit::field;
use crate::hostile::{Hostile, Stage, alice};
use crate::peer::{End, Peer};
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

const NO_MESSAGE: &str = "it sent what is no message";

fn connection() -> FromRelay {
    FromRelay::Connection { peer: ([192, 0, 2, 7], 1023).into(), via: Via::Rlogin }
}

pub(crate) fn closed(id: u64, cause: CloseCause, bytes: u64) -> FromRelay {
    FromRelay::Closed { id: ConnectionId(id), cause, bytes_in: bytes, bytes_out: bytes }
}

pub(crate) fn what_is_no_message_ends_the_relay() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let mut relay = stage.replace();
        let valid = postcard::to_stdvec(&connection()).unwrap();
        let longer = [valid.as_slice(), &[0]].concat();
        let bytes: [&[u8]; 6] = [
            &[0xff; 10],
            &[7],
            &longer,
            &valid[..valid.len() - 1],
            // A reason that says it is as long as memory.
            &[4, 0, 127, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, b'x'],
            &[0; MAX_MESSAGE + 1],
        ];
        let file = File::open("/etc/passwd").unwrap();
        for bytes in bytes {
            relay = stage.ends(relay, NO_MESSAGE, |relay| {
                relay.send(bytes, &[file.as_fd(); 3]);
                // Nothing that it says behind that counts.
                relay.open(relay.first_id, alice(), &[peer.stream.as_fd()]);
            });
        }
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn what_its_state_does_not_permit_ends_the_relay() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let mut relay = stage.replace();
        let made_up = "it made up an id";
        relay = stage.ends(relay, "it was ready already", |relay| {
            relay.tell(&FromRelay::Ready, &[]);
        });
        relay = stage.ends(relay, "it handed back unasked", |relay| {
            relay.tell(&FromRelay::HandedBack, &[]);
        });
        for id in [1, u64::MAX] {
            relay = stage.ends(relay, "it handed back what nobody asked for", |relay| {
                relay.tell(&FromRelay::Carry(ConnectionId(id)), &[peer.stream.as_fd()]);
            });
        }
        // Of a relay before, of one to come, and of none.
        for id in [|first| first - 1, |first: u64| first + (1 << 36), |_| 0, |_| u64::MAX] {
            relay = stage.ends(relay, made_up, |relay| {
                relay.open(id(relay.first_id), alice(), &[peer.stream.as_fd()]);
            });
        }
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn a_relay_that_closes_its_link_is_ended() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let mut relay = stage.replace();
        let why = "it closed its link, and goes on";
        // An empty message reads the same.
        relay = stage.ends(relay, why, |relay| assert!(relay.send(&[], &[])));
        let before = stage.descriptors();
        relay.grow_old();
        relay.link = None;
        relay.wait_end(PATIENCE);
        let relay = stage.next();
        assert_eq!(stage.reasons(), [why, why]);
        stage.keeps(before);
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn a_relay_that_does_not_read_is_ended() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let relay = stage.replace();
        let relay = stage.ends(relay, "it does not read", |relay| {
            // Each is answered.
            while relay.open(relay.first_id, alice(), &[]) {}
        });
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn descriptors_that_nobody_asked_for_are_closed() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let relay = stage.replace();
        let before = stage.descriptors();
        let (reader, writer) = std::io::pipe().unwrap();
        // As many as the kernel passes at once; the monitor has room for fewer.
        for count in [1, 64, 253] {
            for _ in 0..20 {
                relay.tell(&connection(), &vec![writer.as_fd(); count]);
                relay.tell(&closed(1 << 35, CloseCause::ClientLeft, 0), &vec![reader.as_fd(); count]);
                relay.open(relay.first_id, alice(), &vec![writer.as_fd(); count]);
            }
        }
        stage.keeps(before);
        assert!(!relay.has_ended(), "{:?}", stage.reasons());
        let relay = stage.ends(relay, NO_MESSAGE, |relay| {
            relay.send(&[0xff], &[writer.as_fd(); 253]);
        });
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
    });
}

pub(crate) fn what_it_says_of_closed_sessions_cannot_harm() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peers = [(); 2].map(|()| Peer::log_in(ALICE));
        peers[1].send("trap '' HUP; echo re\"\"ady; while :; do sleep 1; done\r");
        peers[1].expect("ready\r\n");
        let relay = stage.replace();
        for id in [0, 999, relay.first_id, u64::MAX] {
            relay.tell(&closed(id, CloseCause::Idle, u64::MAX), &[]);
        }
        // Ids of the first relay begin with 1. The first session goes on, the second one is hung up.
        for _ in 0..2000 {
            relay.tell(&closed(2, CloseCause::ClientLeft, u64::MAX), &[]);
        }
        thread::sleep(Duration::from_millis(500));
        assert!(!relay.has_ended(), "{:?}", stage.reasons());
        assert!(Process::of(stage.daemon.pid()).is_some_and(|monitor| monitor.state != 'Z'));
        stage.recover(relay);
        assert_eq!(peers[0].run("echo still here"), "still here");
        peers[1].send("exit\r");
        assert_ne!(peers[1].wait_end(PATIENCE), End::Reset);
    });
}

pub(crate) fn a_flood_of_log_lines_stays_bounded_and_escaped() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        let relay = stage.replace();
        let hostile = "\n<0>Jan  1 00:00:00 rlogind[1]: x event=\"session-opened\" \u{202e}\0\x1b[2J";
        let reason = hostile.repeat(10_000 / hostile.len());
        let refused = FromRelay::Refused { peer: ([192, 0, 2, 7], 1).into(), reason };
        let flood = |relay: &Hostile| while relay.tell(&refused, &[]) && relay.tell(&connection(), &[]) {};
        thread::scope(|scope| {
            scope.spawn(|| flood(&relay));
            thread::sleep(Duration::from_millis(500));
            // The monitor does other things meanwhile: the next relay is there in time.
            stage.daemon.signal(Signal::SIGHUP);
            stage.accept().set_up();
            // Its end of the link lives on here, and so does the flood.
            relay.kill();
        });
        let next = stage.next();
        let lines = eventually("refusals in the log", PATIENCE, || {
            Some(world.audit.of("refused")).filter(|lines| !lines.is_empty())
        });
        for line in lines {
            assert!(line.len() < 3000 && !line.chars().any(char::is_control), "{}: {line:?}", line.len());
            assert!(!line.contains('\u{202e}'), "{line:?}");
            assert_eq!(field(&line, "event"), Some("refused"), "{line:?}");
        }
        stage.recover(next);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}
