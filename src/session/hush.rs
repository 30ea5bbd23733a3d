//! Whether a user wants to be let in without a word: `HUSHLOGIN_FILE` of login.defs(5), as login(1) takes it.

use std::io::Read;
use std::path::Path;

use nix::unistd::User;

use crate::sys::identity::as_user;
use crate::sys::ownership;

/// Where login(1) has its settings.
const SETTINGS: &str = "/etc/login.defs";
const SETTING: &str = "HUSHLOGIN_FILE";
/// Without that setting: the administrator's list, and the user's own file.
const DEFAULTS: [&str; 2] = ["/etc/hushlogins", ".hushlogin"];
/// The most bytes of these files that are read.
const LONGEST: u64 = 64 * 1024;

/// Whether PAM's modules are to say nothing when this user's session is opened.
pub(super) fn is_hushed(user: &User) -> bool {
    let settings = read(SETTINGS).unwrap_or_default();
    match setting(&settings) {
        Some("") => false,
        Some(file) => hushes(file, user),
        None => DEFAULTS.iter().any(|file| hushes(file, user)),
    }
}

/// A list of the administrator's has the user in it; any other file is in the user's home, where it may be empty.
fn hushes(file: &str, user: &User) -> bool {
    if Path::new(file).is_absolute() {
        return read(file).is_some_and(|list| lists(&list, &user.name, &user.shell));
    }
    // With the user's own rights: it tells nothing of files that the user may not see.
    let is_there = || user.dir.join(file).exists();
    user.dir.is_absolute()
        && as_user(&user.name, user.uid.as_raw(), user.gid.as_raw(), is_there).unwrap_or(false)
}

/// A file that only root can change, as far as it is text.
fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    ownership::open(Path::new(path)).ok()?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last one counts.
fn setting(settings: &str) -> Option<&str> {
    let values = settings.lines().filter_map(|line| line.trim_start().strip_prefix(SETTING));
    let mut values = values.filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
    values.next_back().map(|value| value.trim_matches(|c: char| c.is_whitespace() || c == '"'))
}

/// An empty list is for all; otherwise each line is a user's name, or a shell's path.
fn lists(list: &str, name: &str, shell: &Path) -> bool {
    list.is_empty()
        || list.lines().any(|line| line == name || Path::new(line) == shell && line.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_is_read_as_login_reads_it() {
        for (settings, expected) in [
            ("", None),
            ("#HUSHLOGIN_FILE .hushlogin\nHUSHLOGIN_FILES x\n", None),
            ("MAIL_DIR /var/mail\nHUSHLOGIN_FILE\t.hushlogin\n", Some(".hushlogin")),
            (" HUSHLOGIN_FILE a\nHUSHLOGIN_FILE \"/etc/hushlogins\" \n", Some("/etc/hushlogins")),
            ("HUSHLOGIN_FILE \"\"\n", Some("")),
            ("HUSHLOGIN_FILE", Some("")),
        ] {
            assert_eq!(setting(settings), expected, "{settings:?}");
        }
    }

    #[test]
    fn a_list_has_names_and_shells() {
        let is_listed = |list| lists(list, "alice", Path::new("/bin/sh"));
        assert!(is_listed("") && is_listed("bob\nalice") && is_listed("/bin/sh\n"));
        assert!(!is_listed("\n") && !is_listed("bob\n") && !is_listed("alice2\n/bin/bash\n#alice\n"));
    }
}
