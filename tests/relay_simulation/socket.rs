//! The relay's TCP socket, as the kernel keeps it.

use std::io::{self, ErrorKind};

use rlogind::relay::connection::Ready;

use crate::random::Random;

#[derive(Debug)]
pub(crate) struct Socket {
    woken: bool,
    /// Arrived and not read.
    received: Vec<u8>,
    read: usize,
    left: bool,
    broken: bool,
    /// The reset was reported to a call, which it is once.
    reported: bool,
    shut_down: bool,
    /// Written and not acknowledged, and how much of that may be.
    queued: usize,
    capacity: usize,
    /// Written since the last urgent byte, itself not included.
    behind: usize,
    /// A write found no room: the next room is an event (SOCK_NOSPACE).
    no_space: bool,
    no_memory: bool,
    /// The client takes what comes without being told.
    pub(crate) eager: bool,
    /// It answers to what comes after its end of stream with a reset.
    closes_whole: bool,
}

impl Socket {
    pub(crate) fn new(random: &mut Random) -> Self {
        Socket {
            // Registration makes a first event.
            woken: true,
            received: Vec::new(),
            read: 0,
            left: false,
            broken: false,
            reported: false,
            shut_down: false,
            queued: 0,
            behind: 0,
            // Room for a refusal at least.
            capacity: random.size(60_000) + 64,
            no_space: false,
            no_memory: false,
            eager: !random.one_in(3),
            closes_whole: random.one_in(2),
        }
    }

    /// What epoll_wait(2) reports, if anything.
    pub(crate) fn event(&mut self) -> Option<Ready> {
        std::mem::take(&mut self.woken).then_some(Ready {
            readable: self.unread() > 0 || self.left || self.broken,
            writable: self.is_writable(),
            hung_up: self.left || self.broken,
            changed: false,
        })
    }

    /// Another epoll watches it: that one reports what is so already.
    pub(crate) fn wake(&mut self) {
        self.woken = true;
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken
    }

    /// Enough room to report it: a third of the queue, as sk_stream_is_writeable has it.
    fn is_writable(&self) -> bool {
        self.broken || (!self.no_memory && self.capacity - self.queued >= self.capacity / 3)
    }

    pub(crate) fn unread(&self) -> usize {
        self.received.len() - self.read
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.queued
    }

    /// Notes that the last byte written is an urgent one; says whether the one before
    /// is not acknowledged yet.
    pub(crate) fn mark_urgent(&mut self) -> bool {
        let behind = std::mem::take(&mut self.behind);
        self.queued > behind
    }

    /// All that ever arrived.
    pub(crate) fn arrived(&self) -> usize {
        self.received.len()
    }

    pub(crate) fn has_left(&self) -> bool {
        self.left
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(crate) fn closed_by_client(&self) -> bool {
        self.left && self.closes_whole && !self.broken
    }

    pub(crate) fn takes_bytes(&self) -> bool {
        !self.no_memory && self.queued < self.capacity
    }

    pub(crate) fn arrive(&mut self, bytes: &[u8]) {
        if !self.left && !self.broken {
            self.received.extend_from_slice(bytes);
            self.woken = true;
        }
    }

    pub(crate) fn leave(&mut self) {
        self.left = true;
        self.woken = true;
    }

    pub(crate) fn reset(&mut self) {
        self.broken = true;
        self.woken = true;
    }

    pub(crate) fn acknowledge(&mut self, count: usize) {
        self.queued -= count.min(self.queued);
        self.wake_writer();
    }

    pub(crate) fn runs_out_of_memory(&mut self) -> bool {
        !std::mem::replace(&mut self.no_memory, true)
    }

    pub(crate) fn room_again(&mut self) {
        self.no_memory = false;
        self.wake_writer();
    }

    fn wake_writer(&mut self) {
        if self.no_space && self.is_writable() {
            self.no_space = false;
            self.woken = true;
        }
    }

    pub(crate) fn shut_down(&mut self) {
        assert!(!self.shut_down, "shut down twice");
        self.shut_down = true;
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.unread().min(buffer.len());
        if count == 0 {
            if self.broken && !std::mem::replace(&mut self.reported, true) {
                return Err(ErrorKind::ConnectionReset.into());
            }
            return if self.left || self.broken { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        buffer[..count].copy_from_slice(&self.received[self.read..self.read + count]);
        self.read += count;
        Ok(count)
    }

    pub(crate) fn write(&mut self, count: usize, random: &mut Random) -> io::Result<usize> {
        assert!(!self.shut_down, "written after the shutdown");
        assert!(count > 0, "nothing written");
        if self.broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if !self.takes_bytes() {
            self.no_space = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let room = count.min(self.capacity - self.queued);
        let taken = if random.one_in(4) { random.between(1, room) } else { room };
        self.queued += taken;
        self.behind += taken;
        Ok(taken)
    }
}
