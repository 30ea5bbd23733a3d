//! Every system call of monitor, relay and session fails once: no crash, no hang,
//! nothing left behind, nobody half logged in, and the next login works.
//!
//! First a visit is watched without a fault, then repeated with one call failing in each.
//! The ordinary suite has a sample, of `RLOGIND_FAULTS_SEED`; `make faults` all
//! of them (`RLOGIND_FAULTS=all`), or those whose description holds the text of `RLOGIND_FAULTS`.

use std::env;
use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::daemon::{self, Daemon};
use crate::footprint::Footprint;
use crate::peer::{Peer, handshake, open, window_message};
use crate::processes::Process;
use crate::terminal::find;
use crate::tracer::{self, Call, Role, Tracer};
use crate::world::{World, eventually, skip, world};

pub(crate) const CONFIG: &str = "[limits]\nhandshake = \"3s\"\nlogin = \"4s\"\n";
const ERRORS: [Errno; 5] = [Errno::EINTR, Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENOSPC];
/// Longer than the time limits above and the time a process has to keep them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(12);
/// How long a line may take to the log.
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(3);
/// How long nobody may be able to log in when the relay had to be ended.
const REPLACEMENT: Duration = Duration::from_secs(2);
/// So many in the ordinary suite, of each test.
const SAMPLE: usize = 40;

/// Calls that cannot fail, or whose failure would be none of the daemon's:
/// what close(2) and munmap(2) say they have not done is never done again by anybody.
const POINTLESS: [&str; 20] = [
    "close",
    "munmap",
    "brk",
    "exit",
    "exit_group",
    "rt_sigreturn",
    "getpid",
    "gettid",
    "getppid",
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "umask",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "restart_syscall",
    "alarm",
    "arch_prctl",
];

/// Errors that a call never has: those that its manual page does not name, where
/// code that went on after them would be code against nothing.
const NEVER: [(&[&str], &[Errno]); 6] = [
    // Between the processes, where they wait for room and for messages.
    (&["sendmsg", "recvmsg"], &[Errno::EAGAIN]),
    (&["rt_sigprocmask", "rt_sigaction", "kill"], &ERRORS),
    (&["epoll_wait", "wait4"], &[Errno::EAGAIN, Errno::ENOMEM, Errno::EMFILE, Errno::ENOSPC]),
    (&["read", "readv", "recvmsg", "recvfrom"], &[Errno::EMFILE, Errno::ENOSPC]),
    (&["sendmsg", "sendto", "poll", "shutdown"], &[Errno::EMFILE, Errno::ENOSPC]),
    (&["write", "writev"], &[Errno::EMFILE]),
];

/// Calls of monitor and relay that never wait. The kernel says EAGAIN only if it
/// tells later that they can be made again, which nobody does for an error that was made up.
const NEVER_WAITING: [&str; 8] =
    ["read", "readv", "write", "sendto", "recvfrom", "sendmsg", "recvmsg", "accept4"];

/// Whether a call can have this error.
fn is_possible(role: Role, name: &str, errno: Errno) -> bool {
    let never = NEVER.iter().any(|(names, errnos)| names.contains(&name) && errnos.contains(&errno));
    let never_waits = matches!(role, Role::Monitor | Role::Relay) && NEVER_WAITING.contains(&name);
    // Nothing that the relay writes to could be full as a disk is.
    let on_disk = role != Role::Relay || name != "write";
    !never && (errno != Errno::EAGAIN || !never_waits) && (errno != Errno::ENOSPC || on_disk)
}

/// Faults that are known not to be survived, by the beginning of their names.
const UNMENDED: [&str; 2] = [
    // Looking through utmp: the C library takes the entry for missing, and writes another one.
    "Session: pread64",
    // The loader of programs, ld.so(8), breaks down there.
    "Monitor: mmap #1 ",
];

/// How a visit went.
#[derive(Debug)]
pub(crate) enum Visit {
    /// As it should.
    Whole,
    /// The server ended the connection before that, or did not let the client in.
    Ended,
}

/// A client that does not mind being turned away, but does mind being kept waiting.
struct Visitor {
    peer: Peer,
    seen: usize,
}

impl Visitor {
    fn new(mut peer: Peer, local: &str) -> Visitor {
        let _ = (&peer.stream).write_all(&handshake(local, "alice", "vt100/38400"));
        peer.listen(Duration::ZERO);
        Visitor { peer, seen: 0 }
    }

    fn say(&self, bytes: &[u8]) {
        // It may be over already, which is noticed elsewhere.
        let _ = (&self.peer.stream).write_all(bytes);
    }

