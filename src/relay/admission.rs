//! Who may connect: how many in all, how many from one source, and how many that are
//! not logged in yet. When there is no place left for these, the oldest of whoever has most gives way, so that
//! nobody who fills the places shuts the others out.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

use crate::config::Startups;
use crate::crowd::Crowd;
use crate::ipc::{ConnectionId, RelayLimits};
use crate::source::{Network, Source};

/// Why one is refused, or gives way.
pub const NOT_LOGGED_IN: &str = "too many connections that are not logged in";

/// Processes of closed connections that never logged in, whatever the limits say.
const ENDING: u32 = 64;
/// Connections of one network that may come at once and not log in, whatever the limits say.
const AT_ONCE: u32 = 100;
/// Those that may come in each second after that.
const EACH_SECOND: f64 = 10.0;
/// Networks whose rate is known.
const MOST_NETWORKS: usize = 4096;

/// Who has a place, whoever is logged in and whoever is not.
///
/// ```text
/// (enter) ──▶ starting ──logged_in──▶ logged in ──leave──▶ (gone)
///                 │                       └──end──▶ ended ──▲
///                 └──────depart─────▶ departing ──leave─────┘
/// ```
/// One that has ended waits for its client to take the last output: it has its place until another one needs it.
/// One that departs has never logged in, and its session process has not ended yet. Such processes take nobody's place,
/// but there is a limit on them, or strangers who connect and leave could start any number.
///
/// Pure: what is random, and the time, come from outside.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    rate: RateLimit,
    places: HashMap<ConnectionId, Place>,
    sources: HashMap<Source, u32>,
    starting: Crowd,
    departing: Crowd,
    ended: Crowd,
}

/// One connection's.
#[derive(Debug, Clone, Copy)]
struct Place {
    source: Source,
    state: PlaceState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PlaceState {
    Starting,
    LoggedIn,
    Departing,
    Ended,
}

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub sessions: u32,
    /// Of one source.
    pub per_source: u32,
    /// That are not logged in yet.
    pub startups: Startups,
}

