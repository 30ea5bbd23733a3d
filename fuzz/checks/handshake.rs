//! The handshake: whatever comes, and however it is split, is understood or refused
//! in the same way.

use rlogind::wire::handshake::{Decoder, Handshake, Progress};

fn outcome(pieces: &[&[u8]]) -> Option<Result<(Handshake, usize), String>> {
    let (mut decoder, mut before) = (Decoder::new(), 0);
    for piece in pieces {
        match decoder.push(piece) {
            Ok(Progress::More) => before += piece.len(),
            Ok(Progress::Done { handshake, consumed }) => return Some(Ok((handshake, before + consumed))),
            Err(refusal) => return Some(Err(refusal.to_string())),
        }
    }
    None
}

/// The first byte says where the others are split.
pub(crate) fn check(input: &[u8]) {
    let Some((at, bytes)) = input.split_first() else { return };
    let (head, tail) = bytes.split_at(usize::from(*at).min(bytes.len()));
    let whole = outcome(&[bytes]);
    match (&whole, outcome(&[head, tail])) {
        (Some(Ok((one, consumed))), Some(Ok((other, same)))) => {
            assert_eq!((one.client_user.as_bytes(), *consumed), (other.client_user.as_bytes(), same));
            let again = Handshake::from_parts(
                one.client_user.as_bytes(),
                one.server_user.as_bytes(),
                one.terminal_field().as_bytes(),
            );
            assert_eq!(again.expect("what was accepted is accepted again").terminal, one.terminal);
        }
        (Some(Err(one)), Some(Err(other))) => assert_eq!(*one, other),
        (None, None) => {}
        (_, _) => panic!("the split makes a difference"),
    }
}
