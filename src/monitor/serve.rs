//! The monitor's loop: who said what, what is due, what is over.

use super::session::Stage;
use super::*;
use crate::audit::event::LoginEvent;
use crate::ipc::{CloseCause, Services};
use crate::records::{self, Sitting};

/// Messages taken from one process in one turn.
const MESSAGES: usize = 64;

impl Monitor {
    pub(super) fn new(options: Options, parts: RelayParts, log: Log) -> Result<Monitor, Error> {
        Monitor::begin(options, parts, log).map_err(|error| Error(format!("cannot start: {error}")))
    }

    fn begin(options: Options, parts: RelayParts, log: Log) -> io::Result<Monitor> {
        let Options { config, source, config_path, listen_is_fixed, .. } = options;
        let poll = Poll::new()?;
        let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
        let signals = process::receive_signals(&signals)?;
        poll.registry().register(
            &mut SourceFd(&signals.as_raw_fd()),
            Watched::Signals.token(),
            Interest::READABLE,
        )?;
        let shared = Shared { config: config.clone(), source: source.clone() }.store()?;
        let descriptors = process::raise_descriptor_limit()?;
        let (relay, relay_again, stopping) = (None, None, None);
        let sessions = HashMap::new();
        let only_connection = false;
        let mut monitor = Monitor {
            config,
            source,
            config_path,
            listen_is_fixed,
            shared,
            descriptors,
            log,
            poll,
            signals,
            parts,
            relay,
            relay_again,
            sessions,
            only_connection,
            stopping,
        };
        monitor.start_relay()?;
        Ok(monitor)
    }

    /// Serves; returns why it ended.
    pub(super) fn serve(&mut self) -> Result<String, Error> {
        self.run().map_err(|error| Error(format!("cannot go on: {error}")))
    }

    fn run(&mut self) -> io::Result<String> {
        let mut events = Events::with_capacity(256);
        loop {
            if let Some((cause, _)) = &self.stopping
                && self.sessions.is_empty()
            {
                return Ok(cause.clone());
            }
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            for event in &events {
                match Watched::of(event.token()) {
                    Watched::Signals => self.hear_signals(now),
                    Watched::RelayLink => self.hear_relay(now),
                    Watched::RelayProcess => self.bury_relay(now),
                    Watched::SessionLink(id) => self.hear_session(id, now),
                    Watched::SessionProcess(id) => self.bury_session(id, now),
                }
            }
            self.expire(now);
        }
    }

    fn patience(&self) -> Option<Duration> {
        let sessions = self.sessions.values().filter_map(|session| session.deadline);
        let others = [self.log.retry_at(), self.relay_again, self.stopping.as_ref().map(|(_, time)| *time)];
        let next = sessions.chain(others.into_iter().flatten()).min()?;
        // One more millisecond: poll rounds down, and would find nothing due.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn expire(&mut self, now: Instant) {
        if self.log.retry_at().is_some_and(|time| time <= now) {
            self.log.retry(now);
        }
        if self.relay_again.is_some_and(|time| time <= now) {
            self.relay_again = None;
            if let Err(error) = self.start_relay() {
                let text = format!("no relay can be started: {error}; trying again");
                self.log.write(&Event::Warning { text }, now);
                self.relay_again = Some(now + RELAY_PAUSE * 5);
            }
        }
        for session in self.sessions.values_mut() {
            if session.deadline.is_some_and(|time| time <= now) {
                session.deadline = None;
                session.process.kill();
            }
        }
        if let Some((_, latest)) = &self.stopping
            && *latest <= now
        {
            // The relay cannot report any more; what it would say is unknown.
            for id in self.sessions.keys().copied().collect::<Vec<_>>() {
                self.close_session(id, (0, 0), now);
                self.end_process(id, now);
            }
        }
    }

