//! The monitor's side of the session processes: what they report, and how each of
//! them is accounted for exactly once.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

use mio::Interest;
use mio::unix::SourceFd;
use nix::sys::signal::Signal;

use super::{LifeCycle, Session, Stage};
use crate::audit::event::{EndedBy, Event, LoginEvent};
use crate::ipc::{CloseCause, ConnectionId, FromSession, Incoming, ToRelay, ToSession};
use crate::monitor::spare::Closes;
use crate::monitor::{DEATH_GRACE, HANG_UP_GRACE, LAST_WAIT, Monitor, Watched, control};
use crate::sys::process;
use crate::wire::window::WindowSize;

impl Monitor {
    pub(in crate::monitor) fn hear_session(&mut self, id: ConnectionId, now: Instant) {
        // It sends few, and one at a time.
        loop {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let violation = match session.link.receive() {
                Ok(Incoming::Message(FromSession::Event(event), _)) => match session.note(&event, now) {
                    Ok(()) => {
                        self.note_login(id, event, now);
                        continue;
                    }
                    Err(violation) => violation,
                },
                Ok(Incoming::Message(FromSession::Finished(end), _)) => {
                    match session.life.end_shell(now, end) {
                        Ok(()) => {
                            self.tell_relay(&ToRelay::Ended(id), Vec::new());
                            continue;
                        }
                        Err(violation) => violation,
                    }
                }
                Ok(Incoming::Message(FromSession::Shown(trouble), _)) => {
                    let (notice, number) = (session.notices.pop_front(), session.number);
                    self.notice_answered(notice, number, trouble);
                    continue;
                }
                Ok(Incoming::Message(FromSession::Resized, _)) => {
                    self.tell_relay(&ToRelay::Resized(id), Vec::new());
                    continue;
                }
                Ok(Incoming::Message(FromSession::Looked(unread), _)) => {
                    self.tell_relay(&ToRelay::Looked(id, unread), Vec::new());
                    continue;
                }
                Ok(Incoming::Message(FromSession::FlowControl(who), _)) => {
                    // A relay that hands back does not pass it on.
                    self.relays.ask_flow_control |= self.relays.is_handing_back();
                    self.tell_relay(&ToRelay::FlowControl(id, who), Vec::new());
                    continue;
                }
                Ok(Incoming::Message(FromSession::ModuleLine { severity, text }, _)) => {
                    // Until then whoever connects has modules log, as often as he likes.
                    let logging_in = matches!(session.stage, Stage::LoggingIn { .. });
                    let (process, stranger) = (session.process.id(), logging_in.then_some(session.peer));
                    self.log.write_module_line(process, stranger, severity, &text, now);
                    continue;
                }
                Ok(Incoming::Message(FromSession::RegistryFailed(why), _)) => {
                    self.registry_failed(&why, now);
                    continue;
                }
                Ok(Incoming::Message(FromSession::RecordsPending(pending), _)) => {
                    self.records_are_pending(pending, now);
                    continue;
                }
                Ok(Incoming::Message(
                    FromSession::StaleClosed(_) | FromSession::RecordsBusy | FromSession::RecordsFailed(_),
                    _,
                )) => "it is no records worker",
                Ok(Incoming::Nothing | Incoming::Closed) => return,
                Err(error) if error.kind() != io::ErrorKind::InvalidData => return self.look_again(now),
                Err(_) => "it sent what is no message",
            };
            session.end_by(EndedBy::Violation);
            session.process.kill();
            self.log.write(&Event::Warning { text: format!("a session process is ended: {violation}") }, now);
            return;
        }
    }

    /// What happens to a login, which the session may say.
    fn note_login(&mut self, id: ConnectionId, event: LoginEvent, now: Instant) {
        if let LoginEvent::Opened { user, .. } = &event {
            let name_hash = self.name_hash(user.as_bytes());
            self.sessions.get_mut(id).into_iter().for_each(|session| session.name_hash = name_hash);
            self.sessions.set_deadline(id, None);
            self.tell_relay(&ToRelay::LoggedIn(id), Vec::new());
        }
        control::count_login(&mut self.totals, &event);
        let Some(Session { peer, tty, by, .. }) = self.sessions.get(id) else { return };
        let event = match (event, by) {
            // To its process every hang-up is the client's.
            (LoginEvent::Abandoned { .. }, Some(by)) => LoginEvent::Abandoned { reason: by.reason() },
            (event, _) => event,
        };
        self.log.write(&Event::Login { peer: *peer, tty: tty.clone(), event, count: 1 }, now);
    }

