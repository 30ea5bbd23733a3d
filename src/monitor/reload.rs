//! Reading the configuration again. A bad one changes nothing.

use super::*;
use crate::config::Source;

/// A configuration that can be put in force, with all that it needs.
struct Prepared {
    config: Config,
    source: String,
    shared: OwnedFd,
    account: Account,
    listeners: Vec<Listener>,
    warnings: Vec<String>,
}

impl Monitor {
    /// Reads the configuration again, and has a relay begin anew with it that goes on
    /// with every connection. When that serves is another matter.
    ///
    /// # Errors
    /// What is wrong with it; the log knows already.
    pub(super) fn reload(&mut self, now: Instant) -> Result<(), String> {
        service::reloading();
        let announced = std::mem::replace(&mut self.announce, true);
        match self.read_again() {
            Ok(prepared) => {
                self.put_in_force(prepared, now);
                // Whoever is let in before the new relay serves is let in by the new limits.
                self.tell_relay(&ToRelay::Limits((&self.config).into()), Vec::new());
                self.replace_relay(now);
                Ok(())
            }
            Err(error) => {
                let path = self.source.clone();
                self.log.write(&Event::ConfigRefused { path, error: error.clone() }, now);
                // Unless it has yet to be told for the first time.
                self.announce = announced;
                if !announced {
                    self.tell_service_manager();
                }
                Err(error)
            }
        }
    }

    fn read_again(&self) -> Result<Prepared, String> {
        let loaded = config::load_default_or(self.config_path.as_deref());
        let (mut config, source) = loaded.map_err(|error| error.to_string())?;
        if source == Source::BuiltIn && self.source != source.to_string() {
            // Its rules would silently be gone.
            return Err("the file is not there any more".to_owned());
        }
        let source = source.to_string();
        let mut warnings = Vec::new();
        let (service, warning) = pam_service(&config.login.pam_service).map_err(|error| error.to_string())?;
        config.login.pam_service = service;
        warnings.extend(warning);
        let account = if config.user == self.config.user {
            // Not asked for again: a directory server that is away would hold everybody up.
            self.parts.account
        } else {
            let (account, warning) =
                startup::relay_account(&config.user).map_err(|error| error.to_string())?;
            warnings.extend(warning);
            account
        };
        if config.control.socket != self.config.control.socket {
            // The relay's scratch and the sessions' notes are beside it.
            warnings.push("a change of control.socket counts from the next start or upgrade on".to_owned());
            config.control.socket.clone_from(&self.config.control.socket);
        }
        if self.listen_is_fixed {
            config.listen.clone_from(&self.config.listen);
        }
        let listeners = self.listeners_for(&config).map_err(|error| error.to_string())?;
        let shared = Shared { config: config.clone(), source: source.clone() };
        let shared = shared.store().map_err(|error| error.to_string())?;
        Ok(Prepared { config, source, shared, account, listeners, warnings })
    }

    /// The listeners that a configuration asks for: those that are open already stay open.
    fn listeners_for(&self, config: &Config) -> Result<Vec<Listener>, Error> {
        if self.activated || self.leaving.is_some() {
            return self.same_listeners().map_err(|error| Error(error.to_string()));
        }
        startup::listen(config, &self.parts.listeners)
    }

    fn same_listeners(&self) -> io::Result<Vec<Listener>> {
        let copy = |listener: &Listener| {
            let socket = listener.socket.try_clone()?;
            Ok(Listener { socket, via: listener.via, address: listener.address })
        };
        self.parts.listeners.iter().map(copy).collect()
    }

    fn put_in_force(&mut self, prepared: Prepared, now: Instant) {
        let Prepared { config, source, shared, account, listeners, mut warnings } = prepared;
        if config.audit.facility != self.config.audit.facility {
            self.log.finish(LOG_PATIENCE / 4);
            self.log = Log::open(&config.audit.facility, Path::new(SOCKET), self.stderr);
        }
        self.log.write(&Event::ConfigRead { path: source.clone() }, now);
        // Who came by a port that is closed now is a client all the same.
        let ports = listeners.iter().map(|listener| listener.address.port());
        let ports: Vec<u16> = ports.filter(|port| !self.parts.ports.contains(port)).collect();
        self.parts.ports.extend(ports);
        (self.parts.account, self.parts.listeners) = (account, listeners);
        (self.config, self.source, self.shared) = (config, source, shared);
        warnings.extend(self.open_control());
        for text in &warnings {
            self.warn(text.clone(), now);
        }
        self.control.notes = warnings;
    }
}
