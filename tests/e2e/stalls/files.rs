//! What others can do to files and directories that the daemon uses: list them, lock them, put a FIFO in their place,
//! remove them.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::staller::{self, Stall};
use super::{
    ANSWER, CHANGE, ask, command, is_administered, logs_in, relay_is_replaced, settled, told, types,
};
use crate::accounts::BOB;
use crate::daemon::Daemon;
use crate::peer::Peer;
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

const CONFIG: &str = "/etc/rlogind.toml";
const SOCKET: &str = "/run/rlogind/control";

/// Carol, who has no session, lists a directory without end.
fn stalled_listing_hurts_nobody(world: &World, directory: &str) {
    if !staller::install() {
        return;
    }
    let daemon = world.serve("");
    let mut bob = Peer::log_in(BOB);
    logs_in();
    relay_is_replaced(&daemon, &mut bob);
    is_administered(&mut bob);
    let before = settled(&daemon, 1);
    let carol = Stall::by("carol", 1003);
    carol.start(&format!("list {directory}"));
    let denied = eventually("the listing stalls or is denied", PATIENCE, || {
        carol.note("failed").map(Some).or_else(|| carol.note("on").map(|_| None))
    });
    if let Some(why) = denied {
        assert!(why.contains("Permission denied"), "{why}");
    }
    logs_in();
    types(&mut bob);
    relay_is_replaced(&daemon, &mut bob);
    is_administered(&mut bob);
    logs_in();
    carol.release();
    assert_eq!(before.wait_back(&daemon, PATIENCE), Ok(()));
}

#[test]
fn stalled_listing_of_the_run_directory_hurts_nobody() {
    world(|world| stalled_listing_hurts_nobody(world, "/run/rlogind"));
}

#[test]
fn stalled_listing_of_its_parent_hurts_nobody() {
    world(|world| stalled_listing_hurts_nobody(world, "/run"));
}

#[test]
fn stalled_listing_of_the_temporary_directory_hurts_nobody() {
    world(|world| stalled_listing_hurts_nobody(world, "/tmp"));
}

#[test]
fn stalled_listing_of_the_terminals_hurts_nobody() {
    world(|world| stalled_listing_hurts_nobody(world, "/dev/pts"));
}

/// Carol does something to the login records that everybody may do.
fn login_records_are_kept_by(world: &World, tasks: &[&str]) {
    if !staller::install() {
        return;
    }
    let daemon = world.serve("");
    let mut bob = Peer::log_in(BOB);
    logs_in();
    let before = settled(&daemon, 1);
    let carol = Stall::by("carol", 1003);
    for task in tasks {
        carol.start(task);
        carol.wait("on");
        for _ in 0..3 {
            let mut peer = Peer::hello("nobody", BOB.name);
            peer.expect("Password: ");
            peer.send(format!("{}\r", BOB.password));
            // The records' lock is waited for in vain: a login that does has 10 s of it for each file.
            peer.expect_bytes(crate::accounts::PROMPT.as_bytes(), Duration::from_secs(5));
            peer.send("exit\r");
            peer.wait_end(Duration::from_secs(5));
            types(&mut bob);
        }
        is_administered(&mut bob);
        carol.release();
        assert_eq!(before.wait_back(&daemon, Duration::from_secs(45)), Ok(()));
    }
}

#[test]
fn locks_of_the_login_records_keep_nobody_from_logging_in() {
    world(|world| login_records_are_kept_by(world, &["lock /run/utmp /var/log/wtmp"]));
}

#[test]
fn stalled_reads_of_the_login_records_keep_nobody_from_logging_in() {
    world(|world| {
        // A record to read.
        fs::write("/run/utmp", [0; 384]).unwrap();
        fs::write("/var/log/wtmp", [0; 384]).unwrap();
        login_records_are_kept_by(world, &["file /run/utmp", "file /var/log/wtmp"]);
    });
}

#[test]
fn fifo_in_place_of_the_configuration_is_an_error_and_holds_nothing_up() {
    world(|world| {
        let mut daemon = world.serve("");
        let mut bob = Peer::log_in(BOB);
        fs::remove_file(CONFIG).unwrap();
        mkfifo(CONFIG, Mode::from_bits_truncate(0o644)).unwrap();
        let says_so = |args: &[&str]| {
            let refused = command(args, CHANGE);
            assert_eq!(refused.status.code(), Some(1), "{args:?}: {}", told(&refused));
            assert!(told(&refused).contains(CONFIG), "{args:?}: {}", told(&refused));
        };
        says_so(&["reload", "--socket", SOCKET]);
        types(&mut bob);
        says_so(&["upgrade", "--socket", SOCKET]);
        types(&mut bob);
        says_so(&["check"]);
        says_so(&["reload"]);
        // Whether it finds the socket or not.
        command(&["status"], ANSWER);
        let refused = world.audit.of("config-refused").len();
        daemon.signal(Signal::SIGHUP);
        eventually("the log says that it is not read", CHANGE, || {
            world.audit.of("config-refused").get(refused).map(|line| assert!(line.contains(CONFIG), "{line}"))
        });
        ask(&["status", "--socket", SOCKET], ANSWER);
        types(&mut bob);
        logs_in();
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
    });
}

