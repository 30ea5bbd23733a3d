//! What a seed stands for: who does what, and when.

use std::time::Duration;

use rlogind::wire::urgent::FlowControl;
use rlogind::wire::window::WindowSize;

use crate::kernel::{Happening, Kernel};
use crate::random::Random;

/// What the client does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    Handshake,
    /// Something else than a handshake.
    Garbage,
    /// A part of it, and then nothing, the end of the stream, or a reset.
    Silence,
    Leaves,
    Resets,
}

/// What the monitor answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Opened,
    Refused,
    Nothing,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    ClientLeaves,
    ClientResets,
    SessionEnds,
    /// A background job keeps the terminal open and goes on writing.
    SessionEndsInBackground,
}

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) opening: Opening,
    pub(crate) answer: Answer,
    pub(crate) answer_delay: Duration,
    pub(crate) ending: Ending,
    /// It ends in the middle of everything, not when all is said.
    pub(crate) early: bool,
    pub(crate) idle: Duration,
    /// The session is that of somebody who is logged in.
    pub(crate) logged_in: bool,
    /// One turn in so many is followed by a hand-over to another relay; 0: none is.
    pub(crate) hand_over: u64,
}

impl Script {
    pub(crate) fn new(random: &mut Random) -> Self {
        let opening = match random.next() % 32 {
            0 => Opening::Garbage,
            1 => Opening::Silence,
            2 => Opening::Leaves,
            3 => Opening::Resets,
            _ => Opening::Handshake,
        };
        let answer = match random.next() % 32 {
            0 => Answer::Nothing,
            1 | 2 => Answer::Refused,
            _ => Answer::Opened,
        };
        let ending = match random.next() % 8 {
            0 | 1 => Ending::ClientLeaves,
            2 => Ending::ClientResets,
            3 | 4 => Ending::SessionEndsInBackground,
            _ => Ending::SessionEnds,
        };
        let idle = match random.next() % 8 {
            0 => random.micros(500_000, 30_000_000),
            _ => Duration::ZERO,
        };
        let answer_delay = random.micros(0, 300_000);
        let hand_over = match random.next() % 4 {
            0 => 3 + random.next() % 40,
            _ => 0,
        };
        let early = random.one_in(2);
        let logged_in = !random.one_in(4);
        Script { opening, answer, answer_delay, ending, early, idle, logged_in, hand_over }
    }

    /// The client's first bytes, in pieces of any size, perhaps with data behind them.
    pub(crate) fn plan_opening(&self, kernel: &mut Kernel) {
        let mut bytes = b"\0alice\0bob\0xterm/38400\0".to_vec();
        let mut end = None;
        match self.opening {
            Opening::Handshake => {}
            Opening::Garbage => bytes = b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Opening::Silence => bytes.truncate(kernel.random.between(0, bytes.len() - 1)),
            Opening::Leaves => {
                bytes.truncate(kernel.random.between(0, bytes.len() - 1));
                end = Some(Happening::ClientLeaves);
            }
            Opening::Resets => {
                bytes.truncate(kernel.random.between(0, bytes.len() - 1));
                end = Some(Happening::ClientResets);
            }
        }
        kernel.judge.handshake = bytes.len();
        if self.opening == Opening::Handshake && kernel.random.one_in(3) {
            let size = kernel.random.size(4_000);
            let data = text(&mut kernel.random, size);
            kernel.judge.expect_data(&data);
            bytes.extend_from_slice(&data);
        }
        let mut at = kernel.random.micros(0, 100_000);
        while !bytes.is_empty() {
            let size =
                if kernel.random.one_in(3) { bytes.len() } else { kernel.random.between(1, bytes.len()) };
            let rest = bytes.split_off(size);
            kernel.plan(at, Happening::Arrives(std::mem::replace(&mut bytes, rest)));
            kernel.client_done = at;
            at += kernel.random.micros(0, 200_000);
        }
        if let Some(end) = end {
            kernel.plan(at, end);
        }
    }
}

