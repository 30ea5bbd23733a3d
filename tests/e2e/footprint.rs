//! What the daemon holds of the machine, to be compared with what it held before.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::Daemon;
use crate::processes::{self, Process};
use crate::terminal::terminals;

/// What is held at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Footprint {
    monitor: Process,
    relay: Process,
    monitor_descriptors: usize,
    relay_descriptors: usize,
    /// All processes of the test's machine.
    processes: usize,
    terminals: usize,
    /// Everything below `/run`.
    files: Vec<PathBuf>,
    /// Entries of utmp that say somebody is logged in.
    logged_in: usize,
}

impl Footprint {
    /// What is held now.
    pub(crate) fn of(daemon: &Daemon) -> Footprint {
        let (monitor, relay) = (daemon.monitor(), daemon.relay());
        let (monitor_descriptors, relay_descriptors) = (monitor.descriptors(), relay.descriptors());
        let mut files = Vec::new();
        list(Path::new("/run"), &mut files);
        files.sort();
        Footprint {
            monitor,
            relay,
            monitor_descriptors,
            relay_descriptors,
            processes: processes::all().len(),
            terminals: terminals(),
            files,
            logged_in: logged_in(),
        }
    }

    /// What is held beyond what was held before, for a person.
    fn beyond(&self, before: &Footprint) -> Vec<String> {
        let mut found = Vec::new();
        let mut more = |what: &str, now: usize, then: usize, list: &dyn Fn() -> String| {
            if now > then {
                found.push(format!("{what}: {now} instead of {then} {}", list()));
            }
        };
        let nothing = String::new;
        let of = |process: &Process| format!("{:?}", process.descriptor_list());
        more("descriptors of the monitor", self.monitor_descriptors, before.monitor_descriptors, &|| {
            of(&self.monitor)
        });
        more("descriptors of the relay", self.relay_descriptors, before.relay_descriptors, &|| {
            of(&self.relay)
        });
        more("processes", self.processes, before.processes, &processes::table);
        more("terminals", self.terminals, before.terminals, &nothing);
        more("entries of utmp", self.logged_in, before.logged_in, &nothing);
        if self.files != before.files {
            found.push(format!("files in /run: {:?} instead of {:?}", self.files, before.files));
        }
        found
    }

    /// Waits until no more is held than before; otherwise says what is.
    pub(crate) fn wait_back(&self, daemon: &Daemon, patience: Duration) -> Result<(), String> {
        let deadline = Instant::now() + patience;
        loop {
            let beyond = Footprint::of(daemon).beyond(self);
            if beyond.is_empty() {
                return Ok(());
            }
            if deadline <= Instant::now() {
                return Err(beyond.join("; "));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn list(directory: &Path, found: &mut Vec<PathBuf>) {
    // What goes away meanwhile is not there any more, which is as good.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), found);
        }
        found.push(entry.path());
    }
}

/// The length of a record, utmp(5), and its type that stands for a login.
const RECORD: usize = 384;
const USER_PROCESS: [u8; 2] = 7_u16.to_ne_bytes();

/// Entries of utmp that say somebody is logged in.
pub(crate) fn logged_in() -> usize {
    let utmp = fs::read("/run/utmp").unwrap_or_default();
    utmp.chunks(RECORD).filter(|record| record.starts_with(&USER_PROCESS)).count()
}
