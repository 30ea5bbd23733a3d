//! How many of one kind there may be at the same time, by user id. Pure.
//!
//! Root has places of its own: no member of `control.group` keeps it from administering the daemon.

/// Places of root.
pub(super) const OF_ROOT: usize = 16;
/// Places of one other user.
pub(super) const OF_ONE: usize = 4;
/// Places of all other users.
pub(super) const OF_OTHERS: usize = 12;

/// Whose places are all taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// Those of this user.
    User(u32),
    /// Those of all users but root.
    Others,
}

impl Full {
    /// Why there is no place, for the user. `what` is what there may be so many of.
    pub(super) fn reason(self, what: &str) -> String {
        match self {
            Full::User(0) => format!("too many {what} at once: root may have {OF_ROOT}"),
            Full::User(uid) => format!("too many {what} at once: user {uid} may have {OF_ONE}"),
            Full::Others => format!("too many {what} at once: users other than root may have {OF_OTHERS}"),
        }
    }
}

/// Whether one more has a place, beside those of these users.
///
/// # Errors
/// Whose places are taken.
pub(super) fn find(uid: u32, taken: impl Iterator<Item = u32>) -> Result<(), Full> {
    let (mut own, mut others) = (0, 0);
    for user in taken {
        own += usize::from(user == uid);
        others += usize::from(user != 0);
    }
    if own >= if uid == 0 { OF_ROOT } else { OF_ONE } {
        return Err(Full::User(uid));
    }
    if uid != 0 && others >= OF_OTHERS { Err(Full::Others) } else { Ok(()) }
}

/// Which of the silent ones makes room for that user: the user's oldest, or if that helps the oldest of any other
/// but root. They are in the order of their age, each with its user, unless it has said what it wants.
pub(super) fn to_displace(uid: u32, full: Full, silent: &[Option<u32>]) -> Option<usize> {
    let oldest = |is_meant: &dyn Fn(u32) -> bool| silent.iter().position(|user| user.is_some_and(is_meant));
    match full {
        Full::User(_) => oldest(&|user| user == uid),
        Full::Others => oldest(&|user| user == uid).or_else(|| oldest(&|user| user != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many of each of these users.
    fn taken(users: &[(u32, usize)]) -> impl Iterator<Item = u32> {
        users.iter().flat_map(|(uid, count)| std::iter::repeat_n(*uid, *count))
    }

    #[test]
    fn a_user_has_few_places_and_root_its_own() {
        assert_eq!(find(1001, taken(&[(1001, 3), (0, 16)])), Ok(()));
        assert_eq!(find(1001, taken(&[(1001, 4)])), Err(Full::User(1001)));
        let others = [(1001, 4), (1002, 4), (1003, 4)];
        assert_eq!(find(1004, taken(&others)), Err(Full::Others));
        assert_eq!(find(0, taken(&others)), Ok(()), "nobody takes a place of root's");
        assert_eq!(find(1004, taken(&[(1001, 4), (0, 16)])), Ok(()), "nor root one of theirs");
        assert_eq!(find(0, taken(&[(0, 16)])), Err(Full::User(0)));
    }

    #[test]
    fn the_oldest_silent_one_of_the_same_user_makes_room() {
        let silent = [None, Some(0), Some(1002), Some(1001), Some(1001)];
        assert_eq!(to_displace(1001, Full::User(1001), &silent), Some(3));
        assert_eq!(to_displace(1003, Full::User(1003), &silent), None);
        assert_eq!(to_displace(0, Full::User(0), &silent), Some(1));
        assert_eq!(to_displace(1001, Full::Others, &silent), Some(3));
        assert_eq!(to_displace(1003, Full::Others, &silent), Some(2), "never root's");
        assert_eq!(to_displace(1003, Full::Others, &silent[..2]), None);
    }
}
