//! The way to syslogd: a bounded queue in front of a Unix socket.
//!
//! It must never block and never fail towards the caller: a syslogd that is not
//! there, restarts or stops reading fills the queue, and what does not fit any
//! more is counted. Lines leave in the order they came.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr};

/// Lines kept for a syslogd that does not take them.
pub(super) const MAX_LINES: usize = 1000;
/// Bytes kept for it.
pub(super) const MAX_BYTES: usize = 256 * 1024;
/// Keeps lines apart on a stream, as the C library's syslog(3) does.
const END_OF_LINE: &[u8] = b"\0";
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);

/// What is not yet delivered, and where to.
///
/// As a [`Write`]r it takes a line in pieces; `flush` ends the line.
#[derive(Debug)]
pub(super) struct Queue {
    path: PathBuf,
    socket: Option<Socket>,
    /// The pieces of the line being written.
    line: Vec<u8>,
    lines: VecDeque<Vec<u8>>,
    /// Bytes in `lines`.
    bytes: usize,
    /// How much of the first of `lines` a stream socket has taken.
    sent: usize,
    /// Lines dropped since [`Queue::take_lost`].
    lost: u64,
    /// Not before then is a connection tried again. `Some` after every
    /// [`Queue::deliver`] that left something in the queue.
    retry_at: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    /// A stream does not keep lines apart by itself.
    stream: bool,
}

impl Queue {
    pub(super) fn new(path: &Path) -> Self {
        Queue {
            path: path.to_owned(),
            socket: None,
            line: Vec::new(),
            lines: VecDeque::new(),
            bytes: 0,
            sent: 0,
            lost: 0,
            retry_at: None,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether that many more lines, of that many bytes in all, fit.
    pub(super) fn has_room(&self, lines: usize, bytes: usize) -> bool {
        self.lines.len() + lines <= MAX_LINES && self.bytes + bytes <= MAX_BYTES
    }

    /// All lines that wait, the oldest first.
    pub(super) fn pending(&self) -> Vec<Vec<u8>> {
        self.lines.iter().cloned().collect()
    }

    /// Puts lines in front of those that wait, as far as there is room.
    pub(super) fn put_back(&mut self, lines: Vec<Vec<u8>>) {
        for line in lines.into_iter().rev() {
            if self.has_room(1, line.len()) {
                self.bytes += line.len();
                self.lines.push_front(line);
            } else {
                self.lost += 1;
            }
        }
    }

    /// Whether at least half of the room is free.
    pub(super) fn is_half_free(&self) -> bool {
        self.has_room(MAX_LINES / 2, MAX_BYTES / 2)
    }

    /// Lines dropped and not yet handed over.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Counts a line that is not even offered.
    pub(super) fn lose_one(&mut self) {
        self.lost += 1;
    }

    /// Hands the count of lost lines over and starts it anew.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// When [`Queue::deliver`] is worth calling; `None` when nothing waits.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// The socket, once connected, to wait for.
    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.fd.as_fd())
    }

    /// Sends what syslogd takes at once. An established connection is tried
    /// whenever this is called, because that costs next to nothing and a busy
    /// syslogd is caught up with; a missing one not before [`Queue::retry_at`].
    pub(super) fn deliver(&mut self, now: Instant) {
        let mut reconnected = false;
        while let Some(line) = self.lines.front() {
            let Some(socket) = &self.socket else {
                if self.retry_at.is_some_and(|at| now < at) {
                    return;
                }
                self.socket = Socket::connect(&self.path).ok();
                if self.socket.is_none() {
                    return self.back_off(now);
                }
                continue;
            };
            match socket.send(line.get(self.sent..).unwrap_or_default()) {
                Ok(taken) => {
                    self.pause = FIRST_PAUSE;
                    self.sent += taken;
                    if self.sent >= line.len() {
                        self.pop();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return self.back_off(now),
                Err(Errno::EMSGSIZE) => {
                    self.pop();
                    self.lost += 1;
                }
                // Mostly ECONNREFUSED or EPIPE: syslogd has gone. One that was
                // only restarted is there again already. A line that the old
                // one took in part is sent again whole: twice beats not at all.
                Err(_) => {
                    self.socket = None;
                    self.sent = 0;
                    if reconnected {
                        return self.back_off(now);
                    }
                    reconnected = true;
                }
            }
        }
        self.retry_at = None;
    }

    fn pop(&mut self) {
        self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        self.sent = 0;
    }

    fn back_off(&mut self, now: Instant) {
        // A call before its time must neither put the retry off nor make the
        // pauses grow, or a flood of lines would do both.
        if self.retry_at.is_none_or(|at| at <= now) {
            self.retry_at = Some(now + self.pause);
            self.pause = LAST_PAUSE.min(self.pause * 2);
        }
    }
}

impl Write for Queue {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(END_OF_LINE);
        if self.has_room(1, line.len()) {
            self.bytes += line.len();
            self.lines.push_back(line);
        } else {
            self.lost += 1;
        }
        Ok(())
    }
}

impl Socket {
    fn connect(path: &Path) -> nix::Result<Self> {
        let address = UnixAddr::new(path)?;
        match Socket::connect_as(SockType::Datagram, &address) {
            Err(Errno::EPROTOTYPE) => Socket::connect_as(SockType::Stream, &address),
            other => other,
        }
    }

