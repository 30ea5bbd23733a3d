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
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockType, UnixAddr, getsockopt, setsockopt, sockopt,
};
use nix::sys::stat::{Mode, umask};

use super::channel::{Channel, MAX_MESSAGE};

/// More messages than the queue of a socket has room for.
const MOST_QUEUED: usize = 4096;
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

/// A listener and its file, which stays when it is closed.
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

    /// The socket, its path, and its file's device and inode.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, PathBuf, (u64, u64)) {
        (self.socket, self.path, self.file)
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
        // Who sends is said with each message, so that an empty one is not taken for the end.
        setsockopt(&connection, sockopt::PassCred, &true)?;
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

/// Whether a listener's file is still there, so that clients find it.
#[must_use]
pub fn is_there(path: &Path, file: (u64, u64)) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| identity(&found) == file)
}

/// Lets that group use a listener as well as root, or nobody else.
///
/// # Errors
/// Those of chown(2) and chmod(2).
pub fn set_group(path: &Path, group: Option<u32>) -> io::Result<()> {
    // In this order, so that at no time another group is let in.
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    chown(path, Some(0), Some(group.unwrap_or(0)))?;
    match group {
        Some(_) => fs::set_permissions(path, Permissions::from_mode(0o660)),
        None => Ok(()),
    }
}

/// Lets the group that [`set_group`] gave a listener use it, or nobody but root for a while.
///
/// # Errors
/// Those of stat(2) and chmod(2); the file is another one.
pub fn let_group_in(path: &Path, file: (u64, u64), let_in: bool) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if identity(&found) != file {
        return Err(io::ErrorKind::NotFound.into());
    }
    // Root's group: it was given to none.
    let mode = if let_in && found.gid() != 0 { 0o660 } else { 0o600 };
    fs::set_permissions(path, Permissions::from_mode(mode))
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

/// What one receive gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// A message.
    Message(Vec<u8>),
    /// A message that descriptors came with. It is still in the connection, which must not be closed here: the kernel
    /// closes what nobody has taken, in the time of whoever closes the connection, and that can last.
    WithDescriptors(Vec<u8>),
    /// Nothing now.
    Nothing,
    /// The other end is closed, or sent what is no message: nothing, or too much.
    Over,
}

/// What is first in a connection's queue.
enum First {
    /// A message: how long it is as far as the buffer reaches, whether it is longer, and whether descriptors came with
    /// it.
    Message {
        length: usize,
        longer: bool,
        descriptors: bool,
    },
    Nothing,
    /// The other end is closed.
    End,
}

/// Receives one message, but only looks at one that descriptors came with.
///
/// # Errors
/// Those of recvmsg(2).
pub fn receive(channel: &Channel) -> io::Result<Request> {
    let mut buffer = vec![0; MAX_MESSAGE];
    let (length, longer, descriptors) = match look(channel, &mut buffer)? {
        First::Message { length, longer, descriptors } => (length, longer, descriptors),
        First::Nothing => return Ok(Request::Nothing),
        First::End => return Ok(Request::Over),
    };
    buffer.truncate(length);
    if descriptors {
        return Ok(Request::WithDescriptors(buffer));
    }
    take(channel);
    Ok(if length == 0 || longer { Request::Over } else { Request::Message(buffer) })
}

/// Ends a connection so that nothing more can come by it, and says whether it can be closed here: true when no
/// descriptors wait in it.
#[must_use]
pub fn end(channel: &Channel) -> bool {
    let _ = socket::shutdown(channel.as_raw_fd(), socket::Shutdown::Read);
    for _ in 0..MOST_QUEUED {
        match look(channel, &mut [0]) {
            Ok(First::Message { descriptors: false, .. }) => take(channel),
            Ok(First::Nothing | First::End) => return true,
            Ok(First::Message { descriptors: true, .. }) | Err(_) => return false,
        }
    }
    false
}

/// Whether there is a message in the queue.
#[must_use]
pub fn has_more(channel: &Channel) -> bool {
    matches!(look(channel, &mut [0]), Ok(First::Message { .. }))
}

