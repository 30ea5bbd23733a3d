//! What is still to be written of the sessions: one small file for each, in a directory of root's.
//!
//! A session process writes its entry before its login is recorded, and removes it when its logout
//! is. What could not be written by then is left to the records worker, and so is the entry of a session
//! whose process is gone. Only the session writes its entry, and what the worker removes is never
//! written again: so neither waits for the other.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Uid, chown};

use super::LoginRecord;
use crate::config::Config;
use crate::sys::file;

/// The most entries that are looked at, and the longest, in bytes.
const MOST_ENTRIES: usize = 64 * 1024;
const LONGEST: u64 = 16 * 1024;
/// While records cannot be written, a session that begins with so many entries is not recorded.
pub(super) const MOST_WAITING: usize = 8 * 1024;
/// How often an entry is tried to be removed: a single failure is no reason to leave it.
const TRIES: u32 = 3;
/// There while records cannot be written.
const MARKER: &str = "pending";
/// How the name of an entry ends that is not whole yet.
const DRAFT: &str = "new";

/// The sessions' entries of a daemon with this configuration.
#[derive(Debug, Clone)]
pub struct SessionRegistry {
    directory: PathBuf,
}

/// Whoever has this is the only worker on a registry.
#[derive(Debug)]
pub(super) struct WorkerLock {
    /// `None`: there is no directory to lock, and only what does not stand in it to be written.
    _lock: Option<Flock<File>>,
}

impl SessionRegistry {
    /// The one beside the control socket.
    #[must_use]
    pub fn of(config: &Config) -> SessionRegistry {
        SessionRegistry::at(config.control.socket.parent().unwrap_or(Path::new("/")).join("sessions"))
    }

    pub(super) fn at(directory: PathBuf) -> SessionRegistry {
        SessionRegistry { directory }
    }

    /// Writes an entry, or writes it anew.
    pub(super) fn write(&self, record: &LoginRecord) -> io::Result<()> {
        self.make_directory()?;
        let path = self.path(record);
        let draft = path.with_extension(format!("{}.{DRAFT}", record.login.pid));
        let write = || {
            let mut file =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            fs::rename(&draft, &path)
        };
        write().inspect_err(|_| {
            let _ = fs::remove_file(&draft);
        })
    }

    /// Where the entries are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Removes an entry, of which nothing is left to be written.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub(super) fn remove(&self, record: &LoginRecord) -> io::Result<()> {
        let path = self.path(record);
        let mut outcome = Ok(());
        for _ in 0..TRIES {
            outcome = match fs::remove_file(&path) {
                // It may never have been written.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                outcome => outcome,
            };
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Whether records cannot be written at the moment.
    pub(super) fn is_pending(&self) -> bool {
        fs::exists(self.directory.join(MARKER)).unwrap_or(false)
    }

    /// Records cannot be written: no other session need find that out by waiting.
    pub(super) fn set_pending(&self) {
        let marker = self.directory.join(MARKER);
        let _ = self.make_directory().and_then(|()| File::options().create(true).append(true).open(marker));
    }

    /// Records can be written again.
    pub(super) fn clear_pending(&self) {
        let _ = fs::remove_file(self.directory.join(MARKER));
    }

    /// Whether no session more may wait for its records to be written.
    pub(super) fn is_full(&self) -> bool {
        fs::read_dir(&self.directory).is_ok_and(|entries| entries.take(MOST_WAITING).count() == MOST_WAITING)
    }

    /// All entries, the earliest login first. What is no entry stays where it is; what was not written whole goes.
    pub(super) fn entries(&self) -> io::Result<Vec<LoginRecord>> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(Vec::new());
            }
            outcome => outcome?,
        };
        let mut records = Vec::new();
        for entry in entries.take(MOST_ENTRIES) {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == DRAFT) {
                remove_abandoned(&path);
            } else if let Some(record) = read(&path).filter(|record| self.path(record) == path) {
                records.push(record);
            }
        }
        records.sort_by_key(|record| record.login.at);
        Ok(records)
    }

    /// `None` when another process is the worker.
    pub(super) fn lock(&self) -> io::Result<Option<WorkerLock>> {
        let Ok(directory) = File::open(&self.directory) else { return Ok(Some(WorkerLock { _lock: None })) };
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(WorkerLock { _lock: Some(lock) })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(error.into()),
        }
    }

    fn make_directory(&self) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.directory) {
            // A session process has its user's group.
            Ok(()) => Ok(chown(&self.directory, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn path(&self, record: &LoginRecord) -> PathBuf {
        self.directory.join(format!("{}.{}", record.login.line.replace('/', "-"), record.login.pid))
    }
}

/// Removes an entry that was not written whole when its session process is gone.
fn remove_abandoned(draft: &Path) {
    let mut parts = draft.file_name().and_then(|name| name.to_str()).unwrap_or_default().rsplit('.');
    let pid = parts.nth(1).and_then(|pid| pid.parse().ok());
    if pid.is_some_and(|pid| matches!(crate::sys::process::started_at(pid), Ok(None))) {
        let _ = fs::remove_file(draft);
    }
}

fn read(path: &Path) -> Option<LoginRecord> {
    serde_json::from_slice(&file::read(path, LONGEST).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_and_what_is_none_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let registry = SessionRegistry::at(folder.path().to_owned());
        let [late, early] = [record("pts/3", 70, 200), record("pts/3", 0, 100)];
        registry.write(&late).unwrap();
        registry.write(&early).unwrap();
        registry.write(&late).unwrap();
        let own = std::process::id();
        for (name, text) in [
            ("else", "somebody's"),
            ("pts-5", r#"{"boot":"b","line":"pts/5","pid":7,"started":8,"since":9}"#),
            // A process that cannot be, and one that may still write.
            ("pts-6.99999999.new", "{"),
            (&format!("pts-6.{own}.new"), "{"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        assert_eq!(registry.entries().unwrap(), [early.clone(), late.clone()]);
        registry.remove(&early).unwrap();
        registry.remove(&late).unwrap();
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["else", "pts-5", &format!("pts-6.{own}.new")]);
    }

    #[test]
    fn an_entry_that_cannot_be_written_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let registry = SessionRegistry::at(folder.path().join("missing/sessions"));
        assert!(registry.write(&record("pts/3", 70, 200)).is_err());
        registry.set_pending();
        assert!(!registry.is_pending() && registry.entries().unwrap().is_empty());
        assert!(registry.lock().unwrap().is_some());
    }
}
