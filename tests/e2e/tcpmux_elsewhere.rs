//! TCPMUX on port 1 of a superserver, which hands over single connections.

use std::net::Ipv4Addr;

use crate::accounts::ALICE;
use crate::audit::field;
use crate::daemon::PROGRAM;
use crate::peer::{End, Peer, handshake};
use crate::superserver::{Kind, Superserver, xinetd_service};
use crate::terminal::PATIENCE;
use crate::world::{World, world};

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
