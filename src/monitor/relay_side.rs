//! The monitor's side of the relay: starting it, answering its requests, and what
//! becomes of one that misbehaves or dies.

use super::*;
use crate::ipc::Services;
use crate::sys::process::End;

/// Messages taken from the relay in one turn.
const MESSAGES: usize = 256;
/// The most connections of one relay. Tokens are made of ids, so they must not wrap
/// even after more relays than there will ever be.
const RELAY_IDS: u64 = 1 << 40;

impl Monitor {
    pub(super) fn start_relay(&mut self) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let process = Process::start_role(RELAY_ROLE, theirs)?;
        match self.set_up_relay(&process, RelayLink::new(ours)) {
            Ok(link) => {
                self.relay = Some((process, link));
                Ok(())
            }
            Err(error) => {
                process.end();
                Err(error)
            }
        }
    }

    fn set_up_relay(&mut self, process: &Process, mut link: RelayLink) -> io::Result<RelayLink> {
        link.set_nonblocking()?;
        self.relay_ids.start = self.relay_ids.end;
        let setup = RelaySetup {
            scratch: self.parts.scratch.clone(),
            uid: self.parts.account.uid,
            gid: self.parts.account.gid,
            first_id: self.relay_ids.start,
            limits: (&self.config.limits).into(),
            doors: self.parts.listeners.iter().map(|listener| listener.via).collect(),
            services: Services { names: self.config.tcpmux.services.clone(), help: self.config.tcpmux.help },
        };
        let sockets = self.parts.listeners.iter().map(|listener| listener.socket.try_clone());
        link.send(&ToRelay::Setup(setup), sockets.collect::<Result<Vec<_>, _>>()?)?;
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::RelayLink.token(), both)?;
        let token = Watched::RelayProcess.token();
        registry.register(&mut SourceFd(&process.as_raw_fd()), token, Interest::READABLE)?;
        Ok(link)
    }

    pub(super) fn hear_relay(&mut self, now: Instant) {
        if let Some((_, link)) = &mut self.relay
            && let Err(error) = link.flush()
            && !is_leaving(&error)
        {
            return self.end_relay("it does not read", now);
        }
        for _ in 0..MESSAGES {
            let Some((_, link)) = &mut self.relay else { return };
            match link.receive() {
                Ok(Incoming::Message(message, descriptors)) => {
                    if let Err(offence) = self.obey(message, descriptors, now) {
                        return self.end_relay(offence, now);
                    }
                }
                // Its process descriptor tells the rest.
                Ok(Incoming::Nothing | Incoming::Closed) => return,
                Err(_) => return self.end_relay("it sent what is no message", now),
            }
        }
        // There may be more, of which no event will tell.
        self.relay_has_more = true;
    }

    pub(super) fn obey(
        &mut self,
        message: FromRelay,
        mut descriptors: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), &'static str> {
        match message {
            FromRelay::Connection { peer, via } => self.log.write(&Event::Connection { peer, via }, now),
            FromRelay::Refused { peer, reason } => {
                self.log.write(&Event::Refused { peer, reason, count: 1 }, now);
            }
            FromRelay::Open { id, peer, fields } => {
                if self.sessions.contains_key(&id) {
                    return Err("it asked for the same session twice");
                }
                // A relay counts from where it was told to; far from there it made the id up.
                if !(self.relay_ids.start..self.relay_ids.start + RELAY_IDS).contains(&id.0) {
                    return Err("it made up an id");
                }
                self.relay_ids.end = self.relay_ids.end.max(id.0 + 1);
                match self.open_session(descriptors.pop(), fields, now) {
                    Ok((session, leader)) => self.enter(id, session, leader, now),
                    Err(refusal) => {
                        let peer = refusal.peer.unwrap_or(peer);
                        self.log.write(&Event::Refused { peer, reason: refusal.reason, count: 1 }, now);
                        self.tell_relay(&ToRelay::Refused(id, refusal.message), Vec::new());
                    }
                }
            }
            FromRelay::Closed { id, cause, bytes_in, bytes_out } => {
                self.note_cause(id, cause, now);
                self.close_session(id, (bytes_in, bytes_out), now)
            }
        }
        Ok(())
    }

    pub(super) fn enter(&mut self, id: ConnectionId, session: Session, leader: OwnedFd, now: Instant) {
        let registry = self.poll.registry();
        let watched = registry
            .register(
                &mut SourceFd(&session.link.as_raw_fd()),
                Watched::SessionLink(id).token(),
                Interest::READABLE,
            )
            .and_then(|()| {
                registry.register(
                    &mut SourceFd(&session.process.as_raw_fd()),
                    Watched::SessionProcess(id).token(),
                    Interest::READABLE,
                )
            });
        if let Err(error) = watched {
            let reason = format!("the session cannot be watched: {error}");
            self.log.write(&Event::Refused { peer: session.peer, reason, count: 1 }, now);
            session.process.end();
            self.tell_relay(&ToRelay::Refused(id, "Try again".to_owned()), Vec::new());
            return;
        }
        self.sessions.insert(id, session);
        self.tell_relay(&ToRelay::Opened(id), vec![leader]);
    }

    pub(super) fn tell_relay(&mut self, message: &ToRelay, descriptors: Vec<OwnedFd>) {
        if let Some((process, link)) = &mut self.relay
            && let Err(error) = link.send(message, descriptors)
            && !is_leaving(&error)
        {
            // As good as dead: its process descriptor brings the rest about.
            process.kill();
        }
    }

    pub(super) fn end_relay(&mut self, offence: &str, now: Instant) {
        if let Some((process, _)) = &self.relay {
            self.log.write(&Event::Warning { text: format!("the relay is ended: {offence}") }, now);
            process.kill();
        }
    }

    /// The relay has ended. Its sessions end with it; another one takes its place.
    pub(super) fn bury_relay(&mut self, now: Instant) {
        // What it said last is heard first.
        self.hear_relay(now);
        while std::mem::take(&mut self.relay_has_more) {
            self.hear_relay(now);
        }
        let Some((process, link)) = &self.relay else { return };
        let Ok(Some(end)) = process.try_wait() else { return };
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&process.as_raw_fd()));
        self.relay = None;
        self.relay_has_more = false;
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, (0, 0), now);
        }
        if self.only_connection {
            if end != End::Exited(0) {
                let text = format!("the relay ended ({end:?}) before its connection was over");
                self.log.write(&Event::Warning { text }, now);
            }
            // Its one connection is closed, in order or not; the session has its time.
            self.stopping.get_or_insert(("the connection is closed".to_owned(), now + HANG_UP_GRACE));
        }
        if self.stopping.is_none() {
            let text =
                format!("the relay ended ({end:?}) and took its sessions with it; another one is started");
            self.log.write(&Event::Warning { text }, now);
            self.relay_again = Some(now + RELAY_PAUSE);
        }
    }
}

/// Whether the relay has closed its end: it exits by itself, and how is its own word.
fn is_leaving(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