impl From<&RelayLimits> for Limits {
    fn from(limits: &RelayLimits) -> Limits {
        let RelayLimits { sessions, per_source, startups, .. } = *limits;
        Limits { sessions, per_source, startups }
    }
}

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Admission {
            limits,
            rate: RateLimit::default(),
            places: HashMap::new(),
            sources: HashMap::new(),
            starting: Crowd::default(),
            departing: Crowd::default(),
            ended: Crowd::default(),
        }
    }

    /// Sets other limits; who is in stays in.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Who of those that have ended has to leave, so that a client of this source can have a place.
    #[must_use]
    pub fn needed_by(&mut self, source: Source, now: Instant) -> Option<ConnectionId> {
        // One that is refused anyway needs nobody's.
        if self.is_ending_too_many(source) || !self.rate.has_room(source, self.limits.startups.start, now) {
            return None;
        }
        if self.sources.get(&source).is_some_and(|count| *count >= self.limits.per_source) {
            self.ended.oldest_of(source)
        } else if self.live() >= self.limits.sessions as usize {
            self.ended.most(None)?.oldest
        } else {
            None
        }
    }

    /// Gives a connection a place, as one that is not logged in yet. `random` is any number, and another one each
    /// time. Returns who has to give way to it, if somebody has: that one departs or leaves next.
    ///
    /// # Errors
    /// The reason why there is no place for it.
    pub fn enter(
        &mut self,
        id: ConnectionId,
        source: Source,
        random: u64,
        now: Instant,
    ) -> Result<Option<ConnectionId>, &'static str> {
        if self.sources.get(&source).is_some_and(|count| *count >= self.limits.per_source) {
            return Err("too many connections from this source");
        }
        if self.is_ending_too_many(source) {
            return Err("too many connections that are ending");
        }
        let (reason, is_full) = if self.live() >= self.limits.sessions as usize {
            ("too many connections", true)
        } else if self.starting.count() >= self.limits.startups.full as usize {
            (NOT_LOGGED_IN, true)
        } else if self.is_drawn(random)
            && self.starting.most(Some(source)).is_some_and(|most| most.has_newcomer)
        {
            return Err(NOT_LOGGED_IN);
        } else {
            ("", false)
        };
        let gives_way = if is_full {
            Some(self.starting.most(Some(source)).and_then(|most| most.oldest).ok_or(reason)?)
        } else {
            None
        };
        // Last: who is refused costs no process, and must not slow the network down for when there are places again.
        if !self.rate.takes(source, self.limits.startups.start, now) {
            return Err("too many connections from this network that do not log in");
        }
        self.add(id, source, PlaceState::Starting);
        Ok(gives_way)
    }

    /// Gives a connection a place that another relay had admitted, whatever the limits are now;
    /// `starting` while nobody is logged in.
    pub fn resume(&mut self, id: ConnectionId, source: Source, starting: bool) {
        self.add(id, source, if starting { PlaceState::Starting } else { PlaceState::LoggedIn });
    }

    /// A connection that has a place is logged in.
    pub fn logged_in(&mut self, id: ConnectionId) {
        if let Some(place) = self.places.get(&id) {
            self.rate.gives_back(place.source);
        }
        self.become_another(id, PlaceState::LoggedIn);
    }

    /// A session has ended, and its client has not taken the last output.
    pub fn end(&mut self, id: ConnectionId) {
        if self.places.get(&id).is_some_and(|place| place.state == PlaceState::LoggedIn) {
            self.become_another(id, PlaceState::Ended);
        }
    }

    /// A connection is closed, and its session's process may still live. Who was logged in keeps the place until then.
    pub fn depart(&mut self, id: ConnectionId) {
        if self.places.get(&id).is_some_and(|place| place.state == PlaceState::Starting) {
            self.become_another(id, PlaceState::Departing);
        }
    }

    /// Nothing is left of a connection; of one that has no place there is nothing to do.
    pub fn leave(&mut self, id: ConnectionId) {
        let Some(place) = self.places.remove(&id) else { return };
        self.group(place.state).into_iter().for_each(|group| group.remove(id, place.source));
        if let Some(count) = self.sources.get_mut(&place.source) {
            *count -= 1;
            if *count == 0 {
                self.sources.remove(&place.source);
            }
        }
    }

    /// Whether a connection has a place, or departs.
    #[must_use]
    pub fn knows(&self, id: ConnectionId) -> bool {
        self.places.contains_key(&id)
    }

    fn live(&self) -> usize {
        self.places.len() - self.departing.count()
    }

    fn add(&mut self, id: ConnectionId, source: Source, state: PlaceState) {
        *self.sources.entry(source).or_insert(0) += 1;
        self.group(state).into_iter().for_each(|group| group.insert(id, source));
        self.places.insert(id, Place { source, state });
    }

    fn become_another(&mut self, id: ConnectionId, state: PlaceState) {
        let Some(place) = self.places.get_mut(&id) else { return };
        let before = std::mem::replace(place, Place { state, ..*place });
        self.group(before.state).into_iter().for_each(|group| group.remove(id, before.source));
        self.group(state).into_iter().for_each(|group| group.insert(id, before.source));
    }

    fn group(&mut self, state: PlaceState) -> Option<&mut Crowd> {
        match state {
            PlaceState::Starting => Some(&mut self.starting),
            PlaceState::Departing => Some(&mut self.departing),
            PlaceState::Ended => Some(&mut self.ended),
            PlaceState::LoggedIn => None,
        }
    }

    /// Whether one more that is not logged in is one of those to refuse: none of them below
    /// `start`, all of them from `full` on, and from `rate` percent up to that in between.
    fn is_drawn(&self, random: u64) -> bool {
        let Startups { start, rate, full } = self.limits.startups;
        let starting = u32::try_from(self.starting.count()).unwrap_or(u32::MAX);
        if starting < start {
            return false;
        }
        if starting >= full {
            return true;
        }
        // In parts of 100 * span, so that nothing is rounded.
        let [rate, span, above] = [rate, full - start, starting - start].map(u64::from);
        random % (100 * span) < rate * span + (100 - rate.min(100)) * above
    }

    /// Whether there are so many processes of closed connections that a client of this source gets none: half of
    /// what there may be is for everybody, the rest for all but whoever has most.
    fn is_ending_too_many(&self, source: Source) -> bool {
        let (count, most) = (self.departing.count(), self.limits.startups.full.max(ENDING) as usize);
        count >= most
            || (count >= most.div_ceil(2)
                && self.departing.most(Some(source)).is_some_and(|most| most.has_newcomer))
    }
}

/// How fast a network's connections may follow each other that do not log in. Each costs a process, so they would
/// make every login a slow one, without holding any place.
#[derive(Debug, Default)]
struct RateLimit(HashMap<Network, Level>);

