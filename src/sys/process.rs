//! Processes: their images, names, limits and signals, and those that we have started.

mod beside;
mod child;
mod descendants;
mod end;
mod ordinary;
mod pidfd;

use std::borrow::Cow;
use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockType, getsockopt, sockopt};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, execveat};

use super::channel::Channel;
pub use child::Process;
pub use end::End;
pub use ordinary::take_ordinary_standing;

/// When a process was started, in clock ticks since the machine was (proc(5), `starttime`): with
/// its id that names it among all of this boot. `None` when it is gone.
///
/// # Errors
/// When it cannot be told.
pub fn started_at(pid: i32) -> io::Result<Option<u64>> {
    let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It went while we read.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = after_name(&stat);
    let mut fields = text.split_whitespace();
    match (fields.next(), fields.nth(18).and_then(|field| field.parse().ok())) {
        // It has ended, and its parent has not looked yet.
        (Some("Z" | "X"), _) => Ok(None),
        (_, Some(time)) => Ok(Some(time)),
        (_, None) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// What comes after the name in /proc/PID/stat.
fn after_name(stat: &[u8]) -> Cow<'_, str> {
    // The name stands in parentheses and may hold anything, parentheses too.
    let after = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    String::from_utf8_lossy(after)
}

/// Names this boot of the machine.
///
/// # Errors
/// When /proc is not there.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Names the process for ps(1) and top(1): 15 bytes count.
pub fn set_name(name: &CStr) {
    let _ = prctl::set_name(name);
}

/// The shortest slice of processor time that a process may ask for, in nanoseconds.
const SHORTEST_SLICE: u64 = 100_000;

/// Asks for short slices of processor time: the process does not get more of it, but gets it
/// sooner. Kernels before 6.12 take no notice.
pub fn ask_for_short_slices() {
    // SAFETY: a sched_attr is integers, for which zeros are values.
    let mut wishes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = libc::c_uint::try_from(size_of::<libc::sched_attr>()).unwrap_or(0);
    // SAFETY: the kernel writes at most `size` bytes into it.
    let told = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut wishes, size, 0) };
    let usual = [libc::SCHED_OTHER, libc::SCHED_BATCH].map(libc::c_int::unsigned_abs);
    // Of others the field is a right that they have, or nothing.
    if told == 0 && usual.contains(&wishes.sched_policy) {
        wishes.sched_runtime = SHORTEST_SLICE;
        // SAFETY: the kernel reads the attributes, which say their own size.
        unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const wishes, 0) };
    }
}

/// Keeps the calling process's memory out of core files and other processes' sight.
pub fn protect() {
    let _ = prctl::set_dumpable(false);
}

