//! A process that we have started, or one that the image before us has.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Child;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork};

use super::pidfd::{self, Waited};
use super::{End, Image, beside, descendants};
use crate::sys::channel::Channel;
use crate::sys::launch::Launcher;

/// resolv.conf(5): a name server that is away must not eat up the login's time.
const RESOLVER_OPTIONS: (&str, &str) = ("RES_OPTIONS", "timeout:2 attempts:2");

/// A process of ours and a descriptor that becomes readable when it ends. Usually it is our
/// child; when the daemon was taken over, another process may be its parent.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Starts an image of ours in a role, with the channel as its standard input,
    /// no environment of ours and no other descriptor than standard error.
    ///
    /// # Errors
    /// Out of processes, descriptors or memory.
    pub fn start_role(
        launcher: &mut Launcher,
        image: &Image,
        role: &str,
        channel: Channel,
    ) -> io::Result<Process> {
        Process::start_image(launcher, image, &[role.into()], &[], channel)
    }

    /// Starts an executable with these arguments and variables, and with what [`Process::start_role`] gives ours.
    ///
    /// # Errors
    /// It cannot be executed, or as there.
    pub fn start_image(
        launcher: &mut Launcher,
        image: &Image,
        arguments: &[OsString],
        variables: &[(&str, &str)],
        channel: Channel,
    ) -> io::Result<Process> {
        let words = arguments.iter().map(|word| CString::new(word.as_bytes()));
        let arguments: Result<Vec<_>, _> = std::iter::once(Ok(c"rlogind".to_owned())).chain(words).collect();
        let variables = [RESOLVER_OPTIONS].iter().chain(variables);
        let environment: Result<Vec<_>, _> =
            variables.map(|(name, value)| CString::new(format!("{name}={value}"))).collect();
        let (pid, pidfd) = launcher.start(image.as_fd(), &arguments?, &environment?, channel.as_fd())?;
        Ok(Process { pid, pidfd })
    }

    /// The process that this is.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn own() -> io::Result<Process> {
        let pid = Pid::this();
        Ok(Process { pid, pidfd: pidfd::open(pid)? })
    }

    /// Runs something in a copy of this process, which ends with the status it returns.
    ///
    /// # Errors
    /// Out of processes or descriptors.
    pub fn fork(run: impl FnOnce() -> i32) -> io::Result<Process> {
        // SAFETY: there is one thread in this process, so that the copy may do whatever this one may.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let status = catch_unwind(AssertUnwindSafe(run)).unwrap_or(101);
                // SAFETY: no function registered by the parent is to run here.
                unsafe { libc::_exit(status) }
            }
            // Not yet waited for, so its number cannot belong to another process.
            ForkResult::Parent { child } => match pidfd::open(child) {
                Ok(pidfd) => Ok(Process { pid: child, pidfd }),
                Err(error) => {
                    let _ = kill(child, Signal::SIGKILL);
                    let _ = waitpid(child, None);
                    Err(error)
                }
            },
        }
    }

    /// As [`Process::fork`], but as a child of this process's parent: a service manager watches its own
    /// children only, and waits for no other process.
    ///
    /// # Errors
    /// Out of processes or descriptors, or this process is the first one of its namespace.
    pub fn fork_beside(run: impl FnOnce() -> i32) -> io::Result<Process> {
        let mut run = Some(run);
        let mut copy = || run.take().and_then(|run| catch_unwind(AssertUnwindSafe(run)).ok()).unwrap_or(101);
        let (pid, pidfd) = beside::clone(&mut copy)?;
        Ok(Process { pid, pidfd })
    }

    /// A child that this process had before it executed another image.
    #[must_use]
    pub fn inherited(id: u32, pidfd: OwnedFd) -> Process {
        Process { pid: Pid::from_raw(i32::try_from(id).unwrap_or(0)), pidfd }
    }

    /// A descriptor for a child that has not been waited for yet.
    pub(in crate::sys) fn adopt(child: &Child) -> io::Result<Process> {
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        // Not yet waited for, so its number cannot belong to another process.
        match pidfd::open(pid) {
            Ok(pidfd) => Ok(Process { pid, pidfd }),
            Err(error) => {
                // Nobody could wait for it.
                let _ = kill(pid, Signal::SIGKILL);
                let _ = waitpid(pid, None);
                Err(error)
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// How it ended, if it has. A child is gone from the process table then.
    ///
    /// # Errors
    /// Those of waitid(2).
    pub fn try_wait(&self) -> io::Result<Option<End>> {
        Ok(match pidfd::wait(self.as_fd(), libc::WNOHANG)? {
            Waited::Running => None,
            Waited::Ended(end) => Some(end),
            Waited::NoChild if pidfd::has_ended(self.as_fd()) => {
                Some(pidfd::exit_status(self.as_fd()).unwrap_or(End::Unknown))
            }
            Waited::NoChild => None,
        })
    }

    /// Ends it at once, and its whole process group when it leads one.
    pub fn kill(&self) {
        self.signal_group(Signal::SIGKILL);
        self.signal(Signal::SIGKILL);
    }

    /// Ends it at once with all that it has started, which may have left its group.
    pub fn kill_with_descendants(&self) {
        descendants::end_children(self.pid, self.as_fd());
        self.kill();
    }

    /// Ends it at once, and nothing else.
    pub fn kill_alone(&self) {
        self.signal(Signal::SIGKILL);
    }

    /// Sends it a signal, and nobody else.
    pub fn send(&self, signal: Signal) {
        self.signal(signal);
    }

    /// Waits for its end, but not longer than this.
    pub fn wait_for(&self, time: Duration) {
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO);
        let _ = poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], timeout);
    }

    /// Ends it at once and waits until it is gone, which may take long: only where a process
    /// may wait.
    pub fn end(self) {
        self.kill();
        let _ = pidfd::wait(self.as_fd(), 0);
    }

    /// Tells its process group what a terminal that hangs up tells it. The
    /// process must lead its group.
    pub fn hang_up(&self) {
        self.signal_group(Signal::SIGHUP);
        self.signal_group(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        match pidfd::send(self.as_fd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            // Some container runtimes know the system call not at all.
            Err(_) if self.has_its_number() => drop(kill(self.pid, signal)),
            Err(_) => {}
        }
    }

    fn signal_group(&self, signal: Signal) {
        match pidfd::send_to_group(self.as_fd(), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            // Before Linux 6.9.
            Err(_) if self.has_its_number() => drop(killpg(self.pid, signal)),
            Err(_) => {}
        }
    }

    /// Whether its number is still its own: it is for a child that has not been waited for.
    fn has_its_number(&self) -> bool {
        let waited = pidfd::wait(self.as_fd(), libc::WNOHANG | libc::WNOWAIT);
        matches!(waited, Ok(Waited::Running | Waited::Ended(_)))
    }
}

