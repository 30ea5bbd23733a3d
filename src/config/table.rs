//! A TOML document seen through its keys: every value knows its full key path
//! and its line, so that every error can name them.
//!
//! A [`Table`] remembers the keys it was asked for: what is left over in the
//! file is unknown, and there is no second list of keys to keep in step.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Error;

/// The file that is being read.
#[derive(Clone, Copy)]
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    /// What is wrong so far: a file is read to its end, so that all of it can be said at once.
    errors: &'a RefCell<Vec<Error>>,
}

impl<'a> Document<'a> {
    /// What is wrong is put into `errors`.
    pub(super) fn new(path: &'a Path, text: &'a str, errors: &'a RefCell<Vec<Error>>) -> Document<'a> {
        Document { path, text, errors }
    }

    /// Parses the text and hands the top-level table to `read`.
    pub(super) fn read(self, read: impl FnOnce(&mut Table<'_, 'a>)) {
        let root = match DeTable::parse(self.text) {
            Ok(root) => root,
            Err(error) => return self.note(self.syntax_error(&error)),
        };
        let entries = root.get_ref();
        let mut table =
            Table { doc: self, name: String::new(), line: 1, entries, known: Vec::new(), is_read: false };
        read(&mut table);
        table.refuse_unknown();
    }

    fn note(self, error: Error) {
        self.errors.borrow_mut().push(error);
    }

    /// How much is wrong so far.
    fn faults(self) -> usize {
        self.errors.borrow().len()
    }

    /// The line of a byte offset, from 1.
    fn line(self, offset: usize) -> u32 {
        let before = self.text.as_bytes().iter().take(offset);
        let newlines = before.filter(|&&b| b == b'\n').count();
        u32::try_from(newlines).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Not TOML: there is no key path yet, so the message shows the line itself.
    fn syntax_error(self, error: &toml::de::Error) -> Error {
        const SHOWN: usize = 60;
        let line = self.line(error.span().map_or(self.text.len(), |span| span.start));
        let nth = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
        let source: String = self.text.lines().nth(nth).unwrap_or("").trim().chars().take(SHOWN).collect();
        let near = if source.is_empty() { String::new() } else { format!(", in {source:?}") };
        Error::at(self.path, line, "", format!("not TOML: {}{near}", error.message()))
    }
}

/// One table of the file.
pub(super) struct Table<'t, 'a> {
    doc: Document<'a>,
    /// Its full path; empty for the top level.
    name: String,
    /// The line of its header.
    line: u32,
    entries: &'t DeTable<'a>,
    known: Vec<&'static str>,
    /// Keys that are not known were reported.
    is_read: bool,
}

impl<'t, 'a> Table<'t, 'a> {
    /// The value of `key`, when the file has one; from now on the key is a known one.
    fn get(&mut self, key: &'static str) -> Option<Value<'t, 'a>> {
        self.known.push(key);
        let (_, value) = self.entries.iter().find(|(k, _)| k.get_ref() == key)?;
        Some(Value { doc: self.doc, key: self.path_of(key), value })
    }

    /// Puts the value of `key`, when the file has one that is right, in the default's place.
    pub(super) fn set<T>(
        &mut self,
        key: &'static str,
        place: &mut T,
        read: impl FnOnce(&Value<'t, 'a>) -> Result<T, Error>,
    ) {
        match self.get(key).map(|value| read(&value)) {
            Some(Ok(value)) => *place = value,
            Some(Err(error)) => self.doc.note(error),
            None => {}
        }
    }

    /// Reads the table `key`, when the file has one.
    pub(super) fn table(&mut self, key: &'static str, read: impl FnOnce(&mut Table<'t, 'a>)) {
        self.set(key, &mut (), |value| value.table(read));
    }

    /// The line of the table's header, from 1.
    pub(super) fn line(&self) -> u32 {
        self.line
    }

    /// How much is wrong in the file so far.
    pub(super) fn faults(&self) -> usize {
        self.doc.faults()
    }

    /// The table should have a key that it has not.
    pub(super) fn missing(&self, key: &str, message: &str) {
        self.doc.note(Error::at(self.doc.path, self.line, &self.path_of(key), message));
    }

    /// To be called when every known key was asked for: any other is an error.
    pub(super) fn refuse_unknown(&mut self) {
        if std::mem::replace(&mut self.is_read, true) {
            return;
        }
        let unknown = self.entries.keys().filter(|key| !self.known.contains(&key.get_ref().as_ref()));
        unknown.for_each(|key| self.doc.note(self.unknown(key.get_ref(), key.span().start)));
    }

    fn unknown(&self, name: &str, start: usize) -> Error {
        let place = if self.name.is_empty() { "the top level" } else { &format!("[{}]", self.name) };
        let message = match self.known.iter().find(|known| is_close(name, known)) {
            Some(known) => format!("unknown key, did you mean {known:?}?"),
            None => format!("unknown key; {place} has {}", self.known.join(", ")),
        };
        Error::at(self.doc.path, self.doc.line(start), &self.path_of(name), message)
    }

    fn path_of(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// One value of the file, and where it stands.
pub(super) struct Value<'t, 'a> {
    doc: Document<'a>,
    key: String,
    value: &'t Spanned<DeValue<'a>>,
}

impl<'t, 'a> Value<'t, 'a> {
    /// The line the value stands in, or that of a table's header.
    fn line(&self) -> u32 {
        self.doc.line(self.value.span().start)
    }

    /// An error about this value.
    pub(super) fn error(&self, message: impl Into<String>) -> Error {
        Error::at(self.doc.path, self.line(), &self.key, message)
    }

    fn expected(&self, what: &str) -> Error {
        let found = match self.value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.error(format!("expected {what}, found {found}"))
    }

    /// Whether it is a string: one key takes a number as well.
    pub(super) fn is_string(&self) -> bool {
        self.value.get_ref().is_str()
    }

    pub(super) fn boolean(&self) -> Result<bool, Error> {
        self.value.get_ref().as_bool().ok_or_else(|| self.expected("a boolean"))
    }

    pub(super) fn integer(&self, range: RangeInclusive<u32>) -> Result<u32, Error> {
        let digits = self.value.get_ref().as_integer().ok_or_else(|| self.expected("an integer"))?;
        let number = u32::from_str_radix(digits.as_str(), digits.radix()).ok();
        number.filter(|n| range.contains(n)).ok_or_else(|| {
            self.error(format!("must be from {} to {}, not {digits}", range.start(), range.end()))
        })
    }

    /// A string that `parse` understands; `what` says what kind of string it is.
    pub(super) fn string<T>(
        &self,
        what: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, Error> {
        let text = self.value.get_ref().as_str().ok_or_else(|| self.expected(what))?;
        // Nothing that is configured here needs one, and a NUL would cut a path short.
        if text.chars().any(char::is_control) {
            return Err(self.error(format!("{text:?} has a control character")));
        }
        parse(text).map_err(|message| self.error(message))
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Error> {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        let names = names.join(" or ");
        self.string(&names, |text| match choices.iter().find(|(name, _)| *name == text) {
            Some((_, choice)) => Ok(*choice),
            None => Err(format!("expected {names}, found {text:?}")),
        })
    }

    /// An array, each entry read by `read`.
    pub(super) fn list<T>(
        &self,
        what: &str,
        mut read: impl FnMut(&Value<'t, 'a>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let entries = self.value.get_ref().as_array().ok_or_else(|| self.expected(what))?;
        let (mut list, mut last) = (Vec::new(), None);
        for value in entries {
            match read(&Value { doc: self.doc, key: self.key.clone(), value }) {
                Ok(entry) => list.push(entry),
                // The caller notes the last one.
                Err(error) => last.replace(error).into_iter().for_each(|error| self.doc.note(error)),
            }
        }
        last.map_or(Ok(list), Err)
    }

    /// A table, its keys read by `read`; keys that `read` does not ask for are errors.
    pub(super) fn table<T>(&self, read: impl FnOnce(&mut Table<'t, 'a>) -> T) -> Result<T, Error> {
        let entries = self.value.get_ref().as_table().ok_or_else(|| self.expected("a table"))?;
        let (name, line) = (self.key.clone(), self.line());
        let mut table = Table { doc: self.doc, name, line, entries, known: Vec::new(), is_read: false };
        let result = read(&mut table);
        table.refuse_unknown();
        Ok(result)
    }
}

/// Whether `known` is what somebody who wrote `name` is likely to have meant.
fn is_close(name: &str, known: &str) -> bool {
    name.len() <= 2 * known.len() && distance(name.as_bytes(), known.as_bytes()) <= known.len().div_ceil(4)
}

/// How many bytes must be inserted, removed or changed to make `b` out of `a`.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (y, cell) in b.iter().zip(row.iter_mut().skip(1)) {
            let best = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, best);
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, edits) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("wildcard", "wildcards", 1),
            ("attempst", "attempts", 2),
            ("user", "users", 1),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), edits, "{a} {b}");
        }
    }

    #[test]
    fn only_likely_mistakes_are_close() {
        assert!(is_close("wildcard", "wildcards"));
        assert!(is_close("per-source", "per_source"));
        assert!(!is_close("port", "root"));
        assert!(!is_close("x", "idle"));
    }
}
