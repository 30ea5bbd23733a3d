//! Superservers that nobody here wrote, started with a configuration and stopped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::daemon::{LEAK, listens};
use crate::processes;
use crate::terminal::{PATIENCE, terminals};
use crate::world::{eventually, find_program, skip};

/// The daemon's executable under the name that says `inetd`.
pub(crate) const IN_RLOGIND: &str = "/mnt/in.rlogind";
/// Where `world.sh` puts what `setup.sh` has unpacked.
const UNPACKED: &str = "/mnt/superservers/usr/sbin";
/// The configuration of both inetds.
pub(crate) const INETD_CONF: &str = "/etc/inetd.conf";
/// And xinetd's.
const XINETD_CONF: &str = "/etc/xinetd.conf";
/// What the superserver itself says.
const TOLD: &str = "/mnt/superserver";
/// What xinetd writes down.
const XINETD_LOG: &str = "/mnt/xinetd.log";

/// The superservers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// GNU's.
    Inetutils,
    /// Debian's port of OpenBSD's; has no TCPMUX.
    Openbsd,
    /// The extended one, with its own kind of configuration.
    Xinetd,
    /// Stands for a socket unit with `Accept=yes`.
    Systemd,
}

impl Kind {
    fn program(self) -> Option<PathBuf> {
        let unpacked = |name: &str| Some(Path::new(UNPACKED).join(name)).filter(|file| file.is_file());
        match self {
            Kind::Inetutils => unpacked("inetutils-inetd"),
            Kind::Openbsd => unpacked("inetd"),
            Kind::Xinetd => unpacked("xinetd"),
            Kind::Systemd => find_program("systemd-socket-activate"),
        }
    }

    /// In the foreground, with the usual files.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Kind::Inetutils => &["-d", INETD_CONF],
            Kind::Openbsd => &["-i", INETD_CONF],
            Kind::Xinetd => {
                &["-dontfork", "-pidfile", "/run/xinetd.pid", "-filelog", XINETD_LOG, "-f", XINETD_CONF]
            }
            Kind::Systemd => &[],
        }
    }
}

/// A running superserver; dropping it kills it.
pub(crate) struct Superserver {
    child: Child,
}

impl Superserver {
    /// Starts it with port 513 served by `in.rlogind` and these arguments; `None`
    /// (and SKIPPED) when it is not there.
    pub(crate) fn rlogin(kind: Kind, letters: &[&str]) -> Option<Superserver> {
        let letters = letters.join(" ");
        let text = match kind {
            Kind::Inetutils | Kind::Openbsd => {
                format!("login stream tcp nowait root {IN_RLOGIND} in.rlogind {letters}\n")
            }
            // It takes no empty list of arguments.
            Kind::Xinetd if letters.is_empty() => xinetd_service("login", &format!("server = {IN_RLOGIND}")),
            Kind::Xinetd => {
                xinetd_service("login", &format!("server = {IN_RLOGIND}\nserver_args = {letters}"))
            }
            Kind::Systemd => return Superserver::socket_unit(&letters),
        };
        Superserver::start(kind, &text, 513)
    }

    fn socket_unit(letters: &str) -> Option<Superserver> {
        let arguments = ["--listen=[::]:513", "--accept", "--inetd", IN_RLOGIND].into_iter();
        let arguments: Vec<&str> = arguments.chain(letters.split_whitespace()).collect();
        Superserver::run(Kind::Systemd, &arguments, 513)
    }

    /// Starts it with this configuration and waits until it listens on that port.
    pub(crate) fn start(kind: Kind, configuration: &str, port: u16) -> Option<Superserver> {
        fs::write("/etc/services", "tcpmux 1/tcp\nlogin 513/tcp\n").unwrap();
        fs::write(if kind == Kind::Xinetd { XINETD_CONF } else { INETD_CONF }, configuration).unwrap();
        Superserver::run(kind, kind.arguments(), port)
    }

    /// Starts it with these arguments and waits until it listens on that port.
    pub(crate) fn run(kind: Kind, arguments: &[&str], port: u16) -> Option<Superserver> {
        let Some(program) = kind.program() else {
            skip(&format!("there is no superserver {kind:?}"));
            return None;
        };
        let told = File::options().create(true).append(true).open(TOLD).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .env(LEAK, "leaked")
            .stdin(Stdio::null())
            .stdout(told.try_clone().unwrap())
            .stderr(told)
            .spawn()
            .unwrap();
        let mut server = Superserver { child };
        eventually(&format!("{kind:?} listens on port {port}"), PATIENCE, || {
            assert_eq!(server.child.try_wait().unwrap(), None, "{kind:?} ended");
            listens(port).then_some(())
        });
        Some(server)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Checks that none of the processes that it started is left, and no terminal.
    pub(crate) fn nothing_is_left(&self) {
        eventually("no process and no terminal of a session is left", PATIENCE, || {
            (processes::descendants(self.pid()).is_empty() && terminals() == 0).then_some(())
        });
    }
}

impl Drop for Superserver {
    fn drop(&mut self) {
        if thread::panicking() {
            let told = fs::read_to_string(TOLD).unwrap_or_default();
            let log = fs::read_to_string(XINETD_LOG).unwrap_or_default();
            eprintln!("--- the superserver:\n{told}{log}\n--- processes:\n{}", processes::table());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service of xinetd's, for any number of connections at once.
pub(crate) fn xinetd_service(name: &str, lines: &str) -> String {
    format!(
        "defaults\n{{\ninstances = UNLIMITED\nper_source = UNLIMITED\ncps = 1000 1\n}}\n\
         service {name}\n{{\nsocket_type = stream\nprotocol = tcp\nwait = no\nuser = root\n{lines}\n}}\n"
    )
}
