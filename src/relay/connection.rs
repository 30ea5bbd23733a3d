//! One client's connection from accept to close: the phases and what leads from
//! one to the next.
//!
//! ```text
//! (Request ──▶) Handshake ──ok──▶ Opening ──opened──▶ Live ──ended, last output sent──▶ Closing ──▶ (gone)
//!     └──refused──────┴──refused────────────────────────────────────────────▲
//! ```
//! A client that goes, or a connection that breaks, ends every phase; while the session
//! is being made, that is noticed when the monitor has answered.

use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::client_side::ClientSide;
use super::closing::Closing;
use super::ends::{Client, Terminal};
use super::live::{Fate, Live, Scratch};
use super::state::{ConnectionState, PhaseState, ahead, count, left};
use crate::ipc::{CloseCause, Services, Traffic};
use crate::wire::handshake::{self, Handshake, Progress};
use crate::wire::urgent::FlowControl;
use crate::wire::window::WindowSize;
use crate::wire::{answer, tcpmux};

/// How long a client may take to close after us that was not logged in, or was told why.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes read at once during a handshake: what follows it stays small.
const HANDSHAKE_READ: usize = 1024;
/// When the system is asked again that was out of memory.
const SHORTAGE: Duration = Duration::from_millis(50);
/// How long the monitor may take to answer; it never should.
const OPENING: Duration = Duration::from_secs(30);

/// A connection. `C` and `T` are its ends.
#[derive(Debug)]
pub struct Connection<C, T> {
    client: ClientSide<C>,
    phase: Phase<T>,
    idle: Duration,
    /// Somebody was logged in: the last output is theirs, however long they take to read it.
    logged_in: bool,
    /// What ended sessions moved, when the terminal is gone already.
    bytes_in: u64,
}

#[derive(Debug)]
enum Phase<T> {
    /// Waiting for the name of a TCPMUX service, until then.
    Request(tcpmux::Decoder, Rc<Services>, Instant),
    /// Waiting for the handshake, until then.
    Handshake(Box<handshake::Decoder>, Instant),
    /// Waiting for the monitor; these bytes came behind the handshake.
    Opening(Vec<u8>, Instant),
    /// A session.
    Live(Box<Live<T>>),
    /// Sending what is left, then waiting for the client to close.
    Closing(Closing),
}

/// What a turn leads to outside of the connection.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing.
    None,
    /// The handshake is complete: ask for a session.
    Open(Handshake),
    /// The handshake was refused, or did not come; for the log.
    Refused(String),
    /// The session's part is over (the connection may linger).
    Finished(CloseCause),
    /// The connection is at its end: drop it. The cause counts while there is a session.
    Gone(CloseCause),
}

/// What came of a turn.
#[derive(Debug)]
pub struct Turn {
    /// What it leads to.
    pub outcome: Outcome,
    /// There is more to do at once.
    pub again: bool,
    /// Look at it again then, even if nothing happens.
    pub wake: Option<Instant>,
    /// The client's window has this size now.
    pub size: Option<WindowSize>,
    /// Ask the session process whether something of the client's is unread.
    pub look: bool,
}

/// What an event loop learned of the two ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// There may be something to read.
    pub readable: bool,
    /// There may be room to write.
    pub writable: bool,
    /// The client sent its end of stream, or the connection broke.
    pub hung_up: bool,
    /// The terminal has a change of state to tell; the client sent urgent data.
    pub changed: bool,
}

impl<C: Client, T: Terminal> Connection<C, T> {
    /// A client that has just connected.
    pub fn new(client: C, handshake: Duration, idle: Duration, now: Instant) -> Self {
        let phase = Phase::Handshake(Box::default(), now + handshake);
        Connection { client: ClientSide::new(client), phase, idle, logged_in: false, bytes_in: 0 }
    }

    /// A client that has just connected to the TCPMUX port, to be offered these services.
    pub fn multiplexed(
        client: C,
        services: &Rc<Services>,
        handshake: Duration,
        idle: Duration,
        now: Instant,
    ) -> Self {
        let mut connection = Connection::new(client, handshake, idle, now);
        connection.phase = Phase::Request(tcpmux::Decoder::default(), Rc::clone(services), now + handshake);
        connection
    }

