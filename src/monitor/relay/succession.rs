//! One relay after another: starting it, having the old one hand back what it knew, and ending it.
//!
//! What a new relay has to be told stands in the table of sessions, so it is the same after a crash; only the file
//! with the old relay's buffers is missing then.

use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::Interest;
use mio::unix::SourceFd;

use super::messages::is_leaving;
use super::process::RelayProcess;
use super::supervisor::{Event, State};
use super::{Inheritance, PendingHandover};
use crate::ipc::{FromRelay, Incoming, RelayLink, RelaySetup, Services, ToRelay, ToSession};
use crate::monitor::control::ReloadStage;
use crate::monitor::deadline::Deadline;
use crate::monitor::{DEATH_GRACE, Helper, Monitor, RELAY_ROLE, Watched};
use crate::sys::channel::Channel;
use crate::sys::memory_file;
use crate::sys::process::{End, Process};
use crate::sys::watchdog::Watchdog;

/// How long a relay may take to hand back what it knows.
const HAND_BACK_TIME: Duration = Duration::from_secs(3);
/// How many turns it takes at most to hear what a relay had said before it ended: a link has
/// room for fewer messages.
const LAST_TURNS: u32 = 4;
/// The most connections of one relay. Tokens are made of ids, so they must not wrap
/// even after more relays than there will ever be.
const RELAY_IDS: u64 = 1 << 36;

impl Monitor {
    /// Starts the first relay.
    ///
    /// # Errors
    /// There is none, and the daemon cannot start.
    pub(in crate::monitor) fn start_first_relay(&mut self, now: Instant) -> io::Result<()> {
        // It is all that the supervisor asks for then.
        let _ = self.relays.supervisor.handle(Event::Begin, &self.circumstances());
        self.start_relay(now)
    }

    pub(super) fn try_to_start_relay(&mut self, now: Instant) {
        let Err(error) = self.start_relay(now) else { return };
        if self.relays.current.is_some() {
            self.warn_waiting(format!("the relay cannot be replaced: {error}; it goes on as it was"), now);
        } else {
            self.warn(format!("no relay can be started: {error}; trying again"), now);
        }
        self.supervise(Event::StartFailed, now);
    }

    /// Starts a relay, which takes over as soon as it is ready.
    fn start_relay(&mut self, now: Instant) -> io::Result<()> {
        self.advance_reloads(ReloadStage::Applied, ReloadStage::Starting);
        let (ours, theirs) = Channel::pair()?;
        let process = Process::start_role(&mut self.launcher, &self.image, RELAY_ROLE, theirs)?;
        let ids = self.relays.next_ids..self.relays.next_ids + RELAY_IDS;
        match self.set_up(&process, RelayLink::new(ours), ids.start) {
            Ok((link, watchdog)) => {
                self.relays.next_ids = ids.end;
                self.relays.next = Some(RelayProcess::new(process, link, watchdog, ids, now));
                Ok(())
            }
            Err(error) => {
                self.dispose(process);
                Err(error)
            }
        }
    }

