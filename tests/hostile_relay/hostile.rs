//! The hostile relay: a process that only holds the relay's place, while the test has its end
//! of the connection to the monitor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use nix::unistd::Pid;
use rlogind::ipc::{ConnectionId, FromRelay, HandshakeFields, ToRelay};
use rlogind::relay;
use rlogind::sys::channel::{Channel, Received};

use crate::daemon::Daemon;
use crate::processes::{self, Process};
use crate::terminal::{PATIENCE, terminals};
use crate::world::{World, eventually};

/// Whoever listens here gets the connection of each relay that is started; without anyone
/// there the relay is the real one.
const PLACE: &str = "/tmp/hostile-relay";
/// How the log says why a relay is ended.
const ENDED: &str = "the relay is ended: ";
/// This executable, inside.
const PROGRAM: &str = "/mnt/test";
/// A relay that ends earlier is followed by others behind pauses only.
const LIVED: Duration = Duration::from_millis(1050);
/// How long the monitor takes to start a relay, pauses included.
const STARTED: Duration = Duration::from_secs(15);

/// The relay's role.
pub(crate) fn start(channel: Channel) -> io::Result<()> {
    let place = socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    if socket::connect(place.as_raw_fd(), &UnixAddr::new(PLACE)?).is_err() {
        return relay::run(channel);
    }
    let test = Channel::from_inherited(place)?;
    test.send(&process::id().to_le_bytes(), &[channel.as_fd()])?;
    drop(channel);
    match test.receive()? {
        Received::Message(code, _) => process::exit(code[0].into()),
        Received::Nothing | Received::Closed => Ok(()),
    }
}

/// A relay in the test's hands; dropped, it exits.
pub(crate) struct Hostile {
    /// The relay's end of its connection to the monitor.
    pub(crate) link: Option<Channel>,
    process: Channel,
    pub(crate) pid: u32,
    begun: Instant,
    /// The id of its first connection.
    pub(crate) first_id: u64,
}

impl Hostile {
    fn accept(place: &UnixListener) -> Hostile {
        assert!(readable(place.as_fd(), STARTED), "no relay was started");
        let (process, _) = place.accept().unwrap();
        let process = Channel::from_inherited(process.into()).unwrap();
        let Received::Message(pid, mut ends) = process.receive().unwrap() else { panic!("no relay") };
        let link = Channel::from_inherited(ends.pop().unwrap()).unwrap();
        link.set_nonblocking().unwrap();
        let pid = u32::from_le_bytes(pid.try_into().unwrap());
        Hostile { link: Some(link), process, pid, begun: Instant::now(), first_id: 0 }
    }

    pub(crate) fn link(&self) -> &Channel {
        self.link.as_ref().unwrap()
    }

