//! What rlogind needs of the machine it runs on: an account for the relay, a PAM
//! service, a directory in `/run`, and how its addresses are bound.
//!
//! Serving and `rlogind check` both ask here, so that the one cannot promise what
//! the other refuses. It only looks: nothing on the machine may change by it.

mod relay_account;

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::Group;

pub use relay_account::{Account, create_relay_account, relay_account, stands_in};

/// The PAM service that stands in for a missing one.
const FALLBACK_SERVICE: &str = "login";
/// Where PAM looks for its services, in this order (pam.d(5)).
pub const PAM_DIRECTORIES: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

/// What the machine lacks; each says so in words for the administrator.
#[derive(Debug)]
pub enum HostError {
    /// The configured account cannot be the relay's, and no unused id can stand in.
    RelayAccount {
        /// What is wrong with the configured one.
        problem: String,
    },
    /// Neither the configured PAM service nor the one that stands in has a file.
    PamService {
        /// The configured one.
        wanted: String,
    },
    /// The directory of the control socket cannot be used.
    RunDirectory {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostError::RelayAccount { problem } => {
                write!(f, "{problem}, and {}", relay_account::no_unused_id())
            }
            HostError::PamService { wanted } => {
                let directories = PAM_DIRECTORIES.join(" or ");
                write!(f, "neither {wanted} nor {FALLBACK_SERVICE} is a file in {directories}")
            }
            HostError::RunDirectory { path, error } => {
                write!(f, "cannot use the directory {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for HostError {}

/// A PAM service that has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PamService {
    /// Its name, as PAM is asked for it.
    pub name: String,
    /// The file PAM will read.
    pub file: PathBuf,
}

/// Finds the PAM service in the directories, [`PAM_DIRECTORIES`] but in tests. The
/// second value warns when another one stands in for it.
///
/// # Errors
/// When that one has no file, either. PAM would read the service `other` then, of
/// which nobody said that it may let rlogin's users in.
pub fn pam_service(
    wanted: &str,
    directories: &[impl AsRef<Path>],
) -> Result<(PamService, Option<String>), HostError> {
    let find = |name: &str| {
        let mut files = directories.iter().map(|directory| directory.as_ref().join(name));
        files.find(|file| file.is_file()).map(|file| PamService { name: name.to_owned(), file })
    };
    if let Some(service) = find(wanted) {
        return Ok((service, None));
    }
    let service =
        find(FALLBACK_SERVICE).ok_or_else(|| HostError::PamService { wanted: wanted.to_owned() })?;
    let warning = format!("no file for the service {wanted}; {} stands in", service.file.display());
    Ok((service, Some(warning)))
}

/// The directory of the control socket, in which the relay's empty root is made as well.
#[derive(Debug, PartialEq, Eq)]
pub enum RunDirectory {
    /// It is there, and only root can write to it.
    Ready(PathBuf),
    /// It has yet to be made, and nothing is in the way.
    Missing(PathBuf),
}

/// Looks at the directory of this control socket.
///
/// # Errors
/// When others than root can write to it, or when it is no directory and cannot become one.
pub fn run_directory(control: &Path) -> Result<RunDirectory, HostError> {
    let path = control.parent().unwrap_or(Path::new("/")).to_owned();
    let trouble = match fs::metadata(&path) {
        Ok(data) if !data.is_dir() => io::ErrorKind::NotADirectory.into(),
        Ok(data) if data.uid() != 0 || data.mode() & 0o022 != 0 => {
            io::Error::other("others than root can write there")
        }
        Ok(_) => return Ok(RunDirectory::Ready(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // As mkdir(2) sees it: a link that leads nowhere is in the way.
            let nearest = path.ancestors().find(|part| part.symlink_metadata().is_ok());
            if nearest.is_none_or(Path::is_dir) {
                return Ok(RunDirectory::Missing(path));
            }
            io::ErrorKind::NotADirectory.into()
        }
        Err(error) => error,
    };
    Err(HostError::RunDirectory { path, error: trouble })
}

/// The id of the group that may use the control socket.
///
/// # Errors
/// Why it may not, in words: then only root may.
pub fn control_group(name: &str) -> Result<u32, String> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(format!("no group {name}; only root may use the control socket")),
        Err(errno) => Err(format!(
            "cannot look up the group {name}: {}; only root may use the control socket",
            errno.desc()
        )),
    }
}

/// Whether the reason why an address cannot be bound is that the kernel does not have its family: one that was built or
/// started without IPv6 (`ipv6.disable=1`), or a sandbox that permits others only.
#[must_use]
pub fn lacks_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32)
}