impl std::os::fd::AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn start(script: &str) -> (Child, Process) {
        let child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let process = Process::adopt(&child).unwrap();
        (child, process)
    }

    fn wait(process: &Process) -> End {
        let start = Instant::now();
        loop {
            if let Some(end) = process.try_wait().unwrap() {
                return end;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The number in the first line that the child prints.
    fn number(child: &mut Child) -> u32 {
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    fn of(id: u32) -> Process {
        Process::inherited(id, pidfd::open(Pid::from_raw(id.cast_signed())).unwrap())
    }

    #[test]
    fn a_child_that_ended_says_how() {
        assert_eq!(wait(&start("exit 3").1), End::Exited(3));
        assert_eq!(wait(&start("kill -TERM $$").1), End::Signaled(libc::SIGTERM));
        // One that has no name.
        assert_eq!(wait(&start("kill -40 $$").1), End::Signaled(40));
        let (_, process) = start("sleep 60");
        assert_eq!(process.try_wait().unwrap(), None);
        process.kill();
        assert_eq!(wait(&process), End::Signaled(libc::SIGKILL));
    }

    #[test]
    fn nothing_is_signalled_by_a_number_that_may_be_somebody_elses() {
        let (_, process) = start("exit 0");
        assert!(process.has_its_number());
        wait(&process);
        assert!(!process.has_its_number());
        // Its number may belong to another process by now; make it so.
        let (mut other, _) = start("sleep 60");
        let stale = Process { pid: Pid::from_raw(other.id().cast_signed()), pidfd: process.pidfd };
        stale.kill();
        stale.hang_up();
        stale.kill_with_descendants();
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        assert_eq!(other.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn the_end_of_a_process_with_another_parent_is_seen() {
        let (mut parent, _) = start("sh -c 'sleep 0.2; exit 3' & echo $!; wait");
        let process = of(number(&mut parent));
        assert_eq!(process.try_wait().unwrap(), None);
        assert!(!process.has_its_number(), "it is no child of ours");
        assert!(matches!(wait(&process), End::Unknown | End::Exited(3)));
        parent.wait().unwrap();
        // Linux 6.15 and later still know it.
        assert!(matches!(process.try_wait().unwrap(), Some(End::Unknown | End::Exited(3))));
    }

    #[test]
    fn a_process_ends_with_its_descendants_or_with_its_group() {
        let (mut child, process) = start("setsid sh -c 'setsid sleep 61 & echo $!; wait' & wait");
        let grandchild = of(number(&mut child));
        process.kill_with_descendants();
        assert_eq!(wait(&process), End::Signaled(libc::SIGKILL));
        wait(&grandchild);

        let mut command = Command::new("sh");
        command.args(["-c", "sleep 62 & echo $!; wait"]).stdout(Stdio::piped()).process_group(0);
        for hang_up in [true, false] {
            let mut child = command.spawn().unwrap();
            let process = Process::adopt(&child).unwrap();
            let member = of(number(&mut child));
            if hang_up {
                process.hang_up()
            } else {
                process.kill()
            };
            wait(&process);
            wait(&member);
        }
    }
}
