//! The relay's cage: no root, no files, no children.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, mkdir, setgroups, setresgid, setresuid};

/// Gives up everything the relay does not need, for good: the file system (its
/// root becomes an empty directory that exists nowhere any more), groups, ids,
/// privileges, new processes, and core files.
///
/// `scratch` is a directory in which only root can create.
///
/// # Errors
/// Any step that fails; the caller must not go on then.
pub fn enter(scratch: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    let empty = scratch.join(format!("empty.{}", std::process::id()));
    mkdir(&empty, nix::sys::stat::Mode::S_IXUSR)?;
    let inside = chdir(&empty);
    // A removed directory can never hold anything again.
    std::fs::remove_dir(&empty)?;
    inside?;
    chroot(".")?;
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let root = Uid::from_raw(0);
    if Uid::effective().is_root() || setresuid(root, root, root).is_ok() {
        return Err(Errno::EPERM.into());
    }
    nix::sys::prctl::set_no_new_privs()?;
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_NPROC, 0, 0)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    Ok(())
}