/// What is said of an address of such a family.
#[must_use]
pub fn no_family(address: SocketAddr) -> &'static str {
    if address.is_ipv4() { "this system has no IPv4" } else { "this system has no IPv6" }
}

/// Whether no IPv4 address among `addresses` has this one's port, so that an IPv6
/// wildcard address serves IPv4 clients as well.
#[must_use]
pub fn is_alone(address: SocketAddr, addresses: &[SocketAddr]) -> bool {
    !addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pam_service_is_looked_for_in_both_directories() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [first, second] = [folders[0].path(), folders[1].path()];
        let find = || pam_service("rlogin", &[first, second]).map_err(|error| error.to_string());
        let service =
            |name: &str, folder: &Path| PamService { name: name.to_owned(), file: folder.join(name) };

        assert_eq!(find().unwrap_err(), "neither rlogin nor login is a file in /etc/pam.d or /usr/lib/pam.d");
        fs::write(second.join("login"), "").unwrap();
        let warning = format!("no file for the service rlogin; {}/login stands in", second.display());
        assert_eq!(find(), Ok((service("login", second), Some(warning))));
        fs::create_dir(first.join("rlogin")).unwrap();
        assert_eq!(find().unwrap().0.name, "login", "a directory is no service");
        fs::write(second.join("rlogin"), "").unwrap();
        assert_eq!(find(), Ok((service("rlogin", second), None)));
        fs::remove_dir(first.join("rlogin")).unwrap();
        fs::write(first.join("rlogin"), "").unwrap();
        assert_eq!(find(), Ok((service("rlogin", first), None)), "as PAM does, /etc first");
    }

    #[test]
    fn the_control_group_is_looked_up_on_this_machine() {
        assert_eq!(control_group("root"), Ok(0));
        let trouble = "no group nosuchgroup; only root may use the control socket";
        assert_eq!(control_group("nosuchgroup"), Err(trouble.to_owned()));
    }

    #[test]
    fn the_run_directory_is_roots_alone_or_can_be_made() {
        let look = |control: &str| run_directory(Path::new(control)).map_err(|error| error.to_string());
        assert_eq!(look("/usr/control"), Ok(RunDirectory::Ready("/usr".into())));
        assert_eq!(look("/control"), Ok(RunDirectory::Ready("/".into())));
        assert_eq!(look("/usr/no/such/control"), Ok(RunDirectory::Missing("/usr/no/such".into())));
        let refused = |path: &str, why: &str| Err(format!("cannot use the directory {path}: {why}"));
        assert_eq!(look("/tmp/control"), refused("/tmp", "others than root can write there"));
        assert_eq!(look("/etc/passwd/control"), refused("/etc/passwd", "not a directory"));
        assert!(look("/etc/passwd/x/control").is_err());
    }

    #[test]
    fn a_link_that_leads_nowhere_is_in_the_run_directorys_way() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nonexistent/target", &link).unwrap();
        for control in [link.join("control"), link.join("below/control")] {
            assert!(run_directory(&control).is_err(), "{control:?}");
        }
        assert!(matches!(run_directory(&folder.path().join("x/control")), Ok(RunDirectory::Missing(_))));
    }

    #[test]
    fn an_ipv4_address_on_the_same_port_ends_being_alone() {
        let [wildcard, other_port, v4] =
            ["[::]:513", "0.0.0.0:514", "127.0.0.1:513"].map(|text| text.parse().unwrap());
        assert!(is_alone(wildcard, &[wildcard]));
        assert!(is_alone(wildcard, &[wildcard, other_port]));
        assert!(!is_alone(wildcard, &[v4, wildcard, other_port]));
    }
}
