//! A member of `control.group` who hands the daemon files that nobody can close in time.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rlogind::sys::channel::Channel;
use rlogind::sys::local;

use super::stopped::Stopped;
use super::{ANSWER, ask, is_administered, logs_in, settled, types};
use crate::accounts::{ALICE, BOB};
use crate::daemon::Daemon;
use crate::peer::Peer;
use crate::world::{eventually, world};

pub(super) const SOCKET: &str = "/run/rlogind/control";
/// The group that may use it, in which alice is.
pub(super) const CONFIG: &str = "[control]\ngroup = \"staff\"\n";
const STAFF: u32 = 50;

/// Connections whose other end does not read, so that closing them takes a minute (SO_LINGER, socket(7)).
pub(super) struct Lingering {
    /// Nobody reads them; once they are closed there is nothing to wait for.
    unread: Vec<TcpStream>,
    pub(super) files: Vec<TcpStream>,
}

impl Lingering {
    pub(super) fn make(count: usize) -> Lingering {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // What is accepted has the same: little fits.
        setsockopt(&listener, sockopt::RcvBuf, &4096).unwrap();
        let (mut unread, mut files) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let mut file = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            unread.push(listener.accept().unwrap().0);
            setsockopt(&file, sockopt::SndBuf, &8192).unwrap();
            let minute = libc::linger { l_onoff: 1, l_linger: 60 };
            setsockopt(&file, sockopt::Linger, &minute).unwrap();
            fill(&mut file);
            files.push(file);
        }
        Lingering { unread, files }
    }

    /// Closes the files without waiting for it, and returns the other ends: with them the waiting ends.
    pub(super) fn leave(self) -> Vec<TcpStream> {
        let Lingering { unread, files } = self;
        thread::spawn(move || drop(files));
        unread
    }

    fn borrow(&self) -> Vec<BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd).collect()
    }
}

/// Writes until nothing has been taken for a while: then the other end's window is shut.
fn fill(file: &mut TcpStream) {
    file.set_nonblocking(true).unwrap();
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_millis(100) {
        match file.write(&[0; 4096]) {
            Ok(1..) => last = Instant::now(),
            Ok(0) | Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
    file.set_nonblocking(false).unwrap();
}

/// Makes this thread alice's, in her groups; the process stays root's.
pub(super) fn become_alice() {
    let (id, group) = (ALICE.uid, STAFF);
    // SAFETY: the kernel reads one group; the system calls themselves change the calling thread only.
    let results = unsafe {
        [
            libc::syscall(libc::SYS_setgroups, 1, &raw const group),
            libc::syscall(libc::SYS_setresgid, id, id, id),
            libc::syscall(libc::SYS_setresuid, id, id, id),
        ]
    };
    assert_eq!(results, [0; 3]);
}

fn connect() -> Channel {
    eventually("a place in the queue", ANSWER, || local::connect(Path::new(SOCKET)).ok())
}

/// Alice does that. The monitor is stopped until she has closed her own files: so the daemon has the last ones.
fn attack_of_alice(
    daemon: &Daemon,
    attack: impl Fn(&Lingering) -> Vec<Channel> + Send + Copy,
    files: usize,
) -> (Vec<TcpStream>, Vec<Channel>) {
    let stopped = Stopped::stop(daemon.monitor());
    let (lingering, connections) = thread::scope(|scope| {
        let alice = scope.spawn(move || {
            become_alice();
            let lingering = Lingering::make(files);
            let connections = attack(&lingering);
            (lingering, connections)
        });
        alice.join().expect("alice's part")
    });
    // What could not be sent lingers here.
    let Lingering { unread, files } = lingering;
    let closing = thread::spawn(move || drop(files));
    let begun = Instant::now();
    while !closing.is_finished() && begun.elapsed() < Duration::from_millis(500) {
        thread::sleep(Duration::from_millis(10));
    }
    drop(stopped);
    (unread, connections)
}

/// Alice does that, and closes her own files; then bob goes on. What must not be sent at all is as good.
fn bob_is_unhurt_by(attack: impl Fn(&Lingering) -> Vec<Channel> + Send + Copy, files: usize) {
    let daemon = Daemon::start(CONFIG);
    let mut bob = Peer::log_in(BOB);
    logs_in();
    is_administered(&mut bob);
    let before = settled(&daemon, 1);
    for stays in [true, false] {
        let (unread, connections) = attack_of_alice(&daemon, attack, files);
        let connections = stays.then_some(connections);
        for _ in 0..3 {
            ask(&["status"], ANSWER);
            types(&mut bob);
        }
        logs_in();
        is_administered(&mut bob);
        drop((unread, connections));
        assert_eq!(before.wait_back(&daemon, Duration::from_secs(20)), Ok(()));
    }
}

#[test]
fn lingering_socket_with_a_request_hurts_nobody() {
    world(|_world| {
        bob_is_unhurt_by(
            |lingering| {
                let connection = connect();
                let _ = connection.send(b"\"status\"", &lingering.borrow());
                vec![connection]
            },
            1,
        )
    });
}

#[test]
fn lingering_socket_with_garbage_hurts_nobody() {
    world(|_world| {
        bob_is_unhurt_by(
            |lingering| {
                let connection = connect();
                let _ = connection.send(b"garbage", &lingering.borrow());
                vec![connection]
            },
            1,
        )
    });
}

#[test]
fn lingering_socket_behind_a_request_hurts_nobody() {
    world(|_world| {
        bob_is_unhurt_by(
            |lingering| {
                let connection = connect();
                let _ = connection.send(b"\"sessions\"", &[]);
                let _ = connection.send(b"\"sessions\"", &lingering.borrow());
                vec![connection]
            },
            1,
        )
    });
}

#[test]
fn lingering_sockets_in_a_full_queue_hurt_nobody() {
    world(|_world| {
        bob_is_unhurt_by(
            |lingering| {
                // More than are accepted at a time: the last ones wait in the kernel.
                let mut connections = Vec::new();
                while let Ok(connection) = local::connect(Path::new(SOCKET)) {
                    let _ = connection.send(b"\"status\"", &lingering.borrow());
                    connections.push(connection);
                    if connections.len() == 60 {
                        break;
                    }
                }
                connections
            },
            1,
        )
    });
}

#[test]
fn many_lingering_sockets_at_once_hurt_nobody() {
    world(|_world| {
        bob_is_unhurt_by(
            |lingering| {
                let connections: Vec<Channel> = (0..5).map(|_| connect()).collect();
                for connection in &connections {
                    let _ = connection.send(b"\"status\"", &lingering.borrow());
                }
                connections
            },
            30,
        )
    });
}
