//! What is wrong with a configuration file, in one line that names the places.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::sys::ownership::{self, Unsafe};

/// How many errors of a file are said.
const MOST: usize = 100;
/// How many are said in a log line or a daemon's answer, and in how many bytes.
const MOST_IN_BRIEF: usize = 10;
const LONGEST_BRIEF: usize = 900;
/// The longest that is said of a key, in characters: it may have a value of any length in it.
const LONGEST_TEXT: usize = 400;

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

    /// One sentence for each thing that is wrong, with file and line; when there are very many, the last sentence
    /// says how many more there are.
    pub fn sentences(&self) -> impl Iterator<Item = String> {
        let all = [self].into_iter().chain(&self.others);
        let more = (1 + self.others.len()).checked_sub(MOST).filter(|more| *more > 0);
        all.take(MOST)
            .map(|error| error.sentence(&error.place()))
            .chain(more.map(|more| format!("… and {more} more")))
    }

    /// The first errors, in a line for a log or an answer.
    #[must_use]
    pub fn brief(&self) -> String {
        let all = if self.others.len() < MOST { "all" } else { "more" };
        self.line_of(MOST_IN_BRIEF, LONGEST_BRIEF, &format!(" (rlogind check shows {all})"))
    }

    /// At most so many errors, in about so many bytes; `hint` goes behind the number of the others.
    fn line_of(&self, most: usize, longest: usize, hint: &str) -> String {
        let more = |count| format!("; … and {count} more{hint}");
        let room = longest.saturating_sub(more(self.others.len()).len());
        let mut text = self.sentence(&self.place());
        if text.len() > room {
            let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= room).last();
            text.truncate(end.unwrap_or(0));
            text.push('…');
        }
        let mut left = self.others.len();
        for error in self.others.iter().take(most - 1) {
            // The file is known by now.
            let next = error.sentence(&format!("line {}", error.line.unwrap_or_default()));
            if text.len() + next.len() > room {
                break;
            }
            text.push_str("; ");
            text.push_str(&next);
            left -= 1;
        }
        if left > 0 { text + &more(left) } else { text }
    }

    fn place(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        format!("{}{line}", self.path.display())
    }

    fn sentence(&self, place: &str) -> String {
        let key = if self.key.is_empty() { String::new() } else { format!("{}: ", self.key) };
        let text = format!("{key}{}", self.message);
        let mut characters = text.chars();
        let shown: String = characters.by_ref().take(LONGEST_TEXT).collect();
        let cut = if characters.next().is_some() { "…" } else { "" };
        // A key or path may hold anything, and this line goes to terminals and logs.
        let escaped = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
        format!("{place}: {shown}{cut}").chars().map(escaped).collect()
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
        f.write_str(&self.line_of(MOST, usize::MAX, ""))
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(count: usize, message: &str) -> Error {
        let lines = 1..=u32::try_from(count).unwrap();
        let errors = lines.map(|line| Error::at(Path::new("/c"), line, "key", message)).collect();
        Error::of_all(errors).unwrap()
    }

    #[test]
    fn however_much_is_wrong_the_first_is_said_and_how_much_more_there_is() {
        for message in ["no", "not a number", &"long ".repeat(30), &"\u{e4}".repeat(9000), &"\0".repeat(9000)]
        {
            for count in [1, 2, 10, 11, 20, 99, 100, 101, 150, 3000] {
                let error = of(count, message);
                for (text, most) in [(error.brief(), MOST_IN_BRIEF), (error.to_string(), MOST)] {
                    assert!(text.starts_with("/c:1: key: "), "{text}");
                    let shown = text.matches("key: ").count();
                    assert!(shown <= most, "{text}");
                    let (all, more) = text.rsplit_once("; … and ").unwrap_or((&text, "0"));
                    let more: usize = more.split(' ').next().unwrap().parse().unwrap();
                    assert_eq!(shown + more, count, "{text}");
                    assert_eq!(all.ends_with('…'), message.len() > 1000, "{text}");
                    assert!(!text.contains(char::is_control), "{text}");
                }
                assert!(error.brief().len() <= LONGEST_BRIEF + "…".len(), "{}", error.brief());
                let sentences: Vec<String> = error.sentences().collect();
                assert_eq!(sentences.len(), count.min(MOST + 1));
                let last = format!("… and {} more", count.saturating_sub(MOST));
                assert_eq!(sentences.contains(&last), count > MOST);
            }
        }
        assert_eq!(of(2, "no").brief(), "/c:1: key: no; line 2: key: no");
        assert!(of(20, "no").brief().ends_with("; … and 10 more (rlogind check shows all)"));
        assert!(of(150, "no").brief().ends_with("; … and 140 more (rlogind check shows more)"));
        let error = Error::at(Path::new(&format!("/{}", "p".repeat(4000))), 1, "key", "no");
        assert!(error.brief().ends_with("p…") && error.brief().len() <= LONGEST_BRIEF + "…".len());
    }
}
