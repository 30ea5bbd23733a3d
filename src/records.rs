//! Which login records are written, and when: `[audit] records`.
//!
//! Any user can hold up whoever writes them. So a session process never does it itself: a child of
//! its own does, and the session waits for it for a second at most. What is not written by then stays
//! in the session's entry in the [registry], and the records [worker] writes it when that can be done.
//!
//! PAM modules such as pam_lastlog write wtmp on their own. What is there already is not written again.

pub mod registry;
pub mod worker;

use std::ffi::CStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, fchown};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Records};
use crate::sys::fork::{Child, Outcome, run_in_child};
use crate::sys::process;
use crate::sys::records::{self, BTMP, Login, Search, Stamp, UTMP, WTMP};
use registry::SessionRegistry;

/// How long a session waits for its records to be written.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often a record is tried to be written within that time.
const TRIES: u32 = 3;

/// What the processes that write them are called.
const WRITER: &CStr = c"rlogind-utmp";

/// Who logs in where.
#[derive(Debug, Clone)]
pub struct Who<'a> {
    /// The terminal's name without `/dev/`.
    pub line: &'a str,
    /// The account.
    pub user: &'a str,
    /// The client's confirmed name, or its address.
    pub host: &'a str,
    /// The client's address.
    pub address: IpAddr,
}

/// A session's login, and which process it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginRecord {
    /// The boot of the machine; with another one utmp was cleared.
    boot: String,
    /// When the session process was started, in ticks since then.
    started: u64,
    login: Login,
}

/// What a session could not write in its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Why not.
    pub cause: PendingCause,
    /// What there is no entry of in the registry either: there is no other trace of it.
    pub record: Option<LoginRecord>,
}

/// Why records were not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PendingCause {
    /// Another process holds up whoever writes them.
    Blocked,
    /// They cannot be written. The records worker says why, if that lasts.
    Failed,
}

/// A child that writes the records of one login when it is told of it.
#[derive(Debug, Default)]
pub struct Writer(Option<Child>);

/// The records of the session that this process stands for.
#[derive(Debug)]
pub struct SessionRecords {
    /// Writes the login. Started early, when there was little of this process to copy.
    writer: Writer,
    /// Has no more to do, and is to be taken out of the process table.
    done: Option<Child>,
    registry: SessionRegistry,
    policy: Records,
    record: LoginRecord,
    /// There are too many sessions already whose records wait.
    is_left_out: bool,
    /// Why the session's entry could not be written.
    trouble: Option<String>,
}

/// A moment, to tell what PAM wrote from what was there before.
#[must_use]
pub fn now() -> Stamp {
    Stamp::now()
}

/// Somebody failed to log in. Only for accounts that exist: another name may be a mistyped password.
/// What cannot be written in time is dropped.
pub fn failure(policy: Records, who: &Who) {
    let login = login_of(who, Stamp::now());
    let write = || !wanted(policy, BTMP, 0o660) || records::append_attempt(Path::new(BTMP), &login).is_ok();
    if policy != Records::No {
        let _ = run_in_child(c"rlogind-btmp", PATIENCE, write);
    }
}

impl Writer {
    /// Starts it, unless no records are written. Without it another child is started when the user logs in.
    #[must_use]
    pub fn start(policy: Records) -> Writer {
        let write = move |text: &[u8]| {
            postcard::from_bytes(text).is_ok_and(|login: Login| write_one(policy, &login).is_ok())
        };
        Writer(if policy == Records::No { None } else { Child::start(WRITER, write).ok() })
    }
}

impl SessionRecords {
    /// Of a user that logs in now. `since` was taken before PAM opened the session.
    #[must_use]
    pub fn new(config: &Config, who: &Who, since: Stamp, writer: Writer) -> SessionRecords {
        let registry = SessionRegistry::of(config);
        let login = login_of(who, since);
        // Without these nobody finds out that the process is gone.
        let boot = (0..TRIES).find_map(|_| process::boot_id().ok()).unwrap_or_default();
        let started = (0..TRIES).find_map(|_| process::started_at(login.pid).ok().flatten());
        let started = started.unwrap_or_default();
        let record = LoginRecord { boot, started, login };
        let policy = config.audit.records;
        SessionRecords { writer, done: None, registry, policy, record, is_left_out: false, trouble: None }
    }

    /// The user logged in. Returns what the records worker has to do.
    pub fn login(&mut self) -> Option<Pending> {
        if self.policy == Records::No {
            return None;
        }
        if self.registry.is_pending() {
            self.done = self.writer.0.take();
            self.record.login.write_login = true;
            return self.begin_to_wait(PendingCause::Blocked);
        }
        // Best effort: it matters when this process is killed.
        if let Err(error) = self.registry.write(&self.record) {
            self.trouble = Some(format!("cannot write to {}: {error}", self.registry.directory().display()));
        }
        self.record.login.write_login = true;
        match self.write() {
            Outcome::Done => {
                self.record.login.write_login = false;
                None
            }
            outcome @ (Outcome::Failed | Outcome::TimedOut) => self.begin_to_wait(self.cause(outcome)),
        }
    }

