//! The relay: one single-threaded mio loop that accepts, reads handshakes, and
//! carries every byte between the clients and their terminals.
//!
//! It reads what strangers send, so it holds no privilege: it can only ask the
//! monitor for a session. It never blocks, never forks and never panics; each
//! turn does a bounded amount of work for each connection, and none when nothing
//! happens.

pub mod admission;
mod client_side;
pub mod connection;
pub mod ends;
mod live;
mod queue;

use std::collections::{BTreeSet, HashMap, VecDeque};
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
    RelaySetup, Services, ToRelay,
};
use crate::sys::channel::Channel;
use crate::sys::pty::Leader;
use crate::sys::{process, sandbox, socket};
use crate::wire::handshake::Handshake;
use crate::wire::{answer, tcpmux};
use admission::{Admission, Source};
use connection::{Connection, Outcome, Ready};
use ends::{WatchedClient, WatchedTerminal};
pub use live::Scratch;

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 16;
/// Messages taken from the monitor in one turn.
const MESSAGES: usize = 64;
/// Refused clients that are given time to read why.
const REFUSED: usize = 256;
/// How long to wait before accepting again when descriptors or memory are out.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs the relay until the monitor ends it.
///
/// # Errors
/// When it cannot give up its privileges, or the monitor sends what it must not.
pub fn run(channel: Channel) -> io::Result<()> {
    process::set_name(c"rlogind-relay");
    // The signals that end the monitor stay blocked, as inherited: a ^C at its
    // terminal must not take the relay before the sessions are closed.
    process::raise_descriptor_limit()?;
    let mut link = RelayEnd::new(channel);
    let Incoming::Message(ToRelay::Setup(setup), listeners) = link.receive()? else {
        return Err(io::Error::other("no set-up from the monitor"));
    };
    // Before the first byte of a stranger.
    sandbox::enter(&setup.scratch, Uid::from_raw(setup.uid), Gid::from_raw(setup.gid))?;
    Relay::new(link, setup, listeners)?.serve()
}

/// What a token of the event loop stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Monitor,
    Listener(usize),
    Client(ConnectionId),
    Terminal(ConnectionId),
}

impl Watched {
    fn token(self) -> Token {
        // Ids count up from zero and never reach the top two bits.
        let id = |id: ConnectionId| usize::try_from(id.0).unwrap_or(usize::MAX >> 2);
        Token(match self {
            Watched::Monitor => 0,
            Watched::Listener(index) => index << 2 | 1,
            Watched::Client(connection) => id(connection) << 2 | 2,
            Watched::Terminal(connection) => id(connection) << 2 | 3,
        })
    }

    fn of(token: Token) -> Watched {
        let id = ConnectionId((token.0 >> 2) as u64);
        match token.0 & 3 {
            0 => Watched::Monitor,
            1 => Watched::Listener(token.0 >> 2),
            2 => Watched::Client(id),
            _ => Watched::Terminal(id),
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
    peer: SocketAddr,
    via: Via,
    /// Counted in at the door; a refused one is not.
    source: Option<Source>,
    /// Waits for its turn.
    queued: bool,
    wake: Option<Instant>,
    /// The monitor was asked for a session and not told of its end yet.
    open: bool,
}

#[derive(Debug)]
struct Relay {
    poll: Poll,
    registry: Rc<Registry>,
    link: RelayEnd,
    monitor_ready: bool,
    limits: RelayLimits,
    services: Rc<Services>,
    listeners: Vec<Listener>,
    accept_again: Option<Instant>,
    /// A superserver handed over the only connection there will be.
    adopted: bool,
    connections: HashMap<ConnectionId, Entry>,
    admission: Admission,
    refused: usize,
    next_id: u64,
    turns: VecDeque<ConnectionId>,
    timers: BTreeSet<(Instant, ConnectionId)>,
    scratch: Scratch,
}

impl Relay {
    fn new(link: RelayEnd, setup: RelaySetup, listeners: Vec<OwnedFd>) -> io::Result<Relay> {
        let poll = Poll::new()?;
        let registry = Rc::new(poll.registry().try_clone()?);
        link.set_nonblocking()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::Monitor.token(), interest)?;
        let mut watched = Vec::new();
        for (index, (fd, via)) in listeners.into_iter().zip(setup.doors).enumerate() {
            let mut socket = TcpListener::from_std(fd.into());
            registry.register(&mut socket, Watched::Listener(index).token(), Interest::READABLE)?;
            watched.push(Listener { socket, via, ready: true });
        }
        Ok(Relay {
            poll,
            registry,
            link,
            monitor_ready: true,
            admission: Admission::new(setup.limits.sessions, setup.limits.per_source),
            limits: setup.limits,
            services: Rc::new(setup.services),
            listeners: watched,
            accept_again: None,
            adopted: false,
            connections: HashMap::new(),
            refused: 0,
            next_id: 1,
            turns: VecDeque::new(),
            timers: BTreeSet::new(),
            scratch: Scratch::default(),
        })
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                self.note(event);
            }
            self.expire(now);
            if !self.hear_monitor(now)? {
                return Ok(());
            }
            self.accept(now)?;
            // Those that are waiting now; who becomes ready meanwhile has the next round.
            for _ in 0..self.turns.len() {
                if let Some(id) = self.turns.pop_front() {
                    self.turn(id, now)?;
                }
            }
            if self.adopted && self.connections.is_empty() {
                return Ok(());
            }
        }
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Option<Duration> {
        let accepting = self.accept_again.is_none() && self.listeners.iter().any(|listener| listener.ready);
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
            Watched::Client(id) => {
                if let Some(entry) = self.connections.get_mut(&id) {
                    entry.connection.client_ready(ready(event));
                    enqueue(&mut self.turns, id, entry);
                }
            }
            Watched::Terminal(id) => {
                if let Some(entry) = self.connections.get_mut(&id) {
                    entry.connection.terminal_ready(ready(event));
                    enqueue(&mut self.turns, id, entry);
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
                enqueue(&mut self.turns, id, entry);
            }
        }
    }

