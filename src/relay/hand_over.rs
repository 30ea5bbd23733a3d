//! One relay follows another: what the old one writes down, and how the new one
//! goes on with it.

use std::fs::File;

use super::state::{ConnectionState, RelayState};
use super::*;

impl Relay {
    /// Writes all connections down and gives those back that the monitor has no
    /// descriptors of. From here on no byte may be read or written.
    pub(super) fn hand_back(&mut self, mut descriptors: Vec<OwnedFd>, now: Instant) -> io::Result<()> {
        let Some(file) = descriptors.pop() else { return Err(io::Error::other("no file to hand over in")) };
        self.close_doors();
        // The monitor reads, and nothing else is left to do.
        self.link.set_blocking()?;
        let entries = self.connections.iter().map(|(id, entry)| EntryState {
            id: *id,
            peer: entry.peer,
            counted: entry.admitted,
            open: entry.open,
            connection: entry.connection.state(now),
        });
        RelayState { entries: entries.collect() }.store(&File::from(file))?;
        for (id, entry) in &mut self.connections {
            if let Some(size) = entry.connection.last_size() {
                self.link.send(&FromRelay::WindowSize { id: *id, size }, Vec::new())?;
            }
        }
        for (id, entry) in &mut self.connections {
            // One that is opening may be refused yet, and then the monitor has no part of it.
            if !entry.open || entry.connection.is_opening() {
                let socket = entry.connection.client().duplicate()?;
                self.link.send(&FromRelay::Carry(*id), vec![socket])?;
            }
        }
        self.link.send(&FromRelay::HandedBack, Vec::new())
    }

    /// Takes note of what another relay has handed over.
    pub(super) fn inherit(&mut self, mut descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let Some(file) = descriptors.pop() else { return Err(io::Error::other("no file to inherit from")) };
        let state = RelayState::load(&File::from(file))?;
        self.inherited = state.entries.into_iter().map(|entry| (entry.id, entry)).collect();
        Ok(())
    }

    /// Goes on with a connection.
    pub(super) fn resume(&mut self, resumed: Resumed, sockets: Vec<OwnedFd>, now: Instant) -> io::Result<()> {
        let id = resumed.id;
        self.leaving |= self.single;
        let known = self.inherited.remove(&id);
        let mut sockets = sockets.into_iter();
        // None: we had no room for it.
        let Some(client) = sockets.next() else { return self.lost(id, CloseCause::Shortage) };
        let Ok(peer) = known.as_ref().map_or_else(|| socket::peer(client.as_fd()), |entry| Ok(entry.peer))
        else {
            return self.lost(id, CloseCause::ClientLeft);
        };
        let number = self.numbers.take(id);
        let watched = self.watch(&number, client, sockets.next());
        let Ok((client, terminal)) = watched else { return self.lost(id, CloseCause::Shortage) };
        let admitted = known.as_ref().is_none_or(|entry| entry.counted);
        let has_session = terminal.is_some();
        let open = has_session || known.as_ref().is_some_and(|entry| entry.open);
        let connection = match (known, terminal) {
            (Some(entry), terminal) => self.go_on(client, terminal, &entry.connection, now),
            (None, Some(terminal)) => self.recover(client, terminal, resumed, now),
            (None, None) => None,
        };
        // What was handed over makes no sense, or the client has gone meanwhile: who it was does not matter.
        let Some(mut connection) = connection else { return self.lost(id, CloseCause::Abandoned) };
        if resumed.logged_in {
            connection.logged_in(now);
        }
        if resumed.ended {
            connection.session_ended();
        }
        if admitted {
            // Of one whose session has ended only the relay before knows it.
            let logged_in = if has_session { resumed.logged_in } else { connection.is_logged_in() };
            self.admission.resume(id, Source::of(peer.ip()), !logged_in);
            if connection.is_closing() {
                self.admission.end(id);
            }
        } else {
            self.refused += 1;
        }
        let occupied = open && !resumed.ended;
        let mut standing = Standing::default();
        self.turns.add(id, &mut standing);
        let entry = Entry { connection, number, peer, admitted, standing, wake: None, open, occupied };
        self.connections.insert(id, entry);
        Ok(())
    }

    fn watch(
        &self,
        number: &Number,
        client: OwnedFd,
        leader: Option<OwnedFd>,
    ) -> io::Result<(WatchedClient, Option<WatchedTerminal>)> {
        // The relay before had the same open files, and may have made them wait.
        for end in [Some(&client), leader.as_ref()].into_iter().flatten() {
            socket::set_nonblocking(end.as_fd())?;
        }
        let stream = TcpStream::from_std(client.into());
        let client = WatchedClient::new(stream, &self.registry, Watched::Client(number.value()).token())?;
        let token = Watched::Terminal(number.value()).token();
        let watch = |leader| WatchedTerminal::new(Leader::new(leader), &self.registry, token);
        Ok((client, leader.map(watch).transpose()?))
    }

    /// Where the other relay has left off. `None` when the client is gone, or what was
    /// handed over makes no sense.
    fn go_on(
        &self,
        client: WatchedClient,
        terminal: Option<WatchedTerminal>,
        state: &ConnectionState,
        now: Instant,
    ) -> Option<Connection<WatchedClient, WatchedTerminal>> {
        let idle = self.limits.idle;
        if !state.is_opening() {
            return Connection::resume(client, terminal, state, &self.services, idle, now);
        }
        let mut connection = Connection::resume(client, None, state, &self.services, idle, now)?;
        if let Some(terminal) = terminal {
            connection.opened(terminal, now).ok()?;
        }
        Some(connection)
    }

    /// As well as it can be done without anything that the other relay knew.
    fn recover(
        &self,
        client: WatchedClient,
        terminal: WatchedTerminal,
        resumed: Resumed,
        now: Instant,
    ) -> Option<Connection<WatchedClient, WatchedTerminal>> {
        let idle = self.limits.idle;
        if resumed.answered {
            return Some(Connection::recovered(client, terminal, resumed.traffic, idle, now));
        }
        let mut connection = Connection::unanswered(client, idle, now);
        connection.opened(terminal, now).ok()?;
        Some(connection)
    }

    /// A session that cannot go on; of other connections the monitor knows nothing.
    fn lost(&mut self, id: ConnectionId, cause: CloseCause) -> io::Result<()> {
        let gone = FromRelay::Closed { id, cause, bytes_in: 0, bytes_out: 0 };
        self.link.send(&gone, Vec::new())
    }
}
