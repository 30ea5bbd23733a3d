//! From connecting to the shell's prompt.

use std::thread;
use std::time::{Duration, Instant};

use super::{Bench, figure, percentiles};
use crate::Outcome;

/// One login at a time, the one before it all gone.
pub(super) fn one_by_one(bench: &mut Bench) -> Outcome<()> {
    let count = if bench.quick { 10 } else { 30 };
    let mut times = Vec::new();
    // The first finds cold caches.
    for number in 0..=count {
        let client = bench.log_in()?;
        if let Some(at) = client.prompted.filter(|_| number > 0) {
            times.push(at - client.started);
        }
        client.log_out()?;
        // What is left to be done for the old session is no part of the new one.
        thread::sleep(Duration::from_millis(30));
    }
    percentiles("login", &mut times)
}

/// All at the same time, from one address.
pub(super) fn at_once(bench: &mut Bench, name: &str, count: usize) -> Outcome<()> {
    bench.log_in()?.log_out()?;
    let started = Instant::now();
    let clients = bench.log_in_all(count)?;
    let last = clients.iter().filter_map(|client| client.prompted).max().ok_or("none came in")?;
    let mut times: Vec<Duration> =
        clients.iter().filter_map(|client| Some(client.prompted? - client.started)).collect();
    figure(&format!("{name}.rate"), times.len() as f64 / (last - started).as_secs_f64())?;
    figure(&format!("{name}.refused"), (count - times.len()) as f64)?;
    percentiles(name, &mut times)
}
