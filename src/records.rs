//! Which login records are written, and when: `[audit] records`.
//!
//! PAM modules such as pam_lastlog write wtmp on their own. What is there already
//! is not written again.

pub mod journal;

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Uid, fchown};

use crate::config::Records;
use crate::sys::records::{self, BTMP, Kind, Mark, Record, UTMP, WTMP};

/// How often a record is tried to be written.
const TRIES: u32 = 3;
/// A failure that took longer has waited for a lock: 10 s in the C library.
const QUICK: Duration = Duration::from_secs(1);

/// Who sits where.
#[derive(Debug, Clone)]
pub struct Sitting<'a> {
    /// The terminal's name without `/dev/`.
    pub line: &'a str,
    /// The account.
    pub user: &'a str,
    /// The client's confirmed name, or its address.
    pub host: &'a str,
    /// The client's address.
    pub address: IpAddr,
    /// The process that stands for the session.
    pub pid: u32,
}

/// A moment, to tell what PAM wrote from what was there before.
#[must_use]
pub fn now() -> Mark {
    records::mark(WTMP)
}

/// Somebody logged in. `since` was taken before PAM opened the session.
pub fn login(policy: Records, sitting: &Sitting, since: Mark) {
    write(policy, sitting, Kind::Login, since);
}

/// Somebody logged out. `since` was taken before PAM closed the session.
pub fn logout(policy: Records, sitting: &Sitting, since: Mark) {
    write(policy, sitting, Kind::Logout, since);
}

/// Somebody failed to log in. Only for accounts that exist: another name may be a
/// mistyped password.
pub fn failure(policy: Records, sitting: &Sitting) {
    if wanted(policy, BTMP, 0o660) {
        records::append(BTMP, &record(sitting, Kind::Attempt));
    }
}

fn write(policy: Records, sitting: &Sitting, kind: Kind, since: Mark) {
    let mut entry = record(sitting, kind);
    if wanted(policy, UTMP, 0o664) {
        write_utmp(&entry);
    }
    if wanted(policy, WTMP, 0o664) && !records::has_since(WTMP, since, sitting.line, kind) {
        if kind == Kind::Logout {
            // last(1) knows a logout by its empty name.
            (entry.user, entry.host) = ("", "");
        }
        records::append(WTMP, &entry);
    }
}

/// Best effort: a login is not refused for want of a record. But a logout that is not
/// written leaves somebody logged in for ever, so it is tried again: not when the first try has
/// waited for a lock, for the session has only so much time to end.
fn write_utmp(entry: &Record) {
    let start = Instant::now();
    for _ in 0..TRIES {
        if records::write_utmp(entry).is_ok() || start.elapsed() > QUICK {
            return;
        }
    }
}

fn record<'a>(sitting: &Sitting<'a>, kind: Kind) -> Record<'a> {
    let Sitting { line, user, host, address, pid } = *sitting;
    Record { line, user, host, address, pid, kind }
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
