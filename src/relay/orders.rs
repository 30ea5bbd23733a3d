//! The relay's side of the monitor: what it is told, and what it asks for.

use super::*;

/// Messages taken from the monitor in one turn.
const MESSAGES: usize = 64;

/// What the monitor wants of the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    GoOn,
    /// The monitor is gone, or another relay takes over.
    Leave,
}

impl Relay {
    /// Does what the monitor says.
    pub(super) fn hear_monitor(&mut self, now: Instant) -> io::Result<Hearing> {
        if !self.monitor_ready {
            return Ok(Hearing::GoOn);
        }
        self.link.flush()?;
        for _ in 0..MESSAGES {
            match self.link.receive()? {
                Incoming::Message(ToRelay::HandBack, descriptors) => {
                    self.hand_back(descriptors, now)?;
                    return Ok(Hearing::Leave);
                }
                Incoming::Message(message, descriptors) => self.obey(message, descriptors, now)?,
                Incoming::Closed => return Ok(Hearing::Leave),
                Incoming::Nothing => {
                    self.monitor_ready = false;
                    break;
                }
            }
        }
        Ok(Hearing::GoOn)
    }

    fn obey(&mut self, message: ToRelay, mut descriptors: Vec<OwnedFd>, now: Instant) -> io::Result<()> {
        match message {
            ToRelay::Setup(_) | ToRelay::HandBack => Err(io::Error::other("set up twice")),
            ToRelay::Inherit => self.inherit(descriptors),
            ToRelay::Resume(resumed) => self.resume(resumed, descriptors, now),
            ToRelay::Listen(doors) => self.listen(descriptors, &doors),
            ToRelay::Adopt(greeting) => {
                let Some(client) = descriptors.pop() else { return Err(io::Error::other("no connection")) };
                self.adopt(client, greeting, now)
            }
            ToRelay::Limits(limits) => {
                self.admission.set_limits((&limits).into());
                self.limits = limits;
                Ok(())
            }
            ToRelay::Stop => self.stop(),
            ToRelay::Opened(id) => self.opened(id, descriptors, now),
            ToRelay::Refused(id, text) => self.session_is_over(id, |entry| {
                entry.open = false;
                entry.connection.refuse(&text, now);
            }),
            ToRelay::Ended(id) => self.session_is_over(id, |entry| entry.connection.session_ended()),
            ToRelay::LoggedIn(id) => {
                // One that has gone meanwhile departs.
                if self.connections.contains_key(&id) {
                    self.admission.logged_in(id);
                    self.change(id, |connection| connection.logged_in(now));
                }
                Ok(())
            }
            ToRelay::Close(id, text) => {
                self.change(id, |connection| connection.abandon(&text, now));
                let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
                report_closed(&mut self.link, id, entry, CloseCause::Abandoned)
            }
            ToRelay::Resized(id) => {
                self.change(id, Connection::resized);
                Ok(())
            }
            ToRelay::FlowControl(id, wanted) => {
                self.change(id, |connection| connection.flow_control(wanted, now));
                Ok(())
            }
            ToRelay::Looked(id, unread) => {
                self.change(id, |connection| connection.looked(unread, now));
                Ok(())
            }
        }
    }

    /// Does something to a connection, and lets it have a turn. One that has gone meanwhile is left alone.
    fn change(
        &mut self,
        id: ConnectionId,
        change: impl FnOnce(&mut Connection<WatchedClient, WatchedTerminal>),
    ) {
        if let Some(entry) = self.connections.get_mut(&id) {
            change(&mut entry.connection);
            self.turns.add(id, &mut entry.standing);
        }
    }

