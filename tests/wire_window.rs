//! Window sizes in the client's stream: every split, and what holds for any stream and any timing.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use rlogind::wire::window::{Decoder, HOLD, SIZE_WAIT, State, WindowSize};

const MAGIC: &[u8] = b"\xff\xffss";
const MESSAGE: usize = 12;

/// A part of the client's stream and the pause before it.
type Piece = (Duration, Vec<u8>);

/// What a whole stream means, found the slow and obvious way.
struct Meaning {
    /// The data.
    output: Vec<u8>,
    /// How many messages there are.
    messages: usize,
    /// The last size that some screen can have.
    size: Option<WindowSize>,
}

/// The meaning of `pieces`: a message is one that looks like it and, when `timely`, has no long pause inside.
fn meaning(pieces: &[Piece], timely: bool) -> Meaning {
    let input = joined(pieces);
    // The pause before each byte; one before an empty piece counts for the byte that comes next.
    let (mut pauses, mut pause) = (Vec::new(), Duration::ZERO);
    for (before, piece) in pieces {
        pause += *before;
        pauses.extend(piece.iter().map(|_| std::mem::take(&mut pause)));
    }
    let in_time = |pauses: &[Duration]| {
        pauses[1..4].iter().all(|pause| *pause < HOLD)
            && pauses[4..MESSAGE].iter().all(|pause| *pause < SIZE_WAIT)
    };
    let mut meaning = Meaning { output: Vec::new(), messages: 0, size: None };
    let mut at = 0;
    while at < input.len() {
        let rest = &input[at..];
        if rest.len() >= MESSAGE && rest.starts_with(MAGIC) && (!timely || in_time(&pauses[at..])) {
            let number = |i: usize| u16::from_be_bytes([rest[i], rest[i + 1]]);
            let (rows, columns) = (number(4), number(6));
            if (1..4096).contains(&rows) && (1..4096).contains(&columns) {
                meaning.size = Some(WindowSize { rows, columns, x_pixels: number(8), y_pixels: number(10) });
            }
            meaning.messages += 1;
            at += MESSAGE;
        } else {
            meaning.output.push(input[at]);
            at += 1;
        }
    }
    meaning
}

/// Decodes `pieces`, letting go what is due before each when `timely`; the decoder goes through its
/// [`State`] before the piece with the number `hand_over`.
fn decode(pieces: &[Piece], timely: bool, hand_over: Option<usize>) -> (Vec<u8>, Option<WindowSize>) {
    let (mut decoder, mut output, mut size) = (Decoder::default(), Vec::new(), None);
    let mut now = Instant::now();
    for (i, (pause, piece)) in pieces.iter().enumerate() {
        now += *pause;
        if timely {
            decoder.release(now, &mut output);
            assert!(decoder.hold_deadline().is_none_or(|deadline| now < deadline));
        }
        if hand_over == Some(i) {
            let state = decoder.state();
            let taken_over = Decoder::from_state(&state, now);
            assert_eq!((taken_over.state(), taken_over.held()), (state, decoder.held()));
            decoder = taken_over;
        }
        size = decoder.decode(piece, now, &mut output).or(size);
        // Nothing is held but the beginning of a message, and that not for long.
        let held = decoder.held();
        assert!(held.len() < MESSAGE && (MAGIC.starts_with(held) || held.starts_with(MAGIC)), "{held:?}");
        let patience = if held.len() < MAGIC.len() { HOLD } else { SIZE_WAIT };
        if held.is_empty() {
            assert_eq!(decoder.hold_deadline(), None);
        } else if !piece.is_empty() {
            assert_eq!(decoder.hold_deadline(), Some(now + patience));
        }
    }
    decoder.finish(&mut output);
    assert!(decoder.held().is_empty());
    (output, size)
}

/// Each of the parts as a piece without a pause.
fn at_once<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Piece> {
    parts.into_iter().map(|part| (Duration::ZERO, part.to_vec())).collect()
}

#[test]
fn every_split_into_three_gives_the_same() {
    let table: [&[u8]; 6] = [
        b"ls\r\xff\xffss\0\x18\0\x50\x02\x80\x01\xe0exit\r",
        b"\xff\xff\xffss\0\x18\0\x50\0\0\0\0\xff\xff\xff",
        b"\xff\xffss\0\x18\0\x50\0\0\0\0\xff\xffss\0\x32\0\x64\0\0\0\0",
        b"\xff\xffss\0\0\0\0\0\0\0\0\xffs\xff\xffs\xff\xffss\0\x19\0\x51\0\0\0\0",
        b"\xff\xffss\xff\xffss\0\x18\0\x50\0\0\0\0",
        b"ab\xff\xffss\0\x18\0\x50\0\0\0",
    ];
    for input in table {
        let Meaning { output, size, .. } = meaning(&at_once([input]), true);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = at_once([&input[..first], &input[first..second], &input[second..]]);
                let decoded = decode(&pieces, true, None);
                assert_eq!(decoded, (output.clone(), size), "{input:?} at {first} and {second}");
            }
        }
        assert_eq!(decode(&at_once(input.chunks(1)), true, None), (output, size), "{input:?} byte by byte");
    }
}

