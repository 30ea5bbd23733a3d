//! The messages between monitor, relay and sessions.
//!
//! One enum per direction, encoded with serde and postcard, one datagram each.
//! What a message may carry is fixed here: no message names an address that
//! decides anything, a path, a user id or a descriptor that does not come with
//! it. The peer's address that counts is the one the monitor asks the kernel for.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::audit::event::{LoginEvent, SessionEnd, Via};
use crate::config::{Access, Config, Limits, Startups};
use crate::records::Pending;
use crate::sys::channel::{Channel, Received};
use crate::sys::memory_file;
use crate::wire::tcpmux::Offer;
use crate::wire::urgent::FlowControl;
use crate::wire::window::WindowSize;

/// The number of the format in which one relay hands its connections to the next.
pub const RELAY_STATE: u16 = 3;

/// Names one connection for as long as the daemon lives; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Monitor to relay.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToRelay {
    /// The first message: who to be. The empty directory that becomes its root comes with it, and the
    /// memory file of its [`Watched`](crate::sys::watchdog::Watched).
    /// Answered by [`FromRelay::Ready`] or [`FromRelay::CannotStart`].
    Setup(RelaySetup),
    /// What another relay handed back, in the memory file that comes with the message.
    /// It counts for the connections that are resumed next.
    Inherit,
    /// A connection to go on with; its socket comes with the message, and behind it
    /// the PTY's leader when it has a session.
    Resume(Resumed),
    /// The doors from now on; a listener for each comes with the message.
    Listen(Vec<Via>),
    /// A superserver accepted this connection; its socket comes with the message.
    Adopt(Greeting),
    /// Another relay takes over: write everything into the memory file that comes with
    /// the message, and end. Answered by [`FromRelay::HandedBack`].
    HandBack,
    /// The configuration was read again: these hold from now on.
    Limits(RelayLimits),
    /// The session is there; its PTY's leader comes with the message.
    Opened(ConnectionId),
    /// There will be no session; the client is told why.
    Refused(ConnectionId, String),
    /// The user is logged in: the connection does not count as starting any more.
    LoggedIn(ConnectionId),
    /// The session process has ended: what the PTY still holds is the last output.
    Ended(ConnectionId),
    /// Accept no more and close what has no session.
    Stop,
    /// The session is given up, whatever its process does: tell the client this, and close.
    /// Answered by [`FromRelay::Closed`].
    Close(ConnectionId, String),
    /// Who handles ^S and ^Q, for a session whose relay has died.
    FlowControl(ConnectionId, FlowControl),
    /// The terminal has the size of the last [`FromRelay::WindowSize`].
    Resized(ConnectionId),
    /// The terminal holds so many bytes that no program has read: the answer to [`FromRelay::LookForUnread`].
    Looked(ConnectionId, u32),
}

/// What the relay needs to know of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelaySetup {
    /// The user id to become.
    pub uid: u32,
    /// The group id to become.
    pub gid: u32,
    /// How much and how long.
    pub limits: RelayLimits,
    /// The id of its first connection: higher than any before.
    pub first_id: u64,
    /// What the TCPMUX door offers.
    pub services: Services,
    /// There is one connection, which a superserver accepted: the relay ends with it.
    pub single: bool,
}

/// A connection that a relay goes on with. When no state of it was inherited, its relay
/// has died, and what the monitor knows is all there is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Resumed {
    /// Its name, as before.
    pub id: ConnectionId,
    /// The client was told that its session is there.
    pub answered: bool,
    /// What the kernel counted until now.
    pub traffic: Traffic,
    /// Its user is logged in.
    pub logged_in: bool,
    /// The session has ended: what the PTY still holds is the last output.
    pub ended: bool,
}

/// How much a session has moved, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// From the client to the terminal.
    pub bytes_in: u64,
    /// From the terminal to the client.
    pub bytes_out: u64,
}

/// What TCPMUX clients are offered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// The names of the service.
    pub names: Vec<String>,
    /// Whether strangers are told of them.
    pub help: bool,
}

impl Services {
    /// As the decoder wants it.
    #[must_use]
    pub fn offer(&self) -> Offer<'_> {
        Offer { services: &self.names, help: self.help }
    }
}

/// What a connection from a superserver has to be told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Greeting {
    /// Nothing: it came to the rlogin port, or the superserver has said it.
    None,
    /// The positive answer of TCPMUX (RFC 1078), which the superserver leaves to us.
    Tcpmux,
}

