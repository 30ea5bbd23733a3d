//! Whether anybody besides root can change a file, or put another one in its place.
//!
//! A file is as safe as the folders on the way to it: whoever can write one of them can rename what is in it. So each
//! folder is checked, from `/` on, and where a symbolic link stands and where it leads. Everything is checked on
//! descriptors, and the file is opened in the last folder that was checked: what was checked is what is used.
//!
//! It looks names up, and an open file of a file system that hangs is a process that hangs: not for a loop.

use std::ffi::{CStr, OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::unistd::geteuid;

/// As the kernel's limit (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Waits for no FIFO's other end.
const READ: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
/// To look at something without opening it.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Others than root can change a file, or put another one in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsafe {
    /// The folder that they can write; `None`: they can write the file itself.
    pub folder: Option<PathBuf>,
    problem: Problem,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Problem {
    /// The user id that owns it.
    Owner(u32),
    /// The mode that lets others write it.
    Mode(u32),
}

impl fmt::Display for Unsafe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.folder {
            write!(f, "the folder {} is ", folder.display())?;
        }
        match self.problem {
            Problem::Owner(uid) => write!(f, "owned by user {uid}, not by root"),
            Problem::Mode(mode) => write!(f, "writable by group or others (mode {mode:04o})"),
        }
    }
}

impl std::error::Error for Unsafe {}

/// Why a file is not used.
#[derive(Debug)]
pub enum Error {
    /// It cannot be opened.
    Io(io::Error),
    /// It is something else than a regular file.
    NotRegular,
    /// Others than root can change it.
    Unsafe(Unsafe),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::NotRegular => f.write_str("not a regular file"),
            Error::Unsafe(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Error {
        Error::Io(errno.into())
    }
}

/// Finds an executable that only root can change: a regular file, in folders that only root can write. The descriptor
/// is one to execute it by (`O_PATH`).
///
/// # Errors
/// When it cannot be found, is not a regular file, or others than root can change it.
pub fn find(path: &Path) -> Result<OwnedFd, Error> {
    let way = walk(path)?;
    let (file, stat) = way.file.ok_or(Errno::ENOENT)?;
    // Only now: what is not there is no danger.
    way.found_unsafe.map_or(Ok(()), |why| Err(Error::Unsafe(why)))?;
    match problem(&stat, || has_list_by_name(&way.place.folder, &way.place.name)) {
        Some(problem) => Err(Error::Unsafe(Unsafe { folder: None, problem })),
        None => Ok(file),
    }
}

/// Opens a regular file for reading that only root can change, in folders that only root can write. A caller who is
/// not root may own them as well.
///
/// # Errors
/// As [`find`].
pub fn open(path: &Path) -> Result<File, Error> {
    let way = walk(path)?;
    way.file.as_ref().ok_or(Errno::ENOENT)?;
    way.found_unsafe.map_or(Ok(()), |why| Err(Error::Unsafe(why)))?;
    way.place.open()
}

/// Where a file is, or would be: a name in a folder that was reached through folders that only root can write.
#[derive(Debug)]
pub struct Place {
    folder: OwnedFd,
    name: OsString,
    /// The path of the folder, without links.
    shown: PathBuf,
    foreign_link: Option<PathBuf>,
}

impl Place {
    /// Goes to a file that need not be there. A caller who is not root may own the folders as well.
    ///
    /// # Errors
    /// When a folder is missing, others than root can write one, or something else than a regular file is there.
    pub fn of(path: &Path) -> Result<Place, Error> {
        let way = walk(path)?;
        way.found_unsafe.map_or(Ok(way.place), |why| Err(Error::Unsafe(why)))
    }

    /// The folder, to make and rename files in. It cannot be read by this descriptor (`O_PATH`).
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// The file's name in the folder.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The file's path behind all links.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.shown.join(&self.name)
    }

    /// The first symbolic link on the way that is not root's. Nobody else can put another one in its place, but root may
    /// have moved it to where it is, and never looked at where it leads.
    #[must_use]
    pub fn foreign_link(&self) -> Option<&Path> {
        self.foreign_link.as_deref()
    }

    /// Opens the file for reading, if only root can change it.
    ///
    /// # Errors
    /// As [`find`].
    pub fn open(&self) -> Result<File, Error> {
        let file = match openat(&self.folder, &*self.name, READ | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(file) => File::from(file),
            // What open(2) says of a socket.
            Err(Errno::ENXIO) => return Err(Error::NotRegular),
            Err(errno) => return Err(errno.into()),
        };
        check(&file)?;
        Ok(file)
    }
}

