//! TCPMUX (RFC 1078) on port 1, served by the daemon itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::daemon::{Daemon, listens};
use crate::ending::nothing_is_left;
use crate::peer::{End, Peer, handshake};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// The daemon with TCPMUX, these lines in its section.
fn serve(world: &World, section: &str) -> Daemon {
    serve_with(world, "", section)
}

fn serve_with(world: &World, before: &str, section: &str) -> Daemon {
    let daemon = world.serve(&format!("{before}[tcpmux]\nenabled = true\n{section}"));
    eventually("the daemon listens on port 1", PATIENCE, || listens(1).then_some(()));
    daemon
}

/// Connects to port 1 from a reserved port.
fn connect() -> Peer {
    Peer::connect_to(Ipv4Addr::LOCALHOST.into(), 1)
}

/// The whole answer to this request, up to the server's orderly close.
fn answer(request: &[u8]) -> String {
    let mut peer = connect();
    peer.send(request);
    assert_eq!(peer.wait_end(PATIENCE), End::Closed, "an abortive close may lose the answer");
    assert_eq!(peer.urgent.len(), 0);
    String::from_utf8(peer.data).unwrap()
}

/// Sends the request, reads the positive answer, and returns the connection, good for a handshake.
fn accepted(mut peer: Peer, request: &[u8]) -> Peer {
    peer.send(request);
    let line = peer.expect("\r\n");
    assert!(line.starts_with('+') && line[1..].chars().all(|c| matches!(c, ' '..='~')), "{line:?}");
    peer
}

/// Logs in behind the positive answer, all of it after the zero byte.
fn log_in(mut peer: Peer) -> Peer {
    peer.send(handshake("nobody", "alice", "vt100/38400"));
    peer.expect("\0");
    peer.give_password(ALICE);
    peer
}

const UNAVAILABLE: &str = "-Service not available\r\n";

#[test]
fn a_request_in_any_case_and_with_either_line_end_leads_to_a_login() {
    world(|world| {
        let daemon = serve(world, "");
        for request in ["login\r\n", "rlogin\r\n", "LOGIN\r\n", "rLoGiN\n"] {
            let mut peer = log_in(accepted(connect(), request.as_bytes()));
            assert_eq!(peer.run("id -un"), "alice");
            peer.send("exit\r");
            assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        }
        world.audit.wait_count("session-closed", 4);
        let lines = world.audit.of("connection");
        assert!(
            lines.len() == 4 && lines.iter().all(|line| field(line, "via") == Some("tcpmux")),
            "{lines:#?}"
        );
        nothing_is_left(&daemon);
    });
}

#[test]
fn a_session_is_the_same_as_on_the_rlogin_port() {
    world(|world| {
        let _daemon = serve(world, "");
        let mut peer = accepted(connect(), b"login\r\n");
        peer.send(handshake("nobody", "alice", "vt220/9600"));
        peer.expect("\0");
        peer.give_password(ALICE);
        peer.wait_urgent(0x80, 0);
        peer.send_size(33, 99);
        peer.run("while [ \"$(stty size)\" != '33 99' ]; do sleep 0.1; done");
        assert_eq!(peer.run("echo $TERM; stty speed"), "vt220\n9600");
        // The answer to the request is no output of the session.
        peer.send("exit 7\r");
        peer.wait_end(PATIENCE);
        let line = world.audit.wait("session-closed");
        assert_eq!(field(&line, "status"), Some("7"), "{line}");
        let plus = peer.data.iter().position(|&byte| byte == b'\n').unwrap() + 1;
        let sent = (peer.data.len() - plus - 1).to_string();
        assert_eq!(field(&line, "bytes_out"), Some(sent.as_str()), "{line}");
    });
}

#[test]
fn a_handshake_behind_the_request_is_kept_however_both_are_split() {
    world(|world| {
        world.hosts_equiv("127.0.0.1\n");
        let _daemon = serve_with(world, "[limits]\nper_source = 200\nsessions = 200\n", "");
        let all =
            [b"rlogin\r\n".as_slice(), &handshake("alice", "alice", "vt100/38400"), b"exit 5\r"].concat();
        let checks: Vec<_> = (0..=all.len())
            .map(|split| {
                let all = all.clone();
                thread::spawn(move || {
                    let mut peer = connect();
                    peer.send(&all[..split]);
                    // Long enough for a segment of its own to be read by itself.
                    thread::sleep(Duration::from_millis(60));
                    peer.send(&all[split..]);
                    peer.expect("\r\n\0");
                    // The log shows what became of the command.
                    assert_eq!(peer.wait_end(Duration::from_secs(60)), End::Closed, "split at {split}");
                })
            })
            .collect();
        let sessions = checks.len();
        for check in checks {
            check.join().unwrap();
        }
        let closed = world.audit.wait_count("session-closed", sessions);
        assert!(closed.iter().all(|line| field(line, "status") == Some("5")), "{closed:#?}");
    });
}

