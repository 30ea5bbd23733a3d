//! Reading the configuration again. A bad one changes nothing, and nobody waits for it.

use super::control::ReloadStage;
use super::rehearsal::{Purpose, Rehearsed, Settings, read_settings};
use super::*;

impl Monitor {
    /// Reads the configuration again, and has a relay begin anew with it that goes on with every connection. The
    /// outcome comes later: the log knows it, and the commands that wait for it.
    pub(super) fn reload(&mut self, now: Instant) {
        if self.rehearsal.is_some() || self.upgrade_is_due() {
            self.reload_again = true;
            return;
        }
        self.advance_reloads(ReloadStage::Asked, ReloadStage::Rehearsed);
        service::reloading();
        // A process of its own, as the file may be anywhere, and names anybody's.
        let started =
            self.image.try_clone().and_then(|image| self.start_rehearsal(Purpose::Reload, image, now));
        if let Err(error) = started {
            self.finish_reload(Err(error.to_string()), now);
        }
    }

    /// The configuration was read, or cannot be used.
    pub(super) fn finish_reload(&mut self, outcome: Result<Rehearsed, String>, now: Instant) {
        let outcome = outcome.and_then(|rehearsed| {
            let Rehearsed { settings, opened, control, .. } = rehearsed;
            // It is this image's and complete, whatever becomes of the rest.
            if let Some(control) = control {
                self.replace_control(control);
            }
            let settings = read_settings(settings).map_err(|error| error.to_string())?;
            let listeners = self.chosen_listeners(&settings.shared.config, opened)?;
            let shared = settings.shared.store().map_err(|error| error.to_string())?;
            self.apply(settings, shared, listeners, now);
            Ok(())
        });
        if let Err(error) = outcome {
            let path = self.source.clone();
            self.log.write(&Event::ConfigRefused { path, error: error.clone(), count: 1 }, now);
            // Unless it has yet to be told for the first time.
            if !self.announce {
                self.tell_service_manager();
            }
            self.answer_no_reload(&error);
        }
        // Now an upgrade, if one was asked for, then another reload: neither can keep the other from its turn.
        if self.upgrade.take_again() {
            self.rehearse_upgrade(now);
        }
        self.go_on_with_rehearsals(now);
    }

    /// The listeners that a configuration asks for, of those that are open and those just opened.
    fn chosen_listeners(&self, config: &Config, opened: Vec<Listener>) -> Result<Vec<Listener>, String> {
        let mut all = self.same_listeners().map_err(|error| error.to_string())?;
        all.extend(opened);
        if !self.activated && self.leaving.is_none() {
            all = startup::choose(config, all);
        }
        Ok(all)
    }

    fn same_listeners(&self) -> io::Result<Vec<Listener>> {
        let copy = |listener: &Listener| {
            let socket = listener.socket.try_clone()?;
            Ok(Listener { socket, via: listener.via, address: listener.address })
        };
        self.parts.listeners.iter().map(copy).collect()
    }

    fn apply(&mut self, settings: Settings, shared: OwnedFd, listeners: Vec<Listener>, now: Instant) {
        let Settings { shared: Shared { config, source }, account, warnings } = settings;
        self.log.set_facility(&config.audit.facility);
        self.log.write(&Event::ConfigRead { path: source.clone(), count: 1 }, now);
        // Who came by a port that is closed now is a client all the same.
        let ports = listeners.iter().map(|listener| listener.address.port());
        let ports: Vec<u16> = ports.filter(|port| !self.parts.ports.contains(port)).collect();
        self.parts.ports.extend(ports);
        (self.parts.account, self.parts.listeners) = (account, listeners);
        (self.config, self.source, self.shared) = (config, source, shared);
        for text in &warnings {
            self.warn_of_command(text.clone(), now);
        }
        self.control.notes = warnings;
        self.announce = true;
        self.advance_reloads(ReloadStage::Rehearsed, ReloadStage::Applied);
        // Whoever is let in before the new relay serves is let in by the new limits.
        self.tell_relay(&ToRelay::Limits((&self.config).into()), Vec::new());
        self.supervise(supervisor::Event::ReplaceWanted, now);
    }
}
