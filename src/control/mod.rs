//! The administrator's commands: what a command and the daemon say to each other, the command's
//! side of it, and what is printed.
//!
//! The daemon's side is in `monitor`. What is printed is pure: values in, text out.

mod ask;
mod command;
mod metrics;
pub mod protocol;
mod status;
mod table;
mod text;

pub use command::{Form, Place, drain, kill, message, reload, sessions, status, upgrade};
pub use text::visible;
