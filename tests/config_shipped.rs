//! The shipped configuration file says what the program does: every key is in
//! it, and every default in it is the real one.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::Path;

use rlogind::config::{self, Config, RuleVerdict};
use toml::{Table, Value};

const SHIPPED: &str = include_str!("../packaging/rlogind.toml");
const DEMO: &str = include_str!("../packaging/demo/rlogind.toml");

fn parse(text: &str) -> Config {
    config::parse(text, Path::new("test.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// The keys a table has, from the parser itself: the error about an unknown key
/// lists them.
fn known_keys(header: &str) -> BTreeSet<String> {
    let text = format!("{header}\nzzzzzzzzzzzzzzzz = 1\n");
    let error = config::parse(&text, Path::new("test.toml")).unwrap_err().to_string();
    let (_, list) = error.split_once(" has ").unwrap_or_else(|| panic!("no list of keys in: {error}"));
    list.split(", ").map(str::to_owned).collect()
}

fn keys(table: &Table) -> BTreeSet<String> {
    table.keys().cloned().collect()
}

/// The file with its commented-out examples made real: a `#` with a space behind
/// it is prose, one without is an example.
fn with_examples() -> String {
    let example = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c| c != ' '));
    SHIPPED.lines().map(|line| format!("{}\n", if example(line) { &line[1..] } else { line })).collect()
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(parse(SHIPPED), Config::default());
}

#[test]
fn the_shipped_file_has_every_key_the_parser_knows() {
    let shipped: Table = SHIPPED.parse().unwrap();
    assert_eq!(keys(&shipped), known_keys(""));
    for (name, section) in shipped.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
        let mut expected = known_keys(&format!("[{name}]"));
        // The rules have no default; the commented example below stands for them.
        expected.remove("rule");
        assert_eq!(keys(section), expected, "[{name}]");
    }
    let examples: Table = with_examples().parse().unwrap();
    let rule = examples["trust"]["rule"][0].as_table().unwrap();
    assert_eq!(keys(rule), known_keys("[[trust.rule]]"));
}

/// Another value of the same kind, good for the key as well.
fn another(key: &str, value: &Value) -> Value {
    match (key, value) {
        (_, Value::Boolean(b)) => Value::Boolean(!b),
        (_, Value::Integer(i)) => Value::Integer(i + 1),
        ("listen", _) => Value::Array(vec!["127.0.0.1:5130".into()]),
        ("allow" | "deny" | "files_from", _) => Value::Array(vec!["192.0.2.0/24".into()]),
        ("user", _) => "daemon".into(),
        ("socket" | "banner", _) => "/somewhere/else".into(),
        ("group", _) => "adm".into(),
        ("pam_service", _) => "sshd".into(),
        ("root", _) => "password".into(),
        ("unreserved_port", _) => "refuse".into(),
        ("locked", _) => "trust".into(),
        ("handshake" | "login" | "idle" | "unacknowledged", _) => "7s".into(),
        ("startups", _) => "1:2:3".into(),
        ("services", _) => Value::Array(vec!["printer".into()]),
        ("facility", _) => "local3".into(),
        ("records", _) => "no".into(),
        _ => panic!("{key} is new: say here what else it may be"),
    }
}

#[test]
fn every_key_of_the_shipped_file_counts() {
    let shipped: Table = SHIPPED.parse().unwrap();
    let tables: Vec<Option<String>> = std::iter::once(None)
        .chain(shipped.iter().filter(|(_, value)| value.is_table()).map(|(name, _)| Some(name.clone())))
        .collect();
    let mut changed = Vec::new();
    for name in tables {
        let section = name.as_ref().map_or(&shipped, |name| shipped[name].as_table().unwrap());
        for (key, value) in section.iter().filter(|(_, value)| !value.is_table()) {
            let mut file = shipped.clone();
            let place = match &name {
                None => &mut file,
                Some(name) => file[name].as_table_mut().unwrap(),
            };
            place.insert(key.clone(), another(key, value));
            let config = parse(&file.to_string());
            assert_ne!(config, Config::default(), "{name:?} {key} changes nothing");
            assert!(!changed.contains(&config), "{name:?} {key} changes what another key changes");
            changed.push(config);
        }
    }
    assert!(changed.len() >= 20, "only {} keys were tried", changed.len());
}

#[test]
fn an_empty_file_and_a_file_of_empty_tables_are_the_defaults() {
    assert_eq!(parse(""), Config::default());
    assert_eq!(parse("[control]\n[trust]\n[login]\n[limits]\n[tcpmux]\n[audit]\n"), Config::default());
}

#[test]
fn the_example_rule_is_a_rule() {
    let text = with_examples();
    let config = parse(&text);
    let [rule] = config.trust.rules.as_slice() else { panic!("{:?}", config.trust.rules) };
    assert_eq!(rule.verdict, RuleVerdict::Trust);
    let line = text.lines().position(|line| line == "[[trust.rule]]").unwrap() + 1;
    assert_eq!(usize::try_from(rule.line).unwrap(), line);
}

#[test]
fn the_demonstration_listens_on_loopback_only() {
    let config = parse(DEMO);
    assert!(config.listen.iter().all(|address| address.ip().is_loopback()));
    assert!(!config.tcpmux.enabled && !config.trust.wildcards);
    assert_eq!(config.trust.rules.len(), 1);
    assert!(config.trust.rules[0].remote_users.is_empty());
}

/// It would let in, behind the rules, whom the rules have just turned away.
#[test]
fn the_pam_service_file_does_not_decide_trust() {
    let lines = include_str!("../packaging/pam/rlogin").lines().filter(|line| !line.starts_with('#'));
    assert!(!lines.collect::<String>().contains("rhosts"));
}
