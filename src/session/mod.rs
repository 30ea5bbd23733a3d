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
mod line;
mod shell;
mod speed;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::Instant;

use nix::sys::stat::{Mode, umask};
use nix::unistd::setsid;

use crate::audit::event::LoginEvent;
use crate::config::Config;
use crate::ipc::{FromSession, Incoming, SessionEndpoint, SessionStart, Shared, ToSession};
use crate::records::journal::Journal;
use crate::sys::channel::Channel;
use crate::sys::module_log;
use crate::sys::process::{self, DescriptorLimit};
use crate::sys::resolve;
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
        Incoming::Message(ToSession::CloseRecords(left), _) => {
            left.close();
            return Ok(());
        }
        Incoming::Message(ToSession::CloseStale, descriptors) => {
            return close_stale(endpoint, descriptors);
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

/// Closes the records that an earlier daemon and all its processes left open.
fn close_stale(mut monitor: SessionEndpoint, descriptors: Vec<OwnedFd>) -> io::Result<()> {
    let Ok([shared]) = <[_; 1]>::try_from(descriptors) else {
        return Err(io::Error::other("no settings from the monitor"));
    };
    let Shared { config, .. } = Shared::load(shared)?;
    match Journal::of(&config).close_stale()? {
        0 => Ok(()),
        count => monitor.send(&FromSession::StaleClosed(count), Vec::new()),
    }
}

impl Login {
    fn begin(
        endpoint: SessionEndpoint,
        start: SessionStart,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<(Login, Names)> {
        let Ok([tty, shared]) = <[_; 2]>::try_from(descriptors) else {
            return Err(io::Error::other("no terminal from the monitor"));
        };
        let Shared { config, source } = Shared::load(shared)?;
        let SessionStart { peer, fields, tty: tty_name, descriptors, .. } = start;
        let Handshake { client_user, server_user, terminal, speed } =
            Handshake::from_parts(&fields.client_user, &fields.server_user, &fields.terminal)
                .map_err(|refusal| io::Error::other(refusal.to_string()))?;
        setsid()?;
        umask(Mode::S_IWGRP | Mode::S_IWOTH);
        let (soft, hard) = descriptors;
        process::set_descriptor_limit(DescriptorLimit { soft, hard })?;
        // Before the first name is looked up. Without it what modules log is lost, and no more.
        let _ = module_log::redirect(endpoint.as_fd(), FromSession::module_line);
        let monitor = Rc::new(RefCell::new(endpoint));
        let deadline = Instant::now() + config.limits.login;
        let console = Rc::new(Console::new(tty, Rc::clone(&monitor), deadline)?);
        let host = resolve::confirmed_name(peer.ip()).ok();
        let login = Login { config, source, peer, tty: tty_name, terminal, speed, host, console, monitor };
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
