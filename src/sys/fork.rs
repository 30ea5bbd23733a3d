//! A task that may hang, in a child process of its own: its parent waits for it only so long.
//!
//! The child may hang in a system call that even SIGKILL does not end. So the parent never waits
//! for its end without a limit, and the child has none of the parent's descriptors, which would
//! stay open with it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, recv, send, shutdown, socketpair,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};

use super::process;

/// What the child says when the task has succeeded.
const SUCCESS: u8 = b'+';
/// The longest text that a task is given, in bytes.
const MAX_INPUT: usize = 8 * 1024;
/// How long a child that was killed, or has said its last word, may take to be gone.
const EXIT_GRACE: Duration = Duration::from_millis(50);
/// How often it is looked whether it is.
const PAUSE: Duration = Duration::from_micros(20);
/// The child's end of the way to its parent.
const PARENT: RawFd = 3;

/// What has become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has succeeded.
    Done,
    /// It has failed.
    Failed,
    /// It was not done in time, and was told to end.
    TimedOut,
}

/// A child process that does one task when it is given the text for it. It ends with its parent.
///
/// The earlier it is started, the less of a process there is to copy.
#[derive(Debug)]
pub struct Child {
    process: Pid,
    link: OwnedFd,
}

/// Runs the task in a child process and waits at most so long for it.
///
/// # Errors
/// Out of processes, descriptors or memory.
pub fn run_in_child(name: &CStr, limit: Duration, task: impl FnOnce() -> bool) -> io::Result<Outcome> {
    let child = Child::start(name, |_| task())?;
    let outcome = child.run(b"go", limit);
    child.reap();
    Ok(outcome)
}

impl Child {
    /// Starts a child that waits for its text.
    ///
    /// # Errors
    /// Out of processes, descriptors or memory.
    pub fn start(name: &CStr, task: impl FnOnce(&[u8]) -> bool) -> io::Result<Child> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        let parent = getpid();
        // SAFETY: the child never returns from here. It runs the C library's allocator, which
        // fork(3) leaves usable, and takes no lock of ours.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Child { process: child, link: ours }),
            ForkResult::Child => {
                run(name, parent, &theirs, task);
                // SAFETY: no function registered by the parent is to run here.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Has it do its task with this text, which is not empty, and waits at most so long for it. More calls do nothing.
    pub fn run(&self, text: &[u8], limit: Duration) -> Outcome {
        let deadline = Instant::now() + limit;
        // The socket is empty: that takes no time.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        if text.len() > MAX_INPUT || send(self.link.as_raw_fd(), text, flags).is_err() {
            return Outcome::Failed;
        }
        let outcome = wait(&self.link, deadline);
        if outcome == Outcome::TimedOut {
            let _ = kill(self.process, Signal::SIGKILL);
        }
        outcome
    }

    /// Takes the child out of the process table, whether or not it had something to do; unless it hangs: then it stays
    /// there until its parent has ended, too.
    pub fn reap(self) {
        let _ = shutdown(self.link.as_raw_fd(), Shutdown::Write);
        let deadline = Instant::now() + EXIT_GRACE;
        // Its end closes the socket, and comes right after.
        let grace = PollTimeout::try_from(EXIT_GRACE).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(self.link.as_fd(), PollFlags::empty())], grace);
        let state = || waitpid(self.process, Some(WaitPidFlag::WNOHANG));
        while matches!(state(), Ok(WaitStatus::StillAlive) | Err(Errno::EINTR)) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
        }
    }
}

