//! The monitor's side of the session processes: what they report, and how each of
//! them is accounted for exactly once.

use super::session::Stage;
use super::*;
use crate::audit::event::LoginEvent;
use crate::ipc::{CloseCause, OpenRecords, SessionLink};
use crate::sys::process::End;

impl Monitor {
    pub(super) fn hear_session(&mut self, id: ConnectionId, now: Instant) {
        // It sends few, and one at a time.
        loop {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let offence = match session.link.receive() {
                Ok(Incoming::Message(FromSession::Event(event), _)) => match session.note(&event, now) {
                    Ok(()) => {
                        let (peer, tty) = (session.peer, session.tty.clone());
                        if matches!(event, LoginEvent::Opened { .. }) {
                            self.sessions.set_deadline(id, None);
                            self.tell_relay(&ToRelay::LoggedIn(id), Vec::new());
                        }
                        control::count_login(&mut self.totals, &event);
                        self.log.write(&Event::Login { peer, tty, event }, now);
                        continue;
                    }
                    Err(offence) => offence,
                },
                Ok(Incoming::Message(FromSession::Finished(end), _)) => {
                    if session.finished.replace((now, end)).is_none() {
                        self.tell_relay(&ToRelay::Ended(id), Vec::new());
                        continue;
                    }
                    "it finished twice"
                }
                Ok(Incoming::Message(FromSession::ModuleLine { severity, text }, _)) => {
                    self.log.write_module_line(session.process.id(), severity, &text, now);
                    continue;
                }
                Ok(Incoming::Message(FromSession::StaleClosed(_), _)) => "it is no clerk",
                Ok(Incoming::Nothing | Incoming::Closed) => return,
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return self.look_again(now),
                Err(_) => "it sent what is no message",
            };
            session.process.kill();
            self.log.write(&Event::Warning { text: format!("a session process is ended: {offence}") }, now);
            return;
        }
    }

    /// Says why a session is hung up, where the log would not show it otherwise.
    pub(super) fn note_cause(&mut self, id: ConnectionId, cause: CloseCause, now: Instant) {
        let Some(Session { peer, tty, stage: Stage::Open { user, .. }, .. }) = self.sessions.get(id) else {
            return;
        };
        let text = match cause {
            CloseCause::Ended | CloseCause::ClientLeft => return,
            CloseCause::Idle => "nothing came or went for the idle time: hung up".to_owned(),
            CloseCause::Shortage => "no descriptor or memory was left for it: hung up".to_owned(),
            CloseCause::Stuck => "the client did not take the last output: given up".to_owned(),
        };
        let event = LoginEvent::Trouble { user: user.clone(), text };
        self.log.write(&Event::Login { peer: *peer, tty: tty.clone(), event }, now);
    }

    /// The relay has closed the connection, so nobody sits at the terminal any more.
    pub(super) fn close_session(&mut self, id: ConnectionId, bytes: (u64, u64), now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.closed.is_some() {
            // Said again, it must not put off the deadline.
            return;
        }
        session.closed = Some(bytes);
        session.ends = None;
        if session.ended.is_none() {
            self.sessions.set_deadline(id, Some(now + HANG_UP_GRACE));
            self.tell_session(id, Some(&ToSession::HangUp), now);
        }
        self.forget_if_over(id, now);
    }

    /// Sends a session's process a message, and what waits already.
    pub(super) fn tell_session(&mut self, id: ConnectionId, message: Option<&ToSession>, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        // One that is gone hears nothing any more; its process descriptor tells.
        let _ = session.link.flush();
        if let Some(message) = message {
            let _ = session.link.send(message, Vec::new());
        }
        if session.link.waiting() > 0 && session.ended.is_none() {
            self.look_again(now);
        }
    }

    pub(super) fn bury_session(&mut self, id: ConnectionId, now: Instant) {
        // What it said last is heard first.
        self.hear_session(id, now);
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.ended.is_some() {
            return;
        }
        let Ok(Some(end)) = session.process.try_wait() else { return };
        session.ended = Some((now, end));
        let left = session.open_records(self.config.audit.records);
        // Killed on its way to the shell, it may have recorded the login already.
        let uncertain = matches!(session.stage, Stage::LoggingIn { .. }) && end != End::Exited(0);
        let whose = (session.peer, session.tty.clone());
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&session.link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&session.process.as_raw_fd()));
        self.sessions.set_deadline(id, None);
        self.tell_relay(&ToRelay::Ended(id), Vec::new());
        if let Some(left) = left {
            let text = "the session process was ended before it had closed PAM and the records".to_owned();
            let (user, (peer, tty)) = (left.user.clone(), whose);
            self.log.write(&Event::Login { peer, tty, event: LoginEvent::Trouble { user, text } }, now);
            self.close_records(left, now);
        }
        if uncertain {
            self.close_stale_records(now);
        }
        self.forget_if_over(id, now);
    }

    /// Has the records closed that a killed session process has left open, by a
    /// process of its own: it may wait long for a lock that any user can hold.
    fn close_records(&mut self, left: OpenRecords, now: Instant) {
        if let Err(error) = self.start_clerk(&ToSession::CloseRecords(left), Vec::new()) {
            let text = format!("the records of a session stay open: {error}");
            self.log.write(&Event::Warning { text }, now);
        }
    }

    /// Has the records closed of sessions that are gone without having done it themselves: those of an earlier
    /// daemon when all of its processes were killed, and one that was killed on its way to the shell.
    pub(super) fn close_stale_records(&mut self, now: Instant) {
        let shared = self.shared.try_clone();
        let started = shared.and_then(|shared| self.start_clerk(&ToSession::CloseStale, vec![shared]));
        if let Err(error) = started {
            let text = format!("what ended sessions left open in the records stays open: {error}");
            self.log.write(&Event::Warning { text }, now);
        }
    }

    fn start_clerk(&mut self, task: &ToSession, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let mut link = SessionLink::new(ours);
        link.set_nonblocking()?;
        link.send(task, descriptors)?;
        let process = Process::start_role(&mut self.launcher, SESSION_ROLE, theirs)?;
        self.await_end(process, Helper::Records(Some(link)));
        Ok(())
    }

    /// At the end of the daemon's patience.
    pub(super) fn end_process(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.remove(id) {
            let mut session = session;
            session.ended = Some((now, process::End::Signaled(Signal::SIGKILL as i32)));
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            session.process.kill_with_descendants();
            if let Some(left) = session.open_records(self.config.audit.records) {
                self.close_records(left, now);
            }
            session.process.end();
        }
    }

    pub(super) fn forget_if_over(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.get(id)
            && session.is_over()
        {
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            if let (Stage::Open { .. }, Some((bytes_in, bytes_out))) = (&session.stage, session.closed) {
                // The relay's word, and it may say anything.
                self.totals.bytes_in = self.totals.bytes_in.saturating_add(bytes_in);
                self.totals.bytes_out = self.totals.bytes_out.saturating_add(bytes_out);
            }
            self.sessions.remove(id);
        }
    }
}
