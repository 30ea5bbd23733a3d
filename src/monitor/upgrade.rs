//! Replacing the executable without an end of sessions: this very process executes the
//! one that is on disk now.
//!
//! ```text
//! look-up: this executable finds the one on disk, which only root may be able to change
//!   │
//! rehearsal: the new executable reads the configuration, opens what is not open, and has a relay
//!   │        of its own enter its sandbox
//!   └─▶ the relay hands back ─▶ state into a memory file ─▶ guard ─▶ exec ─▶ state read ─▶ a relay
//!                                                             └─ takes the daemon back if that fails
//! ```
//! Whatever goes wrong until the exec changes nothing, and what goes wrong in the first seconds after it the guard
//! undoes. Session processes are not replaced: the format's number stands for their messages, too, and for the
//! relays' state.

use std::os::fd::{BorrowedFd, RawFd};
use std::sync::OnceLock;

use super::rehearsal::{Purpose, Rehearsed, Settings, TRIAL_VARIABLE, read_settings, write_settings};
use super::*;
use crate::ipc::SessionLink;
use crate::sys::memory_file;
use crate::sys::process::Image;
use guard::{Guard, GuardSide};
use state::{MonitorState, SessionState};

pub(super) mod guard;
pub(super) mod state;

/// The variables with the numbers of descriptors: the state, the settings that the rehearsal has found, the
/// image itself, and the guard's channel.
const STATE_VARIABLE: &str = "RLOGIND_STATE";
const CONFIG_VARIABLE: &str = "RLOGIND_CONFIG";
const IMAGE_VARIABLE: &str = "RLOGIND_IMAGE";
const GUARD_VARIABLE: &str = "RLOGIND_GUARD";
/// Why the image before is back; only then.
const FAILURE_VARIABLE: &str = "RLOGIND_UPGRADE_FAILED";
/// What the image before was told, and is not true any more: by the service manager, sd_listen_fds(3), and by
/// itself.
const FIRST_ONLY: [&str; 6] =
    ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", GUARD_VARIABLE, FAILURE_VARIABLE, TRIAL_VARIABLE];

/// Whether another executable is to take over.
#[derive(Debug)]
pub(super) struct Upgrade {
    executable: PathBuf,
    /// It was asked for while something else was rehearsed.
    again: bool,
    /// What is tried out.
    trial: Option<Rehearsed>,
    /// What takes over as soon as the relay has handed back.
    successor: Option<Rehearsed>,
}

impl Upgrade {
    /// `executable` is the file that this process was started from: later it may be another one.
    pub(super) fn new(executable: PathBuf) -> Upgrade {
        Upgrade { executable, again: false, trial: None, successor: None }
    }

    /// Whether it was asked for meanwhile.
    pub(super) fn take_again(&mut self) -> bool {
        std::mem::take(&mut self.again)
    }

    /// The daemon drains: closes what was opened for the image that is to take over.
    pub(super) fn close_opened(&mut self) {
        for rehearsed in self.trial.iter_mut().chain(&mut self.successor) {
            rehearsed.opened.clear();
        }
    }
}

impl Monitor {
    /// Asks the executable on disk whether it could take over, and has it do so.
    pub(super) fn upgrade(&mut self, now: Instant) {
        if self.is_upgrading() {
            // Whoever asks now is answered with the first one.
            return;
        }
        if self.rehearsal.is_some() || self.reload_again {
            self.upgrade.again = true;
            return;
        }
        self.rehearse_upgrade(now);
    }

    /// Whether an executable that could take over is tried out, or is about to.
    pub(super) fn is_upgrading(&self) -> bool {
        self.upgrade.trial.is_some() || self.upgrade_is_due()
    }

    /// Looks the executable up that could take over, when no other rehearsal goes on.
    pub(super) fn rehearse_upgrade(&mut self, now: Instant) {
        // A process of its own looks the path up, as its file system may hang.
        let started =
            self.image.try_clone().and_then(|image| self.start_rehearsal(Purpose::LookUp, image, now));
        if let Err(error) = started {
            self.no_upgrade(&format!("it cannot be looked up: {error}"), now);
        }
    }

