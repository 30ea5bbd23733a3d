//! One rlogin connection as a real client has it: a reserved source port, urgent
//! bytes taken at once, a flush that discards up to the mark, the window's size
//! when it is asked for (RFC 1282).
//!
//! It never blocks; who uses it waits, with poll(2) or epoll(7).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, setsockopt, sockopt};

use crate::sys;
use crate::world::{ACCOUNT, PROMPT};
use crate::{Outcome, failure};

/// "Discard what you have not shown yet."
const FLUSH: u8 = 0x02;
/// "Tell me the window's size."
const WINDOW: u8 = 0x80;
/// How much of the end of the output is kept.
const TAIL: usize = 512;
/// What one look at a connection takes at most: more than one read of a fast
/// sender gives, and small enough that others get their turn.
const READ: usize = 256 * 1024;

/// The source addresses and reserved ports that are not used yet.
pub(crate) struct Ports {
    sources: Vec<Ipv4Addr>,
    next: usize,
}

impl Ports {
    /// From 1023 downwards, as clients do; then the next address.
    const EACH: usize = 1023 - 514;

    /// All reserved ports of these addresses.
    pub(crate) fn of(sources: Vec<Ipv4Addr>) -> Ports {
        Ports { sources, next: 0 }
    }

    fn take(&mut self) -> Outcome<SocketAddrV4> {
        let number = self.next;
        self.next += 1;
        let source = *self.sources.get(number / Ports::EACH).ok_or("out of reserved ports")?;
        Ok(SocketAddrV4::new(source, 1023 - u16::try_from(number % Ports::EACH)?))
    }
}

/// A connection to the server.
pub(crate) struct Client {
    stream: TcpStream,
    greeted: bool,
    discarding: bool,
    tail: Vec<u8>,
    /// Whether the end of what comes is wanted; else it is counted and thrown away in
    /// the kernel, so that this process does not become what is measured.
    pub(crate) keeps: bool,
    /// When the connection was asked for.
    pub(crate) started: Instant,
    /// When the shell's first prompt was there.
    pub(crate) prompted: Option<Instant>,
    /// Bytes that came, without the first and the urgent ones.
    pub(crate) received: u64,
    /// Of these, what a flush made the client throw away.
    pub(crate) discarded: u64,
    /// Why the connection ended, when it has.
    pub(crate) end: Option<String>,
}

