//! The lines of the audit log: what each event looks like, and that nothing
//! from outside can forge or hide a part of one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so a test fails")]

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rlogind::audit::Event;
use rlogind::audit::event::{EndedBy, LoginEvent, SessionEnd, Via};
use rlogind::audit::format::{Severity, line};

fn peer() -> SocketAddr {
    "[::ffff:192.0.2.7]:1023".parse().unwrap()
}

fn login(event: LoginEvent) -> Event {
    Event::Login { peer: peer(), tty: "pts/3".into(), event, count: 1 }
}

/// A login's event that stands for so many.
fn counted(mut event: Event, times: u32) -> Event {
    let Event::Login { count, .. } = &mut event else { panic!("{event:?}") };
    *count = times;
    event
}

fn closed(end: SessionEnd) -> Event {
    Event::SessionClosed {
        peer: "[2001:db8::7]:1022".parse().unwrap(),
        tty: "pts/3".into(),
        user: "alice".into(),
        duration: Duration::from_millis(3_600_042),
        bytes_in: 12,
        bytes_out: 34_567,
        end,
        by: None,
    }
}

fn ended_by(by: EndedBy, how: SessionEnd) -> Event {
    let mut event = closed(how);
    let Event::SessionClosed { by: place, .. } = &mut event else { panic!("{event:?}") };
    *place = Some(by);
    event
}

fn trust_granted(wildcard: bool) -> Event {
    login(LoginEvent::TrustGranted {
        user: "alice".into(),
        remote_user: "bob".into(),
        host: Some("host.example".into()),
        file: "/etc/hosts.equiv".into(),
        line: 3,
        wildcard,
    })
}

