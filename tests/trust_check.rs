//! What `rlogind trust check` finds, and what `rlogind trust explain` tells.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail by panicking")]

mod trust_fake;

use nix::unistd::geteuid;
use rlogind::config::{Config, RootLogin, Rule, RuleHost, RuleVerdict};
use rlogind::trust::check::{CheckWhich, Checker, check};
use rlogind::trust::explain::{ExplainArgs, explain};
use rlogind::trust::{Account, FileContent, Skip};
use serde_json::Value;
use trust_fake::Fake;

fn alice() -> Account {
    Account { name: "alice".into(), uid: 1000, gid: 1000, home: "/home/alice".into() }
}

fn root() -> Account {
    Account { name: "root".into(), uid: 0, gid: 0, home: "/root".into() }
}

fn findings_for(config: &Config, world: &mut Fake, account: &Account) -> Vec<String> {
    let mut checker = Checker::new(config, world);
    checker.hosts_equiv();
    checker.rhosts(account);
    checker.findings.iter().map(ToString::to_string).collect()
}

fn findings(equiv: &str, rhosts: &str) -> Vec<String> {
    findings_for(&Config::default(), &mut Fake::new(equiv, rhosts), &alice())
}

#[test]
fn an_account_that_is_not_there_is_named() {
    let which = CheckWhich::User("no\u{1b}such".to_owned());
    let error = check(&which, &Config::default(), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "there is no account no\\x1bsuch");
}

#[test]
fn good_files_have_no_findings() {
    let equiv = "# ours\nclient\nclient.example.org bob\n-other\n192.0.2.9 -bob\n+@lab +@staff\n+ -carol\n";
    assert_eq!(
        findings(equiv, "six bob\nother bob\n")[..],
        ["/home/alice/.rhosts:2: never reached: \
         /etc/hosts.equiv line 4 decides before it"]
    );
    assert!(findings(equiv, "six bob\n").is_empty());
    assert!(findings("", "").is_empty());
}

#[test]
fn lines_that_do_not_mean_what_they_seem_to() {
    for (line, finding) in [
        ("+ bob", "a bare + for any host is honoured only with trust.wildcards = true"),
        ("client +", "a bare + for any user is honoured only with trust.wildcards = true"),
        ("nowhere bob", "nowhere has no address"),
        ("down bob", "down cannot be looked up: timed out"),
        ("010.0.0.1 bob", "an unusual spelling of the address 8.0.0.1"),
        ("fe80::1%eth0 bob", "a link-local address is never trusted"),
        ("169.254.9.7 bob", "a link-local address is never trusted"),
        ("::ffff:169.254.9.7 bob", "a link-local address is never trusted"),
        ("+client bob", "+host is understood here and by the BSDs, but not by glibc"),
        ("client +bob", "+user is understood here and by the BSDs, but not by glibc"),
        ("client bob too", "the words after the second mean nothing"),
        ("client # bob", "a # behind the host begins no comment"),
        (
            "192.0.2.0/24 bob",
            "the first word is neither an address nor a host name, so the line trusts nobody",
        ),
        ("-*.example.org", "the first word is neither an address nor a host name, so the refusal stands"),
        ("-client bob", "a refused host is refused for every user: the second word means nothing"),
        ("client -", "the second word is a sign without a name, so the refusal stands"),
    ] {
        assert_eq!(findings(line, "")[..], [format!("/etc/hosts.equiv:1: {finding}")], "{line}");
    }
}

#[test]
fn settings_change_what_is_wrong() {
    let mut config = Config::default();
    config.trust.wildcards = true;
    config.trust.netgroups = false;
    let mut world = Fake::new("+ bob\n-@lab\nclient", "client bob");
    assert_eq!(
        findings_for(&config, &mut world, &alice()),
        [
            "/etc/hosts.equiv:1: a bare + trusts any host",
            "/etc/hosts.equiv:2: netgroups count only with trust.netgroups = true, so the refusal stands",
            "/etc/hosts.equiv:3: never reached: /etc/hosts.equiv line 2 decides before it",
            "/home/alice/.rhosts:1: never reached: /etc/hosts.equiv line 1 decides before it",
        ]
    );
    config.trust.hosts_equiv = false;
    config.trust.rhosts = false;
    assert_eq!(
        findings_for(&config, &mut world, &alice()),
        [
            "/etc/hosts.equiv: never looked at: trust.hosts_equiv = false",
            "/home/alice/.rhosts: never looked at: trust.rhosts = false",
        ]
    );
}

