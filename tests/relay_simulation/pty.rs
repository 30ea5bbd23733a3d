//! The PTY's leader in packet mode, as the kernel keeps it.
//!
//! Output is numbered: byte `n` that a program ever writes is [`output`]`(n)`, so
//! that what is pending is two ranges, and one lost byte shifts all that follow.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::LazyLock;

use nix::errno::Errno;
use rlogind::relay::connection::Ready;
use rlogind::sys::pty::{FLOW_CONTROL_OFF, FLOW_CONTROL_ON, FLUSHED_OUTPUT, Packet};
use rlogind::wire::urgent::FlowControl;

use crate::random::Random;

/// What the kernel keeps ready to be read (N_TTY_BUF_SIZE, less one).
const READY: usize = 4095;
/// What it keeps behind that.
const BACKLOG: usize = 64 * 1024;

static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(0);
    (0..1 << 20).map(|_| random.byte()).collect()
});

/// The bytes of output with these numbers.
fn output(range: Range<usize>) -> &'static [u8] {
    &PATTERN[range]
}

#[derive(Debug)]
pub(crate) struct Pty {
    woken: bool,
    /// The bytes a leader's read finds, and those behind them.
    ready: Range<usize>,
    backlog: Range<usize>,
    status: u8,
    pub(crate) mode: FlowControl,
    open: bool,
    pub(crate) flushes: usize,
    /// How many bytes of the last read were written behind a flush that came during it.
    pub(crate) behind: usize,
    /// So many more changes of mode come faster than the relay reads them.
    pub(crate) storm: usize,
    /// Input that no program has read, and how much the kernel keeps.
    pending: usize,
    capacity: usize,
    full: bool,
    /// Programs read their input without being told.
    pub(crate) eager: bool,
}

impl Pty {
    pub(crate) fn new(random: &mut Random) -> Self {
        Pty {
            // Registration makes a first event.
            woken: true,
            ready: 0..0,
            backlog: 0..0,
            status: 0,
            mode: FlowControl::Client,
            open: true,
            flushes: 0,
            behind: 0,
            storm: 0,
            pending: 0,
            capacity: random.size(20_000) + 200,
            full: false,
            eager: !random.one_in(3),
        }
    }

    /// What epoll_wait(2) reports, if anything.
    pub(crate) fn event(&mut self) -> Option<Ready> {
        std::mem::take(&mut self.woken).then_some(Ready {
            readable: !self.ready.is_empty() || self.status != 0,
            writable: self.pending < self.capacity,
            hung_up: !self.open,
            changed: self.status != 0,
        })
    }

    /// Another epoll watches it: that one reports what is so already.
    pub(crate) fn wake(&mut self) {
        self.woken = true;
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.woken
    }

    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Input that no program has read.
    pub(crate) fn unread_input(&self) -> u32 {
        u32::try_from(self.pending).unwrap()
    }

    /// Output that a reader could still get.
    pub(crate) fn unread(&self) -> usize {
        self.ready.len() + self.backlog.len()
    }

    pub(crate) fn has_status(&self) -> bool {
        self.status != 0
    }

    pub(crate) fn program_writes(&mut self, count: usize) {
        let end = PATTERN.len().min(self.backlog.end + count).min(self.backlog.start + BACKLOG);
        if self.open {
            self.backlog.end = end;
            self.work();
        }
    }

    pub(crate) fn work(&mut self) {
        let count = (READY - self.ready.len()).min(self.backlog.len());
        if count > 0 {
            // A flush may have made a gap; then what was ready has to be read first.
            if self.ready.is_empty() {
                self.ready = self.backlog.start..self.backlog.start;
            } else if self.ready.end != self.backlog.start {
                return;
            }
            self.ready.end += count;
            self.backlog.start += count;
            self.woken = true;
        }
    }

    pub(crate) fn program_reads(&mut self, count: usize) {
        self.pending -= count.min(self.pending);
        if self.full && self.pending <= 128 {
            self.full = false;
            self.woken = true;
        }
    }

    pub(crate) fn program_flushes(&mut self) {
        if self.open {
            self.backlog.start = self.backlog.end;
            self.flushes += 1;
            self.raise(FLUSHED_OUTPUT);
        }
    }

    pub(crate) fn program_sets(&mut self, mode: FlowControl) {
        if self.open && mode != self.mode {
            self.mode = mode;
            self.status &= !(FLOW_CONTROL_OFF | FLOW_CONTROL_ON);
            self.raise(match mode {
                FlowControl::Client => FLOW_CONTROL_ON,
                FlowControl::Program => FLOW_CONTROL_OFF,
            });
        }
    }

    fn raise(&mut self, bits: u8) {
        self.status |= bits;
        self.woken = true;
    }

    pub(crate) fn close_followers(&mut self) {
        self.open = false;
        self.woken = true;
    }

    pub(crate) fn open_follower(&mut self) {
        self.open = true;
    }

    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        flush_may_come: bool,
        random: &mut Random,
    ) -> io::Result<Packet> {
        if self.status != 0 {
            let bits = std::mem::take(&mut self.status);
            if self.storm > 0 {
                self.storm -= 1;
                self.program_sets(match self.mode {
                    FlowControl::Client => FlowControl::Program,
                    FlowControl::Program => FlowControl::Client,
                });
            }
            return Ok(Packet::Status(bits));
        }
        if self.ready.is_empty() {
            // The kernel waits for its worker before it says that there is nothing.
            self.work();
        }
        if self.ready.is_empty() {
            return Err(if self.open { ErrorKind::WouldBlock.into() } else { Errno::EIO.into() });
        }
        // It has found no change of state; while it goes on to the output, one comes.
        let fits = self.ready.len() + 40 < buffer.len();
        let behind = if self.open && flush_may_come && fits && random.one_in(30) {
            let before = self.ready.len();
            self.program_flushes();
            self.program_writes(random.between(1, 40));
            self.ready.len() - before
        } else {
            0
        };
        self.behind = behind;
        let count = self.ready.len().min(buffer.len());
        buffer[..count].copy_from_slice(output(self.ready.start..self.ready.start + count));
        self.ready.start += count;
        if random.one_in(2) {
            self.work();
        }
        Ok(Packet::Data(count))
    }

    pub(crate) fn write(&mut self, count: usize, random: &mut Random) -> io::Result<usize> {
        assert!(count > 0, "nothing written");
        // Nobody is there, and nothing says so.
        if !self.open {
            return Ok(count);
        }
        let room = count.min(self.capacity - self.pending);
        if room == 0 {
            self.full = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = if random.one_in(4) { random.between(1, room) } else { room };
        self.pending += taken;
        Ok(taken)
    }
}
