//! What one relay leaves to the next: a decoder that was handed over goes on as if it
//! had not been, one made of any bytes works, and so do connections made of any state.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rlogind::ipc::Services;
use rlogind::relay::Scratch;
use rlogind::relay::connection::Connection;
use rlogind::relay::ends::{Client, Terminal};
use rlogind::relay::state::RelayState;
use rlogind::sys::pty::Packet;
use rlogind::wire::window::{Decoder, State};

/// Both ends of a connection on which nothing happens but that everything is taken.
struct Nobody;

impl Client for Nobody {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn write_urgent(&mut self, _: u8) -> io::Result<()> {
        Ok(())
    }

    fn unacknowledged(&self) -> usize {
        0
    }

    fn shutdown_write(&mut self) {}
}

impl Terminal for Nobody {
    fn read(&mut self, _: &mut [u8]) -> io::Result<Packet> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }
}

/// As the relay's own, or as a decoder's: the first byte says where in the others the hand-over is.
pub(crate) fn check(input: &[u8]) {
    relay(input);
    decoder(input);
}

fn relay(input: &[u8]) {
    let Ok(state) = RelayState::from_bytes(input) else { return };
    let services = Rc::new(Services { names: vec!["login".to_owned()], help: true });
    let mut scratch = Scratch::default();
    for entry in &state.entries {
        let (idle, mut now) = (Duration::from_secs(60), Instant::now());
        let resumed = Connection::resume(Nobody, Some(Nobody), &entry.connection, &services, idle, now);
        let Some(mut connection) = resumed else { continue };
        for _ in 0..4 {
            connection.turn(&mut scratch, now);
            connection.state(now);
            now += Duration::from_secs(1);
        }
    }
}

fn decoder(input: &[u8]) {
    let Some((at, bytes)) = input.split_first() else { return };
    let (head, tail) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let now = Instant::now();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let mut one = Decoder::default();
    let size = one.decode(bytes, now, &mut whole);
    let mut before = Decoder::default();
    let early = before.decode(head, now, &mut parts);
    let mut after = Decoder::from_state(&before.state(), now);
    assert_eq!(after.held(), before.held());
    assert_eq!(after.decode(tail, now, &mut parts).or(early), size);
    assert_eq!((parts, after.held()), (whole, one.held()));

    let any = Decoder::from_state(&State { held: bytes.to_vec() }, now);
    assert!(any.held().len() < 12 && bytes.ends_with(any.held()));
}
