//! Every system call that monitor and relay make to start, and all make to stop, fails
//! once: the daemon serves or says why not, and ends in time with all that it started.

use std::fs::{self, File};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::accounts::ALICE;
use crate::daemon::{self, PROGRAM};
use crate::faults::{CONFIG, Fault, LOG_PATIENCE, PATIENCE, chosen, faults, next_login};
use crate::footprint::logged_in;
use crate::peer::Peer;
use crate::processes::{self, Process};
use crate::terminal::terminals;
use crate::tracer::{self, Call, Role, Tracer};
use crate::world::{World, eventually, skip, stderr_file, world};

/// How long a daemon may take to stop, and a moment more.
const STOP: Duration = Duration::from_secs(11);

#[test]
fn a_start_survives_any_fault_or_is_given_up() {
    world(|_world| {
        campaign(|fault| {
            let server = Started::traced(fault);
            let serves = server.serves()?;
            let calls = server.tracer.calls();
            let failed = server.tracer.has_failed();
            server.tracer.start_over(None);
            if serves {
                next_login()?;
                server.stop()?;
            }
            Ok((failed, calls))
        });
    });
}

#[test]
fn a_stop_survives_any_fault() {
    world(|world: &World| {
        campaign(|fault| {
            let server = Started::traced(None);
            if !server.serves()? {
                return Err("it does not even start".to_owned());
            }
            let lines = world.audit.len();
            let mut client = Peer::log_in(ALICE);
            server.tracer.start_over(fault);
            server.stop()?;
            let calls = server.tracer.calls();
            client.listen(PATIENCE);
            if client.end.is_none() {
                return Err("the client's connection is still there".to_owned());
            }
            let closed = || world.audit.since(lines).join("\n").matches("event=\"session-closed\"").count();
            let stopped = Instant::now();
            while closed() != 1 {
                if stopped.elapsed() > LOG_PATIENCE {
                    let told = world.audit.since(lines);
                    return Err(format!("the session's end is not in the log: {told:#?}"));
                }
                thread::sleep(Duration::from_millis(5));
            }
            Ok((server.tracer.has_failed(), calls))
        });
    });
}

/// One life of the daemon after the other, each with a fault.
fn campaign(mut live: impl FnMut(Option<Fault>) -> Result<(bool, Vec<Call>), String>) {
    if let Some(missing) = tracer::missing() {
        return skip(missing);
    }
    fs::write("/etc/rlogind.toml", CONFIG).unwrap();
    let processes = processes::all().len();
    let (_, calls) = live(None).unwrap();
    let (mut troubles, mut reached, mut missed) = (Vec::new(), 0, 0);
    for (call, errno) in chosen(faults(&calls)) {
        let start = Instant::now();
        let outcome = live(Some((call, errno))).and_then(|(failed, _)| {
            *(if failed { &mut reached } else { &mut missed }) += 1;
            nothing_left(processes)
        });
        if let Err(trouble) = outcome {
            println!("{call} {errno:?}: {trouble}");
            troubles.push(format!("{call} {errno:?}: {trouble}"));
        } else if start.elapsed() > Duration::from_secs(4) {
            println!("{call} {errno:?}: took {:?}", start.elapsed());
        }
        eventually("the port is free", PATIENCE, || (!daemon::listens(513)).then_some(()));
    }
    println!("{reached} lives, {missed} without the call");
    assert!(troubles.is_empty(), "{} troubles:\n{}", troubles.len(), troubles.join("\n"));
}

fn nothing_left(processes: usize) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let left = (processes::all().len().saturating_sub(processes), terminals(), logged_in());
        if left == (0, 0, 0) {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            let table = processes::table();
            return Err(format!("{left:?} processes, terminals and records are left: {table}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A daemon that is traced from its first system call on.
struct Started {
    child: Child,
    tracer: Tracer,
    told: u64,
}

impl Started {
    fn traced(fault: Option<Fault>) -> Started {
        let stderr = File::options().create(true).append(true).open(stderr_file()).unwrap();
        let told = stderr.metadata().unwrap().len();
        let child = Command::new("sh")
            .args(["-c", "kill -STOP $$; exec \"$0\" --stderr", PROGRAM])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let pid = child.id();
        eventually("the shell has stopped itself", PATIENCE, || {
            Process::of(pid).filter(|process| process.state == 'T')
        });
        let tracer = Tracer::follow(&[(pid, Role::Starter)]);
        tracer.start_over(fault);
        let started = Started { child, tracer, told };
        started.signal(Signal::SIGCONT);
        started
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits until it listens and its relay has given up its privileges, or until it has
    /// said why it does not, and has ended.
    fn serves(&self) -> Result<bool, String> {
        let start = Instant::now();
        loop {
            if let Some(end) = self.tracer.end_of(self.child.id()) {
                let told = fs::metadata(stderr_file()).unwrap().len() > self.told;
                // Rust's own start says so when there is no memory for it.
                let given_up =
                    matches!(end, WaitStatus::Exited(_, 1..) | WaitStatus::Signaled(_, Signal::SIGABRT, _));
                return if given_up && told {
                    Ok(false)
                } else {
                    Err(format!("it ended with {end:?}, and told: {told}"))
                };
            }
            let relay = |process: &Process| process.parent == self.child.id() && process.uid != 0;
            if daemon::listens(513) && processes::all().iter().any(relay) {
                // What the relay does once it has no privileges any more is part of the start.
                thread::sleep(Duration::from_millis(30));
                return Ok(true);
            }
            if start.elapsed() > PATIENCE {
                return Err("it neither serves nor ends".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn stop(&self) -> Result<(), String> {
        self.signal(Signal::SIGTERM);
        let start = Instant::now();
        loop {
            if let Some(end) = self.tracer.end_of(self.child.id()) {
                let by_itself = matches!(end, WaitStatus::Exited(..));
                return if by_itself { Ok(()) } else { Err(format!("it ended with {end:?}")) };
            }
            if start.elapsed() > STOP {
                return Err("it does not stop".to_owned());
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // The tracer has waited for it, if it has ended.
        if self.tracer.end_of(self.child.id()).is_none() {
            let _ = self.child.kill();
        }
    }
}
