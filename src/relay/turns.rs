//! Whose turn it is: those who move little go first, and of those who move much, one at
//! a time. So a keystroke waits for one turn of a flood, however many floods there are.

use std::collections::VecDeque;

use super::live::{Pace, TURN};
use crate::ipc::ConnectionId;

/// Who moved as much in a turn moves much. A terminal that is full gives 4095 bytes in one read.
const MUCH: u64 = 2048;
/// The least that a turn may move each way; less is not worth the system calls.
const LEAST: usize = 8 * 1024;

/// Who waits for a turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    light: VecDeque<ConnectionId>,
    heavy: VecDeque<ConnectionId>,
}

/// What a connection's last turns say of its next one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Standing {
    /// It waits for its turn already.
    queued: bool,
    heavy: bool,
    /// Bytes it had passed on until its last turn, and with them those that waited.
    moved: [u64; 2],
}

impl Standing {
    /// It has its turn.
    pub(super) fn begin(&mut self) {
        self.queued = false;
    }

    /// It had its turn, and has passed on so many bytes in all, or so many with those that wait.
    pub(super) fn end(&mut self, moved: [u64; 2]) {
        let grown = moved.iter().zip(self.moved).map(|(now, before)| now.saturating_sub(before));
        self.heavy = grown.max().is_some_and(|most| most >= MUCH);
        self.moved = moved;
    }
}

impl Turns {
    /// Has it wait for a turn, unless it does.
    pub(super) fn add(&mut self, id: ConnectionId, standing: &mut Standing) {
        if !std::mem::replace(&mut standing.queued, true) {
            if standing.heavy { self.heavy.push_back(id) } else { self.light.push_back(id) }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.light.is_empty() && self.heavy.is_empty()
    }

    /// How many there are whom nobody has to wait for.
    pub(super) fn light(&self) -> usize {
        self.light.len()
    }

    pub(super) fn next_light(&mut self) -> Option<ConnectionId> {
        self.light.pop_front()
    }

    pub(super) fn next_heavy(&mut self) -> Option<ConnectionId> {
        self.heavy.pop_front()
    }

    /// How somebody who has a turn now is to use it.
    pub(super) fn pace(&self, standing: Standing) -> Pace {
        let crowded = standing.heavy && !self.heavy.is_empty();
        if crowded { Pace::Crowded } else { Pace::Prompt }
    }

    /// How many bytes a turn may move each way: the fewer, the more there are who want to.
    pub(super) fn room(&self) -> usize {
        (TURN / (self.heavy.len() + 1)).max(LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_moves_much_waits_for_those_who_move_little_and_for_one_turn_each() {
        let mut turns = Turns::default();
        let mut standings = [Standing::default(); 4];
        for flood in [0, 1] {
            standings[flood].end([100_000; 2]);
        }
        for (id, standing) in (0..).zip(&mut standings) {
            turns.add(ConnectionId(id), standing);
            turns.add(ConnectionId(id), standing);
        }
        assert_eq!((turns.light(), turns.room()), (2, TURN / 3));
        assert_eq!(turns.next_light(), Some(ConnectionId(2)));
        assert_eq!(turns.next_heavy(), Some(ConnectionId(0)));
        // It moved nothing this time, and is as good as the others.
        standings[0].begin();
        standings[0].end([100_100; 2]);
        turns.add(ConnectionId(0), &mut standings[0]);
        assert_eq!([turns.next_light(), turns.next_light()], [3, 0].map(|id| Some(ConnectionId(id))));
        assert_eq!([turns.next_heavy(), turns.next_heavy()], [Some(ConnectionId(1)), None]);
        assert!(turns.is_empty());
    }
}