    /// The executable on disk, which is asked whether it could take over.
    pub(super) fn rehearse_executable(&mut self, image: Image, now: Instant) {
        if let Err(error) = self.start_rehearsal(Purpose::Upgrade, image, now) {
            self.no_upgrade(&format!("it cannot be started: {error}"), now);
        }
    }

    /// The file that this process was started from.
    pub(super) fn executable(&self) -> &Path {
        &self.upgrade.executable
    }

    /// The executable is tried out.
    pub(super) fn upgrade_trial(&mut self, rehearsed: Rehearsed) {
        self.upgrade.trial = Some(rehearsed);
    }

    /// The state as it is now, without anything that the relay knows.
    pub(super) fn state_for_trial(&self, rehearsed: &Rehearsed, now: Instant) -> io::Result<OwnedFd> {
        // The trial gets numbers only.
        self.write_down(Some((rehearsed, None)), false, |fd| Ok(fd.as_raw_fd()), now)
    }

    /// The executable can take over.
    pub(super) fn accept_successor(&mut self, now: Instant) {
        self.upgrade.successor = self.upgrade.trial.take();
        if let Some(guard) = &self.guard {
            // One at a time: this image's upgrade is not undone any more.
            guard.dismiss();
        }
        self.hear_last_commands(now);
        self.begin_upgrade(now);
    }

    /// There is a guard of the upgrade to this image.
    ///
    /// # Errors
    /// It cannot be watched.
    pub(super) fn watch_guard(&mut self, guard: Option<GuardSide>) -> io::Result<()> {
        if let Some(guard) = &guard {
            let token = Watched::Helper.token();
            self.poll.registry().register(&mut SourceFd(&guard.as_raw_fd()), token, Interest::READABLE)?;
        }
        self.guard = guard;
        Ok(())
    }

    /// The guard of the upgrade to this image watches no more.
    pub(super) fn guard_has_gone(&mut self, now: Instant) {
        if !self.announce && self.rehearsal.is_none() {
            // The service manager has not heard this process while the guard stood for it.
            self.tell_service_manager();
        }
        if self.upgrade_is_due() {
            self.begin_upgrade(now);
        }
    }

    pub(super) fn no_upgrade(&mut self, why: &str, now: Instant) {
        self.forget_successor();
        let path = self.upgrade.executable.display();
        let text = format!("no upgrade to {path}, nothing changed: {why}");
        self.answer_no_upgrade(&text);
        self.warn_of_command(text, now);
        self.go_on_with_rehearsals(now);
    }

    /// Begins with what was asked for meanwhile.
    pub(super) fn go_on_with_rehearsals(&mut self, now: Instant) {
        if std::mem::take(&mut self.reload_again) {
            self.reload(now);
        }
        if self.upgrade.take_again() {
            self.upgrade(now);
        }
    }

    /// Whether the other executable takes over when no relay is in the way.
    pub(super) fn upgrade_is_due(&self) -> bool {
        self.upgrade.successor.is_some()
    }

    /// No other executable takes over.
    pub(super) fn forget_successor(&mut self) {
        let (trial, successor) = (self.upgrade.trial.take(), self.upgrade.successor.take());
        self.discard(trial);
        self.discard(successor);
    }

    /// What was prepared is not used.
    pub(super) fn discard(&mut self, rehearsed: Option<Rehearsed>) {
        // Commands may wait in the queue of the control socket already, with descriptors.
        let control = rehearsed.and_then(|rehearsed| rehearsed.control);
        self.close_elsewhere(
            Closes::Commands,
            control.map(|listener| listener.into_parts().0).into_iter().collect(),
        );
    }

