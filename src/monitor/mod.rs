//! The monitor: root. It owns the listening sockets, the PTYs, the children and
//! the audit log, and never reads a byte that came from the network.
//!
//! Its loop answers the relay's requests, starts session processes, and makes sure
//! that each of them ends and is accounted for exactly once. It never blocks and
//! never panics; a process that sends it what its state does not permit is ended.

mod control;
mod ending;
mod opening;
mod relay_side;
mod reload;
mod serve;
mod service;
mod session;
mod session_side;
mod startup;
mod steps;
mod succession;
mod table;
mod upgrade;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
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
use crate::sys::channel::Channel;
use crate::sys::launch::Launcher;
use crate::sys::process::{self, DescriptorLimit, Process};
use crate::sys::{sandbox, socket};
use control::Control;
use session::Session;
use startup::{Account, PidFile};
pub use startup::{Error, pam_service};
use steps::Step;
use succession::{Estate, Handing, RelayProcess};
use table::Sessions;
use upgrade::Upgrade;
use upgrade::state::MonitorState;
pub use upgrade::{REHEARSAL_ROLE, rehearse, rehearsed_config};

/// The argument that starts our image as the relay.
pub const RELAY_ROLE: &str = "--role=relay";
/// The argument that starts our image as a session.
pub const SESSION_ROLE: &str = "--role=session";

/// How long past its deadline a session process may take to say so itself.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// How long a session process may take to end after a hang-up.
/// The C library alone waits 10 s for each of the two records' locks.
const HANG_UP_GRACE: Duration = Duration::from_secs(30);
/// How long all of them may take when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(6);
/// How long the last audit lines are offered to syslog.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long the relay, and processes that close records, may take behind the last session.
const LAST_GRACE: Duration = Duration::from_millis(2500);

/// How the daemon was asked to run.
#[derive(Debug)]
pub struct Options {
    /// The configuration in force, flags included.
    pub config: Config,
    /// The file it came from, or what stands for it in the log.
    pub source: String,
    /// The file that was named, to read it again.
    pub config_path: Option<PathBuf>,
    /// The addresses were given on the command line, whatever the file says.
    pub listen_is_fixed: bool,
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
    let (inherited, mut warnings) = (upgrade::inherited()?, Vec::new());
    let mut monitor = match inherited {
        Some(state) => {
            take_over(options, state, &mut warnings).inspect_err(|error| complain(&error.to_string()))?
        }
        None => {
            let (account, scratch) = prepare(&mut options.config, &mut warnings)?;
            let (listeners, activated) = listeners(&options, &mut warnings)?;
            let pid_file = match &options.daemon {
                Some(path) => startup::detach(path.as_deref())?,
                None => None,
            };
            let log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
            let parts = RelayParts::new(account, scratch, listeners);
            // Behind --daemon nobody reads standard error any more.
            let mut monitor =
                Monitor::new(options, parts, log, None).inspect_err(|error| complain(&error.to_string()))?;
            (monitor.activated, monitor.pid_file) = (activated, pid_file);
            monitor.close_stale_records(Instant::now());
            warnings.extend(monitor.open_control());
            monitor
        }
    };
    let now = Instant::now();
    monitor.log.write(&Event::ConfigRead { path: monitor.source.clone() }, now);
    warn(&mut monitor.log, warnings, now);
    let outcome = monitor.serve();
    let last = match &outcome {
        Ok(cause) => Event::Stopped { cause: cause.clone() },
        Err(error) => Event::Warning { text: error.to_string() },
    };
    monitor.log.write(&last, Instant::now());
    monitor.log.finish(LOG_PATIENCE);
    for relay in [monitor.relay.take(), monitor.next.take()].into_iter().flatten() {
        // It ends when its link does; but one that hangs would keep the port.
        relay.process.end();
    }
    outcome.map(|_| ())
}

