//! The server under test, started and stopped.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::processes::{self, Process};
use crate::world::{eventually, stderr_file};

/// The daemon's executable, inside.
pub(crate) const PROGRAM: &str = "/mnt/rlogind";
/// Another server's executable, inside, when the tests are run against one.
const OTHER_PROGRAM: &str = "/mnt/inetd";
/// A variable of the daemon's environment that no shell may see.
pub(crate) const LEAK: &str = "RLOGIND_E2E_LEAK";

/// A running server; dropping it kills it.
pub(crate) struct Daemon {
    child: Option<Child>,
}

impl Daemon {
    /// Starts the daemon with this configuration and waits until it listens.
    pub(crate) fn start(config: &str) -> Daemon {
        if fs::exists(OTHER_PROGRAM).unwrap() {
            return start_other();
        }
        Daemon::start_copy(PROGRAM, config)
    }

    /// The same with a copy of the executable, which can be replaced.
    pub(crate) fn start_copy(program: &str, config: &str) -> Daemon {
        Daemon::start_with(Command::new(program), config)
    }

    /// The same with a command that says how its processes are special.
    pub(crate) fn start_with(mut command: Command, config: &str) -> Daemon {
        fs::write("/etc/rlogind.toml", config).unwrap();
        let stderr = File::options().create(true).append(true).open(stderr_file()).unwrap();
        let child = command
            .arg("--stderr")
            .env(LEAK, "leaked")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child: Some(child) };
        eventually("the daemon listens on port 513", Duration::from_secs(10), || {
            let ended = daemon.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert_eq!(ended, None, "the daemon ended: {}", told());
            listens(513).then_some(())
        });
        daemon
    }

    /// The monitor's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("not another server").id()
    }

    /// The monitor.
    pub(crate) fn monitor(&self) -> Process {
        Process::of(self.pid()).unwrap()
    }

    /// The relay: the monitor's unprivileged child.
    pub(crate) fn relay(&self) -> Process {
        eventually("the relay runs unprivileged", Duration::from_secs(5), || {
            let children = processes::all().into_iter().filter(|process| process.parent == self.pid());
            children.into_iter().find(|process| process.uid != 0)
        })
    }

    /// Waits for another relay than that one to serve.
    pub(crate) fn next_relay(&self, before: &Process) -> Process {
        eventually("another relay serves", Duration::from_secs(5), || {
            Process::of(before.pid).is_none_or(|old| old.state == 'Z').then_some(())
        });
        self.relay()
    }

    /// Sends a signal to the monitor.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.pid()).unwrap()), signal).unwrap();
    }

    /// Waits for the monitor to end by itself.
    pub(crate) fn wait(&mut self, timeout: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("not another server");
        eventually("the daemon ends", timeout, || child.try_wait().unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "--- standard error of the daemon:\n{}\n--- processes:\n{}",
                told(),
                processes::table()
            );
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the daemon wrote to standard error.
pub(crate) fn told() -> String {
    let mut text = String::new();
    if let Ok(mut file) = File::open(stderr_file()) {
        file.read_to_string(&mut text).unwrap();
    }
    text
}

/// Whether something listens on that port (0A is the state LISTEN, see proc(5)).
pub(crate) fn listens(port: u16) -> bool {
    let port = format!(":{port:04X}");
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| fs::read_to_string(file).unwrap());
    tables.iter().flat_map(|table| table.lines()).any(|line| {
        let mut words = line.split_whitespace();
        words.nth(1).is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
    })
}

/// Serves with another program as inetd would: one process for each connection.
fn start_other() -> Daemon {
    let listener = TcpListener::bind(("0.0.0.0", 513)).unwrap();
    thread::spawn(move || {
        while let Ok((stream, _peer)) = listener.accept() {
            thread::spawn(move || {
                let socket = OwnedFd::from(stream);
                let both = [socket.try_clone().unwrap(), socket.try_clone().unwrap()];
                let [output, error] = both;
                let mut child =
                    Command::new(OTHER_PROGRAM).stdin(socket).stdout(output).stderr(error).spawn().unwrap();
                child.wait().unwrap();
            });
        }
    });
    Daemon { child: None }
}
