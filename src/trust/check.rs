//! `rlogind trust check`: what is wrong with the trust files.
//!
//! It reads them exactly as a login does and says where they do not mean what
//! they seem to mean. It must never change a file, nor decide anything.

mod lines;

use std::fmt;
use std::io::{self, Write};

use nix::unistd::geteuid;

use self::lines::{Lines, Seen};
use super::accounts;
use super::files::SystemWorld;
use super::rules::printable;
use super::verdict::search::{HOSTS_EQUIV_BOUNDS, RHOSTS_BOUNDS};
use super::world::{Account, FileContent, HOSTS_EQUIV, Skip, World};
use crate::config::{Config, RootLogin};
use crate::sys::identity;

/// How much of a file's name is shown, in bytes.
const SHOWN: usize = 240;

/// Whose files to read. `/etc/hosts.equiv` is always read, since it is everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckWhich {
    /// One account's.
    User(String),
    /// All that the system lists.
    All,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// The line, from 1; none when the file as a whole is meant.
    pub line: Option<u32>,
    /// What is wrong.
    pub text: String,
    /// Why the file is not believed, if that is it.
    pub skip: Option<Skip>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.file.as_bytes(), SHOWN))?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Lists on `out` what is wrong with the trust files; true if anything is.
///
/// # Errors
/// When an account does not exist or the data base does not answer, when files
/// of all users are wanted by somebody who is not root, or when `out` cannot be
/// written.
pub fn check(which: &CheckWhich, config: &Config, out: &mut dyn Write) -> io::Result<bool> {
    let accounts = match which {
        CheckWhich::User(name) => {
            vec![accounts::account(name)?.ok_or_else(|| {
                // Anything may have been typed.
                io::Error::other(format!("there is no account {}", printable(name.as_bytes(), SHOWN)))
            })?]
        }
        CheckWhich::All if !geteuid().is_root() => {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "only root can read all users' files",
            ));
        }
        CheckWhich::All => {
            let found = identity::account_names().into_iter().map(|name| accounts::account(&name));
            found.filter_map(Result::transpose).collect::<io::Result<_>>()?
        }
    };
    let mut world = SystemWorld::default();
    let mut checker = Checker::new(config, &mut world);
    checker.hosts_equiv();
    for account in &accounts {
        checker.rhosts(account);
    }
    for finding in &checker.findings {
        writeln!(out, "{finding}")?;
    }
    if checker.findings.is_empty() {
        writeln!(out, "Nothing is wrong in the {} trust files that exist.", checker.files)?;
    }
    Ok(!checker.findings.is_empty())
}

/// Goes through the files and gathers what is wrong.
pub struct Checker<'a> {
    config: &'a Config,
    lines: Lines<'a>,
    /// What `/etc/hosts.equiv` decides before any `.rhosts` is looked at.
    equiv: Seen,
    /// How many files there were.
    pub files: usize,
    /// What is wrong with them.
    pub findings: Vec<Finding>,
}

impl<'a> Checker<'a> {
    /// Nothing looked at yet.
    pub fn new(config: &'a Config, world: &'a mut dyn World) -> Self {
        let lines = Lines::new(&config.trust, world);
        Checker { config, lines, equiv: Seen::default(), files: 0, findings: Vec::new() }
    }

    /// Checks `/etc/hosts.equiv`; to be called before any user's file is checked.
    pub fn hosts_equiv(&mut self) {
        let content = self.lines.world().hosts_equiv();
        let unused = (!self.config.trust.hosts_equiv).then_some("trust.hosts_equiv = false");
        let so = "; until it is put right, no file trusts anyone";
        if let Some(bytes) = self.usable(HOSTS_EQUIV, content, unused, so) {
            let (seen, findings) =
                self.lines.check(HOSTS_EQUIV, &bytes, &HOSTS_EQUIV_BOUNDS, None, &Seen::default());
            self.equiv = seen;
            self.findings.extend(findings);
        }
    }

    /// Checks an account's `.rhosts`.
    pub fn rhosts(&mut self, account: &Account) {
        let file = account.home.join(".rhosts").to_string_lossy().into_owned();
        let content = self.lines.world().rhosts(account);
        let root = account.uid == 0;
        let unused = if !self.config.trust.rhosts {
            Some("trust.rhosts = false")
        } else if root && self.config.login.root != RootLogin::Trust {
            Some("root is trusted only with login.root = \"trust\"")
        } else {
            None
        };
        if let Some(bytes) = self.usable(&file, content, unused, "") {
            let nothing = Seen::default();
            // hosts.equiv never counts for root.
            let before = if root { &nothing } else { &self.equiv };
            let (_, findings) = self.lines.check(&file, &bytes, &RHOSTS_BOUNDS, Some(&account.name), before);
            self.findings.extend(findings);
        }
    }

    /// The bytes of a file that a login would believe.
    fn usable(
        &mut self,
        file: &str,
        content: FileContent,
        unused: Option<&str>,
        so: &str,
    ) -> Option<Vec<u8>> {
        let (text, skip) = match (content, unused) {
            (FileContent::Absent, _) => return None,
            (FileContent::Text(bytes), None) => {
                self.files += 1;
                return Some(bytes);
            }
            (FileContent::Text(_), Some(why)) => (format!("never looked at: {why}"), None),
            (FileContent::Skipped(why), _) => (format!("not believed: {why}{so}"), Some(why)),
        };
        self.files += 1;
        self.findings.push(Finding { file: file.to_owned(), line: None, text, skip });
        None
    }
}
