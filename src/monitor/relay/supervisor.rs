//! Which relay serves, and which comes next: what has happened goes in, what is to be done comes out.
//!
//! ```text
//!                 ┌──────────────────────────── pause over ─────────────────────────┐
//!                 ▼                                                                 │
//! begin ──▶ Starting ──ready──▶ BringingUp ──brought up──▶ Serving            BackingOff
//!                 ▲                  ▲                      │  ▲ │                  ▲
//!                 │                  │        reload: start │  │ │ upgrade: ask     │
//!                 │                  │                      ▼  │ │ back             │
//!                 │             handed back            Replacing │                  │
//!                 │                  │                      │    │                  │
//!                 │                  │         ready: ask   ▼    ▼                  │
//!                 │                  └───────────────── HandingBack ──handed back──▶ Executing
//!                 │
//!                 └── the relay has ended, whatever the state ── Dying ◀── it was killed for a violation
//! ```
//! A [`Supervisor`] does no I/O and knows no clock. Whoever drives it reports each [`Event`] with the
//! [`Circumstances`] of that moment, and performs the [`Action`]s in their order before the next event. An action
//! that fails is an event of its own. At most two relays exist: the one that has the connections, and the one that
//! starts; connections are given to a relay only after the one before is gone, so each has one owner.

use std::time::Duration;

/// A relay that lived longer has not failed at once.
pub(in crate::monitor) const LIVED: Duration = Duration::from_secs(1);
/// Pause before the third relay in a row that failed at once; doubled for each further one.
pub(in crate::monitor) const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest such pause.
pub(in crate::monitor) const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Which relays there are, and what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum State {
    /// There is none. [`Event::PauseOver`] has the next one started.
    BackingOff,
    /// None has the connections; one is starting.
    Starting,
    /// A relay is told of every connection.
    BringingUp,
    /// A relay serves.
    Serving,
    /// A relay serves, and its successor is starting.
    Replacing,
    /// The relay hands back its connections.
    HandingBack(Heir),
    /// The relay was killed, and must have ended before another one gets its connections.
    Dying(Option<Next>),
    /// There is none, and another executable takes this process over.
    Executing,
    /// There is none, and none comes: the daemon ends.
    Ended,
}

/// To whom connections are handed back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Heir {
    /// The next relay, which is ready.
    Relay,
    /// The executable that takes this process over.
    Image,
    /// A relay that is to be started: the next one has failed meanwhile.
    Nobody,
}

/// How far the next relay is, while the one before dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Next {
    /// It enters its sandbox.
    Starting,
    /// It can be told of the connections.
    Ready,
}

/// What has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Event {
    /// The daemon begins, or goes on in another image.
    Begin,
    /// [`Action::Start`] failed.
    StartFailed,
    /// The next relay is in its sandbox.
    NextReady,
    /// The next relay has ended, misbehaved, or was not ready in time; it is gone.
    NextFailed,
    /// The relay knows every connection.
    BroughtUp,
    /// [`Action::BringUp`] failed; that relay is gone.
    BringUpFailed,
    /// [`Action::AskBack`] failed, and the relay goes on as it was.
    AskBackFailed,
    /// The relay has handed back everything.
    HandedBack,
    /// The relay did what its state does not permit.
    Violated,
    /// The relay's process has ended by itself.
    RelayEnded {
        /// How long it had lived.
        lived: Duration,
        /// It exited with status 0.
        clean: bool,
    },
    /// The relay hangs, or was late: it cannot be waited for.
    RelayHangs {
        /// How long it had lived.
        lived: Duration,
    },
    /// [`Action::Pause`] is over.
    PauseOver,
    /// The settings have changed.
    ReplaceWanted,
    /// [`Circumstances::upgrade`] has become true.
    UpgradePossible,
    /// [`Action::Execute`] failed.
    ExecuteFailed,
    /// The daemon is told to end.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Action {
    /// Start the next relay.
    Start,
    /// Report [`Event::PauseOver`] after this time.
    Pause(Duration),
    /// End the next relay, without waiting for that.
    EndNext,
    /// Tell the relay to hand back.
    AskBack,
    /// The relay has handed back: keep what it gave, and end it.
    Retire,
    /// Kill the relay, and report its end.
    Kill,
    /// Kill the relay, without waiting for its end.
    Abandon,
    /// The relay is lost, with what it knew.
    NoteLoss {
        /// So many in a row have failed at once.
        failures: u32,
        /// The next one is started after this time.
        pause: Duration,
    },
    /// The relay is lost, and nothing is left for another one.
    NoteEnd,
    /// The next relay becomes the relay: tell it of every connection.
    BringUp,
    /// The relay serves: answer whoever waits for that.
    Serve,
    /// The successor of the relay failed: say that the relay goes on, and answer whoever waits.
    KeepRelay,
    /// The relay cannot be asked back for an upgrade: answer whoever waits.
    RefuseUpgrade,
    /// Nothing is on its way: begin with what was asked for meanwhile.
    LookForOrders,
    /// Execute the other executable.
    Execute,
    /// No relay comes any more: close every connection.
    CloseAll,
    /// The only connection is over, or cannot be served: end the daemon.
    Leave,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::monitor) enum Ending {
    /// It does not.
    No,
    /// With its last connection.
    Draining,
    /// At once.
    Stopping,
}

