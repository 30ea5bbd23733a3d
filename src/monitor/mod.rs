//! The monitor: root. It owns the listening sockets, the PTYs, the children and
//! the audit log, and never reads a byte that came from the network.
//!
//! Its loop answers the relay's requests, starts session processes, and makes sure
//! that each of them ends and is accounted for exactly once. It never blocks and
//! never panics; a process that sends it what its state does not permit is ended.

mod control;
mod deadline;
mod ending;
mod records;
mod rehearsal;
mod relay;
mod reload;
mod serve;
mod service;
mod sessions;
mod spare;
mod startup;
mod upgrade;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::hash::RandomState;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;

use crate::audit::event::{Event, Via};
use crate::audit::syslog::{Log, SOCKET};
use crate::config::{self, Config};
use crate::control::protocol::Totals;
pub use crate::ipc::Greeting;
use crate::ipc::{
    ConnectionId, FromRelay, FromSession, Incoming, RelayLink, SessionLink, Shared, ToRelay, ToSession,
};
use crate::sys::background::Starter;
use crate::sys::channel::Channel;
use crate::sys::launch::Launcher;
use crate::sys::process::{self, DescriptorLimit, Image, Process};
use crate::sys::{sandbox, socket};
use control::Control;
use records::RecordsQueue;
use rehearsal::Rehearsal;
pub use rehearsal::{REHEARSAL_ROLE, is_trial, rehearse, try_out};
use relay::Relays;
use relay::supervisor;
use sessions::{Session, Sessions};
use spare::Closes;
use startup::{Account, PidFile};
pub use startup::{Error, pam_service};
use upgrade::Upgrade;
use upgrade::guard::GuardSide;
pub use upgrade::rehearsed_config;
use upgrade::state::MonitorState;

/// The argument that starts our image as the relay.
pub const RELAY_ROLE: &str = "--role=relay";
/// The argument that starts our image as a session.
pub const SESSION_ROLE: &str = "--role=session";

/// How long past its deadline a session process may take to say so itself.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How long a session process may take to end after a hang-up.
/// PAM modules may take their time, and name services.
const HANG_UP_GRACE: Duration = Duration::from_secs(30);
/// How long all of them may take when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(6);
/// How long a session process that is killed at the daemon's end is waited for.
const LAST_WAIT: Duration = Duration::from_millis(200);
/// How long a process that was killed may take to end, before it counts as one that cannot.
const DEATH_GRACE: Duration = Duration::from_secs(2);
/// How long the last audit lines are offered to syslog.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long the relay and the records worker may take after the last session.
const LAST_GRACE: Duration = Duration::from_millis(2500);

/// How the daemon was asked to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration in force, flags included.
    pub config: Config,
    /// The file it came from, or what stands for it in the log.
    pub source: String,
    /// Audit lines also go to standard error.
    pub stderr: bool,
    /// Go into the background; write the process id to that file.
    pub daemon: Option<Option<PathBuf>>,
    /// The arguments with which another version of this program does the same.
    pub arguments: Vec<OsString>,
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps it from serving, in words for the administrator.
pub fn run(mut options: Options) -> Result<(), Error> {
    let (inherited, mut warnings) = (upgrade::inherited()?, upgrade::stray_variables());
    let mut starter = None;
    let mut monitor = match inherited {
        Some(state) => {
            take_over(options, state, &mut warnings).inspect_err(|error| complain(&error.to_string()))?
        }
        None => {
            let pid_file = options.daemon.clone().flatten();
            // Before anything is changed.
            pid_file.as_deref().map_or(Ok(()), PidFile::check)?;
            let (account, directory) = prepare(&mut options.config, &mut warnings)?;
            startup::sandbox(account)?;
            warnings.extend(startup::banner(&options.config));
            // Before the first client can come: who sees the port open finds the commands as well.
            let control = control::open(&options.config, &mut warnings);
            let (listeners, activated) = listeners(&options, &mut warnings)?;
            starter = options.daemon.as_ref().map(|_| startup::detach()).transpose()?;
            let begun = empty_root(&directory).and_then(|root| {
                begin(options, RelayParts::new(account, root, listeners), pid_file.as_deref())
            });
            let mut monitor = match begun {
                Ok(monitor) => monitor,
                Err(error) => {
                    // Nobody reads standard error any more.
                    starter.into_iter().for_each(|starter| starter.failed(&error.to_string()));
                    complain(&error.to_string());
                    return Err(error);
                }
            };
            monitor.activated = activated;
            monitor.use_control(control);
            // An earlier daemon and all its processes may have been killed.
            monitor.write_records(Instant::now());
            monitor
        }
    };
    let now = Instant::now();
    monitor.log.write(&Event::ConfigRead { path: monitor.source.clone(), count: 1 }, now);
    warn(&mut monitor.log, warnings, now);
    starter.into_iter().for_each(Starter::serves);
    let outcome = monitor.serve();
    monitor.write_epitaphs(Instant::now());
    let last = match &outcome {
        Ok(cause) => Event::Stopped { cause: cause.clone() },
        Err(error) => Event::Warning { text: error.to_string() },
    };
    monitor.log.write(&last, Instant::now());
    monitor.log.finish(LOG_PATIENCE);
    monitor.end();
    outcome.map(|_| ())
}