/// What becomes of the run directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Removed,
    ReadOnly,
    Full,
}

impl Loss {
    fn happens(self) {
        match self {
            Loss::Removed => fs::remove_dir_all("/run/rlogind").unwrap(),
            Loss::ReadOnly => {
                // Another mount over it, for there are files of it that are open for writing.
                run("mount --bind /run /run");
                run("mount -o remount,bind,ro /run");
            }
            Loss::Full => {
                run("mount -o remount,size=1m /run");
                // Of inodes as well, or a directory could be made.
                run("mount -o remount,nr_inodes=300 /run");
                run("! cat /dev/zero >/run/fill");
                run("i=0; while true >/run/fill.$i; do i=$((i+1)); done 2>/dev/null; [ $i -gt 100 ]");
            }
        }
    }

    fn is_over(self) {
        match self {
            Loss::Removed => {}
            Loss::ReadOnly => run("umount -l /run"),
            Loss::Full => {
                run("rm -f /run/fill*");
                run("mount -o remount,size=50%,nr_inodes=100000 /run");
            }
        }
    }
}

fn run(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", told(&output));
}

/// Sends the signal for a change, and waits until the log says what became of it.
fn changed_by(world: &World, daemon: &Daemon, signal: Signal, events: &[&str]) {
    let count = || events.iter().map(|event| world.audit.of(event).len()).sum::<usize>();
    let before = count();
    daemon.signal(signal);
    eventually("the log says what became of it", CHANGE, || (count() > before).then_some(()));
}

fn run_directory_is_lost(world: &World, loss: Loss) {
    let daemon = world.serve("");
    let mut bob = Peer::log_in(BOB);
    logs_in();
    let said = world.audit.len();
    loss.happens();
    types(&mut bob);
    logs_in();
    relay_is_replaced(&daemon, &mut bob);
    logs_in();
    changed_by(world, &daemon, Signal::SIGUSR2, &["upgraded", "warning"]);
    types(&mut bob);
    logs_in();
    changed_by(world, &daemon, Signal::SIGHUP, &["config-read", "config-refused"]);
    types(&mut bob);
    logs_in();
    relay_is_replaced(&daemon, &mut bob);
    logs_in();
    if loss != Loss::Removed {
        let lines = world.audit.since(said);
        let says = |line: &String| line.contains("event=\"warning\"") && line.contains("/run/rlogind");
        assert!(lines.iter().any(says), "the log does not say what is wrong: {lines:#?}");
    }
    loss.is_over();
    daemon.signal(Signal::SIGHUP);
    eventually("the control socket is back", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
    is_administered(&mut bob);
    logs_in();
    types(&mut bob);
}

#[test]
fn daemon_goes_on_when_its_run_directory_is_removed() {
    world(|world| run_directory_is_lost(world, Loss::Removed));
}

#[test]
fn daemon_goes_on_when_its_run_directory_is_read_only() {
    world(|world| run_directory_is_lost(world, Loss::ReadOnly));
}

#[test]
fn daemon_goes_on_when_its_run_directory_is_full() {
    world(|world| run_directory_is_lost(world, Loss::Full));
}

/// The directory cannot be made again, by whatever: a file is in its place.
#[test]
fn daemon_goes_on_when_its_run_directory_cannot_be_made_again() {
    world(|world| {
        let daemon = world.serve("");
        let mut bob = Peer::log_in(BOB);
        fs::remove_dir_all("/run/rlogind").unwrap();
        fs::write("/run/rlogind", "in the way").unwrap();
        let said = world.audit.len();
        relay_is_replaced(&daemon, &mut bob);
        changed_by(world, &daemon, Signal::SIGHUP, &["config-read", "config-refused"]);
        changed_by(world, &daemon, Signal::SIGUSR2, &["upgraded", "warning"]);
        relay_is_replaced(&daemon, &mut bob);
        logs_in();
        types(&mut bob);
        let lines = world.audit.since(said);
        let says = |line: &String| line.contains("event=\"warning\"") && line.contains("/run/rlogind");
        assert!(lines.iter().any(says), "the log does not say what is wrong: {lines:#?}");
        fs::remove_file("/run/rlogind").unwrap();
        daemon.signal(Signal::SIGHUP);
        eventually("the control socket is back", PATIENCE, || Path::new(SOCKET).exists().then_some(()));
        is_administered(&mut bob);
    });
}
