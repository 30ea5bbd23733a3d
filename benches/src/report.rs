//! docs/BENCHMARKS.md and its plots, from the results. The text around the figures is
//! in `method.md`, beside this tool's manifest.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Outcome;
use crate::chart::{Chart, Kind, Panel, Series};
use crate::figures::{Better, Figure, TABLE, Wanted};
use crate::measure::STEPS;
use crate::results::Results;
use crate::servers::{self, Server};

/// What the documents are written from, and where the project is.
pub(crate) struct Report<'a> {
    /// The figures.
    pub(crate) results: &'a Results,
    /// The project's directory.
    pub(crate) project: &'a Path,
}

/// What stands around the figures.
const METHOD: &str = include_str!("../method.md");

impl Report<'_> {
    /// Writes the document and the plots.
    pub(crate) fn write(&self) -> Outcome<()> {
        let folder = self.project.join("docs/bench");
        fs::create_dir_all(&folder)?;
        for (name, chart) in
            [("logins.svg", self.logins()), ("echo.svg", self.echo()), ("memory.svg", self.memory())]
        {
            fs::write(folder.join(name), chart.svg()?)?;
        }
        let text =
            METHOD.replace("@MACHINE@", self.machine()?.trim()).replace("@TABLE@", self.table()?.trim());
        fs::write(self.project.join("docs/BENCHMARKS.md"), text)?;
        eprintln!("Written: docs/BENCHMARKS.md, docs/bench/*.svg");
        Ok(())
    }

    /// The table, and what failed.
    pub(crate) fn table(&self) -> Outcome<String> {
        let mut out = String::from("| what |");
        servers::ALL.iter().for_each(|server| out += &format!(" {} |", label(*server)));
        out += " to the best peer | wanted | to the floor |\n|---|";
        servers::ALL.iter().for_each(|_| out += "---:|");
        out += "---:|---:|---:|\n";
        for figure in TABLE {
            self.line(&mut out, figure)?;
        }
        let mut failures: BTreeMap<(Server, &str), Vec<&str>> = BTreeMap::new();
        for (server, scenario, why) in self.results.failures() {
            failures.entry((server, why)).or_default().push(scenario.name());
        }
        for (number, ((server, why), scenarios)) in failures.into_iter().enumerate() {
            out += if number == 0 { "\nWhat failed, in one round at least:\n\n" } else { "" };
            writeln!(out, "- {}, {}: {why}", label(server), scenarios.join(", "))?;
        }
        Ok(out)
    }

    fn line(&self, out: &mut String, figure: &Figure) -> Outcome<()> {
        let value = |server| Some(self.results.median(server, figure.name)? * figure.scale);
        if servers::ALL.into_iter().all(|server| value(server).is_none()) {
            return Ok(());
        }
        write!(out, "| {} |", figure.label)?;
        for server in servers::ALL {
            match value(server) {
                Some(value) => write!(out, " {value:.*} |", figure.digits)?,
                None if self.results.why_not(server, figure.name).is_some() => out.push_str(" n/a |"),
                None => out.push_str(" |"),
            }
        }
        let peers = servers::ALL.into_iter().filter(|server| server.is_peer()).filter_map(value);
        let best = peers.reduce(match figure.better {
            Better::Low => f64::min,
            Better::High => f64::max,
        });
        let ours = value(Server::Ours);
        let to_best = ratio(ours, best);
        let number = |ratio: Option<f64>| ratio.map_or(String::new(), |ratio| format!("{ratio:.2}"));
        let floor = ratio(ours, value(Server::Floor));
        writeln!(out, " {} | {} | {} |", number(to_best), wanted(figure, to_best, ours), number(floor))?;
        Ok(())
    }

    /// Machine, versions and date.
    fn machine(&self) -> Outcome<String> {
        let processor = first_value("/proc/cpuinfo", "model name").unwrap_or_default();
        let memory = first_value("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kibibytes: f64 = memory.trim_end_matches(" kB").parse()?;
        let system = first_value("/etc/os-release", "PRETTY_NAME").unwrap_or_default();
        let daemon = self.project.join("target/release/rlogind");
        let version = said(Command::new(daemon).arg("--version"));
        let commit =
            said(Command::new("git").arg("-C").arg(self.project).args(["rev-parse", "--short", "HEAD"]));
        let peers = fs::read_to_string(self.project.join("target/peers/versions")).unwrap_or_default();
        let mut out = String::new();
        writeln!(out, "- Date: {}", said(Command::new("date").args(["-u", "+%Y-%m-%d"])))?;
        writeln!(
            out,
            "- Machine: {processor}, {} processors, {:.0} GiB of memory; Linux {}, {}",
            std::thread::available_parallelism()?,
            kibibytes / f64::from(1 << 20),
            said(Command::new("uname").arg("-r")),
            system.trim_matches('"'),
        )?;
        let load = self.results.load().unwrap_or("unknown");
        writeln!(
            out,
            "- Load average before: {load} (above 0.5 other things were running, and the figures are noise)"
        )?;
        writeln!(out, "- {version}, commit {commit}")?;
        peers.lines().for_each(|peer| out += &format!("- {peer}\n"));
        Ok(out)
    }

    fn series(&self, names: &[String], scale: f64) -> Vec<Series> {
        let shown = [Server::Ours, Server::Netkit, Server::Redone, Server::Inetutils, Server::Floor];
        let of = |server| {
            let value = |name: &String| Some(self.results.median(server, name)? * scale);
            let values = names.iter().map(value).collect();
            Series { name: label(server), colour: colour(server), values }
        };
        shown.into_iter().map(of).collect()
    }

    fn logins(&self) -> Chart {
        let panel = |count| Panel {
            title: String::new(),
            ticks: vec![format!("{count} at once")],
            series: self.series(&[format!("burst{count}.rate")], 1.0),
        };
        Chart {
            title: "Logins at once: how many a second",
            values: "logins per second (more is better)",
            kind: Kind::Bars,
            panels: [50, 200].map(panel).into(),
        }
    }

    fn echo(&self) -> Chart {
        let percentiles = ["p50", "p90", "p99", "p999"];
        let panel = |(scenario, title): (&str, &str)| Panel {
            title: title.to_owned(),
            ticks: ["50 %", "90 %", "99 %", "99.9 %"].map(str::to_owned).into(),
            series: self.series(&percentiles.map(|percentile| format!("{scenario}.{percentile}")), 1.0),
        };
        Chart {
            title: "From a typed byte to its echo",
            values: "milliseconds (less is better); so many of the bytes were echoed within this time",
            kind: Kind::Lines,
            panels: [
                ("echo", "one session"),
                ("flood4", "with 4 that flood and 20 idle"),
                ("flood8", "with 8 that flood and 200 idle"),
            ]
            .map(panel)
            .into(),
        }
    }

    fn memory(&self) -> Chart {
        let panel = Panel {
            title: "idle sessions".to_owned(),
            ticks: STEPS.map(|step| step.to_string()).into(),
            series: self.series(&STEPS.map(|step| format!("memory.{step}")), 1.0),
        };
        Chart {
            title: "Memory of the server for each session",
            values: "KiB per session, shells excluded (less is better)",
            kind: Kind::Lines,
            panels: vec![panel],
        }
    }
}

