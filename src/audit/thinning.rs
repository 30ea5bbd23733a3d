//! Keeps strangers from filling the log, and from hiding each other in it: of events that
//! anybody can cause as often as he likes, the first of each source are written, and then one
//! line a minute with their number.
//!
//! ```text
//! kind ─▶ group: a network, a user, or the kind itself ─▶ member: a source, a command
//!   └─▶ others: one count for all groups without a place
//! ```
//! An event is written when its member and its group have lines left. If not, the one that has
//! none counts it, and writes the number at the end of the period. So a source that goes on is
//! counted by itself and takes no lines from the others of its network, and a network none from others.
//! When a few sources have used up their network's lines, each other one of it still has one.
//!
//! Pure: time is a parameter. What it holds is bounded, whatever happens.

mod hand_over;

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::event::{Event, LoginEvent};
use crate::source::{Network, Source};

/// How long events are counted before their number is written.
const PERIOD: Duration = Duration::from_secs(60);
/// The most groups of one kind that are counted apart.
const MOST_GROUPS: usize = 1024;
/// The most members of one group that are counted apart.
const MOST_OF_GROUP: usize = 256;
/// The most members of all groups of one kind that are.
const MOST_MEMBERS: usize = 4096;
/// From so many on, those whose group has no lines left get no place: the others need theirs.
const MOST_WITH_LATE: usize = MOST_MEMBERS / 2;

/// How many events are written one by one in a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Limits {
    /// Of one member.
    member: u32,
    /// Of one group. More than of a member, which could hide the others otherwise.
    group: u32,
    /// Of a group of which some were counted in the period before: a flood that goes on gets few lines.
    lasting: u32,
    /// Members that come when their group has no lines left, and have one each all the same.
    late: u32,
}

/// All addresses of an IPv4 network.
const LATE: u32 = 256;
/// An IPv6 network has more sources than anybody reads lines of.
const LATE_OF_IPV6: u32 = 64;
/// Those of events that have no source.
const NO_SOURCE: Limits = Limits { member: 0, group: 10, lasting: 0, late: 0 };
const STRANGERS: Limits = Limits { member: 10, group: 60, lasting: 10, late: LATE };
/// Each refusal may be somebody's search for a hole, and each connection a login, so these are more.
const CONNECTIONS: Limits = Limits { member: 600, group: 1200, lasting: 10, late: LATE };
/// A login has some, and one process may send 64 at once.
const MODULES: Limits = Limits { member: 100, group: 300, lasting: 10, late: LATE };
const COMMANDS: Limits = Limits { member: 60, group: 60, lasting: 10, late: 0 };
/// Commands that every session notices a little.
const RELOADS: Limits = Limits { member: 10, ..COMMANDS };
/// What comes of these: whatever may be said of each that is written.
const OUTCOMES: Limits = Limits { member: 10, group: 60, lasting: 10, late: 0 };

/// Whose events are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Group {
    /// The reason up to its first colon, behind which may stand what a stranger sent.
    reason: String,
    origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Origin {
    Daemon,
    User(u32),
    /// The last one, as it is not written down.
    #[serde(skip)]
    Network(Network),
}

/// Whose events are counted together, of those of a group.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Member {
    /// A command's first word.
    Command(String),
    /// The whole of what a line says.
    Text(String),
    /// The last one, as it is not written down.
    #[serde(skip)]
    Source(Source),
}

/// How an event is thinned.
#[derive(Debug)]
struct Class {
    kind: &'static str,
    group: Group,
    member: Option<Member>,
    limits: Limits,
}

/// The counts of all kinds.
#[derive(Debug, Default)]
pub struct Thinning {
    kinds: HashMap<Cow<'static, str>, Kind>,
    /// The end of the period, if there was an event in it.
    end: Option<Instant>,
    /// Some events of it were not written.
    held: bool,
}

impl Thinning {
    /// Whether the event is to be written now; if not, it is counted. What is [due](Thinning::due)
    /// by now has to be written before.
    pub fn lets_through(&mut self, event: &Event, now: Instant) -> bool {
        let Some(class) = class(event) else { return true };
        self.end.get_or_insert(now + PERIOD);
        let through = self.kinds.entry(Cow::Borrowed(class.kind)).or_default().lets_through(class, event);
        self.held |= !through;
        through
    }

