//! Replacing the executable without an end of sessions: this very process executes the
//! one that is on disk now.
//!
//! ```text
//! rehearsal: the new executable says that it reads this format, and the configuration
//!   └─▶ the relay hands back ─▶ state into a memory file ─▶ exec ─▶ state read ─▶ a relay
//! ```
//! Whatever goes wrong until the exec changes nothing. Session processes are not replaced:
//! the format's number stands for their messages, too, and for the relays' state.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, RawFd};

use super::session::Stage;
use super::*;
use crate::config::Source;
use crate::host;
use crate::ipc::SessionLink;
use crate::sys::channel::Received;
use crate::sys::memory_file;
use crate::sys::process::{End, Image};
use state::{EndState, MonitorState, SessionState, StageState};

pub(super) mod state;

/// The argument that starts an image only to ask whether it could take over.
pub const REHEARSAL_ROLE: &str = "--role=rehearsal";
/// The variables with the numbers of two descriptors: the state, and the configuration that
/// the rehearsal has read.
const STATE_VARIABLE: &str = "RLOGIND_STATE";
const CONFIG_VARIABLE: &str = "RLOGIND_CONFIG";
/// What the service manager said to the first image only, sd_listen_fds(3).
const FIRST_ONLY: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];
/// What an image says that can take over, and the format's number behind it.
const ACCEPTS: &str = "accepts state ";
/// How long the rehearsal may take.
const REHEARSAL_TIME: Duration = Duration::from_secs(10);

/// Whether another executable is to take over, and how far that is.
#[derive(Debug)]
pub(super) struct Upgrade {
    executable: PathBuf,
    stage: Rehearsed,
}

#[derive(Debug)]
enum Rehearsed {
    /// Nobody has asked.
    No,
    /// The executable is asked.
    Asked { process: Process, channel: Channel, successor: Successor, until: Instant },
    /// It can, and does as soon as the relay has handed back.
    Yes(Successor),
}

/// What takes over.
#[derive(Debug)]
pub(super) struct Successor {
    image: Image,
    /// The configuration it has read, in its own words: reading it again could fail.
    config: OwnedFd,
}

impl Upgrade {
    pub(super) fn new() -> Upgrade {
        // Now, for later the file may be another one.
        let executable = std::env::current_exe().unwrap_or_default();
        Upgrade { executable, stage: Rehearsed::No }
    }
}

impl Monitor {
    /// Asks the executable on disk whether it could take over.
    pub(super) fn rehearse(&mut self, now: Instant) {
        if !matches!(self.upgrade.stage, Rehearsed::No) {
            return self.warn("an upgrade is on its way already".to_owned(), now);
        }
        match self.start_rehearsal(now) {
            Ok(asked) => self.upgrade.stage = asked,
            Err(error) => self.no_upgrade(&format!("it cannot be started: {error}"), now),
        }
    }

    fn start_rehearsal(&self, now: Instant) -> io::Result<Rehearsed> {
        let mut arguments = vec![OsString::from(REHEARSAL_ROLE)];
        arguments.extend(self.arguments.iter().cloned());
        let (ours, theirs) = Channel::pair()?;
        ours.set_nonblocking()?;
        let image = Image::find(&self.upgrade.executable)?;
        let config = memory_file::create()?;
        // Where the configuration came from, and where to put it.
        ours.send(self.source.as_bytes(), &[config.as_fd()])?;
        let process = Process::start_image(&image, &arguments, theirs)?;
        let registry = self.poll.registry();
        let token = Watched::Rehearsal.token();
        if let Err(error) = registry.register(&mut SourceFd(&ours.as_raw_fd()), token, Interest::READABLE) {
            process.end();
            return Err(error);
        }
        let (successor, until) = (Successor { image, config }, now + REHEARSAL_TIME);
        Ok(Rehearsed::Asked { process, channel: ours, successor, until })
    }

    /// What the executable says.
    pub(super) fn hear_rehearsal(&mut self, now: Instant) {
        let Rehearsed::Asked { channel, .. } = &self.upgrade.stage else { return };
        let answer = match channel.receive() {
            Ok(Received::Nothing) => return,
            Ok(Received::Message(text, _)) => String::from_utf8_lossy(&text).into_owned(),
            Ok(Received::Closed) => "it does not know of taking over".to_owned(),
            Err(error) => format!("it cannot be asked: {error}"),
        };
        let successor = self.end_rehearsal();
        match (answer.strip_prefix(ACCEPTS), successor) {
            (Some(formats), Some(successor)) if formats == state::formats() => {
                self.upgrade.stage = Rehearsed::Yes(successor);
                self.begin_upgrade(now);
            }
            (Some(_), _) => self.no_upgrade("it does not read the state of this version", now),
            (None, _) => self.no_upgrade(&answer, now),
        }
    }

    /// Nobody is asked any more; returns who was.
    pub(super) fn end_rehearsal(&mut self) -> Option<Successor> {
        match std::mem::replace(&mut self.upgrade.stage, Rehearsed::No) {
            Rehearsed::No => None,
            Rehearsed::Yes(successor) => Some(successor),
            Rehearsed::Asked { process, channel, successor, .. } => {
                let _ = self.poll.registry().deregister(&mut SourceFd(&channel.as_raw_fd()));
                process.end();
                Some(successor)
            }
        }
    }