/// What is so while something happens.
#[derive(Debug, Clone, Copy)]
pub(in crate::monitor) struct Circumstances {
    /// There is one connection, accepted by a superserver.
    pub single: bool,
    /// Connections with a session that is open.
    pub sessions: usize,
    /// How the daemon ends.
    pub ending: Ending,
    /// Another executable is ready to take over, and nothing is in its way.
    pub upgrade: bool,
}

/// See the [module's page](self).
#[derive(Debug)]
pub(in crate::monitor) struct Supervisor {
    state: State,
    /// How many relays in a row have failed at once.
    failures: u32,
    /// The relay is to be replaced when it serves.
    replace: bool,
}

impl Default for Supervisor {
    fn default() -> Self {
        Supervisor { state: State::BackingOff, failures: 0, replace: false }
    }
}

impl Supervisor {
    /// The state now.
    #[must_use]
    pub(in crate::monitor) fn state(&self) -> State {
        self.state
    }

    /// Takes note of what has happened. What makes no sense in the state changes nothing.
    #[must_use]
    pub(in crate::monitor) fn handle(&mut self, event: Event, now: &Circumstances) -> Vec<Action> {
        let mut actions = Vec::new();
        self.transit(event, now, &mut actions);
        actions
    }

    fn transit(&mut self, event: Event, now: &Circumstances, actions: &mut Vec<Action>) {
        use Event as E;
        use State as S;
        match (event, self.state) {
            (E::Begin, S::BackingOff) => self.restart(actions),
            (E::PauseOver, S::BackingOff) => self.start(S::Starting, actions),
            (E::StartFailed, S::Starting) => {
                self.failures += 1;
                self.back_off(self.pause().max(FIRST_PAUSE), actions);
            }
            (E::NextReady, S::Starting) => self.bring_up(actions),
            (E::NextReady, S::Replacing) => self.ask_back(Heir::Relay, actions),
            (E::NextReady, S::Dying(Some(Next::Starting))) => self.state = S::Dying(Some(Next::Ready)),
            (E::NextFailed, S::Starting) => self.next_failed(now, actions),
            (E::StartFailed | E::NextFailed, S::Replacing) => self.keep_relay(now, actions),
            (E::NextFailed, S::HandingBack(Heir::Relay)) => self.state = S::HandingBack(Heir::Nobody),
            (E::NextFailed, S::Dying(Some(_))) => self.state = S::Dying(None),
            (E::BringUpFailed, S::BringingUp) => self.restart(actions),
            (E::BroughtUp, S::BringingUp) => {
                actions.push(Action::Serve);
                self.serve(now.upgrade, actions);
            }
            (E::AskBackFailed, S::HandingBack(Heir::Image)) => {
                actions.push(Action::RefuseUpgrade);
                self.serve(false, actions);
            }
            (E::AskBackFailed, S::HandingBack(Heir::Relay)) => {
                actions.push(Action::EndNext);
                self.keep_relay(now, actions);
            }
            (E::HandedBack, S::HandingBack(heir)) => {
                actions.push(Action::Retire);
                self.succeed((heir == Heir::Relay).then_some(Next::Ready), now, actions);
            }
            (E::Violated, S::BringingUp | S::Serving | S::Replacing | S::HandingBack(_)) => {
                actions.push(Action::Kill);
                self.state = S::Dying(self.next());
            }
            (E::RelayEnded { lived, clean }, state) if state.has_relay() => {
                self.lost(lived, clean, now, actions);
            }
            (E::RelayHangs { lived }, state) if state.has_relay() => {
                actions.push(Action::Abandon);
                self.lost(lived, false, now, actions);
            }
            (E::ReplaceWanted, S::Serving) => self.start(S::Replacing, actions),
            // The next relay to be started has the new settings.
            (E::ReplaceWanted, S::BackingOff | S::Executing | S::Ended | S::Dying(None)) => {}
            (E::ReplaceWanted, _) => self.replace = true,
            (E::UpgradePossible, S::Serving) => self.ask_back(Heir::Image, actions),
            (E::UpgradePossible, S::BackingOff) => self.execute(actions),
            (E::ExecuteFailed, S::Executing) => self.restart(actions),
            (E::Stop, S::BackingOff) => self.end(Action::CloseAll, actions),
            _ => {}
        }
    }

