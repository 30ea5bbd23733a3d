//! What the monitor knows of one session: its process, its descriptors, and how
//! far it has come.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::audit::event::{Event, LoginEvent, SessionEnd};
use crate::config::Records;
use crate::ipc::{OpenRecords, SessionLink};
use crate::sys::process::{End, Process};
use crate::sys::socket::Traffic;

/// One row of the monitor's table.
///
/// It leaves the table when the process has ended *and* the relay has closed the
/// connection: only then is everything about it known.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) peer: SocketAddr,
    pub(super) tty: String,
    pub(super) process: Process,
    pub(super) link: SessionLink,
    /// The monitor's own descriptors of the PTY's leader and the client's socket.
    /// The kernel hangs the terminal up when the last leader closes.
    pub(super) ends: Option<(OwnedFd, OwnedFd)>,
    /// What the client's connection had moved before the session.
    pub(super) before: Traffic,
    pub(super) stage: Stage,
    /// When the process is killed unless it has come further.
    pub(super) deadline: Option<Instant>,
    /// How and when the shell ended, by the session process's word.
    pub(super) finished: Option<(Instant, SessionEnd)>,
    /// The process has ended, then and so.
    pub(super) ended: Option<(Instant, End)>,
    /// The relay has closed the connection; bytes in and out.
    pub(super) closed: Option<(u64, u64)>,
}

/// How far a session has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody is logged in yet; true when the log knows already why nobody will be.
    LoggingIn {
        /// The log has the reason.
        reported: bool,
    },
    /// The shell runs since then.
    Open {
        /// Who is logged in.
        user: String,
        /// Since when.
        since: Instant,
    },
}

impl Session {
    /// Takes note of what the session process reports.
    ///
    /// # Errors
    /// When it says something its stage does not permit.
    pub(super) fn note(&mut self, event: &LoginEvent, now: Instant) -> Result<(), &'static str> {
        if self.finished.is_some() && !matches!(event, LoginEvent::Trouble { .. }) {
            return Err("an event after the end");
        }
        match (event, &mut self.stage) {
            (LoginEvent::Opened { user, .. }, Stage::LoggingIn { .. }) => {
                self.stage = Stage::Open { user: user.clone(), since: now };
                self.deadline = None;
                Ok(())
            }
            (LoginEvent::Opened { .. }, Stage::Open { .. }) => Err("opened twice"),
            (LoginEvent::Abandoned { .. }, Stage::LoggingIn { reported }) => {
                *reported = true;
                Ok(())
            }
            (LoginEvent::Trouble { .. }, _) | (_, Stage::LoggingIn { .. }) => Ok(()),
            (_, Stage::Open { .. }) => Err("a login event in an open session"),
        }
    }

    /// The last line about it, once process and connection are both at their end.
    pub(super) fn epitaph(&self) -> Option<Event> {
        let (ended, how) = self.ended?;
        let (bytes_in, bytes_out) = self.closed?;
        let (peer, tty) = (self.peer, self.tty.clone());
        match &self.stage {
            Stage::Open { user, since } => Some(Event::SessionClosed {
                peer,
                tty,
                user: user.clone(),
                duration: self.finished.map_or(ended, |(time, _)| time).saturating_duration_since(*since),
                bytes_in,
                bytes_out,
                end: self.finished.map_or(SessionEnd::Lost, |(_, end)| end),
            }),
            Stage::LoggingIn { reported: true } => None,
            Stage::LoggingIn { reported: false } => {
                let reason = match how {
                    End::Exited(status) => format!("the login process exited with status {status}"),
                    End::Signaled(signal) => format!("the login process was ended by signal {signal}"),
                };
                Some(Event::Login { peer, tty, event: LoginEvent::Abandoned { reason } })
            }
        }
    }

    /// The records that its process has not closed, as it did not come to its end.
    pub(super) fn open_records(&self, policy: Records) -> Option<OpenRecords> {
        let Stage::Open { user, .. } = &self.stage else { return None };
        (self.ended.is_some_and(|(_, how)| how != End::Exited(0))).then(|| OpenRecords {
            policy,
            tty: self.tty.clone(),
            user: user.clone(),
            address: self.peer.ip(),
            pid: self.process.id(),
        })
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() && self.closed.is_some()
    }
}
