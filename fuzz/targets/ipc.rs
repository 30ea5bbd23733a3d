//! See `checks/ipc.rs`.
#![no_main]

#[path = "../checks/ipc.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
