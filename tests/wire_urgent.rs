//! A session's urgent bytes in simulated time: any events, output at any time, any state of the send queue, late
//! wake-ups, a socket that takes nothing for a while.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rlogind::wire::urgent::{
    COOKED, FLUSH, FlowControl, GAP, Next, PATIENCE, Pacer, Queue, RAW, WINDOW, WINDOW_AGAIN, WINDOW_ALONE,
    WINDOW_DELAY, WINDOW_HOLD,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Flush,
    Flow(FlowControl),
    /// A window size that came without being asked for.
    Size,
    /// The terminal has output.
    Output,
}

/// What happens to a session, in time since its zero byte.
#[derive(Debug, Clone)]
struct Scenario {
    events: Vec<(Duration, Event)>,
    /// When the terminal has output; it has more at the [`LATER`] times.
    output: Vec<Duration>,
    /// The client answers the request with this number (0 or 1) so long after it.
    answer: Option<(usize, Duration)>,
    /// When the send queue changes between empty and not.
    queue: Vec<Duration>,
    /// How late the relay wakes up, each time anew.
    lateness: Vec<Duration>,
    /// Which of the attempts to send find the socket full.
    full: Vec<bool>,
}

/// When everything else is over, in seconds: output that what still waits can go in front of.
const LATER: [u64; 4] = [20, 21, 22, 23];

/// What went to the client.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Urgent(u8),
    /// Output that waited so long.
    Output(Duration),
}

/// What the simulation saw.
#[derive(Debug, Default)]
struct Seen {
    wire: Vec<(Duration, Item)>,
    sent: Vec<(Duration, u8)>,
    answered: Option<Duration>,
    /// When output was held, sampled at each wake-up.
    held: Vec<(Duration, bool)>,
    looks: usize,
}

fn simulate(scenario: &Scenario) -> Seen {
    let start = Instant::now();
    let mut pacer = Pacer::new(start);
    let mut seen = Seen::default();
    let mut events = scenario.events.clone();
    let later = LATER.map(Duration::from_secs);
    events.extend(scenario.output.iter().chain(&later).map(|at| (*at, Event::Output)));
    events.sort_by_key(|(at, _)| *at);
    // Since when output waits.
    let mut waiting = None;
    let mut now = Duration::ZERO;
    let mut full = scenario.full.iter().copied();
    let mut lateness = scenario.lateness.iter().copied().cycle();
    loop {
        while let Some(&(at, event)) = events.first().filter(|(at, _)| *at <= now) {
            events.remove(0);
            match event {
                Event::Flush => {
                    pacer.flush(start + at);
                    waiting = None;
                }
                Event::Flow(flow) => pacer.flow_control(flow, start + at),
                Event::Size => pacer.window_size_came(),
                Event::Output => {
                    waiting.get_or_insert(now);
                }
            }
            if event == Event::Size && requests(&seen.sent).count() > 0 {
                seen.answered.get_or_insert(now);
            }
        }
        // In the end every queue runs empty.
        let busy = now < ms(10_000) && scenario.queue.iter().filter(|at| **at <= now).count() % 2 == 1;
        let queue = Queue { unsent: busy.into(), behind: (!seen.wire.is_empty()).into() };
        seen.looks += 1;
        seen.held.push((now, pacer.holds_output(start + now)));
        let mut next = pacer.next(start + now, queue, waiting.is_some());
        if let Next::Send(byte) = next
            && !full.next().unwrap_or(false)
        {
            pacer.sent(byte, start + now);
            seen.sent.push((now, byte));
            seen.wire.push((now, Item::Urgent(byte)));
            if let Some((which, delay)) = scenario.answer
                && byte == WINDOW
                && requests(&seen.sent).count() == which + 1
            {
                events.push((now + delay, Event::Size));
                events.sort_by_key(|(at, _)| *at);
            }
            if !pacer.holds_output(start + now)
                && let Some(since) = waiting.take()
            {
                seen.wire.push((now, Item::Output(now - since)));
            }
            continue;
        }
        if !matches!(next, Next::Send(_))
            && !pacer.holds_output(start + now)
            && let Some(since) = waiting.take()
        {
            assert!(busy || !pacer.is_due(start + now), "output does not wait for what is due");
            seen.wire.push((now, Item::Output(now - since)));
            // Nothing follows any more.
            next = pacer.next(start + now, Queue { behind: 1, ..queue }, false);
        }
        let next = match next {
            Next::Send(_) => Some(now + Duration::from_millis(1)),
            Next::At(at) => {
                assert!(at > start + now, "a wake-up in the past would spin");
                Some(at - start + lateness.next().unwrap_or_default())
            }
            Next::Idle => None,
        };
        now = match (next, events.first()) {
            (Some(next), Some(&(event, _))) => next.min(event),
            (Some(next), None) => next,
            (None, Some(&(event, _))) => event,
            (None, None) => break,
        };
    }
    assert!(waiting.is_none() && !pacer.holds_output(start + now), "output is held for ever");
    seen
}

