//! Keeps strangers from filling the log: of events that anybody can cause as often as he
//! likes, the first are written, and then one line a minute with their number.
//!
//! Pure: time is a parameter. What it holds is bounded, whatever happens.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::event::Event;

/// How long events are counted before their number is written.
const PERIOD: Duration = Duration::from_secs(60);
/// Refusals and shortages of one kind that are written one by one in a period.
const WHOLE: u32 = 10;
/// Connections that are. Each refusal may be somebody's search for a hole, and each
/// connection a login, so these are more.
const WHOLE_CONNECTIONS: u32 = 600;
/// Commands of one user that are written one by one in a period.
const WHOLE_COMMANDS: u32 = 60;
/// Kinds told apart. What goes beyond shares one, so that a sender of ever new texts gains nothing.
const KINDS: usize = 64;

/// What is thinned together: the event's name and, where it has one, the reason up to
/// its first colon, behind which may stand what a stranger sent.
type Kind = (&'static str, String);

#[derive(Debug)]
struct Count {
    /// When the number is due.
    end: Instant,
    /// How many may still be written one by one.
    whole: u32,
    /// Events that were not, and the last of them.
    held: u32,
    last: Option<Event>,
}

/// The counts of all kinds.
#[derive(Debug, Default)]
pub(super) struct Thinning {
    kinds: HashMap<Kind, Count>,
}

impl Thinning {
    /// Whether the event is to be written now; if not, it is counted.
    pub(super) fn lets_through(&mut self, event: &Event, now: Instant) -> bool {
        let Some((kind, whole)) = kind(event) else { return true };
        // Periods that are over with nothing held say nothing about now.
        self.kinds.retain(|_, count| count.held > 0 || count.end > now);
        let full = self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind);
        let kind = if full { (kind.0, String::new()) } else { kind };
        let fresh = || Count { end: now + PERIOD, whole, held: 0, last: None };
        let count = self.kinds.entry(kind).or_insert_with(fresh);
        if count.whole > 0 {
            count.whole -= 1;
            return true;
        }
        count.held = count.held.saturating_add(1);
        count.last = Some(event.clone());
        false
    }

    /// When [`Thinning::due`] has something to say.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kinds.values().filter(|count| count.held > 0).map(|count| count.end).min()
    }

    /// The numbers of the periods that are over. What comes now is counted again, from the
    /// first on; only a period without any lets the next ones through.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Event> {
        let over = self.kinds.values_mut().filter(|count| count.held > 0 && count.end <= now);
        over.filter_map(|count| {
            count.end = now + PERIOD;
            count.whole = 0;
            count.take()
        })
        .collect()
    }

    /// All numbers, at the end of the log.
    pub(super) fn finish(&mut self) -> Vec<Event> {
        self.kinds.drain().filter_map(|(_, mut count)| count.take()).collect()
    }
}

impl Count {
    fn take(&mut self) -> Option<Event> {
        let held = std::mem::take(&mut self.held);
        let mut event = self.last.take()?;
        if let Event::Refused { count, .. }
        | Event::Connection { count, .. }
        | Event::Control { count, .. }
        | Event::Shortage { count, .. } = &mut event
        {
            *count = held;
        }
        Some(event)
    }
}

