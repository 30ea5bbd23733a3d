//! The system: every `unsafe` block and every raw system call of the program.
//!
//! Safe functions with typed errors go out; nothing of the rest of the program
//! comes in.

pub mod identity;
pub mod netgroup;
pub mod resolve;
