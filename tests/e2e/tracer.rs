//! Makes single system calls of the daemon's processes fail, by ptrace(2).
//!
//! A thread traces monitor, relay and sessions, and whatever they start until that
//! becomes another program: shells are left alone. strace(1) can do the like, but
//! counts the calls of each process apart and cannot tell a relay from a session.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::Process;

/// Which of the daemon's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// What executes the daemon.
    Starter,
    Monitor,
    Relay,
    Session,
    /// The monitor's child before it has become a relay or a session.
    Child,
    /// A session's child before it has become the shell.
    Shell,
}

/// One system call: the `nth` of that number by processes of that role, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Call {
    pub(crate) role: Role,
    number: u64,
    pub(crate) nth: u32,
}

impl Call {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        names().get(&self.number).map_or("?", String::as_str)
    }
}

/// The names of the system calls, from the kernel's header.
fn names() -> &'static HashMap<u64, String> {
    static NAMES: OnceLock<HashMap<u64, String>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let header = fs::read_to_string(HEADER).unwrap_or_default();
        let names = header.lines().filter_map(|line| line.strip_prefix("#define __NR_")?.split_once(' '));
        names.filter_map(|(name, number)| Some((number.trim().parse().ok()?, name.to_owned()))).collect()
    })
}

/// What this machine lacks to make calls fail.
pub(crate) fn missing() -> Option<&'static str> {
    // Its registers are those that are changed here.
    let other = cfg!(not(target_arch = "x86_64")).then_some("this is no x86-64");
    other.or_else(|| {
        names().is_empty().then_some("there are no names of system calls: linux-libc-dev is missing")
    })
}

/// The numbers of x86-64's system calls.
const HEADER: &str = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} #{}", self.role, self.name(), self.nth)
    }
}

/// What is to fail, and what was seen since that was said.
#[derive(Default)]
struct Plan {
    fail: Option<(Call, Errno)>,
    failed: bool,
    seen: Vec<Call>,
    counts: HashMap<(Role, u64), u32>,
    /// How processes have ended, ever.
    ends: HashMap<u32, WaitStatus>,
}

/// The thread that traces, seen from the test.
pub(crate) struct Tracer(Arc<Mutex<Plan>>);

impl Tracer {
    /// Traces these processes, and returns when they are.
    pub(crate) fn follow(processes: &[(u32, Role)]) -> Tracer {
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (ready, all_ready) = mpsc::channel();
        let (shared, processes) = (Arc::clone(&plan), processes.to_vec());
        // Only the thread that seized a process may trace it.
        thread::spawn(move || {
            let mut tracees = Tracees { plan: shared, known: HashMap::new() };
            for (pid, role) in processes {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap());
                ptrace::seize(pid, OPTIONS).unwrap();
                ptrace::interrupt(pid).unwrap();
                tracees.known.insert(pid, Tracee { role, state: State::Outside });
                tracees.resume_first(pid);
            }
            ready.send(()).unwrap();
            tracees.run();
        });
        all_ready.recv().unwrap();
        Tracer(plan)
    }

    /// Counts from one again, and has this call fail once.
    pub(crate) fn start_over(&self, fail: Option<(Call, Errno)>) {
        let mut plan = self.0.lock().unwrap();
        let ends = std::mem::take(&mut plan.ends);
        *plan = Plan { fail, ends, ..Plan::default() };
    }

    /// How a process has ended, if it has. The tracer alone learns of it, even of a child of the test.
    pub(crate) fn end_of(&self, pid: u32) -> Option<WaitStatus> {
        self.0.lock().unwrap().ends.get(&pid).copied()
    }

    /// Whether the call has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.0.lock().unwrap().failed
    }

    /// All calls since it started over.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().seen.clone()
    }
}

const OPTIONS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_TRACEEXEC)
    .union(Options::PTRACE_O_EXITKILL);

struct Tracee {
    role: Role,
    state: State,
}

/// Stops at the entry and at the exit of a call take turns.
#[derive(Clone, Copy)]
enum State {
    Outside,
    Inside,
    /// In a call that stands in for one that fails; its first argument was this.
    Failing(Errno, u64),
}

struct Tracees {
    plan: Arc<Mutex<Plan>>,
    known: HashMap<Pid, Tracee>,
}

