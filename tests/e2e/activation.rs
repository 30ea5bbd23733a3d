//! The daemon on sockets that a service manager has opened.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::daemon::{PROGRAM, listens};
use crate::peer::{Peer, handshake};
use crate::processes::Process;
use crate::superserver::{Kind, Superserver};
use crate::terminal::{Client, PATIENCE};
use crate::world::{eventually, world};

/// The service manager's socket, where the daemon says how it is.
const NOTIFY: &str = "/run/notify";

/// Starts the daemon at the first connection to one of these addresses, their names in order.
fn activated(addresses: &[&str], names: &str, port: u16) -> Option<Superserver> {
    let listen: Vec<String> = addresses.iter().map(|address| format!("--listen={address}")).collect();
    let names = format!("--fdname={names}");
    let notify = format!("--setenv=NOTIFY_SOCKET={NOTIFY}");
    let mut arguments: Vec<&str> = listen.iter().map(String::as_str).collect();
    arguments.extend([names.as_str(), &notify, PROGRAM, "--stderr"]);
    Superserver::run(Kind::Systemd, &arguments, port)
}

fn signal(server: &Superserver, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(server.pid()).unwrap()), signal).unwrap();
}

#[test]
fn the_managers_sockets_are_served_and_no_others() {
    world(|world| {
        fs::write("/etc/rlogind.toml", "listen = [\"[::]:5130\"]\n").unwrap();
        world.hosts_equiv("localhost\n");
        let Some(server) = activated(&["[::]:513"], "rlogin", 513) else { return };
        let Some(mut screen) = world.client(Client::RshRedone, ALICE, &["-l", "alice", "127.0.0.1"]) else {
            return;
        };
        screen.expect(PROMPT);
        assert_eq!(screen.run("env | grep -c -e LISTEN -e NOTIFY || true"), "0");
        assert_eq!(screen.run("ls /proc/self/fd | tr '\\n' ' '"), "0 1 2 3");
        let started = world.audit.wait("started");
        assert!(started.contains("[::]:513") && !started.contains("5130"), "{started}");
        assert!(!listens(5130));
        screen.send("exit 7\r");
        screen.wait_end(PATIENCE);
        assert_eq!(field(&world.audit.wait("session-closed"), "status"), Some("7"));
        signal(&server, Signal::SIGTERM);
        world.audit.wait("stopped");
    });
}

#[test]
fn the_names_tell_the_doors_apart_in_any_order() {
    world(|world| {
        // The socket itself asks for TCPMUX, whatever the configuration says.
        let Some(_server) = activated(&["[::]:1", "[::]:513"], "tcpmux:rlogin", 513) else { return };
        Peer::log_in(ALICE);
        let mut peer = Peer::connect_to(Ipv4Addr::LOCALHOST.into(), 1);
        peer.send("login\r\n");
        assert!(peer.expect("\r\n").starts_with('+'));
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.expect("\0");
        peer.give_password(ALICE);
        let doors = world.audit.wait_count("connection", 2);
        let doors: Vec<_> = doors.iter().map(|line| field(line, "via").unwrap()).collect();
        assert_eq!(doors, ["rlogin", "tcpmux"]);
    });
}

#[test]
fn the_manager_is_told_of_start_reload_and_stop() {
    world(|world| {
        let socket = UnixDatagram::bind(NOTIFY).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let hear = || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        };
        let says = |text: &str, what: &str| text.lines().any(|line| line == what);
        let Some(server) = activated(&["127.0.0.1:513"], "rlogin", 513) else { return };
        Peer::log_in(ALICE);
        let ready = hear();
        assert!(
            says(&ready, "READY=1") && ready.contains("\nSTATUS=") && ready.contains("127.0.0.1:513"),
            "{ready}"
        );
        // Many of these cost nothing to tell and are no reason to tell more.
        let extra = eventually("the daemon is quiet", PATIENCE, || {
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            Some(socket.recv(&mut [0; 4096]).is_ok())
        });
        assert!(!extra, "told again without a cause");
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        signal(&server, Signal::SIGHUP);
        let reloading = hear();
        assert!(says(&reloading, "RELOADING=1") && reloading.contains("MONOTONIC_USEC="), "{reloading}");
        assert!(says(&hear(), "READY=1"));
        Peer::log_in(ALICE);
        signal(&server, Signal::SIGTERM);
        assert!(says(&hear(), "STOPPING=1"));
        world.audit.wait("stopped");
    });
}

