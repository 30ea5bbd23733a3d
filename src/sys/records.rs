//! The login records: utmp, wtmp and btmp, utmp(5).
//!
//! utmp says who is logged in now, wtmp keeps every login and logout, btmp the failed ones. A
//! record is looked for and written under one lock, which the calls of the C library cannot do:
//! so what is there already, by whatever hand, is not written again, and what another program
//! wrote is not touched.
//!
//! **Every user can hold the lock of utmp and wtmp**, and on some file systems hold up a read or
//! write of them. So these functions wait without an end, and only processes call them that
//! nobody waits for: see `sys::fork`.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::net::IpAddr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use serde::{Deserialize, Serialize};

use super::file;
use layout::{RawRecord, SIZE};

mod layout;

/// Who is logged in.
pub const UTMP: &str = "/var/run/utmp";
/// Every login and logout.
pub const WTMP: &str = "/var/log/wtmp";
/// Every failed login.
pub const BTMP: &str = "/var/log/btmp";

/// The most records that are looked at: of utmp the first, of wtmp the last.
const MOST: usize = 16 * 1024;
/// How many of the last records a process looks at that knows the login to be its own.
const RECENT: usize = 256;

/// The time of a record: seconds since 1970, in 32 bits and until 2106 as the readers take
/// them, and microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Microseconds of that second.
    pub micros: u32,
}

impl Stamp {
    /// This moment.
    #[must_use]
    pub fn now() -> Stamp {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Stamp { seconds: u32::try_from(now.as_secs()).unwrap_or(u32::MAX), micros: now.subsec_micros() }
    }
}

/// A login, and what has to be written of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The terminal's name without `/dev/`.
    pub line: String,
    /// The account.
    pub user: String,
    /// The client's confirmed name, or its address.
    pub host: String,
    /// The client's address.
    pub address: IpAddr,
    /// The process that stands for the session.
    pub pid: i32,
    /// From when on somebody else, such as a PAM module, may have written it; zero: nobody else has.
    pub since: Stamp,
    /// When the user logged in. A record of another time is another login's.
    pub at: Stamp,
    /// The login is to be written unless it is there.
    pub write_login: bool,
    /// When the user logged out: to be written unless it is there.
    pub logout: Option<Stamp>,
}

/// How far back the records of a line are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Search {
    /// For the session's own process. The line is its own, so if its login is not among the last records, it is further back.
    Recent,
    /// For anybody else.
    Thorough,
}

impl Login {
    /// Whether the record is this login, written by the session's own process.
    fn is_own(&self, record: &RawRecord) -> bool {
        self.is_login_of_line(record)
            && record.pid() == self.pid
            && (self.since.seconds..=self.at.seconds).contains(&record.stamp().seconds)
    }

    /// The same, or by a PAM module's helper, which has a process id of its own.
    fn is_own_or_modules(&self, record: &RawRecord) -> bool {
        let is_known = self.since != Stamp::default();
        let is_modules = is_known && (self.since..=self.at).contains(&record.stamp());
        self.is_own(record) || is_modules && self.is_login_of_line(record)
    }

    fn is_login_of_line(&self, record: &RawRecord) -> bool {
        record.is_login() && record.line() == self.line.as_bytes()
    }

    /// Whether a later login on the same line is on record: the readers take it for the end of this one.
    fn is_superseded_by(&self, record: &RawRecord) -> bool {
        self.is_login_of_line(record) && record.stamp() > self.at
    }
}

/// What is to be written for logins that utmp has: of these, wtmp was written before. Without a lock: nobody else writes
/// records of ours, and whoever did so was done long ago.
///
/// # Errors
/// When the file cannot be read.
pub fn skip_written(utmp: &Path, logins: &mut [Login]) -> io::Result<()> {
    let file = match file::open(utmp) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(|error| at(utmp, &error))?,
    };
    let records = read(&file, 0, MOST)?;
    for login in logins.iter_mut().filter(|login| login.write_login) {
        login.write_login = !records.iter().any(|record| login.is_own(record));
    }
    Ok(())
}

