//! Random histories: whatever happens, every connection has one owner at most, something is always on its way,
//! and every order comes to an end.

use super::*;

/// So many histories in one run of the test. RLOGIND_HISTORIES asks for another number.
const HISTORIES: u64 = 100_000;
/// The most events of one history, before nothing fails any more.
const EVENTS: u64 = 60;
/// When nothing fails any more, all comes to rest after so many events.
const UNTIL_REST: usize = 24;

/// A generator of pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, number: u64) -> bool {
        self.below(number) == 0
    }
}

/// A relay's process as the monitor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relay {
    Starting,
    Ready,
    BringingUp,
    Serving,
    HandingBack,
    Killed,
}

/// How far a reload is, as for the command that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reload {
    /// The settings have changed, and no relay has been started since.
    Applied,
    /// One has.
    Started,
}

/// The monitor around a supervisor.
struct World {
    random: Random,
    supervisor: Supervisor,
    now: Circumstances,
    relay: Option<Relay>,
    next: Option<Relay>,
    timer: bool,
    reloads: Vec<Reload>,
    /// The daemon has ended, or another image has taken over.
    over: bool,
    /// Nothing fails any more.
    calm: bool,
    history: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let single = random.one_in(8);
        World {
            supervisor: Supervisor::default(),
            now: Circumstances { single, sessions: 1, ending: Ending::No, upgrade: false },
            relay: None,
            next: None,
            timer: false,
            reloads: Vec::new(),
            over: false,
            calm: false,
            history: Vec::new(),
            random,
        }
    }

    fn happen(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let actions = self.supervisor.handle(event, &self.now);
            self.history.push(format!("{event:?} -> {:?} {actions:?}", self.supervisor.state()));
            let mut failures =
                actions.into_iter().filter_map(|action| self.perform(action)).collect::<Vec<_>>();
            assert!(failures.len() <= 1, "only the last action can fail");
            events.append(&mut failures);
        }
        self.check();
    }

    fn fails(&mut self) -> bool {
        !self.calm && self.random.one_in(8)
    }

    /// Does what the monitor would do. Returns what comes of it at once.
    fn perform(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start => {
                assert_eq!(self.next, None, "a third relay is started");
                // The attempt is enough: it is what the command waits for.
                self.reloads.fill(Reload::Started);
                if self.fails() {
                    return Some(Event::StartFailed);
                }
                self.next = Some(Relay::Starting);
            }
            Action::Pause(time) => {
                assert!(!time.is_zero() && time <= LONGEST_PAUSE && !self.timer);
                self.timer = true;
            }
            Action::EndNext => assert!(self.next.take().is_some(), "no next relay to be ended"),
            Action::AskBack => {
                assert_eq!(self.relay, Some(Relay::Serving), "asked back when it does not serve");
                if self.fails() {
                    return Some(Event::AskBackFailed);
                }
                self.relay = Some(Relay::HandingBack);
            }
            Action::Retire => assert_eq!(self.relay.take(), Some(Relay::HandingBack)),
            Action::Kill => self.relay = self.relay.map(|_| Relay::Killed),
            Action::Abandon => assert!(self.relay.take().is_some(), "no relay to be given up"),
            Action::NoteLoss { .. } | Action::NoteEnd => assert_eq!(self.relay, None),
            Action::BringUp => {
                assert_eq!(self.relay, None, "connections have two owners");
                assert_eq!(self.next.take(), Some(Relay::Ready));
                if self.fails() {
                    return Some(Event::BringUpFailed);
                }
                self.relay = Some(Relay::BringingUp);
            }
            Action::Serve | Action::KeepRelay => {
                assert_eq!(self.relay, Some(Relay::Serving));
                self.reloads.retain(|reload| *reload == Reload::Applied);
            }
            Action::RefuseUpgrade => self.now.upgrade = false,
            Action::LookForOrders => assert!(!self.now.upgrade, "an upgrade was forgotten"),
            Action::Execute => {
                assert_eq!((self.relay, self.next), (None, None), "executed beside a relay");
                assert!(std::mem::take(&mut self.now.upgrade), "nothing to be executed");
                self.timer = false;
                if self.fails() {
                    return Some(Event::ExecuteFailed);
                }
                self.over = true;
            }
            Action::CloseAll => {
                assert_eq!(self.relay, None);
                (self.now.sessions, self.over, self.timer) = (0, true, false);
            }
            Action::Leave => {
                assert!(self.now.single && self.now.sessions == 0 && self.relay.is_none());
                self.over = true;
            }
        }
        None
    }

    /// The state says what there is.
    fn check(&self) {
        let (relay, next) = (self.relay, self.next);
        let (starting, ready) = (Some(Relay::Starting), Some(Relay::Ready));
        let right = match self.supervisor.state() {
            State::BackingOff => (relay, next, self.timer) == (None, None, true),
            State::Starting => (relay, next) == (None, starting),
            State::BringingUp => (relay, next) == (Some(Relay::BringingUp), None),
            State::Serving => (relay, next) == (Some(Relay::Serving), None),
            State::Replacing => (relay, next) == (Some(Relay::Serving), starting),
            State::HandingBack(Heir::Relay) => (relay, next) == (Some(Relay::HandingBack), ready),
            State::HandingBack(_) => (relay, next) == (Some(Relay::HandingBack), None),
            State::Dying(None) => (relay, next) == (Some(Relay::Killed), None),
            State::Dying(Some(Next::Starting)) => (relay, next) == (Some(Relay::Killed), starting),
            State::Dying(Some(Next::Ready)) => (relay, next) == (Some(Relay::Killed), ready),
            State::Executing => self.over,
            State::Ended => self.over && (relay, next) == (None, None),
        };
        assert!(right, "{:?} with {relay:?}, {next:?}", self.supervisor.state());
    }

    /// What may happen next. Without failures it is what has to happen.
    fn possible(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        if self.next == Some(Relay::Starting) {
            events.push(Event::NextReady);
        }
        match self.relay {
            Some(Relay::BringingUp) => events.push(Event::BroughtUp),
            Some(Relay::HandingBack) => events.push(Event::HandedBack),
            Some(Relay::Killed) => events.push(Event::RelayEnded { lived: self.lived(), clean: false }),
            Some(_) | None => {}
        }
        if self.timer && self.supervisor.state() == State::BackingOff {
            events.push(Event::PauseOver);
        }
        if self.calm {
            return events;
        }
        if self.next.is_some() {
            events.push(Event::NextFailed);
        }
        if let Some(relay) = self.relay {
            let clean = self.random.one_in(3) && relay != Relay::Killed;
            events.push(Event::RelayEnded { lived: self.lived(), clean });
            events.push(Event::RelayHangs { lived: self.lived() });
            events.push(Event::Violated);
        }
        events.push(Event::ReplaceWanted);
        events.push(Event::UpgradePossible);
        if self.random.one_in(4) {
            events.push(Event::Stop);
        }
        events
    }

    fn lived(&mut self) -> Duration {
        if self.random.one_in(2) { Duration::ZERO } else { LIVED }
    }

    /// One thing happens to the monitor.
    fn step(&mut self) {
        let events = self.possible();
        let choice = self.random.below(events.len() as u64);
        let Some(event) = events.get(usize::try_from(choice).unwrap()).copied() else { return };
        match event {
            Event::NextReady => self.next = Some(Relay::Ready),
            Event::NextFailed => self.next = None,
            Event::BroughtUp => self.relay = Some(Relay::Serving),
            Event::RelayEnded { .. } => self.relay = None,
            Event::PauseOver => self.timer = false,
            Event::ReplaceWanted => {
                if self.now.single || self.now.ending == Ending::Stopping {
                    return;
                }
                self.reloads.push(Reload::Applied);
            }
            Event::UpgradePossible => {
                if self.now.single || self.now.ending == Ending::Stopping {
                    return;
                }
                self.now.upgrade = true;
            }
            Event::Stop => {
                if self.now.ending == Ending::Stopping {
                    return;
                }
                (self.now.ending, self.now.upgrade) = (Ending::Stopping, false);
            }
            // These happen to the supervisor alone.
            Event::Begin
            | Event::StartFailed
            | Event::BringUpFailed
            | Event::AskBackFailed
            | Event::HandedBack
            | Event::Violated
            | Event::RelayHangs { .. }
            | Event::ExecuteFailed => {}
        }
        self.happen(event);
    }

    fn run(&mut self) {
        self.happen(Event::Begin);
        for _ in 0..self.random.below(EVENTS) {
            if self.over {
                return;
            }
            match self.random.below(12) {
                0 => self.now.sessions = usize::try_from(self.random.below(3)).unwrap(),
                1 if self.now.ending == Ending::No => self.now.ending = Ending::Draining,
                // A command is about to say what it wants: the upgrade waits for it.
                2 => self.now.upgrade = false,
                _ => self.step(),
            }
        }
        self.come_to_rest();
    }

    /// From here on nothing fails: the daemon serves, and nobody waits for an answer.
    fn come_to_rest(&mut self) {
        self.calm = true;
        for _ in 0..UNTIL_REST {
            if self.over {
                return;
            }
            if self.possible().is_empty() {
                break;
            }
            self.step();
        }
        assert_eq!(self.supervisor.state(), State::Serving, "it does not come to rest");
        assert!(self.reloads.is_empty(), "a reload is not answered: {:?}", self.reloads);
        assert!(!self.now.upgrade, "an upgrade does not begin");
    }
}

#[test]
fn every_connection_has_one_owner_and_every_order_ends() {
    let histories = std::env::var("RLOGIND_HISTORIES").ok().and_then(|text| text.parse().ok());
    for seed in 0..histories.unwrap_or(HISTORIES) {
        let mut world = World::new(seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        if let Err(panic) = outcome {
            eprintln!("history {seed}:\n  {}", world.history.join("\n  "));
            std::panic::resume_unwind(panic);
        }
    }
}
