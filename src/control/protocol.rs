//! What a command asks the daemon and what it is answered, as JSON.
//!
//! One connection asks once: a request in one datagram, then an answer in a memory file, the
//! descriptor of which comes with a datagram of one byte. So an answer can be of any
//! length, and a client that does not read holds nothing up.
//!
//! A command may be of another version than the daemon: a package is installed, and
//! `rlogind upgrade` comes from the new one. So fields and variants are added and never changed,
//! what is not known is ignored in an answer and refused in a request, and what may
//! be missing in an older one's words has a default.
//!
//! [`Sessions`] and [`Status`] are printed by `--json` as they are: rlogind(8) describes them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// The longest text that is shown to a user, in bytes.
pub const LONGEST_MESSAGE: usize = 1024;
/// The most sessions that one request may name.
pub const MOST_IDS: usize = 1024;

/// What a command asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Who is there? Answered by [`Answer::Sessions`].
    Sessions,
    /// How is the daemon? Answered by [`Answer::Status`].
    Status,
    /// Hang these sessions up. Answered by [`Answer::Each`].
    Kill {
        /// Their numbers.
        ids: Vec<u64>,
    },
    /// Show users a text. Answered by [`Answer::Each`].
    Message {
        /// Whom.
        to: Recipients,
        /// The name of who sends it, by his own word.
        sender: String,
        /// What is shown; lines end in a newline.
        text: String,
    },
    /// Let nobody in any more, and end with the last session. Answered by [`Answer::Done`].
    Drain,
    /// Have the executable on disk take over. Answered by [`Answer::Done`] when it has.
    Upgrade,
    /// Read the configuration again. Answered by [`Answer::Done`] when it is in force.
    Reload,
}

/// For whom a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recipients {
    /// Everybody who is logged in.
    All,
    /// Those in the sessions with these numbers.
    Ids(Vec<u64>),
}

/// What a command is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The daemon's version.
    pub version: String,
    /// What it says.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What the daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// All sessions, the oldest first.
    Sessions(Sessions),
    /// How the daemon is.
    Status(Box<Status>),
    /// What became of each session that was named.
    Each(Vec<Outcome>),
    /// It is done.
    Done {
        /// What there is to say of it, a sentence each.
        notes: Vec<String>,
    },
    /// It is not done, and nothing is changed.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What became of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The session's number.
    pub id: u64,
    /// Why it was not done; none when it was.
    pub trouble: Option<String>,
}

/// `rlogind sessions --json`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// The oldest first.
    pub sessions: Vec<SessionRow>,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    /// Its number, from 1 since the daemon was started.
    pub id: u64,
    /// How far it is.
    pub state: State,
    /// The account; while the user logs in, as far as it is known.
    pub user: Option<String>,
    /// The user on the client's side; only when trusted.
    pub remote_user: Option<String>,
    /// The client's confirmed host name.
    pub host: Option<String>,
    /// The client's address.
    pub address: IpAddr,
    /// The client's port.
    pub port: u16,
    /// The terminal's name, e.g. `pts/3`.
    pub tty: String,
    /// When the login began, or the shell once it runs, in seconds since 1970 (UTC).
    pub since: i64,
    /// For how long the client has sent nothing, in seconds.
    pub idle: Option<u64>,
    /// From the client to the terminal.
    pub bytes_in: u64,
    /// From the terminal to the client.
    pub bytes_out: u64,
    /// How the user got in.
    pub by: Option<By>,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nobody is logged in yet.
    Login,
    /// The shell runs.
    Open,
    /// It is on its way to its end.
    Closing,
}

/// How a user got in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// A trust rule.
    Trust,
    /// A password, or whatever else PAM asked for.
    Password,
}

/// `rlogind status --json`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// The monitor's process id.
    pub pid: u32,
    /// For how long it has served, upgrades included, in seconds.
    pub uptime: u64,
    /// The configuration that is in force.
    pub configuration: String,
    /// It lets nobody in any more.
    pub draining: bool,
    /// Where it listens.
    pub listeners: Vec<Door>,
    /// Sessions that there are.
    pub sessions: Count,
    /// The limits.
    pub limits: Limits,
    /// What happened since the start.
    pub totals: Totals,
}

/// Where the daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Door {
    /// The address.
    pub address: SocketAddr,
    /// `rlogin` or `tcpmux`.
    pub service: String,
}

/// Sessions by their state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The shell runs.
    pub open: u64,
    /// Nobody is logged in yet.
    pub login: u64,
    /// On their way to their end.
    pub closing: u64,
}

/// What of `[limits]` the counts are measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `limits.sessions`.
    pub sessions: u32,
    /// `limits.startups`: from how many logins on some are refused.
    pub startups: u32,
    /// `limits.startups`: from how many on the oldest give way.
    pub startups_full: u32,
}

/// What is counted from the daemon's start, upgrades included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Connections that were let in to say what they want.
    pub connections: u64,
    /// Connections that were refused before a session, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Logins by a trust rule.
    pub by_trust: u64,
    /// Logins by password.
    pub by_password: u64,
    /// Passwords that were wrong.
    pub password_failures: u64,
    /// Bytes from clients to terminals, in sessions that are over.
    pub bytes_in: u64,
    /// Bytes from terminals to clients, in sessions that are over.
    pub bytes_out: u64,
    /// Relays that ended by themselves and were replaced.
    pub relay_restarts: u64,
}

/// Reasons told apart; all others share one.
const MOST_REASONS: usize = 64;
/// The reasons that are not told apart.
const OTHER_REASONS: &str = "other";

impl Totals {
    /// Counts a refusal. What stands behind the reason's first colon may be a stranger's, and
    /// does not count.
    pub fn refuse(&mut self, reason: &str) {
        let kind = reason.split(':').next().unwrap_or("");
        let full = self.refused.len() >= MOST_REASONS && !self.refused.contains_key(kind);
        let kind = if full { OTHER_REASONS } else { kind };
        *self.refused.entry(kind.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_json_that_can_grow() {
        for (request, text) in [
            (Request::Sessions, r#""sessions""#),
            (Request::Kill { ids: vec![3, 4] }, r#"{"kill":{"ids":[3,4]}}"#),
            (
                Request::Message { to: Recipients::All, sender: "root".into(), text: "x".into() },
                r#"{"message":{"to":"all","sender":"root","text":"x"}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&request).unwrap(), text);
            assert_eq!(serde_json::from_str::<Request>(text).unwrap(), request);
        }
        assert!(serde_json::from_str::<Request>(r#""dance""#).is_err());
        let newer = r#"{"version":"9.9.9","done":{"notes":[],"colour":"blue"},"mood":"good"}"#;
        let reply: Reply = serde_json::from_str(newer).unwrap();
        assert_eq!(reply, Reply { version: "9.9.9".into(), answer: Answer::Done { notes: vec![] } });
    }

    #[test]
    fn reasons_are_bounded_and_hold_nothing_of_strangers() {
        let mut totals = Totals::default();
        totals.refuse("terminal type too long: abc");
        totals.refuse("terminal type too long: def");
        for number in 0..1000 {
            totals.refuse(&format!("reason {number}"));
        }
        assert_eq!(totals.refused["terminal type too long"], 2);
        assert_eq!(totals.refused.len(), MOST_REASONS + 1);
        assert_eq!(totals.refused[OTHER_REASONS], 1000 - 63);
    }
}