/// The kind of an event that strangers can cause without end, and how many of it are
/// written one by one.
fn kind(event: &Event) -> Option<(Kind, u32)> {
    let stable = |text: &str| text.split(':').next().unwrap_or("").to_owned();
    match event {
        Event::Connection { .. } => Some((("connection", String::new()), WHOLE_CONNECTIONS)),
        Event::Refused { reason, .. } => Some((("refused", stable(reason)), WHOLE)),
        Event::Shortage { text, .. } => Some((("shortage", stable(text)), WHOLE)),
        // What members of a group ask for must not push out what others do.
        Event::Control { uid, .. } => Some((("control", uid.to_string()), WHOLE_COMMANDS)),
        Event::Started { .. }
        | Event::Upgraded { .. }
        | Event::Draining { .. }
        | Event::Stopped { .. }
        | Event::ConfigRead { .. }
        | Event::ConfigRefused { .. }
        | Event::Warning { .. }
        | Event::Login { .. }
        | Event::SessionClosed { .. }
        | Event::Lost { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::audit::event::Via;

    fn refused(reason: &str, last: u8) -> Event {
        let peer = SocketAddr::from(([192, 0, 2, last], 1023));
        Event::Refused { peer, reason: reason.to_owned(), count: 1 }
    }

    /// How many of so many like events are written.
    fn written(thinning: &mut Thinning, event: &Event, times: u32, now: Instant) -> u32 {
        (0..times).map(|_| u32::from(thinning.lets_through(event, now))).sum()
    }

    fn counts(events: Vec<Event>) -> Vec<u32> {
        let count = |event: &Event| {
            let (Event::Refused { count, .. }
            | Event::Connection { count, .. }
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

    #[test]
    fn the_first_ten_are_written_then_one_line_a_minute_has_the_number_and_the_last_client() {
        let (mut thinning, start) = (Thinning::default(), Instant::now());
        assert_eq!(written(&mut thinning, &refused("busy", 1), 10, start), 10);
        assert_eq!(thinning.next(), None, "nobody has to be woken for nothing");
        assert_eq!(written(&mut thinning, &refused("busy", 2), 299, start), 0);
        assert!(!thinning.lets_through(&refused("busy", 3), start));
        let end = start + PERIOD;
        assert_eq!(thinning.next(), Some(end));
        assert_eq!(thinning.due(end - Duration::from_millis(1)), []);
        let Event::Refused { peer, reason, .. } = refused("busy", 3) else { unreachable!() };
        assert_eq!(thinning.due(end), [Event::Refused { peer, reason, count: 300 }]);
        assert_eq!((thinning.next(), thinning.due(end)), (None, vec![]));
    }

    #[test]
    fn a_flood_that_goes_on_gets_one_line_a_minute_until_a_minute_was_quiet() {
        let (mut thinning, mut now) = (Thinning::default(), Instant::now());
        assert_eq!(written(&mut thinning, &refused("busy", 1), 20, now), 10);
        for _ in 0..3 {
            now += PERIOD;
            assert_eq!(thinning.due(now).len(), 1);
            assert_eq!(written(&mut thinning, &refused("busy", 1), 20, now), 0);
        }
        now += PERIOD;
        assert_eq!(counts(thinning.due(now)), [20]);
        now += PERIOD;
        assert_eq!(thinning.due(now), []);
        assert_eq!(written(&mut thinning, &refused("busy", 1), 20, now), 10);
    }

    #[test]
    fn few_are_written_one_by_one_for_ever() {
        let (mut thinning, start) = (Thinning::default(), Instant::now());
        for n in 0..1000 {
            let now = start + PERIOD / 10 * n;
            assert!(thinning.lets_through(&refused("busy", 1), now), "the {n}th");
            assert_eq!(thinning.due(now), []);
        }
    }

    #[test]
    fn one_reason_does_not_hide_another_and_what_a_client_sent_makes_no_new_one() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        for n in 0..1000 {
            thinning.lets_through(&refused(&format!("no such service: {n}"), 1), now);
            thinning.lets_through(&refused("busy", 1), now);
        }
        assert!(thinning.lets_through(&refused("the source port is not a reserved one", 1), now));
        assert_eq!(thinning.kinds.len(), 3);
        assert_eq!(counts(thinning.due(now + PERIOD)), [990, 990]);
    }

    #[test]
    fn nothing_grows_whatever_the_reasons_and_nothing_is_lost() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        let whole: u32 =
            (0..5000).map(|n| written(&mut thinning, &refused(&format!("reason {n}"), 1), 2, now)).sum();
        assert_eq!(thinning.kinds.len(), KINDS + 1);
        let held: u32 = counts(thinning.finish()).iter().sum();
        assert_eq!(whole + held, 10_000);
        assert!(whole < 200, "{whole} lines");
        assert!(thinning.kinds.is_empty());
    }

    #[test]
    fn connections_and_shortages_are_thinned_and_all_else_is_not() {
        let (mut thinning, now) = (Thinning::default(), Instant::now());
        let peer = SocketAddr::from(([192, 0, 2, 1], 1023));
        let connection = Event::Connection { peer, via: Via::Rlogin, count: 1 };
        assert_eq!(written(&mut thinning, &connection, 700, now), WHOLE_CONNECTIONS);
        let shortage = Event::Shortage { text: "no memory".to_owned(), count: 1 };
        assert_eq!(written(&mut thinning, &shortage, 700, now), WHOLE);
        let warning = Event::Warning { text: "x".to_owned() };
        assert_eq!(written(&mut thinning, &warning, 700, now), 700);
        assert_eq!(counts(thinning.due(now + PERIOD)), [100, 690]);
    }
}