#[test]
fn request_and_handshake_may_come_byte_by_byte() {
    world(|world| {
        let _daemon = serve(world, "");
        let mut peer = connect();
        let all = [b"Login\n".as_slice(), &handshake("nobody", "alice", "vt100/38400")].concat();
        for byte in all {
            peer.send([byte]);
            thread::sleep(Duration::from_millis(5));
        }
        peer.expect("\r\n\0");
        peer.give_password(ALICE);
    });
}

#[test]
fn nothing_is_sent_before_the_request() {
    world(|world| {
        let _daemon = serve(world, "");
        let mut peer = connect();
        peer.send("log");
        peer.listen(Duration::from_millis(500));
        assert!(peer.data.is_empty() && peer.end.is_none(), "{:?}", peer.data);
        log_in(accepted(peer, b"in\r\n"));
    });
}

#[test]
fn help_lists_the_names_one_per_line() {
    world(|world| {
        let _daemon = serve(world, "services = [\"login\", \"rlogin\", \"Console-3\"]\n");
        for request in ["HELP\r\n", "help\n", "Help\r\n"] {
            assert_eq!(answer(request.as_bytes()), "login\r\nrlogin\r\nConsole-3\r\n");
        }
        log_in(accepted(connect(), b"CONSOLE-3\r\n"));
    });
}

#[test]
fn strangers_are_told_nothing_when_help_is_off() {
    world(|world| {
        let _daemon = serve(world, "help = false\n");
        assert_eq!(answer(b"HELP\r\n"), UNAVAILABLE, "the same as for any other name");
        log_in(accepted(connect(), b"login\r\n"));
    });
}

#[test]
fn what_is_not_offered_is_refused_and_logged() {
    world(|world| {
        let _daemon = serve(world, "services = [\"console\"]\n");
        for request in ["login\r\n", "finger\r\n", "\r\n", "\n", "console \r\n", "consol\r\n"] {
            assert_eq!(answer(request.as_bytes()), UNAVAILABLE, "{request:?}");
        }
        // What follows the refused line does not turn the close into a reset.
        assert_eq!(answer(&[b"finger\r\n".as_slice(), &[b'x'; 5000]].concat()), UNAVAILABLE);
        let lines = world.audit.wait_count("refused", 7);
        assert!(lines.iter().any(|line| field(line, "reason").unwrap().contains("finger")), "{lines:#?}");
    });
}

#[test]
fn harmful_requests_are_refused_at_once_and_logged_escaped() {
    world(|world| {
        let _daemon = serve(world, "");
        let endless = vec![b'x'; 3000];
        let requests: [(&[u8], &str); 7] = [
            (b"\0alice\0alice\0vt100/38400\0", "\\x00"),
            (b"login\0\r\n", "login\\x00"),
            (b"a\x1b[2J\r\n", "a\\x1b"),
            (b"a\x7f", "a\\x7f"),
            (b"login\rx", "login\\x0dx"),
            (b"\" event=\"started\r\n", "\\x22 event=\\x22started"),
            (&endless, "xxxx"),
        ];
        for (index, (request, logged)) in requests.into_iter().enumerate() {
            let start = Instant::now();
            assert_eq!(answer(request), UNAVAILABLE, "{logged}");
            assert!(start.elapsed() < Duration::from_secs(2), "{logged}: waited for the rest");
            let lines = world.audit.wait_count("refused", index + 1);
            let reason = field(&lines[index], "reason").unwrap();
            assert!(reason.contains(logged), "{reason}");
        }
        let text = world.audit.text();
        assert!(!text.contains(['\0', '\x1b', '\x7f', '\r']), "{text:?}");
        assert_eq!(world.audit.of("started").len(), 1);
    });
}