fn daemon_table() -> Vec<(Event, Severity, &'static str)> {
    use Severity::{Error, Info, Notice, Warning};
    let listen = vec!["0.0.0.0:513".parse().unwrap(), "[::]:513".parse().unwrap()];
    let refused = |count| Event::Refused { peer: peer(), reason: "locuser too long".into(), count };
    vec![
        (
            Event::Started { version: "0.1.0".into(), listen },
            Notice,
            r#"rlogind 0.1.0 started, listening on 0.0.0.0:513, [::]:513 event="started" version="0.1.0" listen="0.0.0.0:513, [::]:513""#,
        ),
        (
            Event::Started { version: "0.1.0".into(), listen: vec![] },
            Notice,
            r#"rlogind 0.1.0 started event="started" version="0.1.0""#,
        ),
        (
            Event::Stopped { cause: "SIGTERM".into() },
            Notice,
            r#"rlogind stopped: SIGTERM event="stopped" cause="SIGTERM""#,
        ),
        (
            Event::Control { uid: 1000, pid: 77, command: "kill 3 (alice on pts/3)".into(), count: 1 },
            Notice,
            r#"user 1000 (process 77) asked for: kill 3 (alice on pts/3) event="control" uid="1000" pid="77" command="kill 3 (alice on pts/3)""#,
        ),
        (
            Event::ConfigRead { path: "/etc/rlogind.toml".into(), count: 1 },
            Info,
            r#"configuration read from /etc/rlogind.toml event="config-read" path="/etc/rlogind.toml""#,
        ),
        (
            Event::ConfigRefused {
                path: "/etc/rlogind.toml".into(),
                error: "line 3: no key \"x\"".into(),
                count: 1,
            },
            Error,
            r#"configuration /etc/rlogind.toml refused, nothing changed: line 3: no key \x22x\x22 event="config-refused" path="/etc/rlogind.toml" error="line 3: no key \x22x\x22""#,
        ),
        (
            Event::Warning { text: "the relay account is missing".into() },
            Warning,
            r#"the relay account is missing event="warning""#,
        ),
        (
            Event::CommandWarning { text: "no upgrade to /x, nothing changed: it is none".into(), count: 1 },
            Warning,
            r#"no upgrade to /x, nothing changed: it is none event="warning""#,
        ),
        (
            Event::CommandWarning { text: "no upgrade to /x, nothing changed: it is none".into(), count: 7 },
            Warning,
            r#"7 times, the last time: no upgrade to /x, nothing changed: it is none event="warning" count="7""#,
        ),
        (
            Event::ConfigRead { path: "/etc/rlogind.toml".into(), count: 7 },
            Info,
            r#"7 times, the last time: configuration read from /etc/rlogind.toml event="config-read" path="/etc/rlogind.toml" count="7""#,
        ),
        (
            Event::ModuleLines { peer: peer(), count: 36 },
            Notice,
            r#"lines of PAM modules left out: 36, the last of a login from 192.0.2.7 event="module-lines" address="192.0.2.7" port="1023" count="36""#,
        ),
        (
            Event::Connection { peer: peer(), via: Via::Rlogin, count: 1 },
            Info,
            r#"rlogin connection from 192.0.2.7 port 1023 event="connection" address="192.0.2.7" port="1023" via="rlogin""#,
        ),
        (
            Event::Connection { peer: "[2001:db8::7]:1022".parse().unwrap(), via: Via::Tcpmux, count: 1 },
            Info,
            r#"tcpmux connection from 2001:db8::7 port 1022 event="connection" address="2001:db8::7" port="1022" via="tcpmux""#,
        ),
        (
            Event::Connection { peer: peer(), via: Via::Inetd, count: 1 },
            Info,
            r#"inetd connection from 192.0.2.7 port 1023 event="connection" address="192.0.2.7" port="1023" via="inetd""#,
        ),
        (
            refused(1),
            Notice,
            r#"connection from 192.0.2.7 port 1023 refused: locuser too long event="refused" address="192.0.2.7" port="1023" reason="locuser too long""#,
        ),
        (
            refused(3),
            Notice,
            r#"3 connections refused, the last from 192.0.2.7 port 1023: locuser too long event="refused" address="192.0.2.7" port="1023" reason="locuser too long" count="3""#,
        ),
        (
            Event::Connection { peer: peer(), via: Via::Tcpmux, count: 3 },
            Info,
            r#"3 more connections, the last by tcpmux from 192.0.2.7 port 1023 event="connection" address="192.0.2.7" port="1023" via="tcpmux" count="3""#,
        ),
        (
            Event::Shortage { text: "no client can be accepted".into(), count: 1 },
            Warning,
            r#"no client can be accepted event="shortage""#,
        ),
        (
            Event::Shortage { text: "no client can be accepted".into(), count: 3 },
            Warning,
            r#"3 times: no client can be accepted event="shortage" count="3""#,
        ),
        (
            Event::Lost { lines: 27 },
            Warning,
            r#"audit lines lost because syslog did not take them: 27 event="lines-lost" lines="27""#,
        ),
    ]
}

fn trust_table() -> Vec<(Event, Severity, &'static str)> {
    use Severity::{Info, Notice, Warning};
    let host = || Some("host.example".to_owned());
    let user = || Some("alice".to_owned());
    let file = "/home/alice/.rhosts".to_owned();
    vec![
        (
            trust_granted(false),
            Info,
            r#"alice trusted from bob at host.example (192.0.2.7) by the rule at /etc/hosts.equiv:3 event="trust-granted" user="alice" remote_user="bob" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" file="/etc/hosts.equiv" line="3" wildcard="no""#,
        ),
        (
            trust_granted(true),
            Warning,
            r#"alice trusted from bob at host.example (192.0.2.7) by the wildcard rule at /etc/hosts.equiv:3 event="trust-granted" user="alice" remote_user="bob" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" file="/etc/hosts.equiv" line="3" wildcard="yes""#,
        ),
        (
            login(LoginEvent::TrustDenied { user: user(), host: host(), file: file.clone(), line: 7 }),
            Notice,
            r#"alice not trusted from host.example (192.0.2.7) by the rule at /home/alice/.rhosts:7 event="trust-denied" user="alice" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" file="/home/alice/.rhosts" line="7""#,
        ),
        (
            login(LoginEvent::TrustDenied { user: None, host: None, file, line: 7 }),
            Notice,
            r#"an unknown user not trusted from 192.0.2.7 by the rule at /home/alice/.rhosts:7 event="trust-denied" address="192.0.2.7" port="1023" tty="pts/3" file="/home/alice/.rhosts" line="7""#,
        ),
        (
            login(LoginEvent::TrustAbsent { user: user(), host: host(), reason: "no rule".into() }),
            Info,
            r#"alice not trusted from host.example (192.0.2.7): no rule event="trust-absent" user="alice" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" reason="no rule""#,
        ),
        (
            login(LoginEvent::TrustAbsent { user: None, host: None, reason: "no rule".into() }),
            Info,
            r#"an unknown user not trusted from 192.0.2.7: no rule event="trust-absent" address="192.0.2.7" port="1023" tty="pts/3" reason="no rule""#,
        ),
    ]
}

