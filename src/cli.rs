//! The command line: what can be asked for, as types. What becomes of it is
//! decided in `main`.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};

use crate::config;

mod control;

pub use control::{Control, DaemonStatus, Kill, Message, Sessions, Socket};

/// The name under which superservers know rlogin servers.
const INETD_NAME: &str = "in.rlogind";

/// An rlogin server (RFC 1282)
///
/// Without a command: serves, in the foreground unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "rlogind", version)]
pub struct Cli {
    /// What to do instead of serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How to serve, when there is no command.
    #[command(flatten)]
    pub serve: Serve,
}

/// `rlogind [--config FILE] [--listen ADDR:PORT]... [--stderr] [--daemon [--pid-file FILE]]`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Serve {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Listen here instead of where the configuration says; may be repeated
    #[arg(long, value_name = "ADDR:PORT", value_parser = config::listen_address)]
    pub listen: Vec<SocketAddr>,
    /// Write the audit log to standard error as well
    #[arg(long)]
    pub stderr: bool,
    /// Go to the background once the addresses are bound
    #[arg(long)]
    pub daemon: bool,
    /// Write the daemon's process id to this file
    #[arg(long, value_name = "FILE", requires = "daemon")]
    pub pid_file: Option<PathBuf>,
}

impl Serve {
    /// An option that only serving has.
    fn stray_option(&self) -> Option<&'static str> {
        let given = [
            ("--listen", !self.listen.is_empty()),
            ("--stderr", self.stderr),
            ("--daemon", self.daemon),
            ("--pid-file", self.pid_file.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }
}

/// `--config FILE`, wherever a configuration is read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ConfigFile {
    // Not clap's default value: only the default file may be missing, so whether
    // one was named must stay known.
    #[arg(
        long = "config",
        value_name = "FILE",
        // Before a command as well as behind it.
        global = true,
        help = format!("The configuration file [default: {}]", config::DEFAULT_PATH)
    )]
    file: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, if one was: as [`config::load_default_or`] wants it.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// Everything but serving.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Say whether rlogind would serve with this configuration, and where
    ///
    /// Exits with status 0 only when it would.
    Check(ConfigFile),
    /// Ask about the trust rules
    #[command(subcommand)]
    Trust(Trust),
    /// Serve the one connection that is standard input, for a superserver
    ///
    /// The executable does the same under the name in.rlogind.
    Inetd(Inetd),
    /// Be a TCPMUX service of inetd or xinetd
    #[command(subcommand)]
    Tcpmux(Tcpmux),
    /// Look for what commonly goes wrong, and say what mends it
    ///
    /// Exits with status 1 when something cannot work.
    Doctor(Doctor),
    /// Ask the daemon that runs
    #[command(flatten)]
    Control(Control),
}

/// `rlogind doctor`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Doctor {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Look at this client as well; may be repeated
    #[arg(long, value_name = "ADDR", value_parser = config::client_address)]
    pub client: Vec<IpAddr>,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `rlogind inetd`; the letters mean what they mean to other rlogin servers.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(disable_help_flag = true)]
pub struct Inetd {
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Answer TCPMUX's request first (RFC 1078): the superserver leaves it to us
    #[arg(long)]
    pub tcpmux_reply: bool,
    /// Refuse a client whose address and name do not confirm each other
    #[arg(short = 'a')]
    pub confirm_host: bool,
    /// Do not look at ~/.rhosts
    #[arg(short = 'l')]
    pub no_rhosts: bool,
    /// Look neither at ~/.rhosts nor at /etc/hosts.equiv
    #[arg(short = 'L')]
    pub no_files: bool,
    /// Do not ask a silent client whether it is still there
    #[arg(short = 'n')]
    pub no_keepalive: bool,
    /// Letters of other servers that ask for what is always or never so here: root's
    /// .rhosts, TCP_NODELAY, debugging
    #[arg(short = 'h', short_aliases = ['D', 'd'], hide = true, action = ArgAction::Count)]
    pub ignored: u8,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: (),
}

/// `rlogind tcpmux …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Tcpmux {
    /// Write rlogind into a superserver's configuration
    ///
    /// The names are those of tcpmux.services. Doing it again changes nothing.
    Register(Register),
    /// Take rlogind out of a superserver's configuration
    Unregister(Unregister),
    /// Say which superserver has rlogind's entry, and what answers on port 1
    ///
    /// Exits with status 1 when none has it, or when one has an old one.
    Status(Status),
}