    /// Has the relay hand back, if nothing is in the way: the guard of the upgrade before, or a command that is about
    /// to say what it wants.
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        if self.circumstances().upgrade {
            self.supervise(supervisor::Event::UpgradePossible, now);
        }
    }

    /// Has the executable on disk take this process over. Returns only if that fails.
    pub(super) fn execute_successor(&mut self, now: Instant) {
        let Some(successor) = self.upgrade.successor.take() else {
            return self.supervise(supervisor::Event::ExecuteFailed, now);
        };
        self.log.write_pending_counts();
        let Err(error) = self.try_successor(&successor, now);
        process::close_on_exec_all();
        self.discard(Some(successor));
        self.no_upgrade(&format!("it cannot be executed: {error}"), now);
        self.supervise(supervisor::Event::ExecuteFailed, now);
    }

    fn try_successor(&mut self, successor: &Rehearsed, now: Instant) -> io::Result<std::convert::Infallible> {
        self.close_unclosed_now()?;
        // What this image needs to come back: the settings in its own words.
        let shared = Shared { config: self.config.clone(), source: self.source.clone() };
        let own = Settings { shared, account: self.parts.account, warnings: Vec::new() };
        let own = write_settings(&own)?;
        // All that a state names survives the exec, of this image's as well as of the guard's.
        let back = self.write_down(None, true, keep, now)?;
        let back_without_relay = self.write_down(None, false, keep, now)?;
        for file in [&back, &back_without_relay, &own] {
            keep(file.as_fd())?;
        }
        let states = [back, back_without_relay];
        let leaders = self.sessions.values().filter_map(|session| session.leader.as_ref());
        let leaders = leaders.map(AsRawFd::as_raw_fd).collect();
        let guard = Guard::start(self.image.as_fd(), &self.arguments, states, own, &FIRST_ONLY, leaders)?;
        let (number, pidfd) = guard.process();
        let run = || -> io::Result<std::convert::Infallible> {
            let helpers = Some((number, keep(pidfd)?));
            let state = self.write_down(Some((successor, helpers)), true, keep, now)?;
            let files = [
                (STATE_VARIABLE, state.as_fd()),
                (CONFIG_VARIABLE, successor.settings.as_fd()),
                (IMAGE_VARIABLE, successor.image.as_fd()),
                (GUARD_VARIABLE, guard.channel()),
            ];
            let mut with = Vec::new();
            for (name, file) in files {
                with.push((name, keep(file)?.to_string()));
            }
            Err(process::execute(successor.image.as_fd(), &self.arguments, &FIRST_ONLY, &with))
        };
        let outcome = run();
        self.await_end(guard.dismiss(), Helper::Other);
        outcome
    }

    /// Writes down all that has to go on, with the number that `keep` gives each descriptor. For a successor also what
    /// it has opened and the guard's process; with or without what the relay has handed back.
    fn write_down(
        &self,
        successor: Option<(&Rehearsed, Option<(u32, RawFd)>)>,
        with_relay_state: bool,
        keep: Keep,
        now: Instant,
    ) -> io::Result<OwnedFd> {
        let sessions = self
            .sessions
            .iter()
            .map(|(id, session)| write_session_down(id, session, self.sessions.deadline(id), keep, now));
        let sessions = sessions.collect::<io::Result<Vec<_>>>()?;
        let opened = successor.iter().flat_map(|(rehearsed, _)| &rehearsed.opened);
        let mut listeners = Vec::new();
        for listener in self.parts.listeners.iter().chain(opened) {
            listeners.push((keep(listener.socket.as_fd())?, listener.via, listener.address));
        }
        let (mut carried, mut file) = (Vec::new(), None);
        if with_relay_state {
            file = self.relays.inheritance.file.as_ref().map(|file| keep(file.as_fd())).transpose()?;
            for (id, socket) in &self.relays.inheritance.carried {
                carried.push((*id, keep(socket.as_fd())?));
            }
        }
        let mut helpers = Vec::new();
        for (process, helper) in &self.helpers {
            helpers.push((process.id(), keep(process.as_fd())?, matches!(helper, Helper::Records(_))));
        }
        helpers.extend(successor.and_then(|(_, guard)| guard).map(|(pid, pidfd)| (pid, pidfd, false)));
        let control = successor.and_then(|(rehearsed, _)| rehearsed.control.as_ref());
        let state = MonitorState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            executable: self.upgrade.executable.clone(),
            root: keep(self.parts.root.as_fd())?,
            pid_file: self.pid_file.as_ref().map(|file| file.path().to_owned()),
            descriptors: (self.descriptors.soft, self.descriptors.hard),
            activated: self.activated,
            listeners,
            ports: self.parts.ports.clone(),
            next_ids: self.relays.next_ids,
            file,
            carried,
            refusals: self.relays.inheritance.refusals.clone(),
            draining: self.leaving.is_some(),
            reload_again: self.reload_again,
            helpers,
            sessions,
            next_number: self.next_number,
            begun: now.saturating_duration_since(self.begun),
            totals: self.totals.clone(),
            control: self.leave_control(control, keep)?,
            log: self.log.pending(),
            counts: self.log.counts(now),
            records: self.records.leave(),
        };
        memory_file::write(&state.to_bytes()?)
    }
}