    /// The relay closes the connection: notes who ends the session with that, and says why it is hung up where
    /// the log would not show it otherwise.
    pub(in crate::monitor) fn note_cause(&mut self, id: ConnectionId, cause: CloseCause, now: Instant) {
        if let Some(session) = self.sessions.get_mut(id)
            && let Some(by) = ended_by(cause)
        {
            session.end_by(by);
        }
        let Some(Session { peer, tty, stage: Stage::Open { user, .. }, .. }) = self.sessions.get(id) else {
            return;
        };
        let text = match cause {
            CloseCause::Ended
            | CloseCause::ClientLeft
            | CloseCause::Abandoned
            | CloseCause::GaveWay
            | CloseCause::Silent => return,
            CloseCause::Idle => "nothing came or went for the idle time: hung up".to_owned(),
            CloseCause::Shortage => "no descriptor or memory was left for it: hung up".to_owned(),
        };
        let event = LoginEvent::Trouble { user: user.clone(), text };
        self.log.write(&Event::Login { peer: *peer, tty: tty.clone(), event, count: 1 }, now);
    }

    /// The relay has closed the connection, so nobody sits at the terminal any more.
    pub(in crate::monitor) fn close_session(&mut self, id: ConnectionId, bytes: (u64, u64), now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !session.life.is_connected() {
            // Said again, it must not put off the deadline.
            return;
        }
        session.life.close(bytes);
        let session_is_known = session.authenticated;
        session.client = None;
        if session.life.has_process() && !session.killed {
            // A login's own deadline is not put off.
            let deadline = self.sessions.deadline(id).into_iter().chain([now + HANG_UP_GRACE]).min();
            self.sessions.set_deadline(id, deadline);
            if !session_is_known {
                self.sessions.depart(id).into_iter().for_each(|oldest| self.end_departing(oldest, now));
            }
        }
        self.serve_session(id, now);
        self.forget_if_over(id, now);
    }

    /// Sends a session's process a message, and what waits already.
    pub(in crate::monitor) fn tell_session(
        &mut self,
        id: ConnectionId,
        message: Option<&ToSession>,
        now: Instant,
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if let Some(message) = message {
            // One that is gone hears nothing any more; its process descriptor tells.
            let _ = session.link.send(message, Vec::new());
        }
        self.serve_session(id, now);
    }

