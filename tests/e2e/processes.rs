//! The processes of a test's machine, from `/proc` (proc(5)).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// One process.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The state's letter, e.g. `S` or `Z`.
    pub(crate) state: char,
    /// The effective user id.
    pub(crate) uid: u32,
    /// The short name of its program.
    pub(crate) name: String,
}

impl Process {
    /// The process with that id, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything, parentheses too.
        let (start, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let name = start.split_once('(')?.1.to_owned();
        // The directory's owner would be root for a process that is not dumpable.
        let uid = status_field(pid, "Uid:")?.split_whitespace().nth(1)?.parse().ok()?;
        Some(Process { pid, parent, state, uid, name })
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// What each of its descriptors is, for a person.
    pub(crate) fn descriptor_list(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fd", self.pid)) else { return Vec::new() };
        let links = entries.filter_map(Result::ok).map(|entry| {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            format!("{}={}", entry.file_name().to_string_lossy(), target.display())
        });
        links.collect()
    }

    /// Its memory, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let field = status_field(self.pid, "VmRSS:").unwrap();
        field.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How often all its threads went to sleep and were woken again.
    pub(crate) fn wake_ups(&self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let statuses =
            threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("status")).unwrap());
        statuses
            .map(|status| {
                let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches:"));
                line.and_then(|line| line.split_whitespace().nth(1)).unwrap().parse::<u64>().unwrap()
            })
            .sum()
    }
}

fn status_field(pid: u32, name: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
}

/// All processes, zombies too.
pub(crate) fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter_map(Process::of).collect()
}

/// The living descendants of a process, and its zombies.
pub(crate) fn descendants(ancestor: u32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![ancestor];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

/// All processes, for a person.
pub(crate) fn table() -> String {
    let output = Command::new("ps").args(["-eo", "pid,ppid,user,tty,stat,args"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The namespaces a process is in, as inode numbers.
pub(crate) fn namespaces() -> Vec<u64> {
    ["mnt", "net", "pid", "ipc", "uts"]
        .map(|kind| fs::metadata(format!("/proc/self/ns/{kind}")).unwrap().ino())
        .to_vec()
}
