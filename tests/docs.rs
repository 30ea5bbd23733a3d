//! The documents say what the program does: keys, defaults, flags, test names
//! and links are compared with the real ones.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test's helper fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, Parser};
use rlogind::audit::event::{EndedBy, Event, LoginEvent, SessionEnd, Via};
use rlogind::audit::format;
use rlogind::cli::Cli;
use rlogind::config::{self, Config};
use rlogind::control::protocol::{Count, Door, Limits, SessionRow, Sessions, State, Status, Totals};
use serde_json::Value as Json;
use toml::{Table, Value};

const SHIPPED: &str = include_str!("../packaging/rlogind.toml");
const DAEMON_PAGE: &str = include_str!("../docs/man/rlogind.8");
const CONFIG_PAGE: &str = include_str!("../docs/man/rlogind.toml.5");
const TRUST_PAGE: &str = include_str!("../docs/man/rlogind-trust.5");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A manual page's text without the escapes it needs of roff.
fn unescaped(text: &str) -> String {
    text.replace("\\(dq", "\"").replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
}

/// The items `.It Ic …` of a page.
fn items(page: &str) -> Vec<String> {
    page.lines().filter_map(|line| line.strip_prefix(".It Ic ")).map(unescaped).collect()
}

/// What stands between a subsection's header and the next header.
fn section<'a>(page: &'a str, header: &str) -> &'a str {
    let header = format!("\n{header}\n");
    let (_, rest) = page.split_once(&header).unwrap_or_else(|| panic!("no section {header:?}"));
    let end = [".Ss ", ".Sh "].iter().filter_map(|next| rest.find(&format!("\n{next}"))).min();
    &rest[..end.unwrap_or(rest.len())]
}

/// The shipped file with its commented-out examples made real: a `#` with a
/// space behind it is prose, one without is an example.
fn shipped() -> Table {
    let example = |line: &str| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c| c != ' '));
    let text: String =
        SHIPPED.lines().map(|line| format!("{}\n", if example(line) { &line[1..] } else { line })).collect();
    text.parse().unwrap()
}

/// The keys of the shipped file, with the names of their tables in front; the
/// keys of a `[[trust.rule]]` apart.
fn shipped_keys() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut keys, mut rule_keys) = (BTreeSet::new(), BTreeSet::new());
    for (name, value) in &shipped() {
        let Some(table) = value.as_table() else {
            keys.insert(name.clone());
            continue;
        };
        keys.extend(table.keys().filter(|key| *key != "rule").map(|key| format!("{name}.{key}")));
        let rules = table.get("rule").and_then(Value::as_array).into_iter().flatten();
        rule_keys.extend(rules.flat_map(|rule| rule.as_table().unwrap().keys().cloned()));
    }
    (keys, rule_keys)
}

#[test]
fn the_configuration_page_has_the_keys_of_the_shipped_file() {
    let (keys, rule_keys) = shipped_keys();
    let (with_default, without): (Vec<String>, Vec<String>) =
        items(CONFIG_PAGE).into_iter().partition(|item| item.contains(" = "));
    let documented: Vec<&str> = with_default.iter().map(|item| item.split(" = ").next().unwrap()).collect();
    assert_eq!(documented.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), keys);
    assert_eq!(documented.len(), keys.len(), "a key stands there twice");
    assert_eq!(without.iter().cloned().collect::<BTreeSet<_>>(), rule_keys);
    let in_trust_page: BTreeSet<String> =
        items(section(TRUST_PAGE, ".Sh RULES OF THE CONFIGURATION")).into_iter().collect();
    assert_eq!(in_trust_page, rule_keys);
}

#[test]
fn the_defaults_of_the_configuration_page_are_the_real_ones() {
    let defaults: Vec<String> = items(CONFIG_PAGE).into_iter().filter(|item| item.contains(" = ")).collect();
    let read = |text: &str| config::parse(text, Path::new("page")).unwrap_or_else(|e| panic!("{e}\n{text}"));
    // One by one, so that one that is read as nothing cannot hide among the others.
    for item in &defaults {
        assert_eq!(read(item), Config::default(), "{item}");
    }
    assert_eq!(read(&defaults.join("\n")), Config::default());
    // The shipped file has them in the same words.
    let page: Table = defaults.join("\n").parse().unwrap();
    let mut shipped = shipped();
    shipped["trust"].as_table_mut().unwrap().remove("rule");
    assert_eq!(page, shipped);
}

