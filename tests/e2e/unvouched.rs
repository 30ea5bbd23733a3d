//! What a client says of names before anybody has vouched for it: where it may not turn up.

use std::fs;
use std::time::{Duration, Instant};

use crate::accounts::ALICE;
use crate::audit::field;
use crate::daemon;
use crate::peer::{Peer, handshake};
use crate::probe::{build, calls, service_with};
use crate::processes::{self, Process};
use crate::terminal::PATIENCE;
use crate::world::{World, eventually, world};

/// What is typed as a name: a password, control characters that terminals obey, a line of the log.
const NAMES: [&str; 4] = [
    "S3cret-typed",
    "S3cret\u{202e}\u{9b}2J",
    "-fS3cret",
    "S3cret]: x event=\"password-failed\" user=\"alice\" address=\"203.0.113.9\" port=\"1023\"",
];

/// All that was logged, and all that modules were told.
fn written(world: &World) -> String {
    world.audit.text() + &daemon::told() + &calls().join("\n")
}

#[test]
fn a_name_that_is_no_account_reaches_no_module_and_no_log() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth required PROBE\naccount required PROBE");
        let _daemon = world.serve("");
        let mut asked = 0;
        for (index, name) in NAMES.into_iter().enumerate() {
            for end in ["wrong\r", "\x03", "\x04", ""] {
                for typed in [true, false] {
                    // The others are no names, and the handshake with them is refused.
                    if !typed && index > 0 {
                        continue;
                    }
                    // Of one source the log has ten lines a minute.
                    let mut peer = Peer::connect_from([127, 0, 0, if asked < 10 { 11 } else { 12 }].into());
                    peer.send(handshake("nobody", if typed { "" } else { name }, "vt100/38400"));
                    if typed {
                        peer.expect("login: ");
                        peer.send(format!("{name}\r"));
                    }
                    peer.expect("Password: ");
                    peer.send(end);
                    if end.starts_with("wrong") {
                        peer.expect("Login incorrect");
                    }
                    drop(peer);
                    asked += 1;
                }
            }
        }
        world.audit.wait_count("login-abandoned", asked);
        assert_eq!(asked, 20);
        let all = written(world);
        assert!(!all.contains("S3cret") && !all.contains("203.0.113.9"), "{all}");
        // But PAM was asked each time, about a name that cannot be one.
        let calls = calls();
        let of_none = calls.iter().filter(|line| line.starts_with("authenticate user=:unknown "));
        assert_eq!(of_none.count(), asked, "{calls:#?}");
        let lines = world.audit.text();
        assert!(lines.contains("could not identify password for [:unknown]"), "{lines}");
    });
}

/// A module would log the name that it was given for the one it has forgotten, which may be a password.
#[test]
fn a_module_that_asks_for_a_name_itself_gets_none() {
    world(|world| {
        if !build() {
            return;
        }
        let _daemon = world.serve("");
        // Without a name pam_get_user(3) asks; an empty one is one to it, and the module's own prompt is left.
        for (forget, asked) in [("forget", "asked 19  19 "), ("forget empty", "asked 0  19 ")] {
            service_with(&format!("auth requisite PROBE {forget}"));
            let before = calls().len();
            let mut peer = Peer::hello("nobody", "alice");
            // It is an answer to the login's own question, and to no other.
            peer.send("S3cret-typed\r");
            peer.expect("Login incorrect\r\nlogin: ");
            peer.expect("Login incorrect\r\nlogin: ");
            assert!(!String::from_utf8_lossy(&peer.data).contains("Name: "));
            let calls = calls();
            let said = |index: usize| calls.get(before + index).map(String::as_str).unwrap_or_default();
            assert!(said(0).starts_with("authenticate user=alice "), "{calls:#?}");
            assert!(said(2).starts_with("authenticate user=:unknown "), "{calls:#?}");
            assert_eq!([said(1), said(3)], [asked; 2], "{calls:#?}");
        }
        let all = written(world);
        assert!(!all.contains("S3cret"), "{all}");
    });
}

#[test]
fn a_name_that_cannot_be_one_costs_what_a_wrong_password_costs() {
    world(|world| {
        service_with("auth optional pam_faildelay.so delay=2000000");
        let _daemon = world.serve("");
        let cost = |name: &str| {
            let mut peer = Peer::hello("nobody", "");
            peer.expect("login: ");
            peer.send(format!("{name}\r"));
            peer.expect("Password: ");
            let begun = Instant::now();
            peer.send("wrong-Secret-9\r");
            peer.expect_bytes(b"Login incorrect", PATIENCE);
            begun.elapsed()
        };
        // PAM varies it by half at most.
        for name in ["alice", "nobodyatall", "-froot", "a\x01b", "[nn", "\u{e9}t\u{e9}"] {
            let cost = cost(name);
            assert!(cost > Duration::from_millis(950), "{name:?}: {cost:?}");
        }
        world.audit.wait_count("password-failed", 6);
    });
}

