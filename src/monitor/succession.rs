//! One relay after another: starting it, telling it of every session that lives, and
//! having the old one hand back what it knew.
//!
//! ```text
//! start ──▶ Setup ──Ready──┬─ no other relay ──────────────────────────────▶ steps ──▶ serves
//!                          └─ HandBack to the old one ──HandedBack──▶ it goes ──▶ steps
//! ```
//! What a new relay has to be told stands in the table of sessions, so it is the same after
//! a crash; only the file with the old relay's buffers is missing then.

use std::collections::BTreeSet;

use super::control::ReloadStage;
use super::deadline::Deadline;
use super::watchdog::Suspect;
use super::*;
use crate::ipc::{RelaySetup, Services};
use crate::sys::memory_file;
use crate::sys::process::End;
use crate::sys::watchdog::Watchdog;

/// How long a relay may take until it is ready, and to read what it is told: each of these is a [`Deadline`], and
/// longer on a slow machine.
pub(super) const READY_TIME: Duration = Duration::from_secs(5);
/// How long a relay may take to hand back what it knows.
const HAND_BACK_TIME: Duration = Duration::from_secs(3);
/// How long a relay that has closed its link may take to end.
const LEAVE_TIME: Duration = Duration::from_secs(3);
/// A relay that lived longer has not failed at once.
const LIVED: Duration = Duration::from_secs(1);
/// Pause behind the second relay in a row that failed at once; doubled for each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How many turns it takes at most to hear what a relay had said before it ended: a link has
/// room for fewer messages.
const LAST_TURNS: u32 = 4;
/// The most connections of one relay. Tokens are made of ids, so they must not wrap
/// even after more relays than there will ever be.
const RELAY_IDS: u64 = 1 << 36;

/// A relay, and what it may do.
#[derive(Debug)]
pub(super) struct RelayProcess {
    pub(super) process: Process,
    pub(super) link: RelayLink,
    started: Instant,
    /// Until when it has to be ready.
    ready_by: Deadline,
    /// It is in its cage.
    ready: bool,
    /// It did what its state does not permit, and is not listened to any more.
    pub(super) killed: bool,
    /// What it has to do until then.
    pub(super) due: Option<(Deadline, &'static str)>,
    /// The ids it may make.
    ids: Range<u64>,
    /// The ids made by others that it may still ask a session for.
    pub(super) carried: BTreeSet<ConnectionId>,
    /// How it is noticed that it hangs.
    pub(super) watchdog: Watchdog,
    /// When to look whether the turn has ended that it was in when it spoke of it.
    pub(super) look: Option<Instant>,
    /// It may hang.
    pub(super) suspect: Option<Suspect>,
    /// Why it cannot start, by its own word.
    reason: Option<String>,
}

impl RelayProcess {
    /// It has closed its link: its process descriptor tells the rest, if it really ends.
    pub(super) fn note_leaving(&mut self, now: Instant) {
        self.must(LEAVE_TIME, "it closed its link, and goes on", now);
    }

    /// It has to do something in this time, or is given up for that reason; no later than it had to before.
    pub(super) fn must(&mut self, time: Duration, violation: &'static str, now: Instant) {
        if self.due.is_none() {
            self.due = Some((Deadline::new(&self.process, time, now), violation));
        }
    }

    /// Whether it may ask for a session by that name; once only if it did not make it.
    pub(super) fn may_open(&mut self, id: ConnectionId) -> bool {
        self.ids.contains(&id.0) || self.carried.remove(&id)
    }

