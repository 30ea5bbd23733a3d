//! The TCPMUX request: splits make no difference, and no byte behind it is taken.

use rlogind::wire::tcpmux::{Decoder, MAX_REQUEST, Offer, Progress};

/// The first byte says whether there is help, and where the others are split.
pub(crate) fn check(input: &[u8]) {
    let Some((first, bytes)) = input.split_first() else { return };
    let (help, at) = (first & 1 == 1, first >> 1);
    let services = ["login".to_owned(), "rlogin".to_owned()];
    let (head, tail) = bytes.split_at(usize::from(at).min(bytes.len()));
    let run = |pieces: &[&[u8]]| {
        let (mut decoder, mut before) = (Decoder::default(), 0);
        for piece in pieces {
            match decoder.push(piece, Offer { services: &services, help }) {
                Ok(Progress::More) => before += piece.len(),
                Ok(Progress::Service { consumed }) => return format!("service {}", before + consumed),
                other => return format!("{other:?}"),
            }
        }
        "more".to_owned()
    };
    let whole = run(&[bytes]);
    assert_eq!(whole, run(&[head, tail]));
    assert!(whole != "more" || bytes.len() < MAX_REQUEST, "it waits for ever");
}
