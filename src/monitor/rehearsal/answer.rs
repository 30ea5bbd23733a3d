//! The side of the process that is asked. It may wait, and whatever happens to it changes nothing.

use std::fs::File;
use std::io::Write;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::host;
use crate::ipc::{RelaySetup, Services};
use crate::sys::launch::Launcher;
use crate::sys::local;
use crate::sys::ownership;
use crate::sys::watchdog::Watchdog;

/// How long a relay may take to enter its sandbox.
const PROOF_TIME: Duration = Duration::from_secs(20);

/// Answers the daemon that asks whether this image could serve. `read` reads the configuration, and says where it
/// was read from.
///
/// # Errors
/// When nobody asks.
pub fn rehearse(
    channel: &Channel,
    read: impl FnOnce() -> Result<(Config, String), String>,
) -> io::Result<()> {
    let Received::Message(question, files) = channel.receive()? else {
        return Err(io::Error::other("nobody asks"));
    };
    let mut sockets = Vec::new();
    let reply = match serde_json::from_slice::<Question>(&question) {
        Ok(question) if question.purpose == Purpose::LookUp => look_up(&question, &mut sockets),
        Ok(question) => match read().and_then(|found| prepare(&question, found, files, &mut sockets)) {
            Ok(reply) => reply,
            Err(reason) => Reply::Refused { reason },
        },
        Err(_) => Reply::Refused { reason: "this version reads the state of another one only".to_owned() },
    };
    let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    channel.send(&in_bytes(&reply)?, &sockets)
}

/// The answer as it is sent: one message, so a reason of any length is cut.
fn in_bytes(reply: &Reply) -> io::Result<Vec<u8>> {
    match reply {
        Reply::Refused { reason } => refusal(reason),
        Reply::Ready { .. } | Reply::Found => Ok(serde_json::to_vec(reply)?),
    }
}

pub(super) fn refusal(reason: &str) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&Reply::Refused { reason: cut(reason) })?)
}

/// Finds the executable that is to take over. It will run as root, so nobody else may be able to change it.
fn look_up(question: &Question, files: &mut Vec<OwnedFd>) -> Reply {
    let found = question.executable.as_deref().map(ownership::find);
    match found.unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::NotFound).into())) {
        Ok(file) => {
            files.push(file);
            Reply::Found
        }
        Err(ownership::Error::Unsafe(why)) => {
            Reply::Refused { reason: format!("others than root can change it: {why}") }
        }
        Err(error) => Reply::Refused { reason: format!("it cannot be started: {error}") },
    }
}

/// Whether this process is only to do what it will do when it takes over.
#[must_use]
pub fn is_trial() -> bool {
    // The variable alone may have been left in the environment by anybody.
    std::env::var_os(TRIAL_VARIABLE).is_some() && Channel::is_stdin()
}

/// Does what this image does when it takes over, but to serve.
///
/// # Errors
/// When nobody asks.
pub fn try_out(channel: &Channel) -> io::Result<()> {
    let Received::Message(_, files) = channel.receive()? else {
        return Err(io::Error::other("nobody asks"));
    };
    let outcome = take_over_in_part(files);
    let reply = match outcome {
        Ok(()) => Reply::Ready { formats: state::formats(), opened: Vec::new(), control: None },
        Err(reason) => Reply::Refused { reason },
    };
    channel.send(&in_bytes(&reply)?, &[])
}

/// Reads what would be handed over, and has a relay enter its sandbox.
fn take_over_in_part(files: Vec<OwnedFd>) -> Result<(), String> {
    let [state, settings, root] = <[_; 3]>::try_from(files).map_err(|_| "a file is missing".to_owned())?;
    memory_file::read(state)
        .and_then(|bytes| state::MonitorState::from_bytes(&bytes))
        .map_err(|error| format!("it cannot read the state: {error}"))?;
    startup::kernel().map_err(|error| error.to_string())?;
    let settings =
        read_settings(settings).map_err(|error| format!("it cannot read the settings: {error}"))?;
    prove(&settings.shared.config, settings.account, root)
        .map_err(|error| format!("its relay cannot start: {error}"))
}

