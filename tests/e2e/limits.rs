//! What strangers and shortages can do: who is turned away, how it is told and logged, and that it ends.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};

use crate::accounts::ALICE;
use crate::audit::{field, total};
use crate::daemon::PROGRAM;
use crate::ending::nothing_is_left;
use crate::peer::{End, Peer, handshake};
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, skip, world};

const FORBIDDEN: &[u8] = b"\x01rlogind: Permission denied.\r\n";
const BUSY: &[u8] = b"\x01rlogind: Try again.\r\n";
const GAVE_WAY: &str = "it gave way to another one: too many connections that are not logged in";

/// The whole of what this client is told by a server that closes in order.
fn told(mut peer: Peer) -> Vec<u8> {
    assert_eq!(peer.wait_end(PATIENCE), End::Closed, "{:?}", String::from_utf8_lossy(&peer.data));
    peer.data
}

/// The zero byte or a refusal, whichever this client is given.
fn first_answer(peer: &mut Peer) -> Vec<u8> {
    peer.wait("answer", PATIENCE, |peer| peer.data.first() == Some(&0) || peer.end.is_some());
    peer.data.clone()
}

fn is_served(peer: &mut Peer) -> bool {
    match first_answer(peer).as_slice() {
        [0, ..] => true,
        BUSY => false,
        other => panic!("{:?}", String::from_utf8_lossy(other)),
    }
}

/// One that has said who it is.
fn starting(source: impl Into<IpAddr>) -> Peer {
    let mut peer = Peer::connect_from(source.into());
    peer.send(handshake("nobody", "alice", "vt100/38400"));
    peer
}

/// How many refusals for that reason the log stands for, and in how many lines.
fn refusals(world: &World, reason: &str) -> (usize, usize) {
    let lines: Vec<String> = world
        .audit
        .of("refused")
        .into_iter()
        .filter(|line| field(line, "reason").is_some_and(|found| found.starts_with(reason)))
        .collect();
    (total(&lines), lines.len())
}

fn wait_refusals(world: &World, reason: &str, expected: (usize, usize)) {
    eventually(&format!("{expected:?} refusals: {reason}"), PATIENCE, || {
        (refusals(world, reason) == expected).then_some(())
    });
}

/// Sets the limit on a process's descriptors as it runs; the hard limit stays.
fn limit_descriptors(process: &Process, limit: usize) {
    // As the process's own account: another one's limits are not even root's without CAP_SYS_RESOURCE.
    let user = process.uid.to_string();
    let status = Command::new("setpriv")
        .args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit"])
        .args(["--pid", &process.pid.to_string(), &format!("--nofile={limit}:")])
        .status();
    assert!(status.unwrap().success());
}

/// Leaves a process its descriptors, and so many more can be opened.
fn leave_descriptors(process: &Process, more: usize) {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).unwrap();
    let open: BTreeSet<usize> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    // The limit is one on their numbers, and there may be gaps.
    let limit = (0..).filter(|number| !open.contains(number)).nth(more).unwrap();
    limit_descriptors(process, limit);
}

fn give_descriptors_back(process: &Process) {
    limit_descriptors(process, 1024);
}

/// Runs `ip` with these words in the network of the calling thread.
fn ip(words: &str) {
    assert!(Command::new("ip").args(words.split(' ')).status().unwrap().success(), "ip {words}");
}

