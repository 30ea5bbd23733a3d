//! Window sizes in the client's stream: splits make no difference, and without an FF
//! everything is data.

use std::time::Instant;

use rlogind::wire::window::Decoder;

/// The first byte says where the others are split.
pub(crate) fn check(input: &[u8]) {
    let Some((at, bytes)) = input.split_first() else { return };
    let (head, tail) = bytes.split_at(usize::from(*at).min(bytes.len()));
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
}
