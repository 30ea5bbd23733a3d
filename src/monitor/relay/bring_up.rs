//! What a new relay is told before it serves: every connection that lives, and the doors.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::Inheritance;
use super::messages::is_leaving;
use super::process::{READY_TIME, RelayProcess};
use super::supervisor::Event;
use crate::ipc::{ConnectionId, Greeting, Resumed, ToRelay, Traffic};
use crate::monitor::sessions::Stage;
use crate::monitor::{Monitor, service};
use crate::sys::socket;

/// What a new relay is told, one message each.
#[derive(Debug)]
pub(super) enum BringUpMessage {
    Inherit(OwnedFd),
    Resume(ConnectionId),
    Carried(ConnectionId, OwnedFd),
    Refused(ConnectionId, String),
    Adopt(Greeting, OwnedFd),
    Limits,
    Listen,
}

impl Monitor {
    /// What this relay has to be told, in this order.
    pub(super) fn plan_bring_up(&mut self, relay: &mut RelayProcess) -> VecDeque<BringUpMessage> {
        use BringUpMessage as Message;
        let Inheritance { file, carried, refusals } = std::mem::take(&mut self.relays.inheritance);
        relay.carried = carried.iter().map(|(id, _)| *id).collect();
        let sessions = self.sessions.iter().filter(|(_, session)| session.life.is_connected());
        let mut living: Vec<ConnectionId> = sessions.map(|(id, _)| id).collect();
        living.sort_unstable();
        let carried = carried.into_iter().filter(|(id, _)| living.binary_search(id).is_err());
        file.map(Message::Inherit)
            .into_iter()
            .chain(living.iter().copied().map(Message::Resume))
            .chain(carried.map(|(id, socket)| Message::Carried(id, socket)))
            .chain(refusals.into_iter().map(|(id, text)| Message::Refused(id, text)))
            .chain(self.only_client.take().map(|(greeting, client)| Message::Adopt(greeting, client)))
            .chain([Message::Limits, Message::Listen])
            .collect()
    }

    /// Tells a new relay what it has to know, as far as it reads.
    pub(super) fn continue_bring_up(&mut self, now: Instant) {
        while let Some(message) = self.relays.bring_up.pop_front() {
            match self.tell_new_relay(&message) {
                Ok(true) => self.relays.current.iter_mut().for_each(|relay| relay.due = None),
                Ok(false) => {
                    // Or it could never be replaced, and what waits for it stays open.
                    if let Some(relay) = &mut self.relays.current {
                        relay.must(READY_TIME, "it does not read", now);
                    }
                    return self.relays.bring_up.push_front(message);
                }
                // Its process descriptor brings the rest about.
                Err(error) if is_leaving(&error) => return self.relays.bring_up.clear(),
                Err(_) => {
                    self.relays.bring_up.push_front(message);
                    return self.look_again(now);
                }
            }
            if self.relays.bring_up.is_empty() {
                self.supervise(Event::BroughtUp, now);
            }
        }
    }

    /// Tells the service manager how things are.
    pub(in crate::monitor) fn tell_service_manager(&self) {
        match &self.leaving {
            None => service::ready(&self.parts.listeners),
            Some(_) => service::draining(self.sessions.living()),
        }
    }

    fn tell_new_relay(&mut self, message: &BringUpMessage) -> io::Result<bool> {
        use BringUpMessage as Message;
        let Some(RelayProcess { link, .. }) = &mut self.relays.current else { return Ok(true) };
        match message {
            Message::Inherit(file) => link.try_send(&ToRelay::Inherit, &[file.as_fd()]),
            Message::Resume(id) => {
                // It may have come to its end meanwhile.
                let Some(session) = self.sessions.get(*id).filter(|session| session.life.is_connected())
                else {
                    return Ok(true);
                };
                let (Some(leader), Some(client)) = (&session.leader, &session.client) else {
                    return Ok(true);
                };
                let socket::Traffic { read, written } = session.moved();
                let resumed = Resumed {
                    id: *id,
                    // The zero byte is the first.
                    answered: written > 0,
                    traffic: Traffic { bytes_in: read, bytes_out: written.saturating_sub(1) },
                    logged_in: matches!(session.stage, Stage::Open { .. }),
                    ended: session.life.shell().is_some() || !session.life.has_process() || session.killed,
                };
                link.try_send(&ToRelay::Resume(resumed), &[client.as_fd(), leader.as_fd()])
            }
            Message::Carried(id, socket) => {
                let traffic = Traffic::default();
                let resumed = Resumed { id: *id, answered: false, traffic, logged_in: false, ended: false };
                link.try_send(&ToRelay::Resume(resumed), &[socket.as_fd()])
            }
            Message::Refused(id, text) => link.try_send(&ToRelay::Refused(*id, text.clone()), &[]),
            Message::Adopt(greeting, client) => link.try_send(&ToRelay::Adopt(*greeting), &[client.as_fd()]),
            Message::Limits => link.try_send(&ToRelay::Limits((&self.config).into()), &[]),
            Message::Listen if self.leaving.is_some() => link.try_send(&ToRelay::Stop, &[]),
            Message::Listen if self.only_connection => Ok(true),
            Message::Listen => {
                let doors = self.parts.listeners.iter().map(|listener| listener.via).collect();
                let sockets: Vec<_> =
                    self.parts.listeners.iter().map(|listener| listener.socket.as_fd()).collect();
                link.try_send(&ToRelay::Listen(doors), &sockets)
            }
        }
    }
}
