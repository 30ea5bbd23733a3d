//! The verdict against the C library's own ruserok_af(3) and iruserok_af(3),
//! on the same files, names and netgroups.
//!
//! What both understand must come out the same; where ours differs on purpose,
//! the difference stands in [`DIFFERENCES`] and is asserted from both sides.
//! Every test runs itself again in a mount namespace with an `/etc` of its own,
//! because the C library reads `/etc/hosts.equiv` and no other file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail by panicking")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, geteuid};
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use rlogind::config::{Config, RootLogin};
use rlogind::trust::files::SystemWorld;
use rlogind::trust::{Account, Policy, Query, Verdict, decide};

unsafe extern "C" {
    fn ruserok_af(
        rhost: *const c_char,
        superuser: c_int,
        ruser: *const c_char,
        luser: *const c_char,
        af: libc::sa_family_t,
    ) -> c_int;
    fn iruserok_af(
        raddr: *const c_void,
        superuser: c_int,
        ruser: *const c_char,
        luser: *const c_char,
        af: libc::sa_family_t,
    ) -> c_int;
}

/// Set in the process that has an `/etc` of its own.
const INSIDE: &str = "RLOGIND_TEST_OWN_ETC";

/// What stands in that `/etc`. The home directories are there as well.
const ETC: [(&str, &str); 5] = [
    (
        "passwd",
        "root:x:0:0::/etc/home/root:/bin/sh\n\
         alice:x:61234:61234::/etc/home/alice:/bin/sh\n",
    ),
    ("group", "root:x:0:\nalice:x:61234:\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\nnetgroup: files\n"),
    (
        "hosts",
        "192.0.2.7 client client.example.org\n192.0.2.8 other\n192.0.2.9 multi\n192.0.2.7 multi\n\
         2001:db8::7 six\n2001:db8::8 othersix\nfe80::7 near\n::ffff:192.0.2.7 mapped\n",
    ),
    ("netgroup", "lab (client,-,) (six,-,)\nstaff (-,bob,)\nnolab (other,-,)\nLab (other,-,)\n"),
];

/// True in a process with an `/etc` of its own; otherwise runs this test in one.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the comparison with the C library needs root");
        eprintln!("SKIPPED: needs root");
        return false;
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o mode=755 own-etc /etc && exec \"$@\"")
        .arg("sh")
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(status.success(), "{test} in a namespace: {status}");
    false
}

/// The two files, in an `/etc` that is certainly our own.
struct Files;

impl Files {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(mounts.lines().any(|line| line.starts_with("own-etc /etc tmpfs ")), "this is the real /etc");
        for (name, text) in ETC {
            fs::write(Path::new("/etc").join(name), text).unwrap();
        }
        for user in ["alice", "root"] {
            let home = home(user);
            fs::create_dir_all(&home).unwrap();
            own(&home, user, 0o755);
        }
        Files
    }

    /// An empty text stands for no file.
    fn write(&self, equiv: &[u8], rhosts: &[u8]) {
        put(Path::new("/etc/hosts.equiv"), equiv, "root");
        for user in ["alice", "root"] {
            put(&home(user).join(".rhosts"), rhosts, user);
        }
    }
}

fn home(user: &str) -> PathBuf {
    Path::new("/etc/home").join(user)
}

fn put(path: &Path, text: &[u8], owner: &str) {
    let _ = fs::remove_file(path);
    if !text.is_empty() {
        fs::write(path, text).unwrap();
        own(path, owner, 0o644);
    }
}

