//! See `checks/admission.rs`.
#![no_main]

#[path = "../checks/admission.rs"]
mod checked;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checked::check(input));
