//! Telling the service manager how things are, sd_notify(3), without ever waiting for it: the usual libraries send on a
//! socket that blocks while the manager does not read.

use std::env;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, sendto, socket};
use nix::time::{ClockId, clock_gettime};

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Sends assignments, one a line. Without a service manager, or with one that does not listen, nothing happens.
pub fn send(assignments: &str) {
    let Some(name) = env::var_os(VARIABLE) else { return };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        _ => UnixAddr::new(Path::new(&name)),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None);
    if let (Ok(address), Ok(socket)) = (address, socket) {
        let _ = sendto(socket.as_raw_fd(), assignments.as_bytes(), &address, MsgFlags::MSG_NOSIGNAL);
    }
}

/// The time of the machine's monotonic clock, which the service manager wants to know at a reload.
#[must_use]
pub fn monotonic_microseconds() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000)
}
