//! Datagrams with descriptors between processes of ours: `SOCK_SEQPACKET` and
//! `SCM_RIGHTS`, unix(7).
//!
//! A message arrives whole or not at all: one that is too long is an error. Its
//! descriptors may be fewer than were sent when the receiver has no room for them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, getsockopt, sendmsg, socketpair, sockopt,
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

    /// Whether standard input may be a channel that one of ours has left there.
    #[must_use]
    pub fn is_stdin() -> bool {
        getsockopt(&io::stdin(), sockopt::SockType).is_ok_and(|kind| kind == SockType::SeqPacket)
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

    /// Whether a receive would return at once.
    #[must_use]
    pub fn has_message(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `InvalidData` for a message that is too long, otherwise those of recvmsg(2).
    pub fn receive(&self) -> io::Result<Received> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, flags, descriptors) = loop {
            match receive_into(self.0.as_fd(), &mut buffer) {
                Ok(message) => break message,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Received::Nothing),
                Err(Errno::ECONNRESET) => return Ok(Received::Closed),
                Err(error) => return Err(error.into()),
            }
        };
        // Lost descriptors (MSG_CTRUNC) are for whoever misses them: we may have had no
        // room for them.
        if flags & libc::MSG_TRUNC != 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // No message of ours is empty, so this is the end of the connection.
        if length == 0 {
            return Ok(Received::Closed);
        }
        buffer.truncate(length);
        Ok(Received::Message(buffer, descriptors))
    }
}

/// Room for the control message that carries the descriptors (cmsg(3)). In words, as that is how it is aligned.
const CONTROL: usize = size_of::<libc::cmsghdr>().div_ceil(size_of::<u64>())
    + (MAX_DESCRIPTORS * size_of::<RawFd>()).div_ceil(size_of::<u64>());

/// recvmsg(2): the message's length, its flags, and the descriptors that came with it.
///
/// The wrapper of `nix` gives none of them when some were lost, and leaves those open that were not.
fn receive_into(channel: BorrowedFd, buffer: &mut [u8]) -> nix::Result<(usize, libc::c_int, Vec<OwnedFd>)> {
    let mut control = [0_u64; CONTROL];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros has no parts and is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control);
    // SAFETY: the header names one buffer and the room for control messages with their
    // lengths; all of them outlive the call, and nothing else refers to them.
    let length = unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let length = usize::try_from(Errno::result(length)?).unwrap_or(0);
    let mut descriptors = Vec::new();
    // SAFETY: the kernel has filled `control` in up to the length it put into the header.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !next.is_null() {
        // SAFETY: a pointer that CMSG_FIRSTHDR or CMSG_NXTHDR gave and that is not null is to a whole,
        // aligned header within `control`.
        let found = unsafe { *next };
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: the data stands behind the header just read.
            let (data, empty) = unsafe { (libc::CMSG_DATA(next), libc::CMSG_LEN(0)) };
            let bytes = found.cmsg_len.saturating_sub(empty as usize);
            for index in 0..bytes / size_of::<RawFd>() {
                // SAFETY: the kernel has written so many numbers there, of descriptors it has just
                // installed for us: each is open, and nobody else owns it.
                descriptors
                    .push(unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()) });
            }
        }
        // SAFETY: as for CMSG_FIRSTHDR, and `next` is one of its headers.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok((length, header.msg_flags, descriptors))
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
    fn as_many_descriptors_as_a_message_may_carry_arrive_in_order() {
        let (a, b) = Channel::pair().unwrap();
        let files: Vec<File> = (0..MAX_DESCRIPTORS).map(|_| tempfile::tempfile().unwrap()).collect();
        let sent: Vec<BorrowedFd> = files.iter().map(AsFd::as_fd).collect();
        a.send(b"x", &sent).unwrap();
        let Received::Message(_, descriptors) = b.receive().unwrap() else { panic!("no message") };
        let inode = |fd: BorrowedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        let arrived: Vec<u64> = descriptors.iter().map(|fd| inode(fd.as_fd())).collect();
        assert_eq!(arrived, sent.iter().map(|fd| inode(*fd)).collect::<Vec<_>>());
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