#[test]
fn a_stop_in_the_first_seconds_of_an_upgrade_ends_the_session_before_the_managers_main_process() {
    world(|world| {
        let socket = UnixDatagram::bind(NOTIFY).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let Some(server) = activated(&["127.0.0.1:513"], "rlogin", 513) else { return };
        let mut alice = Peer::log_in(ALICE);
        signal(&server, Signal::SIGUSR2);
        world.audit.wait("upgraded");
        let main = eventually("another main process", PATIENCE, || {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).unwrap();
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            text.strip_prefix("MAINPID=").map(|id| id.parse::<u32>().unwrap())
        });
        assert_ne!(main, server.pid());
        // The manager waits only for a process that is its own child.
        let of = |id| Process::of(id).unwrap();
        assert_eq!(of(main).parent, of(server.pid()).parent);
        // As it does: the main process only, and when that has ended the service has.
        kill(Pid::from_raw(i32::try_from(main).unwrap()), Signal::SIGTERM).unwrap();
        eventually("the main process ends", PATIENCE, || {
            Process::of(main).is_none_or(|process| process.state == 'Z').then_some(())
        });
        assert!(Process::of(server.pid()).is_none_or(|process| process.state == 'Z'), "the daemon lives on");
        assert_eq!(world.audit.of("session-closed").len(), 1);
        alice.wait_end(PATIENCE);
        world.audit.wait("stopped");
    });
}

#[test]
fn a_manager_that_does_not_read_is_no_reason_to_lose_the_daemon() {
    world(|world| {
        let socket = UnixDatagram::bind(NOTIFY).unwrap();
        let Some(server) = activated(&["127.0.0.1:513"], "rlogin", 513) else { return };
        let mut alice = Peer::log_in(ALICE);
        // Anybody can fill its queue.
        let stranger = UnixDatagram::unbound().unwrap();
        stranger.set_nonblocking(true).unwrap();
        while stranger.send_to(b"STATUS=x", NOTIFY).is_ok() {}
        signal(&server, Signal::SIGUSR2);
        eventually("the reason in the log", PATIENCE, || {
            let lines = world.audit.of("warning");
            lines.iter().any(|line| line.contains("does not read what it is told")).then_some(())
        });
        assert_eq!(alice.run("echo here"), "here");
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 64]).is_ok() {}
        signal(&server, Signal::SIGUSR2);
        world.audit.wait("upgraded");
        assert_eq!(alice.run("echo here"), "here");
        signal(&server, Signal::SIGTERM);
        world.audit.wait("stopped");
    });
}

#[test]
fn a_socket_that_is_no_listener_is_an_error() {
    world(|_world| {
        let arguments = ["--datagram", "--listen=127.0.0.1:513", "--fdname=rlogin", PROGRAM, "--stderr"];
        let Some(program) = crate::world::find_program("systemd-socket-activate") else {
            return crate::world::skip("there is no systemd-socket-activate");
        };
        let told = fs::File::create("/mnt/told").unwrap();
        let mut child = std::process::Command::new(program).args(arguments).stderr(told).spawn().unwrap();
        let client = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let status = eventually("the daemon ends", PATIENCE, || {
            // It may not be bound yet.
            let _ = client.send_to(b"x", (Ipv4Addr::LOCALHOST, 513));
            child.try_wait().unwrap()
        });
        let told = fs::read_to_string("/mnt/told").unwrap();
        assert_eq!(status.code(), Some(1), "{told}");
        assert!(told.contains("rlogind: ") && told.contains("no listening TCP socket"), "{told}");
    });
}
