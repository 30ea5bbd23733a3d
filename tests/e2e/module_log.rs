//! What PAM's modules log with syslog(3): never under the daemon's name, and never waiting.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use crate::accounts::ALICE;
use crate::peer::Peer;
use crate::probe::{compile, service};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

const MODULE: &str = "/mnt/log.so";

/// The lines of session processes: priority and text.
fn lines(world: &World) -> Vec<(String, String)> {
    let text = world.audit.text();
    let lines = text.lines().filter_map(|line| {
        let (header, text) = line.split_once(" rlogind-session[")?;
        let (pid, text) = text.split_once("]: ")?;
        assert!(pid.bytes().all(|byte| byte.is_ascii_digit()), "{line}");
        Some((header.split_once('>')?.0[1..].to_owned(), text.to_owned()))
    });
    lines.collect()
}

#[test]
fn what_a_module_logs_comes_under_another_name_and_escaped() {
    world(|world| {
        for options in [&["-O0"][..], &["-O2", "-D_FORTIFY_SOURCE=2"]] {
            if !compile(
                &[options, &["-shared", "-fPIC", "-o", MODULE]].concat(),
                include_str!("../pam/log.c"),
            ) {
                return;
            }
            service(&format!(
                "auth required pam_unix.so\naccount required pam_unix.so\n\
                 session required pam_unix.so\nsession required {MODULE}\n"
            ));
            let before = lines(world).len();
            let daemon = world.serve("");
            drop(Peer::log_in(ALICE));
            world.audit.wait("session-closed");
            let new = eventually("the number of lines left out", PATIENCE, || {
                let new = lines(world).split_off(before);
                new.iter().any(|(_, text)| text.starts_with("lines of modules left out: ")).then_some(new)
            });
            let priority = |start: &str| {
                let found = new.iter().find(|(_, text)| text.starts_with(start));
                found.unwrap_or_else(|| panic!("{start}: {new:#?}")).0.as_str()
            };
            // Facility authpriv, and the severity is the module's.
            assert_eq!(priority("plain text 7: No such file or directory"), "87");
            let forged = r"log(rlogin:session): forged\x0arlogind[1]: event=\x22password-failed\x22 user=\x22alice\x22 \x1b[2J\xe2\x80\xae";
            assert_eq!(priority(forged), "82");
            assert_eq!(priority("from a thread"), "85");
            assert_eq!(priority("pam_unix(rlogin:session): session opened for user alice"), "86");
            assert!(!new.iter().any(|(_, text)| text == "from a child"), "{new:#?}");
            let long = new.iter().find(|(_, text)| text.starts_with("long xxx")).unwrap();
            assert_eq!(long.1.len(), 1023, "{}", long.1);
            assert!(new.iter().any(|(_, text)| text == "flood 0"), "{new:#?}");
            assert!(new.len() < 70, "{} lines", new.len());
            drop(daemon);
        }
        // Nothing else has come in.
        assert_eq!(world.audit.of("password-failed"), Vec::<String>::new());
        for line in world.audit.text().lines() {
            assert!(line.contains(" rlogind[") || line.contains(" rlogind-session["), "{line}");
        }
    });
}

#[test]
fn a_syslogd_that_does_not_read_holds_up_no_login() {
    world(|world| {
        // As one that is stopped: its queue is full.
        fs::remove_file("/dev/log").unwrap();
        let stopped = UnixDatagram::bind("/dev/log").unwrap();
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"x", "/dev/log").is_ok() {}
        let _daemon = world.serve("");
        let _peers: Vec<Peer> = (0..8).map(|_| Peer::log_in(ALICE)).collect();
        // It goes on, and gets everything.
        stopped.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let (mut opened, mut by_module) = (0, 0);
        let mut buffer = [0; 4096];
        while opened < 8 || by_module < 8 {
            let length = stopped.recv(&mut buffer).unwrap();
            let line = String::from_utf8_lossy(&buffer[..length]).into_owned();
            opened += usize::from(line.contains(" event=\"session-opened\""));
            by_module +=
                usize::from(line.contains("pam_unix(rlogin:session): session opened for user alice"));
        }
        assert_eq!((opened, by_module), (8, 8));
    });
}
