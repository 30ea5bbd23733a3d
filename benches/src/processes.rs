//! What the server's processes cost, from /proc. Inside a machine of its own the
//! server's are all but the user's (shells and programs), process 1 and this one.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;
use crate::world::UID;

/// What they have used so far, in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time in nanoseconds.
    pub(crate) cpu: u64,
    /// How often one of them went to sleep or was made to wait.
    pub(crate) switches: u64,
}

impl Usage {
    /// Since then. A process that ended in between takes its share with it: only for
    /// times in which none ends.
    pub(crate) fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

/// The server's processes now.
pub(crate) fn usage() -> Outcome<Usage> {
    let mut sum = Usage::default();
    for process in of_server()? {
        for thread in fs::read_dir(process.join("task")).into_iter().flatten().flatten() {
            let thread = thread.path();
            sum.cpu += on_processor(&thread).unwrap_or(0);
            for name in ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"] {
                sum.switches += value(&thread.join("status"), name).unwrap_or(0);
            }
        }
    }
    Ok(sum)
}

/// Their memory in KiB: what is shared counts for each by its share (PSS, proc_pid_smaps(5)).
pub(crate) fn memory() -> Outcome<u64> {
    let rollup = |process: &PathBuf| value(&process.join("smaps_rollup"), "Pss:");
    Ok(of_server()?.iter().filter_map(rollup).sum())
}

/// How many there are.
pub(crate) fn count() -> Outcome<usize> {
    Ok(of_server()?.len())
}

fn of_server() -> Outcome<Vec<PathBuf>> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        // None: it has just ended.
        let Some(uid) = value(&path.join("status"), "Uid:") else { continue };
        if pid != 1 && pid != own && uid != u64::from(UID) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The first number behind that name.
fn value(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// In nanoseconds; the ticks of /proc/PID/stat would be too coarse for a keystroke.
fn on_processor(thread: &Path) -> Option<u64> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}