    /// The client's window has another size: of many only the last one counts.
    pub(in crate::monitor) fn pass_on_size(&mut self, id: ConnectionId, size: WindowSize, now: Instant) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.size = Some(size);
            self.serve_session(id, now);
        }
    }

    /// The relay asks whether the terminal holds unread input: however often, one question waits at most.
    pub(in crate::monitor) fn pass_on_look(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.look = true;
            self.serve_session(id, now);
        }
    }

    /// Tells a session's process what it has not been told yet, as far as it reads.
    pub(in crate::monitor) fn serve_session(&mut self, id: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let _ = session.link.flush();
        if let Some(size) = session.size
            && !matches!(session.link.try_send(&ToSession::WindowSize(size), &[]), Ok(false))
        {
            session.size = None;
        }
        if session.look {
            session.look = matches!(session.link.try_send(&ToSession::LookForUnread, &[]), Ok(false));
        }
        let closed = !session.life.is_connected();
        if closed {
            self.release_terminal(id);
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        if closed && session.leader.is_none() && !session.released {
            // Ours is closed by now, or the process might close its own before us.
            session.released = !matches!(session.link.try_send(&ToSession::Released, &[]), Ok(false));
        }
        let waits = session.link.waiting() > 0
            || session.size.is_some()
            || session.look
            || (closed && !session.released);
        if session.life.has_process() && waits {
            self.watch_for_room(id, now);
        }
    }

    /// Relay and client have gone: gives the terminal's leader to a process that can be spared. The kernel hangs a
    /// terminal up when its last leader closes, and that waits for whoever reads or writes the terminal.
    fn release_terminal(&mut self, id: ConnectionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(leader) = session.leader.take() else { return };
        if session.life.has_process() {
            match session.link.try_send(&ToSession::Leader, &[leader.as_fd()]) {
                // It arrives there, or is closed with the process's end of the link; ours is not the last one.
                Ok(true) => return,
                Ok(false) => {
                    session.leader = Some(leader);
                    return;
                }
                // It has just ended.
                Err(_) => {}
            }
        }
        // One that no user ever had is closed here.
        if session.authenticated {
            self.close_elsewhere(Closes::Terminals, vec![leader]);
        }
    }

    /// Has the loop told when a session's process has room for what waits for it.
    fn watch_for_room(&mut self, id: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get(id) else { return };
        let (link, token) = (session.link.as_raw_fd(), Watched::SessionLink(session.slot.value()).token());
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().reregister(&mut SourceFd(&link), token, both).is_err() {
            self.look_again(now);
        }
    }

    pub(in crate::monitor) fn bury_session(&mut self, id: ConnectionId, now: Instant) {
        // What it said last is heard first.
        self.hear_session(id, now);
        let Some(session) = self.sessions.get_mut(id) else { return };
        if !session.life.has_process() {
            return;
        }
        let Ok(Some(end)) = session.process.try_wait() else { return };
        session.life.end_process(now, end);
        let (notices, number) = (std::mem::take(&mut session.notices), session.number);
        let killed = session.killed_session();
        let (stage, whose) = (session.stage.clone(), (session.peer, session.tty.clone()));
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&session.link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&session.process.as_raw_fd()));
        self.sessions.set_deadline(id, None);
        self.tell_relay(&ToRelay::Ended(id), Vec::new());
        for notice in notices {
            self.notice_answered(Some(notice), number, Some(control::ENDING.to_owned()));
        }
        self.serve_session(id, now);
        if let Some(killed) = killed {
            // Of one whose status nobody knows, nothing is said.
            if let Stage::Open { user, .. } = stage
                && end != process::End::Unknown
            {
                let text =
                    "the session process was ended before it had closed PAM and the records".to_owned();
                let (peer, tty) = whose;
                let event = LoginEvent::Trouble { user, text };
                self.log.write(&Event::Login { peer, tty, event, count: 1 }, now);
            }
            // On its way to the shell, it may have recorded the login already.
            self.close_records_of(killed, now);
        }
        self.forget_if_over(id, now);
    }

    /// At the end of the daemon's patience.
    pub(in crate::monitor) fn end_process(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.remove(id) {
            let mut session = session;
            session.life.end_process(now, process::End::Signaled(Signal::SIGKILL as i32));
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            match session.process.as_fd().try_clone_to_owned() {
                Ok(process) => self.end_family(session.process.id(), process),
                Err(_) => session.process.kill(),
            }
            // The records worker takes one that lives for one that closes its records itself.
            session.process.wait_for(LAST_WAIT);
            let killed = session.killed_session();
            self.close_elsewhere(Closes::Terminals, session.leader.take().into_iter().collect());
            if let Some(killed) = killed {
                self.close_records_of(killed, now);
            }
        }
    }

    /// A session has come to its deadline: kills its process, with all that it has started unless that may be
    /// left running. A client that is still there is told: it does not wait for a process that hangs.
    pub(in crate::monitor) fn expire_session(&mut self, id: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.killed {
            // The process that was to do it may wait itself.
            session.process.kill();
            return self.give_process_up(id, now);
        }
        let starting = matches!(session.stage, Stage::LoggingIn { .. });
        if starting {
            session.end_by(EndedBy::LoginTime);
        }
        session.killed = true;
        let closed = !session.life.is_connected();
        let (number, process) = (session.process.id(), session.process.as_fd().try_clone_to_owned());
        match (&session.stage, session.life.shell(), process) {
            // A PAM module may hang in a program of its own.
            (Stage::LoggingIn { .. }, _, Ok(process)) | (_, Some(_), Ok(process)) => {
                self.end_family(number, process);
            }
            // A shell that still runs may be left running.
            (Stage::Open { .. }, None, _) | (_, _, Err(_)) => session.process.kill(),
        }
        self.sessions.set_deadline(id, Some(now + DEATH_GRACE));
        // Its place is free at once: what waits in the kernel may take long to die.
        self.sessions.set_stuck(id);
        if starting && !closed {
            self.tell_relay(&ToRelay::Close(id, "Login timed out".to_owned()), Vec::new());
        }
        self.tell_relay(&ToRelay::Ended(id), Vec::new());
    }

    /// One of too many processes whose clients have left without logging in.
    fn end_departing(&mut self, id: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.killed = true;
        // Without a process that looks for its descendants: it would cost as much as another login.
        session.process.kill();
        self.sessions.set_deadline(id, Some(now + DEATH_GRACE));
        self.sessions.set_stuck(id);
        self.tell_relay(&ToRelay::Ended(id), Vec::new());
    }

    /// A process that was killed does not end: it waits in the kernel for a file system or a terminal.
    fn give_process_up(&mut self, id: ConnectionId, now: Instant) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.unkillable = true;
        let pid = session.process.id();
        let text = format!(
            "the session process {pid} on {} was killed and does not end: it waits in the kernel, for a file system \
             or a terminal; it counts against no limit but its user's",
            session.tty
        );
        let closed = !session.life.is_connected();
        // Known already, unless another image killed it.
        self.sessions.set_stuck(id);
        self.warn(text, now);
        if !closed {
            self.tell_relay(&ToRelay::Close(id, "The session hangs".to_owned()), Vec::new());
        }
    }

    pub(in crate::monitor) fn forget_if_over(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.get(id)
            && matches!(session.life, LifeCycle::Over(..))
        {
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            if let (Stage::Open { .. }, Some((bytes_in, bytes_out))) = (&session.stage, session.life.closed())
            {
                // The relay's word, and it may say anything.
                self.totals.bytes_in = self.totals.bytes_in.saturating_add(bytes_in);
                self.totals.bytes_out = self.totals.bytes_out.saturating_add(bytes_out);
            }
            self.sessions.remove(id);
        }
    }
}

/// Who ends a session whose connection the relay closes for this.
fn ended_by(cause: CloseCause) -> Option<EndedBy> {
    match cause {
        CloseCause::ClientLeft => Some(EndedBy::Client),
        CloseCause::Silent => Some(EndedBy::Silence),
        CloseCause::Idle => Some(EndedBy::Idle),
        CloseCause::Shortage => Some(EndedBy::Shortage),
        CloseCause::GaveWay => Some(EndedBy::Startups),
        // The session's own end, or known to the monitor.
        CloseCause::Ended | CloseCause::Abandoned => None,
    }
}
