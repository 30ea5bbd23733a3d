//! Window sizes in the client's stream: splits make no difference, and without an FF
//! everything is data.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use rlogind::wire::window::Decoder;

fuzz_target!(|input: (u16, &[u8])| {
    let (at, bytes) = input;
    let (head, tail) = bytes.split_at(usize::from(at).min(bytes.len()));
    let now = Instant::now();
    let run = |pieces: &[&[u8]]| {
        let (mut decoder, mut data, mut size) = (Decoder::default(), Vec::new(), None);
        for piece in pieces {
            size = decoder.decode(piece, now, &mut data).or(size);
        }
        decoder.finish(&mut data);
        (data, size)
    };
    let whole = run(&[bytes]);
    assert_eq!(whole, run(&[head, tail]));
    assert!(whole.0.len() <= bytes.len() && (bytes.len() - whole.0.len()).is_multiple_of(12));
    if !bytes.contains(&0xff) {
        assert_eq!(whole.0, bytes);
    }
});
