//! How a process ended.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Another process was its parent, and the kernel does not say.
    Unknown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exited with status {status}"),
            End::Signaled(number) => {
                write!(f, "was killed by signal {number}")?;
                // The real-time signals have no names.
                Signal::try_from(*number).map_or(Ok(()), |signal| write!(f, " ({signal})"))
            }
            End::Unknown => f.write_str("ended; its status is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_said_in_words() {
        assert_eq!(End::Exited(1).to_string(), "exited with status 1");
        assert_eq!(End::Signaled(9).to_string(), "was killed by signal 9 (SIGKILL)");
        assert_eq!(End::Signaled(40).to_string(), "was killed by signal 40");
        assert_eq!(End::Unknown.to_string(), "ended; its status is not known");
    }
}
