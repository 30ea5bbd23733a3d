//! How the daemon ends: at once, or when the last user has gone.

use super::*;
use crate::audit::event::EndedBy;

impl Monitor {
    /// Ends the daemon: hangs up all sessions, and gives them some seconds.
    pub(super) fn stop(&mut self, cause: &str, now: Instant) {
        if self.stop_time().is_some() {
            return;
        }
        service::stopping(cause);
        // Another image would not know that it has to end.
        drop(self.end_rehearsal());
        self.forget_successor();
        self.answer_stopping();
        self.leave(cause, now);
        for id in self.ids() {
            self.sessions.get_mut(id).into_iter().for_each(|session| session.end_by(EndedBy::Stop));
            self.tell_session(id, Some(&ToSession::HangUp), now);
        }
        self.supervise(supervisor::Event::Stop, now);
    }

    /// Lets nobody in any more, and ends the daemon when the last user has gone.
    pub(super) fn drain(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        self.log.write(&Event::Draining { sessions: self.sessions.living() }, now);
        service::draining(self.sessions.living());
        self.close_doors("drained", None);
    }

    /// Ends the daemon within its time, without a word to the sessions.
    pub(super) fn leave(&mut self, cause: &str, now: Instant) {
        self.dismiss_guard();
        self.close_doors(cause, Some(now + STOP_GRACE));
    }

    fn close_doors(&mut self, cause: &str, stop: Option<Instant>) {
        self.leaving = Some(Leaving { cause: cause.to_owned(), stop, empty: None });
        self.parts.listeners.clear();
        self.upgrade.close_opened();
        self.tell_relay(&ToRelay::Stop, Vec::new());
    }

    /// The daemon ends because it is to: nothing is to be taken back.
    fn dismiss_guard(&self) {
        if let Some(guard) = &self.guard {
            guard.dismiss();
        }
    }

    /// Until when all sessions have to be gone, when the daemon is told to end.
    pub(super) fn stop_time(&self) -> Option<Instant> {
        self.leaving.as_ref().and_then(|leaving| leaving.stop)
    }

    /// Why the daemon ended, when it has come to that.
    pub(super) fn farewell(&mut self, now: Instant) -> Option<String> {
        let leaving = self.leaving.as_mut()?;
        // A daemon that drains waits for users who have stopped the screen, and will look at the end of the output.
        let last_output = leaving.stop.is_none() && self.relays.current.is_some();
        if self.sessions.living() > 0 || last_output {
            leaving.empty = None;
            return None;
        }
        let empty = *leaving.empty.get_or_insert(now);
        let others = self.helpers.iter().any(|(_, helper)| matches!(helper, Helper::Records(_)))
            || self.relays.current.is_some()
            // Killed, and about to end.
            || self.sessions.next_deadline().is_some();
        if others && now < empty + LAST_GRACE {
            return None;
        }
        let cause = leaving.cause.clone();
        self.dismiss_guard();
        Some(cause)
    }

    /// The last lines about those that do not end.
    pub(super) fn write_epitaphs(&mut self, now: Instant) {
        for id in self.ids() {
            if let Some(session) = self.sessions.get_mut(id) {
                session.life.end_process(now, process::End::Unknown);
                session.life.close((0, 0));
            }
            self.forget_if_over(id, now);
        }
    }

    /// When the end of the daemon has to be looked at.
    pub(super) fn farewell_due(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref()?;
        leaving.empty.map(|empty| empty + LAST_GRACE).or(leaving.stop)
    }

    /// The last thing: closes and removes what is left, without waiting for anybody.
    pub(super) fn end(mut self) {
        for relay in [self.relays.current.take(), self.relays.next.take()].into_iter().flatten() {
            // It ends when its link does; but one that hangs would keep the port.
            relay.process.kill();
        }
        if !self.only_connection {
            self.remove_files();
        }
        let ids = self.ids();
        let leaders = ids.into_iter().filter_map(|id| self.sessions.get_mut(id)?.leader.take());
        let leaders = leaders.collect();
        self.close_elsewhere(Closes::Terminals, leaders);
        // What commands have sent is closed with this process: it does not wait for a network then.
        std::mem::forget(self);
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
        self.close_ended_helpers(now);
        self.close_unclosed();
        if self.guard.take_if(|guard| guard.has_ended()).is_some() {
            self.guard_has_gone(now);
        }
    }

    fn close_ended_helpers(&mut self, now: Instant) {
        for (process, helper) in std::mem::take(&mut self.helpers) {
            let outcome = process.try_wait();
            if let Ok(None) = outcome {
                self.helpers.push((process, helper));
                continue;
            }
            let _ = self.poll.registry().deregister(&mut SourceFd(&process.as_raw_fd()));
            match helper {
                Helper::Closer(..) | Helper::HungRelay | Helper::Other => {}
                Helper::Records(link) => self.bury_records_worker(outcome, link, now),
            }
        }
    }
}
