//! The terminal while nobody is logged in: banner, prompts, answers.
//!
//! Echo is off from the start, and bytes are taken one at a time with line editing
//! and echo of our own. So a password that comes in one burst with the name is never
//! shown, and what is typed ahead of the shell stays where it is. What was answered
//! is wiped.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{
    InputFlags, LocalFlags, SetArg, SpecialCharacterIndices, Termios, cfsetspeed, tcgetattr, tcsetattr,
};
use nix::unistd::{read, write};
use zeroize::Zeroizing;

use super::line::{Line, Typed};
use super::requests::EndRequest;
use super::speed;
use crate::ipc::SessionEndpoint;
use crate::sys::pam::{Conversation, MAX_ANSWER};

/// The most bytes of a module's message that the log is given.
const MAX_TOLD: usize = 200;
/// How often a text is shown again for want of memory, and the pause before each.
const SHOW_TRIES: u32 = 20;
const SHOW_PAUSE: Duration = Duration::from_millis(50);

/// From the begin of a login to the moment from which its shell does not wait for the window's size any more, besides
/// the time that the way to the client and back takes: it is asked 10 ms after it was told of the login, and
/// most answer at once.
const SIZE_TIME: Duration = Duration::from_millis(60);
/// A longer way is not waited for.
const LONGEST_ROUND_TRIP: Duration = Duration::from_millis(300);

/// Why nothing more is to be had from the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// The client has gone, or the daemon stops.
    Gone,
    /// The time for the login is over.
    TimedOut,
    /// ^C or ^\ at a prompt.
    Interrupted,
    /// ^D at a prompt.
    EndOfInput,
    /// A line at a prompt that never ends.
    TooLong,
}

impl Over {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Over::Gone => "the client left during the login",
            Over::TimedOut => "the login took too long",
            Over::Interrupted => "the user interrupted the login",
            Over::EndOfInput => "the user ended the input",
            Over::TooLong => "a line at a prompt was too long",
        }
    }
}

/// The terminal's follower and the way to the monitor.
#[derive(Debug)]
pub(super) struct Console {
    tty: OwnedFd,
    /// The leader, so that no other process is the last to close it.
    pub(super) leaders: RefCell<Vec<OwnedFd>>,
    pub(super) monitor: Rc<RefCell<SessionEndpoint>>,
    /// What the monitor has asked for.
    end: Cell<EndRequest>,
    /// The terminal has the size of the client's window.
    pub(super) sized: Cell<bool>,
    /// How long the shell waits for that size.
    pub(super) size_awaited: Instant,
    deadline: Instant,
    over: Cell<Option<Over>>,
    /// What a module told the user last.
    told: RefCell<Vec<u8>>,
    original: Termios,
}

impl Console {
    /// Takes the terminal over.
    pub(super) fn new(
        tty: OwnedFd,
        leader: OwnedFd,
        monitor: Rc<RefCell<SessionEndpoint>>,
        deadline: Instant,
        round_trip: Duration,
    ) -> io::Result<Console> {
        let original = tcgetattr(&tty)?;
        let (over, told) = (Cell::new(None), RefCell::default());
        let (leaders, end) = (RefCell::new(vec![leader]), Cell::new(EndRequest::None));
        let size_awaited = Instant::now() + SIZE_TIME + round_trip.min(LONGEST_ROUND_TRIP);
        let sized = Cell::new(false);
        Ok(Console { tty, leaders, monitor, end, sized, size_awaited, deadline, over, told, original })
    }

    /// The end that the monitor has asked for so far.
    pub(super) fn end_requested(&self) -> EndRequest {
        self.end.get()
    }

    pub(super) fn request_end(&self, end: EndRequest) {
        self.end.set(self.end.get().max(end));
    }

