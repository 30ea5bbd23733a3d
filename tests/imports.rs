//! Who may use whom: the folders of `src` keep to their rules, and `unsafe` to its place.
//!
//! Reads the sources as text: every path that begins with `crate`, `rlogind`, `super` or a
//! dependency's name, in `use` lines and elsewhere. Test modules, comments and strings do not count.
#![allow(clippy::unwrap_used, clippy::panic, reason = "so a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The three roles. They meet only in `ipc`, and only `main` knows more than one.
const ROLES: [&str; 3] = ["monitor", "relay", "session"];

/// What files below a path may use.
struct Rule {
    /// Beginnings of paths below `src`.
    of: &'static [&'static str],
    but: &'static [&'static str],
    /// Modules of ours; `None`: all but those of [`Rule::never`].
    ours: Option<&'static [&'static str]>,
    never: &'static [&'static str],
    /// Dependencies; `None`: all.
    crates: Option<&'static [&'static str]>,
    text: &'static str,
}

const RULES: [Rule; 14] = [
    Rule {
        of: &["wire/"],
        but: &[],
        ours: Some(&["wire"]),
        never: &[],
        crates: Some(&["zeroize", "serde"]),
        text: "wire is pure: std, zeroize, serde and itself",
    },
    Rule {
        of: &["trust/"],
        but: &["trust/files.rs", "trust/accounts.rs", "trust/explain.rs", "trust/check"],
        ours: Some(&["trust", "config"]),
        never: &[],
        crates: Some(&["serde", "ipnet"]),
        text: "the trust rules are pure: std, serde, ipnet, config and themselves",
    },
    Rule {
        of: &["audit/event.rs", "audit/format.rs", "audit/escape.rs"],
        but: &[],
        ours: Some(&["audit"]),
        never: &[],
        crates: None,
        text: "audit events know nothing of ours but audit",
    },
    Rule {
        of: &["source.rs"],
        but: &[],
        ours: Some(&["source"]),
        never: &[],
        crates: Some(&[]),
        text: "source is pure: std and itself",
    },
    Rule {
        of: &["config"],
        but: &[],
        ours: Some(&["config", "sys"]),
        never: &[],
        crates: None,
        text: "config uses nothing of ours but sys, to open its file",
    },
    Rule {
        of: &["tcpmux/"],
        but: &[],
        ours: Some(&["tcpmux", "config", "sys"]),
        never: &[],
        crates: Some(&["nix"]),
        text: "registering with a superserver knows config and sys, and no role",
    },
    Rule {
        of: &["sys/"],
        but: &[],
        ours: Some(&["sys"]),
        never: &[],
        crates: None,
        text: "sys uses nothing of ours",
    },
    Rule {
        of: &["host"],
        but: &[],
        ours: Some(&["host", "config", "sys"]),
        never: &[],
        crates: None,
        text: "host uses config and sys, for serving and check both use it",
    },
    Rule {
        of: &["check/"],
        but: &[],
        ours: Some(&["check", "config", "host", "sys"]),
        never: &[],
        crates: Some(&["nix", "serde"]),
        text: "check asks host what serving needs, and knows no role",
    },
    Rule {
        of: &["doctor/"],
        but: &[],
        ours: Some(&["doctor", "audit", "check", "config", "host", "sys", "tcpmux", "trust"]),
        never: &[],
        crates: None,
        text: "doctor looks with the eyes of check, trust and tcpmux, and knows no role",
    },
    Rule {
        of: &["control/"],
        but: &[],
        ours: Some(&["control", "audit", "config", "sys"]),
        never: &[],
        crates: None,
        text: "the administrator's commands know config, sys and how the log shows text, and no role",
    },
    Rule {
        of: &["monitor/"],
        but: &[],
        ours: None,
        never: &["relay", "session"],
        crates: None,
        text: "monitor, relay and session meet only in ipc",
    },
    Rule {
        of: &["relay/"],
        but: &[],
        ours: None,
        never: &["monitor", "session"],
        crates: None,
        text: "monitor, relay and session meet only in ipc",
    },
    Rule {
        of: &["session/"],
        but: &[],
        ours: None,
        never: &["monitor", "relay"],
        crates: None,
        text: "monitor, relay and session meet only in ipc",
    },
];