/// Writes to wtmp what is missing of these logins, the first of which is the earliest. Returns of each
/// whether a logout was written.
///
/// # Errors
/// When the file cannot be locked, read or written.
pub fn update_wtmp(path: &Path, logins: &[Login], search: Search) -> io::Result<Vec<bool>> {
    let mut closed = vec![false; logins.len()];
    let Some(file) = open_locked(path)? else { return Ok(closed) };
    let window = match search {
        Search::Recent => RECENT,
        Search::Thorough => MOST,
    };
    // A part of a record at the end is what a crash left; the C library writes over it as well.
    let end = file.metadata()?.len() / SIZE as u64;
    let mut records = read(&file, end.saturating_sub(window as u64), window)?;
    let known = records.len();
    for (login, closed) in logins.iter().zip(&mut closed) {
        let is_known = |record: &RawRecord| login.is_own_or_modules(record) || login.is_superseded_by(record);
        if login.write_login && !records.iter().any(is_known) {
            records.push(RawRecord::login(login));
        }
        let Some(time) = login.logout else { continue };
        let last = records.iter().rfind(|record| record.line() == login.line.as_bytes());
        let open = match last {
            Some(last) => {
                let is_open = match search {
                    Search::Recent => login.is_own_or_modules(last),
                    Search::Thorough => login.is_own(last),
                };
                is_open.then(|| last.clone())
            }
            None => (search == Search::Recent).then(|| RawRecord::login(login)),
        };
        if let Some(mut record) = open {
            record.end(time);
            // last(1) knows a logout by its empty name.
            record.clear_names();
            records.push(record);
            *closed = true;
        }
    }
    append(&file, end, &records[known..])?;
    Ok(closed)
}

/// Writes to utmp who of these is logged in, and marks those logins as over that have ended. Returns
/// of each whether it did the latter.
///
/// # Errors
/// As [`update_wtmp`].
pub fn update_utmp(path: &Path, logins: &[Login]) -> io::Result<Vec<bool>> {
    let mut closed = vec![false; logins.len()];
    let Some(file) = open_locked(path)? else { return Ok(closed) };
    let mut records = read(&file, 0, MOST)?;
    for (login, closed) in logins.iter().zip(&mut closed) {
        let own = records.iter().position(|record| login.is_own(record));
        let changed = match (own, login.logout) {
            (Some(own), Some(time)) => {
                records[own].end(time);
                *closed = true;
                own
            }
            (None, None) if login.write_login => {
                let Some(slot) = slot_for(login, &mut records)? else { continue };
                slot
            }
            (Some(_), None) | (None, Some(_) | None) => continue,
        };
        file.write_all_at(&records[changed].0, changed as u64 * SIZE as u64)?;
    }
    Ok(closed)
}

/// Puts the login where pututxline(3) would, but in nobody's place who is logged in elsewhere; `None` when somebody who logged in later is there.
fn slot_for(login: &Login, records: &mut Vec<RawRecord>) -> io::Result<Option<usize>> {
    let record = RawRecord::login(login);
    let Some(slot) = records.iter().position(|other| record.may_replace(other)) else {
        if records.len() >= MOST {
            return Err(io::Error::other("too many records"));
        }
        records.push(record);
        return Ok(Some(records.len() - 1));
    };
    if login.is_superseded_by(&records[slot]) {
        return Ok(None);
    }
    records[slot] = record;
    Ok(Some(slot))
}

/// Appends a failed login to btmp.
///
/// # Errors
/// As [`update_wtmp`].
pub fn append_attempt(path: &Path, login: &Login) -> io::Result<()> {
    let Some(file) = open_locked(path)? else { return Ok(()) };
    let end = file.metadata()?.len() / SIZE as u64;
    append(&file, end, &[RawRecord::attempt(login)])
}

/// Writes whole records at the end, or none.
fn append(file: &File, end: u64, records: &[RawRecord]) -> io::Result<()> {
    let bytes = records.iter().flat_map(|record| record.0).collect::<Vec<u8>>();
    let end = end * SIZE as u64;
    file.write_all_at(&bytes, end).inspect_err(|_| {
        let _ = file.set_len(end);
    })
}

fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// The file, which nobody else writes until it is closed; `None` when there is none that can be written. It waits for the lock that the
/// C library takes as well, for as long as that takes.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    use ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let file = match file::open_for_writing(path) {
        // Not there, or not for writing, as the administrator wants it.
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem) => {
            return Ok(None);
        }
        outcome => outcome.map_err(|error| at(path, &error))?,
    };
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap_or_default(),
        l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let mut of_file = true;
    loop {
        let wait = if of_file { FcntlArg::F_OFD_SETLKW(&lock) } else { FcntlArg::F_SETLKW(&lock) };
        match fcntl(&file, wait) {
            Ok(_) => return Ok(Some(file)),
            Err(Errno::EINTR) => {}
            // A kernel of another make may know only locks that belong to a process.
            Err(Errno::EINVAL) if of_file => of_file = false,
            Err(error) => return Err(error.into()),
        }
    }
}