    pub(super) fn no_upgrade(&mut self, why: &str, now: Instant) {
        self.upgrade.stage = Rehearsed::No;
        let path = self.upgrade.executable.display();
        let text = format!("no upgrade to {path}, nothing changed: {why}");
        self.answer_no_upgrade(&text);
        self.warn(text, now);
    }

    pub(super) fn rehearsal_due(&self) -> Option<Instant> {
        match &self.upgrade.stage {
            Rehearsed::Asked { until, .. } => Some(*until),
            Rehearsed::No | Rehearsed::Yes(_) => None,
        }
    }

    pub(super) fn expire_rehearsal(&mut self, now: Instant) {
        if self.rehearsal_due().is_some_and(|until| until <= now) {
            self.end_rehearsal();
            self.no_upgrade("it does not answer", now);
        }
    }

    /// Whether the other executable takes over when no relay is in the way.
    pub(super) fn upgrade_is_due(&self) -> bool {
        matches!(self.upgrade.stage, Rehearsed::Yes(_))
    }

    /// Has the relay hand back, unless it is just beginning or doing so.
    pub(super) fn begin_upgrade(&mut self, now: Instant) {
        if self.next.is_some() || self.handing.is_some() || !self.steps.is_empty() {
            return;
        }
        match &self.relay {
            Some(_) => self.ask_back(now),
            None => self.execute_successor(now),
        }
    }

    /// Has the executable on disk take this process over. Returns only if that fails.
    pub(super) fn execute_successor(&mut self, now: Instant) {
        let Some(successor) = self.end_rehearsal() else { return self.restart_relay(now) };
        if let Some(next) = self.take_next() {
            next.process.end();
        }
        self.log.finish(LOG_PATIENCE / 4);
        let kept = self.write_down(now).and_then(|state| {
            process::keep_on_exec(successor.config.as_fd())?;
            Ok(state)
        });
        let why = match kept {
            Ok(state) => {
                let [state_number, config_number] =
                    [&state, &successor.config].map(|file| file.as_raw_fd().to_string());
                let with = [(STATE_VARIABLE, state_number), (CONFIG_VARIABLE, config_number)];
                let error = process::execute(&successor.image, &self.arguments, &FIRST_ONLY, &with);
                format!("it cannot be executed: {error}")
            }
            Err(error) => format!("the state cannot be written down: {error}"),
        };
        process::close_on_exec_all();
        self.no_upgrade(&why, now);
        self.restart_relay(now);
    }

    /// Writes down all that has to go on, and has its descriptors kept.
    fn write_down(&self, now: Instant) -> io::Result<OwnedFd> {
        let sessions = self
            .sessions
            .iter()
            .map(|(id, session)| write_session_down(id, session, self.sessions.deadline(id), now));
        let sessions = sessions.collect::<io::Result<Vec<_>>>()?;
        let mut listeners = Vec::new();
        for listener in &self.parts.listeners {
            listeners.push((keep(listener.socket.as_fd())?, listener.via, listener.address));
        }
        let mut carried = Vec::new();
        for (id, socket) in &self.estate.carried {
            carried.push((*id, keep(socket.as_fd())?));
        }
        let mut helpers = Vec::new();
        for (process, helper) in &self.helpers {
            helpers.push((process.id(), keep(process.as_fd())?, matches!(helper, Helper::Records(_))));
        }
        let state = MonitorState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            executable: self.upgrade.executable.clone(),
            scratch: self.parts.scratch.clone(),
            pid_file: self.pid_file.as_ref().map(|file| file.path().to_owned()),
            descriptors: (self.descriptors.soft, self.descriptors.hard),
            activated: self.activated,
            listeners,
            ports: self.parts.ports.clone(),
            next_ids: self.next_ids,
            file: self.estate.file.as_ref().map(|file| keep(file.as_fd())).transpose()?,
            carried,
            refusals: self.estate.refusals.clone(),
            draining: self.leaving.is_some(),
            helpers,
            sessions,
            next_number: self.next_number,
            begun: now.saturating_duration_since(self.begun),
            totals: self.totals.clone(),
            control: self.leave_control(keep)?,
        };
        let file = memory_file::write(&state.to_bytes()?)?;
        keep(file.as_fd())?;
        Ok(file)
    }
}

/// Has a descriptor survive, and says its number.
fn keep(fd: BorrowedFd) -> io::Result<RawFd> {
    process::keep_on_exec(fd).map(|()| fd.as_raw_fd())
}

