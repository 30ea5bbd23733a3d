//! The whole daemon with real PAM, real PTYs and clients that nobody here wrote.
//!
//! Every test runs as root in a machine of its own (see [`world`]): a private
//! `/etc`, `/home`, `/run`, `/dev`, network and process table. Without root, or
//! without a client, a test says SKIPPED; in CI that is a failure.
//!
//! `RLOGIND_E2E_INETD=/path/to/in.rlogind` runs the tests against another
//! server, started for each connection as inetd would: what only this daemon
//! does (its audit log, its configuration) fails there, the rest must not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "everything here is test code; the lint's own exemption covers #[test] functions only, not their helpers"
)]

mod accounts;
mod audit;
mod daemon;
mod footprint;
mod lacking;
mod peer;
mod probe;
mod processes;
mod superserver;
mod terminal;
mod tracer;
mod unvouched;
mod world;

mod activation;
mod background;
mod bytes;
mod check;
mod clients;
mod control;
mod crowd;
mod doctor;
mod ending;
mod faults;
mod faults_start_stop;
mod hand_over;
mod handshake;
mod holes;
mod inetd;
mod isolation;
mod limits;
mod load;
mod login;
mod module_log;
mod network;
mod pam;
mod pam_limits;
mod prompts;
mod records;
mod records_behind;
mod sessions;
mod shell;
mod soak;
mod stalls;
mod tcpmux;
mod tcpmux_elsewhere;
