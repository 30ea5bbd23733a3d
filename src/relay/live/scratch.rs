//! What the loop lends a connection for its turn: room for bytes, and queues to collect them in.

use super::super::queue::Queue;
use super::{ENOUGH, TERMINAL_READ, TURN};

/// So many queues to collect in are kept for the next one that needs some.
const SPARE: usize = 8;

/// Room for one turn's bytes, shared by all sessions.
#[derive(Debug)]
pub struct Scratch {
    pub(in crate::relay) bytes: Vec<u8>,
    pub(super) decoded: Vec<u8>,
    /// How much of it this turn may use.
    pub(super) room: usize,
    pub(super) pace: Pace,
    /// Empty queues with memory, for output that is collected.
    spare: Vec<Queue>,
}

/// How a turn reads its terminal and sends what it has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// What is there is sent at once: while it is on its way the kernel's worker fills the terminal
    /// again, and nobody waits for it.
    Prompt,
    /// One of several that move much: what is there is sent when there is enough or nothing more has
    /// come until its next turn, as a send costs as much as a read.
    Crowded,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch {
            bytes: vec![0; TURN],
            decoded: Vec::with_capacity(TURN + 16),
            room: TURN,
            pace: Pace::Prompt,
            spare: Vec::with_capacity(SPARE),
        }
    }
}

impl Scratch {
    /// The next turn moves so much each way at most, in that way.
    pub fn limit(&mut self, room: usize, pace: Pace) {
        (self.room, self.pace) = (room.min(TURN), pace);
    }

    /// A queue to collect in.
    pub(super) fn collector(&mut self) -> Queue {
        self.spare.pop().unwrap_or_else(|| Queue::with_room(ENOUGH + TERMINAL_READ))
    }

    /// Takes it back, and its memory, unless there are many.
    pub(super) fn keep(&mut self, mut collector: Queue) {
        if self.spare.len() < SPARE && collector.room() <= 2 * (ENOUGH + TERMINAL_READ) {
            collector.reuse();
            self.spare.push(collector);
        }
    }
}
