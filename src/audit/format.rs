//! Turns an [`Event`] into one line: an English sentence, then `key="value"`
//! fields.
//!
//! Pure. The first field is `event="…"`, a stable name to match on, followed by
//! `address="…"` and the others where the event has them. Whatever came from
//! outside is escaped: control, invisible and bidirectional characters, `"` and
//! `\` are `\xNN`, one for each byte of their UTF-8. So a `"` only ever opens or
//! closes a value, and no name can forge a field, in the sentence or out of it.

use std::fmt::{self, Display, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::escape::{Foreign, Text, Value, Word};
use super::event::{EndedBy, Event, LoginEvent, SessionEnd, Via};

/// How much a line matters; the names are those of syslog(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Something was not done that the administrator asked for.
    Error,
    /// Worth a look.
    Warning,
    /// Normal but significant, such as a refusal.
    Notice,
    /// What happens all day.
    Info,
}

/// One line of the audit log, without an end of line; less than 2 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How much it matters.
    pub severity: Severity,
    /// The sentence and the fields.
    pub text: String,
}

/// The line for an event.
#[must_use]
pub fn line(event: &Event) -> Line {
    match event {
        Event::Started { version, listen } => started(version, listen),
        Event::Upgraded { from, version, sessions, count } => {
            let sentence =
                format!("rlogind {} took over from {} with {sessions} sessions", Word(version), Word(from));
            let line = Line::new(Severity::Notice, sentence, "upgraded").field("version", version);
            line.field("from", from).field("sessions", sessions).times(*count)
        }
        Event::Draining { sessions } => {
            let sentence =
                format!("rlogind lets nobody in any more and ends with its last of {sessions} sessions");
            Line::new(Severity::Notice, sentence, "draining").field("sessions", sessions)
        }
        Event::Stopped { cause } => {
            Line::new(Severity::Notice, format!("rlogind stopped: {}", Text(cause)), "stopped")
                .field("cause", cause)
        }
        Event::ConfigRead { path, count } => {
            let sentence = format!("configuration read from {}", Text(path));
            Line::new(Severity::Info, sentence, "config-read").field("path", path).times(*count)
        }
        Event::ConfigRefused { path, error, count } => {
            let sentence =
                format!("configuration {} refused, nothing changed: {}", Word(path), Foreign(error));
            let line = Line::new(Severity::Error, sentence, "config-refused").field("path", path);
            line.field("error", error).times(*count)
        }
        Event::Control { uid, pid, command, count } => {
            let times = if *count > 1 { format!(" {count} times, the last time") } else { String::new() };
            let sentence = format!("user {uid} (process {pid}) asked{times} for: {}", Text(command));
            let line = Line::new(Severity::Notice, sentence, "control").field("uid", uid).field("pid", pid);
            let line = line.field("command", command);
            if *count > 1 { line.field("count", count) } else { line }
        }
        Event::Warning { text } => warning(text),
        Event::CommandWarning { text, count } => warning(text).times(*count),
        Event::Connection { peer, via, count } => connection(*peer, *via, *count),
        Event::Refused { peer, reason, count } => refused(*peer, reason, *count),
        Event::Shortage { text, count } => {
            let times = if *count > 1 { format!("{count} times: ") } else { String::new() };
            Line::new(Severity::Warning, format!("{times}{}", Text(text)), "shortage").count(*count)
        }
        Event::Login { peer, tty, event, count } => login(&Place { peer: *peer, tty }, event).times(*count),
        Event::ModuleLines { peer, count } => {
            let from = address(*peer);
            let sentence = format!("lines of PAM modules left out: {count}, the last of a login from {from}");
            Line::new(Severity::Notice, sentence, "module-lines").peer(*peer).field("count", count)
        }
        Event::SessionClosed { peer, tty, user, duration, bytes_in, bytes_out, end, by } => {
            closed(&Place { peer: *peer, tty }, user, *duration, *end, *by)
                .field("bytes_in", bytes_in)
                .field("bytes_out", bytes_out)
        }
        Event::Lost { lines } => {
            let sentence = format!("audit lines lost because syslog did not take them: {lines}");
            Line::new(Severity::Warning, sentence, "lines-lost").field("lines", lines)
        }
    }
}

impl Line {
    /// `sentence` is already escaped; the other methods escape by themselves.
    fn new(severity: Severity, sentence: String, event: &'static str) -> Self {
        Line { severity, text: sentence }.field("event", event)
    }

    fn field(mut self, key: &'static str, value: impl Display) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.text, " {key}=\"{}\"", Value(&value.to_string()));
        self
    }