/// `rlogind tcpmux register`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Register {
    /// Whose configuration.
    #[command(flatten)]
    pub superserver: Superserver,
    /// The configuration file, which the entry names as well.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// `rlogind tcpmux unregister`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Unregister {
    /// Whose configuration.
    #[command(flatten)]
    pub superserver: Superserver,
    /// Taken as everywhere else; nothing of it is needed.
    #[command(flatten)]
    pub config: ConfigFile,
    /// How to change it.
    #[command(flatten)]
    pub change: Change,
}

/// `rlogind tcpmux status`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Status {
    /// Whose configuration.
    #[command(flatten)]
    pub superserver: Superserver,
    /// The configuration file that the entry should name.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// The superservers that are meant; without any, those that are found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Superserver {
    /// The configuration of an inetd that knows TCPMUX
    #[arg(long, value_name = "FILE")]
    pub inetd_conf: Option<PathBuf>,
    /// The directory of xinetd's files
    #[arg(long, value_name = "DIR")]
    pub xinetd_dir: Option<PathBuf>,
}

/// How a superserver's configuration is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Change {
    /// Do not tell the superserver to read its configuration again
    #[arg(long)]
    pub no_reload: bool,
    /// Print the difference, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `rlogind trust …`
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Trust {
    /// Say what the trust rules decide about one login, and why
    Explain(Explain),
    /// List what is wrong with the trust files
    ///
    /// Exits with status 1 when anything is.
    Check(CheckTrust),
}

/// `rlogind trust explain`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Explain {
    /// The client's address
    // v4-mapped addresses are IPv4 everywhere in this program.
    #[arg(long, value_name = "ADDR", value_parser = config::client_address)]
    pub from: IpAddr,
    /// The client's port
    #[arg(long, value_name = "N", default_value_t = 1023, value_parser = config::port)]
    pub port: u16,
    /// The user on the client's side
    #[arg(long, value_name = "NAME")]
    pub remote_user: String,
    /// The account on this machine
    #[arg(long, value_name = "NAME", value_parser = config::account_to_find)]
    pub user: String,
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
    /// Answer in JSON
    #[arg(long)]
    pub json: bool,
}

/// `rlogind trust check`
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct CheckTrust {
    /// Only this account's files
    #[arg(long, value_name = "NAME", conflicts_with = "all", value_parser = config::account_to_find)]
    pub user: Option<String>,
    /// Every account's files; what is done without --user as well
    #[arg(long)]
    pub all: bool,
    /// The configuration file.
    #[command(flatten)]
    pub config: ConfigFile,
}

/// Reads a command line.
///
/// # Errors
/// What is not understood, or the help that was asked for.
pub fn read(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let arguments = as_inetd(arguments);
    let cli = Cli::try_parse_from(&arguments)?;
    if configurations(&arguments) > 1 {
        // clap takes the last one, and a command would ask another daemon than the one that was named first.
        let text = "the argument '--config <FILE>' cannot be used multiple times";
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, text));
    }
    let listen = &cli.serve.listen;
    if let Some((_, address)) =
        listen.iter().enumerate().find(|(at, address)| listen[..*at].contains(address))
    {
        let text = format!("--listen: {}", config::twice(*address));
        return Err(Cli::command().error(ErrorKind::ValueValidation, text));
    }
    // All but --config, which every command knows: it would be ignored.
    let stray = cli.serve.stray_option().filter(|_| cli.command.is_some());
    match stray {
        Some(option) => {
            let text = format!("{option} is for serving, and cannot be used with a command");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, text))
        }
        None => Ok(cli),
    }
}

/// How often a configuration is named.
fn configurations(arguments: &[OsString]) -> usize {
    let options = arguments.iter().take_while(|argument| *argument != "--");
    options
        .filter(|argument| *argument == "--config" || argument.as_bytes().starts_with(b"--config="))
        .count()
}

