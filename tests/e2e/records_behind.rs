//! Login records that cannot be written, because a user holds their lock: no login waits for that long,
//! and nothing is lost.

use std::fs::{self, File};
use std::mem::{offset_of, size_of};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::Signal;

use crate::accounts::ALICE;
use crate::daemon::Daemon;
use crate::hand_over::upgrade;
use crate::peer::Peer;
use crate::processes::{self, Process};
use crate::records::{ENTRIES, UTMP, WTMP, counts, dump, has_readers, line_of, send, stop};
use crate::superserver::{Kind, Superserver};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// The worker's name, and that of a session's own child.
const WORKER: &str = "rlogind-records";

/// What every user can have: a read lock of utmp and wtmp. It is gone when this is dropped.
struct Lock(#[allow(dead_code, reason = "the files hold the locks")] [File; 2]);

impl Lock {
    fn hold() -> Lock {
        Lock([UTMP, WTMP].map(|path| {
            let file = File::open(path).unwrap();
            let lock = libc::flock {
                l_type: libc::F_RDLCK.try_into().unwrap(),
                l_whence: libc::SEEK_SET.try_into().unwrap(),
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
            file
        }))
    }
}

fn now() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

/// Whether each record of the line is a login, its process, and its time.
fn records(file: &str, line: &str) -> Vec<(bool, i32, u32)> {
    let bytes = fs::read(file).unwrap();
    let number = |record: &[u8], at: usize| u32::from_ne_bytes(record[at..at + 4].try_into().unwrap());
    let name = [line.as_bytes(), &[0]].concat();
    let of_line = bytes
        .chunks_exact(size_of::<libc::utmpx>())
        .filter(|record| record[offset_of!(libc::utmpx, ut_line)..].starts_with(&name));
    of_line
        .map(|record| {
            let is_login = record[0] == 7;
            let pid = number(record, offset_of!(libc::utmpx, ut_pid));
            (is_login, pid.try_into().unwrap(), number(record, offset_of!(libc::utmpx, ut_tv)))
        })
        .collect()
}

/// Logs in, and says how long that took.
fn log_in() -> (Peer, Duration) {
    let start = Instant::now();
    (Peer::log_in(ALICE), start.elapsed())
}

/// Logs out, and waits until the session's process is gone, which must not take long.
fn log_out(world: &World, mut peer: Peer, sessions: usize) {
    let session = session_of(&mut peer);
    peer.send("exit\r");
    let start = Instant::now();
    peer.wait_end(PATIENCE);
    eventually("the session's process is gone", Duration::from_secs(4), || {
        Process::of(session.pid).is_none().then_some(())
    });
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    world.audit.wait_count("session-closed", sessions);
}

fn session_of(peer: &mut Peer) -> Process {
    let shell: u32 = peer.run("echo $$").parse().unwrap();
    Process::of(Process::of(shell).unwrap().parent).unwrap()
}

fn workers() -> usize {
    processes::all().iter().filter(|process| process.name == WORKER).count()
}

/// Waits until so many sessions have entries, and nothing else is left of what waited.
fn settled(sessions: usize) {
    eventually("all is written", PATIENCE, || {
        let entries = fs::read_dir(ENTRIES).unwrap().count();
        (entries == sessions && workers() == 0).then_some(())
    });
}

fn warnings(world: &World) -> Vec<String> {
    let said = |line: String| line.split_once("]: ").unwrap().1.split(" event=").next().unwrap().to_owned();
    world.audit.of("warning").into_iter().map(said).collect()
}

const BEHIND: &str = "login records are behind: another process holds the lock of /var/run/utmp or /var/log/wtmp; \
                      they are written when it is free";
const UP_TO_DATE: &str = "login records are up to date again";

#[test]
fn sessions_while_the_records_are_locked_do_not_wait_and_are_recorded_afterwards() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = world.serve("");
        let mut before = Peer::log_in(ALICE);
        let old_line = line_of(&mut before);
        let lock = Lock::hold();
        let mut times = Vec::new();
        let mut line = String::new();
        for number in 1..=2 {
            let start = now();
            let (mut peer, waited) = log_in();
            // The first one finds it out; the second one need not.
            let most = if number == 1 { 3000 } else { 800 };
            assert!(waited < Duration::from_millis(most), "{number}: {waited:?}");
            line = line_of(&mut peer);
            let pid = session_of(&mut peer).pid;
            let logged_in = now();
            thread::sleep(Duration::from_millis(1100));
            let leaves = now();
            log_out(world, peer, number);
            times.push((pid, start..=logged_in, leaves..=now()));
        }
        let (mut stays, _) = log_in();
        let new_line = line_of(&mut stays);
        assert_eq!(new_line, line, "all have the same terminal");
        // One that logged in before.
        log_out(world, before, 3);
        assert_eq!(counts(UTMP, &old_line), (1, 0), "{:#?}", dump(UTMP));
        assert_eq!(counts(WTMP, &line), (0, 0), "{:#?}", dump(WTMP));
        assert_eq!(workers(), 1, "{}", processes::table());
        assert_eq!(warnings(world), [BEHIND]);
        thread::sleep(Duration::from_millis(1100));
        drop(lock);
        settled(1);
        let written = records(WTMP, &line);
        assert_eq!(written.len(), 5, "{:#?}", dump(WTMP));
        for ((pid, login, logout), written) in times.into_iter().zip(written.chunks(2)) {
            let pid = i32::try_from(pid).unwrap();
            assert!(
                written[0].0 && written[0].1 == pid && login.contains(&written[0].2),
                "{login:?} {written:?}"
            );
            assert!(
                !written[1].0 && written[1].1 == pid && logout.contains(&written[1].2),
                "{logout:?} {written:?}"
            );
        }
        assert_eq!((counts(UTMP, &old_line), counts(WTMP, &old_line)), ((0, 1), (1, 1)));
        assert_eq!((counts(UTMP, &line), written[4].0), ((1, 0), true), "{:#?}", dump(UTMP));
        log_out(world, stays, 4);
        settled(0);
        assert_eq!((counts(UTMP, &line), counts(WTMP, &line)), ((0, 1), (3, 3)), "{:#?}", dump(WTMP));
        // What is written is not written again.
        log_out(world, Peer::log_in(ALICE), 5);
        assert_eq!(warnings(world), [BEHIND, UP_TO_DATE]);
        assert_eq!(processes::descendants(daemon.pid()).len(), 1, "{}", processes::table());
    });
}