    /// When [`Thinning::due`] has something to say.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.end.filter(|_| self.held)
    }

    /// The numbers of the period, if it is over. What comes now is counted again, from the
    /// first on; only a period without any lets the next ones through.
    pub fn due(&mut self, now: Instant) -> Vec<Event> {
        if self.end.is_none_or(|end| now < end) {
            return Vec::new();
        }
        self.end_period(now + PERIOD)
    }

    /// All numbers, at the end of the log.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut counted = Vec::new();
        for mut kind in std::mem::take(self).kinds.into_values() {
            kind.end_period(&mut counted);
        }
        counted
    }

    fn end_period(&mut self, next_end: Instant) -> Vec<Event> {
        let mut counted = Vec::new();
        self.kinds.retain(|_, kind| kind.end_period(&mut counted));
        (self.held, self.end) = (false, (!self.kinds.is_empty()).then_some(next_end));
        counted
    }
}

/// The counts of one kind.
#[derive(Debug, Default)]
struct Kind {
    groups: HashMap<Group, GroupCount>,
    /// How many members the groups have.
    members: usize,
    /// All groups without a place.
    others: Option<GroupCount>,
}

impl Kind {
    fn lets_through(&mut self, class: Class, event: &Event) -> bool {
        let Class { group, member, limits, .. } = class;
        let full = self.groups.len() >= MOST_GROUPS && !self.groups.contains_key(&group);
        if full {
            let others = self.others.get_or_insert_with(|| GroupCount::new(limits));
            return others.count.lets_through(event);
        }
        let group = self.groups.entry(group).or_insert_with(|| GroupCount::new(limits));
        let Some(member) = member else { return group.count.lets_through(event) };
        let room = self.members < MOST_MEMBERS && group.members.len() < MOST_OF_GROUP;
        let late_room = self.members < MOST_WITH_LATE && group.late > 0;
        let count = match group.members.entry(member) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if room && group.count.left > 0 => {
                self.members += 1;
                entry.insert(Count::new(limits.member))
            }
            Entry::Vacant(entry) if room && late_room => {
                self.members += 1;
                group.late -= 1;
                // The others of it in this period are its group's.
                return entry.insert(Count::new(limits.member)).lets_through(event);
            }
            Entry::Vacant(_) => return group.count.lets_through(event),
        };
        if count.left > 0 && !group.count.lets_through(event) {
            return false;
        }
        count.lets_through(event)
    }

    /// Whether there is something left to count in the next one.
    fn end_period(&mut self, counted: &mut Vec<Event>) -> bool {
        self.groups.retain(|_, group| group.end_period(counted));
        self.count_members();
        self.others.take_if(|others| !others.end_period(counted));
        !self.groups.is_empty() || self.others.is_some()
    }

    fn count_members(&mut self) {
        self.members = self.groups.values().map(|group| group.members.len()).sum();
    }
}

/// The counts of one group.
#[derive(Debug, Serialize, Deserialize)]
struct GroupCount {
    limits: Limits,
    /// What was not counted by a member.
    count: Count,
    /// How many members may still come late.
    late: u32,
    members: HashMap<Member, Count>,
}

impl GroupCount {
    fn new(limits: Limits) -> GroupCount {
        let (count, late) = (Count::new(limits.group), limits.late);
        GroupCount { limits, count, late, members: HashMap::new() }
    }

