//! The end of a line as the client sends it before somebody is logged in: CR, or LF, or both, or CR NUL as in
//! Telnet (RFC 854). Pure.

use serde::{Deserialize, Serialize};

/// Takes the LF or NUL away that stands directly behind a CR, while there are prompts: it would answer the next one.
///
/// ```
/// use rlogind::wire::newline::Newlines;
///
/// let mut newlines = Newlines::at_prompts();
/// let mut typed = b"bob\r\nsecret\r".to_vec();
/// newlines.filter(&mut typed);
/// assert_eq!(typed, b"bob\rsecret\r");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newlines {
    at_prompts: bool,
    /// The last byte was a CR.
    behind_return: bool,
}

impl Newlines {
    /// For a client whose user may have to answer prompts.
    #[must_use]
    pub fn at_prompts() -> Newlines {
        Newlines { at_prompts: true, behind_return: false }
    }

    /// There are no more prompts. What belongs to a CR before that may still come.
    pub fn end_prompts(&mut self) {
        self.at_prompts = false;
    }

    /// Takes away what belongs to a CR. Nothing of it stays in the memory of `typed`, which may be a password's.
    pub fn filter(&mut self, typed: &mut Vec<u8>) {
        if !self.at_prompts && !self.behind_return {
            return;
        }
        let mut kept = 0;
        for at in 0..typed.len() {
            let byte = typed[at];
            let belongs = self.behind_return && matches!(byte, b'\n' | 0);
            self.behind_return = self.at_prompts && byte == b'\r';
            if !belongs {
                typed[kept] = byte;
                kept += 1;
            }
        }
        typed[kept..].fill(0);
        typed.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(newlines: &mut Newlines, parts: &[&[u8]]) -> Vec<u8> {
        let parts = parts.iter().flat_map(|part| {
            let mut part = part.to_vec();
            newlines.filter(&mut part);
            part
        });
        parts.collect()
    }

    #[test]
    fn one_lf_or_nul_behind_a_cr_belongs_to_it_however_it_comes() {
        let at_prompts = |parts: &[&[u8]]| filtered(&mut Newlines::at_prompts(), parts);
        assert_eq!(at_prompts(&[b"a\r\nb\r\0c\r"]), b"a\rb\rc\r");
        assert_eq!(at_prompts(&[b"a\r", b"\nb\r", b"", b"\0c"]), b"a\rb\rc");
        assert_eq!(at_prompts(&[b"a\n\nb\r\n\n\r\r\n"]), b"a\n\nb\r\n\r\r");
        assert_eq!(at_prompts(&[b"\n\0x"]), b"\n\0x");
    }

    #[test]
    fn what_a_program_gets_is_what_was_sent() {
        let mut newlines = Newlines::at_prompts();
        assert_eq!(filtered(&mut newlines, &[b"pw\r"]), b"pw\r");
        newlines.end_prompts();
        // Of the last line of the prompts.
        assert_eq!(filtered(&mut newlines, &[b"\nls\r\n", b"\n\r", b"\0"]), b"ls\r\n\n\r\0");
    }
}
