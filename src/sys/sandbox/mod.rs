//! The relay's cage: no root, no files, no children, and of the kernel's calls
//! only those that its work is made of.
//!
//! Every wall stands without the others, so that a mistake in one opens nothing: the
//! empty root, the user id, the missing capabilities, Landlock, the filter.
//! Nothing here may be undone, and nothing here may be skipped because it failed.

mod capabilities;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod filter;
mod landlock;

pub use landlock::version as landlock_version;

use std::collections::hash_map::RandomState;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, chroot, fchdir, mkdir, setgroups, setresgid, setresuid};

use super::process;

/// Whether system calls are filtered: on architectures without a list of them they are
/// not, and the administrator is to know.
pub const FILTERED: bool =
    cfg!(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"));

/// An empty directory that has no name any more, so that nothing can ever be put into it: the root
/// of every relay that a daemon starts. `parent` is a directory in which only root can create.
///
/// It is made once, at the start, for a lock on `parent` that somebody else holds, or a file
/// system that is full, must not keep a later relay from starting.
///
/// # Errors
/// Those of mkdir(2), open(2) and rmdir(2).
pub fn empty_root(parent: &Path) -> io::Result<OwnedFd> {
    let path = parent.join(format!("empty.{}", std::process::id()));
    mkdir(&path, Mode::S_IXUSR)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = open(&path, flags, Mode::empty());
    std::fs::remove_dir(&path)?;
    Ok(root?)
}

/// The most bytes that a file has which is written inside.
pub const LONGEST_FILE: u64 = 1 << 30;

/// Gives up everything the relay does not need, for good: the file system (its
/// root becomes an empty directory that exists nowhere any more), groups, ids,
/// capabilities, privileges, new processes, core files, and then all system calls but
/// those on a list: any other one ends the process (`SIGSYS`).
///
/// `root` comes from [`empty_root`]. The process must have one thread only: most of this holds
/// for the calling thread and those it starts.
///
/// # Errors
/// Any step that fails; the caller must not go on then.
pub fn enter(root: BorrowedFd, uid: Uid, gid: Gid) -> io::Result<()> {
    // The seeds of hash tables, for which newer C libraries first look the machine over.
    let _ = RandomState::new();
    fchdir(root)?;
    chroot(".")?;
    // While there is still the capability to do it.
    capabilities::empty_bounding_set()?;
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    // A change of the user id leaves the inheritable ones, and all of them when securebits
    // of our parent say so (capabilities(7)).
    capabilities::drop_all()?;
    let zero = Uid::from_raw(0);
    if Uid::effective().is_root() || setresuid(zero, zero, zero).is_ok() {
        return Err(Errno::EPERM.into());
    }
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Its state for the next one, and standard error, may be files.
    process::survive_file_limit();
    setrlimit(Resource::RLIMIT_FSIZE, LONGEST_FILE, LONGEST_FILE)?;
    landlock::restrict()?;
    // Last: what stands above is not on the list.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    filter::install()?;
    Ok(())
}