/// The service manager's listeners (then the second value is true), or our own.
fn listeners(options: &Options, warnings: &mut Vec<String>) -> Result<(Vec<Listener>, bool), Error> {
    let listeners = service::listeners()?;
    if listeners.is_empty() {
        return Ok((startup::listen(&options.config, &[])?, false));
    }
    let text = "the listeners are the service manager's, whatever listen and [tcpmux] say";
    warnings.push(text.to_owned());
    Ok((listeners, true))
}

/// Goes on for the image that this process had before.
fn take_over(
    mut options: Options,
    mut state: MonitorState,
    warnings: &mut Vec<String>,
) -> Result<Monitor, Error> {
    let now = Instant::now();
    // It was executed by its descriptor, whose number the kernel takes for a name.
    process::set_name(c"rlogind");
    let failed = |error: io::Error| Error(format!("cannot take over: {error}"));
    let (account, scratch) = begin_process(&mut options.config, warnings)?;
    // The rehearsal has looked at it; if it is gone since, the one before does as well.
    let scratch = scratch.unwrap_or_else(|error| {
        warnings.push(error.to_string());
        std::mem::take(&mut state.scratch)
    });
    let log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let mut listeners = upgrade::listeners(&mut state).map_err(failed)?;
    if !state.activated && !state.draining {
        // The configuration may ask for others than the image before had.
        match startup::listen(&options.config, &listeners) {
            Ok(asked_for) => listeners = asked_for,
            Err(error) => warnings.push(format!("the listeners stay as they were: {error}")),
        }
    }
    let mut parts = RelayParts::new(account, scratch, listeners);
    parts.ports.extend(std::mem::take(&mut state.ports));
    let mut monitor = Monitor::begin(options, parts, log, None).map_err(failed)?;
    monitor.activated = state.activated;
    monitor.pid_file = state.pid_file.take().map(PidFile::adopt);
    let from = std::mem::take(&mut state.version);
    monitor.go_on(state, now).map_err(failed)?;
    let (version, sessions) = (env!("CARGO_PKG_VERSION").to_owned(), monitor.sessions.len());
    monitor.control.upgraded =
        Some(format!("rlogind {version} took over from {from} with {sessions} sessions"));
    if let Some(text) = monitor.open_control() {
        monitor.warn(text, now);
    }
    monitor.log.write(&Event::Upgraded { from, version, sessions }, now);
    monitor.restart_relay(now);
    Ok(monitor)
}

