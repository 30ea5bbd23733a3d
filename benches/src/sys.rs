//! The tool's raw system calls: every `unsafe` of it is here.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::pty::{ForkptyResult, Winsize, forkpty};
use nix::unistd::{ForkResult, fork};

unsafe extern "C" {
    /// The C library's; the `libc` crate has it not.
    fn sockatmark(socket: libc::c_int) -> libc::c_int;
}

/// Whether the next byte of the stream is the one behind the urgent byte (sockatmark(3)).
pub(crate) fn at_mark(socket: BorrowedFd) -> io::Result<bool> {
    // SAFETY: it is given a descriptor by value and nothing else.
    Ok(Errno::result(unsafe { sockatmark(socket.as_raw_fd()) })? != 0)
}

/// Which side of a fork this is.
pub(crate) enum Side {
    /// The process that was there before.
    Parent,
    /// The new one.
    Child,
}

/// Forks. The tool's floor server, which calls this, has one thread only.
pub(crate) fn split() -> io::Result<Side> {
    // SAFETY: the caller has one thread, so no lock and no allocation is half
    // done in the child, which may go on as any process may.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Side::Parent),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// Starts the program on a new terminal, which becomes its controlling one, and
/// returns the terminal's leader. `prepare` runs in the child; it must not fail
/// quietly: an error ends the child with status 127, as a program that is not there.
pub(crate) fn on_terminal(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    prepare: impl FnOnce() -> nix::Result<()>,
) -> io::Result<std::os::fd::OwnedFd> {
    let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: one thread, as above; and the child only prepares, executes and exits.
    match unsafe { forkpty(Some(&size), None) }? {
        ForkptyResult::Parent { master, .. } => Ok(master),
        ForkptyResult::Child => {
            let _ = prepare().and_then(|()| nix::unistd::execve(program, arguments, environment));
            // SAFETY: ends the process without running what its copy of our memory would do at exit.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Lets the kernel hold little that is not on its way yet (tcp(7), TCP_NOTSENT_LOWAT).
pub(crate) fn keep_little_unsent(socket: BorrowedFd) -> io::Result<()> {
    let bytes: libc::c_int = 4096;
    let length = libc::socklen_t::try_from(size_of_val(&bytes)).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one c_int, whose size is given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const bytes).cast(),
            length,
        )
    };
    Errno::result(done)?;
    Ok(())
}