/// Checks an open file: its kind, its owner and its mode.
fn check(file: &File) -> Result<(), Error> {
    let stat = fstat(file)?;
    if kind(&stat) != SFlag::S_IFREG {
        return Err(Error::NotRegular);
    }
    match problem(&stat, || has_list(file.as_fd())) {
        Some(problem) => Err(Error::Unsafe(Unsafe { folder: None, problem })),
        None => Ok(()),
    }
}

/// The way to a file, and what was found there.
struct Way {
    place: Place,
    /// A regular file, which nobody has opened yet, if something is there at all.
    file: Option<(OwnedFd, FileStat)>,
    /// The first folder on the way that others than root can write.
    found_unsafe: Option<Unsafe>,
}

/// Goes to a file, and looks at each folder on the way.
fn walk(path: &Path) -> Result<Way, Error> {
    let path = std::path::absolute(path)?;
    let root = || openat(AT_FDCWD, "/", LOOK, Mode::empty());
    let (mut folder, mut shown) = (root()?, PathBuf::from("/"));
    let mut found_unsafe = check_folder(&folder, OsStr::new("."), &folder, &shown)?;
    // The last one is next.
    let mut left = names(&path);
    let (mut links, mut foreign_link) = (0, None);
    while let Some(name) = left.pop() {
        let found = match openat(&folder, &*name, LOOK, Mode::empty()) {
            Err(Errno::ENOENT) if left.is_empty() => None,
            found => Some(found?),
        };
        let found = found.map(|found| fstat(&found).map(|stat| (found, stat))).transpose()?;
        match found {
            Some((link, stat)) if kind(&stat) == SFlag::S_IFLNK => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::ELOOP.into());
                }
                if stat.st_uid != 0 {
                    foreign_link.get_or_insert_with(|| shown.join(&name));
                }
                let target = PathBuf::from(readlinkat(&link, "")?);
                if target.is_absolute() {
                    (folder, shown) = (root()?, PathBuf::from("/"));
                }
                left.extend(names(&target));
            }
            // A device may do something because it is opened, and whether it has an access control list is asked so.
            Some((_, stat)) if !matches!(kind(&stat), SFlag::S_IFREG | SFlag::S_IFDIR) => {
                return Err(if left.is_empty() { Error::NotRegular } else { Errno::ENOTDIR.into() });
            }
            Some((next, stat)) if !left.is_empty() || kind(&stat) != SFlag::S_IFREG => {
                if name == ".." {
                    shown.pop();
                } else {
                    shown.push(&name);
                }
                found_unsafe = found_unsafe.or(check_folder(&folder, &name, &next, &shown)?);
                folder = next;
            }
            file => {
                let place = Place { folder, name, shown, foreign_link };
                return Ok(Way { place, file, found_unsafe });
            }
        }
    }
    Err(Error::NotRegular)
}

/// The names in a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    names.collect()
}

/// Who besides root can write a folder on the way; `above` is the one that has it by that name.
fn check_folder(
    above: &OwnedFd,
    name: &OsStr,
    folder: &OwnedFd,
    shown: &Path,
) -> Result<Option<Unsafe>, Error> {
    let problem = problem(&fstat(folder)?, || has_list_by_name(above, name));
    Ok(problem.map(|problem| Unsafe { folder: Some(shown.to_owned()), problem }))
}

