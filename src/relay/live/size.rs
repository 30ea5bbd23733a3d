//! The window's size on its way to the terminal. Of many in a burst the first and the last matter, and what is typed
//! after a size comes to the program after it.

use std::time::{Duration, Instant};

use crate::wire::window::WindowSize;

/// The least time between two sizes that are passed on.
const GAP: Duration = Duration::from_millis(20);
/// How long input waits at most for the terminal to have a size that came before it.
const WAIT: Duration = Duration::from_millis(50);

/// What is still to be done about the size.
#[derive(Debug, Default)]
pub(super) struct Resize {
    /// The size that is to be passed on, and when it came.
    pending: Option<(WindowSize, Instant)>,
    /// When one was passed on last.
    sent: Option<Instant>,
    /// Until then at the latest input waits for the terminal to have it.
    until: Option<Instant>,
}

impl Resize {
    /// The client's window has this size.
    pub(super) fn came(&mut self, size: WindowSize, now: Instant) {
        self.pending = Some((size, now));
    }

    /// When a size is to be passed on: at once, unless another one was a moment ago and the client may send more.
    pub(super) fn due(&self, more_may_come: bool) -> Option<Instant> {
        let (_, came) = self.pending?;
        Some(self.sent.filter(|_| more_may_come).map_or(came, |sent| sent + GAP))
    }

    /// The size to be passed on now.
    pub(super) fn take(&mut self, more_may_come: bool, now: Instant) -> Option<WindowSize> {
        if self.due(more_may_come)? > now {
            return None;
        }
        (self.sent, self.until) = (Some(now), Some(now + WAIT));
        self.take_unsent()
    }

    /// The size that was not passed on, due or not.
    pub(super) fn take_unsent(&mut self) -> Option<WindowSize> {
        self.pending.take().map(|(size, _)| size)
    }

    /// The size taken at `now` could not be passed on. Returns when it is to be taken again.
    pub(super) fn put_back(&mut self, size: WindowSize, now: Instant) -> Instant {
        self.pending.get_or_insert((size, now));
        now + GAP
    }

    /// The terminal has the size that was passed on last.
    pub(super) fn done(&mut self) {
        self.until = None;
    }

    /// Ends a wait that has lasted long enough.
    pub(super) fn expire(&mut self, now: Instant) {
        self.until.take_if(|until| *until <= now);
    }

    /// Until when input waits that stands behind the size.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether input has to wait for a size that came before it.
    pub(super) fn holds_input(&self) -> bool {
        self.pending.is_some() || self.until.is_some()
    }
}
