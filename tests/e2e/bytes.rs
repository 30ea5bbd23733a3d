//! The stream itself: every byte, both ways, and the urgent ones.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, PROMPT};
use crate::peer::{Peer, window_message};
use crate::terminal::find;
use crate::world::world;

const MIB: usize = 1024 * 1024;

/// One MiB of every byte value, thick with bytes that look like window sizes and are none.
fn tricky_mebibyte() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MIB + 16);
    // A linear congruential generator (Knuth's MMIX): the same bytes in every run.
    let mut state: u64 = 1282;
    while bytes.len() < MIB {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [high, next, ..] = state.to_be_bytes();
        match next {
            0..=7 => bytes.extend_from_slice(&[0xff, 0xff, b's', high.max(b't')]),
            8..=15 => bytes.extend_from_slice(&[0xff, 0xff, b's', 0xff]),
            16..=23 => bytes.extend_from_slice(&[0xff, 0xff]),
            24..=31 => bytes.extend_from_slice(&[0xff, b's', b's', high]),
            _ => bytes.push(high),
        }
    }
    bytes.truncate(MIB);
    for end in 4..=bytes.len() {
        if bytes[..end].ends_with(b"\xff\xffss") {
            bytes[end - 1] = b't';
        }
    }
    bytes
}

fn checksum(bytes: &[u8]) -> String {
    fs::write("/tmp/checked", bytes).unwrap();
    let output =
        std::process::Command::new("sha256sum").stdin(fs::File::open("/tmp/checked").unwrap()).output();
    String::from_utf8(output.unwrap().stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_mebibyte_of_any_bytes_reaches_the_program_unchanged() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let bytes = tricky_mebibyte();
        peer.send("stty raw -echo; echo G\"\"O; head -c 1048576 | sha256sum; stty sane\r");
        peer.expect("GO\n");
        let mut stream = peer.stream.try_clone().unwrap();
        let expected = checksum(&bytes);
        // All at once, far more than any buffer takes: the server must push back and lose nothing.
        let sender = thread::spawn(move || std::io::Write::write_all(&mut stream, &bytes).unwrap());
        let told = peer.expect_bytes(b"  -\n", Duration::from_secs(60));
        sender.join().unwrap();
        assert_eq!(told.trim(), expected);
        peer.expect(PROMPT);
        assert_eq!(peer.run("echo still here"), "still here");
    });
}

#[test]
fn a_mebibyte_of_any_bytes_reaches_the_client_unchanged() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let bytes = tricky_mebibyte();
        fs::write("/tmp/bytes", &bytes).unwrap();
        peer.send("stty raw -echo; echo G\"\"O; cat /tmp/bytes; echo E\"\"ND; stty sane\r");
        peer.expect("GO\n");
        let start = peer.data.len() - peer.rest().len();
        peer.wait("end of the bytes", Duration::from_secs(60), |peer| {
            find(peer.data.get(start + MIB..).unwrap_or_default(), b"END").is_some()
        });
        let got = &peer.data[start..start + MIB];
        let differs = got.iter().zip(&bytes).position(|(got, sent)| got != sent);
        assert_eq!(differs, None, "where the bytes differ");
    });
}

#[test]
fn a_client_that_does_not_read_stops_the_program_and_gets_all_later() {
    world(|world| {
        let daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("seq 1 300000; echo E\"\"ND\r");
        thread::sleep(Duration::from_secs(2));
        let kilobytes = resident(daemon.relay().pid);
        assert!(kilobytes < 64 * 1024, "the relay holds {kilobytes} kB");
        peer.expect_bytes(b"END\r\n", Duration::from_secs(60));
        let text = String::from_utf8_lossy(&peer.data).into_owned();
        let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let wrong = numbers.iter().zip(1..).position(|(&number, expected)| number != expected);
        let around = wrong.map(|at| &numbers[at.saturating_sub(2)..numbers.len().min(at + 3)]);
        assert_eq!(around, None, "where numbers are missing or out of order");
        assert_eq!(numbers.len(), 300_000);
    });
}

/// The resident memory of a process in kB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn one_client_that_does_not_read_does_not_slow_another() {
    world(|world| {
        let _daemon = world.serve("");
        let mut stuck = Peer::log_in(ALICE);
        stuck.send("yes\r");
        let mut other = Peer::log_in(ALICE);
        thread::sleep(Duration::from_millis(500));
        for _ in 0..10 {
            let start = Instant::now();
            other.run("true");
            assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
        }
    });
}

