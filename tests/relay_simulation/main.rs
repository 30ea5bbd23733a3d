//! A seeded simulation of one connection of the relay: a fake kernel with the
//! semantics of edge-triggered epoll(7), TCP and packet-mode terminals, in simulated
//! time, with short reads, full queues, interrupted calls and resets in every place.
//!
//! Each seed is one connection from its handshake to its end. What has to hold:
//! no byte is lost, doubled or reordered but for output that a flush discards; the
//! zero byte goes first and alone; urgent bytes keep their distance, have output behind
//! them and tell the truth; whenever something can be done, a turn, a timer or an event is due; nothing
//! is done while nothing happens; little is held; and there is an end.
//!
//! `RLOGIND_SIM_SEED=n` replays one seed and shows all its steps,
//! `RLOGIND_SIM_RUNS=n` tries that many.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "everything here is test code; the lint's own exemption covers #[test] functions only, not their helpers"
)]

mod driver;
mod judge;
mod kernel;
mod pty;
mod random;
mod script;
mod seen;
mod socket;

use std::panic::{self, AssertUnwindSafe};

use driver::Run;
use rlogind::relay::Scratch;
use seen::Seen;

/// As many as take a few seconds without optimisation.
const RUNS: u64 = 3_000;
/// How much of a failed run is shown.
const LAST_STEPS: usize = 60;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs a seed once more, for its steps; returns what it failed of.
fn replay(seed: u64) -> (String, Vec<String>) {
    let (run, kernel) = Run::new(seed, true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| run.play(&mut Scratch::default())));
    let failure = match result {
        Ok(seen) => format!("it passed: {seen:?}"),
        Err(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => {
                panic.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| text.to_string())
            }
        },
    };
    // The panic may have come out of a call that holds it.
    let trace = kernel.try_borrow_mut().map(|mut kernel| kernel.trace.take()).ok().flatten();
    (failure, trace.unwrap_or_default())
}

#[test]
fn a_connection_keeps_its_promises_whatever_its_ends_do() {
    if let Some(seed) = variable("RLOGIND_SIM_SEED") {
        let (failure, trace) = replay(seed);
        println!("{}\n", trace.join("\n"));
        assert!(failure.starts_with("it passed"), "seed {seed}: {failure}");
        println!("{failure}");
        return;
    }
    let mut scratch = Scratch::default();
    let mut seen = Seen::default();
    for seed in 0..variable("RLOGIND_SIM_RUNS").unwrap_or(RUNS) {
        let run = AssertUnwindSafe(|| Run::new(seed, false).0.play(&mut scratch));
        match panic::catch_unwind(run) {
            Ok(one) => seen.add(one),
            Err(_) => {
                let (failure, trace) = replay(seed);
                let steps = trace[trace.len().saturating_sub(LAST_STEPS)..].join("\n");
                panic!("{steps}\n\n{failure}\nRLOGIND_SIM_SEED={seed} replays all {} steps", trace.len());
            }
        }
    }
    println!("{seen:?}");
    assert!(seen.has_everything(), "the seeds miss something: {seen:?}");
}

/// The simulation itself must not depend on anything but its seed.
#[test]
fn the_same_seed_gives_the_same_steps() {
    for seed in 0..20 {
        let (first, second) = (replay(seed), replay(seed));
        assert_eq!(first, second);
        assert!(first.1.len() > 5, "{first:?}");
    }
}
