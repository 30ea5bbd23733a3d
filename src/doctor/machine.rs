//! The machine that is looked at: its files below a root, which is `/` but in tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::file;

/// More than any file that is read here has.
pub(super) const LONGEST: u64 = 1 << 20;

/// Where files are.
#[derive(Debug)]
pub(super) struct Machine {
    root: PathBuf,
    /// The executable of this process, by its real path.
    pub(super) executable: PathBuf,
}

impl Machine {
    pub(super) fn this() -> Machine {
        let executable = std::env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
        Machine { root: PathBuf::from("/"), executable }
    }

    /// Where the file of that absolute path is.
    pub(super) fn path(&self, absolute: impl AsRef<Path>) -> PathBuf {
        let path = absolute.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(super) fn exists(&self, absolute: impl AsRef<Path>) -> bool {
        self.path(absolute).exists()
    }

    /// The text of a file, as far as it is text.
    pub(super) fn read(&self, absolute: impl AsRef<Path>) -> io::Result<String> {
        let bytes = file::read(&self.path(absolute), LONGEST)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The number in a file that has one number, as those of `/proc/sys`.
    pub(super) fn number(&self, absolute: &str) -> Option<u64> {
        self.read(absolute).ok()?.trim().parse().ok()
    }

    /// The absolute paths of what is in a directory, sorted; nothing when it cannot be read.
    pub(super) fn list(&self, absolute: impl AsRef<Path>) -> Vec<PathBuf> {
        let absolute = absolute.as_ref();
        let entries = fs::read_dir(self.path(absolute)).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| absolute.join(entry.file_name())).collect();
        paths.sort();
        paths
    }

    /// Whether the path leads to this very program.
    pub(super) fn is_ours(&self, absolute: impl AsRef<Path>) -> bool {
        fs::canonicalize(self.path(absolute)).is_ok_and(|path| path == self.executable)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tempfile::TempDir;

    use super::*;

    /// A machine that has these files, and `/usr/sbin/rlogind`, which is this program.
    pub(crate) fn machine(files: &[(&str, &str)]) -> (TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let machine = Machine { executable: root.join("usr/sbin/rlogind"), root };
        for (name, text) in files.iter().chain(&[("/usr/sbin/rlogind", "")]) {
            let path = machine.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        (folder, machine)
    }

    #[test]
    fn paths_are_below_the_root() {
        let (folder, machine) = machine(&[("/etc/a", " 7\n"), ("/etc/b", "x\u{e9}")]);
        assert!(machine.path("/etc/a").starts_with(folder.path().canonicalize().unwrap()));
        assert_eq!(machine.number("/etc/a"), Some(7));
        assert_eq!(machine.number("/etc/b"), None);
        assert_eq!(machine.read("/etc/b").unwrap(), "x\u{e9}");
        assert_eq!(machine.list("/etc"), [Path::new("/etc/a"), Path::new("/etc/b")]);
        assert!(machine.list("/nothing").is_empty() && !machine.exists("/nothing"));
        std::os::unix::fs::symlink("rlogind", machine.path("/usr/sbin/in.rlogind")).unwrap();
        assert!(machine.is_ours("/usr/sbin/in.rlogind") && !machine.is_ours("/etc/a"));
    }
}
