//! A session with its terminal: what one turn of the loop does for it.
//!
//! Input goes client → window decoder → terminal, output terminal → client, and
//! the terminal's changes of state become urgent bytes. Each turn does a bounded
//! amount of work and holds little that is not sent, each way: a side
//! that does not take its bytes stops the reading of the other.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::client_side::{ClientSide, is_not_now, is_shortage};
use super::ends::{Client, Terminal};
use super::queue::Queue;
use crate::ipc::CloseCause;
use crate::sys::pty;
use crate::wire::newline::Newlines;
use crate::wire::urgent::{FlowControl, Next, Pacer, Queue as SendQueue};
use crate::wire::window::{self, WindowSize};

mod gather;
mod hand_over;
mod input;
mod scratch;
mod size;

use gather::How;
use input::Input;
pub use scratch::{Pace, Scratch};
use size::Resize;

/// The most bytes one turn moves each way.
pub(super) const TURN: usize = 64 * 1024;
/// One read of a terminal gives no more than this; less room is not worth a call.
const TERMINAL_READ: usize = 4096;
/// Of many who move much, each collects this much before it is sent.
const ENOUGH: usize = 3 * (TERMINAL_READ - 1);
/// Reads of the terminal in one turn: it may change its state faster than we read.
const READS: usize = 64;
/// What a terminal can hold when its session ends: the kernel's buffer limit of
/// 64 KiB and the line discipline's 4 KiB, rounded up. More than this behind the
/// end comes from a background job.
const LAST_OUTPUT: usize = 128 * 1024;
/// How long behind a control character like ^C a flush may come.
const FLUSH_TIME: Duration = Duration::from_secs(1);
/// How long an urgent byte is waited for when the last output is read.
const LAST_URGENT_TIME: Duration = Duration::from_secs(1);

/// What a client is sent that does not answer the request for its window's size, when the shell says nothing: some
/// read on after an urgent byte, and wait until there is something. Terminals ignore it.
const PADDING: [u8; 1] = [0];
/// How long the shell may say nothing until then.
const PADDING_TIME: Duration = Duration::from_secs(1);

/// The terminal's end, and what lies between it and the client.
#[derive(Debug)]
pub(super) struct Live<T> {
    terminal: T,
    /// Whether the terminal may have output, take input, or have changed state.
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) changed: bool,
    /// The system was out of memory: no event will tell when it has some again.
    pub(super) short: bool,
    to_terminal: Queue,
    window: window::Decoder,
    newlines: Newlines,
    size: Resize,
    pacer: Pacer,
    /// Since when somebody is logged in.
    logged_in: Option<Instant>,
    /// Who handles ^S and ^Q is known: false until the session process has said so, after a relay has died.
    pub(super) flow_control_known: bool,
    /// Until then a flush is not unlikely.
    flush_expected: Option<Instant>,
    /// When the pacer wants to be asked again.
    urgent_again: Option<Instant>,
    /// How many bytes had been sent when the last urgent byte was.
    urgent_sent_at: u64,
    input: Input,
    output: Output,
    pub(super) bytes_in: u64,
    last_activity: Instant,
    idle: Duration,
}

/// How far the terminal's output has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Flowing,
    /// The session has ended: so much may still be read.
    Ending(usize),
    /// Everything is read. What of it waits for an urgent byte waits until then.
    Read(Instant),
}

/// What a turn found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes on.
    Lives,
    /// The last output is read, and waits for nothing but the client.
    Finished,
    /// It has to be closed without more ado.
    Gone(CloseCause),
}

impl<T: Terminal> Live<T> {
    /// A session whose success byte was sent just now. `early` came with the handshake.
    pub(super) fn new(terminal: T, early: &[u8], idle: Duration, now: Instant) -> Self {
        let mut live = Live::begin(terminal, Pacer::new(now), idle, now);
        let mut data = Vec::new();
        live.decode(early, &mut data, now);
        live.newlines.filter(&mut data);
        live.to_terminal.push(&data);
        data.fill(0);
        live
    }

    fn begin(terminal: T, pacer: Pacer, idle: Duration, now: Instant) -> Self {
        Live {
            terminal,
            readable: true,
            writable: true,
            // Whatever it has to tell, it has told nobody here.
            changed: false,
            short: false,
            to_terminal: Queue::default(),
            window: window::Decoder::default(),
            newlines: Newlines::at_prompts(),
            size: Resize::default(),
            pacer,
            logged_in: None,
            flow_control_known: true,
            flush_expected: None,
            urgent_again: None,
            urgent_sent_at: 0,
            input: Input::new(),
            output: Output::Flowing,
            bytes_in: 0,
            last_activity: now,
            idle,
        }
    }

