//! What the fuzzer checks, one function for each target, so that the ordinary tests can
//! check the stored inputs as well (`tests/fuzz_seeds.rs`).

pub(crate) mod admission;
pub(crate) mod config;
pub(crate) mod handshake;
pub(crate) mod ipc;
pub(crate) mod rules;
pub(crate) mod state;
pub(crate) mod tcpmux;
pub(crate) mod thinning;
pub(crate) mod window;
pub(crate) mod wrappers;