    /// A client that is turned away at the door.
    pub fn refused(client: C, answer: &[u8], now: Instant) -> Self {
        let mut connection = Connection::new(client, Duration::ZERO, Duration::ZERO, now);
        connection.close(Closing::within(LINGER, now));
        connection.client.outgoing.push(answer);
        connection
    }

    /// A session whose relay has died. The client was told that it is there.
    pub fn recovered(client: C, terminal: T, traffic: Traffic, idle: Duration, now: Instant) -> Self {
        let client = ClientSide::resume(client, traffic.bytes_out, b"");
        let phase = Phase::Live(Box::new(Live::recovered(terminal, traffic, idle, now)));
        Connection { client, phase, idle, logged_in: false, bytes_in: 0 }
    }

    /// A client whose relay died before it was told of its session: [`Connection::opened`] comes next.
    pub fn unanswered(client: C, idle: Duration, now: Instant) -> Self {
        let phase = Phase::Opening(Vec::new(), now + OPENING);
        Connection { client: ClientSide::new(client), phase, idle, logged_in: false, bytes_in: 0 }
    }

    /// A connection that another relay has handed over. `None` when it was a session and its terminal is missing.
    pub fn resume(
        client: C,
        terminal: Option<T>,
        state: &ConnectionState,
        services: &Rc<Services>,
        idle: Duration,
        now: Instant,
    ) -> Option<Self> {
        let (bytes_in, bytes_out) = (count(state.bytes_in), count(state.bytes_out));
        let mut client = ClientSide::resume(client, bytes_out, &state.outgoing);
        (client.hung_up, client.sent_urgent) = (state.hung_up, state.sent_urgent);
        let phase = match &state.phase {
            PhaseState::Request { taken, left } => {
                let mut decoder = tcpmux::Decoder::default();
                // It was not decided then. If other services are offered now, the end of its line decides.
                let _ = decoder.push(taken, services.offer());
                Phase::Request(decoder, Rc::clone(services), ahead(*left, now))
            }
            PhaseState::Handshake { taken, left } => {
                let mut decoder = Box::<handshake::Decoder>::default();
                let _ = decoder.push(taken);
                Phase::Handshake(decoder, ahead(*left, now))
            }
            PhaseState::Opening { early, left } => Phase::Opening(early.clone(), ahead(*left, now)),
            PhaseState::Live(live) => {
                Phase::Live(Box::new(Live::resume(terminal?, live, bytes_out, idle, now)))
            }
            PhaseState::Closing { told, heard, budget, left } => {
                Phase::Closing(Closing::resume(*told, *heard, *budget, *left, idle, now))
            }
        };
        Some(Connection { client, phase, idle, logged_in: state.logged_in, bytes_in })
    }

    /// This connection as plain data, for [`Connection::resume`].
    pub fn state(&self, now: Instant) -> ConnectionState {
        let phase = match &self.phase {
            Phase::Request(decoder, _, latest) => {
                PhaseState::Request { taken: decoder.taken().to_vec(), left: left(*latest, now) }
            }
            Phase::Handshake(decoder, latest) => {
                PhaseState::Handshake { taken: decoder.taken(), left: left(*latest, now) }
            }
            Phase::Opening(early, latest) => {
                PhaseState::Opening { early: early.clone(), left: left(*latest, now) }
            }
            Phase::Live(live) => PhaseState::Live(Box::new(live.state(self.client.bytes_out, now))),
            Phase::Closing(closing) => closing.state(now),
        };
        ConnectionState {
            phase,
            outgoing: self.client.outgoing.front().to_vec(),
            bytes_in: self.bytes_in,
            bytes_out: self.client.bytes_out,
            hung_up: self.client.hung_up,
            sent_urgent: self.client.sent_urgent,
            logged_in: self.logged_in,
        }
    }