#[test]
fn an_address_decides_and_its_name_does_not() {
    world(|world| {
        service_with("account requisite pam_access.so accessfile=/etc/access.test nodefgroup");
        fs::write("/etc/access.test", "+ : ALL : 10.0.0.0/8\n- : ALL : ALL\n").unwrap();
        // The owner of the name gives it the own address, and one of those that may come.
        let hosts = fs::read_to_string("/etc/hosts").unwrap();
        fs::write("/etc/hosts", format!("127.0.0.66 two-faced\n10.0.0.1 two-faced\n{hosts}")).unwrap();
        let _daemon = world.serve("");
        let mut peer = Peer::connect_from([127, 0, 0, 66].into());
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.expect("Password: ");
        peer.send(format!("{}\r", ALICE.password));
        peer.expect("Login incorrect");
        let line = world.audit.wait("account-refused");
        assert_eq!(field(&line, "host"), Some("two-faced"), "the name is confirmed: {line}");
        fs::write("/etc/access.test", "+ : ALL : 127.0.0.66\n- : ALL : ALL\n").unwrap();
        let mut peer = Peer::connect_from([127, 0, 0, 66].into());
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.give_password(ALICE);
    });
}

/// The processor time that the one session process has used, in nanoseconds; 0 when there is none.
fn processor_time() -> u64 {
    let session = |process: &Process| process.name == "rlogind-session" && process.state != 'Z';
    let Some(session) = processes::all().into_iter().find(session) else { return 0 };
    let text = fs::read_to_string(format!("/proc/{}/schedstat", session.pid)).unwrap_or_default();
    text.split(' ').next().and_then(|time| time.parse().ok()).unwrap_or(0)
}

/// How likely one of the first is longer than one of the others: the area under the curve of whoever tells them apart
/// by time.
fn area_under_curve(first: &[u64], others: &[u64]) -> f64 {
    let mut others = others.to_vec();
    others.sort_unstable();
    let longer = |time: &u64| {
        let below = others.partition_point(|other| other < time);
        let not_above = others.partition_point(|other| other <= time);
        u32::try_from(below + not_above).unwrap()
    };
    let twice: f64 = first.iter().map(|time| f64::from(longer(time))).sum();
    let pairs = u32::try_from(first.len() * others.len()).unwrap();
    twice / 2.0 / f64::from(pairs)
}

#[test]
fn the_time_until_the_prompt_tells_no_name() {
    world(|world| {
        world.hosts_equiv("other.example.net\n");
        world.write_for(ALICE, ".rhosts", "127.0.0.77 x\n127.0.0.78 y\n127.0.0.79\n");
        let _daemon = world.serve("");
        // RLOGIND_NAME_TRIES=2000 measures it well.
        let tries: usize =
            std::env::var("RLOGIND_NAME_TRIES").ok().map_or(100, |tries| tries.parse().unwrap());
        let (mut wall, mut processor) = ([vec![], vec![]], [vec![], vec![]]);
        for n in 0..tries * 2 {
            // In pairs, each in another order than the one before.
            let which = (n % 2) ^ (n / 2 % 2);
            let [low, high] = [n % 200 + 1, n / 200 % 200 + 1].map(|part| u8::try_from(part).unwrap());
            let mut peer = Peer::connect_from([127, high, 0, low].into());
            let begun = Instant::now();
            peer.send(handshake("nobody", ["alice", "quincy"][which], "vt100/38400"));
            peer.expect("Password: ");
            wall[which].push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
            processor[which].push(processor_time());
            peer.send("\x03");
            peer.wait_end(PATIENCE);
            eventually("its process has ended", PATIENCE, || (processor_time() == 0).then_some(()));
        }
        let areas = [wall, processor].map(|[known, unknown]| area_under_curve(&known, &unknown));
        println!(
            "the area under the curve, of {tries} each: {:.3} by the clock, {:.3} by processor time",
            areas[0], areas[1]
        );
        // Six times what chance makes of so few.
        assert!(areas.iter().all(|area| (0.25..=0.75).contains(area)), "{areas:?}");
    });
}
