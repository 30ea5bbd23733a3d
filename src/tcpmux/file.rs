//! Reads a configuration file and puts another in its place, all at once or not at all.
//!
//! Must never write into the file itself: whoever reads it meanwhile, and whoever finds the disk full, has the old one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use crate::sys::ownership;

/// As the kernel's limit (path_resolution(7)).
const MOST_LINKS: usize = 40;
/// The mode of a file that was not there before.
const NEW_MODE: u32 = 0o644;

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// Where the file really is: behind the symlinks.
    path: PathBuf,
    /// Owner, group and mode; `None` when there is no file.
    owner: Option<(u32, u32, u32)>,
    content: Vec<u8>,
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
    /// Reads the file. Symlinks are followed when root owns them.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let path = follow(path)?;
        let Some(mut file) = open(&path)? else { return Ok(Self { path, owner: None, content: Vec::new() }) };
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(|e| error(&path, e))?;
        let data = file.metadata().map_err(|e| error(&path, e))?;
        Ok(Self { owner: Some((data.uid(), data.gid(), data.mode() & 0o7777)), path, content })
    }

    /// Whether there is a file.
    pub(super) fn exists(&self) -> bool {
        self.owner.is_some()
    }

    /// What is in it; nothing when there is no file.
    pub(super) fn content(&self) -> &[u8] {
        &self.content
    }

    /// Puts a file with this content in its place, of the same owner and mode.
    pub(super) fn replace(&self, content: &[u8]) -> io::Result<()> {
        self.check_unchanged()?;
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Err(error(&self.path, "not the name of a file"));
        };
        // With a dot in front: xinetd reads every file of its directory without one.
        let temporary = directory.join(format!(".{}.rlogind-{}", name.to_string_lossy(), std::process::id()));
        let replaced = self.write(&temporary, content).and_then(|()| {
            self.check_unchanged()?;
            fs::rename(&temporary, &self.path).map_err(|e| error(&self.path, e))
        });
        if replaced.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        replaced?;
        sync(directory)
    }

    /// Takes the file away.
    pub(super) fn remove(&self) -> io::Result<()> {
        self.check_unchanged()?;
        fs::remove_file(&self.path).map_err(|e| error(&self.path, e))?;
        self.path.parent().map_or(Ok(()), sync)
    }

    fn write(&self, temporary: &Path, content: &[u8]) -> io::Result<()> {
        let write = || {
            // Not through a link or into a file that somebody has put there.
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
            file.write_all(content)?;
            let mode = match self.owner {
                Some((uid, gid, mode)) => {
                    fchown(&file, Some(uid), Some(gid))?;
                    mode
                }
                None => NEW_MODE,
            };
            // Behind the owner: a change of that can take bits away.
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        };
        write().map_err(|e| error(&self.path, format!("cannot write {}: {e}", shown(temporary))))
    }

    /// Whoever else changes the file must not lose what they wrote.
    fn check_unchanged(&self) -> io::Result<()> {
        let read = |mut file: File| {
            let mut content = Vec::new();
            file.read_to_end(&mut content).map(|_| content).map_err(|e| error(&self.path, e))
        };
        let now = open(&self.path)?.map(read).transpose()?;
        if now.as_ref() == self.owner.map(|_| &self.content) {
            Ok(())
        } else {
            Err(error(&self.path, "somebody else has changed it just now; try again"))
        }
    }
}

/// Opens a file that only root can write; a superserver starts as root what is in it. `None` when there is none.
fn open(path: &Path) -> io::Result<Option<File>> {
    match ownership::open_anywhere(path, OFlag::O_NOFOLLOW) {
        Ok(file) => Ok(Some(file)),
        Err(ownership::Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(ownership::Error::Unsafe(why)) => Err(error(path, format!("refused: {why}"))),
        Err(e) => Err(error(path, e)),
    }
}

/// So that the rename outlasts a crash.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory).and_then(|file| file.sync_all()).map_err(|e| error(directory, e))
}

/// The path behind the symlinks that the file's name may be.
pub(super) fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path).map_err(|e| error(path, e))?;
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&path) {
            Ok(data) if data.is_symlink() && data.uid() != 0 => {
                return Err(error(&path, "a symbolic link that is not root's is not followed"));
            }
            Ok(data) if data.is_symlink() => {
                let target = fs::read_link(&path).map_err(|e| error(&path, e))?;
                path = path.parent().unwrap_or(Path::new("/")).join(target);
            }
            Ok(_) | Err(_) => return Ok(path),
        }
    }
    Err(error(&path, "too many symbolic links"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    }

    #[test]
    fn a_file_that_somebody_else_has_changed_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("inetd.conf");
        let absent = Snapshot::read(&path).unwrap();
        assert!(!absent.exists());
        write(&path, "theirs");
        assert!(absent.replace(b"ours").unwrap_err().to_string().contains("inetd.conf: somebody else"));

        let read = Snapshot::read(&path).unwrap();
        write(&path, "theirs again");
        assert!(read.replace(b"ours").is_err() && read.remove().is_err());
        assert_eq!(fs::read(&path).unwrap(), b"theirs again");

        let read = Snapshot::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(read.replace(b"ours").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "a temporary file is left");
    }

    #[test]
    fn only_roots_links_are_followed() {
        let directory = tempfile::tempdir().unwrap();
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
    fn what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = Snapshot::read(directory.path()).unwrap_err().to_string();
        assert_eq!(error, format!("{}: not a regular file", directory.path().display()));
        if nix::unistd::geteuid().is_root() {
            let endless = directory.path().join("endless");
            symlink("endless", &endless).unwrap();
            assert!(Snapshot::read(&endless).unwrap_err().to_string().contains("too many symbolic links"));
        }
    }
}
