//! What a new relay is told before it serves: every connection that lives, and the doors.

use super::relay_side::is_leaving;
use super::session::Stage;
use super::succession::READY_TIME;
use super::*;
use crate::ipc::{Resumed, Traffic};

/// What a new relay is told, one message each.
#[derive(Debug)]
pub(super) enum Step {
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
    pub(super) fn plan(&mut self, relay: &mut RelayProcess) -> VecDeque<Step> {
        let Estate { file, carried, refusals } = std::mem::take(&mut self.estate);
        relay.carried = carried.iter().map(|(id, _)| *id).collect();
        let sessions = self.sessions.iter().filter(|(_, session)| session.closed.is_none());
        let mut living: Vec<ConnectionId> = sessions.map(|(id, _)| id).collect();
        living.sort_unstable();
        let carried = carried.into_iter().filter(|(id, _)| living.binary_search(id).is_err());
        file.map(Step::Inherit)
            .into_iter()
            .chain(living.iter().copied().map(Step::Resume))
            .chain(carried.map(|(id, socket)| Step::Carried(id, socket)))
            .chain(refusals.into_iter().map(|(id, text)| Step::Refused(id, text)))
            .chain(self.only_client.take().map(|(greeting, client)| Step::Adopt(greeting, client)))
            .chain([Step::Limits, Step::Listen])
            .collect()
    }

    /// Tells a new relay what it has to know, as far as it reads.
    pub(super) fn take_steps(&mut self, now: Instant) {
        while let Some(step) = self.steps.pop_front() {
            match self.tell_step(&step) {
                Ok(true) => self.relay.iter_mut().for_each(|relay| relay.due = None),
                Ok(false) => {
                    // Or it could never be replaced, and what waits for it stays open.
                    if let Some(relay) = &mut self.relay {
                        relay.must(READY_TIME, "it does not read", now);
                    }
                    return self.steps.push_front(step);
                }
                // Its process descriptor brings the rest about.
                Err(error) if is_leaving(&error) => return self.steps.clear(),
                Err(_) => {
                    self.steps.push_front(step);
                    return self.look_again(now);
                }
            }
            if self.steps.is_empty() {
                self.serving(now);
            }
        }
    }

    /// Tells the service manager how things are.
    pub(super) fn tell_service_manager(&self) {
        match &self.leaving {
            None => service::ready(&self.parts.listeners),
            Some(_) => service::draining(self.sessions.living()),
        }
    }

    fn tell_step(&mut self, step: &Step) -> io::Result<bool> {
        let Some(RelayProcess { link, .. }) = &mut self.relay else { return Ok(true) };
        match step {
            Step::Inherit(file) => link.try_send(&ToRelay::Inherit, &[file.as_fd()]),
            Step::Resume(id) => {
                // It may have come to its end meanwhile.
                let Some(session) = self.sessions.get(*id).filter(|session| session.closed.is_none()) else {
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
                    ended: session.finished.is_some() || session.ended.is_some() || session.killed,
                };
                link.try_send(&ToRelay::Resume(resumed), &[client.as_fd(), leader.as_fd()])
            }
            Step::Carried(id, socket) => {
                let traffic = Traffic::default();
                let resumed = Resumed { id: *id, answered: false, traffic, logged_in: false, ended: false };
                link.try_send(&ToRelay::Resume(resumed), &[socket.as_fd()])
            }
            Step::Refused(id, text) => link.try_send(&ToRelay::Refused(*id, text.clone()), &[]),
            Step::Adopt(greeting, client) => link.try_send(&ToRelay::Adopt(*greeting), &[client.as_fd()]),
            Step::Limits => link.try_send(&ToRelay::Limits((&self.config).into()), &[]),
            Step::Listen if self.leaving.is_some() => link.try_send(&ToRelay::Stop, &[]),
            Step::Listen if self.only_connection => Ok(true),
            Step::Listen => {
                let doors = self.parts.listeners.iter().map(|listener| listener.via).collect();
                let sockets: Vec<_> =
                    self.parts.listeners.iter().map(|listener| listener.socket.as_fd()).collect();
                link.try_send(&ToRelay::Listen(doors), &sockets)
            }
        }
    }
}
