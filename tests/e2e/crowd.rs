//! Strangers who fill the places of those who are not logged in yet: others log in all the same.

use std::collections::VecDeque;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{ALICE, PROMPT};
use crate::peer::{Peer, handshake, open};
use crate::world::world;

/// Logins from elsewhere.
const LOGINS: usize = 20;
/// Connections that an attacker holds at most. With those of the others it is more than there are places.
const HELD: usize = 400;
/// Time between two of an attacker's connections.
const PAUSE: Duration = Duration::from_millis(4);

/// What an attacker does with a connection.
#[derive(Clone, Copy)]
enum Attack {
    /// It says nothing.
    Idle,
    /// It asks for a login, and waits at the prompt.
    AtPrompt,
    /// The same, and it leaves at once.
    Leaves,
}

/// An address of a /48 or a /24, another one each time.
fn address(is_v6: bool, n: u32) -> IpAddr {
    let [low, high] = [n % 250 + 1, n / 250 % 9000].map(|part| u16::try_from(part).unwrap());
    if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 7, high.wrapping_mul(251).wrapping_add(low), 0, 0, 0, 1).into()
    } else {
        Ipv4Addr::new(198, 51, 100, low.to_le_bytes()[0]).into()
    }
}

/// Attacks until it is told to stop. Returns how often it connected.
fn attack(kind: Attack, is_v6: bool, stop: &AtomicBool) -> usize {
    let mut held: VecDeque<TcpStream> = VecDeque::new();
    let mut count = 0;
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(PAUSE);
        let Some(mut stream) = open(SocketAddr::new(address(is_v6, n), 0), 513) else { continue };
        count += 1;
        match kind {
            Attack::Idle => held.push_back(stream),
            Attack::AtPrompt | Attack::Leaves => {
                // It may have been sent away already.
                let _ = stream.write_all(&handshake("nobody", "alice", "vt100/38400"));
                if matches!(kind, Attack::AtPrompt) {
                    held.push_back(stream);
                }
            }
        }
        if held.len() > HELD {
            held.pop_front();
        }
    }
    count
}

/// Ends the attack, also when the test fails.
struct Stops<'s>(&'s AtomicBool);

impl Drop for Stops<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long each of so many logins takes until the shell's prompt.
fn logins() -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..LOGINS)
        .map(|n| {
            let source = Ipv4Addr::new(127, 0, u8::try_from(n).unwrap(), 1);
            let begun = Instant::now();
            let mut peer = Peer::connect_from(source.into());
            peer.send(handshake("alice", "alice", "vt100/38400"));
            peer.expect(PROMPT);
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

#[test]
fn networks_that_do_their_worst_keep_nobody_elsewhere_from_logging_in() {
    world(|world| {
        for route in ["-6 route add local 2001:db8:7::/48 dev lo", "route add local 198.51.100.0/24 dev lo"] {
            assert!(Command::new("ip").args(route.split(' ')).status().unwrap().success(), "{route}");
        }
        fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
        let trusted: String = (0..LOGINS).map(|n| format!("127.0.{n}.1\n")).collect();
        world.hosts_equiv(&trusted);
        // The attackers' own name server takes its time, and so does each session process that asks it.
        let _silent = UdpSocket::bind("127.0.0.9:53").unwrap();
        fs::write("/etc/resolv.conf", "nameserver 127.0.0.9\n").unwrap();
        let switch = fs::read_to_string("/etc/nsswitch.conf").unwrap();
        fs::write("/etc/nsswitch.conf", switch.replace("hosts: files", "hosts: files dns")).unwrap();
        let names: String = (0..LOGINS).map(|n| format!("127.0.{n}.1 client{n}\n")).collect();
        let known = fs::read_to_string("/etc/hosts").unwrap();
        fs::write("/etc/hosts", format!("{known}{names}127.0.0.99 slow\n")).unwrap();
        let _daemon = world.serve("");
        let mut by_password = Peer::log_in(ALICE);
        let before = logins();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let _stops = Stops(&stop);
            let attackers: Vec<_> = [Attack::Idle, Attack::AtPrompt, Attack::Leaves]
                .into_iter()
                .flat_map(|kind| [true, false].map(|is_v6| (kind, is_v6)))
                .map(|(kind, is_v6)| {
                    scope.spawn({
                        let stop = &stop;
                        move || attack(kind, is_v6, stop)
                    })
                })
                .collect();
            // Until all places are theirs.
            thread::sleep(Duration::from_secs(4));
            let during = logins();
            // Somebody who types slowly is not sent away either.
            let mut slow = Peer::connect_from([127, 0, 0, 99].into());
            slow.send(handshake("nobody", "bob", "vt100/38400"));
            slow.wait_urgent(0x80, 0);
            thread::sleep(Duration::from_secs(3));
            slow.give_password(crate::accounts::BOB);
            stop.store(true, Ordering::Relaxed);
            let connected: usize = attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum();
            println!(
                "{connected} hostile connections; a login took {before:.1?} before and {during:.1?} meanwhile"
            );
            assert!(connected > 1000, "{connected} hostile connections");
        });
        assert_eq!(by_password.run("echo here"), "here");
    });
}
