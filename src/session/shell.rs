//! From an authenticated user to a shell, and from its end back to nothing:
//! groups, credentials, PAM session, records, terminal, each undone exactly once.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Uid, User, fchown};

use super::authenticate::Authenticated;
use super::console::Prompts;
use super::hush::is_hushed;
use super::requests::EndRequest;
use super::{Login, NoSession, environment};
use crate::audit::event::{LoginEvent, SessionEnd};
use crate::ipc::FromSession;
use crate::records::{self, SessionRecords, Who};
use crate::sys::directories::Root;
use crate::sys::identity::{IdentityError, as_user, take_groups};
use crate::sys::limits::{self, UserLimits};
use crate::sys::memory;
use crate::sys::pam::Transaction;
use crate::sys::process::{self, End, Process};
use crate::sys::shell::{self, Shell};
use crate::sys::words;

/// The shell of an account that names none, passwd(5).
const DEFAULT_SHELL: &str = "/bin/sh";
/// The most groups that a line of the log names.
const MOST_GROUPS: usize = 20;
/// How long a shell may take to end after the terminal hung up.
const HANG_UP_PATIENCE: Duration = Duration::from_secs(5);

/// An open session.
pub(super) struct Session {
    user: User,
    pam: Transaction<Prompts>,
    shell: Process,
    signals: SignalFd,
    records: SessionRecords,
}

/// Opens the session and starts the shell.
pub(super) fn open(login: &Login, who: Authenticated) -> Result<Session, NoSession> {
    let Authenticated { user, mut pam, remote_user, .. } = who;
    let refuse = |what: &str, error: &dyn std::fmt::Display| {
        login.refuse("Permission denied");
        NoSession::Refused(format!("{what} for {}: {error}", user.name))
    };
    // From here on an end of this process has to be an orderly one.
    let signals = process::receive_signals(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .map_err(|error| refuse("no signals", &words(&error)))?;
    // Before the credentials: modules like pam_group add to these.
    let without = take_groups(&user.name, user.gid.as_raw()).map_err(|error| refuse("no groups", &error))?;
    if let Some(text) = refused_groups(&without) {
        login.report(LoginEvent::Trouble { user: user.name.clone(), text });
    }
    pam.establish_credentials().map_err(|error| refuse("no PAM credentials", &error))?;
    let group = users::get_group_by_name("tty").map(|group| Gid::from_raw(group.gid()));
    let given = give_terminal(login.console.tty(), user.uid, group);
    if let Some((group, errno)) = given.map_err(|errno| refuse("no terminal", &errno.desc()))? {
        let why = errno.desc();
        let text =
            format!("the kernel refuses the group tty ({group}): {why}; others cannot write to the terminal");
        login.report(LoginEvent::Trouble { user: user.name.clone(), text });
    }
    let silent = is_hushed(&user);
    let before = records::now();
    let (opened, limits) = limits::collect(|| pam.open_session(silent));
    if let Err(failure) = opened {
        take_terminal(login.console.tty());
        return Err(refuse("no PAM session", &failure));
    }
    // Before the records: a home that does not answer may cost this process its life, and
    // what it has written down by then nobody would undo.
    let home = home_or_root(login, &user, root_of_user(login, &user, &limits));
    let host = login.host_or_address();
    let who = Who { line: &login.tty, user: &user.name, host: &host, address: login.peer.ip() };
    let mut records = SessionRecords::new(&login.config, &who, before, login.records.take());
    // Before the shell: its start files may ask who is logged in.
    login.report_records(records.login());
    if let Some(trouble) = records.take_trouble() {
        let _ = login.send(&FromSession::RegistryFailed(trouble));
    }
    let shell = match start_shell(login, &user, &home, limits, &pam) {
        Ok(shell) => shell,
        Err(error) => {
            close(login, &user, &mut pam, &mut records);
            return Err(error);
        }
    };
    login.report(LoginEvent::Opened {
        user: user.name.clone(),
        remote_user,
        host: login.host.clone(),
        pid: shell.id(),
    });
    records.reap_writer();
    Ok(Session { user, pam, shell, signals, records })
}

/// The root directory that a PAM module has set for the user.
fn root_of_user<'a>(login: &Login, user: &User, limits: &'a UserLimits) -> Option<&'a Root> {
    limits.root().unwrap_or_else(|error| {
        let text = format!("cannot leave the root directory that a PAM module has set: {}", words(error));
        login.report(LoginEvent::Trouble { user: user.name.clone(), text });
        None
    })
}

