//! Everything that can go wrong before the first client: listeners, the relay's
//! account, the PAM service, the run-time directory, going into the background.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::sys::socket;

/// The account that stands in for a missing one.
const FALLBACK_ACCOUNT: &str = "nobody";
/// The PAM service that stands in for a missing one.
const FALLBACK_SERVICE: &str = "login";
/// Where PAM looks for its services.
const PAM_DIRECTORIES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// What keeps the daemon from serving; each says what and why.
#[derive(Debug)]
pub struct Error(pub(super) String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// The account the relay runs as.
#[derive(Debug, Clone, Copy)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Opens all listeners, or says of each that cannot be opened why.
pub(super) fn listen(addresses: &[SocketAddr]) -> Result<Vec<OwnedFd>, Error> {
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    for address in addresses {
        let alone = !addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        match socket::listen(*address, alone) {
            Ok(listener) => listeners.push(listener),
            Err(error) => failures.push(format!("cannot listen on {address}: {error}")),
        }
    }
    if failures.is_empty() { Ok(listeners) } else { Err(Error(failures.join("\n"))) }
}

/// Finds the relay's account; the second value says what stands in for it.
pub(super) fn relay_account(name: &str) -> Result<(Account, Option<String>), Error> {
    let find = |name: &str| {
        users::get_user_by_name(name)
            .map(|user| Account { uid: user.uid(), gid: user.primary_group_id() })
            .filter(|account| account.uid != 0)
    };
    if let Some(account) = find(name) {
        return Ok((account, None));
    }
    let warning = format!("the relay runs as {FALLBACK_ACCOUNT}: there is no unprivileged account {name}");
    find(FALLBACK_ACCOUNT)
        .map(|account| (account, Some(warning)))
        .ok_or_else(|| Error(format!("no unprivileged account {name} or {FALLBACK_ACCOUNT} for the relay")))
}

/// The PAM service that exists; the second value says what stands in for the other.
#[must_use]
pub fn pam_service(wanted: &str) -> (String, Option<String>) {
    let exists =
        |name: &str| PAM_DIRECTORIES.iter().any(|directory| Path::new(directory).join(name).is_file());
    if exists(wanted) || !exists(FALLBACK_SERVICE) {
        return (wanted.to_owned(), None);
    }
    let warning = format!("the PAM service {FALLBACK_SERVICE} is used: there is no service {wanted}");
    (FALLBACK_SERVICE.to_owned(), Some(warning))
}

/// The directory of the control socket: made when missing, and root's alone.
pub(super) fn run_directory(config: &Config) -> Result<PathBuf, Error> {
    let directory = config.control.parent().unwrap_or(Path::new("/")).to_owned();
    let failed =
        |error: io::Error| Error(format!("cannot use the directory {}: {error}", directory.display()));
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o755).create(&directory).map_err(failed)?;
    }
    let data = fs::metadata(&directory).map_err(failed)?;
    if data.uid() != 0 || data.mode() & 0o022 != 0 {
        return Err(failed(io::Error::other("others than root can write there")));
    }
    Ok(directory)
}

/// Goes into the background, with the terminal let go.
pub(super) fn detach(pid_file: Option<&Path>) -> Result<Option<PidFile>, Error> {
    nix::unistd::daemon(false, false)
        .map_err(|error| Error(format!("cannot go into the background: {error}")))?;
    pid_file.map(PidFile::write).transpose()
}

/// The file that names this process, as long as it serves.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<PidFile, Error> {
        let failed = |error: io::Error| Error(format!("cannot write {}: {error}", path.display()));
        // Through a new file and a rename: never through a link somebody left there.
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let _ = fs::remove_file(&draft);
        let mut file = File::create_new(&draft).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        fs::set_permissions(&draft, Permissions::from_mode(0o644)).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)?;
        Ok(PidFile(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
