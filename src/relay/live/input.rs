//! How far the client's stream has come, and how long what it sent before its end has for being read.
//!
//! A client may end its side and leave its commands behind, as in `printf … | nc -N`. The terminal's hang-up
//! throws away what no program has read, so it waits for them: the session process is asked whether something
//! is unread until two looks, [`GRACE`] apart, have found nothing.

use std::time::{Duration, Instant};

use super::super::state::{InputState, ahead, left};

/// How long what came before the end of the client's stream may wait for the terminal and for its program, while
/// nothing of it is read.
const TIME: Duration = Duration::from_secs(10);
/// How long a program has for what it has read, before the terminal hangs up.
const GRACE: Duration = Duration::from_millis(250);
/// How long after a look that found something the next one is.
const LOOK_GAP: Duration = Duration::from_millis(50);
/// A look without an answer is repeated after this time: a relay or its link may have lost it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The client's stream.
#[derive(Debug)]
pub(super) struct Input {
    stage: InputState<Instant>,
    /// Nobody is logged in, and nothing was asked: the login goes its way whether more input comes or not.
    unasked: bool,
    /// When the session process is to be asked whether something is unread.
    look_at: Option<Instant>,
    /// Since when looks have found nothing unread.
    read_since: Option<Instant>,
    /// How much was unread at the last look.
    unread: u32,
}

impl Input {
    /// Of a login that has just begun.
    pub(super) fn new() -> Input {
        Input { stage: InputState::Flowing, unasked: true, look_at: None, read_since: None, unread: 0 }
    }

    /// Of a session that is open.
    pub(super) fn of_session() -> Input {
        Input { unasked: false, ..Input::new() }
    }

    pub(super) fn from_state(state: InputState, unasked: bool, now: Instant) -> Input {
        let stage = state.map(|left| ahead(left, now));
        // An answer to the relay before may be lost.
        let look_at = matches!(stage, InputState::Delivered(_)).then_some(now);
        Input { stage, unasked, look_at, read_since: None, unread: 0 }
    }

    pub(super) fn state(&self, now: Instant) -> InputState {
        self.stage.map(|latest| left(latest, now))
    }

    pub(super) fn is_unasked(&self) -> bool {
        self.unasked
    }

    pub(super) fn is_flowing(&self) -> bool {
        self.stage == InputState::Flowing
    }

    /// Whether all that the client sent has been read from it.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.stage, InputState::Read(_) | InputState::Delivered(_))
    }

    /// Something was asked, or the shell runs: the times of what came before are counted from here.
    pub(super) fn begin_times(&mut self, now: Instant) {
        self.unasked = false;
        match &mut self.stage {
            InputState::Flowing => {}
            InputState::Ending(latest) | InputState::Read(latest) => *latest = now + TIME,
            InputState::Delivered(_) => self.deliver(now + TIME, now),
        }
    }

    /// The client has gone, and its input may stand still.
    pub(super) fn client_has_gone(&mut self, now: Instant) {
        if self.stage == InputState::Flowing {
            self.stage = InputState::Ending(now + TIME);
        }
    }

    /// The end of the stream was read.
    pub(super) fn end(&mut self, now: Instant) {
        self.stage = InputState::Read(self.latest().unwrap_or(now + TIME));
    }

    /// The terminal has everything that was read.
    pub(super) fn all_written(&mut self, now: Instant) {
        if let InputState::Read(latest) = self.stage {
            self.deliver(latest, now);
        }
    }

    fn deliver(&mut self, latest: Instant, now: Instant) {
        self.stage = InputState::Delivered(latest);
        (self.look_at, self.read_since) = (Some(now), None);
    }

    fn latest(&self) -> Option<Instant> {
        match self.stage {
            InputState::Flowing => None,
            InputState::Ending(latest) | InputState::Read(latest) | InputState::Delivered(latest) => {
                Some(latest)
            }
        }
    }

    /// From then on the terminal hangs up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.latest().filter(|_| !self.unasked)
    }

    /// When [`take_look`](Input::take_look) is true next.
    pub(super) fn look_due(&self) -> Option<Instant> {
        self.look_at.filter(|_| !self.unasked)
    }

    /// Whether the session process is to be asked now if something is unread.
    pub(super) fn take_look(&mut self, now: Instant) -> bool {
        let due = self.look_due().is_some_and(|time| time <= now);
        if due {
            self.look_at = Some(now + LOOK_AGAIN);
        }
        due
    }

    /// The session process has answered: so much is unread. A program that reads on has time anew.
    pub(super) fn looked(&mut self, unread: u32, now: Instant) {
        let InputState::Delivered(latest) = self.stage else { return };
        if std::mem::replace(&mut self.unread, unread) > unread {
            self.stage = InputState::Delivered(now + TIME);
        }
        match self.read_since {
            _ if unread > 0 => (self.look_at, self.read_since) = (Some(now + LOOK_GAP), None),
            None => (self.look_at, self.read_since) = (Some(now + GRACE), Some(now)),
            // Bytes may have been on their way through the kernel at the first look.
            Some(since) if since + GRACE <= now => self.stage = InputState::Delivered(latest.min(now)),
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivered(now: Instant) -> Input {
        let mut input = Input::of_session();
        input.end(now);
        input.all_written(now);
        input
    }

    #[test]
    fn unread_input_holds_the_hang_up_off_until_it_is_read() {
        let start = Instant::now();
        let mut input = delivered(start);
        let mut now = start;
        for _ in 0..20 {
            assert!(input.take_look(now) && !input.take_look(now));
            input.looked(7, now);
            now += LOOK_GAP;
        }
        assert!(input.take_look(now));
        input.looked(0, now);
        // A late answer to a look that was repeated is no second look.
        input.looked(0, now + GRACE / 2);
        assert!(input.deadline() > Some(now + GRACE));
        now += GRACE;
        assert!(input.take_look(now));
        input.looked(0, now);
        assert_eq!(input.deadline(), Some(now));
    }

    #[test]
    fn program_that_reads_on_has_time_anew() {
        let mut now = Instant::now();
        let mut input = delivered(now);
        for unread in (1..100).rev() {
            input.looked(unread, now);
            now += TIME - LOOK_GAP;
            assert!(input.deadline() > Some(now));
        }
        input.looked(1, now);
        assert_eq!(input.deadline(), Some(now + LOOK_GAP));
    }

    #[test]
    fn input_that_nobody_reads_holds_the_hang_up_off_for_ten_seconds() {
        let start = Instant::now();
        let mut input = delivered(start);
        input.looked(7, start);
        assert_eq!(input.deadline(), Some(start + TIME));
        // Without an answer it is asked again.
        assert!(input.take_look(start + LOOK_GAP));
        assert_eq!(input.look_due(), Some(start + LOOK_GAP + LOOK_AGAIN));
    }

    #[test]
    fn nothing_is_looked_for_before_something_was_asked() {
        let start = Instant::now();
        let mut input = Input::new();
        input.end(start);
        input.all_written(start);
        assert!(!input.take_look(start + TIME) && input.deadline().is_none());
        input.begin_times(start + TIME);
        assert!(input.take_look(start + TIME));
        assert_eq!(input.deadline(), Some(start + 2 * TIME));
    }

    #[test]
    fn another_relay_looks_again() {
        let start = Instant::now();
        let mut input = delivered(start);
        assert!(input.take_look(start));
        let mut input = Input::from_state(input.state(start), false, start);
        assert!(input.take_look(start));
    }
}
