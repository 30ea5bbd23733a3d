//! Landlock, landlock(7): no file, no port and nobody outside, as far as the kernel knows it.
//!
//! Behind the empty root and the filter this is the third wall in the same place.

use std::io;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, Scope};

/// Takes every right that Landlock knows from the calling thread and those it starts: to reach
/// a file, to bind or connect a TCP socket, to connect to an abstract Unix socket or to signal a
/// process, but for its own. What is open stays open. A kernel that knows less of this, or
/// nothing, takes less.
///
/// # Errors
/// When the kernel has it and fails.
pub(super) fn restrict() -> io::Result<()> {
    // The newest that we know; the rest is asked of the kernel.
    let all = ABI::V9;
    Ruleset::default()
        .handle_access(AccessFs::from_all(all))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(all)))
        .and_then(|rules| rules.scope(Scope::from_all(all)))
        .and_then(Ruleset::create)
        // Nothing is added, so nothing is allowed.
        .and_then(|rules| rules.restrict_self())
        .map_err(io::Error::other)?;
    Ok(())
}

/// The version of Landlock that the kernel has; 0 without it.
#[must_use]
pub fn version() -> i64 {
    let version: libc::c_int = 1;
    // SAFETY: with this flag the call reads no memory (landlock_create_ruleset(2)).
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, version) }.max(0)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
    use std::thread;

    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::getppid;

    use super::*;

    #[test]
    fn the_thread_reaches_no_file_no_port_and_nobody() {
        let version = version();
        if version == 0 {
            eprintln!("SKIPPED: the kernel has no Landlock");
            return;
        }
        let name = SocketAddr::from_abstract_name(format!("rlogind-test-{}", std::process::id())).unwrap();
        let _abstract = UnixListener::bind_addr(&name).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let code = |error: io::Error| error.raw_os_error();
        let attempts = move || {
            let file = File::open("/etc/passwd").map(drop).map_err(code);
            let connect = TcpStream::connect(address).map(drop).map_err(code);
            let bind = TcpListener::bind("127.0.0.1:0").map(drop).map_err(code);
            let unix = UnixStream::connect_addr(&name).map(drop).map_err(code);
            let signal = kill(getppid(), None).map_err(|errno| Some(errno as i32));
            [file, connect, bind, unix, signal]
        };
        assert_eq!(attempts.clone()(), [Ok(()); 5], "before");
        // It holds for the thread, which ends with it.
        let inside = thread::spawn(move || restrict().map(|()| attempts())).join().unwrap().unwrap();
        let denied = |from, errno: Errno| if version >= from { Err(Some(errno as i32)) } else { Ok(()) };
        let expected = [
            denied(1, Errno::EACCES),
            denied(4, Errno::EACCES),
            denied(4, Errno::EACCES),
            denied(6, Errno::EPERM),
            denied(6, Errno::EPERM),
        ];
        assert_eq!(inside, expected, "version {version}");
    }
}
