//! Makes a string from outside harmless inside an audit line.
//!
//! Pure. It must never let through a character that ends a line, a field or a
//! word, that a terminal acts on, or that a reader cannot see.

use std::fmt::{self, Write};

/// Bytes that a name in a sentence may take, once escaped.
const WORD_LIMIT: usize = 64;
/// Bytes that free text in a sentence may take, once escaped.
const TEXT_LIMIT: usize = 512;
/// Bytes that a module's line, or a list of errors, may take, once escaped.
const LINE_LIMIT: usize = 1024;
/// Bytes that the value of a field may take, once escaped.
const VALUE_LIMIT: usize = 256;
/// Stands where a string was cut.
const CUT: &str = "...";

/// A name within a sentence: always one word, because a space in a name could
/// make up the rest of the sentence ("root from 192.0.2.1").
pub(super) struct Word<'a>(pub(super) &'a str);

/// Free text within a sentence. It may only be the last thing in it, so that
/// what it says cannot be taken for the part that is ours.
pub(super) struct Text<'a>(pub(super) &'a str);

/// A whole line that is not ours, or a list of errors.
pub(super) struct Foreign<'a>(pub(super) &'a str);

/// What stands between the quotes of a field.
pub(super) struct Value<'a>(pub(super) &'a str);

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("(empty)");
        }
        f.write_str(&escaped(self.0, WORD_LIMIT, |c| c != ' ' && is_harmless(c)))
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(self.0, TEXT_LIMIT, is_harmless))
    }
}

impl fmt::Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(self.0, LINE_LIMIT, is_harmless))
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escaped(self.0, VALUE_LIMIT, is_harmless))
    }
}

/// Each byte of a character that is not `harmless` becomes `\xNN`. What would
/// be longer than `limit` bytes is cut between two characters of `value`.
fn escaped(value: &str, limit: usize, harmless: impl Fn(char) -> bool) -> String {
    let mut out = String::new();
    let mut cut = 0;
    for c in value.chars() {
        if harmless(c) {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
        if out.len() > limit {
            out.truncate(cut);
            out.push_str(CUT);
            break;
        }
        if out.len() + CUT.len() <= limit {
            cut = out.len();
        }
    }
    out
}

/// Whether the character can stand in an audit line as it is.
fn is_harmless(c: char) -> bool {
    !matches!(c, '"' | '\\') && is_visible(c)
}

/// Whether a terminal shows the character, and does nothing else with it.
#[must_use]
pub fn is_visible(c: char) -> bool {
    match c {
        ' '..='~' => true,
        // Letters and symbols by Unicode's classes, but drawn as nothing.
        '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}' => false,
        // The standard library's judgement: it escapes control, format (with
        // the bidirectional ones), separator, private-use, unassigned and
        // combining characters.
        _ => c.escape_debug().eq([c]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_become_their_bytes() {
        for (value, want) in [
            ("alice", "alice"),
            ("Ärger 日本", "Ärger 日本"),
            ("", ""),
            ("a\"b\\c", r"a\x22b\x5cc"),
            ("\0\n\r\t\x1b[2J\x7f", r"\x00\x0a\x0d\x09\x1b[2J\x7f"),
            ("\u{85}\u{9b}", r"\xc2\x85\xc2\x9b"),
            ("\u{202e}\u{2066}", r"\xe2\x80\xae\xe2\x81\xa6"),
            ("\u{200b}\u{feff}\u{ad}", r"\xe2\x80\x8b\xef\xbb\xbf\xc2\xad"),
            ("\u{2028}\u{a0}", r"\xe2\x80\xa8\xc2\xa0"),
            ("\u{e0041}", r"\xf3\xa0\x81\x81"),
            (r"\x0a", r"\x5cx0a"),
        ] {
            assert_eq!(Value(value).to_string(), want, "{value:?}");
            assert_eq!(Text(value).to_string(), want, "{value:?}");
            assert_eq!(Foreign(value).to_string(), want, "{value:?}");
        }
    }

    #[test]
    fn every_invisible_character_is_escaped() {
        for range in [
            '\0'..='\x1f',
            '\x7f'..='\u{a0}',
            '\u{ad}'..='\u{ad}',
            '\u{34f}'..='\u{34f}',
            '\u{61c}'..='\u{61c}',
            '\u{115f}'..='\u{1160}',
            '\u{17b4}'..='\u{17b5}',
            '\u{180b}'..='\u{180f}',
            '\u{2000}'..='\u{200f}',
            '\u{2028}'..='\u{202f}',
            '\u{205f}'..='\u{206f}',
            '\u{2800}'..='\u{2800}',
            '\u{3000}'..='\u{3000}',
            '\u{3164}'..='\u{3164}',
            '\u{fe00}'..='\u{fe0f}',
            '\u{feff}'..='\u{feff}',
            '\u{ffa0}'..='\u{ffa0}',
            '\u{fff0}'..='\u{fffb}',
            '\u{1d173}'..='\u{1d17a}',
            '\u{e0000}'..='\u{e0fff}',
        ] {
            for c in range {
                assert!(!is_harmless(c), "U+{:04X}", u32::from(c));
            }
        }
    }

    #[test]
    fn a_word_stays_one_word() {
        assert_eq!(Word("root from 192.0.2.1").to_string(), r"root\x20from\x20192.0.2.1");
        assert_eq!(Word("").to_string(), "(empty)");
    }

    #[test]
    fn long_strings_are_cut_between_characters() {
        let whole = "a".repeat(VALUE_LIMIT);
        assert_eq!(Value(&whole).to_string(), whole);
        assert_eq!(Value(&(whole.clone() + "a")).to_string(), "a".repeat(VALUE_LIMIT - 3) + "...");
        // 252 bytes of "é", the next would leave no room for the dots.
        assert_eq!(Value(&"é".repeat(200)).to_string(), "é".repeat(126) + "...");
        // An escape is not cut in two: 63 times 4 bytes is 252.
        assert_eq!(Value(&"\n".repeat(99)).to_string(), r"\x0a".repeat(63) + "...");
    }
}
