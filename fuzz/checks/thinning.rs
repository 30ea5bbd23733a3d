//! The log's thinning: any history of events. No event is lost from the numbers, each number has its last event,
//! a source that was not counted is written while its network has lines left, and its first line also later, and lines
//! are bounded.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rlogind::audit::event::{Event, LoginEvent, Via};
use rlogind::audit::thinning::Thinning;
use rlogind::source::{Network, Source};

/// As many events of one history are enough, and take no time.
const MOST: u16 = 1500;
const PERIOD: Duration = Duration::from_secs(60);
/// The most groups of one kind that are counted apart, members of a group, and members of all groups of a kind.
const MOST_GROUPS: usize = 1024;
const MOST_OF_GROUP: usize = 256;
const MOST_MEMBERS: usize = 4096;
/// From so many on no member comes late.
const MOST_WITH_LATE: usize = 2048;

/// How events are thinned, by docs/ARCHITECTURE.md.
struct Class {
    kind: &'static str,
    group: Group,
    member: Member,
    limits: Limits,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Group {
    Network(String, Network),
    User(u32),
    Daemon(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Member {
    Source(Source),
    Command(String),
    Text(String),
    None,
}

/// What one member, one group, and a group whose flood goes on may write in a period, and how many members have a line
/// when their group has none left.
#[derive(Debug, Clone, Copy)]
struct Limits {
    member: u32,
    group: u32,
    lasting: u32,
    late: u32,
}

const STRANGERS: Limits = Limits { member: 10, group: 60, lasting: 10, late: 256 };
const CONNECTIONS: Limits = Limits { member: 600, group: 1200, lasting: 10, late: 256 };
const MODULES: Limits = Limits { member: 100, group: 300, lasting: 10, late: 256 };
const LATE_OF_IPV6: u32 = 64;
const SHORTAGES: Limits = Limits { member: 10, group: 10, lasting: 0, late: 0 };
const OUTCOMES: Limits = Limits { member: 10, group: 60, lasting: 10, late: 0 };

/// What is known of a group in a period.
#[derive(Default)]
struct Count {
    /// It is surely counted apart.
    has_place: bool,
    /// Lines with numbers at the end of the period before.
    lines_before: u32,
    written: u32,
    /// At least as many as those of them for which the group had no lines.
    late: u32,
    held: u32,
    members: HashMap<Member, OfMember>,
}

#[derive(Default)]
struct OfMember {
    /// A line at the end of the period before was about it.
    was_counted: bool,
    written: u32,
    last_held: Option<Event>,
}

/// The groups of a kind that had events in this period, or lines at the end of the one before.
#[derive(Default)]
struct Kind {
    groups: HashMap<Group, Count>,
    /// At least as many members as are counted apart.
    members: usize,
}

struct Model {
    thinning: Thinning,
    now: Instant,
    kinds: HashMap<&'static str, Kind>,
    /// The end of the period, if there was an event in it.
    end: Option<Instant>,
    sent: u16,
}

/// Four bytes a step: what happens, in which network, from whom, and how often.
pub(crate) fn check(input: &[u8]) {
    let mut model = Model {
        thinning: Thinning::default(),
        now: Instant::now(),
        kinds: HashMap::new(),
        end: None,
        sent: 0,
    };
    for step in input.chunks_exact(4) {
        let [what, network, host, many] = [0, 1, 2, 3].map(|at| step[at]);
        if what % 16 == 0 {
            model.pass(Duration::from_millis(u64::from(many) * 500));
            continue;
        }
        let [by_host, by_network, is_ipv6, times_8] = [4, 5, 6, 7].map(|bit| u16::from(what >> bit & 1));
        for n in 0..(u16::from(many) + 1) << (3 * times_8) {
            if model.sent == MOST {
                break;
            }
            let from = (u16::from(network) + n * by_network, u16::from(host) + n * by_host);
            model.event(&event(what % 16, from, is_ipv6 == 1, model.sent));
        }
    }
    model.finish();
}

fn event(what: u8, (network, host): (u16, u16), is_ipv6: bool, number: u16) -> Event {
    let ([high, low], [_, last]) = (network.to_be_bytes(), host.to_be_bytes());
    let address = if is_ipv6 {
        [0x2001, 0xdb8, network, host, 0, 0, 0, 1].into()
    } else {
        IpAddr::from([10, high, low, last])
    };
    // Tells like events from each other.
    let peer = SocketAddr::new(address, number);
    let (count, text, user) = (1, "some text".to_owned(), "alice".to_owned());
    let refused = |reason: String| Event::Refused { peer, reason, count };
    let login = |event| Event::Login { peer, tty: "pts/1".to_owned(), event, count };
    match what {
        1 => Event::Connection { peer, via: Via::Rlogin, count },
        2 => refused("busy".to_owned()),
        3 => refused(format!("no such service: {number}")),
        4 => refused(format!("reason {}", network % 4)),
        5 => login(LoginEvent::TrustDenied { user: None, host: None, file: text, line: 1 }),
        6 => login(LoginEvent::TrustAbsent { user: Some(user), host: None, reason: text }),
        7 => login(LoginEvent::PasswordFailed { user: None, host: None, attempt: 1, reason: text }),
        8 => login(LoginEvent::AccountRefused { user, host: None, reason: text }),
        9 => login(LoginEvent::Abandoned { reason: text }),
        10 => Event::Shortage { text: format!("no memory {}: {number}", host % 4), count },
        11 | 12 => {
            let command = ["reload", "upgrade", "kill 3 (alice on pts/3)", "drain"][usize::from(host % 4)];
            Event::Control { uid: network.into(), pid: number.into(), command: command.to_owned(), count }
        }
        13 => login(LoginEvent::PasswordAccepted { user, host: None }),
        14 if host % 2 == 0 => login(LoginEvent::Trouble { user, text }),
        14 => login(LoginEvent::BannerNotShown { file: user, reason: text }),
        _ => match host % 4 {
            0 => Event::Warning { text },
            1 => Event::ConfigRead { path: text, count },
            2 => Event::CommandWarning { text: format!("no upgrade to /x: {}", network % 32), count },
            _ => Event::ModuleLines { peer, count },
        },
    }
}

/// `None`: it is always written.
fn class(event: &Event) -> Option<Class> {
    let before_colon = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let from = |kind, reason, peer: SocketAddr, limits| {
        let source = Source::of(peer.ip());
        let limits = if peer.is_ipv4() { limits } else { Limits { late: LATE_OF_IPV6, ..limits } };
        Class {
            kind,
            group: Group::Network(reason, source.network()),
            member: Member::Source(source),
            limits,
        }
    };
    let of_commands = |kind, text: &str| {
        let (group, member) = (Group::Daemon(before_colon(text)), Member::Text(text.to_owned()));
        Class { kind, group, member, limits: OUTCOMES }
    };
    Some(match event {
        Event::Connection { peer, .. } => from("connection", String::new(), *peer, CONNECTIONS),
        Event::Refused { peer, reason, .. } => from("refused", before_colon(reason), *peer, STRANGERS),
        Event::Login { peer, event, .. } => {
            let kind = match event {
                LoginEvent::TrustDenied { .. } => "denied",
                LoginEvent::TrustAbsent { .. } => "absent",
                LoginEvent::PasswordFailed { .. } => "password",
                LoginEvent::AccountRefused { .. } => "account",
                LoginEvent::Abandoned { .. } => "abandoned",
                LoginEvent::BannerNotShown { .. } => "banner",
                LoginEvent::TrustGranted { .. }
                | LoginEvent::PasswordAccepted { .. }
                | LoginEvent::Opened { .. }
                | LoginEvent::Trouble { .. } => return None,
            };
            from(kind, String::new(), *peer, STRANGERS)
        }
        Event::Shortage { text, .. } => {
            let group = Group::Daemon(before_colon(text));
            Class { kind: "shortage", group, member: Member::None, limits: SHORTAGES }
        }
        Event::ModuleLines { peer, .. } => from("modules", String::new(), *peer, MODULES),
        Event::Upgraded { .. } => of_commands("upgraded", ""),
        Event::ConfigRead { .. } => of_commands("read", ""),
        Event::ConfigRefused { error, .. } => of_commands("refused configuration", error),
        Event::CommandWarning { text, .. } => of_commands("warning", text),
        Event::Control { uid, command, .. } => {
            let word = command.split(' ').next().unwrap_or_default();
            let member = if matches!(word, "reload" | "upgrade") { 10 } else { 60 };
            Class {
                kind: if *uid == 0 { "root" } else { "control" },
                group: Group::User(*uid),
                member: Member::Command(word.to_owned()),
                limits: Limits { member, group: 60, lasting: 10, late: 0 },
            }
        }
        Event::Started { .. }
        | Event::Draining { .. }
        | Event::Stopped { .. }
        | Event::Warning { .. }
        | Event::SessionClosed { .. }
        | Event::Lost { .. } => return None,
    })
}

impl Model {
    /// Time passes, and the numbers are written that are due.
    fn pass(&mut self, time: Duration) {
        let held = self.kinds.values().flat_map(|kind| kind.groups.values()).any(|count| count.held > 0);
        assert_eq!(self.thinning.next(), self.end.filter(|_| held));
        self.now += time;
        let lines = self.thinning.due(self.now);
        if self.end.is_some_and(|end| end <= self.now) {
            self.end = (!lines.is_empty()).then_some(self.now + PERIOD);
            self.end_period(lines);
        } else {
            assert_eq!(lines, []);
        }
    }

    fn event(&mut self, event: &Event) {
        self.sent += 1;
        let is_written = self.thinning.lets_through(event, self.now);
        let Some(Class { kind, group, member, limits }) = class(event) else {
            return assert!(is_written, "{event:?}");
        };
        self.end.get_or_insert(self.now + PERIOD);
        let kind = self.kinds.entry(kind).or_default();
        let has_place = kind.groups.len() < MOST_GROUPS;
        let count = kind.groups.entry(group).or_insert_with(|| Count { has_place, ..Count::default() });
        let is_first = !count.members.contains_key(&member);
        kind.members += usize::from(is_first);
        let members = count.members.len();
        let of_member = count.members.entry(member).or_default();

        let has_lines = of_member.written < limits.member && !of_member.was_counted;
        // Each source that was counted takes a line of its network's.
        let lines = match count.lines_before {
            0 => limits.group,
            lines => limits.lasting.saturating_sub(lines),
        };
        if count.has_place && has_lines && count.written < lines {
            assert!(is_written, "{event:?} after {} of {lines} lines", count.written);
        }
        let has_late_place = members < MOST_OF_GROUP && kind.members <= MOST_WITH_LATE;
        if count.has_place && is_first && has_late_place && count.late < limits.late {
            assert!(is_written, "{event:?} is the first one");
        }
        let is_counted_apart = count.has_place && members < MOST_OF_GROUP && kind.members <= MOST_MEMBERS;
        if is_counted_apart && of_member.written >= limits.member {
            assert!(!is_written, "{event:?} after {} lines", of_member.written);
        }
        if is_written {
            count.late += u32::from(count.written >= lines);
            count.written += 1;
            of_member.written += 1;
            assert!(count.written <= limits.group + limits.late, "{} lines", count.written);
        } else {
            count.held += 1;
            of_member.last_held = Some(event.clone());
        }
    }

    /// What was not written is in the numbers; begins the next period.
    fn end_period(&mut self, lines: Vec<Event>) {
        let before = std::mem::take(&mut self.kinds);
        let mut numbers: HashMap<&'static str, HashMap<Group, u32>> = HashMap::new();
        for mut line in lines {
            let (Event::Connection { count, .. }
            | Event::Refused { count, .. }
            | Event::Login { count, .. }
            | Event::Shortage { count, .. }
            | Event::ModuleLines { count, .. }
            | Event::Upgraded { count, .. }
            | Event::ConfigRead { count, .. }
            | Event::ConfigRefused { count, .. }
            | Event::CommandWarning { count, .. }
            | Event::Control { count, .. }) = &mut line
            else {
                panic!("{line:?}")
            };
            let number = std::mem::replace(count, 1);
            assert!(number > 0);
            let Class { kind, group, member, limits } = class(&line).expect("it was counted");
            let count = before.get(kind).and_then(|kind| kind.groups.get(&group)).expect("it was counted");
            assert_eq!(count.members[&member].last_held.as_ref(), Some(&line), "it is the last one");
            // If not, the line may be one for all groups without a place.
            let in_order = before[kind].groups.len() <= MOST_GROUPS;

            let kind_now = self.kinds.entry(kind).or_default();
            kind_now.members += 1;
            let now = kind_now.groups.entry(group.clone()).or_default();
            (now.has_place, now.lines_before) = (in_order, now.lines_before + 1);
            now.members.entry(member).or_default().was_counted = true;
            let most = limits.group + limits.group / limits.member.min(STRANGERS.member) + 1 + limits.late;
            assert!(count.written + now.lines_before <= most, "{} and {}", count.written, now.lines_before);
            *numbers.entry(kind).or_default().entry(group).or_default() += number;
        }
        for (kind, Kind { groups, .. }) in before {
            let numbers = numbers.remove(kind).unwrap_or_default();
            let held: u32 = groups.values().map(|count| count.held).sum();
            assert_eq!(held, numbers.values().sum::<u32>(), "nothing is lost");
            if groups.len() <= MOST_GROUPS {
                for (group, count) in groups {
                    let number = numbers.get(&group).copied().unwrap_or_default();
                    assert_eq!(count.held, number, "nothing of {group:?} is lost");
                }
            }
        }
        assert!(numbers.is_empty());
    }

    /// The log ends, and with it everything that is known.
    fn finish(mut self) {
        self.pass(Duration::ZERO);
        let lines = self.thinning.finish();
        self.end_period(lines);
        assert_eq!(self.thinning.next(), None);
        assert_eq!(self.thinning.due(self.now + 2 * PERIOD), []);
        assert_eq!(self.thinning.finish(), []);
    }
}
