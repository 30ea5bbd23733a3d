//! What is wrong with a configuration file, in one line that names the place.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sys::ownership::{self, Unsafe};

/// Why a configuration was not taken. Displayed as one line without control
/// characters: `/etc/rlogind.toml:12: trust.wildcards: expected a boolean, found a string`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    line: Option<u32>,
    key: String,
    message: String,
    /// The file is not read, as others than root can change it.
    refused: Option<Unsafe>,
}

impl Error {
    /// An error of the file as a whole: it cannot be read, or must not be used.
    pub(super) fn of_file(path: &Path, error: ownership::Error) -> Error {
        let (message, refused) = match error {
            ownership::Error::Unsafe(why) => (format!("refused: {why}"), Some(why)),
            ownership::Error::Io(_) | ownership::Error::NotRegular => (error.to_string(), None),
        };
        Error { path: path.to_owned(), line: None, key: String::new(), message, refused }
    }

    /// An error in a line; `key` is the key's full path, empty when there is none.
    pub(super) fn at(path: &Path, line: u32, key: &str, message: impl Into<String>) -> Error {
        let (path, key, message) = (path.to_owned(), key.to_owned(), message.into());
        Error { path, line: Some(line), key, message, refused: None }
    }

    /// The line that is wrong, from 1; none when the file cannot be read at all.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Who else than root can change the file, when it was refused for that.
    #[must_use]
    pub fn refused(&self) -> Option<&Unsafe> {
        self.refused.as_ref()
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
