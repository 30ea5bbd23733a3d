//! A fake client: one TCP connection, every byte under control.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, setsockopt,
    sockopt,
};

use crate::accounts::{Account, PROMPT};
use crate::terminal::{PATIENCE, find};

/// An urgent byte of the server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Urgent {
    pub(crate) byte: u8,
    /// When it was taken.
    pub(crate) at: Instant,
}

/// How the server ended the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Orderly.
    Closed,
    /// With a RST.
    Reset,
}

/// The fake client.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    /// All of the server's bytes but the urgent ones.
    pub(crate) data: Vec<u8>,
    /// All urgent bytes.
    pub(crate) urgent: Vec<Urgent>,
    /// How the connection ended, when it has.
    pub(crate) end: Option<End>,
    /// Everything before this was expected already.
    seen: usize,
}

impl Peer {
    /// Connects from a reserved port of 127.0.0.1.
    pub(crate) fn connect() -> Peer {
        Peer::connect_from(Ipv4Addr::LOCALHOST.into())
    }

    /// Connects from a reserved port of this address to port 513 of the loopback address of its family.
    pub(crate) fn connect_from(source: IpAddr) -> Peer {
        Peer::connect_to(source, 513)
    }

    /// Connects from a reserved port of this address to that port of the loopback address of its family.
    pub(crate) fn connect_to(source: IpAddr, target: u16) -> Peer {
        // From 1023 downwards, as clients do; below 512 the port is no longer a client's.
        let connected = (512..1024).rev().find_map(|port| open(SocketAddr::new(source, port), target));
        Peer::of(connected.expect("a free reserved port"))
    }

    /// Connects from whatever port the system chooses.
    pub(crate) fn connect_unreserved() -> Peer {
        Peer::connect_unreserved_to(513)
    }

    /// Connects to that port from whatever port the system chooses.
    pub(crate) fn connect_unreserved_to(target: u16) -> Peer {
        Peer::of(open(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), target).unwrap())
    }

    /// Connects from exactly that port.
    pub(crate) fn connect_from_port(port: u16) -> Peer {
        Peer::of(open(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 513).unwrap())
    }

    /// Over a connection that somebody else made.
    pub(crate) fn of(stream: TcpStream) -> Peer {
        Peer { stream, data: Vec::new(), urgent: Vec::new(), end: None, seen: 0 }
    }

    /// Connects and says who it is, with the terminal `vt100/38400`.
    pub(crate) fn hello(local: &str, remote: &str) -> Peer {
        let mut peer = Peer::connect();
        peer.send(handshake(local, remote, "vt100/38400"));
        peer
    }

    /// Connects, logs in by password and waits for the prompt, and has told its size when asked for it.
    pub(crate) fn log_in(account: Account) -> Peer {
        let mut peer = Peer::hello("nobody", account.name);
        peer.give_password(account);
        peer.wait_urgent(0x80, 0);
        peer.send_size(24, 80);
        peer
    }

    /// Gives the password when it is asked for and waits for the shell.
    pub(crate) fn give_password(&mut self, account: Account) {
        self.expect("Password: ");
        self.send(format!("{}\r", account.password));
        self.expect(PROMPT);
    }

    /// Sends, in one segment if it fits.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// The same to a server that may close before it has taken all.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends the client's window size (RFC 1282, "Window Size").
    pub(crate) fn send_size(&mut self, rows: u16, columns: u16) {
        self.send(window_message(rows, columns));
    }

    /// Takes what comes within that time; returns early when the connection ends.
    pub(crate) fn listen(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while self.end.is_none() && self.take_some(deadline) {}
    }

    /// Waits until the condition is true of what came, or fails saying `what`.
    pub(crate) fn wait(&mut self, what: &str, timeout: Duration, done: impl Fn(&Peer) -> bool) {
        let deadline = Instant::now() + timeout;
        while !done(self) {
            let more = self.end.is_none() && self.take_some(deadline);
            assert!(more || done(self), "no {what}; {}", self.told());
        }
    }

    /// Waits for the text and returns what came before it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_bytes(text.as_bytes(), PATIENCE)
    }

    /// The same with any bytes and a time limit of its own.
    pub(crate) fn expect_bytes(&mut self, bytes: &[u8], timeout: Duration) -> String {
        let deadline = Instant::now() + timeout;
        let mut searched = self.seen;
        loop {
            if let Some(at) = find(&self.data[searched..], bytes) {
                let before = String::from_utf8_lossy(&self.data[self.seen..searched + at]).into_owned();
                self.seen = searched + at + bytes.len();
                return before;
            }
            searched = searched.max((self.data.len() + 1).saturating_sub(bytes.len()));
            let more = self.end.is_none() && self.take_some(deadline);
            assert!(more, "no {:?}; {}", String::from_utf8_lossy(bytes), self.told());
        }
    }

    /// Runs a command in the remote shell, which must be at its prompt, and
    /// returns what it wrote; it must succeed. The shell must be one without line editing.
    pub(crate) fn run(&mut self, command: &str) -> String {
        self.send(format!("{command}; echo \"@\"\"@$?@\"\r"));
        self.expect("\r\n");
        let output = self.expect("@@");
        let status = self.expect("@");
        self.expect(PROMPT);
        assert_eq!(status, "0", "{command:?} failed: {output}");
        output.replace("\r\n", "\n").trim_end().to_owned()
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn wait_end(&mut self, timeout: Duration) -> End {
        self.wait("end of the connection", timeout, |peer| peer.end.is_some());
        self.end.unwrap()
    }

    /// What came and was not expected yet.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.data[self.seen..]
    }

    /// The urgent bytes alone.
    pub(crate) fn urgent_bytes(&self) -> Vec<u8> {
        self.urgent.iter().map(|urgent| urgent.byte).collect()
    }

    /// Bytes behind the first, the zero byte, that were urgent bytes once: a shell sends none like them.
    pub(crate) fn stray_bytes(&self) -> Vec<u8> {
        // 0x20 and 0x22 are text as well and cannot be told apart.
        let urgent = [0x02, 0x10, 0x12, 0x80, 0x82, 0x90, 0xa0];
        self.data[1..].iter().copied().filter(|byte| urgent.contains(byte)).collect()
    }

    /// Waits until an urgent byte with this bit came after the first `after` urgent bytes.
    pub(crate) fn wait_urgent(&mut self, bit: u8, after: usize) -> usize {
        self.wait(&format!("urgent {bit:#x}"), PATIENCE, |peer| {
            peer.urgent.iter().skip(after).any(|urgent| urgent.byte & bit != 0)
        });
        self.urgent.len()
    }

    /// Takes only a few kilobytes at a time from now on, unread.
    pub(crate) fn take_little(&self) {
        setsockopt(&self.stream, sockopt::RcvBuf, &4096).unwrap();
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends the connection with a RST.
    pub(crate) fn reset(self) {
        let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream, sockopt::Linger, &at_once).unwrap();
    }

    /// Takes one urgent byte or one piece of data; false when nothing came until the deadline.
    fn take_some(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN | PollFlags::POLLPRI)];
        let timeout = PollTimeout::try_from(left).unwrap();
        if poll(&mut polled, timeout).unwrap() == 0 {
            return false;
        }
        let ready = polled[0].revents().unwrap();
        // The urgent byte first: a read at the mark would destroy it.
        if ready.contains(PollFlags::POLLPRI) && self.take_urgent() {
            return true;
        }
        self.take_data();
        true
    }

    fn take_urgent(&mut self) -> bool {
        let mut byte = [0];
        match socket::recv(self.stream.as_raw_fd(), &mut byte, MsgFlags::MSG_OOB) {
            Ok(1) => {
                self.urgent.push(Urgent { byte: byte[0], at: Instant::now() });
                true
            }
            // It was announced and is still on its way behind the data.
            _ => false,
        }
    }

    fn take_data(&mut self) {
        let mut buffer = [0; 64 * 1024];
        match socket::recv(self.stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => self.end = Some(End::Closed),
            Ok(length) => self.data.extend_from_slice(&buffer[..length]),
            Err(Errno::EAGAIN) => thread::sleep(Duration::from_millis(1)),
            Err(Errno::ECONNRESET) => self.end = Some(End::Reset),
            Err(error) => panic!("recv: {error}"),
        }
    }

    fn told(&self) -> String {
        let start = self.data.len().saturating_sub(2000).max(self.seen.min(self.data.len()));
        let data = String::from_utf8_lossy(&self.data[start..]);
        format!("there is {data:?}, urgent {:x?}, end {:?}", self.urgent_bytes(), self.end)
    }
}

