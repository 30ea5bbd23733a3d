//! See `checks/wrappers.rs`.
#![no_main]

#[path = "../checks/wrappers.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