#[test]
fn many_sessions_at_once_leave_one_process_that_waits() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let _daemon = world.serve("");
        let lock = Lock::hold();
        let peers: Vec<_> = (0..12).map(|_| thread::spawn(|| Peer::log_in(ALICE))).collect();
        let mut peers: Vec<Peer> = peers.into_iter().map(|peer| peer.join().unwrap()).collect();
        eventually("the sessions' own children are gone", PATIENCE, || (workers() == 1).then_some(()));
        let lines: Vec<String> = peers.iter_mut().map(line_of).collect();
        for mut peer in peers {
            peer.send("exit\r");
            peer.wait_end(PATIENCE);
        }
        world.audit.wait_count("session-closed", 12);
        eventually("one process waits", PATIENCE, || (workers() == 1).then_some(()));
        drop(lock);
        settled(0);
        for line in &lines {
            assert_eq!((counts(UTMP, line).0, counts(WTMP, line)), (0, (1, 1)), "{:#?}", dump(WTMP));
        }
        assert_eq!(warnings(world), [BEHIND, UP_TO_DATE]);
    });
}

#[test]
fn a_session_process_that_is_killed_while_its_records_wait_is_recorded_afterwards() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let _daemon = world.serve("");
        // One of them has its login recorded already.
        let (mut early, lock) = (Peer::log_in(ALICE), Lock::hold());
        let (mut late, _) = log_in();
        let lines = [line_of(&mut early), line_of(&mut late)];
        for peer in [&mut early, &mut late] {
            send(&session_of(peer), Signal::SIGKILL);
        }
        let killed = now();
        for mut peer in [early, late] {
            peer.wait_end(PATIENCE);
        }
        world.audit.wait_count("session-closed", 2);
        thread::sleep(Duration::from_millis(2100));
        drop(lock);
        settled(0);
        for line in &lines {
            let written = records(WTMP, line);
            assert_eq!((counts(UTMP, line).0, written.len()), (0, 2), "{:#?}", dump(WTMP));
            assert!(
                written[0].0 && !written[1].0 && (killed..=killed + 1).contains(&written[1].2),
                "{written:?}"
            );
        }
    });
}

