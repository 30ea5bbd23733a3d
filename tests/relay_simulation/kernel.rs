//! The kernel's part: a TCP socket and a PTY leader that behave as edge-triggered
//! epoll(7), tcp(7) and the packet mode of ioctl_tty(2) do, and that check each
//! call the relay makes.
//!
//! An end is *woken* where the kernel wakes its pollers: new data, new room after
//! there was none, an end of stream, a change of state. Only a woken end gives an
//! event, and the event shows the state at the time it is fetched.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use rlogind::relay::ends::{Client, Terminal};
use rlogind::sys::pty::Packet;
use rlogind::wire::urgent::FlowControl;

use crate::judge::Judge;
use crate::pty::Pty;
use crate::random::Random;
use crate::socket::Socket;

/// VINTR, VQUIT and VSUSP as they usually are, and VINTR of older systems: a terminal discards its
/// output at these.
const SIGNALS: [u8; 4] = [0x03, 0x1c, 0x1a, 0x7f];

/// What happens by itself, at its time.
#[derive(Debug, Clone)]
pub(crate) enum Happening {
    /// Bytes of the client arrive.
    Arrives(Vec<u8>),
    /// The client's end of stream arrives.
    ClientLeaves,
    /// The client's reset arrives.
    ClientResets,
    /// The client acknowledges so many bytes.
    ClientTakes(usize),
    /// There is room again where there was none for want of memory.
    RoomAgain,
    /// Programs on the terminal write, read, flush, and change its modes.
    ProgramWrites(usize),
    ProgramReads(usize),
    ProgramFlushes,
    ProgramSets(FlowControl),
    /// The kernel's worker carries output on to where the leader reads it.
    WorkerRuns,
    /// The last follower closes, and one opens again.
    FollowersClose,
    FollowerOpens,
}

/// How long behind a control character a flush is not unlikely.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Everything outside of the relay.
pub(crate) struct Kernel {
    /// Since the connection was accepted.
    pub(crate) now: Duration,
    pub(crate) random: Random,
    pub(crate) agenda: BTreeMap<(Duration, u64), Happening>,
    /// Due, but held back until the middle of a turn.
    pub(crate) meanwhile: VecDeque<Happening>,
    pub(crate) socket: Socket,
    pub(crate) pty: Pty,
    pub(crate) judge: Judge,
    /// When the last of the client's bytes planned so far arrives.
    pub(crate) client_done: Duration,
    /// The relay is to take what there is, and not to look again.
    pub(crate) hasty: bool,
    /// When a control character reached the terminal last.
    pub(crate) control_at: Option<Duration>,
    /// Calls that achieved something.
    pub(crate) progress: u64,
    /// Calls in this turn.
    pub(crate) calls: usize,
    pub(crate) trace: Option<Vec<String>>,
    order: u64,
}