    /// The session is there, and its terminal.
    fn opened(&mut self, id: ConnectionId, mut descriptors: Vec<OwnedFd>, now: Instant) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else {
            // First: the monitor has the session process close the terminal's leader last.
            drop(descriptors);
            if !self.admission.knows(id) {
                return Ok(());
            }
            let cause = CloseCause::ClientLeft;
            return self.link.send(&FromRelay::Closed { id, cause, bytes_in: 0, bytes_out: 0 }, Vec::new());
        };
        // None: we had no room for its descriptor.
        let Some(leader) = descriptors.pop() else { return self.no_room_for_terminal(id, now) };
        let token = Watched::Terminal(entry.number.value()).token();
        let opened = WatchedTerminal::new(Leader::new(leader), &self.registry, token)
            .and_then(|terminal| entry.connection.opened(terminal, now));
        if opened.is_err() {
            return self.remove(id, Some(CloseCause::ClientLeft));
        }
        self.turns.add(id, &mut entry.standing);
        Ok(())
    }

    /// There is no session, or none any more.
    fn session_is_over(&mut self, id: ConnectionId, change: impl FnOnce(&mut Entry)) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else {
            self.admission.leave(id);
            return Ok(());
        };
        entry.occupied = false;
        change(entry);
        self.turns.add(id, &mut entry.standing);
        Ok(())
    }

    /// The session was made for nothing: tells the client and the monitor, which ends it.
    fn no_room_for_terminal(&mut self, id: ConnectionId, now: Instant) -> io::Result<()> {
        let Some(entry) = self.connections.get_mut(&id) else { return Ok(()) };
        entry.connection.refuse("Try again", now);
        self.turns.add(id, &mut entry.standing);
        let reason = "no descriptor for the session's terminal".to_owned();
        self.link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
        report_closed(&mut self.link, id, entry, CloseCause::Shortage)
    }

    pub(super) fn adopt(&mut self, client: OwnedFd, greeting: Greeting, now: Instant) -> io::Result<()> {
        self.leaving = true;
        socket::set_nonblocking(client.as_fd())?;
        // It may have gone already; then there is nothing to do, and the relay ends.
        let Ok(peer) = socket::peer(client.as_fd()) else { return Ok(()) };
        let stream = TcpStream::from_std(client.into());
        let via = match greeting {
            Greeting::None => Via::Inetd,
            Greeting::Tcpmux => Via::Tcpmux,
        };
        let id = self.welcome(stream, peer, via, now)?;
        if let (Greeting::Tcpmux, Some(entry)) = (greeting, self.connections.get_mut(&id))
            && entry.admitted
        {
            entry.connection.greet(tcpmux::ACCEPTED);
        }
        Ok(())
    }

    /// Serves these doors, and no others.
    fn listen(&mut self, sockets: Vec<OwnedFd>, doors: &[Via]) -> io::Result<()> {
        if sockets.len() != doors.len() {
            return Err(io::Error::other("not all listeners arrived"));
        }
        self.close_doors();
        // Nothing else can be resumed any more.
        self.inherited = HashMap::new();
        for (index, (fd, via)) in sockets.into_iter().zip(doors).enumerate() {
            // The relay before had the same open file, and may have made it wait.
            socket::set_nonblocking(fd.as_fd())?;
            let mut socket = TcpListener::from_std(fd.into());
            self.registry.register(&mut socket, Watched::Listener(index).token(), Interest::READABLE)?;
            self.listeners.push(Listener { socket, via: *via, ready: true });
        }
        Ok(())
    }

    pub(super) fn close_doors(&mut self) {
        for mut listener in self.listeners.drain(..) {
            let _ = self.registry.deregister(&mut listener.socket);
        }
    }

    /// Accepts no more; who has no session yet gets none.
    fn stop(&mut self) -> io::Result<()> {
        self.close_doors();
        self.leaving = true;
        // One that is closing has its last output under way.
        let waiting = self.connections.iter().filter(|(_, entry)| entry.connection.is_beginning());
        for id in waiting.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.forget(id, CloseCause::Ended)?;
        }
        Ok(())
    }
}

/// Returns whether the monitor was asked; if not, the client is refused.
pub(super) fn ask_for_session(
    link: &mut RelayEnd,
    id: ConnectionId,
    entry: &mut Entry,
    handshake: &Handshake,
    now: Instant,
) -> io::Result<bool> {
    let fields = HandshakeFields {
        client_user: handshake.client_user.as_bytes().to_vec(),
        server_user: handshake.server_user.as_bytes().to_vec(),
        terminal: handshake.terminal_field().into_bytes(),
    };
    match entry.connection.client().duplicate() {
        Ok(socket) => {
            (entry.open, entry.occupied) = (true, true);
            link.send(&FromRelay::Open { id, peer: entry.peer, fields }, vec![socket])?;
            Ok(true)
        }
        Err(error) => {
            entry.connection.refuse("Try again", now);
            let reason = format!("no descriptor for the session: {error}");
            link.send(&FromRelay::Refused { peer: entry.peer, reason }, Vec::new())?;
            Ok(false)
        }
    }
}

pub(super) fn report_closed(
    link: &mut RelayEnd,
    id: ConnectionId,
    entry: &mut Entry,
    cause: CloseCause,
) -> io::Result<()> {
    if !std::mem::take(&mut entry.open) {
        return Ok(());
    }
    let (bytes_in, bytes_out) = entry.connection.bytes_at_end();
    link.send(&FromRelay::Closed { id, cause, bytes_in, bytes_out }, Vec::new())
}
