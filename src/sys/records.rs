//! The login records: utmp, wtmp and btmp, utmp(5).
//!
//! utmp says who is logged in now, wtmp keeps every login and logout, btmp the
//! failed ones. Some PAM modules write wtmp as well, so a caller can ask what was
//! written lately and leave out what is there already.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::mem::{size_of, zeroed};
use std::net::IpAddr;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Who is logged in.
pub const UTMP: &str = "/var/run/utmp";
/// Every login and logout.
pub const WTMP: &str = "/var/log/wtmp";
/// Every failed login.
pub const BTMP: &str = "/var/log/btmp";

unsafe extern "C" {
    fn updwtmpx(file: *const libc::c_char, entry: *const libc::utmpx);
}

/// One record.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// The terminal's name without `/dev/`.
    pub line: &'a str,
    /// The account; empty in a logout.
    pub user: &'a str,
    /// The client's host name, or its address.
    pub host: &'a str,
    /// The client's address.
    pub address: IpAddr,
    /// The process that stands for the session.
    pub pid: u32,
    /// Whether this is a login or a logout.
    pub kind: Kind,
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A user is logged in on the line (`USER_PROCESS`).
    Login,
    /// Somebody tries to log in (`LOGIN_PROCESS`), for btmp.
    Attempt,
    /// The line is free again (`DEAD_PROCESS`).
    Logout,
}

/// Writes the record of this line to utmp.
///
/// # Errors
/// That of pututxline(3).
pub fn write_utmp(record: &Record) -> io::Result<()> {
    let entry = to_entry(record);
    // SAFETY: `entry` is a whole utmpx; the functions keep no pointer to it, and
    // this process has one thread, which they require.
    let written = unsafe {
        libc::setutxent();
        let written = !libc::pututxline(&raw const entry).is_null();
        libc::endutxent();
        written
    };
    if written { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Appends the record to wtmp or btmp. The C library says nothing of failures.
pub fn append(file: &str, record: &Record) {
    let entry = to_entry(record);
    if let Ok(file) = CString::new(file) {
        // SAFETY: a C string and a whole utmpx, both alive during the call.
        unsafe { updwtmpx(file.as_ptr(), &raw const entry) };
    }
}

/// A place in a record file, to ask later what came behind it.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// The end of a record file as it is now.
#[must_use]
pub fn mark(file: &str) -> Mark {
    Mark(std::fs::metadata(file).map_or(0, |data| data.len()))
}

/// Whether somebody wrote a record of this line and kind behind the mark.
///
/// Reads at most the last 256 records.
#[must_use]
pub fn has_since(file: &str, mark: Mark, line: &str, kind: Kind) -> bool {
    read_since(Path::new(file), mark, line, kind).unwrap_or(false)
}

fn read_since(path: &Path, mark: Mark, line: &str, kind: Kind) -> io::Result<bool> {
    let size = size_of::<libc::utmpx>();
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let window = u64::try_from(size * 256).unwrap_or(u64::MAX);
    file.seek(SeekFrom::Start(mark.0.max(end.saturating_sub(window))))?;
    let mut bytes = vec![0; size];
    while file.read_exact(&mut bytes).is_ok() {
        // SAFETY: a utmpx is plain data for which any bytes are valid, and the
        // buffer is exactly as long as one; read_unaligned needs no alignment.
        let entry: libc::utmpx = unsafe { bytes.as_ptr().cast::<libc::utmpx>().read_unaligned() };
        let found = entry.ut_line.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0);
        let logout = entry.ut_type == libc::DEAD_PROCESS || entry.ut_user[0] == 0;
        if found.eq(line.bytes()) && logout == (kind == Kind::Logout) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn to_entry(record: &Record) -> libc::utmpx {
    // SAFETY: a utmpx is plain data; all zeros is a valid (empty) one.
    let mut entry: libc::utmpx = unsafe { zeroed() };
    entry.ut_type = match record.kind {
        Kind::Login => libc::USER_PROCESS,
        Kind::Attempt => libc::LOGIN_PROCESS,
        Kind::Logout => libc::DEAD_PROCESS,
    };
    entry.ut_pid = i32::try_from(record.pid).unwrap_or(0);
    fill(&mut entry.ut_line, record.line);
    // The id names the line in four bytes; its tail is what tells lines apart.
    fill(&mut entry.ut_id, &record.line[record.line.len().saturating_sub(4)..]);
    fill(&mut entry.ut_user, record.user);
    fill(&mut entry.ut_host, record.host);
    match record.address {
        IpAddr::V4(ip) => entry.ut_addr_v6[0] = i32::from_ne_bytes(ip.octets()),
        IpAddr::V6(ip) => {
            for (word, bytes) in entry.ut_addr_v6.iter_mut().zip(ip.octets().chunks_exact(4)) {
                *word = i32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
        }
    }
    let (seconds, micros) = now();
    #[allow(clippy::useless_conversion, reason = "32 bits on some machines, 64 on others")]
    {
        entry.ut_tv.tv_sec = i32::from_ne_bytes(seconds.to_ne_bytes()).into();
        entry.ut_tv.tv_usec = i32::try_from(micros).unwrap_or(0).into();
    }
    entry
}

/// The time of a record: seconds since 1970, in 32 bits and until 2106 as the readers take
/// them, and microseconds.
pub(super) fn now() -> (u32, u32) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (u32::try_from(now.as_secs()).unwrap_or(u32::MAX), now.subsec_micros())
}

/// Fills a field that needs no NUL at its end when it is full.
fn fill(field: &mut [libc::c_char], text: &str) {
    for (place, byte) in field.iter_mut().zip(text.bytes()) {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind) -> Record<'static> {
        Record {
            line: "pts/987",
            user: "alice",
            host: "host.example",
            address: "2001:db8::1".parse().unwrap(),
            pid: 1,
            kind,
        }
    }

    #[test]
    fn what_was_appended_behind_the_mark_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        append(path, &record(Kind::Login));
        let mark = mark(path);
        assert!(!has_since(path, mark, "pts/987", Kind::Login));
        append(path, &record(Kind::Logout));
        assert!(has_since(path, mark, "pts/987", Kind::Logout));
        assert!(!has_since(path, mark, "pts/987", Kind::Login));
        assert!(!has_since(path, mark, "pts/98", Kind::Logout));
    }

    #[test]
    fn a_full_field_has_no_nul_and_nothing_is_cut_short_of_it() {
        let long = "x".repeat(300);
        let entry = to_entry(&Record { user: &long, ..record(Kind::Login) });
        assert!(entry.ut_user.iter().all(|c| *c == libc::c_char::from_ne_bytes([b'x'])));
        assert_eq!(entry.ut_id.map(|c| c.to_ne_bytes()[0]), *b"/987");
    }
}
