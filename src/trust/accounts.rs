//! Accounts from the system's user data base, as the trust rules need them.

use std::io;

use nix::unistd::User;

use super::world::Account;

impl From<User> for Account {
    fn from(user: User) -> Self {
        Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
    }
}

impl From<&User> for Account {
    fn from(user: &User) -> Self {
        user.clone().into()
    }
}

/// The account of this name; none when there is none.
///
/// # Errors
/// When the data base does not answer.
pub fn account(name: &str) -> io::Result<Option<Account>> {
    Ok(User::from_name(name)?.map(Account::from))
}
