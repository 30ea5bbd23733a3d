//! The monitor's side of the records worker: there is one at a time, and the monitor waits for nothing
//! of it but its end.

use super::upgrade::state::RecordsState;
use super::*;
use crate::config::Records;
use crate::records::worker::{Killed, Task};
use crate::records::{Pending, PendingCause};
use crate::sys::memory_file;
use crate::sys::process::End;
use crate::sys::records::{UTMP, WTMP};

/// How long after a failure the worker is started again.
const RETRY: Duration = Duration::from_secs(60);
/// The most sessions that the worker is told of, of each kind. The others' entries tell it most of that.
const MOST: usize = 1024;

/// What the records worker has to do, and whether it is at it.
#[derive(Debug, Default)]
pub(super) struct RecordsQueue {
    /// What it has to know. What it was told of stays at the front, until it has succeeded.
    task: Task,
    /// How much of that the worker has that runs.
    running: Option<(usize, usize)>,
    /// Something has come since it was started.
    again: bool,
    /// The log has said that the records are behind.
    is_behind: bool,
    /// It has failed, and is started again then.
    retry_at: Option<Instant>,
    /// When the log has said last that sessions have no entry in the registry.
    registry_failed: Option<Instant>,
}

impl RecordsQueue {
    /// What goes on in the next image.
    pub(super) fn leave(&self) -> RecordsState {
        let is_due = self.again || self.running.is_some() || self.retry_at.is_some();
        RecordsState { task: self.task.clone(), is_due, is_behind: self.is_behind }
    }
}

impl Monitor {
    /// A session could not write its records in time.
    pub(super) fn records_are_pending(&mut self, pending: Pending, now: Instant) {
        let Pending { cause, record } = pending;
        if self.records.task.records.len() < MOST {
            self.records.task.records.extend(record);
        }
        match cause {
            PendingCause::Blocked => {
                let why = format!(
                    "another process holds the lock of {UTMP} or {WTMP}; they are written when it is free"
                );
                self.records_are_behind(&why, now);
            }
            // The worker tries at once, and says it if it fails, too.
            PendingCause::Failed => {}
        }
        self.write_records(now);
    }

    /// A session has no entry in the registry.
    pub(super) fn registry_failed(&mut self, why: &str, now: Instant) {
        let recently = |said: Instant| now.saturating_duration_since(said) < RETRY;
        if !self.records.registry_failed.is_some_and(recently) {
            self.records.registry_failed = Some(now);
            self.warn(format!("{why}; login records of sessions that are killed stay open"), now);
        }
    }

    fn records_are_behind(&mut self, why: &str, now: Instant) {
        if !std::mem::replace(&mut self.records.is_behind, true) {
            self.warn(format!("login records are behind: {why}"), now);
        }
    }

    /// A session process has left its records as they were.
    pub(super) fn close_records_of(&mut self, killed: Killed, now: Instant) {
        if self.config.audit.records == Records::No {
            return;
        }
        // One that runs has to know when it was, before it finds the process gone.
        let _ = self.tell_records_worker(&Task { killed: vec![killed.clone()], records: Vec::new() });
        if self.records.task.killed.len() < MOST {
            self.records.task.killed.push(killed);
        }
        self.write_records(now);
    }

    /// Has the worker look at the records, now or when it has ended.
    pub(super) fn write_records(&mut self, now: Instant) {
        if self.records.running.is_some() {
            self.records.again = true;
        } else if self.records.retry_at.is_none()
            && let Err(error) = self.start_records_worker()
        {
            self.retry_records(&format!("no process can be started to write them: {error}"), now);
        }
    }

    fn start_records_worker(&mut self) -> io::Result<()> {
        let task = &self.records.task;
        let running = Some((task.killed.len(), task.records.len()));
        let descriptors = self.to_records_worker(task)?;
        let (ours, theirs) = Channel::pair()?;
        let mut link = SessionLink::new(ours);
        link.set_nonblocking()?;
        link.send(&ToSession::WriteRecords, descriptors)?;
        let process = Process::start_role(&mut self.launcher, &self.image, SESSION_ROLE, theirs)?;
        self.records.running = running;
        self.await_end(process, Helper::Records(Some(link)));
        Ok(())
    }

