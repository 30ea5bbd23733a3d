//! The trust rules of `hosts.equiv`, `.rhosts` and the configuration: who gets
//! in without a password, and why.
//!
//! [`rules`] reads the language, [`verdict`] decides; both are pure and ask
//! whatever they need to know of a [`World`]. Only [`files`] and [`accounts`]
//! touch the system. [`explain`] and [`check`] are the administrator's view of
//! the same code.
//!
//! What this module must never do: take a name's word for an address, or turn
//! a question it could not answer into trust. A permission counts only when
//! everything in it was found to be true; a refusal counts unless something in
//! it was found to be false.

pub mod accounts;
pub mod check;
pub mod explain;
pub mod files;
mod matching;
pub mod rules;
pub mod verdict;
pub mod world;

pub use verdict::{Decision, Granted, Place, Policy, Reason, RefusedBy, Step, StepOutcome, Verdict, decide};
pub use world::{Account, FileContent, LookupError, Member, Query, Skip, World};
