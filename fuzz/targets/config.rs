//! The configuration file: any text is a configuration or an error of one line.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use rlogind::config;

fuzz_target!(|text: &str| {
    if let Err(error) = config::parse(text, Path::new("/etc/rlogind.toml")) {
        let error = error.to_string();
        assert!(error.starts_with("/etc/rlogind.toml") && !error.contains('\n'), "{error:?}");
    }
});