/// The first part of a path that the source uses.
#[derive(Debug, PartialEq, Eq)]
enum Used {
    /// A module at the root of our crate.
    Ours(String),
    Dependency(String),
}

/// A word or a sign, and its line.
type Token = (String, usize);

/// What breaks a rule in this file, whose path is relative to `src`.
fn violations(path: &str, source: &str, dependencies: &BTreeSet<String>) -> Vec<String> {
    let tokens = without_tests(&tokens(&blank(source)));
    let used = uses(path, &tokens, dependencies);
    let mut found = Vec::new();
    for rule in &RULES {
        let under = |names: &[&str]| names.iter().any(|name| path.starts_with(name));
        if !under(rule.of) || under(rule.but) {
            continue;
        }
        for (name, line) in &used {
            let allowed = match name {
                Used::Ours(module) => match rule.ours {
                    Some(ours) => ours.contains(&module.as_str()),
                    None => !rule.never.contains(&module.as_str()),
                },
                Used::Dependency(name) => rule.crates.is_none_or(|crates| crates.contains(&name.as_str())),
            };
            if !allowed {
                found.push(format!("src/{path}:{line}: {name:?}, but {}", rule.text));
            }
        }
    }
    let roles: Vec<_> = ROLES
        .iter()
        .filter_map(|role| used.iter().find(|(name, _)| *name == Used::Ours((*role).to_owned())))
        .collect();
    if let [_, (name, line), ..] = roles[..]
        && path != "main.rs"
    {
        found.push(format!("src/{path}:{line}: {name:?}, but only main knows more than one role"));
    }
    if !path.starts_with("sys/") {
        for (_, line) in tokens.iter().filter(|(word, _)| word == "unsafe") {
            found.push(format!("src/{path}:{line}: unsafe, but its place is src/sys"));
        }
    }
    found
}

/// The source with its comments, strings and characters made blank; lines stay.
fn blank(source: &str) -> String {
    let mut out = String::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = literal(rest, out.chars().last()).unwrap_or(0);
        if length == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            out.push(' ');
            out.extend(rest[..length].chars().filter(|c| *c == '\n'));
            rest = &rest[length..];
        }
    }
    out
}

/// How long the comment, string or character at the start of `text` is.
fn literal(text: &str, before: Option<char>) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with('r') && !in_word {
        let hashes = text[1..].bytes().take_while(|b| *b == b'#').count();
        if text[1 + hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = 2 + hashes;
            return Some(text[body..].find(&end).map_or(text.len(), |at| body + at + end.len()));
        }
    }
    if text.starts_with('"') {
        return Some(quoted(text, b'"'));
    }
    // A lifetime has no quote behind its first letter.
    let second = text.strip_prefix('\'')?.chars().next()?;
    let behind = &text[1 + second.len_utf8()..];
    (second == '\\' || behind.starts_with('\'')).then(|| quoted(text, b'\''))
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, _) in text.char_indices() {
        if text[at..].starts_with("/*") {
            depth += 1;
        } else if text[..at].ends_with("*/") && at >= 4 {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    text.len()
}

fn quoted(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn tokens(source: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for (line, text) in (1..).zip(source.lines()) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let length = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                tokens.push((rest[..length].to_owned(), line));
            }
            rest = &rest[length..];
        }
    }
    tokens
}

/// Leaves out what stands behind `#[cfg(test)]`: an item with a block, or up to its semicolon.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let here = tokens[at..].iter().map(|(word, _)| word.as_str());
        if !here.take(MARK.len()).eq(MARK) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        at += MARK.len();
        while let Some((word, _)) = tokens.get(at) {
            at += 1;
            match word.as_str() {
                "{" => depth += 1,
                "}" if depth == 1 => break,
                "}" => depth -= 1,
                ";" if depth == 0 => break,
                _ => {}
            }
        }
    }
    kept
}