/// Looks at everything that the configuration names, and opens what is not open.
fn prepare(
    question: &Question,
    (mut config, source): (Config, String),
    files: Vec<OwnedFd>,
    sockets: &mut Vec<OwnedFd>,
) -> Result<Reply, String> {
    if source == Source::BuiltIn.to_string() && source != question.source {
        // Its rules would silently be gone.
        return Err("the configuration file is not there any more".to_owned());
    }
    let mut warnings = Vec::new();
    let (service, warning) = pam_service(&config.login.pam_service).map_err(|error| error.to_string())?;
    config.login.pam_service = service;
    warnings.extend(warning);
    warnings.extend(startup::banner(&config));
    let account = relay_account(question, &config, &mut warnings)?;
    if question.purpose == Purpose::Reload && config.control.socket != question.control_path {
        // The sessions' notes are beside it.
        warnings.push("a change of control.socket counts from the next start or upgrade on".to_owned());
        config.control.socket.clone_from(&question.control_path);
    }
    let opened = listeners(question, &config, &mut warnings)?;
    let control = match control(question, &config, &mut warnings) {
        Ok(control) => control,
        Err(error) => {
            warnings.push(super::super::control::unusable(&config.control.socket, &error));
            None
        }
    };
    let addresses = opened.iter().map(|listener| (listener.via, listener.address)).collect();
    sockets.extend(opened.into_iter().map(|listener| listener.socket));
    let control = control.map(|listener| {
        let (socket, path, file) = listener.into_parts();
        sockets.push(socket);
        (path, file)
    });
    let file = files.into_iter().next().ok_or("no file for the settings")?;
    let settings = Settings { shared: Shared { config, source }, account, warnings };
    let bytes = postcard::to_stdvec(&settings).map_err(|error| error.to_string())?;
    File::from(file).write_all(&bytes).map_err(|error| error.to_string())?;
    Ok(Reply::Ready { formats: state::formats(), opened: addresses, control })
}

fn relay_account(
    question: &Question,
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Account, String> {
    let (name, uid, gid) = &question.account;
    // One that stands in for an account gives way to it as soon as that is there.
    if *name == config.user && !host::stands_in(*uid) {
        // Not asked for again: it may be a directory server's that is away.
        return Ok(Account { uid: *uid, gid: *gid });
    }
    let (account, warning) = startup::relay_account(&config.user).map_err(|error| error.to_string())?;
    warnings.extend(warning);
    Ok(account)
}

/// The listeners that the configuration asks for and that are not open.
fn listeners(
    question: &Question,
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Vec<Listener>, String> {
    if question.listeners_stay {
        return Ok(Vec::new());
    }
    startup::listen(config, &question.open, warnings).map_err(|error| error.to_string())
}

/// The control socket, if it has to be opened; lets those use it whom the configuration names.
fn control(
    question: &Question,
    config: &Config,
    warnings: &mut Vec<String>,
) -> io::Result<Option<LocalListener>> {
    let path = &config.control.socket;
    let open =
        question.control.as_ref().is_some_and(|(open, file)| open == path && local::is_there(open, *file));
    // The sessions' notes are in there, whether or not the socket is.
    startup::run_directory(config).map_err(io::Error::other)?;
    let listener = if open { None } else { Some(LocalListener::bind(path)?) };
    super::super::control::let_in(path, config.control.group.as_deref(), warnings);
    Ok(listener)
}

/// Has a relay of this image enter its sandbox, and ends it.
fn prove(config: &Config, account: Account, root: OwnedFd) -> io::Result<()> {
    let (_watchdog, memory) = Watchdog::new()?;
    let (ours, theirs) = Channel::pair()?;
    let mut link = RelayLink::new(ours);
    let setup = RelaySetup {
        uid: account.uid,
        gid: account.gid,
        limits: config.into(),
        first_id: 1,
        services: Services { names: config.tcpmux.services.clone(), help: config.tcpmux.help },
        single: false,
    };
    link.send(&ToRelay::Setup(setup), vec![root, memory])?;
    let relay = Process::start_role(&mut Launcher::new()?, &Image::own()?, RELAY_ROLE, theirs)?;
    let time = PollTimeout::try_from(PROOF_TIME).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], time)?;
    let outcome = match if ready == 0 { Incoming::Nothing } else { link.receive()? } {
        Incoming::Message(FromRelay::Ready, _) => Ok(()),
        Incoming::Message(FromRelay::CannotStart { reason }, _) => Err(io::Error::other(reason)),
        Incoming::Nothing => Err(io::ErrorKind::TimedOut.into()),
        Incoming::Message(..) | Incoming::Closed => Err(io::Error::other("it ended before it was ready")),
    };
    relay.end();
    outcome
}
