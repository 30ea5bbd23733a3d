//! A record as it stands in the file: the C library's `struct utmpx`, byte by byte.

use std::mem::{offset_of, size_of};
use std::net::IpAddr;

use super::{Login, Stamp};

pub(super) const SIZE: usize = size_of::<libc::utmpx>();

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
        // The id names the line in four bytes; its tail is what tells lines apart.
        let tail = line.get(line.len().saturating_sub(4)..).unwrap_or_default();
        record.fill(offset_of!(libc::utmpx, ut_id), 4, tail);
        record.fill(offset_of!(libc::utmpx, ut_user), libc::__UT_NAMESIZE, user);
        record.fill(offset_of!(libc::utmpx, ut_host), libc::__UT_HOSTSIZE, host);
        match address {
            IpAddr::V4(ip) => record.put(offset_of!(libc::utmpx, ut_addr_v6), &ip.octets()),
            IpAddr::V6(ip) => record.put(offset_of!(libc::utmpx, ut_addr_v6), &ip.octets()),
        }
        record.set_stamp(*at);
        record
    }

    pub(super) fn is_login(&self) -> bool {
        self.kind() == libc::USER_PROCESS && self.0[offset_of!(libc::utmpx, ut_user)] != 0
    }

    /// Whether pututxline(3) would write the other one here.
    pub(super) fn is_of_same_id(&self, other: &RawRecord) -> bool {
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
