//! Much output, and much input, of one session.

use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::{Bench, figure, megabytes_per_second, seconds_per_gigabyte};
use crate::client::{Buffer, Client};
use crate::programs::DONE;
use crate::{Outcome, failure, processes};

/// Even of the slowest.
const LONGEST: Duration = Duration::from_secs(20);

fn amount(bench: &Bench) -> u64 {
    if bench.quick { 32_000_000 } else { 128_000_000 }
}

/// From the program to the client.
pub(super) fn output(bench: &mut Bench) -> Outcome<()> {
    let bytes = amount(bench);
    let mut client = bench.running(&format!("source {bytes}"))?;
    let (before, used, started) = (client.received, processes::usage()?, Instant::now());
    client.send(b"x")?;
    client.keeps = false;
    let mut buffer = Buffer::new();
    while client.received - before < bytes {
        step(&mut client, &mut buffer, started, PollFlags::empty())?;
    }
    tell("output", bytes, started.elapsed(), used)
}

/// From the client to the program.
pub(super) fn input(bench: &mut Bench) -> Outcome<()> {
    let bytes = amount(bench);
    let mut client = bench.running(&format!("sink {bytes}"))?;
    let (used, started) = (processes::usage()?, Instant::now());
    let piece = vec![b'x'; 64 * 1024];
    let mut buffer = Buffer::new();
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        left -= client.send_some(piece.get(..left.min(piece.len())).unwrap_or(&piece))?;
        step(&mut client, &mut buffer, started, PollFlags::POLLOUT)
            .map_err(|error| format!("{error}, {left} of {bytes} bytes not sent"))?;
    }
    while !client.shows(DONE) {
        step(&mut client, &mut buffer, started, PollFlags::empty())
            .map_err(|error| format!("{error}, with all bytes sent"))?;
    }
    tell("input", bytes, started.elapsed(), used)
}

fn step(client: &mut Client, buffer: &mut Buffer, started: Instant, also: PollFlags) -> Outcome<()> {
    if let Some(end) = &client.end {
        return failure(&format!("{end}, in the middle"));
    }
    if client.pump(buffer, started + LONGEST, also)? { Ok(()) } else { failure("it stands still") }
}

fn tell(name: &str, bytes: u64, time: Duration, before: processes::Usage) -> Outcome<()> {
    let used = processes::usage()?.since(before);
    figure(&format!("{name}.rate"), megabytes_per_second(bytes, time))?;
    figure(&format!("{name}.cpu"), seconds_per_gigabyte(used.cpu, bytes))
}
