//! `rlogind status --metrics`: the Prometheus text format, version 0.0.4. Pure.

use std::fmt::Write;

use super::protocol::{Count, Status};

/// What a number may do.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Go up and down.
    Gauge,
    /// Only go up.
    Counter,
}

/// The metrics' names are stable; there may be new ones.
pub(super) fn text(status: &Status) -> String {
    let Status { version, pid: _, uptime, configuration: _, draining, listeners, sessions, limits, totals } =
        status;
    let Count { open, login, closing } = *sessions;
    let mut out = String::new();
    let mut family = |kind: Kind, name: &str, help: &str, samples: &[(&str, &str, u64)]| {
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        // Writing to a String cannot fail.
        _ = writeln!(out, "# HELP rlogind_{name} {help}\n# TYPE rlogind_{name} {kind}");
        for (label, value, number) in samples {
            _ = match *label {
                "" => writeln!(out, "rlogind_{name} {number}"),
                label => writeln!(out, "rlogind_{name}{{{label}=\"{}\"}} {number}", escaped(value)),
            };
        }
    };
    let plain = |number: u64| [("", "", number)];
    family(Kind::Gauge, "info", "The version that runs.", &[("version", version, 1)]);
    family(Kind::Gauge, "uptime_seconds", "For how long it has served, upgrades included.", &plain(*uptime));
    family(Kind::Gauge, "draining", "Whether it lets nobody in any more.", &plain(u64::from(*draining)));
    let doors = u64::try_from(listeners.len()).unwrap_or(u64::MAX);
    family(Kind::Gauge, "listeners", "Addresses it listens on.", &plain(doors));
    let states = [("state", "open", open), ("state", "login", login), ("state", "closing", closing)];
    family(Kind::Gauge, "sessions", "Sessions by state.", &states);
    family(Kind::Gauge, "sessions_limit", "The limit on sessions.", &plain(limits.sessions.into()));
    let startups = limits.startups_full.into();
    family(
        Kind::Gauge,
        "startups_limit",
        "The limit on connections that are not logged in.",
        &plain(startups),
    );
    family(Kind::Counter, "connections_total", "Connections that were let in.", &plain(totals.connections));
    let refused: Vec<_> = totals.refused.iter().map(|(reason, n)| ("reason", reason.as_str(), *n)).collect();
    family(Kind::Counter, "refused_total", "Connections refused before a session, by reason.", &refused);
    let logins = [("by", "trust", totals.by_trust), ("by", "password", totals.by_password)];
    family(Kind::Counter, "logins_total", "Logins, by how the user got in.", &logins);
    let failures = totals.password_failures;
    family(Kind::Counter, "password_failures_total", "Wrong passwords.", &plain(failures));
    let moved = [("direction", "in", totals.bytes_in), ("direction", "out", totals.bytes_out)];
    family(Kind::Counter, "bytes_total", "Bytes moved in sessions that are over.", &moved);
    let restarts = totals.relay_restarts;
    family(Kind::Counter, "relay_restarts_total", "Relays that ended and were replaced.", &plain(restarts));
    out
}

/// A label's value: three characters have a meaning in it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::sample;
    use super::*;

    #[test]
    fn it_is_in_the_text_format() {
        let text = text(&sample());
        for line in [
            "rlogind_info{version=\"0.1.0\"} 1",
            "rlogind_uptime_seconds 7500",
            "rlogind_sessions{state=\"open\"} 5",
            "rlogind_sessions{state=\"login\"} 1",
            "rlogind_sessions_limit 1000",
            "# TYPE rlogind_refused_total counter",
            "rlogind_refused_total{reason=\"too many connections\"} 1",
            "rlogind_refused_total{reason=\"a \\\"quoted\\\" \\\\ reason\"} 1",
            "rlogind_logins_total{by=\"trust\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        // Each family has its two comments, once, before its samples.
        let mut families = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# HELP ") {
                Some(rest) => families.push(rest.split(' ').next().unwrap()),
                None => assert!(line.trim_start_matches("# TYPE ").starts_with(families.last().unwrap())),
            }
        }
        let mut once = families.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), families.len());
        assert!(text.ends_with('\n'));
    }
}
