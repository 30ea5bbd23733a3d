//! Files that exist in memory only, memfd_create(2). Those that are written here are
//! sealed, so that whoever is handed one reads what was meant.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// The longest file that is read back, in bytes.
const MAX_LENGTH: u64 = 16 * 1024 * 1024;

/// A new empty file, for somebody else to write to.
///
/// # Errors
/// Out of memory or descriptors.
pub fn create() -> io::Result<OwnedFd> {
    Ok(memfd_create(c"rlogind", MFdFlags::MFD_CLOEXEC)?)
}

/// A new sealed file with this content.
///
/// # Errors
/// Out of memory or descriptors.
pub fn write(content: &[u8]) -> io::Result<OwnedFd> {
    let fd = memfd_create(c"rlogind", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(fd);
    file.write_all(content)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::all()))?;
    Ok(file.into())
}

/// Whether it was made by [`write()`]: nobody can change it any more.
#[must_use]
pub fn is_sealed(fd: BorrowedFd) -> bool {
    let ours =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    // What is no such file has no seals.
    let seals = fcntl(fd, FcntlArg::F_GET_SEALS).unwrap_or(0);
    SealFlag::from_bits_truncate(seals).contains(ours)
}

/// The whole content. The descriptor's position is left alone: it is shared with
/// every process that was handed the file.
///
/// # Errors
/// When the file is too long, or cannot be read.
pub fn read(fd: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(fd);
    let length = file.metadata()?.len();
    if length > MAX_LENGTH {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_was_written_is_read_as_often_as_one_likes_and_cannot_change() {
        let file = write(b"settings").unwrap();
        let copy = File::from(file.try_clone().unwrap());
        assert!(copy.write_at(b"x", 0).is_err());
        assert!(is_sealed(file.as_fd()) && !is_sealed(create().unwrap().as_fd()));
        assert!(!is_sealed(File::open("/dev/null").unwrap().as_fd()));
        assert_eq!(read(file.try_clone().unwrap()).unwrap(), b"settings");
        assert_eq!(read(file).unwrap(), b"settings");
    }
}
