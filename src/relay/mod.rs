//! The relay: one single-threaded mio loop that accepts, reads handshakes, and
//! carries every byte between the clients and their terminals.
//!
//! It reads what strangers send, so it holds no privilege: it can only ask the
//! monitor for a session. It never blocks, never forks and never panics; each
//! turn does a bounded amount of work for each connection, and none when nothing
//! happens.

pub mod admission;
mod client_side;
mod closing;
pub mod connection;
mod door;
pub mod ends;
mod hand_over;
mod live;
mod orders;
mod queue;
pub mod state;
mod turns;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use nix::errno::Errno;
use nix::unistd::{Gid, Uid};

use crate::audit::event::Via;
use crate::ipc::{
    CloseCause, ConnectionId, FromRelay, Greeting, HandshakeFields, Incoming, RelayEnd, RelayLimits,
    RelaySetup, Resumed, Services, ToRelay,
};
use crate::numbers::{Number, Numbers};
use crate::source::Source;
use crate::sys::channel::Channel;
use crate::sys::pty::Leader;
use crate::sys::{process, sandbox, socket, watchdog};
use crate::wire::handshake::Handshake;
use crate::wire::{answer, tcpmux};
use admission::{Admission, Dice};
use connection::{Connection, Outcome, Ready};
use door::BEHIND;
use ends::{WatchedClient, WatchedTerminal};
pub use live::{Pace, Scratch};
use orders::{Hearing, ask_for_session, report_closed};
use state::EntryState;
use turns::{Standing, Turns};

/// Runs the relay until the monitor ends it.
///
/// # Errors
/// When it cannot give up its privileges, or the monitor sends what it must not.
pub fn run(channel: Channel) -> io::Result<()> {
    process::set_name(c"rlogind-relay");
    // The signals that end the monitor stay blocked, as inherited: a ^C at its
    // terminal must not take the relay before the sessions are closed.
    process::raise_descriptor_limit()?;
    // It wants the processor soon, not for long: a key that is typed waits for nothing else.
    process::ask_for_short_slices();
    let mut link = RelayEnd::new(channel);
    let Incoming::Message(ToRelay::Setup(setup), descriptors) = link.receive()? else {
        return Err(io::Error::other("no set-up from the monitor"));
    };
    // Before the first byte of a stranger.
    let watched = match enter_sandbox(&setup, descriptors) {
        Ok(watched) => watched,
        Err(error) => {
            // The log has to know, and only the monitor can write there.
            let reason = format!("it cannot enter its sandbox: {error}");
            link.send(&FromRelay::CannotStart { reason }, Vec::new())?;
            return Err(error);
        }
    };
    link.send(&FromRelay::Ready, Vec::new())?;
    Relay::new(link, setup, watched)?.serve()
}

fn enter_sandbox(setup: &RelaySetup, descriptors: Vec<OwnedFd>) -> io::Result<watchdog::Watched> {
    let Ok([root, memory]) = <[_; 2]>::try_from(descriptors) else {
        return Err(io::Error::other("not all descriptors came from the monitor"));
    };
    // Inside no file can be mapped any more.
    let watched = watchdog::Watched::new(memory)?;
    sandbox::enter(root.as_fd(), Uid::from_raw(setup.uid), Gid::from_raw(setup.gid))
        .map_err(|refused| io::Error::other(refused.to_string()))?;
    Ok(watched)
}

/// How often the monitor is told at most that there is something to do.
const WORKING: Duration = Duration::from_secs(1);

/// What a token of the event loop stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Monitor,
    Listener(usize),
    /// Of the connection that has this number.
    Client(usize),
    Terminal(usize),
}

impl Watched {
    fn token(self) -> Token {
        // Of what there is as many as descriptors at most: the top two bits are free.
        Token(match self {
            Watched::Monitor => 0,
            Watched::Listener(index) => index << 2 | 1,
            Watched::Client(number) => number << 2 | 2,
            Watched::Terminal(number) => number << 2 | 3,
        })
    }

    fn of(token: Token) -> Watched {
        let number = token.0 >> 2;
        match token.0 & 3 {
            0 => Watched::Monitor,
            1 => Watched::Listener(number),
            2 => Watched::Client(number),
            _ => Watched::Terminal(number),
        }
    }
}

#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    via: Via,
    ready: bool,
}

