//! The accounts of a test's machine, as `world.sh` makes them.

/// One account and its password.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(crate) name: &'static str,
    pub(crate) uid: u32,
    pub(crate) password: &'static str,
}

pub(crate) const ROOT: Account = Account { name: "root", uid: 0, password: "root-Secret-0" };
/// Logs in with `sh`, and is in the group `staff` besides her own.
pub(crate) const ALICE: Account = Account { name: "alice", uid: 1001, password: "alice-Secret-1" };
/// Logs in with `bash`.
pub(crate) const BOB: Account = Account { name: "bob", uid: 1002, password: "bob-Secret-2" };

/// What the shells of these accounts prompt with.
pub(crate) const PROMPT: &str = "e2e$ ";
