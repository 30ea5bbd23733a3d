//! Reading a terminal's output: how much, and what of it a flush makes worthless.

use std::io::ErrorKind;
use std::time::Instant;

use super::super::client_side::{ClientSide, is_shortage};
use super::super::ends::{Client, Terminal};
use super::{Live, READS, TERMINAL_READ};
use crate::sys::pty::{self, Packet};
use crate::wire::urgent::FlowControl;

/// Output that a turn has read.
#[derive(Debug, Default)]
struct Gathered {
    filled: usize,
    /// From here on it is not known yet whether a flush came during the read.
    doubtful: usize,
}

/// How a terminal is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A single read.
    Once,
    /// What is there now.
    Hastily,
    /// Until there is nothing.
    Wholly,
}

impl<T: Terminal> Live<T> {
    /// Reads output until there is none, the room is full or an urgent byte must go
    /// first. Returns how many bytes of `room` are output to be sent.
    ///
    /// The kernel looks for a change of state first and for output then, and while it
    /// does, a flush and what was written behind it may come. So nothing is sent before
    /// a later read has shown that no flush came meanwhile, and when one came, the last
    /// output read is kept: it may end in the prompt that the user is waiting for. Hastily,
    /// when no key can have caused a flush, that look is left out: with output there to be
    /// read, nothing but the copying of it lies between the kernel's two looks.
    pub(super) fn gather<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        room: &mut [u8],
        how: How,
        now: Instant,
    ) -> usize {
        let mut output = Gathered::default();
        for _ in 0..READS {
            let wanted = (self.readable || self.changed) && !self.output_is_read();
            if !wanted || room.len() < output.filled + TERMINAL_READ {
                break;
            }
            // Room for more than it can give: a read that leaves some has emptied it.
            let end = if how == How::Hastily { room.len() } else { output.filled + TERMINAL_READ };
            let asked = end - output.filled;
            match self.terminal.read(&mut room[output.filled..end]) {
                Ok(Packet::Data(count)) => {
                    output.doubtful = output.filled;
                    output.filled += count;
                    self.changed = false;
                    self.spend(count, now);
                    if how == How::Hastily {
                        output.doubtful = output.filled;
                        // What comes next makes a new event.
                        self.readable = count == asked;
                    }
                }
                Ok(Packet::Status(bits)) => {
                    self.note_status(bits, &mut output, client, room, now);
                    self.readable = true;
                    self.changed = false;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_shortage(&error) => {
                    self.short = true;
                    output.doubtful = output.filled;
                    break;
                }
                Err(_) => {
                    // WouldBlock, or EIO: nobody has the terminal open. That is the
                    // end only when the session has ended, too.
                    self.readable = false;
                    self.changed = false;
                    output.doubtful = output.filled;
                    self.all_read(now);
                }
            }
            if how == How::Once || self.pacer.holds_output(now) {
                break;
            }
        }
        if output.doubtful < output.filled
            && let Some(bits) = self.look_for_status()
        {
            self.note_status(bits, &mut output, client, room, now);
        }
        output.filled
    }

    fn look_for_status(&mut self) -> Option<u8> {
        loop {
            match self.terminal.read(&mut []) {
                Ok(Packet::Status(bits)) => return Some(bits),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Packet::Data(_)) | Err(_) => return None,
            }
        }
    }

    /// Takes note of what the terminal tells of itself. A flush makes worthless what
    /// is not sent yet, but for the read that it may have come in the middle of.
    fn note_status<C: Client>(
        &mut self,
        bits: u8,
        output: &mut Gathered,
        client: &mut ClientSide<C>,
        room: &mut [u8],
        now: Instant,
    ) {
        if bits & (pty::FLOW_CONTROL_OFF | pty::FLOW_CONTROL_ON) != 0 {
            self.flow_control_known = true;
        }
        if bits & pty::FLOW_CONTROL_OFF != 0 {
            self.pacer.flow_control(FlowControl::Program, now);
        }
        if bits & pty::FLOW_CONTROL_ON != 0 {
            self.pacer.flow_control(FlowControl::Client, now);
        }
        if bits & pty::FLUSHED_OUTPUT != 0 {
            self.pacer.flush(now);
            client.outgoing.clear();
            room.copy_within(output.doubtful..output.filled, 0);
            output.filled -= output.doubtful;
        }
        output.doubtful = output.filled;
    }
}
