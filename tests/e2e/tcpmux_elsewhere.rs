//! TCPMUX on port 1 of a superserver, which hands over single connections.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;

use crate::accounts::ALICE;
use crate::audit::field;
use crate::daemon::{PROGRAM, listens};
use crate::peer::{End, Peer, handshake};
use crate::superserver::{INETD_CONF, Kind, Superserver, xinetd_service};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// Asks port 1 for the service and logs in; returns what was answered before the zero byte.
fn log_in(request: &str) -> (Peer, String) {
    let mut peer = Peer::connect_to(Ipv4Addr::LOCALHOST.into(), 1);
    peer.send(request);
    // Bytes behind the request would be lost in the superserver.
    let answer = peer.expect("\r\n");
    peer.send(handshake("nobody", "alice", "vt100/38400"));
    let stray = peer.expect("\0");
    assert_eq!(stray, "", "before the zero byte");
    peer.give_password(ALICE);
    (peer, answer)
}

/// A login by each of these names, and what a stranger's name gets.
fn serves(world: &World, kind: Kind, configuration: &str, via: &str) {
    let Some(server) = Superserver::start(kind, configuration, 1) else { return };
    for request in ["login\r\n", "LOGIN\r\n"] {
        let (mut peer, answer) = log_in(request);
        assert!(answer.starts_with('+'), "{answer:?}");
        assert_eq!(peer.run("id -un"), "alice");
        peer.send("exit 7\r");
        assert_eq!(peer.wait_end(PATIENCE), End::Closed);
    }
    let closed = world.audit.wait_count("session-closed", 2);
    assert!(closed.iter().all(|line| field(line, "status") == Some("7")), "{closed:#?}");
    let lines = world.audit.of("connection");
    assert!(lines.iter().all(|line| field(line, "via") == Some(via)), "{lines:#?}");
    server.nothing_is_left();
}

#[test]
fn inetutils_answers_by_itself() {
    world(|world| {
        let text = format!(
            "tcpmux stream tcp nowait root internal\n\
             tcpmux/+login stream tcp nowait root {PROGRAM} rlogind inetd\n"
        );
        serves(world, Kind::Inetutils, &text, "inetd");
    });
}

#[test]
fn inetutils_leaves_the_answer_to_the_server() {
    world(|world| {
        let text = format!(
            "tcpmux stream tcp nowait root internal\n\
             tcpmux/login stream tcp nowait root {PROGRAM} rlogind inetd --tcpmux-reply\n"
        );
        serves(world, Kind::Inetutils, &text, "tcpmux");
    });
}

#[test]
fn xinetd_leaves_the_answer_to_the_server() {
    world(|world| {
        let login = xinetd_service(
            "login",
            &format!("type = TCPMUX UNLISTED\nserver = {PROGRAM}\nserver_args = inetd --tcpmux-reply"),
        );
        let tcpmux = "service tcpmux\n{\ntype = INTERNAL\nid = tcpmux-server\nsocket_type = stream\n\
                      protocol = tcp\nwait = no\nuser = root\n}\n";
        serves(world, Kind::Xinetd, &format!("{login}{tcpmux}"), "tcpmux");
    });
}

/// Runs `rlogind tcpmux` with these arguments; it must succeed. Returns what it wrote.
fn rlogind_tcpmux(arguments: &[&str]) -> String {
    let output = Command::new(PROGRAM).arg("tcpmux").args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Registers with a running superserver, logs in through its port 1, and takes it back.
/// `option` names its configuration.
fn registers(world: &World, option: &[&str; 2], file: &str, via: &str) {
    let before = fs::read(file).ok();
    assert!(!listens(1));
    let told = rlogind_tcpmux(&["register", option[0], option[1]]);
    assert!(told.contains("reads its configuration again"), "{told}");
    eventually("the superserver listens on port 1", PATIENCE, || listens(1).then_some(()));
    for request in ["login\r\n", "RLogin\r\n"] {
        let (mut peer, answer) = log_in(request);
        assert!(answer.starts_with('+'), "{answer:?}");
        assert_eq!(peer.run("id -un"), "alice");
    }
    let lines = world.audit.of("connection");
    assert!(lines.len() == 2 && lines.iter().all(|line| field(line, "via") == Some(via)), "{lines:#?}");
    // What was served on port 513 still is.
    Peer::log_in(ALICE);

    rlogind_tcpmux(&["status", option[0], option[1]]);
    let registered = fs::read(file).unwrap();
    rlogind_tcpmux(&["register", option[0], option[1]]);
    assert_eq!(fs::read(file).unwrap(), registered, "registered twice");

    rlogind_tcpmux(&["unregister", option[0], option[1]]);
    assert_eq!(fs::read(file).ok(), before);
    eventually("login is no service any more", PATIENCE, || {
        // Whatever goes wrong: it is not served.
        let mut answer = [0];
        let asked = TcpStream::connect((Ipv4Addr::LOCALHOST, 1)).and_then(|mut stream| {
            stream.write_all(b"login\r\n")?;
            stream.read_exact(&mut answer)
        });
        (asked.is_err() || answer != *b"+").then_some(())
    });
    Peer::log_in(ALICE);
}

#[test]
fn registering_with_inetutils_leads_to_a_login() {
    world(|world| {
        let text =
            format!("# Local services\n\nlogin\tstream\ttcp\tnowait\troot\t{PROGRAM}\trlogind inetd\n");
        let Some(_server) = Superserver::start(Kind::Inetutils, &text, 513) else { return };
        registers(world, &["--inetd-conf", INETD_CONF], INETD_CONF, "inetd");
    });
}

#[test]
fn registering_with_xinetd_leads_to_a_login() {
    world(|world| {
        let login = xinetd_service("login", &format!("server = {PROGRAM}\nserver_args = inetd"));
        // The package's own files, all services of which are off.
        let copied =
            Command::new("cp").args(["-r", "/mnt/superservers/etc/xinetd.d", "/etc/"]).output().unwrap();
        assert!(copied.status.success() || !fs::exists("/mnt/superservers/etc/xinetd.d").unwrap());
        let text = format!("{login}includedir /etc/xinetd.d\n");
        let Some(_server) = Superserver::start(Kind::Xinetd, &text, 513) else { return };
        registers(world, &["--xinetd-dir", "/etc/xinetd.d"], "/etc/xinetd.d/rlogind-tcpmux", "tcpmux");
    });
}