/// What everybody does during a session; returns how long that takes.
pub(crate) fn plan_session(kernel: &mut Kernel) -> Duration {
    let client = plan_client(kernel);
    let mut at = Duration::ZERO;
    // Some programs change modes faster than anybody can follow.
    if kernel.random.one_in(20) {
        kernel.pty.storm = 1_000;
    }
    // And some change them with every page that they write.
    if kernel.random.one_in(20) {
        for mode in [FlowControl::Program, FlowControl::Client].into_iter().cycle().take(80) {
            at += kernel.random.micros(100, 2_000);
            kernel.plan(at, Happening::ProgramSets(mode));
            kernel.plan(at + Duration::from_micros(50), Happening::ProgramWrites(4_095));
        }
    }
    for _ in 0..kernel.random.between(3, 40) {
        at += pause(&mut kernel.random);
        let what = match kernel.random.next() % 20 {
            0..=7 => Happening::ProgramWrites(kernel.random.size(70_000)),
            8..=10 => Happening::ProgramReads(kernel.random.size(30_000)),
            11..=13 => Happening::ClientTakes(kernel.random.size(60_000)),
            14 | 15 => Happening::ProgramFlushes,
            16 | 17 => Happening::ProgramSets(FlowControl::Program),
            18 => Happening::ProgramSets(FlowControl::Client),
            _ => {
                // As vhangup(2) does in the middle of a login.
                kernel.plan(at, Happening::FollowersClose);
                at += kernel.random.micros(0, 2_000);
                Happening::FollowerOpens
            }
        };
        kernel.plan(at, what);
    }
    at.max(client)
}

fn pause(random: &mut Random) -> Duration {
    match random.next() % 40 {
        0 => random.micros(1_000_000, 15_000_000),
        1..=3 => random.micros(0, 400_000),
        4..=12 => random.micros(0, 40_000),
        13..=26 => random.micros(0, 2_000),
        _ => Duration::ZERO,
    }
}

/// What the client types, and its window sizes; its pieces come one after the other.
fn plan_client(kernel: &mut Kernel) -> Duration {
    // Half of the clients answer the request for the window size.
    let first = if kernel.random.one_in(2) { kernel.random.micros(11_000, 90_000) } else { Duration::ZERO };
    let mut at = first.max(kernel.client_done.saturating_sub(kernel.now));
    for _ in 0..kernel.random.between(0, 12) {
        if kernel.random.one_in(3) {
            at = plan_message(kernel, at);
        } else {
            let size = kernel.random.size(70_000);
            let data = text(&mut kernel.random, size);
            kernel.judge.expect_data(&data);
            kernel.plan(at, Happening::Arrives(data));
        }
        at += pause(&mut kernel.random);
    }
    at
}

/// A window-size message in up to four pieces, which come close together or too slowly.
fn plan_message(kernel: &mut Kernel, mut at: Duration) -> Duration {
    let random = &mut kernel.random;
    // No CR: the NUL behind it would belong to it, where it is typed at a prompt.
    let [rows, columns] =
        [random.byte().max(1), random.byte().max(1)].map(|n| if n == b'\r' { n + 1 } else { n });
    let size = WindowSize { rows: rows.into(), columns: columns.into(), x_pixels: 0, y_pixels: 0 };
    let mut bytes = *b"\xff\xffss\0\0\0\0\0\0\0\0";
    (bytes[5], bytes[7]) = (rows, columns);
    let slow = random.one_in(8);
    kernel.judge.expect_message(bytes, size, slow);
    let mut rest = bytes.as_slice();
    for _ in 0..random.between(1, 4) {
        let (piece, behind) = rest.split_at(kernel.random.between(0, rest.len()));
        if !piece.is_empty() {
            kernel.plan(at, Happening::Arrives(piece.to_vec()));
        }
        at += if slow { kernel.random.micros(0, 1_500_000) } else { kernel.random.micros(0, 15_000) };
        rest = behind;
    }
    if !rest.is_empty() {
        kernel.plan(at, Happening::Arrives(rest.to_vec()));
    }
    at
}

/// Typed text, with what looks like the beginning of a message.
fn text(random: &mut Random, size: usize) -> Vec<u8> {
    const BEGINNINGS: [&[u8]; 4] = [b"\xffx", b"\xff\xffx", b"\xff\xffsx", b"\xff\xff\xff\xffsx"];
    let offset = random.byte();
    // Neither FF nor 's', so that no message begins by chance.
    let plain = |n: usize| u8::try_from((n + usize::from(offset)) % 114).unwrap();
    let mut bytes: Vec<u8> = (0..size).map(plain).collect();
    for _ in 0..random.between(0, 2) {
        let beginning = BEGINNINGS[random.between(0, BEGINNINGS.len() - 1)];
        let at = random.between(0, bytes.len());
        bytes.splice(at..at, beginning.iter().copied());
    }
    // Or an LF that comes next would belong to it, at a prompt.
    bytes.pop_if(|last| *last == b'\r');
    bytes
}
