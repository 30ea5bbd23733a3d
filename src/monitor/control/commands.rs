//! What commands do to sessions.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use crate::control::protocol::{Answer, LONGEST_MESSAGE, MOST_IDS, Outcome, Recipients};
use crate::control::visible;
use crate::ipc::{ConnectionId, ToSession};
use crate::monitor::session::{Session, Stage};
use crate::monitor::{HANG_UP_GRACE, Monitor};
use crate::sys::local::Peer;
use crate::sys::pty;

/// The longest name of a sender that is shown, in characters.
const LONGEST_NAME: usize = 32;
/// What is said of a session that nobody has.
const NO_SUCH: &str = "there is no such session";
/// What is said of one that ends.
const ENDING: &str = "it is ending already";

impl Monitor {
    /// Hangs up the sessions with these numbers.
    pub(super) fn kill_sessions(&mut self, peer: Peer, numbers: &[u64], now: Instant) -> Answer {
        let mut outcomes = Vec::new();
        let mut once = BTreeSet::new();
        for &number in numbers.iter().take(MOST_IDS).filter(|number| once.insert(**number)) {
            let found = self.session_number(number);
            let trouble = match found.and_then(|id| Some((id, self.sessions.get(id)?))) {
                None => Some(NO_SUCH),
                Some((_, session)) if session.is_ending() => Some(ENDING),
                Some((id, session)) => {
                    let told = format!("kill {number} ({} on {})", session.name(), session.tty);
                    self.note_command(peer, &told, now);
                    self.hang_up(id, now);
                    None
                }
            };
            outcomes.push(Outcome { id: number, trouble: trouble.map(str::to_owned) });
        }
        Answer::Each(outcomes)
    }

    /// Ends a session as its client's going would; the relay sends what it showed last.
    fn hang_up(&mut self, id: ConnectionId, now: Instant) {
        let deadline = self.sessions.deadline(id).into_iter().chain([now + HANG_UP_GRACE]).min();
        self.sessions.set_deadline(id, deadline);
        self.tell_session(id, Some(&ToSession::HangUp), now);
    }

    fn session_number(&self, number: u64) -> Option<ConnectionId> {
        self.sessions.iter().find(|(_, session)| session.number == number).map(|(id, _)| id)
    }

    /// Shows a text on the terminals of sessions.
    pub(super) fn show_message(
        &mut self,
        peer: Peer,
        to: &Recipients,
        sender: &str,
        text: &str,
        now: Instant,
    ) -> Answer {
        if text.len() > LONGEST_MESSAGE || sender.len() > LONGEST_MESSAGE {
            return super::refused("the message is too long");
        }
        let shown = format(peer, sender, text);
        let by_root = peer.uid == 0;
        let mut outcomes = Vec::new();
        match to {
            Recipients::All => {
                let open = self.sessions.values();
                let open = open
                    .filter(|session| matches!(session.stage, Stage::Open { .. }) && !session.is_ending());
                for session in open {
                    outcomes.push(Outcome { id: session.number, trouble: show(session, &shown, by_root) });
                }
                outcomes.sort_by_key(|outcome| outcome.id);
            }
            Recipients::Ids(numbers) => {
                let mut once = BTreeSet::new();
                for &number in numbers.iter().take(MOST_IDS).filter(|number| once.insert(**number)) {
                    let session = self.session_number(number).and_then(|id| self.sessions.get(id));
                    let trouble = match session {
                        Some(session) => show(session, &shown, by_root),
                        None => Some(NO_SUCH.to_owned()),
                    };
                    outcomes.push(Outcome { id: number, trouble });
                }
            }
        }
        let of = outcomes.len();
        let reached: Vec<String> =
            outcomes.iter().filter(|outcome| outcome.trouble.is_none()).map(|o| o.id.to_string()).collect();
        let told = format!("message ({text}) to {of} sessions, shown in ({})", reached.join(" "));
        self.note_command(peer, &told, now);
        Answer::Each(outcomes)
    }
}

