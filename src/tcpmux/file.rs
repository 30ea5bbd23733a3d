//! Reads a configuration file and puts another in its place, all at once or not at all.
//!
//! Must never write into the file itself: whoever reads it meanwhile, and whoever finds the disk full, has the old one.
//! Must never look its path up again: what was read stood in a folder that was checked, and there the new one is made.

use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::libc::{dev_t, gid_t, ino_t, mode_t, uid_t};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::sys::ownership::{self, Place};

/// The mode of a file that was not there before.
const NEW_MODE: u32 = 0o644;

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Where the file really is: behind the symlinks. As far as that is known.
    path: PathBuf,
    /// `None` when a folder on the way is missing.
    place: Option<Place>,
    /// `None` when there is no file.
    old: Option<Old>,
}

/// What was read.
#[derive(Debug)]
struct Old {
    /// Kept open, so that no other file can get its inode.
    file: File,
    kept: Kept,
    content: Vec<u8>,
}

/// Which file it is, and what a new one has to have of it.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    inode: (dev_t, ino_t),
    owner: (uid_t, gid_t),
    mode: mode_t,
}

/// An error with the file it is about.
pub(super) fn error(path: &Path, reason: impl std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {reason}", shown(path)))
}

/// A path without control characters.
pub(super) fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

impl Snapshot {
    /// Reads the file. A superserver starts as root what is in it, so only root may be able to change it, by itself or by
    /// a folder on the way. Symlinks are followed when root owns them.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let place = match Place::of(path) {
            Ok(place) => place,
            Err(ownership::Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { path: path.to_owned(), place: None, old: None });
            }
            Err(e) => return Err(refused(path, e)),
        };
        if let Some(link) = place.foreign_link() {
            return Err(error(link, "a symbolic link that is not root's is not followed"));
        }
        let path = place.path();
        let old = match place.open() {
            Ok(file) => Some(Old::read(file).map_err(|e| error(&path, e))?),
            Err(ownership::Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(refused(&path, e)),
        };
        Ok(Self { path, place: Some(place), old })
    }

    /// Whether there is a file.
    pub(super) fn exists(&self) -> bool {
        self.old.is_some()
    }

    /// Whether there is a folder for it.
    pub(super) fn has_folder(&self) -> bool {
        self.place.is_some()
    }

    /// What is in it; nothing when there is no file.
    pub(super) fn content(&self) -> &[u8] {
        self.old.as_ref().map_or(&[], |old| &old.content)
    }

    /// Puts a file with this content in its place, of the same owner and mode.
    pub(super) fn replace(&self, content: &[u8]) -> io::Result<()> {
        let place = self.check_unchanged()?;
        // With a dot in front: xinetd reads every file of its directory without one.
        let temporary = format!(".{}.rlogind-{}", place.name().to_string_lossy(), std::process::id());
        let temporary = Path::new(&temporary);
        let replaced = self.write(place, temporary, content).and_then(|()| {
            self.check_unchanged()?;
            renameat(place.folder(), temporary, place.folder(), place.name()).map_err(|e| self.error(e))
        });
        if replaced.is_err() {
            let _ = unlinkat(place.folder(), temporary, UnlinkatFlags::NoRemoveDir);
        }
        replaced?;
        self.sync(place)
    }

    /// Takes the file away.
    pub(super) fn remove(&self) -> io::Result<()> {
        let place = self.check_unchanged()?;
        unlinkat(place.folder(), place.name(), UnlinkatFlags::NoRemoveDir).map_err(|e| self.error(e))?;
        self.sync(place)
    }

    fn error(&self, errno: Errno) -> io::Error {
        error(&self.path, io::Error::from(errno))
    }

    fn write(&self, place: &Place, temporary: &Path, content: &[u8]) -> io::Result<()> {
        // Not through a link or into a file that somebody has put there.
        const NEW: OFlag = OFlag::O_WRONLY.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_CLOEXEC);
        let write = || {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            let mut file = File::from(openat(place.folder(), temporary, NEW, mode)?);
            file.write_all(content)?;
            let mode = match &self.old {
                Some(Old { kept: Kept { owner: (uid, gid), mode, .. }, .. }) => {
                    fchown(&file, Some(*uid), Some(*gid))?;
                    *mode
                }
                None => NEW_MODE,
            };
            // Behind the owner: a change of that can take bits away.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        let whole = self.path.with_file_name(temporary);
        write().map_err(|e| error(&self.path, format!("cannot write {}: {e}", shown(&whole))))
    }

    /// Whoever else changes the file must not lose what they wrote.
    fn check_unchanged(&self) -> io::Result<&Place> {
        let Some(place) = &self.place else { return Err(error(&self.path, "there is no such folder")) };
        let now = match fstatat(place.folder(), place.name(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => Some(Kept::of(&stat)),
            Err(Errno::ENOENT) => None,
            Err(errno) => return Err(self.error(errno)),
        };
        let same = match &self.old {
            Some(old) => {
                now.as_ref() == Some(&old.kept) && old.is_content().map_err(|e| error(&self.path, e))?
            }
            None => now.is_none(),
        };
        if same {
            Ok(place)
        } else {
            Err(error(&self.path, "somebody else has changed it just now; try again"))
        }
    }

    /// So that the rename outlasts a crash.
    fn sync(&self, place: &Place) -> io::Result<()> {
        const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);
        let folder = openat(place.folder(), ".", FOLDER, Mode::empty()).map_err(|e| self.error(e))?;
        File::from(folder).sync_all().map_err(|e| error(&self.path, e))
    }
}

