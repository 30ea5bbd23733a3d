//! Members of `control.group` who connect without end, so that root finds no place.

use std::fs;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rlogind::sys::local;

use super::control_socket::{CONFIG, Lingering, SOCKET, become_alice};
use super::{ANSWER, CHANGE, ask, types};
use crate::accounts::BOB;
use crate::daemon::Daemon;
use crate::peer::Peer;
use crate::world::{World, eventually, world};

/// So many threads of alice's at once.
const THREADS: usize = 60;

fn mode() -> u32 {
    fs::symlink_metadata(SOCKET).unwrap().mode() & 0o777
}

/// What one connection of alice's sends, and what she keeps of it so that it lingers.
type Attack = fn() -> (Option<&'static [u8]>, Option<Lingering>);

/// Alice connects, sends that and leaves, again and again.
fn attack_again_and_again(attack: Attack, stop: &AtomicBool, made: &AtomicUsize) {
    become_alice();
    let mut kept: Vec<Vec<TcpStream>> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let (request, lingering) = attack();
        match local::connect(Path::new(SOCKET)) {
            Ok(connection) => {
                made.fetch_add(1, Ordering::Relaxed);
                let files: Vec<_> =
                    lingering.iter().flat_map(|lingering| &lingering.files).map(AsFd::as_fd).collect();
                if let Some(request) = request {
                    let _ = connection.send(request, &files);
                }
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
        kept.extend(lingering.map(Lingering::leave));
        kept.drain(..kept.len().saturating_sub(10));
    }
}

/// Root's commands are answered all the time, and members are let in again when it is over.
fn root_is_answered_under(world: &World, attack: Attack) {
    let _daemon = Daemon::start(CONFIG);
    let mut bob = Peer::log_in(BOB);
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| attack_again_and_again(attack, &stop, &made));
        }
        // Also when what is asked here fails.
        let _stop = Stop(&stop);
        eventually("her first connections", ANSWER, || (made.load(Ordering::Relaxed) > 8).then_some(()));
        for number in 0..10 {
            ask(&[if number % 2 == 0 { "sessions" } else { "status" }], ANSWER);
            types(&mut bob);
        }
        eventually("she is kept out", ANSWER, || (mode() == 0o600).then_some(()));
        let warned = world.audit.of("warning");
        let is_said =
            |line: &String| line.contains("the group staff is kept from the control socket for 60 s");
        assert!(warned.iter().any(is_said), "{warned:?}");
        // It lets them in for a moment.
        ask(&["reload"], CHANGE);
        for _ in 0..5 {
            ask(&["sessions"], ANSWER);
        }
        ask(&["upgrade"], CHANGE);
        for _ in 0..5 {
            ask(&["sessions"], ANSWER);
        }
    });
    eventually("members are let in again", Duration::from_secs(80), || (mode() == 0o660).then_some(()));
    ask(&["status"], ANSWER);
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn lingering_sockets_without_end_keep_root_from_nothing() {
    world(|world| root_is_answered_under(world, || (Some(b"\"status\""), Some(Lingering::make(1)))));
}

#[test]
fn connections_without_end_keep_root_from_nothing() {
    world(|world| root_is_answered_under(world, || (None, None)));
}
