//! Executables that behave when they are asked whether they could take over, and not when they do.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::staller::{self, Hung};
use super::{ANSWER, ask, command, logs_in, relay_is_replaced, told, types};
use crate::accounts::BOB;
use crate::daemon::{Daemon, PROGRAM, listens};
use crate::ending::nothing_is_left;
use crate::hand_over::{COPY, COPY_FOLDER, replace_copy, serve_copy};
use crate::peer::Peer;
use crate::probe;
use crate::processes::{self, Process};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// How long an upgrade to an executable that hangs may take until there is an answer.
const HANGING: Duration = Duration::from_secs(90);

/// The daemon, with an executable of the tests in place of its own; `None` (and SKIPPED) without a compiler.
fn serve_and_replace() -> Option<Daemon> {
    let daemon = serve_copy();
    probe::compile(&["-o", "/mnt/impostor"], include_str!("../../pam/impostor.c")).then(|| {
        replace_copy(&fs::read("/mnt/impostor").unwrap(), 0o755);
        daemon
    })
}

/// What the executable does from now on, as a shell script.
fn behaves(script: &str) {
    fs::write("/tmp/impostor.sh", script).unwrap();
}

/// An upgrade to that loses neither the daemon nor a session, and another upgrade to the real one goes through.
fn upgrade_loses_nothing(world: &World, as_daemon: &str) {
    let Some(daemon) = serve_and_replace() else { return };
    let mut bob = Peer::log_in(BOB);
    fs::write("/tmp/daemon.pid", daemon.pid().to_string()).unwrap();
    // In each of the roles it is the real one.
    behaves(&format!(
        "case \"$1\" in --role=*) exec {PROGRAM} \"$@\" ;; esac\n{as_daemon}\nexec {PROGRAM} \"$@\"\n"
    ));
    let upgrade = command(&["upgrade"], HANGING);
    assert_eq!(upgrade.status.code(), Some(1), "{}", told(&upgrade));
    assert!(!told(&upgrade).trim().is_empty(), "the command says why");
    // The command itself waits for a minute.
    eventually("the log says which executable it was", Duration::from_secs(30), || {
        assert_ne!(daemon.monitor().state, 'Z', "the daemon has ended");
        world.audit.of("warning").iter().any(|line| line.contains(COPY)).then_some(())
    });
    types(&mut bob);
    logs_in();
    ask(&["status"], ANSWER);
    relay_is_replaced(&daemon, &mut bob);
    replace_copy(&fs::read(PROGRAM).unwrap(), 0o755);
    ask(&["upgrade"], HANGING);
    types(&mut bob);
    logs_in();
    drop(bob);
    nothing_is_left(&daemon);
}

#[test]
fn executable_that_fails_as_the_daemon_loses_nothing() {
    world(|world| upgrade_loses_nothing(world, "echo 'version mismatch' >&2; exit 1"));
}

#[test]
fn executable_that_is_killed_as_the_daemon_loses_nothing() {
    world(|world| upgrade_loses_nothing(world, "kill -SEGV $$"));
}

/// Nothing that is tried before finds this out: the daemon is taken back, in another process.
fn upgrade_is_taken_back(world: &World, in_the_daemons_process: &str) {
    let Some(daemon) = serve_and_replace() else { return };
    let mut bob = Peer::log_in(BOB);
    fs::write("/tmp/daemon.pid", daemon.pid().to_string()).unwrap();
    behaves(&format!(
        "[ $$ != \"$(cat /tmp/daemon.pid)\" ] || {{ {in_the_daemons_process}; }}\nexec {PROGRAM} \"$@\"\n"
    ));
    let upgrade = command(&["upgrade"], HANGING);
    assert_eq!(upgrade.status.code(), Some(1), "{}", told(&upgrade));
    assert!(told(&upgrade).contains("the upgrade failed"), "{}", told(&upgrade));
    types(&mut bob);
    logs_in();
    let status: serde_json::Value = serde_json::from_str(&ask(&["status", "--json"], ANSWER)).unwrap();
    assert_ne!(status["pid"], daemon.pid());
    assert!(world.audit.of("warning").iter().any(|line| line.contains("the upgrade failed")));
    replace_copy(&fs::read(PROGRAM).unwrap(), 0o755);
    ask(&["upgrade"], HANGING);
    types(&mut bob);
    logs_in();
    bob.send("exit\r");
    bob.wait_end(Duration::from_secs(30));
    // All that there is belongs to the one that took it back.
    eventually("nobody is logged in", Duration::from_secs(30), || super::rows().is_empty().then_some(()));
    ask(&["drain"], ANSWER);
    eventually("it ends", Duration::from_secs(30), || (!listens(513)).then_some(()));
}