fn start_shell(
    login: &Login,
    user: &User,
    home: &Path,
    limits: UserLimits,
    pam: &Transaction<Prompts>,
) -> Result<Process, NoSession> {
    let program =
        if user.shell.as_os_str().is_empty() { PathBuf::from(DEFAULT_SHELL) } else { user.shell.clone() };
    let environment = environment::build(
        user,
        home,
        &program,
        login.terminal.as_str(),
        &login.host_or_address(),
        pam.environment(),
    );
    let mut name = OsString::from("-");
    name.push(program.file_name().unwrap_or(program.as_os_str()));
    login.console.await_size();
    let started = login.console.hand_over(login.speed).and_then(|()| {
        shell::start(Shell {
            program: &program,
            name: &name,
            environment: &environment,
            home,
            uid: user.uid,
            gid: user.gid,
            limits,
            terminal: login.console.tty().try_clone_to_owned()?,
        })
    });
    started.map_err(|error| {
        let text = format!("cannot start {}: {}", program.display(), words(&error));
        login.console.show(format!("{text}\n").as_bytes());
        login.report(LoginEvent::Trouble { user: user.name.clone(), text: text.clone() });
        NoSession::Refused(text)
    })
}

/// What the log says of groups that the session is without.
fn refused_groups(groups: &[u32]) -> Option<String> {
    let shown = groups.iter().take(MOST_GROUPS).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let more = match groups.len().saturating_sub(MOST_GROUPS) {
        0 if groups.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("the kernel refuses these groups, and the session is without them: {shown}{more}"))
}

/// The user's home, looked at with the user's own rights and in the shell's root directory; `/` when it cannot be used.
fn home_or_root(login: &Login, user: &User, root: Option<&Root>) -> PathBuf {
    let Some((told, logged)) = home_trouble(&user.dir, look_at_home(user, root)) else {
        return user.dir.clone();
    };
    login.console.show(format!("{told}, logging in with HOME=/\n").as_bytes());
    login.report(LoginEvent::Trouble { user: user.name.clone(), text: logged });
    Path::new("/").to_owned()
}

fn look_at_home(user: &User, root: Option<&Root>) -> Result<io::Result<()>, IdentityError> {
    if !user.dir.is_absolute() {
        return Ok(Err(io::ErrorKind::NotFound.into()));
    }
    // With the dot it is found only by a user who may enter it.
    let home = user.dir.join(".");
    let look = || root.map_or_else(|| std::fs::metadata(&home).map(drop), |root| root.look_at(&home));
    as_user(&user.name, user.uid.as_raw(), user.gid.as_raw(), look)
}

/// What the user reads, and the log, of a home that cannot be used.
fn home_trouble(home: &Path, looked: Result<io::Result<()>, IdentityError>) -> Option<(String, String)> {
    let shown = crate::trust::rules::printable(home.as_os_str().as_bytes(), 256);
    let missing = || "No directory".to_owned();
    match looked {
        Ok(Ok(())) => None,
        Ok(Err(_)) if shown.is_empty() => Some((missing(), "the account names no home directory".to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Some((missing(), format!("there is no home directory {shown}")))
        }
        Ok(Err(error)) => {
            Some((missing(), format!("no use of the home directory {shown}: {}", words(&error))))
        }
        // It may well be there.
        Err(error) => {
            let why = match &error {
                IdentityError::Failed { error, .. } => words(error),
                IdentityError::NeedsRoot => error.to_string(),
            };
            Some((
                format!("Cannot look at the home directory: {why}"),
                format!("cannot look at the home directory {shown}: {error}"),
            ))
        }
    }
}

/// The terminal is the user's; others of the group tty may write to it (mesg(1)). A group that the kernel refuses is
/// left out, with nobody else who may write, and returned with the reason: containers have no number for some.
fn give_terminal(tty: BorrowedFd, uid: Uid, group: Option<Gid>) -> nix::Result<Option<(Gid, Errno)>> {
    let own = Mode::S_IRUSR | Mode::S_IWUSR;
    let refused = match group.map(|group| (group, fchown(tty, Some(uid), Some(group)))) {
        Some((_, Ok(()))) => {
            fchmod(tty, own | Mode::S_IWGRP)?;
            return Ok(None);
        }
        Some((group, Err(errno))) if matches!(errno, Errno::EINVAL | Errno::EPERM) => Some((group, errno)),
        Some((_, Err(errno))) => return Err(errno),
        None => None,
    };
    fchown(tty, Some(uid), None)?;
    fchmod(tty, own)?;
    Ok(refused)
}

/// The terminal is nobody's again; it may live on in a background job.
fn take_terminal(tty: BorrowedFd) {
    let _ = fchown(tty, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)));
    let _ = fchmod(tty, Mode::S_IRUSR | Mode::S_IWUSR);
}