#[test]
fn lines_never_reached() {
    for (equiv, rhosts, unreached) in [
        ("client bob\nclient bob", "", Some("/etc/hosts.equiv:2: never reached: /etc/hosts.equiv line 1")),
        ("client bob\nCLIENT -bob", "", Some("/etc/hosts.equiv:2: never reached: /etc/hosts.equiv line 1")),
        ("-client\nclient bob", "", Some("/etc/hosts.equiv:2: never reached: /etc/hosts.equiv line 1")),
        (
            "192.0.2.7 bob\n::ffff:c000:207 bob",
            "",
            Some("/etc/hosts.equiv:2: never reached: /etc/hosts.equiv line 1"),
        ),
        ("+ -bob\nclient bob", "", Some("/etc/hosts.equiv:2: never reached: /etc/hosts.equiv line 1")),
        ("client", "client alice", Some("/home/alice/.rhosts:1: never reached: /etc/hosts.equiv line 1")),
        ("client alice", "client", Some("/home/alice/.rhosts:1: never reached: /etc/hosts.equiv line 1")),
        ("client bob\nclient carol\n-client", "", None),
        ("client", "client bob", None),
        ("client bob", "client", None),
    ] {
        let found = findings(equiv, rhosts);
        let wanted: Vec<_> = unreached.map(|text| format!("{text} decides before it")).into_iter().collect();
        assert_eq!(found, wanted, "{equiv:?} {rhosts:?}");
    }
    // hosts.equiv never counts for root, so it hides nothing of root's file.
    let mut config = Config::default();
    config.login.root = RootLogin::Trust;
    assert!(findings_for(&config, &mut Fake::new("client bob", "client bob"), &root()).is_empty());
    config.login.root = RootLogin::Password;
    assert_eq!(
        findings_for(&config, &mut Fake::new("", "client bob"), &root()),
        ["/root/.rhosts: never looked at: root is trusted only with login.root = \"trust\""]
    );
}

#[test]
fn files_that_are_not_believed() {
    let mut world = Fake::new("", "");
    world.equiv = FileContent::Skipped(Skip::Writable(0o664));
    world.rhosts = FileContent::Skipped(Skip::Symlink);
    assert_eq!(
        findings_for(&Config::default(), &mut world, &alice()),
        [
            "/etc/hosts.equiv: not believed: its mode 0664 lets group or others write it; until it is put \
             right, no file trusts anyone",
            "/home/alice/.rhosts: not believed: it is a symbolic link",
        ]
    );
}

#[test]
fn a_file_that_needs_too_much_is_found_and_bounds_the_check() {
    let names: String = (0..3000).map(|n| format!("host{n} bob\n")).collect();
    let mut world = Fake::new("", &names);
    let found = findings_for(&Config::default(), &mut world, &alice());
    assert!(found.last().unwrap().ends_with("too many lines or look-ups in one file"), "{found:?}");
    assert!(world.lookups <= 2048, "{}", world.lookups);
}

#[test]
fn a_file_of_many_lines_is_checked_to_its_end() {
    // The same names again and again, and lines that cost a look-up only the user they name.
    for hosts in [200, 3000] {
        let lines: String = (0..3000).map(|n| format!("host{} user{n}\n", n % hosts)).collect();
        let mut world = Fake::new("", &format!("{lines}192.0.2.7 bob more\n"));
        let found = findings_for(&Config::default(), &mut world, &alice());
        let last = "/home/alice/.rhosts:3001: the words after the second mean nothing";
        assert_eq!(found.last().unwrap(), last);
        let gave_up = found.iter().filter(|text| text.contains("from here on new names are not looked up"));
        assert_eq!(gave_up.count(), usize::from(hosts > 1024));
        assert!(world.lookups <= 2048, "{}", world.lookups);
    }
    let mut slow = Fake::new("", "other bob\nnowhere bob\nnowhere2 bob\n");
    slow.patience = 2;
    let found = findings_for(&Config::default(), &mut slow, &alice());
    let told =
        "/home/alice/.rhosts:2: from here on new names are not looked up: too many, or it took too long";
    assert_eq!(found, [told]);
}

