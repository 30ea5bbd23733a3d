//! The monitor's loop: who said what, what is due, what is over.

use super::session::Stage;
use super::*;
use crate::config::Source;

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
        let (only_connection, relay_has_more, relay_ids, clerks) = (false, false, 1..1, Vec::new());
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
            relay_has_more,
            relay_ids,
            clerks,
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
            if let Some((cause, latest)) = &self.stopping
                && self.sessions.is_empty()
                && (self.clerks.is_empty() || *latest + CLERK_GRACE <= Instant::now())
            {
                return Ok(cause.clone());
            }
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            if std::mem::take(&mut self.relay_has_more) {
                self.hear_relay(now);
            }
            for event in &events {
                match Watched::of(event.token()) {
                    Watched::Signals => self.hear_signals(now),
                    Watched::RelayLink => self.hear_relay(now),
                    Watched::RelayProcess => self.bury_relay(now),
                    Watched::Clerk => self.bury_clerks(now),
                    Watched::SessionLink(id) => self.hear_session(id, now),
                    Watched::SessionProcess(id) => self.bury_session(id, now),
                }
            }
            self.expire(now);
        }
    }

    fn patience(&self) -> Option<Duration> {
        if self.relay_has_more {
            return Some(Duration::ZERO);
        }
        let sessions = self.sessions.values().filter_map(|session| session.deadline);
        let others = [
            self.log.retry_at(),
            self.relay_again,
            self.stopping
                .as_ref()
                .map(|(_, time)| if self.sessions.is_empty() { *time + CLERK_GRACE } else { *time }),
        ];
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
                match (&session.stage, session.finished) {
                    // A shell that still runs may be left running.
                    (Stage::Open { .. }, None) => session.process.kill(),
                    // A PAM module may hang in a program of its own.
                    (Stage::LoggingIn { .. }, _) | (_, Some(_)) => session.process.kill_with_descendants(),
                }
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

    fn hear_signals(&mut self, now: Instant) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                // A single connection keeps what it began with, flags and all.
                Ok(Signal::SIGHUP) if self.only_connection || self.stopping.is_some() => {}
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
        if source == Source::BuiltIn && self.source != source.to_string() {
            // Its rules would silently be gone.
            return Err("the file is not there any more".to_owned());
        }
        let source = source.to_string();
        let (service, warning) = pam_service(&config.login.pam_service).map_err(|error| error.to_string())?;
        config.login.pam_service = service;
        // The sockets are open and the relay has its account.
        let fixed = |config: &Config| (config.user.clone(), config.control.clone(), config.tcpmux.clone());
        let facility = config.audit.facility != self.config.audit.facility;
        if (config.listen != self.config.listen && !self.listen_is_fixed)
            || fixed(&config) != fixed(&self.config)
            || facility
        {
            let text =
                "changes of listen, user, control, [tcpmux] and audit.facility count from the next start on";
            let text = text.to_owned();
            self.log.write(&Event::Warning { text }, now);
        }
        config.listen.clone_from(&self.config.listen);
        (config.user, config.control, config.tcpmux) = fixed(&self.config);
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
}