    /// Waits for that text; false when the connection has ended before, or there is no way in.
    fn reads(&mut self, text: &str) -> Result<bool, String> {
        let start = Instant::now();
        loop {
            if let Some(at) = find(&self.peer.data[self.seen..], text.as_bytes()) {
                self.seen += at + text.len();
                return Ok(true);
            }
            // Asked once more for a password, it goes: waiting for the time limit tells nothing new.
            let refused = find(&self.peer.data[self.seen..], b"Password: ").is_some();
            if refused || self.peer.end.is_some() {
                return Ok(false);
            }
            if start.elapsed() > PATIENCE {
                let came = String::from_utf8_lossy(&self.peer.data);
                return Err(format!("the client waits for {text:?} behind {came:?}"));
            }
            self.peer.listen(Duration::from_millis(2));
        }
    }

    fn is_left(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while self.peer.end.is_none() {
            if start.elapsed() > PATIENCE {
                return Err("the connection is not closed".to_owned());
            }
            self.peer.listen(PATIENCE);
        }
        Ok(())
    }
}

/// Where the next visit comes from: of one network that is often refused not each line would be in the log.
fn another_network(first: u8) -> Ipv4Addr {
    static VISITS: AtomicU8 = AtomicU8::new(0);
    Ipv4Addr::new(127, first, VISITS.fetch_add(1, Ordering::Relaxed), 1)
}

/// Gives all of those names, the second ones that of a host that is trusted.
fn name_networks() {
    let mut hosts = File::options().append(true).open("/etc/hosts").unwrap();
    for (first, names) in [(1, "client.example.net client"), (2, "trusted.example.net trusted")] {
        for third in 0..=255 {
            writeln!(hosts, "127.{first}.{third}.1 {names}").unwrap();
        }
    }
}

/// A password, a window size, an interrupted program, some output, `exit`.
pub(crate) fn by_password() -> Result<Visit, String> {
    let peer = open(SocketAddr::from((another_network(1), 0)), 513).unwrap();
    let mut client = Visitor::new(Peer::of(peer), "nobody");
    let password = format!("{}\r", ALICE.password);
    let steps: [(&str, &[u8]); 5] = [
        ("Password: ", password.as_bytes()),
        // A program that says when it is the one that ^C reaches.
        (PROMPT, b"sh -c 'echo re\"\"ady; exec sleep 20'\r"),
        ("ready\r\n", b"\x03"),
        (PROMPT, b"seq 3000; exit\r"),
        ("3000\r\n", b""),
    ];
    for (wanted, answer) in steps {
        if !client.reads(wanted)? {
            return Ok(Visit::Ended);
        }
        if wanted.starts_with("ready") {
            client.say(&window_message(30, 100));
        }
        client.say(answer);
    }
    client.is_left()?;
    Ok(Visit::Whole)
}

/// In by a trusted host, and away while a program runs.
fn by_trust() -> Result<Visit, String> {
    let mut client = Visitor::new(Peer::connect_from(another_network(2).into()), "alice");
    if !client.reads(PROMPT)? {
        return Ok(Visit::Ended);
    }
    client.say(b"sleep 20\r");
    if !client.reads("sleep 20\r\n")? {
        return Ok(Visit::Ended);
    }
    Ok(Visit::Whole)
}

#[test]
fn a_login_by_password_survives_any_fault() {
    world(|world| campaign(world, by_password));
}

#[test]
fn a_login_by_trust_survives_any_fault() {
    world(|world| {
        world.write_for(ALICE, "/home/alice/.rhosts", "trusted alice\n");
        campaign(world, by_trust);
    });
}

pub(crate) type Fault = (Call, Errno);

/// One fault after the other, the same visit with each.
fn campaign(world: &World, visit: fn() -> Result<Visit, String>) {
    if let Some(missing) = tracer::missing() {
        return skip(missing);
    }
    name_networks();
    let mut server = Server::start(world);
    // What is opened once and kept is open then.
    for _ in 0..2 {
        visit().unwrap();
    }
    server.settle().unwrap();
    server.tracer.start_over(None);
    visit().unwrap();
    server.settle().unwrap();
    let faults = chosen(faults(&server.tracer.calls()));
    let (mut troubles, mut whole, mut ended, mut missed) = (Vec::new(), 0, 0, 0);
    for (call, errno) in faults {
        let start = Instant::now();
        match server.suffer(world, visit, (call, errno)) {
            Ok(None) => missed += 1,
            Ok(Some(Visit::Whole)) => whole += 1,
            Ok(Some(Visit::Ended)) => ended += 1,
            Err(trouble) => {
                println!("{call} {errno:?}: {trouble}");
                troubles.push(format!("{call} {errno:?}: {trouble}"));
                // Its ports have to be free for the next one.
                drop(server);
                eventually("the port is free", PATIENCE, || (!daemon::listens(513)).then_some(()));
                server = Server::start(world);
            }
        }
        if start.elapsed() > Duration::from_secs(3) {
            println!("{call} {errno:?}: took {:?}", start.elapsed());
        }
    }
    println!("{whole} visits went on, {ended} were ended, {missed} calls were not made again");
    assert!(troubles.is_empty(), "{} troubles:\n{}", troubles.len(), troubles.join("\n"));
}

