//! Accounts, and acting with a user's own rights.
//!
//! [`as_user`] must never change the identity of the calling thread: the work is
//! done in a thread of its own, whose credentials alone are changed and which
//! ends with it. So there is nothing to restore, and nothing to go on wrongly
//! with if restoring failed.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::sync::Mutex;

use nix::errno::Errno;
use nix::unistd::{Gid, SysconfVar, Uid, getegid, geteuid, getgroups, setgid, setgroups, sysconf};

// On these the plain numbers are the calls with 16-bit ids.
#[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
use libc::{SYS_setgroups as SYS_SETGROUPS, SYS_setresgid as SYS_SETRESGID, SYS_setresuid as SYS_SETRESUID};
#[cfg(any(target_arch = "x86", target_arch = "arm"))]
use libc::{
    SYS_setgroups32 as SYS_SETGROUPS, SYS_setresgid32 as SYS_SETRESGID, SYS_setresuid32 as SYS_SETRESUID,
};

/// The most groups of a process since Linux 2.6.4, where the C library does not say.
const NGROUPS_MAX: usize = 65_536;
/// Room for so many groups is made at first.
const FIRST_ROOM: usize = 64;

/// Why acting as a user failed.
#[derive(Debug)]
pub enum IdentityError {
    /// Only root can become another user.
    NeedsRoot,
    /// A step of becoming the user failed.
    Failed {
        /// The step.
        step: &'static str,
        /// The system's reason.
        error: io::Error,
    },
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::NeedsRoot => f.write_str("only root can"),
            IdentityError::Failed { step, error } => write!(f, "{step}: {}", super::words(error)),
        }
    }
}

/// Gives this process the groups of an account and no others; its user id stays as it is. Returns the
/// groups that the kernel refuses, or that are more than a process can have, and that it is left without.
///
/// # Errors
/// When the account's own group is refused, or the groups are not exactly those after the change.
pub fn take_groups(name: &str, gid: u32) -> Result<Vec<u32>, IdentityError> {
    let listed = groups_of(name, gid)?;
    setgid(Gid::from_raw(gid)).map_err(|errno| failed("setgid", errno.into()))?;
    let taken =
        set_accepted(&listed, most_groups(), setgroups).map_err(|errno| failed("setgroups", errno.into()))?;
    verify(geteuid().as_raw(), gid, &taken)?;
    let taken: BTreeSet<u32> = taken.iter().map(|group| group.as_raw()).collect();
    Ok(listed.iter().map(|group| group.as_raw()).filter(|group| !taken.contains(group)).collect())
}

