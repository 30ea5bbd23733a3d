//! The guard of an upgrade: a copy of this process that waits while another executable takes over, and takes the
//! daemon back if that ends or hangs.
//!
//! ```text
//! fork ──▶ waits ──READY──▶ waits for some seconds more ──▶ ends: the successor serves
//!            │                         │
//!            └── it ends or hangs ─────┴── it ends ──▶ executes the image before with the state
//! ```
//! Until `READY` the state with all that the relay has handed back is good. After it the successor's relay has moved
//! bytes, so that what remains is the state without the relay's part, as after the death of a relay.
//!
//! Under a service manager the guard is the main process meanwhile. So it is a sibling of this process, not its child:
//! a service manager that stops a service waits for the main process only if that is its own child.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

use super::super::deadline::Deadline;
use super::super::service;
use super::{CONFIG_VARIABLE, FAILURE_VARIABLE, IMAGE_VARIABLE, STATE_VARIABLE};
use crate::sys::channel::{Channel, Received};
use crate::sys::process::{self, Process};

/// The successor is about to have its relay serve.
const READY: &[u8] = b"ready";
/// The exec has failed, and the image before goes on by itself.
const DISMISSED: &[u8] = b"dismissed";
/// How long the successor may take until it is ready, a [`Deadline`]: sessions stand still meanwhile, but a slow
/// machine is waited for.
const READY_TIME: Duration = Duration::from_secs(5);
/// How long it is watched after that.
const FIRST_SECONDS: Duration = Duration::from_secs(5);

/// What the service manager and administrators may tell the daemon meanwhile.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
/// Those that end the daemon.
const ENDING: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];
/// How long a successor that was killed is waited for.
const DEATH_TIME: Duration = Duration::from_secs(5);
/// How often a service manager that does not read is told again which the main process is.
const TOLD_AGAIN: Duration = Duration::from_millis(100);
/// How long a daemon that was told to end is waited for: more than it takes.
const STOP_TIME: Duration = Duration::from_secs(30);

/// The guard, as the process sees it that is about to execute another image.
#[derive(Debug)]
pub(super) struct Guard {
    process: Process,
    channel: Channel,
}

/// The same, as the image that takes over sees it.
#[derive(Debug)]
pub(in crate::monitor) struct GuardSide(Channel);

impl AsRawFd for GuardSide {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// What the guard's process has: everything that was open in this one.
struct Watch {
    parent: Process,
    channel: Channel,
    image: OwnedFd,
    arguments: Vec<OsString>,
    /// The state with what the relay has handed back, and without it.
    states: [OwnedFd; 2],
    settings: OwnedFd,
    without: &'static [&'static str],
    signals: SignalFd,
    /// The terminals' leaders.
    leaders: Vec<RawFd>,
    /// The daemon was told to end.
    ends: Cell<bool>,
}

impl Guard {
    /// Starts the guard. `without` are the variables that the image that comes back must not find; `leaders` are the
    /// terminals', whose close may wait.
    ///
    /// # Errors
    /// Out of processes or descriptors, or the service manager does not read.
    pub(super) fn start(
        image: BorrowedFd,
        arguments: &[OsString],
        states: [OwnedFd; 2],
        settings: OwnedFd,
        without: &'static [&'static str],
        leaders: Vec<RawFd>,
    ) -> std::io::Result<Guard> {
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking()?;
        let parent = Process::own()?;
        let image = image.try_clone_to_owned()?;
        process::keep_on_exec(image.as_fd())?;
        let arguments = arguments.to_vec();
        let signals = process::receive_signals(&PASSED_ON)?;
        let ends = Cell::new(false);
        let watch = Watch {
            parent,
            channel: theirs,
            image,
            arguments,
            states,
            settings,
            without,
            signals,
            leaders,
            ends,
        };
        let number = ours.as_raw_fd();
        let run = move || {
            // Or the end of the other side would not be seen.
            process::close_number(number);
            watch.run()
        };
        // The first process of a namespace can have no sibling.
        let beside = service::is_there() && std::process::id() != 1;
        let process = if beside { Process::fork_beside(run) } else { Process::fork(run) }?;
        // While the exec goes on, the service manager's main process is one that does not end by it.
        let guard = Guard { process, channel: ours };
        if service::main_process(guard.process.id()) {
            Ok(guard)
        } else {
            // It would take the end of the one that it knows for the end of the service.
            drop(guard.dismiss());
            Err(std::io::Error::other("the service manager does not read what it is told"))
        }
    }

    pub(super) fn process(&self) -> (u32, BorrowedFd<'_>) {
        (self.process.id(), self.process.as_fd())
    }

    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The image before goes on. Returns the guard's process, which ends at once.
    pub(super) fn dismiss(self) -> Process {
        let _ = self.channel.send(DISMISSED, &[]);
        self.process
    }
}

impl GuardSide {
    pub(super) fn new(descriptor: OwnedFd) -> Option<GuardSide> {
        Channel::from_inherited(descriptor).ok().map(GuardSide)
    }

    /// From now on this image changes what the state says. Said again, it does no harm.
    pub(in crate::monitor) fn ready(&self) {
        let _ = self.0.send(READY, &[]);
    }

    /// Whether it watches no more.
    pub(in crate::monitor) fn has_ended(&self) -> bool {
        matches!(self.0.receive(), Ok(Received::Closed) | Err(_))
    }

    /// The end of this image that follows is none to be undone.
    pub(in crate::monitor) fn dismiss(&self) {
        let _ = self.0.send(DISMISSED, &[]);
    }
}

