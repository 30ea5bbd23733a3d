//! The service manager, systemd(1): sockets it opened for us, and what it is told.
//!
//! Without one, nothing of this does anything.

use sd_notify::NotifyState;

use super::{Error, Listener};
use crate::audit::event::Via;
use crate::sys::activation;
use crate::sys::channel::MAX_DESCRIPTORS;

/// The name of the sockets that serve TCPMUX. All others serve rlogin.
const TCPMUX: &str = "tcpmux";

/// The listeners that the service manager opened; empty when it opened none, and
/// then the daemon opens its own.
pub(super) fn listeners() -> Result<Vec<Listener>, Error> {
    let sockets = activation::take()
        .map_err(|error| Error(format!("cannot take the sockets of the service manager: {error}")))?;
    if sockets.len() > MAX_DESCRIPTORS {
        return Err(Error(format!("more than {MAX_DESCRIPTORS} sockets of the service manager")));
    }
    let listener = |activated: activation::Activated| {
        let via = if activated.name == TCPMUX { Via::Tcpmux } else { Via::Rlogin };
        Listener { socket: activated.socket, via, address: activated.address }
    };
    Ok(sockets.into_iter().map(listener).collect())
}

/// It serves, at these addresses.
pub(super) fn ready(listeners: &[Listener]) {
    let addresses: Vec<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
    let status = format!("listening on {}", addresses.join(", "));
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It reads its configuration again; [`ready`] follows.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It lets nobody in any more, and ends with its last session.
pub(super) fn draining(sessions: usize) {
    tell(&[NotifyState::Status(&format!("draining: {sessions} sessions are left"))]);
}

/// It ends, because of that.
pub(super) fn stopping(cause: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&format!("stopping: {cause}"))]);
}

fn tell(state: &[NotifyState]) {
    // A service manager that does not listen is no reason not to serve.
    let _ = sd_notify::notify(state);
}
