//! What there is to say of the daemon and its sessions.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::audit::event::LoginEvent;
use crate::control::protocol::{Answer, Count, Door, Limits, SessionRow, Sessions, State, Status, Totals};
use crate::monitor::Monitor;
use crate::monitor::sessions::{Session, Stage};
use crate::sys::socket;
use std::os::fd::AsFd;

impl Monitor {
    /// All sessions, the oldest first.
    pub(super) fn list_sessions(&self, now: Instant) -> Answer {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let mut sessions: Vec<SessionRow> = self.sessions.values().map(|s| row(s, now, clock)).collect();
        sessions.sort_by_key(|row| row.id);
        Answer::Sessions(Sessions { sessions })
    }

    /// How the daemon is.
    pub(super) fn report_status(&self, now: Instant) -> Answer {
        let mut sessions = Count::default();
        for session in self.sessions.values() {
            match state(session) {
                State::Login => sessions.login += 1,
                State::Open => sessions.open += 1,
                State::Closing => sessions.closing += 1,
            }
        }
        let door = |listener: &crate::monitor::Listener| Door {
            address: listener.address,
            service: listener.via.name().to_owned(),
        };
        let limits = &self.config.limits;
        Answer::Status(Box::new(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: now.saturating_duration_since(self.begun).as_secs(),
            configuration: self.source.clone(),
            draining: self.leaving.is_some(),
            listeners: self.parts.listeners.iter().map(door).collect(),
            sessions,
            limits: Limits {
                sessions: limits.sessions,
                startups: limits.startups.start,
                startups_full: limits.startups.full,
            },
            totals: self.totals.clone(),
        }))
    }
}

fn state(session: &Session) -> State {
    match &session.stage {
        _ if session.life.is_ending() => State::Closing,
        Stage::LoggingIn { .. } => State::Login,
        Stage::Open { .. } => State::Open,
    }
}

/// `clock` is the time of day that `now` is, in seconds since 1970.
fn row(session: &Session, now: Instant, clock: u64) -> SessionRow {
    let since = match &session.stage {
        Stage::LoggingIn { .. } => session.begun,
        Stage::Open { since, .. } => *since,
    };
    let ago = now.saturating_duration_since(since).as_secs();
    let client = session.client.as_ref();
    let (bytes_in, bytes_out) = session.life.closed().unwrap_or_else(|| {
        let moved = session.moved();
        // The zero byte is no output.
        (moved.read, moved.written.saturating_sub(1))
    });
    SessionRow {
        id: session.number,
        state: state(session),
        user: session.who.user.clone(),
        remote_user: session.who.remote_user.clone(),
        host: session.who.host.clone(),
        address: session.peer.ip(),
        port: session.peer.port(),
        tty: session.tty.clone(),
        since: i64::try_from(clock.saturating_sub(ago)).unwrap_or(0),
        idle: client.and_then(|client| socket::silent_for(client.as_fd())).map(|silence| silence.as_secs()),
        bytes_in,
        bytes_out,
        by: session.who.by,
    }
}

/// Counts what a login came to.
pub(in crate::monitor) fn count_login(totals: &mut Totals, event: &LoginEvent) {
    match event {
        LoginEvent::Opened { remote_user: Some(_), .. } => totals.by_trust += 1,
        LoginEvent::Opened { remote_user: None, .. } => totals.by_password += 1,
        LoginEvent::PasswordFailed { .. } => totals.password_failures += 1,
        LoginEvent::TrustGranted { .. }
        | LoginEvent::TrustDenied { .. }
        | LoginEvent::TrustAbsent { .. }
        | LoginEvent::PasswordAccepted { .. }
        | LoginEvent::AccountRefused { .. }
        | LoginEvent::Abandoned { .. }
        | LoginEvent::Trouble { .. }
        | LoginEvent::BannerNotShown { .. } => {}
    }
}
