//! The records worker: a process that writes what sessions could not, and closes the records of
//! sessions whose processes are gone.
//!
//! It waits for the records as long as it takes: any user can hold their lock. Nobody waits for it.
//! There is one at a time. Whatever it does, it can do again: what is in the files is not written twice.

use std::io;

use serde::{Deserialize, Serialize};

use super::registry::SessionRegistry;
use super::{LoginRecord, update};
use crate::config::Records;
use crate::sys::process;
use crate::sys::records::{Login, Search, Stamp};

/// What the worker has to know besides the entries of the sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Session processes that were killed.
    pub killed: Vec<Killed>,
    /// What sessions could not even write an entry for.
    pub records: Vec<LoginRecord>,
}

/// A session process that did not end in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Killed {
    /// The terminal's name without `/dev/`.
    pub line: String,
    /// The process.
    pub pid: i32,
    /// When it ended.
    pub at: Stamp,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// All is written. So many sessions had left their records open, besides those that are named in the task.
    Written(u32),
    /// Another process is at it.
    Busy,
}

/// An entry of which something is to be written.
#[derive(Debug)]
struct Due {
    /// With the logout, when its process is gone.
    record: LoginRecord,
    /// Nobody has told that the process is gone.
    is_news: bool,
}

/// Writes what is missing, however long it takes. `more` has what the worker is told meanwhile.
///
/// # Errors
/// When the records cannot be written: the entries stay, for the next time.
pub fn run(
    registry: &SessionRegistry,
    policy: Records,
    task: Task,
    more: impl FnMut() -> Option<Task>,
) -> io::Result<Done> {
    run_with(registry, task, more, |logins| update(policy, logins, Search::Thorough))
}

/// `update` writes what is missing of these logins, and returns of each whether a logout was written.
fn run_with(
    registry: &SessionRegistry,
    mut task: Task,
    mut more: impl FnMut() -> Option<Task>,
    mut update: impl FnMut(&mut [Login]) -> io::Result<Vec<bool>>,
) -> io::Result<Done> {
    let boot = process::boot_id()?;
    // The sessions that go on, and whose login is written.
    let mut settled: Vec<LoginRecord> = Vec::new();
    let mut closed = 0;
    loop {
        let Some(lock) = registry.lock()? else { return Ok(Done::Busy) };
        loop {
            while let Some(Task { killed, records }) = more() {
                task.killed.extend(killed);
                task.records.extend(records);
            }
            let batch = due(registry, &boot, &settled, &task)?;
            let Task { killed, records } = std::mem::take(&mut task);
            if batch.is_empty() && records.is_empty() && killed.is_empty() {
                break;
            }
            let (mut logins, news) = logins(&boot, &batch, records, killed);
            let are_closed = update(&mut logins)?;
            let told = are_closed.iter().zip(news).filter(|(is_closed, is_news)| **is_closed && *is_news);
            closed += u32::try_from(told.count()).unwrap_or(u32::MAX);
            for Due { record, .. } in batch {
                if record.login.logout.is_some() {
                    registry.remove(&record)?;
                } else {
                    settled.push(record);
                }
            }
        }
        registry.clear_pending();
        drop(lock);
        // Somebody who came meanwhile has found the lock taken.
        if due(registry, &boot, &settled, &task)?.is_empty() {
            return Ok(Done::Written(closed));
        }
    }
}

/// The entries of which something is to be written. Those of another boot are among them, to be removed.
fn due(registry: &SessionRegistry, boot: &str, settled: &[LoginRecord], task: &Task) -> io::Result<Vec<Due>> {
    let due = |mut record: LoginRecord| {
        let killed = task.killed.iter().find(|killed| killed.is_of(&record.login));
        let is_gone = record.boot != boot || record.is_gone();
        let is_waiting = record.login.logout.is_some() || record.login.write_login;
        if record.login.logout.is_none() && (killed.is_some() || is_gone) {
            record.login.logout = Some(killed.map_or_else(Stamp::now, |killed| killed.at));
            return Some(Due { record, is_news: killed.is_none() });
        }
        (is_waiting && !settled.contains(&record)).then_some(Due { record, is_news: false })
    };
    Ok(registry.entries()?.into_iter().filter_map(due).collect())
}

