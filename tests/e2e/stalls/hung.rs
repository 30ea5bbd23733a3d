//! What a login needs and does not get: a home directory, a syslogd, a PAM module that comes back.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::staller::{self, Hung};
use super::{
    CHANGE, LOGIN, Scene, ask, is_administered, logs_in, relay_is_replaced, session_of, settled, types,
};
use crate::accounts::{ALICE, BOB, PROMPT};
use crate::ending::nothing_is_left;
use crate::peer::Peer;
use crate::probe::service_with;
use crate::world::world;

/// `limits.login` of these tests, and how long after it a client may still be there.
const LIMIT: &str = "login = \"3s\"";
const TOLD: Duration = Duration::from_secs(3 + 12);

/// Checks that the client is told something behind the zero byte, and closed.
fn is_told_and_closed(peer: &mut Peer) {
    peer.wait_end(TOLD);
    assert!(peer.data.len() > 1, "closed without a word: {:?}", peer.data);
}

#[test]
fn hung_home_directory_hurts_its_user_only() {
    world(|world| {
        if !staller::install() {
            return;
        }
        let daemon = world.serve(&format!("[limits]\nstartups = 10\n{LIMIT}\n"));
        let mut bob = Peer::log_in(BOB);
        logs_in();
        is_administered(&mut bob);
        let before = settled(&daemon, 1);
        let hung = Hung::mount("/home/alice");
        // Three times as many as may be logging in: what cannot even be killed must not hold its place.
        for _ in 0..4 {
            let mut clients: Vec<Peer> = (0..8).map(|_| Peer::hello("nobody", "alice")).collect();
            types(&mut bob);
            logs_in();
            // Half of them have enough.
            clients.truncate(4);
            logs_in();
            clients.iter_mut().for_each(is_told_and_closed);
            types(&mut bob);
            logs_in();
        }
        relay_is_replaced(&daemon, &mut bob);
        is_administered(&mut bob);
        logs_in();
        drop(hung);
        assert_eq!(before.wait_back(&daemon, Duration::from_secs(45)), Ok(()));
        drop(Peer::log_in(ALICE));
    });
}

#[test]
fn hung_home_directory_of_a_session_that_goes_on_hurts_its_user_only() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        scene.alice_starts("serve");
        scene.stall.wait("ready");
        let hung = Hung::mount("/home/alice");
        scene.alice().send_size(30, 90);
        scene.others_are_unhurt();
        scene.alice.take().expect("alice is logged in").reset();
        scene.others_are_unhurt_when_alice_ends();
        drop(hung);
        scene.nothing_is_left();
    });
}

#[test]
fn syslogd_that_stands_still_keeps_nobody_from_logging_in() {
    world(|world| {
        fs::remove_file("/dev/log").unwrap();
        let _deaf = UnixDatagram::bind("/dev/log").unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.set_nonblocking(true).unwrap();
        while sender.send_to(b"<14>noise", "/dev/log").is_ok() {}
        let daemon = world.serve("");
        let mut peers: Vec<Peer> = (0..8).map(|_| Peer::hello("nobody", BOB.name)).collect();
        for peer in &mut peers {
            peer.expect_bytes(b"Password: ", LOGIN);
            peer.send(format!("{}\r", BOB.password));
            peer.expect_bytes(PROMPT.as_bytes(), LOGIN);
            types(peer);
        }
        ask(&["reload"], CHANGE);
        peers.iter_mut().for_each(types);
        for mut peer in peers {
            peer.send("exit\r");
            peer.wait_end(LOGIN);
        }
        nothing_is_left(&daemon);
    });
}

/// Lines before those of the service file which do that to alice only.
fn for_alice(kind: &str, module: &str) -> String {
    format!(
        "{kind} [success=1 default=ignore] pam_succeed_if.so quiet user != alice\n{kind} optional {module}"
    )
}

