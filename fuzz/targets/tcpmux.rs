//! See `checks/tcpmux.rs`.
#![no_main]

#[path = "../checks/tcpmux.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