#[test]
fn a_session_process_that_is_killed_while_its_login_is_written_leaves_no_ghost() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let _daemon = world.serve("");
        let lock = Lock::hold();
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        let child = eventually("its child waits for the lock", PATIENCE, || {
            let all = processes::all().into_iter();
            let waits = |child: &Process| child.descriptor_list().iter().any(|file| file.ends_with("/wtmp"));
            all.filter(|process| process.name == "rlogind-utmp").find(waits)
        });
        send(&Process::of(child.parent).unwrap(), Signal::SIGKILL);
        eventually("it goes with the session", PATIENCE, || Process::of(child.pid).is_none().then_some(()));
        peer.wait_end(PATIENCE);
        drop(lock);
        settled(0);
        for file in [UTMP, WTMP] {
            assert!(dump(file).iter().all(|record| record[0] != "7"), "{:#?}", dump(file));
        }
    });
}

#[test]
fn what_waits_outlives_the_daemon() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = world.serve("");
        let (mut early, lock) = (Peer::log_in(ALICE), Lock::hold());
        let (mut late, _) = log_in();
        let lines = [line_of(&mut early), line_of(&mut late)];
        stop(daemon);
        let daemon = world.serve("");
        let (mut peer, waited) = log_in();
        assert!(waited < Duration::from_secs(3), "{waited:?}");
        let line = line_of(&mut peer);
        // The one that the other daemon left, and at most our own.
        assert!(workers() <= 2, "{}", processes::table());
        drop(lock);
        settled(1);
        for line in &lines {
            let (logins, logouts) = counts(WTMP, line);
            assert!(logins >= 1 && logouts >= 1, "{:#?}", dump(WTMP));
        }
        assert_eq!(counts(UTMP, &line), (1, 0));
        log_out(world, peer, 3);
        settled(0);
        for line in lines.iter().chain([&line]) {
            let (logins, logouts) = counts(WTMP, line);
            assert_eq!((counts(UTMP, line).0, logins), (0, logouts), "{:#?}", dump(WTMP));
        }
        assert_eq!(records(WTMP, &line).len() + records(WTMP, &other(&lines, &line)).len(), 6);
        drop(daemon);
    });
}

#[test]
fn what_waits_outlives_an_upgrade() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let daemon = Daemon::start_copy("/mnt/rlogind", "");
        let (mut killed, lock) = (Peer::log_in(ALICE), Lock::hold());
        let (mut stays, _) = log_in();
        let lines = [line_of(&mut killed), line_of(&mut stays)];
        upgrade(world, &daemon);
        // The next worker of this image, for the one of the other still waits.
        send(&session_of(&mut killed), Signal::SIGKILL);
        let time = now();
        killed.wait_end(PATIENCE);
        log_out(world, log_in().0, 2);
        assert_eq!(workers(), 1, "{}", processes::table());
        drop(lock);
        settled(1);
        let written = records(WTMP, &lines[0]);
        assert!(written[..2].iter().map(|record| record.0).eq([true, false]), "{:#?}", dump(WTMP));
        assert!(written[1].2 >= time, "{written:?}");
        assert_eq!((counts(UTMP, &lines[1]), counts(WTMP, &lines[1])), ((1, 0), (1, 0)), "{:#?}", dump(UTMP));
        log_out(world, stays, 3);
        settled(0);
        let up_to_date = |lines: &[String]| lines.last().is_some_and(|line| line == UP_TO_DATE);
        eventually("the log says so", PATIENCE, || up_to_date(&warnings(world)).then_some(()));
        assert_eq!(warnings(world).len(), 2, "{:#?}", warnings(world));
    });
}

