//! The configuration file: any text is a configuration or an error of one line.

use std::path::Path;

use rlogind::config;

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Err(error) = config::parse(text, Path::new("/etc/rlogind.toml")) {
        let error = error.to_string();
        assert!(error.starts_with("/etc/rlogind.toml") && !error.contains('\n'), "{error:?}");
    }
}
