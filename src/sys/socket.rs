//! TCP sockets: listeners, and the options a session's connection wants.

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    self, AddressFamily, Backlog, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, setsockopt,
    sockopt,
};

use super::route;

/// Connections the kernel holds ready for us to accept.
const BACKLOG: i32 = 1024;
/// Seconds of silence before the kernel asks whether the client is still there.
pub const KEEPALIVE_IDLE: u32 = 120;
/// Seconds between two such questions.
const KEEPALIVE_INTERVAL: u32 = 30;
/// Unanswered questions after which the connection is dead.
const KEEPALIVE_PROBES: u32 = 4;
/// Bytes the kernel may hold that are not yet on their way. Small, so that output
/// which a ^C makes worthless is still in our hands, where it can be dropped.
const UNSENT_LOW_WATER: libc::c_int = 16 * 1024;

/// Makes reads and writes on this descriptor return at once.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_nonblocking(fd: BorrowedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Makes reads and writes on this descriptor wait.
///
/// # Errors
/// Those of fcntl(2).
pub fn set_blocking(fd: BorrowedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags - OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Opens a non-blocking listener. `alone` says that no IPv4 listener stands on
/// the same port: then one on the IPv6 wildcard address takes IPv4 clients, too.
///
/// # Errors
/// The system's reason, e.g. that the address is in use.
pub fn listen(address: SocketAddr, alone: bool) -> io::Result<OwnedFd> {
    let socket = bind(address, alone)?;
    socket::listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket)
}

/// Opens what [`listen`] opens, but does not listen yet: no client can connect to it.
///
/// # Errors
/// As there.
pub fn bind(address: SocketAddr, alone: bool) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(
        family,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::Tcp,
    )?;
    // Connections of an earlier daemon that still wait for their end do not count as "in use".
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &!alone)?;
    }
    socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// The client's address as the kernel knows it, a v4-mapped one as IPv4.
///
/// # Errors
/// `NotConnected` when the client has gone already, or when this is no TCP socket.
pub fn peer(socket: BorrowedFd) -> io::Result<SocketAddr> {
    to_address(&socket::getpeername::<SockaddrStorage>(socket.as_raw_fd())?).map(canonical)
}

/// The address on our side of a connection, or of a listener.
///
/// # Errors
/// When this is no TCP socket.
pub fn local_address(socket: BorrowedFd) -> io::Result<SocketAddr> {
    to_address(&socket::getsockname::<SockaddrStorage>(socket.as_raw_fd())?)
}

fn to_address(address: &SockaddrStorage) -> io::Result<SocketAddr> {
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => Ok(SocketAddr::from(*v4)),
        (_, Some(v6)) => Ok(SocketAddr::from(*v6)),
        (None, None) => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// An IPv4 address that came through an IPv6 socket, as the IPv4 address it is.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

/// Whether this is a TCP socket. Others have addresses, too: a UDP socket has whatever peer its
/// owner says, who never has to agree.
#[must_use]
pub fn is_tcp(socket: BorrowedFd) -> bool {
    let mut protocol: libc::c_int = 0;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the pointer and the length describe `protocol`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PROTOCOL,
            (&raw mut protocol).cast(),
            &raw mut length,
        )
    };
    result == 0 && protocol == libc::IPPROTO_TCP
}

/// Whether an address is one of this machine's own: a socket can be bound to it, or packets to it come to this
/// machine, and then one can be bound with `IP_FREEBIND`. If that cannot be found out, it is.
#[must_use]
pub fn is_local(address: IpAddr) -> bool {
    let bound = std::net::UdpSocket::bind((address, 0));
    let not_bound = bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable);
    !not_bound || route::is_local(address).unwrap_or(true)
}

/// The first port that anybody on this machine may open, of IPv6 as well.
const FIRST_OPEN_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// Whether anybody on this machine may open that port, and not only root. If that cannot be found out, anybody may.
#[must_use]
pub fn is_open_to_all(port: u16) -> bool {
    let first = std::fs::read_to_string(FIRST_OPEN_PORT);
    first.ok().and_then(|text| text.trim().parse().ok()).is_none_or(|first: u32| first <= u32::from(port))
}

/// The kernel's name for a socket, which no other socket ever has (`SO_COOKIE`).
///
/// # Errors
/// Those of getsockopt(2).
pub fn cookie(socket: BorrowedFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or(0);
    // SAFETY: the pointer and the length describe `cookie`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    Ok(cookie)
}

