//! Who may connect: any history of connections, beside a plain model of them. The limits hold, who gives way is the
//! oldest of whoever has most, nobody is refused without the reason that is said, and nothing stays of who has left.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use rlogind::config::Startups;
use rlogind::ipc::ConnectionId;
use rlogind::relay::admission::{Admission, Limits, NOT_LOGGED_IN};
use rlogind::source::{Network, Source, WIDTHS};

/// As many connections of one history are enough, and take no time.
const MOST: u64 = 250;
/// As many connections of a network may come at once, whatever the limits say.
const AT_ONCE: u32 = 100;
/// After those one may come in so many milliseconds.
const EACH: u64 = 100;
/// As many processes may be ending, whatever the limits say.
const ENDING: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Starting,
    LoggedIn,
    Departing,
}

/// What came of a network since the beginning.
#[derive(Debug, Default)]
struct Came {
    entered: u32,
    logged_in: u32,
}

struct Model {
    admission: Admission,
    limits: Limits,
    /// As many as ever were admitted at once.
    at_once: u32,
    /// As many processes of connections that are not logged in as there may be by the limits there were.
    most_processes: usize,
    start: Instant,
    /// Milliseconds since then.
    now: u64,
    next: u64,
    places: BTreeMap<ConnectionId, (Source, State)>,
    came: HashMap<Network, Came>,
    sources: BTreeSet<Source>,
}

/// Each step is a byte that says what happens, and those that say to whom.
pub(crate) fn check(input: &[u8]) {
    let mut bytes = input.iter().copied();
    let mut model = Model::new();
    while let Some(step) = bytes.next()
        && model.next < MOST
    {
        let mut byte = || bytes.next().unwrap_or(0);
        let more = step >> 3;
        match step % 8 {
            0..=2 => {
                let (from, random) = (source(byte()), u64::from(byte()) * 0x0101_0101_0101_0101);
                (0..=more).for_each(|_| model.enter(from, random));
            }
            3 => model.logged_in(byte()),
            4 => model.depart(byte()),
            5 => model.leave(byte()),
            6 => model.resume(source(byte()), more % 2 == 0),
            _ if more % 2 == 0 => model.now += u64::from(byte()) * 50,
            _ => model.set_limits([byte(), byte(), byte(), byte(), byte()].map(u32::from)),
        }
    }
    model.end();
}

/// One of few sources, so that they share networks of each width.
fn source(byte: u8) -> Source {
    let [host, middle, network, is_ipv6] = [byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6 & 1];
    let address = if is_ipv6 == 0 {
        [192, 0, network, middle << 2 | host].into()
    } else {
        let subnet = u16::from_be_bytes([middle, host]);
        [0x2001, 0xdb8, u16::from(network), subnet, 0, 0, 0, 1].into()
    };
    Source::of(address)
}

impl Model {
    fn new() -> Model {
        let limits =
            Limits { sessions: 20, per_source: 10, startups: Startups { start: 5, rate: 30, full: 10 } };
        Model {
            admission: Admission::new(limits),
            limits,
            at_once: AT_ONCE,
            most_processes: ENDING + limits.startups.full as usize,
            start: Instant::now(),
            now: 0,
            next: 0,
            places: BTreeMap::new(),
            came: HashMap::new(),
            sources: BTreeSet::new(),
        }
    }

    fn time(&self) -> Instant {
        self.start + Duration::from_millis(self.now)
    }

    fn next_id(&mut self) -> ConnectionId {
        self.next += 1;
        ConnectionId(self.next)
    }

    /// Those in that state, the oldest first.
    fn those(&self, state: State) -> Vec<(ConnectionId, Source)> {
        let of_state = self.places.iter().filter(|(_, (_, other))| *other == state);
        of_state.map(|(id, (source, _))| (*id, *source)).collect()
    }

    fn count(&self, state: State) -> usize {
        self.places.values().filter(|(_, other)| *other == state).count()
    }

    /// As the configuration may have them: no number is zero.
    fn set_limits(&mut self, [sessions, per_source, start, rate, full]: [u32; 5]) {
        let full = 1 + full % 128;
        let startups = Startups { start: 1 + start % full, rate: 1 + rate % 100, full };
        self.limits = Limits { sessions: 1 + sessions, per_source: 1 + per_source, startups };
        self.at_once = self.at_once.max(startups.start);
        self.most_processes = self.most_processes.max(ENDING.max(full as usize) + full as usize);
        self.admission.set_limits(self.limits);
    }

    fn enter(&mut self, from: Source, random: u64) {
        let id = self.next_id();
        let Limits { sessions, per_source, startups: Startups { start, full, .. } } = self.limits;
        let (sessions, start, full) = (sessions as usize, start as usize, full as usize);
        let (starting, departing) = (self.those(State::Starting), self.those(State::Departing));
        let live = self.places.len() - departing.len();
        let of_source = self.places.values().filter(|(source, _)| *source == from).count();
        let most_departing = full.max(ENDING);
        let is_full = live >= sessions || starting.len() >= full;
        let came = self.came.entry(from.network()).or_default();
        match self.admission.enter(id, from, random, self.start + Duration::from_millis(self.now)) {
            Ok(gives_way) => {
                assert!(of_source < per_source as usize && departing.len() < most_departing);
                came.entered += 1;
                let excess =
                    u64::from(came.entered).saturating_sub((came.logged_in + self.at_once + 1).into());
                assert!(excess * EACH <= self.now, "a network is not slowed down");
                let expected = is_full.then(|| oldest_of_most(&starting, from).expect("somebody gives way"));
                assert_eq!(gives_way, expected);
                self.add(id, from, State::Starting);
                if let Some(id) = gives_way {
                    assert!(self.admission.knows(id));
                    if random.is_multiple_of(2) { self.depart_now(id) } else { self.leave_now(id) }
                }
                let now = self.count(State::Starting);
                assert!(now <= full.max(starting.len()), "{now} are starting");
                let ending = self.count(State::Departing);
                assert!(self.places.len() - ending <= sessions.max(live), "{:?}", self.places);
                assert!(now + ending <= self.most_processes, "{now} and {ending} processes");
            }
            Err(reason) => {
                let is_right = match reason {
                    "too many connections from this source" => of_source >= per_source as usize,
                    "too many connections that are ending" => {
                        departing.len() >= most_departing
                            || (departing.len() >= most_departing.div_ceil(2) && has_most(&departing, from))
                    }
                    "too many connections" => live >= sessions && starting.is_empty(),
                    NOT_LOGGED_IN => !is_full && starting.len() >= start && has_most(&starting, from),
                    "too many connections from this network that do not log in" => came.entered >= AT_ONCE,
                    other => panic!("an unknown reason: {other}"),
                };
                assert!(is_right, "{reason}: {from:?}, {:?}, {:?}", self.limits, self.places);
                assert!(!self.admission.knows(id));
            }
        }
    }

