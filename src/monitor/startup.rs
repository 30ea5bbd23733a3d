//! Everything that can go wrong before the first client: listeners, the relay's
//! account, the PAM service, the run-time directory, going into the background.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Listener;
use crate::audit::event::Via;
use crate::config::Config;
pub(super) use crate::host::Account;
use crate::host::{self, HostError, RunDirectory};
use crate::sys::socket;

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

/// Opens all listeners but those that are open already, or says of each that cannot be
/// opened why.
pub(super) fn listen(config: &Config, open: &[Listener]) -> Result<Vec<Listener>, Error> {
    let tcpmux = if config.tcpmux.enabled { config.tcpmux.listen.as_slice() } else { &[] };
    let doors = config.listen.iter().map(|address| (*address, Via::Rlogin));
    let doors: Vec<_> = doors.chain(tcpmux.iter().map(|address| (*address, Via::Tcpmux))).collect();
    let mut listeners = Vec::new();
    let mut failures = Vec::new();
    let addresses: Vec<SocketAddr> = doors.iter().map(|(address, _)| *address).collect();
    for (address, via) in doors {
        let same = open.iter().find(|listener| listener.address == address);
        let opened = match same {
            Some(listener) => listener.socket.try_clone(),
            None => socket::listen(address, host::is_alone(address, &addresses)),
        };
        match opened {
            Ok(socket) => listeners.push(Listener { socket, via, address }),
            Err(error) => {
                let own = open.iter().any(|listener| listener.address.port() == address.port());
                let hint =
                    if own { "; a listener of this daemon has the port until it is restarted" } else { "" };
                failures.push(format!("cannot listen on {address}: {error}{hint}"));
            }
        }
    }
    if failures.is_empty() { Ok(listeners) } else { Err(Error(failures.join("\n"))) }
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

/// The directory of the control socket: made when missing, and root's alone.
pub(super) fn run_directory(config: &Config) -> Result<PathBuf, Error> {
    let missing = match host::run_directory(&config.control.socket)? {
        RunDirectory::Ready(path) => return Ok(path),
        RunDirectory::Missing(path) => path,
    };
    let made = DirBuilder::new().recursive(true).mode(0o755).create(&missing);
    made.map_err(|error| HostError::RunDirectory { path: missing, error })?;
    // Looked at again: others may have been faster.
    match host::run_directory(&config.control.socket)? {
        RunDirectory::Ready(path) => Ok(path),
        RunDirectory::Missing(path) => {
            Err(HostError::RunDirectory { path, error: io::ErrorKind::NotFound.into() }.into())
        }
    }
}

/// Goes into the background, with the terminal let go.
pub(super) fn detach(pid_file: Option<&Path>) -> Result<Option<PidFile>, Error> {
    // Whether it can be written is found out while somebody still reads errors.
    let draft = pid_file.map(PidFile::draft).transpose()?;
    nix::unistd::daemon(false, false)
        .map_err(|error| Error(format!("cannot go into the background: {error}")))?;
    draft.map(|(path, file)| PidFile::write(path, file)).transpose()
}

/// The file that names this process, as long as it serves.
#[derive(Debug)]
pub(super) struct PidFile(PathBuf);

impl PidFile {
    /// One that this process wrote before it executed this image.
    pub(super) fn adopt(path: PathBuf) -> PidFile {
        PidFile(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the file under another name: it is never written through a link that
    /// somebody left there, and is there only when it is whole.
    fn draft(path: &Path) -> Result<(&Path, File), Error> {
        let draft = Self::draft_name(path);
        let _ = fs::remove_file(&draft);
        let file = File::create_new(&draft).map_err(|error| Self::failed(path, &error))?;
        Ok((path, file))
    }

    fn write(path: &Path, mut file: File) -> Result<PidFile, Error> {
        writeln!(file, "{}", std::process::id())
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)))
            .and_then(|()| fs::rename(Self::draft_name(path), path))
            .map_err(|error| Self::failed(path, &error))?;
        Ok(PidFile(path.to_owned()))
    }

    fn draft_name(path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        name.into()
    }

    fn failed(path: &Path, error: &io::Error) -> Error {
        Error(format!("cannot write {}: {error}", path.display()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::config::Control;

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