/// The daemon, traced, and what it holds when nobody is there.
struct Server {
    daemon: Daemon,
    tracer: Tracer,
    before: Footprint,
}

impl Server {
    fn start(world: &World) -> Server {
        let daemon = world.serve(CONFIG);
        let relay = daemon.relay().pid;
        let tracer = Tracer::follow(&[(daemon.pid(), Role::Monitor), (relay, Role::Relay)]);
        by_password().unwrap();
        thread::sleep(Duration::from_millis(500));
        let before = Footprint::of(&daemon);
        Server { daemon, tracer, before }
    }

    /// Waits until the daemon holds nothing more of a visit.
    fn settle(&self) -> Result<(), String> {
        let monitor = Process::of(self.daemon.pid()).filter(|process| process.state != 'Z');
        monitor.ok_or("the monitor has ended")?;
        self.before.wait_back(&self.daemon, PATIENCE)
    }

    /// One visit with that fault; `None` when the call was not made.
    fn suffer(
        &self,
        world: &World,
        visit: fn() -> Result<Visit, String>,
        fault: Fault,
    ) -> Result<Option<Visit>, String> {
        let lines = world.audit.len();
        self.tracer.start_over(Some(fault));
        let outcome = visit();
        let settled = self.settle();
        let failed = self.tracer.has_failed();
        self.tracer.start_over(None);
        let outcome = outcome?;
        settled.map_err(|left| format!("{outcome:?}, and left behind: {left}"))?;
        let told = accounted_for(world, lines, &outcome)?;
        let lines = world.audit.len();
        next_login().map_err(|trouble| format!("{outcome:?}, and then: {trouble}; {told:#?}"))?;
        self.settle().map_err(|left| format!("the next login left behind: {left}"))?;
        accounted_for(world, lines, &Visit::Whole)?;
        Ok(failed.then_some(outcome))
    }
}

/// Somebody can log in; it takes a moment when the relay has to be replaced.
pub(crate) fn next_login() -> Result<(), String> {
    let start = Instant::now();
    loop {
        match by_password()? {
            Visit::Whole => return Ok(()),
            Visit::Ended if start.elapsed() > REPLACEMENT => return Err("nobody can log in".to_owned()),
            Visit::Ended => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Waits until the log has what has to be said of the visit: that no session began, or its
/// beginning and its end. Lines that syslog did not take at once come later.
fn accounted_for(world: &World, first: usize, outcome: &Visit) -> Result<Vec<String>, String> {
    let start = Instant::now();
    loop {
        let told = world.audit.since(first);
        let events: Vec<&str> = told.iter().filter_map(|line| field(line, "event")).collect();
        let count = |event| events.iter().filter(|told| **told == event).count();
        let has_reason = events.iter().any(|event| *event != "connection");
        let (opened, closed) = (count("session-opened"), count("session-closed"));
        if opened == closed && (has_reason || matches!(outcome, Visit::Whole)) {
            return Ok(told);
        }
        if start.elapsed() > LOG_PATIENCE {
            return Err(format!("{outcome:?}, {opened} opened and {closed} closed in {told:#?}"));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that can fail, with every error.
pub(crate) fn faults(calls: &[Call]) -> Vec<Fault> {
    let mut calls: Vec<Call> = calls.to_vec();
    calls.sort();
    let mut faults = Vec::new();
    for call in calls {
        let name = call.name();
        if call.role == Role::Starter || POINTLESS.contains(&name) {
            continue;
        }
        let errors = ERRORS.into_iter().filter(|errno| is_possible(call.role, name, *errno));
        faults.extend(errors.map(|errno| (call, errno)));
    }
    faults
}

fn described((call, errno): &Fault) -> String {
    format!("{call} {errno:?}")
}

/// All, some, or a sample of them.
pub(crate) fn chosen(mut faults: Vec<Fault>) -> Vec<Fault> {
    let known = |fault: &Fault| UNMENDED.iter().any(|start| described(fault).starts_with(start));
    faults.retain(|fault| !known(fault));
    println!("{} faults", faults.len());
    match env::var("RLOGIND_FAULTS").as_deref() {
        Ok("all") => {}
        Ok(text) => faults.retain(|fault| described(fault).contains(text)),
        Err(_) => {
            let seed = env::var("RLOGIND_FAULTS_SEED").map_or(1, |seed| seed.parse().unwrap());
            println!("sample of RLOGIND_FAULTS_SEED={seed}");
            let mut state: u64 = seed;
            faults.sort_by_cached_key(|_| random(&mut state));
            faults.truncate(SAMPLE);
        }
    }
    faults
}

/// Steele, Lea and Flood's SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
