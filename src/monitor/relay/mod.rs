//! The relays: the one that has the connections, and the one that takes over next.
//!
//! [`supervisor`] decides, as a table without I/O; the other files do what it asks for and report what happened.
//!
//! | file | what it does |
//! |---|---|
//! | `supervisor.rs` | which relay serves and which comes next |
//! | `process.rs` | one relay: its process, its link, what it may do |
//! | `succession.rs` | starting, asking back, ending relays |
//! | `bring_up.rs` | what a new relay is told before it serves |
//! | `messages.rs` | what the relay says, and is told |
//! | `watchdog.rs` | noticing that it hangs |

mod bring_up;
mod messages;
mod process;
mod succession;
pub(super) mod supervisor;
mod watchdog;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::deadline::Deadline;
use super::{ConnectionId, Monitor};
use bring_up::BringUpMessage;
use process::RelayProcess;
use supervisor::{Action, Circumstances, Ending, Event, State, Supervisor};

/// The monitor's relays.
#[derive(Debug)]
pub(super) struct Relays {
    supervisor: Supervisor,
    /// What is to be reported when the action is done that it comes of; `None`: no action goes on.
    reports: Option<VecDeque<Event>>,
    /// The relay that has the connections.
    pub(super) current: Option<RelayProcess>,
    /// The relay that takes over when it is ready.
    pub(super) next: Option<RelayProcess>,
    /// Not all that the relay said has been heard.
    pub(super) has_more: bool,
    /// The terminals are to be asked for their flow control when a relay serves.
    pub(super) ask_flow_control: bool,
    /// The ids of the next relay's connections begin there.
    pub(super) next_ids: u64,
    /// The relay hands back what it knows.
    handover: Option<PendingHandover>,
    /// What the next relay is to have of the one before.
    pub(super) inheritance: Inheritance,
    /// What the relay still has to be told before it serves.
    bring_up: VecDeque<BringUpMessage>,
    /// When a relay is to be started.
    start_at: Option<Instant>,
    /// Why the relay is lost, or cannot be asked back; for the log.
    reason: String,
}

/// What relays have left for the next one.
#[derive(Debug, Default)]
pub(super) struct Inheritance {
    /// The state of all connections.
    pub(super) file: Option<OwnedFd>,
    /// The sockets of those that have no session.
    pub(super) carried: Vec<(ConnectionId, OwnedFd)>,
    /// Answers for which there was nobody.
    pub(super) refusals: Vec<(ConnectionId, String)>,
}

/// The relay has been told to hand back.
#[derive(Debug)]
struct PendingHandover {
    deadline: Deadline,
    file: OwnedFd,
}

impl Default for Relays {
    fn default() -> Self {
        Relays {
            supervisor: Supervisor::default(),
            reports: None,
            current: None,
            next: None,
            has_more: false,
            ask_flow_control: false,
            next_ids: 1,
            handover: None,
            inheritance: Inheritance::default(),
            bring_up: VecDeque::new(),
            start_at: None,
            reason: String::new(),
        }
    }
}

impl Relays {
    fn is_dying(&self) -> bool {
        matches!(self.supervisor.state(), State::Dying(_))
    }

    pub(super) fn is_handing_back(&self) -> bool {
        matches!(self.supervisor.state(), State::HandingBack(_))
    }
}

impl Monitor {
    /// Reports to the supervisor what has happened, and does what it asks for.
    pub(super) fn supervise(&mut self, event: Event, now: Instant) {
        if let Some(reports) = &mut self.relays.reports {
            // It came of an action, which is finished first.
            return reports.push_back(event);
        }
        self.relays.reports = Some(VecDeque::from([event]));
        while let Some(event) = self.relays.reports.as_mut().and_then(VecDeque::pop_front) {
            let circumstances = self.circumstances();
            for action in self.relays.supervisor.handle(event, &circumstances) {
                self.perform(action, now);
            }
        }
        self.relays.reports = None;
    }

    pub(super) fn circumstances(&self) -> Circumstances {
        Circumstances {
            single: self.only_connection,
            sessions: self.sessions.values().filter(|session| session.life.is_connected()).count(),
            ending: match &self.leaving {
                None => Ending::No,
                Some(leaving) if leaving.stop.is_none() => Ending::Draining,
                Some(_) => Ending::Stopping,
            },
            upgrade: self.upgrade_is_due() && self.guard.is_none() && !self.is_about_to_be_asked(),
        }
    }

    fn perform(&mut self, action: Action, now: Instant) {
        match action {
            Action::Start => self.try_to_start_relay(now),
            Action::Pause(time) => self.relays.start_at = Some(now + time),
            Action::EndNext => {
                if let Some(next) = self.take_next() {
                    self.dispose(next.process);
                }
            }
            Action::AskBack => self.ask_back(now),
            Action::Retire => self.retire_relay(),
            Action::Kill => self.kill_relay(now),
            Action::Abandon => self.abandon_relay(),
            Action::NoteLoss { failures, pause } => self.note_loss(failures, pause, now),
            Action::NoteEnd => {
                let what = std::mem::take(&mut self.relays.reason);
                self.warn(format!("{what}, before its connection was over"), now);
            }
            Action::BringUp => self.bring_up(now),
            Action::Serve | Action::KeepRelay => self.serving(now),
            Action::RefuseUpgrade => {
                let why = std::mem::take(&mut self.relays.reason);
                self.no_upgrade(&why, now);
            }
            Action::LookForOrders => {
                if self.rehearsal.is_none() {
                    // Asked for while another image took over.
                    self.go_on_with_rehearsals(now);
                }
            }
            Action::Execute => self.execute_successor(now),
            Action::CloseAll => self.close_all(now),
            Action::Leave => self.leave("the connection is closed", now),
        }
    }
}
