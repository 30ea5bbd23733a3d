//! Starting a process in another image without a copy of the table of descriptors.
//!
//! fork(2) copies that table, and execve(2) closes one after the other what is not to be
//! inherited. With thousands of sessions, whose descriptors the monitor holds, that is most
//! of what the start of a process costs. Here the child shares the table until
//! close_range(2) gives it one of its own that has only its lowest part.

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, dup3};

/// The stack of a child until it executes its image: it calls a few functions of the C library.
const STACK: usize = 64 * 1024;

/// How long a child that was started in vain may take to end, in milliseconds.
const END_TIME: u16 = 100;

/// Starts processes. It keeps two low descriptors for that, so it has to be made early.
#[derive(Debug)]
pub struct Launcher {
    /// The null device.
    null: OwnedFd,
    /// What the child's standard input is copied from; the null device meanwhile.
    input: OwnedFd,
    /// What the child executes; the null device meanwhile.
    image: OwnedFd,
    /// A child can get a table of its own; false once one could not.
    shares_table: bool,
}

/// What the child has to do, as it may call nothing that takes a lock or memory.
struct Order {
    image: RawFd,
    arguments: *const *mut c_char,
    environment: *const *mut c_char,
    input: RawFd,
    null: RawFd,
    signals: SigSet,
    /// The child shares our table of descriptors.
    shares_table: bool,
    /// The number of what went wrong, for the parent; 0: nothing.
    error: c_int,
    /// The child could not get a table of its own.
    keeps_table: bool,
}

impl Launcher {
    /// With the lowest descriptors that are free.
    ///
    /// # Errors
    /// There is no null device, or out of descriptors.
    pub fn new() -> io::Result<Launcher> {
        let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
        let (input, image) = (null.try_clone()?, null.try_clone()?);
        Ok(Launcher { null, input, image, shares_table: true })
    }

    /// Executes an image, an open file, in a process of its own, in the root directory and with this
    /// standard input, the null device as standard output, our standard error, our blocked
    /// signals, and nothing else of ours.
    ///
    /// # Errors
    /// Out of processes, descriptors or memory, or those of execve(2).
    pub fn start(
        &mut self,
        image: BorrowedFd,
        arguments: &[CString],
        environment: &[CString],
        input: BorrowedFd,
    ) -> io::Result<(Pid, OwnedFd)> {
        // Nothing writes there: that is how the C library declares it.
        let pointers = |words: &[CString]| -> Vec<*mut c_char> {
            words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
        };
        let (arguments, environment) = (pointers(arguments), pointers(environment));
        let placed = replace(&mut self.input, input).and_then(|()| replace(&mut self.image, image));
        if let Err(error) = placed {
            let _ = self.clear();
            return Err(error);
        }
        let mut order = Order {
            image: self.image.as_raw_fd(),
            arguments: arguments.as_ptr(),
            environment: environment.as_ptr(),
            input: self.input.as_raw_fd(),
            null: self.null.as_raw_fd(),
            signals: SigSet::empty(),
            shares_table: self.shares_table,
            error: 0,
            keeps_table: false,
        };
        let mut started = run(&mut order);
        if order.keeps_table {
            // Before Linux 5.9, or where a filter on system calls knows less than the kernel.
            self.shares_table = false;
            (order.shares_table, order.error) = (false, 0);
            started = run(&mut order);
        }
        // Or the other end would not see this one close.
        match (started, self.clear()) {
            (Ok((pid, pidfd)), Err(error)) => {
                // It has just executed its image, so that it ends at once; should it not, nobody waits for it.
                let _ = kill(pid, Signal::SIGKILL);
                let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], END_TIME);
                let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
                Err(error)
            }
            (started, _) => started,
        }
    }
}

impl Launcher {
    /// Lets go of what the last child was given.
    fn clear(&mut self) -> io::Result<()> {
        // Once more: what waits in the child's channel, a terminal among it, would stay until the next child.
        let null = self.null.as_fd();
        let let_go = |slot: &mut OwnedFd| replace(slot, null).or_else(|_| replace(slot, null));
        let input = let_go(&mut self.input);
        let_go(&mut self.image).and(input)
    }
}