/// Lets children be waited for, even when our parent had us ignore their end.
pub fn default_child_signal() {
    // SAFETY: SIG_DFL installs no handler.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Lets a write beyond the file size limit fail instead of ending the process: the
/// daemon may have been given one.
pub fn survive_file_limit() {
    // SAFETY: SIG_IGN installs no handler.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
}

/// Keeps whatever descriptors we were started with out of our children.
pub fn close_on_exec_all() {
    let first: libc::c_uint = 3;
    // SAFETY: three integers; it changes a flag of descriptors, and Rust's own
    // have that flag already. Kernels before 5.11 refuse, which changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Keeps a descriptor when this process executes another image.
///
/// # Errors
/// Those of fcntl(2).
pub fn keep_on_exec(fd: BorrowedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// Takes over a descriptor that this process had before it executed this image.
///
/// # Errors
/// When there is none by that number, or it is one of the three standard ones.
pub fn inherited_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    if number <= 2 {
        return Err(Errno::EBADF.into());
    }
    // SAFETY: fcntl only reads its flags here; a number that is not open is an error.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: it is open, and by the caller's word was left to us by the image before,
    // which named it once; nothing of this image has opened or owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    Ok(fd)
}

/// Closes a descriptor in the copy of a process that never owns it.
pub fn close_number(number: RawFd) {
    // SAFETY: only for a copy made by fork(2) that leaves its parent's objects alone and ends without dropping
    // them: nothing there closes the descriptor a second time.
    unsafe { libc::close(number) };
}

/// Closes all descriptors but these, if the kernel can (5.9).
pub fn close_all_but(numbers: &[RawFd]) {
    let mut kept: Vec<u32> = numbers.iter().map(|number| number.unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 0;
    for number in kept {
        close_range(first, number.saturating_sub(1));
        first = number.saturating_add(1);
    }
    close_range(first, libc::c_uint::MAX);
}

fn close_range(first: u32, last: u32) {
    if first <= last {
        // SAFETY: three integers; only for a process that has nothing of the kind among them or ends, as its callers say.
        // Kernels before 5.9 refuse; then what is close-on-exec is all that is closed.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// A second descriptor of one that this process had before it executed this image; the first one stays as it is.
///
/// # Errors
/// When there is none by that number.
pub fn duplicate_number(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl makes a new descriptor of one that is open; a number that is not open is an error.
    let copy = Errno::result(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// An executable that was found once: whatever becomes of its file's name, this one is meant.
#[derive(Debug)]
pub struct Image(OwnedFd);

impl Image {
    /// The one that this process runs, even when the file has been replaced since.
    ///
    /// # Errors
    /// There is no /proc.
    pub fn own() -> io::Result<Image> {
        let file = File::options().read(true).custom_flags(libc::O_PATH).open("/proc/self/exe")?;
        Ok(Image(file.into()))
    }

    /// One that another process has found: the image before, or one that looks files up for us.
    #[must_use]
    pub fn found(file: OwnedFd) -> Image {
        Image(file)
    }

    /// A second descriptor for it.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn try_clone(&self) -> io::Result<Image> {
        Ok(Image(self.0.try_clone()?))
    }
}

impl AsFd for Image {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Executes another image in this process, with the environment it has but for those
/// `without`, and `with` in addition. Returns only if that fails.
///
/// Signals stay blocked: one that comes meanwhile waits for the new image.
#[must_use]
pub fn execute(
    image: BorrowedFd,
    arguments: &[OsString],
    without: &[&str],
    with: &[(&str, String)],
) -> io::Error {
    let run = || -> io::Result<()> {
        let arguments = std::iter::once(OsStr::new("rlogind")).chain(arguments.iter().map(AsRef::as_ref));
        let arguments: Result<Vec<_>, _> = arguments.map(|word| CString::new(word.as_bytes())).collect();
        let is_set = |name: &str| without.contains(&name) || with.iter().any(|(set, _)| *set == name);
        let kept = std::env::vars_os().filter(|(name, _)| name.to_str().is_none_or(|name| !is_set(name)));
        let all = kept.chain(with.iter().map(|(name, value)| (name.into(), value.into())));
        let environment: Result<Vec<_>, _> = all
            .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()))
            .collect();
        execveat(image, c"", &arguments?, &environment?, AtFlags::AT_EMPTY_PATH)?;
        Ok(())
    };
    run().err().unwrap_or_else(|| io::ErrorKind::Other.into())
}

/// Closes whatever this process was started with but standard input, output and
/// error, and its channel: what a parent's parent left open is none of its business.
///
/// Only for the first moments of a process: nothing else may own a descriptor yet.
pub fn close_inherited(channel: &Channel) {
    let kept = channel.as_raw_fd().unsigned_abs();
    close_range(3, kept.saturating_sub(1));
    close_range(kept.saturating_add(1), libc::c_uint::MAX);
}

/// Makes the null device standard input.
///
/// # Errors
/// Those of open(2) and dup2(2).
pub fn close_stdin() -> io::Result<()> {
    Ok(dup2_stdin(File::open("/dev/null")?)?)
}

/// Takes the connection that a superserver made our standard input, and makes the
/// null device of it, standard output and standard error: whatever is written there
/// would reach the client.
///
/// # Errors
/// When standard input is not a connected TCP socket.
pub fn take_connection() -> io::Result<OwnedFd> {
    let client = io::stdin().as_fd().try_clone_to_owned()?;
    super::socket::peer(client.as_fd())?;
    if getsockopt(&client, sockopt::SockType)? != SockType::Stream {
        return Err(Errno::EPROTOTYPE.into());
    }
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(client)
}

/// The limit on open descriptors a process was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescriptorLimit {
    /// What holds.
    pub soft: u64,
    /// What a process may raise it to.
    pub hard: u64,
}

/// Raises the limit on open descriptors to the hard one, and returns what it was.
///
/// # Errors
/// Those of getrlimit(2).
pub fn raise_descriptor_limit() -> io::Result<DescriptorLimit> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Best effort: with the lower limit fewer sessions fit.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    Ok(DescriptorLimit { soft, hard })
}

/// Sets the limit on open descriptors.
///
/// # Errors
/// Those of setrlimit(2).
pub fn set_descriptor_limit(limit: DescriptorLimit) -> io::Result<()> {
    Ok(setrlimit(Resource::RLIMIT_NOFILE, limit.soft, limit.hard)?)
}

/// Blocks no signal: a child inherits what its parent had blocked.
///
/// # Errors
/// Those of sigprocmask(2).
pub fn unblock_signals() -> io::Result<()> {
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Receives the named signals through a non-blocking descriptor instead of
/// handlers. Children inherit the block.
///
/// # Errors
/// Those of sigprocmask(2) and signalfd(2).
pub fn receive_signals(signals: &[Signal]) -> io::Result<SignalFd> {
    let mask: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
    Ok(SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}
