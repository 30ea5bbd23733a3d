//! Standard error as a second place for the audit lines.
//!
//! It must never block and never fail: a line that a pipe, a terminal or a
//! reader does not take at once is dropped here, as syslog has it anyway.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::write;

/// Standard error, or what was standard error when this was opened.
#[derive(Debug)]
pub(super) struct Stderr(OwnedFd);

impl Stderr {
    /// None when there is no descriptor to be had.
    pub(super) fn open() -> Option<Self> {
        non_blocking().or_else(|| io::stderr().as_fd().try_clone_to_owned().ok()).map(Stderr)
    }

    /// Writes the line, which must be shorter than `PIPE_BUF` (4096 bytes, see
    /// pipe(7)), and ends it; or drops it.
    pub(super) fn write(&self, line: &str) {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        let ready = poll(&mut fds, PollTimeout::ZERO);
        let writable = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT));
        if ready.is_ok() && writable {
            // EPIPE, EAGAIN and the rest: there is nobody to tell.
            let _ = write(&self.0, format!("{line}\n").as_bytes());
        }
    }
}

/// Opens a pipe or terminal a second time, non-blocking. `O_NONBLOCK` on the
/// descriptor itself would change it for every process that shares it. Asking
/// poll(2) first is not enough by itself: another writer may take the room
/// in between, and a terminal is writable when it has room for one byte.
///
/// None for what cannot be opened again, or need not: a socket that poll(2)
/// calls writable has room for any line, a file does not block, and has its one
/// offset in the descriptor that is there.
fn non_blocking() -> Option<OwnedFd> {
    let mode = fstat(io::stderr()).ok()?.st_mode;
    let kind = SFlag::from_bits_truncate(mode & SFlag::S_IFMT.bits());
    if kind != SFlag::S_IFIFO && kind != SFlag::S_IFCHR {
        return None;
    }
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open("/proc/self/fd/2", flags, Mode::empty()).ok()
}
