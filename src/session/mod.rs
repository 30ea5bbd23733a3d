//! One login: a short straight script in a process of its own.
//!
//! Names the host, applies the trust rules, runs PAM on the terminal, writes the
//! login records, starts the shell, waits, closes the PAM session. Everything
//! that may block (DNS, name services, PAM, network homes) blocks here and nowhere
//! else. Root until the shell is started; what the client sent reaches no
//! argument vector, log or prompt unchecked.

mod authenticate;
mod console;
mod environment;
mod hush;
mod line;
mod requests;
mod shell;
mod speed;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::stat::{Mode, umask};
use nix::unistd::setsid;

use crate::audit::event::LoginEvent;
use crate::config::Config;
use crate::ipc::{FromSession, Incoming, SessionEndpoint, SessionStart, Shared, ToSession};
use crate::records::registry::SessionRegistry;
use crate::records::{Pending, Writer, worker};
use crate::sys::channel::Channel;
use crate::sys::process::{self, DescriptorLimit, Process};
use crate::sys::{local, memory_file, module_log, resolve};
use crate::trust::files::SystemWorld;
use crate::wire::answer;
use crate::wire::handshake::{Handshake, Name, TerminalType};
use console::{Console, Over};

/// What is known of the login that this process is about.
#[derive(Debug)]
struct Login {
    config: Config,
    /// Where the configuration was read from.
    source: String,
    peer: SocketAddr,
    /// The terminal's name, e.g. `pts/3`.
    tty: String,
    terminal: TerminalType,
    speed: Option<u32>,
    /// The client's name, when its address and its name confirm each other.
    host: Option<String>,
    console: Rc<Console>,
    monitor: Rc<RefCell<SessionEndpoint>>,
    /// Until somebody has logged in.
    records: RefCell<Writer>,
    /// What the trust rules look at; one, as the time for its look-ups is that of the login.
    world: RefCell<SystemWorld>,
}

/// What the client said of users. Some clients send the password as their own
/// user's name, so this is dropped, and wiped, before the shell starts.
struct Names {
    client_user: Name,
    server_user: Name,
}

/// Why a login ends without a session; the log has said it, or will.
#[derive(Debug)]
enum NoSession {
    /// The user went away, or was not quick enough.
    Over(Over),
    /// Refused for this reason; the user has been told.
    Refused(String),
}

/// Runs one login from handshake to logout.
///
/// # Errors
/// When the monitor is gone or sent what it must not.
pub fn run(channel: Channel) -> io::Result<()> {
    process::set_name(c"rlogind-session");
    process::protect();
    process::unblock_signals()?;
    process::survive_file_limit();
    let mut endpoint = SessionEndpoint::new(channel);
    let (login, names) = match endpoint.receive()? {
        Incoming::Message(ToSession::Start(start), descriptors) => {
            Login::begin(endpoint, start, descriptors)?
        }
        Incoming::Message(ToSession::WriteRecords, descriptors) => {
            return write_records(endpoint, descriptors);
        }
        Incoming::Message(ToSession::CloseDescriptors, descriptors) => {
            return close_last(endpoint, descriptors);
        }
        Incoming::Message(ToSession::EndFamily(id), descriptors) => {
            for process in descriptors {
                Process::inherited(id, process).kill_with_descendants();
            }
            return Ok(());
        }
        Incoming::Message(ToSession::RemoveFiles(files), _) => {
            remove_files(&files);
            return Ok(());
        }
        Incoming::Message(ToSession::LetMembersIn { path, file, let_in }, _) => {
            return local::let_group_in(&path, file, let_in);
        }
        Incoming::Message(..) | Incoming::Nothing | Incoming::Closed => {
            return Err(io::Error::other("no start from the monitor"));
        }
    };
    let outcome = login.identify(names).and_then(|user| shell::open(&login, user));
    module_log::report_left_out();
    let reason = match outcome {
        Ok(session) => {
            session.run_to_end(&login);
            module_log::report_left_out();
            return Ok(());
        }
        Err(NoSession::Over(over)) => over.reason().to_owned(),
        Err(NoSession::Refused(reason)) => reason,
    };
    login.report(LoginEvent::Abandoned { reason });
    Ok(())
}

/// Closes descriptors whose close may wait for somebody else, after the monitor has closed its own.
fn close_last(mut monitor: SessionEndpoint, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    while !matches!(monitor.receive()?, Incoming::Closed) {}
    // They are closed with this process: that does not wait for a network.
    std::mem::forget(descriptors);
    Ok(())
}

