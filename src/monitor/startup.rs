//! Everything that can go wrong before the first client: listeners, the relay's
//! account, the PAM service, the run-time directory, going into the background.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};

use super::Listener;
use crate::audit::event::Via;
use crate::config::{Config, Control};
pub(super) use crate::host::Account;
use crate::host::{self, HostError, RunDirectory};
use crate::sys::background::{self, Starter};
use crate::sys::needed::{self, Missing};
use crate::sys::{ownership, socket, words};

/// The mode of the run directory: commands of `control.group` find the socket in it, and nobody can list it.
const RUN_DIRECTORY_MODE: u32 = 0o711;

/// What keeps the daemon from serving; each says what and why.
#[derive(Debug)]
pub struct Error(pub(super) String);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl From<HostError> for Error {
    fn from(error: HostError) -> Error {
        let text = error.to_string();
        Error(match error {
            HostError::RelayAccount { .. } => format!("no account for the relay: {text}"),
            HostError::PamService { .. } => format!("no PAM service: {text}"),
            HostError::RunDirectory { .. } => text,
        })
    }
}

/// The addresses that a configuration asks for, and what is served there.
pub(super) fn addresses(config: &Config) -> Vec<(SocketAddr, Via)> {
    let tcpmux = if config.tcpmux.enabled { config.tcpmux.listen.as_slice() } else { &[] };
    let rlogin = config.listen.iter().map(|address| (*address, Via::Rlogin));
    rlogin.chain(tcpmux.iter().map(|address| (*address, Via::Tcpmux))).collect()
}

/// Opens the listeners that a configuration asks for but those at addresses that are open already, or says of
/// each that cannot be opened why. A family that the kernel does not have is worth a warning only, as long as there is
/// another address: the usual configuration asks for both families.
pub(super) fn listen(
    config: &Config,
    open: &[SocketAddr],
    warnings: &mut Vec<String>,
) -> Result<Vec<Listener>, Error> {
    let wanted = addresses(config);
    let mut listeners = Vec::new();
    let (mut failures, mut without_family) = (Vec::new(), Vec::new());
    let mut served = wanted.iter().any(|(address, _)| open.contains(address));
    let all: Vec<SocketAddr> = wanted.iter().map(|(address, _)| *address).collect();
    for (address, via) in wanted.into_iter().filter(|(address, _)| !open.contains(address)) {
        match socket::listen(address, host::is_alone(address, &all)) {
            Ok(socket) => {
                served = true;
                listeners.push(Listener { socket, via, address });
            }
            Err(error) if host::lacks_family(&error) => {
                without_family.push(format!("cannot listen on {address}: {}", host::no_family(address)));
            }
            Err(error) => {
                let own = open.iter().any(|open| open.port() == address.port());
                let hint =
                    if own { "; a listener of this daemon has the port until it is restarted" } else { "" };
                failures.push(format!("cannot listen on {address}: {error}{hint}"));
            }
        }
    }
    let warned_of = if served { warnings } else { &mut failures };
    warned_of.extend(without_family);
    if failures.is_empty() { Ok(listeners) } else { Err(Error(failures.join("\n"))) }
}

/// Of these listeners those that a configuration asks for.
pub(super) fn choose(config: &Config, mut listeners: Vec<Listener>) -> Vec<Listener> {
    let wanted = addresses(config);
    listeners.retain_mut(|listener| {
        let found = wanted.iter().find(|(address, _)| *address == listener.address);
        found.into_iter().for_each(|(_, via)| listener.via = *via);
        found.is_some()
    });
    listeners
}

/// Finds the relay's account; the second value says what stands in for it.
pub(super) fn relay_account(name: &str) -> Result<(Account, Option<String>), Error> {
    let (account, warning) = host::relay_account(name)?;
    Ok((account, warning.map(|text| format!("relay account: {text}"))))
}

/// The PAM service that exists; the second value says what stands in for the other.
///
/// # Errors
/// When neither has a file.
pub fn pam_service(wanted: &str) -> Result<(String, Option<String>), Error> {
    let (service, warning) = host::pam_service(wanted, &host::PAM_DIRECTORIES)?;
    Ok((service.name, warning.map(|text| format!("PAM service: {text}"))))
}

/// Why a configured banner would not be shown. It keeps nobody from logging in, but may be one that the law wants.
pub(super) fn banner(config: &Config) -> Option<String> {
    let path = config.login.banner.as_ref()?;
    let error = ownership::open(path).err()?;
    Some(format!("the banner {} is not shown: {error}", path.display()))
}

/// Tries what a login needs of the kernel, so that nobody learns of it by a login that fails.
pub(super) fn kernel() -> Result<(), Error> {
    refuse(&needed::missing())
}

/// Tries whether a relay could enter its sandbox.
pub(super) fn sandbox(account: Account) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    refuse(needed::missing_for_sandbox(uid, gid).as_slice())
}

fn refuse(missing: &[Missing]) -> Result<(), Error> {
    let lines = missing.iter().map(|missing| format!("{missing} ({})", missing.mend()));
    if missing.is_empty() { Ok(()) } else { Err(Error(lines.collect::<Vec<_>>().join("\n"))) }
}

