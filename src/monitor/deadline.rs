//! How long one of our own processes may take for something: longer on a machine that gives it little processor time,
//! so that nothing is lost only because the machine is slow.

use std::time::{Duration, Instant};

use crate::sys::liveness;
use crate::sys::process::Process;

/// A process that has used so much since the last look works on it.
const PROGRESS: Duration = Duration::from_millis(10);
/// The longest that one is waited for that does.
const LATEST: Duration = Duration::from_secs(60);

/// Until when a process has to have done something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// How long it takes at most when nothing keeps the process from working.
    usual: Duration,
    /// When to look.
    pub(super) look: Instant,
    /// When to give up, whatever it does.
    latest: Instant,
    /// The processor time it had used at the last look.
    used: Duration,
}

impl Deadline {
    pub(super) fn new(process: &Process, usual: Duration, now: Instant) -> Deadline {
        let used = liveness::processor_time(process).unwrap_or_default();
        Deadline { usual, look: now + usual, latest: now + LATEST, used }
    }

    /// Whether the time of the process is over. When it is not, it may have more now.
    pub(super) fn is_over(&mut self, process: &Process, now: Instant) -> bool {
        if now < self.look {
            return false;
        }
        self.is_over_with(liveness::processor_time(process).unwrap_or_default(), now)
    }

    fn is_over_with(&mut self, used: Duration, now: Instant) -> bool {
        let works = used.saturating_sub(self.used) >= PROGRESS;
        (self.used, self.look) = (used, (now + self.usual).min(self.latest));
        !works || self.latest <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_has_more_time_and_one_that_waits_has_not() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let deadline = Deadline {
            usual: second * 3,
            look: start + second * 3,
            latest: start + second * 60,
            used: second,
        };
        assert!({ deadline }.is_over_with(second, start + second * 3), "it waits");
        let mut working = deadline;
        for round in 1..20 {
            let now = start + second * 3 * round;
            assert!(!working.is_over_with(second + PROGRESS * round, now), "it works");
            assert!(working.look > now);
        }
        assert!(working.is_over_with(second * 9, start + second * 60), "not for ever");
    }
}
