//! The two ends of a connection: the client's TCP socket and the PTY's leader.
//!
//! Behind traits, so that the simulation can stand in for both with short reads,
//! full queues and resets in every place.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::errno::Errno;

use crate::sys::pty::{Leader, Packet};
use crate::sys::socket;

/// The client's end. All calls return at once, with `WouldBlock` where they
/// would have to wait.
pub trait Client {
    /// Reads; 0 is the end of what the client sends.
    ///
    /// # Errors
    /// Those of read(2).
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes as much as fits.
    ///
    /// # Errors
    /// Those of write(2).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
    /// Sends one byte as urgent data.
    ///
    /// # Errors
    /// Those of send(2).
    fn write_urgent(&mut self, byte: u8) -> io::Result<()>;
    /// Bytes sent and not yet acknowledged.
    fn unacknowledged(&self) -> usize;
    /// Says that nothing more comes.
    fn shutdown_write(&mut self);
}

/// The terminal's end.
///
/// Reading and writing is all that is done to it here: other calls take locks of the terminal that
/// its user can hold for as long as they like, and belong to the session process.
pub trait Terminal {
    /// Reads output, or a change of the terminal's state, which alone is found with
    /// an empty buffer.
    ///
    /// # Errors
    /// `EIO` when no follower is open.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Packet>;
    /// Writes input.
    ///
    /// # Errors
    /// Those of write(2).
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;
}

/// A client's socket that the event loop watches.
///
/// Watching ends explicitly: the monitor holds a duplicate, and as long as one
/// lives epoll(7) would go on reporting a descriptor that is closed here.
#[derive(Debug)]
pub struct WatchedClient {
    stream: TcpStream,
    registry: Rc<Registry>,
}

impl WatchedClient {
    /// Has the socket watched under this token.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(mut stream: TcpStream, registry: &Rc<Registry>, token: Token) -> io::Result<Self> {
        registry.register(
            &mut stream,
            token,
            Interest::READABLE | Interest::WRITABLE | Interest::PRIORITY,
        )?;
        Ok(WatchedClient { stream, registry: Rc::clone(registry) })
    }

    /// A second descriptor for the socket.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.stream.as_fd().try_clone_to_owned()
    }
}

impl Drop for WatchedClient {
    fn drop(&mut self) {
        let _ = self.registry.deregister(&mut self.stream);
    }
}

impl Client for WatchedClient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn write_urgent(&mut self, byte: u8) -> io::Result<()> {
        socket::send_urgent(self.stream.as_fd(), byte)
    }

    fn unacknowledged(&self) -> usize {
        socket::unacknowledged(self.stream.as_fd())
    }

    fn shutdown_write(&mut self) {
        // It fails when the client has gone already, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// A PTY's leader that the event loop watches; like [`WatchedClient`].
///
/// For room it is watched only while it has none: the kernel tells of room whenever a program
/// reads, and that would wake the loop a second time for every key.
#[derive(Debug)]
pub struct WatchedTerminal {
    leader: Leader,
    registry: Rc<Registry>,
    token: Token,
    watches_room: bool,
}

/// So few bytes are typed; more are pasted, and more of them may come.
const TYPED: usize = 64;

impl WatchedTerminal {
    /// Has the leader watched under this token.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(leader: Leader, registry: &Rc<Registry>, token: Token) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::PRIORITY;
        registry.register(&mut SourceFd(&leader.as_fd().as_raw_fd()), token, interest)?;
        Ok(WatchedTerminal { leader, registry: Rc::clone(registry), token, watches_room: false })
    }

    /// Room that there is already makes an event at once.
    fn watch_room(&mut self, watch: bool) -> io::Result<()> {
        if watch == self.watches_room {
            return Ok(());
        }
        let without = Interest::READABLE | Interest::PRIORITY;
        let interest = if watch { without | Interest::WRITABLE } else { without };
        let leader = self.leader.as_fd().as_raw_fd();
        self.registry.reregister(&mut SourceFd(&leader), self.token, interest)?;
        self.watches_room = watch;
        Ok(())
    }
}

impl Drop for WatchedTerminal {
    fn drop(&mut self) {
        let _ = self.registry.deregister(&mut SourceFd(&self.leader.as_fd().as_raw_fd()));
    }
}

impl Terminal for WatchedTerminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        self.leader.read(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = self.leader.write(bytes);
        match &outcome {
            // If that fails there are only events that nobody needs.
            Ok(count) if *count == bytes.len() && *count <= TYPED => drop(self.watch_room(false)),
            Ok(1..) => {}
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {}
            // No event will tell of room if that fails, and so it is tried again in a while.
            Ok(0) | Err(_) => self.watch_room(true).map_err(|_| io::Error::from(Errno::ENOMEM))?,
        }
        outcome
    }
}