/// What of `[limits]`, `allow` and `deny` the relay keeps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RelayLimits {
    /// Who may connect at all.
    pub access: Access,
    /// Live connections in all.
    pub sessions: u32,
    /// Live connections of one source.
    pub per_source: u32,
    /// Connections that are not logged in yet.
    pub startups: Startups,
    /// Total time for a handshake.
    pub handshake: Duration,
    /// Close a session after so long without a byte; zero: never.
    pub idle: Duration,
    /// Ask silent clients whether they are still there.
    pub keepalive: bool,
    /// How long a client may leave what it was sent unacknowledged; zero: as the kernel has it.
    pub unacknowledged: Duration,
}

impl From<&Config> for RelayLimits {
    fn from(config: &Config) -> Self {
        let Limits { sessions, per_source, startups, handshake, idle, keepalive, unacknowledged, .. } =
            config.limits;
        let access = config.access.clone();
        RelayLimits { access, sessions, per_source, startups, handshake, idle, keepalive, unacknowledged }
    }
}

/// Relay to monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromRelay {
    /// It is in its cage, and waits for its listeners.
    Ready,
    /// A connection without a session that is handed back; its socket comes with the message.
    Carry(ConnectionId),
    /// Everything is handed back; it ends.
    HandedBack,
    /// A client connected; for the audit log only.
    Connection {
        /// As accept(2) gave it.
        peer: SocketAddr,
        /// Which door.
        via: Via,
    },
    /// A client was refused by the relay; for the audit log only.
    Refused {
        /// As accept(2) gave it.
        peer: SocketAddr,
        /// Why, without what the client sent.
        reason: String,
    },
    /// Asks for a session; the client's socket comes with the message.
    Open {
        /// The relay's name for the connection.
        id: ConnectionId,
        /// As accept(2) gave it; for the audit log only, when the client has gone already.
        peer: SocketAddr,
        /// The handshake, to be checked again by whoever uses it.
        fields: HandshakeFields,
    },
    /// No client can be accepted, for want of memory; for the audit log only.
    Shortage {
        /// The system's error number (errno(3)).
        code: i32,
    },
    /// The connection is closed, whoever began it.
    Closed {
        /// Which.
        id: ConnectionId,
        /// Why.
        cause: CloseCause,
        /// Bytes from the client to the terminal.
        bytes_in: u64,
        /// Bytes from the terminal to the client.
        bytes_out: u64,
    },
    /// It cannot enter its sandbox, and ends.
    CannotStart {
        /// Why.
        reason: String,
    },
    /// It has something to do: the monitor looks in a while whether the turn that begins now has ended. Said once a
    /// second at most.
    Working,
    /// The client's window has this size now.
    WindowSize {
        /// Of which connection.
        id: ConnectionId,
        /// The size.
        size: WindowSize,
    },
    /// The client sends no more: asks whether the terminal holds input that no program has read yet.
    /// Answered by [`ToRelay::Looked`], or not at all.
    LookForUnread(ConnectionId),
}

/// Why the relay closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CloseCause {
    /// The session had ended and its last output was sent.
    Ended,
    /// The client closed or broke it.
    ClientLeft,
    /// Nothing came or went for `limits.idle`.
    Idle,
    /// There was no descriptor or memory for it.
    Shortage,
    /// The monitor gave the session up, or did not answer.
    Abandoned,
    /// It gave way to another connection, as nobody was logged in.
    GaveWay,
    /// The client acknowledged nothing any more, and the kernel gave it up.
    Silent,
}

impl From<io::Error> for CloseCause {
    /// Why a connection is closed that cannot be read or written any more.
    fn from(error: io::Error) -> CloseCause {
        if error.kind() == io::ErrorKind::TimedOut { CloseCause::Silent } else { CloseCause::ClientLeft }
    }
}

/// The three strings of a handshake. The client's user may be a password: no
/// Debug, and wiped when dropped.
#[derive(Clone, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct HandshakeFields {
    /// The user on the client's side.
    pub client_user: Vec<u8>,
    /// The account.
    pub server_user: Vec<u8>,
    /// Terminal type and speed.
    pub terminal: Vec<u8>,
}

impl std::fmt::Debug for HandshakeFields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandshakeFields")
    }
}