/// Says the number that a descriptor has in the image that takes over.
type Keep = fn(BorrowedFd) -> io::Result<RawFd>;

/// Has a descriptor survive, and says its number.
fn keep(fd: BorrowedFd) -> io::Result<RawFd> {
    process::keep_on_exec(fd).map(|()| fd.as_raw_fd())
}

fn write_session_down(
    id: ConnectionId,
    session: &Session,
    deadline: Option<Instant>,
    keep: Keep,
    now: Instant,
) -> io::Result<SessionState> {
    let ago = |time: Instant| now.saturating_duration_since(time);
    let kept = |end: &Option<OwnedFd>| end.as_ref().map(|end| keep(end.as_fd())).transpose();
    Ok(SessionState {
        id,
        number: session.number,
        begun: ago(session.begun),
        who: session.who.clone(),
        peer: session.peer,
        tty: session.tty.clone(),
        process: (session.process.id(), keep(session.process.as_fd())?),
        link: keep(session.link.as_fd())?,
        leader: kept(&session.leader)?,
        client: kept(&session.client)?,
        before: (session.before.read, session.before.written),
        stage: session.stage.clone().map(ago),
        deadline: deadline.map(|time| time.saturating_duration_since(now)),
        life: session.life.map(ago),
        killed: session.killed,
        authenticated: session.authenticated,
        by: session.by,
    })
}

/// The state that the image before has left, if this is the one that takes over.
///
/// # Errors
/// When it was left in a form that is not understood.
pub(super) fn inherited() -> Result<Option<MonitorState>, Error> {
    let Some(number) = number_of(STATE_VARIABLE) else { return Ok(None) };
    let read = process::inherited_descriptor(number)
        .and_then(memory_file::read)
        .and_then(|bytes| MonitorState::from_bytes(&bytes));
    read.map(Some).map_err(|error| Error(format!("cannot take over: {error}")))
}

impl Monitor {
    /// Goes on where the image before has left off.
    ///
    /// # Errors
    /// A descriptor that is named in the state is not there.
    pub(super) fn go_on(&mut self, state: MonitorState, now: Instant) -> io::Result<()> {
        let then = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        let take = process::inherited_descriptor;
        let (soft, hard) = state.descriptors;
        self.descriptors = DescriptorLimit { soft, hard };
        self.log.put_back(state.log);
        self.log.take_counts(&state.counts, now);
        self.relays.next_ids = state.next_ids;
        self.relays.inheritance.file = state.file.map(take).transpose()?;
        // Without what the relay knew, only the terminals know it.
        self.relays.ask_flow_control = self.relays.inheritance.file.is_none();
        self.reload_again = state.reload_again;
        for (id, number) in state.carried {
            self.relays.inheritance.carried.push((id, take(number)?));
        }
        self.relays.inheritance.refusals = state.refusals;
        if state.draining {
            self.leaving = Some(Leaving { cause: "drained".to_owned(), stop: None, empty: None });
        }
        for (id, number, records) in state.helpers {
            let helper = if records { Helper::Records(None) } else { Helper::Other };
            self.await_end(Process::inherited(id, take(number)?), helper);
        }
        self.take_records(state.records, now);
        self.next_number = state.next_number;
        self.begun = then(state.begun);
        self.totals = state.totals;
        self.take_control(state.control, now)?;
        for row in state.sessions {
            let (pid, pidfd) = row.process;
            let (read, written) = row.before;
            let name_hash = row.who.user.as_deref().map_or(0, |user| self.name_hash(user.as_bytes()));
            let session = Session {
                number: row.number,
                slot: self.sessions.numbers().take(row.id),
                begun: then(row.begun),
                who: row.who,
                peer: row.peer,
                tty: row.tty,
                process: Process::inherited(pid, take(pidfd)?),
                link: SessionLink::new(Channel::from_inherited(take(row.link)?)?),
                leader: row.leader.map(take).transpose()?,
                client: row.client.map(take).transpose()?,
                size: None,
                look: false,
                notices: VecDeque::new(),
                name_hash,
                killed: row.killed,
                unkillable: false,
                departed: !row.life.is_connected() && !row.authenticated,
                released: false,
                authenticated: row.authenticated,
                before: socket::Traffic { read, written },
                stage: row.stage.map(then),
                life: row.life.map(then),
                by: row.by,
            };
            self.watch_again(row.id, session, row.deadline.map(|left| now + left))?;
        }
        Ok(())
    }