#[test]
fn module_that_hangs_in_auth_hurts_its_user_only() {
    world(|world| {
        service_with(&for_alice("auth", "pam_exec.so quiet /bin/sleep 600"));
        let daemon = world.serve(&format!("[limits]\n{LIMIT}\n"));
        let mut bob = Peer::log_in(BOB);
        let mut clients: Vec<Peer> = (0..6).map(|_| Peer::hello("nobody", "alice")).collect();
        types(&mut bob);
        logs_in();
        is_administered(&mut bob);
        clients.truncate(3);
        logs_in();
        clients.iter_mut().for_each(is_told_and_closed);
        logs_in();
        types(&mut bob);
        drop(bob);
        nothing_is_left(&daemon);
    });
}

#[test]
fn module_that_hangs_in_the_account_check_hurts_its_user_only() {
    world(|world| {
        service_with(&for_alice("account", "pam_exec.so quiet /bin/sleep 600"));
        let daemon = world.serve(&format!("[limits]\n{LIMIT}\n"));
        let mut bob = Peer::log_in(BOB);
        let mut alice = Peer::hello("nobody", "alice");
        alice.expect("Password: ");
        alice.send(format!("{}\r", ALICE.password));
        types(&mut bob);
        logs_in();
        is_told_and_closed(&mut alice);
        types(&mut bob);
        drop(bob);
        nothing_is_left(&daemon);
    });
}

#[test]
fn module_that_hangs_in_close_session_hurts_nobody() {
    world(|world| {
        service_with(&for_alice("session", "pam_exec.so quiet type=close_session /bin/sleep 600"));
        let daemon = world.serve("");
        let mut bob = Peer::log_in(BOB);
        logs_in();
        is_administered(&mut bob);
        let before = settled(&daemon, 1);
        let mut killed = Peer::log_in(ALICE);
        let id = session_of("alice");
        let mut exits = Peer::log_in(ALICE);
        Peer::log_in(ALICE).reset();
        exits.send("exit\r");
        ask(&["kill", &id], CHANGE);
        types(&mut bob);
        logs_in();
        // The module keeps the terminal's user, not the client.
        exits.wait_end(CHANGE);
        is_administered(&mut bob);
        killed.wait_end(CHANGE);
        logs_in();
        relay_is_replaced(&daemon, &mut bob);
        assert_eq!(before.wait_back(&daemon, Duration::from_secs(60)), Ok(()));
        types(&mut bob);
    });
}

/// The shell itself sleeps where no signal wakes it.
fn shell_that_cannot_be_killed(world: &crate::world::World, end: impl Fn(&mut Scene)) {
    let Some(mut scene) = Scene::begin(world, "") else { return };
    let mut alice = Peer::log_in(ALICE);
    alice.send(format!("setsid -f {} serve\r", staller::SCRIPT));
    let server = scene.stall.wait("ready");
    alice.send(format!("exec cat /proc/{server}/root/home/alice/stall/f\r"));
    scene.stall.wait("on");
    scene.alice = Some(alice);
    end(&mut scene);
    scene.others_are_unhurt_when_alice_ends();
    if let Some(alice) = &mut scene.alice {
        alice.wait_end(CHANGE);
    }
    scene.nothing_is_left();
}

#[test]
fn shell_that_cannot_be_killed_hurts_nobody_when_the_client_resets() {
    world(|world| {
        shell_that_cannot_be_killed(world, |scene| {
            scene.alice.take().expect("alice is logged in").reset();
        });
    });
}

#[test]
fn shell_that_cannot_be_killed_hurts_nobody_when_the_session_is_killed() {
    world(|world| {
        shell_that_cannot_be_killed(world, |_scene| {
            ask(&["kill", &session_of("alice")], CHANGE);
        });
    });
}

#[test]
fn shell_that_cannot_be_killed_does_not_keep_the_daemon_from_stopping() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        let mut alice = Peer::log_in(ALICE);
        alice.send(format!("setsid -f {} serve\r", staller::SCRIPT));
        let server = scene.stall.wait("ready");
        alice.send(format!("exec cat /proc/{server}/root/home/alice/stall/f\r"));
        scene.stall.wait("on");
        scene.daemon.signal(nix::sys::signal::Signal::SIGTERM);
        // 6 s for the sessions, and a little for the last lines of the log.
        scene.daemon.wait(CHANGE);
        alice.wait_end(CHANGE);
        scene.bob.wait_end(CHANGE);
        scene.stall.release();
    });
}
