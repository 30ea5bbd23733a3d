//! The TCPMUX request: splits make no difference, and no byte behind it is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rlogind::wire::tcpmux::{Decoder, MAX_REQUEST, Offer, Progress};

fuzz_target!(|input: (bool, u16, &[u8])| {
    let (help, at, bytes) = input;
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
});