    /// Whether a session is made: the client may wait for the word of it.
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, Phase::Opening(..))
    }

    /// Says something before the handshake.
    pub fn greet(&mut self, text: &[u8]) {
        self.client.outgoing.push(text);
    }

    /// The client's end, e.g. to duplicate its descriptor.
    pub fn client(&mut self) -> &mut C {
        &mut self.client.io
    }

    /// Bytes from the client to the terminal, and back.
    pub fn bytes(&self) -> (u64, u64) {
        let live = if let Phase::Live(live) = &self.phase { live.bytes_in } else { 0 };
        (self.bytes_in + live, self.client.bytes_out)
    }

    /// The same of a session that has ended: with the last output that the client has not taken yet.
    pub fn bytes_at_end(&self) -> (u64, u64) {
        let (bytes_in, bytes_out) = self.bytes();
        (bytes_in, bytes_out + self.client.outgoing.front().len() as u64)
    }

    /// Whether somebody is logged in, or was until the session ended.
    pub fn is_logged_in(&self) -> bool {
        self.logged_in
    }

    /// Bytes that were passed on, and with them those that wait, in all. The second is smaller than before
    /// when a flush has dropped some.
    #[must_use]
    pub fn moved(&self) -> [u64; 2] {
        let (bytes_in, bytes_out) = self.bytes();
        let passed = bytes_in + bytes_out;
        [passed, passed + self.client.outgoing.front().len() as u64]
    }

    /// Notes what the event loop learned of the client's end.
    pub fn client_ready(&mut self, ready: Ready) {
        self.client.readable |= ready.readable || ready.hung_up;
        self.client.writable |= ready.writable;
        self.client.hung_up |= ready.hung_up;
        self.client.sent_urgent |= ready.changed;
    }

    /// Notes what the event loop learned of the terminal's end.
    pub fn terminal_ready(&mut self, ready: Ready) {
        if let Phase::Live(live) = &mut self.phase {
            live.readable |= ready.readable;
            live.writable |= ready.writable;
            live.changed |= ready.changed;
        }
    }

    /// The monitor made the session: answers the client and begins to relay.
    ///
    /// # Errors
    /// The connection broke, or has no room for its very first byte.
    pub fn opened(&mut self, terminal: T, now: Instant) -> io::Result<()> {
        if let Phase::Opening(early, _) = &mut self.phase {
            let early = std::mem::take(early);
            // A write of its own: some clients want to read exactly this byte first.
            self.client.send(&[answer::SUCCESS])?;
            if !self.client.outgoing.is_empty() {
                // The system is out of memory. Were the byte kept with the session's
                // output, a flush would drop it, and the client wait for ever.
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.client.bytes_out = 0;
            self.phase = Phase::Live(Box::new(Live::new(terminal, &early, self.idle, now)));
        }
        Ok(())
    }

    /// The monitor will not make a session.
    pub fn refuse(&mut self, message: &str, now: Instant) {
        if let Phase::Opening(..) = self.phase {
            self.client.outgoing.push(&answer::refusal(message, true));
            self.close(Closing::within(LINGER, now));
        }
    }

    /// Somebody is logged in.
    pub fn logged_in(&mut self, now: Instant) {
        self.logged_in = true;
        if let Phase::Live(live) = &mut self.phase {
            live.logged_in(now);
        }
    }

    /// The session process says who handles ^S and ^Q.
    pub fn flow_control(&mut self, wanted: FlowControl, now: Instant) {
        if let Phase::Live(live) = &mut self.phase {
            live.flow_control(wanted, now);
        }
    }

    /// The terminal has the size that was passed on last: what was typed after it goes there now.
    pub fn resized(&mut self) {
        if let Phase::Live(live) = &mut self.phase {
            live.resized();
        }
    }

    /// The session process has looked how much of the client's is unread.
    pub fn looked(&mut self, unread: u32, now: Instant) {
        if let Phase::Live(live) = &mut self.phase {
            live.looked(unread, now);
        }
    }

    /// The session is given up: tells the client why, and closes. Lets go of the terminal.
    pub fn abandon(&mut self, message: &str, now: Instant) {
        match &self.phase {
            Phase::Opening(..) => self.refuse(message, now),
            Phase::Live(_) => {
                // A client that does not take its output would not read this either.
                if self.client.outgoing.is_empty() {
                    self.client.outgoing.push(&answer::refusal(message, false));
                }
                self.close(Closing::within(LINGER, now));
            }
            Phase::Request(..) | Phase::Handshake(..) | Phase::Closing(_) => {}
        }
    }

    /// Sends the client away for another one, as far as that takes no time: the connection is dropped next.
    pub fn give_way(&mut self, scratch: &mut Scratch) {
        let answer = match &self.phase {
            Phase::Request(..) => tcpmux::BUSY.to_vec(),
            Phase::Handshake(..) | Phase::Opening(..) => answer::refusal("Try again", true),
            // A client that does not take its output would not read this either.
            Phase::Live(_) if self.client.outgoing.is_empty() => answer::refusal("Try again", false),
            Phase::Live(_) | Phase::Closing(_) => Vec::new(),
        };
        self.client.outgoing.push(&answer);
        let _ = self.client.flush();
        self.client.io.shutdown_write();
        // Unread, what it has sent already would make the close a reset, at which some clients forget what they were
        // told.
        let room = &mut scratch.bytes[..HANDSHAKE_READ];
        let _ = self.client.read(room);
        room.fill(0);
    }

    /// The session process has ended.
    pub fn session_ended(&mut self) {
        if let Phase::Live(live) = &mut self.phase {
            live.session_ended();
        }
    }

    /// Whether what is left is sent, and nothing else comes.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing(_))
    }

    /// Whether nobody was asked for a session yet.
    pub fn is_beginning(&self) -> bool {
        matches!(self.phase, Phase::Request(..) | Phase::Handshake(..))
    }

    /// Does what can be done now, within bounds.
    pub fn turn(&mut self, scratch: &mut Scratch, now: Instant) -> Turn {
        self.try_again();
        let outcome = match self.step(scratch, now) {
            Ok(outcome) => outcome,
            Err(error) if matches!(self.phase, Phase::Request(..) | Phase::Handshake(..)) => {
                self.close(Closing::within(LINGER, now));
                Outcome::Refused(format!("the connection broke during the handshake: {error}"))
            }
            Err(error) => Outcome::Gone(error.into()),
        };
        let size = self.take_size(now);
        let look = if let Phase::Live(live) = &mut self.phase { live.take_look(now) } else { false };
        let (again, wake) = match &self.phase {
            Phase::Request(_, _, latest) | Phase::Handshake(_, latest) => {
                (self.client.readable, Some(*latest))
            }
            Phase::Opening(_, latest) => (false, Some(*latest)),
            Phase::Live(live) => (live.has_work(&self.client, now), live.wake_at(&self.client)),
            Phase::Closing(closing) => (closing.has_work(&self.client), Some(closing.wake_at())),
        };
        let shortage = self.is_short().then(|| now + SHORTAGE);
        let wake = [wake, shortage].into_iter().flatten().min();
        Turn { outcome, again, wake, size, look }
    }

    /// A window size that is to be passed on, if there is one and it is time.
    pub fn take_size(&mut self, now: Instant) -> Option<WindowSize> {
        if let Phase::Live(live) = &mut self.phase { live.take_size(now) } else { None }
    }

    /// The size that was taken at `now` cannot be passed on yet, unless a newer one has come. Returns when it is
    /// to be taken again.
    pub fn put_back_size(&mut self, size: WindowSize, now: Instant) -> Instant {
        if let Phase::Live(live) = &mut self.phase { live.put_back_size(size, now) } else { now }
    }

    /// The last size that was not passed on, due or not.
    pub fn last_size(&mut self) -> Option<WindowSize> {
        if let Phase::Live(live) = &mut self.phase { live.last_size() } else { None }
    }

    fn is_short(&self) -> bool {
        self.client.short || matches!(&self.phase, Phase::Live(live) if live.short)
    }

    /// What failed for want of memory is tried again; a turn came, so some time has passed.
    fn try_again(&mut self) {
        if std::mem::take(&mut self.client.short) {
            (self.client.readable, self.client.writable) = (true, true);
        }
        if let Phase::Live(live) = &mut self.phase
            && std::mem::take(&mut live.short)
        {
            (live.readable, live.writable) = (true, true);
        }
    }

    fn step(&mut self, scratch: &mut Scratch, now: Instant) -> io::Result<Outcome> {
        match &mut self.phase {
            Phase::Request(..) | Phase::Handshake(..) => self.begin(scratch, now),
            Phase::Opening(_, latest) => {
                Ok(if *latest <= now { Outcome::Gone(CloseCause::Abandoned) } else { Outcome::None })
            }
            Phase::Live(live) => match live.turn(&mut self.client, scratch, now)? {
                Fate::Lives => Ok(Outcome::None),
                Fate::Gone(CloseCause::Idle) => {
                    // A client that does not take its output would not read this either.
                    if self.client.outgoing.is_empty() {
                        self.client.send(&answer::refusal("Idle for too long", false))?;
                    }
                    self.close(Closing::within(LINGER, now));
                    Ok(Outcome::Finished(CloseCause::Idle))
                }
                Fate::Gone(cause) => Ok(Outcome::Gone(cause)),
                Fate::Finished => {
                    self.close(if self.logged_in {
                        Closing::patient(self.idle, now)
                    } else {
                        Closing::within(LINGER, now)
                    });
                    Ok(Outcome::Finished(CloseCause::Ended))
                }
            },
            Phase::Closing(closing) => {
                let over = closing.turn(&mut self.client, &mut scratch.bytes, self.idle, now)?;
                Ok(if over { Outcome::Gone(CloseCause::Ended) } else { Outcome::None })
            }
        }
    }

    /// Reads what comes before there is a session.
    fn begin(&mut self, scratch: &mut Scratch, now: Instant) -> io::Result<Outcome> {
        self.client.flush()?;
        if let Phase::Request(_, _, latest) | Phase::Handshake(_, latest) = self.phase
            && latest <= now
        {
            return Ok(self.refuse_handshake("Handshake timed out", "no handshake in time".to_owned(), now));
        }
        let room = &mut scratch.bytes[..HANDSHAKE_READ];
        let outcome = match self.client.read(room)? {
            None => Outcome::None,
            Some(0) => {
                self.close(Closing::within(LINGER, now));
                Outcome::Refused("the client left during the handshake".to_owned())
            }
            Some(count) => self.request(&room[..count], now)?,
        };
        // It may have held a password.
        room.fill(0);
        Ok(outcome)
    }

    fn request(&mut self, bytes: &[u8], now: Instant) -> io::Result<Outcome> {
        let Phase::Request(decoder, services, latest) = &mut self.phase else {
            return Ok(self.handshake(bytes, now));
        };
        match decoder.push(bytes, services.offer()) {
            Ok(tcpmux::Progress::More) => Ok(Outcome::None),
            Ok(tcpmux::Progress::Service { consumed }) => {
                self.phase = Phase::Handshake(Box::default(), *latest);
                self.client.send(tcpmux::ACCEPTED)?;
                // A client that waits for nothing has sent its handshake behind it.
                Ok(self.handshake(&bytes[consumed..], now))
            }
            Ok(tcpmux::Progress::Help) => {
                let list = services.offer().list();
                self.client.outgoing.push(&list);
                self.close(Closing::within(LINGER, now));
                Ok(Outcome::Refused("it asked TCPMUX for the list of services".to_owned()))
            }
            Err(refusal) => {
                self.client.outgoing.push(tcpmux::REFUSED);
                self.close(Closing::within(LINGER, now));
                Ok(Outcome::Refused(refusal.to_string()))
            }
        }
    }

    fn handshake(&mut self, bytes: &[u8], now: Instant) -> Outcome {
        let Phase::Handshake(decoder, _) = &mut self.phase else { return Outcome::None };
        match decoder.push(bytes) {
            Ok(Progress::More) => Outcome::None,
            Ok(Progress::Done { handshake, consumed }) => {
                self.phase = Phase::Opening(bytes[consumed..].to_vec(), now + OPENING);
                Outcome::Open(handshake)
            }
            Err(refusal) => self.refuse_handshake(refusal.message(), refusal.to_string(), now),
        }
    }

    fn refuse_handshake(&mut self, message: &str, reason: String, now: Instant) -> Outcome {
        let answer = match self.phase {
            Phase::Request(..) => tcpmux::REFUSED.to_vec(),
            Phase::Handshake(..) | Phase::Opening(..) | Phase::Live(_) | Phase::Closing(_) => {
                answer::refusal(message, true)
            }
        };
        self.client.outgoing.push(&answer);
        self.close(Closing::within(LINGER, now));
        Outcome::Refused(reason)
    }

    /// Lets go of the terminal, which hangs it up, and begins to close.
    fn close(&mut self, closing: Closing) {
        self.bytes_in = self.bytes().0;
        self.phase = Phase::Closing(closing);
    }
}
