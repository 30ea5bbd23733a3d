//! From one typed byte to its echo, which a program in raw mode writes.

use std::thread;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::{Bench, command, figure, megabytes_per_second, percentiles, seconds_per_gigabyte};
use crate::client::{Buffer, Client};
use crate::crowd::Crowd;
use crate::{Outcome, failure, processes};

/// Types so many bytes, each when the one before has come back.
pub(super) fn type_bytes(
    client: &mut Client,
    until: impl Fn(usize) -> bool,
    pause: Duration,
) -> Outcome<Vec<Duration>> {
    let mut buffer = Buffer::new();
    let mut times = Vec::new();
    while !until(times.len()) {
        let before = client.received;
        let typed = Instant::now();
        client.send(b"x")?;
        let deadline = typed + Duration::from_secs(10);
        while client.received == before {
            let came = client.pump(&mut buffer, deadline, PollFlags::empty())?;
            if !came || client.end.is_some() {
                return failure("no echo");
            }
        }
        times.push(typed.elapsed());
        thread::sleep(pause);
    }
    Ok(times)
}

/// Nobody else there.
pub(super) fn alone(bench: &mut Bench) -> Outcome<()> {
    let count = if bench.quick { 1000 } else { 4000 };
    let mut client = bench.running("echo")?;
    type_bytes(&mut client, |done| done >= 200, Duration::ZERO)?;
    let before = processes::usage()?;
    let mut times = type_bytes(&mut client, |done| done >= count, Duration::ZERO)?;
    let used = processes::usage()?.since(before);
    figure("echo.cpu", used.cpu as f64 / 1e3 / count as f64)?;
    figure("echo.switches", used.switches as f64 / count as f64)?;
    percentiles("echo", &mut times)
}

/// With so many sessions that write all they can, and so many that do nothing.
pub(super) fn among_floods(bench: &mut Bench, name: &str, floods: usize, idle: usize) -> Outcome<()> {
    let longest = Duration::from_millis(if bench.quick { 1000 } else { 2000 });
    let mut typist = bench.running("echo")?;
    let crowd = Crowd::new()?;
    for client in bench.log_in_all(floods + idle)? {
        if let Some(end) = client.end {
            return failure(&format!("{end}, instead of a session"));
        }
        crowd.add(client)?;
    }
    // Those that start later must not find less: all have begun when it counts.
    for client in crowd.clients().iter_mut().take(floods) {
        client.send(command("flood").as_bytes())?;
        client.keeps = false;
    }
    thread::sleep(Duration::from_millis(500));
    let counts =
        || -> Vec<u64> { crowd.clients().iter().take(floods).map(|client| client.received).collect() };
    let (before, used, started) = (counts(), processes::usage()?, Instant::now());
    // A person leaves the processor alone between two keys.
    let mut times = type_bytes(&mut typist, |_| started.elapsed() >= longest, Duration::from_millis(2))?;
    let (after, used, time) = (counts(), processes::usage()?.since(used), started.elapsed());
    let shares: Vec<u64> = after.iter().zip(before).map(|(after, before)| after - before).collect();
    let total: u64 = shares.iter().sum();
    let (least, most) = (shares.iter().min().copied(), shares.iter().max().copied());
    if total == 0 {
        return failure("no flood");
    }
    figure(&format!("{name}.share"), least.unwrap_or(0) as f64 / most.unwrap_or(0) as f64)?;
    figure(&format!("{name}.total"), megabytes_per_second(total, time))?;
    figure(&format!("{name}.cpu"), seconds_per_gigabyte(used.cpu, total))?;
    percentiles(name, &mut times)
}
