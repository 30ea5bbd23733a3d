//! The handshake at every split, and what holds for any bytes at all.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rlogind::wire::handshake::{
    Decoder, Handshake, MAX_HANDSHAKE, MAX_NAME, MAX_TERMINAL, Progress, Refusal,
};

/// Feeds `pieces` until the handshake is done or refused; gives how much was consumed in all. Behind each piece
/// another decoder takes over.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<Result<(Handshake, usize), Refusal>> {
    let (mut decoder, mut before) = (Decoder::new(), 0);
    for piece in pieces {
        match decoder.push(piece) {
            Ok(Progress::More) => {
                before += piece.len();
                let taken = decoder.taken();
                decoder = Decoder::new();
                assert_eq!(decoder.push(&taken), Ok(Progress::More));
                assert_eq!(decoder.taken(), taken);
            }
            Ok(Progress::Done { handshake, consumed }) => return Some(Ok((handshake, before + consumed))),
            Err(refusal) => return Some(Err(refusal)),
        }
    }
    None
}

#[test]
fn every_split_into_three_gives_the_same() {
    let table: [&[u8]; 6] = [
        b"\0alice\0bob\0xterm/38400\0",
        b"\0\0\0\0",
        b"\0alice\0bob\0xterm/38400\0data \0 behind\0it",
        b"\0al\nice\0bob\0xterm/38400\0data",
        b"\0alice\0-bob\0xterm/38400\0",
        b"GET / HTTP/1.0\r\n",
    ];
    for bytes in table {
        let whole = feed([bytes]);
        assert!(whole.is_some());
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(feed(pieces), whole, "{bytes:?} split at {first} and {second}");
            }
        }
        assert_eq!(feed(bytes.chunks(1)), whole, "{bytes:?} byte by byte");
    }
}

#[test]
fn a_handshake_that_stops_short_is_never_done() {
    let bytes = b"\0alice\0bob\0xterm/38400\0";
    for end in 0..bytes.len() {
        assert_eq!(feed([&bytes[..end]]), None);
    }
    assert!(feed([bytes.as_slice()]).is_some());
}

/// Bytes without NUL, some of them special, at times about as many as are allowed.
fn field(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        30 => b'a'..=b'z',
        3 => b'0'..=b'9',
        3 => Just(b'/'),
        1 => 1..=u8::MAX,
    ];
    prop_oneof![8 => vec(byte, 0..20), 1 => vec(b'a'..=b'z', longest - 3..longest + 3)]
}

/// `bytes`, cut in pieces.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_stream_and_the_parts_agree(
        client in field(MAX_NAME), server in field(MAX_NAME), terminal in field(MAX_TERMINAL),
        trailing in vec(any::<u8>(), 0..30), cuts in vec(any::<Index>(), 0..7),
    ) {
        let handshake = [b"\0", client.as_slice(), b"\0", &server, b"\0", &terminal, b"\0"].concat();
        let stream = [handshake.as_slice(), &trailing].concat();
        let parts = Handshake::from_parts(&client, &server, &terminal);
        let fed = feed(pieces(&stream, &cuts));
        match (parts, fed) {
            (Ok(parts), Some(Ok((fed, consumed)))) => {
                prop_assert_eq!(consumed, handshake.len());
                prop_assert_eq!(&fed, &parts);
                prop_assert_eq!(fed.client_user.as_bytes(), client.as_slice());
                prop_assert_eq!(fed.server_user.as_bytes(), server.as_slice());
                let again = Handshake::from_parts(&client, &server, fed.terminal_field().as_bytes());
                prop_assert_eq!(again, Ok(fed));
            }
            // Which of two reasons is given may differ: a length is refused before all is there.
            (Err(_), Some(Err(_))) => {}
            (parts, fed) => prop_assert!(false, "{parts:?} but {fed:?}"),
        }
    }

    #[test]
    fn anything_is_decided_within_the_limit(
        mut bytes in vec(1..=u8::MAX, 2 * MAX_HANDSHAKE), zeros in vec(1..MAX_HANDSHAKE, 0..4),
        rlogin in prop::bool::weighted(0.9),
    ) {
        zeros.into_iter().for_each(|at| bytes[at] = 0);
        if rlogin {
            bytes[0] = 0;
        }
        let decided = feed([&bytes[..MAX_HANDSHAKE]]);
        prop_assert!(decided.is_some());
        prop_assert_eq!(&feed([bytes.as_slice()]), &decided);
        prop_assert_eq!(feed(bytes.chunks(1)), decided);
    }

    #[test]
    fn what_is_accepted_is_harmless(
        client in field(MAX_NAME), server in field(MAX_NAME), terminal in vec(any::<u8>(), 0..70),
    ) {
        if let Ok(handshake) = Handshake::from_parts(&client, &server, &terminal) {
            for name in [handshake.client_user.as_bytes(), handshake.server_user.as_bytes()] {
                prop_assert!(name.len() <= MAX_NAME && !name.starts_with(b"-"));
                prop_assert!(!name.iter().any(u8::is_ascii_control));
                prop_assert!(!name.windows(2).any(|w| w[0] == 0xc2 && (0x80..0xa0).contains(&w[1])));
            }
            let kind = handshake.terminal.as_str();
            prop_assert!((1..=MAX_TERMINAL).contains(&kind.len()));
            prop_assert!(kind.chars().all(|c| c.is_ascii_alphanumeric() || "+._:-".contains(c)));
        }
    }
}