/// Begins to serve; what fails leaves no file behind that names this process.
fn begin(options: Options, parts: RelayParts, pid_file: Option<&Path>) -> Result<Monitor, Error> {
    let log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let pid_file = pid_file.map(PidFile::write).transpose()?;
    match Monitor::new(options, parts, log, None) {
        Ok(mut monitor) => {
            monitor.pid_file = pid_file;
            Ok(monitor)
        }
        Err(error) => {
            pid_file.iter().for_each(PidFile::remove);
            Err(error)
        }
    }
}

fn empty_root(directory: &Path) -> Result<OwnedFd, Error> {
    let failed = |error| Error(format!("cannot make the relay's root in {}: {error}", directory.display()));
    sandbox::empty_root(directory).map_err(failed)
}

/// The service manager's listeners (then the second value is true), or our own.
fn listeners(options: &Options, warnings: &mut Vec<String>) -> Result<(Vec<Listener>, bool), Error> {
    let listeners = service::listeners()?;
    if listeners.is_empty() {
        return Ok((startup::listen(&options.config, &[], warnings)?, false));
    }
    let text = "the listeners are the service manager's, whatever listen and [tcpmux] say";
    warnings.push(text.to_owned());
    Ok((listeners, true))
}

/// Goes on for the image that this process had before, or that another process had. All that could make it wait
/// was found out by the rehearsal.
fn take_over(
    options: Options,
    mut state: MonitorState,
    warnings: &mut Vec<String>,
) -> Result<Monitor, Error> {
    let now = Instant::now();
    // It was executed by its descriptor, whose number the kernel takes for a name.
    process::set_name(c"rlogind");
    let failed = |error: io::Error| Error(format!("cannot take over: {error}"));
    let guard = upgrade::inherited_guard();
    let settings = upgrade::rehearsed_settings()
        .ok_or_else(|| Error("cannot take over: the settings are not there".to_owned()))?;
    begin_process()?;
    let log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let mut listeners = upgrade::listeners(&mut state).map_err(failed)?;
    if !state.activated && !state.draining {
        // The configuration may ask for others than the image before had.
        listeners = startup::choose(&options.config, listeners);
    }
    let root = process::inherited_descriptor(state.root).map_err(failed)?;
    let mut parts = RelayParts::new(settings.account, root, listeners);
    parts.ports.extend(std::mem::take(&mut state.ports));
    let mut monitor =
        Monitor::begin(options, parts, log, None, std::mem::take(&mut state.executable)).map_err(failed)?;
    monitor.activated = state.activated;
    let pid = std::mem::replace(&mut state.pid, std::process::id());
    monitor.pid_file = match state.pid_file.take() {
        Some(path) if pid != std::process::id() => PidFile::write(&path).map(Some).unwrap_or_else(|error| {
            warnings.push(error.to_string());
            None
        }),
        path => path.map(PidFile::adopt),
    };
    let from = std::mem::take(&mut state.version);
    monitor.go_on(state, now).map_err(failed)?;
    let (version, sessions) = (env!("CARGO_PKG_VERSION").to_owned(), monitor.sessions.living());
    match upgrade::failure() {
        Some(why) => {
            let text =
                format!("the upgrade failed, and the version before goes on with {sessions} sessions: {why}");
            monitor.answer_no_upgrade(&text);
            monitor.warn_of_command(text, now);
            // It may have been read meanwhile by the image that failed.
            monitor.reload_again = true;
            monitor.advance_reloads(control::ReloadStage::Applied, control::ReloadStage::Asked);
        }
        None => {
            monitor.control.upgraded =
                Some(format!("rlogind {version} took over from {from} with {sessions} sessions"));
            for text in settings.warnings {
                monitor.warn_of_command(text, now);
            }
            monitor.log.write(&Event::Upgraded { from, version, sessions, count: 1 }, now);
        }
    }
    monitor.watch_guard(guard).map_err(failed)?;
    monitor.supervise(supervisor::Event::Begin, now);
    Ok(monitor)
}

