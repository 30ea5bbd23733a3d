//! The end of a connection: what is left is sent, then the client's own close is waited for. A close with unread
//! input would reach the client as a reset, and could destroy what it has not read yet.

use std::io;
use std::time::{Duration, Instant};

use super::client_side::ClientSide;
use super::ends::Client;
use super::state::{PhaseState, ahead, left};

/// How much a client may still send while we close.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long a client that has everything may take to close after us, when its user may have stopped the screen.
const TAKEN_TIME: Duration = Duration::from_secs(5);
/// How often it is looked whether such a client has everything: no event tells.
const LOOK: Duration = Duration::from_secs(2);

/// See the [module's page](self).
#[derive(Debug)]
pub(super) struct Closing {
    /// The client was told that nothing more comes.
    told: bool,
    /// The client has closed.
    heard: bool,
    /// How much the client may still send.
    budget: usize,
    patience: Patience,
}

/// How long it may take.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Until(Instant),
    /// As long as the client is there and has not taken everything, but for `limits.idle`.
    WhileItTakes {
        look: Instant,
        /// Unless something moves, it ends then.
        idle: Option<Instant>,
    },
}

impl Closing {
    /// An end within this time.
    pub(super) fn within(time: Duration, now: Instant) -> Closing {
        Closing::with(Patience::Until(now + time))
    }

    /// The last output of somebody who was logged in: the user may have stopped the screen, and looks at the end of it
    /// later.
    pub(super) fn patient(idle: Duration, now: Instant) -> Closing {
        Closing::with(Patience::WhileItTakes { look: now + LOOK, idle: idle_end(idle, now) })
    }

    fn with(patience: Patience) -> Closing {
        Closing { told: false, heard: false, budget: LINGER_BYTES, patience }
    }

    /// One that another relay has begun.
    pub(super) fn resume(
        told: bool,
        heard: bool,
        budget: u32,
        left: Option<Duration>,
        idle: Duration,
        now: Instant,
    ) -> Closing {
        let budget = usize::try_from(budget).unwrap_or(LINGER_BYTES).min(LINGER_BYTES);
        let begun = match left {
            Some(left) => Closing::with(Patience::Until(ahead(left, now))),
            None => Closing::patient(idle, now),
        };
        Closing { told, heard, budget, ..begun }
    }

    /// This as plain data.
    pub(super) fn state(&self, now: Instant) -> PhaseState {
        PhaseState::Closing {
            told: self.told,
            heard: self.heard,
            budget: u32::try_from(self.budget).unwrap_or(u32::MAX),
            left: match self.patience {
                Patience::Until(latest) => Some(left(latest, now)),
                Patience::WhileItTakes { .. } => None,
            },
        }
    }

    /// Whether a turn can do something without an event.
    pub(super) fn has_work<C: Client>(&self, client: &ClientSide<C>) -> bool {
        (!self.told && client.writable) || (!self.heard && client.readable)
    }

    /// When it must be looked at again even if nothing happens.
    pub(super) fn wake_at(&self) -> Instant {
        match self.patience {
            Patience::Until(latest) => latest,
            Patience::WhileItTakes { look, idle } => idle.map_or(look, |idle| idle.min(look)),
        }
    }

    /// Sends what is left, says so, and reads. Returns whether it is over.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(super) fn turn<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        room: &mut [u8],
        idle: Duration,
        now: Instant,
    ) -> io::Result<bool> {
        let sent = client.bytes_out;
        client.flush()?;
        if client.outgoing.is_empty() && !self.told {
            self.told = true;
            client.io.shutdown_write();
        }
        if !self.heard
            && let Some(count) = client.read(room)?
        {
            self.heard = count == 0;
            self.budget = self.budget.saturating_sub(count);
        }
        self.look(client, client.bytes_out > sent, idle, now);
        Ok((self.told && self.heard) || self.budget == 0 || self.is_late(now))
    }

    fn is_late(&self, now: Instant) -> bool {
        match self.patience {
            Patience::Until(latest) => latest <= now,
            Patience::WhileItTakes { idle, .. } => idle.is_some_and(|idle| idle <= now),
        }
    }

    /// A client that has everything has a moment to close: one that never does would keep its place for ever.
    fn look<C: Client>(&mut self, client: &ClientSide<C>, moved: bool, idle: Duration, now: Instant) {
        let Patience::WhileItTakes { look, idle: ends } = &mut self.patience else { return };
        if moved {
            *ends = idle_end(idle, now);
        }
        if *look <= now {
            *look = now + LOOK;
            if self.told && client.io.unacknowledged() == 0 {
                self.patience =
                    Patience::Until(ends.map_or(now + TAKEN_TIME, |ends| ends.min(now + TAKEN_TIME)));
            }
        }
    }
}

fn idle_end(idle: Duration, now: Instant) -> Option<Instant> {
    (!idle.is_zero()).then(|| now + idle)
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    /// A client that has so much unacknowledged, and says nothing.
    struct Silent(usize);

    impl Client for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::WouldBlock.into())
        }
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn write_urgent(&mut self, _: u8) -> io::Result<()> {
            Ok(())
        }
        fn unacknowledged(&self) -> usize {
            self.0
        }
        fn shutdown_write(&mut self) {}
    }

    #[test]
    fn client_that_has_everything_has_a_moment_to_close_and_one_that_has_not_has_all_time() {
        let start = Instant::now();
        let (mut room, never) = ([0; 16], Duration::ZERO);
        let mut client = ClientSide::resume(Silent(100), 0, b"the last output");
        let mut closing = Closing::patient(never, start);
        let mut now = start;
        for _ in 0..10_000 {
            assert!(!closing.turn(&mut client, &mut room, never, now).unwrap());
            assert!(closing.wake_at() > now);
            now = closing.wake_at();
        }
        client.io.0 = 0;
        assert!(!closing.turn(&mut client, &mut room, never, now).unwrap());
        assert_eq!(closing.wake_at(), now + TAKEN_TIME);
        assert!(closing.turn(&mut client, &mut room, never, now + TAKEN_TIME).unwrap());
    }

    #[test]
    fn idle_time_ends_the_wait_unless_the_client_takes_something() {
        let (start, idle, mut room) = (Instant::now(), Duration::from_secs(3), [0; 16]);
        let mut client = ClientSide::resume(Silent(100), 0, b"");
        let mut closing = Closing::patient(idle, start);
        client.outgoing.push(b"more");
        let half = start + idle / 2;
        assert!(!closing.turn(&mut client, &mut room, idle, half).unwrap());
        assert!(!closing.turn(&mut client, &mut room, idle, start + idle).unwrap());
        assert!(closing.turn(&mut client, &mut room, idle, half + idle).unwrap());
    }
}
