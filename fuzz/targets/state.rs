//! See `checks/state.rs`.
#![no_main]

#[path = "../checks/state.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