impl Client {
    /// Connects, and says who it is when that is done: see [`Client::look`].
    pub(crate) fn connect(ports: &mut Ports, server: Ipv4Addr) -> Outcome<Client> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let started = Instant::now();
        loop {
            let socket = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            // As the real ones: a key must not wait for the acknowledgement of the one before.
            setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
            match socket::bind(socket.as_raw_fd(), &SockaddrIn::from(ports.take()?)) {
                Ok(()) => {}
                Err(Errno::EADDRINUSE) => continue,
                Err(error) => return Err(error.into()),
            }
            let to = SockaddrIn::from(SocketAddrV4::new(server, 513));
            match socket::connect(socket.as_raw_fd(), &to) {
                Ok(()) | Err(Errno::EINPROGRESS) => {}
                Err(Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) => continue,
                Err(error) => return Err(error.into()),
            }
            return Ok(Client::of(TcpStream::from(socket), started));
        }
    }

    fn of(stream: TcpStream, started: Instant) -> Client {
        Client {
            stream,
            greeted: false,
            discarding: false,
            tail: Vec::new(),
            keeps: true,
            started,
            prompted: None,
            received: 0,
            discarded: 0,
            end: None,
        }
    }

    /// Connects and waits for the prompt.
    pub(crate) fn log_in(ports: &mut Ports, server: Ipv4Addr) -> Outcome<Client> {
        let mut client = Client::connect(ports, server)?;
        client.hello()?;
        client.wait(Duration::from_secs(30), "a prompt", |client| client.prompted.is_some())?;
        Ok(client)
    }

    /// Waits for the connection and sends the first message.
    pub(crate) fn hello(&mut self) -> Outcome<()> {
        let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut polled, PollTimeout::from(10_000_u16))? == 0 {
            return failure("no connection within 10 s");
        }
        let name = ACCOUNT;
        self.send(format!("\0{name}\0{name}\0vt100/38400\0").as_bytes())
    }

    /// Sends all of it. Only for what is short: it waits for room.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.tail.clear();
        let mut left = bytes;
        while !left.is_empty() {
            match socket::send(self.stream.as_raw_fd(), left, MsgFlags::MSG_NOSIGNAL) {
                Ok(length) => left = left.get(length..).unwrap_or_default(),
                Err(Errno::EAGAIN) => {
                    let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    if poll(&mut polled, PollTimeout::from(10_000_u16))? == 0 {
                        return failure("the server takes nothing for 10 s");
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends what there is room for.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> Outcome<usize> {
        match socket::send(self.stream.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(length) => Ok(length),
            Err(Errno::EAGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has come.
    pub(crate) fn look(&mut self, buffer: &mut Buffer, events: Events) {
        let done = match events {
            Events::Urgent => self.take_urgent().and_then(|()| self.take_data(buffer)),
            Events::Data => self.take_data(buffer),
        };
        if let Err(error) = done {
            self.end = Some(error.to_string());
        }
    }

    fn take_urgent(&mut self) -> Outcome<()> {
        let mut byte = [0];
        match socket::recv(self.stream.as_raw_fd(), &mut byte, MsgFlags::MSG_OOB) {
            Ok(1) => {}
            Ok(_) | Err(Errno::EINVAL | Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if byte[0] & FLUSH != 0 {
            self.discarding = true;
            self.tail.clear();
        }
        if byte[0] & WINDOW != 0 {
            // 24 rows, 80 columns, no pixels.
            let size = [0xff, 0xff, b's', b's', 0, 24, 0, 80, 0, 0, 0, 0];
            self.send_some(&size)?;
        }
        Ok(())
    }

    fn take_data(&mut self, buffer: &mut Buffer) -> Outcome<()> {
        if self.discarding && sys::at_mark(self.stream.as_fd())? {
            self.discarding = false;
        }
        let keeps = self.keeps && !self.discarding || !self.greeted;
        let flags = if keeps { MsgFlags::empty() } else { MsgFlags::MSG_TRUNC };
        // Never beyond the mark: the kernel ends a read there.
        let length = match socket::recv(self.stream.as_raw_fd(), &mut buffer.0, flags) {
            Ok(0) => return failure("closed"),
            Ok(length) => length,
            Err(Errno::EAGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut data = buffer.0.get(..length).unwrap_or_default();
        if !self.greeted {
            self.greeted = true;
            match data.split_first() {
                Some((0, rest)) => data = rest,
                _ => return failure(String::from_utf8_lossy(data).trim()),
            }
        }
        self.received += u64::try_from(data.len())?;
        if self.discarding {
            self.discarded += u64::try_from(data.len())?;
        } else if keeps {
            self.keep(data);
        }
        Ok(())
    }

    fn keep(&mut self, data: &[u8]) {
        self.tail.extend_from_slice(data.get(data.len().saturating_sub(TAIL)..).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(TAIL));
        if self.prompted.is_none() && self.at_prompt() {
            self.prompted = Some(Instant::now());
        }
    }

    /// Whether the last that came since something was sent is the shell's prompt.
    pub(crate) fn at_prompt(&self) -> bool {
        self.shows(PROMPT)
    }

    /// Whether the last that came since something was sent is this.
    pub(crate) fn shows(&self, text: &str) -> bool {
        self.tail.ends_with(text.as_bytes())
    }

    /// Takes what comes until the condition is true.
    pub(crate) fn wait(
        &mut self,
        longest: Duration,
        what: &str,
        done: impl Fn(&Client) -> bool,
    ) -> Outcome<()> {
        let deadline = Instant::now() + longest;
        let mut buffer = Buffer::new();
        while !done(self) {
            if let Some(end) = &self.end {
                return failure(&format!("{end}, instead of {what}"));
            }
            if !self.pump(&mut buffer, deadline, PollFlags::empty())? {
                return failure(&format!("no {what} within {} s", longest.as_secs()));
            }
        }
        Ok(())
    }

    /// Waits until something comes, or one of the events, and takes it; false at the deadline.
    pub(crate) fn pump(&mut self, buffer: &mut Buffer, deadline: Instant, also: PollFlags) -> Outcome<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let wanted = PollFlags::POLLIN | PollFlags::POLLPRI;
        let mut polled = [PollFd::new(self.stream.as_fd(), wanted | also)];
        if poll(&mut polled, PollTimeout::try_from(left)?)? == 0 {
            // What is left is rounded down to milliseconds.
            return Ok(Instant::now() < deadline);
        }
        let events = polled[0].revents().unwrap_or(PollFlags::empty());
        if events.contains(PollFlags::POLLPRI) {
            self.look(buffer, Events::Urgent);
        } else if events.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            self.look(buffer, Events::Data);
        }
        Ok(true)
    }

    /// Types `exit` and waits for the end.
    pub(crate) fn log_out(mut self) -> Outcome<()> {
        self.send(b"exit\r")?;
        self.wait(Duration::from_secs(10), "the end", |client| client.end.is_some())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What poll(2) said of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// There is an urgent byte, and perhaps data.
    Urgent,
    /// There is data, or the end.
    Data,
}

/// Where a read puts what comes.
pub(crate) struct Buffer(Vec<u8>);

impl Buffer {
    /// Room for one read.
    pub(crate) fn new() -> Buffer {
        Buffer(vec![0; READ])
    }
}

/// Takes what comes to any of these until the condition is true of each, or it has ended.
pub(crate) fn wait_all(
    clients: &mut [Client],
    deadline: Instant,
    done: impl Fn(&Client) -> bool,
) -> io::Result<()> {
    let mut buffer = Buffer::new();
    let wanted = PollFlags::POLLIN | PollFlags::POLLPRI;
    loop {
        let mut open: Vec<&mut Client> = clients.iter_mut().filter(|client| client.end.is_none()).collect();
        if open.iter().all(|client| done(client)) || Instant::now() >= deadline {
            return Ok(());
        }
        let mut fds: Vec<PollFd> = open.iter().map(|client| PollFd::new(client.as_fd(), wanted)).collect();
        poll(&mut fds, PollTimeout::from(100_u8))?;
        let found: Vec<_> = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty())).collect();
        for (client, events) in open.iter_mut().zip(found).filter(|(_, events)| !events.is_empty()) {
            let urgent = events.contains(PollFlags::POLLPRI);
            client.look(&mut buffer, if urgent { Events::Urgent } else { Events::Data });
        }
    }
}