/// All of these that are of this boot, the earliest first, and of each whether nobody has told that its process is gone.
fn logins(
    boot: &str,
    batch: &[Due],
    handed: Vec<LoginRecord>,
    killed: Vec<Killed>,
) -> (Vec<Login>, Vec<bool>) {
    let of_batch = batch.iter().map(|due| (&due.record, due.is_news));
    let mut logins: Vec<(Login, bool)> = of_batch
        .chain(handed.iter().map(|record| (record, false)))
        .filter(|(record, _)| record.boot == boot)
        .map(|(record, is_news)| (record.login.clone(), is_news))
        .collect();
    for killed in killed {
        let mut has_entry = false;
        for (login, _) in logins.iter_mut().filter(|(login, _)| killed.is_of(login)) {
            login.logout.get_or_insert(killed.at);
            has_entry = true;
        }
        if !has_entry {
            logins.push((killed.into(), false));
        }
    }
    logins.sort_by_key(|(login, _)| login.at);
    logins.into_iter().unzip()
}

impl Killed {
    fn is_of(&self, login: &Login) -> bool {
        self.pid == login.pid && self.line == login.line
    }
}

impl From<Killed> for Login {
    fn from(killed: Killed) -> Login {
        Login {
            line: killed.line,
            user: String::new(),
            host: String::new(),
            address: std::net::Ipv4Addr::UNSPECIFIED.into(),
            pid: killed.pid,
            since: Stamp::default(),
            at: killed.at,
            write_login: false,
            logout: Some(killed.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{tests::record, update_files};
    use super::*;
    use crate::sys::records::tests::{LIVE, OVER, shown};

    /// A registry and two files of this test's own.
    struct Here {
        registry: SessionRegistry,
        folder: tempfile::TempDir,
    }

    impl Here {
        fn new() -> Here {
            let folder = tempfile::tempdir().unwrap();
            for file in ["utmp", "wtmp"] {
                std::fs::write(folder.path().join(file), "").unwrap();
            }
            let registry = SessionRegistry::at(folder.path().join("sessions"));
            std::fs::create_dir(folder.path().join("sessions")).unwrap();
            Here { registry, folder }
        }

        fn path(&self, file: &str) -> std::path::PathBuf {
            self.folder.path().join(file)
        }

        fn run(&self, task: Task) -> io::Result<Done> {
            let (utmp, wtmp) = (self.path("utmp"), self.path("wtmp"));
            run_with(
                &self.registry,
                task,
                || None,
                |logins| update_files(Some(&utmp), Some(&wtmp), logins, Search::Thorough),
            )
        }

        fn shown(&self) -> [Vec<(String, i32, i16, u32)>; 2] {
            ["utmp", "wtmp"].map(|file| shown(&self.path(file)))
        }

        fn entries(&self) -> usize {
            self.registry.entries().unwrap().len()
        }
    }

    fn entry(line: &str, pid: i32, kind: i16, seconds: u32) -> (String, i32, i16, u32) {
        (line.to_owned(), pid, kind, seconds)
    }

    fn stamp(seconds: u32) -> Stamp {
        Stamp { seconds, micros: 0 }
    }

    #[test]
    fn what_sessions_left_is_written_in_their_order_and_once() {
        let here = Here::new();
        // One after the other on the same terminal, and one that goes on.
        for (pid, line, at, logout) in
            [(71, "pts/3", 200, Some(300)), (70, "pts/3", 100, Some(150)), (0, "pts/4", 250, None)]
        {
            let mut record = record(line, pid, at);
            (record.login.write_login, record.login.logout) = (true, logout.map(stamp));
            here.registry.write(&record).unwrap();
        }
        here.registry.set_pending();
        let own = i32::try_from(std::process::id()).unwrap();
        let utmp = [entry("pts/4", own, LIVE, 250)];
        let wtmp = [
            entry("pts/3", 70, LIVE, 100),
            entry("pts/3", 70, OVER, 150),
            entry("pts/3", 71, LIVE, 200),
            entry("pts/3", 71, OVER, 300),
            entry("pts/4", own, LIVE, 250),
        ];
        for _ in 0..3 {
            assert_eq!(here.run(Task::default()).unwrap(), Done::Written(0));
            assert_eq!(here.shown(), [utmp.to_vec(), wtmp.to_vec()]);
            assert_eq!((here.entries(), here.registry.is_pending()), (1, false));
        }
        // A log rotation does not bring it back.
        std::fs::write(here.path("wtmp"), "").unwrap();
        here.run(Task::default()).unwrap();
        assert_eq!(here.shown(), [utmp.to_vec(), Vec::new()]);
    }

    #[test]
    fn sessions_that_are_gone_are_closed_with_an_entry_and_without() {
        let here = Here::new();
        let mut logins: Vec<_> =
            [("pts/1", 71), ("pts/2", 72), ("pts/3", 73)].map(|(line, pid)| record(line, pid, 100)).to_vec();
        let mut all: Vec<Login> = logins.iter().map(|record| record.login.clone()).collect();
        all.iter_mut().for_each(|login| login.write_login = true);
        update_files(Some(&here.path("utmp")), Some(&here.path("wtmp")), &mut all, Search::Recent).unwrap();
        // The first one is gone without a word; the second one was killed; and so was the third one, which has no entry.
        logins[0].started = 1;
        here.registry.write(&logins[0]).unwrap();
        here.registry.write(&logins[1]).unwrap();
        let killed = |line: &str, pid, at| Killed { line: line.to_owned(), pid, at: stamp(at) };
        let task = Task {
            killed: vec![killed("pts/2", 72, 120), killed("pts/3", 73, 130), killed("pts/4", 73, 140)],
            records: Vec::new(),
        };
        assert_eq!(here.run(task.clone()).unwrap(), Done::Written(1));
        let [utmp, wtmp] = here.shown();
        assert_eq!(utmp.iter().map(|entry| entry.2).collect::<Vec<_>>(), [OVER; 3]);
        assert_eq!((utmp[1].3, utmp[2].3), (120, 130));
        assert_eq!(wtmp.len(), 6, "{wtmp:?}");
        assert_eq!(here.entries(), 0);
        here.run(task).unwrap();
        assert_eq!(here.shown(), [utmp, wtmp]);
    }

    #[test]
    fn records_without_an_entry_are_written_and_a_failure_leaves_entries_and_marker() {
        let here = Here::new();
        let mut record = record("pts/3", 70, 100);
        (record.login.write_login, record.login.logout) = (true, Some(stamp(150)));
        here.registry.write(&record).unwrap();
        here.registry.set_pending();
        let failed = run_with(&here.registry, Task::default(), || None, |_| Err(io::Error::other("full")));
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!((here.entries(), here.registry.is_pending()), (1, true));
        here.registry.remove(&record).unwrap();
        // The whole directory is gone.
        std::fs::remove_dir_all(here.path("sessions")).unwrap();
        let task = Task { killed: Vec::new(), records: vec![record] };
        assert_eq!(here.run(task).unwrap(), Done::Written(0));
        assert_eq!(here.shown()[1], [entry("pts/3", 70, LIVE, 100), entry("pts/3", 70, OVER, 150)]);
    }

    #[test]
    fn there_is_one_worker_at_a_time_and_what_comes_meanwhile_is_its() {
        let here = Here::new();
        let late = record("pts/9", 79, 100);
        let mut first = record("pts/3", 70, 100);
        (first.login.write_login, first.login.logout) = (true, Some(stamp(150)));
        here.registry.write(&first).unwrap();
        let mut seen = Vec::new();
        let done = run_with(
            &here.registry,
            Task::default(),
            || None,
            |logins| {
                if seen.is_empty() {
                    assert_eq!(here.run(Task::default()).unwrap(), Done::Busy);
                    let mut late = late.clone();
                    late.login.logout = Some(stamp(160));
                    here.registry.write(&late).unwrap();
                }
                seen.extend(logins.iter().map(|login| login.line.clone()));
                Ok(vec![false; logins.len()])
            },
        );
        assert_eq!((done.unwrap(), here.entries()), (Done::Written(0), 0));
        assert_eq!(seen, ["pts/3", "pts/9"]);
        assert!(!Path::new(&here.path("sessions/pending")).exists());
    }
}
