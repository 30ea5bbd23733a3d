//! See `checks/config.rs`.
#![no_main]

#[path = "../checks/config.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