/// Undoes what [`open`] did.
fn close(login: &Login, user: &User, pam: &mut Transaction<Prompts>, records: &mut SessionRecords) {
    take_terminal(login.console.tty());
    if let Err(failure) = pam.close() {
        let text = format!("closing the PAM session: {failure}");
        login.report(LoginEvent::Trouble { user: user.name.clone(), text });
    }
    login.report_records(records.logout());
}

impl Session {
    /// Waits for the shell's end, or brings it about, and closes everything.
    pub(super) fn run_to_end(mut self, login: &Login) {
        memory::release_stack();
        let end = self.wait(login);
        // The user need not wait for modules that take their time to close.
        let _ = login.send(&FromSession::Finished(end));
        close(login, &self.user, &mut self.pam, &mut self.records);
        login.console.await_release();
    }

    fn wait(&self, login: &Login) -> SessionEnd {
        let (mut latest, mut hung_up) = (None, false);
        loop {
            match self.shell.try_wait() {
                Ok(Some(End::Exited(status))) => return SessionEnd::Exited(status),
                Ok(Some(End::Signaled(signal))) => return SessionEnd::Signaled(signal),
                Ok(None) => {}
                Ok(Some(End::Unknown)) | Err(_) => return SessionEnd::Lost,
            }
            if latest.is_some_and(|time: Instant| time <= Instant::now()) {
                return SessionEnd::LeftRunning;
            }
            let end = login.console.end_requested();
            if end != EndRequest::None && latest.is_none() {
                self.shell.hang_up();
                latest = Some(Instant::now() + HANG_UP_PATIENCE);
            }
            if end == EndRequest::Release && !std::mem::replace(&mut hung_up, true) {
                login.console.hang_up_terminal();
            }
            self.await_request(login, latest);
        }
    }

    /// Waits for the shell's end, for what the monitor asks, and for a signal, until `latest` at most.
    fn await_request(&self, login: &Login, latest: Option<Instant>) {
        let console = &login.console;
        let monitor = login.monitor.borrow();
        let mut fds = vec![PollFd::new(self.shell.as_fd(), PollFlags::POLLIN)];
        // A monitor that is gone has nothing to say any more, and would end the waiting at once.
        if console.end_requested() < EndRequest::Release {
            fds.push(PollFd::new(monitor.as_fd(), PollFlags::POLLIN));
        }
        if latest.is_none() {
            fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        }
        let timeout = latest.map_or(PollTimeout::NONE, |time| {
            let left = time.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return,
            Err(_) => return console.request_end(EndRequest::HangUp),
        }
        let happened =
            |index: usize| fds.get(index).and_then(PollFd::revents).is_some_and(|events| !events.is_empty());
        let (from_monitor, signal) = (happened(1), happened(2));
        drop(monitor);
        if signal {
            console.request_end(EndRequest::HangUp);
        }
        if from_monitor && console.end_requested() < EndRequest::Release {
            console.serve_monitor();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_reads_why_the_home_is_not_used() {
        let told = |home: &str, looked| home_trouble(Path::new(home), looked);
        let failed = |errno| io::Error::from_raw_os_error(errno);
        let pair = |told: &str, logged: &str| Some((told.to_owned(), logged.to_owned()));
        assert_eq!(told("/home/a", Ok(Ok(()))), None);
        assert_eq!(
            told("/home/a", Ok(Err(failed(libc::ENOENT)))),
            pair("No directory", "there is no home directory /home/a")
        );
        assert_eq!(
            told("", Ok(Err(io::ErrorKind::NotFound.into()))),
            pair("No directory", "the account names no home directory")
        );
        assert_eq!(
            told("/home/a", Ok(Err(failed(libc::ESTALE)))),
            pair("No directory", "no use of the home directory /home/a: Stale file handle")
        );
        // No process more: that says nothing of the directory.
        let error = IdentityError::Failed { step: "thread", error: failed(libc::EAGAIN) };
        let (told, logged) = told("/home/a", Err(error)).unwrap();
        assert_eq!(told, "Cannot look at the home directory: Try again");
        assert!(logged.starts_with("cannot look at the home directory /home/a: thread: "), "{logged}");
    }

    #[test]
    fn of_many_groups_the_log_names_some() {
        let start = "the kernel refuses these groups, and the session is without them: ";
        assert_eq!(refused_groups(&[]), None);
        assert_eq!(refused_groups(&[7, 8]).unwrap(), format!("{start}7, 8"));
        let many = refused_groups(&[1; 65_536]).unwrap();
        assert!(many.len() < 200 && many.ends_with(", 1 and 65516 more"), "{many}");
    }
}
