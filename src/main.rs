//! The executable: chooses the role.

fn main() {}
