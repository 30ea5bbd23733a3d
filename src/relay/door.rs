//! The relay's doors: accepting clients, within limits.
//!
//! Whoever is refused here costs no message but one for the log, no process and no
//! terminal. Nothing that strangers do may make the loop spin, end or forget to accept again.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::admission::NOT_LOGGED_IN;
use super::*;

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 16;
/// Refused clients that are given time to read why.
const REFUSED: usize = 256;
/// How long to wait before accepting again when memory is out.
const PAUSE: Duration = Duration::from_millis(500);
/// Messages that may wait for the monitor while clients are still let in.
pub(super) const BEHIND: usize = 256;

/// Why a client is turned away at the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denial {
    /// It is not to connect at all.
    Forbidden,
    /// It may come again when there is room.
    Busy(&'static str),
}

impl Denial {
    fn reason(self) -> &'static str {
        match self {
            Denial::Forbidden => "the address may not connect",
            Denial::Busy(reason) => reason,
        }
    }

    /// What the client is told. TCPMUX has a form of its own, in words that say no more.
    fn answer(self, via: Via) -> Vec<u8> {
        match (self, via) {
            (Denial::Forbidden, Via::Tcpmux) => tcpmux::REFUSED.to_vec(),
            (Denial::Busy(_), Via::Tcpmux) => tcpmux::BUSY.to_vec(),
            (Denial::Forbidden, Via::Rlogin | Via::Inetd) => answer::refusal("Permission denied", true),
            (Denial::Busy(_), Via::Rlogin | Via::Inetd) => answer::refusal("Try again", true),
        }
    }
}