fn requests(sent: &[(Duration, u8)]) -> impl Iterator<Item = Duration> {
    sent.iter().filter(|(_, byte)| *byte == WINDOW).map(|(at, _)| *at)
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn moment() -> impl Strategy<Value = Duration> {
    // Often within the start, where it matters most, and around the second request.
    prop_oneof![2 => 0..400_u64, 2 => 900..1500_u64, 1 => 0..4000_u64].prop_map(ms)
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let event = prop_oneof![
        Just(Event::Flush),
        Just(Event::Flow(FlowControl::Client)),
        Just(Event::Flow(FlowControl::Program)),
    ];
    let unasked = prop::option::weighted(0.1, moment().prop_map(|at| (at, Event::Size)));
    let events = (vec((moment(), event), 0..12), unasked).prop_map(|(mut events, size)| {
        events.extend(size);
        events.sort_by_key(|(at, _)| *at);
        events
    });
    let answer = prop::option::of((0..2_usize, (1..500_u64).prop_map(ms)));
    let output = vec(moment(), 0..12).prop_map(|mut output| {
        output.sort();
        output
    });
    let queue = vec(moment(), 0..12);
    let lateness = prop_oneof![2 => Just(vec![]), 1 => vec((0..15_u64).prop_map(ms), 1..5)];
    let full = prop_oneof![2 => Just(vec![]), 1 => vec(any::<bool>(), 0..20)];
    let parts = (events, output, answer, queue, lateness, full);
    parts.prop_map(|(events, output, answer, queue, lateness, full)| Scenario {
        events,
        output,
        answer,
        queue,
        lateness,
        full,
    })
}

/// What the client was told to do by then.
fn told(sent: &[(Duration, u8)], by: Duration) -> FlowControl {
    match sent.iter().rfind(|(at, byte)| *at <= by && byte & (RAW | COOKED) != 0) {
        Some((_, byte)) if byte & RAW != 0 => FlowControl::Program,
        _ => FlowControl::Client,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn two_urgent_bytes_are_never_close(scenario in scenario()) {
        let sent = simulate(&scenario).sent;
        for pair in sent.windows(2) {
            prop_assert!(pair[1].0 - pair[0].0 >= GAP, "{:?}", sent);
        }
    }

    #[test]
    fn the_request_is_alone(scenario in scenario()) {
        let Seen { sent, answered, .. } = simulate(&scenario);
        prop_assert_eq!(sent[0].1, WINDOW);
        prop_assert!(sent[0].0 >= WINDOW_DELAY);
        let asked: Vec<Duration> = requests(&sent).collect();
        prop_assert!(asked.len() <= 2);
        if let Some(again) = asked.get(1) {
            prop_assert!(*again >= asked[0] + WINDOW_AGAIN);
            prop_assert!(answered.is_none_or(|answered| answered >= *again), "asked again after an answer");
        } else {
            prop_assert!(answered.is_some(), "not asked again");
        }
        for (at, byte) in &sent {
            prop_assert!(*byte == WINDOW || byte & WINDOW == 0);
            for asked in asked.iter().filter(|asked| *asked < at) {
                let quiet = answered.unwrap_or(Duration::MAX).max(*asked).min(*asked + WINDOW_ALONE);
                prop_assert!(*at >= quiet, "{:?} disturbs the request at {:?}", at, asked);
            }
        }
    }

    #[test]
    fn the_client_ends_up_as_wanted(scenario in scenario()) {
        let mut wanted = scenario.events.iter().filter_map(|(_, event)| match event {
            Event::Flow(flow) => Some(*flow),
            Event::Flush | Event::Size | Event::Output => None,
        });
        let mut told = FlowControl::Client;
        for (_, byte) in simulate(&scenario).sent {
            prop_assert!([FLUSH, RAW, COOKED, FLUSH | RAW, FLUSH | COOKED, WINDOW].contains(&byte));
            let now = match byte & !(FLUSH | WINDOW) {
                RAW => FlowControl::Program,
                COOKED => FlowControl::Client,
                _ => continue,
            };
            prop_assert!(now != told, "sent what did not change");
            told = now;
        }
        prop_assert_eq!(told, wanted.next_back().unwrap_or(FlowControl::Client));
    }

    #[test]
    fn every_flush_is_sent_and_none_is_invented(scenario in scenario()) {
        let Seen { sent, held, .. } = simulate(&scenario);
        let flushes: Vec<Duration> =
            scenario.events.iter().filter(|(_, event)| *event == Event::Flush).map(|(at, _)| *at).collect();
        let mut before = None;
        for (at, _) in sent.iter().filter(|(_, byte)| byte & FLUSH != 0) {
            let caused = flushes.iter().filter(|flush| before < Some(**flush) && **flush <= *at).min();
            prop_assert!(caused.is_some(), "a flush for nothing at {:?}", at);
            let pending = *caused.unwrap()..*at;
            prop_assert!(held.iter().all(|(when, held)| *held || !pending.contains(when)));
            before = Some(*at);
        }
        prop_assert!(flushes.iter().all(|flush| sent.iter().any(|(at, byte)| at >= flush && byte & FLUSH != 0)));
    }

    #[test]
    fn every_urgent_byte_but_the_first_has_output_directly_behind_it(scenario in scenario()) {
        let wire = simulate(&scenario).wire;
        let first = wire.iter().position(|(_, item)| *item == Item::Urgent(WINDOW));
        for (index, (at, item)) in wire.iter().enumerate() {
            if let Item::Urgent(byte) = item
                && Some(index) != first
            {
                let behind = wire.get(index + 1);
                let follows = behind.is_some_and(|(when, item)| matches!(item, Item::Output(_)) && when == at);
                prop_assert!(follows, "{:#x} at {:?}, then {:?}", byte, at, behind);
            }
        }
    }

    #[test]
    fn nothing_waits_for_long(mut scenario in scenario()) {
        scenario.lateness.clear();
        scenario.full.clear();
        let Seen { wire, sent, looks, .. } = simulate(&scenario);
        let latest = WINDOW_DELAY;
        let before = wire[0] != (sent[0].0, Item::Urgent(WINDOW));
        let next = scenario.output.iter().copied().find(|at| *at >= latest).unwrap_or(Duration::from_secs(LATER[0]));
        prop_assert!(sent[0].0 <= if before { next } else { latest }, "{:?}", wire);
        for (_, item) in &wire {
            prop_assert!(!matches!(item, Item::Output(waited) if *waited > GAP + PATIENCE), "{:?}", wire);
        }
        // A second of waiting is about a hundred looks; nothing else costs more than one or two.
        let happenings = scenario.events.len() + scenario.output.len() + LATER.len();
        prop_assert!(looks <= 20 + 150 * sent.len() + 3 * happenings, "{looks}");
    }

    #[test]
    fn without_changes_output_waits_only_for_the_first_request(mut scenario in scenario()) {
        scenario.lateness.clear();
        scenario.full.clear();
        scenario.events.retain(|(_, event)| *event == Event::Size);
        // The end of the hold is noticed with the next look at the queue.
        let end = WINDOW_DELAY + WINDOW_HOLD + ms(3);
        for (at, item) in simulate(&scenario).wire {
            prop_assert!(at <= end || !matches!(item, Item::Output(waited) if waited > Duration::ZERO));
        }
    }

    #[test]
    fn with_an_empty_queue_nothing_waits_but_for_gap_request_and_output(mut scenario in scenario()) {
        scenario.lateness.clear();
        scenario.full.clear();
        scenario.queue.clear();
        let Seen { wire, sent, looks, .. } = simulate(&scenario);
        prop_assert_eq!(sent[0], (WINDOW_DELAY, WINDOW));
        let changes = scenario.events.iter().any(|(_, event)| *event != Event::Size);
        if let Some(again) = requests(&sent).nth(1)
            && !changes
        {
            let due = WINDOW_DELAY + WINDOW_AGAIN;
            let next = scenario.output.iter().copied().find(|at| *at >= due);
            prop_assert_eq!(again, next.unwrap_or(Duration::from_secs(LATER[0])));
        }
        let longest = WINDOW_DELAY + WINDOW_ALONE + GAP;
        let flushes = scenario.events.iter().any(|(_, event)| *event == Event::Flush);
        for (at, item) in &wire {
            let Item::Output(waited) = item else { continue };
            // Only a flush holds output for longer than a moment then.
            prop_assert!(*waited <= if flushes { longest } else { GAP }, "{:?}", wire);
            let flow = scenario.events.iter().rev().find_map(|(when, event)| match event {
                Event::Flow(flow) if when <= at => Some((*when, *flow)),
                Event::Flow(_) | Event::Flush | Event::Size | Event::Output => None,
            });
            if let Some((since, wanted)) = flow
                && *at >= since + longest
            {
                prop_assert_eq!(told(&sent, *at), wanted, "output at {:?} goes ahead of a change", at);
            }
        }
        let happenings = scenario.events.len() + scenario.output.len() + LATER.len();
        prop_assert!(looks <= 5 + 4 * (sent.len() + happenings), "{looks}");
    }
}