    /// The next relay, if there is one.
    fn next(&self) -> Option<Next> {
        match self.state {
            State::Starting | State::Replacing => Some(Next::Starting),
            State::HandingBack(Heir::Relay) => Some(Next::Ready),
            State::Dying(next) => next,
            State::BackingOff
            | State::BringingUp
            | State::Serving
            | State::HandingBack(Heir::Image | Heir::Nobody)
            | State::Executing
            | State::Ended => None,
        }
    }

    fn start(&mut self, state: State, actions: &mut Vec<Action>) {
        self.state = state;
        // It has the newest settings.
        self.replace = false;
        actions.push(Action::Start);
    }

    /// Has a relay started, at once or after a pause.
    fn restart(&mut self, actions: &mut Vec<Action>) {
        match self.pause() {
            Duration::ZERO => self.start(State::Starting, actions),
            pause => self.back_off(pause, actions),
        }
    }

    fn back_off(&mut self, pause: Duration, actions: &mut Vec<Action>) {
        self.state = State::BackingOff;
        actions.push(Action::Pause(pause));
    }

    fn pause(&self) -> Duration {
        match self.failures {
            0 | 1 => Duration::ZERO,
            failures => (FIRST_PAUSE * 2_u32.saturating_pow(failures - 2)).min(LONGEST_PAUSE),
        }
    }

    fn bring_up(&mut self, actions: &mut Vec<Action>) {
        self.state = State::BringingUp;
        actions.push(Action::BringUp);
    }

    fn ask_back(&mut self, heir: Heir, actions: &mut Vec<Action>) {
        self.state = State::HandingBack(heir);
        actions.push(Action::AskBack);
    }

    fn execute(&mut self, actions: &mut Vec<Action>) {
        self.state = State::Executing;
        actions.push(Action::Execute);
    }

    fn end(&mut self, action: Action, actions: &mut Vec<Action>) {
        self.state = State::Ended;
        actions.push(action);
    }

    /// The relay serves: goes on with what was asked for meanwhile.
    fn serve(&mut self, upgrade: bool, actions: &mut Vec<Action>) {
        self.state = State::Serving;
        if upgrade {
            self.ask_back(Heir::Image, actions);
        } else if self.replace {
            self.start(State::Replacing, actions);
        } else {
            actions.push(Action::LookForOrders);
        }
    }

