//! A record as it stands in the file: the C library's `struct utmpx`, byte by byte.

use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use super::{Login, Stamp};

pub(super) const SIZE: usize = size_of::<libc::utmpx>();

/// The length of an id.
const ID: usize = 4;
/// What the ids of long terminal numbers begin with: no name of a terminal has these. Each stands for so many numbers
/// as three digits of [`DIGITS`] can say, together for more than the kernel gives out (2^20).
const FIRST: &[u8] = b"#%+=@";
const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawRecord(pub(super) [u8; SIZE]);

impl RawRecord {
    pub(super) fn login(login: &Login) -> RawRecord {
        RawRecord::new(libc::USER_PROCESS, login)
    }

    /// For btmp.
    pub(super) fn attempt(login: &Login) -> RawRecord {
        RawRecord::new(libc::LOGIN_PROCESS, login)
    }

    fn new(kind: libc::c_short, login: &Login) -> RawRecord {
        let mut record = RawRecord([0; SIZE]);
        let Login { line, user, host, address, pid, at, .. } = login;
        record.put(offset_of!(libc::utmpx, ut_type), &kind.to_ne_bytes());
        record.put(offset_of!(libc::utmpx, ut_pid), &pid.to_ne_bytes());
        record.fill(offset_of!(libc::utmpx, ut_line), libc::__UT_LINESIZE, line);
        record.put(offset_of!(libc::utmpx, ut_id), &id_of(line));
        record.fill(offset_of!(libc::utmpx, ut_user), libc::__UT_NAMESIZE, user);
        record.fill(offset_of!(libc::utmpx, ut_host), libc::__UT_HOSTSIZE, host);
        match address {
            IpAddr::V4(ip) => record.put(offset_of!(libc::utmpx, ut_addr_v6), &ip.octets()),
            IpAddr::V6(ip) => record.put(offset_of!(libc::utmpx, ut_addr_v6), &ip.octets()),
        }
        record.set_stamp(*at);
        record
    }

    /// Whether the record may take the other one's place: it is what pututxline(3) looks for, and nobody is logged in
    /// there on another line. Programs that take the last four characters for an id give two lines the same.
    pub(super) fn may_replace(&self, other: &RawRecord) -> bool {
        other.is_of_same_id(self) && !(other.is_login() && other.line() != self.line())
    }

    pub(super) fn is_login(&self) -> bool {
        self.kind() == libc::USER_PROCESS && self.0[offset_of!(libc::utmpx, ut_user)] != 0
    }

    /// Whether pututxline(3) would write the other one here.
    fn is_of_same_id(&self, other: &RawRecord) -> bool {
        let kinds = [libc::INIT_PROCESS, libc::LOGIN_PROCESS, libc::USER_PROCESS, libc::DEAD_PROCESS];
        let id = |record: &RawRecord| record.get::<4>(offset_of!(libc::utmpx, ut_id));
        kinds.contains(&self.kind()) && id(self) == id(other)
    }

    pub(super) fn kind(&self) -> libc::c_short {
        libc::c_short::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_type)))
    }

    pub(super) fn pid(&self) -> libc::pid_t {
        libc::pid_t::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_pid)))
    }

    pub(super) fn line(&self) -> &[u8] {
        let from = offset_of!(libc::utmpx, ut_line);
        let field = &self.0[from..from + libc::__UT_LINESIZE];
        field.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            // Unsigned, as the readers take it. Where the field is wider, this is its first half.
            seconds: u32::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_tv.tv_sec))),
            micros: u32::from_ne_bytes(self.get(offset_of!(libc::utmpx, ut_tv.tv_usec))),
        }
    }

    fn set_stamp(&mut self, stamp: Stamp) {
        self.put(offset_of!(libc::utmpx, ut_tv.tv_sec), &stamp.seconds.to_ne_bytes());
        self.put(offset_of!(libc::utmpx, ut_tv.tv_usec), &stamp.micros.to_ne_bytes());
    }

    /// Makes the login a logout.
    pub(super) fn end(&mut self, time: Stamp) {
        self.put(offset_of!(libc::utmpx, ut_type), &libc::DEAD_PROCESS.to_ne_bytes());
        self.set_stamp(time);
    }

    pub(super) fn clear_names(&mut self) {
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

    /// Fills a field that needs no NUL at its end when it is full.
    fn fill(&mut self, from: usize, size: usize, text: &str) {
        self.put(from, &text.as_bytes()[..text.len().min(size)]);
    }
}

/// The id names the line in four bytes. Usually these are its last four, as other programs have it: `ts/3`, `/987`,
/// `9999`. Of longer numbers these would be another terminal's.
fn id_of(line: &str) -> [u8; ID] {
    let number = line.strip_prefix("pts/").filter(|digits| digits.len() > ID);
    if let Some(id) = number.and_then(|digits| digits.parse().ok()).and_then(id_of_number) {
        return id;
    }
    let mut id = [0; ID];
    let tail = &line.as_bytes()[line.len().saturating_sub(ID)..];
    id[..tail.len()].copy_from_slice(tail);
    id
}

fn id_of_number(number: usize) -> Option<[u8; ID]> {
    let base = DIGITS.len();
    let first = *FIRST.get(number / base.pow(3))?;
    let digit = |power| DIGITS[number / base.pow(power) % base];
    Some([first, digit(2), digit(1), digit(0)])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_terminal_has_an_id_of_its_own() {
        // The most that the kernel gives out.
        let ids: BTreeSet<_> = (0..1 << 20).map(|number| id_of(&format!("pts/{number}"))).collect();
        assert_eq!(ids.len(), 1 << 20);
        // Readers show them.
        assert!(ids.iter().flatten().all(u8::is_ascii_graphic));
        for (line, id) in [
            ("pts/0", b"ts/0"),
            ("pts/10", b"s/10"),
            ("pts/987", b"/987"),
            ("pts/9999", b"9999"),
            ("tty1", b"tty1"),
        ] {
            assert_eq!(&id_of(line), id, "as other programs have it");
        }
        assert_eq!((&id_of("pts/12345"), &id_of("pts/123456")), (b"#3D7", b"#W7E"));
        assert_eq!(&id_of("x"), b"x\0\0\0");
    }
}