    /// The follower's descriptor.
    pub(super) fn tty(&self) -> BorrowedFd<'_> {
        self.tty.as_fd()
    }

    /// Set once nothing more is to be had from the user.
    pub(super) fn over(&self) -> Option<Over> {
        self.over.get()
    }

    /// What a PAM module told the user since this was asked last, for the log: its beginning, in one line.
    pub(super) fn take_told(&self) -> Option<String> {
        let told = self.told.take();
        let text = String::from_utf8_lossy(&told[..told.len().min(MAX_TOLD)]).trim().replace('\n', " ");
        (!text.is_empty()).then_some(text)
    }

    /// Shows a text; the terminal makes CR LF of each LF.
    pub(super) fn show(&self, text: &[u8]) {
        let (mut rest, mut tries) = (text, 0);
        while !rest.is_empty() {
            match write(&self.tty, rest) {
                Ok(count) => rest = &rest[count..],
                Err(Errno::EINTR) => {}
                // Without its prompt the user would wait for the deadline, and not know for what.
                Err(Errno::ENOMEM) if tries < SHOW_TRIES => {
                    tries += 1;
                    std::thread::sleep(SHOW_PAUSE);
                }
                // The terminal has hung up; the next question finds out.
                Err(_) => return,
            }
        }
    }

    /// Asks a question and waits for the answer's line, without its end.
    pub(super) fn ask(&self, prompt: &[u8], echo: bool) -> Result<Zeroizing<Vec<u8>>, Over> {
        if let Some(over) = self.over.get() {
            return Err(over);
        }
        // It may have been heard while something else was waited for.
        let gone = self.end_requested() != EndRequest::None;
        let answer = if gone { Err(Over::Gone) } else { self.try_ask(prompt, echo) };
        if let Err(over) = answer {
            self.over.set(Some(over));
        }
        answer
    }

    fn try_ask(&self, prompt: &[u8], echo: bool) -> Result<Zeroizing<Vec<u8>>, Over> {
        self.take_bytes().map_err(|_| Over::Gone)?;
        // In one piece: some clients wait for exactly this text.
        self.show(prompt);
        let line = self.read_line(echo);
        self.show(if matches!(line, Err(Over::TooLong)) { b"\nLine too long\n" } else { b"\n" });
        line
    }

    fn read_line(&self, echo: bool) -> Result<Zeroizing<Vec<u8>>, Over> {
        let mut line = Line::new(echo);
        loop {
            let outcome = self.read_byte()?.map(|byte| line.type_byte(byte));
            match outcome {
                Some(Typed::More) => continue,
                Some(Typed::Line) | None => {}
                Some(Typed::Over(over)) => return Err(over),
            }
            self.show(&line.take_echo());
            if outcome.is_some() {
                return Ok(line.bytes);
            }
            self.wait_for_input()?;
        }
    }

    /// The next byte, if one is there. Never more: what is typed behind a line is for somebody else.
    fn read_byte(&self) -> Result<Option<u8>, Over> {
        let mut byte = [0];
        match read(&self.tty, &mut byte) {
            Ok(1) => Ok(Some(byte[0])),
            // Nothing, or the terminal has hung up: poll tells which.
            Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Ok(None),
            Err(_) => Err(Over::Gone),
        }
    }

    fn wait_for_input(&self) -> Result<(), Over> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.show(b"\nLogin timed out\n");
                return Err(Over::TimedOut);
            }
            let monitor = self.monitor.borrow();
            let mut fds = [
                PollFd::new(self.tty.as_fd(), PollFlags::POLLIN),
                PollFd::new(monitor.as_fd(), PollFlags::POLLIN),
            ];
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Err(Over::Gone),
            }
            let [tty, from_monitor] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            drop(monitor);
            let end = if from_monitor.is_empty() { EndRequest::None } else { self.serve_monitor() };
            if end != EndRequest::None || tty.contains(PollFlags::POLLHUP) {
                return Err(Over::Gone);
            }
            if tty.contains(PollFlags::POLLIN) {
                return Ok(());
            }
        }
    }

    /// Has the terminal give each byte as it is typed, without echo.
    fn take_bytes(&self) -> io::Result<()> {
        let mut modes = self.original.clone();
        modes.input_flags.insert(InputFlags::ICRNL);
        modes.local_flags.remove(
            LocalFlags::ICANON
                | LocalFlags::IEXTEN
                | LocalFlags::ISIG
                | LocalFlags::ECHO
                | LocalFlags::ECHONL,
        );
        // And at once: a read never waits.
        modes.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        modes.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        // Nothing is flushed: what was typed ahead is not lost.
        tcsetattr(&self.tty, SetArg::TCSANOW, &modes)?;
        Ok(())
    }

    /// Sets the terminal up for the shell: echo on, and the client's speed where
    /// it is a standard one.
    pub(super) fn hand_over(&self, speed: Option<u32>) -> io::Result<()> {
        let mut modes = self.original.clone();
        modes.local_flags.insert(LocalFlags::ECHO);
        if let Some(rate) = speed.and_then(speed::standard) {
            cfsetspeed(&mut modes, rate)?;
        }
        tcsetattr(&self.tty, SetArg::TCSANOW, &modes)?;
        Ok(())
    }
}

/// PAM's view of the console.
#[derive(Debug, Clone)]
pub(super) struct Prompts(pub(super) Rc<Console>);

impl Conversation for Prompts {
    fn ask(&mut self, prompt: &[u8], echo: bool) -> Option<Zeroizing<Vec<u8>>> {
        let answer = self.0.ask(prompt, echo).ok()?;
        if answer.len() > MAX_ANSWER {
            self.0.show(b"Answer too long\n");
            return None;
        }
        Some(answer)
    }

    fn tell(&mut self, text: &[u8]) {
        self.0.told.replace(text.to_vec());
        self.0.show(text);
        if !text.ends_with(b"\n") {
            self.0.show(b"\n");
        }
    }
}