impl Kept {
    fn of(stat: &FileStat) -> Self {
        let (inode, owner) = ((stat.st_dev, stat.st_ino), (stat.st_uid, stat.st_gid));
        Self { inode, owner, mode: stat.st_mode & 0o7777 }
    }
}

impl Old {
    fn read(mut file: File) -> io::Result<Self> {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let kept = Kept::of(&fstat(&file)?);
        Ok(Self { file, kept, content })
    }

    /// Whether the file still has what was read. Its time of change would not tell of what happens within a tick of the clock.
    fn is_content(&self) -> io::Result<bool> {
        let (mut file, mut content) = (&self.file, Vec::new());
        file.rewind()?;
        file.read_to_end(&mut content)?;
        Ok(content == self.content)
    }
}

/// Why a file is not used, with what mends it where that is a folder's affair.
fn refused(path: &Path, why: ownership::Error) -> io::Error {
    match why {
        ownership::Error::Unsafe(why) if why.folder.is_some() => {
            let mend = "let only root own and write that folder, or keep the file in another one";
            error(path, format!("refused: {why}: {mend}"))
        }
        ownership::Error::Unsafe(why) => error(path, format!("refused: {why}")),
        ownership::Error::Io(_) | ownership::Error::NotRegular => error(path, why),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    #[test]
    fn a_file_that_somebody_else_has_changed_is_left_alone() {
        let directory = ownership::tests::folder();
        let path = directory.path().join("inetd.conf");
        let absent = Snapshot::read(&path).unwrap();
        assert!(!absent.exists());
        write(&path, "theirs");
        assert!(absent.replace(b"ours").unwrap_err().to_string().contains("inetd.conf: somebody else"));

        let read = Snapshot::read(&path).unwrap();
        write(&path, "theirs again");
        assert!(read.replace(b"ours").is_err() && read.remove().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"theirs again");

        // With as many bytes, at the same moment.
        let read = Snapshot::read(&path).unwrap();
        write(&path, "THEIRS again");
        assert!(read.replace(b"ours").is_err());
        // Another file of the same content: it may be a copy that they go on writing.
        let read = Snapshot::read(&path).unwrap();
        fs::copy(&path, directory.path().join("new")).unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        assert!(read.replace(b"ours").is_err());
        let read = Snapshot::read(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(read.replace(b"ours").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"THEIRS again");

        let read = Snapshot::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(read.replace(b"ours").is_err());
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let left: Vec<_> = names.filter(|name| name != "probe").collect();
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn only_roots_links_are_followed() {
        let directory = ownership::tests::folder();
        let (file, first, second) =
            (directory.path().join("file"), directory.path().join("first"), directory.path().join("second"));
        write(&file, "old");
        symlink("file", &first).unwrap();
        symlink(&first, &second).unwrap();
        if nix::unistd::geteuid().is_root() {
            Snapshot::read(&second).unwrap().replace(b"new").unwrap();
            assert_eq!(fs::read(&file).unwrap(), b"new");
            assert!(fs::symlink_metadata(&first).unwrap().is_symlink());
            assert!(fs::symlink_metadata(&second).unwrap().is_symlink());
            lchown(&first, Some(1), Some(1)).unwrap();
        }
        // One of them is enough.
        let error = Snapshot::read(&second).unwrap_err().to_string();
        assert!(error.ends_with("a symbolic link that is not root's is not followed"), "{error}");
    }

    #[test]
    fn a_folder_that_is_swapped_meanwhile_gets_nothing() {
        let directory = ownership::tests::folder();
        let at = |name: &str| directory.path().join(name);
        for name in ["etc", "other"] {
            fs::create_dir(at(name)).unwrap();
            write(&at(name).join("inetd.conf"), "old");
        }
        let read = Snapshot::read(&at("etc/inetd.conf")).unwrap();
        fs::rename(at("etc"), at("moved")).unwrap();
        fs::rename(at("other"), at("etc")).unwrap();
        read.replace(b"new").unwrap();
        assert_eq!(fs::read(at("moved/inetd.conf")).unwrap(), b"new", "where it was read and checked");
        assert_eq!(fs::read(at("etc/inetd.conf")).unwrap(), b"old");
        assert_eq!(fs::read_dir(at("etc")).unwrap().count(), 1);
    }

    #[test]
    fn without_a_folder_nothing_is_made() {
        let directory = ownership::tests::folder();
        let read = Snapshot::read(&directory.path().join("no/file")).unwrap();
        assert!(!read.exists() && !read.has_folder());
        let error = read.replace(b"ours").unwrap_err().to_string();
        assert!(error.ends_with("/no/file: there is no such folder"), "{error}");
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let directory = ownership::tests::folder();
        let error = Snapshot::read(directory.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: not a regular file", directory.path().display()));
        if nix::unistd::geteuid().is_root() {
            let endless = directory.path().join("endless");
            symlink("endless", &endless).unwrap();
            assert!(
                Snapshot::read(&endless)
                    .unwrap_err()
                    .to_string()
                    .contains("Too many levels of symbolic links")
            );
        }
    }
}