    /// Takes the child that was to write the login out of the process table. It may take a moment to be gone.
    pub fn reap_writer(&mut self) {
        self.done.take().into_iter().for_each(Child::reap);
    }

    /// Why there is no entry of the session in the registry; once.
    pub fn take_trouble(&mut self) -> Option<String> {
        self.trouble.take()
    }

    /// The user logged out. Returns what the records worker has to do.
    pub fn logout(&mut self) -> Option<Pending> {
        if self.policy == Records::No {
            return None;
        }
        self.record.login.logout = Some(Stamp::now());
        let cause = if self.registry.is_pending() {
            PendingCause::Blocked
        } else {
            match self.write() {
                Outcome::Done => {
                    // Left there, the records worker removes it.
                    let _ = self.registry.remove(&self.record);
                    return None;
                }
                outcome @ (Outcome::Failed | Outcome::TimedOut) => self.cause(outcome),
            }
        };
        (!self.is_left_out).then(|| self.leave(cause))
    }

    fn write(&mut self) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..TRIES {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.try_write(left) {
                Ok(Outcome::Failed) | Err(_) => {}
                Ok(outcome @ (Outcome::Done | Outcome::TimedOut)) => return outcome,
            }
        }
        Outcome::Failed
    }

    fn try_write(&mut self, limit: Duration) -> io::Result<Outcome> {
        let (policy, login) = (self.policy, &self.record.login);
        match self.writer.0.take() {
            Some(child) => {
                let text = postcard::to_stdvec(login).map_err(io::Error::other)?;
                let outcome = child.run(&text, limit);
                // Nobody has to wait now for its end.
                self.done = Some(child);
                Ok(outcome)
            }
            None => run_in_child(WRITER, limit, || write_one(policy, login).is_ok()),
        }
    }

    fn cause(&self, outcome: Outcome) -> PendingCause {
        match outcome {
            Outcome::TimedOut => {
                self.registry.set_pending();
                PendingCause::Blocked
            }
            // It took no time, so the others may try as well.
            Outcome::Failed | Outcome::Done => PendingCause::Failed,
        }
    }

    /// Leaves the login to the records worker, unless there are too many already that wait.
    fn begin_to_wait(&mut self, cause: PendingCause) -> Option<Pending> {
        self.is_left_out = self.registry.is_full();
        if self.is_left_out {
            self.record.login.write_login = false;
            let _ = self.registry.remove(&self.record);
        }
        (!self.is_left_out).then(|| self.leave(cause))
    }

    /// Leaves what is not written to the records worker.
    fn leave(&self, cause: PendingCause) -> Pending {
        let is_written = (0..TRIES).any(|_| self.registry.write(&self.record).is_ok());
        Pending { cause, record: (!is_written).then(|| self.record.clone()) }
    }
}

impl LoginRecord {
    /// Whether its session process is gone. If that cannot be told, it is not.
    fn is_gone(&self) -> bool {
        process::started_at(self.login.pid).is_ok_and(|started| started != Some(self.started))
    }
}

fn login_of(who: &Who, since: Stamp) -> Login {
    let Who { line, user, host, address } = *who;
    Login {
        line: line.to_owned(),
        user: user.to_owned(),
        host: host.to_owned(),
        address,
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        since,
        at: Stamp::now(),
        write_login: false,
        logout: None,
    }
}

/// Writes what is missing of a session's records.
fn write_one(policy: Records, login: &Login) -> io::Result<()> {
    // The worker may have written the login, and others much more.
    let search = if login.write_login && login.logout.is_some() { Search::Thorough } else { Search::Recent };
    update(policy, &mut [login.clone()], search).map(|_| ())
}

/// Writes what is missing of these logins, the earliest first, to wtmp and utmp. Returns of each whether a logout was
/// written.
fn update(policy: Records, logins: &mut [Login], search: Search) -> io::Result<Vec<bool>> {
    let utmp = wanted(policy, UTMP, 0o664).then_some(Path::new(UTMP));
    let wtmp = wanted(policy, WTMP, 0o664).then_some(Path::new(WTMP));
    update_files(utmp, wtmp, logins, search)
}

fn update_files(
    utmp: Option<&Path>,
    wtmp: Option<&Path>,
    logins: &mut [Login],
    search: Search,
) -> io::Result<Vec<bool>> {
    if let Some(utmp) = utmp
        && search == Search::Thorough
    {
        // However long ago, and whatever has become of wtmp since.
        records::skip_written(utmp, logins)?;
    }
    let mut closed = Ok(vec![false; logins.len()]);
    // wtmp first: what is in utmp, wtmp had before, or could not be given (a full disk): that is no reason to keep it from
    // utmp. One after the other, for who waits for the one must not hold the other.
    if let Some(wtmp) = wtmp {
        closed = records::update_wtmp(wtmp, logins, search);
    }
    if let Some(utmp) = utmp {
        let in_utmp = records::update_utmp(utmp, logins)?;
        closed = closed.map(|closed| closed.into_iter().zip(in_utmp).map(|(a, b)| a || b).collect());
    }
    closed
}

