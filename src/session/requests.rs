//! What the monitor asks of a session process: whatever waits for the terminal's locks, which its user can
//! hold. Here it is the user's own session alone that waits.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::console::Console;
use crate::ipc::{FromSession, Incoming, Notice, ToSession};
use crate::sys::pty;
use crate::wire::urgent::FlowControl;
use crate::wire::window::WindowSize;

/// How far the monitor wants the session to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EndRequest {
    /// Not at all.
    None,
    /// The client has gone, or the daemon stops: the shell has to end.
    HangUp,
    /// Relay and monitor have closed the terminal's leader, or the monitor is gone: the terminal has to hang
    /// up, and the process to end.
    Release,
}

impl Console {
    /// Does all that the monitor asks for now, and returns the end that was asked for, now or before.
    pub(super) fn serve_monitor(&self) -> EndRequest {
        let mut size = None;
        while self.monitor.borrow().has_message() {
            let message = self.monitor.borrow_mut().receive();
            match message {
                Ok(Incoming::Message(ToSession::WindowSize(latest), _)) => size = Some(latest),
                Ok(Incoming::Message(ToSession::Show(notice), _)) => {
                    self.answer(&FromSession::Shown(self.show_notice(&notice).err()));
                }
                Ok(Incoming::Message(ToSession::AskFlowControl, _)) => {
                    let terminal = pty::handles_flow_control(self.tty());
                    let who = if terminal { FlowControl::Client } else { FlowControl::Program };
                    self.answer(&FromSession::FlowControl(who));
                }
                Ok(Incoming::Message(ToSession::LookForUnread, _)) => {
                    self.answer(&FromSession::Looked(pty::unread(self.tty())));
                }
                Ok(Incoming::Message(ToSession::HangUp, _)) => self.request_end(EndRequest::HangUp),
                // Kept open like our own: whoever closes the last one waits for the user's programs.
                Ok(Incoming::Message(ToSession::Leader, leader)) => self.leaders.borrow_mut().extend(leader),
                Ok(Incoming::Message(ToSession::Released, _)) => self.request_end(EndRequest::Release),
                // It says nothing else to a session, and sends what is a message.
                Ok(Incoming::Message(..) | Incoming::Closed) | Err(_) => {
                    self.request_end(EndRequest::Release);
                    break;
                }
                Ok(Incoming::Nothing) => break,
            }
        }
        // Of many in a burst one counts.
        if let Some(size) = size {
            self.resize(size);
            self.answer(&FromSession::Resized);
        }
        self.end_requested()
    }

    /// Waits for the client's window size, but not for long: start files that ask for it find it.
    pub(super) fn await_size(&self) {
        self.wait_until(self.size_awaited, || self.sized.get());
    }

    /// Waits until relay and monitor have closed the terminal's leader: whoever closes it last waits for what
    /// the user's programs do with the terminal, and that has to be this process.
    pub(super) fn await_release(&self) {
        while self.end_requested() < EndRequest::Release {
            let ready = {
                let monitor = self.monitor.borrow();
                poll(&mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE)
            };
            match ready {
                Ok(_) => drop(self.serve_monitor()),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Waits so long, but not for a client that has gone.
    pub(super) fn pause(&self, time: Duration) {
        self.wait_until(Instant::now() + time, || false);
    }

    /// Does what the monitor asks for until that time, until `done`, or until the session is to end.
    fn wait_until(&self, end: Instant, done: impl Fn() -> bool) {
        while self.serve_monitor() == EndRequest::None && !done() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let monitor = self.monitor.borrow();
            let _ = poll(&mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }

    /// Hangs the terminal up, whoever else still has its leader open, without waiting for it: a program that
    /// reads or writes the terminal can make that last, and PAM and the records are closed all the same.
    pub(super) fn hang_up_terminal(&self) {
        // Or a program could open it again, and have the close of the last leader wait after all.
        for leader in self.leaders.borrow().iter() {
            let _ = pty::lock(leader.as_fd());
        }
        if let Ok(follower) = self.tty().try_clone_to_owned() {
            // Without a thread the end of this process hangs it up.
            drop(std::thread::Builder::new().spawn(move || pty::hang_up(follower.as_fd())));
        }
    }

    fn answer(&self, message: &FromSession) {
        // Without a monitor nobody waits for it.
        let _ = self.monitor.borrow_mut().send(message, Vec::new());
    }

    fn resize(&self, size: WindowSize) {
        let size = libc::winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: size.x_pixels,
            ws_ypixel: size.y_pixels,
        };
        // It fails when the terminal has hung up, and then nobody looks at its size.
        let _ = pty::resize(self.tty(), &size);
        self.sized.set(true);
    }

    /// Writes to the terminal, which may be stopped, full or closed to others.
    fn show_notice(&self, notice: &Notice) -> Result<(), String> {
        /// What mesg(1) takes away.
        const GROUP_MAY_WRITE: u32 = 0o020;
        let failed = |error: std::io::Error| format!("its terminal: {error}");
        let leaders = self.leaders.borrow();
        let leader = leaders.first().ok_or("the session has no terminal any more")?;
        // Opened once more: with the follower that the shell has, too, a write could wait.
        let mut terminal = pty::open_follower(leader.as_fd()).map_err(failed)?;
        let open = terminal.metadata().is_ok_and(|data| data.mode() & GROUP_MAY_WRITE != 0);
        if !open && !notice.by_root {
            return Err("its user takes no messages".to_owned());
        }
        match terminal.write(notice.text.as_bytes()) {
            Ok(length) if length == notice.text.len() => Ok(()),
            Ok(_) => Err("its terminal took only the beginning".to_owned()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err("its terminal takes nothing now".to_owned())
            }
            Err(error) => Err(failed(error)),
        }
    }
}
