//! What is wrong with a configuration file, in one line that names the places.

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
    refused: Option<Box<Unsafe>>,
    /// What else is wrong, by lines.
    others: Vec<Error>,
}

impl Error {
    /// An error of the file as a whole: it cannot be read, or must not be used.
    pub(super) fn of_file(path: &Path, error: ownership::Error) -> Error {
        let (message, refused) = match error {
            ownership::Error::Unsafe(why) => (format!("refused: {why}"), Some(Box::new(why))),
            ownership::Error::Io(_) | ownership::Error::NotRegular => (error.to_string(), None),
        };
        let (path, key) = (path.to_owned(), String::new());
        Error { path, line: None, key, message, refused, others: Vec::new() }
    }

    /// An error in a line; `key` is the key's full path, empty when there is none.
    pub(super) fn at(path: &Path, line: u32, key: &str, message: impl Into<String>) -> Error {
        let (path, key, message) = (path.to_owned(), key.to_owned(), message.into());
        Error { path, line: Some(line), key, message, refused: None, others: Vec::new() }
    }

    /// All that is wrong in a file as one error; none when nothing is.
    pub(super) fn of_all(mut errors: Vec<Error>) -> Option<Error> {
        errors.sort_by_key(|error| error.line);
        let mut errors = errors.into_iter();
        let first = errors.next()?;
        Some(Error { others: errors.collect(), ..first })
    }

    /// One sentence for each thing that is wrong, with file and line.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        [self].into_iter().chain(&self.others).map(|error| error.sentence(&error.place()))
    }

    fn place(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}", self.path.display())
    }

    fn sentence(&self, place: &str) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!(": {}", self.key) };
        let text = format!("{place}{key}: {}", self.message);
        // A key or path may hold anything, and this line goes to terminals and logs.
        let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        text.chars().map(escaped).collect()
    }

    /// The line that is wrong, from 1; none when the file cannot be read at all.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// Who else than root can change the file, when it was refused for that.
    #[must_use]
    pub fn refused(&self) -> Option<&Unsafe> {
        self.refused.as_deref()
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
        f.write_str(&self.sentence(&self.place()))?;
        // The file is known by now.
        self.others.iter().try_for_each(|error| {
            let line = error.line.unwrap_or_default();
            write!(f, "; {}", error.sentence(&format!("line {line}")))
        })
    }
}

impl std::error::Error for Error {}
