//! `rlogind status` as text. Pure.

use std::fmt::Write;

use super::protocol::{Count, Status};
use super::text::{bytes, duration, visible};

/// How the daemon is, for people; less than 80 characters in a line but for reasons and paths.
pub(super) fn text(status: &Status) -> String {
    let Status { version, pid, uptime, configuration, draining, listeners, sessions, limits, totals } =
        status;
    let mut out = format!("rlogind {}, process {pid}, up {}\n", visible(version), duration(*uptime));
    // Writing to a String cannot fail.
    let mut line = |name: &str, text: String| _ = writeln!(out, "{name:<14}{text}");
    line("configuration", visible(configuration));
    if *draining {
        line("listening", "no more: draining, ends with its last session".to_owned());
    }
    for (index, door) in listeners.iter().enumerate() {
        let name = if index == 0 { "listening" } else { "" };
        line(name, format!("{} {}", door.address, visible(&door.service)));
    }
    let Count { open, login, closing } = sessions;
    let all = open + login + closing;
    line(
        "sessions",
        format!("{all} of {}: {open} open, {login} at login, {closing} closing", limits.sessions),
    );
    let (some, none) = (limits.startups, limits.startups_full);
    line("", format!("from {some} at login on some are refused, from {none} on the oldest give way"));
    line("connections", format!("{} since the start", totals.connections));
    let (trust, password) = (totals.by_trust, totals.by_password);
    let failures = totals.password_failures;
    line("logins", format!("{trust} by trust, {password} by password; {failures} wrong passwords"));
    line(
        "moved",
        format!("{} in, {} out, in sessions that are over", bytes(totals.bytes_in), bytes(totals.bytes_out)),
    );
    line(
        "relay",
        match totals.relay_restarts {
            0 => "never had to be replaced".to_owned(),
            times => format!("ended and was replaced {times} times"),
        },
    );
    if totals.refused.is_empty() {
        line("refused", "nobody".to_owned());
    }
    for (index, (reason, count)) in totals.refused.iter().enumerate() {
        let name = if index == 0 { "refused" } else { "" };
        line(name, format!("{count}: {}", visible(reason)));
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::protocol::{Door, Limits, Totals};

    pub(in crate::control) fn sample() -> Status {
        let mut totals = Totals { connections: 12, by_trust: 3, by_password: 4, ..Totals::default() };
        totals.refuse("too many connections");
        totals.refuse("a \"quoted\" \\ reason: x");
        Status {
            version: "0.1.0".to_owned(),
            pid: 123,
            uptime: 7500,
            configuration: "/etc/rlogind.toml".to_owned(),
            draining: false,
            listeners: vec![
                Door { address: "0.0.0.0:513".parse().unwrap(), service: "rlogin".to_owned() },
                Door { address: "[::]:1".parse().unwrap(), service: "tcpmux".to_owned() },
            ],
            sessions: Count { open: 5, login: 1, closing: 0 },
            limits: Limits { sessions: 1000, startups: 250, startups_full: 500 },
            totals,
        }
    }

    #[test]
    fn it_reads_well() {
        let expected = "\
rlogind 0.1.0, process 123, up 2h05m
configuration /etc/rlogind.toml
listening     0.0.0.0:513 rlogin
              [::]:1 tcpmux
sessions      6 of 1000: 5 open, 1 at login, 0 closing
              from 250 at login on some are refused, from 500 on the oldest give way
connections   12 since the start
logins        3 by trust, 4 by password; 0 wrong passwords
moved         0 in, 0 out, in sessions that are over
relay         never had to be replaced
refused       1: a \"quoted\" \\ reason
              1: too many connections
";
        assert_eq!(text(&sample()), expected);
        let draining = Status { draining: true, listeners: Vec::new(), ..sample() };
        assert!(text(&draining).contains("listening     no more: draining"));
    }
}
