//! Whether a child is stopped, and how much processor time it has used.
//!
//! Not by /proc: everybody can list it, and who does can make looking a process up there wait.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use super::process::Process;

/// What became of a child without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A signal has stopped it.
    Stopped,
    /// It goes on.
    Continued,
}

/// The next change of a child that was not asked for yet; none when there is no other.
#[must_use]
pub fn next_change(process: &Process) -> Option<Change> {
    let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WCONTINUED | WaitPidFlag::WNOHANG;
    loop {
        match waitid(Id::PIDFd(process.as_fd()), flags) {
            Ok(WaitStatus::Stopped(..)) => return Some(Change::Stopped),
            Ok(WaitStatus::Continued(_)) => return Some(Change::Continued),
            Err(Errno::EINTR) => {}
            // It has ended, or nothing has changed.
            Ok(_) | Err(_) => return None,
        }
    }
}

/// How much processor time a process that was not waited for yet has used.
///
/// # Errors
/// It is gone.
pub fn processor_time(process: &Process) -> io::Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(process.id()).map_err(io::Error::other)?);
    Ok(clock_getcpuclockid(pid)?.now()?.into())
}
