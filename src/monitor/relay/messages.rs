//! The monitor's side of the relay: answering its requests, and what becomes of one
//! that misbehaves.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;

use super::supervisor;
use crate::audit::event::Event;
use crate::ipc::{ConnectionId, FromRelay, Incoming, ToRelay};
use crate::monitor::sessions::Session;
use crate::monitor::{KILL_GRACE, Monitor, Watched};

/// Messages taken from the relay in one turn.
const MESSAGES: usize = 256;
/// The most sockets without a session that a relay hands back.
const MOST_CARRIED: usize = 64 * 1024;

impl Monitor {
    pub(in crate::monitor) fn hear_relay(&mut self, now: Instant) {
        if let Some(relay) = &mut self.relays.current
            && let Err(error) = relay.link.flush()
            && !is_leaving(&error)
        {
            return self.end_relay("it does not read", now);
        }
        self.continue_bring_up(now);
        for _ in 0..MESSAGES {
            if self.relays.is_dying() {
                return;
            }
            let Some(relay) = &mut self.relays.current else { return };
            match relay.link.receive() {
                Ok(Incoming::Message(message, descriptors)) => {
                    if let Err(violation) = self.obey(message, descriptors, now) {
                        return self.end_relay(violation, now);
                    }
                }
                Ok(Incoming::Nothing) => return,
                Ok(Incoming::Closed) => return relay.note_leaving(now),
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return self.look_again(now),
                Err(_) => return self.end_relay("it sent what is no message", now),
            }
        }
        // There may be more, of which no event will tell.
        self.relays.has_more = true;
    }

    fn obey(
        &mut self,
        message: FromRelay,
        mut descriptors: Vec<OwnedFd>,
        now: Instant,
    ) -> Result<(), &'static str> {
        match message {
            FromRelay::Ready | FromRelay::CannotStart { .. } => return Err("it was ready already"),
            FromRelay::Working => self.expect_turn(now),
            FromRelay::WindowSize { id, size } => self.pass_on_size(id, size, now),
            FromRelay::LookForUnread(id) => self.pass_on_look(id, now),
            FromRelay::Connection { peer, via } => {
                self.totals.connections += 1;
                self.log.write(&Event::Connection { peer, via, count: 1 }, now);
            }
            FromRelay::Refused { peer, reason } => self.note_refusal(peer, reason, now),
            FromRelay::Shortage { code } => {
                let text = format!("no client can be accepted: {}", io::Error::from_raw_os_error(code));
                self.log.write(&Event::Shortage { text, count: 1 }, now);
            }
            FromRelay::Open { id, peer, fields } => {
                if self.sessions.contains(id) {
                    return Err("it asked for the same session twice");
                }
                if !self.relays.current.as_mut().is_some_and(|relay| relay.may_open(id)) {
                    return Err("it made up an id");
                }
                match self.open_session(id, descriptors.pop(), fields, now) {
                    Ok((session, leader)) => self.enter(id, session, leader, now),
                    Err(refusal) => {
                        let peer = refusal.peer.unwrap_or(peer);
                        self.note_refusal(peer, refusal.reason, now);
                        self.refuse(id, refusal.message);
                    }
                }
            }
            FromRelay::Closed { id, cause, bytes_in, bytes_out } => {
                self.note_cause(id, cause, now);
                self.close_session(id, (bytes_in, bytes_out), now);
            }
            FromRelay::Carry(id) => {
                if self.relays.handover.is_none() || self.relays.inheritance.carried.len() >= MOST_CARRIED {
                    return Err("it handed back what nobody asked for");
                }
                if !self.relays.current.as_ref().is_some_and(|relay| relay.may_carry(id)) {
                    return Err("it made up an id");
                }
                // None: we had no room for it, and the client is gone with it.
                self.relays.inheritance.carried.extend(descriptors.pop().map(|socket| (id, socket)));
            }
            FromRelay::HandedBack => return self.handed_back(now),
        }
        Ok(())
    }

    /// A client was refused before it had a session.
    fn note_refusal(&mut self, peer: SocketAddr, reason: String, now: Instant) {
        self.totals.refuse(&reason);
        self.log.write(&Event::Refused { peer, reason, count: 1 }, now);
    }

    fn enter(&mut self, id: ConnectionId, mut session: Session, leader: OwnedFd, now: Instant) {
        if let Err(error) = self.watch(&session) {
            let reason = format!("the session cannot be watched: {error}");
            self.note_refusal(session.peer, reason, now);
            self.dispose(session.process);
            self.refuse(id, "Try again".to_owned());
            return;
        }
        session.number = self.next_number;
        self.next_number += 1;
        let deadline = now + self.config.limits.login + KILL_GRACE;
        self.sessions.insert(id, session, Some(deadline));
        self.tell_relay(&ToRelay::Opened(id), vec![leader]);
    }

    /// Has the loop told of what a session's process says, and of its end.
    pub(in crate::monitor) fn watch(&self, session: &Session) -> io::Result<()> {
        let registry = self.poll.registry();
        let (link, process) = (session.link.as_raw_fd(), session.process.as_raw_fd());
        let slot = session.slot.value();
        registry.register(&mut SourceFd(&link), Watched::SessionLink(slot).token(), Interest::READABLE)?;
        registry.register(&mut SourceFd(&process), Watched::SessionProcess(slot).token(), Interest::READABLE)
    }

    fn refuse(&mut self, id: ConnectionId, text: String) {
        if self.relays.is_handing_back() {
            // Nothing else knows of it: the next relay is told. More than there may be connections no relay asks for
            // in earnest.
            if self.relays.inheritance.refusals.len() < self.config.limits.sessions as usize {
                self.relays.inheritance.refusals.push((id, text));
            }
        } else {
            self.tell_relay(&ToRelay::Refused(id, text), Vec::new());
        }
    }

    /// Tells the relay that serves. One that hands back listens to nothing any more, and
    /// the next one is told of everything that stands in the table.
    pub(in crate::monitor) fn tell_relay(&mut self, message: &ToRelay, descriptors: Vec<OwnedFd>) {
        if self.relays.is_handing_back() {
            return;
        }
        if let Some(relay) = &mut self.relays.current
            && let Err(error) = relay.link.send(message, descriptors)
            && !is_leaving(&error)
        {
            self.end_relay("it does not read", Instant::now());
        }
    }

    /// The relay did what its state does not permit: it is killed, and nothing of what it has sent is heard any more.
    pub(super) fn end_relay(&mut self, violation: &str, now: Instant) {
        if self.relays.current.is_none() || self.relays.is_dying() {
            return;
        }
        self.warn(format!("the relay is ended: {violation}"), now);
        self.supervise(supervisor::Event::Violated, now);
    }
}

/// Whether the relay has closed its end: it exits by itself, and how is its own word.
pub(super) fn is_leaving(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