/// Whether the client's packets carry IP options. Source routing is one of them,
/// and lets a stranger answer for a trusted address.
///
/// # Errors
/// Those of getsockopt(2).
pub fn has_ip_options(socket: BorrowedFd) -> io::Result<bool> {
    let mut options = [0_u8; 64];
    let mut length = libc::socklen_t::try_from(options.len()).unwrap_or(0);
    // SAFETY: the pointer and the length describe `options`, which outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_OPTIONS,
            options.as_mut_ptr().cast(),
            &mut length,
        )
    };
    match Errno::result(result) {
        Ok(_) => Ok(length > 0),
        // An IPv6 socket has no IPv4 options.
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sets what a session's connection wants: no delay for keystrokes, perhaps a question
/// after some minutes of silence, and little output in the kernel's hands. Where
/// `unacknowledged` is not zero, the kernel breaks a connection whose client has not
/// acknowledged what was sent, or has kept its window shut, for so long
/// (`TCP_USER_TIMEOUT`, tcp(7); it is counted in milliseconds).
///
/// # Errors
/// Those of setsockopt(2).
pub fn prepare(socket: BorrowedFd, keepalive: bool, unacknowledged: Duration) -> io::Result<()> {
    let timeout = u32::try_from(unacknowledged.as_millis()).unwrap_or(u32::MAX);
    setsockopt(&socket, sockopt::TcpUserTimeout, &timeout)?;
    setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(&socket, sockopt::KeepAlive, &keepalive)?;
    setsockopt(&socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(&socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(&socket, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    let low_water = UNSENT_LOW_WATER;
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the pointer and the length describe a c_int that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const low_water).cast(),
            length,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Has a close return at once, whatever a listener or a superserver had set (`SO_LINGER`, socket(7)).
pub fn clear_linger(socket: BorrowedFd) {
    let off = libc::linger { l_onoff: 0, l_linger: 0 };
    // A socket that does not know it does not linger either.
    let _ = setsockopt(&socket, sockopt::Linger, &off);
}

/// Sends one byte as urgent data (TCP's urgent pointer, RFC 1282).
///
/// # Errors
/// `WouldBlock` when the send queue is full, otherwise those of send(2).
pub fn send_urgent(socket: BorrowedFd, byte: u8) -> io::Result<()> {
    let flags = MsgFlags::MSG_OOB | MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    socket::send(socket.as_raw_fd(), &[byte], flags)?;
    Ok(())
}

/// Bytes in the kernel's send queue that the client has not acknowledged; 0 when
/// the kernel does not say.
#[must_use]
pub fn unacknowledged(socket: BorrowedFd) -> usize {
    let mut queued: libc::c_int = 0;
    // SAFETY: SIOCOUTQ (the same number as TIOCOUTQ, tcp(7)) writes one c_int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut queued) };
    if result == 0 { usize::try_from(queued).unwrap_or(0) } else { 0 }
}

/// What a connection has moved since it began, in bytes, as the kernel counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read by this side.
    pub read: u64,
    /// Written by this side, whether or not it has reached the other one.
    pub written: u64,
}

/// What a connection has moved; nothing when the kernel does not say.
#[must_use]
pub fn traffic(socket: BorrowedFd) -> Traffic {
    const BYTES_ACKED: usize = 15;
    const BYTES_RECEIVED: usize = 16;
    let Some(info) = tcp_info(socket) else { return Traffic::default() };
    let queued = |count: usize| u64::try_from(count).unwrap_or(0);
    Traffic {
        read: info[BYTES_RECEIVED].saturating_sub(queued(unread(socket))),
        written: info[BYTES_ACKED] + queued(unacknowledged(socket)),
    }
}

/// How long ago the client last sent data; none when the kernel does not say.
#[must_use]
pub fn silent_for(socket: BorrowedFd) -> Option<Duration> {
    // tcpi_last_data_recv is the second half of this number, in milliseconds.
    const LAST_DATA_RECEIVED: usize = 6;
    let [_, _, _, _, a, b, c, d] = tcp_info(socket)?[LAST_DATA_RECEIVED].to_ne_bytes();
    Some(Duration::from_millis(u32::from_ne_bytes([a, b, c, d]).into()))
}

/// How long an answer of the client takes at least, measured when it connected; nothing when the kernel does not say.
#[must_use]
pub fn round_trip(socket: BorrowedFd) -> Duration {
    // tcpi_rtt is the second half of this number, in microseconds.
    const ROUND_TRIP: usize = 8;
    let Some(info) = tcp_info(socket) else { return Duration::ZERO };
    let [_, _, _, _, a, b, c, d] = info[ROUND_TRIP].to_ne_bytes();
    Duration::from_micros(u32::from_ne_bytes([a, b, c, d]).into())
}

/// The beginning of `struct tcp_info` (tcp(7)) as 64-bit numbers: from Linux 4.1 on it is
/// longer than the C library's.
fn tcp_info(socket: BorrowedFd) -> Option<[u64; 17]> {
    let mut info = [0_u64; 17];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the pointer and the length describe `info`, which outlives the call and
    // may hold any bits.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    (result == 0).then_some(info)
}

/// Bytes in the kernel's receive queue; 0 when the kernel does not say.
fn unread(socket: BorrowedFd) -> usize {
    let mut queued: libc::c_int = 0;
    // SAFETY: SIOCINQ (the same number as FIONREAD, tcp(7)) writes one c_int.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONREAD, &raw mut queued) };
    if result == 0 { usize::try_from(queued).unwrap_or(0) } else { 0 }
}

/// Two descriptors for one socket.
///
/// # Errors
/// Out of descriptors.
pub fn duplicate(fd: &impl AsFd) -> io::Result<OwnedFd> {
    fd.as_fd().try_clone_to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use super::*;

    #[test]
    fn the_kernel_says_what_was_moved_and_how_long_ago() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        thread::sleep(Duration::from_millis(200));
        let silence = silent_for(server.as_fd()).unwrap();
        assert!((150..3000).contains(&silence.as_millis()), "{silence:?}");
        client.write_all(b"again").unwrap();
        thread::sleep(Duration::from_millis(20));
        assert!(silent_for(server.as_fd()).unwrap() < silence);
        server.read_exact(&mut [0; 7]).unwrap();
        assert_eq!(traffic(server.as_fd()), Traffic { read: 7, written: 0 });
    }
}
