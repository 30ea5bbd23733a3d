//! Files that are read by their paths, and must be files.
//!
//! Whoever opens a FIFO waits for its other end, a device may do something because it is opened, and neither ends where a
//! file does. So what is there is looked at first, and again when it is open.

use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Opens a regular file for reading, and never waits for anybody. Symbolic links are followed.
///
/// # Errors
/// When it cannot be opened, or is something else: the text says what.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true), path)
}

/// As [`open`], for reading and writing.
///
/// # Errors
/// As there.
pub fn open_for_writing(path: &Path) -> io::Result<File> {
    open_with(File::options().read(true).write(true), path)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    check(std::fs::metadata(path)?.file_type())?;
    // It may be another one by now.
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    check(file.metadata()?.file_type())?;
    Ok(file)
}

/// Reads a regular file, at most so many bytes of it.
///
/// # Errors
/// As [`open`], or when it cannot be read.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn check(kind: FileType) -> io::Result<()> {
    if kind.is_file() {
        return Ok(());
    }
    Err(io::Error::other(format!("it is {}, not a regular file", name(kind))))
}

/// What stands at a path, in words.
#[must_use]
pub fn name(kind: FileType) -> &'static str {
    if kind.is_file() {
        "a regular file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// What a path leads to that is no regular file, in words; `None` also when there is nothing.
#[must_use]
pub fn other_kind(path: &Path) -> Option<&'static str> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    (!kind.is_file()).then(|| name(kind))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "0123456789").unwrap();
        symlink("file", at("link")).unwrap();
        assert_eq!(read(&at("file"), 100).unwrap(), b"0123456789");
        assert_eq!(read(&at("link"), 4).unwrap(), b"0123");
        mkfifo(&at("fifo"), Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        symlink("fifo", at("link to it")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (path, what) in [
            (at("fifo"), "a FIFO"),
            (at("link to it"), "a FIFO"),
            (at("directory"), "a directory"),
            (at("socket"), "a socket"),
            ("/dev/zero".into(), "a device"),
        ] {
            let error = read(&path, 100).unwrap_err().to_string();
            assert_eq!(error, format!("it is {what}, not a regular file"), "{}", path.display());
        }
        assert_eq!(open(&at("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(read(Path::new("/proc/self/status"), 100).is_ok(), "what the kernel makes is a file");
    }
}