/// Makes `slot` another descriptor of what `to` stands for.
fn replace(slot: &mut OwnedFd, to: BorrowedFd) -> io::Result<()> {
    loop {
        match dup3(to, slot, OFlag::O_CLOEXEC) {
            Ok(()) => return Ok(()),
            Err(Errno::EINTR | Errno::EBUSY) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn run(order: &mut Order) -> io::Result<(Pid, OwnedFd)> {
    // So that the child begins with nothing that could interrupt it on our stack's behalf.
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    order.signals = before;
    let mut stack: Vec<u128> = vec![0; STACK / size_of::<u128>()];
    let table = if order.shares_table { libc::CLONE_FILES } else { 0 };
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD | table;
    let mut pidfd: c_int = -1;
    // SAFETY: the child runs on a stack of its own, whose end is aligned, and we stand still
    // until it has executed its image or exited (CLONE_VFORK); so all that `order` points to
    // lives as long as the child uses it. The kernel writes the number of a descriptor to
    // where the fifth argument points.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len()).cast::<c_void>();
        libc::clone(child, top, flags, ptr::from_mut(order).cast(), &raw mut pidfd)
    };
    let pid = Errno::result(pid);
    // With what it was before it cannot fail.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let pid = Pid::from_raw(pid?);
    if order.error != 0 {
        if pidfd >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            drop(unsafe { OwnedFd::from_raw_fd(pidfd) });
        }
        end(pid);
        return Err(io::Error::from_raw_os_error(order.error));
    }
    if pidfd < 0 {
        // Before Linux 5.2 the flag was none.
        end(pid);
        return Err(Errno::ENOSYS.into());
    }
    // SAFETY: as above.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Ends a child of ours, if it has not ended yet, and takes it out of the process table.
fn end(pid: Pid) {
    // It has not executed anything, so nothing can keep it.
    let _ = kill(pid, Signal::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// In the child: every path ends in another image or in `_exit`.
extern "C" fn child(order: *mut c_void) -> c_int {
    // SAFETY: the parent's order; the parent stands still meanwhile.
    let order = unsafe { &mut *order.cast::<Order>() };
    prepare_and_execute(order);
    order.error = errno();
    // SAFETY: no function registered by the parent is to run here.
    unsafe { libc::_exit(127) }
}

/// Returns when something fails, for which errno stands.
fn prepare_and_execute(order: &mut Order) {
    let first = order.input.max(order.null).max(order.image) + 1;
    let (last, unshare) = (libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE);
    // SAFETY: system calls with integers, and with strings and arrays that are alive as said
    // in `run`. The descriptors are changed only in a table of this process's own.
    unsafe {
        order.keeps_table =
            order.shares_table && libc::syscall(libc::SYS_close_range, first, last, unshare) != 0;
        if order.keeps_table
            || libc::dup2(order.input, libc::STDIN_FILENO) < 0
            || libc::dup2(order.null, libc::STDOUT_FILENO) < 0
            || libc::chdir(c"/".as_ptr()) < 0
            // A script's interpreter opens it by this descriptor.
            || libc::fcntl(order.image, libc::F_SETFD, 0) < 0
            || libc::sigprocmask(libc::SIG_SETMASK, order.signals.as_ref(), ptr::null_mut()) < 0
        {
            return;
        }
        // By its descriptor: a path through /proc would be looked up in a directory that everybody can list, and
        // who does can make that wait, and with it the parent.
        libc::execveat(order.image, c"".as_ptr(), order.arguments, order.environment, libc::AT_EMPTY_PATH);
    }
}

fn errno() -> c_int {
    // SAFETY: the C library's own place for this thread's number.
    unsafe { *libc::__errno_location() }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use nix::sys::wait::WaitStatus;

    use super::*;

    fn words(words: &[&str]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).unwrap()).collect()
    }

    /// What a shell says on its standard input, and how it ended.
    fn told_by(launcher: &mut Launcher, script: &str) -> (String, WaitStatus) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let script = format!("read line; {script}");
        let arguments = words(&["shell", "-c", &script]);
        let shell = File::open("/bin/sh").unwrap();
        let started = launcher.start(shell.as_fd(), &arguments, &words(&["A=b"]), theirs.as_fd());
        let (pid, _) = started.unwrap();
        drop(theirs);
        let _ = ours.write_all(b"question\n");
        let mut told = String::new();
        // Its end is seen: nothing of ours holds the other side.
        ours.read_to_string(&mut told).unwrap();
        (told, waitpid(pid, None).unwrap())
    }

    #[test]
    fn the_child_has_its_input_the_null_device_and_nothing_else_of_ours() {
        let mut launcher = Launcher::new().unwrap();
        let many: Vec<OwnedFd> = (0..100).map(|_| nix::unistd::dup(std::io::stderr()).unwrap()).collect();
        let script =
            "own=$(ls /proc/$$/fd); echo $0 $A $line $(pwd) $own $(readlink /proc/$$/fd/1) >&0; exit 3";
        let (told, status) = told_by(&mut launcher, script);
        let (who, descriptors) = told.trim().split_once(" / ").unwrap();
        let (descriptors, output) = descriptors.rsplit_once(' ').unwrap();
        assert_eq!((who, output), ("shell b question", "/dev/null"));
        // The shell has its own, and other tests some below ours.
        assert!(descriptors.split(' ').count() < many.len() / 5, "{descriptors}");
        assert!(matches!(status, WaitStatus::Exited(_, 3)));
        drop(many);
        // Its low descriptors are as before, whatever has come between; and it need not share.
        launcher.shares_table = false;
        assert_eq!(told_by(&mut launcher, "echo again >&0").0, "again\n");
    }

    #[test]
    fn blocked_signals_stay_blocked_and_others_do_not() {
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGHUP);
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), Some(&mut before)).unwrap();
        let script = "echo $(grep SigBlk /proc/$$/status | cut -f 2) >&0";
        let (told, _) = told_by(&mut Launcher::new().unwrap(), script);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None).unwrap();
        assert_eq!(u64::from_str_radix(told.trim(), 16).unwrap(), 1 << (Signal::SIGHUP as u64 - 1));
    }

    #[test]
    fn what_is_no_image_is_an_error_and_leaves_no_process() {
        let (_ours, theirs) = UnixStream::pair().unwrap();
        let image = File::open("/dev/null").unwrap();
        let error = Launcher::new().unwrap().start(image.as_fd(), &[], &[], theirs.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
