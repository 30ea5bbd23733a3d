//! The limits of a user's session: of resources, and its priority, file mode mask and root directory.
//!
//! PAM's modules set them in the process that opens the session, and mean the shell. That process has to
//! write the login records and to close PAM, which the user's limits must not prevent. So it gets its
//! own back, and the shell's process gets the user's.
//!
//! The executable has the functions of setrlimit(2) itself (`limits.c`, exported by `build.rs`): while PAM
//! opens a session they write a limit down and set nothing, for a hard limit cannot be raised again everywhere.

use std::io;

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use super::directories::{Directories, Root};

/// The kernel's `RLIM_NLIMITS`.
const COUNT: usize = 16;

/// The kernel's `struct rlimit64`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limit {
    soft: u64,
    hard: u64,
}

unsafe extern "C" {
    fn rlogind_note_limits();
    fn rlogind_stop_noting_limits();
    fn rlogind_noted_limit(resource: u32, limit: *mut Limit) -> i32;
}

/// What a session's user may have, as far as modules have set it.
#[derive(Debug)]
pub struct UserLimits {
    /// By their number.
    resources: [Option<Limit>; COUNT],
    /// The nice value.
    nice: Option<i32>,
    mask: Mode,
    /// The root directory, when a module has changed it; an error when this process may have it still.
    root: io::Result<Option<Root>>,
}

/// Does what sets the limits of a session, and gives this process its own back. Returns the session's.
pub fn collect<T>(work: impl FnOnce() -> T) -> (T, UserLimits) {
    let (before, nice, mask) = (resources(), nice(), current_mask());
    let directories = Directories::current();
    // SAFETY: it stores two numbers. The C file keeps what is set apart by process, and this one has no thread
    // that would set a limit meanwhile.
    unsafe { rlogind_note_limits() };
    let outcome = work();
    // SAFETY: as above.
    unsafe { rlogind_stop_noting_limits() };
    let root = directories.and_then(|before| before.restore());
    let mut user = UserLimits { resources: [None; COUNT], nice: None, mask: umask(mask), root };
    for (resource, (ours, users)) in (0..).zip(before.into_iter().zip(&mut user.resources)) {
        let mut limit = Limit::default();
        // SAFETY: the C file writes one limit there, or nothing.
        let is_noted = unsafe { rlogind_noted_limit(resource, &raw mut limit) } != 0;
        *users = is_noted.then_some(limit);
        // One that was set by the system call itself.
        if let Some(now) = get(resource).filter(|now| ours.is_some_and(|ours| ours != *now)) {
            users.get_or_insert(now);
            ours.into_iter().for_each(|ours| put_back(resource, ours, now));
        }
    }
    if let (Some(ours), Some(now)) = (nice, self::nice())
        && ours != now
    {
        user.nice = Some(now);
        let _ = set_nice(ours);
    }
    (outcome, user)
}

impl UserLimits {
    /// The root directory that modules have set.
    ///
    /// # Errors
    /// When this process could not go back to its own; then it has the one that modules have set.
    pub fn root(&self) -> Result<Option<&Root>, &io::Error> {
        self.root.as_ref().map(Option::as_ref)
    }

    /// Sets them for the calling process. Allocates nothing and takes no lock: it may be called between fork and exec.
    ///
    /// # Errors
    /// When one of them cannot be had: without it the user might do more than allowed.
    pub fn set(&self) -> io::Result<()> {
        for (resource, limit) in (0..).zip(&self.resources) {
            if let Some(limit) = limit.filter(|limit| get(resource) != Some(*limit)) {
                set(resource, limit)?;
            }
        }
        if let Some(value) = self.nice.filter(|value| nice() != Some(*value)) {
            set_nice(value)?;
        }
        umask(self.mask);
        self.root().ok().flatten().map_or(Ok(()), Root::enter)
    }
}

/// All limits of this process; `None` for those that the kernel does not know.
fn resources() -> [Option<Limit>; COUNT] {
    let mut limits = [None; COUNT];
    for (resource, limit) in (0..).zip(&mut limits) {
        *limit = get(resource);
    }
    limits
}

fn get(resource: u32) -> Option<Limit> {
    let mut limit = Limit::default();
    let none = std::ptr::null::<Limit>();
    // SAFETY: the kernel writes one limit there.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut limit) };
    (result == 0).then_some(limit)
}