/// Whether a file is written; it is made when the administrator insists on it.
fn wanted(policy: Records, file: &str, mode: u32) -> bool {
    match policy {
        Records::No => false,
        // One that cannot be looked at just now may well be there.
        Records::Auto => {
            fs::metadata(file).map_or_else(|error| error.kind() != io::ErrorKind::NotFound, |_| true)
        }
        Records::Yes => make(file, mode).is_ok(),
    }
}

/// Makes the file unless it is there, for root and the group utmp.
fn make(file: &str, mode: u32) -> io::Result<()> {
    let file = match OpenOptions::new().append(true).create_new(true).mode(0o600).open(file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        outcome => outcome?,
    };
    // A session process runs with the user's group, which must not come by the file, and with a
    // file mode mask, which would keep the group from it that should.
    let group = users::get_group_by_name("utmp").map_or(0, |group| group.gid());
    fchown(&file, Some(Uid::from_raw(0)), Some(Gid::from_raw(group)))?;
    file.set_permissions(Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A login at that second. With 0 for the process, this one is meant, which lives; any other is gone.
    pub(super) fn record(line: &str, pid: i32, seconds: u32) -> LoginRecord {
        let own = i32::try_from(std::process::id()).unwrap();
        let at = Stamp { seconds, micros: 7 };
        let login = Login {
            line: line.to_owned(),
            user: "alice".to_owned(),
            host: "host.example".to_owned(),
            address: "2001:db8::1".parse().unwrap(),
            pid: if pid == 0 { own } else { pid },
            since: at,
            at,
            write_login: false,
            logout: None,
        };
        let started = process::started_at(own).unwrap().unwrap();
        // No other process can have been started then.
        LoginRecord {
            boot: process::boot_id().unwrap(),
            started: if pid == 0 { started } else { 1 << 60 },
            login,
        }
    }

    fn session(policy: Records, folder: &Path) -> SessionRecords {
        let registry = SessionRegistry::at(folder.join("sessions"));
        SessionRecords {
            writer: Writer::start(policy),
            done: None,
            registry,
            policy,
            record: record("pts/3", 0, 100),
            is_left_out: false,
            trouble: None,
        }
    }

    #[test]
    fn a_session_is_gone_with_its_process_and_not_before() {
        let own = record("pts/3", 0, 100);
        assert!(!own.is_gone());
        assert!(LoginRecord { started: own.started + 1, ..own.clone() }.is_gone(), "another process");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        while process::started_at(pid).unwrap().is_some() {
            std::thread::yield_now();
        }
        let ended = LoginRecord { login: Login { pid, ..own.login.clone() }, ..own };
        assert!(ended.is_gone(), "nobody has waited for it yet");
        child.wait().unwrap();
        assert!(ended.is_gone());
    }

    #[test]
    fn while_records_are_behind_a_session_leaves_its_own_and_waits_for_nothing() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(Records::Auto, folder.path());
        session.registry.set_pending();
        let expected = Some(Pending { cause: PendingCause::Blocked, record: None });
        assert_eq!(session.login(), expected);
        let entries = session.registry.entries().unwrap();
        assert!(entries.len() == 1 && entries[0].login.write_login && entries[0].login.logout.is_none());
        assert_eq!(session.logout(), expected);
        let entries = session.registry.entries().unwrap();
        assert!(entries.len() == 1 && entries[0].login.write_login && entries[0].login.logout.is_some());
        // Without a directory that can be made, the record goes with the message.
        fs::remove_dir_all(folder.path().join("sessions")).unwrap();
        fs::write(folder.path().join("sessions"), "in the way").unwrap();
        let Pending { record, .. } = session.leave(PendingCause::Blocked);
        assert_eq!(record.unwrap(), entries[0]);
    }

    #[test]
    fn the_number_of_those_that_wait_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(Records::Auto, folder.path());
        fs::create_dir(folder.path().join("sessions")).unwrap();
        session.registry.set_pending();
        for number in 1..registry::MOST_WAITING {
            fs::write(folder.path().join(format!("sessions/{number}")), "").unwrap();
        }
        // One that had its login recorded leaves its logout whatever comes.
        let mut before = self::session(Records::Auto, folder.path());
        assert_eq!((session.login(), session.logout()), (None, None));
        assert!(session.registry.entries().unwrap().is_empty());
        assert!(before.logout().is_some());
        assert_eq!(session.registry.entries().unwrap().len(), 1);
    }

    #[test]
    fn without_records_there_are_no_entries() {
        let folder = tempfile::tempdir().unwrap();
        let mut session = session(Records::No, folder.path());
        assert_eq!((session.login(), session.logout()), (None, None));
        assert!(!folder.path().join("sessions").exists());
    }
}
