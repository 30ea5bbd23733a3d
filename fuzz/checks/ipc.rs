//! Messages between our processes: any bytes are a message or an error, and what was
//! received can be sent on. They arrive as in the daemon, in a datagram.

use rlogind::ipc::{FromRelay, FromSession, Incoming, Link, ToRelay, ToSession};
use rlogind::sys::channel::Channel;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The first byte says whose message the others are.
pub(crate) fn check(input: &[u8]) {
    let Some((whose, bytes)) = input.split_first() else { return };
    match whose % 4 {
        0 => receive::<ToRelay>(bytes),
        1 => receive::<FromRelay>(bytes),
        2 => receive::<ToSession>(bytes),
        _ => receive::<FromSession>(bytes),
    }
}

fn receive<M: Serialize + DeserializeOwned>(bytes: &[u8]) {
    // No message is empty: that is how a closed connection looks.
    if bytes.is_empty() {
        return;
    }
    let (ours, theirs) = Channel::pair().expect("descriptors");
    ours.send(bytes, &[]).expect("room for a datagram");
    let mut link = Link::<M, M>::new(theirs);
    let Ok(Incoming::Message(message, descriptors)) = link.receive() else { return };
    assert!(descriptors.is_empty());
    let mut sender = Link::<M, M>::new(ours);
    sender.send(&message, Vec::new()).expect("what was received can be sent");
    assert!(matches!(link.receive(), Ok(Incoming::Message(..))), "and is received again");
}
