//! The monitor: root. It owns the listening sockets, the PTYs, the children and
//! the audit log, and never reads a byte that came from the network.
//!
//! Its loop answers the relay's requests, starts session processes, and makes sure
//! that each of them ends and is accounted for exactly once. It never blocks and
//! never panics; a process that sends it what its state does not permit is ended.

mod opening;
mod relay_side;
mod serve;
mod service;
mod session;
mod session_side;
mod startup;

use std::collections::HashMap;
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
pub use crate::ipc::Greeting;
use crate::ipc::{
    ConnectionId, FromRelay, FromSession, Incoming, RelayLink, RelaySetup, Shared, ToRelay, ToSession,
};
use crate::sys::channel::Channel;
use crate::sys::process::{self, DescriptorLimit, Process};
use crate::sys::socket;
use session::Session;
use startup::Account;
pub use startup::{Error, pam_service};

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
const STOP_GRACE: Duration = Duration::from_secs(7);
/// How long the last audit lines are offered to syslog.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// How long processes that close records may take behind the last session.
const CLERK_GRACE: Duration = Duration::from_secs(2);
/// Pause before a relay that died, or could not be started, is replaced.
const RELAY_PAUSE: Duration = Duration::from_millis(200);

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
}

/// Serves until a signal ends it.
///
/// # Errors
/// What keeps it from serving, in words for the administrator.
pub fn run(mut options: Options) -> Result<(), Error> {
    let (account, scratch, warnings) = prepare(&mut options.config)?;
    let mut warnings = warnings;
    let mut listeners = service::listeners()?;
    if listeners.is_empty() {
        listeners = startup::listen(&options.config)?;
    } else {
        options.listen_is_fixed = true;
        let text = "the listeners are the service manager's, whatever listen and [tcpmux] say";
        warnings.push(text.to_owned());
    }
    let pid_file = match &options.daemon {
        Some(path) => startup::detach(path.as_deref())?,
        None => None,
    };
    let mut log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let now = Instant::now();
    log.write(&Event::ConfigRead { path: options.source.clone() }, now);
    warn(&mut log, warnings, now);
    let ports = listeners.iter().map(|listener| listener.address.port()).collect();
    let listen = listeners.iter().map(|listener| listener.address).collect();
    let relay = RelayParts { account, scratch, listeners, ports };
    // Behind --daemon nobody reads standard error any more.
    let mut monitor = Monitor::new(options, relay, log).inspect_err(|error| complain(&error.to_string()))?;
    monitor.log.write(&Event::Started { version: env!("CARGO_PKG_VERSION").to_owned(), listen }, now);
    service::ready(&monitor.parts.listeners);
    let outcome = monitor.serve();
    let last = match &outcome {
        Ok(cause) => Event::Stopped { cause: cause.clone() },
        Err(error) => Event::Warning { text: error.to_string() },
    };
    monitor.log.write(&last, Instant::now());
    monitor.log.finish(LOG_PATIENCE);
    if let Some((relay, _)) = monitor.relay.take() {
        // It ends when its link does; but one that hangs would keep the port.
        relay.end();
    }
    outcome?;
    drop(pid_file);
    Ok(())
}

/// Serves the one connection that a superserver accepted, until it is over.
///
/// # Errors
/// What keeps it from serving; the log has it, too.
pub fn run_inetd(mut options: Options, client: OwnedFd, greeting: Greeting) -> Result<(), Error> {
    let mut log = Log::open(&options.config.audit.facility, Path::new(SOCKET), options.stderr);
    let outcome = prepare(&mut options.config).and_then(|(account, scratch, warnings)| {
        let now = Instant::now();
        warn(&mut log, warnings, now);
        let local = socket::local_address(client.as_fd()).map_err(|error| Error(error.to_string()))?;
        let relay = RelayParts { account, scratch, listeners: Vec::new(), ports: vec![local.port()] };
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
    let mut monitor = Monitor::new(options, relay, log)?;
    monitor.only_connection = true;
    monitor.tell_relay(&ToRelay::Adopt(greeting), vec![client]);
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
fn prepare(config: &mut Config) -> Result<(Account, PathBuf, Vec<String>), Error> {
    if !Uid::effective().is_root() {
        return Err(Error("only root can serve logins".to_owned()));
    }
    process::close_on_exec_all();
    process::default_child_signal();
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    let mut warnings = Vec::new();
    let (service, warning) = pam_service(&config.login.pam_service)?;
    config.login.pam_service = service;
    warnings.extend(warning);
    let (account, warning) = startup::relay_account(&config.user)?;
    warnings.extend(warning);
    let scratch = startup::run_directory(config)?;
    Ok((account, scratch, warnings))
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
    /// The ports that clients come to.
    ports: Vec<u16>,
}

struct Monitor {
    config: Config,
    source: String,
    config_path: Option<PathBuf>,
    listen_is_fixed: bool,
    shared: OwnedFd,
    descriptors: DescriptorLimit,
    log: Log,
    poll: Poll,
    signals: SignalFd,
    parts: RelayParts,
    relay: Option<(Process, RelayLink)>,
    relay_again: Option<Instant>,
    /// Not all that the relay said has been heard.
    relay_has_more: bool,
    /// The ids of this relay's connections: from the first it may use to behind the
    /// highest that a session was asked for.
    relay_ids: Range<u64>,
    /// Processes that close the records of sessions that could not.
    clerks: Vec<Process>,
    sessions: HashMap<ConnectionId, Session>,
    /// There is one connection, accepted by a superserver, and no other comes.
    only_connection: bool,
    /// Set while stopping: why, and until when.
    stopping: Option<(String, Instant)>,
}

/// What a token of the event loop stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Signals,
    RelayLink,
    RelayProcess,
    Clerk,
    SessionLink(ConnectionId),
    SessionProcess(ConnectionId),
}

impl Watched {
    fn token(self) -> Token {
        let id = |id: ConnectionId| usize::try_from(id.0).unwrap_or(usize::MAX >> 2);
        Token(match self {
            Watched::Signals => 0,
            Watched::RelayLink => 1,
            Watched::RelayProcess => 2,
            Watched::Clerk => 3,
            Watched::SessionLink(session) => (id(session) + 1) << 1,
            Watched::SessionProcess(session) => (id(session) + 1) << 1 | 1,
        })
    }

    fn of(token: Token) -> Watched {
        let id = ConnectionId((token.0 >> 1).saturating_sub(1) as u64);
        match token.0 {
            0 => Watched::Signals,
            1 => Watched::RelayLink,
            2 => Watched::RelayProcess,
            3 => Watched::Clerk,
            odd if odd & 1 == 1 => Watched::SessionProcess(id),
            _ => Watched::SessionLink(id),
        }
    }
}