fn uses(path: &str, tokens: &[Token], dependencies: &BTreeSet<String>) -> Vec<(Used, usize)> {
    let mut module: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if module.last() == Some(&"mod") || path == "lib.rs" || path == "main.rs" {
        module.pop();
    }
    let mut used = Vec::new();
    for (at, (word, line)) in tokens.iter().enumerate() {
        let starts = at == 0 || tokens[at - 1].0 != "::" || (at >= 2 && !is_word(&tokens[at - 2].0));
        if !starts {
            continue;
        }
        let next = |offset: usize| tokens.get(at + offset).map(|(word, _)| word.as_str());
        match word.as_str() {
            "crate" | "rlogind" if next(1) == Some("::") => used.extend(heads(tokens, at + 2)),
            "super" => {
                let ups = (0..).take_while(|up| next(2 * up) == Some("super")).count();
                if ups == module.len() && next(2 * ups - 1) == Some("::") {
                    used.extend(heads(tokens, at + 2 * ups));
                } else if let Some(name) =
                    module.len().checked_sub(ups).and_then(|left| module[..left].first())
                {
                    used.push((Used::Ours((*name).to_owned()), *line));
                }
            }
            name if dependencies.contains(name) => {
                let imported = at > 0 && tokens[at - 1].0 == "use";
                if next(1) == Some("::") || imported {
                    used.push((Used::Dependency(name.to_owned()), *line));
                }
            }
            _ => {}
        }
    }
    used
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// The modules that a path goes on with at `at`: one, or those of a group.
fn heads(tokens: &[Token], at: usize) -> Vec<(Used, usize)> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut fresh = true;
    for (word, line) in tokens.iter().skip(at) {
        match word.as_str() {
            "{" => depth += 1,
            "}" => depth = depth.saturating_sub(1),
            "," if depth == 1 => fresh = true,
            name if fresh => {
                found.push((Used::Ours(name.to_owned()), *line));
                fresh = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// The names of the dependencies, as they stand in paths.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    manifest["dependencies"].as_table().unwrap().keys().map(|name| name.replace('-', "_")).collect()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_keeps_to_its_rule() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let dependencies = dependencies();
    let mut found = Vec::new();
    let mut applied = [0; RULES.len()];
    for file in &files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        found.extend(violations(path, &fs::read_to_string(file).unwrap(), &dependencies));
        for (count, rule) in applied.iter_mut().zip(&RULES) {
            *count += usize::from(rule.of.iter().any(|name| path.starts_with(name)));
        }
    }
    found.sort();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
    assert!(applied.iter().all(|count| *count > 0), "a rule has no file any more: {applied:?}");
}

/// Debug output is Rust's, and nothing for the log or for users: what is shown so is text in quotes, here.
#[test]
fn debug_output_reaches_nobody() {
    const TEXTS: [&str; 6] = [
        "cli/control.rs",
        "config/parse.rs",
        "config/table.rs",
        "config/value.rs",
        "host/relay_account.rs",
        "tcpmux/entry.rs",
    ];
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut found = Vec::new();
    for file in &files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let source = fs::read_to_string(file).unwrap();
        if path.ends_with("/simulation.rs") {
            continue;
        }
        let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
        let code = code.split("#[cfg(test)]\npub").next().unwrap();
        let shown = code.lines().filter(|line| line.contains(":?}") || line.contains(":#?}"));
        found.extend(shown.filter(|_| !TEXTS.contains(&path)).map(|line| format!("{path}: {}", line.trim())));
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// The rules that a sample breaks, in short: the lines and the names.
fn broken(path: &str, source: &str) -> Vec<String> {
    let found = violations(path, source, &dependencies());
    found.iter().map(|text| text.split(", but").next().unwrap().to_owned()).collect()
}

#[test]
fn the_scanner_finds_what_breaks_a_rule() {
    let table: [(&str, &str, &[&str]); 20] = [
        ("wire/a.rs", "use crate::sys::pty;", &["src/wire/a.rs:1: Ours(\"sys\")"]),
        ("wire/a.rs", "\nuse std::io;\nuse libc::c_int;", &["src/wire/a.rs:3: Dependency(\"libc\")"]),
        ("wire/a.rs", "fn f() { nix::unistd::getpid(); }", &["src/wire/a.rs:1: Dependency(\"nix\")"]),
        ("wire/a.rs", "fn f() -> ::libc::c_int { 0 }", &["src/wire/a.rs:1: Dependency(\"libc\")"]),
        ("wire/a.rs", "use libc;", &["src/wire/a.rs:1: Dependency(\"libc\")"]),
        ("wire/mod.rs", "use super::sys;", &["src/wire/mod.rs:1: Ours(\"sys\")"]),
        ("wire/a.rs", "use super::super::sys;", &["src/wire/a.rs:1: Ours(\"sys\")"]),
        (
            "trust/verdict/search.rs",
            "use crate::audit::x;",
            &["src/trust/verdict/search.rs:1: Ours(\"audit\")"],
        ),
        ("audit/event.rs", "use crate::config;", &["src/audit/event.rs:1: Ours(\"config\")"]),
        ("config/mod.rs", "fn f(x: crate::ipc::Y) {}", &["src/config/mod.rs:1: Ours(\"ipc\")"]),
        ("sys/a.rs", "use crate::{\n    sys::x,\n    wire::{y, z},\n};", &["src/sys/a.rs:3: Ours(\"wire\")"]),
        ("host.rs", "use crate::monitor::X;", &["src/host.rs:1: Ours(\"monitor\")"]),
        ("check/a.rs", "use crate::doctor::X;", &["src/check/a.rs:1: Ours(\"doctor\")"]),
        ("doctor/a.rs", "use crate::monitor::X;", &["src/doctor/a.rs:1: Ours(\"monitor\")"]),
        ("relay/a.rs", "use crate::monitor::X;", &["src/relay/a.rs:1: Ours(\"monitor\")"]),
        ("monitor/a.rs", "use rlogind::session;", &["src/monitor/a.rs:1: Ours(\"session\")"]),
        ("session/a.rs", "use crate::{ipc, relay};", &["src/session/a.rs:1: Ours(\"relay\")"]),
        ("cli.rs", "use crate::relay;\nuse crate::session;", &["src/cli.rs:2: Ours(\"session\")"]),
        ("ipc.rs", "fn f() {\n    unsafe { g() }\n}", &["src/ipc.rs:2: unsafe"]),
        ("ipc.rs", "/* a /* b */ c */ let q = '\\''; unsafe impl X for Y {}", &["src/ipc.rs:1: unsafe"]),
    ];
    for (path, source, expected) in table {
        assert_eq!(broken(path, source), expected, "{source}");
    }
}

#[test]
fn the_scanner_leaves_the_rest_alone() {
    let table = [
        ("wire/a.rs", "use std::fmt;\nuse zeroize::Zeroizing;\nuse super::b;\nuse crate::wire::c;"),
        ("wire/a.rs", "// use crate::sys;\n/// crate::sys\n/* libc::x */ const A: &str = \"crate::sys::x\";"),
        (
            "wire/a.rs",
            "const A: &str = r#\"crate::sys \" libc::x\"#; const B: u8 = b'\"'; fn f<'a>(x: &'a u8) {}",
        ),
        ("wire/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::sys;\n    fn f() { if x {} }\n}"),
        ("wire/mod.rs", "#![forbid(unsafe_code)]\npub mod a;"),
        ("trust/files.rs", "use crate::sys::identity;\nuse nix::libc;"),
        ("trust/a.rs", "use crate::config::X;\nuse ipnet::IpNet;\nuse serde::Serialize;"),
        ("sys/a.rs", "// SAFETY: ...\nunsafe { f() };\nuse super::b;"),
        ("host.rs", "use crate::config::Config;\nuse crate::sys::socket;\nuse nix::unistd::User;"),
        ("main.rs", "use rlogind::{monitor, relay, session};"),
        ("relay/mod.rs", "use crate::{ipc, sys, wire};\nmod monitor_link;"),
        ("relay/a.rs", "fn f(session: X) { session.monitor(); }"),
    ];
    for (path, source) in table {
        assert_eq!(broken(path, source), Vec::<String>::new(), "{source}");
    }
    // What stands behind a test module counts again.
    let source = "#[cfg(test)]\nuse crate::sys;\nuse crate::ipc;";
    assert_eq!(broken("wire/a.rs", source), ["src/wire/a.rs:3: Ours(\"ipc\")"]);
}