    /// The relay that serves has no successor.
    fn keep_relay(&mut self, now: &Circumstances, actions: &mut Vec<Action>) {
        actions.push(Action::KeepRelay);
        self.serve(now.upgrade, actions);
    }

    fn next_failed(&mut self, now: &Circumstances, actions: &mut Vec<Action>) {
        self.failures += 1;
        if now.single && now.sessions == 0 {
            // Its superserver may start us again; strangers must not pile us up.
            self.end(Action::Leave, actions);
        } else {
            self.restart(actions);
        }
    }

    /// The relay is gone, and what it knew with it.
    fn lost(&mut self, lived: Duration, clean: bool, now: &Circumstances, actions: &mut Vec<Action>) {
        let next = self.next();
        let last = now.sessions == 0 && (now.single || (clean && now.ending != Ending::No));
        if last || now.ending == Ending::Stopping {
            actions.extend(next.map(|_| Action::EndNext));
            if !clean && now.ending != Ending::Stopping {
                actions.push(Action::NoteEnd);
            }
            let action = if now.single && now.sessions == 0 { Action::Leave } else { Action::CloseAll };
            return self.end(action, actions);
        }
        self.failures = if lived < LIVED { self.failures + 1 } else { 0 };
        let pause = if next.is_none() { self.pause() } else { Duration::ZERO };
        actions.push(Action::NoteLoss { failures: self.failures, pause });
        self.succeed(next, now, actions);
    }

    /// No relay has the connections: the next one gets them, or the other executable.
    fn succeed(&mut self, next: Option<Next>, now: &Circumstances, actions: &mut Vec<Action>) {
        if now.upgrade {
            actions.extend(next.map(|_| Action::EndNext));
            return self.execute(actions);
        }
        match next {
            Some(Next::Ready) => self.bring_up(actions),
            Some(Next::Starting) => self.state = State::Starting,
            None => self.restart(actions),
        }
    }
}

