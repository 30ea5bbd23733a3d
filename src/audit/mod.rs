//! The audit log: one enum of events, one formatter, one syslog sink.
//!
//! Events are values that the three processes hand to the monitor, which alone
//! writes them. No password is ever part of one, nor a name that may be one.

mod escape;
pub mod event;
pub mod format;
mod queue;
mod stderr;
pub mod syslog;
pub mod thinning;

pub use escape::is_visible;
pub use event::Event;
