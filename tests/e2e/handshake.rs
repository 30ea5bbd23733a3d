//! The client's first bytes and the server's answer, as RFC 1282 and clients have them.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, PROMPT};
use crate::peer::{End, Peer, handshake};
use crate::terminal::PATIENCE;
use crate::world::world;

/// Sends these first bytes and checks that the server refuses them in the form that clients show.
fn is_refused(first_bytes: &[u8]) -> String {
    let mut peer = Peer::connect();
    peer.send(first_bytes);
    assert_eq!(peer.wait_end(PATIENCE), End::Closed, "an abortive close may lose the message");
    let text = String::from_utf8(peer.data).unwrap();
    assert!(text.starts_with("\u{1}rlogind: "), "{text:?}");
    assert!(text.ends_with(".\r\n"), "{text:?}");
    assert_eq!(peer.urgent.len(), 0);
    text
}

#[test]
fn a_zero_byte_answers_and_then_the_size_is_asked_for_alone() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        assert_eq!(peer.data, b"\0Password: ");
        peer.wait_urgent(0x80, 0);
        assert_eq!(peer.urgent_bytes(), [0x80]);
    });
}

#[test]
fn the_size_is_asked_for_once_more_when_no_answer_comes_but_output_and_then_no_more() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.listen(Duration::from_secs(3));
        assert_eq!(peer.urgent_bytes(), [0x80], "with nothing behind it");
        peer.give_password(ALICE);
        assert_eq!(peer.urgent_bytes(), [0x80, 0x80]);
        thread::sleep(Duration::from_millis(1500));
        peer.run("true");
        assert_eq!(peer.urgent_bytes(), [0x80, 0x80]);
    });
}

#[test]
fn the_size_is_not_asked_for_again_when_it_was_told() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.wait_urgent(0x80, 0);
        peer.send_size(30, 90);
        peer.listen(Duration::from_secs(3));
        assert_eq!(peer.urgent_bytes(), [0x80]);
        peer.give_password(ALICE);
        assert_eq!(peer.run("stty size"), "30 90");
        assert_eq!(peer.urgent_bytes(), [0x80]);
    });
}

#[test]
fn a_client_that_never_tells_its_size_is_not_kept_waiting() {
    world(|world| {
        let _daemon = world.serve("");
        let start = Instant::now();
        let mut peer = Peer::hello("nobody", "alice");
        peer.give_password(ALICE);
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(peer.run("id -un"), "alice");
    });
}

#[test]
fn the_handshake_may_come_byte_by_byte() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::connect();
        for byte in handshake("nobody", "alice", "vt100/38400") {
            peer.send([byte]);
            thread::sleep(Duration::from_millis(5));
        }
        peer.give_password(ALICE);
    });
}

#[test]
fn data_in_the_handshakes_segment_is_typed_ahead_and_a_password_among_it_is_never_shown() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::connect();
        let mut bytes = handshake("nobody", "alice", "vt100/38400");
        bytes.extend_from_slice(format!("{}\r", ALICE.password).as_bytes());
        peer.send(bytes);
        peer.expect("Password: ");
        peer.expect(PROMPT);
        let shown = String::from_utf8(peer.data.clone()).unwrap();
        assert!(!shown.contains(ALICE.password), "{shown:?}");
    });
}

#[test]
fn a_size_in_the_handshakes_segment_is_taken() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::connect();
        let mut bytes = handshake("nobody", "alice", "vt100/38400");
        bytes.extend_from_slice(&crate::peer::window_message(31, 91));
        peer.send(bytes);
        peer.give_password(ALICE);
        assert_eq!(peer.run("stty size"), "31 91");
    });
}

/// What a shell tells of the terminal that the client named.
fn terminal_as_told(terminal: &str) -> (String, String) {
    let mut peer = Peer::connect();
    peer.send(handshake("nobody", "alice", terminal));
    peer.give_password(ALICE);
    (peer.run("echo $TERM"), peer.run("stty speed"))
}

#[test]
fn the_terminal_type_and_speed_are_the_clients() {
    world(|world| {
        let _daemon = world.serve("");
        assert_eq!(terminal_as_told("xterm-256color/9600"), ("xterm-256color".into(), "9600".into()));
        assert_eq!(terminal_as_told("vt220/19200/more"), ("vt220".into(), "19200".into()));
        // No standard speed: the terminal's own stands, 38400.
        assert_eq!(terminal_as_told("screen.linux/12345"), ("screen.linux".into(), "38400".into()));
    });
}

#[test]
fn a_terminal_without_a_speed_or_without_a_name_is_no_hindrance() {
    world(|world| {
        let _daemon = world.serve("");
        assert_eq!(terminal_as_told("vt102").0, "vt102");
        assert_eq!(terminal_as_told("").0, "dumb");
        assert_eq!(terminal_as_told("/9600"), ("dumb".into(), "9600".into()));
    });
}

#[test]
fn a_terminal_type_with_odd_characters_becomes_dumb() {
    world(|world| {
        let _daemon = world.serve("");
        for odd in ["vt100;id", "vt100 x", "vt\n100", "%s", "$(id)"] {
            assert_eq!(terminal_as_told(&format!("{odd}/9600")).0, "dumb", "{odd:?}");
        }
    });
}

#[test]
fn a_terminal_type_over_64_bytes_is_refused() {
    world(|world| {
        let _daemon = world.serve("");
        let longest = "t".repeat(64);
        assert_eq!(terminal_as_told(&format!("{longest}/9600")).0, longest);
        let text = is_refused(&handshake("nobody", "alice", &format!("{longest}t/9600")));
        assert_eq!(text, "\u{1}rlogind: Terminal type too long.\r\n");
        let line = world.audit.wait("refused");
        assert!(crate::audit::field(&line, "reason").is_some(), "{line}");
    });
}

