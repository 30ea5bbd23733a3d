//! Single connections, served for each of the superservers.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use crate::accounts::{ALICE, PROMPT, ROOT};
use crate::audit::field;
use crate::daemon::{LEAK, PROGRAM};
use crate::ending::{TELLS_OF_HANGUP, wait_hung_up};
use crate::peer::{End, Peer, handshake};
use crate::superserver::{IN_RLOGIND, Kind, Superserver};
use crate::terminal::{Client, PATIENCE};
use crate::world::{World, eventually, world};

/// A module of tests, one for each of the superservers, that run this function.
macro_rules! for_superservers {
    ($($name:ident),+) => {$(
        mod $name {
            use crate::superserver::Kind;
            use crate::world::world;
            #[test]
            fn inetutils() {
                world(|world| super::$name(world, Kind::Inetutils));
            }
            #[test]
            fn openbsd() {
                world(|world| super::$name(world, Kind::Openbsd));
            }
            #[test]
            fn xinetd() {
                world(|world| super::$name(world, Kind::Xinetd));
            }
            #[test]
            fn systemd() {
                world(|world| super::$name(world, Kind::Systemd));
            }
        }
    )+};
}

for_superservers!(
    a_trusted_user_logs_in_without_a_password,
    a_password_logs_in_and_nothing_is_left,
    a_client_that_goes_hangs_up_the_shell,
    a_client_that_does_not_get_in_leaves_nothing,
    thirty_at_once
);

fn a_trusted_user_logs_in_without_a_password(world: &World, kind: Kind) {
    world.hosts_equiv("localhost\n");
    let Some(server) = Superserver::rlogin(kind, &[]) else { return };
    for client in [Client::Netkit, Client::RshRedone] {
        let Some(mut screen) = world.client(client, ALICE, &["-l", "alice", "127.0.0.1"]) else { return };
        screen.expect(PROMPT);
        assert_eq!(screen.run("id -un; tty"), format!("alice\n{}", screen.run("tty")));
        assert!(!screen.everything().contains("assword"));
        screen.send("exit\r");
        assert!(screen.wait_end(PATIENCE).success());
    }
    let opened = world.audit.wait_count("session-opened", 2);
    assert!(opened.iter().all(|line| field(line, "remote_user") == Some("alice")), "{opened:#?}");
    let connections = world.audit.of("connection");
    assert!(connections.iter().all(|line| field(line, "via") == Some("inetd")), "{connections:#?}");
    server.nothing_is_left();
    assert_eq!(world.audit.of("warning"), [""; 0]);
}

