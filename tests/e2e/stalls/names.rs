//! A name service that does not answer, or cannot be reached, when the daemon needs an account or a group.

use std::fs;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{ANSWER, ask, command, is_administered, logs_in, relay_is_replaced, told, types};
use crate::accounts::BOB;
use crate::peer::Peer;
use crate::probe;
use crate::terminal::PATIENCE;
use crate::world::world;

/// While this file is there, the service does not answer; or says that it cannot be reached.
const SLOW: &str = "/tmp/slow";
const AWAY: &str = "/tmp/away";

const CONFIG: &str = "user = \"rlogind\"\n[control]\ngroup = \"staff\"\n[limits]\nper_source = 256\n";

/// How long a command may wait for the service; it takes a minute.
const BOUND: Duration = Duration::from_secs(40);

/// Makes the service the one that is asked first; false (and SKIPPED) without a compiler.
fn install() -> bool {
    fs::create_dir("/mnt/names").unwrap();
    let source = include_str!("../../pam/slow_names.c");
    if !probe::compile(&["-shared", "-fPIC", "-o", "/mnt/names/libnss_slow.so.2"], source) {
        return false;
    }
    fs::write("/etc/ld.so.conf.d/slow.conf", "/mnt/names\n").unwrap();
    assert!(Command::new("ldconfig").status().unwrap().success());
    let text = fs::read_to_string("/etc/nsswitch.conf").unwrap();
    let text =
        text.replace("passwd: files", "passwd: slow files").replace("group: files", "group: slow files");
    fs::write("/etc/nsswitch.conf", text).unwrap();
    true
}

/// Checks that a client is at least answered: what its login needs of the service it waits for by itself.
fn is_answered() {
    let mut peer = Peer::hello("nobody", BOB.name);
    peer.wait("zero byte", ANSWER, |peer| peer.data.first() == Some(&0));
}

/// The service does not answer until this is dropped; the tests' own programs ask it, too.
struct Slow;

impl Slow {
    fn begin() -> Slow {
        fs::write(SLOW, "").unwrap();
        Slow
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        let _ = fs::remove_file(SLOW);
    }
}

/// Whether the service is asked at all: otherwise the test would show nothing.
fn service_is_asked() -> bool {
    let slow = Command::new("timeout").args(["1", "getent", "group", "staff"]).status().unwrap();
    slow.code() == Some(124)
}

#[test]
fn name_service_that_does_not_answer_holds_nobody_up() {
    world(|world| {
        if !install() {
            return;
        }
        let daemon = world.serve(CONFIG);
        let mut bob = Peer::log_in(BOB);
        logs_in();
        is_administered(&mut bob);
        let slow = Slow::begin();
        assert!(service_is_asked());
        for change in ["reload", "upgrade"] {
            let running = std::thread::spawn(move || command(&[change], BOUND));
            while !running.is_finished() {
                types(&mut bob);
                is_answered();
                ask(&["status"], ANSWER);
                // Each of them leaves a login behind that waits.
                std::thread::sleep(Duration::from_millis(250));
            }
            let output = running.join().expect("the command ends");
            assert!(
                output.status.success() || !told(&output).trim().is_empty(),
                "{change} failed without a word"
            );
        }
        daemon.signal(Signal::SIGHUP);
        daemon.signal(Signal::SIGUSR2);
        types(&mut bob);
        is_answered();
        relay_is_replaced(&daemon, &mut bob);
        is_answered();
        drop(slow);
        logs_in();
        is_administered(&mut bob);
    });
}

#[test]
fn name_service_that_is_away_ends_nothing() {
    world(|world| {
        if !install() {
            return;
        }
        let daemon = world.serve(CONFIG);
        let mut bob = Peer::log_in(BOB);
        fs::write(AWAY, "").unwrap();
        let text = fs::read_to_string("/etc/nsswitch.conf").unwrap();
        fs::write("/etc/nsswitch.conf", text.replace("slow files", "slow [TRYAGAIN=return] files")).unwrap();
        for change in ["reload", "upgrade"] {
            let output = command(&[change], BOUND);
            assert!(
                output.status.success() || !told(&output).trim().is_empty(),
                "{change} failed without a word"
            );
            types(&mut bob);
            is_answered();
            ask(&["status"], ANSWER);
        }
        relay_is_replaced(&daemon, &mut bob);
        is_answered();
        fs::remove_file(AWAY).unwrap();
        is_administered(&mut bob);
        logs_in();
    });
}

#[test]
fn daemon_stops_in_time_while_a_name_service_does_not_answer() {
    world(|world| {
        if !install() {
            return;
        }
        let mut daemon = world.serve(CONFIG);
        let mut bob = Peer::log_in(BOB);
        let _slow = Slow::begin();
        daemon.signal(Signal::SIGHUP);
        is_answered();
        types(&mut bob);
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
    });
}
