//! What a login needs of the kernel, tried before the first one comes.
//!
//! An old kernel does not know a system call, and the filter of a container or a unit refuses one. A daemon that starts
//! all the same looks well and lets nobody in. Nothing here may leave a trace: `check` asks beside a daemon that runs.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{
    ForkResult, Gid, Uid, execveat, fchown, fork, getegid, geteuid, getgroups, setgroups, setresgid,
    setresuid, setsid,
};

use super::channel::Channel;
use super::launch::Launcher;
use super::{memory_file, process, pty, sandbox};

/// Errors that say that there is too little of something just now, or that a device has yet to come. Whoever starts then
/// may serve later.
const SHORTAGES: [Errno; 8] = [
    Errno::EINTR,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno::EMFILE,
    Errno::ENFILE,
    Errno::ENOSPC,
    Errno::ENOBUFS,
    Errno::ENOENT,
];

/// What it is, and how it is tried.
type Try = (&'static str, fn() -> io::Result<()>);

/// Something that a login needs, and that the system does not give.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    what: String,
    errno: Errno,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no login is possible without {}: {}", self.what, self.errno.desc())
    }
}

impl Missing {
    /// What mends it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        if matches!(self.errno, Errno::EPERM | Errno::EACCES) {
            "permit it where system calls are filtered: a newer container runtime with a newer libseccomp, its seccomp \
             profile, or SystemCallFilter= of the unit"
        } else {
            "Linux 5.4 or later; in a container a newer runtime, whose filter may answer in the kernel's place"
        }
    }
}

/// Tries everything; what the system does not give.
#[must_use]
pub fn missing() -> Vec<Missing> {
    let tries: [Try; 17] = [
        ("memfd_create(2)", || memory_file::write(b"").map(drop)),
        ("socketpair(2)", || Channel::pair().map(drop)),
        ("sendmsg(2) and recvmsg(2)", send_and_receive),
        ("accept4(2)", accept),
        ("epoll_create1(2), epoll_ctl(2) and epoll_wait(2)", watch),
        ("signalfd(2)", || Ok(SignalFd::with_flags(&SigSet::empty(), SfdFlags::SFD_CLOEXEC).map(drop)?)),
        ("pidfd_open(2)", || process::Process::own().map(drop)),
        // Of this process nobody here can wait, which is the answer of a kernel that knows the question.
        ("waitid(2) with P_PIDFD", wait_by_descriptor),
        ("execveat(2)", || refused_only(execute(&folder()?))),
        ("clone(2) with CLONE_PIDFD", || refused_only(start(&folder()?))),
        ("a pseudo-terminal", || pty::open().map(drop)),
        ("fchown(2) and fchmod(2)", give_terminal),
        ("prlimit(2)", limit),
        ("a thread (clone(2), clone3(2))", thread),
        ("setsid(2)", || child(|| Ok(setsid().map(drop)?))),
        ("setresuid(2) and setresgid(2)", || child(take_ids)),
        ("getgroups(2) and setgroups(2)", || child(take_groups)),
    ];
    let mut missing: Vec<Missing> = tries.into_iter().filter_map(|(what, run)| of(what, run())).collect();
    missing.extend(of("getsockopt(2) with SO_COOKIE", cookie()));
    missing
}

/// Has a process of its own enter a relay's sandbox, as this user and group; what the system does not give.
#[must_use]
pub fn missing_for_sandbox(uid: Uid, gid: Gid) -> Option<Missing> {
    let (reader, writer) = nix::unistd::pipe().ok()?;
    let tried = child(move || {
        let root = folder()?;
        sandbox::enter(root.as_fd(), uid, gid).map_err(|refused| {
            let _ = File::from(writer).write_all(refused.step.as_bytes());
            refused.error
        })
    });
    let mut step = String::new();
    // Our copy of the other end was closed with the child's task.
    File::from(reader).read_to_string(&mut step).ok()?;
    let step = if step.is_empty() { "a step" } else { &step };
    of(&format!("{step} of the relay's sandbox"), tried)
}

fn of(what: &str, tried: io::Result<()>) -> Option<Missing> {
    let errno = tried.err().and_then(|error| error.raw_os_error()).map(Errno::from_raw)?;
    (!SHORTAGES.contains(&errno)).then_some(Missing { what: what.to_owned(), errno })
}

