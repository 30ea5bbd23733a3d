//! How one process notices that another one hangs: the watched one counts its turns in memory that both share.
//! Looking at it costs neither of them a system call.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

/// The length of the shared memory: a page, as the kernel gives no less.
const LENGTH: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// A number that two processes share. It is odd during a turn.
#[derive(Debug)]
struct Count(NonNull<AtomicU64>);

impl Count {
    fn map(file: BorrowedFd) -> io::Result<Count> {
        let both = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; it lives until `drop`. The file is sealed at
        // its length, so that nobody can take the memory away.
        let memory = unsafe { mmap(None, LENGTH, both, MapFlags::MAP_SHARED, file, 0) }?;
        Ok(Count(memory.cast()))
    }

    fn get(&self) -> &AtomicU64 {
        // SAFETY: the mapping is longer than the number, aligned to a page, and lives as long as `self`; any
        // bytes are a number, and the other process changes them by single stores only.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and no reference to it outlives `self`.
        let _ = unsafe { munmap(self.0.cast(), LENGTH.get()) };
    }
}

/// The side of the process that watches.
#[derive(Debug)]
pub struct Watchdog(Count);

impl Watchdog {
    /// A watchdog, and the memory file that the watched process makes a [`Watched`] of.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn new() -> io::Result<(Watchdog, OwnedFd)> {
        let memory = memfd_create(c"rlogind", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&memory, 4096)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals))?;
        Ok((Watchdog(Count::map(memory.as_fd())?), memory))
    }

    /// The turn that is running; none when the process sleeps, as far as it has said.
    #[must_use]
    pub fn turn(&self) -> Option<u64> {
        let count = self.0.get().load(Ordering::Relaxed);
        (count % 2 == 1).then_some(count)
    }
}

/// The side of the process that is watched.
#[derive(Debug)]
pub struct Watched(Count);

impl Watched {
    /// With the memory file of [`Watchdog::new`].
    ///
    /// # Errors
    /// It is another one, or out of memory.
    pub fn new(memory: OwnedFd) -> io::Result<Watched> {
        Ok(Watched(Count::map(memory.as_fd())?))
    }

    /// A turn begins.
    pub fn begin(&self) {
        let count = self.0.get();
        count.store(count.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
    }

    /// The turn is over.
    pub fn end(&self) {
        let count = self.0.get();
        count.store((count.load(Ordering::Relaxed) | 1).wrapping_add(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_seen_from_the_other_side() {
        let (watchdog, memory) = Watchdog::new().unwrap();
        let watched = Watched::new(memory).unwrap();
        assert_eq!(watchdog.turn(), None);
        watched.begin();
        let first = watchdog.turn().unwrap();
        watched.begin();
        assert_eq!(watchdog.turn(), Some(first), "it has not ended");
        watched.end();
        assert_eq!(watchdog.turn(), None);
        watched.begin();
        assert!(watchdog.turn().unwrap() > first);
    }
}