fn login_table() -> Vec<(Event, Severity, &'static str)> {
    use Severity::{Info, Notice, Warning};
    let host = || Some("host.example".to_owned());
    let failed =
        |user, host| login(LoginEvent::PasswordFailed { user, host, attempt: 2, reason: "wrong".into() });
    vec![
        (
            login(LoginEvent::PasswordAccepted { user: "alice".into(), host: host() }),
            Info,
            r#"password accepted for alice from host.example (192.0.2.7) event="password-accepted" user="alice" host="host.example" address="192.0.2.7" port="1023" tty="pts/3""#,
        ),
        (
            failed(Some("alice".into()), host()),
            Notice,
            r#"password failed for alice from host.example (192.0.2.7), attempt 2: wrong event="password-failed" user="alice" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" attempt="2" reason="wrong""#,
        ),
        (
            failed(None, None),
            Notice,
            r#"password failed for an unknown user from 192.0.2.7, attempt 2: wrong event="password-failed" user="(unknown)" address="192.0.2.7" port="1023" tty="pts/3" attempt="2" reason="wrong""#,
        ),
        (
            counted(failed(Some("alice".into()), host()), 290),
            Notice,
            r#"290 times, the last time: password failed for alice from host.example (192.0.2.7), attempt 2: wrong event="password-failed" user="alice" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" attempt="2" reason="wrong" count="290""#,
        ),
        (
            login(LoginEvent::AccountRefused { user: "alice".into(), host: None, reason: "expired".into() }),
            Notice,
            r#"account alice refused from 192.0.2.7: expired event="account-refused" user="alice" address="192.0.2.7" port="1023" tty="pts/3" reason="expired""#,
        ),
        (
            login(LoginEvent::Abandoned { reason: "timed out".into() }),
            Notice,
            r#"login from 192.0.2.7 given up: timed out event="login-abandoned" address="192.0.2.7" port="1023" tty="pts/3" reason="timed out""#,
        ),
        (
            login(LoginEvent::Opened {
                user: "alice".into(),
                remote_user: Some("bob".into()),
                host: host(),
                pid: 4711,
            }),
            Info,
            r#"session opened for alice from bob at host.example (192.0.2.7) on pts/3 event="session-opened" user="alice" remote_user="bob" host="host.example" address="192.0.2.7" port="1023" tty="pts/3" pid="4711""#,
        ),
        (
            login(LoginEvent::Opened { user: "alice".into(), remote_user: None, host: None, pid: 4711 }),
            Info,
            r#"session opened for alice from 192.0.2.7 on pts/3 event="session-opened" user="alice" address="192.0.2.7" port="1023" tty="pts/3" pid="4711""#,
        ),
        (
            login(LoginEvent::Trouble { user: "alice".into(), text: "no home directory".into() }),
            Warning,
            r#"trouble for alice from 192.0.2.7: no home directory event="session-trouble" user="alice" address="192.0.2.7" port="1023" tty="pts/3""#,
        ),
        (
            login(LoginEvent::BannerNotShown {
                file: "/etc/issue.net".into(),
                reason: "not a regular file".into(),
            }),
            Warning,
            r#"banner /etc/issue.net not shown to 192.0.2.7: not a regular file event="banner-not-shown" address="192.0.2.7" port="1023" tty="pts/3" file="/etc/issue.net" reason="not a regular file""#,
        ),
    ]
}

