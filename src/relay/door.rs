//! The relay's doors: accepting clients, within limits.

use super::*;

/// Connections accepted from one listener in one turn.
const ACCEPTS: usize = 16;
/// Refused clients that are given time to read why.
const REFUSED: usize = 256;
/// How long to wait before accepting again when descriptors or memory are out.
const PAUSE: Duration = Duration::from_millis(500);

impl Relay {
    pub(super) fn accept(&mut self, now: Instant) -> io::Result<()> {
        if self.accept_again.is_some_and(|time| time > now) {
            return Ok(());
        }
        self.accept_again = None;
        for index in 0..self.listeners.len() {
            for _ in 0..ACCEPTS {
                let listener = &mut self.listeners[index];
                if !listener.ready {
                    break;
                }
                match listener.socket.accept() {
                    Ok((stream, peer)) => {
                        let via = listener.via;
                        self.welcome(stream, socket::canonical(peer), via, now)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => listener.ready = false,
                    // The client, or its network, has gone before we came to it (accept(2)).
                    Err(error) if is_of_the_client(&error) => {}
                    // It would be the same at once.
                    Err(_) => {
                        self.accept_again = Some(now + PAUSE);
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn welcome(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        via: Via,
        now: Instant,
    ) -> io::Result<ConnectionId> {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        self.link.send(&FromRelay::Connection { peer, via }, Vec::new())?;
        let source = Source::of(peer.ip());
        let admitted = self.admission.enter(source);
        if let Err(reason) = admitted {
            self.link.send(&FromRelay::Refused { peer, reason: reason.to_owned() }, Vec::new())?;
            if self.refused >= REFUSED {
                return Ok(id);
            }
        }
        let client = socket::prepare(stream.as_fd(), self.limits.keepalive)
            .and_then(|()| WatchedClient::new(stream, &self.registry, Watched::Client(id).token()));
        let client = match client {
            Ok(client) => client,
            Err(_) => {
                if admitted.is_ok() {
                    self.admission.leave(source);
                }
                return Ok(id);
            }
        };
        let RelayLimits { handshake, idle, .. } = self.limits;
        let connection = match (admitted, via) {
            (Err(_), _) => {
                self.refused += 1;
                let answer = if via == Via::Tcpmux && !self.single {
                    tcpmux::BUSY.to_vec()
                } else {
                    answer::refusal("Try again", true)
                };
                Connection::refused(client, &answer, now)
            }
            // From a superserver it comes with its request answered.
            (Ok(()), Via::Tcpmux) if !self.single => {
                Connection::multiplexed(client, &self.services, handshake, idle, now)
            }
            (Ok(()), Via::Rlogin | Via::Tcpmux | Via::Inetd) => Connection::new(client, handshake, idle, now),
        };
        let source = admitted.is_ok().then_some(source);
        let entry = Entry { connection, peer, source, queued: true, wake: None, open: false };
        self.connections.insert(id, entry);
        self.turns.push_back(id);
        Ok(id)
    }
}

/// Whether accept(2) failed because of this one client. Otherwise, for want of
/// descriptors or memory, it would fail again at once.
fn is_of_the_client(error: &io::Error) -> bool {
    let of_the_client = [
        Errno::ECONNABORTED,
        Errno::EINTR,
        Errno::EPROTO,
        Errno::ENETDOWN,
        Errno::ENETUNREACH,
        Errno::EHOSTDOWN,
        Errno::EHOSTUNREACH,
        Errno::EPERM,
    ];
    error.raw_os_error().is_some_and(|code| of_the_client.contains(&Errno::from_raw(code)))
}
