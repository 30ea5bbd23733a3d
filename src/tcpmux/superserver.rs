//! The superservers that know TCPMUX: where their configuration is, and how they come to read it again.
//!
//! Must never send a signal to a process that is not the superserver.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::file::shown;
use crate::sys::file as regular;

/// More bytes than a process id has.
const LONGEST_NUMBER: u64 = 64;

/// The name of our file in xinetd's directory. With a dot in it xinetd would not read it.
const XINETD_FILE: &str = "rlogind-tcpmux";

/// Where everything is on this system.
#[derive(Debug, Clone)]
pub struct Places {
    /// GNU's inetd. The `inetd` of other packages knows no TCPMUX.
    pub inetd: Superserver,
    /// xinetd.
    pub xinetd: Superserver,
    /// Where TCPMUX is looked for: one after the other until one answers.
    pub port: Vec<SocketAddr>,
}

/// A superserver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superserver {
    /// How its configuration is written.
    pub syntax: Syntax,
    /// Its executable.
    pub program: PathBuf,
    /// Its configuration: a file, or the directory in which we have one of our own.
    pub config: PathBuf,
    /// Where it writes its process id.
    pub pid_file: PathBuf,
}

/// How a superserver's configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syntax {
    /// One file, a line a service.
    Inetd,
    /// A directory of files of sections.
    Xinetd,
}

impl Places {
    /// Where Debian's packages have them.
    #[must_use]
    pub fn system() -> Self {
        let superserver = |syntax, program: &str, config: &str, pid_file: &str| Superserver {
            syntax,
            program: program.into(),
            config: config.into(),
            pid_file: pid_file.into(),
        };
        Self {
            inetd: superserver(
                Syntax::Inetd,
                "/usr/sbin/inetutils-inetd",
                "/etc/inetd.conf",
                "/run/inetd.pid",
            ),
            xinetd: superserver(Syntax::Xinetd, "/usr/sbin/xinetd", "/etc/xinetd.d", "/run/xinetd.pid"),
            port: vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, 1)),
            ],
        }
    }
}

impl Superserver {
    /// The file that our entry is in.
    pub(super) fn file(&self) -> PathBuf {
        match self.syntax {
            Syntax::Inetd => self.config.clone(),
            Syntax::Xinetd => self.config.join(XINETD_FILE),
        }
    }

    /// Its name, for people.
    pub(super) fn name(&self) -> &'static str {
        match self.syntax {
            Syntax::Inetd => "inetd",
            Syntax::Xinetd => "xinetd",
        }
    }

    /// Tells it to read its configuration again, and says what became of that.
    pub(super) fn reload(&self, out: &mut dyn Write) -> io::Result<()> {
        let (name, pid_file) = (self.name(), shown(&self.pid_file));
        let Some(pid) = self.pid() else {
            return writeln!(out, "{name}: not running, by {pid_file}; the change counts when it starts");
        };
        let program = executable(pid).unwrap_or_default();
        if !self.is(&program) {
            let program = program.to_string_lossy().escape_debug().to_string();
            let program = if program.is_empty() { "no process" } else { &program };
            return writeln!(out, "{name}: {pid_file} names {pid}, which is {program}; nobody was told");
        }
        match kill(pid, Signal::SIGHUP) {
            Ok(()) => writeln!(out, "{name}: process {pid} reads its configuration again"),
            Err(error) => Err(io::Error::other(format!("{name}: process {pid} cannot be told: {error}"))),
        }
    }

    fn pid(&self) -> Option<Pid> {
        let text = String::from_utf8(regular::read(&self.pid_file, LONGEST_NUMBER).ok()?).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        // Zero and below are not one process.
        (pid > 1).then(|| Pid::from_raw(pid))
    }

    /// A plain `inetd` may be GNU's as well, by its own installation's name. Any inetd takes a hangup as we mean it.
    fn is(&self, program: &OsString) -> bool {
        let names: &[&str] = match self.syntax {
            Syntax::Inetd => &["inetutils-inetd", "inetd"],
            Syntax::Xinetd => &["xinetd"],
        };
        names.iter().any(|name| program == name)
    }
}

/// The file name of the process's executable: its own idea of its name could be anything.
fn executable(pid: Pid) -> Option<OsString> {
    let target = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let name = target.file_name()?.to_str()?;
    // What the kernel says of an executable that was replaced, as by an update.
    Some(Path::new(name.strip_suffix(" (deleted)").unwrap_or(name)).into())
}
