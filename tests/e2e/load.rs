//! Many sessions, one after the other and at once, and none that does anything.

use std::thread;
use std::time::Duration;

use crate::accounts::ALICE;
use crate::ending::nothing_is_left;
use crate::peer::Peer;
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// Waits until both processes have no more descriptors open than before.
fn wait_descriptors(before: [(Process, usize); 2]) {
    for (process, count) in before {
        let what = format!("{} is back to {count} descriptors", process.name);
        let deadline = std::time::Instant::now() + PATIENCE;
        while process.descriptors() > count && std::time::Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        assert!(process.descriptors() <= count, "not: {what}; {:?}", process.descriptor_list());
    }
}

fn descriptors(daemon: &crate::daemon::Daemon) -> [(Process, usize); 2] {
    [daemon.monitor(), daemon.relay()].map(|process| {
        let count = process.descriptors();
        (process, count)
    })
}

/// One login that ends well.
fn in_and_out() {
    let mut peer = Peer::log_in(ALICE);
    peer.send("exit\r");
    peer.wait_end(PATIENCE);
}

#[test]
fn fifty_logins_leave_no_descriptor_and_no_process() {
    world(|world| {
        let daemon = world.serve("");
        // What is opened once and kept is open after the first.
        in_and_out();
        nothing_is_left(&daemon);
        let before = descriptors(&daemon);
        for round in 0..50 {
            match round % 3 {
                0 => drop(Peer::log_in(ALICE)),
                1 => Peer::hello("nobody", "alice").reset(),
                _ => in_and_out(),
            }
        }
        nothing_is_left(&daemon);
        wait_descriptors(before);
    });
}

#[test]
fn fifty_sessions_work_at_once() {
    world(|world: &World| {
        let daemon = world.serve("");
        let clients: Vec<_> = (0..50)
            .map(|number| {
                thread::spawn(move || {
                    let mut peer = Peer::log_in(ALICE);
                    for round in 0..5 {
                        let expected = format!("{number} {round}");
                        assert_eq!(peer.run(&format!("echo {expected}")), expected);
                    }
                    peer
                })
            })
            .collect();
        let peers: Vec<Peer> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        world.audit.wait_count("session-opened", 50);
        drop(peers);
        world.audit.wait_count("session-closed", 50);
        nothing_is_left(&daemon);
    });
}

#[test]
fn nothing_is_done_while_nothing_happens() {
    world(|world| {
        let daemon = world.serve("");
        let processes = [daemon.monitor(), daemon.relay()];
        let quiet = |what: &str| {
            // Whatever a login leaves to be done is done by then.
            thread::sleep(Duration::from_secs(3));
            let before: Vec<u64> = processes.iter().map(Process::wake_ups).collect();
            thread::sleep(Duration::from_secs(2));
            let after: Vec<u64> = processes.iter().map(Process::wake_ups).collect();
            assert_eq!(before, after, "monitor and relay were woken {what}");
        };
        quiet("without a session");
        let mut peer = Peer::log_in(ALICE);
        peer.run("true");
        quiet("with an idle session");
        let flooded = Peer::log_in(ALICE);
        std::io::Write::write_all(&mut &flooded.stream, b"yes\r").unwrap();
        quiet("with a client that does not read");
    });
}

#[test]
fn the_limits_on_connections_hold() {
    world(|world| {
        let _daemon = world.serve("[limits]\nsessions = 4\nper_source = 2\n");
        let from = |last: u8| {
            let mut peer = Peer::connect_from([127, 0, 0, last].into());
            peer.send(crate::peer::handshake("nobody", "alice", "vt100/38400"));
            peer
        };
        let is_served = |peer: &mut Peer| {
            peer.wait("answer", PATIENCE, |peer| !peer.data.is_empty() || peer.end.is_some());
            peer.data.first() == Some(&0)
        };
        let mut first: Vec<Peer> = [2, 2, 3, 3].map(from).into();
        assert!(first.iter_mut().all(is_served));
        assert!(!is_served(&mut from(2)), "a third of one address");
        assert!(!is_served(&mut from(4)), "a fifth in all");
        world.audit.wait("refused");
        first.truncate(3);
        eventually("one may come in again", PATIENCE, || is_served(&mut from(4)).then_some(()));
    });
}