/// In the child: no panic may leave it, and no end of it but the caller's.
fn run(name: &CStr, parent: Pid, link: &OwnedFd, task: impl FnOnce(&[u8]) -> bool) {
    // What the parent has left undone by its end, others do: this process must not do it then.
    let bound = prctl::set_pdeathsig(Signal::SIGKILL);
    if bound.is_err() || getppid() != parent || !keep_only(link) {
        return;
    }
    let _ = prctl::set_name(name);
    // Somebody waits for it, or for a lock that it has.
    process::ask_for_short_slices();
    // The daemon may have been given a limit, and a part of a record is none.
    let _ = setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY);
    // `keep_only` has made this descriptor, and nothing closes it.
    let mut text = vec![0; MAX_INPUT];
    match recv(PARENT, &mut text, MsgFlags::empty()) {
        Ok(length) if length > 0 => text.truncate(length),
        // There is nothing to do.
        Ok(_) | Err(_) => return,
    }
    if matches!(catch_unwind(AssertUnwindSafe(|| task(&text))), Ok(true)) {
        let _ = send(PARENT, &[SUCCESS], MsgFlags::MSG_NOSIGNAL);
    }
}

/// Closes all descriptors but the standard ones and the socket, which becomes [`PARENT`]. The values that own the others
/// are the parent's, and are not dropped in the child.
fn keep_only(link: &OwnedFd) -> bool {
    let first = PARENT + 1;
    // SAFETY: system calls with integers; of the descriptors that they change, none is used afterwards
    // but the new one.
    unsafe {
        if link.as_raw_fd() != PARENT && libc::dup2(link.as_raw_fd(), PARENT) < 0 {
            return false;
        }
        if libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) != 0 {
            // Before Linux 5.9, or where a filter on system calls knows less than the kernel.
            for fd in first..1024 {
                libc::close(fd);
            }
        }
    }
    true
}

/// What the child says until then; its end closes the socket.
fn wait(link: &OwnedFd, deadline: Instant) -> Outcome {
    loop {
        // One more millisecond: poll rounds down.
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() + 1;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Outcome::TimedOut,
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            // Nobody would learn what becomes of it.
            Err(_) => return Outcome::TimedOut,
        }
    }
    let mut said = [0];
    match recv(link.as_raw_fd(), &mut said, MsgFlags::MSG_DONTWAIT) {
        Ok(1) if said == [SUCCESS] => Outcome::Done,
        Ok(_) | Err(_) => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_parent_learns_how_the_task_went_and_waits_no_longer_than_it_said() {
        let run = |task: fn() -> bool| run_in_child(c"test", Duration::from_millis(300), task).unwrap();
        assert_eq!(run(|| true), Outcome::Done);
        assert_eq!(run(|| false), Outcome::Failed);
        assert_eq!(run(|| std::panic::resume_unwind(Box::new(()))), Outcome::Failed);
        let start = Instant::now();
        let sleep = || {
            std::thread::sleep(Duration::from_secs(60));
            true
        };
        assert_eq!(run(sleep), Outcome::TimedOut);
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    #[test]
    fn a_child_does_its_task_with_the_text_that_it_is_given_and_nothing_without_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let start = || {
            let path = path.clone();
            Child::start(c"test", move |text| fs::write(&path, text).is_ok()).unwrap()
        };
        let child = start();
        child.reap();
        assert_eq!(fs::read(&path).unwrap(), b"");
        let child = start();
        assert_eq!(child.run(b"text", Duration::from_secs(10)), Outcome::Done);
        assert_eq!(child.run(b"more", Duration::from_secs(10)), Outcome::Failed);
        child.reap();
        assert_eq!(fs::read(&path).unwrap(), b"text");
    }

    #[test]
    fn the_child_has_no_descriptor_of_ours_and_ends_with_us() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let task = move || {
            let count = fs::read_dir("/proc/self/fd").unwrap().count();
            let text = format!("{count} {:?}", prctl::get_pdeathsig().unwrap());
            fs::write(&path, text).is_ok()
        };
        assert_eq!(run_in_child(c"test", Duration::from_secs(10), task).unwrap(), Outcome::Done);
        // The standard ones, the socket, and the directory that is read.
        let told = fs::read_to_string(file.path()).unwrap();
        let (count, signal) = told.split_once(' ').unwrap();
        assert!(count.parse::<u32>().unwrap() <= 5 && signal.contains("SIGKILL"), "{told}");
    }
}
