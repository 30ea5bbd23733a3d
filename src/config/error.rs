//! What is wrong with a configuration file, in one line that names the place.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a configuration was not taken. Displayed as one line without control
/// characters: `/etc/rlogind.toml:12: trust.wildcards: expected a boolean, found a string`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    line: Option<u32>,
    key: String,
    message: String,
}

impl Error {
    /// An error of the file as a whole: it cannot be read.
    pub(super) fn of_file(path: &Path, message: impl Into<String>) -> Error {
        Error { path: path.to_owned(), line: None, key: String::new(), message: message.into() }
    }

    /// An error in a line; `key` is the key's full path, empty when there is none.
    pub(super) fn at(path: &Path, line: u32, key: &str, message: impl Into<String>) -> Error {
        Error { path: path.to_owned(), line: Some(line), key: key.to_owned(), message: message.into() }
    }

    /// The line that is wrong, from 1; none when the file cannot be read at all.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The full path of the key that is wrong, e.g. `trust.rule.from`; empty
    /// when the file cannot be read or is not TOML.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.path.display().to_string();
        if let Some(line) = self.line {
            text.push_str(&format!(":{line}"));
        }
        if !self.key.is_empty() {
            text.push_str(&format!(": {}", self.key));
        }
        text.push_str(&format!(": {}", self.message));
        // A key or path may hold anything, and this line goes to terminals and logs.
        text.chars().try_for_each(|c| {
            if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") }
        })
    }
}

impl std::error::Error for Error {}
