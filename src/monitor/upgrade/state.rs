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

use crate::audit::event::{EndedBy, Via};
use crate::control::protocol::Totals;
use crate::ipc::{ConnectionId, RELAY_STATE};
use crate::monitor::sessions::{LifeCycle, Stage, Who};
use crate::records::worker::Task;

/// The format's number, which comes first.
pub(in crate::monitor) const VERSION: u16 = 6;

/// What a successor has to read: this table, and what relays hand over.
pub(in crate::monitor) fn formats() -> String {
    format!("{VERSION}.{RELAY_STATE}")
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct MonitorState {
    /// The version of the program that left it.
    pub(in crate::monitor) version: String,
    /// The process that it served in.
    pub(in crate::monitor) pid: u32,
    pub(in crate::monitor) executable: PathBuf,
    /// The empty directory that becomes the relays' root.
    pub(in crate::monitor) root: RawFd,
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
    /// The configuration is to be read again.
    pub(in crate::monitor) reload_again: bool,
    /// Process ids, their descriptors, and whether they close records.
    pub(in crate::monitor) helpers: Vec<(u32, RawFd, bool)>,
    pub(in crate::monitor) sessions: Vec<SessionState>,
    pub(in crate::monitor) next_number: u64,
    pub(in crate::monitor) begun: Duration,
    pub(in crate::monitor) totals: Totals,
    pub(in crate::monitor) control: ControlState,
    /// Lines of the log that syslogd has not taken.
    pub(in crate::monitor) log: Vec<Vec<u8>>,
    /// What of it was counted and not written.
    pub(in crate::monitor) counts: Vec<u8>,
    pub(in crate::monitor) records: RecordsState,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct RecordsState {
    /// What the records worker has to know.
    pub(in crate::monitor) task: Task,
    /// It has to be started, or started again.
    pub(in crate::monitor) is_due: bool,
    /// The log has said that the records are behind.
    pub(in crate::monitor) is_behind: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct ControlState {
    /// The control socket, its path, and its file's device and inode.
    pub(in crate::monitor) listener: Option<(RawFd, PathBuf, (u64, u64))>,
    /// Commands that wait for an answer, with the user and process ids at the other end, and whether they
    /// wait for a reload.
    pub(in crate::monitor) waiting: Vec<(RawFd, u32, u32, bool)>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::monitor) struct SessionState {
    pub(in crate::monitor) id: ConnectionId,
    pub(in crate::monitor) number: u64,
    pub(in crate::monitor) begun: Duration,
    pub(in crate::monitor) who: Who,
    pub(in crate::monitor) peer: SocketAddr,
    pub(in crate::monitor) tty: String,
    /// Its id and its descriptor.
    pub(in crate::monitor) process: (u32, RawFd),
    pub(in crate::monitor) link: RawFd,
    pub(in crate::monitor) leader: Option<RawFd>,
    pub(in crate::monitor) client: Option<RawFd>,
    /// Bytes read and written before the session.
    pub(in crate::monitor) before: (u64, u64),
    pub(in crate::monitor) stage: Stage<Duration>,
    pub(in crate::monitor) deadline: Option<Duration>,
    pub(in crate::monitor) life: LifeCycle<Duration>,
    pub(in crate::monitor) killed: bool,
    pub(in crate::monitor) authenticated: bool,
    /// Who ends it.
    pub(in crate::monitor) by: Option<EndedBy>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::SessionEnd;
    use crate::control::protocol::By;
    use crate::records::worker::Killed;
    use crate::sys::process::End;
    use crate::sys::records::Stamp;

    fn row(id: u64, stage: Stage<Duration>, life: LifeCycle<Duration>) -> SessionState {
        SessionState {
            id: ConnectionId(id),
            number: 70 + id,
            begun: Duration::from_secs(10),
            who: Who {
                user: Some("alice".to_owned()),
                remote_user: Some("bob".to_owned()),
                host: Some("client.example".to_owned()),
                by: Some(By::Password),
            },
            peer: ([192, 0, 2, 7], 1023).into(),
            tty: "pts/3".to_owned(),
            process: (700, 11),
            link: 12,
            leader: Some(13),
            client: Some(14),
            before: (26, 5),
            stage,
            deadline: Some(Duration::from_secs(4)),
            life,
            killed: true,
            authenticated: true,
            by: Some(EndedBy::Kill { uid: 1000 }),
        }
    }

    /// A change here is a new format: see the module's first lines.
    #[test]
    fn the_table_is_written_as_it_always_was() {
        let open = Stage::Open { user: "alice".to_owned(), since: Duration::from_secs(9) };
        let shell = Some((Duration::from_secs(5), SessionEnd::Signaled(9)));
        let ended = |end| (Duration::from_secs(6), end);
        let state = MonitorState {
            version: "0.1.0".to_owned(),
            pid: 699,
            executable: "/usr/sbin/rlogind".into(),
            root: 10,
            pid_file: Some("/run/rlogind.pid".into()),
            descriptors: (1024, 20_000),
            activated: false,
            listeners: vec![(3, Via::Rlogin, ([0, 0, 0, 0], 513).into())],
            ports: vec![513],
            next_ids: 1 << 36,
            file: Some(5),
            carried: vec![(ConnectionId(2), 6)],
            refusals: vec![(ConnectionId(4), "Try again".to_owned())],
            draining: true,
            reload_again: false,
            helpers: vec![(701, 7, true)],
            sessions: vec![
                row(
                    1,
                    Stage::LoggingIn { reported: true },
                    LifeCycle::ProcessEnded(None, ended(End::Exited(3))),
                ),
                row(2, open.clone(), LifeCycle::Over(shell, ended(End::Signaled(15)), (7, 8))),
                row(3, open.clone(), LifeCycle::Closed(shell, (7, 8))),
                row(4, open, LifeCycle::Running(None)),
            ],
            next_number: 73,
            begun: Duration::from_secs(11),
            totals: Totals { connections: 9, bytes_out: 300, ..Totals::default() },
            control: ControlState {
                listener: Some((8, "/run/rlogind/control".into(), (21, 22))),
                waiting: vec![(9, 0, 800, true)],
            },
            log: vec![b"line".to_vec()],
            counts: b"counts".to_vec(),
            records: RecordsState {
                task: Task {
                    killed: vec![Killed {
                        line: "pts/3".to_owned(),
                        pid: 702,
                        at: Stamp { seconds: 300, micros: 5 },
                    }],
                    records: Vec::new(),
                },
                is_due: true,
                is_behind: true,
            },
        };
        let bytes = state.to_bytes().unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((VERSION, hex.as_str()), (6, include_str!("state.hex").trim()));
        let read = MonitorState::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes().unwrap(), bytes);
        assert!(MonitorState::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    }
}
