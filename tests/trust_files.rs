//! Which trust files are believed, on a real file system. As root, because the
//! files must belong to somebody else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail by panicking")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};
use rlogind::trust::files::{read_hosts_equiv, read_rhosts};
use rlogind::trust::{Account, FileContent, Skip};
use tempfile::TempDir;

/// Numbers that no account of the machine need have.
const USER: u32 = 61_234;
const OTHER: u32 = 61_235;
const TEXT: &[u8] = b"client bob\n";

/// A home directory of [`USER`] with a good `.rhosts`.
struct Home {
    _dir: TempDir,
    home: PathBuf,
}

/// None, loudly, when this is not root.
fn home() -> Option<Home> {
    if !geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the tests of the trust files need root");
        eprintln!("SKIPPED: needs root");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    mode(dir.path(), 0o755);
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    mode(&home, 0o700);
    chown(&home, Some(USER), Some(USER)).unwrap();
    let home = Home { _dir: dir, home };
    home.write(TEXT);
    Some(home)
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

impl Home {
    fn rhosts(&self) -> PathBuf {
        self.home.join(".rhosts")
    }

    fn write(&self, text: &[u8]) {
        fs::write(self.rhosts(), text).unwrap();
        mode(&self.rhosts(), 0o600);
        chown(self.rhosts(), Some(USER), Some(USER)).unwrap();
    }

    fn read(&self) -> FileContent {
        let home = self.home.clone();
        read_rhosts(&Account { name: "nobody-of-this-name".into(), uid: USER, gid: USER, home })
    }
}

fn good() -> FileContent {
    FileContent::Text(TEXT.to_vec())
}

#[test]
fn a_good_file_is_believed_whoever_of_the_two_owns_it() {
    let Some(home) = home() else { return };
    assert_eq!(home.read(), good());
    chown(home.rhosts(), Some(0), Some(0)).unwrap();
    mode(&home.rhosts(), 0o644);
    assert_eq!(home.read(), good());
    chown(&home.home, Some(0), Some(0)).unwrap();
    mode(&home.home, 0o755);
    assert_eq!(home.read(), good());
    fs::remove_file(home.rhosts()).unwrap();
    assert_eq!(home.read(), FileContent::Absent);
    fs::remove_dir(&home.home).unwrap();
    assert_eq!(home.read(), FileContent::Absent);
}

#[test]
fn owners_and_modes() {
    let Some(home) = home() else { return };
    for bits in [0o620, 0o602, 0o666, 0o660] {
        mode(&home.rhosts(), bits);
        assert_eq!(home.read(), FileContent::Skipped(Skip::Writable(bits)));
    }
    mode(&home.rhosts(), 0o644);
    chown(home.rhosts(), Some(OTHER), None).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::Owner(OTHER)));
}

#[test]
fn the_home_directory_itself() {
    let Some(home) = home() else { return };
    for bits in [0o770, 0o707, 0o1777] {
        mode(&home.home, bits);
        assert_eq!(home.read(), FileContent::Skipped(Skip::HomeWritable(bits)));
    }
    mode(&home.home, 0o755);
    chown(&home.home, Some(OTHER), None).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::HomeOwner(OTHER)));
}

#[test]
fn links() {
    let Some(home) = home() else { return };
    let aside = home.home.join("aside");
    fs::hard_link(home.rhosts(), &aside).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::Links(2)));
    fs::remove_file(home.rhosts()).unwrap();
    symlink(&aside, home.rhosts()).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::Symlink));
    fs::remove_file(&aside).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::Symlink));
    // The home directory may be reached through one.
    fs::remove_file(home.rhosts()).unwrap();
    home.write(TEXT);
    let way = home.home.with_file_name("way");
    symlink(&home.home, &way).unwrap();
    let through = Account { name: "x".into(), uid: USER, gid: USER, home: way };
    assert_eq!(read_rhosts(&through), good());
}

