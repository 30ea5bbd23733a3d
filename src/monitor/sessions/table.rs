//! The monitor's table of sessions, and when which of them has to be looked at: what that
//! costs does not grow with those that have no deadline.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::Session;
use crate::crowd::Crowd;
use crate::ipc::ConnectionId;
use crate::numbers::Numbers;
use crate::source::Source;

/// Processes whose client has left without logging in: a name service or a PAM module may keep them.
const MOST_DEPARTING: usize = 64;

/// All sessions by the relay's name for them, each with the moment at which it is killed unless it
/// has come further. Nobody else keeps that moment, so that table and index cannot disagree.
#[derive(Debug, Default)]
pub(in crate::monitor) struct Sessions {
    rows: HashMap<ConnectionId, (Session, Option<Instant>)>,
    /// The same moments in their order.
    due: BTreeSet<(Instant, ConnectionId)>,
    /// Those whose process was killed and does not end: it waits in the kernel for somebody else.
    stuck: BTreeSet<ConnectionId>,
    /// Those whose client has left without logging in, and whose process has not ended yet.
    departing: Crowd,
    numbers: Numbers,
}

impl Sessions {
    /// How many there are whose process can still be ended: those that count against limits, and that the
    /// daemon's end waits for.
    pub(in crate::monitor) fn living(&self) -> usize {
        self.rows.len() - self.stuck.len()
    }

    /// Its process was killed and does not end.
    pub(in crate::monitor) fn set_stuck(&mut self, id: ConnectionId) {
        if let Some((session, _)) = self.rows.get(&id) {
            self.departing.remove(id, Source::of(session.peer.ip()));
            self.stuck.insert(id);
        }
    }

    /// Its client has left without logging in. Returns who has to end for it, if there are too many of these: the
    /// oldest of whoever has most.
    pub(in crate::monitor) fn depart(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        let (session, _) = self.rows.get_mut(&id)?;
        session.departed = true;
        self.departing.insert(id, Source::of(session.peer.ip()));
        self.departing.most(None).filter(|_| self.departing.count() > MOST_DEPARTING)?.oldest
    }

    /// How many there are whose process was killed and does not end.
    pub(in crate::monitor) fn stuck(&self) -> usize {
        self.stuck.len()
    }

    /// How many of them have this hash of a name, and had time to end.
    pub(in crate::monitor) fn stuck_of(&self, name_hash: u64) -> usize {
        let is_of = |session: &Session| session.unkillable && session.name_hash == name_hash;
        self.stuck.iter().filter(|id| self.get(**id).is_some_and(is_of)).count()
    }

    /// The sessions' numbers in the tokens of the event loop.
    pub(in crate::monitor) fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    pub(in crate::monitor) fn contains(&self, id: ConnectionId) -> bool {
        self.rows.contains_key(&id)
    }

    pub(in crate::monitor) fn get(&self, id: ConnectionId) -> Option<&Session> {
        self.rows.get(&id).map(|(session, _)| session)
    }

    pub(in crate::monitor) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Session> {
        self.rows.get_mut(&id).map(|(session, _)| session)
    }

    pub(in crate::monitor) fn ids(&self) -> Vec<ConnectionId> {
        self.rows.keys().copied().collect()
    }

    pub(in crate::monitor) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Session)> {
        self.rows.iter().map(|(id, (session, _))| (*id, session))
    }

    pub(in crate::monitor) fn values(&self) -> impl Iterator<Item = &Session> {
        self.rows.values().map(|(session, _)| session)
    }

    pub(in crate::monitor) fn insert(
        &mut self,
        id: ConnectionId,
        session: Session,
        deadline: Option<Instant>,
    ) {
        self.remove(id);
        if session.departed && session.life.has_process() && !session.killed {
            self.departing.insert(id, Source::of(session.peer.ip()));
        }
        self.rows.insert(id, (session, None));
        self.set_deadline(id, deadline);
    }

    pub(in crate::monitor) fn remove(&mut self, id: ConnectionId) -> Option<Session> {
        self.set_deadline(id, None);
        self.stuck.remove(&id);
        let (session, _) = self.rows.remove(&id)?;
        self.departing.remove(id, Source::of(session.peer.ip()));
        Some(session)
    }

    pub(in crate::monitor) fn deadline(&self, id: ConnectionId) -> Option<Instant> {
        self.rows.get(&id).and_then(|(_, deadline)| *deadline)
    }

    /// The deadline of a session from now on.
    pub(in crate::monitor) fn set_deadline(&mut self, id: ConnectionId, deadline: Option<Instant>) {
        let Some((_, own)) = self.rows.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(own, deadline) {
            self.due.remove(&(before, id));
        }
        self.due.extend(deadline.map(|time| (time, id)));
    }

    /// The next deadline of any.
    pub(in crate::monitor) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(time, _)| *time)
    }

    /// Takes one session's deadline away that is over, and says whose it was.
    pub(in crate::monitor) fn take_due(&mut self, now: Instant) -> Option<ConnectionId> {
        self.due.first().filter(|(time, _)| *time <= now)?;
        let (_, id) = self.due.pop_first()?;
        let (_, deadline) = self.rows.get_mut(&id)?;
        *deadline = None;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::time::Duration;

    use super::*;
    use crate::ipc::SessionLink;
    use crate::monitor::sessions::{LifeCycle, Stage, Who};
    use crate::sys::channel::Channel;
    use crate::sys::process::Process;
    use crate::sys::socket::Traffic;

    fn session(number: u64) -> Session {
        let (ours, theirs) = Channel::pair().unwrap();
        Session {
            number,
            slot: Numbers::default().take(ConnectionId(number)),
            begun: Instant::now(),
            who: Who::default(),
            peer: "192.0.2.1:1023".parse().unwrap(),
            tty: "pts/1".to_owned(),
            process: Process::inherited(0, theirs.into()),
            link: SessionLink::new(ours),
            leader: None,
            client: None,
            size: None,
            look: false,
            notices: VecDeque::new(),
            name_hash: 0,
            killed: false,
            unkillable: false,
            departed: false,
            released: false,
            authenticated: false,
            before: Traffic::default(),
            stage: Stage::LoggingIn { reported: false },
            life: LifeCycle::new(),
            by: None,
        }
    }

    #[test]
    fn deadlines_come_one_at_a_time_in_their_order_and_go_with_their_sessions() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut sessions = Sessions::default();
        for (id, after) in [(1, 3), (2, 1), (3, 2), (4, 2), (5, 9)] {
            sessions.insert(ConnectionId(id), session(id), Some(start + second * after));
        }
        sessions.insert(ConnectionId(6), session(6), None);
        sessions.set_deadline(ConnectionId(5), None);
        sessions.remove(ConnectionId(4));
        sessions.set_deadline(ConnectionId(3), Some(start + second * 4));
        assert_eq!(sessions.deadline(ConnectionId(3)), Some(start + second * 4));
        assert_eq!((sessions.living(), sessions.next_deadline()), (5, Some(start + second)));
        assert!(sessions.take_due(start).is_none());
        let due = std::iter::from_fn(|| sessions.take_due(start + second * 4).map(|id| id.0));
        assert_eq!(due.collect::<Vec<_>>(), [2, 1, 3]);
        assert_eq!((sessions.next_deadline(), sessions.deadline(ConnectionId(1))), (None, None));
    }
}
