//! How the daemon ends: at once, or when the last user has gone.

use super::*;
use crate::sys::process::End;

impl Monitor {
    /// Ends the daemon: hangs up all sessions, and gives them some seconds.
    pub(super) fn stop(&mut self, cause: &str, now: Instant) {
        if self.stop_time().is_some() {
            return;
        }
        service::stopping(cause);
        // Another image would not know that it has to end.
        drop(self.end_rehearsal());
        self.leave(cause, now);
        for id in self.ids() {
            self.tell_session(id, Some(&ToSession::HangUp), now);
        }
        if self.relay.is_none() && self.next.is_none() {
            // None comes any more that could say so.
            self.close_all(now);
        }
    }

    /// Lets nobody in any more, and ends the daemon when the last user has gone.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.log.write(&Event::Draining { sessions: self.sessions.len() }, now);
        service::draining(self.sessions.len());
        self.close_doors("drained", None);
    }

    /// Ends the daemon within its time, without a word to the sessions.
    pub(super) fn leave(&mut self, cause: &str, now: Instant) {
        self.close_doors(cause, Some(now + STOP_GRACE));
    }

    fn close_doors(&mut self, cause: &str, stop: Option<Instant>) {
        self.leaving = Some(Leaving { cause: cause.to_owned(), stop, empty: None });
        self.parts.listeners.clear();
        self.tell_relay(&ToRelay::Stop, Vec::new());
    }

    /// Until when all sessions have to be gone, when the daemon is told to end.
    pub(super) fn stop_time(&self) -> Option<Instant> {
        self.leaving.as_ref().and_then(|leaving| leaving.stop)
    }

    /// Why the daemon ended, when it has come to that.
    pub(super) fn farewell(&mut self, now: Instant) -> Option<String> {
        let leaving = self.leaving.as_mut()?;
        if !self.sessions.is_empty() {
            leaving.empty = None;
            return None;
        }
        let empty = *leaving.empty.get_or_insert(now);
        let others = !self.helpers.is_empty() || self.relay.is_some();
        (!others || empty + LAST_GRACE <= now).then(|| leaving.cause.clone())
    }

    /// When the end of the daemon has to be looked at.
    pub(super) fn farewell_due(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref()?;
        leaving.empty.map(|empty| empty + LAST_GRACE).or(leaving.stop)
    }

    /// Ends what has not ended in its time.
    pub(super) fn expire_stop(&mut self, now: Instant) {
        if self.stop_time().is_some_and(|latest| latest <= now) {
            // The relay cannot report any more; what it would say is unknown.
            for id in self.ids() {
                self.close_session(id, (0, 0), now);
                self.end_process(id, now);
            }
        }
    }

    /// No relay carries the sessions any more.
    pub(super) fn close_all(&mut self, now: Instant) {
        for id in self.ids() {
            self.close_session(id, (0, 0), now);
        }
    }

    pub(super) fn ids(&self) -> Vec<ConnectionId> {
        self.sessions.ids()
    }

    /// Waits for a process's end, and for nothing else of it.
    pub(super) fn await_end(&mut self, process: Process, helper: Helper) {
        let token = Watched::Helper.token();
        let registry = self.poll.registry();
        let fd = process.as_raw_fd();
        let _ = registry.deregister(&mut SourceFd(&fd));
        // If it cannot be watched, it is found when the next one ends.
        let _ = registry.register(&mut SourceFd(&fd), token, Interest::READABLE);
        self.helpers.push((process, helper));
    }

    pub(super) fn bury_helpers(&mut self, now: Instant) {
        for (process, mut helper) in std::mem::take(&mut self.helpers) {
            let outcome = process.try_wait();
            if let Ok(None) = outcome {
                self.helpers.push((process, helper));
                continue;
            }
            let _ = self.poll.registry().deregister(&mut SourceFd(&process.as_raw_fd()));
            let told = match &mut helper {
                Helper::Relay => continue,
                Helper::Records(link) => link.as_mut().map(SessionLink::receive),
            };
            match (outcome, told) {
                (
                    Ok(Some(End::Exited(0))),
                    Some(Ok(Incoming::Message(FromSession::StaleClosed(count), _))),
                ) => {
                    let text =
                        format!("sessions that were killed had left their records open: closed {count}");
                    self.warn(text, now);
                }
                (Ok(Some(End::Exited(0))), _) => {}
                (Ok(Some(end)), _) => {
                    self.warn(
                        format!("the records of a session may stay open: the records worker {end}"),
                        now,
                    );
                }
                (Ok(None), _) => {}
                (Err(error), _) => {
                    let text = format!(
                        "the records of a session may stay open: waiting for the records worker: {error}"
                    );
                    self.warn(text, now);
                }
            }
        }
    }
}