/// Serves the one connection that a superserver accepted, until it is over.
///
/// # Errors
/// What keeps it from serving; the log has it, too.
pub fn run_inetd(mut options: Options, client: OwnedFd, greeting: Greeting) -> Result<(), Error> {
    let mut log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let mut warnings = Vec::new();
    let outcome = prepare(&mut options.config, &mut warnings).and_then(|(account, scratch)| {
        let now = Instant::now();
        warn(&mut log, warnings, now);
        let local = socket::local_address(client.as_fd()).map_err(|error| Error(error.to_string()))?;
        let mut relay = RelayParts::new(account, scratch, Vec::new());
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
    outcome
}

/// Writes a line to the log for somebody who has nowhere else to say it.
pub fn complain(text: &str) {
    let mut log = Log::open(&config::Audit::default().facility, Path::new(SOCKET), false);
    log.write(&Event::Warning { text: text.to_owned() }, Instant::now());
    log.finish(LOG_PATIENCE);
}

/// What both ways to serve need, and what the log is to be warned of.
fn prepare(config: &mut Config, warnings: &mut Vec<String>) -> Result<(Account, PathBuf), Error> {
    let (account, scratch) = begin_process(config, warnings)?;
    Ok((account, scratch?))
}

/// The same, where the run-time directory may be missing.
fn begin_process(
    config: &mut Config,
    warnings: &mut Vec<String>,
) -> Result<(Account, Result<PathBuf, Error>), Error> {
    if !Uid::effective().is_root() {
        return Err(Error("only root can serve logins".to_owned()));
    }
    process::close_on_exec_all();
    process::default_child_signal();
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let (service, warning) = pam_service(&config.login.pam_service)?;
    config.login.pam_service = service;
    warnings.extend(warning);
    let (account, warning) = startup::relay_account(&config.user)?;
    warnings.extend(warning);
    if !sandbox::FILTERED {
        warnings.push("the relay's system calls are not filtered on this architecture".to_owned());
    }
    Ok((account, startup::run_directory(config)))
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
    scratch: PathBuf,
    listeners: Vec<Listener>,
    /// The ports that clients come to, or came to before the configuration was read again.
    ports: Vec<u16>,
}

impl RelayParts {
    fn new(account: Account, scratch: PathBuf, listeners: Vec<Listener>) -> Self {
        let ports = listeners.iter().map(|listener| listener.address.port()).collect();
        RelayParts { account, scratch, listeners, ports }
    }
}

struct Monitor {
    config: Config,
    source: String,
    config_path: Option<PathBuf>,
    listen_is_fixed: bool,
    /// The listeners are the service manager's.
    activated: bool,
    /// Audit lines also go to standard error.
    stderr: bool,
    /// For another version of this program.
    arguments: Vec<OsString>,
    pid_file: Option<PidFile>,
    shared: OwnedFd,
    descriptors: DescriptorLimit,
    launcher: Launcher,
    log: Log,
    poll: Poll,
    signals: SignalFd,
    parts: RelayParts,
    /// The relay that serves.
    relay: Option<RelayProcess>,
    /// Not all that the relay said has been heard.
    relay_has_more: bool,
    /// The relay that takes over when it is ready.
    next: Option<RelayProcess>,
    /// The ids of the next relay's connections begin there.
    next_ids: u64,
    /// The relay hands back what it knows.
    handing: Option<Handing>,
    /// What the next relay is to have of the one before.
    estate: Estate,
    /// What the relay still has to be told before it serves.
    steps: VecDeque<Step>,
    /// The relay is to be replaced again as soon as it serves.
    replace_again: bool,
    /// When a relay is to be started.
    relay_again: Option<Instant>,
    /// How many relays in a row have ended at once.
    failures: u32,
    /// When everybody is to be heard again, and told what waits.
    look_again_at: Option<Instant>,
    /// The service manager is to be told when the relay serves.
    announce: bool,
    /// The executable on disk is to take this process over.
    upgrade: Upgrade,
    /// Processes of which nothing is expected but their end.
    helpers: Vec<(Process, Helper)>,
    sessions: Sessions,
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
    /// It closes the records of sessions whose processes could not, and may have to say
    /// something of it.
    Records(Option<SessionLink>),
    /// A relay that has handed everything over.
    Relay,
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
    SessionLink(ConnectionId),
    SessionProcess(ConnectionId),
}

/// The first sessions' tokens leave room for those of the others.
const FIRST: usize = 5;

impl Watched {
    fn token(self) -> Token {
        let id = |id: ConnectionId| usize::try_from(id.0).unwrap_or(usize::MAX >> 2);
        Token(match self {
            Watched::Signals => 0,
            Watched::RelayLink => 1,
            Watched::RelayProcess => 2,
            Watched::NextLink => 3,
            Watched::NextProcess => 4,
            Watched::Helper => 5,
            Watched::Rehearsal => 6,
            Watched::ControlDoor => 7,
            Watched::ControlClient => 8,
            Watched::SessionLink(session) => (id(session) + FIRST) << 1,
            Watched::SessionProcess(session) => (id(session) + FIRST) << 1 | 1,
        })
    }

    fn of(token: Token) -> Watched {
        let id = ConnectionId((token.0 >> 1).saturating_sub(FIRST) as u64);
        match token.0 {
            0 => Watched::Signals,
            1 => Watched::RelayLink,
            2 => Watched::RelayProcess,
            3 => Watched::NextLink,
            4 => Watched::NextProcess,
            5 => Watched::Helper,
            6 => Watched::Rehearsal,
            7 => Watched::ControlDoor,
            8 => Watched::ControlClient,
            odd if odd & 1 == 1 => Watched::SessionProcess(id),
            _ => Watched::SessionLink(id),
        }
    }
}
