//! The protocol, pure: bytes and time go in, values come out.
//!
//! No I/O, no clock, no system call, and nothing of the rest of the program:
//! whatever a stranger sends is understood here or refused here. Of other crates only `zeroize` is used, because a
//! name may be a password, and `serde`, for the states that are handed to another process.
#![forbid(unsafe_code)]

pub mod answer;
pub mod handshake;
pub mod newline;
pub mod tcpmux;
pub mod urgent;
pub mod window;