#[test]
fn a_window_size_is_taken_at_every_split_and_leaves_no_byte() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        for split in 1..12 {
            let message = window_message(20 + split, 100 + split);
            let at = usize::from(split);
            peer.send(&message[..at]);
            thread::sleep(Duration::from_millis(5));
            peer.send(&message[at..]);
            assert_eq!(peer.run("stty size"), format!("{} {}", 20 + split, 100 + split), "split at {at}");
        }
        // Glued to what is typed, before, between and behind.
        let mut bytes = b"echo o".to_vec();
        bytes.extend_from_slice(&window_message(40, 140));
        bytes.extend_from_slice(b"\"\"ne");
        bytes.extend_from_slice(&window_message(41, 141));
        bytes.extend_from_slice(b"\r");
        bytes.extend_from_slice(&window_message(42, 142));
        peer.send(bytes);
        peer.expect("\none\r\n");
        peer.expect(PROMPT);
        assert_eq!(peer.run("stty size"), "42 142");
    });
}

#[test]
fn absurd_window_sizes_do_no_harm() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send_size(33, 99);
        assert_eq!(peer.run("stty size"), "33 99");
        peer.send_size(0, 0);
        assert_eq!(peer.run("stty size"), "33 99", "zero by zero says nothing");
        peer.send_size(0xffff, 0xffff);
        peer.run("stty size");
        peer.send_size(34, 98);
        assert_eq!(peer.run("stty size"), "34 98");
    });
}

#[test]
fn a_lone_ff_reaches_the_program_at_once() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        for (typed, shown) in [
            (&b"\xff"[..], " ff\n"),
            (b"\xff\xff", " ff ff\n"),
            (b"\xff\xffs", " ff ff 73\n"),
            (b"\xffs", " ff 73\n"),
        ] {
            let count = typed.len();
            // What follows begins with an s: it does not complete what was passed on already.
            peer.send(format!(
                "stty raw -echo; echo G\"\"O; dd bs=1 count={count} 2>&- | od -An -tx1; stty sane\r"
            ));
            peer.expect("GO\n");
            let start = Instant::now();
            peer.send(typed);
            peer.expect(shown);
            assert!(start.elapsed() < Duration::from_millis(700), "held for {:?}", start.elapsed());
            peer.expect(PROMPT);
        }
    });
}

#[test]
fn raw_and_cooked_terminals_are_told_to_the_client() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        assert_eq!(peer.urgent_bytes(), [0x80], "the terminal is cooked from the start");
        peer.run("stty -ixon");
        peer.wait_urgent(0x10, 1);
        peer.run("stty ixon");
        peer.wait_urgent(0x20, 2);
        peer.run("stty stop ^X");
        peer.wait_urgent(0x10, 3);
        peer.run("stty stop ^S; stty ixon");
        peer.wait_urgent(0x20, 4);
        peer.listen(Duration::from_millis(300));
        assert_eq!(peer.urgent_bytes(), [0x80, 0x10, 0x20, 0x10, 0x20]);
        let stray = peer.stray_bytes();
        assert!(stray.is_empty(), "urgent bytes in the stream: {stray:x?}");
    });
}

#[test]
fn a_flood_of_mode_changes_is_merged_and_spaced_and_none_becomes_text() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        let changes =
            "i=0; while [ $i -lt 60 ]; do stty -ixon; seq 100; stty ixon; i=$((i+1)); done; stty -ixon";
        peer.run(changes);
        peer.listen(Duration::from_millis(500));
        assert_eq!(peer.urgent.last().map(|urgent| urgent.byte), Some(0x10), "the last state arrives");
        let stray = peer.stray_bytes();
        assert!(stray.is_empty(), "urgent bytes in the stream: {stray:x?}");
        // They are taken a little late, so the gaps seen are a little shorter than those sent.
        let gaps = peer.urgent.windows(2).map(|pair| pair[1].at - pair[0].at);
        assert!(gaps.clone().all(|gap| gap >= Duration::from_millis(10)), "{:?}", gaps.min());
        let same = peer.urgent_bytes().windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert_eq!(same, 0, "a state that did not change was told again");
    });
}

#[test]
fn control_c_in_a_flood_discards_it_and_says_flush() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::log_in(ALICE);
        peer.send("yes 012345678901234567890123456789\r");
        peer.expect("\n01234");
        // The client stops reading: everything fills up.
        thread::sleep(Duration::from_millis(700));
        let before = peer.urgent.len();
        peer.send("\x03");
        thread::sleep(Duration::from_millis(300));
        let held = peer.data.len();
        peer.expect_bytes(PROMPT.as_bytes(), Duration::from_secs(5));
        peer.listen(Duration::from_millis(300));
        assert_eq!(peer.urgent_bytes()[before..], [0x02]);
        let late = peer.data.len() - held;
        assert!(late < 8 * MIB, "{late} bytes came after ^C");
        assert_eq!(peer.run("echo still here"), "still here");
    });
}