impl Relay {
    pub(super) fn accept(&mut self, now: Instant) -> io::Result<()> {
        if self.accept_again.is_some_and(|time| time > now) {
            return Ok(());
        }
        self.accept_again = None;
        if self.spare.is_none() {
            self.spare = socket::duplicate(&self.link).ok();
        }
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                if !self.listeners[index].ready || self.monitor_is_behind() {
                    break;
                }
                match self.listeners[index].socket.accept() {
                    Ok((stream, peer)) => {
                        let via = self.listeners[index].via;
                        self.welcome(stream, socket::canonical(peer), via, now)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.listeners[index].ready = false;
                    }
                    // The client, or its network, has gone before we came to it (accept(2)).
                    Err(error) if is_of_the_client(&error) => {}
                    Err(error) if is_for_descriptors(&error) && self.spare.is_some() => {
                        self.accept_with_the_spare(index, &error)?;
                    }
                    // It would be the same at once.
                    Err(error) => {
                        self.accept_again = Some(now + PAUSE);
                        let code = error.raw_os_error().unwrap_or(0);
                        return self.link.send(&FromRelay::Shortage { code }, Vec::new());
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the monitor has not yet read what it was told of earlier clients. Who comes
    /// meanwhile waits in the kernel: were all of them told of, the queue would grow until
    /// the monitor counted as hung.
    pub(super) fn monitor_is_behind(&self) -> bool {
        self.link.waiting() >= BEHIND
    }

    /// There is no descriptor for another client: gives up the one that is kept for this,
    /// so that the client learns of it instead of waiting for an answer.
    fn accept_with_the_spare(&mut self, index: usize, error: &io::Error) -> io::Result<()> {
        self.spare = None;
        let Listener { socket, via, ready } = &mut self.listeners[index];
        let via = *via;
        match socket.accept() {
            Ok((stream, peer)) => {
                let denial = Denial::Busy("no descriptor for the client");
                turn_away(stream, &denial.answer(via));
                let (peer, reason) = (socket::canonical(peer), format!("{}: {error}", denial.reason()));
                self.link.send(&FromRelay::Refused { peer, reason }, Vec::new())?;
            }
            // accept(2) looks for a descriptor first and for a client then.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => *ready = false,
            // Whatever it is, the next try tells; without a spare that ends in a pause.
            Err(_) => {}
        }
        self.spare = socket::duplicate(&self.link).ok();
        Ok(())
    }

    pub(super) fn welcome(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        via: Via,
        now: Instant,
    ) -> io::Result<ConnectionId> {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        match self.admit(id, peer, now) {
            Ok(None) => {}
            Ok(Some(other)) => self.give_way(other)?,
            Err(denial) => {
                self.refuse(id, stream, peer, denial, via, now)?;
                return Ok(id);
            }
        }
        self.link.send(&FromRelay::Connection { peer, via }, Vec::new())?;
        let RelayLimits { handshake, idle, keepalive, unacknowledged, .. } = self.limits;
        if let Err(error) = socket::prepare(stream.as_fd(), keepalive, unacknowledged) {
            turn_away(stream, &Denial::Busy("").answer(via));
            return self.not_served(id, peer, &error);
        }
        let number = self.numbers.take(id);
        let token = Watched::Client(number.value()).token();
        let client = match WatchedClient::new(stream, &self.registry, token) {
            Ok(client) => client,
            Err(error) => return self.not_served(id, peer, &error),
        };
        let connection = match via {
            // From a superserver it comes with its request answered.
            Via::Tcpmux if !self.single => {
                Connection::multiplexed(client, &self.services, handshake, idle, now)
            }
            Via::Rlogin | Via::Tcpmux | Via::Inetd => Connection::new(client, handshake, idle, now),
        };
        self.keep(id, number, connection, peer, true);
        Ok(id)
    }

    /// The system would not let us serve it.
    fn not_served(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        error: &io::Error,
    ) -> io::Result<ConnectionId> {
        self.admission.leave(id);
        let reason = format!("the connection cannot be served: {error}");
        self.link.send(&FromRelay::Refused { peer, reason }, Vec::new())?;
        Ok(id)
    }

    /// Who has to give way to it, if it gets a place and somebody has to.
    fn admit(
        &mut self,
        id: ConnectionId,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<Option<ConnectionId>, Denial> {
        // First, so that who may not connect takes no place and learns nothing of the others.
        if !self.limits.access.permits(peer.ip()) {
            return Err(Denial::Forbidden);
        }
        let source = Source::of(peer.ip());
        if let Some(ended) = self.admission.needed_by(source, now) {
            self.end_for_another(ended).map_err(|_| Denial::Busy("the monitor is gone"))?;
        }
        self.admission.enter(id, source, self.dice.throw(), now).map_err(Denial::Busy)
    }

    /// Sends a connection away that is not logged in, for another one. Its client is told what takes no time.
    fn give_way(&mut self, id: ConnectionId) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
        entry.connection.give_way(&mut self.scratch);
        let reason = format!("it gave way to another one: {NOT_LOGGED_IN}");
        self.link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
        self.forget(id, CloseCause::GaveWay)
    }

    /// Ends the wait for a client that has not taken the last output of its session: another one needs its place.
    fn end_for_another(&mut self, id: ConnectionId) -> io::Result<()> {
        if let Some(entry) = self.connections.get(&id) {
            let reason = "its last output was not taken, and another one needs its place".to_owned();
            self.link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
        }
        self.remove(id, None)
    }

    fn refuse(
        &mut self,
        id: ConnectionId,
        stream: TcpStream,
        peer: SocketAddr,
        denial: Denial,
        via: Via,
        now: Instant,
    ) -> io::Result<()> {
        let reason = denial.reason().to_owned();
        self.link.send(&FromRelay::Refused { peer, reason }, Vec::new())?;
        let answer = denial.answer(via);
        if self.refused >= REFUSED {
            turn_away(stream, &answer);
            return Ok(());
        }
        // Should it fail, so has the connection.
        let number = self.numbers.take(id);
        let token = Watched::Client(number.value()).token();
        if let Ok(client) = WatchedClient::new(stream, &self.registry, token) {
            self.refused += 1;
            self.keep(id, number, Connection::refused(client, &answer, now), peer, false);
        }
        Ok(())
    }

    fn keep(
        &mut self,
        id: ConnectionId,
        number: Number,
        connection: Connection<WatchedClient, WatchedTerminal>,
        peer: SocketAddr,
        admitted: bool,
    ) {
        let (open, occupied) = (false, false);
        let mut standing = Standing::default();
        self.turns.add(id, &mut standing);
        let entry = Entry { connection, number, peer, admitted, standing, wake: None, open, occupied };
        self.connections.insert(id, entry);
    }
}

/// Tells a client why it is sent away, as far as that takes no time, and closes.
fn turn_away(mut stream: TcpStream, answer: &[u8]) {
    // The socket is new, so there is room for the answer unless memory is out.
    let _ = stream.write(answer);
    let _ = stream.shutdown(Shutdown::Write);
    // What the client has sent already: unread, it would make the close a reset, at which
    // some clients forget what they were told.
    let _ = stream.read(&mut [0; 1024]);
}

/// Whether accept(2) failed because of this one client. Otherwise, for want of
/// descriptors or memory, it would fail again at once.
fn is_of_the_client(error: &io::Error) -> bool {
    let of_the_client = [
        Errno::ECONNABORTED,
        Errno::EINTR,
        Errno::EPROTO,
        Errno::ENETDOWN,
        Errno::ENETUNREACH,
        Errno::EHOSTDOWN,
        Errno::EHOSTUNREACH,
        Errno::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| of_the_client.contains(&Errno::from_raw(code)))
}

/// Whether this process, or the whole system, has no descriptor left.
fn is_for_descriptors(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}
