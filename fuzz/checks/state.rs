//! What one relay leaves to the next: a decoder that was handed over goes on as if it
//! had not been, and one made of any bytes works.

use std::time::Instant;

use rlogind::wire::window::{Decoder, State};

/// The first byte says where in the others the hand-over is.
pub(crate) fn check(input: &[u8]) {
    let Some((at, bytes)) = input.split_first() else { return };
    let (head, tail) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let now = Instant::now();
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    let mut one = Decoder::default();
    let size = one.decode(bytes, now, &mut whole);
    let mut before = Decoder::default();
    let early = before.decode(head, now, &mut parts);
    let mut after = Decoder::from_state(&before.state(), now);
    assert_eq!(after.held(), before.held());
    assert_eq!(after.decode(tail, now, &mut parts).or(early), size);
    assert_eq!((parts, after.held()), (whole, one.held()));

    let any = Decoder::from_state(&State { held: bytes.to_vec() }, now);
    assert!(any.held().len() < 12 && bytes.ends_with(any.held()));
}
