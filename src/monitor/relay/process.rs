//! One relay: its process, its link, and what it may do.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::watchdog::Suspect;
use crate::ipc::{ConnectionId, RelayLink};
use crate::monitor::deadline::Deadline;
use crate::sys::process::Process;
use crate::sys::watchdog::Watchdog;

/// How long a relay may take until it is ready, and to read what it is told: each of these is a [`Deadline`], and
/// longer on a slow machine.
pub(super) const READY_TIME: Duration = Duration::from_secs(5);
/// How long a relay that has closed its link may take to end.
const LEAVE_TIME: Duration = Duration::from_secs(3);

/// A relay, and what it may do.
#[derive(Debug)]
pub(in crate::monitor) struct RelayProcess {
    pub(in crate::monitor) process: Process,
    pub(super) link: RelayLink,
    pub(super) started: Instant,
    /// Until when it has to be ready.
    pub(super) ready_by: Deadline,
    /// It is in its sandbox.
    pub(super) ready: bool,
    /// What it has to do until then.
    pub(super) due: Option<(Deadline, &'static str)>,
    /// The ids it may make.
    ids: Range<u64>,
    /// The ids made by others that it may still ask a session for.
    pub(super) carried: BTreeSet<ConnectionId>,
    /// How it is noticed that it hangs.
    pub(super) watchdog: Watchdog,
    /// When to look whether the turn has ended that it was in when it spoke of it.
    pub(super) look: Option<Instant>,
    /// It may hang.
    pub(super) suspect: Option<Suspect>,
    /// Why it cannot start, by its own word.
    pub(super) reason: Option<String>,
}

impl RelayProcess {
    /// One that was started just now, and may make these ids.
    pub(super) fn new(
        process: Process,
        link: RelayLink,
        watchdog: Watchdog,
        ids: Range<u64>,
        now: Instant,
    ) -> RelayProcess {
        RelayProcess {
            ready_by: Deadline::new(&process, READY_TIME, now),
            process,
            link,
            started: now,
            ready: false,
            due: None,
            ids,
            carried: BTreeSet::new(),
            watchdog,
            look: None,
            suspect: None,
            reason: None,
        }
    }

    /// It has closed its link: its process descriptor tells the rest, if it really ends.
    pub(super) fn note_leaving(&mut self, now: Instant) {
        self.must(LEAVE_TIME, "it closed its link, and goes on", now);
    }

    /// It has to do something in this time, or is given up for that reason; no later than it had to before.
    pub(super) fn must(&mut self, time: Duration, violation: &'static str, now: Instant) {
        if self.due.is_none() {
            self.due = Some((Deadline::new(&self.process, time, now), violation));
        }
    }

    /// Whether it may ask for a session by that name; once only if it did not make it.
    pub(super) fn may_open(&mut self, id: ConnectionId) -> bool {
        self.ids.contains(&id.0) || self.carried.remove(&id)
    }

    /// Whether a connection by that name may be handed back: no later relay may have to make that name.
    pub(super) fn may_carry(&self, id: ConnectionId) -> bool {
        id.0 < self.ids.end
    }
}
