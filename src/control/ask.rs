//! Asking the daemon. Every error is a sentence for the administrator.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::protocol::{Answer, Reply, Request};
use crate::sys::channel::{Channel, Received};
use crate::sys::{local, memory_file};

/// How long it may take to be heard at all.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Until another try.
const CONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How long the daemon may take for what it knows.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to read the configuration again, or to be another version.
const LONG_PATIENCE: Duration = Duration::from_secs(100);

/// Asks the daemon at that socket.
///
/// # Errors
/// None runs there, or one that cannot be asked, or it does not answer, or refuses.
pub(super) fn ask(socket: &Path, request: &Request) -> io::Result<Answer> {
    let channel = connect(socket).map_err(|error| not_there(socket, &error))?;
    let patience = match request {
        Request::Reload | Request::Upgrade => LONG_PATIENCE,
        Request::Sessions
        | Request::Status
        | Request::Kill { .. }
        | Request::Message { .. }
        | Request::Drain => PATIENCE,
    };
    let bytes = serde_json::to_vec(request)?;
    if let Err(error) = channel.send(&bytes, &[]) {
        let gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error.kind());
        return Err(if gone { no_answer() } else { error });
    }
    wait(&channel, Instant::now() + patience)?;
    let Received::Message(_, mut files) = channel.receive()? else { return Err(no_answer()) };
    let file = files.pop().ok_or_else(|| io::Error::other("no descriptor is left for the answer"))?;
    let answer = understand(&memory_file::read(file)?)?;
    if let Answer::Refused { reason } = answer { Err(io::Error::other(reason)) } else { Ok(answer) }
}

/// Waits a moment where others wait to be accepted.
fn connect(socket: &Path) -> io::Result<Channel> {
    let until = Instant::now() + CONNECT_PATIENCE;
    loop {
        match local::connect(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < until => {
                thread::sleep(CONNECT_PAUSE);
            }
            done => return done,
        }
    }
}

fn wait(channel: &Channel, until: Instant) -> io::Result<()> {
    let mut polled = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(io::Error::other("rlogind does not answer")),
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::other("rlogind has closed the connection without an answer; its log may say why")
}

fn understand(bytes: &[u8]) -> io::Result<Answer> {
    let reply: Result<Reply, _> = serde_json::from_slice(bytes);
    reply.map(|reply| reply.answer).map_err(|_| {
        let version = serde_json::from_slice::<serde_json::Value>(bytes)
            .ok()
            .and_then(|value| Some(value.get("version")?.as_str()?.to_owned()));
        io::Error::other(format!(
            "rlogind's answer is not understood: it is version {}, and this command is {}",
            version.as_deref().unwrap_or("(unknown)"),
            env!("CARGO_PKG_VERSION")
        ))
    })
}

fn not_there(socket: &Path, error: &io::Error) -> io::Error {
    let path = socket.display();
    let kind = error.kind();
    io::Error::other(if kind == io::ErrorKind::PermissionDenied {
        format!("permission denied: {path} is for root and the group that control.group names")
    } else if kind == io::ErrorKind::WouldBlock {
        format!("rlogind is busy with other commands: {path}")
    } else {
        format!("rlogind does not run, or not with this control socket: {path}: {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_said_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let told = ask(&path, &Request::Status).unwrap_err().to_string();
        let start = format!("rlogind does not run, or not with this control socket: {}: ", path.display());
        assert!(told.starts_with(&start), "{told}");
        let denied = not_there(Path::new("/c"), &io::ErrorKind::PermissionDenied.into()).to_string();
        assert_eq!(denied, "permission denied: /c is for root and the group that control.group names");
    }

    #[test]
    fn an_answer_of_another_version_is_named() {
        let told = understand(br#"{"version":"9.9.9","dance":{}}"#).unwrap_err().to_string();
        assert!(told.contains("version 9.9.9"), "{told}");
        let told = understand(b"x").unwrap_err().to_string();
        assert!(told.contains("version (unknown)"), "{told}");
    }
}