/// Serves the one connection that a superserver accepted, until it is over.
///
/// # Errors
/// What keeps it from serving; the log has it, too.
pub fn run_inetd(mut options: Options, client: OwnedFd, greeting: Greeting) -> Result<(), Error> {
    let mut log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let mut warnings = upgrade::stray_variables();
    let outcome = prepare(&mut options.config, &mut warnings).and_then(|(account, directory)| {
        let now = Instant::now();
        warn(&mut log, warnings, now);
        let local = socket::local_address(client.as_fd()).map_err(|error| Error(error.to_string()))?;
        socket::clear_linger(client.as_fd());
        let mut relay = RelayParts::new(account, empty_root(&directory)?, Vec::new());
        relay.ports.push(local.port());
        Ok((relay, now))
    });
    let (relay, now) = match outcome {
        Ok(prepared) => prepared,
        Err(error) => {
            log.write(&Event::Warning { text: error.to_string() }, Instant::now());
            log.finish(LOG_PATIENCE);
            return Err(error);
        }
    };
    let mut monitor = Monitor::new(options, relay, log, Some((greeting, client)))?;
    let outcome = monitor.serve().map(|_| ());
    if let Err(error) = &outcome {
        monitor.log.write(&Event::Warning { text: error.to_string() }, now);
    }
    monitor.log.finish(LOG_PATIENCE);
    monitor.end();
    outcome
}

/// Writes a line to the log for somebody who has nowhere else to say it.
pub fn complain(text: &str) {
    let mut log = Log::open(&config::Audit::default().facility, Path::new(SOCKET), false);
    log.write(&Event::Warning { text: text.to_owned() }, Instant::now());
    log.finish(LOG_PATIENCE);
}

/// What both ways to serve need, and what the log is to be warned of: the relay's account and the run directory.
fn prepare(config: &mut Config, warnings: &mut Vec<String>) -> Result<(Account, PathBuf), Error> {
    begin_process()?;
    startup::kernel()?;
    let (service, warning) = pam_service(&config.login.pam_service)?;
    config.login.pam_service = service;
    warnings.extend(warning);
    let (account, warning) = startup::relay_account(&config.user)?;
    warnings.extend(warning);
    if !sandbox::FILTERED {
        warnings.push("the relay's system calls are not filtered on this architecture".to_owned());
    }
    Ok((account, startup::run_directory(config)?))
}

fn begin_process() -> Result<(), Error> {
    if !Uid::effective().is_root() {
        return Err(Error("only root can serve logins".to_owned()));
    }
    process::close_on_exec_all();
    process::default_child_signal();
    process::survive_file_limit();
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    Ok(())
}

fn warn(log: &mut Log, warnings: Vec<String>, now: Instant) {
    for text in warnings {
        log.write(&Event::Warning { text }, now);
    }
}

/// An open listening socket.
#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    via: Via,
    address: SocketAddr,
}

/// What every relay is started with.
#[derive(Debug)]
struct RelayParts {
    account: Account,
    /// The empty directory that becomes the root of each of them.
    root: OwnedFd,
    listeners: Vec<Listener>,
    /// The ports that clients come to, or came to before the configuration was read again.
    ports: Vec<u16>,
}

impl RelayParts {
    fn new(account: Account, root: OwnedFd, listeners: Vec<Listener>) -> Self {
        let ports = listeners.iter().map(|listener| listener.address.port()).collect();
        RelayParts { account, root, listeners, ports }
    }
}

