//! ^C while a program floods the terminal: how long until the prompt is there.

use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::{Bench, command, figure, percentiles};
use crate::client::Buffer;
use crate::{Outcome, failure};

/// So many times, each after so many milliseconds of flood.
pub(super) fn in_flood(bench: &mut Bench, name: &str, count: usize, flood: u64) -> Outcome<()> {
    let count = if bench.quick { count.div_ceil(4) } else { count };
    let mut client = bench.log_in()?;
    let mut buffer = Buffer::new();
    let (mut times, mut after) = (Vec::new(), 0);
    for _ in 0..count {
        client.send(command("flood").as_bytes())?;
        let enough = Instant::now() + Duration::from_millis(flood);
        let before = client.received;
        while Instant::now() < enough && client.end.is_none() {
            client.pump(&mut buffer, enough, PollFlags::empty())?;
        }
        if client.received - before < 10_000 {
            return failure("no flood");
        }
        let (typed, before) = (Instant::now(), client.received);
        client.send(&[0x03])?;
        client.wait(Duration::from_secs(60), "prompt after ^C", |client| client.at_prompt())?;
        times.push(typed.elapsed());
        after += client.received - before;
    }
    figure(&format!("{name}.kb"), after as f64 / 1e3 / count as f64)?;
    percentiles(name, &mut times)
}
