//! Whom a session is opened for.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, UnixAddr, setsockopt, sockopt};
use rlogind::ipc::{ConnectionId, HandshakeFields, ToRelay};
use rlogind::sys::pty;

use crate::accounts::ALICE;
use crate::hostile::{Heard, Hostile, Stage, alice, fields};
use crate::peer::Peer;
use crate::terminal::PATIENCE;
use crate::world::world;

/// Asks for a session, which must be refused to the client with this text.
fn is_refused(relay: &Hostile, what: &str, told: &str, fields: HandshakeFields, ends: &[BorrowedFd]) {
    relay.open(relay.first_id, fields, ends);
    match relay.hear(PATIENCE) {
        Some((ToRelay::Refused(id, text), _)) => {
            assert_eq!((id, text.as_str()), (ConnectionId(relay.first_id), told), "{what}");
        }
        other => panic!("{what}: {other:?}"),
    }
}

fn listeners(heard: Heard) -> Vec<OwnedFd> {
    heard.into_iter().last().unwrap().1
}

/// A TCP or UDP socket that is bound to this address and connected to that one.
fn connected(kind: SockType, source: SocketAddrV4, target: SocketAddrV4) -> OwnedFd {
    let socket = socket::socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    socket::bind(socket.as_raw_fd(), &SockaddrIn::from(source)).unwrap();
    socket::connect(socket.as_raw_fd(), &SockaddrIn::from(target)).unwrap();
    socket
}

fn v4(listener: &TcpListener) -> SocketAddrV4 {
    match listener.local_addr().unwrap() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!(),
    }
}

