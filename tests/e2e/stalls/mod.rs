//! Nobody can hold the daemon up: a user, a file system, a syslogd, an executable or a process that stands still
//! hurts itself at most.
//!
//! In most tests alice stalls something, and bob must not notice. What is waited for is that something is answered
//! at all; the times are those after which a person would ask what is wrong, not measurements.

use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::{ALICE, BOB, PROMPT};
use crate::audit::field;
use crate::daemon::{Daemon, PROGRAM};
use crate::footprint::Footprint;
use crate::peer::Peer;
use crate::processes::Process;
use crate::world::{World, eventually};

mod control_socket;
mod executables;
mod files;
mod fuse;
mod hung;
mod members;
mod names;
mod staller;
mod stopped;
mod terminal;

use staller::Stall;

/// How soon a key comes back.
const KEY: Duration = Duration::from_secs(3);
/// How soon a login comes to its shell.
const LOGIN: Duration = Duration::from_secs(10);
/// How soon a command is answered that changes nothing.
const ANSWER: Duration = Duration::from_secs(5);
/// How soon a reload and an upgrade are.
const CHANGE: Duration = Duration::from_secs(20);
/// How soon everything is given back.
const CLEAN: Duration = Duration::from_secs(45);

fn send_signal(process: &Process, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), signal).unwrap();
}

/// What a command printed, on both outputs.
fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs one of the administrator's commands, which must end in that time.
fn command(args: &[&str], limit: Duration) -> Output {
    let seconds = limit.as_secs().to_string();
    let output = Command::new("timeout").args(["-s", "KILL", &seconds, PROGRAM]).args(args).output().unwrap();
    assert_ne!(output.status.code(), None, "{args:?} did not end in {limit:?}: {}", told(&output));
    assert_ne!(output.status.code(), Some(137), "{args:?} did not end in {limit:?}: {}", told(&output));
    output
}

/// The same; it must succeed.
fn ask(args: &[&str], limit: Duration) -> String {
    let output = command(args, limit);
    assert!(output.status.success(), "{args:?}: {}", told(&output));
    told(&output)
}

/// What `rlogind sessions` says.
fn rows() -> Vec<serde_json::Value> {
    let sessions: serde_json::Value =
        serde_json::from_str(&ask(&["sessions", "--json"], ANSWER)).expect("JSON");
    sessions["sessions"].as_array().unwrap().clone()
}

/// What it says of the first session of that user.
fn row_of(user: &str) -> Option<serde_json::Value> {
    rows().into_iter().find(|row| row["user"] == user)
}

fn state_of(user: &str) -> Option<String> {
    Some(row_of(user)?["state"].as_str().unwrap().to_owned())
}

/// The number of that user's session.
fn session_of(user: &str) -> String {
    row_of(user).expect("a session of that user")["id"].to_string()
}

/// Checks that what this user types comes back.
fn types(peer: &mut Peer) {
    peer.send("echo al''ive\r");
    peer.expect_bytes(b"alive\r\n", KEY);
    peer.expect_bytes(PROMPT.as_bytes(), KEY);
}

/// Checks that bob can log in and out, with his password.
fn logs_in() {
    let mut peer = Peer::hello("nobody", BOB.name);
    peer.expect_bytes(b"Password: ", LOGIN);
    peer.send(format!("{}\r", BOB.password));
    peer.expect_bytes(PROMPT.as_bytes(), LOGIN);
    types(&mut peer);
    peer.send("exit\r");
    peer.wait_end(LOGIN);
}

/// Checks that the administrator's commands do what they are for, and that the user's session goes on.
fn is_administered(peer: &mut Peer) {
    ask(&["sessions"], ANSWER);
    for change in ["reload", "upgrade"] {
        ask(&[change], CHANGE);
        types(peer);
    }
    ask(&["status"], ANSWER);
}