#[derive(Debug)]
struct Entry {
    connection: Connection<WatchedClient, WatchedTerminal>,
    /// In the tokens of the event loop.
    number: Number,
    peer: SocketAddr,
    /// It has a place; a refused one has none.
    admitted: bool,
    standing: Standing,
    wake: Option<Instant>,
    /// The monitor was asked for a session and not told of its end yet.
    open: bool,
    /// The monitor was asked for a session and has not told of its process's end yet.
    occupied: bool,
}

#[derive(Debug)]
struct Relay {
    poll: Poll,
    registry: Rc<Registry>,
    link: RelayEnd,
    /// The monitor notices by it when this loop hangs.
    watched: watchdog::Watched,
    /// When the monitor was told last that there is something to do.
    said_working: Option<Instant>,
    monitor_ready: bool,
    limits: RelayLimits,
    services: Rc<Services>,
    listeners: Vec<Listener>,
    accept_again: Option<Instant>,
    /// There is only one connection, and the relay ends with it.
    single: bool,
    /// No more clients come: the relay ends with its last connection.
    leaving: bool,
    /// What another relay has handed over and is not resumed yet.
    inherited: HashMap<ConnectionId, EntryState>,
    /// A descriptor that is given up when there is no other to accept a client with.
    spare: Option<OwnedFd>,
    dice: Dice,
    connections: HashMap<ConnectionId, Entry>,
    numbers: Numbers,
    admission: Admission,
    refused: usize,
    next_id: u64,
    turns: Turns,
    timers: BTreeSet<(Instant, ConnectionId)>,
    scratch: Scratch,
}

