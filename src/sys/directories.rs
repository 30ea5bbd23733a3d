//! The root and the working directory of this process, which PAM's modules may change for the shell.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chroot, fchdir};

/// Both, as they were at some time.
#[derive(Debug)]
pub struct Directories {
    root: OwnedFd,
    working: OwnedFd,
}

/// A root directory that this process does not have any more.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Directories {
    /// As they are now.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn current() -> io::Result<Directories> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let find = |path: &str| open(path, flags, Mode::empty());
        let root = find("/")?;
        // The daemon may have been started where root may not look.
        let working = find(".").or_else(|_| find("/"))?;
        Ok(Directories { root, working })
    }

    /// Makes them this process's again. Returns the root that it had instead.
    ///
    /// # Errors
    /// Out of descriptors, or a module has taken the right to change the root. The root is then what it was before.
    pub fn restore(&self) -> io::Result<Option<Root>> {
        let now = Directories::current()?;
        let is_other_root = !is_same(&self.root, &now.root)?;
        if is_other_root {
            fchdir(&self.root)?;
            if let Err(errno) = chroot(c".") {
                let _ = fchdir(&now.working);
                return Err(errno.into());
            }
        }
        // From here on nothing may fail: the shell would start in our root.
        if (is_other_root || !is_same(&self.working, &now.working)?) && fchdir(&self.working).is_err() {
            let _ = fchdir(&self.root);
        }
        Ok(is_other_root.then_some(Root(now.root)))
    }
}

fn is_same(one: impl AsFd, other: impl AsFd) -> nix::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

impl Root {
    /// Makes it the root and the working directory of the calling process. Allocates nothing and takes no lock: it may be
    /// called between fork and exec.
    ///
    /// # Errors
    /// Without the right to.
    pub fn enter(&self) -> io::Result<()> {
        fchdir(&self.0)?;
        Ok(chroot(c".")?)
    }

    /// Looks whether something is at this path, for a process that has it as its root.
    ///
    /// # Errors
    /// It is not there, or not for this user. Kernels that cannot tell (before 5.6) say that it is there.
    pub fn look_at(&self, path: &Path) -> io::Result<()> {
        let how =
            OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
        match openat2(&self.0, path, how) {
            // A filter of system calls says EPERM of one that it does not know, and the kernel EAGAIN when something is
            // renamed or mounted meanwhile.
            Ok(_) | Err(Errno::ENOSYS | Errno::EPERM | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
