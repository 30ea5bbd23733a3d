//! A copy of this process that is its sibling.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// The copy's first stack, in bytes: it may do whatever this process does.
const STACK: usize = 1024 * 1024;

/// Has a copy of this process, with a copy of its memory, do something; what that returns is its exit status.
///
/// # Errors
/// Those of clone(2).
pub(super) fn clone<F: FnMut() -> c_int>(run: &mut F) -> io::Result<(Pid, OwnedFd)> {
    let mut stack: Vec<u128> = vec![0; STACK / size_of::<u128>()];
    // No signal at its end, but that of this process's own end, which its parent gets.
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD;
    let mut pidfd: c_int = -1;
    // SAFETY: there is one thread in this process, so that the copy may do whatever this one may. It has its own
    // copy of the stack, whose end is aligned, and of what `run` borrows. The kernel writes the number of a
    // descriptor to where the fifth argument points.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(begin::<F>, top, flags, ptr::from_mut(run).cast(), &raw mut pidfd)
    };
    let pid = Pid::from_raw(Errno::result(pid)?);
    if pidfd < 0 {
        // Before Linux 5.2 the flag was none. It has not been waited for: not by us, and its parent is told nothing.
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        return Err(Errno::ENOSYS.into());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

extern "C" fn begin<F: FnMut() -> c_int>(run: *mut c_void) -> c_int {
    // SAFETY: it is the `run` of `clone`, in the copy's own memory.
    let run = unsafe { &mut *run.cast::<F>() };
    let status = run();
    // SAFETY: no function registered by the parent is to run here.
    unsafe { libc::_exit(status) }
}