    fn watch_again(
        &mut self,
        id: ConnectionId,
        mut session: Session,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        if session.life.has_process() {
            self.watch(&session)?;
            // In case that word waited for it still.
            if session.life.is_ending() && session.life.shell().is_none() {
                let _ = session.link.send(&ToSession::HangUp, Vec::new());
            }
        }
        let now = Instant::now();
        // It counts as one that does not end only when that is seen again.
        let deadline = deadline.or(session.killed.then(|| now + DEATH_GRACE));
        self.sessions.insert(id, session, deadline);
        self.serve_session(id, now);
        Ok(())
    }
}

/// The listeners that the image before has left.
///
/// # Errors
/// One of them is not there.
pub(super) fn listeners(state: &mut MonitorState) -> io::Result<Vec<Listener>> {
    let left = std::mem::take(&mut state.listeners).into_iter();
    left.map(|(number, via, address)| {
        Ok(Listener { socket: process::inherited_descriptor(number)?, via, address })
    })
    .collect()
}

/// The settings that the rehearsal of this image has found, if this is the image that takes over.
#[must_use]
pub(super) fn rehearsed_settings() -> Option<Settings> {
    read_settings(inherited_by(CONFIG_VARIABLE)?).ok()
}

/// The configuration among them, and where it was read from.
#[must_use]
pub fn rehearsed_config() -> Option<(Config, String)> {
    // Read again later with the rest, so the descriptor stays.
    let copy = peek(CONFIG_VARIABLE)?;
    let Settings { shared: Shared { config, source }, .. } = read_settings(copy).ok()?;
    Some((config, source))
}

/// The image that this process runs.
///
/// # Errors
/// It was not left by the image before, and there is no /proc.
pub(super) fn own_image() -> io::Result<Image> {
    inherited_by(IMAGE_VARIABLE).map_or_else(Image::own, |file| Ok(Image::found(file)))
}

/// The guard that waits for this image to serve, if there is one.
pub(super) fn inherited_guard() -> Option<GuardSide> {
    GuardSide::new(inherited_by(GUARD_VARIABLE)?)
}

/// Why the image before is back, if it is.
pub(super) fn failure() -> Option<String> {
    std::env::var(FAILURE_VARIABLE).ok().filter(|_| is_successor())
}

/// Whether an image of ours has left its state to this one. The variables alone may come from anybody: a shell, or a
/// process that a daemon started which had taken over.
fn is_successor() -> bool {
    // Later the descriptor may be closed, and its number another one's.
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let state = written_in(STATE_VARIABLE).filter(|number| *number > 2);
        let copy = state.and_then(|number| process::duplicate_number(number).ok());
        copy.is_some_and(|copy| memory_file::is_sealed(copy.as_fd()))
    })
}

/// What the log is to be told of variables that mean something to us and are not ours.
pub(super) fn stray_variables() -> Vec<String> {
    let ours = [STATE_VARIABLE, CONFIG_VARIABLE, IMAGE_VARIABLE, GUARD_VARIABLE, FAILURE_VARIABLE];
    let ours = ours.into_iter().filter(|_| !is_successor());
    let stray = ours.chain([TRIAL_VARIABLE]).filter(|name| std::env::var_os(name).is_some());
    stray.map(|name| format!("{name} in the environment is ignored: no rlogind has left it")).collect()
}

fn written_in(variable: &str) -> Option<RawFd> {
    std::env::var_os(variable)?.to_str()?.parse().ok()
}

/// The number that the image before has left in a variable.
fn number_of(variable: &str) -> Option<RawFd> {
    written_in(variable).filter(|_| is_successor())
}

fn inherited_by(variable: &str) -> Option<OwnedFd> {
    process::inherited_descriptor(number_of(variable)?).ok()
}

/// A second descriptor of what the variable names.
fn peek(variable: &str) -> Option<OwnedFd> {
    process::duplicate_number(number_of(variable)?).ok()
}