#[test]
fn the_examples_of_the_pages_can_be_used() {
    let mut examples = 0;
    for page in [CONFIG_PAGE, TRUST_PAGE] {
        for block in section(page, ".Sh EXAMPLES").split(".Bd -literal").skip(1) {
            let (_, block) = block.split_once('\n').unwrap();
            let (text, _) = block.split_once("\n.Ed").expect("an end of the block");
            if text.starts_with('[') {
                let text = unescaped(text);
                config::parse(&text, Path::new("page")).unwrap_or_else(|e| panic!("{e}\n{text}"));
                examples += 1;
            }
        }
    }
    assert_eq!(examples, 5);
}

/// The header of a command's subsection and the command, with those below it.
fn commands(name: &str, command: &clap::Command) -> Vec<(String, clap::Command)> {
    let mut all = Vec::new();
    // A command that only gathers others does nothing itself.
    if !command.is_subcommand_required_set() {
        all.push((name.to_owned(), command.clone()));
    }
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        all.extend(commands(&format!("{name} {}", below.get_name()), below));
    }
    all
}

#[test]
fn the_daemons_page_has_every_command_and_flag() {
    let mut cli = Cli::command();
    cli.build();
    let commands = commands("rlogind", &cli);
    assert!(commands.len() >= 4, "{commands:?}");
    for (name, command) in commands {
        let text = section(DAEMON_PAGE, &format!(".Ss {name}"));
        let written: BTreeSet<String> =
            text.lines().filter_map(|line| line.strip_prefix(".It ")).map(unescaped).collect();
        let mut real = BTreeSet::new();
        for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
            let long = arg.get_long();
            let everywhere = long.is_some_and(|long| ["help", "version"].contains(&long));
            // Once is enough.
            if everywhere && name != "rlogind" {
                continue;
            }
            let names = [arg.get_short().map(String::from), long.map(|long| format!("-{long}"))];
            let names: Vec<String> = names.into_iter().flatten().map(|name| format!("Fl {name}")).collect();
            let mut item = names.join(" , ");
            if arg.get_action().takes_values() {
                item.push_str(&format!(" Ar {}", arg.get_value_names().unwrap()[0]));
            }
            real.insert(item.trim_start().to_owned());
        }
        assert_eq!(written, real, "the flags of {name:?}");
    }
}

#[test]
fn the_defaults_of_flags_are_in_the_page() {
    let mut cli = Cli::command();
    cli.build();
    for (name, command) in commands("rlogind", &cli) {
        for arg in command.get_arguments().filter(|arg| arg.get_action().takes_values()) {
            for default in arg.get_default_values() {
                let default = default.to_str().unwrap();
                let text = section(DAEMON_PAGE, &format!(".Ss {name}"));
                let (_, text) = text.split_once(&format!(".It Fl -{}", arg.get_long().unwrap())).unwrap();
                let text = text.split(".It ").next().unwrap();
                assert!(text.contains(default), "{name} {arg}: {default} is not in {text:?}");
            }
        }
    }
    assert!(DAEMON_PAGE.contains(&format!(".Pa {}", config::DEFAULT_PATH)));
}

/// The documents people read on a web page or in an editor.
fn markdown() -> Vec<(PathBuf, String)> {
    let docs = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let top = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|name| root().join(name));
    let files: Vec<PathBuf> =
        docs.chain(top).filter(|path| path.extension().is_some_and(|e| e == "md")).collect();
    assert!(files.len() >= 6, "{files:?}");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

/// The blocks of that kind between the fences.
fn blocks<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
    // Every other fence ends a block.
    let parts = text.split("```").skip(1).step_by(2);
    parts
        .filter_map(|part| part.split_once('\n'))
        .filter(|(word, _)| *word == kind)
        .map(|(_, text)| text)
        .collect()
}

#[test]
fn the_configurations_and_commands_of_the_documents_can_be_used() {
    let (mut configurations, mut commands) = (0, 0);
    for (path, text) in markdown() {
        for block in blocks(&text, "toml") {
            config::parse(block, &path).unwrap_or_else(|e| panic!("{e}\n{block}"));
            configurations += 1;
        }
        for line in blocks(&text, "").iter().flat_map(|block| block.lines()) {
            let line = line.trim_start_matches("demo# ");
            let words = line.split('#').next().unwrap().split_whitespace();
            // What begins like a command and is none is a line of the log.
            if line.starts_with("rlogind ") && !line.contains("event=") {
                Cli::try_parse_from(words).unwrap_or_else(|e| panic!("{}: {line}\n{e}", path.display()));
                commands += 1;
            }
        }
    }
    assert!(configurations >= 5 && commands >= 6, "{configurations} configurations, {commands} commands");
}