#[test]
fn names_that_could_do_harm_are_refused() {
    world(|world| {
        let _daemon = world.serve("[login]\nroot = \"password\"\n");
        for name in ["-froot", "-f", "a\nb", "a\x1b[31mb", "a\x7fb"] {
            is_refused(&handshake("nobody", name, "vt100/38400"));
        }
        for name in ["a\nb", "a\rb", "a\x07b"] {
            is_refused(&handshake(name, "alice", "vt100/38400"));
        }
        for line in world.audit.of("refused") {
            assert!(!line.contains(['\n', '\r', '\x1b', '\x07', '\x7f']), "{line:?}");
        }
    });
}

#[test]
fn names_over_the_systems_limit_are_refused() {
    world(|world| {
        let _daemon = world.serve("");
        let long = "n".repeat(300);
        is_refused(&handshake("nobody", &long, "vt100/38400"));
        is_refused(&handshake(&long, "alice", "vt100/38400"));
    });
}

#[test]
fn a_handshake_without_an_end_is_refused_before_it_is_read_whole() {
    world(|world| {
        let _daemon = world.serve("");
        is_refused(&[[0].as_slice(), &[b'n'; 2000]].concat());
    });
}

#[test]
fn a_first_byte_that_is_not_zero_is_refused() {
    world(|world| {
        let _daemon = world.serve("");
        is_refused(b"GET / HTTP/1.0\r\n\r\n");
    });
}

#[test]
fn a_client_that_says_nothing_is_refused_in_time() {
    world(|world| {
        let _daemon = world.serve("[limits]\nhandshake = \"1s\"\n");
        let start = Instant::now();
        is_refused(b"");
        assert!((900..3000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        world.audit.wait("refused");
    });
}

#[test]
fn a_client_that_drips_its_handshake_gains_no_time() {
    world(|world| {
        let _daemon = world.serve("[limits]\nhandshake = \"1s\"\n");
        let start = Instant::now();
        let mut peer = Peer::connect();
        for byte in handshake("nobody", "alice", "vt100/38400") {
            // Once the server has closed, writing fails.
            if std::io::Write::write_all(&mut peer.stream, &[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(200));
        }
        peer.wait_end(PATIENCE);
        assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
        assert!(peer.data.starts_with(b"\x01rlogind: "), "{:?}", String::from_utf8_lossy(&peer.data));
    });
}

#[test]
fn a_client_that_connects_and_goes_leaves_nothing() {
    world(|world| {
        let daemon = world.serve("");
        // By then the relay has all that it keeps for itself.
        drop(Peer::connect());
        world.audit.wait("refused");
        let before = daemon.relay().descriptors();
        for _ in 0..20 {
            drop(Peer::connect());
            Peer::connect_from(Ipv4Addr::new(127, 0, 0, 9).into()).reset();
        }
        crate::world::eventually("all connections are closed", PATIENCE, || {
            (daemon.relay().descriptors() <= before).then_some(())
        });
        Peer::log_in(ALICE);
    });
}

#[test]
fn start_files_find_the_size_of_the_window() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("localhost\n");
        let profile = std::fs::read_to_string("/etc/profile").unwrap();
        std::fs::write("/etc/profile", format!("{profile}stty size\n")).unwrap();
        for (n, rows) in (30..40).enumerate() {
            let mut peer = Peer::hello("alice", "alice");
            peer.wait_urgent(0x80, 0);
            peer.send_size(rows, 100);
            peer.expect(PROMPT);
            let text = String::from_utf8_lossy(&peer.data).into_owned();
            assert!(text.contains(&format!("{rows} 100\r\n")), "login {n}: {text:?}");
        }
        // Who never answers is not waited for, and asked in front of the first output.
        let mut peer = Peer::hello("alice", "alice");
        peer.expect(PROMPT);
        assert!(String::from_utf8_lossy(&peer.data).contains("0 0\r\n"));
    });
}

/// The handshake and commands, and then the end of the client's side, as `nc -N` does it.
fn leave_commands(commands: &str) -> Peer {
    let mut peer = Peer::connect();
    let mut first = handshake("alice", "alice", "vt100/38400");
    first.extend(commands.as_bytes());
    peer.send(first);
    peer.finish();
    peer
}

#[test]
fn commands_of_a_client_that_ends_its_side_at_once_are_run() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("localhost\n");
        for n in 0..8 {
            let file = format!("/tmp/run{n}");
            leave_commands(&format!("echo run >{file}\rexit\r")).wait_end(PATIENCE);
            assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some("run\n"), "{n}");
        }
        world.audit.wait_count("session-closed", 8);
        assert!(!world.audit.text().contains("cannot start"));
    });
}

#[test]
fn commands_left_behind_wait_for_slow_start_files_and_for_each_other() {
    world(|world| {
        let _daemon = world.serve("");
        world.hosts_equiv("localhost\n");
        let profile = std::fs::read_to_string("/etc/profile").unwrap();
        std::fs::write("/etc/profile", format!("{profile}sleep 1\n")).unwrap();
        // All together they take longer than one of them may.
        let mut peer = leave_commands("sleep 4\rsleep 4\rsleep 4\recho run | tee /tmp/run\rexit\r");
        peer.expect("run\r\n");
        peer.wait_end(PATIENCE);
        assert_eq!(std::fs::read_to_string("/tmp/run").ok().as_deref(), Some("run\n"));
        let end = world.audit.wait_count("session-closed", 1).remove(0);
        assert!(end.contains("end=\"exited\" status=\"0\""), "{end}");
    });
}
