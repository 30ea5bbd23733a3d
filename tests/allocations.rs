//! A connection takes no memory for what moves: neither a key and its echo nor a flood makes its
//! turns allocate, once it has carried the first of it.
#![allow(clippy::unwrap_used, reason = "everything here is test code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use rlogind::relay::connection::{Connection, Outcome, Ready};
use rlogind::relay::ends::{Client, Terminal};
use rlogind::relay::{Pace, Scratch};
use rlogind::sys::pty::Packet;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
struct Counting;

// SAFETY: it passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are those that it asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A client that sends the handshake, then a key a turn, and takes everything.
struct Keys {
    handshake: &'static [u8],
    key: bool,
}

impl Client for Keys {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = if self.handshake.is_empty() && self.key { b"x" } else { self.handshake };
        if bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        buffer[..bytes.len()].copy_from_slice(bytes);
        (self.handshake, self.key) = (b"", false);
        Ok(bytes.len())
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

/// A terminal that gives so many bytes, that many times a turn.
struct Output {
    bytes: usize,
    times: usize,
}

impl Terminal for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        if self.times == 0 || buffer.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.times -= 1;
        Ok(Packet::Data(self.bytes.min(buffer.len())))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.bytes, self.times) = (bytes.len(), 1);
        Ok(bytes.len())
    }
}

/// Opens a session, has so many turns at that pace, and returns the allocations of the second half.
fn allocations(pace: Pace, output: Output, turns: u32) -> u64 {
    let (second, mut now) = (Duration::from_secs(1), Instant::now());
    let client = Keys { handshake: b"\0alice\0bob\0xterm/38400\0", key: false };
    let mut connection = Connection::new(client, second, 1000 * second, now);
    let mut scratch = Scratch::default();
    assert!(matches!(connection.turn(&mut scratch, now).outcome, Outcome::Open(_)));
    let types = output.times == 0;
    connection.opened(output, now).unwrap();
    let mut before = 0;
    for turn in 0..turns {
        now += second;
        if turn == turns / 2 {
            before = ALLOCATIONS.get();
        }
        connection.client().key = types;
        connection.client_ready(Ready { readable: types, ..Ready::default() });
        scratch.limit(usize::MAX, pace);
        let [passed, _] = connection.moved();
        // A flood collects in the first ones and is sent in the last.
        for _ in 0..4 {
            connection.terminal_ready(Ready { readable: true, ..Ready::default() });
            connection.turn(&mut scratch, now);
        }
        assert!(connection.moved()[0] > passed, "nothing passed in turn {turn}");
    }
    ALLOCATIONS.get() - before
}

#[test]
fn a_key_and_its_echo_take_no_memory() {
    assert_eq!(allocations(Pace::Prompt, Output { bytes: 0, times: 0 }, 200), 0);
}

#[test]
fn a_flood_takes_no_memory_whether_it_is_alone_or_not() {
    for pace in [Pace::Prompt, Pace::Crowded] {
        assert_eq!(allocations(pace, Output { bytes: 4095, times: usize::MAX }, 200), 0, "{pace:?}");
    }
}
