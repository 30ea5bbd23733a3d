//! The account of the relay: the configured one, or an id that nothing else uses.
//!
//! A process can send signals to every process with its user id. So the relay never shares one:
//! neither with root nor with `nobody`, whose id all kinds of programs use.

use std::collections::HashSet;
use std::fs;
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};
use serde::{Deserialize, Serialize};

use super::HostError;

/// Where an unused id is looked for: systemd keeps these for units with `DynamicUser=`, so no
/// person and no service has one for good.
const UNUSED_IDS: RangeInclusive<u32> = 61184..=65519;
/// The account that many programs share, and its usual id, which also stands for every id that
/// a file system or a namespace does not know.
const SHARED: (&str, u32) = ("nobody", 65534);

/// The account the relay runs as: neither its user nor its group is root's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The user id.
    pub uid: u32,
    /// The id of its primary group.
    pub gid: u32,
}

/// Finds the relay's account. The second value warns when an unused id stands in for it.
///
/// # Errors
/// When there is no unused id, either.
pub fn relay_account(wanted: &str) -> Result<(Account, Option<String>), HostError> {
    let look_up = |name: &str| {
        Ok(User::from_name(name)?.map(|user| Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
    };
    relay_account_by(wanted, look_up, unused_id)
}

fn relay_account_by(
    wanted: &str,
    look_up: impl Fn(&str) -> Result<Option<Account>, Errno>,
    unused: impl FnOnce() -> Option<u32>,
) -> Result<(Account, Option<String>), HostError> {
    // Single quotes, for the audit log shows double ones as \x22.
    let problem = match look_up(wanted) {
        Err(errno) => format!("cannot look up the account '{wanted}': {}", errno.desc()),
        Ok(None) => format!("account '{wanted}' not found"),
        // Names are no help here: any account can have root's ids.
        Ok(Some(Account { uid, gid })) if uid == 0 || gid == 0 => {
            format!("account '{wanted}' has the user or group id of root")
        }
        Ok(Some(Account { uid, .. })) if wanted == SHARED.0 || uid == SHARED.1 => {
            format!("account '{wanted}' is shared with other programs, create one for the relay alone")
        }
        Ok(Some(account)) => return Ok((account, None)),
    };
    match unused() {
        Some(id) => {
            let warning = format!("{problem}; the relay runs as the unused user id {id}");
            Ok((Account { uid: id, gid: id }, Some(warning)))
        }
        None => Err(HostError::RelayAccount { problem }),
    }
}

/// Whether this is a user id that can stand in for a missing account.
#[must_use]
pub fn stands_in(uid: u32) -> bool {
    UNUSED_IDS.contains(&uid)
}

/// The command that creates an account for the relay.
#[must_use]
pub fn create_relay_account(wanted: &str) -> String {
    let name = if ["root", SHARED.0].contains(&wanted) { "rlogind" } else { wanted };
    let setting = if name == wanted { String::new() } else { format!("; and set user = {name:?}") };
    format!("useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin {name}{setting}")
}

/// What [`HostError::RelayAccount`] says after the problem.
pub(super) fn no_unused_id() -> String {
    let (first, last) = (UNUSED_IDS.start(), UNUSED_IDS.end());
    format!("no user id from {first} to {last} is unused: create the account")
}

/// The first id that no account, no group and no process has.
fn unused_id() -> Option<u32> {
    let taken = ids_of_processes()?;
    let maps = ["uid_map", "gid_map"].map(|map| fs::read_to_string(format!("/proc/self/{map}")));
    let is_mapped = |id| maps.iter().all(|map| map.as_deref().map_or(true, |map| maps_id(map, id)));
    // A name service that fails is no hindrance: the local files, which come first, have been
    // read then, and in no other service has anybody such an id.
    let has_entry = |id| {
        matches!(User::from_uid(Uid::from_raw(id)), Ok(Some(_)))
            || matches!(Group::from_gid(Gid::from_raw(id)), Ok(Some(_)))
    };
    UNUSED_IDS.into_iter().find(|&id| !taken.contains(&id) && is_mapped(id) && !has_entry(id))
}

/// The user and group ids of all processes.
fn ids_of_processes() -> Option<HashSet<u32>> {
    let mut ids = HashSet::new();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
            // Otherwise it has ended meanwhile.
            && let Ok(status) = fs::read_to_string(entry.path().join("status"))
        {
            ids.extend(ids_in(&status));
        }
    }
    Some(ids)
}

/// The ids in a process's status (proc(5)): real, effective, saved and the file system's.
fn ids_in(status: &str) -> impl Iterator<Item = u32> {
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let lines = lines.filter(|(key, _)| ["Uid", "Gid", "Groups"].contains(key));
    lines.flat_map(|(_, ids)| ids.split_whitespace().filter_map(|id| id.parse().ok()))
}

/// Whether an id exists in the user namespace of this map (user_namespaces(7)).
fn maps_id(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().filter_map(|number| number.parse::<u32>().ok());
        match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(first), Some(_), Some(count)) => id >= first && id - first < count,
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with these accounts (`None`: its name service fails) and this unused id.
    fn relay_of(
        wanted: &str,
        accounts: Option<&[(&str, u32, u32)]>,
        unused: Option<u32>,
    ) -> Result<(Account, Option<String>), String> {
        let look_up = |name: &str| {
            let found = accounts.ok_or(Errno::EIO)?.iter().find(|(known, ..)| *known == name);
            Ok(found.map(|&(_, uid, gid)| Account { uid, gid }))
        };
        relay_account_by(wanted, look_up, || unused).map_err(|error| error.to_string())
    }

    const ACCOUNTS: [(&str, u32, u32); 6] = [
        ("relay", 812, 813),
        // As Debian's adduser makes them.
        ("system", 814, 65534),
        ("toor", 0, 812),
        ("staff", 812, 0),
        ("nobody", 99, 99),
        ("squash", 65534, 812),
    ];

    #[test]
    fn the_relay_never_gets_an_id_of_roots_or_one_that_others_have() {
        let relay = |name| relay_of(name, Some(&ACCOUNTS), Some(61184));
        let stands_in = |problem: &str| {
            let warning = format!("{problem}; the relay runs as the unused user id 61184");
            Ok((Account { uid: 61184, gid: 61184 }, Some(warning)))
        };
        assert_eq!(relay("relay"), Ok((Account { uid: 812, gid: 813 }, None)));
        assert_eq!(relay("system"), Ok((Account { uid: 814, gid: 65534 }, None)));
        assert_eq!(relay("toor"), stands_in("account 'toor' has the user or group id of root"));
        assert_eq!(relay("staff"), stands_in("account 'staff' has the user or group id of root"));
        assert_eq!(relay("none"), stands_in("account 'none' not found"));
        for name in ["nobody", "squash"] {
            let problem =
                format!("account '{name}' is shared with other programs, create one for the relay alone");
            assert_eq!(relay(name), stands_in(&problem));
        }
        // Not the same as an account that does not exist.
        let failed = relay_of("relay", None, Some(61184));
        assert_eq!(failed, stands_in("cannot look up the account 'relay': I/O error"));
    }

    #[test]
    fn without_an_unused_id_it_says_what_to_do() {
        let text =
            "account 'none' not found, and no user id from 61184 to 65519 is unused: create the account";
        assert_eq!(relay_of("none", Some(&ACCOUNTS), None).unwrap_err(), text);
        let command = "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin";
        assert_eq!(create_relay_account("none"), format!("{command} none"));
        assert_eq!(create_relay_account("nobody"), format!("{command} rlogind; and set user = \"rlogind\""));
    }

    #[test]
    fn an_unused_id_is_found_on_this_machine() {
        let id = unused_id().unwrap();
        assert!(UNUSED_IDS.contains(&id));
        let (account, warning) = relay_account("root").unwrap();
        assert!(UNUSED_IDS.contains(&account.uid) && account.uid == account.gid, "{account:?}");
        let warning = warning.unwrap();
        assert!(warning.starts_with("account 'root' has the user or group id of root; "), "{warning}");
        assert!(UNUSED_IDS.contains(&relay_account("nobody").unwrap().0.uid));
    }

    #[test]
    fn the_ids_of_processes_are_all_of_theirs() {
        let status = "Name:\tx\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t9 10 \n";
        assert_eq!(ids_in(status).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
        assert!(ids_of_processes().unwrap().contains(&nix::unistd::geteuid().as_raw()));
    }

    #[test]
    fn an_id_that_the_namespace_does_not_map_is_of_no_use() {
        let whole = "         0          0 4294967295\n";
        let two = "0 1000 1\n1 100000 65536\n";
        assert!(maps_id(whole, 61184) && maps_id(two, 61184));
        assert!(!maps_id("0 1000 1\n", 61184) && !maps_id("", 61184));
    }
}
