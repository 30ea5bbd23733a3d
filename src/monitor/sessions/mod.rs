//! The sessions: each is a row of a table until its process has ended and the relay has closed its connection.
//!
//! | file | what it does |
//! |---|---|
//! | `session.rs` | one session: its process, its descriptors, who is logged in |
//! | `life_cycle.rs` | how far its end is |
//! | `table.rs` | all of them, with their deadlines |
//! | `open.rs` | making one |
//! | `messages.rs` | what its process says and is told, and what becomes of it |

mod life_cycle;
mod messages;
mod open;
mod session;
mod table;

pub(super) use life_cycle::LifeCycle;
pub(super) use session::{Session, Stage, Who};
pub(super) use table::Sessions;
