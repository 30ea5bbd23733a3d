//! Login records that nobody closed, utmp(5): of sessions whose processes were all killed.
//!
//! A record is touched only when line, process and time say that it is the one that
//! was named; what another program wrote is none of ours. So it is looked at and
//! changed under one lock, which the calls of the C library cannot do.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::mem::{offset_of, size_of};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};

use super::records::now;

const SIZE: usize = size_of::<libc::utmpx>();
/// The most records that are looked at: of utmp the first, of wtmp the last.
const MOST: usize = 16 * 1024;
/// How long to wait for the lock, which every user can hold: as long as the C library does.
const ATTEMPTS: usize = 100;
const PAUSE: Duration = Duration::from_millis(100);
/// How many seconds behind its announcement a login may have been written: whoever wrote it
/// waited for the lock, too.
const DELAY: i64 = 60;

/// A login that was not closed.
#[derive(Debug, Clone)]
pub struct Left {
    /// The terminal's name without `/dev/`.
    pub line: String,
    /// The process that stood for the session.
    pub pid: i32,
    /// When the login was about to be written, in seconds since 1970.
    pub since: i64,
    /// A record of it was open, and is closed now.
    pub closed: bool,
}

/// Marks those logins of utmp as over that are there still.
///
/// # Errors
/// When the file cannot be read or written, or its lock is not to be had.
pub fn close_utmp(path: &Path, left: &mut [Left]) -> io::Result<()> {
    let Some(file) = open_locked(path)? else { return Ok(()) };
    for (offset, mut entry) in (0..).step_by(SIZE).zip(read(&file, 0)?) {
        if let Some(left) = left.iter_mut().find(|left| entry.is_login_of(left)) {
            entry.end();
            file.write_all_at(&entry.0, offset)?;
            left.closed = true;
        }
    }
    Ok(())
}

/// Appends the logout to wtmp for those logins that are the last that is said of their line.
///
/// # Errors
/// As [`close_utmp`].
pub fn close_wtmp(path: &Path, left: &mut [Left]) -> io::Result<()> {
    let Some(file) = open_locked(path)? else { return Ok(()) };
    // A part of a record at the end is what a crash left; the C library writes over it as well.
    let whole = file.metadata()?.len() / SIZE as u64;
    let entries = read(&file, whole.saturating_sub(MOST as u64) * SIZE as u64)?;
    let mut end = whole * SIZE as u64;
    for left in left {
        let last = entries.iter().rfind(|entry| entry.line() == left.line.as_bytes());
        if let Some(entry) = last.filter(|entry| entry.is_login_of(left)) {
            let mut entry = entry.clone();
            entry.end();
            // last(1) knows a logout by its empty name.
            entry.clear_names();
            file.write_all_at(&entry.0, end)?;
            end += SIZE as u64;
            left.closed = true;
        }
    }
    Ok(())
}

/// The file, which nobody else writes until it is closed; `None` when there is none.
fn open_locked(path: &Path) -> io::Result<Option<File>> {
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        outcome => outcome?,
    };
    let lock = libc::flock {
        l_type: libc::F_WRLCK.try_into().unwrap_or_default(),
        l_whence: libc::SEEK_SET.try_into().unwrap_or_default(),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    for _ in 1..ATTEMPTS {
        if fcntl(&file, FcntlArg::F_SETLK(&lock)).is_ok() {
            return Ok(Some(file));
        }
        sleep(PAUSE);
    }
    fcntl(&file, FcntlArg::F_SETLK(&lock))?;
    Ok(Some(file))
}

fn read(mut file: &File, from: u64) -> io::Result<Vec<Entry>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take((MOST * SIZE) as u64).read_to_end(&mut bytes)?;
    let (whole, _) = bytes.as_chunks::<SIZE>();
    Ok(whole.iter().copied().map(Entry).collect())
}

/// A record as it stands in the file.
#[derive(Debug, Clone)]
struct Entry([u8; SIZE]);

impl Entry {
    fn is_login_of(&self, left: &Left) -> bool {
        self.kind() == libc::USER_PROCESS
            && self.pid() == left.pid
            && self.line() == left.line.as_bytes()
            // Process ids come round again: a later login is somebody else's.
            && self.seconds() <= left.since + DELAY
    }

