//! Bytes that the other side would not take yet, or that wait for more to go with them.

/// A first-in, first-out queue of bytes that holds no memory while it is empty:
/// an idle session costs no buffer.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    /// An empty one with memory for so many bytes.
    pub(super) fn with_room(bytes: usize) -> Queue {
        Queue { bytes: Vec::with_capacity(bytes), start: 0 }
    }

    /// How much it holds without taking more memory.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    /// Empties it, and keeps its memory for the next bytes.
    pub(super) fn reuse(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// All that is in it.
    pub(super) fn front(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Forgets the first `count` bytes.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Queue::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_an_empty_queue_holds_no_memory() {
        let mut queue = Queue::default();
        queue.push(b"abc");
        queue.consume(1);
        queue.push(b"d");
        assert_eq!(queue.front(), b"bcd");
        queue.consume(3);
        assert!(queue.is_empty());
        assert_eq!(queue.bytes.capacity(), 0);
    }
}
