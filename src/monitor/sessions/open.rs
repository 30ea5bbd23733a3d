//! Making a session: the checks that the relay's word is not enough for, the
//! PTY, and the session process.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;

use super::{LifeCycle, Session, Stage, Who};
use crate::config::UnreservedPort;
use crate::ipc::{ConnectionId, HandshakeFields, SessionLink, SessionStart, ToSession};
use crate::monitor::{Listener, Monitor, SESSION_ROLE};
use crate::sys::channel::Channel;
use crate::sys::process::Process;
use crate::sys::{pty, socket};
use crate::trust::world::reserved;
use crate::wire::handshake::Handshake;

/// The most session processes of one user that wait in the kernel and cannot be ended: the next one would wait
/// as well.
const MOST_STUCK: usize = 8;

/// Why there is no session: what the client is told, and what the log is told.
#[derive(Debug)]
pub(in crate::monitor) struct Refusal {
    pub(in crate::monitor) peer: Option<SocketAddr>,
    pub(in crate::monitor) message: String,
    pub(in crate::monitor) reason: String,
}

impl Refusal {
    fn of(peer: SocketAddr, message: &str, reason: impl Into<String>) -> Refusal {
        Refusal { peer: Some(peer), message: message.to_owned(), reason: reason.into() }
    }
}

impl Monitor {
    /// Makes the session of a client, and returns it with the PTY's leader for the relay.
    pub(in crate::monitor) fn open_session(
        &mut self,
        id: ConnectionId,
        client: Option<OwnedFd>,
        fields: HandshakeFields,
        now: Instant,
    ) -> Result<(Session, OwnedFd), Refusal> {
        let no_client = |reason: String| Refusal { peer: None, message: "Try again".to_owned(), reason };
        let client = client.ok_or_else(|| no_client("no descriptor for the client".to_owned()))?;
        let peer = socket::peer(client.as_fd())
            .map_err(|error| no_client(format!("the client has gone before its session began: {error}")))?;
        if self.stop_time().is_some() {
            return Err(Refusal::of(peer, "Try again", "the daemon stops"));
        }
        // A close here must not wait for the client.
        socket::clear_linger(client.as_fd());
        self.permit(&client, peer, &fields)?;
        let pty = pty::open().map_err(|error| {
            let none_left = [Errno::ENOSPC, Errno::ENOENT].map(|errno| errno as i32);
            let message = if error.raw_os_error().is_some_and(|code| none_left.contains(&code)) {
                "Out of ptys"
            } else {
                "Try again"
            };
            Refusal::of(peer, message, format!("no terminal for the session: {error}"))
        })?;
        let shortage = |error: io::Error| {
            Refusal::of(peer, "Try again", format!("no process or descriptor for the session: {error}"))
        };
        let for_relay = socket::duplicate(&pty.leader).map_err(shortage)?;
        let for_session = socket::duplicate(&pty.leader).map_err(shortage)?;
        let name_hash = self.name_hash(&fields.server_user);
        let start = SessionStart {
            round_trip: socket::round_trip(client.as_fd()),
            peer,
            fields,
            tty: pty.name.clone(),
            descriptors: (self.descriptors.soft, self.descriptors.hard),
        };
        let (process, link) = self.start_process(start, pty.follower, for_session).map_err(shortage)?;
        let session = Session {
            number: 0,
            slot: self.sessions.numbers().take(id),
            begun: now,
            who: Who::default(),
            peer,
            tty: pty.name,
            process,
            link,
            before: socket::traffic(client.as_fd()),
            leader: Some(pty.leader),
            client: Some(client),
            size: None,
            look: false,
            notices: VecDeque::new(),
            name_hash,
            killed: false,
            unkillable: false,
            departed: false,
            released: false,
            authenticated: false,
            stage: Stage::LoggingIn { reported: false },
            life: LifeCycle::new(),
            by: None,
        };
        Ok((session, for_relay))
    }

    /// What can be said of a client before it costs a process.
    fn permit(&self, client: &OwnedFd, peer: SocketAddr, fields: &HandshakeFields) -> Result<(), Refusal> {
        // A relay that was taken over could connect to a trusted host by itself and call
        // that a client. But from a port of ours it can do so only with a listener.
        let accepted = socket::is_tcp(client.as_fd())
            && socket::local_address(client.as_fd())
                .is_ok_and(|address| self.parts.ports.contains(&address.port()))
            && socket::cookie(client.as_fd()).is_ok_and(|cookie| {
                let same = |listener: &Listener| {
                    socket::cookie(listener.socket.as_fd()).is_ok_and(|own| own == cookie)
                };
                !self.parts.listeners.iter().any(same)
            });
        // Nor may it connect one listener to another, and call our own port a client's.
        let ourselves = self.parts.ports.contains(&peer.port()) && socket::is_local(peer.ip());
        if !accepted || ourselves {
            return Err(Refusal::of(
                peer,
                "Permission denied",
                "the connection did not come through a listener",
            ));
        }
        // The relay has looked already, but the relay is not to be trusted.
        if !self.config.access.permits(peer.ip()) {
            return Err(Refusal::of(peer, "Permission denied", "the address may not connect"));
        }
        if socket::has_ip_options(client.as_fd()).unwrap_or(true) {
            return Err(Refusal::of(peer, "Permission denied", "the connection carries IP options"));
        }
        if !reserved(peer.port()) && self.config.login.unreserved_port == UnreservedPort::Refuse {
            return Err(Refusal::of(peer, "Permission denied", "the source port is not a reserved one"));
        }
        if self.sessions.living() >= usize::try_from(self.config.limits.sessions).unwrap_or(usize::MAX) {
            return Err(Refusal::of(peer, "Try again", "too many sessions"));
        }
        if self.sessions.stuck() >= usize::try_from(self.config.limits.sessions).unwrap_or(usize::MAX) {
            return Err(Refusal::of(peer, "Try again", "too many session processes cannot be ended"));
        }
        if self.sessions.stuck_of(self.name_hash(&fields.server_user)) >= MOST_STUCK {
            let reason = format!("{MOST_STUCK} session processes of this user cannot be ended");
            return Err(Refusal::of(peer, "Try again", reason));
        }
        Handshake::from_parts(&fields.client_user, &fields.server_user, &fields.terminal)
            .map(|_| ())
            .map_err(|refusal| Refusal::of(peer, refusal.message(), refusal.to_string()))
    }

    /// A hash of a name that tells nobody the name.
    pub(in crate::monitor) fn name_hash(&self, name: &[u8]) -> u64 {
        self.name_key.hash_one(name)
    }

    fn start_process(
        &mut self,
        start: SessionStart,
        follower: OwnedFd,
        leader: OwnedFd,
    ) -> io::Result<(Process, SessionLink)> {
        let (ours, theirs) = Channel::pair()?;
        let shared = self.shared.try_clone()?;
        let mut link = SessionLink::new(ours);
        link.set_nonblocking()?;
        // It is there before the process is, which then waits for nothing.
        link.send(&ToSession::Start(start), vec![follower, shared, leader])?;
        let process = Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)?;
        Ok((process, link))
    }
}
