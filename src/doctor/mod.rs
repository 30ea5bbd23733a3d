//! `rlogind doctor`: what commonly goes wrong, looked for, with what mends it.
//!
//! Looks as `rlogind check` does and goes on from there: to the rest of the machine, which a
//! daemon does not need to start, but its users do to get in. Must never change anything, nor
//! disturb a daemon that runs.

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use crate::check::{self, Report, Verdict};
use crate::config::Config;
use crate::sys::{resolve, socket};

mod daemon;
mod firewall;
mod machine;
mod network;
mod pam;
mod superserver;
mod system;
mod trust;
pub mod wrappers;

use daemon::Listening;
use machine::Machine;
use superserver::Entries;

/// What to look at, and how to say it.
#[derive(Debug)]
pub struct Consultation<'a> {
    /// The configuration file, if one was named.
    pub config: Option<&'a Path>,
    /// Clients to look at, by their addresses.
    pub clients: &'a [IpAddr],
    /// Answer in JSON.
    pub json: bool,
}

/// Prints what was found, one finding a line and what mends it below. False when something fails.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(asked: &Consultation<'_>, out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report::default();
    let config = check::read(&mut report, asked.config).unwrap_or_else(|| {
        report.note("configuration", "the rest is looked at as if there were none");
        Config::default()
    });
    inspect(&mut report, &Machine::this(), &config, asked.clients);
    if asked.json {
        serde_json::to_writer_pretty(&mut *out, &report.findings).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&report, out)?;
    }
    Ok(report.count(Verdict::Fail) == 0)
}

fn inspect(report: &mut Report, machine: &Machine, config: &Config, clients: &[IpAddr]) {
    let mut ports: Vec<u16> = config.listen.iter().map(|address| address.port()).collect();
    ports.sort_unstable();
    ports.dedup();
    let listening: Vec<Listening> = ports.iter().map(|&port| (port, check::owners(port))).collect();
    let owners: Vec<_> = listening.iter().flat_map(|(_, owners)| owners).cloned().collect();
    let entries = Entries::read(machine);
    let starts_us = |owner: &check::Owner| entries.start_us(owner);
    let handed = owners.iter().any(|owner| owner.is_service_manager() || starts_us(owner));

    check::inspect(report, config, &starts_us);
    daemon::inspect(report, machine, config, &listening, handed);
    entries.report(report, &owners);
    superserver::socket_units(report, machine, &ports, &owners);
    wrappers::inspect(report, machine, config, owners.iter().any(starts_us));
    pam::inspect(report, machine, config);
    trust::inspect(report, config);
    for &client in clients {
        network::client(report, config, client, resolve::confirmed_name);
    }
    network::services(report, machine);
    network::timeouts(report, machine, config);
    network::own_ports(report, machine, socket::is_open_to_all(1023));
    firewall::inspect(report, machine, &ports);
    system::syslog(report, machine);
    system::records(report, machine, config);
    system::room(report, machine, config, daemon::pid(machine, &listening));
    system::kernel(report, machine);
}

fn print(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
        if let Some(mend) = &finding.mend {
            writeln!(out, "      → {mend}")?;
        }
    }
    match (report.count(Verdict::Fail), report.count(Verdict::Warn)) {
        (0, 0) => writeln!(out, "Nothing is wrong."),
        (fails, warnings) => writeln!(out, "{fails} FAIL, {warnings} WARN."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would be printed, without the columns.
    pub(super) fn lines(report: &Report) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in &report.findings {
            lines.push(format!("{} {} {}", finding.verdict, finding.what, finding.text));
            lines.extend(finding.mend.iter().map(|mend| format!("→ {mend}")));
        }
        lines
    }

    #[test]
    fn mends_stand_below_and_the_sum_at_the_end() {
        let mut report = Report::default();
        let printed = |report: &Report| {
            let mut out = Vec::new();
            print(report, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        report.ok("a", "fine");
        assert_eq!(printed(&report), "ok    a              fine\nNothing is wrong.\n");
        report.warn("socket unit", "bad").mend("do this");
        let expected =
            "ok    a              fine\nWARN  socket unit    bad\n      → do this\n0 FAIL, 1 WARN.\n";
        assert_eq!(printed(&report), expected);
    }

    #[test]
    fn a_wrong_configuration_is_no_reason_to_stop() {
        let folder = crate::sys::ownership::tests::folder();
        let file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        std::fs::write(file.path(), "[login]\nattempts = 0\n").unwrap();
        let asked = Consultation { config: Some(file.path()), clients: &[], json: true };
        let mut out = Vec::new();
        assert!(!run(&asked, &mut out).unwrap());
        let findings: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let findings = findings.as_array().unwrap();
        assert_eq!(findings[0]["verdict"], "fail");
        assert_eq!(findings[0]["what"], "configuration");
        assert!(findings[0]["mend"].is_string() && findings.len() > 10, "{findings:?}");
        let bad =
            findings.iter().filter(|finding| finding["verdict"] == "warn" || finding["verdict"] == "fail");
        assert!(bad.into_iter().all(|finding| finding["mend"].is_string()), "{findings:?}");
        let keys: Vec<&String> = findings[1].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["mend", "text", "verdict", "what"]);
    }
}