    fn end_period(&mut self, counted: &mut Vec<Event>) -> bool {
        self.members.retain(|_, member| {
            member.left = 0;
            member.take(counted)
        });
        let flooded = self.count.take(counted);
        let left = if flooded { self.limits.lasting } else { self.limits.group };
        // Each of these members will write a line.
        self.count.left = left.saturating_sub(u32::try_from(self.members.len()).unwrap_or(u32::MAX));
        self.late = self.limits.late;
        flooded || !self.members.is_empty()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Count {
    /// How many may still be written one by one.
    left: u32,
    /// Events that were not, and the last of them.
    held: u32,
    last: Option<Box<Event>>,
}

impl Count {
    fn new(left: u32) -> Count {
        Count { left, held: 0, last: None }
    }

    fn lets_through(&mut self, event: &Event) -> bool {
        if self.left > 0 {
            self.left -= 1;
            return true;
        }
        self.held = self.held.saturating_add(1);
        self.last = Some(Box::new(event.clone()));
        false
    }

    /// Adds the event that stands for those that were not written; false when there were none.
    fn take(&mut self, counted: &mut Vec<Event>) -> bool {
        let held = std::mem::take(&mut self.held);
        let Some(mut event) = self.last.take() else { return false };
        if let Event::Refused { count, .. }
        | Event::Connection { count, .. }
        | Event::Control { count, .. }
        | Event::Login { count, .. }
        | Event::ModuleLines { count, .. }
        | Event::Upgraded { count, .. }
        | Event::ConfigRead { count, .. }
        | Event::ConfigRefused { count, .. }
        | Event::CommandWarning { count, .. }
        | Event::Shortage { count, .. } = &mut *event
        {
            *count = held;
        }
        counted.push(*event);
        true
    }
}

/// How an event is thinned that strangers, or members of a group, can cause without end.
fn class(event: &Event) -> Option<Class> {
    match event {
        Event::Connection { peer, .. } => Some(from(*peer, "connection", "", CONNECTIONS)),
        Event::Refused { peer, reason, .. } => Some(from(*peer, "refused", reason, STRANGERS)),
        Event::Login { peer, event, .. } => {
            incomplete_login(event).map(|kind| from(*peer, kind, "", STRANGERS))
        }
        Event::ModuleLines { peer, .. } => Some(from(*peer, "module-lines", "", MODULES)),
        Event::Shortage { text, .. } => {
            let group = Group { reason: stable(text), origin: Origin::Daemon };
            Some(Class { kind: "shortage", group, member: None, limits: NO_SOURCE })
        }
        Event::Control { uid, command, .. } => Some(of_user(*uid, command)),
        Event::Upgraded { .. } => Some(of_commands("upgraded", "")),
        Event::ConfigRead { .. } => Some(of_commands("config-read", "")),
        Event::ConfigRefused { error, .. } => Some(of_commands("config-refused", error)),
        Event::CommandWarning { text, .. } => Some(of_commands("warning", text)),
        Event::Started { .. }
        | Event::Draining { .. }
        | Event::Stopped { .. }
        | Event::Warning { .. }
        | Event::SessionClosed { .. }
        | Event::Lost { .. } => None,
    }
}

fn from(peer: SocketAddr, kind: &'static str, reason: &str, limits: Limits) -> Class {
    let source = Source::of(peer.ip());
    let late = if peer.ip().to_canonical().is_ipv4() { limits.late } else { limits.late.min(LATE_OF_IPV6) };
    let group = Group { reason: stable(reason), origin: Origin::Network(source.network()) };
    Class { kind, group, member: Some(Member::Source(source)), limits: Limits { late, ..limits } }
}

/// What one user asks for must not push out what others do, and nobody takes room from root.
fn of_user(uid: u32, command: &str) -> Class {
    let kind = if uid == 0 { "control by root" } else { "control" };
    let group = Group { reason: String::new(), origin: Origin::User(uid) };
    let word = command.split(' ').next().unwrap_or("");
    let limits = if ["reload", "upgrade"].contains(&word) { RELOADS } else { COMMANDS };
    Class { kind, group, member: Some(Member::Command(word.to_owned())), limits }
}

/// What comes of commands: who asks for one after the other gets a few lines of each sort, too.
fn of_commands(kind: &'static str, text: &str) -> Class {
    let group = Group { reason: stable(text), origin: Origin::Daemon };
    Class { kind, group, member: Some(Member::Text(text.to_owned())), limits: OUTCOMES }
}

fn stable(text: &str) -> String {
    text.split(':').next().unwrap_or("").to_owned()
}

/// The kind of an event that comes also from somebody who never logs in.
fn incomplete_login(event: &LoginEvent) -> Option<&'static str> {
    match event {
        LoginEvent::TrustDenied { .. } => Some("trust-denied"),
        LoginEvent::TrustAbsent { .. } => Some("trust-absent"),
        LoginEvent::PasswordFailed { .. } => Some("password-failed"),
        LoginEvent::AccountRefused { .. } => Some("account-refused"),
        LoginEvent::Abandoned { .. } => Some("login-abandoned"),
        LoginEvent::BannerNotShown { .. } => Some("banner-not-shown"),
        // Of somebody who was let in, which is always written whole.
        LoginEvent::TrustGranted { .. }
        | LoginEvent::PasswordAccepted { .. }
        | LoginEvent::Opened { .. }
        | LoginEvent::Trouble { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::audit::event::Via;

    fn peer(address: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(address.into(), 1023)
    }

    fn refused(reason: &str, last: u8) -> Event {
        Event::Refused { peer: peer([192, 0, 2, last]), reason: reason.to_owned(), count: 1 }
    }

    fn connection(address: impl Into<IpAddr>) -> Event {
        Event::Connection { peer: peer(address), via: Via::Rlogin, count: 1 }
    }

    fn login(address: impl Into<IpAddr>, event: LoginEvent) -> Event {
        Event::Login { peer: peer(address), tty: "pts/1".to_owned(), event, count: 1 }
    }

    fn failed(address: impl Into<IpAddr>) -> Event {
        let reason = "Authentication failure".to_owned();
        login(address, LoginEvent::PasswordFailed { user: None, host: None, attempt: 1, reason })
    }

    /// The `number`th /64 of an IPv6 network.
    fn ipv6(network: u16, number: u16) -> [u16; 8] {
        [0x2001, 0xdb8, network, number, 0, 0, 0, 1]
    }

    /// How many of so many like events are written.
    fn written(thinning: &mut Thinning, event: &Event, times: u32, now: Instant) -> u32 {
        (0..times).map(|_| u32::from(thinning.lets_through(event, now))).sum()
    }

    fn counts(events: &[Event]) -> Vec<u32> {
        let count = |event: &Event| {
            let (Event::Refused { count, .. }
            | Event::Connection { count, .. }
            | Event::Login { count, .. }
            | Event::Control { count, .. }
            | Event::ModuleLines { count, .. }
            | Event::Upgraded { count, .. }
            | Event::ConfigRead { count, .. }
            | Event::ConfigRefused { count, .. }
            | Event::CommandWarning { count, .. }
            | Event::Shortage { count, .. }) = event
            else {
                panic!("{event:?}")
            };
            *count
        };
        let mut counts: Vec<u32> = events.iter().map(count).collect();
        counts.sort_unstable();
        counts
    }

    fn members(thinning: &Thinning) -> usize {
        let groups = thinning.kinds.values().flat_map(|kind| kind.groups.values());
        groups.map(|group| group.members.len()).sum()
    }

    fn groups(thinning: &Thinning) -> usize {
        thinning.kinds.values().map(|kind| kind.groups.len()).sum()
    }

    #[test]
    fn the_first_ten_are_written_then_one_line_a_minute_has_the_number_and_the_last_client() {
        let (mut thinning, start) = (Thinning::default(), Instant::now());
        assert_eq!(written(&mut thinning, &refused("busy", 1), 10, start), 10);
        assert_eq!(thinning.next(), None, "nobody has to be woken for nothing");
        assert_eq!(written(&mut thinning, &refused("busy", 1), 299, start), 0);
        let mut last = refused("busy", 1);
        let Event::Refused { peer, .. } = &mut last else { unreachable!() };
        peer.set_port(700);
        assert!(!thinning.lets_through(&last, start));
        let end = start + PERIOD;
        assert_eq!(thinning.next(), Some(end));
        assert_eq!(thinning.due(end - Duration::from_millis(1)), []);
        let Event::Refused { count, .. } = &mut last else { unreachable!() };
        *count = 300;
        assert_eq!(thinning.due(end), [last]);
        assert_eq!((thinning.next(), thinning.due(end)), (None, vec![]));
    }

    #[test]
    fn a_flood_that_goes_on_gets_one_line_a_minute_until_a_minute_was_quiet() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        assert_eq!(written(&mut thinning, &failed([192, 0, 2, 1]), 20, now), 10);
        for _ in 0..3 {
            now += PERIOD;
            assert_eq!(thinning.due(now).len(), 1);
            assert_eq!(written(&mut thinning, &failed([192, 0, 2, 1]), 20, now), 0);
            assert!(thinning.lets_through(&failed([192, 0, 2, 2]), now), "another source is not counted");
        }
        now += PERIOD;
        assert_eq!(counts(&thinning.due(now)), [20]);
        now += PERIOD;
        assert_eq!(thinning.due(now), []);
        assert_eq!(written(&mut thinning, &failed([192, 0, 2, 1]), 20, now), 10);
    }

    #[test]
    fn few_are_written_one_by_one_for_ever() {
        let (mut thinning, start) = (Thinning::default(), Instant::now());
        for n in 0..1000 {
            let now = start + PERIOD / 5 * n;
            assert_eq!(thinning.due(now), []);
            // A terminal server at which some mistype their passwords.
            assert!(thinning.lets_through(&failed([192, 0, 2, 1]), now), "the {n}th");
            assert!(thinning.lets_through(&refused("busy", 1), now), "the {n}th");
        }
    }

    #[test]
    fn a_flood_of_one_source_hides_no_other_source() {
        let events: [fn(IpAddr) -> Event; 4] = [
            |source| failed(source),
            |source| connection(source),
            |source| login(source, abandoned()),
            |source| Event::ModuleLines { peer: peer(source), count: 1 },
        ];
        for event in events {
            let (mut thinning, mut now) = (Thinning::default(), Instant::now());
            for _ in 0..5 {
                written(&mut thinning, &event([192, 0, 2, 1].into()), 10_000, now);
                written(&mut thinning, &event(ipv6(1, 1).into()), 10_000, now);
                let others: [IpAddr; 4] =
                    [[192, 0, 2, 2].into(), [192, 0, 3, 1].into(), ipv6(1, 2).into(), ipv6(2, 1).into()];
                for other in others {
                    assert_eq!(written(&mut thinning, &event(other), 5, now), 5, "{other}");
                }
                now += PERIOD;
                assert_eq!(thinning.due(now).len(), 2, "a line for each flood");
            }
        }
    }

    fn abandoned() -> LoginEvent {
        LoginEvent::Abandoned { reason: "the client left".to_owned() }
    }

    #[test]
    fn a_flood_of_one_network_hides_no_other_network_and_gets_few_lines() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        let (mut whole, mut sent) = (0, 0);
        for minute in 0..5 {
            let mut lines = 0;
            for n in 0..30_000 {
                lines += u32::from(thinning.lets_through(&failed(ipv6(1, n)), now));
                lines += u32::from(thinning.lets_through(&failed([192, 0, 2, n.to_be_bytes()[1]]), now));
            }
            let late = LATE + LATE_OF_IPV6;
            assert!(lines <= late + if minute == 0 { 120 } else { 20 }, "{lines} lines");
            (whole, sent) = (whole + lines, sent + 60_000);
            for other in [IpAddr::from([192, 0, 3, 1]), ipv6(2, 1).into()] {
                assert_eq!(written(&mut thinning, &failed(other), 10, now), 10);
            }
            now += PERIOD;
            let counted = thinning.due(now);
            assert!(counted.len() <= 122, "{} numbers", counted.len());
            whole += counts(&counted).iter().sum::<u32>();
        }
        assert_eq!(whole, sent, "nothing is lost");
    }

    #[test]
    fn sources_that_go_on_take_lines_from_their_own_network_only() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        let mut lines = 0;
        for minute in 0..100_u8 {
            // One more each minute that never stops.
            lines = 0;
            for last in 0..=minute {
                lines += written(&mut thinning, &failed([192, 0, 2, last]), 11, now);
            }
            assert!(thinning.lets_through(&failed([192, 0, 3, 1]), now));
            now += PERIOD;
            lines += u32::try_from(thinning.due(now).len()).unwrap();
        }
        assert!(lines <= 100 + 1, "{lines} lines a minute: one of each, and the number of their network");
    }