fn write_session_down(
    id: ConnectionId,
    session: &Session,
    deadline: Option<Instant>,
    now: Instant,
) -> io::Result<SessionState> {
    let ago = |time: Instant| now.saturating_duration_since(time);
    let ends = match &session.ends {
        Some((leader, client)) => Some((keep(leader.as_fd())?, keep(client.as_fd())?)),
        None => None,
    };
    Ok(SessionState {
        id,
        number: session.number,
        begun: ago(session.begun),
        who: session.who.clone(),
        peer: session.peer,
        tty: session.tty.clone(),
        process: (session.process.id(), keep(session.process.as_fd())?),
        link: keep(session.link.as_fd())?,
        ends,
        before: (session.before.read, session.before.written),
        stage: match &session.stage {
            Stage::LoggingIn { reported } => StageState::LoggingIn { reported: *reported },
            Stage::Open { user, since } => StageState::Open { user: user.clone(), since: ago(*since) },
        },
        deadline: deadline.map(|time| time.saturating_duration_since(now)),
        finished: session.finished.map(|(time, end)| (ago(time), end)),
        ended: session.ended.map(|(time, end)| (ago(time), EndState::from(end))),
        closed: session.closed,
    })
}

/// The state that the image before has left, if this is the one that takes over.
///
/// # Errors
/// When it was left in a form that is not understood.
pub(super) fn inherited() -> Result<Option<MonitorState>, Error> {
    let Some(number) = std::env::var_os(STATE_VARIABLE) else { return Ok(None) };
    let number: Option<RawFd> = number.to_str().and_then(|text| text.parse().ok());
    let read = process::inherited_descriptor(number.unwrap_or(-1))
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
        self.upgrade.executable = state.executable;
        self.next_ids = state.next_ids;
        self.estate.file = state.file.map(take).transpose()?;
        for (id, number) in state.carried {
            self.estate.carried.push((id, take(number)?));
        }
        self.estate.refusals = state.refusals;
        if state.draining {
            self.leaving = Some(Leaving { cause: "drained".to_owned(), stop: None, empty: None });
        }
        for (id, number, records) in state.helpers {
            let helper = if records { Helper::Records(None) } else { Helper::Relay };
            self.await_end(Process::inherited(id, take(number)?), helper);
        }
        self.next_number = state.next_number;
        self.begun = then(state.begun);
        self.totals = state.totals;
        self.take_control(state.control, now)?;
        for row in state.sessions {
            let (pid, pidfd) = row.process;
            let (read, written) = row.before;
            let session = Session {
                number: row.number,
                begun: then(row.begun),
                who: row.who,
                peer: row.peer,
                tty: row.tty,
                process: Process::inherited(pid, take(pidfd)?),
                link: SessionLink::new(Channel::from_inherited(take(row.link)?)?),
                ends: row
                    .ends
                    .map(|(leader, client)| Ok::<_, io::Error>((take(leader)?, take(client)?)))
                    .transpose()?,
                before: socket::Traffic { read, written },
                stage: match row.stage {
                    StageState::LoggingIn { reported } => Stage::LoggingIn { reported },
                    StageState::Open { user, since } => Stage::Open { user, since: then(since) },
                },
                finished: row.finished.map(|(ago, end)| (then(ago), end)),
                ended: row.ended.map(|(ago, end)| (then(ago), End::from(end))),
                closed: row.closed,
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
        if session.ended.is_none() {
            self.watch(id, &session)?;
            if session.closed.is_some() {
                // In case that word waited for it still.
                let _ = session.link.send(&ToSession::HangUp, Vec::new());
            }
        }
        self.sessions.insert(id, session, deadline);
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

/// The configuration that the rehearsal of this image has read, and where it was read from, if this is the image
/// that takes over.
#[must_use]
pub fn rehearsed_config() -> Option<(Config, String)> {
    let number: RawFd = std::env::var_os(CONFIG_VARIABLE)?.to_str()?.parse().ok()?;
    let Shared { config, source } = Shared::load(process::inherited_descriptor(number).ok()?).ok()?;
    Some((config, source))
}

/// Answers the daemon that asks whether this image could take over. `read` reads the configuration, and says where
/// it was read from.
///
/// # Errors
/// When nobody asks.
pub fn rehearse(
    channel: &Channel,
    read: impl FnOnce() -> Result<(Config, String), String>,
) -> io::Result<()> {
    let Received::Message(source, files) = channel.receive()? else {
        return Err(io::Error::other("nobody asks"));
    };
    let outcome = read().and_then(|(config, from)| {
        if from == Source::BuiltIn.to_string() && source != from.as_bytes() {
            // Its rules would silently be gone.
            return Err("the configuration file is not there any more".to_owned());
        }
        could_serve(&config).map_err(|error| error.to_string())?;
        let file = files.into_iter().next().ok_or("no file for the configuration")?;
        Shared { config, source: from }.store_in(file).map_err(|error| error.to_string())
    });
    let text = match outcome {
        Ok(()) => format!("{ACCEPTS}{}", state::formats()),
        Err(why) => why,
    };
    channel.send(text.as_bytes(), &[])
}

/// Whether a configuration could be served, without anything being changed.
fn could_serve(config: &Config) -> Result<(), Error> {
    pam_service(&config.login.pam_service)?;
    startup::relay_account(&config.user)?;
    host::run_directory(&config.control.socket)?;
    Ok(())
}
