//! The commands themselves: ask, print, and say whether it was done.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::unistd::{User, getuid};
use serde::Serialize;

use super::ask::ask;
use super::protocol::{Answer, Outcome, Recipients, Request, Sessions};
use super::{metrics, status as report, table, text};
use crate::config::{self, Control};
use crate::sys::pty;

/// How often `--watch` looks.
const WATCH: Duration = Duration::from_secs(2);
/// Clears the screen, ECMA-48.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Where the daemon's socket is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The socket, when it was named.
    pub socket: Option<&'a Path>,
    /// The configuration file that says where it is, when one was named.
    pub config: Option<&'a Path>,
}

impl Place<'_> {
    /// # Errors
    /// The configuration that was named cannot be used: another daemon than the one that is meant would be asked.
    fn socket(&self) -> io::Result<PathBuf> {
        let loaded = match (self.config, self.socket) {
            (None, Some(socket)) => return Ok(socket.to_owned()),
            (config, _) => config::load_default_or(config),
        };
        match loaded {
            Ok((config, _)) => Ok(self.socket.map_or(config.control.socket, Path::to_owned)),
            Err(error) if self.config.is_some() => {
                Err(io::Error::other(format!("{}; the daemon is not asked", error.brief())))
            }
            Err(error) => {
                // The daemon runs with the one before, and has to be looked after all the same.
                let socket = Control::default().socket;
                let _ = writeln!(io::stderr(), "rlogind: {}; asking at {}", error.brief(), socket.display());
                Ok(socket)
            }
        }
    }

    fn ask(&self, request: &Request) -> io::Result<Answer> {
        ask(&self.socket()?, request)
    }
}

/// `rlogind sessions`
///
/// # Errors
/// The daemon cannot be asked, or `out` cannot be written.
pub fn sessions(place: Place<'_>, json: bool, watch: bool, out: &mut dyn Write) -> io::Result<bool> {
    let socket = place.socket()?;
    loop {
        let Answer::Sessions(sessions) = ask(&socket, &Request::Sessions)? else { return Err(unexpected()) };
        if watch && !json && io::stdout().is_terminal() {
            write!(out, "{CLEAR}")?;
        }
        show_sessions(&sessions, json, watch, out)?;
        if !watch {
            return Ok(true);
        }
        thread::sleep(WATCH);
    }
}

fn show_sessions(sessions: &Sessions, json: bool, watch: bool, out: &mut dyn Write) -> io::Result<()> {
    if json && watch {
        // One line each, so that a reader knows where one ends.
        serde_json::to_writer(&mut *out, sessions)?;
        writeln!(out)?;
    } else if json {
        print_json(sessions, out)?;
    } else {
        let width = pty::size(io::stdout().as_fd()).map(|(_, columns)| usize::from(columns));
        out.write_all(table::table(&sessions.sessions, width, text::offset()).as_bytes())?;
    }
    out.flush()
}

/// How `rlogind status` answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For Prometheus.
    Metrics,
}

/// `rlogind status`
///
/// # Errors
/// As [`sessions`].
pub fn status(place: Place<'_>, form: Form, out: &mut dyn Write) -> io::Result<bool> {
    let Answer::Status(found) = place.ask(&Request::Status)? else { return Err(unexpected()) };
    match form {
        Form::Text => out.write_all(report::text(&found).as_bytes())?,
        Form::Json => print_json(&found, out)?,
        Form::Metrics => out.write_all(metrics::text(&found).as_bytes())?,
    }
    Ok(true)
}

/// `rlogind kill`; says whether all of them were hung up.
///
/// # Errors
/// As [`sessions`].
pub fn kill(place: Place<'_>, ids: &[u64], out: &mut dyn Write) -> io::Result<bool> {
    let answer = place.ask(&Request::Kill { ids: ids.to_vec() })?;
    each(answer, "hung up", out)
}

/// `rlogind message`; says whether all of them were shown it.
///
/// # Errors
/// As [`sessions`].
pub fn message(place: Place<'_>, to: Recipients, words: &str, out: &mut dyn Write) -> io::Result<bool> {
    let uid = getuid();
    let sender = User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let answer = place.ask(&Request::Message { to, sender, text: words.to_owned() })?;
    each(answer, "shown", out)
}

fn each(answer: Answer, done: &str, out: &mut dyn Write) -> io::Result<bool> {
    let Answer::Each(outcomes) = answer else { return Err(unexpected()) };
    for Outcome { id, trouble } in &outcomes {
        let told = trouble.as_deref().map_or_else(|| done.to_owned(), text::visible);
        writeln!(out, "session {id}: {told}")?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.trouble.is_none()))
}

/// `rlogind drain`
///
/// # Errors
/// As [`sessions`].
pub fn drain(place: Place<'_>, out: &mut dyn Write) -> io::Result<bool> {
    done(place.ask(&Request::Drain)?, out)
}

/// `rlogind upgrade`, when it is done.
///
/// # Errors
/// As [`sessions`], and why there is no upgrade.
pub fn upgrade(place: Place<'_>, out: &mut dyn Write) -> io::Result<bool> {
    done(place.ask(&Request::Upgrade)?, out)
}

/// `rlogind reload`, when it is done.
///
/// # Errors
/// As [`sessions`], and why the configuration is not taken.
pub fn reload(place: Place<'_>, out: &mut dyn Write) -> io::Result<bool> {
    done(place.ask(&Request::Reload)?, out)
}

fn done(answer: Answer, out: &mut dyn Write) -> io::Result<bool> {
    let Answer::Done { notes } = answer else { return Err(unexpected()) };
    for note in notes {
        writeln!(out, "{}", text::visible(&note))?;
    }
    Ok(true)
}

fn print_json(value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

fn unexpected() -> io::Error {
    io::Error::other("rlogind answered something else")
}