/// So many records from that one on.
fn read(mut file: &File, first: u64, most: usize) -> io::Result<Vec<RawRecord>> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(first * SIZE as u64))?;
    let mut bytes = Vec::new();
    file.take((most * SIZE) as u64).read_to_end(&mut bytes)?;
    let (whole, _) = bytes.as_chunks::<SIZE>();
    Ok(whole.iter().copied().map(RawRecord).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::slice;

    use super::*;

    pub(crate) const LIVE: i16 = libc::USER_PROCESS;
    pub(crate) const OVER: i16 = libc::DEAD_PROCESS;

    /// Line, process, type and second of each record.
    pub(crate) fn shown(path: &Path) -> Vec<(String, i32, i16, u32)> {
        let records = read(&File::open(path).unwrap(), 0, MOST).unwrap();
        let line = |record: &RawRecord| String::from_utf8(record.line().to_vec()).unwrap();
        records
            .iter()
            .map(|record| (line(record), record.pid(), record.kind(), record.stamp().seconds))
            .collect()
    }

    fn stamp(seconds: u32) -> Stamp {
        Stamp { seconds, micros: 500 }
    }

    fn login(line: &str, pid: i32, seconds: u32) -> Login {
        Login {
            line: line.to_owned(),
            user: "alice".to_owned(),
            host: "host.example".to_owned(),
            address: "2001:db8::1".parse().unwrap(),
            pid,
            since: stamp(seconds - 2),
            at: stamp(seconds),
            write_login: true,
            logout: None,
        }
    }

    fn over(login: &Login, seconds: u32) -> Login {
        Login { write_login: false, logout: Some(stamp(seconds)), ..login.clone() }
    }

    fn file(records: &[RawRecord]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        append(file.as_file(), 0, records).unwrap();
        file
    }

    fn kinds(file: &tempfile::NamedTempFile) -> Vec<(i32, i16)> {
        shown(file.path()).into_iter().map(|(_, pid, kind, _)| (pid, kind)).collect()
    }

    #[test]
    fn a_record_is_as_the_c_library_has_it() {
        let record = RawRecord::login(&login("pts/987", 12, 300));
        // SAFETY: a utmpx is plain data for which any bytes are valid.
        let entry: libc::utmpx = unsafe { record.0.as_ptr().cast::<libc::utmpx>().read_unaligned() };
        let text = |field: &[libc::c_char]| {
            let bytes = field.iter().map(|c| c.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
            String::from_utf8(bytes.collect()).unwrap()
        };
        assert_eq!((entry.ut_type, entry.ut_pid), (libc::USER_PROCESS, 12));
        assert_eq!((text(&entry.ut_line), text(&entry.ut_id)), ("pts/987".to_owned(), "/987".to_owned()));
        assert_eq!(
            (text(&entry.ut_user), text(&entry.ut_host)),
            ("alice".to_owned(), "host.example".to_owned())
        );
        assert_eq!(entry.ut_addr_v6[3].to_ne_bytes(), [0, 0, 0, 1]);
        assert_eq!((i64::from(entry.ut_tv.tv_sec), i64::from(entry.ut_tv.tv_usec)), (300, 500));
        let long = "x".repeat(300);
        let record = RawRecord::login(&Login { user: long, ..login("pts/1", 1, 300) });
        let from = std::mem::offset_of!(libc::utmpx, ut_user);
        assert_eq!(
            record.0[from..from + 33],
            [[b'x'; 32].as_slice(), b"h"].concat(),
            "no NUL, nothing beyond"
        );
    }

    #[test]
    fn a_login_is_written_once_and_so_is_its_end() {
        let (utmp, wtmp) = (file(&[]), file(&[]));
        let own = login("pts/1", 10, 300);
        for _ in 0..2 {
            update_wtmp(wtmp.path(), slice::from_ref(&own), Search::Recent).unwrap();
            update_utmp(utmp.path(), slice::from_ref(&own)).unwrap();
        }
        assert_eq!((kinds(&utmp), kinds(&wtmp)), (vec![(10, LIVE)], vec![(10, LIVE)]));
        let mut again = [own.clone()];
        skip_written(utmp.path(), &mut again).unwrap();
        assert!(!again[0].write_login);
        let own = over(&own, 400);
        for closed in [true, false] {
            assert_eq!(update_wtmp(wtmp.path(), slice::from_ref(&own), Search::Recent).unwrap(), [closed]);
            assert_eq!(update_utmp(utmp.path(), slice::from_ref(&own)).unwrap(), [closed]);
        }
        assert_eq!((kinds(&utmp), kinds(&wtmp)), (vec![(10, OVER)], vec![(10, LIVE), (10, OVER)]));
        let logout = &read(wtmp.as_file(), 1, 1).unwrap()[0];
        assert_eq!(logout.stamp(), stamp(400));
        assert_eq!(logout.0[std::mem::offset_of!(libc::utmpx, ut_user)], 0, "last(1) asks for that");
    }

    #[test]
    fn what_a_module_wrote_is_not_written_again() {
        let own = login("pts/1", 10, 300);
        let by_helper = RawRecord::login(&Login { pid: 11, at: stamp(299), ..own.clone() });
        let by_another = RawRecord::login(&Login { pid: 11, at: stamp(290), ..own.clone() });
        let wtmp = file(&[by_helper]);
        update_wtmp(wtmp.path(), slice::from_ref(&own), Search::Recent).unwrap();
        assert_eq!(kinds(&wtmp), [(11, LIVE)]);
        assert_eq!(update_wtmp(wtmp.path(), &[over(&own, 400)], Search::Recent).unwrap(), [true]);
        let wtmp = file(&[by_another]);
        update_wtmp(wtmp.path(), &[own], Search::Recent).unwrap();
        assert_eq!(kinds(&wtmp), [(11, LIVE), (10, LIVE)]);
    }

    #[test]
    fn utmp_keeps_everybody_but_the_one_that_is_meant() {
        let all = [("pts/1", 10), ("pts/2", 11), ("pts/3", 12)].map(|(line, pid)| login(line, pid, 300));
        let by_another = RawRecord::login(&Login { pid: 21, ..login("pts/2", 11, 290) });
        let utmp = file(&[RawRecord::login(&all[0]), by_another, RawRecord::login(&all[2])]);
        // One of ours; the line's is somebody else's; the process sits elsewhere; a later login of the same process.
        let meant = [
            over(&all[0], 400),
            over(&all[1], 400),
            over(&Login { line: "pts/9".to_owned(), ..all[2].clone() }, 400),
            over(&login("pts/3", 12, 200), 400),
        ];
        assert_eq!(update_utmp(utmp.path(), &meant).unwrap(), [true, false, false, false]);
        assert_eq!(kinds(&utmp), [(10, OVER), (21, LIVE), (12, LIVE)]);
        // A login takes the place of whoever had the line before, and of nobody who came later.
        let next = [login("pts/1", 20, 500), login("pts/2", 22, 250)];
        update_utmp(utmp.path(), &next).unwrap();
        assert_eq!(kinds(&utmp), [(20, LIVE), (21, LIVE), (12, LIVE)]);
    }

    #[test]
    fn long_terminal_numbers_take_nobodys_place() {
        // Of another program, which took the last four characters.
        let mut foreign = RawRecord::login(&login("pts/72345", 9, 300));
        let id = std::mem::offset_of!(libc::utmpx, ut_id);
        foreign.0[id..id + 4].copy_from_slice(b"2345");
        let utmp = file(&[foreign]);
        let all = [("pts/2345", 10), ("pts/12345", 11), ("pts/112345", 12)]
            .map(|(line, pid)| login(line, pid, 310));
        update_utmp(utmp.path(), &all).unwrap();
        assert_eq!(kinds(&utmp), [(9, LIVE), (10, LIVE), (11, LIVE), (12, LIVE)]);
        update_utmp(utmp.path(), &[over(&all[1], 400)]).unwrap();
        update_utmp(utmp.path(), &[login("pts/12345", 20, 500)]).unwrap();
        assert_eq!(kinds(&utmp), [(9, LIVE), (10, LIVE), (20, LIVE), (12, LIVE)]);
    }

    #[test]
    fn wtmp_gets_a_logout_after_a_login_that_is_the_last_of_its_line() {
        let all = [("pts/1", 10, 300), ("pts/2", 11, 300), ("pts/3", 12, 300), ("pts/3", 99, 350)]
            .map(|(line, pid, time)| login(line, pid, time));
        let mut ended = RawRecord::login(&all[1]);
        ended.end(stamp(320));
        let records = all.each_ref().map(RawRecord::login);
        let wtmp = file(&[&records[..2], &[ended], &records[2..]].concat());
        // A write that a crash cut short.
        wtmp.as_file().write_all_at(&[7; 10], 5 * SIZE as u64).unwrap();
        let meant = [
            over(&all[0], 400),
            over(&all[1], 400),
            Login { write_login: true, ..over(&all[2], 400) },
            over(&login("pts/4", 13, 300), 400),
        ];
        let closed = update_wtmp(wtmp.path(), &meant, Search::Thorough).unwrap();
        assert_eq!(closed, [true, false, false, false]);
        assert_eq!(kinds(&wtmp)[5..], [(10, OVER)]);
        assert_eq!(wtmp.as_file().metadata().unwrap().len(), 6 * SIZE as u64);
        // The session itself knows that its login is there, further back.
        assert_eq!(update_wtmp(wtmp.path(), &meant[3..], Search::Recent).unwrap(), [true]);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("utmp");
        let mut logins = [login("pts/1", 10, 300)];
        skip_written(&path, &mut logins).unwrap();
        update_utmp(&path, &logins).unwrap();
        update_wtmp(&path, &logins, Search::Recent).unwrap();
        append_attempt(&path, &logins[0]).unwrap();
        assert!(!path.exists());
    }
}
