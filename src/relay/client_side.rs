//! The client's end as the loop sees it: what epoll(7) said of it, and what it
//! would not take yet.

use std::io::{self, ErrorKind};

use nix::errno::Errno;

use super::ends::Client;
use super::queue::Queue;

/// The client's end and what is known of it.
#[derive(Debug)]
pub(super) struct ClientSide<C> {
    pub(super) io: C,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The kernel has the end of the client's stream: a short read is not the last.
    pub(super) hung_up: bool,
    /// The client has sent urgent data, which no client of this protocol does.
    pub(super) sent_urgent: bool,
    pub(super) outgoing: Queue,
    pub(super) bytes_out: u64,
    /// The system was out of memory: no event will tell when it has some again.
    pub(super) short: bool,
}

impl<C: Client> ClientSide<C> {
    pub(super) fn new(io: C) -> Self {
        let outgoing = Queue::default();
        ClientSide {
            io,
            readable: true,
            writable: true,
            hung_up: false,
            sent_urgent: false,
            outgoing,
            bytes_out: 0,
            short: false,
        }
    }

    /// Goes on for another process: it had sent so much, and this has to follow.
    pub(super) fn resume(io: C, bytes_out: u64, outgoing: &[u8]) -> Self {
        let mut client = ClientSide { bytes_out, ..ClientSide::new(io) };
        client.outgoing.push(outgoing);
        client
    }

    /// Reads once; `None` when there is nothing now.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        if !self.readable {
            return Ok(None);
        }
        match self.io.read(buffer) {
            Ok(count) => {
                // A short read has emptied the socket, and the next byte makes a new
                // event; but the end of the stream may have made its event already, and
                // at an urgent byte of the client's a read stops short.
                self.readable = count == buffer.len() || self.hung_up || self.sent_urgent;
                Ok(Some(count))
            }
            Err(error) if is_not_now(&error) => {
                self.readable = error.kind() == ErrorKind::Interrupted;
                Ok(None)
            }
            Err(error) if is_shortage(&error) => {
                (self.readable, self.short) = (false, true);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what waits, then these bytes; what the client does not take waits.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.flush()?;
        let mut rest = bytes;
        while self.outgoing.is_empty() && self.writable && !rest.is_empty() {
            rest = &rest[self.write(rest)?..];
        }
        if !rest.is_empty() {
            self.outgoing.push(rest);
        }
        Ok(())
    }

    /// Sends what waits, as far as the client takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.writable && !self.outgoing.is_empty() {
            let queue = std::mem::take(&mut self.outgoing);
            let sent = self.write(queue.front());
            self.outgoing = queue;
            self.outgoing.consume(sent?);
        }
        Ok(())
    }

    /// Sends a byte as urgent data; false when there is no room, which then makes an event.
    pub(super) fn send_urgent(&mut self, byte: u8) -> io::Result<bool> {
        loop {
            match self.io.write_urgent(byte) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(false);
                }
                Err(error) if is_shortage(&error) => {
                    (self.writable, self.short) = (false, true);
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes as much as the client takes, past what waits.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.io.write(bytes) {
            Ok(count) => {
                self.bytes_out += count as u64;
                Ok(count)
            }
            Err(error) if is_not_now(&error) => {
                self.writable = error.kind() == ErrorKind::Interrupted;
                Ok(0)
            }
            Err(error) if is_shortage(&error) => {
                (self.writable, self.short) = (false, true);
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether the call would have had to wait, or has to be made again.
pub(super) fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Whether the system has no memory for it now. That passes, and nobody has gone.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortage = [Errno::ENOMEM, Errno::ENOBUFS].map(|errno| errno as i32);
    error.raw_os_error().is_some_and(|code| shortage.contains(&code))
}