/// The processor time it has had, in clock ticks.
fn processor_time(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

/// Checks that none of them is busy.
fn does_not_spin(processes: &[Process], time: Duration) {
    let before: Vec<u64> = processes.iter().map(processor_time).collect();
    thread::sleep(time);
    for (process, before) in processes.iter().zip(before) {
        let ticks = processor_time(process) - before;
        // A hundred of them are a second.
        assert!(ticks < 10, "{} had {ticks} ticks in {time:?}", process.name);
    }
}

#[test]
fn who_is_denied_or_not_allowed_is_told_so_at_the_door() {
    world(|world| {
        let daemon = world.serve("allow = [\"127.0.0.0/29\"]\ndeny = [\"127.0.0.4/30\"]\n");
        for source in [[127, 0, 0, 8], [127, 0, 0, 5]] {
            assert_eq!(told(Peer::connect_from(source.into())), FORBIDDEN, "{source:?}");
        }
        assert_eq!(told(starting(Ipv6Addr::LOCALHOST)), FORBIDDEN);
        wait_refusals(world, "the address may not connect", (3, 3));
        assert_eq!(world.audit.of("connection"), Vec::<String>::new());
        assert!(is_served(&mut starting([127, 0, 0, 1])));

        fs::write("/etc/rlogind.toml", "deny = [\"127.0.0.0/8\"]\n").unwrap();
        daemon.signal(Signal::SIGHUP);
        world.audit.wait_count("config-read", 2);
        assert_eq!(told(Peer::connect()), FORBIDDEN, "after the reload");
        assert!(is_served(&mut starting(Ipv6Addr::LOCALHOST)));
    });
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_denied_by_ipv4_networks() {
    world(|world| {
        let _daemon = world.serve("listen = [\"[::]:513\"]\ndeny = [\"127.0.0.0/8\"]\n");
        assert_eq!(told(Peer::connect()), FORBIDDEN);
        assert!(is_served(&mut starting(Ipv6Addr::LOCALHOST)));
    });
}

#[test]
fn tcpmux_denies_in_its_own_words() {
    world(|world| {
        let text = "deny = [\"127.0.0.2\"]\n[tcpmux]\nenabled = true\n[limits]\nsessions = 1\n";
        let _daemon = world.serve(text);
        assert_eq!(told(Peer::connect_to([127, 0, 0, 2].into(), 1)), b"-Service not available\r\n");
        let mut first = starting([127, 0, 0, 1]);
        first.give_password(ALICE);
        world.audit.wait("session-opened");
        assert_eq!(told(Peer::connect_to([127, 0, 0, 1].into(), 1)), b"-Try again\r\n");
    });
}

#[test]
fn connections_that_are_not_logged_in_have_a_limit_of_their_own() {
    world(|world| {
        let _daemon = world.serve("[limits]\nstartups = 3\n");
        // Without a handshake, at the prompt, or in a session: only the last does not count.
        let silent = Peer::connect();
        let mut asked = starting([127, 0, 0, 1]);
        asked.expect("Password: ");
        let mut third = starting([127, 0, 0, 1]);
        assert!(is_served(&mut third));
        // The oldest gives way.
        let mut fourth = starting([127, 0, 0, 1]);
        assert!(is_served(&mut fourth));
        assert_eq!(told(silent), BUSY);
        wait_refusals(world, GAVE_WAY, (1, 1));
        third.give_password(ALICE);
        world.audit.wait("session-opened");
        let mut fifth = starting([127, 0, 0, 1]);
        assert!(is_served(&mut fifth), "who is logged in does not count");
        let mut sixth = Peer::connect();
        asked.wait_end(PATIENCE);
        assert!(
            asked.data.ends_with(b"rlogind: Try again.\r\n"),
            "{:?}",
            String::from_utf8_lossy(&asked.data)
        );
        // Each line is of a process of its own, and the next one might be quicker.
        world.audit.wait_count("login-abandoned", 1);
        drop(fourth);
        let abandoned = world.audit.wait_count("login-abandoned", 2);
        let reason = |line: &String| field(line, "reason").unwrap().to_owned();
        let reasons: Vec<String> = abandoned.iter().map(reason).collect();
        assert_eq!(reasons, ["it gave way to another connection", "the client left during the login"]);
        // One that has gone makes room, and nobody has to give way.
        let mut seventh = starting([127, 0, 0, 1]);
        assert!(is_served(&mut seventh));
        wait_refusals(world, GAVE_WAY, (2, 2));
        sixth.send(handshake("nobody", "alice", "vt100/38400"));
        assert!(is_served(&mut sixth) && is_served(&mut fifth));
        assert_eq!(third.run("echo here"), "here");
    });
}

#[test]
fn between_the_thresholds_some_are_turned_away_at_random() {
    world(|world| {
        let _daemon = world.serve("[limits]\nstartups = \"10:50:40\"\nhandshake = \"60s\"\n");
        let mut held: Vec<Peer> = (0..10).map(|_| starting([127, 0, 0, 1])).collect();
        assert!(held.iter_mut().all(is_served), "nobody is turned away below the first threshold");
        let mut refused_at = Vec::new();
        let mut tries = 0;
        while held.len() < 40 {
            tries += 1;
            assert!(tries < 2000, "only {} got in", held.len());
            let mut peer = starting([127, 0, 0, 1]);
            if is_served(&mut peer) {
                held.push(peer);
            } else {
                refused_at.push(held.len());
            }
        }
        // The chance that none of 30 is refused where each has one of half is one in 10^9.
        assert!(!refused_at.is_empty() && refused_at.iter().all(|count| (10..40).contains(count)));
        // From the last threshold on nobody is turned away, and the oldest give way.
        for _ in 0..20 {
            let mut peer = starting([127, 0, 0, 1]);
            assert!(is_served(&mut peer));
            held.remove(0).wait_end(PATIENCE);
            held.push(peer);
        }
    });
}

#[test]
fn who_leaves_holds_a_place_until_the_session_process_has_ended() {
    world(|world| {
        let rest = fs::read_to_string("/etc/pam.d/rlogin").unwrap();
        let slow = format!("auth optional pam_exec.so /bin/sleep 2\n{rest}");
        fs::write("/etc/pam.d/rlogin", slow).unwrap();
        let daemon = world.serve("[limits]\nper_source = 2\n");
        for _ in 0..2 {
            let mut peer = starting([127, 0, 0, 3]);
            assert!(is_served(&mut peer));
            // It is in PAM by then, where nothing can be told to it.
            thread::sleep(Duration::from_millis(500));
        }
        eventually("both have gone", PATIENCE, || (daemon.relay().descriptors() <= 10).then_some(()));
        for _ in 0..5 {
            assert!(!is_served(&mut starting([127, 0, 0, 3])), "a third process of one source");
        }
        wait_refusals(world, "too many connections from this source", (5, 5));
        assert!(is_served(&mut starting([127, 0, 0, 4])));
        eventually("the processes have ended", PATIENCE, || {
            is_served(&mut starting([127, 0, 0, 3])).then_some(())
        });
        nothing_is_left(&daemon);
    });
}

#[test]
fn two_hundred_may_log_in_at_once() {
    world(|world| {
        let daemon = world.serve("[limits]\nper_source = 1000\n");
        let mut peers: Vec<Peer> = (0..200_u8).map(|number| starting([127, 0, 1, number])).collect();
        for peer in &mut peers {
            peer.expect_bytes(b"Password: ", Duration::from_secs(60));
        }
        assert_eq!(world.audit.of("refused"), Vec::<String>::new());
        drop(peers);
        nothing_is_left(&daemon);
    });
}

#[test]
fn three_hundred_refusals_are_a_few_lines_with_the_right_number() {
    world(|world| {
        let mut daemon = world.serve("deny = [\"127.0.0.2\"]\n");
        // More at once than are given time to read.
        let peers: Vec<Peer> = (0..300).map(|_| Peer::connect_from([127, 0, 0, 2].into())).collect();
        for peer in peers {
            assert_eq!(told(peer), FORBIDDEN);
        }
        wait_refusals(world, "the address may not connect", (10, 10));
        // Another reason is not hidden among them.
        let mut stranger = Peer::connect();
        stranger.send("GET");
        told(stranger);
        wait_refusals(world, "not the rlogin protocol", (1, 1));
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        wait_refusals(world, "the address may not connect", (300, 11));
        assert_eq!(world.audit.of("connection").len(), 1);
    });
}

/// A connection at the password prompt gives a wrong one so many times.
fn fail(mut peer: Peer, times: usize) {
    for time in 0..times {
        if time > 0 {
            peer.expect("login: ");
            peer.send("alice\r");
        }
        peer.expect("Password: ");
        peer.send("wrong-Secret-9\r");
        peer.expect("Login incorrect");
    }
}

/// The lines about wrong passwords from there.
fn failures(world: &World, source: &str) -> Vec<String> {
    let lines = world.audit.of("password-failed").into_iter();
    lines.filter(|line| field(line, "address") == Some(source)).collect()
}

#[test]
fn three_hundred_failed_logins_are_a_few_lines_and_hide_no_other_source() {
    world(|world| {
        let mut daemon = world.serve("[login]\nattempts = 100\n");
        let flood = [(); 3].map(|()| thread::spawn(|| fail(starting([127, 0, 0, 2]), 100)));
        eventually("the first of them", PATIENCE, || {
            (failures(world, "127.0.0.2").len() == 10).then_some(())
        });
        for other in [IpAddr::from([127, 0, 0, 3]), Ipv6Addr::LOCALHOST.into()] {
            fail(starting(other), 1);
            let other = other.to_string();
            eventually("another source's line", PATIENCE, || failures(world, &other).pop());
        }
        for peer in flood {
            peer.join().unwrap();
        }
        assert_eq!(failures(world, "127.0.0.2").len(), 10);
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        let lines = eventually("the number of the others", PATIENCE, || {
            Some(failures(world, "127.0.0.2")).filter(|lines| lines.len() > 10)
        });
        assert_eq!((lines.len(), total(&lines)), (11, 300), "{lines:#?}");
        let all = world.audit.since(0);
        let of_modules = all.iter().filter(|line| line.contains(" rlogind-session[")).count();
        assert!((50..150).contains(&of_modules), "{of_modules} lines of modules");
        let bytes: usize = all.iter().map(String::len).sum();
        assert!(bytes < 30_000, "{bytes} bytes");
    });
}

#[test]
fn who_connects_again_and_again_fills_the_log_by_no_module_either() {
    world(|world| {
        let mut daemon = world.serve("");
        // Each in a session process of its own, which knows nothing of the others.
        for _ in 0..120 {
            fail(starting([127, 0, 0, 2]), 1);
        }
        let of_modules = || {
            let all = world.audit.since(0);
            all.into_iter().filter(|line| line.contains(" rlogind-session[")).count()
        };
        assert_eq!(of_modules(), 100);
        fail(starting([127, 0, 0, 3]), 1);
        eventually("another source's line", PATIENCE, || (of_modules() > 100).then_some(()));
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        let line = world.audit.wait("module-lines");
        let left_out: usize = field(&line, "count").unwrap().parse().unwrap();
        assert!(left_out >= 20, "{line}");
        assert_eq!(field(&line, "address"), Some("127.0.0.2"), "{line}");
    });
}

#[test]
fn while_the_monitor_is_busy_strangers_wait_and_nothing_spins() {
    world(|world| {
        let daemon = world.serve("[limits]\nstartups = 1\nhandshake = \"10m\"\n");
        let mut before = Peer::log_in(ALICE);
        // The shell may be quicker, and until then it has the place.
        world.audit.wait("session-opened");
        let relay = daemon.relay();
        daemon.signal(Signal::SIGSTOP);
        // More than the relay tells the monitor of ahead, fewer than the kernel holds ready.
        // From so many networks that none is slowed down.
        let connect = |n: u16| Peer::connect_from([127, 0, n.to_le_bytes()[0] % 20, 1].into());
        let peers: Vec<Peer> = (1..800).map(connect).collect();
        let last = connect(0);
        thread::sleep(Duration::from_millis(500));
        does_not_spin(std::slice::from_ref(&relay), Duration::from_secs(2));
        assert_eq!(before.run("echo here"), "here", "sessions do not need the monitor");
        daemon.signal(Signal::SIGCONT);
        // Each gives way to the next one.
        for peer in peers {
            assert_eq!(told(peer), BUSY);
        }
        drop(last);
        assert_eq!(daemon.relay().pid, relay.pid);
        assert_eq!(before.run("echo here"), "here");
    });
}

/// What a superserver's server says to a client from 127.0.0.1.
fn told_by_inetd(args: &[&str]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = Peer::of(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (server, _) = listener.accept().unwrap();
    let mut child = Command::new(PROGRAM)
        .arg("inetd")
        .args(args)
        .stdin(OwnedFd::from(server))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let told = told(client);
    assert!(child.wait().unwrap().success());
    told
}

#[test]
fn a_single_connection_is_denied_as_well() {
    world(|world| {
        fs::write("/etc/rlogind.toml", "allow = [\"192.0.2.0/24\"]\n").unwrap();
        assert_eq!(told_by_inetd(&[]), FORBIDDEN);
        assert_eq!(told_by_inetd(&["--tcpmux-reply"]), b"-Service not available\r\n");
        wait_refusals(world, "the address may not connect", (2, 2));
    });
}

#[test]
fn a_relay_without_descriptors_tells_the_clients_and_goes_on_when_it_has_some() {
    world(|world| {
        let daemon = world.serve("");
        let mut before = Peer::log_in(ALICE);
        let relay = daemon.relay();
        leave_descriptors(&relay, 0);
        assert_eq!(told(Peer::connect()), BUSY);
        let peers: Vec<Peer> = (0..30).map(|_| starting([127, 0, 0, 3])).collect();
        for mut peer in peers {
            assert_eq!(first_answer(&mut peer), BUSY);
        }
        // Of each of the two sources its first.
        wait_refusals(world, "no descriptor for the client", (11, 11));
        does_not_spin(&[daemon.monitor(), relay.clone()], Duration::from_secs(2));
        assert_eq!(before.run("echo here"), "here");
        assert_eq!(daemon.relay().pid, relay.pid, "it is the same relay");
        give_descriptors_back(&relay);
        Peer::log_in(ALICE);
        assert_eq!(before.run("echo here"), "here");
    });
}

#[test]
fn a_relay_that_cannot_even_tell_the_clients_pauses_and_serves_them_later() {
    world(|world| {
        let daemon = world.serve("");
        let mut before = Peer::log_in(ALICE);
        let relay = daemon.relay();
        // Below the number of the spare one.
        limit_descriptors(&relay, 4);
        let mut waiting = starting([127, 0, 0, 1]);
        let line = world.audit.wait("shortage");
        assert!(line.contains("no client can be accepted: Too many open files"), "{line}");
        does_not_spin(&[daemon.monitor(), relay.clone()], Duration::from_secs(2));
        assert_eq!(before.run("echo here"), "here");
        assert_eq!(waiting.data, b"");
        give_descriptors_back(&relay);
        waiting.give_password(ALICE);
        assert_eq!(daemon.relay().pid, relay.pid);
    });
}

/// What the client is told with ever more descriptors for the process that has too few,
/// until it is served; no session may suffer and nothing may stay behind.
fn sweep_descriptors(world: &World, of_monitor: bool) {
    let daemon = world.serve("");
    let mut before = Peer::log_in(ALICE);
    let process = if of_monitor { daemon.monitor() } else { daemon.relay() };
    let count = process.descriptors();
    let mut served = false;
    for more in 0..24 {
        leave_descriptors(&process, more);
        let mut peer = starting([127, 0, 0, 1]);
        served = is_served(&mut peer);
        drop(peer);
        eventually("all its descriptors are closed", PATIENCE, || {
            (process.descriptors() <= count).then_some(())
        });
        if served {
            break;
        }
    }
    assert!(served, "it needs more than 24 descriptors for a session");
    does_not_spin(&[daemon.monitor(), daemon.relay()], Duration::from_secs(1));
    assert_eq!(before.run("echo here"), "here");
    assert!(!world.audit.of("refused").is_empty());
    give_descriptors_back(&process);
    drop(before);
    nothing_is_left(&daemon);
    Peer::log_in(ALICE);
}

#[test]
fn a_monitor_with_too_few_descriptors_tells_the_clients_and_loses_none() {
    world(|world| sweep_descriptors(world, true));
}

#[test]
fn a_relay_with_too_few_descriptors_tells_the_clients_and_loses_none() {
    world(|world| sweep_descriptors(world, false));
}

#[test]
fn a_monitor_without_descriptors_replaces_its_relay_when_it_has_some() {
    world(|world| {
        let daemon = world.serve("");
        let relay = daemon.relay();
        // Those of the old relay's will be free for the next.
        limit_descriptors(&daemon.monitor(), 4);
        kill(Pid::from_raw(i32::try_from(relay.pid).unwrap()), Signal::SIGKILL).unwrap();
        world.audit.wait("warning");
        does_not_spin(&[daemon.monitor()], Duration::from_secs(2));
        give_descriptors_back(&daemon.monitor());
        Peer::log_in(ALICE);
    });
}

#[test]
fn without_a_terminal_the_client_is_told_so() {
    world(|world| {
        let daemon = world.serve("");
        // These are the terminals of this test's machine only.
        let options = "remount,gid=5,mode=620,ptmxmode=666,max=1";
        assert!(Command::new("mount").args(["-o", options, "/dev/pts"]).status().unwrap().success());
        let first = Peer::log_in(ALICE);
        for _ in 0..20 {
            assert_eq!(told(starting([127, 0, 0, 1])), b"\x01rlogind: Out of ptys.\r\n");
        }
        wait_refusals(world, "no terminal for the session", (10, 10));
        drop(first);
        nothing_is_left(&daemon);
        Peer::log_in(ALICE);
    });
}

/// Since Linux 6.14 each process namespace has a limit of its own.
fn has_process_limit() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}

#[test]
fn without_a_process_the_client_is_told_so() {
    const LIMIT: &str = "/proc/sys/kernel/pid_max";
    world(|world| {
        if !has_process_limit() {
            return skip("this kernel has one limit on processes for the whole machine");
        }
        let daemon = world.serve("");
        let mut before = Peer::log_in(ALICE);
        let unlimited = fs::read_to_string(LIMIT).unwrap();
        fs::write(LIMIT, "301").unwrap();
        let end = Arc::new(Barrier::new(2));
        // Threads count as processes do. One holds the others.
        let (told_full, full) = mpsc::channel();
        let holder = thread::spawn({
            let end = Arc::clone(&end);
            move || {
                let mut count = 0;
                while thread::Builder::new().stack_size(32 * 1024).spawn(thread::park).is_ok() {
                    count += 1;
                    assert!(count < 400, "there is no limit on processes");
                }
                told_full.send(count).unwrap();
                end.wait();
            }
        });
        full.recv().unwrap();
        for _ in 0..20 {
            assert_eq!(told(starting([127, 0, 0, 1])), BUSY);
        }
        wait_refusals(world, "no process or descriptor for the session", (10, 10));
        assert_eq!(before.run("echo here"), "here");
        does_not_spin(&[daemon.monitor(), daemon.relay()], Duration::from_secs(1));
        fs::write(LIMIT, unlimited.trim()).unwrap();
        Peer::log_in(ALICE);
        end.wait();
        holder.join().unwrap();
    });
}

/// Logs in over a link that can be cut, and cuts it while a command is about to write.
fn behind_a_link(told: &mpsc::Sender<i32>, linked: &mpsc::Receiver<()>) {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    told.send(gettid().as_raw()).unwrap();
    linked.recv().unwrap();
    ip("link set lo up");
    ip("addr add 10.9.0.2/24 dev far");
    ip("link set far up");
    let stream = eventually("the link is up", PATIENCE, || TcpStream::connect("10.9.0.1:513").ok());
    let mut peer = Peer::of(stream);
    peer.send(handshake("nobody", "alice", "vt100/38400"));
    peer.give_password(ALICE);
    peer.send("sleep 1; echo output\r");
    // The command's echo; what it writes itself never arrives.
    peer.expect("echo output\r\n");
    ip("link set far down");
    told.send(0).unwrap();
    // The connection must not be closed by this end.
    linked.recv().unwrap();
}

#[test]
fn a_client_that_acknowledges_nothing_is_given_up_after_that_time() {
    world(|world| {
        let daemon = world.serve("[limits]\nunacknowledged = \"2s\"\n");
        let (to_main, from_client) = mpsc::channel();
        let (to_client, from_main) = mpsc::channel();
        let client = thread::spawn(move || behind_a_link(&to_main, &from_main));
        let network = from_client.recv().unwrap();
        ip(&format!("link add near type veth peer name far netns {network}"));
        ip("addr add 10.9.0.1/24 dev near");
        ip("link set near up");
        to_client.send(()).unwrap();
        from_client.recv().unwrap();
        let cut = Instant::now();
        let line = eventually("the session is closed", Duration::from_secs(20), || {
            world.audit.of("session-closed").pop()
        });
        let took = cut.elapsed();
        assert!((1500..8000).contains(&took.as_millis()), "{took:?}: {line}");
        assert_eq!(field(&line, "by"), Some("silence"), "{line}");
        nothing_is_left(&daemon);
        to_client.send(()).unwrap();
        client.join().unwrap();
    });
}

#[test]
fn a_client_that_takes_nothing_is_given_up_after_that_time() {
    world(|world| {
        let daemon = world.serve("[limits]\nunacknowledged = \"2s\"\n");
        let mut idle = Peer::log_in(ALICE);
        let mut stopped = Peer::log_in(ALICE);
        stopped.send("yes\r");
        world.audit.wait_count("session-closed", 1);
        assert_eq!(idle.run("echo here"), "here", "silence is no reason");
        drop((idle, stopped));
        nothing_is_left(&daemon);
    });
}
