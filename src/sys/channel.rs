//! Datagrams with descriptors between processes of ours: `SOCK_SEQPACKET` and
//! `SCM_RIGHTS`, unix(7).
//!
//! A message arrives whole or not at all: one that is too long is an error. Its
//! descriptors may be fewer than were sent when the receiver has no room for them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, getsockopt, recvmsg,
    sendmsg, socketpair, sockopt,
};

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// The most descriptors one message carries.
pub const MAX_DESCRIPTORS: usize = 64;

/// One end of a connection between two of our processes.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// What one receive gave.
#[derive(Debug)]
pub enum Received {
    /// A message and the descriptors that came with it, close-on-exec.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing now; only on a non-blocking channel.
    Nothing,
    /// The other end is closed.
    Closed,
}

impl Channel {
    /// A connected pair, both ends close-on-exec and blocking.
    ///
    /// # Errors
    /// Those of socketpair(2), e.g. out of descriptors.
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Channel(ours), Channel(theirs)))
    }

    /// Takes over a descriptor that a parent of ours handed down.
    ///
    /// # Errors
    /// When the descriptor is not a `SOCK_SEQPACKET` socket: then somebody else
    /// started this process.
    pub fn from_inherited(fd: OwnedFd) -> io::Result<Channel> {
        if getsockopt(&fd, sockopt::SockType)? == SockType::SeqPacket {
            Ok(Channel(fd))
        } else {
            Err(io::Error::other("standard input is no channel of ours"))
        }
    }

    /// Makes sends and receives return at once.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_nonblocking(&self) -> io::Result<()> {
        super::socket::set_nonblocking(self.0.as_fd())
    }

    /// Makes sends and receives wait.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_blocking(&self) -> io::Result<()> {
        super::socket::set_blocking(self.0.as_fd())
    }

    /// Sends one message whole.
    ///
    /// # Errors
    /// `WouldBlock` on a full non-blocking channel, `BrokenPipe` when the other
    /// end is closed, otherwise those of sendmsg(2).
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage] = if raw.is_empty() { &[] } else { &rights };
        loop {
            match sendmsg::<()>(
                self.0.as_raw_fd(),
                &[IoSlice::new(bytes)],
                control,
                MsgFlags::MSG_NOSIGNAL,
                None,
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `InvalidData` for a message that is too long, otherwise those of recvmsg(2).
    pub fn receive(&self) -> io::Result<Received> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let message = match recvmsg::<()>(
                self.0.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_CMSG_CLOEXEC,
            ) {
                Ok(message) => message,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(Errno::ECONNRESET) => return Ok(Received::Closed),
                Err(error) => return Err(error.into()),
            };
            let length = message.bytes;
            let flags = message.flags;
            // Taken before anything can fail: what is not taken would stay open for ever.
            let mut descriptors = Vec::new();
            for part in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = part {
                    // SAFETY: the kernel has just installed these descriptors for
                    // us, so each is open and nobody else owns it.
                    descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                }
            }
            // Lost descriptors (MSG_CTRUNC) are for whoever misses them: we may have had no
            // room for them.
            if flags.contains(MsgFlags::MSG_TRUNC) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            // No message of ours is empty, so this is the end of the connection.
            if length == 0 {
                return Ok(Received::Closed);
            }
            buffer.truncate(length);
            return Ok(Received::Message(buffer, descriptors));
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    #[test]
    fn a_message_and_its_descriptor_arrive() {
        let (a, b) = Channel::pair().unwrap();
        let file = File::open("/etc/hostname").unwrap();
        a.send(b"hello", &[file.as_fd()]).unwrap();
        let Received::Message(bytes, mut descriptors) = b.receive().unwrap() else { panic!("no message") };
        assert_eq!(bytes, b"hello");
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
    }

    #[test]
    fn the_other_end_closing_is_told_from_having_nothing() {
        let (a, b) = Channel::pair().unwrap();
        b.set_nonblocking().unwrap();
        assert!(matches!(b.receive().unwrap(), Received::Nothing));
        drop(a);
        assert!(matches!(b.receive().unwrap(), Received::Closed));
        assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_that_is_too_long_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&vec![1; MAX_MESSAGE + 1], &[]).unwrap();
        assert_eq!(b.receive().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
