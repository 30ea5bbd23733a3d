//! What was found, in memory and in a file of tab-separated lines.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Outcome;
use crate::scenario::Scenario;
use crate::servers::Server;

/// Figures of all rounds.
#[derive(Default)]
pub(crate) struct Results {
    found: BTreeMap<(Server, String), Vec<f64>>,
    failed: BTreeMap<(Server, Scenario), String>,
    lines: String,
    load: Option<String>,
}

impl Results {
    /// Notes how busy the machine was before anything was measured.
    pub(crate) fn begin(&mut self, load: &str) {
        self.lines += &format!("load\t{load}\n");
        self.load = Some(load.to_owned());
    }

    /// The load average (proc_loadavg(5)) of the minute before.
    pub(crate) fn load(&self) -> Option<&str> {
        self.load.as_deref()
    }

    /// Takes the lines `figure NAME VALUE` of one measurement.
    pub(crate) fn take(&mut self, scenario: Scenario, server: Server, told: &str) {
        for line in told.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if let ["figure", name, value] = words.as_slice()
                && let Ok(value) = value.parse()
            {
                self.add(scenario, server, name, value);
            }
        }
    }

    fn add(&mut self, scenario: Scenario, server: Server, name: &str, value: f64) {
        self.found.entry((server, name.to_owned())).or_default().push(value);
        self.lines += &format!("{}\t{}\t{name}\t{value}\n", scenario.name(), server.name());
    }

    /// Notes why a measurement failed.
    pub(crate) fn fail(&mut self, scenario: Scenario, server: Server, why: &str) {
        self.lines += &format!("{}\t{}\t!\t{why}\n", scenario.name(), server.name());
        self.failed.entry((server, scenario)).or_insert_with(|| why.to_owned());
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, server: Server, name: &str) -> Option<f64> {
        let mut values = self.found.get(&(server, name.to_owned()))?.clone();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = values.get(middle).copied()?;
        if values.len() % 2 == 1 { Some(upper) } else { Some((values.get(middle - 1)? + upper) / 2.0) }
    }

    /// Why there is no figure of that name.
    pub(crate) fn why_not(&self, server: Server, name: &str) -> Option<&str> {
        let scenario = Scenario::named(name.split('.').next()?)?;
        self.failed.get(&(server, scenario)).map(String::as_str)
    }

    /// All failures.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (Server, Scenario, &str)> {
        self.failed.iter().map(|(&(server, scenario), why)| (server, scenario, why.as_str()))
    }

    /// Writes all to a file.
    pub(crate) fn write(&self, file: &Path) -> Outcome<()> {
        Ok(fs::write(file, &self.lines)?)
    }

    /// Reads what was written.
    pub(crate) fn read(file: &Path) -> Outcome<Results> {
        let mut results = Results::default();
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        for line in text.lines() {
            if let Some(load) = line.strip_prefix("load\t") {
                results.begin(load);
            }
            let [scenario, server, name, value] = line.split('\t').collect::<Vec<_>>()[..] else { continue };
            let scenario = Scenario::named(scenario).ok_or("a scenario nobody knows")?;
            let server = Server::named(server).ok_or("a server nobody knows")?;
            match value.parse() {
                Ok(number) if name != "!" => results.add(scenario, server, name, number),
                _ => results.fail(scenario, server, value),
            }
        }
        Ok(results)
    }
}
