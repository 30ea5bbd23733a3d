//! The environment of the login shell. Nothing of the daemon's own comes through.

use std::ffi::OsString;
use std::path::Path;

use nix::unistd::User;

const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games";
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variables, PAM's last: as with login(1), what a module sets counts.
pub(super) fn build(
    user: &User,
    home: &Path,
    shell: &Path,
    terminal: &str,
    host: &str,
    from_pam: Vec<(OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let path = if user.uid.is_root() { ROOT_PATH } else { USER_PATH };
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("TERM".into(), terminal.into()),
        ("HOME".into(), home.into()),
        ("SHELL".into(), shell.into()),
        ("USER".into(), user.name.clone().into()),
        ("LOGNAME".into(), user.name.clone().into()),
        ("PATH".into(), path.into()),
        ("MAIL".into(), format!("/var/mail/{}", user.name).into()),
        ("REMOTEHOST".into(), host.into()),
    ];
    variables.extend(from_pam.into_iter().filter(|(name, _)| !name.is_empty()));
    variables
}