    /// Whether a connection by that name may be handed back: no later relay may have to make that name.
    pub(super) fn may_carry(&self, id: ConnectionId) -> bool {
        id.0 < self.ids.end
    }
}

/// What relays have left behind for the next one.
#[derive(Debug, Default)]
pub(super) struct Estate {
    /// The state of all connections.
    pub(super) file: Option<OwnedFd>,
    /// The sockets of those that have no session.
    pub(super) carried: Vec<(ConnectionId, OwnedFd)>,
    /// Answers for which there was nobody.
    pub(super) refusals: Vec<(ConnectionId, String)>,
}

/// The relay has been told to hand back.
#[derive(Debug)]
pub(super) struct Handing {
    deadline: Deadline,
    file: OwnedFd,
}

impl Monitor {
    /// Starts a relay, which takes over as soon as it is ready.
    pub(super) fn start_relay(&mut self, now: Instant) -> io::Result<()> {
        self.advance_reloads(ReloadStage::Applied, ReloadStage::Starting);
        let (ours, theirs) = Channel::pair()?;
        let process = Process::start_role(&mut self.launcher, &self.image, RELAY_ROLE, theirs)?;
        let ids = self.next_ids..self.next_ids + RELAY_IDS;
        match self.set_up(&process, RelayLink::new(ours), ids.start) {
            Ok((link, watchdog)) => {
                self.next_ids = ids.end;
                let ready_by = Deadline::new(&process, READY_TIME, now);
                self.next = Some(RelayProcess {
                    process,
                    link,
                    started: now,
                    ready_by,
                    ready: false,
                    killed: false,
                    due: None,
                    ids,
                    carried: BTreeSet::new(),
                    watchdog,
                    look: None,
                    suspect: None,
                    reason: None,
                });
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
    pub(super) fn hear_next(&mut self, now: Instant) {
        let Some(next) = self.next.as_mut() else { return };
        match next.link.receive() {
            Ok(Incoming::Message(FromRelay::Ready, _)) if !next.ready => next.ready = true,
            Ok(Incoming::Message(FromRelay::CannotStart { reason }, _)) if !next.ready => {
                // Its end follows.
                next.reason = Some(reason);
                return;
            }
            Ok(Incoming::Nothing | Incoming::Closed) => return,
            Err(error) if error.kind() != io::ErrorKind::InvalidData => return self.look_again(now),
            // A relay that does not serve yet has nothing else to say.
            Ok(Incoming::Message(..)) | Err(_) => {
                return self.end_next("it said something else than that it is ready", now);
            }
        }
        match &self.relay {
            Some(_) => self.ask_back(now),
            None => self.promote(now),
        }
    }

    /// Ends the relay that is starting, without waiting for its death.
    fn end_next(&mut self, violation: &str, now: Instant) {
        let Some(next) = self.take_next() else { return };
        next.process.kill();
        self.await_end(next.process, Helper::HungRelay);
        self.go_without_next(format!("a new relay is ended: {violation}"), now);
    }

    /// A relay that was starting has gone: the old one goes on, or another one is started.
    fn go_without_next(&mut self, why: String, now: Instant) {
        if self.relay.is_some() {
            self.warn_waiting(format!("{why}; the old one goes on"), now);
            return self.serving(now);
        }
        self.warn(why, now);
        self.failures += 1;
        if self.only_connection && self.sessions.living() == 0 {
            // Its superserver may start us again; strangers must not pile us up.
            return self.leave("no relay could be started", now);
        }
        self.restart_relay(now);
    }

    /// Has the relay hand back what it knows.
    pub(super) fn ask_back(&mut self, now: Instant) {
        let begun = memory_file::create().and_then(|file| {
            let copy = file.try_clone()?;
            let Some(relay) = &mut self.relay else { return Err(io::ErrorKind::NotFound.into()) };
            relay.link.send(&ToRelay::HandBack, vec![copy])?;
            Ok(Handing { deadline: Deadline::new(&relay.process, HAND_BACK_TIME, now), file })
        });
        match begun {
            Ok(handing) => self.handing = Some(handing),
            // When it has gone the next one takes over, without what it knew.
            Err(error) if relay_side::is_leaving(&error) => {}
            Err(error) => {
                let text = format!("the relay cannot be replaced: {error}");
                if self.upgrade_is_due() {
                    // Or the old relay, which goes on serving, would be asked again and again.
                    self.no_upgrade(&text, now);
                }
                self.warn_waiting(text, now);
                self.give_up_next(now);
            }
        }
    }

    /// The relay has handed everything back.
    ///
    /// # Errors
    /// When it was not asked to.
    pub(super) fn handed_back(&mut self, now: Instant) -> Result<(), &'static str> {
        let Some(Handing { file, .. }) = self.handing.take() else { return Err("it handed back unasked") };
        if let Some(relay) = self.relay.take() {
            self.unwatch_relay(&relay);
            // It is done, and must not touch a connection any more.
            self.dispose(relay.process);
        }
        self.estate.file = Some(file);
        self.succeed(now);
        Ok(())
    }

    /// No relay is there: has the next one take over, or has one started.
    fn succeed(&mut self, now: Instant) {
        if self.upgrade_is_due() && !self.is_about_to_be_asked() {
            return self.execute_successor(now);
        }
        match &self.next {
            Some(next) if next.ready => self.promote(now),
            // It takes over when it says that it is ready.
            Some(_) => {}
            None => self.restart_relay(now),
        }
    }

    /// The next relay becomes the relay.
    fn promote(&mut self, now: Instant) {
        let Some(mut relay) = self.next.take() else { return };
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let link = relay.link.as_raw_fd();
        let process = relay.process.as_raw_fd();
        let watched =
            registry.reregister(&mut SourceFd(&link), Watched::RelayLink.token(), both).and_then(|()| {
                let token = Watched::RelayProcess.token();
                registry.reregister(&mut SourceFd(&process), token, Interest::READABLE)
            });
        if let Err(error) = watched {
            self.warn(format!("a relay cannot be watched: {error}"), now);
            self.dispose(relay.process);
            return self.restart_relay(now);
        }
        if let Some(guard) = &self.guard {
            // From here on this image changes what the state says.
            guard.ready();
        }
        self.steps = self.plan(&mut relay);
        self.relay = Some(relay);
        self.relay_again = None;
        self.take_steps(now);
    }

    /// A new relay knows all it has to.
    pub(super) fn serving(&mut self, now: Instant) {
        if std::mem::take(&mut self.announce) {
            self.tell_service_manager();
        }
        self.answer_serving();
        if std::mem::take(&mut self.ask_flow_control) {
            // After the death of a relay only the terminals know it.
            for id in self.ids() {
                if self.sessions.get(id).is_some_and(|session| !session.is_ending()) {
                    self.tell_session(id, Some(&ToSession::AskFlowControl), now);
                }
            }
        }
        if self.upgrade_is_due() {
            self.begin_upgrade(now);
        } else if std::mem::take(&mut self.replace_again) {
            self.replace_relay(now);
        } else if self.rehearsal.is_none() {
            // Asked for while another image took over.
            self.go_on_with_rehearsals(now);
        }
    }

    /// Replaces the relay by a new one, which goes on with every connection.
    pub(super) fn replace_relay(&mut self, now: Instant) {
        if self.next.is_some() || self.handing.is_some() || !self.steps.is_empty() {
            self.replace_again = true;
        } else if self.relay.is_some()
            && let Err(error) = self.start_relay(now)
        {
            self.warn_waiting(format!("the relay cannot be replaced: {error}; it goes on as it was"), now);
            self.give_up_next(now);
        }
    }

    /// There is no next relay: the old one, if there is one, goes on.
    fn give_up_next(&mut self, now: Instant) {
        if let Some(next) = self.take_next() {
            self.dispose(next.process);
        }
        if self.relay.is_some() {
            self.serving(now);
        }
    }

    /// Takes the next relay out of the loop's sight.
    pub(super) fn take_next(&mut self) -> Option<RelayProcess> {
        let next = self.next.take()?;
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&next.link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&next.process.as_raw_fd()));
        Some(next)
    }

