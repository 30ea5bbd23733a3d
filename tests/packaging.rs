//! The three ways to install, the .deb, the .rpm and `make install`, have the same files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "so a test fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use toml::{Table, Value};

const INSTALL: &str = include_str!("../packaging/install");

/// The section of Cargo.toml that one of the packagers reads.
fn metadata(name: &str) -> Table {
    let manifest: Table = include_str!("../Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"][name].as_table().unwrap().clone()
}

/// From where and to where each file goes, without a slash in front.
fn assets(name: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().trim_start_matches('/').to_owned();
    let asset = |asset: &Value| match asset.as_array() {
        Some(list) => (text(&list[0]), text(&list[1])),
        None => (text(&asset["source"]), text(&asset["dest"])),
    };
    metadata(name)["assets"].as_array().unwrap().iter().map(asset).collect()
}

/// The files to install that are in the sources: not those for one of the packagers, nor what only
/// one kind of system can use.
fn to_install() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = vec!["packaging/rlogind.toml".to_owned()];
    let folders = ["fail2ban", "inetd", "init", "rsyslog", "systemd", "sysusers"];
    for folder in folders.map(|folder| format!("packaging/{folder}")).iter().chain([&"docs/man".to_owned()]) {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            files.push(format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
        }
    }
    assert!(files.len() >= 15, "{files:?}");
    files
}

#[test]
fn every_file_is_in_both_packages_and_in_the_installation() {
    let (deb, rpm) = (assets("deb"), assets("generate-rpm"));
    let has = |assets: &[(String, String)], source: &str| assets.iter().any(|(from, _)| from == source);
    for file in to_install() {
        assert!(has(&deb, &file), "{file} is not in the .deb");
        // cargo-generate-rpm does not compress pages by itself.
        let compressed = format!("{}.gz", file.replace("docs/man/", "target/packaging/"));
        assert!(has(&rpm, &file) || has(&rpm, &compressed), "{file} is not in the .rpm");
        let name = file.trim_start_matches("packaging/systemd/");
        assert!(INSTALL.contains(name), "{file} is not installed by packaging/install");
    }
}

/// What stands in /etc is the administrator's: an upgrade must not overwrite it.
#[test]
fn what_is_in_etc_is_kept_by_upgrades() {
    let deb = metadata("deb");
    let kept: BTreeSet<&str> = deb["conf-files"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    let in_etc = assets("deb").into_iter().map(|(_, to)| format!("/{to}"));
    let in_etc: BTreeSet<String> = in_etc.filter(|to| to.starts_with("/etc/")).collect();
    assert_eq!(in_etc.iter().map(String::as_str).collect::<BTreeSet<_>>(), kept);
    for asset in metadata("generate-rpm")["assets"].as_array().unwrap() {
        let in_etc = asset["dest"].as_str().unwrap().starts_with("/etc/");
        assert_eq!(in_etc, asset.get("config").is_some(), "{asset}");
    }
}

/// The lines that the filter for fail2ban counts, of these, which have no date any more.
fn counted(lines: &[&str]) -> String {
    let filter = include_str!("../packaging/fail2ban/rlogind.conf");
    let pattern = filter.lines().find_map(|line| line.strip_prefix("failregex = ")).unwrap();
    let pattern = pattern.replace("<ADDR>", "[0-9a-f.:]+");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let found = Command::new("grep").args(["-P", &pattern]).arg(&log).output().unwrap();
    assert!(found.stderr.is_empty(), "{}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stdout).unwrap()
}

#[test]
fn fail2ban_counts_what_rlogind_has_written_and_no_other_program() {
    let fields = "event=\"password-failed\" user=\"alice\" address=\"192.0.2.1\" port=\"1023\" tty=\"pts/0\"";
    for of_rlogind in [" e2e rlogind[12]: ", " e2e.example.org rlogind[7]: ", " rlogind[12]: "] {
        let line = format!("{of_rlogind}password failed for alice from 192.0.2.1 {fields}");
        assert_eq!(counted(&[&line]), format!("{line}\n"));
    }
    for of_another in [
        " e2e sshd[77]: Invalid user x ",
        " e2e sshd[77]: rlogind[12]: ",
        " e2e su: rlogind[12]: ",
        " sshd[77]: rlogind[12]: ",
        " su: rlogind[12]: ",
        " e2e rlogind-session[12]: pam_x: ",
        " e2e xrlogind[12]: ",
        " e2e rlogind: ",
        " Nov 29 10:00:02 e2e rlogind[12]: ",
        " e2e rlogind[12]: \"",
    ] {
        assert_eq!(counted(&[&format!("{of_another}{fields}")]), "", "{of_another}");
    }
}
