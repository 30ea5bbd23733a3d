//! The decision whether a password is asked.
//!
//! The rules of the configuration are looked at first, then `/etc/hosts.equiv`,
//! then `~/.rhosts`; in each, the first line that decides wins, and a refusal
//! ends the search. Pure: files, names and netgroups are asked of a [`World`].
//!
//! The safe side, wherever a question stays open: a permission needs every part
//! of it to be true; a refusal stands unless a part of it is false. So a
//! `-host` whose name nobody can look up just now, or a `-@group` while the
//! client's name is not confirmed, costs a password. And where
//! `/etc/hosts.equiv` exists but cannot be believed, its refusals are unknown,
//! so `~/.rhosts` does not count either.

mod asked;
pub(super) mod search;

use std::fmt;

use serde::Serialize;

use self::search::Search;
use super::world::{Query, Skip, World};
use crate::config;

/// What the administrator decided beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// `[trust]`
    pub trust: &'a config::Trust,
    /// `[login]`
    pub login: &'a config::Login,
    /// The file both were read from, for the log.
    pub config_path: &'a str,
}

/// A verdict, and how it came about.
#[derive(Debug)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Every rule and file looked at, in order.
    pub steps: Vec<Step>,
    /// How many steps were left out because there were too many; the deciding
    /// one never is.
    pub omitted: usize,
}

/// What becomes of a login.
#[derive(Debug)]
pub enum Verdict {
    /// No password is asked.
    Trusted {
        /// The rule that said so.
        place: Place,
        /// Whether it said so of any host or any user.
        wildcard: bool,
        /// The proof.
        granted: Granted,
    },
    /// A rule says that a password is needed.
    Denied {
        /// The rule.
        place: Place,
    },
    /// The connection is to be refused.
    Refused(RefusedBy),
    /// No rule decided; a password is needed.
    Undecided(Reason),
}

/// Proof that the trust rules let one account in; only [`decide`] makes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    account: String,
}

impl Granted {
    /// The account that may be logged in.
    pub fn account(&self) -> &str {
        &self.account
    }
}

/// Where a rule stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line in it, from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)
    }
}

/// What refuses a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefusedBy {
    /// A `[[trust.rule]]`.
    Rule(Place),
    /// `login.unreserved_port = "refuse"`.
    UnreservedPort,
}

/// Why no rule decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The source port is not a reserved one.
    PortNotReserved,
    /// The client is this machine, on which anybody may open a reserved port.
    PortOpenHere,
    /// The account's password is locked.
    Locked,
    /// The client's address can be anyone's on another link.
    LinkLocal,
    /// The client named no user of its own.
    NoRemoteUser,
    /// There is no such account.
    NoSuchAccount,
    /// The account is root's, and `login.root` is not `"trust"`.
    Root,
    /// The client's address is outside `trust.files_from`.
    NotFrom,
    /// A file is not believed.
    Skipped {
        /// The file.
        file: String,
        /// Why.
        why: Skip,
    },
    /// A file has more lines, or needs more or longer look-ups, than are allowed.
    TooMuch {
        /// The file.
        file: String,
    },
    /// No line matched.
    NoMatch,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::PortNotReserved => f.write_str("the source port is not a reserved one (512 to 1023)"),
            Reason::PortOpenHere => f.write_str(
                "the client is this machine, where net.ipv4.ip_unprivileged_port_start lets anybody open reserved ports",
            ),
            Reason::Locked => f.write_str("the account's password is locked (trust.locked)"),
            Reason::LinkLocal => f.write_str("a link-local address can be anyone's on another link"),
            Reason::NoRemoteUser => f.write_str("the client named no user of its own"),
            Reason::NoSuchAccount => f.write_str("there is no such account"),
            Reason::Root => f.write_str("root is trusted only with login.root = \"trust\""),
            Reason::NotFrom => f.write_str("the client is outside trust.files_from"),
            Reason::Skipped { file, why } => write!(f, "{file} is not believed: {why}"),
            Reason::TooMuch { file } => write!(f, "{file} has too many lines or needs too many or too long look-ups"),
            Reason::NoMatch => f.write_str("no rule matched"),
        }
    }
}

/// One rule or file looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The file.
    pub file: String,
    /// The line in it; none when the file as a whole is meant.
    pub line: Option<u32>,
    /// The line, bounded and escaped.
    pub text: String,
    /// What it did.
    pub outcome: StepOutcome,
    /// Why.
    pub note: String,
}

/// What a rule or file did for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It decided.
    Decided,
    /// It did not match; the search went on.
    NoMatch,
    /// A rule of the configuration that could not be checked. The search goes
    /// on, but only to another refusal: there is no trust any more.
    Unchecked,
    /// It was not looked at.
    Skipped,
}

/// Decides whether a password is asked.
pub fn decide(policy: &Policy<'_>, query: &Query<'_>, world: &mut dyn World) -> Decision {
    Search::new(policy, query, world).run()
}
