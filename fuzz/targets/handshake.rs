//! See `checks/handshake.rs`.
#![no_main]

#[path = "../checks/handshake.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