/// What came lately of a network, less what has been forgotten by then.
#[derive(Debug, Clone, Copy)]
struct Level {
    count: f64,
    at: Instant,
}

impl RateLimit {
    /// Whether one more of that network may come. So many may come at once, at least [`AT_ONCE`].
    fn takes(&mut self, source: Source, at_once: u32, now: Instant) -> bool {
        let network = source.network();
        if self.0.len() >= MOST_NETWORKS && !self.0.contains_key(&network) {
            self.0.retain(|_, level| level.fall(now) > 0.0);
            if self.0.len() >= MOST_NETWORKS {
                // So many networks are not slowed down one by one.
                return true;
            }
        }
        let level = self.0.entry(network).or_insert(Level { count: 0.0, at: now });
        let has_room = level.has_room(at_once, now);
        level.count += f64::from(u8::from(has_room));
        has_room
    }

    /// Whether one more of that network may come.
    fn has_room(&mut self, source: Source, at_once: u32, now: Instant) -> bool {
        let level = self.0.get_mut(&source.network());
        level.is_none_or(|level| level.has_room(at_once, now))
    }

    /// One of them has logged in, and is not counted.
    fn gives_back(&mut self, source: Source) {
        if let Some(level) = self.0.get_mut(&source.network()) {
            level.count -= 1.0;
        }
    }
}

impl Level {
    /// Whether one more may come, so many at once.
    fn has_room(&mut self, at_once: u32, now: Instant) -> bool {
        self.fall(now) < f64::from(at_once.max(AT_ONCE))
    }

    /// Forgets what the time since the last look is enough for. Returns what is left.
    fn fall(&mut self, now: Instant) -> f64 {
        let time = now.saturating_duration_since(self.at);
        *self = Level { count: (self.count - time.as_secs_f64() * EACH_SECOND).max(0.0), at: now };
        self.count
    }
}

/// Numbers that a stranger cannot foresee, without a system call for each: a keyed hash
/// of a counter, with a key of its own for each process.
#[derive(Debug, Default)]
pub struct Dice {
    key: RandomState,
    throws: u64,
}

impl Dice {
    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.throws = self.throws.wrapping_add(1);
        self.key.hash_one(self.throws)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    fn admission(sessions: u32, per_source: u32, startups: Startups) -> Admission {
        Admission::new(Limits { sessions, per_source, startups })
    }

    /// Has clients come one after the other, and those go whom they displace.
    struct Door {
        admission: Admission,
        next: u64,
        now: Instant,
    }

    impl Door {
        fn new(admission: Admission) -> Door {
            Door { admission, next: 0, now: Instant::now() }
        }

        fn enter(&mut self, from: &str) -> Result<Option<u64>, &'static str> {
            let id = ConnectionId(self.next);
            self.next += 1;
            // Slowly enough not to be held back for that.
            self.now += Duration::from_millis(100);
            let gone = self.admission.enter(id, source(from), 0, self.now)?;
            gone.into_iter().for_each(|id| self.admission.leave(id));
            Ok(gone.map(|id| id.0))
        }

