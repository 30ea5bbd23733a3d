//! What the audit log can say.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The daemon serves from now on.
    Started {
        /// The version of this program.
        version: String,
        /// What it listens on.
        listen: Vec<SocketAddr>,
    },
    /// Another version of the program has taken the daemon over.
    Upgraded {
        /// The version before.
        from: String,
        /// The version of this program.
        version: String,
        /// How many sessions go on.
        sessions: usize,
        /// How many upgrades this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// The daemon lets nobody in any more, and ends with its last session.
    Draining {
        /// How many there are.
        sessions: usize,
    },
    /// The daemon ends.
    Stopped {
        /// Why, e.g. the signal's name.
        cause: String,
    },
    /// A configuration is in force.
    ConfigRead {
        /// The file, or "built-in defaults".
        path: String,
        /// How often it was read (1 unless the log was thinned).
        count: u32,
    },
    /// A configuration was not taken; the old one stays in force.
    ConfigRefused {
        /// The file.
        path: String,
        /// What is wrong with it, with line and key.
        error: String,
        /// How often it was not taken (1 unless the log was thinned).
        count: u32,
    },
    /// An administrator's command that changes something.
    Control {
        /// Who asked: the user id of the command's process, by the kernel's word.
        uid: u32,
        /// That process.
        pid: u32,
        /// What for; may hold what was sent, so the formatter escapes it.
        command: String,
        /// How many commands of that user this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// Something is not as configured or not as it should be, and what was done about it.
    Warning {
        /// The whole sentence.
        text: String,
    },
    /// The same, where it comes from a reload or an upgrade: members of a group can ask for one after the other.
    CommandWarning {
        /// The whole sentence.
        text: String,
        /// How many such warnings this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// A client connected and was let in to say what it wants.
    Connection {
        /// The client's address and port; the last one's when there are more.
        peer: SocketAddr,
        /// Which door it came through.
        via: Via,
        /// How many connections this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// A client was refused before there was a session.
    Refused {
        /// The client's address and port; the last one's when there are more.
        peer: SocketAddr,
        /// Why; may hold what the client sent, so the formatter escapes it.
        reason: String,
        /// How many refusals this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// The system is short of something, and clients feel it.
    Shortage {
        /// The whole sentence.
        text: String,
        /// How often this line's shortage was met (1 unless the log was thinned).
        count: u32,
    },
    /// Something that happened in a login or session.
    Login {
        /// The client's address and port; the last one's when there are more.
        peer: SocketAddr,
        /// The terminal's name, e.g. `pts/3`.
        tty: String,
        /// What happened; the last time when there are more.
        event: LoginEvent,
        /// How many such events this line stands for (1 unless the log was thinned).
        count: u32,
    },
    /// Lines of PAM's modules, from logins that were not complete, that were left out.
    ModuleLines {
        /// The client's address and port; the last one's when there are more.
        peer: SocketAddr,
        /// How many lines.
        count: u32,
    },
    /// A session ended.
    SessionClosed {
        /// The client's address and port.
        peer: SocketAddr,
        /// The terminal's name.
        tty: String,
        /// Who was logged in.
        user: String,
        /// From the shell's start to its end.
        duration: Duration,
        /// Bytes from the client to the terminal.
        bytes_in: u64,
        /// Bytes from the terminal to the client.
        bytes_out: u64,
        /// How it ended.
        end: SessionEnd,
        /// Who ended it, unless the user's shell did so by itself.
        by: Option<EndedBy>,
    },
    /// Lines that no syslog took.
    Lost {
        /// How many.
        lines: u64,
    },
}

/// Who ended a session or a login that would have gone on otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndedBy {
    /// The client closed or broke the connection.
    Client,
    /// The kernel, as nothing that was sent was acknowledged any more: `limits.unacknowledged` and `limits.keepalive`.
    Silence,
    /// `rlogind kill`.
    Kill {
        /// The user who asked.
        uid: u32,
    },
    /// The end of the daemon.
    Stop,
    /// `limits.idle`.
    Idle,
    /// `limits.login`.
    LoginTime,
    /// `limits.startups`: another connection has its place.
    Startups,
    /// No descriptor or memory was left for it.
    Shortage,
    /// The session process said what none of ours says.
    Violation,
}

impl EndedBy {
    /// Its name in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EndedBy::Client => "client",
            EndedBy::Silence => "silence",
            EndedBy::Kill { .. } => "kill",
            EndedBy::Stop => "stop",
            EndedBy::Idle => "idle",
            EndedBy::LoginTime => "login-time",
            EndedBy::Startups => "startups",
            EndedBy::Shortage => "shortage",
            EndedBy::Violation => "violation",
        }
    }

    /// Why a login that it ended came to nothing.
    #[must_use]
    pub fn reason(self) -> String {
        match self {
            EndedBy::Client => "the client left during the login".to_owned(),
            EndedBy::LoginTime => "the login took too long".to_owned(),
            EndedBy::Silence
            | EndedBy::Kill { .. }
            | EndedBy::Stop
            | EndedBy::Idle
            | EndedBy::Startups
            | EndedBy::Shortage
            | EndedBy::Violation => self.to_string(),
        }
    }
}

impl Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndedBy::Client => f.write_str("the client left"),
            EndedBy::Silence => f.write_str("the client acknowledged nothing any more"),
            EndedBy::Kill { uid } => write!(f, "user {uid} asked to kill it"),
            EndedBy::Stop => f.write_str("rlogind stops"),
            EndedBy::Idle => f.write_str("nothing came or went for the idle time"),
            EndedBy::LoginTime => f.write_str("the time for the login was over"),
            EndedBy::Startups => f.write_str("it gave way to another connection"),
            EndedBy::Shortage => f.write_str("no descriptor or memory was left for it"),
            EndedBy::Violation => f.write_str("its process said what is no message of ours"),
        }
    }
}

