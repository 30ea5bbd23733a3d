//! Noticing that the relay hangs, whatever the reason, and going on without it.
//!
//! Two things tell: the turns that the relay counts while it has something to do, and the kernel's word that it was
//! stopped (SIGCHLD), which it can be while it sleeps. Neither comes while nothing happens.

use std::time::{Duration, Instant};

use crate::monitor::{Helper, Monitor};
use crate::sys::liveness::{self, Change};

/// How long after the beginning of a turn it is looked at. It lasts some milliseconds.
const TURN_TIME: Duration = Duration::from_millis(2500);
/// How long it must stand still then.
const SUSPICION: Duration = Duration::from_secs(4);
/// How long a relay may be stopped.
const STOPPED_TIME: Duration = Duration::from_secs(8);
/// So much processor time in one turn is an endless loop.
const ENDLESS: Duration = Duration::from_secs(3);
/// The most relays that were given up and do not end: if more hang, a new one is no help.
const MOST_HUNG: usize = 3;

/// A relay that may hang.
#[derive(Debug)]
pub(super) struct Suspect {
    /// The turn that it was in; none when it slept.
    turn: Option<u64>,
    /// The processor time it had used when it became one, and when it was looked at last.
    used: (Duration, Duration),
    /// A signal has stopped it.
    stopped: bool,
    /// When to look again.
    pub(super) look: Instant,
}

impl Monitor {
    /// The relay has something to do: its turn should end soon.
    pub(super) fn expect_turn(&mut self, now: Instant) {
        if let Some(relay) = &mut self.relays.current {
            relay.look = Some(now + TURN_TIME);
        }
    }

    /// Looks whether the relay is in a turn that should have ended.
    fn look_at_turn(&mut self, now: Instant) {
        let Some(relay) = &mut self.relays.current else { return };
        if relay.look.take_if(|look| *look <= now).is_none() || relay.suspect.is_some() {
            return;
        }
        if let Some(turn) = relay.watchdog.turn() {
            let used = liveness::processor_time(&relay.process).unwrap_or_default();
            let used = (used, used);
            relay.suspect = Some(Suspect { turn: Some(turn), used, stopped: false, look: now + SUSPICION });
        }
    }

    /// A child was stopped or goes on.
    pub(in crate::monitor) fn hear_child_signal(&mut self, now: Instant) {
        let Some(relay) = &mut self.relays.current else { return };
        while let Some(change) = liveness::next_change(&relay.process) {
            relay.suspect = match change {
                Change::Stopped => {
                    let used = (Duration::ZERO, Duration::ZERO);
                    Some(Suspect { turn: None, used, stopped: true, look: now + STOPPED_TIME })
                }
                Change::Continued => None,
            };
        }
    }

    pub(super) fn suspect_due(&self) -> Option<Instant> {
        let relay = self.relays.current.as_ref()?;
        relay.suspect.as_ref().map(|suspect| suspect.look).into_iter().chain(relay.look).min()
    }

    /// Looks at a relay that may hang.
    pub(super) fn expire_suspect(&mut self, now: Instant) {
        self.look_at_turn(now);
        let Some(relay) = &mut self.relays.current else { return };
        let Some(suspect) = relay.suspect.take_if(|suspect| suspect.look <= now) else { return };
        let used = liveness::processor_time(&relay.process).unwrap_or_default();
        let hung = self.helpers.iter().filter(|(_, helper)| matches!(helper, Helper::HungRelay)).count();
        match hang(&suspect, relay.watchdog.turn(), used) {
            Some(reason) if hung < MOST_HUNG => self.lose_relay(&format!("it hangs: {reason}"), now),
            // A machine that gives it no processor time is no reason: what it holds would be lost.
            None if suspect.turn.is_none() || relay.watchdog.turn() != suspect.turn => {}
            Some(_) | None => {
                let used = (suspect.used.0, used);
                relay.suspect = Some(Suspect { used, look: now + SUSPICION, ..suspect });
            }
        }
    }
}

/// Why a relay hangs, if it does, that is in this turn and has used so much processor time.
fn hang(suspect: &Suspect, turn: Option<u64>, used: Duration) -> Option<&'static str> {
    let (first, last) = suspect.used;
    if suspect.stopped {
        return Some("it was stopped by a signal");
    }
    if suspect.turn.is_none() || turn != suspect.turn {
        return None;
    }
    if used.saturating_sub(first) >= ENDLESS {
        return Some("one turn of its loop does not end");
    }
    // One that has to wait for a processor gets some time in seconds, however many others there are.
    (used == last).then_some("it waits in the kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_hangs_when_it_is_stopped_or_waits_and_not_when_it_is_starved() {
        let ms = Duration::from_millis;
        let suspect =
            |turn, stopped| Suspect { turn, used: (ms(100), ms(120)), stopped, look: Instant::now() };
        let in_turn = suspect(Some(7), false);
        assert!(hang(&in_turn, Some(7), ms(120)).is_some(), "it waits");
        assert!(hang(&in_turn, Some(7), ms(100) + ENDLESS).is_some(), "it loops");
        assert_eq!(hang(&in_turn, Some(7), ms(121)), None, "it gets little time");
        assert_eq!(hang(&in_turn, Some(9), ms(120)), None, "it is further");
        assert_eq!(hang(&in_turn, None, ms(120)), None, "it sleeps");
        assert!(hang(&suspect(None, true), None, ms(120)).is_some(), "it is stopped");
    }
}
