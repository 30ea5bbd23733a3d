//! The TCPMUX request at every split, and what holds for any bytes at all.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use rlogind::wire::tcpmux::{Decoder, MAX_REQUEST, Offer, Progress, Refusal};

/// Feeds `pieces` until the request is decided; a service with how much was consumed in all.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, help: bool) -> Option<Result<Progress, Refusal>> {
    let services = ["login", "rlogin"].map(str::to_owned);
    let offer = Offer { services: &services, help };
    let (mut decoder, mut before) = (Decoder::default(), 0);
    for piece in pieces {
        match decoder.push(piece, offer) {
            Ok(Progress::More) => {
                before += piece.len();
                // Another decoder takes over.
                let mut next = Decoder::default();
                assert_eq!(next.push(decoder.taken(), offer), Ok(Progress::More));
                decoder = next;
            }
            Ok(Progress::Service { consumed }) => {
                return Some(Ok(Progress::Service { consumed: before + consumed }));
            }
            decided => return Some(decided),
        }
    }
    None
}

#[test]
fn every_split_into_three_gives_the_same() {
    let long = [b'x'; MAX_REQUEST + 3];
    let table: [&[u8]; 9] = [
        b"login\r\n",
        b"RLOGIN\n",
        b"rlogin\r\n\0alice\0bob\0xterm/38400\0typed",
        b"HELP\r\nmore",
        b"finger\r\n",
        b"\r\n",
        b"log\0in\r\n",
        b"login\rx\n",
        &long,
    ];
    for bytes in table {
        let whole = feed([bytes], true);
        assert!(whole.is_some(), "{bytes:?}");
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(feed(pieces, true), whole, "{bytes:?} split at {first} and {second}");
            }
        }
        assert_eq!(feed(bytes.chunks(1), true), whole, "{bytes:?} byte by byte");
    }
}

#[test]
fn a_request_that_stops_short_is_never_decided() {
    for request in [b"rlogin\r\n".as_slice(), b"HELP\n", b"finger\r\n"] {
        for end in 0..request.len() {
            assert_eq!(feed([&request[..end]], true), None);
        }
        assert!(feed([request], true).is_some());
    }
}

/// `bytes`, cut in pieces.
fn pieces<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    ends.into_iter().map(|end| &bytes[std::mem::replace(&mut start, end)..end]).collect()
}

/// A name in some mixture of upper and lower case.
fn mixed_case(name: &str, upper: u8) -> String {
    let upper_at = |at: usize| upper >> at & 1 == 1;
    (0..).zip(name.chars()).map(|(at, c)| if upper_at(at) { c.to_ascii_uppercase() } else { c }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_is_behind_a_request_stays_the_callers(
        name in prop::sample::select(vec!["login", "rlogin"]), upper: u8, carriage_return: bool,
        behind in vec(any::<u8>(), 0..600), cuts in vec(any::<Index>(), 0..7), help: bool,
    ) {
        let end = if carriage_return { "\r\n" } else { "\n" };
        let request = format!("{}{end}", mixed_case(name, upper));
        let stream = [request.as_bytes(), &behind].concat();
        let fed = feed(pieces(&stream, &cuts), help);
        prop_assert_eq!(fed, Some(Ok(Progress::Service { consumed: request.len() })));
    }

    #[test]
    fn anything_is_decided_within_the_limit_and_bounded(
        bytes in vec(prop_oneof![20 => b' '..=b'~', 1 => any::<u8>()], MAX_REQUEST..2 * MAX_REQUEST),
        cuts in vec(any::<Index>(), 0..7),
    ) {
        let decided = feed([&bytes[..MAX_REQUEST]], true);
        prop_assert!(decided.is_some());
        prop_assert_eq!(&feed(pieces(&bytes, &cuts), true), &decided);
        if let Some(Err(Refusal::Unknown(text) | Refusal::ControlCharacter(text) | Refusal::TooLong(text))) = decided {
            prop_assert!(text.chars().count() <= MAX_REQUEST);
        }
    }

    #[test]
    fn only_the_names_are_services(line in "[a-zA-Z +-]{0,8}", help: bool) {
        let fed = feed([format!("{line}\r\n").as_bytes()], help);
        let expected = match line.to_lowercase().as_str() {
            "login" | "rlogin" => Ok(Progress::Service { consumed: line.len() + 2 }),
            "help" if help => Ok(Progress::Help),
            _ => Err(Refusal::Unknown(line)),
        };
        prop_assert_eq!(fed, Some(expected));
    }
}
