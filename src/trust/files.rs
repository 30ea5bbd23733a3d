//! Opens the trust files so that what is read can be believed.
//!
//! Everything is checked on descriptors, so what was checked is what is read.
//! `~/.rhosts` and the way to it are opened with the account's own rights and
//! never with root's: that reaches home directories where the file server
//! knows no root, and nothing that the user could not read anyway.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use super::world::{Account, FileContent, HOSTS_EQUIV, LookupError, MAX_FILE, Member, Skip, World};
use crate::sys::identity::{IdentityError, as_user};
use crate::sys::resolve::LookupFailed;
use crate::sys::{netgroup, resolve, shadow};

/// How long the look-ups of one login may take: the user is still there then, and has time for the password.
const LOOKUPS: Duration = Duration::from_secs(15);

/// The world as it is.
#[derive(Debug, Default)]
pub struct SystemWorld {
    /// What the look-ups have taken.
    spent: Duration,
}

impl SystemWorld {
    fn timed<T>(&mut self, look_up: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let answer = look_up();
        self.spent += begun.elapsed();
        answer
    }
}

impl World for SystemWorld {
    fn addresses(&mut self, name: &str, peer: IpAddr) -> Result<Vec<IpAddr>, LookupError> {
        self.timed(|| resolve::forward(name, peer)).map_err(|failed| match failed {
            LookupFailed::NoSuchName => LookupError::NoSuchName,
            LookupFailed::NoAnswer(why) => LookupError::NoAnswer(why),
        })
    }

    fn in_netgroup(&mut self, group: &[u8], member: Member<'_>) -> bool {
        self.timed(|| match member {
            Member::Host(host) => netgroup::has_host(group, host),
            Member::User(user) => netgroup::has_user(group, user),
        })
    }

    fn start_over(&mut self) {
        self.spent = Duration::ZERO;
    }

    fn is_late(&mut self) -> bool {
        self.spent >= LOOKUPS
    }

    fn is_locked(&mut self, account: &Account) -> bool {
        shadow::is_locked(&account.name)
    }

    fn hosts_equiv(&mut self) -> FileContent {
        read_hosts_equiv(Path::new(HOSTS_EQUIV))
    }

    fn rhosts(&mut self, account: &Account) -> FileContent {
        read_rhosts(account)
    }
}

/// Reads a file that only root may own.
pub fn read_hosts_equiv(path: &Path) -> FileContent {
    content(open_file(AT_FDCWD, path).and_then(|file| read_checked(file, 0)))
}

/// Reads `.rhosts` in the account's home directory, with the account's rights.
pub fn read_rhosts(account: &Account) -> FileContent {
    match as_user(&account.name, account.uid, account.gid, || read_in_home(account)) {
        Ok(result) => content(result),
        Err(IdentityError::NeedsRoot) => FileContent::Skipped(Skip::NeedsRoot),
        Err(IdentityError::Failed { step, error }) => {
            FileContent::Skipped(Skip::Identity(format!("{step}: {error}")))
        }
    }
}

/// No file, or one that is not believed.
enum Trouble {
    Absent,
    Skip(Skip),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::NotFound {
            Trouble::Absent
        } else {
            Trouble::Skip(Skip::Io(error.to_string()))
        }
    }
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

fn content(result: Result<Vec<u8>, Trouble>) -> FileContent {
    match result {
        Ok(bytes) => FileContent::Text(bytes),
        Err(Trouble::Absent) => FileContent::Absent,
        Err(Trouble::Skip(why)) => FileContent::Skipped(why),
    }
}

fn read_in_home(account: &Account) -> Result<Vec<u8>, Trouble> {
    // O_PATH, because a home directory need not be readable to be passed through.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let home = openat(AT_FDCWD, &account.home, flags, Mode::empty())?;
    let file = open_file(home.as_fd(), Path::new(".rhosts"))?;
    let stat = fstat(&home)?;
    if stat.st_uid != 0 && stat.st_uid != account.uid {
        return Err(Trouble::Skip(Skip::HomeOwner(stat.st_uid)));
    }
    // An access control list that lets others write shows in the group's bit.
    if stat.st_mode & 0o022 != 0 {
        return Err(Trouble::Skip(Skip::HomeWritable(stat.st_mode & 0o7777)));
    }
    read_checked(file, account.uid)
}

/// Follows no link at the last step and waits for no FIFO's other end.
fn open_file(directory: BorrowedFd<'_>, path: &Path) -> Result<File, Trouble> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    match openat(directory, path, flags, Mode::empty()) {
        Ok(file) => Ok(File::from(file)),
        Err(Errno::ELOOP) => Err(Trouble::Skip(Skip::Symlink)),
        // What open(2) says of a socket.
        Err(Errno::ENXIO) => Err(Trouble::Skip(Skip::NotRegular("a socket or device"))),
        Err(errno) => Err(errno.into()),
    }
}

/// Checks the opened file and reads it. `owner` may own it, and root.
fn read_checked(file: File, owner: u32) -> Result<Vec<u8>, Trouble> {
    let stat = fstat(&file)?;
    if let Some(why) = unsafe_file(&stat, owner) {
        return Err(Trouble::Skip(why));
    }
    // The file may grow while it is read.
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    let size = u64::try_from(bytes.len()).unwrap_or(MAX_FILE);
    if size >= MAX_FILE { Err(Trouble::Skip(Skip::TooLarge(size))) } else { Ok(bytes) }
}

fn unsafe_file(stat: &FileStat, owner: u32) -> Option<Skip> {
    let size = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if let Some(kind) = not_regular(stat) {
        Some(Skip::NotRegular(kind))
    } else if stat.st_nlink != 1 {
        // st_nlink is narrower than u64 on some machines.
        #[allow(clippy::useless_conversion)]
        Some(Skip::Links(u64::from(stat.st_nlink)))
    } else if stat.st_uid != 0 && stat.st_uid != owner {
        Some(Skip::Owner(stat.st_uid))
    } else if stat.st_mode & 0o022 != 0 {
        Some(Skip::Writable(stat.st_mode & 0o7777))
    } else if size >= MAX_FILE {
        Some(Skip::TooLarge(size))
    } else {
        None
    }
}

fn not_regular(stat: &FileStat) -> Option<&'static str> {
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFREG {
        None
    } else if kind == SFlag::S_IFDIR {
        Some("a directory")
    } else if kind == SFlag::S_IFIFO {
        Some("a FIFO")
    } else {
        Some("a special file")
    }
}
