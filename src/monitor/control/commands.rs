//! What commands do to sessions.

use std::collections::BTreeSet;
use std::time::Instant;

use super::notices::{self, NoticeId, Pending};
use super::{Asks, places};
use crate::audit::event::EndedBy;
use crate::control::protocol::{Answer, LONGEST_MESSAGE, MOST_IDS, Outcome, Recipients};
use crate::control::visible;
use crate::ipc::{ConnectionId, Notice, ToSession};
use crate::monitor::sessions::Stage;
use crate::monitor::{HANG_UP_GRACE, Monitor};
use crate::sys::local::Peer;

/// The longest name of a sender that is shown, in characters.
const LONGEST_NAME: usize = 32;
/// What is said of a session that nobody has.
const NO_SUCH: &str = "there is no such session";
/// What is said of one that ends.
pub(in crate::monitor) const ENDING: &str = "it is ending already";

impl Monitor {
    /// Hangs up the sessions with these numbers.
    pub(super) fn kill_sessions(&mut self, peer: Peer, numbers: &[u64], now: Instant) -> Answer {
        let mut outcomes = Vec::new();
        let mut once = BTreeSet::new();
        for &number in numbers.iter().take(MOST_IDS).filter(|number| once.insert(**number)) {
            let found = self.session_number(number);
            let trouble = match found.and_then(|id| Some((id, self.sessions.get(id)?))) {
                None => Some(NO_SUCH),
                Some((_, session)) if session.life.is_ending() => Some(ENDING),
                Some((id, session)) => {
                    let told = format!("kill {number} ({} on {})", session.name(), session.tty);
                    self.note_command(peer, &told, now);
                    self.hang_up(id, peer, now);
                    None
                }
            };
            outcomes.push(Outcome { id: number, trouble: trouble.map(str::to_owned) });
        }
        Answer::Each(outcomes)
    }

    /// Ends a session as its client's going would; the relay sends what it showed last.
    fn hang_up(&mut self, id: ConnectionId, peer: Peer, now: Instant) {
        let by = EndedBy::Kill { uid: peer.uid };
        self.sessions.get_mut(id).into_iter().for_each(|session| session.end_by(by));
        let deadline = self.sessions.deadline(id).into_iter().chain([now + HANG_UP_GRACE]).min();
        self.sessions.set_deadline(id, deadline);
        self.tell_session(id, Some(&ToSession::HangUp), now);
    }

    fn session_number(&self, number: u64) -> Option<ConnectionId> {
        self.sessions.iter().find(|(_, session)| session.number == number).map(|(id, _)| id)
    }

    /// Has a text shown on the terminals of sessions. The command is answered when that is done.
    pub(super) fn show_message(
        &mut self,
        asks: Asks,
        to: &Recipients,
        sender: &str,
        text: &str,
        now: Instant,
    ) {
        let Asks { channel, peer, with_descriptors } = asks;
        if text.len() > LONGEST_MESSAGE || sender.len() > LONGEST_MESSAGE {
            return self.reply(channel, super::refused("the message is too long"));
        }
        if let Err(full) = places::find(peer.uid, self.control.notices.users()) {
            return self.reply(channel, super::refused(full.reason("messages")));
        }
        let notice = Notice { text: format(peer, sender, text), by_root: peer.uid == 0 };
        let id = self.control.notices.next_id();
        let (mut waiting, mut outcomes) = (Vec::new(), Vec::new());
        for (number, session) in self.recipients(to) {
            match session.map_or(Err(NO_SUCH), |session| self.send_notice(session, id, &notice, now)) {
                Ok(()) => waiting.push(number),
                Err(trouble) => outcomes.push(Outcome { id: number, trouble: Some(trouble.to_owned()) }),
            }
        }
        let done = waiting.is_empty();
        let text = text.to_owned();
        let pending = Pending { channel, peer, with_descriptors, text, waiting, outcomes, until: now };
        if done {
            self.finish_notice(pending, now);
        } else {
            self.control.notices.add(id, pending, now);
        }
    }

    /// The sessions that are meant, by their numbers.
    fn recipients(&self, to: &Recipients) -> Vec<(u64, Option<ConnectionId>)> {
        match to {
            Recipients::All => {
                let open = self.sessions.iter().filter(|(_, session)| {
                    matches!(session.stage, Stage::Open { .. }) && !session.life.is_ending()
                });
                open.map(|(id, session)| (session.number, Some(id))).collect()
            }
            Recipients::Ids(numbers) => {
                let mut once = BTreeSet::new();
                let numbers = numbers.iter().take(MOST_IDS).filter(|number| once.insert(**number));
                numbers.map(|number| (*number, self.session_number(*number))).collect()
            }
        }
    }

    /// Asks a session's process to show it; says why not.
    fn send_notice(
        &mut self,
        session_id: ConnectionId,
        id: NoticeId,
        notice: &Notice,
        now: Instant,
    ) -> Result<(), &'static str> {
        let session = self.sessions.get_mut(session_id).ok_or(NO_SUCH)?;
        if session.life.is_ending() {
            return Err(ENDING);
        }
        match &session.stage {
            // It would stand in the midst of a prompt, for nobody in particular.
            Stage::LoggingIn { .. } => return Err("nobody is logged in there yet"),
            Stage::Open { .. } => {}
        }
        if !notices::may_have_another(session.notices.len(), notice.by_root) {
            return Err("its session does not answer");
        }
        session.notices.push_back(id);
        self.tell_session(session_id, Some(&ToSession::Show(notice.clone())), now);
        Ok(())
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

#[cfg(test)]
mod tests {
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
}