/// What the guard has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Ready,
    Dismissed,
    Ended,
    TimedOut,
}

impl Watch {
    /// The guard's whole life; the number is its exit status.
    fn run(self) -> i32 {
        process::set_name(c"rlogind-guard");
        let mut deadline = Deadline::new(&self.parent, READY_TIME, Instant::now());
        match self.wait(|now| if deadline.is_over(&self.parent, now) { None } else { Some(deadline.look) }) {
            Seen::Dismissed => return self.retire(),
            Seen::Ready => {}
            Seen::Ended => return self.take_back(0, "it ended before it served"),
            Seen::TimedOut => return self.take_back(0, "it did not serve in time"),
        }
        let end = Instant::now() + FIRST_SECONDS;
        loop {
            match self.wait(|now| (now < end).then_some(end)) {
                // Each relay that it starts makes it say so.
                Seen::Ready => {}
                Seen::Ended => return self.take_back(1, "it ended in its first seconds"),
                Seen::TimedOut | Seen::Dismissed => return self.retire(),
            }
        }
    }

    /// Ends, as the main process is another one again. This process's end may be the last close of a terminal's
    /// leader, which waits for the terminal's user: so all else is closed before.
    fn retire(&self) -> i32 {
        let told = service::main_process(self.parent.id());
        let kept = [self.parent.as_raw_fd(), self.signals.as_raw_fd()];
        let kept: Vec<RawFd> = self.leaders.iter().copied().chain(kept).collect();
        process::close_all_but(&kept);
        self.hand_over_to_parent(told);
        if self.ends.get() {
            // A service manager that stops the service may wait for this process still.
            self.wait_beside(self.parent.as_fd(), Some(STOP_TIME));
        }
        process::close_all_but(&self.leaders);
        0
    }

    /// Waits until the service manager has read which the main process is: it takes the end of the main process for
    /// the end of the service. What it sends to this process meanwhile is for the other one.
    fn hand_over_to_parent(&self, mut told: bool) {
        while !matches!(self.parent.try_wait(), Ok(Some(_))) {
            if !told {
                told = service::main_process(self.parent.id());
            }
            match service::barrier() {
                Ok(barrier) if told => {
                    self.wait_beside(barrier.as_fd(), None);
                    return self.pass_signals_on();
                }
                Err(error) if error.kind() != ErrorKind::WouldBlock => return,
                Ok(_) | Err(_) => self.wait_beside(self.parent.as_fd(), Some(TOLD_AGAIN)),
            }
        }
    }

    /// Waits until that is readable or hangs up, or the other process has ended, but not longer than this.
    fn wait_beside(&self, fd: BorrowedFd, time: Option<Duration>) {
        let end = time.map(|time| Instant::now() + time);
        loop {
            self.pass_signals_on();
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            let timeout = left.and_then(|left| PollTimeout::try_from(left.as_millis() + 1).ok());
            let mut fds =
                [fd, self.parent.as_fd(), self.signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let _ = poll(&mut fds, timeout.unwrap_or(PollTimeout::NONE));
            if fds.iter().take(2).any(happened) {
                return;
            }
        }
    }

    /// Waits for something to happen. `until` says when to ask it again; `None`: the time is over.
    fn wait(&self, mut until: impl FnMut(Instant) -> Option<Instant>) -> Seen {
        let mut listens = true;
        loop {
            self.pass_signals_on();
            let now = Instant::now();
            let Some(end) = until(now) else { return Seen::TimedOut };
            let left = end.saturating_duration_since(now);
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let mut fds = vec![PollFd::new(self.parent.as_fd(), PollFlags::POLLIN)];
            fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
            if listens {
                fds.push(PollFd::new(self.channel.as_fd(), PollFlags::POLLIN));
            }
            let _ = poll(&mut fds, timeout);
            if listens && fds.get(2).is_some_and(happened) {
                match self.channel.receive() {
                    Ok(Received::Message(text, _)) if text == READY => return Seen::Ready,
                    Ok(Received::Message(text, _)) if text == DISMISSED => return Seen::Dismissed,
                    // Its end of the channel may be closed and the process go on, whatever it is.
                    Ok(_) | Err(_) => listens = false,
                }
            } else if fds.first().is_some_and(happened) {
                return Seen::Ended;
            }
        }
    }

    /// While it stands for the service, the service manager signals this process.
    fn pass_signals_on(&self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
            if let Some(signal) = signal {
                self.parent.send(signal);
                self.ends.set(self.ends.get() || ENDING.contains(&signal));
            }
        }
    }

    /// Executes the image before with a state; returns only if that fails.
    fn take_back(&self, state: usize, why: &str) -> i32 {
        // One that hangs must not go on later.
        self.parent.kill_alone();
        self.parent.wait_for(DEATH_TIME);
        let files = [
            (STATE_VARIABLE, self.states.get(state).map(AsFd::as_fd)),
            (CONFIG_VARIABLE, Some(self.settings.as_fd())),
            (IMAGE_VARIABLE, Some(self.image.as_fd())),
        ];
        let mut with = vec![(FAILURE_VARIABLE, why.to_owned())];
        for (name, file) in files {
            with.extend(file.map(|file| (name, file.as_raw_fd().to_string())));
        }
        let error = process::execute(self.image.as_fd(), &self.arguments, self.without, &with);
        super::super::complain(&format!("the daemon cannot be taken back: {error}"));
        1
    }
}

fn happened(fd: &PollFd) -> bool {
    fd.revents().is_some_and(|events| !events.is_empty())
}