    /// Returns whether the monitor is still there.
    fn hear_monitor(&mut self, now: Instant) -> io::Result<bool> {
        if !self.monitor_ready {
            return Ok(true);
        }
        self.link.flush()?;
        for _ in 0..MESSAGES {
            match self.link.receive()? {
                Incoming::Message(message, descriptors) => self.obey(message, descriptors, now)?,
                Incoming::Closed => return Ok(false),
                Incoming::Nothing => {
                    self.monitor_ready = false;
                    break;
                }
            }
        }
        Ok(true)
    }

    fn obey(&mut self, message: ToRelay, mut descriptors: Vec<OwnedFd>, now: Instant) -> io::Result<()> {
        let id = match message {
            ToRelay::Setup(_) => return Err(io::Error::other("set up twice")),
            ToRelay::Adopt(greeting) => {
                self.adopted = true;
                let Some(client) = descriptors.pop() else { return Err(io::Error::other("no connection")) };
                return self.adopt(client, greeting, now);
            }
            ToRelay::Limits(limits) => {
                self.admission.set_limits(limits.sessions, limits.per_source);
                self.limits = limits;
                return Ok(());
            }
            ToRelay::Stop => {
                return self.stop();
            }
            ToRelay::Opened(id) | ToRelay::Refused(id, _) | ToRelay::Ended(id) => id,
        };
        // It may have gone while the message was on its way.
        let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
        match message {
            ToRelay::Opened(_) => {
                let Some(leader) = descriptors.pop() else { return Err(io::Error::other("no terminal")) };
                let token = Watched::Terminal(id).token();
                let opened = WatchedTerminal::new(Leader::new(leader), &self.registry, token)
                    .and_then(|terminal| entry.connection.opened(terminal, now));
                if opened.is_err() {
                    return self.forget(id, CloseCause::ClientLeft);
                }
            }
            ToRelay::Refused(_, text) => {
                entry.open = false;
                entry.connection.refuse(&text, now);
            }
            ToRelay::Ended(_) => entry.connection.session_ended(now),
            ToRelay::Setup(_) | ToRelay::Adopt(_) | ToRelay::Limits(_) | ToRelay::Stop => {}
        }
        enqueue(&mut self.turns, id, entry);
        Ok(())
    }

    fn adopt(&mut self, client: OwnedFd, greeting: Greeting, now: Instant) -> io::Result<()> {
        socket::set_nonblocking(client.as_fd())?;
        // It may have gone already; then there is nothing to do, and the relay ends.
        let Ok(peer) = socket::peer(client.as_fd()) else { return Ok(()) };
        let stream = TcpStream::from_std(client.into());
        let via = match greeting {
            Greeting::None => Via::Inetd,
            Greeting::Tcpmux => Via::Tcpmux,
        };
        let id = self.welcome(stream, peer, via, now)?;
        if let (Greeting::Tcpmux, Some(entry)) = (greeting, self.connections.get_mut(&id)) {
            entry.connection.greet(tcpmux::ACCEPTED);
        }
        Ok(())
    }

