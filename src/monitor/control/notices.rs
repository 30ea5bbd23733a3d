//! Messages to users, which their session processes show: a terminal can make a write wait as long as its user
//! likes. A command is answered when all have said how it went, or after some seconds without those that do not.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::places;
use crate::control::protocol::{Answer, Outcome};
use crate::monitor::Monitor;
use crate::sys::channel::Channel;
use crate::sys::local::{self, Peer, Request};

/// How long the session processes may take to show a message.
const SHOWING_TIME: Duration = Duration::from_secs(3);
/// Messages that one session process has not answered; root's may be more by as many as root may send at once.
const MOST_OF_SESSION: usize = 16;
/// What is said of a session whose process does not answer.
const SILENT: &str = "its session does not answer";

/// Names a message to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::monitor) struct NoticeId(u64);

/// All messages that are not shown everywhere yet.
#[derive(Debug, Default)]
pub(super) struct Notices {
    next: u64,
    open: BTreeMap<NoticeId, Pending>,
}

/// A message that is not shown everywhere yet.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) channel: Channel,
    pub(super) peer: Peer,
    /// Its request is still there, so that nothing else can be heard of it.
    pub(super) with_descriptors: bool,
    /// The text, for the log.
    pub(super) text: String,
    /// The sessions that have not answered, by their numbers.
    pub(super) waiting: Vec<u64>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) until: Instant,
}

impl Notices {
    /// The users who sent them.
    pub(super) fn users(&self) -> impl Iterator<Item = u32> {
        self.open.values().map(|pending| pending.peer.uid)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.open.values().map(|pending| pending.until).min()
    }

    /// The name of the next one.
    pub(super) fn next_id(&mut self) -> NoticeId {
        self.next += 1;
        NoticeId(self.next)
    }

    pub(super) fn add(&mut self, id: NoticeId, mut pending: Pending, now: Instant) {
        pending.until = now + SHOWING_TIME;
        self.open.insert(id, pending);
    }
}

/// Whether a session's process that has not answered so many gets another one.
pub(super) fn may_have_another(unanswered: usize, by_root: bool) -> bool {
    unanswered < MOST_OF_SESSION + if by_root { places::OF_ROOT } else { 0 }
}

impl Monitor {
    /// A session process has shown a message, or says why not.
    pub(in crate::monitor) fn notice_answered(
        &mut self,
        id: Option<NoticeId>,
        number: u64,
        trouble: Option<String>,
    ) {
        let Some(pending) = id.and_then(|id| self.control.notices.open.get_mut(&id)) else { return };
        let Some(index) = pending.waiting.iter().position(|waiting| *waiting == number) else { return };
        pending.waiting.swap_remove(index);
        pending.outcomes.push(Outcome { id: number, trouble });
        if pending.waiting.is_empty()
            && let Some(pending) = id.and_then(|id| self.control.notices.open.remove(&id))
        {
            self.finish_notice(pending, Instant::now());
        }
    }

    pub(super) fn expire_notices(&mut self, now: Instant) {
        let open = std::mem::take(&mut self.control.notices.open);
        for (id, mut pending) in open {
            if now < pending.until {
                self.control.notices.open.insert(id, pending);
                continue;
            }
            let silent = std::mem::take(&mut pending.waiting).into_iter();
            pending.outcomes.extend(silent.map(|id| Outcome { id, trouble: Some(SILENT.to_owned()) }));
            self.finish_notice(pending, now);
        }
    }

    /// A command that has gone, or says more, gets no answer.
    pub(super) fn forget_gone_senders(&mut self) {
        let open = std::mem::take(&mut self.control.notices.open);
        for (id, pending) in open {
            if pending.with_descriptors || matches!(local::receive(&pending.channel), Ok(Request::Nothing)) {
                self.control.notices.open.insert(id, pending);
            } else {
                self.close_command(pending.channel);
            }
        }
    }

    /// Answers the command, and writes down what became of it.
    pub(super) fn finish_notice(&mut self, pending: Pending, now: Instant) {
        let Pending { channel, peer, text, mut outcomes, .. } = pending;
        outcomes.sort_by_key(|outcome| outcome.id);
        let of = outcomes.len();
        let reached: Vec<String> =
            outcomes.iter().filter(|outcome| outcome.trouble.is_none()).map(|o| o.id.to_string()).collect();
        let told = format!("message ({text}) to {of} sessions, shown in ({})", reached.join(" "));
        self.note_command(peer, &told, now);
        self.reply(channel, Answer::Each(outcomes));
    }
}
