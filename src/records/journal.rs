//! Which sessions have their login recorded: one small file for each, in a directory of
//! root's, so that the daemon's next start can close what a crash of all processes left open.
//!
//! A file names the session process so that it can be told from every other one of this boot. It
//! is written before the login and removed behind the logout; a later session on the same
//! terminal takes its place, so there are no more of them than terminals.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::unistd::{Gid, Uid, chown};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Records};
use crate::sys::process;
use crate::sys::records::{UTMP, WTMP};
use crate::sys::stale_records::{Left, close_utmp, close_wtmp};

/// The most files that are looked at, and the longest, in bytes.
const MOST_FILES: usize = 16 * 1024;
const LONGEST: u64 = 4 * 1024;
/// How often a file is tried to be removed: a single failure is no reason to leave it.
const TRIES: u32 = 3;

/// What a file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The boot of the machine; with another one utmp was cleared.
    boot: String,
    line: String,
    pid: i32,
    /// When the process was started, in ticks since then.
    started: u64,
    /// When the login was about to be recorded, in seconds since 1970.
    since: i64,
}

/// The sessions' files of a daemon with this configuration.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    policy: Records,
}

impl Journal {
    /// The one beside the control socket.
    #[must_use]
    pub fn of(config: &Config) -> Journal {
        let directory = config.control.socket.parent().unwrap_or(Path::new("/")).join("sessions");
        Journal { directory, policy: config.audit.records }
    }

    /// This process is about to record a login on the line.
    ///
    /// # Errors
    /// When the file cannot be written. The session can do without.
    pub fn enter(&self, line: &str) -> io::Result<()> {
        if self.policy == Records::No {
            return Ok(());
        }
        let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let started = process::started_at(pid)?.ok_or(io::ErrorKind::NotFound)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since = i64::try_from(since).map_err(io::Error::other)?;
        let note = Note { boot: process::boot_id()?, line: line.to_owned(), pid, started, since };
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            // A session process has its user's group.
            Ok(()) => chown(&self.directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let path = self.file(line);
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(&serde_json::to_vec(&note)?)
    }

    /// The logout on the line is recorded.
    pub fn leave(&self, line: &str) {
        let file = self.file(line);
        // It may never have been written.
        let is_gone = |outcome: io::Result<()>| match outcome {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let _ = (0..TRIES).any(|_| is_gone(fs::remove_file(&file)));
    }

    /// Closes the records of those sessions whose processes are gone, and returns how many there were.
    ///
    /// # Errors
    /// When a file of records cannot be changed: then all notes stay, for the next time.
    pub fn close_stale(&self) -> io::Result<u32> {
        let boot = process::boot_id()?;
        let mut gone = self.notes()?;
        gone.retain(|(_, note)| note.is_over(&boot));
        let of_this_boot = gone.iter().map(|(_, note)| note).filter(|note| note.boot == boot);
        let mut left: Vec<Left> = of_this_boot.map(Note::left).collect();
        if self.policy != Records::No {
            close_utmp(Path::new(UTMP), &mut left)?;
            close_wtmp(Path::new(WTMP), &mut left)?;
        }
        for (path, note) in gone {
            // A new session may have come to the terminal meanwhile.
            if read(&path) == Some(note) {
                let _ = fs::remove_file(path);
            }
        }
        let closed = left.iter().filter(|left| left.closed).count();
        Ok(u32::try_from(closed).unwrap_or(u32::MAX))
    }

    /// All files that are notes, and what each says. What was not written whole is left to the next
    /// session on that terminal.
    fn notes(&self) -> io::Result<Vec<(PathBuf, Note)>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let paths = entries.take(MOST_FILES).map(|entry| Ok(entry?.path()));
        let paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
        Ok(paths.into_iter().filter_map(|path| read(&path).map(|note| (path, note))).collect())
    }

    fn file(&self, line: &str) -> PathBuf {
        self.directory.join(line.replace('/', "-"))
    }
}

fn read(path: &Path) -> Option<Note> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

impl Note {
    /// Whether nobody closes this session any more: its process is gone, or its machine was.
    fn is_over(&self, boot: &str) -> bool {
        // What cannot be told is left alone.
        self.boot != boot || process::started_at(self.pid).is_ok_and(|started| started != Some(self.started))
    }

    fn left(&self) -> Left {
        Left { line: self.line.clone(), pid: self.pid, since: self.since, closed: false }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::OsString;

    use super::*;

    /// A journal that has nothing to do with this machine's records.
    fn journal(policy: Records) -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal { directory: folder.path().join("sessions"), policy };
        (folder, journal)
    }

    fn note() -> Note {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = process::started_at(pid).unwrap().unwrap();
        Note { boot: process::boot_id().unwrap(), line: "pts/3".to_owned(), pid, started, since: 0 }
    }

    #[test]
    fn a_session_is_over_when_its_process_is_gone_and_not_before() {
        let boot = note().boot;
        assert!(!note().is_over(&boot));
        assert!(Note { started: note().started + 1, ..note() }.is_over(&boot), "another process");
        assert!(note().is_over("another boot"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while process::started_at(pid).unwrap().is_some() {
            std::thread::yield_now();
        }
        assert!(Note { pid, ..note() }.is_over(&boot), "nobody has waited for it yet");
        child.wait().unwrap();
        assert!(Note { pid, ..note() }.is_over(&boot));
    }

    #[test]
    fn notes_of_living_sessions_stay_and_those_of_others_go() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let (_folder, journal) = journal(Records::Auto);
        assert_eq!(journal.close_stale().unwrap(), 0, "there is no directory yet");
        journal.enter("pts/3").unwrap();
        assert_eq!(read(&journal.directory.join("pts-3")).unwrap().line, "pts/3");
        fs::write(journal.directory.join("else"), "somebody's").unwrap();
        let other = Note { boot: "another".to_owned(), ..note() };
        fs::write(journal.directory.join("pts-5"), serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(journal.close_stale().unwrap(), 0);
        let names = fs::read_dir(&journal.directory).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(names.collect::<BTreeSet<_>>(), ["else", "pts-3"].map(OsString::from).into());
        journal.leave("pts/3");
        assert_eq!(fs::read_dir(&journal.directory).unwrap().count(), 1);
    }

    #[test]
    fn without_records_there_are_no_notes() {
        let (_folder, journal) = journal(Records::No);
        journal.enter("pts/3").unwrap();
        assert!(!journal.directory.exists());
    }
}