    /// A relay that was starting has ended.
    pub(super) fn bury_next(&mut self, now: Instant) {
        let Some(next) = &self.next else { return };
        let Ok(Some(end)) = next.process.try_wait() else { return };
        // What it said last is heard first.
        self.hear_next(now);
        // Its number may belong to another process by now: no signal any more.
        let reason = self.take_next().and_then(|next| next.reason);
        let reason = reason.map_or_else(|| format!("it {end}"), |reason| format!("it {end}: {reason}"));
        self.go_without_next(format!("a new relay ended before it was ready ({reason})"), now);
    }

    /// The relay has ended by itself. Its sessions live on with the next one.
    pub(super) fn bury_relay(&mut self, now: Instant) {
        // What it said last is heard first; no more than that, whoever else may hold its end.
        self.hear_relay(now);
        for _ in 0..LAST_TURNS {
            if std::mem::take(&mut self.relay_has_more) {
                self.hear_relay(now);
            }
        }
        let Some(relay) = &self.relay else { return };
        let Ok(Some(end)) = relay.process.try_wait() else { return };
        let lived = now.saturating_duration_since(relay.started);
        drop(self.take_relay());
        let living = self.sessions.values().filter(|session| session.closed.is_none()).count();
        if end == End::Exited(0) && (self.only_connection || self.leaving.is_some()) && living == 0 {
            // Its last connection is closed, in order.
            if self.only_connection {
                self.leave("the connection is closed", now);
            }
            return;
        }
        if self.only_connection && living == 0 {
            self.warn(format!("the relay {end}, before its connection was over"), now);
            return self.leave("the connection is closed", now);
        }
        if self.stop_time().is_some() {
            return self.close_all(now);
        }
        self.replace_lost_relay(&format!("the relay {end}"), lived, living, now);
    }