impl Tracees {
    fn resume_first(&self, pid: Pid) {
        waitpid(pid, Some(WaitPidFlag::__WALL)).unwrap();
        resume(pid);
    }

    fn run(&mut self) {
        // Only those of this thread: the test's own children are not ours to wait for.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(None, Some(flags)) {
                Ok(WaitStatus::PtraceSyscall(pid)) => {
                    // It may have been killed meanwhile: then there is nothing to do.
                    let _ = self.at_call(pid);
                    resume(pid);
                }
                Ok(WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC)) => self.at_exec(pid),
                Ok(WaitStatus::PtraceEvent(pid, ..)) => resume(pid),
                Ok(WaitStatus::Stopped(pid, signal)) => {
                    let _ = ptrace::syscall(pid, signal);
                }
                Ok(end @ (WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..))) => {
                    self.known.remove(&pid);
                    self.plan.lock().unwrap().ends.insert(pid.as_raw().unsigned_abs(), end);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => return,
                Err(error) => panic!("waitpid: {error}"),
            }
        }
    }

    /// A process that starts belongs to the one that started it.
    fn role(&mut self, pid: Pid) -> Role {
        if let Some(tracee) = self.known.get(&pid) {
            return tracee.role;
        }
        let role = if let Some(process) = thread_of(pid) {
            self.known.get(&process).map_or(Role::Child, |tracee| tracee.role)
        } else {
            let parent = Process::of(pid.as_raw().unsigned_abs()).map_or(0, |process| process.parent);
            let parent = Pid::from_raw(i32::try_from(parent).unwrap());
            match self.known.get(&parent).map(|tracee| tracee.role) {
                Some(Role::Session | Role::Shell) => Role::Shell,
                _ => Role::Child,
            }
        };
        self.known.insert(pid, Tracee { role, state: State::Outside });
        role
    }

    fn at_exec(&mut self, pid: Pid) {
        let role = self.role(pid);
        if role == Role::Shell {
            self.known.remove(&pid);
            let _ = ptrace::detach(pid, None);
            return;
        }
        let arguments = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let role = match arguments.split('\0').nth(1) {
            Some("--role=relay") => Role::Relay,
            Some("--role=session") => Role::Session,
            _ => Role::Monitor,
        };
        if let Some(tracee) = self.known.get_mut(&pid) {
            tracee.role = role;
        }
        resume(pid);
    }

    fn at_call(&mut self, pid: Pid) -> nix::Result<()> {
        let role = self.role(pid);
        let Some(tracee) = self.known.get_mut(&pid) else { return Ok(()) };
        let mut registers = ptrace::getregs(pid)?;
        match tracee.state {
            State::Outside => {
                tracee.state = State::Inside;
                if let Some(errno) = self.plan.lock().unwrap().note(role, registers.orig_rax) {
                    tracee.state = State::Failing(errno, registers.rdi);
                    // What does nothing, and what every filter of system calls lets through.
                    registers.orig_rax = u64::try_from(libc::SYS_close).unwrap();
                    registers.rdi = u64::MAX;
                    ptrace::setregs(pid, registers)?;
                }
            }
            State::Inside => tracee.state = State::Outside,
            State::Failing(errno, first) => {
                tracee.state = State::Outside;
                registers.rax = i64::from(-(errno as i32)).cast_unsigned();
                registers.rdi = first;
                ptrace::setregs(pid, registers)?;
            }
        }
        Ok(())
    }
}

impl Plan {
    /// Takes note of a call; returns how it has to fail.
    fn note(&mut self, role: Role, number: u64) -> Option<Errno> {
        let count = self.counts.entry((role, number)).or_insert(0);
        *count += 1;
        let call = Call { role, number, nth: *count };
        self.seen.push(call);
        let (_, errno) = self.fail.filter(|(wanted, _)| *wanted == call)?;
        self.failed = true;
        Some(errno)
    }
}

/// The process that this is a thread of, if it is not its first.
fn thread_of(pid: Pid) -> Option<Pid> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:"))?;
    let process = Pid::from_raw(group.trim().parse().ok()?);
    (process != pid).then_some(process)
}

/// Lets it run up to its next system call.
fn resume(pid: Pid) {
    let _ = ptrace::syscall(pid, None);
}