/// Who besides root can write what this is about. `has_list` is asked whether it has an access control list.
///
/// The sticky bit is no excuse: in `/tmp` others cannot replace a file, but can have made it.
fn problem(stat: &FileStat, has_list: impl FnOnce() -> bool) -> Option<Problem> {
    if stat.st_uid != 0 && stat.st_uid != geteuid().as_raw() {
        return Some(Problem::Owner(stat.st_uid));
    }
    let (group, others) = (stat.st_mode & 0o020 != 0, stat.st_mode & 0o002 != 0);
    // The group of root may write; but a list that lets anybody else write shows in the same bit.
    let writable = others || (group && (stat.st_gid != 0 || has_list()));
    writable.then_some(Problem::Mode(stat.st_mode & 0o7777))
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Whether a file or folder has an access control list, or cannot tell.
fn has_list_by_name(folder: &OwnedFd, name: &OsStr) -> bool {
    openat(folder, name, READ | OFlag::O_NOFOLLOW, Mode::empty()).map_or(true, |file| has_list(file.as_fd()))
}

fn has_list(file: BorrowedFd) -> bool {
    const NAME: &CStr = c"system.posix_acl_access";
    // SAFETY: the name ends with a zero byte, and of a buffer without length nothing is written.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), NAME.as_ptr(), ptr::null_mut(), 0) };
    length != -1 || !matches!(Errno::last(), Errno::ENODATA | Errno::EOPNOTSUPP)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::env;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use nix::unistd::mkfifo;
    use tempfile::TempDir;

    use super::*;

    /// A folder that is the test's own, and that only root or who runs the test can write.
    pub(crate) fn folder() -> TempDir {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let home = env::var_os("HOME").map(PathBuf::from);
        let mut places = home.into_iter().chain([PathBuf::from("/root"), PathBuf::from("/run"), target]);
        let usable = |place: PathBuf| {
            let folder = tempfile::tempdir_in(place).ok()?;
            write(&folder.path().join("probe"), 0o600);
            open(&folder.path().join("probe")).is_ok().then_some(folder)
        };
        places.find_map(usable).expect("a folder that only root can write")
    }

    fn write(path: &Path, mode: u32) {
        fs::write(path, "text").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// What [`open`] and [`find`] say, which has to be the same.
    fn said(path: &Path) -> String {
        let opened = open(path).map_or_else(|error| error.to_string(), |_| "opened".to_owned());
        let found = find(path).map_or_else(|error| error.to_string(), |_| "opened".to_owned());
        assert_eq!(opened, found, "{}", path.display());
        opened
    }

    #[test]
    fn owners_and_modes_of_the_file() {
        let folder = folder();
        let file = folder.path().join("file");
        for mode in [0o600, 0o644, 0o755, 0o4755] {
            write(&file, mode);
            assert_eq!(said(&file), "opened", "{mode:o}");
        }
        for mode in [0o602, 0o666, 0o4757] {
            write(&file, mode);
            assert_eq!(said(&file), format!("writable by group or others (mode {mode:04o})"));
        }
        if geteuid().is_root() {
            write(&file, 0o664);
            assert_eq!(said(&file), "opened", "the group is root's");
            chown(&file, None, Some(50)).unwrap();
            assert_eq!(said(&file), "writable by group or others (mode 0664)");
            write(&file, 0o600);
            chown(&file, Some(1001), None).unwrap();
            assert_eq!(said(&file), "owned by user 1001, not by root");
        }
    }

    #[test]
    fn every_folder_on_the_way_counts() {
        let folder = folder();
        let (above, below) = (folder.path().join("above"), folder.path().join("above/below"));
        fs::create_dir_all(&below).unwrap();
        let file = below.join("file");
        write(&file, 0o600);
        for (changed, mode) in [(&above, 0o1777), (&below, 0o1777), (&above, 0o757)] {
            fs::set_permissions(&above, Permissions::from_mode(0o755)).unwrap();
            fs::set_permissions(&below, Permissions::from_mode(0o755)).unwrap();
            assert_eq!(said(&file), "opened");
            fs::set_permissions(changed, Permissions::from_mode(mode)).unwrap();
            let expected =
                format!("the folder {} is writable by group or others (mode {mode:04o})", changed.display());
            assert_eq!(said(&file), expected);
            assert_eq!(said(&below.join("../below/./file")), expected);
            // What is not there is no danger.
            assert!(
                matches!(open(&below.join("no")), Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound)
            );
        }
        assert!(said(Path::new("/tmp/no")).starts_with("No such file"));
    }

    #[test]
    fn folders_of_others_and_of_other_groups() {
        if !geteuid().is_root() {
            return;
        }
        let folder = folder();
        let file = folder.path().join("file");
        write(&file, 0o600);
        // As /usr/local/sbin is on older Debians; then with the group of root.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o2775)).unwrap();
        assert_eq!(said(&file), "opened");
        chown(folder.path(), None, Some(50)).unwrap();
        let shown = folder.path().display();
        assert_eq!(said(&file), format!("the folder {shown} is writable by group or others (mode 2775)"));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        chown(folder.path(), Some(1001), None).unwrap();
        assert_eq!(said(&file), format!("the folder {shown} is owned by user 1001, not by root"));
    }

    #[test]
    fn links_count_where_they_stand_and_where_they_lead() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        for name in ["safe", "open"] {
            fs::create_dir(at(name)).unwrap();
            write(&at(name).join("file"), 0o600);
        }
        fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
        symlink("file", at("safe/relative")).unwrap();
        symlink(at("safe/file"), at("safe/absolute")).unwrap();
        symlink("../safe", at("safe/folder")).unwrap();
        for name in ["safe/relative", "safe/absolute", "safe/folder/relative", "safe/folder/folder/file"] {
            assert_eq!(said(&at(name)), "opened", "{name}");
        }
        symlink("../open/file", at("safe/leads-out")).unwrap();
        symlink(at("open"), at("safe/leads-out-too")).unwrap();
        symlink(at("safe/file"), at("open/leads-in")).unwrap();
        for name in ["safe/leads-out", "safe/leads-out-too/file", "open/leads-in", "open/../safe/file"] {
            assert!(said(&at(name)).starts_with("the folder "), "{name}: {}", said(&at(name)));
        }
        symlink("endless", at("safe/endless")).unwrap();
        symlink("nothing", at("safe/dangling")).unwrap();
        assert!(said(&at("safe/endless")).starts_with("Too many levels of symbolic links"));
        assert!(said(&at("safe/dangling")).starts_with("No such file"));
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = folder();
        mkfifo(&folder.path().join("fifo"), Mode::S_IRUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
        let (fifo, socket) = (folder.path().join("fifo"), folder.path().join("socket"));
        for path in [&fifo, &socket, folder.path(), Path::new("/"), Path::new("/dev/null")] {
            assert_eq!(said(path), "not a regular file", "{}", path.display());
        }
        assert!(said(&folder.path().join("fifo/below")).starts_with("Not a directory"));
    }

    #[test]
    fn a_place_is_there_before_its_file_is() {
        let folder = folder();
        let real = folder.path().canonicalize().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("below")).unwrap();
        symlink("below/new", at("link")).unwrap();
        for way in ["below/new", "below/../below/./new", "link"] {
            let place = Place::of(&at(way)).unwrap();
            assert_eq!((place.path(), place.name()), (real.join("below/new"), OsStr::new("new")), "{way}");
            assert!(
                matches!(place.open(), Err(Error::Io(error)) if error.kind() == io::ErrorKind::NotFound),
                "{way}"
            );
        }
        write(&at("below/new"), 0o600);
        let place = Place::of(&at("link")).unwrap();
        assert!(place.open().is_ok());
        // What stands there by then is what is opened, and never what a link names.
        fs::rename(at("below/new"), at("below/other")).unwrap();
        symlink("other", at("below/new")).unwrap();
        assert!(place.open().is_err());
        fs::remove_file(at("below/new")).unwrap();
        assert!(matches!(Place::of(&at("no/new")), Err(Error::Io(_))));
        assert!(matches!(Place::of(&at("below")), Err(Error::NotRegular)));
        // Here a file is to be made: what is not there is a danger.
        fs::set_permissions(at("below"), Permissions::from_mode(0o1777)).unwrap();
        for way in ["below/new", "link", "below/../other"] {
            let error = Place::of(&at(way)).unwrap_err().to_string();
            assert!(error.ends_with("/below is writable by group or others (mode 1777)"), "{way}: {error}");
        }
    }

    #[test]
    fn a_link_of_somebody_else_is_told() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("real")).unwrap();
        symlink("real", at("first")).unwrap();
        symlink("first", at("second")).unwrap();
        let foreign = |way: &str| Place::of(&at(way)).unwrap().foreign_link().map(Path::to_owned);
        assert_eq!(foreign("real/file"), None);
        if geteuid().is_root() {
            assert_eq!(foreign("second/file"), None);
            lchown(at("first"), Some(1001), None).unwrap();
        }
        // The first one that is met.
        let expected = if geteuid().is_root() { "first" } else { "second" };
        assert_eq!(foreign("second/file"), Some(folder.path().canonicalize().unwrap().join(expected)));
    }

    #[test]
    fn an_access_control_list_shows_in_the_bit_of_the_group() {
        // Version 2; the owner 6, user 1001 6, the group 4, the mask 6, others 4 (linux/posix_acl_xattr.h).
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 6, 1001), (4, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 4, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend(tag.to_le_bytes().into_iter().chain(rights.to_le_bytes()).chain(id.to_le_bytes()));
        }
        let folder = folder();
        let file = folder.path().join("file");
        write(&file, 0o644);
        let opened = File::open(&file).unwrap();
        // SAFETY: name and value are as long as is said.
        let set = unsafe {
            let name = c"system.posix_acl_access".as_ptr();
            libc::fsetxattr(opened.as_raw_fd(), name, list.as_ptr().cast(), list.len(), 0)
        };
        // Not every file system has them.
        if set == 0 {
            assert_eq!(said(&file), "writable by group or others (mode 0664)");
        } else {
            assert_eq!(Errno::last(), Errno::EOPNOTSUPP);
        }
    }
}