/// The directory of the control socket: made when missing, and root's alone. Nobody else can list it when it is
/// made here: who lists a directory can keep everybody from making anything in it.
pub(super) fn run_directory(config: &Config) -> Result<PathBuf, Error> {
    let missing = match host::run_directory(&config.control.socket)? {
        RunDirectory::Ready(path) => {
            close_to_listing(&path);
            return Ok(path);
        }
        RunDirectory::Missing(path) => path,
    };
    let made = DirBuilder::new().recursive(true).mode(RUN_DIRECTORY_MODE).create(&missing);
    made.map_err(|error| HostError::RunDirectory { path: missing, error })?;
    // Looked at again: others may have been faster.
    match host::run_directory(&config.control.socket)? {
        RunDirectory::Ready(path) => Ok(path),
        RunDirectory::Missing(path) => {
            Err(HostError::RunDirectory { path, error: io::ErrorKind::NotFound.into() }.into())
        }
    }
}

/// A directory that an earlier version has made, or the package, is closed as well. Others are their owner's.
fn close_to_listing(path: &Path) {
    let own = path == Control::default().socket.parent().unwrap_or(path);
    if own && fs::metadata(path).is_ok_and(|data| data.mode() & 0o777 == 0o755) {
        let _ = fs::set_permissions(path, Permissions::from_mode(RUN_DIRECTORY_MODE));
    }
}

/// Goes into the background, with the terminal let go. The process that was started waits for the word of this one.
pub(super) fn detach() -> Result<Starter, Error> {
    background::enter(|text| drop(writeln!(io::stderr(), "rlogind: {text}")))
        .map_err(|error| Error(format!("cannot go into the background: {}", words(&error))))
}

/// The file that names this process, as long as it serves.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// One that this process wrote before it executed this image.
    pub(super) fn adopt(path: PathBuf) -> PidFile {
        PidFile(path)
    }

    /// Whether the file may be written: what is there is no regular file, and stays.
    pub(super) fn check(path: &Path) -> Result<(), Error> {
        Self::may_replace(path).map_err(|why| Self::failed(path, &why))
    }

    /// Writes this process's number there. When it fails, the file is as it was.
    pub(super) fn write(path: &Path) -> Result<PidFile, Error> {
        // Under another name: it is never written through a link that somebody left there, and is there only when it
        // is whole.
        let mut draft = path.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        Self::check(path)?;
        Self::may_replace(&draft)
            .map_err(|why| Self::failed(path, &format!("{}: {why}", draft.display())))?;
        let _ = fs::remove_file(&draft);
        let written = File::create_new(&draft).and_then(|mut file| {
            let written = writeln!(file, "{}", std::process::id())
                .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
                .and_then(|()| fs::rename(&draft, path));
            written.inspect_err(|_| drop(fs::remove_file(&draft)))
        });
        written.map_err(|error| Self::failed(path, &words(&error)))?;
        Ok(PidFile(path.to_owned()))
    }

    /// Removes it when this process does not serve after all.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.0);
    }

    /// Leaves the file for somebody else to remove.
    pub(super) fn into_path(self) -> PathBuf {
        self.0
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn may_replace(path: &Path) -> Result<(), String> {
        let kind = match fs::symlink_metadata(path) {
            Ok(data) => data.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(words(&error)),
        };
        let what = match kind {
            kind if kind.is_file() => return Ok(()),
            kind if kind.is_dir() => "a directory",
            kind if kind.is_symlink() => "a symbolic link",
            kind if kind.is_fifo() => "a FIFO",
            kind if kind.is_socket() => "a socket",
            _ => "a device",
        };
        Err(format!("{what} is there; only a regular file is replaced"))
    }

    fn failed(path: &Path, why: &str) -> Error {
        Error(format!("cannot write the pid file {}: {why}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_run_directory_is_made_when_missing_and_believed_only_when_it_is_roots() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("deep/run");
        let control = Control { socket: directory.join("control"), group: None };
        let config = Config { control, ..Config::default() };
        assert_eq!(run_directory(&config).unwrap(), directory);
        let made = fs::metadata(&directory).unwrap();
        assert!(made.is_dir() && made.uid() == 0 && made.mode() & 0o022 == 0, "{:o}", made.mode());
        assert_eq!(made.mode() & 0o777, RUN_DIRECTORY_MODE);
        assert_eq!(run_directory(&config).unwrap(), directory, "it is there now");

        fs::set_permissions(&directory, Permissions::from_mode(0o775)).unwrap();
        let expected =
            format!("cannot use the directory {}: others than root can write there", directory.display());
        assert_eq!(run_directory(&config).unwrap_err().to_string(), expected);
    }

    #[test]
    fn the_relay_is_never_roots() {
        let (account, warning) = relay_account("root").unwrap();
        assert!(account.uid != 0 && account.gid != 0);
        let warning = warning.unwrap();
        let expected = "relay account: account 'root' has the user or group id of root; the relay runs as";
        assert!(warning.starts_with(expected), "{warning}");
    }
}
