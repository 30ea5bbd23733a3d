//! Telling the service manager how things are, sd_notify(3), without ever waiting for it: the usual libraries send on a
//! socket that blocks while the manager does not read.

use std::env;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::pipe2;

/// Where the service manager listens.
const VARIABLE: &str = "NOTIFY_SOCKET";

/// Whether a service manager wants to be told.
#[must_use]
pub fn is_wanted() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Sends assignments, one a line. Without a service manager nothing happens.
///
/// # Errors
/// It does not listen; with [`io::ErrorKind::WouldBlock`] it does not read, and may do so later.
pub fn send(assignments: &str) -> io::Result<()> {
    send_with(assignments, &[])
}

/// A descriptor that hangs up when the service manager has read all that was sent before.
///
/// # Errors
/// As [`send`], there is no service manager, or out of descriptors.
pub fn barrier() -> io::Result<OwnedFd> {
    let (ours, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    send_with("BARRIER=1", &[ControlMessage::ScmRights(&[theirs.as_raw_fd()])])?;
    Ok(ours)
}

fn send_with(assignments: &str, more: &[ControlMessage]) -> io::Result<()> {
    let Some(name) = env::var_os(VARIABLE) else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(Path::new(&name))?,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    let text = [IoSlice::new(assignments.as_bytes())];
    sendmsg(socket.as_raw_fd(), &text, more, MsgFlags::MSG_NOSIGNAL, Some(&address))?;
    Ok(())
}

/// The time of the machine's monotonic clock, which the service manager wants to know at a reload.
#[must_use]
pub fn monotonic_microseconds() -> i64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |time| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000)
}
