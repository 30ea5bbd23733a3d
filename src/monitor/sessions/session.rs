//! What the monitor knows of one session: its process, its descriptors, and how
//! far it has come.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::LifeCycle;
use crate::audit::event::{EndedBy, Event, LoginEvent, SessionEnd};
use crate::control::protocol::By;
use crate::ipc::SessionLink;
use crate::monitor::control::NoticeId;
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
pub(in crate::monitor) struct Session {
    /// For people: it is short, and counts up.
    pub(in crate::monitor) number: u64,
    /// In the tokens of the event loop.
    pub(in crate::monitor) slot: Number,
    /// When it was made.
    pub(in crate::monitor) begun: Instant,
    pub(in crate::monitor) who: Who,
    pub(in crate::monitor) peer: SocketAddr,
    pub(in crate::monitor) tty: String,
    pub(in crate::monitor) process: Process,
    pub(in crate::monitor) link: SessionLink,
    /// The monitor's own descriptor of the PTY's leader, until the session process or another one has it
    /// ([`Monitor::release_terminal`](crate::monitor::Monitor)): whoever closes the last leader waits for the terminal's user.
    pub(in crate::monitor) leader: Option<OwnedFd>,
    /// The monitor's own descriptor of the client's socket, until the relay has closed the connection.
    pub(in crate::monitor) client: Option<OwnedFd>,
    /// A window size that the session process has not been told yet.
    pub(in crate::monitor) size: Option<WindowSize>,
    /// The session process has not been asked yet whether its terminal holds unread input.
    pub(in crate::monitor) look: bool,
    /// The messages to the user that the session process has not answered yet, the oldest first.
    pub(in crate::monitor) notices: VecDeque<NoticeId>,
    /// A keyed hash of the name that the client asked for, and of the account once somebody is logged in: for
    /// counting only, as the name may be a password.
    pub(in crate::monitor) name_hash: u64,
    /// The process was sent SIGKILL.
    pub(in crate::monitor) killed: bool,
    /// And has not ended in time: it waits in the kernel.
    pub(in crate::monitor) unkillable: bool,
    /// The client left before it was logged in.
    pub(in crate::monitor) departed: bool,
    /// The process was told that relay and monitor have closed the leader.
    pub(in crate::monitor) released: bool,
    /// Somebody is authenticated: the terminal may be a user's.
    pub(in crate::monitor) authenticated: bool,
    /// What the client's connection had moved before the session.
    pub(in crate::monitor) before: Traffic,
    pub(in crate::monitor) stage: Stage<Instant>,
    /// How far its end is.
    pub(in crate::monitor) life: LifeCycle<Instant>,
    /// Who ends it, where it does not end by itself.
    pub(in crate::monitor) by: Option<EndedBy>,
}

/// Who sits at a session's terminal, as far as the session process has said. For what is
/// shown to people: nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) struct Who {
    /// The account.
    pub(in crate::monitor) user: Option<String>,
    /// The user on the client's side, when trusted.
    pub(in crate::monitor) remote_user: Option<String>,
    /// The client's confirmed host name.
    pub(in crate::monitor) host: Option<String>,
    /// How the user got in.
    pub(in crate::monitor) by: Option<By>,
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

/// How far a session has come. `T` is a moment: an [`Instant`], or how long ago it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) enum Stage<T> {
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
        since: T,
    },
}

impl<T> Stage<T> {
    /// The same with other moments.
    pub(in crate::monitor) fn map<U>(self, change: impl Fn(T) -> U) -> Stage<U> {
        match self {
            Stage::LoggingIn { reported } => Stage::LoggingIn { reported },
            Stage::Open { user, since } => Stage::Open { user, since: change(since) },
        }
    }
}

impl Session {
    /// Takes note of what the session process reports.
    ///
    /// # Errors
    /// When it says something its stage does not permit.
    pub(in crate::monitor) fn note(&mut self, event: &LoginEvent, now: Instant) -> Result<(), &'static str> {
        if self.life.shell().is_some() && !matches!(event, LoginEvent::Trouble { .. }) {
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
    pub(in crate::monitor) fn end_by(&mut self, by: EndedBy) {
        if !self.life.is_ending() {
            self.by.get_or_insert(by);
        }
    }

    /// The last line about it, once process and connection are both at their end.
    pub(in crate::monitor) fn epitaph(&self) -> Option<Event> {
        let LifeCycle::Over(shell, (ended, how), (bytes_in, bytes_out)) = self.life else { return None };
        let (peer, tty) = (self.peer, self.tty.clone());
        match &self.stage {
            Stage::Open { user, since } => Some(Event::SessionClosed {
                peer,
                tty,
                user: user.clone(),
                duration: shell.map_or(ended, |(time, _)| time).saturating_duration_since(*since),
                bytes_in,
                bytes_out,
                end: shell.map_or(SessionEnd::Lost, |(_, end)| end),
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
    pub(in crate::monitor) fn killed_session(&self) -> Option<Killed> {
        let (_, how) = self.life.process()?;
        let pid = i32::try_from(self.process.id()).ok()?;
        (how != End::Exited(0)).then(|| Killed { line: self.tty.clone(), pid, at: Stamp::now() })
    }

    /// What its connection has moved since the session was made; nothing when it is closed.
    pub(in crate::monitor) fn moved(&self) -> Traffic {
        let Some(client) = &self.client else { return Traffic::default() };
        let Traffic { read, written } = socket::traffic(client.as_fd());
        let Traffic { read: read_before, written: written_before } = self.before;
        Traffic { read: read.saturating_sub(read_before), written: written.saturating_sub(written_before) }
    }

    /// Who it is, for the log.
    pub(in crate::monitor) fn name(&self) -> &str {
        self.who.user.as_deref().unwrap_or("(login)")
    }
}
