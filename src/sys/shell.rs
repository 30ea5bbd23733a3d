//! Starting the login shell: from the session process's root to the user, with
//! the PTY as controlling terminal, and no way back.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, setresgid, setresuid};

use super::limits::UserLimits;
use super::process::{self, Process};
use super::pty;

/// Everything the shell is started with. The supplementary groups are those of
/// the calling process, which has set them for the user already.
#[derive(Debug)]
pub struct Shell<'a> {
    /// The program.
    pub program: &'a Path,
    /// Its name for itself, `-bash`.
    pub name: &'a OsStr,
    /// Its whole environment.
    pub environment: &'a [(OsString, OsString)],
    /// Where it starts; `/` stands in when the user cannot enter it.
    pub home: &'a Path,
    /// The user.
    pub uid: Uid,
    /// The user's login group.
    pub gid: Gid,
    /// The user's limits.
    pub limits: UserLimits,
    /// The terminal: descriptors 0 to 2 and controlling.
    pub terminal: OwnedFd,
}

/// Starts it.
///
/// # Errors
/// What went wrong in the child before the shell ran: an id that could not be
/// changed, a program that cannot be executed.
pub fn start(shell: Shell) -> io::Result<Process> {
    let home = CString::new(shell.home.as_os_str().as_encoded_bytes()).map_err(io::Error::other)?;
    let (uid, gid, limits) = (shell.uid, shell.gid, shell.limits);
    let mut command = Command::new(shell.program);
    command
        .arg0(shell.name)
        .env_clear()
        .envs(shell.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::from(shell.terminal.try_clone()?))
        .stdout(Stdio::from(shell.terminal.try_clone()?))
        .stderr(Stdio::from(shell.terminal));
    let prepare = move || {
        pty::make_controlling(io::stdin().as_fd())?;
        // As root, who may raise them.
        limits.set()?;
        become_user(uid, gid)?;
        // As the user, who may enter what root on NFS may not.
        if nix::unistd::chdir(home.as_c_str()).is_err() {
            nix::unistd::chdir(c"/")?;
        }
        default_signals()
    };
    // SAFETY: between fork and exec the closure only makes system calls; it
    // allocates nothing and takes no lock (`io::stdin()` is only asked for its
    // descriptor number; it was initialised before, see below).
    unsafe { command.pre_exec(prepare) };
    let _ = io::stdin();
    let child = command.spawn()?;
    Process::adopt(&child)
}

/// Becomes the user for good. Every change is checked, and so is that there is
/// no way back (CVE-2023-40303 is what happens otherwise).
fn become_user(uid: Uid, gid: Gid) -> io::Result<()> {
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let ids = nix::unistd::getresuid()?;
    let groups = nix::unistd::getresgid()?;
    let changed = ids.real == uid
        && ids.effective == uid
        && ids.saved == uid
        && groups.real == gid
        && groups.effective == gid
        && groups.saved == gid;
    let root = Uid::from_raw(0);
    let way_back = !uid.is_root() && setresuid(root, root, root).is_ok();
    if changed && !way_back { Ok(()) } else { Err(Errno::EPERM.into()) }
}

/// The last signal of Linux, signal(7).
const LAST_SIGNAL: libc::c_int = 64;

/// The shell starts with the signals as they are after boot: none ignored, none
/// blocked.
fn default_signals() -> io::Result<()> {
    // The kernel's struct sigaction: SIG_DFL, no flags, empty mask.
    let default = [0_u64; 4];
    for number in 1..=LAST_SIGNAL {
        // By the system call: the C library hides its own two signals, and leaves
        // one of them ignored in what it starts by posix_spawn.
        // SAFETY: the kernel reads one struct sigaction, which is not longer than
        // `default`; SIG_DFL installs no handler. SIGKILL and SIGSTOP refuse,
        // which is as good.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    process::unblock_signals()
}
