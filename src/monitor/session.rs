//! What the monitor knows of one session: its process, its descriptors, and how
//! far it has come.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::control::NoticeId;
use crate::audit::event::{EndedBy, Event, LoginEvent, SessionEnd};
use crate::control::protocol::By;
use crate::ipc::SessionLink;
use crate::numbers::Number;
use crate::records::worker::Killed;
use crate::sys::process::{End, Process};
use crate::sys::records::Stamp;
use crate::sys::socket::{self, Traffic};
use crate::wire::window::WindowSize;

/// One row of the monitor's table.
///
/// It leaves the table when the process has ended *and* the relay has closed the
/// connection: only then is everything about it known.
#[derive(Debug)]
pub(super) struct Session {
    /// For people: it is short, and counts up.
    pub(super) number: u64,
    /// In the tokens of the event loop.
    pub(super) slot: Number,
    /// When it was made.
    pub(super) begun: Instant,
    pub(super) who: Who,
    pub(super) peer: SocketAddr,
    pub(super) tty: String,
    pub(super) process: Process,
    pub(super) link: SessionLink,
    /// The monitor's own descriptor of the PTY's leader, until the session process or another one has it
    /// ([`Monitor::release_terminal`](super::Monitor)): whoever closes the last leader waits for the terminal's user.
    pub(super) leader: Option<OwnedFd>,
    /// The monitor's own descriptor of the client's socket, until the relay has closed the connection.
    pub(super) client: Option<OwnedFd>,
    /// A window size that the session process has not been told yet.
    pub(super) size: Option<WindowSize>,
    /// The session process has not been asked yet whether its terminal holds unread input.
    pub(super) look: bool,
    /// The messages to the user that the session process has not answered yet, the oldest first.
    pub(super) notices: VecDeque<NoticeId>,
    /// A keyed hash of the name that the client asked for, and of the account once somebody is logged in: for
    /// counting only, as the name may be a password.
    pub(super) name_hash: u64,
    /// The process was sent SIGKILL.
    pub(super) killed: bool,
    /// And has not ended in time: it waits in the kernel.
    pub(super) unkillable: bool,
    /// The client left before it was logged in.
    pub(super) departed: bool,
    /// The process was told that relay and monitor have closed the leader.
    pub(super) released: bool,
    /// Somebody is authenticated: the terminal may be a user's.
    pub(super) authenticated: bool,
    /// What the client's connection had moved before the session.
    pub(super) before: Traffic,
    pub(super) stage: Stage,
    /// How and when the shell ended, by the session process's word.
    pub(super) finished: Option<(Instant, SessionEnd)>,
    /// The process has ended, then and so.
    pub(super) ended: Option<(Instant, End)>,
    /// The relay has closed the connection; bytes in and out.
    pub(super) closed: Option<(u64, u64)>,
    /// Who ends it, where it does not end by itself.
    pub(super) by: Option<EndedBy>,
}

/// Who sits at a session's terminal, as far as the session process has said. For what is
/// shown to people: nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Who {
    /// The account.
    pub(super) user: Option<String>,
    /// The user on the client's side, when trusted.
    pub(super) remote_user: Option<String>,
    /// The client's confirmed host name.
    pub(super) host: Option<String>,
    /// How the user got in.
    pub(super) by: Option<By>,
}

impl Who {
    fn learn(&mut self, event: &LoginEvent) {
        let (account, name) = match event {
            LoginEvent::TrustGranted { user, host, .. }
            | LoginEvent::PasswordAccepted { user, host }
            | LoginEvent::AccountRefused { user, host, .. }
            | LoginEvent::Opened { user, host, .. } => (Some(user), host.as_ref()),
            LoginEvent::TrustDenied { user, host, .. }
            | LoginEvent::TrustAbsent { user, host, .. }
            | LoginEvent::PasswordFailed { user, host, .. } => (user.as_ref(), host.as_ref()),
            LoginEvent::Abandoned { .. } | LoginEvent::Trouble { .. } | LoginEvent::BannerNotShown { .. } => {
                return;
            }
        };
        // Who failed under one name may try another one.
        self.user = account.cloned();
        self.host = name.cloned();
        if let LoginEvent::Opened { remote_user, .. } = event {
            self.remote_user.clone_from(remote_user);
            self.by = Some(if remote_user.is_some() { By::Trust } else { By::Password });
        }
    }
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
        self.who.learn(event);
        self.authenticated |=
            matches!(event, LoginEvent::TrustGranted { .. } | LoginEvent::PasswordAccepted { .. });
        match (event, &mut self.stage) {
            (LoginEvent::Opened { user, .. }, Stage::LoggingIn { .. }) => {
                self.stage = Stage::Open { user: user.clone(), since: now };
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

    /// Somebody ends it. Who was first counts, and what has ended already was ended by nobody.
    pub(super) fn end_by(&mut self, by: EndedBy) {
        if !self.is_ending() {
            self.by.get_or_insert(by);
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
                by: self.by,
            }),
            Stage::LoggingIn { reported: true } => None,
            Stage::LoggingIn { reported: false } => {
                let reason = match (how, self.by) {
                    (_, Some(by)) => by.reason(),
                    (End::Signaled(_), None) if self.departed => EndedBy::Client.reason(),
                    (End::Signaled(_), None) if self.killed => EndedBy::LoginTime.reason(),
                    (End::Exited(_) | End::Signaled(_) | End::Unknown, None) => {
                        format!("the login process {how}")
                    }
                };
                Some(Event::Login { peer, tty, event: LoginEvent::Abandoned { reason }, count: 1 })
            }
        }
    }

    /// What the records worker has to know, when its process did not come to an end in order.
    pub(super) fn killed_session(&self) -> Option<Killed> {
        let (_, how) = self.ended?;
        let pid = i32::try_from(self.process.id()).ok()?;
        (how != End::Exited(0)).then(|| Killed { line: self.tty.clone(), pid, at: Stamp::now() })
    }

    /// What its connection has moved since the session was made; nothing when it is closed.
    pub(super) fn moved(&self) -> Traffic {
        let Some(client) = &self.client else { return Traffic::default() };
        let Traffic { read, written } = socket::traffic(client.as_fd());
        let Traffic { read: read_before, written: written_before } = self.before;
        Traffic { read: read.saturating_sub(read_before), written: written.saturating_sub(written_before) }
    }

    /// Who it is, for the log.
    pub(super) fn name(&self) -> &str {
        self.who.user.as_deref().unwrap_or("(login)")
    }

    /// Whether its shell, its process or its connection has come to an end.
    pub(super) fn is_ending(&self) -> bool {
        self.finished.is_some() || self.ended.is_some() || self.closed.is_some()
    }

    pub(super) fn is_over(&self) -> bool {
        self.ended.is_some() && self.closed.is_some()
    }
}
