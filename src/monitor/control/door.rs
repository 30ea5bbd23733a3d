//! The control socket itself: who connects, and who is kept from it.

use super::*;

/// Connections accepted in one turn.
const ACCEPTS: usize = 32;
/// So many of them from others than root, where more are waiting, and they are not meant to be answered.
const FLOOD: usize = ACCEPTS / 2;
/// How long members are kept out who make root wait.
const MEMBERS_OUT: Duration = Duration::from_secs(60);

impl Monitor {
    /// Uses this control socket from the start.
    pub(in crate::monitor) fn use_control(&mut self, listener: Option<LocalListener>) {
        self.control.listener = listener.filter(|listener| self.watch_door(listener).is_ok());
    }

    /// Uses another control socket from now on.
    pub(in crate::monitor) fn replace_control(&mut self, listener: LocalListener) {
        if let Some(old) = self.control.listener.take() {
            let (socket, ..) = old.into_parts();
            let _ = self.poll.registry().deregister(&mut SourceFd(&socket.as_raw_fd()));
            // Whoever waits in its queue may have sent descriptors.
            self.close_elsewhere(Closes::Commands, vec![socket]);
        }
        if self.watch_door(&listener).is_ok() {
            self.control.listener = Some(listener);
        }
    }

    pub(super) fn watch_door(&self, listener: &LocalListener) -> io::Result<()> {
        let token = Watched::ControlDoor.token();
        self.poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)
    }

    /// Commands that connect. Nobody is told from root before the connection is accepted: so all are, and members who
    /// would make root wait are kept from connecting.
    pub(in crate::monitor) fn hear_control_door(&mut self, now: Instant) {
        let mut of_members = 0;
        for _ in 0..ACCEPTS {
            // A command that is accepted and not heard would be lost when another image takes over; the queue is not.
            if self.holds_enough() || self.upgrade_is_due() {
                return self.look_again(now);
            }
            let Some(listener) = &self.control.listener else { return };
            match listener.accept() {
                Ok((channel, peer)) => {
                    of_members += usize::from(peer.uid != 0);
                    self.admit(channel, peer, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Out of descriptors, or it has gone already.
                Err(_) => return self.look_again(now),
            }
        }
        if of_members >= FLOOD {
            self.keep_members_out("they connect without end", now);
        }
        self.look_again(now);
    }

    /// Keeps members out who make the daemon close what waits, and lets them in again.
    pub(super) fn mind_members(&mut self, now: Instant) {
        if self.closes_enough() {
            self.keep_members_out("closing what they send with commands takes long", now);
        } else if self.control.members_out.is_some_and(|until| until <= now) {
            self.control.members_out = match self.let_members_in(true) {
                Ok(()) => None,
                Err(_) => Some(now + MEMBERS_OUT),
            };
        }
    }

    /// What commands find at the socket is root's alone for a while: the kernel lets nobody else connect.
    fn keep_members_out(&mut self, why: &str, now: Instant) {
        let Some(group) = self.config.control.group.clone() else { return };
        let are_in = self.control.members_out.is_none();
        if self.control.members_out.is_some_and(|until| now < until) || self.let_members_in(false).is_err() {
            return;
        }
        self.control.members_out = Some(now + MEMBERS_OUT);
        if are_in {
            let seconds = MEMBERS_OUT.as_secs();
            let text =
                format!("the group {group} is kept from the control socket for {seconds} s or more: {why}");
            self.warn(text, now);
        }
    }

    /// The file of the control socket has the mode that the configuration gives it.
    pub(in crate::monitor) fn members_are_in(&mut self) {
        self.control.members_out = None;
    }
}