impl Relay {
    fn new(link: RelayEnd, setup: RelaySetup, watched: watchdog::Watched) -> io::Result<Relay> {
        let poll = Poll::new()?;
        let registry = Rc::new(poll.registry().try_clone()?);
        link.set_nonblocking()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::Monitor.token(), interest)?;
        Ok(Relay {
            poll,
            registry,
            link,
            watched,
            said_working: None,
            monitor_ready: true,
            admission: Admission::new((&setup.limits).into()),
            limits: setup.limits,
            services: Rc::new(setup.services),
            listeners: Vec::new(),
            accept_again: None,
            single: setup.single,
            leaving: false,
            inherited: HashMap::new(),
            spare: None,
            dice: Dice::default(),
            connections: HashMap::new(),
            numbers: Numbers::default(),
            refused: 0,
            next_id: setup.first_id,
            turns: Turns::default(),
            timers: BTreeSet::new(),
            scratch: Scratch::default(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            self.watched.end();
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            self.begin_turn(now)?;
            for event in &events {
                self.note(event);
            }
            self.expire(now);
            match self.hear_monitor(now)? {
                Hearing::GoOn => {}
                Hearing::Leave => return Ok(()),
            }
            self.accept(now)?;
            // Those that are waiting now; who becomes ready meanwhile has the next round.
            for _ in 0..self.turns.light() {
                if let Some(id) = self.turns.next_light() {
                    self.turn(id, now)?;
                }
            }
            if let Some(id) = self.turns.next_heavy() {
                self.turn(id, now)?;
            }
            if self.leaving && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// The monitor is to notice if this turn does not end.
    fn begin_turn(&mut self, now: Instant) -> io::Result<()> {
        self.watched.begin();
        let due = self.said_working.is_none_or(|said| now.saturating_duration_since(said) >= WORKING);
        // A monitor that does not read hangs itself.
        if due && !self.connections.is_empty() && self.link.waiting() == 0 {
            self.said_working = Some(now);
            self.link.send(&FromRelay::Working, Vec::new())?;
        }
        Ok(())
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Option<Duration> {
        // The monitor's next read ends the waiting for it.
        let open = self.accept_again.is_none() && !self.monitor_is_behind();
        let accepting = open && self.listeners.iter().any(|listener| listener.ready);
        if self.monitor_ready || accepting || !self.turns.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.first().map(|(time, _)| *time);
        let next = [timer, self.accept_again].into_iter().flatten().min()?;
        // One more millisecond: poll rounds down, and would find nothing due.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn note(&mut self, event: &Event) {
        match Watched::of(event.token()) {
            Watched::Monitor => self.monitor_ready = true,
            Watched::Listener(index) => {
                if let Some(listener) = self.listeners.get_mut(index) {
                    listener.ready = true;
                }
            }
            Watched::Client(number) => {
                let Some(id) = self.numbers.of(number) else { return };
                if let Some(entry) = self.connections.get_mut(&id) {
                    entry.connection.client_ready(ready(event));
                    self.turns.add(id, &mut entry.standing);
                }
            }
            Watched::Terminal(number) => {
                let Some(id) = self.numbers.of(number) else { return };
                if let Some(entry) = self.connections.get_mut(&id) {
                    entry.connection.terminal_ready(ready(event));
                    self.turns.add(id, &mut entry.standing);
                }
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((time, id)) = self.timers.first().copied()
            && time <= now
        {
            self.timers.pop_first();
            if let Some(entry) = self.connections.get_mut(&id) {
                entry.wake = None;
                self.turns.add(id, &mut entry.standing);
            }
        }
    }

    fn turn(&mut self, id: ConnectionId, now: Instant) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
        entry.standing.begin();
        let pace = self.turns.pace(entry.standing);
        self.scratch.limit(self.turns.room(), pace);
        let mut turn = entry.connection.turn(&mut self.scratch, now);
        entry.standing.end(entry.connection.moved());
        if let Some(size) = turn.size {
            if self.link.waiting() < BEHIND {
                self.link.send(&FromRelay::WindowSize { id, size }, Vec::new())?;
            } else {
                // The latest one is enough when the monitor reads again.
                let again = entry.connection.put_back_size(size, now);
                turn.wake = turn.wake.into_iter().chain([again]).min();
            }
        }
        if turn.look && self.link.waiting() < BEHIND {
            self.link.send(&FromRelay::LookForUnread(id), Vec::new())?;
        }
        match turn.outcome {
            Outcome::None => {}
            Outcome::Open(handshake) => {
                if !ask_for_session(&mut self.link, id, entry, &handshake, now)? {
                    // It has something to say now, and no event will tell.
                    self.turns.add(id, &mut entry.standing);
                }
            }
            Outcome::Refused(reason) => {
                self.link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
            }
            Outcome::Finished(cause) => {
                if !entry.occupied {
                    self.admission.end(id);
                }
                report_closed(&mut self.link, id, entry, cause)?;
            }
            Outcome::Gone(cause) => return self.forget(id, cause),
        }
        if turn.again {
            self.turns.add(id, &mut entry.standing);
        }
        if entry.wake != turn.wake {
            if let Some(time) = entry.wake {
                self.timers.remove(&(time, id));
            }
            entry.wake = turn.wake;
            if let Some(time) = turn.wake {
                self.timers.insert((time, id));
            }
        }
        Ok(())
    }

    /// The connection is over: closes it and tells the monitor, once the monitor has answered.
    fn forget(&mut self, id: ConnectionId, cause: CloseCause) -> io::Result<()> {
        let Some(entry) = self.connections.get(&id) else { return Ok(()) };
        let answered = !entry.connection.is_opening();
        self.remove(id, answered.then_some(cause))
    }

    /// Closes a connection. Without a cause the monitor is told later: it may have sent a terminal's leader that
    /// is on its way to us, and must not take it for closed.
    fn remove(&mut self, id: ConnectionId, cause: Option<CloseCause>) -> io::Result<()> {
        let Some(entry) = self.connections.remove(&id) else { return Ok(()) };
        if let Some(time) = entry.wake {
            self.timers.remove(&(time, id));
        }
        match (entry.admitted, entry.occupied) {
            (true, true) => self.admission.depart(id),
            (true, false) => self.admission.leave(id),
            (false, _) => self.refused -= 1,
        }
        let (bytes_in, bytes_out) = entry.connection.bytes();
        let open = entry.open;
        // First: the monitor has the session process close the terminal's leader last.
        drop(entry);
        match cause {
            Some(cause) if open => {
                self.link.send(&FromRelay::Closed { id, cause, bytes_in, bytes_out }, Vec::new())
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn ready(event: &Event) -> Ready {
    Ready {
        readable: event.is_readable(),
        writable: event.is_writable(),
        hung_up: event.is_read_closed() || event.is_error(),
        changed: event.is_priority(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_means_what_it_was_made_for() {
        let numbered = [0, 1, 2, usize::MAX >> 2].into_iter().flat_map(|number| {
            [Watched::Listener(number), Watched::Client(number), Watched::Terminal(number)]
        });
        for watched in [Watched::Monitor].into_iter().chain(numbered) {
            assert_eq!(Watched::of(watched.token()), watched);
        }
    }
}
