//! Processes that can be spared: they do what may wait for somebody else, and nobody waits for them.

use std::path::PathBuf;

use super::*;
use crate::sys::channel::MAX_DESCRIPTORS;

/// The most of them that close descriptors at the same time: more are there only when somebody makes them wait
/// on purpose.
const MOST_CLOSERS: usize = 64;
/// So many of them, and commands are not heard until there are less: the others are for terminals.
const MOST_FOR_COMMANDS: usize = 32;
/// When one is killed: waiting for a network ends with that, and what it has is closed all the same.
const CLOSING_TIME: Duration = Duration::from_secs(5);
/// How long the end of the daemon waits for its files to be removed.
const REMOVAL_TIME: Duration = Duration::from_secs(1);

impl Monitor {
    /// Has descriptors closed whose close may wait: the last leader of a terminal for its user, a stranger's
    /// socket for its network.
    pub(super) fn close_elsewhere(&mut self, mut descriptors: Vec<OwnedFd>) {
        while !descriptors.is_empty() {
            let rest = descriptors.split_off(descriptors.len().min(MAX_DESCRIPTORS));
            let batch = std::mem::replace(&mut descriptors, rest);
            match self.start_closer(&batch) {
                Ok(link) => {
                    // In this order: the end of the channel tells the process that ours are closed.
                    drop(batch);
                    drop(link);
                }
                // Closed here they could stop everything: tried again when a process has ended.
                Err(_) => self.unclosed.extend(batch),
            }
        }
    }

    fn start_closer(&mut self, descriptors: &[OwnedFd]) -> io::Result<SessionLink> {
        if self.closers() >= MOST_CLOSERS {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (ours, theirs) = Channel::pair()?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut link = SessionLink::new(ours);
        link.try_send(&ToSession::CloseDescriptors, &borrowed)?;
        let process = Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)?;
        self.await_end(process, Helper::Closer(Some(Instant::now() + CLOSING_TIME)));
        Ok(link)
    }

    fn closers(&self) -> usize {
        self.helpers.iter().filter(|(_, helper)| matches!(helper, Helper::Closer(_))).count()
    }

    /// Whether so much is being closed that what commands send has to wait.
    pub(super) fn closes_enough(&self) -> bool {
        !self.unclosed.is_empty() || self.closers() >= MOST_FOR_COMMANDS
    }

    /// When a process that closes descriptors has had its time.
    pub(super) fn closers_due(&self) -> Option<Instant> {
        let due = self.helpers.iter().filter_map(|(_, helper)| match helper {
            Helper::Closer(until) => *until,
            Helper::Records(_) | Helper::HungRelay | Helper::Other => None,
        });
        due.min()
    }

    pub(super) fn expire_closers(&mut self, now: Instant) {
        for (process, helper) in &mut self.helpers {
            if let Helper::Closer(until) = helper
                && until.take_if(|until| *until <= now).is_some()
            {
                process.kill_alone();
            }
        }
    }

    /// Closes what could not be closed before.
    pub(super) fn close_unclosed(&mut self) {
        let unclosed = std::mem::take(&mut self.unclosed);
        self.close_elsewhere(unclosed);
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