/// Does something to a process that must not happen to this one.
fn child(run: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: there is one thread in this process, so that the copy may do whatever this one may.
    match unsafe { fork() }? {
        ForkResult::Child => {
            // The numbers of errors are small enough for a status.
            let status = run().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
            // SAFETY: no function registered by the parent is to run here.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            let outcome = waitpid(child, None)?;
            if let WaitStatus::Exited(_, number) = outcome {
                return if number == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(number)) };
            }
            // By a filter that ends whoever makes the call.
            Err(Errno::EPERM.into())
        }
    }
}

fn send_and_receive() -> io::Result<()> {
    // What is missing here has been said already.
    let Ok((ours, theirs)) = Channel::pair() else { return Ok(()) };
    ours.send(b"?", &[])?;
    theirs.receive().map(drop)
}

/// At a socket that nobody can find. That nobody connects is the answer of a kernel that knows the question.
fn accept() -> io::Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let listener = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new_unnamed())?;
    listen(&listener, Backlog::new(1)?)?;
    Ok(accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC).map(drop)?)
}

fn watch() -> io::Result<()> {
    let mut poll = mio::Poll::new()?;
    let (reader, _writer) = nix::unistd::pipe()?;
    poll.registry().register(&mut SourceFd(&reader.as_raw_fd()), Token(0), Interest::READABLE)?;
    poll.poll(&mut Events::with_capacity(1), Some(Duration::ZERO))
}

/// What a login does to its terminal, without a change.
fn give_terminal() -> io::Result<()> {
    let pty = pty::open()?;
    fchown(&pty.follower, Some(geteuid()), None)?;
    Ok(fchmod(&pty.follower, Mode::S_IRUSR | Mode::S_IWUSR)?)
}

fn thread() -> io::Result<()> {
    // It has ended before anything here is copied.
    let _ = std::thread::Builder::new().spawn(|| ())?.join();
    Ok(())
}

fn limit() -> io::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft, hard)?)
}

fn take_ids() -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Only root may: others can learn that the call is there.
fn take_groups() -> io::Result<()> {
    getgroups()?;
    // Those that it has may be no groups of its user namespace.
    if geteuid().is_root() { Ok(setgroups(&[getegid()])?) } else { Ok(()) }
}

fn wait_by_descriptor() -> io::Result<()> {
    match process::Process::own() {
        Ok(own) => own.try_wait().map(drop),
        // It has been said already.
        Err(_) => Ok(()),
    }
}

/// What can never be executed.
fn folder() -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open("/")
}

/// The kernel's word that a folder is not executed: all that was tried up to there works.
fn refused_only(tried: io::Result<()>) -> io::Result<()> {
    tried.or_else(|error| if error.raw_os_error() == Some(libc::EACCES) { Ok(()) } else { Err(error) })
}

fn execute(image: &File) -> io::Result<()> {
    let none: [&std::ffi::CStr; 0] = [];
    execveat(image, c"", &[c"rlogind"], &none, AtFlags::AT_EMPTY_PATH)?;
    Ok(())
}

fn start(image: &File) -> io::Result<()> {
    let input = File::open("/dev/null")?;
    Launcher::new()?.start(image.as_fd(), &[c"rlogind".to_owned()], &[], input.as_fd()).map(drop)
}

/// Of a socket of a family that there is.
fn cookie() -> io::Result<()> {
    let of = |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    match of(AddressFamily::Inet).or_else(|_| of(AddressFamily::Inet6)) {
        Ok(socket) => super::socket::cookie(socket.as_fd()).map(drop),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_nothing_is_missing() {
        assert_eq!(missing(), []);
    }

    #[test]
    fn what_is_short_is_not_missing() {
        let failed = |errno: Errno| of("x", Err(errno.into()));
        assert_eq!(failed(Errno::EMFILE), None);
        assert_eq!(failed(Errno::EINTR), None);
        let missing = failed(Errno::ENOSYS).unwrap();
        assert_eq!(missing.to_string(), "no login is possible without x: Function not implemented");
        assert!(missing.mend().starts_with("Linux 5.4"));
        assert!(failed(Errno::EPERM).unwrap().mend().starts_with("permit it"));
    }
}
