//! Every mistake in a configuration file is answered with one line that names
//! the file, the line and the key.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rlogind::config::{self, Config, Error, Rule, RuleHost, RuleVerdict, Startups};

mod safe_folder;

const FILE: &str = "/etc/rlogind.toml";

fn parse(text: &str) -> Result<Config, Error> {
    config::parse(text, Path::new(FILE))
}

/// Each text is wrong; the message must be the whole of what stands behind the file's name.
#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (text, message) in table {
        let error = parse(text).expect_err(text).to_string();
        assert_eq!(error, format!("{FILE}:{message}"), "{text}");
    }
}

#[test]
fn unknown_keys() {
    check(&[
        (
            "port = 513",
            r#"1: port: unknown key; the top level has listen, user, control, allow, deny, trust, login, limits, tcpmux, audit"#,
        ),
        ("\nusr = \"x\"", r#"2: usr: unknown key, did you mean "user"?"#),
        ("[trust]\nwildcard = true", r#"2: trust.wildcard: unknown key, did you mean "wildcards"?"#),
        ("trust.rhost = true", r#"1: trust.rhost: unknown key, did you mean "rhosts"?"#),
        ("[login]\nroot = \"no\"\nattempt = 1", r#"3: login.attempt: unknown key, did you mean "attempts"?"#),
        ("[limits]\nper-source = 1", r#"2: limits.per-source: unknown key, did you mean "per_source"?"#),
        (
            "[limits]\nlisten = []",
            "2: limits.listen: unknown key; [limits] has sessions, per_source, startups, handshake, login, idle, unacknowledged, keepalive",
        ),
        ("[tcpmux]\nenable = true", r#"2: tcpmux.enable: unknown key, did you mean "enabled"?"#),
        ("[tcpmux]\nport = 1", "2: tcpmux.port: unknown key; [tcpmux] has enabled, listen, services, help"),
        ("[audit]\nlevel = 1", "2: audit.level: unknown key; [audit] has facility, records"),
        ("[trusts]\nrhosts = true", r#"1: trusts: unknown key, did you mean "trust"?"#),
        (
            "[[trust.rule]]\nform = [\"::1\"]\nverdict = \"trust\"",
            "2: trust.rule.form: unknown key; [trust.rule] has from, remote_users, users, verdict",
        ),
    ]);
}

/// Whoever mends one must not have to try again to hear of the next.
#[test]
fn all_that_is_wrong_is_said_at_once_by_lines() {
    check(&[
        (
            "[trust]\nrhosts = 1\n[limit]\n[login]\nattempts = 0\nrot = 1\n[audit]\nrecords = \"x\"",
            "2: trust.rhosts: expected a boolean, found an integer; line 3: limit: unknown key, did you mean \"limits\"?; \
             line 5: login.attempts: must be from 1 to 100, not 0; line 6: login.rot: unknown key, did you mean \"root\"?; \
             line 8: audit.records: expected \"auto\" or \"yes\" or \"no\", found \"x\"",
        ),
        // Each entry of a list, and no error that only follows from another one.
        (
            "listen = [\"513\",\n\"0.0.0.0:513\",\n1]",
            "1: listen: \"513\" is not ADDRESS:PORT (0.0.0.0:513 is every IPv4 address, [::]:513 every address); \
             line 3: listen: expected an address in a string, found an integer",
        ),
        (
            "[[trust.rule]]\nverdict = \"yes\"\n[[trust.rule]]\nusers = []\nverdct = \"trust\"\n[[trust.rule]]",
            "2: trust.rule.verdict: expected \"trust\" or \"password\" or \"refuse\", found \"yes\"; \
             line 4: trust.rule.users: an empty list: name something, or leave the key out; \
             line 5: trust.rule.verdct: unknown key, did you mean \"verdict\"?; \
             line 6: trust.rule.verdict: missing: \"trust\", \"password\" or \"refuse\"",
        ),
    ]);
    let error = parse("zz = 1\naa = 1").unwrap_err();
    let lines: Vec<String> = error.sentences().collect();
    assert!(
        lines[0].starts_with("/etc/rlogind.toml:1: zz: ")
            && lines[1].starts_with("/etc/rlogind.toml:2: aa: ")
    );
    assert_eq!((lines.len(), error.line(), error.key()), (2, Some(1), "zz"));
}

#[test]
fn wrong_types() {
    check(&[
        ("listen = \"0.0.0.0:513\"", "1: listen: expected an array of addresses, found a string"),
        (
            "listen = [\n\"0.0.0.0:513\",\n513]",
            "3: listen: expected an address in a string, found an integer",
        ),
        ("user = 1", "1: user: expected a string, found an integer"),
        ("control = true", "1: control: expected a table, found a boolean"),
        ("[control]\nsocket = 1", "2: control.socket: expected a string, found an integer"),
        (
            "[control]\ngroup = \"a b\"",
            r#"2: control.group: "a b" is not a name: it has ':', '/' or white space"#,
        ),
        ("allow = \"0.0.0.0/0\"", "1: allow: expected an array of networks, found a string"),
        ("deny = [1]", "1: deny: expected a network in a string, found an integer"),
        ("trust = true", "1: trust: expected a table, found a boolean"),
        ("[[login]]\nroot = \"no\"", "1: login: expected a table, found an array"),
        ("[trust]\n\nwildcards = \"yes\"", "3: trust.wildcards: expected a boolean, found a string"),
        ("[trust]\nhosts_equiv = 1", "2: trust.hosts_equiv: expected a boolean, found an integer"),
        ("[trust]\nrhosts = []", "2: trust.rhosts: expected a boolean, found an array"),
        ("[trust]\nnetgroups = {}", "2: trust.netgroups: expected a boolean, found a table"),
        (
            "[trust]\nfiles_from = \"::/0\"",
            "2: trust.files_from: expected an array of networks, found a string",
        ),
        ("[trust.rule]\nverdict = \"trust\"", "1: trust.rule: expected [[trust.rule]] tables, found a table"),
        ("[trust]\nrule = [1]", "2: trust.rule: expected a table, found an integer"),
        (
            "[[trust.rule]]\nverdict = \"refuse\"\nusers = \"root\"",
            "3: trust.rule.users: expected an array of strings, found a string",
        ),
        ("[login]\npam_service = 1.5", "2: login.pam_service: expected a string, found a float"),
        (
            "[login]\nroot = false",
            r#"2: login.root: expected "no" or "password" or "trust", found a boolean"#,
        ),
        ("[login]\nattempts = \"3\"", "2: login.attempts: expected an integer, found a string"),
        ("[login]\nattempts = 3.0", "2: login.attempts: expected an integer, found a float"),
        ("[login]\nbanner = false", "2: login.banner: expected a string, found a boolean"),
        ("[limits]\nstartups = 1.5", "2: limits.startups: expected an integer, found a float"),
        (
            "[limits]\nunacknowledged = 10",
            r#"2: limits.unacknowledged: expected a duration such as "10s", found an integer"#,
        ),
        (
            "[limits]\nhandshake = 10",
            r#"2: limits.handshake: expected a duration such as "10s", found an integer"#,
        ),
        (
            "[limits]\nidle = 12:00:00",
            r#"2: limits.idle: expected a duration such as "10s", found a date or time"#,
        ),
        ("[tcpmux]\nenabled = \"true\"", "2: tcpmux.enabled: expected a boolean, found a string"),
        (
            "[tcpmux]\nservices = \"login\"",
            "2: tcpmux.services: expected an array of strings, found a string",
        ),
        ("[tcpmux]\nservices = [1]", "2: tcpmux.services: expected a string, found an integer"),
        ("[tcpmux]\nhelp = \"no\"", "2: tcpmux.help: expected a boolean, found a string"),
        ("[audit]\nfacility = 10", "2: audit.facility: expected a string, found an integer"),
        ("[audit]\nrecords = true", r#"2: audit.records: expected "auto" or "yes" or "no", found a boolean"#),
    ]);
}

#[test]
fn impossible_values() {
    check(&[
        ("listen = []", "1: listen: an empty list: nothing to listen on"),
        ("listen = [\"0.0.0.0:0\"]", r#"1: listen: "0.0.0.0:0" has port 0"#),
        (
            "listen = [\"::513\"]",
            r#"1: listen: "::513" is not ADDRESS:PORT (an IPv6 address goes in brackets: [::1]:513)"#,
        ),
        ("listen = [\n\"[::]:513\",\n\"[0::0]:513\"]", "3: listen: [::]:513 stands there twice"),
        (
            "listen = [\"127.0.0.1:513\", \"[::ffff:127.0.0.1]:513\"]",
            "1: listen: 127.0.0.1:513 stands there twice",
        ),
        ("user = \"\"", "1: user: an empty name"),
        ("user = \"-x\"", r#"1: user: "-x" is not a name: it starts with '-', '+' or '@'"#),
        ("user = \"root\"", "1: user: the relay must not run as root"),
        ("control = \"run/control\"", r#"1: control: "run/control" is not the absolute path of a file"#),
        ("control = \"/a\\u0000b\"", r#"1: control: "/a\0b" has a control character"#),
        (
            "deny = [\"host\"]",
            r#"1: deny: "host" is not a network: an address, or one with the length of its prefix, such as 192.0.2.0/24; a name does not do here"#,
        ),
        (
            "allow = [\"192.0.2.1/24\"]",
            r#"1: allow: "192.0.2.1/24" has bits beyond its prefix; is 192.0.2.0/24 meant?"#,
        ),
        (
            "[trust]\nfiles_from = [\"192.0.2.0/33\"]",
            r#"2: trust.files_from: "192.0.2.0/33" is not a network: an address, or one with the length of its prefix, such as 192.0.2.0/24"#,
        ),
        (
            "[trust]\nfiles_from = [\"192.0.2.1/24\"]",
            r#"2: trust.files_from: "192.0.2.1/24" has bits beyond its prefix; is 192.0.2.0/24 meant?"#,
        ),
        (
            "[login]\npam_service = \"../x\"",
            r#"2: login.pam_service: "../x" is not the name of a PAM service (lower case, digits, '-', '_', '.')"#,
        ),
        ("[login]\nroot = \"yes\"", r#"2: login.root: expected "no" or "password" or "trust", found "yes""#),
        (
            "[login]\nunreserved_port = \"trust\"",
            r#"2: login.unreserved_port: expected "password" or "refuse", found "trust""#,
        ),
        ("[login]\nattempts = 0", "2: login.attempts: must be from 1 to 100, not 0"),
        ("[login]\nattempts = 101", "2: login.attempts: must be from 1 to 100, not 101"),
        ("[login]\nattempts = -1", "2: login.attempts: must be from 1 to 100, not -1"),
        ("[login]\nattempts = 4_294_967_297", "2: login.attempts: must be from 1 to 100, not 4294967297"),
        ("[login]\nbanner = \"issue\"", r#"2: login.banner: "issue" is not the absolute path of a file"#),
        ("[limits]\nsessions = 0", "2: limits.sessions: must be from 1 to 1000000, not 0"),
        ("[limits]\nper_source = 0", "2: limits.per_source: must be from 1 to 1000000, not 0"),
        ("[limits]\nstartups = 0", "2: limits.startups: must be from 1 to 1000000, not 0"),
        (
            "[limits]\nstartups = \"10:30\"",
            r#"2: limits.startups: "10:30" is neither a number nor START:RATE:FULL, three numbers"#,
        ),
        (
            "[limits]\nstartups = \"10:30:9\"",
            r#"2: limits.startups: "10:30:9": START:RATE:FULL must be 1 or more, 1 to 100, and not less than the first and not more than 1000000"#,
        ),
        ("[limits]\nunacknowledged = \"999ms\"", "2: limits.unacknowledged: must be 0s, or from 1s to 24h"),
        ("[limits]\nunacknowledged = \"25h\"", "2: limits.unacknowledged: must be 0s, or from 1s to 24h"),
        ("[limits]\nhandshake = \"0s\"", "2: limits.handshake: must be more than 0s and not more than 1h"),
        ("[limits]\nhandshake = \"61m\"", "2: limits.handshake: must be more than 0s and not more than 1h"),
        ("[limits]\nlogin = \"0s\"", "2: limits.login: must be more than 0s and not more than 24h"),
        ("[limits]\nidle = \"10\"", r#"2: limits.idle: "10" is not a number with a unit: ms, s, m, h or d"#),
        ("[tcpmux]\nlisten = []", "2: tcpmux.listen: an empty list: nothing to listen on"),
        ("[tcpmux]\nservices = []", "2: tcpmux.services: an empty list: nothing to offer"),
        ("[tcpmux]\nservices = [\"login\",\n\"LOGIN\"]", r#"3: tcpmux.services: "LOGIN" stands there twice"#),
        (
            "[tcpmux]\nservices = [\"Help\"]",
            r#"2: tcpmux.services: "Help" asks for the names of the services, and cannot be one"#,
        ),
        (
            "[tcpmux]\nservices = [\"+login\"]",
            r#"2: tcpmux.services: "+login" is not a service's name (letters, digits, '-', '_', '.')"#,
        ),
        (
            "[tcpmux]\nservices = [\"a b\"]",
            r#"2: tcpmux.services: "a b" is not a service's name (letters, digits, '-', '_', '.')"#,
        ),
        (
            "[tcpmux]\nservices = [\"\"]",
            r#"2: tcpmux.services: "" is not a service's name (letters, digits, '-', '_', '.')"#,
        ),
        (
            "[audit]\nfacility = \"secret\"",
            r#"2: audit.facility: "secret" is no syslog facility: auth, authpriv, cron, daemon, ftp, kern, lpr, mail, news, syslog, user, uucp, local0, local1, local2, local3, local4, local5, local6, local7"#,
        ),
        ("[audit]\nrecords = \"\"", r#"2: audit.records: expected "auto" or "yes" or "no", found """#),
    ]);
}

/// Each client is compared with all of them, and the relay is told of them in one message.
#[test]
fn lists_that_are_too_long() {
    let list = |entry: &str, count: usize| format!("[{}]", vec![format!("\"{entry}\""); count].join(", "));
    for key in ["allow", "deny"] {
        assert!(parse(&format!("{key} = {}", list("192.0.2.0/24", 256))).is_ok());
        let text = format!("{key} = {}", list("192.0.2.0/24", 257));
        check(&[(&text, &format!("1: {key}: 257 entries; there may be 256 at most"))]);
    }
    let names = |count: usize| (0..count).map(|n| format!("\"s{n}\"")).collect::<Vec<_>>().join(", ");
    assert!(parse(&format!("[tcpmux]\nservices = [{}]", names(32))).is_ok());
    let text = format!("[tcpmux]\nservices = [{}]", names(33));
    check(&[(&text, "2: tcpmux.services: 33 entries; there may be 32 at most")]);
}

#[test]
fn impossible_rules() {
    check(&[
        (
            "\n\n[[trust.rule]]\nusers = [\"alice\"]",
            r#"3: trust.rule.verdict: missing: "trust", "password" or "refuse""#,
        ),
        (
            "[[trust.rule]]\nverdict = \"trust\"",
            r#"1: trust.rule.from: missing, and the rule trusts: name the networks, or write ["0.0.0.0/0", "::/0"]"#,
        ),
        (
            "[[trust.rule]]\nfrom = []\nverdict = \"trust\"",
            "2: trust.rule.from: an empty list: name something, or leave the key out",
        ),
        (
            "[[trust.rule]]\nverdict = \"refuse\"\nusers = []",
            "3: trust.rule.users: an empty list: name something, or leave the key out",
        ),
        (
            "[[trust.rule]]\nverdict = \"allow\"",
            r#"2: trust.rule.verdict: expected "trust" or "password" or "refuse", found "allow""#,
        ),
        (
            "[[trust.rule]]\nverdict = \"refuse\"\n[[trust.rule]]\nverdict = \"refuse\"\nfrom = [\n\"host\",\n\"10.1\"]",
            r#"7: trust.rule.from: "10.1" is neither a network, nor an address, nor a host name"#,
        ),
        (
            "[[trust.rule]]\nverdict = \"refuse\"\nusers = [\"+\"]",
            r#"3: trust.rule.users: "+" is not a name: it starts with '-', '+' or '@'"#,
        ),
        (
            "[[trust.rule]]\nverdict = \"refuse\"\nremote_users = [\"+@staff\"]",
            r#"3: trust.rule.remote_users: "+@staff" is not a name: it starts with '-', '+' or '@'"#,
        ),
    ]);
}

/// There is no key path in what is not TOML, so the message shows the line.
#[test]
fn what_is_not_toml() {
    for (text, line, shown) in [
        ("user = nobody", 1, "user = nobody"),
        ("[trust]\nrhosts = yes", 2, "rhosts = yes"),
        ("[trust]\n\nrhosts true\n", 3, "rhosts true"),
        ("[login]\nattempts = 1\nattempts = 2\n", 3, "attempts = 2"),
        ("user = \"x\n", 1, "user = "),
        ("[trust\nrhosts = true", 1, "[trust"),
        ("[trust]\n[login]\n[trust]\n", 3, "[trust]"),
        ("user = \"a\"\nuser.name = 1", 2, "user.name = 1"),
    ] {
        let error = parse(text).expect_err(text);
        let message = error.to_string();
        assert!(message.starts_with(&format!("{FILE}:{line}: not TOML: ")), "{text}: {message}");
        assert!(message.contains(shown), "{text}: {message}");
        assert_eq!(error.line(), Some(line));
    }
}

#[test]
fn an_error_is_one_line_whatever_the_key() {
    let error = parse("\"a\\nb\\u001b[2J\" = 1").unwrap_err();
    assert_eq!(error.key(), "a\nb\u{1b}[2J");
    assert!(error.to_string().starts_with(r"/etc/rlogind.toml:1: a\nb\u{1b}[2J: unknown key"), "{error}");
}

#[test]
fn values_are_read_as_written() {
    let config = parse(
        r#"
        listen = ["[::1]:5513"]
        allow = ["192.0.2.7", "::ffff:192.0.2.0/120"]
        deny = ["::/0"]
        [trust]
        files_from = ["::ffff:192.0.2.7", "2001:db8::/32"]
        rule = [{ verdict = "password" }]
        [limits]
        sessions = 1_000
        startups = 7
        unacknowledged = "30s"
        idle = "1d"
        [login]
        banner = "/etc/issue.net"
        "#,
    )
    .unwrap();
    assert_eq!(config.listen, ["[::1]:5513".parse().unwrap()]);
    assert_eq!(config.trust.files_from, ["192.0.2.7/32".parse().unwrap(), "2001:db8::/32".parse().unwrap()]);
    let networks = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
    assert_eq!(config.access.allow, networks(&["192.0.2.7/32", "192.0.2.0/24"]));
    assert_eq!(config.access.deny, networks(&["::/0"]));
    assert_eq!(config.limits.startups, Startups { start: 7, rate: 100, full: 7 });
    assert_eq!(config.limits.unacknowledged, Duration::from_secs(30));
    assert_eq!(config.trust.rules[0].line, 7);
    assert_eq!(config.limits.sessions, 1000);
    assert_eq!(config.limits.idle, Duration::from_secs(86_400));
    assert_eq!(config.login.banner.as_deref(), Some(Path::new("/etc/issue.net")));
}

#[test]
fn rules_keep_their_order_and_their_lines() {
    let text = "# a comment\n[[trust.rule]]\nfrom = [\"192.0.2.0/24\", \"build.example.org\"]\nremote_users = [\"+\"]\n\
                users = [\"alice\"]\nverdict = \"trust\"\n\n[[trust.rule]]\nverdict = \"refuse\"\n";
    let first = Rule {
        from: vec![
            RuleHost::Net("192.0.2.0/24".parse().unwrap()),
            RuleHost::Name("build.example.org".to_owned()),
        ],
        remote_users: vec!["+".to_owned()],
        users: vec!["alice".to_owned()],
        verdict: RuleVerdict::Trust,
        line: 2,
    };
    let second =
        Rule { from: vec![], remote_users: vec![], users: vec![], verdict: RuleVerdict::Refuse, line: 8 };
    for text in [text.to_owned(), text.replace('\n', "\r\n"), format!("\u{feff}{text}")] {
        assert_eq!(parse(&text).unwrap().trust.rules, [first.clone(), second.clone()], "{text:?}");
    }
}

#[test]
fn files() {
    let dir = safe_folder::new();
    let path = dir.path().join("rlogind.toml");

    let error = config::load_default_or(Some(&path)).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: No such file", path.display())), "{error}");

    std::fs::write(&path, "user = \"daemon\"\n").unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let (config, source) = config::load_default_or(Some(&path)).unwrap();
    assert_eq!((config.user.as_str(), source.to_string()), ("daemon", path.display().to_string()));

    std::fs::write(&path, b"# one\n# \xff\n").unwrap();
    assert_eq!(config::load(&path).unwrap_err().to_string(), format!("{}:2: not UTF-8", path.display()));

    assert!(config::load(dir.path()).is_err(), "a directory is no configuration");
}

#[test]
fn a_file_that_others_can_change_is_refused() {
    let dir = safe_folder::new();
    let path = dir.path().join("rlogind.toml");
    std::fs::write(&path, "user = \"daemon\"\n").unwrap();
    let shown = path.display();
    for (mode, folder) in [(0o646, 0o700), (0o646, 0o777), (0o644, 0o1777)] {
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(folder)).unwrap();
        let error = config::load_default_or(Some(&path)).unwrap_err();
        let expected = if folder == 0o700 {
            format!("{shown}: refused: writable by group or others (mode 0646)")
        } else {
            let folder = format!(
                "the folder {} is writable by group or others (mode {folder:04o})",
                dir.path().display()
            );
            format!("{shown}: refused: {folder}")
        };
        assert_eq!(error.to_string(), expected);
        assert!(error.refused().is_some() && error.line().is_none());
    }
    // Nothing is read, so nothing is wrong with what stands there.
    std::fs::write(&path, "nonsense = 1\n").unwrap();
    assert!(config::load(&path).unwrap_err().refused().is_some());
}

/// What recurses in a parser must not run out of stack.
#[test]
fn deep_nesting_is_an_error() {
    for text in [
        format!("user = {}", "[".repeat(100_000)),
        format!("user = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ] {
        assert!(parse(&text).is_err());
    }
}

/// Pieces that make texts which get past the TOML parser often enough.
fn fragments() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[trust]\n".to_owned()),
        Just("[[trust.rule]]\n".to_owned()),
        Just("[login]\n".to_owned()),
        Just("[limits]\n".to_owned()),
        "(allow|deny|listen|from|users|files_from) = \\[\"[0-9a-f.:/\\[\\]+-]{0,12}\"\\]\n",
        "(idle|login|handshake|verdict|root|user|banner) = \"\\PC{0,6}\"\n",
        "startups = \"[0-9:]{0,12}\"\n",
        "(sessions|attempts|per_source|startups) = -?[0-9_]{1,22}\n",
        "(idle|login|handshake|unacknowledged) = \"[0-9]{0,21}[a-z]{0,2}\"\n",
    ];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in prop_oneof![any::<String>(), "[\\[\\]={}\"'#.,a-z0-9 \n\r\t-]{0,80}", fragments()]) {
        if let Err(error) = parse(&text) {
            let message = error.to_string();
            prop_assert!(message.starts_with(FILE));
            prop_assert!(!message.contains(char::is_control));
            let lines = u32::try_from(text.matches('\n').count()).unwrap() + 1;
            prop_assert!(error.line().is_some_and(|line| (1..=lines).contains(&line)));
        }
    }

    #[test]
    fn durations_mean_what_they_say(n in 1u64..1000, unit in prop_oneof![Just(("ms", 1)), Just(("s", 1000)), Just(("m", 60_000))]) {
        let config = parse(&format!("[limits]\nidle = \"{n}{}\"", unit.0)).unwrap();
        prop_assert_eq!(config.limits.idle, Duration::from_millis(n * unit.1));
    }
}