fn look(channel: &Channel, buffer: &mut [u8]) -> io::Result<First> {
    // Room for the sender's credentials, which come first, and for no descriptor: aligned as the kernel wants it.
    let mut credentials = [0_u64; 4];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a msghdr of zeros has no parts and is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    (header.msg_control, header.msg_controllen) =
        (credentials.as_mut_ptr().cast(), size_of_val(&credentials) as _);
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the header names two buffers with their lengths, which outlive the call. A look takes nothing out of the
    // queue, and without room for descriptors the kernel only says that there are some (MSG_CTRUNC).
    let length = unsafe { libc::recvmsg(channel.as_raw_fd(), &raw mut header, flags) };
    let length = match Errno::result(length) {
        Ok(length) => usize::try_from(length).unwrap_or(0),
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(First::Nothing),
        Err(Errno::ECONNRESET) => return Ok(First::End),
        Err(error) => return Err(error.into()),
    };
    let longer = header.msg_flags & libc::MSG_TRUNC != 0;
    let descriptors = header.msg_flags & libc::MSG_CTRUNC != 0;
    // The end of the connection looks like an empty message that nobody has sent.
    if length == 0 && !descriptors && header.msg_controllen == 0 {
        return Ok(First::End);
    }
    Ok(First::Message { length, longer, descriptors })
}

/// Takes the message out of the queue that was looked at; what did not fit into the buffer is gone with it.
fn take(channel: &Channel) {
    let _ = socket::recv(channel.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT);
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
        LocalListener::bind(&path).unwrap();

        // Of another kind.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        assert_eq!(LocalListener::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(other);
        LocalListener::bind(&path).unwrap();
    }

    #[test]
    fn the_file_of_another_listener_is_told_from_the_own_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let first = LocalListener::bind(&path).unwrap();
        assert!(is_there(&path, first.file()));
        // Its inode number must not be the next one's.
        fs::rename(&path, folder.path().join("other")).unwrap();
        let second = LocalListener::bind(&path).unwrap();
        assert!(!is_there(&path, first.file()) && is_there(&path, second.file()));
    }

    fn connection() -> (Channel, Channel) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let listener = LocalListener::bind(&path).unwrap();
        let theirs = connect(&path).unwrap();
        (listener.accept().unwrap().0, theirs)
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
        client.send(b"hello", &[]).unwrap();
        assert_eq!(receive(&server).unwrap(), Request::Message(b"hello".to_vec()));
        client.send(&vec![1; MAX_MESSAGE + 1], &[]).unwrap();
        assert_eq!(receive(&server).unwrap(), Request::Over);
        assert_eq!(receive(&server).unwrap(), Request::Nothing);
        client.send(&vec![1; MAX_MESSAGE + 1], &[]).unwrap();
        drop(client);
        assert_eq!(receive(&server).unwrap(), Request::Over);
    }

    #[test]
    fn descriptors_are_noticed_before_they_are_taken_and_stay_where_they_are() {
        let (ours, theirs) = connection();
        let (mut read, write) = std::io::pipe().unwrap();
        theirs.send(b"first", &[]).unwrap();
        theirs.send(b"second", &[write.as_fd()]).unwrap();
        drop(write);
        assert_eq!(receive(&ours).unwrap(), Request::Message(b"first".to_vec()));
        for _ in 0..2 {
            assert_eq!(receive(&ours).unwrap(), Request::WithDescriptors(b"second".to_vec()));
        }
        assert!(!end(&ours));
        assert!(theirs.send(b"third", &[]).is_err(), "nothing more comes");
        drop(ours);
        assert_eq!(read.read(&mut [0]).unwrap(), 0, "it is closed with the connection");
        let (ours, theirs) = connection();
        theirs.send(&vec![1; MAX_MESSAGE + 1], &[]).unwrap();
        theirs.send(b"first", &[]).unwrap();
        assert!(end(&ours), "nothing that could wait is in there");
    }
    #[test]
    fn descriptors_behind_empty_messages_are_noticed() {
        for empty in 0..3 {
            let (ours, theirs) = connection();
            let (_read, write) = std::io::pipe().unwrap();
            for _ in 0..empty {
                theirs.send(b"", &[]).unwrap();
            }
            theirs.send(b"", &[write.as_fd()]).unwrap();
            drop(theirs);
            for _ in 0..empty {
                assert_eq!(receive(&ours).unwrap(), Request::Over);
            }
            assert_eq!(receive(&ours).unwrap(), Request::WithDescriptors(Vec::new()));
            assert!(!end(&ours));
        }
        let (ours, theirs) = connection();
        theirs.send(b"", &[]).unwrap();
        drop(theirs);
        assert!(end(&ours), "an empty message, and the end");
    }

    #[test]
    fn descriptors_behind_an_empty_message_are_noticed_at_the_end() {
        let (ours, theirs) = connection();
        let (_read, write) = std::io::pipe().unwrap();
        theirs.send(b"", &[]).unwrap();
        theirs.send(b"", &[]).unwrap();
        theirs.send(b"x", &[write.as_fd()]).unwrap();
        assert!(!end(&ours));
    }
}