/// Kills the relay, and checks that another one serves.
fn relay_is_replaced(daemon: &Daemon, peer: &mut Peer) {
    let relay = daemon.relay();
    send_signal(&relay, Signal::SIGKILL);
    eventually("another relay", Duration::from_secs(10), || (daemon.relay().pid != relay.pid).then_some(()));
    types(peer);
}

/// What the daemon holds when there are so many sessions and none is coming or going.
fn settled(daemon: &Daemon, sessions: usize) -> Footprint {
    eventually("no session is coming or going", CLEAN, || (rows().len() == sessions).then_some(()));
    Footprint::of(daemon)
}

/// Alice, who stalls, and bob, who must not notice.
struct Scene<'w> {
    // In the order in which they have to go: nothing ends while it is stalled.
    stall: Stall,
    alice: Option<Peer>,
    bob: Peer,
    before: Footprint,
    daemon: Daemon,
    world: &'w World,
}

impl<'w> Scene<'w> {
    /// Bob is logged in and alice is not; `None` (and SKIPPED) where users cannot stall.
    fn begin(world: &'w World, config: &str) -> Option<Scene<'w>> {
        staller::install().then(|| {
            let daemon = world.serve(config);
            let mut bob = Peer::log_in(BOB);
            logs_in();
            is_administered(&mut bob);
            let before = settled(&daemon, 1);
            Scene { stall: Stall::by(ALICE.name, ALICE.uid), alice: None, bob, before, daemon, world }
        })
    }

    /// Alice logs in, and her shell becomes a program that starts the task in the background, out of its reach, and
    /// ends when she says so.
    fn alice_starts(&mut self, task: &str) -> &mut Peer {
        let mut alice = Peer::log_in(ALICE);
        let start = format!("setsid -f {} {task}", staller::SCRIPT);
        alice.send(format!("exec sh -c '{start}; until [ -e shell.ends ]; do sleep 0.1; done'\r"));
        self.alice.insert(alice)
    }

    /// The same; returns when it stalls.
    fn alice_stalls(&mut self, task: &str) {
        self.alice_starts(task);
        if task == "read" {
            self.stall.wait("ready");
            // More than the kernel copies at once: then it keeps its locks over the copying.
            self.alice().send(format!("{}\r", "x".repeat(200)));
        }
        self.stall.wait("on");
    }

    fn alice(&mut self) -> &mut Peer {
        self.alice.as_mut().expect("alice is logged in")
    }

    /// Alice's shell ends by itself.
    fn alices_shell_ends(&self) {
        fs::write("/home/alice/shell.ends", "now").unwrap();
    }

    /// Checks everything that the others want of the daemon.
    fn others_are_unhurt(&mut self) {
        types(&mut self.bob);
        logs_in();
        is_administered(&mut self.bob);
        logs_in();
    }

    /// The same for as long as a session that has lost its client waits for its shell, and some more: the files of the
    /// terminal are closed meanwhile.
    fn others_are_unhurt_when_alice_ends(&mut self) {
        eventually("alice's session is not open any more", CHANGE, || {
            (state_of(ALICE.name).as_deref() != Some("open")).then_some(())
        });
        self.others_are_unhurt();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(7) {
            types(&mut self.bob);
            logs_in();
            ask(&["status"], ANSWER);
        }
        self.others_are_unhurt();
    }

    /// Ends the stall, and checks that nothing is left of alice.
    fn nothing_is_left(&mut self) {
        self.stall.release();
        let _ = fs::remove_file("/home/alice/shell.ends");
        self.alice = None;
        let left = self.before.wait_back(&self.daemon, CLEAN);
        assert_eq!(left, Ok(()));
        let world = self.world;
        eventually("alice's session is closed in the log", Duration::from_secs(5), || {
            let closed = world.audit.of("session-closed");
            closed.iter().any(|line| field(line, "user") == Some(ALICE.name)).then_some(())
        });
        types(&mut self.bob);
    }
}
