//! See `checks/rules.rs`.
#![no_main]

#[path = "../checks/rules.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