/// Removes files that are still what they were; the directory they are in may make this wait.
fn remove_files(files: &[(PathBuf, Option<(u64, u64)>)]) {
    for (path, identity) in files {
        let found = path.symlink_metadata().map(|data| (data.dev(), data.ino()));
        if found.is_ok_and(|found| identity.is_none_or(|identity| identity == found)) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Is the records worker.
fn write_records(mut monitor: SessionEndpoint, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    process::set_name(c"rlogind-records");
    let task = |descriptors: Vec<OwnedFd>| {
        let Ok([shared, task]) = <[_; 2]>::try_from(descriptors) else {
            return Err(io::Error::other("no settings from the monitor"));
        };
        let task: worker::Task = postcard::from_bytes(&memory_file::read(task)?).map_err(io::Error::other)?;
        Ok((shared, task))
    };
    let (shared, first) = task(descriptors)?;
    let Shared { config, .. } = Shared::load(shared)?;
    monitor.set_nonblocking()?;
    let more = || match monitor.receive() {
        Ok(Incoming::Message(ToSession::WriteRecords, descriptors)) => Some(task(descriptors).ok()?.1),
        Ok(Incoming::Message(..) | Incoming::Nothing | Incoming::Closed) | Err(_) => None,
    };
    let outcome = worker::run(&SessionRegistry::of(&config), config.audit.records, first, more);
    let report = match &outcome {
        Ok(worker::Done::Written(0)) => return Ok(()),
        Ok(worker::Done::Written(count)) => FromSession::StaleClosed(*count),
        Ok(worker::Done::Busy) => FromSession::RecordsBusy,
        Err(error) => FromSession::RecordsFailed(error.to_string()),
    };
    // The daemon may have ended meanwhile, and others wait for nothing but our end.
    let _ = monitor.send(&report, Vec::new());
    outcome.map(|_| ())
}

impl Login {
    fn begin(
        endpoint: SessionEndpoint,
        start: SessionStart,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<(Login, Names)> {
        let Ok([tty, shared, leader]) = <[_; 3]>::try_from(descriptors) else {
            return Err(io::Error::other("no terminal from the monitor"));
        };
        let Shared { config, source } = Shared::load(shared)?;
        // Early: name services and PAM modules make this process a large one.
        let records = RefCell::new(Writer::start(config.audit.records));
        let SessionStart { peer, fields, tty: tty_name, descriptors, round_trip } = start;
        let Handshake { client_user, server_user, terminal, speed } =
            Handshake::from_parts(&fields.client_user, &fields.server_user, &fields.terminal)
                .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        setsid()?;
        // What PAM's modules set afterwards is the user's.
        process::take_ordinary_standing();
        umask(Mode::S_IWGRP | Mode::S_IWOTH);
        let (soft, hard) = descriptors;
        process::set_descriptor_limit(DescriptorLimit { soft, hard })?;
        // Before the first name is looked up. Without it what modules log is lost, and no more.
        let _ = module_log::redirect(endpoint.as_fd(), FromSession::module_line);
        let monitor = Rc::new(RefCell::new(endpoint));
        let deadline = Instant::now() + config.limits.login;
        let console = Rc::new(Console::new(tty, leader, Rc::clone(&monitor), deadline, round_trip)?);
        let host = resolve::confirmed_name(peer.ip()).ok();
        let world = RefCell::default();
        let login = Login {
            config,
            source,
            peer,
            tty: tty_name,
            terminal,
            speed,
            host,
            console,
            monitor,
            records,
            world,
        };
        Ok((login, Names { client_user, server_user }))
    }

    /// The client's confirmed name, or its address.
    fn host_or_address(&self) -> String {
        self.host.clone().unwrap_or_else(|| self.peer.ip().to_string())
    }

    fn report(&self, event: LoginEvent) {
        // Without a monitor nobody is left to tell, and the session ends anyway.
        let _ = self.send(&FromSession::Event(event));
    }

    /// What could not be written to the login records in time is the records worker's.
    fn report_records(&self, pending: Option<Pending>) {
        if let Some(pending) = pending {
            let _ = self.send(&FromSession::RecordsPending(pending));
        }
    }

    fn send(&self, message: &FromSession) -> io::Result<()> {
        self.monitor.borrow_mut().send(message, Vec::new())
    }

    /// Tells the user of a refusal as rlogin clients expect it.
    fn refuse(&self, message: &str) {
        // The terminal makes CR LF of the LF itself.
        let mut text = answer::refusal(message, false);
        text.retain(|byte| *byte != b'\r');
        self.console.show(&text);
    }
}