fn closed_table() -> Vec<(Event, Severity, &'static str)> {
    use Severity::{Info, Notice, Warning};
    vec![
        (
            closed(SessionEnd::Exited(1)),
            Info,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: exited with status 1 event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="exited" status="1" bytes_in="12" bytes_out="34567""#,
        ),
        (
            closed(SessionEnd::Signaled(9)),
            Info,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: ended by signal 9 event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="signaled" signal="9" bytes_in="12" bytes_out="34567""#,
        ),
        (
            closed(SessionEnd::LeftRunning),
            Notice,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: the client is gone and the shell goes on event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="left-running" bytes_in="12" bytes_out="34567""#,
        ),
        (
            closed(SessionEnd::Lost),
            Warning,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: the session process ended before the shell event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="lost" bytes_in="12" bytes_out="34567""#,
        ),
        (
            ended_by(EndedBy::Kill { uid: 1000 }, SessionEnd::Signaled(1)),
            Info,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: user 1000 asked to kill it, ended by signal 1 event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="signaled" signal="1" by="kill" uid="1000" bytes_in="12" bytes_out="34567""#,
        ),
        (
            ended_by(EndedBy::Client, SessionEnd::Signaled(1)),
            Info,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: the client left, ended by signal 1 event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="signaled" signal="1" by="client" bytes_in="12" bytes_out="34567""#,
        ),
        (
            ended_by(EndedBy::Client, SessionEnd::LeftRunning),
            Notice,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: the client is gone and the shell goes on event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="left-running" by="client" bytes_in="12" bytes_out="34567""#,
        ),
        (
            ended_by(EndedBy::Stop, SessionEnd::LeftRunning),
            Notice,
            r#"session closed for alice from 2001:db8::7 on pts/3 after 3600.042s: rlogind stops, the client is gone and the shell goes on event="session-closed" user="alice" address="2001:db8::7" port="1022" tty="pts/3" duration="3600.042s" end="left-running" by="stop" bytes_in="12" bytes_out="34567""#,
        ),
    ]
}

#[test]
fn every_event_has_its_line() {
    for (event, severity, text) in
        [daemon_table(), trust_table(), login_table(), closed_table()].into_iter().flatten()
    {
        let line = line(&event);
        assert_eq!((line.severity, line.text.as_str()), (severity, text));
    }
}

/// Every event that holds a string, with the given one wherever there is one.
fn filled(s: &str) -> Vec<Event> {
    let login = |event| Event::Login { peer: peer(), tty: s.to_owned(), event, count: u32::MAX };
    let (text, some) = (|| s.to_owned(), || Some(s.to_owned()));
    vec![
        Event::Started { version: text(), listen: vec![peer(); 200] },
        Event::Stopped { cause: text() },
        Event::Control { uid: 0, pid: 1, command: text(), count: 1 },
        Event::ConfigRead { path: text(), count: 1 },
        Event::ConfigRefused { path: text(), error: text(), count: 1 },
        Event::Warning { text: text() },
        Event::CommandWarning { text: text(), count: u32::MAX },
        Event::Refused { peer: peer(), reason: text(), count: u32::MAX },
        Event::Shortage { text: text(), count: u32::MAX },
        login(LoginEvent::TrustGranted {
            user: text(),
            remote_user: text(),
            host: some(),
            file: text(),
            line: u32::MAX,
            wildcard: true,
        }),
        login(LoginEvent::TrustDenied { user: some(), host: some(), file: text(), line: u32::MAX }),
        login(LoginEvent::TrustAbsent { user: some(), host: some(), reason: text() }),
        login(LoginEvent::PasswordAccepted { user: text(), host: some() }),
        login(LoginEvent::PasswordFailed { user: some(), host: some(), attempt: u32::MAX, reason: text() }),
        login(LoginEvent::AccountRefused { user: text(), host: some(), reason: text() }),
        login(LoginEvent::Abandoned { reason: text() }),
        login(LoginEvent::Opened { user: text(), remote_user: some(), host: some(), pid: u32::MAX }),
        login(LoginEvent::Trouble { user: text(), text: text() }),
        login(LoginEvent::BannerNotShown { file: text(), reason: text() }),
        Event::SessionClosed {
            peer: "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(),
            tty: text(),
            user: text(),
            duration: Duration::MAX,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            end: SessionEnd::Signaled(i32::MIN),
            by: Some(EndedBy::Kill { uid: u32::MAX }),
        },
    ]
}