    /// Accepts no more; who has no session yet gets none.
    fn stop(&mut self) -> io::Result<()> {
        for mut listener in self.listeners.drain(..) {
            let _ = self.registry.deregister(&mut listener.socket);
        }
        let waiting = self.connections.iter().filter(|(_, entry)| !entry.connection.has_session());
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id, CloseCause::Ended)?;
        }
        Ok(())
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        if self.accept_again.is_some_and(|time| time > now) {
            return Ok(());
        }
        self.accept_again = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                let listener = &mut self.listeners[index];
                if !listener.ready {
                    break;
                }
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        let via = listener.via;
                        self.welcome(stream, socket::canonical(peer), via, now)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                    Err(error) if is_shortage(&error) => {
                        self.accept_again = Some(now + PAUSE);
                        return Ok(());
                    }
                    // The client has gone before we came to it.
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    fn welcome(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        via: Via,
        now: Instant,
    ) -> io::Result<ConnectionId> {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.link.send(&FromRelay::Connection { peer, via }, Vec::new())?;
        let source = Source::of(peer.ip());
        let admitted = self.admission.enter(source);
        if let Err(reason) = admitted {
            self.link.send(&FromRelay::Refused { peer, reason: reason.to_owned() }, Vec::new())?;
            if self.refused >= REFUSED {
                return Ok(id);
            }
        }
        let client = socket::prepare(stream.as_fd(), self.limits.keepalive)
            .and_then(|()| WatchedClient::new(stream, &self.registry, Watched::Client(id).token()));
        let client = match client {
            Ok(client) => client,
            Err(_) => {
                if admitted.is_ok() {
                    self.admission.leave(source);
                }
                return Ok(id);
            }
        };
        let RelayLimits { handshake, idle, .. } = self.limits;
        let connection = match (admitted, via) {
            (Err(_), _) => {
                self.refused += 1;
                let answer = if via == Via::Tcpmux && !self.adopted {
                    tcpmux::BUSY.to_vec()
                } else {
                    answer::refusal("Try again", true)
                };
                Connection::refused(client, &answer, now)
            }
            // From a superserver it comes with its request answered.
            (Ok(()), Via::Tcpmux) if !self.adopted => {
                Connection::multiplexed(client, &self.services, handshake, idle, now)
            }
            (Ok(()), Via::Rlogin | Via::Tcpmux | Via::Inetd) => Connection::new(client, handshake, idle, now),
        };
        let source = admitted.is_ok().then_some(source);
        let entry = Entry { connection, peer, via, source, queued: true, wake: None, open: false };
        self.connections.insert(id, entry);
        self.turns.push_back(id);
        Ok(id)
    }

    fn turn(&mut self, id: ConnectionId, now: Instant) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
        entry.queued = false;
        let turn = entry.connection.turn(&mut self.scratch, now);
        match turn.outcome {
            Outcome::None => {}
            Outcome::Open(handshake) => ask_for_session(&mut self.link, id, entry, &handshake, now)?,
            Outcome::Refused(reason) => {
                self.link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
            }
            Outcome::Finished(cause) => report_closed(&mut self.link, id, entry, cause)?,
            Outcome::Gone(cause) => return self.forget(id, cause),
        }
        if turn.again {
            enqueue(&mut self.turns, id, entry);
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

    /// The connection is over: closes it and tells the monitor.
    fn forget(&mut self, id: ConnectionId, cause: CloseCause) -> io::Result<()> {
        let Some(mut entry) = self.connections.remove(&id) else { return Ok(()) };
        if let Some(time) = entry.wake {
            self.timers.remove(&(time, id));
        }
        match entry.source {
            Some(source) => self.admission.leave(source),
            None => self.refused -= 1,
        }
        report_closed(&mut self.link, id, &mut entry, cause)
    }
}

fn enqueue(turns: &mut VecDeque<ConnectionId>, id: ConnectionId, entry: &mut Entry) {
    if !entry.queued {
        entry.queued = true;
        turns.push_back(id);
    }
}

fn ask_for_session(
    link: &mut RelayEnd,
    id: ConnectionId,
    entry: &mut Entry,
    handshake: &Handshake,
    now: Instant,
) -> io::Result<()> {
    let fields = HandshakeFields {
        client_user: handshake.client_user.as_bytes().to_vec(),
        server_user: handshake.server_user.as_bytes().to_vec(),
        terminal: handshake.terminal_field().into_bytes(),
    };
    match entry.connection.client().duplicate() {
        Ok(socket) => {
            entry.open = true;
            link.send(&FromRelay::Open { id, via: entry.via, fields }, vec![socket])
        }
        Err(error) => {
            entry.connection.refuse("Try again", now);
            let reason = format!("no descriptor for the session: {error}");
            link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())
        }
    }
}

fn report_closed(
    link: &mut RelayEnd,
    id: ConnectionId,
    entry: &mut Entry,
    cause: CloseCause,
) -> io::Result<()> {
    if !std::mem::take(&mut entry.open) {
        return Ok(());
    }
    let (bytes_in, bytes_out) = entry.connection.bytes();
    link.send(&FromRelay::Closed { id, cause, bytes_in, bytes_out }, Vec::new())
}

fn ready(event: &Event) -> Ready {
    Ready {
        readable: event.is_readable(),
        writable: event.is_writable(),
        hung_up: event.is_read_closed() || event.is_error(),
        changed: event.is_priority(),
    }
}

/// Whether accept(2) failed for want of descriptors or memory: then it would fail
/// again at once, for the same waiting client.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw(code)))
}