/// Monitor to session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ToSession {
    /// The first message. The follower, the shared settings (a [`Shared`] in a memory file) and the
    /// leader come with it.
    Start(SessionStart),
    /// The client has gone or the daemon stops: end now, and cleanly.
    HangUp,
    /// The only message: be the records worker. The shared settings and a memory file with the
    /// [`Task`](crate::records::worker::Task) come with it.
    WriteRecords,
    /// The monitor's descriptor of the terminal's leader, to be kept with the own one. [`ToSession::Released`] follows
    /// when the monitor has closed its copy.
    Leader,
    /// Relay and monitor have closed the terminal's leader. Hang the terminal up, and end now: what
    /// [`ToSession::HangUp`] asks for is included.
    Released,
    /// The client's window has this size now.
    WindowSize(WindowSize),
    /// Show this text to the user. Answered by [`FromSession::Shown`].
    Show(Notice),
    /// Say who handles ^S and ^Q. Answered by [`FromSession::FlowControl`].
    AskFlowControl,
    /// The only message: close the descriptors that come with it once the monitor has closed its own and this
    /// channel. That may take as long as somebody else likes.
    CloseDescriptors,
    /// The only message: end the process with this number, whose descriptor comes with the message, and all that it
    /// has started. Where they are is told by /proc, where everybody can make a look-up wait.
    EndFamily(u32),
    /// The only message: remove these files, if the device and inode numbers are still theirs.
    RemoveFiles(Vec<(PathBuf, Option<(u64, u64)>)>),
    /// The only message: let the group of the control socket use it, or nobody but root.
    LetMembersIn {
        /// Where it is.
        path: PathBuf,
        /// Its file's device and inode; another file is left alone.
        file: (u64, u64),
        /// Whether they may.
        let_in: bool,
    },
    /// Say whether the terminal holds input that no program has read. Answered by [`FromSession::Looked`].
    LookForUnread,
}

/// A text for the user of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Notice {
    /// The text as it is to be written.
    pub text: String,
    /// The sender is root, who may write to a terminal that is closed to others (mesg(1)).
    pub by_root: bool,
}

/// What one login is about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SessionStart {
    /// The client, as the monitor has it from the kernel.
    pub peer: SocketAddr,
    /// What the client asked for.
    pub fields: HandshakeFields,
    /// The terminal's name, e.g. `pts/3`.
    pub tty: String,
    /// The limit on descriptors for the shell: soft and hard.
    pub descriptors: (u64, u64),
    /// How long an answer of the client takes at least, by the kernel's measurement.
    pub round_trip: Duration,
}

/// Session to monitor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum FromSession {
    /// Something for the audit log. `Opened` among them ends the login deadline.
    Event(LoginEvent),
    /// The shell has ended. PAM and the records are closed next, which may take long.
    Finished(SessionEnd),
    /// The records worker: so many sessions that are gone had left their records open. They are closed.
    StaleClosed(u32),
    /// The user saw the text of [`ToSession::Show`], or did not, and why.
    Shown(Option<String>),
    /// Who handles ^S and ^Q, as the terminal is set now.
    FlowControl(FlowControl),
    /// The terminal has the size of the last [`ToSession::WindowSize`].
    Resized,
    /// What a module of PAM or of a name service has logged with syslog(3); for syslog only.
    ModuleLine {
        /// As syslog(3) numbers them, 0 to 7.
        severity: u8,
        /// May hold anything, so the log escapes it.
        text: String,
    },
    /// The records could not be written in time: the records worker has to do it.
    RecordsPending(Pending),
    /// The records worker: another process is at it.
    RecordsBusy,
    /// The records worker: the records cannot be written, and why.
    RecordsFailed(String),
    /// The session has no entry in the registry, and why: nobody closes its records if it is killed.
    RegistryFailed(String),
    /// The terminal holds so many bytes that no program has read.
    Looked(u32),
}

impl FromSession {
    /// [`FromSession::ModuleLine`] as a datagram: modules log where the link is not at hand.
    #[must_use]
    pub fn module_line(severity: u8, text: &str) -> Option<Vec<u8>> {
        postcard::to_stdvec(&FromSession::ModuleLine { severity, text: text.to_owned() }).ok()
    }
}

/// The most messages that wait for a peer that does not read.
const MAX_WAITING: usize = 16 * 1024;

/// Room for a message with a handshake in it, in bytes.
const ROOM: usize = 1024;

/// A typed connection to another process of ours.
#[derive(Debug)]
pub struct Link<Out, In> {
    channel: Channel,
    waiting: VecDeque<(Zeroizing<Vec<u8>>, Vec<OwnedFd>)>,
    types: PhantomData<(Out, In)>,
}

/// What one receive gave.
#[derive(Debug)]
pub enum Incoming<M> {
    /// A message and its descriptors.
    Message(M, Vec<OwnedFd>),
    /// Nothing now.
    Nothing,
    /// The other process is gone.
    Closed,
}

/// The monitor's side of its connection to the relay.
pub type RelayLink = Link<ToRelay, FromRelay>;
/// The relay's side of it.
pub type RelayEnd = Link<FromRelay, ToRelay>;
/// The monitor's side of its connection to a session.
pub type SessionLink = Link<ToSession, FromSession>;
/// The session's side of it.
pub type SessionEndpoint = Link<FromSession, ToSession>;

