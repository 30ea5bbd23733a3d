//! Pseudo-terminals: the leader (master) that the relay reads and writes, the
//! follower (slave) that the login and the shell sit on; pty(7), ioctl_tty(2).

use std::fs::File;
use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use nix::sys::uio::readv;

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pair {
    /// The relay's side, non-blocking and in packet mode.
    pub leader: OwnedFd,
    /// The login's side.
    pub follower: OwnedFd,
    /// The follower's name without `/dev/`, e.g. `pts/3`.
    pub name: String,
}

/// Opens a pseudo-terminal: leader in packet mode (ioctl_tty(2), TIOCPKT), echo
/// off from the very start so that a password typed ahead is never shown.
///
/// # Errors
/// `ENOSPC` when the system has no more of them, or out of descriptors.
pub fn open() -> io::Result<Pair> {
    let leader = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    grantpt(&leader)?;
    unlockpt(&leader)?;
    let path = ptsname_r(&leader)?;
    let name = path.strip_prefix("/dev/").unwrap_or(&path).to_owned();
    let follower = open_peer(leader.as_fd(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)?;
    let mut modes = tcgetattr(&follower)?;
    modes.local_flags.remove(LocalFlags::ECHO);
    tcsetattr(&follower, SetArg::TCSANOW, &modes)?;
    let on: libc::c_int = 1;
    // SAFETY: TIOCPKT reads one c_int.
    Errno::result(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCPKT, &raw const on) })?;
    Ok(Pair { leader: OwnedFd::from(leader), follower, name })
}

/// The size of a terminal in characters, rows and columns; none when it is no terminal,
/// or has not been told its size.
#[must_use]
pub fn size(terminal: BorrowedFd) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Opens the follower of a leader once more, for writing to the user. Writing never waits, and
/// the terminal does not become ours.
///
/// # Errors
/// Those of ioctl(2), e.g. `EIO` when it has hung up.
pub fn open_follower(leader: BorrowedFd) -> io::Result<File> {
    open_peer(leader, libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC).map(File::from)
}

/// Not by its path: that could name another PTY in a mount namespace of its own.
fn open_peer(leader: BorrowedFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: TIOCGPTPEER takes open flags by value and returns a new descriptor.
    let raw = Errno::result(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Tells the terminal its size; the kernel sends SIGWINCH to the foreground job
/// when it changed. Waits for a lock that the terminal's user can hold.
///
/// # Errors
/// Those of ioctl(2).
pub fn resize(follower: BorrowedFd, size: &libc::winsize) -> io::Result<()> {
    // SAFETY: TIOCSWINSZ reads one winsize.
    Errno::result(unsafe { libc::ioctl(follower.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(size)) })?;
    Ok(())
}

/// Hangs the terminal up as the close of its last leader does. Waits for whoever reads or writes the terminal
/// just now, who can make that last.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN.
pub fn hang_up(follower: BorrowedFd) -> io::Result<()> {
    // SAFETY: TIOCVHANGUP takes no argument.
    Errno::result(unsafe { libc::ioctl(follower.as_raw_fd(), libc::TIOCVHANGUP) })?;
    Ok(())
}

/// Keeps everybody from opening the follower from now on, as before unlockpt(3). It waits for nobody.
///
/// # Errors
/// Those of ioctl(2).
pub fn lock(leader: BorrowedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: TIOCSPTLCK reads one c_int.
    Errno::result(unsafe { libc::ioctl(leader.as_raw_fd(), libc::TIOCSPTLCK, &raw const on) })?;
    Ok(())
}

/// How many bytes a program could read from the terminal now: in canonical mode whole lines (termios(3)).
#[must_use]
pub fn unread(follower: BorrowedFd) -> u32 {
    let mut count: libc::c_int = 0;
    // SAFETY: FIONREAD (the same number as TIOCINQ, ioctl_tty(2)) writes one c_int.
    let result = unsafe { libc::ioctl(follower.as_raw_fd(), libc::FIONREAD, &raw mut count) };
    // One that has hung up holds nothing.
    if result == 0 { u32::try_from(count).unwrap_or(0) } else { 0 }
}

/// Whether the terminal itself handles ^S and ^Q, by the rule of the kernel's packet mode: flow control is on,
/// with these two characters.
#[must_use]
pub fn handles_flow_control(follower: BorrowedFd) -> bool {
    const STOP: u8 = 0x13;
    const START: u8 = 0x11;
    // A terminal that has hung up handles nothing.
    tcgetattr(follower).is_ok_and(|modes| {
        let characters = &modes.control_chars;
        modes.input_flags.contains(InputFlags::IXON)
            && characters[SpecialCharacterIndices::VSTOP as usize] == STOP
            && characters[SpecialCharacterIndices::VSTART as usize] == START
    })
}

/// The terminal threw away output it had not delivered yet (ioctl_tty(2), as the
/// other `TIOCPKT` bits of the kernel's `asm/ioctls.h`).
pub const FLUSHED_OUTPUT: u8 = 2;
/// The terminal stopped handling ^S and ^Q.
pub const FLOW_CONTROL_OFF: u8 = 16;
/// The terminal handles ^S and ^Q again.
pub const FLOW_CONTROL_ON: u8 = 32;

/// Whether a typed byte can be one at which a terminal discards its output (VINTR, VQUIT and VSUSP,
/// termios(3)): any control character but the ends of lines, as these are what they are by default.
#[must_use]
pub fn may_discard_output(byte: u8) -> bool {
    byte.is_ascii_control() && !matches!(byte, b'\r' | b'\n')
}

/// What one read of a leader in packet mode gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// So many bytes of output.
    Data(usize),
    /// A change of the terminal's state: bits of [`FLUSHED_OUTPUT`], [`FLOW_CONTROL_OFF`], [`FLOW_CONTROL_ON`] and others.
    Status(u8),
}

/// The leader, for reading and writing.
#[derive(Debug)]
pub struct Leader(File);

impl Leader {
    /// Takes the descriptor over.
    #[must_use]
    pub fn new(fd: OwnedFd) -> Leader {
        Leader(File::from(fd))
    }

    /// Reads once. The kernel never mixes status and data in one read.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing; `EIO` when no follower is open.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        let mut status = [0_u8];
        let mut parts = [IoSliceMut::new(&mut status), IoSliceMut::new(buffer)];
        match readv(self.0.as_fd(), &mut parts)? {
            0 => Err(Errno::EIO.into()),
            length if status[0] == 0 => Ok(Packet::Data(length - 1)),
            _ => Ok(Packet::Status(status[0])),
        }
    }

    /// Writes as much as the terminal takes.
    ///
    /// # Errors
    /// `WouldBlock` when it takes nothing now.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }
}

impl AsFd for Leader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Makes the terminal the controlling one of the calling process's new session.
/// Only system calls that are safe between fork and exec.
///
/// # Errors
/// Those of setsid(2) and ioctl(2).
pub(super) fn make_controlling(follower: BorrowedFd) -> io::Result<()> {
    nix::unistd::setsid()?;
    // SAFETY: TIOCSCTTY takes an integer by value; 0 never steals a terminal.
    Errno::result(unsafe { libc::ioctl(follower.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    Ok(())
}