#[test]
fn things_that_are_no_files() {
    let Some(home) = home() else { return };
    fs::remove_file(home.rhosts()).unwrap();
    // Opening this one would hang without O_NONBLOCK.
    mkfifo(&home.rhosts(), Mode::from_bits_truncate(0o600)).unwrap();
    chown(home.rhosts(), Some(USER), Some(USER)).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::NotRegular("a FIFO")));
    fs::remove_file(home.rhosts()).unwrap();
    fs::create_dir(home.rhosts()).unwrap();
    chown(home.rhosts(), Some(USER), Some(USER)).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::NotRegular("a directory")));
    fs::remove_dir(home.rhosts()).unwrap();
    let _listener = UnixListener::bind(home.rhosts()).unwrap();
    mode(&home.rhosts(), 0o666);
    assert_eq!(home.read(), FileContent::Skipped(Skip::NotRegular("a socket or device")));
    let file = home.home.join("file");
    fs::write(&file, "").unwrap();
    let no_home = Account { name: "x".into(), uid: USER, gid: USER, home: file };
    assert!(matches!(read_rhosts(&no_home), FileContent::Skipped(Skip::Io(_))));
    let dev = read_hosts_equiv(Path::new("/dev/zero"));
    assert_eq!(dev, FileContent::Skipped(Skip::NotRegular("a special file")));
}

#[test]
fn sizes() {
    let Some(home) = home() else { return };
    home.write(&[b'\n'; (1 << 20) - 1]);
    assert!(matches!(home.read(), FileContent::Text(bytes) if bytes.len() == (1 << 20) - 1));
    home.write(&[b'\n'; 1 << 20]);
    assert_eq!(home.read(), FileContent::Skipped(Skip::TooLarge(1 << 20)));
    // A sparse file costs the user nothing.
    fs::File::options().write(true).open(home.rhosts()).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(home.read(), FileContent::Skipped(Skip::TooLarge(1 << 40)));
    home.write(b"");
    assert_eq!(home.read(), FileContent::Text(Vec::new()));
}

#[test]
fn it_is_read_with_the_users_own_rights_and_not_with_roots() {
    let Some(home) = home() else { return };
    // A file that root may read and the user may not.
    chown(home.rhosts(), Some(0), Some(0)).unwrap();
    mode(&home.rhosts(), 0o600);
    assert!(matches!(home.read(), FileContent::Skipped(Skip::Io(_))));
    // Nor with root's groups.
    chown(home.rhosts(), Some(0), Some(0)).unwrap();
    mode(&home.rhosts(), 0o640);
    assert!(matches!(home.read(), FileContent::Skipped(Skip::Io(_))));
    // But with the user's.
    chown(home.rhosts(), Some(0), Some(USER)).unwrap();
    assert_eq!(home.read(), good());
    assert!(geteuid().is_root());
}

#[test]
fn hosts_equiv_belongs_to_root_alone() {
    let Some(home) = home() else { return };
    assert_eq!(read_hosts_equiv(&home.rhosts()), FileContent::Skipped(Skip::Owner(USER)));
    chown(home.rhosts(), Some(0), Some(0)).unwrap();
    assert_eq!(read_hosts_equiv(&home.rhosts()), good());
    assert_eq!(read_hosts_equiv(&home.home.join("none")), FileContent::Absent);
}

/// Whatever is swapped in while it is read, the bytes come from a file that was
/// itself believed: never those of the bad one.
#[test]
fn a_swapped_file_is_never_half_checked() {
    let Some(home) = home() else { return };
    let bad = home.home.join("bad");
    let good_copy = home.home.join("good");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::write(&bad, b"+ +\n").unwrap();
                mode(&bad, 0o666);
                fs::rename(&bad, home.rhosts()).unwrap();
                fs::write(&good_copy, TEXT).unwrap();
                mode(&good_copy, 0o644);
                fs::rename(&good_copy, home.rhosts()).unwrap();
            }
        });
        let mut seen = [0; 2];
        for _ in 0..3000 {
            match home.read() {
                FileContent::Text(bytes) => {
                    assert_eq!(bytes, TEXT);
                    seen[0] += 1;
                }
                FileContent::Skipped(why) => {
                    // A file that was replaced after it was opened has no link.
                    assert!(matches!(why, Skip::Writable(0o666) | Skip::Links(0)), "{why:?}");
                    seen[1] += 1;
                }
                FileContent::Absent => panic!("a rename leaves no gap"),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(seen.iter().all(|&n| n > 0), "the race was not run: {seen:?}");
    });
}
