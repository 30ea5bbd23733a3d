//! Many sessions open at once, none of which does anything.

use std::thread;
use std::time::{Duration, Instant};

use super::typing::type_bytes;
use super::{Bench, figure, milliseconds};
use crate::crowd::Crowd;
use crate::{Outcome, processes};

/// The numbers of sessions at which memory is read.
pub(crate) const STEPS: [usize; 6] = [1, 10, 50, 100, 200, 500];

/// What is left to be done for a login is done by then.
const SETTLED: Duration = Duration::from_millis(1500);

/// The server's memory for each session.
pub(super) fn memory(bench: &mut Bench) -> Outcome<()> {
    let crowd = Crowd::new()?;
    for sessions in STEPS {
        if bench.quick && sessions > 50 {
            break;
        }
        while crowd.clients().len() < sessions {
            crowd.add(bench.log_in()?)?;
        }
        thread::sleep(SETTLED);
        figure(&format!("memory.{sessions}"), processes::memory()? as f64 / sessions as f64)?;
    }
    Ok(())
}

/// Two thousand, opened one after the other, and what they cost while nothing happens.
pub(super) fn many(bench: &mut Bench) -> Outcome<()> {
    let count = if bench.quick { 100 } else { 2000 };
    let mut typist = bench.running("echo")?;
    echo(&mut typist, "many.echo-before")?;
    let crowd = Crowd::new()?;
    let mut times = Vec::new();
    let started = Instant::now();
    for number in 0..count {
        let client = bench.log_in().map_err(|error| format!("session {}: {error}", number + 1))?;
        times.extend(client.prompted.map(|at| at - client.started));
        crowd.add(client)?;
    }
    figure("many.each", milliseconds(started.elapsed()) / f64::from(count))?;
    let some = times.len() / 10;
    let mean = |times: &[Duration]| milliseconds(times.iter().sum::<Duration>()) / times.len() as f64;
    figure("many.first", mean(times.get(..some).unwrap_or_default()))?;
    figure("many.last", mean(times.get(times.len() - some..).unwrap_or_default()))?;
    thread::sleep(SETTLED);
    echo(&mut typist, "many.echo")?;
    figure("many.memory", processes::memory()? as f64 / f64::from(count))?;
    figure("many.processes", processes::count()? as f64 / f64::from(count))?;
    idle(if bench.quick { 2 } else { 10 })
}

fn echo(typist: &mut crate::client::Client, name: &str) -> Outcome<()> {
    type_bytes(typist, |done| done >= 200, Duration::ZERO)?;
    let mut times = type_bytes(typist, |done| done >= 1000, Duration::ZERO)?;
    times.sort_unstable();
    figure(name, milliseconds(times.get(times.len() / 2).copied().unwrap_or_default()))
}

/// What the server's processes do while the clients do nothing.
fn idle(seconds: u64) -> Outcome<()> {
    thread::sleep(SETTLED);
    let before = processes::usage()?;
    thread::sleep(Duration::from_secs(seconds));
    let used = processes::usage()?.since(before);
    figure("many.wakeups", used.switches as f64 / seconds as f64)?;
    figure("many.cpu", used.cpu as f64 / 1e6 / seconds as f64)
}
