//! How far the end of a session is. It has two sides, and they come in either order: its process ends, and the relay
//! closes its connection.
//!
//! ```text
//!              shell ended            process ended
//!   Running ────────────────┬──────────────────────────┐
//!      │                    │                          ▼
//!      │ connection closed  │ connection closed   ProcessEnded
//!      ▼                    ▼                          │ connection closed
//!    Closed ◀───────────────┘                          ▼
//!      └────────────────────── process ended ───────▶ Over
//! ```

use serde::{Deserialize, Serialize};

use crate::audit::event::SessionEnd;
use crate::sys::process::End;

/// Bytes in and out, by the relay's word.
pub(in crate::monitor) type Bytes = (u64, u64);

/// How and when the shell ended, by the session process's word.
type ShellEnd<T> = Option<(T, SessionEnd)>;

/// See the [module's page](self). `T` is a moment: an [`Instant`](std::time::Instant), or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::monitor) enum LifeCycle<T> {
    /// Process and connection are there. The shell may have ended: then the process closes PAM and the records.
    Running(ShellEnd<T>),
    /// The process has ended, and the relay sends the last output.
    ProcessEnded(ShellEnd<T>, (T, End)),
    /// The relay has closed the connection, and the process is about to end.
    Closed(ShellEnd<T>, Bytes),
    /// Nothing of it is left: everything about it is known.
    Over(ShellEnd<T>, (T, End), Bytes),
}

impl<T: Copy> LifeCycle<T> {
    /// Of a session that begins.
    pub(in crate::monitor) fn new() -> LifeCycle<T> {
        LifeCycle::Running(None)
    }

    /// The shell has ended.
    ///
    /// # Errors
    /// When it had ended already, or its process has.
    pub(in crate::monitor) fn end_shell(&mut self, at: T, end: SessionEnd) -> Result<(), &'static str> {
        match self {
            LifeCycle::Running(shell @ None) | LifeCycle::Closed(shell @ None, _) => {
                *shell = Some((at, end));
                Ok(())
            }
            LifeCycle::Running(Some(_))
            | LifeCycle::Closed(Some(_), _)
            | LifeCycle::ProcessEnded(..)
            | LifeCycle::Over(..) => Err("it finished twice"),
        }
    }

    /// The process has ended. What is known of that already stays.
    pub(in crate::monitor) fn end_process(&mut self, at: T, end: End) {
        *self = match *self {
            LifeCycle::Running(shell) => LifeCycle::ProcessEnded(shell, (at, end)),
            LifeCycle::Closed(shell, bytes) => LifeCycle::Over(shell, (at, end), bytes),
            ended @ (LifeCycle::ProcessEnded(..) | LifeCycle::Over(..)) => ended,
        }
    }

    /// The relay has closed the connection. What is known of that already stays.
    pub(in crate::monitor) fn close(&mut self, bytes: Bytes) {
        *self = match *self {
            LifeCycle::Running(shell) => LifeCycle::Closed(shell, bytes),
            LifeCycle::ProcessEnded(shell, process) => LifeCycle::Over(shell, process, bytes),
            closed @ (LifeCycle::Closed(..) | LifeCycle::Over(..)) => closed,
        }
    }

    /// How and when the shell ended.
    pub(in crate::monitor) fn shell(&self) -> ShellEnd<T> {
        match *self {
            LifeCycle::Running(shell)
            | LifeCycle::ProcessEnded(shell, _)
            | LifeCycle::Closed(shell, _)
            | LifeCycle::Over(shell, ..) => shell,
        }
    }

    /// How and when the process ended.
    pub(in crate::monitor) fn process(&self) -> Option<(T, End)> {
        match *self {
            LifeCycle::ProcessEnded(_, process) | LifeCycle::Over(_, process, _) => Some(process),
            LifeCycle::Running(_) | LifeCycle::Closed(..) => None,
        }
    }

    /// What the connection had moved when it was closed.
    pub(in crate::monitor) fn closed(&self) -> Option<Bytes> {
        match *self {
            LifeCycle::Closed(_, bytes) | LifeCycle::Over(.., bytes) => Some(bytes),
            LifeCycle::Running(_) | LifeCycle::ProcessEnded(..) => None,
        }
    }

    /// Whether the process lives.
    pub(in crate::monitor) fn has_process(&self) -> bool {
        self.process().is_none()
    }

    /// Whether the relay has the connection.
    pub(in crate::monitor) fn is_connected(&self) -> bool {
        self.closed().is_none()
    }

    /// Whether its shell, its process or its connection has come to an end.
    pub(in crate::monitor) fn is_ending(&self) -> bool {
        !matches!(self, LifeCycle::Running(None))
    }

    /// The same with other moments.
    pub(in crate::monitor) fn map<U>(self, change: impl Fn(T) -> U) -> LifeCycle<U> {
        let shell = |shell: ShellEnd<T>| shell.map(|(at, end)| (change(at), end));
        match self {
            LifeCycle::Running(ended) => LifeCycle::Running(shell(ended)),
            LifeCycle::ProcessEnded(ended, (at, end)) => {
                LifeCycle::ProcessEnded(shell(ended), (change(at), end))
            }
            LifeCycle::Closed(ended, bytes) => LifeCycle::Closed(shell(ended), bytes),
            LifeCycle::Over(ended, (at, end), bytes) => {
                LifeCycle::Over(shell(ended), (change(at), end), bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_and_connection_end_in_either_order_and_the_first_word_stays() {
        let shell = (1, SessionEnd::Exited(0));
        let process = (2, End::Exited(0));
        for connection_first in [true, false] {
            let mut life = LifeCycle::new();
            assert!(!life.is_ending());
            assert_eq!(life.end_shell(1, SessionEnd::Exited(0)), Ok(()));
            assert!(life.is_ending() && life.end_shell(5, SessionEnd::Lost).is_err());
            if connection_first {
                life.close((3, 4));
                assert!(!life.is_connected() && life.has_process());
            }
            life.end_process(2, End::Exited(0));
            life.end_process(9, End::Unknown);
            life.close((3, 4));
            life.close((0, 0));
            assert_eq!(life, LifeCycle::Over(Some(shell), process, (3, 4)));
            assert!(life.end_shell(9, SessionEnd::Lost).is_err(), "its process has ended");
        }
    }
}
