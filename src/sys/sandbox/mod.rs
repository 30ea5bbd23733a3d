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
use std::fmt;
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
pub fn enter(root: BorrowedFd, uid: Uid, gid: Gid) -> Result<(), Refused> {
    // The seeds of hash tables, for which newer C libraries first look the machine over.
    let _ = RandomState::new();
    let steps: [(&'static str, &dyn Fn() -> io::Result<()>); 11] = [
        ("chroot(2)", &|| Ok(fchdir(root).and_then(|()| chroot("."))?)),
        // While there is still the capability to do it.
        ("an empty bounding set", &capabilities::empty_bounding_set),
        ("setgroups(2)", &|| Ok(setgroups(&[])?)),
        ("setresgid(2)", &|| Ok(setresgid(gid, gid, gid)?)),
        ("setresuid(2)", &|| Ok(setresuid(uid, uid, uid)?)),
        // A change of the user id leaves the inheritable ones, and all of them when securebits
        // of our parent say so (capabilities(7)).
        ("capset(2)", &capabilities::drop_all),
        ("never being root again", &never_root),
        ("prctl(2)", &set_no_way_up),
        ("setrlimit(2)", &set_limits),
        ("Landlock", &landlock::restrict),
        // Last: what stands above is not on the list.
        ("seccomp(2)", &install_filter),
    ];
    for (step, run) in steps {
        run().map_err(|error| Refused { step, error })?;
    }
    Ok(())
}

/// The step into the sandbox that failed.
#[derive(Debug)]
pub struct Refused {
    /// Which.
    pub step: &'static str,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.error)
    }
}

fn never_root() -> io::Result<()> {
    let root = Uid::from_raw(0);
    let is_root = Uid::effective().is_root() || setresuid(root, root, root).is_ok();
    if is_root { Err(Errno::EPERM.into()) } else { Ok(()) }
}

fn set_no_way_up() -> io::Result<()> {
    nix::sys::prctl::set_no_new_privs()?;
    Ok(nix::sys::prctl::set_dumpable(false)?)
}

fn set_limits() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Its state for the next one, and standard error, may be files.
    process::survive_file_limit();
    Ok(setrlimit(Resource::RLIMIT_FSIZE, LONGEST_FILE, LONGEST_FILE)?)
}

fn install_filter() -> io::Result<()> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    filter::install()?;
    Ok(())
}