#[test]
fn the_clients_of_the_tests_are_in_the_table() {
    let compatibility = fs::read_to_string(root().join("docs/COMPATIBILITY.md")).unwrap();
    let clients = fs::read_to_string(root().join("tests/e2e/terminal.rs")).unwrap();
    let programs = clients.split_once("fn program(").unwrap().1.split_once("\n    }\n").unwrap().0;
    let programs: Vec<&str> = programs.split('"').skip(1).step_by(2).collect();
    assert!(programs.len() >= 3, "{programs:?}");
    for program in programs {
        assert!(compatibility.contains(&format!("| `{program}")), "{program} is not in the table");
    }
}

/// The targets of the links.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let rests = text.lines().flat_map(|line| line.split("](").skip(1));
    rests.filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// What is set as code within a line.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// The anchor a web page gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn no_link_is_dead() {
    let mut followed = 0;
    for (path, text) in markdown() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link} leads nowhere", path.display());
            if !fragment.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#'));
                assert!(
                    headings.any(|heading| anchor(heading) == fragment),
                    "{}: no heading for {link}",
                    path.display()
                );
            }
        }
    }
    assert!(followed > 10, "only {followed} links found");
}

#[test]
fn the_manual_pages_that_are_named_exist() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let mut named = BTreeSet::new();
    for (_, text) in markdown() {
        for word in text.split(|c: char| !(c.is_alphanumeric() || "-_.()".contains(c))) {
            let page = word.split_once('(').and_then(|(name, rest)| Some((name, rest.split_once(')')?.0)));
            if let Some((name, number)) = page
                && name.starts_with("rlogind")
                && !number.is_empty()
            {
                named.insert(format!("{name}.{number}"));
            }
        }
    }
    for page in [DAEMON_PAGE, CONFIG_PAGE, TRUST_PAGE] {
        for reference in page.lines().filter_map(|line| line.strip_prefix(".Xr rlogind")) {
            let words: Vec<&str> = reference.split(' ').collect();
            named.insert(format!("rlogind{}.{}", words[0], words[1]));
        }
    }
    let there: BTreeSet<String> = fs::read_dir(root().join("docs/man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(named, there);
    for page in there {
        assert!(readme.contains(&format!("docs/man/{page}")), "the README does not lead to {page}");
    }
}

#[test]
fn the_tests_and_files_that_are_named_exist() {
    let mut tests = 0;
    for (path, text) in markdown() {
        for code in code(&text) {
            let (file, test) = code.split_once("::").unwrap_or((code, ""));
            let ours = ["src/", "tests/", "packaging/", "docs/"].iter().any(|top| file.starts_with(top));
            if !ours || file.contains('*') {
                continue;
            }
            let target = root().join(file);
            assert!(target.exists(), "{}: there is no {file}", path.display());
            if !test.is_empty() {
                let source = fs::read_to_string(target).unwrap();
                assert!(source.contains(&format!("fn {test}(")), "{}: no test {code}", path.display());
                tests += 1;
            }
        }
    }
    assert!(tests > 20, "only {tests} tests named");
}

/// The keys of a JSON value, at any depth.
fn keys(value: &Json, found: &mut BTreeSet<String>) {
    match value {
        Json::Object(object) => {
            for (key, value) in object {
                found.insert(key.clone());
                keys(value, found);
            }
        }
        Json::Array(list) => list.iter().for_each(|value| keys(value, found)),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

#[test]
fn the_daemons_page_has_every_key_of_the_output_for_programs() {
    let row = SessionRow {
        id: 1,
        state: State::Open,
        user: None,
        remote_user: None,
        host: None,
        address: [192, 0, 2, 7].into(),
        port: 1023,
        tty: String::new(),
        since: 0,
        idle: None,
        bytes_in: 0,
        bytes_out: 0,
        by: None,
    };
    let status = Status {
        version: String::new(),
        pid: 1,
        uptime: 0,
        configuration: String::new(),
        draining: false,
        listeners: vec![Door { address: ([192, 0, 2, 7], 513).into(), service: String::new() }],
        sessions: Count::default(),
        limits: Limits { sessions: 1, startups: 1, startups_full: 1 },
        totals: Totals::default(),
    };
    let text = section(DAEMON_PAGE, ".Sh OUTPUT FOR PROGRAMS");
    let mut found = BTreeSet::new();
    keys(&serde_json::to_value(Sessions { sessions: vec![row] }).unwrap(), &mut found);
    keys(&serde_json::to_value(status).unwrap(), &mut found);
    assert!(found.len() > 25, "{found:?}");
    let told: BTreeSet<&str> =
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty()).collect();
    for key in found {
        assert!(told.contains(key.as_str()), "{key} is not in the page");
    }
}

/// An event of each kind.
fn events() -> Vec<Event> {
    let peer = SocketAddr::from(([192, 0, 2, 7], 1023));
    let text = || "x".to_owned();
    let (user, host, reason) = (Some(text()), Some(text()), text());
    let logins = [
        LoginEvent::TrustGranted {
            user: text(),
            remote_user: text(),
            host: host.clone(),
            file: text(),
            line: 1,
            wildcard: false,
        },
        LoginEvent::TrustDenied { user: user.clone(), host: host.clone(), file: text(), line: 1 },
        LoginEvent::TrustAbsent { user: user.clone(), host: host.clone(), reason: text() },
        LoginEvent::PasswordAccepted { user: text(), host: host.clone() },
        LoginEvent::PasswordFailed { user, host: host.clone(), attempt: 1, reason: text() },
        LoginEvent::AccountRefused { user: text(), host: host.clone(), reason: text() },
        LoginEvent::Abandoned { reason: text() },
        LoginEvent::Opened { user: text(), remote_user: Some(text()), host, pid: 1 },
        LoginEvent::Trouble { user: text(), text: text() },
        LoginEvent::BannerNotShown { file: text(), reason: text() },
    ];
    let closed = |end, by| Event::SessionClosed {
        peer,
        tty: text(),
        user: text(),
        duration: Duration::from_secs(1),
        bytes_in: 1,
        bytes_out: 1,
        end,
        by: Some(by),
    };
    let mut events = vec![
        Event::Started { version: text(), listen: vec![peer] },
        Event::Upgraded { from: text(), version: text(), sessions: 1, count: 2 },
        Event::Draining { sessions: 1 },
        Event::Stopped { cause: text() },
        Event::Control { uid: 0, pid: 1, command: text(), count: 2 },
        Event::ConfigRead { path: text(), count: 2 },
        Event::ConfigRefused { path: text(), error: text(), count: 2 },
        Event::Warning { text: text() },
        Event::CommandWarning { text: text(), count: 2 },
        Event::Connection { peer, via: Via::Rlogin, count: 2 },
        Event::Refused { peer, reason, count: 2 },
        Event::Shortage { text: text(), count: 2 },
        Event::ModuleLines { peer, count: 2 },
        closed(SessionEnd::Exited(0), EndedBy::Idle),
        closed(SessionEnd::Signaled(1), EndedBy::Kill { uid: 0 }),
        closed(SessionEnd::LeftRunning, EndedBy::Client),
        closed(SessionEnd::Lost, EndedBy::Stop),
        Event::Lost { lines: 1 },
    ];
    let is_thinned = |event: &LoginEvent| {
        matches!(
            event,
            LoginEvent::TrustDenied { .. }
                | LoginEvent::TrustAbsent { .. }
                | LoginEvent::PasswordFailed { .. }
                | LoginEvent::AccountRefused { .. }
                | LoginEvent::Abandoned { .. }
                | LoginEvent::BannerNotShown { .. }
        )
    };
    events.extend(logins.map(|event| {
        let count = if is_thinned(&event) { 2 } else { 1 };
        Event::Login { peer, tty: text(), event, count }
    }));
    events
}

#[test]
fn the_daemons_page_has_every_audit_event_with_its_fields() {
    let mut named = BTreeSet::new();
    for event in events() {
        let text = format::line(&event).text;
        let fields: Vec<(&str, &str)> = text
            .split(' ')
            .filter_map(|word| word.split_once("=\""))
            .map(|(k, v)| (k, v.trim_matches('"')))
            .collect();
        let name = fields.iter().find(|(key, _)| *key == "event").unwrap().1;
        let severity = format!("{:?}", format::line(&event).severity).to_lowercase();
        named.insert(name.to_owned());
        let (_, item) = DAEMON_PAGE
            .split_once(&format!(".It Li {name} Pq "))
            .unwrap_or_else(|| panic!("{name} is not in the page"));
        let item = item.split("\n.It ").next().unwrap();
        let told = |word: &str| item.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|w| w == word);
        for (key, _) in fields.iter().filter(|(key, _)| *key != "event") {
            assert!(told(key), "{name}: the field {key} is not in {item:?}");
        }
        let other_severity =
            matches!(event, Event::SessionClosed { end: SessionEnd::LeftRunning | SessionEnd::Lost, .. });
        assert!(item.starts_with(&severity) || other_severity, "{name} is {severity}");
    }
    let written: BTreeSet<String> = DAEMON_PAGE
        .lines()
        .filter_map(|line| line.strip_prefix(".It Li ")?.split_once(" Pq "))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(written, named);
}
