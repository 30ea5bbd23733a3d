//! The commands that ask the daemon that runs.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::ConfigFile;
use crate::control::protocol::{LONGEST_MESSAGE, MOST_IDS, Recipients};

/// What an administrator can ask.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Control {
    /// List who is logged in, or about to be
    Sessions(Sessions),
    /// Hang up sessions
    ///
    /// Exits with status 1 when one of them is not there.
    Kill(Kill),
    /// Write to the terminals of users
    ///
    /// Exits with status 1 when one of them was not shown it.
    Message(Message),
    /// Say how the daemon is
    Status(DaemonStatus),
    /// Let nobody in any more, and end with the last session
    Drain(Socket),
    /// Have the executable on disk take over, sessions and all
    ///
    /// Returns when it has; exits with status 1 when it does not.
    Upgrade(Socket),
    /// Have the daemon read its configuration again
    ///
    /// Returns when it is in force; exits with status 1 when it is not taken.
    Reload(Socket),
}

/// Where the daemon that is meant can be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Socket {
    /// The daemon's control socket, instead of the one that the configuration names
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// `rlogind sessions`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Sessions {
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds
    #[arg(long)]
    pub watch: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub daemon: Socket,
}

/// `rlogind kill`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Kill {
    /// The sessions, by their numbers
    #[arg(value_name = "ID", required = true, num_args = 1..=MOST_IDS, value_parser = session_number)]
    pub ids: Vec<u64>,
    /// Whom to ask.
    #[command(flatten)]
    pub daemon: Socket,
}

/// `rlogind message`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Message {
    /// Write to everybody who is logged in
    #[arg(long)]
    pub all: bool,
    /// The session's number, without --all, and the text, in one word or more; after `--` words
    /// may begin with `-`
    // Options are options after the text as well: what an administrator adds must not be shown to users.
    #[arg(value_name = "ID|TEXT", required = true)]
    pub words: Vec<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub daemon: Socket,
}

impl Message {
    /// For whom it is, and what.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parts(&self) -> Result<(Recipients, String), String> {
        let (to, words) = match self.words.split_first() {
            _ if self.all => (Recipients::All, self.words.as_slice()),
            Some((id, words)) => {
                let id = id.parse().map_err(|_| format!("{id:?} is {NO_NUMBER}, or use --all"))?;
                (Recipients::Ids(vec![id]), words)
            }
            None => (Recipients::All, [].as_slice()),
        };
        let text = words.join(" ");
        match text.len() {
            0 => Err("there is no text".to_owned()),
            1..=LONGEST_MESSAGE => Ok((to, text)),
            length => Err(format!("the text has {length} bytes; there may be {LONGEST_MESSAGE} at most")),
        }
    }
}

/// What is said of a word that is not one.
const NO_NUMBER: &str = "no session's number; `rlogind sessions` lists them under ID";

fn session_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| NO_NUMBER.to_owned())
}

/// `rlogind status`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DaemonStatus {
    /// Answer in JSON
    #[arg(long, conflicts_with = "metrics")]
    pub json: bool,
    /// Answer in the Prometheus text format
    #[arg(long)]
    pub metrics: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub daemon: Socket,
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::super::{Cli, Command};
    use super::*;

    fn command(line: &str) -> Control {
        let cli = Cli::try_parse_from(line.split_whitespace()).unwrap();
        let Some(Command::Control(command)) = cli.command else { panic!("another command") };
        command
    }

    #[test]
    fn the_administrators_commands() {
        let daemon = Socket { socket: Some("/s".into()), config: ConfigFile::default() };
        let ask = Socket::default;
        for (line, expected) in [
            ("sessions", Control::Sessions(Sessions { json: false, watch: false, daemon: ask() })),
            (
                "sessions --json --watch --socket /s",
                Control::Sessions(Sessions { json: true, watch: true, daemon: daemon.clone() }),
            ),
            ("kill 3 4", Control::Kill(Kill { ids: vec![3, 4], daemon: ask() })),
            ("status", Control::Status(DaemonStatus { json: false, metrics: false, daemon: ask() })),
            ("drain", Control::Drain(ask())),
            ("upgrade --socket /s", Control::Upgrade(daemon)),
            ("reload", Control::Reload(ask())),
        ] {
            assert_eq!(command(&format!("rlogind {line}")), expected);
        }
        let parts = |line: &str| {
            let Control::Message(message) = command(&format!("rlogind message {line}")) else {
                panic!("no message");
            };
            message.parts()
        };
        assert_eq!(parts("3 go home"), Ok((Recipients::Ids(vec![3]), "go home".to_owned())));
        assert_eq!(parts("--all 3 minutes"), Ok((Recipients::All, "3 minutes".to_owned())));
        assert_eq!(parts("3 minutes --all"), Ok((Recipients::All, "3 minutes".to_owned())));
        let error = Cli::try_parse_from(["rlogind", "kill", "x"]).unwrap_err().to_string();
        assert!(error.contains("no session's number; `rlogind sessions` lists them under ID"), "{error}");
        assert!(parts("alice hello").is_err() && parts("3").is_err());
        assert!(parts(&format!("3 {}", "a".repeat(LONGEST_MESSAGE + 1))).is_err());
    }

    #[test]
    fn options_are_options_before_in_and_after_the_text() {
        let message = |line: &str| {
            let words = format!("rlogind message {line}");
            let cli = super::super::read(words.split_whitespace().map(Into::into).collect());
            let Some(Command::Control(Control::Message(message))) = cli.map_err(|e| e.kind())?.command else {
                panic!("another command")
            };
            Ok(message)
        };
        for line in [
            "--config /c --socket /s --all go home",
            "--all go --config /c home --socket /s",
            "--all go home --config=/c --socket=/s",
            "go home --socket /s --all --config /c",
        ] {
            let message = message(line).unwrap();
            assert_eq!(message.parts(), Ok((Recipients::All, "go home".to_owned())), "{line}");
            assert_eq!(message.daemon.socket, Some("/s".into()), "{line}");
            assert_eq!(message.daemon.config.path(), Some(std::path::Path::new("/c")), "{line}");
        }
        for (line, text) in [
            ("--all -- -5 degrees", "-5 degrees"),
            ("--all -- --config /c --config /d", "--config /c --config /d"),
            ("--all see -- --socket /s", "see --socket /s"),
            ("--all - pause -", "- pause -"),
            ("3 -- --all", "--all"),
            ("-- 3 --all -- x", "--all -- x"),
        ] {
            let message = message(line).unwrap();
            assert_eq!(message.parts().unwrap().1, text, "{line}");
            assert_eq!(message.daemon, Socket::default(), "{line}");
            assert_eq!(message.all, line.starts_with("--all"), "{line}");
        }
        for (line, kind) in [
            ("--all hi --config", ErrorKind::InvalidValue),
            ("--all hi --config /c --config /d", ErrorKind::ArgumentConflict),
            ("--all hi --socket /s --socket /s", ErrorKind::ArgumentConflict),
            ("--all -5 degrees", ErrorKind::UnknownArgument),
            ("--all hi --confg /c", ErrorKind::UnknownArgument),
        ] {
            assert_eq!(message(line), Err(kind), "{line}");
        }
    }
}
