//! Processes that can be spared: they do what may wait for somebody else, and nobody waits for them.

use std::path::PathBuf;

use super::*;
use crate::sys::channel::MAX_DESCRIPTORS;

/// The most of them that close descriptors of one kind at the same time: more are there only when somebody makes
/// them wait on purpose.
const MOST_CLOSERS: usize = 32;
/// So many of them for commands, and somebody does it on purpose.
const ENOUGH_FOR_COMMANDS: usize = 16;
/// So much of commands that no process is there for, and nobody connects any more: a limit that is never reached
/// while members can be kept out.
const MOST_UNCLOSED: usize = 256;
/// When one is killed: waiting for a network ends with that, and what it has is closed all the same.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How long the end of the daemon waits for its files to be removed.
const REMOVAL_TIME: Duration = Duration::from_secs(1);

/// What is closed; the one does not wait behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closes {
    /// Leaders of terminals.
    Terminals,
    /// Connections of commands.
    Commands,
}

impl Monitor {
    /// Has descriptors closed whose close may wait: the last leader of a terminal for its user, a stranger's
    /// socket for its network.
    pub(super) fn close_elsewhere(&mut self, what: Closes, descriptors: Vec<OwnedFd>) {
        self.close_with(what, descriptors, MOST_CLOSERS);
    }

    fn close_with(&mut self, what: Closes, mut descriptors: Vec<OwnedFd>, most: usize) {
        while !descriptors.is_empty() {
            let rest = descriptors.split_off(descriptors.len().min(MAX_DESCRIPTORS));
            let batch = std::mem::replace(&mut descriptors, rest);
            match self.start_closer(what, &batch, most) {
                Ok(link) => {
                    // In this order: the end of the channel tells the process that ours are closed.
                    drop(batch);
                    drop(link);
                }
                // Closed here they could stop everything: tried again when a process has ended, and soon if it was for
                // want of something else.
                Err(error) => {
                    self.unclosed.extend(batch.into_iter().map(|descriptor| (what, descriptor)));
                    if error.kind() != io::ErrorKind::QuotaExceeded {
                        self.look_again(Instant::now());
                    }
                }
            }
        }
    }

    fn start_closer(
        &mut self,
        what: Closes,
        descriptors: &[OwnedFd],
        most: usize,
    ) -> io::Result<SessionLink> {
        if self.closers(what) >= most {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let (ours, theirs) = Channel::pair()?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut link = SessionLink::new(ours);
        link.try_send(&ToSession::CloseDescriptors, &borrowed)?;
        let process = Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)?;
        self.await_end(process, Helper::Closer(what, Some(Instant::now() + CLOSING_TIME)));
        Ok(link)
    }

    fn closers(&self, what: Closes) -> usize {
        let is_one = |helper: &Helper| matches!(helper, Helper::Closer(closes, _) if *closes == what);
        self.helpers.iter().filter(|(_, helper)| is_one(helper)).count()
    }

    fn unclosed(&self, what: Closes) -> usize {
        self.unclosed.iter().filter(|(closes, _)| *closes == what).count()
    }

    /// Whether somebody sends with commands what takes long to close.
    pub(super) fn closes_enough(&self) -> bool {
        self.closers(Closes::Commands) >= ENOUGH_FOR_COMMANDS || self.unclosed(Closes::Commands) > 0
    }

    /// Whether no more can be held of what commands send.
    pub(super) fn holds_enough(&self) -> bool {
        self.unclosed(Closes::Commands) >= MOST_UNCLOSED
    }

    /// When a process that closes descriptors has had its time.
    pub(super) fn closers_due(&self) -> Option<Instant> {
        let due = self.helpers.iter().filter_map(|(_, helper)| match helper {
            Helper::Closer(_, until) => *until,
            Helper::Records(_) | Helper::HungRelay | Helper::Other => None,
        });
        due.min()
    }

    pub(super) fn expire_closers(&mut self, now: Instant) {
        for (process, helper) in &mut self.helpers {
            if let Helper::Closer(_, until) = helper
                && until.take_if(|until| *until <= now).is_some()
            {
                process.kill_alone();
            }
        }
    }

    /// Closes what could not be closed before.
    pub(super) fn close_unclosed(&mut self) {
        self.close_unclosed_with(MOST_CLOSERS);
    }

    /// The same before another image is executed, which closes what is left and waits for it: however many there are
    /// that close something already.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn close_unclosed_now(&mut self) -> io::Result<()> {
        self.close_unclosed_with(usize::MAX);
        if self.unclosed.is_empty() {
            return Ok(());
        }
        Err(io::Error::other("no process could be started that closes what commands have sent"))
    }

    fn close_unclosed_with(&mut self, most: usize) {
        let unclosed = std::mem::take(&mut self.unclosed);
        let (terminals, commands): (Vec<_>, Vec<_>) =
            unclosed.into_iter().partition(|(what, _)| *what == Closes::Terminals);
        for (what, descriptors) in [(Closes::Terminals, terminals), (Closes::Commands, commands)] {
            let descriptors = descriptors.into_iter().map(|(_, descriptor)| descriptor).collect();
            self.close_with(what, descriptors, most);
        }
    }

    /// Opens the control socket to its group, or shuts it. A process of its own: the directory can make that wait.
    pub(super) fn let_members_in(&mut self, let_in: bool) -> io::Result<()> {
        let Some((path, file)) = self.control.file() else { return Ok(()) };
        let (ours, theirs) = Channel::pair()?;
        SessionLink::new(ours).try_send(&ToSession::LetMembersIn { path, file, let_in }, &[])?;
        let process = Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)?;
        self.await_end(process, Helper::Other);
        Ok(())
    }

    /// Ends a process with all that it has started.
    pub(super) fn end_family(&mut self, id: u32, process: OwnedFd) {
        let started = Channel::pair().and_then(|(ours, theirs)| {
            SessionLink::new(ours).try_send(&ToSession::EndFamily(id), &[process.as_fd()])?;
            Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)
        });
        match started {
            Ok(helper) => self.await_end(helper, Helper::Other),
            // Those that it has started may live on.
            Err(_) => Process::inherited(id, process).kill(),
        }
    }

    /// Ends a process without waiting for it.
    pub(super) fn dispose(&mut self, process: Process) {
        process.kill();
        self.await_end(process, Helper::Other);
    }

    /// Has the daemon's files removed at its end: somebody who lists their directory can make that wait.
    pub(super) fn remove_files(&mut self) {
        let control = self.control.file();
        let pid_file = self.pid_file.take().map(|file| (file.into_path(), None));
        let files: Vec<(PathBuf, Option<(u64, u64)>)> =
            control.map(|(path, file)| (path, Some(file))).into_iter().chain(pid_file).collect();
        let started = Channel::pair().and_then(|(ours, theirs)| {
            SessionLink::new(ours).try_send(&ToSession::RemoveFiles(files), &[])?;
            Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)
        });
        if let Ok(process) = started {
            process.wait_for(REMOVAL_TIME);
        }
    }
}