impl<Out: Serialize, In: DeserializeOwned> Link<Out, In> {
    /// Over a channel.
    #[must_use]
    pub fn new(channel: Channel) -> Self {
        Link { channel, waiting: VecDeque::new(), types: PhantomData }
    }

    /// Makes it non-blocking, for an event loop.
    ///
    /// # Errors
    /// Those of fcntl(2).
    pub fn set_nonblocking(&self) -> io::Result<()> {
        self.channel.set_nonblocking()
    }

    /// Sends a message, or keeps it until the other side reads again.
    ///
    /// # Errors
    /// When the other side is gone, or has not read for far too long.
    pub fn send(&mut self, message: &Out, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        // Wiped, and with room from the start so that growing leaves no copies: a
        // handshake may hold a password.
        let room = Vec::with_capacity(ROOM);
        let bytes = Zeroizing::new(postcard::to_extend(message, room).map_err(io::Error::other)?);
        if self.waiting.is_empty() {
            let borrowed: Vec<BorrowedFd> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.channel.send(&bytes, &borrowed) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
        if self.waiting.len() >= MAX_WAITING {
            return Err(io::Error::other("the other process does not read"));
        }
        self.waiting.push_back((bytes, descriptors));
        Ok(())
    }

    /// Sends a message at once or not at all; false when the other side has to read first.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn try_send(&mut self, message: &Out, descriptors: &[BorrowedFd]) -> io::Result<bool> {
        if !self.waiting.is_empty() {
            return Ok(false);
        }
        let bytes = postcard::to_stdvec(message).map_err(io::Error::other)?;
        match self.channel.send(&bytes, descriptors) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends all that waits, however long it takes, and whatever follows.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn set_blocking(&mut self) -> io::Result<()> {
        self.channel.set_blocking()?;
        self.flush()
    }

    /// Whether there is something to receive: a message, or the end.
    #[must_use]
    pub fn has_message(&self) -> bool {
        self.channel.has_message()
    }

    /// Messages that wait for the other side to read.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sends what waits, as far as the other side reads.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while let Some((bytes, descriptors)) = self.waiting.front() {
            let borrowed: Vec<BorrowedFd> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.channel.send(bytes, &borrowed) {
                Ok(()) => self.waiting.pop_front(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// Receives one message.
    ///
    /// # Errors
    /// `InvalidData` for what is no message of ours: the sender cannot be trusted
    /// any more. Otherwise those of recvmsg(2).
    pub fn receive(&mut self) -> io::Result<Incoming<In>> {
        match self.channel.receive()? {
            Received::Message(bytes, descriptors) => {
                let bytes = Zeroizing::new(bytes);
                match postcard::take_from_bytes(&bytes) {
                    Ok((message, [])) => Ok(Incoming::Message(message, descriptors)),
                    Ok(_) | Err(_) => Err(io::ErrorKind::InvalidData.into()),
                }
            }
            Received::Nothing => Ok(Incoming::Nothing),
            Received::Closed => Ok(Incoming::Closed),
        }
    }
}

impl<Out, In> AsFd for Link<Out, In> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl<Out, In> AsRawFd for Link<Out, In> {
    fn as_raw_fd(&self) -> RawFd {
        self.channel.as_raw_fd()
    }
}

/// The settings every session gets, in a memory file: the configuration can be
/// longer than a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Shared {
    /// The configuration in force.
    pub config: Config,
    /// Where it was read from, for the audit log.
    pub source: String,
}

impl Shared {
    /// Writes the settings into a sealed memory file.
    ///
    /// # Errors
    /// Out of memory or descriptors.
    pub fn store(&self) -> io::Result<OwnedFd> {
        memory_file::write(&postcard::to_stdvec(self).map_err(io::Error::other)?)
    }

    /// Writes the settings into an empty memory file that somebody else has made.
    ///
    /// # Errors
    /// Out of memory.
    pub fn store_in(&self, file: OwnedFd) -> io::Result<()> {
        io::Write::write_all(&mut File::from(file), &postcard::to_stdvec(self).map_err(io::Error::other)?)
    }

    /// Reads the settings back.
    ///
    /// # Errors
    /// When the file does not hold settings.
    pub fn load(file: OwnedFd) -> io::Result<Shared> {
        postcard::from_bytes(&memory_file::read(file)?).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;
    use crate::records::PendingCause;
    use crate::sys::channel::MAX_MESSAGE;

    /// Session processes outlive an upgrade of the daemon, so what they and the monitor say to each other then belongs
    /// to the state's format: a change here is a new `monitor::upgrade::state::VERSION`.
    #[test]
    fn what_is_said_across_an_upgrade_is_said_as_it_always_was() {
        let [user, text, file] = ["u", "t", "f"].map(str::to_owned);
        let (some, line, wildcard, attempt, pid) = (Some("h".to_owned()), 3, true, 2, 700);
        let (remote_user, reason) = (text.clone(), text.clone());
        let events = [
            LoginEvent::TrustGranted {
                user: user.clone(),
                remote_user: remote_user.clone(),
                host: some.clone(),
                file: file.clone(),
                line,
                wildcard,
            },
            LoginEvent::TrustDenied { user: None, host: some.clone(), file, line },
            LoginEvent::TrustAbsent { user: None, host: None, reason: reason.clone() },
            LoginEvent::PasswordAccepted { user: user.clone(), host: some.clone() },
            LoginEvent::PasswordFailed { user: None, host: None, attempt, reason: reason.clone() },
            LoginEvent::AccountRefused { user: user.clone(), host: None, reason: reason.clone() },
            LoginEvent::Abandoned { reason },
            LoginEvent::Opened { user: user.clone(), remote_user: Some(remote_user), host: some, pid },
            LoginEvent::Trouble { user, text: text.clone() },
            LoginEvent::BannerNotShown { file: text.clone(), reason: text },
        ];
        let ends =
            [SessionEnd::Exited(3), SessionEnd::Signaled(9), SessionEnd::LeftRunning, SessionEnd::Lost];
        let record = r#"{"boot":"b","started":7,"login":{"line":"pts/3","user":"u","host":"h","address":"192.0.2.7",
            "pid":700,"since":{"seconds":300,"micros":5},"at":{"seconds":301,"micros":6},"write_login":true,
            "logout":{"seconds":302,"micros":7}}}"#;
        let record = serde_json::from_str(record).unwrap();
        let pending = [
            Pending { cause: PendingCause::Blocked, record: None },
            Pending { cause: PendingCause::Failed, record: Some(record) },
        ];
        let line = FromSession::ModuleLine { severity: 6, text: "t".to_owned() };
        let said = events.map(FromSession::Event).into_iter().chain(ends.map(FromSession::Finished));
        let answers = [
            FromSession::Shown(Some("t".to_owned())),
            FromSession::FlowControl(FlowControl::Program),
            FromSession::Resized,
            FromSession::Looked(1),
        ];
        let pending = pending.map(FromSession::RecordsPending);
        let said: Vec<FromSession> = said.chain([line]).chain(answers).chain(pending).collect();
        let size = WindowSize { rows: 24, columns: 80, x_pixels: 0, y_pixels: 0 };
        let notice = Notice { text: "t".to_owned(), by_root: true };
        let asked = [
            ToSession::HangUp,
            ToSession::Leader,
            ToSession::Released,
            ToSession::WindowSize(size),
            ToSession::Show(notice),
            ToSession::AskFlowControl,
            ToSession::LookForUnread,
        ];
        let bytes = postcard::to_stdvec(&(said, asked)).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "15000001750174010168016603010001000101680166030002000001740003017501016800040000020174000501750001740006017400070175010174010168bc050008017501740009017401740100060101120102010306060174030101740401050b01070000070101016207057074732f330175016800c0000207f80aac0205ad02060101ae0207010304051850000006017401070c"
        );
    }

    /// A configuration that the parser takes must not be one that no relay can be given.
    #[test]
    fn the_longest_set_up_is_a_message() {
        let networks = |prefix: &str| {
            let list =
                (0..256).map(|n| format!("\"{prefix}:ffff:ffff:ffff:ffff:ffff:ffff:{:x}\"", 0xff00 + n));
            list.collect::<Vec<_>>().join(", ")
        };
        let names = (0..32).map(|n| format!("\"{}{n:02}\"", "s".repeat(62))).collect::<Vec<_>>().join(", ");
        let text = format!(
            "allow = [{}]\ndeny = [{}]\n[tcpmux]\nservices = [{names}]\n",
            networks("2001"),
            networks("2002")
        );
        let config = config::parse(&text, Path::new("test")).unwrap();
        let setup = RelaySetup {
            uid: u32::MAX,
            gid: u32::MAX,
            limits: (&config).into(),
            first_id: u64::MAX,
            services: Services { names: config.tcpmux.services.clone(), help: true },
            single: true,
        };
        let length = postcard::to_stdvec(&ToRelay::Setup(setup)).unwrap().len();
        assert!(length <= MAX_MESSAGE, "{length} bytes");
    }
}
