//! See `checks/thinning.rs`.
#![no_main]

#[path = "../checks/thinning.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