    /// Gives the relay up that serves, without waiting for its death: it is killed, and another one goes on with
    /// its sessions. What it says from now on is not heard.
    pub(super) fn lose_relay(&mut self, violation: &str, now: Instant) {
        let Some(relay) = self.take_relay() else { return };
        let lived = now.saturating_duration_since(relay.started);
        relay.process.kill();
        self.await_end(relay.process, Helper::HungRelay);
        let living = self.sessions.values().filter(|session| session.closed.is_none()).count();
        if self.only_connection && living == 0 {
            self.warn(format!("the relay is ended: {violation}"), now);
            return self.leave("the connection is closed", now);
        }
        if self.stop_time().is_some() {
            return self.close_all(now);
        }
        self.replace_lost_relay(&format!("the relay is ended: {violation}"), lived, living, now);
    }

    /// Takes the relay out of the loop's sight, with all that hangs on it.
    fn take_relay(&mut self) -> Option<RelayProcess> {
        let relay = self.relay.take()?;
        self.unwatch_relay(&relay);
        self.relay_has_more = false;
        self.steps.clear();
        // Whatever it has written is not known to be whole.
        self.handing = None;
        self.estate = Estate::default();
        Some(relay)
    }

    fn unwatch_relay(&self, relay: &RelayProcess) {
        for fd in [relay.link.as_raw_fd(), relay.process.as_raw_fd()] {
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    fn replace_lost_relay(&mut self, what: &str, lived: Duration, living: usize, now: Instant) {
        self.totals.relay_restarts += 1;
        self.failures = if lived < LIVED { self.failures + 1 } else { 0 };
        let pause = self.pause();
        let again = if self.failures > 1 {
            format!(
                ", the {}th in a row at once; the next one starts in {} ms",
                self.failures,
                pause.as_millis()
            )
        } else {
            String::new()
        };
        self.warn(format!("{what}{again}; another one goes on with its {living} sessions"), now);
        self.ask_flow_control = true;
        self.succeed(now);
    }

    fn pause(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            failures => (FIRST_PAUSE * 2_u32.saturating_pow(failures - 2)).min(LONGEST_PAUSE),
        }
    }

    /// Has a relay started, at once or behind a pause.
    pub(super) fn restart_relay(&mut self, now: Instant) {
        let pause = self.pause();
        if pause.is_zero() { self.try_to_start_relay(now) } else { self.relay_again = Some(now + pause) }
    }

    fn try_to_start_relay(&mut self, now: Instant) {
        if let Err(error) = self.start_relay(now) {
            self.failures += 1;
            self.warn(format!("no relay can be started: {error}; trying again"), now);
            self.relay_again = Some(now + self.pause().max(FIRST_PAUSE));
        }
    }

    /// When something of a succession is due.
    pub(super) fn succession_due(&self) -> Option<Instant> {
        let next = self.next.as_ref().filter(|next| !next.ready);
        let next = next.map(|next| next.ready_by.look);
        let due = self.relay.as_ref().and_then(|relay| relay.due);
        [
            self.relay_again,
            next,
            due.map(|(deadline, _)| deadline.look),
            self.handing.as_ref().map(|handing| handing.deadline.look),
            self.suspect_due(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due.
    pub(super) fn expire_succession(&mut self, now: Instant) {
        if self.relay_again.is_some_and(|time| time <= now) {
            self.relay_again = None;
            self.try_to_start_relay(now);
        }
        if let Some(next) = &mut self.next
            && !next.ready
            && !next.killed
            && next.ready_by.is_over(&next.process, now)
        {
            self.end_next("it does not become ready", now);
        }
        if let Some(RelayProcess { due: Some((deadline, violation)), process, .. }) = &mut self.relay
            && deadline.is_over(process, now)
        {
            let violation = *violation;
            self.lose_relay(violation, now);
        }
        self.expire_suspect(now);
        if let (Some(handing), Some(relay)) = (&mut self.handing, &self.relay)
            && handing.deadline.is_over(&relay.process, now)
        {
            // What it holds is lost, but not its sessions.
            self.lose_relay("it does not hand back what it knows", now);
        }
    }
}
