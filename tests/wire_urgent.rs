//! A session's urgent bytes in simulated time: any events, any state of the send queue, late wake-ups, a socket that
//! takes nothing for a while.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rlogind::wire::urgent::{
    COOKED, FLUSH, FlowControl, GAP, Next, PATIENCE, Pacer, Queue, RAW, WINDOW, WINDOW_AGAIN, WINDOW_ALONE,
    WINDOW_DELAY, WINDOW_PATIENCE,
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Flush,
    Flow(FlowControl),
    /// A window size that came without being asked for.
    Size,
}

/// What happens to a session, in time since its zero byte.
#[derive(Debug, Clone)]
struct Scenario {
    events: Vec<(Duration, Event)>,
    /// The client answers the request with this number (0 or 1) so long after it.
    answer: Option<(usize, Duration)>,
    /// When the send queue changes between empty and not.
    queue: Vec<Duration>,
    /// How late the relay wakes up, each time anew.
    lateness: Vec<Duration>,
    /// Which of the attempts to send find the socket full.
    full: Vec<bool>,
}

/// What the simulation saw.
#[derive(Debug, Default)]
struct Seen {
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
    let mut now = Duration::ZERO;
    let mut full = scenario.full.iter().copied();
    let mut lateness = scenario.lateness.iter().copied().cycle();
    loop {
        while let Some(&(at, event)) = events.first().filter(|(at, _)| *at <= now) {
            events.remove(0);
            match event {
                Event::Flush => pacer.flush(start + at),
                Event::Flow(flow) => pacer.flow_control(flow, start + at),
                Event::Size => pacer.window_size_came(),
            }
            if event == Event::Size && requests(&seen.sent).count() > 0 {
                seen.answered.get_or_insert(now);
            }
        }
        // In the end every queue runs empty.
        let busy = now < ms(10_000) && scenario.queue.iter().filter(|at| **at <= now).count() % 2 == 1;
        let queue = Queue { unsent: busy.into(), behind: 1 };
        seen.looks += 1;
        seen.held.push((now, pacer.holds_output(start + now)));
        let next = match pacer.next(start + now, queue) {
            Next::Send(_) if full.next().unwrap_or(false) => Some(now + Duration::from_millis(1)),
            Next::Send(byte) => {
                pacer.sent(byte, start + now);
                seen.sent.push((now, byte));
                if let Some((which, delay)) = scenario.answer
                    && byte == WINDOW
                    && requests(&seen.sent).count() == which + 1
                {
                    events.push((now + delay, Event::Size));
                    events.sort_by_key(|(at, _)| *at);
                }
                continue;
            }
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
    assert!(!pacer.holds_output(start + now), "output is held for ever");
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
    let queue = vec(moment(), 0..12);
    let lateness = prop_oneof![2 => Just(vec![]), 1 => vec((0..15_u64).prop_map(ms), 1..5)];
    let full = prop_oneof![2 => Just(vec![]), 1 => vec(any::<bool>(), 0..20)];
    (events, answer, queue, lateness, full).prop_map(|(events, answer, queue, lateness, full)| Scenario {
        events,
        answer,
        queue,
        lateness,
        full,
    })
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
            Event::Flush | Event::Size => None,
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
    fn nothing_waits_for_long(mut scenario in scenario()) {
        scenario.lateness.clear();
        scenario.full.clear();
        let Seen { sent, looks, .. } = simulate(&scenario);
        prop_assert!(sent[0].0 <= WINDOW_DELAY + WINDOW_PATIENCE);
        for (flush, _) in scenario.events.iter().filter(|(_, event)| *event == Event::Flush) {
            let answer = sent.iter().find(|(at, byte)| at >= flush && byte & FLUSH != 0);
            prop_assert!(answer.is_some_and(|(at, _)| *at - *flush <= PATIENCE), "{:?}", sent);
        }
        // A second of waiting is about a hundred looks; nothing else costs more than one or two.
        prop_assert!(looks <= 20 + 150 * sent.len() + 3 * scenario.events.len(), "{looks}");
    }

    #[test]
    fn with_an_empty_queue_nothing_waits_but_for_gap_and_request(mut scenario in scenario()) {
        scenario.lateness.clear();
        scenario.full.clear();
        scenario.queue.clear();
        let Seen { sent, held, looks, .. } = simulate(&scenario);
        prop_assert_eq!(sent[0], (WINDOW_DELAY, WINDOW));
        if let Some(again) = requests(&sent).nth(1) {
            // It lets what else there is pass.
            let others = u32::try_from(scenario.events.len()).unwrap() + 1;
            prop_assert!(again <= WINDOW_DELAY + WINDOW_AGAIN + GAP * others);
        }
        for (flush, _) in scenario.events.iter().filter(|(_, event)| *event == Event::Flush) {
            let (at, _) = sent.iter().find(|(at, byte)| at >= flush && byte & FLUSH != 0).unwrap();
            prop_assert!(*at - *flush <= WINDOW_DELAY + WINDOW_ALONE + GAP);
        }
        // Only a flush holds output for longer than a moment then.
        if scenario.events.iter().all(|(_, event)| *event != Event::Flush) {
            for pair in held.windows(2) {
                prop_assert!(!pair[0].1 || pair[1].0 == pair[0].0, "held from {:?}", pair[0].0);
            }
        }
        prop_assert!(looks <= 5 + 4 * (sent.len() + scenario.events.len()), "{looks}");
    }
}
