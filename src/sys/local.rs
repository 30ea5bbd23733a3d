//! Sockets with a path, unix(7), whose clients are programs of this machine.
//!
//! A server must never wait for one of them, nor take a descriptor from one: closing a file can
//! block for as long as its file system likes.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};

use super::channel::{Channel, MAX_MESSAGE, Received};

/// Connections the kernel holds ready for us to accept.
const BACKLOG: i32 = 16;

/// Who is at the other end of a connection, by the kernel's word: as it was when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its process id; 0 when it is in another namespace.
    pub pid: u32,
    /// Its user id.
    pub uid: u32,
}

/// A listener and its file, which goes with it.
#[derive(Debug)]
pub struct LocalListener {
    socket: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl LocalListener {
    /// Listens at a path, non-blocking, for root only. What an earlier process has left there is removed.
    ///
    /// Only for a directory to which nobody else can write.
    ///
    /// # Errors
    /// `AddrInUse` when another process listens there, `AlreadyExists` when what is there is no
    /// socket, otherwise the system's.
    pub fn bind(path: &Path) -> io::Result<LocalListener> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) => match connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path)?,
                // A full queue, or one of another kind: somebody listens.
                Ok(_) | Err(_) => return Err(io::ErrorKind::AddrInUse.into()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        let before = umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
        let bound = socket::bind(socket.as_raw_fd(), &UnixAddr::new(path)?);
        umask(before);
        bound?;
        let file = identity(&fs::symlink_metadata(path)?);
        let listener = LocalListener { socket, path: path.to_owned(), file };
        socket::listen(&listener.socket, Backlog::new(BACKLOG)?)?;
        Ok(listener)
    }

    /// One that this process had before it executed this image, with what
    /// [`LocalListener::file`] said of it.
    #[must_use]
    pub fn inherited(socket: OwnedFd, path: PathBuf, file: (u64, u64)) -> LocalListener {
        LocalListener { socket, path, file }
    }

    /// Device and inode of its file.
    #[must_use]
    pub fn file(&self) -> (u64, u64) {
        self.file
    }

    /// Whether its file is still there, so that clients find it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| identity(&found) == self.file)
    }

    /// Lets that group in as well as root, or nobody else.
    ///
    /// # Errors
    /// Those of chown(2) and chmod(2).
    pub fn set_group(&self, group: Option<u32>) -> io::Result<()> {
        // In this order, so that at no time another group is let in.
        fs::set_permissions(&self.path, Permissions::from_mode(0o600))?;
        chown(&self.path, Some(0), Some(group.unwrap_or(0)))?;
        match group {
            Some(_) => fs::set_permissions(&self.path, Permissions::from_mode(0o660)),
            None => Ok(()),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts a connection, non-blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, otherwise those of accept(2).
    pub fn accept(&self) -> io::Result<(Channel, Peer)> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = socket::accept4(self.socket.as_raw_fd(), flags)?;
        // SAFETY: the kernel has just made this descriptor for us.
        let connection = unsafe { OwnedFd::from_raw_fd(raw) };
        let peer = getsockopt(&connection, sockopt::PeerCredentials)?;
        let channel = Channel::from_inherited(connection)?;
        Ok((channel, Peer { pid: u32::try_from(peer.pid()).unwrap_or(0), uid: peer.uid() }))
    }
}

impl AsFd for LocalListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LocalListener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        // Another process may have put its own there meanwhile.
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

/// Connects to a listener, without waiting for one whose queue is full. The connection is blocking.
///
/// # Errors
/// Those of connect(2).
pub fn connect(path: &Path) -> io::Result<Channel> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let channel = Channel::from_inherited(socket)?;
    channel.set_blocking()?;
    Ok(channel)
}

/// Receives one message and none of the descriptors that came with it.
///
/// # Errors
/// `InvalidData` for a message that is too long, otherwise those of recv(2).
pub fn receive(channel: &Channel) -> io::Result<Received> {
    let mut buffer = vec![0; MAX_MESSAGE];
    // With MSG_TRUNC the message's own length is what is returned.
    match socket::recv(channel.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
        Ok(0) | Err(Errno::ECONNRESET) => Ok(Received::Closed),
        Ok(length) if length > buffer.len() => Err(io::ErrorKind::InvalidData.into()),
        Ok(length) => {
            buffer.truncate(length);
            Ok(Received::Message(buffer, Vec::new()))
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Nothing),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_what_nobody_uses_any_more_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        fs::write(&path, "a file").unwrap();
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(&path).unwrap();

        let first = LocalListener::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "its file goes with it");

        // Of another kind; its file stays behind when it is closed.
        let other = UnixListener::bind(&path).unwrap();
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(other);
        LocalListener::bind(&path).unwrap();
    }

    #[test]
    fn the_file_of_another_listener_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let first = LocalListener::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!first.is_there());
        let second = LocalListener::bind(&path).unwrap();
        assert!(!first.is_there() && second.is_there());
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn a_peer_is_known_and_its_descriptors_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = LocalListener::bind(&path).unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = connect(&path).unwrap();
        let (server, peer) = listener.accept().unwrap();
        assert_eq!(peer, Peer { pid: std::process::id(), uid: nix::unistd::getuid().as_raw() });
        let (mut read, write) = std::io::pipe().unwrap();
        client.send(b"hello", &[write.as_fd()]).unwrap();
        drop(write);
        let Received::Message(bytes, descriptors) = receive(&server).unwrap() else { panic!("no message") };
        assert_eq!((bytes.as_slice(), descriptors.len()), (b"hello".as_slice(), 0));
        assert_eq!(read.read(&mut [0]).unwrap(), 0, "nobody has the other end");
        client.send(&vec![1; MAX_MESSAGE + 1], &[]).unwrap();
        assert_eq!(receive(&server).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(matches!(receive(&server).unwrap(), Received::Nothing));
        drop(client);
        assert!(matches!(receive(&server).unwrap(), Received::Closed));
    }
}