    /// Non-blocking from the start: connecting to a stream whose backlog is
    /// full would block.
    fn connect_as(kind: SockType, address: &UnixAddr) -> nix::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Unix, kind, flags, None)?;
        socket::connect(fd.as_raw_fd(), address)?;
        Ok(Socket { fd, stream: kind == SockType::Stream })
    }

    /// Returns how many bytes of what is left of a line are done with.
    fn send(&self, line: &[u8]) -> nix::Result<usize> {
        let fd = self.fd.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        if self.stream {
            return socket::send(fd, line, flags);
        }
        socket::send(fd, line.strip_suffix(END_OF_LINE).unwrap_or(line), flags)?;
        Ok(line.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::Shutdown;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    fn push(queue: &mut Queue, line: &[u8]) {
        queue.write_all(line).unwrap();
        queue.flush().unwrap();
    }

    #[test]
    fn bytes_are_bounded_and_counted() {
        let mut queue = Queue::new(Path::new("/nonexistent/log"));
        let line = vec![b'a'; MAX_BYTES / 4 - 1];
        for _ in 0..6 {
            push(&mut queue, &line);
        }
        assert_eq!((queue.lines.len(), queue.bytes), (4, MAX_BYTES));
        assert_eq!((queue.take_lost(), queue.lost()), (2, 0));
    }

    #[test]
    fn a_datagram_too_long_is_dropped_and_does_not_hold_up_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let syslogd = UnixDatagram::bind(&path).unwrap();
        let mut queue = Queue::new(&path);
        push(&mut queue, b"first");
        // More than a socket's default send buffer, less than the queue.
        push(&mut queue, &vec![b'a'; MAX_BYTES - 4096]);
        push(&mut queue, b"last");
        assert_eq!(queue.lost(), 0, "the queue itself takes the long line");
        queue.deliver(Instant::now());
        let mut buf = [0; 100];
        for want in [b"first".as_slice(), b"last"] {
            let n = syslogd.recv(&mut buf).unwrap();
            assert_eq!(&buf[..n], want, "without the end-of-line byte");
        }
        assert_eq!((queue.lost(), queue.bytes, queue.retry_at()), (1, 0, None));
    }

    #[test]
    fn a_line_that_a_stream_takes_in_parts_arrives_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let listener = UnixListener::bind(&path).unwrap();
        let mut queue = Queue::new(&path);
        let long = vec![b'a'; MAX_BYTES - 4096];
        push(&mut queue, &long);
        push(&mut queue, b"last");
        queue.deliver(Instant::now());
        assert!(queue.sent > 0, "the socket took part of the line");
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            listener.accept().unwrap().0.read_to_end(&mut got).unwrap();
            got
        });
        while !queue.is_empty() {
            queue.deliver(Instant::now());
        }
        drop(queue);
        assert!(reader.join().unwrap() == [&long, END_OF_LINE, b"last", END_OF_LINE].concat());
    }

    #[test]
    fn pauses_double_up_to_the_last_and_start_anew_after_a_success() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut queue = Queue::new(&path);
        push(&mut queue, b"line");
        let mut now = Instant::now();
        for millis in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
            queue.deliver(now);
            let at = queue.retry_at().unwrap();
            assert_eq!(at - now, Duration::from_millis(millis));
            // Too early: nothing is tried, nothing changes.
            queue.deliver(now + Duration::from_millis(49));
            assert_eq!(queue.retry_at(), Some(at));
            now = at;
        }
        let syslogd = UnixDatagram::bind(&path).unwrap();
        queue.deliver(now);
        assert_eq!(queue.retry_at(), None);
        // Not only closed: a child that another test forks may hold a copy.
        syslogd.shutdown(Shutdown::Both).unwrap();
        push(&mut queue, b"line");
        queue.deliver(now);
        assert_eq!(queue.retry_at(), Some(now + FIRST_PAUSE));
    }
}