fn label(server: Server) -> &'static str {
    match server {
        Server::Ours => "rlogind",
        Server::Netkit => "netkit",
        Server::Redone => "rsh-redone",
        Server::Inetutils => "inetutils",
        Server::Floor => "floor",
        Server::FloorPam => "floor with PAM",
    }
}

fn colour(server: Server) -> &'static str {
    match server {
        Server::Ours => "#d1495b",
        Server::Netkit => "#30638e",
        Server::Redone => "#00798c",
        Server::Inetutils => "#edae49",
        Server::Floor | Server::FloorPam => "#999",
    }
}

fn ratio(ours: Option<f64>, other: Option<f64>) -> Option<f64> {
    let other = other.filter(|&other| other > 0.0)?;
    Some(ours? / other)
}

/// The goal, and whether it was reached.
fn wanted(figure: &Figure, ratio: Option<f64>, ours: Option<f64>) -> String {
    let (goal, found) = match figure.wanted {
        Wanted::Nothing => return String::new(),
        Wanted::Ratio(goal) => (goal, ratio),
        Wanted::Value(goal) => (goal, ours),
    };
    let (sign, reached) = match figure.better {
        Better::Low => ("≤", found.map(|found| found <= goal)),
        Better::High => ("≥", found.map(|found| found >= goal)),
    };
    let what = if matches!(figure.wanted, Wanted::Value(_)) { " itself" } else { "" };
    let mark = match reached {
        Some(true) => " ✓",
        Some(false) => " ✗",
        None => "",
    };
    format!("{sign} {goal}{what}{mark}")
}

/// The value of the first line with that name, whatever is between the two.
fn first_value(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches([':', '=', ' ', '\t']).to_owned())
}

/// What a command says; nothing when it cannot be run.
fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).trim().to_owned()
}
