//! The floor: the least a server has to do. A process for each connection that
//! starts the shell on a terminal, and copies bytes between the two with poll(2),
//! read(2) and write(2). No checks, no records, no window size, no urgent bytes.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use crate::Outcome;
use crate::sys::{self, Side};
use crate::world::{ACCOUNT, HOME, SHELL, UID};

/// What is between the connection and the shell.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// Nothing.
    Bare,
    /// login(1), and so PAM, as most of the peers have it.
    Pam,
}

/// Serves on port 513 until it is killed.
pub(crate) fn serve(login: Login) -> Outcome<()> {
    let listener = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&listener), &SockaddrIn::new(0, 0, 0, 0, 513))?;
    listen(&listener, Backlog::new(1024)?)?;
    let listener = TcpListener::from(listener);
    loop {
        let (stream, _) = listener.accept()?;
        if matches!(sys::split()?, Side::Child) {
            drop(listener);
            return session(stream, login);
        }
        let ended = |status| !matches!(status, Ok(WaitStatus::StillAlive) | Err(_));
        while ended(waitpid(None, Some(WaitPidFlag::WNOHANG))) {}
    }
}

fn session(mut stream: TcpStream, login: Login) -> Outcome<()> {
    // An empty string and three more, each with its end.
    let mut left = 4;
    let mut byte = [0];
    while left > 0 {
        stream.read_exact(&mut byte)?;
        left -= u32::from(byte[0] == 0);
    }
    stream.set_nodelay(true)?;
    sys::keep_little_unsent(stream.as_fd())?;
    stream.write_all(&[0])?;
    let words = |words: &[&str]| words.iter().map(|&word| CString::new(word)).collect::<Result<Vec<_>, _>>();
    let leader = match login {
        Login::Bare => {
            let home = format!("HOME={HOME}");
            let environment = words(&["TERM=vt100", "PATH=/usr/bin:/bin", "SHELL=/bin/sh", &home])?;
            sys::on_terminal(SHELL, &words(&["-sh"])?, &environment, become_user)?
        }
        Login::Pam => {
            let arguments = words(&["login", "-p", "-h", "localhost", "-f", ACCOUNT])?;
            sys::on_terminal(LOGIN, &arguments, &words(&["TERM=vt100"])?, || Ok(()))?
        }
    };
    relay(&mut stream, &mut File::from(leader))
}

const LOGIN: &CStr = c"/bin/login";

fn become_user() -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
    setgroups(&[gid])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    chdir(HOME)
}

fn relay(stream: &mut TcpStream, leader: &mut File) -> Outcome<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut polled =
            [PollFd::new(stream.as_fd(), PollFlags::POLLIN), PollFd::new(leader.as_fd(), PollFlags::POLLIN)];
        poll(&mut polled, PollTimeout::NONE)?;
        let [client, terminal] = polled.map(|fd| fd.any().unwrap_or(false));
        if client {
            let length = stream.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            leader.write_all(buffer.get(..length).unwrap_or_default())?;
        }
        if terminal {
            // EIO: the shell has ended.
            let Ok(length) = leader.read(&mut buffer) else { return Ok(()) };
            stream.write_all(buffer.get(..length).unwrap_or_default())?;
        }
    }
}