    /// The session process has ended.
    pub(super) fn session_ended(&mut self) {
        if self.output == Output::Flowing {
            self.output = Output::Ending(LAST_OUTPUT);
            self.readable = true;
        }
    }

    /// Somebody is logged in: there are no more prompts of ours.
    pub(super) fn logged_in(&mut self, now: Instant) {
        self.newlines.end_prompts();
        self.logged_in = Some(now);
        self.input.begin_times(now);
    }

    /// The session process says who handles ^S and ^Q. What the terminal has told itself since is newer.
    pub(super) fn flow_control(&mut self, wanted: FlowControl, now: Instant) {
        if !std::mem::replace(&mut self.flow_control_known, true) {
            self.pacer.insist_on_flow_control(wanted, now);
        }
    }

    /// A window size to be passed on now.
    pub(super) fn take_size(&mut self, now: Instant) -> Option<WindowSize> {
        self.size.take(self.input.is_flowing(), now)
    }

    /// The terminal has the size that was passed on last.
    pub(super) fn resized(&mut self) {
        self.size.done();
    }

    /// Whether the session process is to be asked if something of the client's is unread.
    pub(super) fn take_look(&mut self, now: Instant) -> bool {
        self.output == Output::Flowing && self.input.take_look(now)
    }

    /// The session process has answered.
    pub(super) fn looked(&mut self, unread: u32, now: Instant) {
        self.input.looked(unread, now);
    }

    pub(super) fn put_back_size(&mut self, size: WindowSize, now: Instant) -> Instant {
        self.size.put_back(size, now)
    }

    pub(super) fn last_size(&mut self) -> Option<WindowSize> {
        self.size.take_unsent()
    }

    /// Does what can be done now, within bounds.
    ///
    /// # Errors
    /// The client's connection broke.
    pub(super) fn turn<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> io::Result<Fate> {
        let moved = (self.bytes_in, client.bytes_out);
        self.pump_input(client, scratch, now)?;
        self.pump_output(client, scratch, now)?;
        // Once at most: the pacer keeps the next one at a distance.
        let mut urgent = false;
        while self.send_urgent(client, !client.outgoing.is_empty(), now)? {
            urgent = true;
            if !self.pacer.holds_output(now) {
                // What follows, before the terminal is asked for more.
                client.flush()?;
            }
            // It was all that held the output back, and what the terminal tells then may be urgent again.
            self.pump_output(client, scratch, now)?;
        }
        while self.nothing_follows(client).is_some_and(|time| time <= now) {
            client.write(&PADDING)?;
        }
        let taken = urgent || moved.1 != client.bytes_out;
        if self.input.is_unasked() && client.bytes_out > 0 {
            // The client may have to answer that.
            self.input.begin_times(now);
        }
        if taken || moved.0 != self.bytes_in {
            self.last_activity = now;
        }
        Ok(self.fate(client, now))
    }

    /// Whether there is something to do at once.
    pub(super) fn has_work<C: Client>(&self, client: &ClientSide<C>, now: Instant) -> bool {
        let input = !self.input.is_read() && self.to_terminal.is_empty() && client.readable;
        let output = !self.output_is_read()
            && (client.outgoing.is_empty() || self.output != Output::Flowing)
            && self.readable
            && !self.short;
        input || output || self.has_waiting(client, now)
    }

    /// Whether there is output that only waits to be sent.
    fn has_waiting<C: Client>(&self, client: &ClientSide<C>, now: Instant) -> bool {
        !client.outgoing.is_empty() && client.writable && !self.pacer.holds_output(now)
    }

    /// Whether output read now is to be kept for a send with more.
    fn collects<C: Client>(&self, client: &ClientSide<C>, pace: Pace, now: Instant) -> bool {
        pace == Pace::Crowded
            && self.readable
            && client.writable
            && client.outgoing.front().len() < ENOUGH
            && self.output == Output::Flowing
            && !self.pacer.holds_output(now)
    }

    /// When [`PADDING`] is due.
    fn nothing_follows<C: Client>(&self, client: &ClientSide<C>) -> Option<Instant> {
        let asked = self.pacer.unanswered_since()?;
        let silent = client.bytes_out == self.urgent_sent_at
            && client.outgoing.is_empty()
            && client.writable
            && self.output == Output::Flowing;
        self.logged_in.filter(|_| silent).map(|logged_in| logged_in.max(asked) + PADDING_TIME)
    }