/// The relays that there are.
fn relays() -> usize {
    let relay = |process: &Process| process.uid != 0 && process.name.starts_with("rlogind");
    processes::all().into_iter().filter(|process| relay(process) && process.state != 'Z').count()
}

#[test]
fn daemon_that_is_stopped_after_two_upgrades_does_not_come_back() {
    world(|_world| {
        let mut daemon = serve_copy();
        for _ in 0..2 {
            ask(&["upgrade"], HANGING);
        }
        logs_in();
        daemon.signal(Signal::SIGTERM);
        daemon.wait(PATIENCE);
        eventually("no process of the daemon is left", PATIENCE, || {
            let alive = |process: &Process| process.name.starts_with("rlogind") && process.state != 'Z';
            (!processes::all().iter().any(alive)).then_some(())
        });
        assert!(!listens(513));
    });
}

#[test]
fn daemon_that_is_killed_after_two_upgrades_comes_back_once() {
    world(|_world| {
        let daemon = serve_copy();
        let mut bob = Peer::log_in(BOB);
        for _ in 0..2 {
            ask(&["upgrade"], HANGING);
        }
        // Neither another relay nor another reading of the configuration keeps the guard from watching.
        ask(&["reload"], HANGING);
        daemon.signal(Signal::SIGKILL);
        types(&mut bob);
        eventually("it is back", PATIENCE, || (relays() == 1).then_some(()));
        logs_in();
        // Another guard would be as quick.
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(relays(), 1, "two daemons");
    });
}

#[test]
fn executable_that_fails_in_the_daemons_process_only_is_taken_back() {
    world(|world| upgrade_is_taken_back(world, "exit 1"));
}

#[test]
fn executable_that_hangs_as_the_daemon_loses_nothing() {
    world(|world| upgrade_loses_nothing(world, "while :; do sleep 1; done"));
}

#[test]
fn executable_that_hangs_in_the_daemons_process_only_is_taken_back() {
    world(|world| upgrade_is_taken_back(world, "while :; do sleep 1; done"));
}

#[test]
fn executable_that_hangs_in_every_role_loses_nothing() {
    world(|world| {
        let Some(daemon) = serve_and_replace() else { return };
        let mut bob = Peer::log_in(BOB);
        behaves("while :; do sleep 1; done\n");
        let upgrade = command(&["upgrade"], HANGING);
        assert_eq!(upgrade.status.code(), Some(1), "{}", told(&upgrade));
        types(&mut bob);
        logs_in();
        assert!(!world.audit.of("warning").is_empty());
        relay_is_replaced(&daemon, &mut bob);
    });
}

#[test]
fn executable_on_a_file_system_that_hangs_holds_nothing_up() {
    world(|_world| {
        if !staller::install() {
            return;
        }
        let daemon = serve_copy();
        let mut bob = Peer::log_in(BOB);
        let hung = Hung::mount(COPY_FOLDER);
        let running = std::thread::spawn(|| command(&["upgrade"], HANGING));
        while !running.is_finished() {
            types(&mut bob);
            logs_in();
            ask(&["status"], ANSWER);
        }
        let upgrade = running.join().expect("the command ends");
        assert_eq!(upgrade.status.code(), Some(1), "{}", told(&upgrade));
        assert!(told(&upgrade).contains("its file system does not answer"), "{}", told(&upgrade));
        relay_is_replaced(&daemon, &mut bob);
        drop(hung);
        ask(&["upgrade"], HANGING);
        types(&mut bob);
    });
}

#[test]
fn answer_of_another_executable_is_never_shown_raw() {
    world(|world| {
        let Some(_daemon) = serve_and_replace() else { return };
        let mut bob = Peer::log_in(BOB);
        // Standard input is the channel, on which it answers.
        for answer in ["\\033]0;owned\\007\\033[2J", "line\\nfeed\\rreturn", "\\342\\200\\256gnp.exe"] {
            behaves(&format!("printf 'no: {answer}' >&0\n"));
            let upgrade = command(&["upgrade"], Duration::from_secs(30));
            assert_eq!(upgrade.status.code(), Some(1), "{}", told(&upgrade));
            for text in [told(&upgrade).trim_end().to_owned(), world.audit.of("warning").join("|")] {
                let raw = |letter: char| letter.is_control() || letter == '\u{202e}';
                assert!(!text.contains(raw), "{text:?}");
            }
            types(&mut bob);
        }
    });
}