    /// Sends any bytes with any descriptors; false when the monitor does not take them.
    pub(crate) fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd]) -> bool {
        for attempt in 1..100_000 {
            match self.link().send(bytes, descriptors) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(100));
                }
                Err(_) => return false,
            }
            if attempt % 100 == 0 && self.has_ended() {
                return false;
            }
        }
        panic!("the monitor does not read");
    }

    pub(crate) fn tell(&self, message: &FromRelay, descriptors: &[BorrowedFd]) -> bool {
        self.send(&postcard::to_stdvec(message).unwrap(), descriptors)
    }

    /// Asks for a session.
    pub(crate) fn open(&self, id: u64, fields: HandshakeFields, descriptors: &[BorrowedFd]) -> bool {
        let peer = ([192, 0, 2, 1], 1023).into();
        self.tell(&FromRelay::Open { id: ConnectionId(id), peer, fields }, descriptors)
    }

    /// What the monitor says next; `None` when it says nothing more.
    pub(crate) fn hear(&self, timeout: Duration) -> Option<(ToRelay, Vec<OwnedFd>)> {
        if !readable(self.link().as_fd(), timeout) {
            return None;
        }
        match self.link().receive().unwrap() {
            Received::Message(bytes, descriptors) => {
                Some((postcard::from_bytes(&bytes).unwrap(), descriptors))
            }
            Received::Nothing | Received::Closed => None,
        }
    }

    /// Waits for a message, and returns it with its descriptors and all that came before.
    pub(crate) fn hear_until(&self, what: &str, wanted: impl Fn(&ToRelay) -> bool) -> Heard {
        let mut heard = Vec::new();
        loop {
            let Some((message, descriptors)) = self.hear(PATIENCE) else { panic!("no {what}: {heard:?}") };
            let found = wanted(&message);
            heard.push((message, descriptors));
            if found {
                return heard;
            }
        }
    }

    /// Takes the set-up; false when it was ended before.
    pub(crate) fn is_set_up(&mut self) -> bool {
        match self.hear(PATIENCE) {
            Some((ToRelay::Setup(setup), _)) => {
                self.first_id = setup.first_id;
                true
            }
            None => false,
            other => panic!("no set-up: {other:?}"),
        }
    }

    pub(crate) fn set_up(&mut self) {
        assert!(self.is_set_up(), "no set-up");
    }

    /// Goes on until it is the relay that serves.
    pub(crate) fn serve(&mut self) -> Heard {
        self.set_up();
        self.tell(&FromRelay::Ready, &[]);
        self.hear_until("listeners", |message| matches!(message, ToRelay::Listen(_)))
    }

    pub(crate) fn exit(&self, status: u8) {
        let _ = self.process.send(&[status], &[]);
    }

    pub(crate) fn kill(&self) {
        let _ = kill(Pid::from_raw(i32::try_from(self.pid).unwrap()), Signal::SIGKILL);
    }

    pub(crate) fn has_ended(&self) -> bool {
        Process::of(self.pid).is_none_or(|process| process.state == 'Z')
    }

    /// Waits until it was killed, or has exited.
    pub(crate) fn wait_end(&self, timeout: Duration) {
        eventually("the hostile relay is ended", timeout, || self.has_ended().then_some(()));
    }

    /// Waits until it has lived long enough for the next one to start at once.
    pub(crate) fn grow_old(&self) {
        thread::sleep(LIVED.saturating_sub(self.begun.elapsed()));
    }
}

/// What the monitor has said.
pub(crate) type Heard = Vec<(ToRelay, Vec<OwnedFd>)>;

/// The daemon, and who its relays are.
pub(crate) struct Stage<'w> {
    pub(crate) world: &'w World,
    pub(crate) daemon: Daemon,
    place: Option<UnixListener>,
}

