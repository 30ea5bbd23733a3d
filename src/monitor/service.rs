//! The service manager, systemd(1): sockets it opened for us, and what it is told.
//!
//! Without one, nothing of this does anything.

use super::{Error, Listener};
use crate::audit::event::Via;
use crate::sys::channel::MAX_DESCRIPTORS;
use crate::sys::socket;
use crate::sys::{activation, notify};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

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
        // Connections inherit it.
        socket::clear_linger(activated.socket.as_fd());
        let via = if activated.name == TCPMUX { Via::Tcpmux } else { Via::Rlogin };
        Listener { socket: activated.socket, via, address: activated.address }
    };
    Ok(sockets.into_iter().map(listener).collect())
}

/// It serves, at these addresses.
pub(super) fn ready(listeners: &[Listener]) {
    let addresses: Vec<String> = listeners.iter().map(|listener| listener.address.to_string()).collect();
    tell(&format!("READY=1\nSTATUS=listening on {}", addresses.join(", ")));
}

/// It reads its configuration again; [`ready`] follows.
pub(super) fn reloading() {
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", notify::monotonic_microseconds()));
}

/// It lets nobody in any more, and ends with its last session.
pub(super) fn draining(sessions: usize) {
    tell(&format!("STATUS=draining: {sessions} sessions are left"));
}

/// It ends, because of that.
pub(super) fn stopping(cause: &str) {
    tell(&format!("STOPPING=1\nSTATUS=stopping: {cause}"));
}

/// What is said to people only: when it does not read, nothing waits for it.
fn tell(assignments: &str) {
    let _ = notify::send(assignments);
}

/// Another process is the main one of the service. Returns whether it has been told, or there is none that could be.
pub(super) fn main_process(id: u32) -> bool {
    !matches!(notify::send(&format!("MAINPID={id}")), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Whether there is one that supervises this process.
pub(super) fn is_there() -> bool {
    notify::is_wanted()
}

/// Hangs up when it has read what it was told.
///
/// # Errors
/// With [`ErrorKind::WouldBlock`] it may be asked later; with others there is none.
pub(super) fn barrier() -> io::Result<OwnedFd> {
    notify::barrier()
}