/// The text as it is shown. The name is the sender's own word, the number is not.
fn format(peer: Peer, sender: &str, text: &str) -> String {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = visible(&host.to_string_lossy());
    let sender = match peer.uid {
        0 => "root".to_owned(),
        uid => format!("{} (uid {uid})", account_name(sender)),
    };
    let lines: Vec<String> = text.lines().map(plain).collect();
    format!("\r\n\x07Message from {sender} on {host}:\r\n{}\r\n", lines.join("\r\n"))
}

/// What of a name an account may have; the rest could move the number out of sight.
fn account_name(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    name.chars().filter(is_plain).take(LONGEST_NAME).collect()
}

/// The text in ASCII: on a terminal that knows eight bits only, a byte of UTF-8 may be a control character.
fn plain(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }
    };
    visible(text).chars().map(escaped).collect()
}

/// Shows it to one user; returns why not.
fn show(session: &Session, text: &str, by_root: bool) -> Option<String> {
    let Some((leader, _)) = session.ends.as_ref().filter(|_| !session.is_ending()) else {
        return Some(ENDING.to_owned());
    };
    match &session.stage {
        // It would stand in the midst of a prompt, for nobody in particular.
        Stage::LoggingIn { .. } => return Some("nobody is logged in there yet".to_owned()),
        Stage::Open { .. } => {}
    }
    let shown = pty::open_follower(leader.as_fd()).map_err(|error| format!("its terminal: {error}"));
    shown.and_then(|terminal| write_to(&terminal, text, by_root)).err()
}

/// Writes to a terminal that may be stopped, full or closed to others.
fn write_to(mut terminal: &File, text: &str, by_root: bool) -> Result<(), String> {
    /// What mesg(1) takes away.
    const GROUP_MAY_WRITE: u32 = 0o020;
    let open = terminal.metadata().is_ok_and(|data| data.mode() & GROUP_MAY_WRITE != 0);
    if !open && !by_root {
        return Err("its user takes no messages".to_owned());
    }
    match terminal.write(text.as_bytes()) {
        Ok(length) if length == text.len() => Ok(()),
        Ok(_) => Err("its terminal took only the beginning".to_owned()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            Err("its terminal takes nothing now".to_owned())
        }
        Err(error) => Err(format!("its terminal: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_shown_cannot_do_more_than_be_read() {
        let root = Peer { pid: 1, uid: 0 };
        let text = format(root, "somebody", "down at 5\n\x1b[2Jbye");
        assert!(text.starts_with("\r\n\x07Message from root on "), "{text:?}");
        assert!(text.ends_with(":\r\ndown at 5\r\n^[[2Jbye\r\n"), "{text:?}");
        let sender = format!("root on e2e:{}\x1bthe machine goes down", " ".repeat(70));
        let other = format(Peer { pid: 1, uid: 1000 }, &sender, "\u{11b}2J");
        assert!(other.contains("Message from rootone2ethemachinegoesdown (uid 1000) on "), "{other:?}");
        assert!(other.ends_with(":\r\n\\u{11b}2J\r\n"), "{other:?}");
    }

    #[test]
    fn a_terminal_that_takes_nothing_is_not_waited_for() {
        let pair = pty::open().unwrap();
        let open = || pty::open_follower(pair.leader.as_fd()).unwrap();
        open().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        let closed = write_to(&open(), "x", false);
        assert_eq!(closed, Err("its user takes no messages".to_owned()));
        assert_eq!(write_to(&open(), "for root", true), Ok(()));
        let mut got = [0; 64];
        let length = File::from(pair.leader.try_clone().unwrap()).read(&mut got).unwrap();
        assert_eq!(&got[1..length], b"for root");
        open().set_permissions(std::fs::Permissions::from_mode(0o620)).unwrap();
        let mut outcomes = (0..1000).map(|_| write_to(&open(), &"x".repeat(1000), false));
        let trouble = outcomes.find_map(Result::err).unwrap();
        assert!(trouble.starts_with("its terminal "), "{trouble}");
        assert_eq!(write_to(&open(), "x", true), Err("its terminal takes nothing now".to_owned()));
    }
}