    /// When it must be looked at again even if nothing happens.
    pub(super) fn wake_at<C: Client>(&self, client: &ClientSide<C>) -> Option<Instant> {
        // These end nothing any more once the session has ended.
        let flowing = self.output == Output::Flowing;
        let input = self.input.deadline().into_iter().chain(self.input.look_due()).min().filter(|_| flowing);
        let output = if let Output::Read(latest) = self.output { Some(latest) } else { None };
        let idle = (flowing && !self.idle.is_zero()).then(|| self.last_activity + self.idle);
        let held = self.window.hold_deadline().filter(|_| self.to_terminal.is_empty());
        let resizing = self.size.until().filter(|_| !self.to_terminal.is_empty());
        let padding = self.nothing_follows(client);
        let all = [
            self.urgent_again,
            input,
            output,
            idle,
            held,
            self.size.due(self.input.is_flowing()),
            resizing,
            padding,
        ];
        all.into_iter().flatten().min()
    }

    fn pump_input<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> io::Result<()> {
        self.size.expire(now);
        self.flush_to_terminal(now);
        // A client that has gone while its input stands still must not stay for ever.
        if client.hung_up {
            self.input.client_has_gone(now);
        }
        let Scratch { bytes, decoded, room, .. } = scratch;
        let bytes = &mut bytes[..*room];
        decoded.clear();
        if !self.input.is_read() && self.to_terminal.is_empty() {
            match client.read(bytes)? {
                Some(0) => {
                    self.window.finish(decoded);
                    self.input.end(now);
                }
                Some(count) => {
                    self.decode(&bytes[..count], decoded, now);
                    bytes[..count].fill(0);
                }
                None => {}
            }
        }
        // Not while the rest of the message may wait unread behind what stands still.
        if self.to_terminal.is_empty() && !client.readable {
            self.window.release(now, decoded);
        }
        self.newlines.filter(decoded);
        self.write_or_keep(decoded, now);
        // What is typed before somebody is logged in is a password.
        decoded.fill(0);
        if self.to_terminal.is_empty() {
            self.input.all_written(now);
        }
        Ok(())
    }

    fn decode(&mut self, input: &[u8], output: &mut Vec<u8>, now: Instant) {
        if let Some(size) = self.window.decode(input, now, output) {
            self.size.came(size, now);
            self.pacer.window_size_came();
        }
    }

    fn write_or_keep(&mut self, mut bytes: &[u8], now: Instant) {
        while self.to_terminal.is_empty() && self.writable && !self.size.holds_input() && !bytes.is_empty() {
            bytes = &bytes[self.write_terminal(bytes, now)..];
        }
        if !bytes.is_empty() {
            self.to_terminal.push(bytes);
        }
    }

    fn flush_to_terminal(&mut self, now: Instant) {
        while self.writable && !self.size.holds_input() && !self.to_terminal.is_empty() {
            let queue = std::mem::take(&mut self.to_terminal);
            let written = self.write_terminal(queue.front(), now);
            self.to_terminal = queue;
            self.to_terminal.consume(written);
        }
    }

    fn write_terminal(&mut self, bytes: &[u8], now: Instant) -> usize {
        match self.terminal.write(bytes) {
            // No kernel does that; if one did, this would not end.
            Ok(0) => {
                self.writable = false;
                0
            }
            Ok(count) => {
                self.bytes_in += count as u64;
                if bytes[..count].iter().any(|byte| pty::may_discard_output(*byte)) {
                    self.expect_flush(now);
                }
                count
            }
            Err(error) if is_not_now(&error) => {
                self.writable = error.kind() == ErrorKind::Interrupted;
                0
            }
            Err(error) if is_shortage(&error) => {
                (self.writable, self.short) = (false, true);
                0
            }
            // Nobody is left to read it; the session's end is on its way.
            Err(_) => bytes.len(),
        }
    }

    fn expect_flush(&mut self, now: Instant) {
        self.flush_expected = Some(now + FLUSH_TIME);
    }