struct Monitor {
    config: Config,
    source: String,
    /// The listeners are the service manager's.
    activated: bool,
    /// For another version of this program.
    arguments: Vec<OsString>,
    pid_file: Option<PidFile>,
    shared: OwnedFd,
    descriptors: DescriptorLimit,
    launcher: Launcher,
    /// The executable that this process runs, for its roles.
    image: Image,
    log: Log,
    poll: Poll,
    signals: SignalFd,
    parts: RelayParts,
    relays: Relays,
    /// When everybody is to be heard again, and told what waits.
    look_again_at: Option<Instant>,
    /// The service manager is to be told when the relay serves.
    announce: bool,
    /// An executable is asked whether it could serve.
    rehearsal: Option<Rehearsal>,
    /// The configuration is to be read again after that.
    reload_again: bool,
    /// The executable on disk is to take this process over.
    upgrade: Upgrade,
    /// It waits for this image to serve, after an upgrade.
    guard: Option<GuardSide>,
    /// Processes of which nothing is expected but their end.
    helpers: Vec<(Process, Helper)>,
    /// Descriptors that no process could be started for that closes them.
    unclosed: Vec<(Closes, OwnedFd)>,
    /// What the records worker has to do.
    records: RecordsQueue,
    sessions: Sessions,
    /// The key of the sessions' hashes.
    name_key: RandomState,
    /// The number of the next session, for people.
    next_number: u64,
    /// The administrator's commands.
    control: Control,
    /// When the daemon began to serve, upgrades not counted.
    begun: Instant,
    /// What has happened since then.
    totals: Totals,
    /// There is one connection, accepted by a superserver, and no other comes.
    only_connection: bool,
    /// That connection, until a relay has it.
    only_client: Option<(Greeting, OwnedFd)>,
    /// No more clients are let in, and the daemon ends.
    leaving: Option<Leaving>,
}

/// The daemon ends.
#[derive(Debug)]
struct Leaving {
    cause: String,
    /// Until then all sessions have to be gone; `None`: they may last as long as they do.
    stop: Option<Instant>,
    /// When the last session had gone.
    empty: Option<Instant>,
}

/// What a process is for of which nothing is expected but its end.
#[derive(Debug)]
enum Helper {
    /// The records worker, and what it has to say; `None`: the image before has started it.
    Records(Option<SessionLink>),
    /// It closes descriptors, and is killed then.
    Closer(Closes, Option<Instant>),
    /// A relay that hung and was killed.
    HungRelay,
    /// It was killed.
    Other,
}

/// What a token of the event loop stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Signals,
    RelayLink,
    RelayProcess,
    NextLink,
    NextProcess,
    Helper,
    Rehearsal,
    ControlDoor,
    ControlClient,
    /// Of the session that has this number.
    SessionLink(usize),
    SessionProcess(usize),
}

/// What there is one of at most. The token is the place in here.
const SINGLE: [Watched; 9] = [
    Watched::Signals,
    Watched::RelayLink,
    Watched::RelayProcess,
    Watched::NextLink,
    Watched::NextProcess,
    Watched::Helper,
    Watched::Rehearsal,
    Watched::ControlDoor,
    Watched::ControlClient,
];
/// The sessions' tokens come in pairs behind those.
const FIRST: usize = SINGLE.len().div_ceil(2);

impl Watched {
    fn token(self) -> Token {
        let pair = |number: usize| (number + FIRST) << 1;
        let single = || SINGLE.iter().position(|single| *single == self).unwrap_or_default();
        Token(if let Watched::SessionLink(number) = self {
            pair(number)
        } else if let Watched::SessionProcess(number) = self {
            pair(number) | 1
        } else {
            single()
        })
    }

    fn of(token: Token) -> Watched {
        if let Some(single) = SINGLE.get(token.0) {
            return *single;
        }
        let number = (token.0 >> 1).saturating_sub(FIRST);
        if token.0 & 1 == 1 { Watched::SessionProcess(number) } else { Watched::SessionLink(number) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_means_what_it_was_made_for() {
        let sessions = [0, 1, 2, 1 << 20];
        let sessions = sessions.map(|number| [Watched::SessionLink(number), Watched::SessionProcess(number)]);
        let sessions = sessions.into_iter().flatten();
        for watched in SINGLE.into_iter().chain(sessions) {
            assert_eq!(Watched::of(watched.token()), watched);
        }
    }
}
