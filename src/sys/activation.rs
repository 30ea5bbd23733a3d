//! Sockets that the service manager opened for us, sd_listen_fds(3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};

use nix::sys::socket::{getsockopt, sockopt};

use super::socket;

/// A listening socket, its name (`FileDescriptorName=`) and its address.
#[derive(Debug)]
pub struct Activated {
    /// The socket.
    pub socket: OwnedFd,
    /// What the unit calls it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The sockets, none when nobody opened any. To be called once, early.
///
/// # Errors
/// When the environment is inconsistent, or a socket is no listening TCP socket.
pub fn take() -> io::Result<Vec<Activated>> {
    sd_notify::listen_fds_with_names()?
        .map(|(raw, name)| {
            // SAFETY: sd_listen_fds(3): these descriptors were opened for this very
            // process (LISTEN_PID is ours), and nothing has closed or taken them.
            let fd = unsafe { OwnedFd::from_raw_fd(raw) };
            let listening = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
            // They come as their opener left them; accept(2) must not block the loop.
            socket::set_nonblocking(fd.as_fd())?;
            match (listening, socket::local_address(fd.as_fd())) {
                (true, Ok(address)) => Ok(Activated { socket: fd, name, address }),
                (_, _) => Err(io::Error::other(format!("the socket {name} is no listening TCP socket"))),
            }
        })
        .collect()
}