impl<'w> Stage<'w> {
    /// With a real relay, and trust for alice from this machine: whoever is taken for a client
    /// gets her shell.
    pub(crate) fn real(world: &'w World) -> Stage<'w> {
        world.hosts_equiv("localhost\n");
        let daemon = Daemon::start_copy(PROGRAM, "");
        // Or the first one might be hostile already, and the next one told of a change.
        daemon.relay();
        Stage { world, daemon, place: None }
    }

    /// From now on relays that are started are hostile.
    pub(crate) fn turn_hostile(&mut self) {
        let place =
            socket::socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        socket::bind(place.as_raw_fd(), &UnixAddr::new(PLACE).unwrap()).unwrap();
        socket::listen(&place, Backlog::new(8).unwrap()).unwrap();
        self.place = Some(place.into());
    }

    /// From now on they are real.
    pub(crate) fn turn_real(&mut self) {
        self.place = None;
        if Path::new(PLACE).exists() {
            fs::remove_file(PLACE).unwrap();
        }
    }

    /// The hostile relay that is started next.
    pub(crate) fn accept(&self) -> Hostile {
        Hostile::accept(self.place.as_ref().unwrap())
    }

    /// The same when it serves.
    pub(crate) fn next(&self) -> Hostile {
        let mut next = self.accept();
        next.serve();
        next
    }

    /// Lets the relay pass that an image starts to try itself out, before it takes over.
    pub(crate) fn pass_trial(&self) {
        let mut trial = self.accept();
        trial.set_up();
        trial.tell(&FromRelay::Ready, &[]);
        trial.wait_end(PATIENCE);
    }

    /// Replaces the relay that serves by a hostile one, which serves then.
    pub(crate) fn replace(&mut self) -> Hostile {
        self.turn_hostile();
        self.daemon.signal(Signal::SIGHUP);
        self.next()
    }

    /// Has the hostile relay do something for which it must be ended, for that reason, and
    /// returns the next one. Nothing else may have changed.
    pub(crate) fn ends(&self, relay: Hostile, why: &str, offence: impl FnOnce(&Hostile)) -> Hostile {
        relay.grow_old();
        let before = self.descriptors();
        let (told, opened) = (self.reasons().len(), self.opened());
        offence(&relay);
        relay.wait_end(PATIENCE);
        drop(relay);
        let next = self.next();
        let reasons = eventually(&format!("the reason {why}"), PATIENCE, || {
            Some(self.reasons()).filter(|reasons| reasons.len() > told)
        });
        assert_eq!(reasons[told..], [why]);
        assert_eq!(self.opened(), opened, "somebody got a shell");
        self.keeps(before);
        next
    }

    /// Why relays were ended, by the log.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let lines = self.world.audit.of("warning");
        let reason = |line: &String| {
            let (reason, _) = line.split_once(ENDED)?.1.split_once(" event=\"")?;
            // What is said of the next one, where both come at once.
            let reason = reason.split_once("; another one goes on").map_or(reason, |(reason, _)| reason);
            Some(reason.split_once(", the ").map_or(reason, |(reason, _)| reason).to_owned())
        };
        lines.iter().filter_map(reason).collect()
    }

    /// How many shells were started.
    pub(crate) fn opened(&self) -> usize {
        self.world.audit.of("session-opened").len()
    }

    /// How many descriptors the monitor has open, when what has just ended is closed.
    pub(crate) fn descriptors(&self) -> usize {
        let mut counts = [usize::MAX; 3];
        while counts.iter().any(|count| *count != counts[0]) || counts[0] == usize::MAX {
            thread::sleep(Duration::from_millis(50));
            counts = [counts[1], counts[2], self.daemon.monitor().descriptors()];
        }
        counts[0]
    }

    /// Waits until the monitor has so many descriptors open.
    pub(crate) fn keeps(&self, descriptors: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.descriptors() != descriptors {
            let list = || self.daemon.monitor().descriptor_list();
            assert!(Instant::now() < deadline, "{descriptors} descriptors before, now: {:#?}", list());
        }
    }

    /// Ends the hostile relay; a real one comes, and serves new clients.
    pub(crate) fn recover(&mut self, relay: Hostile) {
        self.turn_real();
        relay.kill();
        drop(relay);
        let mut client = crate::peer::Peer::hello("alice", "alice");
        client.expect(crate::accounts::PROMPT);
        assert_eq!(client.run("echo new"), "new");
        client.send("exit\r");
        client.wait_end(PATIENCE);
    }

    /// Nothing but monitor and relay is left, and one terminal for each session that lives.
    pub(crate) fn has_sessions(&self, count: usize) {
        eventually("only what lives is left", PATIENCE, || {
            let left = processes::descendants(self.daemon.pid());
            let children = left.iter().filter(|process| process.parent == self.daemon.pid()).count();
            (children == 1 + count && terminals() == count).then_some(())
        });
    }
}

/// Whom nobody asks for a password.
pub(crate) fn alice() -> HandshakeFields {
    fields(b"alice", b"alice", b"vt100/38400")
}

pub(crate) fn fields(client_user: &[u8], server_user: &[u8], terminal: &[u8]) -> HandshakeFields {
    HandshakeFields {
        client_user: client_user.to_vec(),
        server_user: server_user.to_vec(),
        terminal: terminal.to_vec(),
    }
}

fn readable(fd: BorrowedFd, timeout: Duration) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::try_from(timeout).unwrap()).unwrap() > 0
}
