//! The lines of the table: which figures are shown, how, and what is wanted of them.

/// Whether much or little of it is good.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    /// Little.
    Low,
    /// Much.
    High,
}

/// What is wanted of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// Nothing; it is there to be known.
    Nothing,
    /// At most, or at least, so many times the best peer's.
    Ratio(f64),
    /// At most, or at least, this.
    Value(f64),
}

/// A line of the table.
pub(crate) struct Figure {
    /// As the measurement tells it.
    pub(crate) name: &'static str,
    /// As the table shows it.
    pub(crate) label: &'static str,
    /// From the measurement's unit to the table's.
    pub(crate) scale: f64,
    /// Digits behind the point.
    pub(crate) digits: usize,
    /// Which direction is good.
    pub(crate) better: Better,
    /// The goal.
    pub(crate) wanted: Wanted,
}

const fn low(name: &'static str, label: &'static str, digits: usize, wanted: Wanted) -> Figure {
    Figure { name, label, scale: 1.0, digits, better: Better::Low, wanted }
}

const fn high(name: &'static str, label: &'static str, digits: usize, wanted: Wanted) -> Figure {
    Figure { name, label, scale: 1.0, digits, better: Better::High, wanted }
}

/// From milliseconds.
const fn micro(name: &'static str, label: &'static str, wanted: Wanted) -> Figure {
    Figure { name, label, scale: 1e3, digits: 0, better: Better::Low, wanted }
}

use Wanted::{Nothing, Ratio, Value};

/// The table, from top to bottom.
pub(crate) const TABLE: &[Figure] = &[
    low("login.p50", "login: connect to prompt, p50, ms", 1, Ratio(0.75)),
    low("login.p99", "login: the same, p99, ms", 1, Nothing),
    high("burst50.rate", "50 logins at once, per second", 0, Ratio(1.2)),
    low("burst50.p50", "50 logins at once, p50, ms", 0, Nothing),
    low("burst50.p99", "50 logins at once, p99, ms", 0, Ratio(0.8)),
    low("burst50.refused", "50 logins at once, refused", 0, Value(0.0)),
    high("burst200.rate", "200 logins at once, per second", 0, Ratio(1.2)),
    low("burst200.p50", "200 logins at once, p50, ms", 0, Nothing),
    low("burst200.p99", "200 logins at once, p99, ms", 0, Ratio(0.8)),
    low("burst200.refused", "200 logins at once, refused", 0, Value(0.0)),
    micro("echo.p50", "echo of a byte, p50, µs", Ratio(1.05)),
    micro("echo.p99", "echo of a byte, p99, µs", Nothing),
    low("echo.cpu", "echo of a byte, CPU, µs", 1, Ratio(1.0)),
    low("echo.switches", "echo of a byte, context switches", 1, Nothing),
    low("flood4.p50", "echo, 4 floods and 20 idle, p50, ms", 2, Nothing),
    low("flood4.p99", "echo, 4 floods and 20 idle, p99, ms", 2, Ratio(0.8)),
    high("flood4.share", "4 floods, least share to largest", 2, Value(0.85)),
    high("flood4.total", "4 floods in all, MB/s", 0, Ratio(0.9)),
    low("flood4.cpu", "4 floods, CPU, s/GB", 1, Nothing),
    low("flood8.p50", "echo, 8 floods and 200 idle, p50, ms", 2, Nothing),
    low("flood8.p99", "echo, 8 floods and 200 idle, p99, ms", 2, Ratio(0.8)),
    high("flood8.share", "8 floods, least share to largest", 2, Value(0.85)),
    high("flood8.total", "8 floods in all, MB/s", 0, Ratio(0.9)),
    low("flood8.cpu", "8 floods, CPU, s/GB", 1, Nothing),
    high("output.rate", "bulk output, MB/s", 0, Ratio(1.0)),
    low("output.cpu", "bulk output, CPU, s/GB", 1, Ratio(0.75)),
    high("input.rate", "bulk input, MB/s", 0, Ratio(1.0)),
    low("input.cpu", "bulk input, CPU, s/GB", 1, Ratio(0.8)),
    low("interrupt.p50", "^C in a flood to prompt, loopback, p50, ms", 1, Ratio(0.15)),
    low("interrupt.p99", "^C in a flood to prompt, loopback, p99, ms", 1, Nothing),
    low("link10.p50", "^C in a flood to prompt, 10 Mbit/s, p50, ms", 0, Ratio(0.06)),
    low("link10.kb", "the same, kB that arrive after ^C", 0, Nothing),
    low("link1.p50", "^C in a flood to prompt, 1 Mbit/s, p50, ms", 0, Ratio(0.06)),
    low("link1.kb", "the same, kB that arrive after ^C", 0, Nothing),
    low("memory.50", "memory per session, 50 idle, KiB", 0, Ratio(0.6)),
    low("memory.500", "memory per session, 500 idle, KiB", 0, Ratio(0.6)),
    low("many.each", "opening 2,000 sessions, ms each", 1, Ratio(0.9)),
    low("many.first", "of these the first tenth, ms each", 1, Nothing),
    low("many.last", "of these the last tenth, ms each", 1, Nothing),
    micro("many.echo-before", "echo before them, p50, µs", Nothing),
    micro("many.echo", "echo with all of them open, p50, µs", Ratio(1.05)),
    low("many.memory", "memory per session, 2,000 idle, KiB", 0, Nothing),
    low("many.processes", "server processes per session", 2, Nothing),
    low("many.wakeups", "wake-ups per second, 2,000 idle", 1, Value(0.0)),
    low("many.cpu", "CPU, ms per second, 2,000 idle", 2, Value(0.0)),
];