fn a_password_logs_in_and_nothing_is_left(world: &World, kind: Kind) {
    let Some(server) = Superserver::rlogin(kind, &[]) else { return };
    for client in [Client::Netkit, Client::RshRedone, Client::Plink] {
        let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
        screen.log_in(ALICE);
        // The superserver's variables, descriptors and signals are not the shell's.
        assert_eq!(screen.run(&format!("env | grep -c -e {LEAK} -e REMOTE_ -e LISTEN || true")), "0");
        assert_eq!(screen.run("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
        assert_eq!(screen.run(SIGNALS), NO_SIGNALS);
        screen.run("while [ \"$(stty size)\" != '24 80' ]; do sleep 0.1; done");
        screen.send("exit 7\r");
        screen.wait_end(PATIENCE);
    }
    let closed = world.audit.wait_count("session-closed", 3);
    assert!(closed.iter().all(|line| field(line, "status") == Some("7")), "{closed:#?}");
    server.nothing_is_left();
    assert_eq!(world.audit.of("warning"), [""; 0]);
}

fn a_client_that_goes_hangs_up_the_shell(world: &World, kind: Kind) {
    let Some(server) = Superserver::rlogin(kind, &[]) else { return };
    let Some(mut screen) = world.client(Client::Netkit, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    screen.send(format!("{TELLS_OF_HANGUP}\r"));
    screen.expect("ready\r\n");
    screen.kill();
    drop(screen);
    wait_hung_up();
    world.audit.wait_count("session-closed", 1);
    Peer::log_in(ALICE).reset();
    world.audit.wait_count("session-closed", 2);
    server.nothing_is_left();
}

fn a_client_that_does_not_get_in_leaves_nothing(world: &World, kind: Kind) {
    std::fs::write("/etc/rlogind.toml", "[limits]\nhandshake = \"1s\"\n").unwrap();
    let Some(server) = Superserver::rlogin(kind, &[]) else { return };
    drop(Peer::connect());
    Peer::connect().reset();
    Peer::hello("nobody", "alice").reset();
    let mut odd = Peer::connect();
    odd.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(odd.wait_end(PATIENCE), End::Closed);
    assert!(odd.data.starts_with(b"\x01rlogind: "), "{:?}", odd.data);
    let mut silent = Peer::connect();
    assert_eq!(silent.wait_end(PATIENCE), End::Closed);
    assert_eq!(silent.data, b"\x01rlogind: Handshake timed out.\r\n");
    drop((odd, silent));
    server.nothing_is_left();
    assert_eq!(world.audit.of("warning"), [""; 0]);
    Peer::log_in(ALICE);
}

fn thirty_at_once(world: &World, kind: Kind) {
    let Some(server) = Superserver::rlogin(kind, &[]) else { return };
    let clients: Vec<_> = (0..30)
        .map(|number| {
            thread::spawn(move || {
                let mut peer = Peer::hello("nobody", "alice");
                let patience = Duration::from_secs(60);
                peer.expect_bytes(b"Password: ", patience);
                peer.send(format!("{}\r", ALICE.password));
                peer.expect_bytes(PROMPT.as_bytes(), patience);
                assert_eq!(peer.run(&format!("echo {number}")), number.to_string());
                peer
            })
        })
        .collect();
    let peers: Vec<Peer> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    world.audit.wait_count("session-opened", 30);
    drop(peers);
    world.audit.wait_count("session-closed", 30);
    server.nothing_is_left();
}

/// Prints the masks of a command's blocked and ignored signals.
// Not in a pipeline or a substitution: there dash leaves signals of its own ignored.
const SIGNALS: &str = "grep -e SigBlk -e SigIgn /proc/self/status";
/// What that prints when there are none.
const NO_SIGNALS: &str = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000";

#[test]
fn signals_that_were_ignored_at_the_start_are_not_ignored() {
    world(|world| {
        let wrapper = "/mnt/wrapper";
        std::fs::write(
            wrapper,
            format!("#!/bin/sh\ntrap '' HUP INT QUIT TERM CHLD PIPE USR1 TSTP\nexec {IN_RLOGIND}\n"),
        )
        .unwrap();
        std::fs::set_permissions(wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = format!("login stream tcp nowait root {wrapper} in.rlogind\n");
        let Some(server) = Superserver::start(Kind::Openbsd, &text, 513) else { return };
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.run(SIGNALS), NO_SIGNALS);
        peer.send("exit 7\r");
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
        assert_eq!(field(&world.audit.wait("session-closed"), "status"), Some("7"));
        // As long as it has not closed, it may be reading.
        drop(peer);
        let mut peer = Peer::log_in(ALICE);
        peer.send(format!("{TELLS_OF_HANGUP}\r"));
        peer.expect("ready\r\n");
        drop(peer);
        wait_hung_up();
        world.audit.wait_count("session-closed", 2);
        server.nothing_is_left();
    });
}

/// Whether this client is let in without a password, as far as it shows.
fn is_trusted(source: Ipv4Addr, remote: &str) -> bool {
    let mut peer = Peer::connect_from(source.into());
    peer.send(handshake("alice", remote, "vt100/38400"));
    peer.wait("prompt of any kind", PATIENCE, |peer| {
        let text = String::from_utf8_lossy(&peer.data);
        text.contains("Password: ") || text.contains(PROMPT)
    });
    !String::from_utf8_lossy(&peer.data).contains("Password: ")
}

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Only hosts.equiv names it.
const TRUSTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// No name leads to it.
const NAMELESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);

/// Checks which of .rhosts and hosts.equiv count when the server has these letters.
fn trusts(world: &World, letters: &[&str], rhosts: bool, hosts_equiv: bool) {
    world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\n");
    world.hosts_equiv("127.0.0.2\n");
    let Some(_server) = Superserver::rlogin(Kind::Openbsd, letters) else { return };
    assert_eq!(is_trusted(HOME, "alice"), rhosts, "~/.rhosts with {letters:?}");
    assert_eq!(is_trusted(TRUSTED, "alice"), hosts_equiv, "hosts.equiv with {letters:?}");
}

#[test]
fn without_letters_both_trust_files_count() {
    world(|world| trusts(world, &[], true, true));
}

#[test]
fn l_leaves_out_rhosts() {
    world(|world| trusts(world, &["-l"], false, true));
}

#[test]
fn capital_l_leaves_out_both_trust_files() {
    world(|world| trusts(world, &["-L"], false, false));
}

#[test]
fn letters_may_stand_together() {
    world(|world| trusts(world, &["-aLn"], false, false));
}

#[test]
fn letters_of_other_servers_do_no_harm() {
    world(|world| trusts(world, &["-hDdl"], false, true));
}

#[test]
fn a_letter_that_nobody_knows_is_logged_and_not_told_to_the_client() {
    world(|world| {
        let Some(server) = Superserver::rlogin(Kind::Openbsd, &["-Z"]) else { return };
        let mut peer = Peer::connect();
        peer.wait_end(PATIENCE);
        assert_eq!(peer.data, b"", "a client takes the first byte for the server's answer");
        let line = world.audit.wait("warning");
        assert!(line.contains("command line"), "{line}");
        server.nothing_is_left();
    });
}

#[test]
fn a_refuses_a_client_without_a_confirmed_name() {
    world(|_world| {
        let nameless = || {
            let mut peer = Peer::connect_from(NAMELESS.into());
            peer.send(handshake("nobody", "alice", "vt100/38400"));
            peer
        };
        let Some(server) = Superserver::rlogin(Kind::Openbsd, &["-a"]) else { return };
        let mut refused = nameless();
        assert_eq!(refused.wait_end(PATIENCE), End::Closed);
        let text = String::from_utf8_lossy(&refused.data).into_owned();
        assert_eq!(text, "\0rlogind: Permission denied.\r\n");
        Peer::log_in(ALICE);
        drop((refused, server));
        let _server = Superserver::rlogin(Kind::Openbsd, &[]).unwrap();
        nameless().give_password(ALICE);
    });
}

/// Whether the server's end of a session has keepalive's timer, as ss(8) shows it.
fn keeps_alive(letters: &[&str]) -> Option<bool> {
    let _server = Superserver::rlogin(Kind::Openbsd, letters)?;
    let mut peer = Peer::log_in(ALICE);
    peer.run("true");
    // Another timer, of bytes not yet confirmed, hides it for a moment.
    thread::sleep(Duration::from_millis(500));
    let output =
        Command::new("ss").args(["-Htno", "state", "established", "sport", "=", ":513"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    Some(text.contains("keepalive"))
}

#[test]
fn n_switches_keepalive_off() {
    world(|_world| {
        let Some(with) = keeps_alive(&[]) else { return };
        assert!(with);
        assert_eq!(keeps_alive(&["-n"]), Some(false));
    });
}

#[test]
fn a_configuration_may_be_named() {
    world(|world| {
        std::fs::write("/etc/other.toml", "[trust]\nrhosts = false\n").unwrap();
        trusts(world, &["--config", "/etc/other.toml"], false, true);
    });
}

#[test]
fn a_hangup_signal_does_not_bring_back_what_a_letter_left_out() {
    world(|world| {
        world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 alice\n");
        let Some(server) = Superserver::rlogin(Kind::Openbsd, &["-l"]) else { return };
        let mut peer = Peer::connect();
        let monitor = eventually("a monitor with its relay", PATIENCE, || {
            let started = crate::processes::descendants(server.pid());
            let relay = started.iter().find(|process| process.uid == 990)?;
            Some(relay.parent)
        });
        let pid = nix::unistd::Pid::from_raw(i32::try_from(monitor).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
        thread::sleep(Duration::from_millis(300));
        peer.send(handshake("alice", "alice", "vt100/38400"));
        peer.expect("Password: ");
    });
}

#[test]
fn a_wrong_configuration_is_logged_and_not_told_to_the_client() {
    world(|world| {
        std::fs::write("/etc/rlogind.toml", "[login]\nattempt = 3\n").unwrap();
        let Some(server) = Superserver::rlogin(Kind::Openbsd, &[]) else { return };
        let mut peer = Peer::connect();
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.wait_end(PATIENCE);
        let shown = String::from_utf8_lossy(&peer.data);
        assert!(!shown.contains("attempt"), "{shown:?}");
        let line = world.audit.wait("warning");
        assert!(line.contains("/etc/rlogind.toml") && line.contains("attempt"), "{line}");
        server.nothing_is_left();
    });
}

/// What the server says of this standard input; also under its other name.
fn complains(what: &str, stdin: impl Fn() -> Stdio) {
    let run = |program: &str, arguments: &[&str]| -> Output {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(stdin())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        eventually(&format!("it ends with {what}"), PATIENCE, || child.try_wait().unwrap());
        child.wait_with_output().unwrap()
    };
    for output in [run(PROGRAM, &["inetd"]), run(IN_RLOGIND, &[]), run(IN_RLOGIND, &["-aln"])] {
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{what}: {told}");
        assert!(told.starts_with("rlogind: standard input is not a connected TCP socket"), "{what}: {told}");
        assert!(told.lines().count() == 1 && output.stdout.is_empty(), "{what}: {told}");
    }
}

#[test]
fn standard_input_that_is_no_connection_is_an_error() {
    world(|_world| {
        complains("/dev/null", Stdio::null);
        complains("a pipe", || Stdio::from(std::io::pipe().unwrap().0));
        complains("a file", || Stdio::from(File::open("/etc/passwd").unwrap()));
        complains("a Unix socket", || Stdio::from(OwnedFd::from(UnixStream::pair().unwrap().0)));
        complains("a listener", || Stdio::from(OwnedFd::from(TcpListener::bind((HOME, 0)).unwrap())));
        complains("a UDP socket", || {
            let socket = UdpSocket::bind((HOME, 0)).unwrap();
            socket.connect((HOME, 9)).unwrap();
            Stdio::from(OwnedFd::from(socket))
        });
    });
}
