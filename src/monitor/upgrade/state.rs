//! What one image of the monitor leaves to the next: its table as plain data, and the
//! numbers of its descriptors.
//!
//! The format crosses versions of this program. A change of anything here, of what a relay
//! hands over, or of what is said between monitor and sessions is a new [`VERSION`], and
//! an image that does not read it is not executed. Times are how long ago they were, or
//! how long is left.

use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::event::{SessionEnd, Via};
use crate::ipc::ConnectionId;
use crate::sys::process::End;

/// The format's number, which comes first.
pub(in crate::monitor) const VERSION: u16 = 1;

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct MonitorState {
    /// The version of the program that left it.
    pub(in crate::monitor) version: String,
    pub(in crate::monitor) executable: PathBuf,
    pub(in crate::monitor) pid_file: Option<PathBuf>,
    /// The limit on descriptors that the daemon was started with: soft and hard.
    pub(in crate::monitor) descriptors: (u64, u64),
    pub(in crate::monitor) activated: bool,
    pub(in crate::monitor) listeners: Vec<(RawFd, Via, SocketAddr)>,
    pub(in crate::monitor) ports: Vec<u16>,
    pub(in crate::monitor) next_ids: u64,
    /// What the relay handed back.
    pub(in crate::monitor) file: Option<RawFd>,
    pub(in crate::monitor) carried: Vec<(ConnectionId, RawFd)>,
    pub(in crate::monitor) refusals: Vec<(ConnectionId, String)>,
    pub(in crate::monitor) draining: bool,
    /// Process ids, their descriptors, and whether they close records.
    pub(in crate::monitor) helpers: Vec<(u32, RawFd, bool)>,
    pub(in crate::monitor) sessions: Vec<SessionState>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct SessionState {
    pub(in crate::monitor) id: ConnectionId,
    pub(in crate::monitor) peer: SocketAddr,
    pub(in crate::monitor) tty: String,
    /// Its id and its descriptor.
    pub(in crate::monitor) process: (u32, RawFd),
    pub(in crate::monitor) link: RawFd,
    /// Leader and client.
    pub(in crate::monitor) ends: Option<(RawFd, RawFd)>,
    /// Bytes read and written before the session.
    pub(in crate::monitor) before: (u64, u64),
    pub(in crate::monitor) stage: StageState,
    pub(in crate::monitor) deadline: Option<Duration>,
    pub(in crate::monitor) finished: Option<(Duration, SessionEnd)>,
    pub(in crate::monitor) ended: Option<(Duration, EndState)>,
    pub(in crate::monitor) closed: Option<(u64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) enum StageState {
    LoggingIn { reported: bool },
    Open { user: String, since: Duration },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(in crate::monitor) enum EndState {
    Exited(i32),
    Signaled(i32),
}

impl From<End> for EndState {
    fn from(end: End) -> EndState {
        match end {
            End::Exited(status) => EndState::Exited(status),
            End::Signaled(signal) => EndState::Signaled(signal),
        }
    }
}

impl From<EndState> for End {
    fn from(end: EndState) -> End {
        match end {
            EndState::Exited(status) => End::Exited(status),
            EndState::Signaled(signal) => End::Signaled(signal),
        }
    }
}

impl MonitorState {
    pub(in crate::monitor) fn to_bytes(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(&(VERSION, self)).map_err(io::Error::other)
    }

    pub(in crate::monitor) fn from_bytes(bytes: &[u8]) -> io::Result<MonitorState> {
        let (version, rest) = postcard::take_from_bytes::<u16>(bytes).map_err(io::Error::other)?;
        if version != VERSION {
            return Err(io::Error::other("a state of another version"));
        }
        postcard::from_bytes(rest).map_err(io::Error::other)
    }
}
