//! A folder of a test's own that only root, or who runs the test, can write: `/tmp` is everybody's.
#![allow(clippy::expect_used, reason = "so a test fails")]

use std::env;
use std::path::{Path, PathBuf};

use rlogind::sys::ownership;
use tempfile::TempDir;

/// The first place that will do.
pub(crate) fn new() -> TempDir {
    let home = env::var_os("HOME").map(PathBuf::from);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let mut places = home.into_iter().chain([PathBuf::from("/root"), PathBuf::from("/run"), target]);
    let usable = |place: PathBuf| {
        let folder = tempfile::tempdir_in(place).ok()?;
        // With mode 0600.
        let probe = tempfile::NamedTempFile::new_in(folder.path()).ok()?;
        ownership::open(probe.path()).is_ok().then_some(folder)
    };
    places.find_map(usable).expect("a folder that only root can write")
}
