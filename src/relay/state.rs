//! What a relay hands to the one that replaces it: every connection as plain data.
//!
//! The format crosses versions of this program: an upgrade replaces the relay by one of
//! the new version. So a change of anything here is a new [`VERSION`], and
//! `tests/hand_over_format.rs` holds a stored state against this one. Times are how long ago they
//! were, or how long is left. Nothing of a state is believed: the relay that wrote it
//! may have been taken over, so sizes are bounded, and no value of it can stop the
//! one that reads it.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ipc::{ConnectionId, RELAY_STATE};
use crate::sys::sandbox::LONGEST_FILE;
use crate::wire::{newline, urgent, window};

/// The format's number, which comes first.
pub const VERSION: u16 = RELAY_STATE;
/// The longest state that is read, in bytes: far more than any number of connections
/// with full queues.
const MAX_LENGTH: u64 = LONGEST_FILE;
/// No time of ours is longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// All that a relay knew.
#[derive(Debug, Serialize, Deserialize)]
pub struct RelayState {
    /// Its connections.
    pub entries: Vec<EntryState>,
}

/// One connection, and what the loop knew of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryState {
    /// Its name.
    pub id: ConnectionId,
    /// The client, as accept(2) gave it.
    pub peer: SocketAddr,
    /// It counts against the limits; one that was refused at the door does not.
    pub counted: bool,
    /// The monitor was asked for a session and not told of its end.
    pub open: bool,
    /// The connection itself.
    pub connection: ConnectionState,
}

/// A [`Connection`](super::connection::Connection).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionState {
    /// How far it is.
    pub phase: PhaseState,
    /// What the client would not take yet.
    pub outgoing: Vec<u8>,
    /// Bytes from the client to terminals that are gone.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// The client's stream has ended, as far as the kernel has it.
    pub hung_up: bool,
    /// The client has sent urgent data.
    pub sent_urgent: bool,
    /// Somebody was logged in.
    pub logged_in: bool,
}

/// A connection's phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseState {
    /// These bytes of a TCPMUX request have come.
    Request {
        /// The line so far.
        taken: Vec<u8>,
        /// Until the deadline.
        left: Duration,
    },
    /// These bytes of a handshake have come.
    Handshake {
        /// The handshake so far; a password may be among it.
        taken: Zeroizing<Vec<u8>>,
        /// Until the deadline.
        left: Duration,
    },
    /// The monitor was asked.
    Opening {
        /// What came behind the handshake.
        early: Vec<u8>,
        /// Until the monitor is given up.
        left: Duration,
    },
    /// There is a session.
    Live(Box<LiveState>),
    /// It closes.
    Closing {
        /// The client was told of the end.
        told: bool,
        /// The client has closed.
        heard: bool,
        /// How much the client may still send.
        budget: u32,
        /// Until it is closed; `None`: as long as the client is there.
        left: Option<Duration>,
    },
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveState {
    /// What the terminal would not take yet; a password may be among it.
    pub to_terminal: Zeroizing<Vec<u8>>,
    /// Between the halves of a window message.
    pub window: window::State,
    /// The urgent bytes.
    pub pacer: urgent::State,
    /// Bytes written to the client since the last urgent one.
    pub behind_urgent: u64,
    /// How far the client's stream is.
    pub input: InputState,
    /// How far the terminal's output is.
    pub output: OutputState,
    /// Bytes from the client to this terminal.
    pub bytes_in: u64,
    /// Since when nothing has moved.
    pub quiet: Duration,
    /// Who handles ^S and ^Q is known; not yet when a relay before has died.
    pub flow_control_known: bool,
    /// Nobody is logged in, and nothing was asked.
    pub unasked: bool,
    /// What belongs to a CR at prompts.
    pub newlines: newline::Newlines,
}

/// How far the client's stream has come. `T` is until when: an [`Instant`], or what is left until then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum InputState<T = Duration> {
    /// It goes on.
    Flowing,
    /// It has an end that is not read yet; what comes before it is read and offered.
    Ending(T),
    /// All of it is read; it is still offered.
    Read(T),
    /// The terminal has all of it; its program has time to read it.
    Delivered(T),
}

impl<T> InputState<T> {
    /// The same with other times.
    pub(super) fn map<U>(self, change: impl Fn(T) -> U) -> InputState<U> {
        match self {
            InputState::Flowing => InputState::Flowing,
            InputState::Ending(time) => InputState::Ending(change(time)),
            InputState::Read(time) => InputState::Read(change(time)),
            InputState::Delivered(time) => InputState::Delivered(change(time)),
        }
    }
}

/// How far the terminal's output has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputState {
    /// It goes on.
    Flowing,
    /// The session has ended.
    Ending(
        /// So much may still be read.
        u32,
    ),
    /// All of it is read; an urgent byte is waited for that long.
    Read(Duration),
}

impl ConnectionState {
    /// Whether the monitor was asked for a session and has not answered.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.phase, PhaseState::Opening { .. })
    }
}

impl RelayState {
    /// Writes the state to a file in memory.
    ///
    /// # Errors
    /// Out of memory.
    pub fn store(&self, mut file: &File) -> io::Result<()> {
        let bytes = Zeroizing::new(self.to_bytes()?);
        file.write_all(&bytes)
    }

    /// Reads a state from a file in memory, wherever its position is.
    ///
    /// # Errors
    /// When the file does not hold a state of this version.
    pub fn load(mut file: &File) -> io::Result<RelayState> {
        file.seek(SeekFrom::Start(0))?;
        let length = file.metadata()?.len();
        if length > MAX_LENGTH {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // At once, for growing would leave copies behind that nobody wipes.
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(length).map_err(io::Error::other)?));
        file.take(length).read_to_end(&mut bytes)?;
        RelayState::from_bytes(&bytes)
    }

    /// The state in its format.
    ///
    /// # Errors
    /// Never, but for what serialising may say.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(&(VERSION, self)).map_err(io::Error::other)
    }

    /// A state from its format.
    ///
    /// # Errors
    /// When these are not the bytes of a state of this version.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<RelayState> {
        let (version, rest) = postcard::take_from_bytes::<u16>(bytes).map_err(io::Error::other)?;
        if version != VERSION {
            return Err(io::Error::other("a state of another version"));
        }
        postcard::from_bytes(rest).map_err(io::Error::other)
    }
}

/// How long it is from `now` to a time to come.
pub(super) fn left(time: Instant, now: Instant) -> Duration {
    time.saturating_duration_since(now)
}

/// A count of bytes that can be added to for ever.
pub(super) fn count(bytes: u64) -> u64 {
    bytes.min(u64::MAX >> 2)
}

/// The time that is so far ahead of `now`.
pub(super) fn ahead(left: Duration, now: Instant) -> Instant {
    now + left.min(LONGEST)
}

/// The time that was so long before `now`.
pub(super) fn ago(since: Duration, now: Instant) -> Instant {
    now.checked_sub(since).unwrap_or(now)
}