/// The client's first bytes (RFC 1282, "Connection Establishment").
pub(crate) fn handshake(local: &str, remote: &str, terminal: &str) -> Vec<u8> {
    format!("\0{local}\0{remote}\0{terminal}\0").into_bytes()
}

/// The twelve bytes of a window size, without pixels.
pub(crate) fn window_message(rows: u16, columns: u16) -> Vec<u8> {
    let mut message = vec![0xff, 0xff, b's', b's'];
    for number in [rows, columns, 0, 0] {
        message.extend_from_slice(&number.to_be_bytes());
    }
    message
}

/// Connects from that address, or says that its port is taken.
pub(crate) fn open(source: SocketAddr, target: u16) -> Option<TcpStream> {
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // A port that waits for old segments may be bound again, to another connection.
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    bind(&socket, source)?;
    let host: IpAddr = if source.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { source.ip() };
    match socket::connect(socket.as_raw_fd(), &*for_system(SocketAddr::new(host, target))) {
        Ok(()) => Some(stream_of(socket)),
        Err(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => None,
        Err(error) => panic!("connect from {source}: {error}"),
    }
}

fn bind(socket: &OwnedFd, source: SocketAddr) -> Option<()> {
    match socket::bind(socket.as_raw_fd(), &*for_system(source)) {
        Ok(()) => Some(()),
        Err(Errno::EADDRINUSE) => None,
        Err(error) => panic!("bind {source}: {error}"),
    }
}

fn stream_of(socket: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(socket);
    // A test that sends in pieces means separate segments.
    stream.set_nodelay(true).unwrap();
    stream
}

fn for_system(address: SocketAddr) -> Box<dyn SockaddrLike> {
    match address {
        SocketAddr::V4(address) => Box::new(SockaddrIn::from(address)),
        SocketAddr::V6(address) => Box::new(SockaddrIn6::from(address)),
    }
}