/// Under the name in.rlogind, as inetd.conf has it, the command is `inetd`.
fn as_inetd(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    if name == Some(OsStr::new(INETD_NAME)) {
        arguments.insert(1, "inetd".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(line: &str) -> Result<Cli, ErrorKind> {
        read(line.split_whitespace().map(OsString::from).collect()).map_err(|e| e.kind())
    }

    fn command(line: &str) -> Command {
        from(line).unwrap().command.unwrap()
    }

    #[test]
    fn clap_finds_no_contradiction() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_it_serves() {
        let cli = from("rlogind").unwrap();
        assert_eq!(cli.command, None);
        assert_eq!(cli.serve.config.path(), None);
        assert!(cli.serve.listen.is_empty() && !cli.serve.stderr && !cli.serve.daemon);

        let serve = from(
            "rlogind --config /c --listen [::1]:513 --listen 127.0.0.1:514 --stderr --daemon --pid-file /p",
        )
        .unwrap()
        .serve;
        assert_eq!(serve.config.path(), Some(Path::new("/c")));
        assert_eq!(serve.listen, ["[::1]:513".parse().unwrap(), "127.0.0.1:514".parse().unwrap()]);
        assert!(serve.stderr && serve.daemon);
        assert_eq!(serve.pid_file, Some(PathBuf::from("/p")));
    }

    #[test]
    fn commands() {
        assert_eq!(command("rlogind check"), Command::Check(ConfigFile::default()));
        assert_eq!(
            command("rlogind check --config /c"),
            Command::Check(ConfigFile { file: Some(PathBuf::from("/c")) })
        );
        assert_eq!(
            command("rlogind trust explain --from ::ffff:192.0.2.7 --remote-user bob --user alice"),
            Command::Trust(Trust::Explain(Explain {
                from: "192.0.2.7".parse().unwrap(),
                port: 1023,
                remote_user: "bob".to_owned(),
                user: "alice".to_owned(),
                config: ConfigFile::default(),
                json: false,
            }))
        );
        assert_eq!(
            command(
                "rlogind trust explain --from ::1 --port 40000 --remote-user b --user a --config /c --json"
            ),
            Command::Trust(Trust::Explain(Explain {
                from: "::1".parse().unwrap(),
                port: 40000,
                remote_user: "b".to_owned(),
                user: "a".to_owned(),
                config: ConfigFile { file: Some(PathBuf::from("/c")) },
                json: true,
            }))
        );
        for (line, user, all) in [
            ("rlogind trust check", None, false),
            ("rlogind trust check --all", None, true),
            ("rlogind trust check --user alice", Some("alice".to_owned()), false),
        ] {
            let expected = CheckTrust { user, all, config: ConfigFile::default() };
            assert_eq!(command(line), Command::Trust(Trust::Check(expected)));
        }
    }

    #[test]
    fn tcpmux_commands() {
        let config = ConfigFile { file: Some(PathBuf::from("/c")) };
        let superserver = Superserver { inetd_conf: Some("/i".into()), xinetd_dir: Some("/x".into()) };
        let change = Change { no_reload: true, dry_run: true };
        let named = "--inetd-conf /i --xinetd-dir /x";
        for (line, expected) in [
            (
                format!("register {named} --config /c --no-reload --dry-run"),
                Tcpmux::Register(Register {
                    superserver: superserver.clone(),
                    config: config.clone(),
                    change: change.clone(),
                }),
            ),
            (
                format!("unregister {named} --no-reload --dry-run"),
                Tcpmux::Unregister(Unregister {
                    superserver: superserver.clone(),
                    config: ConfigFile::default(),
                    change,
                }),
            ),
            (format!("status {named} --config /c"), Tcpmux::Status(Status { superserver, config })),
            (
                "unregister".to_owned(),
                Tcpmux::Unregister(Unregister {
                    superserver: Superserver::default(),
                    config: ConfigFile::default(),
                    change: Change::default(),
                }),
            ),
        ] {
            assert_eq!(command(&format!("rlogind tcpmux {line}")), Command::Tcpmux(expected));
        }
    }

    #[test]
    fn doctor() {
        let config = ConfigFile { file: Some(PathBuf::from("/c")) };
        let client = ["192.0.2.7", "::1"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(
            command("rlogind doctor --config /c --client ::ffff:192.0.2.7 --client ::1 --json"),
            Command::Doctor(Doctor { config, client, json: true })
        );
    }

    #[test]
    fn the_configuration_may_be_named_before_the_command() {
        for line in [
            "check",
            "doctor --json",
            "trust check",
            "trust explain --from ::1 --remote-user b --user a",
            "tcpmux register",
            "tcpmux unregister",
            "tcpmux status",
            "inetd -a",
            "sessions",
            "kill 1",
            "message 1 x",
            "status",
            "drain",
            "upgrade",
            "reload",
        ] {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            let before = command(&format!("rlogind --config /c {line}"));
            assert_eq!(before, command(&format!("rlogind {first} --config /c {rest}")), "{line}");
            assert_ne!(before, command(&format!("rlogind {line}")), "{line}");
        }
        assert_eq!(from("rlogind check --config /c --config /d"), Err(ErrorKind::ArgumentConflict));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (line, kind) in [
            ("rlogind --pid-file /p", ErrorKind::MissingRequiredArgument),
            ("rlogind --listen 513", ErrorKind::ValueValidation),
            ("rlogind --listen ::1:513", ErrorKind::ValueValidation),
            ("rlogind --listen 127.0.0.1:0", ErrorKind::ValueValidation),
            (
                "rlogind --listen 127.0.0.1:513 --listen [::]:513 --listen 127.0.0.1:513",
                ErrorKind::ValueValidation,
            ),
            ("rlogind --listen [::ffff:127.0.0.1]:513 --listen 127.0.0.1:513", ErrorKind::ValueValidation),
            ("rlogind --daemon check", ErrorKind::ArgumentConflict),
            ("rlogind --port 513", ErrorKind::UnknownArgument),
            ("rlogind start", ErrorKind::InvalidSubcommand),
            ("rlogind check --listen 127.0.0.1:513", ErrorKind::UnknownArgument),
            ("rlogind tcpmux", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("rlogind tcpmux status --dry-run", ErrorKind::UnknownArgument),
            ("rlogind trust", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("rlogind trust explain --from host --remote-user b --user a", ErrorKind::ValueValidation),
            ("rlogind trust explain --from ::1 --user a", ErrorKind::MissingRequiredArgument),
            (
                "rlogind trust explain --from ::1 --port 0 --remote-user b --user a",
                ErrorKind::ValueValidation,
            ),
            ("rlogind trust check --all --user a", ErrorKind::ArgumentConflict),
            ("rlogind doctor --client host", ErrorKind::ValueValidation),
            ("rlogind kill", ErrorKind::MissingRequiredArgument),
            ("rlogind kill alice", ErrorKind::ValueValidation),
            ("rlogind message", ErrorKind::MissingRequiredArgument),
            ("rlogind status --json --metrics", ErrorKind::ArgumentConflict),
            ("rlogind --version", ErrorKind::DisplayVersion),
            ("rlogind trust explain --help", ErrorKind::DisplayHelp),
        ] {
            assert_eq!(from(line), Err(kind), "{line}");
        }
    }

    /// Not what a parser of the language says of them.
    #[test]
    fn a_wrong_value_is_told_what_would_be_right() {
        let told = |line: &[&str]| {
            let line = ["rlogind"].iter().chain(line).map(OsString::from).collect();
            read(line).unwrap_err().to_string()
        };
        let explain = |option: &str, value: &str| {
            let right = [("--from", "::1"), ("--remote-user", "b"), ("--user", "a")];
            let right = right.into_iter().filter(|(name, _)| *name != option).flat_map(|(a, b)| [a, b]);
            told(&["trust", "explain"].into_iter().chain(right).chain([option, value]).collect::<Vec<_>>())
        };
        for port in ["x", "", "0", "65536", "-1", "1.5"] {
            let told = explain("--port", port);
            let value_is_missing = port.is_empty() || port.starts_with('-');
            assert!(
                told.contains("a port is a number from 1 to 65535") || value_is_missing,
                "{port}: {told}"
            );
            assert!(!told.contains("invalid digit"), "{told}");
        }
        for told in [explain("--from", "[::1]"), told(&["doctor", "--client", "[::1]"])] {
            assert!(told.contains("not an IP address (write ::1, without anything around it)"), "{told}");
        }
        for told in [explain("--user", ""), told(&["trust", "check", "--user", ""])] {
            assert!(told.contains("the name of the account is empty"), "{told}");
        }
        let twice = told(&["--listen", "127.0.0.1:513", "--listen", "127.0.0.1:513"]);
        assert!(twice.contains("127.0.0.1:513 stands there twice"), "{twice}");
        assert!(told(&["--listen", ""]).contains("it is empty"));
        assert!(told(&["kill", "1.5"]).contains("no session's number"));
    }

    #[test]
    fn help_names_the_default_file() {
        let help = Cli::command().render_long_help().to_string();
        assert!(help.contains(config::DEFAULT_PATH), "{help}");
    }
}