impl State {
    /// Whether a relay has the connections.
    #[must_use]
    pub(in crate::monitor) fn has_relay(self) -> bool {
        match self {
            State::BringingUp
            | State::Serving
            | State::Replacing
            | State::HandingBack(_)
            | State::Dying(_) => true,
            State::BackingOff | State::Starting | State::Executing | State::Ended => false,
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SERVING: Circumstances =
        Circumstances { single: false, sessions: 3, ending: Ending::No, upgrade: false };
    const LONG: Duration = Duration::from_secs(60);

    /// A supervisor to which this has happened; all of it means something.
    fn after(events: &[Event], now: &Circumstances) -> Supervisor {
        let mut supervisor = Supervisor::default();
        for event in events {
            let before = supervisor.state();
            let actions = supervisor.handle(*event, now);
            assert!(!actions.is_empty() || supervisor.state() != before, "{event:?} in {before:?}");
        }
        supervisor
    }

    const UP: [Event; 3] = [Event::Begin, Event::NextReady, Event::BroughtUp];

    #[test]
    fn reload_replaces_relay_after_it_has_handed_back() {
        let mut relay = after(&UP, &SERVING);
        let steps = [
            (Event::ReplaceWanted, vec![Action::Start], State::Replacing),
            (Event::NextReady, vec![Action::AskBack], State::HandingBack(Heir::Relay)),
            (Event::HandedBack, vec![Action::Retire, Action::BringUp], State::BringingUp),
            (Event::BroughtUp, vec![Action::Serve, Action::LookForOrders], State::Serving),
        ];
        for (event, actions, state) in steps {
            assert_eq!((relay.handle(event, &SERVING), relay.state()), (actions, state), "{event:?}");
        }
    }

    #[test]
    fn relays_that_fail_at_once_are_started_after_pauses_that_double() {
        let mut relay = after(&UP, &SERVING);
        let died = Event::RelayEnded { lived: Duration::ZERO, clean: false };
        let mut pauses = Vec::new();
        for _ in 0..11 {
            let actions = relay.handle(died, &SERVING);
            let [Action::NoteLoss { pause, .. }, next] = actions[..] else { panic!("{actions:?}") };
            if pause.is_zero() {
                assert_eq!(next, Action::Start);
            } else {
                assert_eq!(next, Action::Pause(pause));
                assert_eq!(relay.handle(Event::PauseOver, &SERVING), [Action::Start]);
            }
            pauses.push(pause.as_millis());
            let _ = relay.handle(Event::NextReady, &SERVING);
            let _ = relay.handle(Event::BroughtUp, &SERVING);
        }
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        let _ = relay.handle(Event::RelayEnded { lived: LIVED, clean: false }, &SERVING);
        assert_eq!(relay.state(), State::Starting, "one that has lived begins anew");
    }

    #[test]
    fn connections_wait_for_the_death_of_a_relay_that_was_killed() {
        let mut relay = after(&[&UP[..], &[Event::ReplaceWanted]].concat(), &SERVING);
        assert_eq!(relay.handle(Event::Violated, &SERVING), [Action::Kill]);
        assert_eq!(relay.handle(Event::Violated, &SERVING), []);
        assert_eq!(relay.handle(Event::NextReady, &SERVING), []);
        let actions = relay.handle(Event::RelayEnded { lived: LONG, clean: false }, &SERVING);
        assert_eq!(actions, [Action::NoteLoss { failures: 0, pause: Duration::ZERO }, Action::BringUp]);
        let mut relay = after(&[&UP[..], &[Event::Violated]].concat(), &SERVING);
        let actions = relay.handle(Event::RelayHangs { lived: LONG }, &SERVING);
        let loss = Action::NoteLoss { failures: 0, pause: Duration::ZERO };
        assert_eq!(actions, [Action::Abandon, loss, Action::Start], "it does not die");
    }

    #[test]
    fn upgrade_has_the_relay_hand_back_and_serves_again_when_it_fails() {
        let possible = Circumstances { upgrade: true, ..SERVING };
        let mut relay = after(&UP, &SERVING);
        assert_eq!(relay.handle(Event::UpgradePossible, &possible), [Action::AskBack]);
        assert_eq!(relay.handle(Event::ReplaceWanted, &possible), []);
        assert_eq!(relay.handle(Event::HandedBack, &possible), [Action::Retire, Action::Execute]);
        assert_eq!(relay.handle(Event::ExecuteFailed, &SERVING), [Action::Start]);
        let _ = relay.handle(Event::NextReady, &SERVING);
        let actions = relay.handle(Event::BroughtUp, &SERVING);
        assert_eq!(actions, [Action::Serve, Action::LookForOrders], "the new relay has the new settings");
        let _ = relay.handle(Event::UpgradePossible, &possible);
        let actions = relay.handle(Event::AskBackFailed, &possible);
        assert_eq!(actions, [Action::RefuseUpgrade, Action::LookForOrders]);
        assert_eq!(relay.state(), State::Serving);
    }

    #[test]
    fn relay_of_one_connection_ends_the_daemon_and_one_of_a_drained_daemon_is_not_replaced() {
        let single = Circumstances { single: true, sessions: 0, ..SERVING };
        let ended = Event::RelayEnded { lived: LONG, clean: true };
        assert_eq!(after(&UP, &single).handle(ended, &single), [Action::Leave]);
        let died = Event::RelayEnded { lived: LONG, clean: false };
        assert_eq!(after(&UP, &single).handle(died, &single), [Action::NoteEnd, Action::Leave]);
        assert_eq!(after(&UP[..1], &single).handle(Event::NextFailed, &single), [Action::Leave]);
        let drained = Circumstances { sessions: 0, ending: Ending::Draining, ..SERVING };
        assert_eq!(after(&UP, &drained).handle(ended, &drained), [Action::CloseAll]);
        let stopping = Circumstances { ending: Ending::Stopping, ..SERVING };
        let mut relay = after(&UP, &SERVING);
        assert_eq!((relay.handle(died, &stopping), relay.state()), (vec![Action::CloseAll], State::Ended));
    }
}