    fn add(&mut self, id: ConnectionId, from: Source, state: State) {
        self.places.insert(id, (from, state));
        self.sources.insert(from);
        assert!(self.admission.knows(id));
    }

    /// Whatever the limits are, so what they promise of processes is moved by one.
    fn resume(&mut self, from: Source, starting: bool) {
        let id = self.next_id();
        self.admission.resume(id, from, starting);
        self.most_processes += usize::from(starting);
        self.add(id, from, if starting { State::Starting } else { State::LoggedIn });
    }

    /// One that has a place, or had none ever.
    fn one(&self, byte: u8) -> ConnectionId {
        let known = self.places.keys().nth(usize::from(byte) % (self.places.len() + 1));
        known.copied().unwrap_or(ConnectionId(self.next + 1))
    }

    fn logged_in(&mut self, byte: u8) {
        let id = self.one(byte);
        match self.places.get_mut(&id) {
            // Nobody says that of a closed connection.
            Some((_, State::Departing)) => return,
            Some((source, state)) => {
                *state = State::LoggedIn;
                self.came.entry(source.network()).or_default().logged_in += 1;
            }
            None => {}
        }
        self.admission.logged_in(id);
        assert_eq!(self.admission.knows(id), self.places.contains_key(&id));
    }

    fn depart(&mut self, byte: u8) {
        self.depart_now(self.one(byte));
    }

    fn depart_now(&mut self, id: ConnectionId) {
        self.admission.depart(id);
        if let Some((_, state @ State::Starting)) = self.places.get_mut(&id) {
            *state = State::Departing;
        }
        assert_eq!(self.admission.knows(id), self.places.contains_key(&id));
    }

    fn leave(&mut self, byte: u8) {
        self.leave_now(self.one(byte));
    }

    fn leave_now(&mut self, id: ConnectionId) {
        self.admission.leave(id);
        self.places.remove(&id);
        assert!(!self.admission.knows(id));
    }

    /// All leave. After a rest what is left is as good as new.
    fn end(mut self) {
        for id in self.places.keys() {
            assert!(self.admission.knows(*id));
            self.admission.leave(*id);
        }
        assert!((0..=self.next).all(|id| !self.admission.knows(ConnectionId(id))));
        self.now += 60_000;
        let limits =
            Limits { sessions: 12, per_source: 2, startups: Startups { start: 2, rate: 50, full: 5 } };
        let mut fresh = Admission::new(limits);
        self.admission.set_limits(limits);
        let sources: Vec<Source> = self.sources.iter().copied().collect();
        for source in sources.repeat(3) {
            let (id, now) = (self.next_id(), self.time());
            let entered = self.admission.enter(id, source, id.0, now);
            assert_eq!(entered, fresh.enter(id, source, id.0, now));
            for admission in [&mut self.admission, &mut fresh] {
                if let Ok(Some(other)) = entered {
                    admission.depart(other);
                }
                if id.0.is_multiple_of(5) {
                    admission.logged_in(id);
                }
            }
        }
    }
}

/// How many there are of each network of a width, the newcomer counted in.
fn sizes(those: &[(ConnectionId, Source)], newcomer: Source, width: usize) -> HashMap<Source, usize> {
    let mut sizes = HashMap::new();
    for source in those.iter().map(|(_, source)| *source).chain([newcomer]) {
        *sizes.entry(source.networks()[width]).or_insert(0) += 1;
    }
    sizes
}

/// Of the widest network that has most, of the network in it that has most, and so on; of equals the one in which
/// somebody has been there longest.
fn oldest_of_most(those: &[(ConnectionId, Source)], newcomer: Source) -> Option<ConnectionId> {
    let mut those = those.to_vec();
    for width in 0..WIDTHS {
        let sizes = sizes(&those, newcomer, width);
        let size = |source: &Source| sizes[&source.networks()[width]];
        let most = those.iter().map(|(_, source)| size(source)).max()?;
        let (_, oldest) = *those.iter().find(|(_, source)| size(source) == most)?;
        those.retain(|(_, source)| source.networks()[width] == oldest.networks()[width]);
    }
    those.first().map(|(id, _)| *id)
}

/// Whether nobody has more than the newcomer, of networks of any width.
fn has_most(those: &[(ConnectionId, Source)], newcomer: Source) -> bool {
    let mut those = those.to_vec();
    (0..WIDTHS).all(|width| {
        let network = newcomer.networks()[width];
        let sizes = sizes(&those, newcomer, width);
        those.retain(|(_, source)| source.networks()[width] == network);
        sizes.values().all(|size| *size <= sizes[&network])
    })
}