    fn optional(self, key: &'static str, value: Option<&String>) -> Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// How many events the line stands for, where it is not one.
    fn count(self, count: u32) -> Self {
        if count > 1 { self.field("count", count) } else { self }
    }

    /// The same, also in front of the sentence.
    fn times(mut self, count: u32) -> Self {
        if count > 1 {
            self.text.insert_str(0, &format!("{count} times, the last time: "));
        }
        self.count(count)
    }

    fn peer(self, peer: SocketAddr) -> Self {
        self.field("address", address(peer)).field("port", peer.port())
    }

    /// The fields that tell where a login comes from.
    fn source(self, place: &Place<'_>, host: Option<&String>) -> Self {
        self.optional("host", host).peer(place.peer).field("tty", place.tty)
    }

    fn rule(self, file: &str, line: u32) -> Self {
        self.field("file", file).field("line", line)
    }
}

/// Where a login happens.
struct Place<'a> {
    peer: SocketAddr,
    tty: &'a str,
}

impl<'a> Place<'a> {
    fn source(&self, host: Option<&'a String>) -> Source<'a> {
        Source { remote_user: None, host, peer: self.peer }
    }
}

/// "bob at host.example (192.0.2.7)", with as much as is known.
struct Source<'a> {
    remote_user: Option<&'a String>,
    host: Option<&'a String>,
    peer: SocketAddr,
}

impl Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.remote_user {
            write!(f, "{} at ", Word(user))?;
        }
        match self.host {
            Some(host) => write!(f, "{} ({})", Word(host), address(self.peer)),
            None => write!(f, "{}", address(self.peer)),
        }
    }
}

/// The account in a sentence. Without one the name that was asked for stays
/// out: it may be a password typed at the wrong prompt.
struct Account<'a>(Option<&'a String>);

impl Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(user) => write!(f, "{}", Word(user)),
            None => f.write_str("an unknown user"),
        }
    }
}

