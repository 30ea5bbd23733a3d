//! Going into the background. The process that was started waits until the one in the background serves, or cannot.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};

use super::process::End;

/// What the process in the background says when it serves. No text of an error begins with it.
const SERVES: u8 = 0;

/// The way from the process in the background to the one that was started and waits for its word.
#[derive(Debug)]
pub struct Starter(File);

/// Goes on in a child process without terminal and with `/` as its working directory. The process that was started does
/// not return from here: it ends when the child serves, has failed, or has ended. `fail` says the text of the error there.
///
/// # Errors
/// In the process that was started: there is no `/dev/null`, or it is out of processes or descriptors.
pub fn enter(fail: impl FnOnce(&str)) -> io::Result<Starter> {
    // Before the fork: with the terminal gone nobody would read that it is not there.
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .map_err(|error| io::Error::new(error.kind(), format!("/dev/null: {}", super::words(&error))))?;
    let (from_child, to_starter) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: there is one thread in this process, so that the child may do whatever this one may.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(to_starter);
            let status = match wait(from_child, child) {
                Ok(()) => 0,
                Err(text) => {
                    fail(&text);
                    1
                }
            };
            // SAFETY: what this process has opened is the child's now, and no destructor is to touch it.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Child => {
            drop(from_child);
            let starter = Starter(to_starter.into());
            match leave_terminal(&null) {
                Ok(()) => Ok(starter),
                Err(errno) => {
                    starter.failed(&format!("cannot go into the background: {}", errno.desc()));
                    // SAFETY: as above, with the process that waits.
                    unsafe { libc::_exit(1) }
                }
            }
        }
    }
}

fn leave_terminal(null: &File) -> nix::Result<()> {
    setsid()?;
    chdir("/")?;
    dup2_stdin(null)?;
    dup2_stdout(null)?;
    dup2_stderr(null)
}

/// Waits for the child's word, which may take its time, or for its end.
fn wait(from_child: OwnedFd, child: Pid) -> Result<(), String> {
    let mut said = Vec::new();
    let mut pipe = File::from(from_child);
    let mut first = [0];
    // It goes on when a signal interrupts it.
    match pipe.read_exact(&mut first) {
        Ok(()) if first == [SERVES] => return Ok(()),
        Ok(()) => said.extend_from_slice(&first),
        Err(_) => {}
    }
    let _ = pipe.read_to_end(&mut said);
    if !said.is_empty() {
        return Err(String::from_utf8_lossy(&said).into_owned());
    }
    let end = match reap(child) {
        Some(WaitStatus::Exited(_, status)) => End::Exited(status),
        Some(WaitStatus::Signaled(_, signal, _)) => End::Signaled(signal as i32),
        Some(_) | None => End::Unknown,
    };
    Err(format!("cannot start: the process in the background {end}"))
}

fn reap(child: Pid) -> Option<WaitStatus> {
    loop {
        match waitpid(child, None) {
            Err(Errno::EINTR) => {}
            status => return status.ok(),
        }
    }
}

impl Starter {
    /// This process serves.
    pub fn serves(mut self) {
        // Somebody may have ended the process that waits; the daemon serves all the same.
        let _ = self.0.write_all(&[SERVES]);
    }

    /// This process cannot serve, and ends.
    pub fn failed(mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
    }
}