#[test]
fn request_and_handshake_share_one_deadline() {
    world(|world| {
        let _daemon = serve_with(world, "[limits]\nhandshake = \"2s\"\n", "");
        let start = Instant::now();
        let mut silent = connect();
        let mut half = connect();
        half.send("logi");
        let mut peer = connect();
        thread::sleep(Duration::from_millis(1500));
        peer.send("login\r\n\0nobody\0");
        peer.wait_end(PATIENCE);
        let after = start.elapsed();
        assert!((1900..3000).contains(&after.as_millis()), "{after:?}");
        let text = String::from_utf8(peer.data).unwrap();
        let (first, second) = text.split_once("\r\n").unwrap();
        assert!(first.starts_with('+'), "{text:?}");
        assert_eq!(second, "\u{1}rlogind: Handshake timed out.\r\n");
        for peer in [&mut silent, &mut half] {
            peer.wait_end(PATIENCE);
            assert_eq!(String::from_utf8_lossy(&peer.data), UNAVAILABLE);
        }
        world.audit.wait_count("refused", 3);
    });
}

#[test]
fn a_client_that_leaves_in_its_request_is_logged_and_leaves_nothing() {
    world(|world| {
        let daemon = serve(world, "");
        let before = daemon.relay().descriptors();
        drop(connect());
        let mut peer = connect();
        peer.send("logi");
        peer.reset();
        drop(accepted(connect(), b"login\r\n"));
        world.audit.wait_count("refused", 3);
        eventually("all connections are closed", PATIENCE, || {
            (daemon.relay().descriptors() <= before).then_some(())
        });
        nothing_is_left(&daemon);
    });
}

/// Whether this connection is let in without a password once its request is answered.
fn is_trusted(peer: Peer) -> bool {
    let mut peer = accepted(peer, b"login\r\n");
    peer.send(handshake("alice", "alice", "vt100/38400"));
    peer.wait("prompt of any kind", PATIENCE, |peer| {
        let text = String::from_utf8_lossy(&peer.data);
        text.contains("Password: ") || text.contains(PROMPT)
    });
    !String::from_utf8_lossy(&peer.data).contains("Password: ")
}

#[test]
fn only_a_reserved_port_of_a_trusted_host_is_trusted() {
    world(|world| {
        world.hosts_equiv("trusted.example.net\n127.0.0.1\n");
        let _daemon = serve(world, "");
        assert!(is_trusted(connect()));
        assert!(is_trusted(Peer::connect_to(Ipv4Addr::new(127, 0, 0, 2).into(), 1)));
        assert!(!is_trusted(Peer::connect_to(Ipv4Addr::new(127, 0, 0, 3).into(), 1)));
        assert!(!is_trusted(Peer::connect_unreserved_to(1)));
    });
}

#[test]
fn an_unreserved_port_can_be_refused() {
    world(|world| {
        let _daemon = serve_with(world, "[login]\nunreserved_port = \"refuse\"\n", "");
        let mut peer = accepted(Peer::connect_unreserved_to(1), b"login\r\n");
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.wait_end(PATIENCE);
        assert_eq!(peer.rest(), b"\x01rlogind: Permission denied.\r\n");
    });
}

#[test]
fn ipv4_and_ipv6_clients_of_the_default_listener_are_what_they_are() {
    world(|world| {
        world.hosts_equiv("127.0.0.1\n::1\n");
        let _daemon = serve(world, "");
        for (source, address, count) in
            [(IpAddr::from(Ipv4Addr::LOCALHOST), "127.0.0.1", 1), (Ipv6Addr::LOCALHOST.into(), "::1", 2)]
        {
            assert!(is_trusted(Peer::connect_to(source, 1)), "{address}");
            let lines = world.audit.wait_count("session-opened", count);
            assert_eq!(field(&lines[count - 1], "address"), Some(address), "{lines:#?}");
        }
    });
}

#[test]
fn the_limits_hold_for_both_ports_together() {
    world(|world| {
        let _daemon = serve_with(world, "[limits]\nper_source = 2\n", "");
        let _first = log_in(accepted(connect(), b"login\r\n"));
        let _second = Peer::log_in(ALICE);
        let text = answer(b"login\r\n");
        assert!(text.starts_with('-') && text.ends_with("\r\n"), "RFC 1078 knows no other refusal: {text:?}");
        world.audit.wait_count("refused", 1);
    });
}

#[test]
fn without_being_asked_for_it_nothing_listens_on_port_1() {
    world(|world| {
        let _daemon = world.serve("");
        assert!(listens(513) && !listens(1));
    });
}