/// Takes a line apart again, as a log reader would: the sentence, and the
/// fields with their escapes undone.
fn parse(line: &str) -> (String, Vec<(String, Vec<u8>)>) {
    let (sentence, _) = line.split_once(" event=\"").expect("an event field");
    let mut rest = &line[sentence.len()..];
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest.strip_prefix(' ').unwrap().split_once("=\"").expect("a key");
        let (value, after) = after.split_once('"').expect("a closing quote");
        assert!(key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "key {key:?}");
        fields.push((key.to_owned(), unescape(value)));
        rest = after;
    }
    (sentence.to_owned(), fields)
}

fn unescape(value: &str) -> Vec<u8> {
    let mut pieces = value.split('\\');
    let mut out = pieces.next().unwrap().as_bytes().to_vec();
    for piece in pieces {
        assert_eq!(&piece[..1], "x");
        out.push(u8::from_str_radix(&piece[1..3], 16).unwrap());
        out.extend_from_slice(&piece.as_bytes()[3..]);
    }
    out
}

fn forbidden(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// Checks all lines that a hostile string can be in against those of a tame one.
fn check(hostile: &str) {
    for (event, tame) in filled(hostile).iter().zip(filled("x")) {
        let text = line(event).text;
        assert!(text.len() < 2048, "{} bytes", text.len());
        assert!(!text.chars().any(forbidden), "{text:?}");
        let (sentence, fields) = parse(&text);
        let (tame_sentence, tame_fields) = parse(&line(&tame).text);
        assert!(!sentence.contains('"'));
        let keys = |fields: &[(String, Vec<u8>)]| fields.iter().map(|f| f.0.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&fields), keys(&tame_fields), "{text}");
        for ((key, value), (_, tame)) in fields.iter().zip(&tame_fields) {
            if tame != b"x" {
                assert_eq!(value, tame, "{key} is not what the string was put into");
            } else if let Some(kept) = value.strip_suffix(b"...").filter(|_| value != hostile.as_bytes()) {
                assert!(hostile.as_bytes().starts_with(kept), "{key} in {text}");
            } else {
                assert_eq!(value, hostile.as_bytes(), "{key} in {text}");
            }
        }
        // Names are one word each and free text comes last, so our own words
        // stand where they always stand.
        for (word, tame) in sentence.split(' ').zip(tame_sentence.split(' ')) {
            assert!(word == tame || tame == "x" || tame.starts_with("x:"), "{sentence}");
        }
        let free_text = [": x", "read from x"].iter().any(|end| tame_sentence.ends_with(end));
        if !free_text && tame_sentence != "x" {
            assert_eq!(sentence.split(' ').count(), tame_sentence.split(' ').count(), "{sentence}");
        }
    }
}

#[test]
fn hostile_strings_stay_inside_their_fields() {
    for hostile in [
        "",
        "\" event=\"session-opened\" user=\"root",
        "\\\" user=\"root\"",
        "\\x22",
        "bob at trusted.example (10.0.0.1) on pts/0",
        "a\nNov 21 06:51:00 rlogind[1]: session opened for root",
        "\0\x1b]0;title\x07\u{9b}2J",
        "\u{202e}toor\u{2066}",
        "a\u{2028}b\u{a0}c\u{3000}d",
        "...",
    ] {
        check(hostile);
    }
    for c in ["a", "\"", " ", "é", "\u{202e}", "\u{10ffff}", "日"] {
        check(&c.repeat(5000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_string_stays_inside_its_fields(s in any::<String>()) {
        check(&s);
    }

    #[test]
    fn strings_of_hostile_parts_stay_inside_their_fields(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "\"", "\\", " ", "=", "x", "event=", "user", "\n", "\0", "\x1b", "\x7f", "\u{85}", "\u{200e}",
                "\u{202e}", "\u{2066}", "\u{feff}", "é", "...", "\\x22", "\u{e0041}", "🦀",
            ]),
            0..200,
        )
    ) {
        check(&parts.concat());
    }
}
