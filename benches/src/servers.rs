//! The servers, and how each is started inside a machine.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::{FAR, FAR_SERVER, TOOL};
use crate::{Outcome, failure};

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Server {
    /// This project's.
    Ours,
    /// netkit's.
    Netkit,
    /// rsh-redone's.
    Redone,
    /// GNU inetutils'.
    Inetutils,
    /// The least a server has to do, with the shell at once.
    Floor,
    /// The same with login(1) and PAM.
    FloorPam,
}

/// All of them, in the order in which they are measured and shown.
pub(crate) const ALL: [Server; 6] =
    [Server::Ours, Server::Netkit, Server::Redone, Server::Inetutils, Server::Floor, Server::FloorPam];

/// Ours, with its limits out of the way.
const CONFIG: &str = "listen = [\"0.0.0.0:513\"]\n[limits]\nsessions = 4000\nper_source = 4000\n";
/// A limit that some versions have.
const STARTUPS: &str = "startups = 4000\n";
/// Where what a server says goes.
const TOLD: &str = "/mnt/told";

impl Server {
    /// Its name in commands and in files of results.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Server::Ours => "rlogind",
            Server::Netkit => "netkit",
            Server::Redone => "redone",
            Server::Inetutils => "inetutils",
            Server::Floor => "floor",
            Server::FloorPam => "floor-pam",
        }
    }

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Server> {
        ALL.into_iter().find(|server| server.name() == name)
    }

    /// Whether it is one of the others that people have.
    pub(crate) fn is_peer(self) -> bool {
        match self {
            Server::Netkit | Server::Redone | Server::Inetutils => true,
            Server::Ours | Server::Floor | Server::FloorPam => false,
        }
    }

    /// The file below the target directory that a superserver runs for it.
    pub(crate) fn program(self) -> Option<&'static str> {
        match self {
            Server::Netkit => Some("peers/rsh-server/usr/sbin/in.rlogind"),
            Server::Redone => Some("peers/rsh-redone-server/usr/sbin/in.rlogind"),
            Server::Inetutils => Some("peers/inetutils/rlogind"),
            Server::Ours | Server::Floor | Server::FloorPam => None,
        }
    }
}

/// A server that listens; it is killed when this is dropped.
pub(crate) struct Running {
    child: Child,
    /// Where it listens.
    pub(crate) address: Ipv4Addr,
}

/// Starts it, and waits until it listens.
pub(crate) fn start(server: Server, far: bool) -> Outcome<Running> {
    match server {
        Server::Ours => {
            fs::write("/etc/rlogind.toml", format!("{CONFIG}{STARTUPS}"))?;
            let first = run(&["/mnt/rlogind"], far);
            if first.is_ok() {
                return first;
            }
            fs::write("/etc/rlogind.toml", CONFIG)?;
            run(&["/mnt/rlogind"], far)
        }
        Server::Floor | Server::FloorPam => run(&[TOOL, "serve", server.name()], far),
        Server::Netkit | Server::Redone | Server::Inetutils => {
            let program = server.program().unwrap_or_default();
            if !Path::new("/mnt").join(program).is_file() {
                return failure("not there");
            }
            // As many starts a minute as may come: by default it gives up at 256.
            let entry = format!("login stream tcp nowait.1000000 root /mnt/{program} in.rlogind\n");
            fs::write("/etc/inetd.conf", entry)?;
            run(&["/mnt/superservers/usr/sbin/inetd", "-i", "-q", "1024", "/etc/inetd.conf"], far)
        }
    }
}

fn run(arguments: &[&str], far: bool) -> Outcome<Running> {
    let told = File::options().create(true).append(true).open(TOLD)?;
    // The usual limit. A few servers close every descriptor up to it.
    let limit = ["prlimit", "--nofile=1024:", "--"];
    let network = format!("--net={FAR}");
    let elsewhere: &[&str] = if far { &["nsenter", &network, "--"] } else { &[] };
    let words: Vec<&str> = elsewhere.iter().chain(&limit).chain(arguments).copied().collect();
    let (first, rest) = words.split_first().ok_or("nothing to run")?;
    let child =
        Command::new(first).args(rest).stdin(Stdio::null()).stdout(told.try_clone()?).stderr(told).spawn()?;
    let mut running = Running { child, address: if far { FAR_SERVER } else { Ipv4Addr::LOCALHOST } };
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running.listens() {
        if running.child.try_wait()?.is_some() || Instant::now() > deadline {
            let told = fs::read_to_string(TOLD)?;
            return failure(&format!("it does not listen: {}", told.trim()));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(running)
}

impl Running {
    /// Asks the table of its own network, so that no connection has to be made.
    fn listens(&self) -> bool {
        let table = format!("/proc/{}/net/tcp", self.child.id());
        // Port 513, and the state LISTEN.
        fs::read_to_string(table).unwrap_or_default().lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(":0201")) && fields.nth(1) == Some("0A")
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