    #[test]
    fn a_flood_of_few_sources_leaves_each_other_one_of_its_network_a_line() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        for _ in 0..3 {
            for last in 0..20 {
                written(&mut thinning, &failed([192, 0, 2, last]), 100, now);
            }
            for last in 20..=255 {
                let lines = written(&mut thinning, &failed([192, 0, 2, last]), 3, now);
                assert!(lines >= 1, "source {last}");
            }
            now += PERIOD;
            thinning.due(now);
        }
        let lines = (0..1000).map(|n| written(&mut thinning, &failed(ipv6(1, n)), 10, now)).sum::<u32>();
        assert_eq!(lines, STRANGERS.group + LATE_OF_IPV6, "who has a /48 writes no line for each /64");
    }

    #[test]
    fn late_ones_take_no_place_that_other_networks_need() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        let mut lines = 0;
        for network in 0..250 {
            for last in 0..=255 {
                lines += written(&mut thinning, &failed([10, 0, network, last]), 1, now);
            }
        }
        assert!(members(&thinning) <= MOST_MEMBERS, "{}", members(&thinning));
        let late = u32::try_from(MOST_WITH_LATE).unwrap();
        assert!(lines <= 250 * STRANGERS.group + late, "{lines} lines");
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        for network in 0..20 {
            for last in 0..=255 {
                written(&mut thinning, &failed([10, 0, network, last]), 1, now);
            }
        }
        written(&mut thinning, &failed([192, 0, 2, 1]), 100, now);
        assert!(thinning.lets_through(&failed([192, 0, 2, 2]), now));
        let counted = counts(&thinning.due(now + PERIOD));
        assert!(counted.contains(&90), "counted by itself: {counted:?}");
    }

    #[test]
    fn one_reason_does_not_hide_another_and_what_a_client_sent_makes_no_new_one() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        for n in 0..1000 {
            thinning.lets_through(&refused(&format!("no such service: {n}"), 1), now);
            thinning.lets_through(&refused("busy", 1), now);
        }
        assert!(thinning.lets_through(&refused("the source port is not a reserved one", 1), now));
        assert_eq!(groups(&thinning), 3);
        assert_eq!(counts(&thinning.due(now + PERIOD)), [990, 990]);
    }

    #[test]
    fn nothing_grows_whatever_the_sources_and_nothing_is_lost() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        let (mut whole, mut held, mut sent) = (0, 0, 0);
        for minute in 0..3_u8 {
            for n in 0..100_000_u32 {
                // Many sources of few networks, then all of others.
                let [_, a, b, c] = (n * 37).to_be_bytes();
                let source = IpAddr::from(if n % 2 == 0 { [10, a, b, c] } else { [11, minute, a, b] });
                for event in [failed(source), connection(source)] {
                    whole += written(&mut thinning, &event, 2, now);
                    sent += 2;
                }
            }
            assert!(groups(&thinning) <= 2 * MOST_GROUPS, "{}", groups(&thinning));
            assert!(members(&thinning) <= 2 * MOST_MEMBERS, "{}", members(&thinning));
            now += PERIOD;
            held += counts(&thinning.due(now)).iter().sum::<u32>();
        }
        held += counts(&thinning.finish()).iter().sum::<u32>();
        assert_eq!(whole + held, sent);
        assert!(thinning.kinds.is_empty());
        assert_eq!((thinning.next(), thinning.due(now + PERIOD)), (None, vec![]));
    }

    #[test]
    fn nothing_grows_whatever_the_reasons_and_nothing_is_lost() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        let whole: u32 =
            (0..5000).map(|n| written(&mut thinning, &refused(&format!("reason {n}"), 1), 2, now)).sum();
        assert_eq!(groups(&thinning), MOST_GROUPS);
        let held: u32 = counts(&thinning.finish()).iter().sum();
        assert_eq!(whole + held, 10_000);
        assert!(thinning.kinds.is_empty());
    }

    #[test]
    fn what_one_user_asks_for_hides_nothing_of_another_user_nor_other_commands() {
        let command =
            |uid, command: &str| Event::Control { uid, pid: 1, command: command.to_owned(), count: 1 };
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        for word in ["reload", "upgrade"] {
            assert_eq!(written(&mut thinning, &command(1001, word), 1000, now), 10, "{word}");
        }
        assert_eq!(written(&mut thinning, &command(1001, "kill 3 (alice on pts/3)"), 30, now), 30);
        assert_eq!(written(&mut thinning, &command(1002, "reload"), 10, now), 10);
        for uid in 2000..5000 {
            written(&mut thinning, &command(uid, "reload"), 20, now);
        }
        assert_eq!(written(&mut thinning, &command(0, "reload"), 10, now), 10);
        assert_eq!(written(&mut thinning, &command(0, "kill 4 (bob on pts/4)"), 50, now), 50);
        let numbers = thinning.due(now + PERIOD);
        let of_alice: Vec<Event> =
            numbers.into_iter().filter(|event| matches!(event, Event::Control { uid: 1001, .. })).collect();
        assert_eq!(counts(&of_alice), [990, 990]);
    }

    #[test]
    fn what_comes_of_commands_without_end_is_a_few_lines_of_each_sort() {
        let (text, path) = (|| "x".to_owned(), || "/etc/rlogind.toml".to_owned());
        let warning = |text: &str| Event::CommandWarning { text: text.to_owned(), count: 1 };
        let sorts = [
            Event::Upgraded { from: text(), version: text(), sessions: 1, count: 1 },
            Event::ConfigRead { path: path(), count: 1 },
            Event::ConfigRefused { path: path(), error: text(), count: 1 },
            warning("relay account: none"),
            warning("relay account: it is root"),
        ];
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        // By hand, a few times a minute.
        for _ in 0..60 {
            assert_eq!(thinning.due(now), []);
            assert!(sorts.iter().all(|event| thinning.lets_through(event, now)));
            now += PERIOD / 6;
        }
        let mut thinning = Thinning::default();
        for event in &sorts {
            assert_eq!(written(&mut thinning, event, 1000, now), 10, "{event:?}");
        }
        assert_eq!(counts(&thinning.due(now + PERIOD)), [990; 5]);
        // Whatever changes in them makes no more of them.
        let (mut thinning, mut lines) = (Thinning::default(), 0);
        for n in 0..1000 {
            lines += written(&mut thinning, &warning(&format!("no upgrade to /x: process {n}")), 1, now);
        }
        assert_eq!(lines, OUTCOMES.group);
    }

    #[test]
    fn a_quiet_time_of_any_length_ends_a_period() {
        let (mut thinning, start) = (Thinning::default(), Instant::now());
        assert_eq!(written(&mut thinning, &failed([192, 0, 2, 1]), 10, start), 10);
        let later = start + PERIOD * 100;
        assert_eq!(thinning.due(later), []);
        assert_eq!(written(&mut thinning, &failed([192, 0, 2, 1]), 11, later), 10);
        assert_eq!(thinning.next(), Some(later + PERIOD));
    }

    #[test]
    fn what_strangers_can_cause_is_thinned_and_all_else_is_not() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        let source = [192, 0, 2, 1];
        let (user, text, host) = (|| "alice".to_owned(), || "x".to_owned(), None);
        let (some, line) = (Some(user()), 1);
        for event in [
            LoginEvent::TrustDenied { user: some.clone(), host: host.clone(), file: text(), line },
            LoginEvent::TrustAbsent { user: some.clone(), host: host.clone(), reason: text() },
            LoginEvent::PasswordFailed { user: some, host: host.clone(), attempt: 1, reason: text() },
            LoginEvent::AccountRefused { user: user(), host: host.clone(), reason: text() },
            abandoned(),
            LoginEvent::BannerNotShown { file: text(), reason: text() },
        ] {
            assert_eq!(written(&mut thinning, &login(source, event), 100, now), 10);
        }
        assert_eq!(written(&mut thinning, &connection(source), 700, now), CONNECTIONS.member);
        let shortage = Event::Shortage { text: "no memory".to_owned(), count: 1 };
        assert_eq!(written(&mut thinning, &shortage, 700, now), NO_SOURCE.group);
        let opened = LoginEvent::Opened { user: user(), remote_user: None, host: host.clone(), pid: 1 };
        for event in [
            Event::Warning { text: text() },
            login(source, LoginEvent::PasswordAccepted { user: user(), host }),
            login(source, opened),
            login(source, LoginEvent::Trouble { user: user(), text: text() }),
        ] {
            assert_eq!(written(&mut thinning, &event, 700, now), 700);
        }
        assert_eq!(counts(&thinning.due(now + PERIOD)), [90, 90, 90, 90, 90, 90, 100, 690]);
    }
}
