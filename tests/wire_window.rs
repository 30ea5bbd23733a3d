//! Window sizes in the client's stream: every split, and what holds for any stream and any timing.

use std::collections::BTreeSet;
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
    /// Where in the input messages begin.
    messages: Vec<usize>,
    /// The last size that some screen can have.
    size: Option<WindowSize>,
}

fn meaning(input: &[u8]) -> Meaning {
    let mut meaning = Meaning { output: Vec::new(), messages: Vec::new(), size: None };
    let mut at = 0;
    while at < input.len() {
        let rest = &input[at..];
        if rest.len() >= MESSAGE && rest.starts_with(MAGIC) {
            let number = |i: usize| u16::from_be_bytes([rest[i], rest[i + 1]]);
            let (rows, columns) = (number(4), number(6));
            if (1..4096).contains(&rows) && (1..4096).contains(&columns) {
                meaning.size = Some(WindowSize { rows, columns, x_pixels: number(8), y_pixels: number(10) });
            }
            meaning.messages.push(at);
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
        assert!(decoder.held().len() < MESSAGE);
        assert_eq!(decoder.hold_deadline().is_some(), !decoder.held().is_empty());
    }
    decoder.finish(&mut output);
    assert!(decoder.held().is_empty());
    (output, size)
}

fn at_once<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<WindowSize>) {
    let pieces: Vec<Piece> = pieces.into_iter().map(|piece| (Duration::ZERO, piece.to_vec())).collect();
    decode(&pieces, false, None)
}

/// Whether `output` is all of `input` in order, but that of each message only the first none to three bytes are there.
///
/// The messages begin at `messages`; without it, any that could be one may be one, or may be data.
fn explains(input: &[u8], messages: Option<&[usize]>, output: &[u8]) -> bool {
    // For each position in the input: how much of the output it can account for.
    let mut reached = vec![BTreeSet::new(); input.len() + 1];
    reached[0].insert(0);
    for at in 0..input.len() {
        let rest = &input[at..];
        let message = match messages {
            Some(messages) => messages.contains(&at),
            None => rest.len() >= MESSAGE && rest.starts_with(MAGIC),
        };
        for done in std::mem::take(&mut reached[at]) {
            if (!message || messages.is_none()) && output.get(done) == Some(&rest[0]) {
                reached[at + 1].insert(done + 1);
            }
            for leaked in 0..MAGIC.len() {
                if message && output[done..].starts_with(&rest[..leaked]) {
                    reached[at + MESSAGE].insert(done + leaked);
                }
            }
        }
    }
    reached[input.len()].contains(&output.len())
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
        let Meaning { output, size, .. } = meaning(input);
        for first in 0..=input.len() {
            for second in first..=input.len() {
                let pieces = [&input[..first], &input[first..second], &input[second..]];
                assert_eq!(at_once(pieces), (output.clone(), size), "{input:?} at {first} and {second}");
            }
        }
        assert_eq!(at_once(input.chunks(1)), (output, size), "{input:?} byte by byte");
    }
}

#[test]
fn every_split_with_a_pause_between() {
    let input = b"a\xff\xffss\0\x18\0\x50\0\0\0\0b";
    for split in 0..=input.len() {
        let (before, after) = input.split_at(split);
        let pieces = [(Duration::ZERO, before.to_vec()), (HOLD, after.to_vec())];
        let (output, size) = decode(&pieces, true, None);
        let leaked: &[u8] = if (2..=4).contains(&split) { &input[1..split] } else { b"" };
        assert_eq!(output, [b"a", leaked, b"b"].concat(), "split at {split}");
        assert_eq!(size.map(|size| (size.rows, size.columns)), Some((24, 80)), "split at {split}");
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

/// Such a stream in pieces of at least a byte, some with a pause before them that is no longer than `longest`.
fn paced(longest: Duration) -> impl Strategy<Value = Vec<Piece>> {
    let pause = prop_oneof![2 => Just(0), 1 => 0..=100_u32].prop_map(move |percent| longest * percent / 100);
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

/// Long enough to let beginnings go; too short for the eight bytes behind a magic to take a second.
const MODERATE: Duration = HOLD.saturating_mul(2);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn splits_make_no_difference(pieces in paced(Duration::ZERO)) {
        let Meaning { output, messages, size } = meaning(&joined(&pieces));
        prop_assert_eq!(output.len() + MESSAGE * messages.len(), joined(&pieces).len());
        prop_assert_eq!(decode(&pieces, true, None), (output, size));
    }

    #[test]
    fn pauses_leak_beginnings_and_change_nothing_else(
        pieces in paced(MODERATE), hand_over in prop::option::of(0..30_usize),
    ) {
        let input = joined(&pieces);
        let Meaning { messages, size, .. } = meaning(&input);
        let (output, decoded) = decode(&pieces, true, hand_over);
        prop_assert_eq!(decoded, size);
        prop_assert!(explains(&input, Some(&messages), &output), "{:?} from {:?}", output, input);
    }

    #[test]
    fn without_a_release_no_pause_matters(pieces in paced(SIZE_WAIT * 2)) {
        let Meaning { output, size, .. } = meaning(&joined(&pieces));
        prop_assert_eq!(decode(&pieces, false, None), (output, size));
    }

    #[test]
    fn long_pauses_turn_messages_into_data_at_most(pieces in paced(SIZE_WAIT * 2)) {
        let input = joined(&pieces);
        let (output, _) = decode(&pieces, true, None);
        prop_assert!(explains(&input, None, &output), "{:?} from {:?}", output, input);
    }

    #[test]
    fn data_alone_survives_any_pause(mut pieces in paced(SIZE_WAIT * 2)) {
        pieces.iter_mut().flat_map(|(_, piece)| piece).filter(|b| **b == b's').for_each(|b| *b = b't');
        prop_assert_eq!(decode(&pieces, true, None), (joined(&pieces), None));
    }

    #[test]
    fn no_state_is_harmful(
        matched in vec(prop_oneof![Just(0xff), Just(b's'), any::<u8>()], 0..20), released: usize,
    ) {
        let now = Instant::now();
        let mut decoder = Decoder::from_state(&State { matched, released }, now);
        let mut output = Vec::new();
        decoder.release(now + SIZE_WAIT, &mut output);
        decoder.finish(&mut output);
        let size = decoder.decode(b"\xff\xffss\0\x18\0\x50\0\0\0\0", now, &mut output);
        prop_assert_eq!(size.map(|size| (size.rows, size.columns)), Some((24, 80)));
    }
}