/// Runs `work` with the effective user id, group id and supplementary groups of
/// a user, the rights a file server sees, and nobody else's.
///
/// A process that is that user already runs it as it is.
///
/// # Errors
/// When the process is neither root nor that user, or when the rights of the
/// thread are not exactly those asked for after the change.
pub fn as_user<T: Send>(
    name: &str,
    uid: u32,
    gid: u32,
    work: impl FnOnce() -> T + Send,
) -> Result<T, IdentityError> {
    if !geteuid().is_root() {
        return if geteuid().as_raw() == uid { Ok(work()) } else { Err(IdentityError::NeedsRoot) };
    }
    // The group data base may be a network's, so it is asked as root.
    let groups = groups_of(name, gid)?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .spawn_scoped(scope, || become_user(uid, gid, &groups).map(|()| work()))
            .map_err(|error| failed("thread", error))?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// All groups of an account, each once and its own first.
fn groups_of(name: &str, gid: u32) -> Result<Vec<Gid>, IdentityError> {
    let name =
        CString::new(name).map_err(|_| failed("user name", io::Error::from(io::ErrorKind::InvalidInput)))?;
    let mut groups = vec![Gid::from_raw(gid)];
    groups.extend(listed_groups(&name, gid).map_err(|error| failed("getgrouplist", error))?);
    let mut seen = BTreeSet::new();
    groups.retain(|group| seen.insert(group.as_raw()));
    Ok(groups)
}

/// All groups that the system lists for an account, as many as they are: nix's function fails when there are more than a
/// process can have.
fn listed_groups(name: &CStr, gid: u32) -> io::Result<Vec<Gid>> {
    let mut groups: Vec<libc::gid_t> = vec![0; FIRST_ROOM];
    loop {
        let room = libc::c_int::try_from(groups.len()).map_err(io::Error::other)?;
        let mut count = room;
        // SAFETY: the C library writes at most `count` ids into the list, which has that many, and their number into it.
        let result = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        let length = usize::try_from(count).map_err(io::Error::other)?;
        if result >= 0 {
            groups.truncate(length);
            return Ok(groups.into_iter().map(Gid::from_raw).collect());
        }
        if count <= room {
            // The list is not too long.
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        groups.resize(length, 0);
    }
}

/// The most groups that a process can have.
fn most_groups() -> usize {
    let most = sysconf(SysconfVar::NGROUPS_MAX).ok().flatten();
    most.and_then(|most| usize::try_from(most).ok()).unwrap_or(NGROUPS_MAX)
}

/// Sets the groups, the first so many, and without those that the kernel refuses: the id that stands for "none", and in a container
/// those that it has no number for. Without them a user has fewer rights and not more. Returns those that were set.
fn set_accepted(
    groups: &[Gid],
    most: usize,
    set: impl Fn(&[Gid]) -> nix::Result<()>,
) -> nix::Result<Vec<Gid>> {
    let groups = &groups[..groups.len().min(most)];
    match set(groups) {
        Ok(()) => Ok(groups.to_vec()),
        // It does not say which, so each is tried alone.
        Err(Errno::EINVAL) => {
            let accepted: Vec<Gid> =
                groups.iter().copied().filter(|group| set(std::slice::from_ref(group)).is_ok()).collect();
            set(&accepted)?;
            Ok(accepted)
        }
        Err(errno) => Err(errno),
    }
}

fn failed(step: &'static str, error: io::Error) -> IdentityError {
    IdentityError::Failed { step, error }
}

/// The names of all accounts the system lists, sorted, each once. Names that are
/// not UTF-8 are left out.
pub fn account_names() -> BTreeSet<String> {
    static ENUMERATION: Mutex<()> = Mutex::new(());
    let _alone = ENUMERATION.lock();
    // SAFETY: getpwent(3) has one position per process. Nothing else in this
    // program enumerates, and two callers of this function are kept apart.
    let users = unsafe { users::all_users() };
    users.filter_map(|user| user.name().to_str().map(str::to_owned)).collect()
}

/// Changes the credentials of the calling thread alone, groups first, because
/// the user may change none. The C library's functions would change all threads.
fn become_user(uid: u32, gid: u32, groups: &[Gid]) -> Result<(), IdentityError> {
    let keep = libc::uid_t::MAX;
    let set = |groups: &[Gid]| {
        let list: Vec<libc::gid_t> = groups.iter().map(|group| group.as_raw()).collect();
        // SAFETY: the kernel reads list.len() group ids from list, which lives until
        // the call returns; the C library keeps no copy of a thread's credentials.
        Errno::result(unsafe { libc::syscall(SYS_SETGROUPS, list.len(), list.as_ptr()) }).map(drop)
    };
    let groups =
        set_accepted(groups, most_groups(), set).map_err(|errno| failed("setgroups", errno.into()))?;
    // SAFETY: three integers; no memory is touched.
    check("setresgid", unsafe { libc::syscall(SYS_SETRESGID, keep, gid, keep) })?;
    // SAFETY: as above.
    check("setresuid", unsafe { libc::syscall(SYS_SETRESUID, keep, uid, keep) })?;
    verify(uid, gid, &groups)
}

fn check(step: &'static str, result: libc::c_long) -> Result<(), IdentityError> {
    if result == 0 { Ok(()) } else { Err(failed(step, io::Error::last_os_error())) }
}

/// Looks whether the change took place, rather than believing that it did.
fn verify(uid: u32, gid: u32, groups: &[Gid]) -> Result<(), IdentityError> {
    let sorted = |groups: &[Gid]| {
        let mut ids: Vec<u32> = groups.iter().map(|group| group.as_raw()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let now = getgroups().map_err(|errno| failed("getgroups", errno.into()))?;
    let right =
        geteuid() == Uid::from_raw(uid) && getegid() == Gid::from_raw(gid) && sorted(&now) == sorted(groups);
    if right { Ok(()) } else { Err(failed("verification", io::Error::from(io::ErrorKind::PermissionDenied))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> (u32, u32, usize) {
        (geteuid().as_raw(), nix::unistd::getegid().as_raw(), getgroups().unwrap().len())
    }

    #[test]
    fn changes_only_its_own_thread() {
        let before = ids();
        if !geteuid().is_root() {
            let other = as_user("root", 0, 0, ids);
            assert!(matches!(other, Err(IdentityError::NeedsRoot)));
            assert_eq!(as_user("me", before.0, before.1, ids).unwrap(), before);
            return;
        }
        let during = as_user("nobody", 65534, 65534, || {
            let denied = std::fs::read("/etc/shadow").map_err(|e| e.kind());
            (ids(), denied)
        });
        assert_eq!(during.unwrap(), ((65534, 65534, 1), Err(io::ErrorKind::PermissionDenied)));
        assert_eq!(ids(), before);
    }

    #[test]
    fn a_failing_step_runs_nothing() {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let mut ran = false;
        // The id that means "leave as it is" must not leave it as it is.
        assert!(as_user("nobody", u32::MAX, 65534, || ran = true).is_err());
        assert!(as_user("nobody", 65534, u32::MAX, || ran = true).is_err());
        assert!(as_user("no\0body", 65534, 65534, || ran = true).is_err());
        assert!(!ran);
    }

    #[test]
    fn groups_that_the_kernel_refuses_are_left_out_and_none_is_added() {
        let listed = [1001, u32::MAX, 50, 70_000].map(Gid::from_raw);
        let now = std::cell::RefCell::new(vec![Gid::from_raw(0)]);
        let set = |groups: &[Gid]| {
            if groups.iter().any(|group| group.as_raw() >= 65_536) {
                return Err(Errno::EINVAL);
            }
            now.replace(groups.to_vec());
            Ok(())
        };
        let expected = [1001, 50].map(Gid::from_raw);
        assert_eq!(set_accepted(&listed, 9, set).unwrap(), expected);
        assert_eq!(now.take(), expected);
        // Not allowed at all: what the process has stays, so it must not be taken for the account's.
        assert_eq!(set_accepted(&listed, 9, |_| Err(Errno::EPERM)), Err(Errno::EPERM));
        assert_eq!(set_accepted(&listed[1..2], 9, set).unwrap(), []);
        assert_eq!(now.take(), []);
        // More than a process can have: the first ones, with its own among them.
        for (most, expected) in [(1, &expected[..1]), (2, &expected[..1]), (3, &expected[..])] {
            assert_eq!(set_accepted(&listed, most, set).unwrap(), expected);
            assert_eq!(now.take(), expected);
        }
    }
}