/// An IPv4 client of an IPv6 listener is an IPv4 client.
fn address(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn started(version: &str, listen: &[SocketAddr]) -> Line {
    let mut sentence = format!("rlogind {} started", Word(version));
    if listen.is_empty() {
        return Line::new(Severity::Notice, sentence, "started").field("version", version);
    }
    let listen = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
    let _ = write!(sentence, ", listening on {}", Text(&listen));
    Line::new(Severity::Notice, sentence, "started").field("version", version).field("listen", listen)
}

fn warning(text: &str) -> Line {
    Line::new(Severity::Warning, Text(text).to_string(), "warning")
}

fn connection(peer: SocketAddr, via: Via, count: u32) -> Line {
    let (via, from) = (via.name(), address(peer));
    let port = peer.port();
    let sentence = match count {
        0 | 1 => format!("{via} connection from {from} port {port}"),
        more => format!("{more} more connections, the last by {via} from {from} port {port}"),
    };
    Line::new(Severity::Info, sentence, "connection").peer(peer).field("via", via).count(count)
}

fn refused(peer: SocketAddr, reason: &str, count: u32) -> Line {
    let (from, port, why) = (address(peer), peer.port(), Text(reason));
    let sentence = match count {
        0 | 1 => format!("connection from {from} port {port} refused: {why}"),
        more => format!("{more} connections refused, the last from {from} port {port}: {why}"),
    };
    Line::new(Severity::Notice, sentence, "refused").peer(peer).field("reason", reason).count(count)
}

fn login(place: &Place<'_>, event: &LoginEvent) -> Line {
    match event {
        LoginEvent::TrustGranted { user, remote_user, host, file, line, wildcard } => {
            let source = Source { remote_user: Some(remote_user), ..place.source(host.as_ref()) };
            trust_granted(user, &source, file, *line, *wildcard)
                .field("user", user)
                .field("remote_user", remote_user)
                .source(place, host.as_ref())
                .rule(file, *line)
                .field("wildcard", if *wildcard { "yes" } else { "no" })
        }
        LoginEvent::TrustDenied { user, host, file, line } => {
            let account = Account(user.as_ref());
            let from = place.source(host.as_ref());
            let sentence = format!("{account} not trusted from {from} by the rule at {}:{line}", Word(file));
            Line::new(Severity::Notice, sentence, "trust-denied")
                .optional("user", user.as_ref())
                .source(place, host.as_ref())
                .rule(file, *line)
        }
        LoginEvent::TrustAbsent { user, host, reason } => {
            let account = Account(user.as_ref());
            let from = place.source(host.as_ref());
            let sentence = format!("{account} not trusted from {from}: {}", Text(reason));
            Line::new(Severity::Info, sentence, "trust-absent")
                .optional("user", user.as_ref())
                .source(place, host.as_ref())
                .field("reason", reason)
        }
        LoginEvent::PasswordAccepted { user, host } => {
            let sentence =
                format!("password accepted for {} from {}", Word(user), place.source(host.as_ref()));
            Line::new(Severity::Info, sentence, "password-accepted")
                .field("user", user)
                .source(place, host.as_ref())
        }
        LoginEvent::PasswordFailed { user, host, attempt, reason } => {
            password_failed(place, user.as_ref(), host.as_ref(), *attempt, reason)
        }
        LoginEvent::AccountRefused { user, host, reason } => {
            account_refused(place, user, host.as_ref(), reason)
        }
        LoginEvent::Abandoned { reason } => {
            let sentence = format!("login from {} given up: {}", place.source(None), Text(reason));
            Line::new(Severity::Notice, sentence, "login-abandoned")
                .source(place, None)
                .field("reason", reason)
        }
        LoginEvent::Opened { user, remote_user, host, pid } => {
            opened(place, user, remote_user.as_ref(), host.as_ref(), *pid)
        }
        LoginEvent::BannerNotShown { file, reason } => {
            let sentence =
                format!("banner {} not shown to {}: {}", Word(file), place.source(None), Text(reason));
            Line::new(Severity::Warning, sentence, "banner-not-shown")
                .source(place, None)
                .field("file", file)
                .field("reason", reason)
        }
        LoginEvent::Trouble { user, text } => {
            let sentence = format!("trouble for {} from {}: {}", Word(user), place.source(None), Text(text));
            Line::new(Severity::Warning, sentence, "session-trouble").field("user", user).source(place, None)
        }
    }
}

/// Without the fields.
fn trust_granted(user: &str, source: &Source<'_>, file: &str, line: u32, wildcard: bool) -> Line {
    let (severity, rule) =
        if wildcard { (Severity::Warning, "wildcard rule") } else { (Severity::Info, "rule") };
    let sentence = format!("{} trusted from {source} by the {rule} at {}:{line}", Word(user), Word(file));
    Line::new(severity, sentence, "trust-granted")
}

fn password_failed(
    place: &Place<'_>,
    user: Option<&String>,
    host: Option<&String>,
    attempt: u32,
    reason: &str,
) -> Line {
    let (account, from) = (Account(user), place.source(host));
    let sentence = format!("password failed for {account} from {from}, attempt {attempt}: {}", Text(reason));
    Line::new(Severity::Notice, sentence, "password-failed")
        .field("user", user.map_or("(unknown)", String::as_str))
        .source(place, host)
        .field("attempt", attempt)
        .field("reason", reason)
}

fn account_refused(place: &Place<'_>, user: &str, host: Option<&String>, reason: &str) -> Line {
    let sentence = format!("account {} refused from {}: {}", Word(user), place.source(host), Text(reason));
    Line::new(Severity::Notice, sentence, "account-refused")
        .field("user", user)
        .source(place, host)
        .field("reason", reason)
}

fn opened(
    place: &Place<'_>,
    user: &str,
    remote_user: Option<&String>,
    host: Option<&String>,
    pid: u32,
) -> Line {
    let source = Source { remote_user, ..place.source(host) };
    let sentence = format!("session opened for {} from {source} on {}", Word(user), Word(place.tty));
    Line::new(Severity::Info, sentence, "session-opened")
        .field("user", user)
        .optional("remote_user", remote_user)
        .source(place, host)
        .field("pid", pid)
}

fn closed(place: &Place<'_>, user: &str, duration: Duration, end: SessionEnd, by: Option<EndedBy>) -> Line {
    let duration = format!("{}.{:03}s", duration.as_secs(), duration.subsec_millis());
    let (severity, how) = match end {
        SessionEnd::Exited(status) => (Severity::Info, format!("exited with status {status}")),
        SessionEnd::Signaled(signal) => (Severity::Info, format!("ended by signal {signal}")),
        SessionEnd::LeftRunning => (Severity::Notice, "the client is gone and the shell goes on".to_owned()),
        SessionEnd::Lost => (Severity::Warning, "the session process ended before the shell".to_owned()),
    };
    let why = match by {
        // The words for the end have it.
        Some(EndedBy::Client) if end == SessionEnd::LeftRunning => String::new(),
        Some(by) => format!("{by}, "),
        None => String::new(),
    };
    let sentence = format!(
        "session closed for {} from {} on {} after {duration}: {why}{how}",
        Word(user),
        place.source(None),
        Word(place.tty)
    );
    let line = Line::new(severity, sentence, "session-closed")
        .field("user", user)
        .source(place, None)
        .field("duration", duration);
    let line = match end {
        SessionEnd::Exited(status) => line.field("end", "exited").field("status", status),
        SessionEnd::Signaled(signal) => line.field("end", "signaled").field("signal", signal),
        SessionEnd::LeftRunning => line.field("end", "left-running"),
        SessionEnd::Lost => line.field("end", "lost"),
    };
    match by {
        Some(EndedBy::Kill { uid }) => line.field("by", "kill").field("uid", uid),
        Some(by) => line.field("by", by.name()),
        None => line,
    }
}