fn at(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

/// A client's connection, accepted by the hostile relay.
fn accepted(listener: &OwnedFd) -> (Peer, TcpStream) {
    let listener = TcpListener::from(listener.try_clone().unwrap());
    let peer = Peer::connect();
    loop {
        if let Ok((stream, address)) = listener.accept()
            && address.port() == peer.stream.local_addr().unwrap().port()
        {
            return (peer, stream);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) fn only_a_client_of_a_listener_gets_a_session() {
    world(|world| {
        let mut stage = Stage::real(world);
        let mut peer = Peer::log_in(ALICE);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let ours = listeners(relay.serve());
        let before = (stage.descriptors(), stage.opened());

        let (unconnected, (reader, writer)) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), std::io::pipe().unwrap());
        let (unix, _unix) = UnixStream::pair().unwrap();
        let place = socket::socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        socket::bind(place.as_raw_fd(), &UnixAddr::new("/tmp/513").unwrap()).unwrap();
        let (file, leader) = (File::open("/etc/shadow").unwrap(), pty::open().unwrap().leader);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone: [(&str, &[BorrowedFd]); 10] = [
            ("no descriptor", &[]),
            ("a listener of the daemon", &[ours[0].as_fd()]),
            ("another listener", &[listener.as_fd()]),
            ("UDP", &[unconnected.as_fd()]),
            ("a unix socket", &[unix.as_fd()]),
            ("a unix socket with a name", &[place.as_fd()]),
            ("a pipe", &[reader.as_fd()]),
            ("the other end of it", &[writer.as_fd()]),
            ("a file", &[file.as_fd()]),
            ("a terminal", &[leader.as_fd()]),
        ];
        for (what, ends) in gone {
            is_refused(&relay, what, "Try again", alice(), ends);
        }

        // What a relay that can connect would call a client: a trusted machine has many ports.
        let foreign = TcpListener::bind("127.0.0.1:700").unwrap();
        let from_reserved = connected(SockType::Stream, at(701), v4(&foreign));
        let (foreign_end, _) = foreign.accept().unwrap();
        let to_ours = connected(SockType::Stream, at(702), at(513));
        let datagrams = connected(SockType::Datagram, at(513), at(1023));
        let others = [
            ("a connection to a foreign port", from_reserved.as_fd()),
            ("the foreign port's end of it", foreign_end.as_fd()),
            ("the client's end of a connection to us", to_ours.as_fd()),
            ("UDP from a listener's port", datagrams.as_fd()),
        ];
        for (what, end) in others {
            is_refused(&relay, what, "Permission denied", alice(), &[end]);
        }
        // Only the last of several counts, whichever the others are.
        is_refused(
            &relay,
            "several",
            "Permission denied",
            alice(),
            &[peer.stream.as_fd(), from_reserved.as_fd()],
        );
        assert_eq!((stage.descriptors(), stage.opened()), before);
        assert_eq!(stage.reasons(), Vec::<String>::new());
        drop(leader);
        stage.recover(relay);
        assert_eq!(peer.run("echo still here"), "still here");
        stage.has_sessions(1);
    });
}

pub(crate) fn a_listener_made_to_connect_is_no_client() {
    world(|world| {
        let mut stage = Stage::real(world);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let ours = listeners(relay.serve());
        // It listens no more, for the monitor neither, but keeps its port: as trusted as can be.
        let trusted = TcpListener::bind("127.0.0.1:1000").unwrap();
        socket::shutdown(ours[0].as_raw_fd(), socket::Shutdown::Read).unwrap();
        let target = SockaddrIn::from(v4(&trusted));
        let connected = socket::connect(ours[0].as_raw_fd(), &target);
        assert!(matches!(connected, Ok(()) | Err(nix::errno::Errno::EINPROGRESS)), "{connected:?}");
        let (_stream, from) = trusted.accept().unwrap();
        assert_eq!(from.port(), 513);
        is_refused(&relay, "a listener", "Permission denied", alice(), &[ours[0].as_fd()]);
        assert_eq!(stage.opened(), 0);
    });
}

pub(crate) fn a_handshake_is_checked_again() {
    world(|world| {
        let mut stage = Stage::real(world);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let ours = listeners(relay.serve());
        let (_client, stream) = accepted(&ours[0]);
        let before = stage.descriptors();
        let long = [b'a'; 300];
        let refused = [
            ("NUL in a name", "Permission denied", fields(b"al\0ice", b"alice", b"vt100/9600")),
            ("NUL in the account", "Permission denied", fields(b"alice", b"al\0ice", b"vt100/9600")),
            ("an option", "Permission denied", fields(b"alice", b"-froot", b"vt100/9600")),
            ("a line", "Permission denied", fields(b"alice", b"alice\nroot", b"vt100/9600")),
            ("a long name", "remuser too long", fields(&long, b"alice", b"vt100/9600")),
            ("a long account", "locuser too long", fields(b"alice", &long, b"vt100/9600")),
            ("a long terminal", "Terminal type too long", fields(b"alice", b"alice", &long)),
        ];
        for (what, told, fields) in refused {
            is_refused(&relay, what, told, fields, &[stream.as_fd()]);
        }
        stage.keeps(before);
        assert_eq!(stage.opened(), 0);
        // Or everything would be refused.
        relay.open(relay.first_id, alice(), &[stream.as_fd()]);
        relay.hear_until("session", |message| matches!(message, ToRelay::Opened(_)));
        world.audit.wait("session-opened");
    });
}

pub(crate) fn a_session_is_opened_once_and_by_a_name_of_its_own() {
    world(|world| {
        let mut stage = Stage::real(world);
        stage.turn_hostile();
        stage.daemon.signal(Signal::SIGHUP);
        let mut relay = stage.accept();
        let ours = listeners(relay.serve());
        let (mut client, stream) = accepted(&ours[0]);
        relay.open(relay.first_id, alice(), &[stream.as_fd()]);
        relay.hear_until("session", |message| matches!(message, ToRelay::Opened(_)));
        world.audit.wait("session-opened");
        drop(ours);
        let (second, twice) = (relay.first_id, "it asked for the same session twice");
        let relay = stage.ends(relay, twice, |relay| assert!(relay.open(second, alice(), &[stream.as_fd()])));
        // Nor by the next relay, by a name that is still there.
        let relay = stage.ends(relay, twice, |relay| assert!(relay.open(second, alice(), &[stream.as_fd()])));
        drop(stream);
        stage.recover(relay);
        client.expect("e2e$ ");
        assert_eq!(client.run("echo still here"), "still here");
        assert_eq!(stage.reasons(), [twice, twice]);
        stage.has_sessions(1);
    });
}