/// Which door a client came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Via {
    /// The rlogin port.
    Rlogin,
    /// TCPMUX (RFC 1078).
    Tcpmux,
    /// Standard input, from a superserver.
    Inetd,
}

impl Via {
    /// Its name in the log and in what commands print.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Via::Rlogin => "rlogin",
            Via::Tcpmux => "tcpmux",
            Via::Inetd => "inetd",
        }
    }
}

/// What the session process reports of one login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LoginEvent {
    /// A trust rule let the user in, whose account may log in.
    TrustGranted {
        /// The account.
        user: String,
        /// The user on the client's side.
        remote_user: String,
        /// The client's confirmed host name.
        host: Option<String>,
        /// The file of the rule that decided.
        file: String,
        /// Its line, from 1.
        line: u32,
        /// Whether a bare `+` decided: such a login is logged as a warning.
        wildcard: bool,
    },
    /// A rule says that a password is needed, or that nobody gets in.
    TrustDenied {
        /// The account, when it exists.
        user: Option<String>,
        /// The client's confirmed host name.
        host: Option<String>,
        /// The file of the rule that decided.
        file: String,
        /// Its line, from 1.
        line: u32,
    },
    /// No rule decided, or none was looked at.
    TrustAbsent {
        /// The account, when it exists.
        user: Option<String>,
        /// The client's confirmed host name.
        host: Option<String>,
        /// Why, e.g. "source port not reserved".
        reason: String,
    },
    /// PAM accepted the password (or whatever it asked for).
    PasswordAccepted {
        /// The account.
        user: String,
        /// The client's confirmed host name.
        host: Option<String>,
    },
    /// PAM did not.
    PasswordFailed {
        /// The account, when it exists: anything else may be a mistyped password.
        user: Option<String>,
        /// The client's confirmed host name.
        host: Option<String>,
        /// Which attempt, from 1.
        attempt: u32,
        /// PAM's word for it.
        reason: String,
    },
    /// The account may not log in (expired, locked, nologin, at this time, …).
    AccountRefused {
        /// The account.
        user: String,
        /// The client's confirmed host name.
        host: Option<String>,
        /// PAM's word for it.
        reason: String,
    },
    /// The login ended without a session.
    Abandoned {
        /// Why: timed out, client gone, too many attempts, …
        reason: String,
    },
    /// The shell runs.
    Opened {
        /// The account.
        user: String,
        /// The user on the client's side: only when a trust rule decided,
        /// because some clients send the password in its place.
        remote_user: Option<String>,
        /// The client's confirmed host name.
        host: Option<String>,
        /// The shell's process id.
        pid: u32,
    },
    /// Something of the session did not work and the session goes on, or the
    /// reason why it does not.
    Trouble {
        /// The account.
        user: String,
        /// The whole sentence.
        text: String,
    },
    /// The configured banner was not shown, which may be a legal one. The last one: sessions of earlier versions know
    /// the others by their places.
    BannerNotShown {
        /// The configured file.
        file: String,
        /// Why.
        reason: String,
    },
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEnd {
    /// The shell exited with this status.
    Exited(i32),
    /// The shell was ended by this signal.
    Signaled(i32),
    /// The client went and the shell did not end on the hang-up in time.
    LeftRunning,
    /// The session process itself ended before the shell.
    Lost,
}