fn set(resource: u32, limit: Limit) -> nix::Result<()> {
    let none = std::ptr::null_mut::<Limit>();
    // SAFETY: the kernel reads one limit from there.
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, none) })
        .map(drop)
}

/// Without the right to raise a hard limit, the soft one goes up to it.
fn put_back(resource: u32, ours: Limit, now: Limit) {
    if set(resource, ours).is_err() {
        let _ = set(resource, Limit { soft: ours.soft.min(now.hard), hard: now.hard });
    }
}

fn current_mask() -> Mode {
    // It can only be asked for by setting it.
    let mask = umask(Mode::S_IWGRP | Mode::S_IWOTH);
    umask(mask);
    mask
}

fn nice() -> Option<i32> {
    // -1 is a nice value as well.
    Errno::clear();
    // SAFETY: integers.
    let value = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    (value != -1 || Errno::last_raw() == 0).then_some(value)
}

fn set_nice(value: i32) -> nix::Result<()> {
    // SAFETY: integers.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, value) }).map(drop)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};

    use super::*;
    use crate::sys::process::Process;

    /// `RLIMIT_CORE`.
    const CORE: u32 = 4;

    /// In a process of its own, for the limits are the process's.
    fn succeeds_in_a_child(check: fn() -> bool) -> bool {
        let child = Process::fork(|| i32::from(!check())).unwrap();
        loop {
            if let Some(end) = child.try_wait().unwrap() {
                return end == crate::sys::process::End::Exited(0);
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }

    #[test]
    fn the_root_is_the_sessions_and_not_ours() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        assert!(succeeds_in_a_child(|| {
            let here = tempfile::tempdir().unwrap();
            let jail = here.path().join("jail");
            let inside = jail.join("home");
            std::fs::create_dir_all(&inside).unwrap();
            std::os::unix::fs::symlink("/home", jail.join("link")).unwrap();
            std::env::set_current_dir(here.path()).unwrap();
            let ours = std::env::current_dir().unwrap();
            let moved = |work: &dyn Fn()| collect(work).1.root.unwrap().is_some();
            let unmoved = !moved(&|| ())
                && !moved(&|| std::env::set_current_dir("/").unwrap())
                && std::env::current_dir().unwrap() == ours;
            let ((), limits) = collect(|| nix::unistd::chroot(&jail).unwrap());
            let back = inside.is_dir() && std::env::current_dir().unwrap() == ours;
            let root = limits.root().unwrap().unwrap();
            let look = |path: &str| root.look_at(std::path::Path::new(path)).is_ok();
            let seen = look("/home/.") && look("/link/.") && look("/link/../../home") && !look("/etc/.");
            let outside = Directories::current().unwrap();
            limits.set().unwrap();
            let entered = std::fs::metadata("/home").is_ok() && std::fs::metadata("/etc").is_err();
            outside.restore().unwrap();
            unmoved && back && seen && entered
        }));
    }

    #[test]
    fn limits_are_the_sessions_and_not_ours() {
        assert!(succeeds_in_a_child(|| {
            let mask = umask(Mode::S_IWOTH);
            let before = resources();
            let core = get(CORE).unwrap().hard;
            let (seen, limits) = collect(|| {
                umask(Mode::S_IRWXO);
                set_nice(nice().unwrap() + 1).unwrap();
                setrlimit(Resource::RLIMIT_FSIZE, 1000, 2000).unwrap();
                // As a module that asks again what it has set.
                let seen = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
                // By the system call, which nobody can write down.
                set(CORE, Limit { soft: 0, hard: core }).unwrap();
                (seen, setrlimit(Resource::RLIMIT_CPU, 2, 1).is_err())
            });
            let kept = resources() == before && current_mask() == Mode::S_IWOTH;
            let nice_before = nice().unwrap();
            limits.set().unwrap();
            let fsize = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
            let given = (fsize, getrlimit(Resource::RLIMIT_CORE).unwrap().0, nice().unwrap(), current_mask());
            let expected = ((1000, 2000), 0, nice_before + 1, Mode::S_IRWXO);
            umask(mask);
            kept && seen == ((1000, 2000), true) && given == expected
        }));
    }
}