    /// What comes with `WriteRecords`.
    fn to_records_worker(&self, task: &Task) -> io::Result<Vec<OwnedFd>> {
        let task = memory_file::write(&postcard::to_stdvec(task).map_err(io::Error::other)?)?;
        Ok(vec![self.shared.try_clone()?, task])
    }

    /// Tells the worker that runs. Best effort: the next one is told as well.
    fn tell_records_worker(&mut self, task: &Task) -> io::Result<()> {
        if self.records.running.is_none() {
            return Ok(());
        }
        let descriptors = self.to_records_worker(task)?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        for (_, helper) in &mut self.helpers {
            if let Helper::Records(Some(link)) = helper {
                // While it waits for a lock it does not read.
                link.try_send(&ToSession::WriteRecords, &borrowed)?;
            }
        }
        Ok(())
    }

    fn retry_records(&mut self, why: &str, now: Instant) {
        self.records.retry_at = Some(now + RETRY);
        self.records_are_behind(&format!("{why}; another try follows in {} s", RETRY.as_secs()), now);
    }

    pub(super) fn bury_records_worker(
        &mut self,
        outcome: io::Result<Option<End>>,
        link: Option<SessionLink>,
        now: Instant,
    ) {
        let running = self.records.running.take();
        let again = std::mem::take(&mut self.records.again);
        let succeeded = match link.map(|mut link| link.receive()) {
            Some(Ok(Incoming::Message(FromSession::StaleClosed(count), _))) => {
                self.warn(format!("closed {count} stale login records left by killed sessions"), now);
                Ok(())
            }
            Some(Ok(Incoming::Message(FromSession::RecordsBusy, _))) => {
                Err("another rlogind process is about to write them".to_owned())
            }
            Some(Ok(Incoming::Message(FromSession::RecordsFailed(error), _))) => Err(error),
            Some(
                Ok(
                    Incoming::Message(
                        FromSession::Event(_)
                        | FromSession::Finished(_)
                        | FromSession::RecordsPending(_)
                        | FromSession::Shown(_)
                        | FromSession::FlowControl(_)
                        | FromSession::Resized
                        | FromSession::Looked(_)
                        | FromSession::RegistryFailed(_)
                        | FromSession::ModuleLine { .. },
                        _,
                    )
                    | Incoming::Nothing
                    | Incoming::Closed,
                )
                | Err(_),
            )
            | None => match outcome {
                Ok(Some(End::Exited(0))) => Ok(()),
                Ok(Some(end)) => Err(format!("the process that writes them {end}")),
                Ok(None) => Err("the process that writes them is not known any more".to_owned()),
                Err(error) => Err(format!("the process that writes them cannot be waited for: {error}")),
            },
        };
        if let Err(why) = succeeded {
            return self.retry_records(&why, now);
        }
        let (killed, records) = running.unwrap_or_default();
        self.records.task.killed.drain(..killed.min(self.records.task.killed.len()));
        self.records.task.records.drain(..records.min(self.records.task.records.len()));
        if again {
            self.write_records(now);
        } else if std::mem::take(&mut self.records.is_behind) {
            self.warn("login records are up to date again".to_owned(), now);
        }
    }

    pub(super) fn records_due(&self) -> Option<Instant> {
        self.records.retry_at
    }

    pub(super) fn expire_records(&mut self, now: Instant) {
        if self.records.retry_at.is_some_and(|time| time <= now) {
            self.records.retry_at = None;
            self.write_records(now);
        }
    }

    /// Goes on with what the image before has left. Its worker may run still.
    pub(super) fn take_records(&mut self, state: RecordsState, now: Instant) {
        let RecordsState { task, is_due, is_behind } = state;
        let is_running = self.helpers.iter().any(|(_, helper)| matches!(helper, Helper::Records(_)));
        self.records = RecordsQueue {
            task,
            // It is told of everything again: what is written is not written twice.
            running: is_running.then_some((0, 0)),
            again: is_due && is_running,
            is_behind,
            retry_at: (is_due && !is_running).then_some(now),
            registry_failed: None,
        };
    }
}