    pub(super) fn start_relay(&mut self) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let process = Process::start_role(RELAY_ROLE, theirs)?;
        let mut link = RelayLink::new(ours);
        link.set_nonblocking()?;
        let setup = RelaySetup {
            scratch: self.parts.scratch.clone(),
            uid: self.parts.account.uid,
            gid: self.parts.account.gid,
            limits: (&self.config.limits).into(),
            doors: self.parts.listeners.iter().map(|listener| listener.via).collect(),
            services: Services { names: self.config.tcpmux.services.clone(), help: self.config.tcpmux.help },
        };
        let listeners = self
            .parts
            .listeners
            .iter()
            .map(|listener| listener.socket.try_clone())
            .collect::<Result<Vec<_>, _>>()?;
        link.send(&ToRelay::Setup(setup), listeners)?;
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::RelayLink.token(), both)?;
        registry.register(
            &mut SourceFd(&process.as_raw_fd()),
            Watched::RelayProcess.token(),
            Interest::READABLE,
        )?;
        self.relay = Some((process, link));
        Ok(())
    }

    fn hear_signals(&mut self, now: Instant) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                // A single connection keeps what it began with, flags and all.
                Ok(Signal::SIGHUP) if self.only_connection => {}
                Ok(Signal::SIGHUP) => self.reload(now),
                Ok(signal) => self.stop(signal.as_str(), now),
                Err(_) => {}
            }
        }
    }

    /// Reads the configuration again. A bad one changes nothing.
    fn reload(&mut self, now: Instant) {
        service::reloading();
        let event = match self.read_again(now) {
            Ok(source) => {
                let limits = ToRelay::Limits((&self.config.limits).into());
                self.tell_relay(&limits, Vec::new());
                Event::ConfigRead { path: source }
            }
            Err(error) => Event::ConfigRefused { path: self.source.clone(), error },
        };
        self.log.write(&event, now);
        service::ready(&self.parts.listeners);
    }

    fn read_again(&mut self, now: Instant) -> Result<String, String> {
        let loaded = config::load_default_or(self.config_path.as_deref());
        let (mut config, source) = loaded.map_err(|error| error.to_string())?;
        let source = source.to_string();
        let (service, warning) = pam_service(&config.login.pam_service).map_err(|error| error.to_string())?;
        config.login.pam_service = service;
        // The sockets are open and the relay has its account.
        if config.listen != self.config.listen && !self.listen_is_fixed || config.user != self.config.user {
            let text = "a changed listen or user counts from the next start on".to_owned();
            self.log.write(&Event::Warning { text }, now);
        }
        config.listen.clone_from(&self.config.listen);
        config.user.clone_from(&self.config.user);
        let shared = Shared { config: config.clone(), source: source.clone() };
        self.shared = shared.store().map_err(|error| error.to_string())?;
        self.config = config;
        self.source.clone_from(&source);
        if let Some(text) = warning {
            self.log.write(&Event::Warning { text }, now);
        }
        Ok(source)
    }

    fn stop(&mut self, cause: &str, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        service::stopping(cause);
        self.stopping = Some((cause.to_owned(), now + STOP_GRACE));
        self.parts.listeners.clear();
        self.tell_relay(&ToRelay::Stop, Vec::new());
        for session in self.sessions.values_mut() {
            let _ = session.link.send(&ToSession::HangUp, Vec::new());
        }
    }

    fn hear_relay(&mut self, now: Instant) {
        if let Some((_, link)) = &mut self.relay
            && link.flush().is_err()
        {
            return self.end_relay("it does not read", now);
        }
        loop {
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
    }

    fn obey(
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
            FromRelay::Open { id, via, fields } => {
                let (Some(client), true) = (descriptors.pop(), descriptors.is_empty()) else {
                    return Err("it asked for a session without a socket");
                };
                if self.sessions.contains_key(&id) {
                    return Err("it asked for the same session twice");
                }
                match self.open_session(client, via, fields, now) {
                    Ok((session, leader)) => self.enter(id, session, leader, now),
                    Err(refusal) => {
                        let event = match refusal.peer {
                            Some(peer) => Event::Refused { peer, reason: refusal.reason, count: 1 },
                            None => Event::Warning { text: refusal.reason },
                        };
                        self.log.write(&event, now);
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

    fn enter(&mut self, id: ConnectionId, session: Session, leader: OwnedFd, now: Instant) {
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
            && link.send(message, descriptors).is_err()
        {
            // Dead, or as good as dead: its process descriptor brings the rest about.
            process.kill();
        }
    }

    fn end_relay(&mut self, offence: &str, now: Instant) {
        if let Some((process, _)) = &self.relay {
            self.log.write(&Event::Warning { text: format!("the relay is ended: {offence}") }, now);
            process.kill();
        }
    }

    /// The relay has ended. Its sessions end with it; another one takes its place.
    fn bury_relay(&mut self, now: Instant) {
        // What it said last is heard first.
        self.hear_relay(now);
        let Some((process, link)) = &self.relay else { return };
        let Ok(Some(end)) = process.try_wait() else { return };
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&process.as_raw_fd()));
        self.relay = None;
        for id in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.close_session(id, (0, 0), now);
        }
        if self.only_connection {
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

    fn hear_session(&mut self, id: ConnectionId, now: Instant) {
        for _ in 0..MESSAGES {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            let offence = match session.link.receive() {
                Ok(Incoming::Message(FromSession::Event(event), _)) => match session.note(&event, now) {
                    Ok(()) => {
                        let (peer, tty) = (session.peer, session.tty.clone());
                        self.log.write(&Event::Login { peer, tty, event }, now);
                        continue;
                    }
                    Err(offence) => offence,
                },
                Ok(Incoming::Message(FromSession::Finished(end), _)) => {
                    if session.finished.replace(end).is_none() {
                        continue;
                    }
                    "it finished twice"
                }
                Ok(Incoming::Nothing | Incoming::Closed) => return,
                Err(_) => "it sent what is no message",
            };
            session.process.kill();
            self.log.write(&Event::Warning { text: format!("a session process is ended: {offence}") }, now);
            return;
        }
    }

    /// Says why a session is hung up, where the log would not show it otherwise.
    fn note_cause(&mut self, id: ConnectionId, cause: CloseCause, now: Instant) {
        let Some(Session { peer, tty, stage: Stage::Open { user, .. }, .. }) = self.sessions.get(&id) else {
            return;
        };
        let text = match cause {
            CloseCause::Ended | CloseCause::ClientLeft => return,
            CloseCause::Idle => "nothing came or went for the idle time: hung up".to_owned(),
            CloseCause::Stuck => "the client did not take the last output: given up".to_owned(),
        };
        let event = LoginEvent::Trouble { user: user.clone(), text };
        self.log.write(&Event::Login { peer: *peer, tty: tty.clone(), event }, now);
    }

    /// The relay has closed the connection, so nobody sits at the terminal any more.
    fn close_session(&mut self, id: ConnectionId, bytes: (u64, u64), now: Instant) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.closed.is_none() {
            session.closed = Some(bytes);
        }
        session.ends = None;
        if session.ended.is_none() {
            let _ = session.link.send(&ToSession::HangUp, Vec::new());
            session.deadline = Some(now + HANG_UP_GRACE);
        }
        self.forget_if_over(id, now);
    }

    fn bury_session(&mut self, id: ConnectionId, now: Instant) {
        // What it said last is heard first.
        self.hear_session(id, now);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.ended.is_some() {
            return;
        }
        let Ok(Some(end)) = session.process.try_wait() else { return };
        session.ended = Some((now, end));
        session.deadline = None;
        session.ends = None;
        if let (Stage::Open { user, .. }, None) = (&session.stage, session.finished) {
            // It was killed and could not close the records itself.
            let sitting = Sitting {
                line: &session.tty,
                user,
                host: "",
                address: session.peer.ip(),
                pid: session.process.id(),
            };
            records::logout(self.config.audit.records, &sitting, records::now());
        }
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&session.link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&session.process.as_raw_fd()));
        self.tell_relay(&ToRelay::Ended(id), Vec::new());
        self.forget_if_over(id, now);
    }

    /// At the end of the daemon's patience.
    fn end_process(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.remove(&id) {
            let mut session = session;
            session.ended = Some((now, process::End::Signaled(Signal::SIGKILL as i32)));
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            session.process.end();
        }
    }

    fn forget_if_over(&mut self, id: ConnectionId, now: Instant) {
        if let Some(session) = self.sessions.get(&id)
            && session.is_over()
        {
            if let Some(event) = session.epitaph() {
                self.log.write(&event, now);
            }
            self.sessions.remove(&id);
        }
    }
}
