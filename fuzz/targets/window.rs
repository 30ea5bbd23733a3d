//! See `checks/window.rs`.
#![no_main]

#[path = "../checks/window.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
