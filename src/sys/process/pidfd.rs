//! Processes by descriptors: unlike a number, a descriptor never comes to mean another process.

use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::End;

/// Opens a descriptor for the process that has this number now.
pub(super) fn open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: two integers.
    let raw = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    let raw = i32::try_from(raw).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends a signal to the process.
pub(super) fn send(pidfd: BorrowedFd, signal: Signal) -> nix::Result<()> {
    send_with(pidfd, signal, 0)
}

/// Sends a signal to the process group that the process leads or led. Linux 6.9 and later.
pub(super) fn send_to_group(pidfd: BorrowedFd, signal: Signal) -> nix::Result<()> {
    send_with(pidfd, signal, libc::PIDFD_SIGNAL_PROCESS_GROUP)
}

fn send_with(pidfd: BorrowedFd, signal: Signal, flags: libc::c_uint) -> nix::Result<()> {
    let (fd, no_info) = (pidfd.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    // SAFETY: three integers, and no siginfo_t.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as i32, no_info, flags) };
    Errno::result(sent).map(drop)
}

/// Whether the process has ended. It is not known to when that cannot be found out.
pub(super) fn has_ended(pidfd: BorrowedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    let found = poll(&mut fds, PollTimeout::ZERO);
    found.is_ok_and(|count| count > 0)
}

/// What waiting for a child gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// It has not ended.
    Running,
    /// It has, and is gone from the process table if that was asked for.
    Ended(End),
    /// It is no child of ours, or has been waited for already.
    NoChild,
}

/// Waits for a child with these options of waitid(2) in addition to `WEXITED`.
pub(super) fn wait(pidfd: BorrowedFd, options: libc::c_int) -> io::Result<Waited> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    loop {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the kernel writes a siginfo_t to where it lies.
        let done = unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), libc::WEXITED | options) };
        match Errno::result(done) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(Errno::ECHILD) => return Ok(Waited::NoChild),
            Err(error) => return Err(error.into()),
        }
        // SAFETY: zeros are a siginfo_t, and what the kernel has written is one.
        let info = unsafe { info.assume_init() };
        // SAFETY: waitid(2) has filled these in, or left the zeros when no child has ended.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok(match (pid, info.si_code) {
            (0, _) => Waited::Running,
            (_, libc::CLD_EXITED) => Waited::Ended(End::Exited(status)),
            (_, _) => Waited::Ended(End::Signaled(status)),
        });
    }
}

/// How the process ended that somebody else has waited for. Linux 6.15 and later know it.
pub(super) fn exit_status(pidfd: BorrowedFd) -> Option<End> {
    // SAFETY: a pidfd_info is integers, for which zeros are values.
    let mut info: libc::pidfd_info = unsafe { zeroed() };
    let exit = u64::from(libc::PIDFD_INFO_EXIT);
    info.mask = exit;
    // SAFETY: the request has the size of a pidfd_info in it, and the kernel writes no more.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if done != 0 || info.mask & exit == 0 {
        return None;
    }
    let status = info.exit_code;
    Some(if libc::WIFSIGNALED(status) {
        End::Signaled(libc::WTERMSIG(status))
    } else {
        End::Exited(libc::WEXITSTATUS(status))
    })
}