#[test]
fn accounts_that_do_not_exist_and_rights_that_are_missing() {
    let nobody = CheckWhich::User("no-such-account-here".to_owned());
    assert!(check(&nobody, &Config::default(), &mut Vec::new()).is_err());
    let all = check(&CheckWhich::All, &Config::default(), &mut Vec::new());
    assert_eq!(all.is_ok(), geteuid().is_root());
}

fn explained(config: &Config, user: &str, port: Option<u16>, json: bool) -> String {
    let args = ExplainArgs {
        from: "::ffff:127.0.0.1".parse().unwrap(),
        port,
        remote_user: "b\u{1b}ob",
        user,
        config,
        config_path: "/etc/rlogind.toml",
        json,
    };
    let mut out = Vec::new();
    explain(&args, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn with_rule(verdict: RuleVerdict, users: &[&str]) -> Config {
    let mut config = Config::default();
    // The machine's own files are no part of the test.
    config.trust.hosts_equiv = false;
    config.trust.rhosts = false;
    config.trust.rules = vec![Rule {
        from: vec![RuleHost::Net("127.0.0.0/8".parse().unwrap())],
        remote_users: vec!["b\u{1b}ob".to_owned()],
        users: users.iter().map(|&user| user.to_owned()).collect(),
        verdict,
        line: 7,
    }];
    config
}

#[test]
fn explains_in_text() {
    let mut config = with_rule(RuleVerdict::Trust, &["root"]);
    config.login.root = RootLogin::Trust;
    let text = explained(&config, "root", None, false);
    assert!(text.starts_with("From     b\\x1bob at 127.0.0.1, port 1023 (reserved)\n"), "{text}");
    assert!(text.contains("\nAccount  root (uid 0, home /root)\n"), "{text}");
    assert!(text.contains("\n/etc/rlogind.toml\n=>     7  trust from=127.0.0.0/8"), "{text}");
    assert!(
        text.ends_with("Verdict: trusted by /etc/rlogind.toml line 7. No password is asked.\n"),
        "{text}"
    );
    assert_eq!(text.contains("not run by root"), !geteuid().is_root());
    let text = explained(&config, "root", Some(40000), false);
    assert!(text.contains("port 40000 (not reserved)"), "{text}");
    assert!(
        text.ends_with("a password is asked: the source port is not a reserved one (512 to 1023).\n"),
        "{text}"
    );
    config.login.root = RootLogin::No;
    let text = explained(&config, "root", None, false);
    assert!(text.ends_with("No password is right for root: login.root = \"no\".\n"), "{text}");
    let text = explained(&config, "no-such-account-here", None, false);
    assert!(text.contains("there is no such account\n"), "{text}");
    let text = explained(&with_rule(RuleVerdict::Refuse, &[]), "root", None, false);
    assert!(text.ends_with("Verdict: the connection is refused by /etc/rlogind.toml line 7.\n"), "{text}");
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn explains_in_json() {
    let json = explained(&with_rule(RuleVerdict::Password, &[]), "root", Some(600), true);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["from"], "127.0.0.1");
    assert_eq!(report["port"], 600);
    assert_eq!(report["uid"], 0);
    assert_eq!(report["verdict"], "denied");
    assert_eq!(report["file"], "/etc/rlogind.toml");
    assert_eq!(report["line"], 7);
    assert_eq!(report["steps"][0]["outcome"], "decided");
    assert_eq!(report["steps"][0]["line"], 7);
    let json = explained(&Config::default(), "no-such-account-here", Some(80), true);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["verdict"], &report["uid"]), (&Value::from("undecided"), &Value::Null));
    assert_eq!(report["reason"], "the source port is not a reserved one (512 to 1023)");
}
