//! What the runs came across: a set of seeds that misses a case tests nothing of it.

/// What a run has seen, so that the whole can be held to having seen everything.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) refused: usize,
    pub(crate) settled: usize,
    pub(crate) finished: usize,
    pub(crate) left: usize,
    pub(crate) stuck: usize,
    pub(crate) idle: usize,
    pub(crate) handed_over: usize,
    pub(crate) flushes: usize,
    pub(crate) urgent: usize,
    pub(crate) bytes: u64,
}

impl Seen {
    pub(crate) fn add(&mut self, other: Seen) {
        self.refused += other.refused;
        self.settled += other.settled;
        self.finished += other.finished;
        self.left += other.left;
        self.stuck += other.stuck;
        self.idle += other.idle;
        self.handed_over += other.handed_over;
        self.flushes += other.flushes;
        self.urgent += other.urgent;
        self.bytes += other.bytes;
    }

    pub(crate) fn has_everything(&self) -> bool {
        let Seen { refused, settled, finished, left, stuck, idle, handed_over, flushes, urgent, bytes } =
            *self;
        [refused, settled, finished, left, stuck, idle, handed_over, flushes, urgent]
            .iter()
            .all(|&count| count > 0)
            && bytes > 1 << 20
    }
}
