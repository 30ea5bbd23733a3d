//! rlogind: an rlogin server (RFC 1282) with PTY sessions, trust rules and PAM.
//!
//! One executable plays three roles, each in a process of its own: the
//! [`monitor`] (root; owns listeners, PTYs and children), the [`relay`]
//! (unprivileged; one mio loop that carries every byte) and one [`session`] per
//! login (PAM, login records, the shell). They meet only in [`ipc`].
//! `docs/ARCHITECTURE.md` has the pictures.

pub mod audit;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod crowd;
pub mod doctor;
pub mod host;
pub mod ipc;
pub mod monitor;
pub mod numbers;
pub mod records;
pub mod relay;
pub mod session;
pub mod source;
pub mod sys;
pub mod tcpmux;
pub mod trust;
pub mod wire;