/// The one of these that is not that.
fn other(lines: &[String; 2], than: &str) -> String {
    lines.iter().find(|line| *line != than).unwrap().clone()
}

#[test]
fn a_wtmp_that_cannot_be_written_holds_nobody_up_and_keeps_nothing_from_utmp() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let full = "mkdir /tmp/full; mount -t tmpfs -o size=4k tmpfs /tmp/full; : >/tmp/full/wtmp
            dd if=/dev/zero of=/tmp/full/fill bs=4k count=1; ln -sf /tmp/full/wtmp /var/log/wtmp";
        let read_only = "rm /var/log/wtmp; : >/var/log/wtmp; mount --bind /var/log/wtmp /var/log/wtmp
            mount -o remount,bind,ro /var/log/wtmp";
        for script in [full, read_only] {
            assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success());
            let daemon = world.serve("");
            let sessions = world.audit.of("session-closed").len();
            for number in 1..=2 {
                let (mut peer, waited) = log_in();
                assert!(waited < Duration::from_millis(800), "{waited:?}");
                assert_eq!(counts(UTMP, &line_of(&mut peer)).0, 1, "{script}");
                log_out(world, peer, sessions + number);
                assert_eq!(counts(UTMP, "pts/0").0, 0);
            }
            settled(0);
            stop(daemon);
        }
    });
}

#[test]
fn without_a_registry_the_records_are_written_all_the_same() {
    world(|world| {
        if !has_readers() {
            return;
        }
        fs::create_dir("/run/rlogind").unwrap();
        fs::write(ENTRIES, "in the way").unwrap();
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let line = line_of(&mut peer);
        assert_eq!((counts(UTMP, &line), counts(WTMP, &line)), ((1, 0), (1, 0)));
        send(&session_of(&mut peer), Signal::SIGKILL);
        peer.wait_end(PATIENCE);
        eventually("its records are closed", PATIENCE, || {
            (counts(UTMP, &line) == (0, 1) && counts(WTMP, &line) == (1, 1)).then_some(())
        });
        world.audit.wait_count("session-closed", 1);
        // What cannot be written at once is in the monitor's hands.
        let lock = Lock::hold();
        let (peer, _) = log_in();
        log_out(world, peer, 2);
        drop(lock);
        eventually("both are recorded", PATIENCE, || (counts(WTMP, &line) == (2, 2)).then_some(()));
        assert_eq!(counts(UTMP, &line).0, 0);
    });
}

#[test]
fn under_a_superserver_one_process_waits_for_all_connections() {
    world(|world| {
        if !has_readers() {
            return;
        }
        let Some(_server) = Superserver::rlogin(Kind::Inetutils, &[]) else { return };
        let lock = Lock::hold();
        let mut lines = Vec::new();
        for number in 1..=3 {
            let (mut peer, _) = log_in();
            lines.push(line_of(&mut peer));
            log_out(world, peer, number);
        }
        eventually("one process waits, and no monitor", Duration::from_secs(10), || {
            let ours = processes::all().into_iter().filter(|process| process.name.contains("rlogind"));
            (ours.map(|process| process.name).collect::<Vec<_>>() == [WORKER]).then_some(())
        });
        drop(lock);
        settled(0);
        let written: usize = ["pts/0", "pts/1", "pts/2"].map(|line| records(WTMP, line).len()).iter().sum();
        assert_eq!(written, 6, "{:#?}", dump(WTMP));
        assert!(lines.iter().all(|line| counts(UTMP, line).0 == 0), "{:#?}", dump(UTMP));
    });
}