impl Kernel {
    pub(crate) fn new(mut random: Random, trace: bool) -> Self {
        Kernel {
            now: Duration::ZERO,
            socket: Socket::new(&mut random),
            pty: Pty::new(&mut random),
            random,
            agenda: BTreeMap::new(),
            meanwhile: VecDeque::new(),
            judge: Judge::default(),
            client_done: Duration::ZERO,
            hasty: false,
            control_at: None,
            progress: 0,
            calls: 0,
            trace: trace.then(Vec::new),
            order: 0,
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} ms  {}", self.now.as_secs_f64() * 1e3, what()));
        }
    }

    pub(crate) fn plan(&mut self, delay: Duration, what: Happening) {
        self.order += 1;
        self.agenda.insert((self.now + delay, self.order), what);
    }

    /// Takes what is due from the agenda; some of it happens in the middle of the next turn.
    pub(crate) fn elapse(&mut self) {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= self.now
        {
            let what = entry.remove();
            if !self.meanwhile.is_empty() || self.random.one_in(5) {
                self.meanwhile.push_back(what);
            } else {
                self.happen(what);
            }
        }
    }

    /// What was held back happens now at the latest.
    pub(crate) fn catch_up(&mut self) {
        while let Some(what) = self.meanwhile.pop_front() {
            self.happen(what);
        }
    }

    fn happen(&mut self, what: Happening) {
        self.note(|| {
            if let Happening::Arrives(bytes) = &what {
                format!("  * {} bytes arrive", bytes.len())
            } else {
                format!("  * {what:?}")
            }
        });
        match what {
            Happening::Arrives(bytes) => self.socket.arrive(&bytes),
            Happening::ClientLeaves => {
                self.judge.cut = true;
                self.socket.leave();
            }
            Happening::ClientResets => self.socket.reset(),
            Happening::ClientTakes(count) => self.socket.acknowledge(count),
            Happening::RoomAgain => self.socket.room_again(),
            Happening::ProgramWrites(count) => self.pty.program_writes(count),
            Happening::ProgramReads(count) => self.pty.program_reads(count),
            Happening::ProgramFlushes => self.pty.program_flushes(),
            Happening::ProgramSets(mode) => self.pty.program_sets(mode),
            Happening::WorkerRuns => self.pty.work(),
            Happening::FollowersClose => self.pty.close_followers(),
            Happening::FollowerOpens => self.pty.open_follower(),
        }
    }

    /// At the start of each call of the relay's.
    fn enter(&mut self) {
        self.calls += 1;
        assert!(self.calls < 50_000, "a turn does not end");
        if !self.meanwhile.is_empty()
            && self.random.one_in(2)
            && let Some(what) = self.meanwhile.pop_front()
        {
            self.happen(what);
        }
    }

    fn interrupted(&mut self) -> io::Result<()> {
        if self.random.one_in(150) {
            self.progress += 1;
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    fn read_client(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.enter();
        self.interrupted()?;
        let result = self.socket.read(buffer);
        if let Ok(count) = result {
            self.progress += 1;
            self.judge.client_read(count);
        }
        self.note(|| format!("    read client {result:?}"));
        result
    }

    fn write_client(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.enter();
        self.interrupted()?;
        if self.random.one_in(100) && self.socket.runs_out_of_memory() {
            let delay = self.random.micros(0, 30_000);
            self.plan(delay, Happening::RoomAgain);
        }
        let result = self.socket.write(bytes.len(), &mut self.random);
        self.note(|| format!("    write client {} {result:?}", bytes.len()));
        let count = result?;
        self.progress += 1;
        self.judge.client_wrote(&bytes[..count], bytes, self.now);
        self.after_sending(count);
        Ok(count)
    }

    fn write_urgent(&mut self, byte: u8) -> io::Result<()> {
        self.enter();
        self.interrupted()?;
        let result = self.socket.write(1, &mut self.random);
        self.note(|| format!("    write URGENT {byte:#x} {result:?}"));
        result?;
        self.progress += 1;
        let overtakes = self.socket.mark_urgent();
        self.judge.urgent_sent(byte, self.now, overtakes);
        self.after_sending(1);
        Ok(())
    }

    /// The client takes it at once if it is an eager one; a closed one answers with a reset.
    fn after_sending(&mut self, count: usize) {
        let delay = self.random.micros(50, 20_000);
        if self.socket.closed_by_client() {
            self.plan(delay, Happening::ClientResets);
        } else if self.socket.eager {
            self.plan(delay, Happening::ClientTakes(count));
        }
    }

    fn read_terminal(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        self.enter();
        self.interrupted()?;
        // Flushes of other causes do not fall into the middle of a read.
        let flush_may_come = self.control_at.is_some_and(|at| self.now < at + FLUSH_TIME);
        self.judge.hasty = self.hasty && !flush_may_come;
        let result = self.pty.read(buffer, flush_may_come, &mut self.random);
        self.note(|| format!("    read terminal {result:?}"));
        match &result {
            Ok(Packet::Data(count)) => {
                self.progress += 1;
                self.judge.terminal_read(&buffer[..*count], self.pty.behind);
                if self.pty.has_backlog() {
                    let delay = self.random.micros(0, 300);
                    self.plan(delay, Happening::WorkerRuns);
                }
            }
            Ok(Packet::Status(bits)) => {
                self.progress += 1;
                self.judge.status_read(*bits);
            }
            Err(_) => self.judge.terminal_silent(),
        }
        result
    }

    fn write_terminal(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.enter();
        self.interrupted()?;
        let result = self.pty.write(bytes.len(), &mut self.random);
        self.note(|| format!("    write terminal {} {result:?}", bytes.len()));
        let count = result?;
        self.progress += 1;
        self.judge.terminal_wrote(&bytes[..count]);
        if bytes[..count].iter().any(|byte| SIGNALS.contains(byte)) {
            self.control_at = Some(self.now);
        }
        if self.pty.eager {
            let delay = self.random.micros(10, 5_000);
            self.plan(delay, Happening::ProgramReads(count));
        }
        Ok(count)
    }
}

/// The relay's handle on the socket.
pub(crate) struct FakeClient(pub(crate) Rc<RefCell<Kernel>>);

impl Client for FakeClient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read_client(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write_client(bytes)
    }

    fn write_urgent(&mut self, byte: u8) -> io::Result<()> {
        self.0.borrow_mut().write_urgent(byte)
    }

    fn unacknowledged(&self) -> usize {
        self.0.borrow().socket.unacknowledged()
    }

    fn shutdown_write(&mut self) {
        let mut kernel = self.0.borrow_mut();
        kernel.note(|| "    shutdown".to_owned());
        kernel.progress += 1;
        kernel.socket.shut_down();
        // Some clients close in answer, at once or late; some never do.
        if kernel.random.one_in(4) {
            return;
        }
        let delay = kernel.random.micros(100, 500_000);
        kernel.plan(delay, Happening::ClientLeaves);
    }
}

/// The relay's handle on the PTY.
pub(crate) struct FakeTerminal(pub(crate) Rc<RefCell<Kernel>>);

impl Terminal for FakeTerminal {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        self.0.borrow_mut().read_terminal(buffer)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write_terminal(bytes)
    }
}