    fn pump_output<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> io::Result<()> {
        if self.changed && !client.outgoing.is_empty() {
            // A flush must be seen first: it is what makes the waiting output worthless.
            let filled = self.gather(client, &mut scratch.bytes[..TERMINAL_READ], How::Once, now);
            client.outgoing.push(&scratch.bytes[..filled]);
        }
        if let Output::Ending(_) = self.output {
            // All of it at once: terminal and session process do not wait for a client that stands still.
            let filled = self.gather(client, &mut scratch.bytes[..scratch.room], How::Wholly, now);
            client.outgoing.push(&scratch.bytes[..filled]);
        }
        if self.pacer.holds_output(now) {
            if client.outgoing.is_empty() {
                // An urgent byte goes out only with something behind it.
                let filled = self.gather(client, &mut scratch.bytes[..TERMINAL_READ], How::Once, now);
                client.outgoing.push(&scratch.bytes[..filled]);
            }
            return Ok(());
        }
        let mut collects = self.collects(client, scratch.pace, now);
        if !collects {
            if self.has_waiting(client, now) && self.pacer.is_due(now) {
                self.send_urgent(client, true, now)?;
            }
            self.send_waiting(client, scratch, now)?;
            if !client.outgoing.is_empty() {
                return Ok(());
            }
            collects = self.collects(client, scratch.pace, now);
        }
        let ending = self.output != Output::Flowing;
        let wholly = self.expects_flush(now) || ending;
        let how = if wholly { How::Wholly } else { How::Hastily };
        let filled = self.gather(client, &mut scratch.bytes[..scratch.room], how, now);
        if collects && filled > 0 && client.outgoing.is_empty() {
            client.outgoing = scratch.collector();
        }
        // What the terminal has told meanwhile goes first.
        if collects || self.pacer.holds_output(now) {
            client.outgoing.push(&scratch.bytes[..filled]);
            return Ok(());
        }
        if filled > 0 && self.pacer.is_due(now) {
            self.send_urgent(client, true, now)?;
        }
        client.send(&scratch.bytes[..filled])
    }

    /// Sends what was collected, or what the client would not take before.
    fn send_waiting<C: Client>(
        &self,
        client: &mut ClientSide<C>,
        scratch: &mut Scratch,
        now: Instant,
    ) -> io::Result<()> {
        if !self.has_waiting(client, now) {
            return Ok(());
        }
        if scratch.pace != Pace::Crowded {
            return client.flush();
        }
        let collected = std::mem::take(&mut client.outgoing);
        client.send(collected.front())?;
        scratch.keep(collected);
        Ok(())
    }

    fn expects_flush(&self, now: Instant) -> bool {
        self.flush_expected.is_some_and(|until| now < until)
    }

    fn spend(&mut self, count: usize, now: Instant) {
        if let Output::Ending(budget) = &mut self.output {
            *budget = budget.saturating_sub(count);
            if *budget == 0 {
                self.all_read(now);
            }
        }
    }

    fn all_read(&mut self, now: Instant) {
        if let Output::Ending(_) = self.output {
            self.output = Output::Read(now + LAST_URGENT_TIME);
        }
    }

    fn output_is_read(&self) -> bool {
        matches!(self.output, Output::Read(_))
    }

    /// Sends an urgent byte if it is time for one: then it returns true, and has to be
    /// called again. Otherwise it notes when to look again.
    fn send_urgent<C: Client>(
        &mut self,
        client: &mut ClientSide<C>,
        follows: bool,
        now: Instant,
    ) -> io::Result<bool> {
        let due = self.pacer.is_due(now);
        if due && !client.writable {
            // Room makes an event. Looking for it would never end with a client that stands still.
            self.urgent_again = None;
            return Ok(false);
        }
        // The kernel is asked only when an urgent byte is due.
        let unsent = if due { client.io.unacknowledged() } else { 0 };
        let behind = usize::try_from(client.bytes_out - self.urgent_sent_at).unwrap_or(usize::MAX);
        self.urgent_again = match self.pacer.next(now, SendQueue { unsent, behind }, follows) {
            Next::Idle => None,
            Next::At(time) => Some(time),
            Next::Send(byte) if client.send_urgent(byte)? => {
                self.pacer.sent(byte, now);
                self.urgent_sent_at = client.bytes_out;
                return Ok(true);
            }
            Next::Send(_) => None,
        };
        Ok(false)
    }

    fn fate<C: Client>(&self, client: &ClientSide<C>, now: Instant) -> Fate {
        if self.output == Output::Flowing && self.input.deadline().is_some_and(|latest| latest <= now) {
            return Fate::Gone(CloseCause::ClientLeft);
        }
        match self.output {
            Output::Read(latest)
                if latest <= now || !self.pacer.holds_output(now) || client.outgoing.is_empty() =>
            {
                Fate::Finished
            }
            Output::Flowing if !self.idle.is_zero() && self.last_activity + self.idle <= now => {
                Fate::Gone(CloseCause::Idle)
            }
            Output::Flowing | Output::Ending(_) | Output::Read(_) => Fate::Lives,
        }
    }
}
