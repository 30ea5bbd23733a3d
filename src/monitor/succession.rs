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

use super::*;
use crate::ipc::{RelaySetup, Services};
use crate::sys::memory_file;
use crate::sys::process::End;

/// How long a relay may take until it is ready.
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
    /// It is in its cage.
    ready: bool,
    /// It did what its state does not permit, and is not listened to any more.
    pub(super) condemned: bool,
    /// What it has to do until then.
    pub(super) due: Option<(Instant, &'static str)>,
    /// The ids it may make.
    ids: Range<u64>,
    /// The ids made by others that it may still ask a session for.
    pub(super) carried: BTreeSet<ConnectionId>,
}

impl RelayProcess {
    /// It has closed its link: its process descriptor tells the rest, if it really ends.
    pub(super) fn note_leaving(&mut self, now: Instant) {
        self.due.get_or_insert((now + LEAVE_TIME, "it closed its link, and goes on"));
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
    until: Instant,
    file: OwnedFd,
}

impl Monitor {
    /// Starts a relay, which takes over as soon as it is ready.
    pub(super) fn start_relay(&mut self, now: Instant) -> io::Result<()> {
        let (ours, theirs) = Channel::pair()?;
        let process = Process::start_role(&mut self.launcher, RELAY_ROLE, theirs)?;
        let ids = self.next_ids..self.next_ids + RELAY_IDS;
        match self.set_up(&process, RelayLink::new(ours), ids.start) {
            Ok(link) => {
                self.next_ids = ids.end;
                let carried = BTreeSet::new();
                let (ready, condemned, due) = (false, false, None);
                let next = RelayProcess { process, link, started: now, ready, condemned, due, ids, carried };
                self.next = Some(next);
                Ok(())
            }
            Err(error) => {
                process.end();
                Err(error)
            }
        }
    }

    fn set_up(&self, process: &Process, mut link: RelayLink, first_id: u64) -> io::Result<RelayLink> {
        link.set_nonblocking()?;
        let setup = RelaySetup {
            scratch: self.parts.scratch.clone(),
            uid: self.parts.account.uid,
            gid: self.parts.account.gid,
            first_id,
            limits: (&self.config).into(),
            services: Services { names: self.config.tcpmux.services.clone(), help: self.config.tcpmux.help },
            single: self.only_connection,
        };
        link.send(&ToRelay::Setup(setup), Vec::new())?;
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&link.as_raw_fd()), Watched::NextLink.token(), both)?;
        let token = Watched::NextProcess.token();
        registry.register(&mut SourceFd(&process.as_raw_fd()), token, Interest::READABLE)?;
        Ok(link)
    }

    /// What a relay that is starting says.
    pub(super) fn hear_next(&mut self, now: Instant) {
        let Some(next) = self.next.as_mut().filter(|next| !next.condemned) else { return };
        match next.link.receive() {
            Ok(Incoming::Message(FromRelay::Ready, _)) if !next.ready => next.ready = true,
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

    /// Ends the relay that is starting; its process descriptor brings the rest about.
    fn end_next(&mut self, offence: &str, now: Instant) {
        if let Some(next) = &mut self.next {
            next.process.kill();
            // It must not become the relay, whatever it has said before.
            (next.ready, next.condemned) = (false, true);
            self.warn(format!("a new relay is ended: {offence}"), now);
        }
    }

    /// Has the relay hand back what it knows.
    pub(super) fn ask_back(&mut self, now: Instant) {
        let begun = memory_file::create().and_then(|file| {
            let copy = file.try_clone()?;
            match &mut self.relay {
                Some(relay) => relay.link.send(&ToRelay::HandBack, vec![copy])?,
                None => return Err(io::ErrorKind::NotFound.into()),
            }
            Ok(file)
        });
        match begun {
            Ok(file) => self.handing = Some(Handing { until: now + HAND_BACK_TIME, file }),
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
        self.estate.file = Some(file);
        if let Some(relay) = self.relay.take() {
            let registry = self.poll.registry();
            let _ = registry.deregister(&mut SourceFd(&relay.link.as_raw_fd()));
            // It is done, and must not touch a connection any more.
            relay.process.kill();
            self.await_end(relay.process, Helper::Relay);
        }
        self.succeed(now);
        Ok(())
    }

    /// No relay is there: has the next one take over, or has one started.
    fn succeed(&mut self, now: Instant) {
        if self.upgrade_is_due() {
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
            relay.process.end();
            return self.restart_relay(now);
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
        if !self.replace_again {
            self.answer_serving();
        }
        if self.upgrade_is_due() {
            self.begin_upgrade(now);
        } else if std::mem::take(&mut self.replace_again) {
            self.replace_relay(now);
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
            next.process.end();
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
        // Its number may belong to another process by now: no signal any more.
        drop(self.take_next());
        if self.relay.is_some() {
            let text = format!("a new relay {end}, before it was ready; the old one goes on");
            self.warn_waiting(text, now);
            return self.serving(now);
        }
        self.warn(format!("a relay {end}, before it was ready"), now);
        self.failures += 1;
        if self.only_connection && self.sessions.is_empty() {
            // Its superserver may start us again; strangers must not pile us up.
            return self.leave("no relay could be started", now);
        }
        self.restart_relay(now);
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
        let registry = self.poll.registry();
        let _ = registry.deregister(&mut SourceFd(&relay.link.as_raw_fd()));
        let _ = registry.deregister(&mut SourceFd(&relay.process.as_raw_fd()));
        self.relay = None;
        self.relay_has_more = false;
        self.steps.clear();
        // Whatever it has written is not known to be whole.
        (self.handing, self.estate) = (None, Estate::default());
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
        self.warn(format!("the relay {end}{again}; another one goes on with its {living} sessions"), now);
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
        let next = self.next.as_ref().filter(|next| !next.ready && !next.condemned);
        let next = next.map(|next| next.started + READY_TIME);
        let due = self.relay.as_ref().filter(|relay| !relay.condemned).and_then(|relay| relay.due);
        [
            self.relay_again,
            next,
            due.map(|(time, _)| time),
            self.handing.as_ref().map(|handing| handing.until),
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
        if let Some(next) = &self.next
            && !next.ready
            && !next.condemned
            && next.started + READY_TIME <= now
        {
            self.end_next("it does not become ready", now);
        }
        if let Some(RelayProcess { condemned: false, due: Some((time, offence)), .. }) = self.relay
            && time <= now
        {
            self.end_relay(offence, now);
        }
        if self.handing.as_ref().is_some_and(|handing| handing.until <= now) {
            // What it holds is lost, but not its sessions.
            self.handing = None;
            self.end_relay("it does not hand back what it knows", now);
        }
    }
}
