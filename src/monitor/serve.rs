//! The monitor's loop: who said what, what is due, what is over.

use nix::errno::Errno;

use super::*;

/// When it is tried again what failed for want of memory.
const SHORTAGE: Duration = Duration::from_millis(50);
/// What the monitor is told by signals.
const SIGNALS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCHLD,
];

impl Monitor {
    pub(super) fn new(
        options: Options,
        parts: RelayParts,
        log: Log,
        only_client: Option<(Greeting, OwnedFd)>,
    ) -> Result<Monitor, Error> {
        let executable = std::env::current_exe().unwrap_or_default();
        let listen = parts.listeners.iter().map(|listener| listener.address).collect();
        let begun = Monitor::begin(options, parts, log, only_client, executable).and_then(|mut monitor| {
            let now = Instant::now();
            if !monitor.only_connection {
                let version = env!("CARGO_PKG_VERSION").to_owned();
                monitor.log.write(&Event::Started { version, listen }, now);
            }
            monitor.start_first_relay(now)?;
            Ok(monitor)
        });
        begun.map_err(|error| Error(format!("cannot start: {error}")))
    }

    pub(super) fn begin(
        options: Options,
        parts: RelayParts,
        log: Log,
        only_client: Option<(Greeting, OwnedFd)>,
        executable: PathBuf,
    ) -> io::Result<Monitor> {
        let Options { config, source, arguments, .. } = options;
        let launcher = Launcher::new()?;
        let poll = Poll::new()?;
        let signals = process::receive_signals(&SIGNALS)?;
        let token = Watched::Signals.token();
        poll.registry().register(&mut SourceFd(&signals.as_raw_fd()), token, Interest::READABLE)?;
        let shared = Shared { config: config.clone(), source: source.clone() }.store()?;
        Ok(Monitor {
            config,
            source,
            activated: false,
            arguments,
            pid_file: None,
            shared,
            descriptors: process::raise_descriptor_limit()?,
            launcher,
            image: upgrade::own_image()?,
            log,
            poll,
            signals,
            parts,
            relays: Relays::default(),
            look_again_at: None,
            announce: only_client.is_none(),
            rehearsal: None,
            reload_again: false,
            upgrade: Upgrade::new(executable),
            guard: None,
            helpers: Vec::new(),
            unclosed: Vec::new(),
            records: RecordsQueue::default(),
            sessions: Sessions::default(),
            name_key: RandomState::new(),
            next_number: 1,
            control: Control::default(),
            begun: Instant::now(),
            totals: Totals::default(),
            only_connection: only_client.is_some(),
            only_client,
            leaving: None,
        })
    }

    /// Serves; returns why it ended.
    pub(super) fn serve(&mut self) -> Result<String, Error> {
        self.run().map_err(|error| Error(format!("cannot go on: {error}")))
    }

    fn run(&mut self) -> io::Result<String> {
        let mut events = Events::with_capacity(256);
        loop {
            if let Some(cause) = self.farewell(Instant::now()) {
                return Ok(cause);
            }
            match self.poll.poll(&mut events, self.patience()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = Instant::now();
            if std::mem::take(&mut self.relays.has_more) {
                self.hear_relay(now);
            }
            for event in &events {
                match Watched::of(event.token()) {
                    Watched::Signals => self.hear_signals(now),
                    Watched::RelayLink => self.hear_relay(now),
                    Watched::RelayProcess => self.bury_relay(now),
                    Watched::NextLink => self.hear_next(now),
                    Watched::NextProcess => self.bury_next(now),
                    Watched::Helper => self.bury_helpers(now),
                    Watched::Rehearsal => self.hear_rehearsal(now),
                    Watched::ControlDoor => self.hear_control_door(now),
                    Watched::ControlClient => self.hear_control(now),
                    Watched::SessionLink(number) => {
                        if let Some(id) = self.sessions.numbers().of(number) {
                            self.hear_session(id, now);
                            if event.is_writable() {
                                self.serve_session(id, now);
                            }
                        }
                    }
                    Watched::SessionProcess(number) => {
                        if let Some(id) = self.sessions.numbers().of(number) {
                            self.bury_session(id, now);
                        }
                    }
                }
            }
            self.expire(now);
        }
    }

    fn patience(&self) -> Option<Duration> {
        if self.relays.has_more {
            return Some(Duration::ZERO);
        }
        let due = [
            self.sessions.next_deadline(),
            self.log.retry_at(),
            self.look_again_at,
            self.succession_due(),
            self.rehearsal_due(),
            self.farewell_due(),
            self.control_due(),
            self.records_due(),
            self.closers_due(),
        ];
        let next = due.into_iter().flatten().min()?;
        // One more millisecond: poll rounds down, and would find nothing due.
        Some(next.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn expire(&mut self, now: Instant) {
        if self.log.retry_at().is_some_and(|time| time <= now) {
            self.log.retry(now);
        }
        self.expire_look(now);
        self.expire_succession(now);
        self.expire_rehearsal(now);
        self.expire_sessions(now);
        self.expire_control(now);
        self.expire_records(now);
        self.expire_closers(now);
        self.expire_stop(now);
    }

    fn expire_sessions(&mut self, now: Instant) {
        while let Some(id) = self.sessions.take_due(now) {
            self.expire_session(id, now);
        }
    }

    fn hear_signals(&mut self, now: Instant) {
        loop {
            let info = match self.signals.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) => return,
                Err(Errno::EINTR) => continue,
                Err(_) => return self.look_again(now),
            };
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                // A single connection keeps what it began with, flags and all.
                Ok(Signal::SIGCHLD) => self.hear_child_signal(now),
                Ok(Signal::SIGHUP | Signal::SIGUSR1 | Signal::SIGUSR2)
                    if self.only_connection || self.stop_time().is_some() => {}
                // The log says how it went.
                Ok(Signal::SIGHUP) => self.reload(now),
                Ok(Signal::SIGUSR1) => self.drain(now),
                Ok(Signal::SIGUSR2) if self.is_upgrading() => {
                    self.warn("an upgrade is on its way already".to_owned(), now);
                }
                Ok(Signal::SIGUSR2) => self.upgrade(now),
                Ok(signal) => self.stop(signal.as_str(), now),
                Err(_) => {}
            }
        }
    }

    /// The system was out of memory, or a process did not read: no event will tell of what
    /// is still to be heard or said.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.look_again_at.get_or_insert(now + SHORTAGE);
    }

    fn expire_look(&mut self, now: Instant) {
        if self.look_again_at.is_none_or(|time| now < time) {
            return;
        }
        self.look_again_at = None;
        self.hear_signals(now);
        self.hear_relay(now);
        self.hear_next(now);
        self.hear_control_door(now);
        self.hear_control(now);
        self.close_unclosed();
        for id in self.ids() {
            self.hear_session(id, now);
            self.tell_session(id, None, now);
        }
    }

    pub(super) fn warn(&mut self, text: String, now: Instant) {
        self.log.write(&Event::Warning { text }, now);
    }

    /// The same of a reload or an upgrade, which may be asked for without end.
    pub(super) fn warn_of_command(&mut self, text: String, now: Instant) {
        self.log.write(&Event::CommandWarning { text, count: 1 }, now);
    }
}