fn own(path: &Path, user: &str, mode: u32) {
    let id = if user == "root" { 0 } else { 61_234 };
    chown(path, Some(id), Some(id)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Who comes, and to whom.
#[derive(Debug, Clone, Copy)]
struct Login {
    peer: &'static str,
    /// The confirmed name. Without one the C library is asked by address.
    host: Option<&'static str>,
    remote: &'static str,
    user: &'static str,
}

/// Bob at the client, to alice.
const BOB: Login = Login { peer: "192.0.2.7", host: Some("client"), remote: "bob", user: "alice" };

fn c_library_trusts(login: Login) -> bool {
    let text = |text: &str| CString::new(text).unwrap();
    let (remote, user) = (text(login.remote), text(login.user));
    let superuser = c_int::from(login.user == "root");
    let peer: IpAddr = login.peer.parse().unwrap();
    let family = if peer.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let family = libc::sa_family_t::try_from(family).unwrap();
    let answer = match (login.host, peer) {
        (Some(host), _) => {
            let host = text(host);
            // SAFETY: three C strings that outlive the call, which only reads them.
            unsafe { ruserok_af(host.as_ptr(), superuser, remote.as_ptr(), user.as_ptr(), family) }
        }
        (None, IpAddr::V4(ip)) => {
            let ip = ip.octets();
            // SAFETY: as above, and for AF_INET four bytes of address are read.
            unsafe { iruserok_af(ip.as_ptr().cast(), superuser, remote.as_ptr(), user.as_ptr(), family) }
        }
        (None, IpAddr::V6(ip)) => {
            let ip = ip.octets();
            // SAFETY: as above, and for AF_INET6 sixteen bytes of address are read.
            unsafe { iruserok_af(ip.as_ptr().cast(), superuser, remote.as_ptr(), user.as_ptr(), family) }
        }
    };
    answer == 0
}

fn we_trust(login: Login, wildcards: bool) -> bool {
    let mut config = Config::default();
    config.trust.wildcards = wildcards;
    config.login.root = RootLogin::Trust;
    let policy = Policy { trust: &config.trust, login: &config.login, config_path: "" };
    let account = Account::from(User::from_name(login.user).unwrap().unwrap());
    let query = Query {
        peer: login.peer.parse().unwrap(),
        port_reserved: true,
        port_open_here: false,
        host: login.host,
        remote_user: login.remote.as_bytes(),
        user: login.user,
        account: Some(&account),
    };
    matches!(decide(&policy, &query, &mut SystemWorld::default()).verdict, Verdict::Trusted { .. })
}

/// Logins that ask every generated pair of files.
fn logins() -> Vec<Login> {
    let mut logins = Vec::new();
    for (peer, host) in [
        ("192.0.2.7", Some("client")),
        ("192.0.2.7", None),
        ("2001:db8::7", Some("six")),
        ("2001:db8::7", None),
        ("192.0.2.8", None),
    ] {
        for remote in ["bob", "alice", "Bob", "root"] {
            logins.push(Login { peer, host, remote, user: "alice" });
        }
        logins.push(Login { peer, host, remote: "bob", user: "root" });
    }
    logins
}

/// What a generated file may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Language {
    /// What both libraries take for the same, without refusals.
    Permissions,
    /// What both take for the same.
    Common,
    /// Everything in which ours may be stricter, but not laxer.
    Stricter,
}

fn file(language: Language) -> impl Strategy<Value = Vec<u8>> {
    let mut hosts = vec![
        "client",
        "CLIENT.example.org",
        "other",
        "multi",
        "mapped",
        "six",
        "SIX",
        "othersix",
        "nowhere",
        "192.0.2.7",
        "192.0.2.8",
        "0xC0000207",
        "192.0.519",
        "::ffff:192.0.2.7",
        "::FFFF:c000:207",
        "2001:db8::7",
        "2001:DB8:0:0::0007",
        "2001:db8::8",
        "+",
        "+@lab",
        "+@nolab",
        "+@none",
    ];
    let mut users = vec!["bob", "alice", "Bob", "carol", "+", "+@staff", "+@none"];
    if language != Language::Permissions {
        hosts.extend([
            "-client",
            "-other",
            "-nowhere",
            "-192.0.2.7",
            "-::ffff:c000:0207",
            "-six",
            "-2001:db8::7",
        ]);
        users.extend(["-bob", "-alice", "-Bob", "-@staff", "-@none"]);
    }
    if language == Language::Stricter {
        hosts.extend([
            "-",
            "-+",
            "-@",
            "+@",
            "-a/b",
            "a/b",
            "*",
            "-@lab",
            "-@none",
            "-*.example.org",
            "h\u{e9}",
        ]);
        users.extend(["-", "-@", "#", "-#", "--bob", "+@", "-+"]);
    }
    let entry = (
        prop::sample::select(hosts),
        prop::option::weighted(0.8, prop::sample::select(users)),
        prop::sample::select(vec![" ", "\t", " \t  "]),
        prop::sample::select(vec!["", " ", "\t", "\r", " more words", " # bob"]),
    )
        .prop_map(move |(host, user, gap, end)| match user {
            Some(user) => format!("{host}{gap}{user}{end}"),
            None => format!("{host}{}", end.trim_end_matches(|c: char| c != '\r')),
        });
    let noise = prop::sample::select(vec!["", "  ", "\t", "\r", "# client bob", "  # + +", "#"]);
    let line = prop_oneof![5 => entry, 1 => noise.prop_map(str::to_owned)];
    (prop::collection::vec(line, 0..7), any::<bool>()).prop_map(|(lines, newline)| {
        let end = if newline && !lines.is_empty() { "\n" } else { "" };
        format!("{}{end}", lines.join("\n")).into_bytes()
    })
}

fn run(
    cases: u32,
    files: impl Strategy<Value = (Vec<u8>, Vec<u8>)>,
    compare: impl Fn(bool, bool) -> bool,
) -> usize {
    let place = Files::new();
    let trusted = std::cell::Cell::new(0);
    let runs = Runs { cases, failure_persistence: None, ..Runs::default() };
    let result = TestRunner::new(runs).run(&files, |(equiv, rhosts)| {
        place.write(&equiv, &rhosts);
        for login in logins() {
            let (theirs, ours) = (c_library_trusts(login), we_trust(login, true));
            trusted.set(trusted.get() + usize::from(ours));
            // A refusal by netgroup stands while the client's name is not confirmed.
            let unproven = login.host.is_none() && equiv.iter().chain(&rhosts).any(|&b| b == b'@');
            prop_assert!(
                compare(theirs, ours) || (unproven && !ours),
                "C library {theirs}, ours {ours}: {login:?}\nhosts.equiv {:?}\n.rhosts {:?}",
                String::from_utf8_lossy(&equiv),
                String::from_utf8_lossy(&rhosts)
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    trusted.get()
}

#[test]
fn what_both_understand_comes_out_the_same() {
    if !inside("what_both_understand_comes_out_the_same") {
        return;
    }
    // A refusal in hosts.equiv before a .rhosts is a difference of its own.
    let files = prop_oneof![
        (file(Language::Permissions), file(Language::Common)),
        (file(Language::Common), Just(Vec::new())),
    ];
    let trusted = run(1500, files, |theirs, ours| theirs == ours);
    assert!(trusted > 3000, "only {trusted} logins were trusted: the test tests little");
}

#[test]
fn ours_is_never_laxer() {
    if !inside("ours_is_never_laxer") {
        return;
    }
    let files = (file(Language::Stricter), file(Language::Stricter));
    let trusted = run(1000, files, |theirs, ours| theirs || !ours);
    assert!(trusted > 500, "only {trusted} logins were trusted: the test tests little");
}

/// A deliberate difference: why, the two files, who comes, and what each says.
struct Difference {
    why: &'static str,
    equiv: &'static [u8],
    rhosts: &'static [u8],
    login: Login,
    theirs: bool,
    ours: bool,
}

const fn stricter(
    why: &'static str,
    equiv: &'static [u8],
    rhosts: &'static [u8],
    login: Login,
) -> Difference {
    Difference { why, equiv, rhosts, login, theirs: true, ours: false }
}

const fn laxer(why: &'static str, equiv: &'static [u8], rhosts: &'static [u8], login: Login) -> Difference {
    Difference { why, equiv, rhosts, login, theirs: false, ours: true }
}

const NAMELESS: Login = Login { host: None, ..BOB };

/// Every deliberate difference from the C library; wildcards are asked about below.
const DIFFERENCES: &[Difference] = &[
    stricter("a host refused in hosts.equiv stays refused", b"-client bob\n", b"client bob\n", BOB),
    stricter("a user refused in hosts.equiv stays refused", b"client -bob\n", b"client bob\n", BOB),
    stricter("-@group needs a confirmed name to be disproved", b"-@nolab bob\nclient bob\n", b"", NAMELESS),
    stricter("a refusal that cannot be read stands", b"-a/b bob\nclient bob\n", b"", BOB),
    stricter("a lone - as a host stands", b"- bob\nclient bob\n", b"", BOB),
    stricter("a lone - as a user stands", b"client -\nclient bob\n", b"", BOB),
    stricter("a client without a name of its own is nobody", b"client +\n", b"", Login { remote: "", ..BOB }),
    stricter(
        "a link-local address names no host",
        b"fe80::7 bob\n",
        b"",
        Login { peer: "fe80::7", host: None, ..BOB },
    ),
    stricter(
        "nor does one of IPv4",
        b"169.254.9.7 bob\n",
        b"",
        Login { peer: "169.254.9.7", host: None, ..BOB },
    ),
    stricter("netgroup names keep their case", b"+@LAB bob\n", b"", BOB),
    laxer("white space before a line does not end the file", b" other carol\nclient bob\n", b"", BOB),
    laxer("an entry may stand behind white space", b"\tclient bob\n", b"", BOB),
    laxer("any white space separates", b"client\x0bbob\n", b"", BOB),
    laxer("+host is a host, as on the BSDs", b"+client bob\n", b"", BOB),
    laxer("+user is a user, as on the BSDs", b"client +bob\n", b"", BOB),
    laxer("a byte order mark is no part of a name", b"\xef\xbb\xbfclient bob\n", b"", BOB),
    laxer(
        "a v4-mapped client is an IPv4 client",
        b"192.0.2.7 bob\n",
        b"",
        Login { peer: "::ffff:192.0.2.7", host: None, ..BOB },
    ),
];

#[test]
fn the_deliberate_differences() {
    if !inside("the_deliberate_differences") {
        return;
    }
    let files = Files::new();
    for Difference { why, equiv, rhosts, login, theirs, ours } in DIFFERENCES {
        files.write(equiv, rhosts);
        assert_eq!(c_library_trusts(*login), *theirs, "the C library: {why}");
        assert_eq!(we_trust(*login, true), *ours, "ours: {why}");
    }
    for (equiv, rhosts) in [("+ bob", ""), ("client +", ""), ("", "+ +"), ("", "+ bob")] {
        files.write(equiv.as_bytes(), rhosts.as_bytes());
        assert!(c_library_trusts(BOB) && we_trust(BOB, true), "{equiv:?} {rhosts:?}");
        assert!(!we_trust(BOB, false), "wildcards only when asked for: {equiv:?} {rhosts:?}");
    }
}

#[test]
fn the_deliberate_differences_in_believing_files() {
    if !inside("the_deliberate_differences_in_believing_files") {
        return;
    }
    let files = Files::new();
    let equiv = Path::new("/etc/hosts.equiv");
    let trusts = |why: &str, theirs: bool, ours: bool| {
        assert_eq!(c_library_trusts(BOB), theirs, "the C library: {why}");
        assert_eq!(we_trust(BOB, true), ours, "ours: {why}");
    };
    files.write(b"other\n", b"client bob\n");
    trusts("all is well", true, true);
    own(equiv, "root", 0o666);
    trusts("while hosts.equiv is not believed, its refusals are unknown", true, false);
    own(equiv, "root", 0o644);
    own(&home("alice"), "alice", 0o777);
    trusts("a home directory that others can write", true, false);
    own(&home("alice"), "root", 0o755);
    trusts("a home directory of root is as good", true, true);
    chown(home("alice"), Some(61_235), None).unwrap();
    trusts("a home directory of another user", true, false);
    own(&home("alice"), "alice", 0o755);
    files.write(b"", &[b"#".repeat(1 << 20).as_slice(), b"\nclient bob\n"].concat());
    trusts("a file of a megabyte or more", true, false);
    // Both refuse these.
    files.write(b"", b"client bob\n");
    let rhosts = home("alice").join(".rhosts");
    own(&rhosts, "alice", 0o664);
    trusts("a file that others can write", false, false);
    own(&rhosts, "alice", 0o644);
    fs::hard_link(&rhosts, home("alice").join("link")).unwrap();
    trusts("a file with two links", false, false);
    fs::remove_file(home("alice").join("link")).unwrap();
    trusts("all is well again", true, true);
}