#[test]
fn every_split_with_a_pause_between() {
    let input = b"a\xff\xffss\0\x18\0\x50\0\0\0\0b";
    const TICK: Duration = Duration::from_millis(1);
    // With each pause: at which splits it makes the message data.
    for (pause, data) in [(HOLD - TICK, 0..0), (HOLD, 2..5), (SIZE_WAIT - TICK, 2..5), (SIZE_WAIT, 2..13)] {
        for split in 0..=input.len() {
            let (before, after) = input.split_at(split);
            let (output, size) =
                decode(&[(Duration::ZERO, before.to_vec()), (pause, after.to_vec())], true, None);
            let size = size.map(|size| (size.rows, size.columns));
            let expected =
                if data.contains(&split) { (input.to_vec(), None) } else { (b"ab".to_vec(), Some((24, 80))) };
            assert_eq!((output, size), expected, "split at {split}, {pause:?}");
        }
    }
}

/// Streams in which nearly everything looks like a message for a while.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        3 => vec(prop_oneof![Just(0xff), Just(b's'), Just(b'x')], 1..6),
        2 => vec(any::<u8>(), 8).prop_map(|size| [MAGIC, &size].concat()),
        2 => (0..50_u8, 0..100_u8).prop_map(|(r, c)| [MAGIC, &[0, r, 0, c, 0, 0, 0, 0]].concat()),
        1 => vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

/// Such a stream in pieces of at least a byte, some with one of `pauses` before them.
fn paced(pauses: &'static [Duration]) -> impl Strategy<Value = Vec<Piece>> {
    let pause = prop_oneof![5 => Just(Duration::ZERO), 2 => prop::sample::select(pauses)];
    (stream(), vec((pause, 1..6_usize), 100)).prop_map(|(stream, cuts)| {
        let mut rest = stream.as_slice();
        let mut pieces = Vec::new();
        for (pause, length) in cuts {
            let (piece, tail) = rest.split_at(length.min(rest.len()));
            if !piece.is_empty() {
                pieces.push((pause, piece.to_vec()));
            }
            rest = tail;
        }
        pieces.push((Duration::ZERO, rest.to_vec()));
        pieces
    })
}

fn joined(pieces: &[Piece]) -> Vec<u8> {
    pieces.iter().flat_map(|(_, piece)| piece.iter().copied()).collect()
}

/// The longest pauses that change nothing, and the shortest that do.
const PAUSES: &[Duration] = &[
    HOLD.saturating_sub(Duration::from_nanos(1)),
    HOLD,
    SIZE_WAIT.saturating_sub(Duration::from_nanos(1)),
    SIZE_WAIT,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn splits_make_no_difference(pieces in paced(&[Duration::ZERO])) {
        let Meaning { output, messages, size } = meaning(&at_once([joined(&pieces).as_slice()]), true);
        prop_assert_eq!(output.len() + MESSAGE * messages, joined(&pieces).len());
        prop_assert_eq!(decode(&pieces, true, None), (output, size));
    }

    #[test]
    fn short_pauses_make_no_difference(pieces in paced(&PAUSES[..1])) {
        let Meaning { output, size, .. } = meaning(&pieces, false);
        prop_assert_eq!(decode(&pieces, true, None), (output, size));
    }

    #[test]
    fn a_message_with_a_long_pause_inside_is_data(
        pieces in paced(PAUSES), hand_over in prop::option::of(0..30_usize),
    ) {
        let Meaning { output, size, .. } = meaning(&pieces, true);
        prop_assert_eq!(decode(&pieces, true, hand_over), (output, size));
    }

    #[test]
    fn without_a_release_no_pause_matters(pieces in paced(PAUSES)) {
        let Meaning { output, size, .. } = meaning(&pieces, false);
        prop_assert_eq!(decode(&pieces, false, None), (output, size));
    }

    #[test]
    fn data_alone_survives_any_pause(mut pieces in paced(PAUSES)) {
        pieces.iter_mut().flat_map(|(_, piece)| piece).filter(|b| **b == b's').for_each(|b| *b = b't');
        prop_assert_eq!(decode(&pieces, true, None), (joined(&pieces), None));
    }

    #[test]
    fn no_state_is_harmful(held in vec(prop_oneof![Just(0xff), Just(b's'), any::<u8>()], 0..20)) {
        let now = Instant::now();
        let mut decoder = Decoder::from_state(&State { held }, now);
        let mut output = Vec::new();
        decoder.release(now + SIZE_WAIT, &mut output);
        prop_assert!(decoder.held().is_empty());
        let size = decoder.decode(b"\xff\xffss\0\x18\0\x50\0\0\0\0", now, &mut output);
        prop_assert_eq!(size.map(|size| (size.rows, size.columns)), Some((24, 80)));
    }
}