    fn set_up(
        &self,
        process: &Process,
        mut link: RelayLink,
        first_id: u64,
    ) -> io::Result<(RelayLink, Watchdog)> {
        link.set_nonblocking()?;
        let setup = RelaySetup {
            uid: self.parts.account.uid,
            gid: self.parts.account.gid,
            first_id,
            limits: (&self.config).into(),
            services: Services { names: self.config.tcpmux.services.clone(), help: self.config.tcpmux.help },
            single: self.only_connection,
        };
        let (watchdog, memory) = Watchdog::new()?;
        link.send(&ToRelay::Setup(setup), vec![self.parts.root.try_clone()?, memory])?;
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::NextLink.token(), both)?;
        let token = Watched::NextProcess.token();
        registry.register(&mut SourceFd(&process.as_raw_fd()), token, Interest::READABLE)?;
        Ok((link, watchdog))
    }

    /// What a relay that is starting says.
    pub(in crate::monitor) fn hear_next(&mut self, now: Instant) {
        let Some(next) = self.relays.next.as_mut() else { return };
        match next.link.receive() {
            Ok(Incoming::Message(FromRelay::Ready, _)) if !next.ready => {
                next.ready = true;
                self.supervise(Event::NextReady, now);
            }
            // Its end follows.
            Ok(Incoming::Message(FromRelay::CannotStart { reason }, _)) if !next.ready => {
                next.reason = Some(reason);
            }
            Ok(Incoming::Nothing | Incoming::Closed) => {}
            Err(error) if error.kind() != io::ErrorKind::InvalidData => self.look_again(now),
            // A relay that does not serve yet has nothing else to say.
            Ok(Incoming::Message(..)) | Err(_) => {
                self.end_next("it said something else than that it is ready", now);
            }
        }
    }

    /// Ends the relay that is starting, without waiting for its death.
    fn end_next(&mut self, violation: &str, now: Instant) {
        let Some(next) = self.take_next() else { return };
        next.process.kill();
        self.await_end(next.process, Helper::HungRelay);
        self.next_failed(format!("a new relay is ended: {violation}"), now);
    }

    /// A relay that was starting has ended.
    pub(in crate::monitor) fn bury_next(&mut self, now: Instant) {
        let Some(next) = &self.relays.next else { return };
        let Ok(Some(end)) = next.process.try_wait() else { return };
        let id = next.process.id();
        // What it said last is heard first.
        self.hear_next(now);
        if self.relays.next.as_ref().is_none_or(|next| next.process.id() != id) {
            // That ended it, or made it the relay.
            return;
        }
        // Its number may belong to another process by now: no signal any more.
        let reason = self.take_next().and_then(|next| next.reason);
        let reason = reason.map_or_else(|| format!("it {end}"), |reason| format!("it {end}: {reason}"));
        self.next_failed(format!("a new relay ended before it was ready ({reason})"), now);
    }

    fn next_failed(&mut self, why: String, now: Instant) {
        if self.relays.supervisor.state() == State::Replacing {
            self.warn_waiting(format!("{why}; the old one goes on"), now);
        } else {
            self.warn(why, now);
        }
        self.supervise(Event::NextFailed, now);
    }

    /// Has the relay hand back what it knows.
    pub(super) fn ask_back(&mut self, now: Instant) {
        let begun = memory_file::create().and_then(|file| {
            let copy = file.try_clone()?;
            let Some(relay) = &mut self.relays.current else { return Err(io::ErrorKind::NotFound.into()) };
            relay.link.send(&ToRelay::HandBack, vec![copy])?;
            Ok(PendingHandover { deadline: Deadline::new(&relay.process, HAND_BACK_TIME, now), file })
        });
        match begun {
            Ok(handover) => self.relays.handover = Some(handover),
            // When it has gone the next one takes over, without what it knew.
            Err(error) if is_leaving(&error) => {}
            Err(error) => {
                self.relays.reason = format!("the relay cannot be replaced: {error}");
                self.warn_waiting(self.relays.reason.clone(), now);
                self.supervise(Event::AskBackFailed, now);
            }
        }
    }

    /// The relay has handed everything back.
    ///
    /// # Errors
    /// When it was not asked to.
    pub(super) fn handed_back(&mut self, now: Instant) -> Result<(), &'static str> {
        if self.relays.handover.is_none() {
            return Err("it handed back unasked");
        }
        self.supervise(Event::HandedBack, now);
        Ok(())
    }

    /// The relay is done, and must not touch a connection any more.
    pub(super) fn retire_relay(&mut self) {
        self.relays.inheritance.file = self.relays.handover.take().map(|handover| handover.file);
        if let Some(relay) = self.relays.current.take() {
            self.unwatch_relay(&relay);
            self.dispose(relay.process);
        }
    }

    /// The next relay becomes the relay.
    pub(super) fn bring_up(&mut self, now: Instant) {
        let Some(mut relay) = self.relays.next.take() else { return };
        if let Err(error) = self.watch_relay(&relay) {
            self.warn(format!("a relay cannot be watched: {error}"), now);
            self.dispose(relay.process);
            return self.supervise(Event::BringUpFailed, now);
        }
        if let Some(guard) = &self.guard {
            // From here on this image changes what the state says.
            guard.ready();
        }
        self.relays.bring_up = self.plan_bring_up(&mut relay);
        self.relays.current = Some(relay);
        self.relays.start_at = None;
        self.continue_bring_up(now);
    }

    fn watch_relay(&self, relay: &RelayProcess) -> io::Result<()> {
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let (link, process) = (relay.link.as_raw_fd(), relay.process.as_raw_fd());
        registry.reregister(&mut SourceFd(&link), Watched::RelayLink.token(), both)?;
        let token = Watched::RelayProcess.token();
        registry.reregister(&mut SourceFd(&process), token, Interest::READABLE)
    }

    /// A relay serves that knows all it has to.
    pub(super) fn serving(&mut self, now: Instant) {
        if std::mem::take(&mut self.announce) {
            self.tell_service_manager();
        }
        self.answer_serving();
        if std::mem::take(&mut self.relays.ask_flow_control) {
            // After the death of a relay only the terminals know it.
            for id in self.ids() {
                if self.sessions.get(id).is_some_and(|session| !session.life.is_ending()) {
                    self.tell_session(id, Some(&ToSession::AskFlowControl), now);
                }
            }
        }
    }

    /// Takes the next relay out of the loop's sight.
    pub(super) fn take_next(&mut self) -> Option<RelayProcess> {
        let next = self.relays.next.take()?;
        self.unwatch_relay(&next);
        Some(next)
    }

    /// Takes the relay out of the loop's sight, with all that hangs on it.
    fn take_relay(&mut self) -> Option<RelayProcess> {
        let relay = self.relays.current.take()?;
        self.unwatch_relay(&relay);
        self.relays.has_more = false;
        self.relays.bring_up.clear();
        // Whatever it has written is not known to be whole.
        self.relays.handover = None;
        self.relays.inheritance = Inheritance::default();
        Some(relay)
    }

    fn unwatch_relay(&self, relay: &RelayProcess) {
        for fd in [relay.link.as_raw_fd(), relay.process.as_raw_fd()] {
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    /// The relay has ended by itself. Its sessions live on with the next one.
    pub(in crate::monitor) fn bury_relay(&mut self, now: Instant) {
        // What it said last is heard first; no more than that, whoever else may hold its end.
        self.hear_relay(now);
        for _ in 0..LAST_TURNS {
            if std::mem::take(&mut self.relays.has_more) {
                self.hear_relay(now);
            }
        }
        let Some(relay) = &self.relays.current else { return };
        let Ok(Some(end)) = relay.process.try_wait() else { return };
        let lived = now.saturating_duration_since(relay.started);
        drop(self.take_relay());
        self.relays.reason = format!("the relay {end}");
        self.supervise(Event::RelayEnded { lived, clean: end == End::Exited(0) }, now);
    }

    /// Gives the relay up, without waiting for its death: another one goes on with its sessions. What it says from
    /// now on is not heard.
    pub(super) fn lose_relay(&mut self, violation: &str, now: Instant) {
        let Some(relay) = &self.relays.current else { return };
        let lived = now.saturating_duration_since(relay.started);
        self.relays.reason = format!("the relay is ended: {violation}");
        self.supervise(Event::RelayHangs { lived }, now);
    }

    pub(super) fn abandon_relay(&mut self) {
        if let Some(relay) = self.take_relay() {
            relay.process.kill();
            self.await_end(relay.process, Helper::HungRelay);
        }
    }

    /// Nothing of what it has sent since is heard.
    pub(super) fn kill_relay(&mut self, now: Instant) {
        if let Some(relay) = &mut self.relays.current {
            relay.process.kill();
            relay.due = None;
            relay.must(DEATH_GRACE, "it was killed and does not end", now);
        }
    }

    pub(super) fn note_loss(&mut self, failures: u32, pause: Duration, now: Instant) {
        self.totals.relay_restarts += 1;
        let what = std::mem::take(&mut self.relays.reason);
        let again = if failures > 1 {
            format!(", the {failures}th in a row at once; the next one starts in {} ms", pause.as_millis())
        } else {
            String::new()
        };
        let living = self.circumstances().sessions;
        self.warn(format!("{what}{again}; another one goes on with its {living} sessions"), now);
        self.relays.ask_flow_control = true;
    }

    /// When something of a succession is due.
    pub(in crate::monitor) fn succession_due(&self) -> Option<Instant> {
        let next = self.relays.next.as_ref().filter(|next| !next.ready);
        let next = next.map(|next| next.ready_by.look);
        let due = self.relays.current.as_ref().and_then(|relay| relay.due);
        [
            self.relays.start_at,
            next,
            due.map(|(deadline, _)| deadline.look),
            self.relays.handover.as_ref().map(|handover| handover.deadline.look),
            self.suspect_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(in crate::monitor) fn expire_succession(&mut self, now: Instant) {
        if self.relays.start_at.take_if(|time| *time <= now).is_some() {
            self.supervise(Event::PauseOver, now);
        }
        if let Some(next) = &mut self.relays.next
            && !next.ready
            && next.ready_by.is_over(&next.process, now)
        {
            self.end_next("it does not become ready", now);
        }
        if let Some(RelayProcess { due: Some((deadline, violation)), process, .. }) = &mut self.relays.current
            && deadline.is_over(process, now)
        {
            let violation = *violation;
            self.lose_relay(violation, now);
        }
        self.expire_suspect(now);
        if let (Some(handover), Some(relay)) = (&mut self.relays.handover, &self.relays.current)
            && handover.deadline.is_over(&relay.process, now)
        {
            // What it holds is lost, but not its sessions.
            self.lose_relay("it does not hand back what it knows", now);
        }
    }
}