        fn counts(&self) -> [usize; 3] {
            [self.admission.places.len(), self.admission.starting.count(), self.admission.departing.count()]
        }
    }

    const OF_SOURCE: Result<Option<u64>, &str> = Err("too many connections from this source");
    const IS_ENDING: Result<Option<u64>, &str> = Err("too many connections that are ending");

    #[test]
    fn the_limits_hold_and_leaving_makes_room() {
        let mut door = Door::new(admission(3, 2, Startups::limit(9)));
        let (a, b, c) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
        assert_eq!([door.enter(a), door.enter(a)], [Ok(None), Ok(None)]);
        assert_eq!(door.enter(a), OF_SOURCE);
        assert_eq!(door.enter(b), Ok(None));
        // Whoever has most gives way while somebody is not logged in, and nobody does then.
        assert_eq!(door.enter(b), Ok(Some(0)));
        [1, 3, 4].into_iter().for_each(|id| door.admission.logged_in(ConnectionId(id)));
        assert_eq!(door.enter(c), Err("too many connections"));
        door.admission.leave(ConnectionId(3));
        assert_eq!(door.enter(c), Ok(None));
        (0..9).for_each(|id| door.admission.leave(ConnectionId(id)));
        assert_eq!(door.counts(), [0; 3]);
        assert!(door.admission.sources.is_empty() && door.admission.starting.count() == 0);
    }

    #[test]
    fn who_is_refused_leaves_nothing_behind() {
        let mut door = Door::new(admission(1, 9, Startups::limit(9)));
        assert_eq!(door.enter("192.0.2.1"), Ok(None));
        door.admission.logged_in(ConnectionId(0));
        for last in 2..100 {
            assert!(door.enter(&format!("192.0.2.{last}")).is_err());
        }
        assert_eq!((door.counts(), door.admission.sources.len()), ([1, 0, 0], 1));
    }

    #[test]
    fn who_is_logged_in_never_gives_way() {
        let mut door = Door::new(admission(9, 9, Startups::limit(2)));
        assert_eq!([door.enter("192.0.2.1"), door.enter("192.0.2.1")], [Ok(None), Ok(None)]);
        door.admission.logged_in(ConnectionId(0));
        assert_eq!(door.enter("192.0.2.1"), Ok(None));
        assert_eq!(door.enter("192.0.2.1"), Ok(Some(1)));
        door.admission.logged_in(ConnectionId(2));
        door.admission.logged_in(ConnectionId(3));
        assert_eq!((door.enter("192.0.2.9"), door.counts()), (Ok(None), [4, 1, 0]));
    }

    #[test]
    fn one_network_that_fills_all_places_gives_way_to_others_and_to_itself() {
        for (attacker, others) in [
            ("2001:db8:0:%x::1", ["2001:db8:1::1", "192.0.2.1"]),
            ("198.51.100.%d", ["198.51.101.1", "2001:db8::1"]),
        ] {
            let mut door = Door::new(admission(1000, 100, Startups::limit(100)));
            let from = |n: u64| {
                attacker.replace("%x", &format!("{:x}", n % 9000)).replace("%d", &(n % 200).to_string())
            };
            for n in 0..100 {
                assert_eq!(door.enter(&from(n)), Ok(None));
            }
            let mut spared = BTreeSet::new();
            for other in others.into_iter().cycle().take(40) {
                spared.insert(door.next);
                for from in [other].into_iter().chain([from(door.next).as_str(); 25]) {
                    let gone = door.enter(from).unwrap().unwrap();
                    assert!(!spared.contains(&gone), "{from} made another source give way");
                }
            }
            assert_eq!(door.counts(), [100, 100, 0]);
        }
    }

    #[test]
    fn in_the_network_that_has_most_the_one_that_has_most_gives_way() {
        let mut door = Door::new(admission(1000, 100, Startups::limit(12)));
        let own = ["2001:db8:7:100::1", "2001:db8:7:2::1", "2001:db8:7:3::1", "2001:db8:8::1", "192.0.2.1"];
        for from in own {
            assert_eq!(door.enter(from), Ok(None));
        }
        // Another /56 of the same /48, two of its /64.
        for from in ["2001:db8:7:101::1"; 3].into_iter().chain(["2001:db8:7:102::1"; 4]) {
            assert_eq!(door.enter(from), Ok(None));
        }
        assert_eq!(door.enter("203.0.113.1"), Ok(Some(8)), "of the /64 with four");
        assert_eq!(door.enter("203.0.113.1"), Ok(Some(5)), "of equals the older ones");
    }

    #[test]
    fn between_the_thresholds_only_whoever_has_most_is_refused() {
        let mut door = Door::new(admission(1000, 100, Startups { start: 10, rate: 100, full: 60 }));
        for _ in 0..10 {
            assert_eq!(door.enter("192.0.2.1"), Ok(None));
        }
        for n in 0..9 {
            assert_eq!(door.enter("192.0.2.1"), Err(NOT_LOGGED_IN));
            assert_eq!(door.enter("198.51.100.1"), Ok(None), "{n}");
        }
    }

    #[test]
    fn a_network_that_does_not_log_in_is_slowed_down_and_nobody_else() {
        let mut admission = admission(9000, 9000, Startups { start: 150, rate: 1, full: 9000 });
        let (start, mut next) = (Instant::now(), 0);
        let mut enter = |admission: &mut Admission, from: &str, after: u64, logs_in: bool| {
            let (id, now) = (ConnectionId(next), start + Duration::from_millis(after));
            next += 1;
            let entered = admission.enter(id, source(from), u64::MAX, now).is_ok();
            if entered && logs_in {
                admission.logged_in(id);
            }
            admission.leave(id);
            entered
        };
        let in_a_row =
            |enter: &mut dyn FnMut(u64) -> bool, after: u64| (0..1000).filter(|_| enter(after)).count();
        let mut stranger =
            |after| enter(&mut admission, &format!("2001:db8:7:{}::1", after / 1000), after, false);
        assert_eq!(in_a_row(&mut stranger, 0), 150);
        assert_eq!(in_a_row(&mut stranger, 1000), 10);
        assert_eq!(in_a_row(&mut stranger, 1100), 1);
        assert_eq!(in_a_row(&mut stranger, 60_000), 150, "after a rest");
        assert!((0..1000).all(|_| enter(&mut admission, "192.0.2.1", 0, true)), "who logs in");
        assert!(enter(&mut admission, "2001:db8:8::1", 60_000, false), "another network");
        for n in 0..6000_u32 {
            let address = std::net::Ipv4Addr::from(n << 8);
            assert!(enter(&mut admission, &address.to_string(), 60_000, false));
        }
        assert!(admission.rate.0.len() <= MOST_NETWORKS);
    }

    #[test]
    fn who_is_refused_does_not_slow_the_network_down() {
        let mut admission = admission(1, 9, Startups::limit(9));
        let (own, now) = (source("192.0.2.1"), Instant::now());
        assert_eq!(admission.enter(ConnectionId(0), own, 0, now), Ok(None));
        admission.logged_in(ConnectionId(0));
        for id in 1..1000 {
            assert_eq!(admission.enter(ConnectionId(id), own, 0, now), Err("too many connections"));
        }
        admission.leave(ConnectionId(0));
        assert_eq!(admission.enter(ConnectionId(1000), own, 0, now), Ok(None));
    }

    #[test]
    fn processes_that_end_take_nobodys_place_and_are_bounded() {
        let mut door = Door::new(admission(1000, 1000, Startups::limit(100)));
        let leaves_at_once = |door: &mut Door, from: &str| {
            let entered = door.enter(from);
            door.admission.depart(ConnectionId(door.next - 1));
            entered
        };
        for n in 0..50 {
            assert_eq!(leaves_at_once(&mut door, "192.0.2.1"), Ok(None), "{n}");
        }
        assert_eq!(leaves_at_once(&mut door, "192.0.2.1"), IS_ENDING);
        for n in 0..50 {
            let other = format!("203.0.{n}.1");
            assert_eq!(leaves_at_once(&mut door, &other), Ok(None), "{other}");
        }
        assert_eq!(leaves_at_once(&mut door, "203.0.99.1"), IS_ENDING);
        assert!(door.admission.knows(ConnectionId(0)));
        door.admission.leave(ConnectionId(0));
        assert!(!door.admission.knows(ConnectionId(0)));
        assert_eq!(door.enter("203.0.99.1"), Ok(None));
    }

    /// Out of 1000 numbers, evenly spread, how many refuse when so many are starting.
    fn refused(startups: Startups, starting: u64) -> u32 {
        let mut admission = admission(u32::MAX, u32::MAX, startups);
        (0..starting).for_each(|id| admission.starting.insert(ConnectionId(id), source("192.0.2.1")));
        let span = u64::from(startups.full - startups.start).max(1) * 100;
        (0..1000_u64).map(|part| u32::from(admission.is_drawn(part * span / 1000))).sum()
    }

    #[test]
    fn between_the_thresholds_the_chance_rises_evenly() {
        let startups = Startups { start: 10, rate: 30, full: 60 };
        for (starting, of_1000) in
            [(0, 0), (9, 0), (10, 300), (35, 650), (59, 986), (60, 1000), (61, 1000), (1000, 1000)]
        {
            assert_eq!(refused(startups, starting), of_1000, "{starting}");
        }
        assert_eq!(refused(Startups { start: 10, rate: 100, full: 60 }, 10), 1000);
        assert_eq!((refused(Startups::limit(5), 4), refused(Startups::limit(5), 5)), (0, 1000));
    }

    #[test]
    fn the_dice_are_even() {
        let mut dice = Dice::default();
        let low = (0..10_000).filter(|_| dice.throw() % 100 < 30).count();
        // Ten times the standard deviation of 46 on either side.
        assert!((2540..3460).contains(&low), "{low} of 10000 below 30 %");
    }
}