    fn kind(&self) -> libc::c_short {
        libc::c_short::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_type)))
    }

    fn pid(&self) -> libc::pid_t {
        libc::pid_t::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_pid)))
    }

    fn seconds(&self) -> i64 {
        // Unsigned, as the readers take it. Where the field is wider, this is its first half.
        u32::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_tv.tv_sec))).into()
    }

    fn line(&self) -> &[u8] {
        let from = offset_of!(libc::utmpx, ut_line);
        let field = &self.0[from..from + libc::__UT_LINESIZE];
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn end(&mut self) {
        let (seconds, micros) = now();
        self.put(offset_of!(libc::utmpx, ut_type), &libc::DEAD_PROCESS.to_ne_bytes());
        self.put(offset_of!(libc::utmpx, ut_tv.tv_sec), &seconds.to_ne_bytes());
        self.put(offset_of!(libc::utmpx, ut_tv.tv_usec), &micros.to_ne_bytes());
    }

    fn clear_names(&mut self) {
        self.put(offset_of!(libc::utmpx, ut_user), &[0; libc::__UT_NAMESIZE]);
        self.put(offset_of!(libc::utmpx, ut_host), &[0; libc::__UT_HOSTSIZE]);
    }

    fn get<const N: usize>(&self, from: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[from..from + N]);
        bytes
    }

    fn put(&mut self, from: usize, bytes: &[u8]) {
        self.0[from..from + bytes.len()].copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::records::{Kind, Record, append};
    use super::*;

    /// A file with these records: line, process, kind.
    fn file(records: &[(&str, u32, Kind)]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (line, pid, kind) in records {
            let address = Ipv4Addr::LOCALHOST.into();
            let record = Record { line, user: "alice", host: "host", address, pid: *pid, kind: *kind };
            append(file.path().to_str().unwrap(), &record);
        }
        file
    }

    fn left(line: &str, pid: i32) -> Left {
        Left { line: line.to_owned(), pid, since: now().0.into(), closed: false }
    }

    /// Line, process, type and user of each record.
    fn records(file: &tempfile::NamedTempFile) -> Vec<(String, i32, i16, String)> {
        let entries = read(file.as_file(), 0).unwrap();
        let text = |bytes: &[u8]| {
            String::from_utf8(bytes.iter().copied().take_while(|byte| *byte != 0).collect()).unwrap()
        };
        let user = |entry: &Entry| text(&entry.0[offset_of!(libc::utmpx, ut_user)..]);
        entries.iter().map(|entry| (text(entry.line()), entry.pid(), entry.kind(), user(entry))).collect()
    }

    fn expect(line: &str, pid: i32, kind: i16, user: &str) -> (String, i32, i16, String) {
        (line.to_owned(), pid, kind, user.to_owned())
    }

    const DEAD: i16 = libc::DEAD_PROCESS;
    const LIVE: i16 = libc::USER_PROCESS;

    #[test]
    fn utmp_keeps_everybody_but_the_one_that_was_left() {
        let login = Kind::Login;
        let file = file(&[
            ("pts/1", 10, login),
            ("pts/2", 11, login),
            ("pts/3", 12, login),
            ("pts/4", 13, Kind::Attempt),
        ]);
        // One of ours; the line's is somebody else's by now; the process sits elsewhere; no login.
        let mut all = [left("pts/1", 10), left("pts/2", 99), left("pts/9", 12), left("pts/4", 13)];
        close_utmp(file.path(), &mut all).unwrap();
        assert_eq!(all.map(|left| left.closed), [true, false, false, false]);
        let expected = [
            expect("pts/1", 10, DEAD, "alice"),
            expect("pts/2", 11, LIVE, "alice"),
            expect("pts/3", 12, LIVE, "alice"),
            expect("pts/4", 13, libc::LOGIN_PROCESS, "alice"),
        ];
        assert_eq!(records(&file), expected);
        let mut again = [left("pts/1", 10)];
        close_utmp(file.path(), &mut again).unwrap();
        assert!(!again[0].closed);
    }

    #[test]
    fn a_login_long_behind_the_one_that_was_left_is_another_one() {
        let file = file(&[("pts/1", 10, Kind::Login)]);
        let early = |by| Left { since: i64::from(now().0) - by, ..left("pts/1", 10) };
        let mut all = [early(DELAY + 5)];
        close_utmp(file.path(), &mut all).unwrap();
        close_wtmp(file.path(), &mut all).unwrap();
        assert!(!all[0].closed);
        let mut all = [early(DELAY - 5)];
        close_utmp(file.path(), &mut all).unwrap();
        assert!(all[0].closed);
    }

    #[test]
    fn wtmp_gets_a_logout_behind_a_login_that_is_the_last_of_its_line() {
        let (login, logout) = (Kind::Login, Kind::Logout);
        let file = file(&[
            ("pts/1", 10, login),
            ("pts/2", 11, login),
            ("pts/2", 11, logout),
            ("pts/3", 12, login),
            ("pts/3", 99, login),
        ]);
        // A write that a crash cut short.
        file.as_file().write_all_at(&[7; 10], 5 * SIZE as u64).unwrap();
        let mut all = [left("pts/1", 10), left("pts/2", 11), left("pts/3", 12), left("pts/4", 13)];
        close_wtmp(file.path(), &mut all).unwrap();
        assert_eq!(all.map(|left| left.closed), [true, false, false, false]);
        assert_eq!(records(&file)[5..], [expect("pts/1", 10, DEAD, "")]);
        assert_eq!(file.as_file().metadata().unwrap().len(), 6 * SIZE as u64);
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("utmp");
        close_utmp(&path, &mut [left("pts/1", 10)]).unwrap();
        close_wtmp(&path, &mut [left("pts/1", 10)]).unwrap();
        assert!(!path.exists());
    }
}
