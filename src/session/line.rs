//! One line at a prompt, typed byte by byte: editing as terminal drivers have it,
//! and what an echo would show.

use zeroize::{Zeroize, Zeroizing};

use super::console::Over;

const INTERRUPT: u8 = 0x03;
const END_OF_INPUT: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const KILL_WORD: u8 = 0x17;
const QUIT: u8 = 0x1c;
const DELETE: u8 = 0x7f;
/// What a line may hold. It is more than any use there is for it.
const MAX_LINE: usize = 1024;
/// What may be typed for it, with all that is erased again.
const MAX_TYPED: usize = 4 * MAX_LINE;
/// What an echo may grow to: a control character that is typed shows two columns, and each takes three bytes to erase.
const MAX_ECHO: usize = MAX_TYPED * 8;

/// What a byte made of the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Typed {
    /// The line goes on.
    More,
    /// The line is complete.
    Line,
    /// The user wants no more of it.
    Over(Over),
}

/// A line in the making.
pub(super) struct Line {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// What is to be shown; `None` when nothing is, as with a password.
    echo: Option<Zeroizing<Vec<u8>>>,
    typed: usize,
}

impl Line {
    pub(super) fn new(echoed: bool) -> Line {
        // With all their room at once: growing would leave copies that nobody wipes.
        let room = |bytes| Zeroizing::new(Vec::with_capacity(bytes));
        Line { bytes: room(MAX_LINE), echo: echoed.then(|| room(MAX_ECHO)), typed: 0 }
    }

    /// Takes the next byte. CR has been made LF by the terminal.
    pub(super) fn type_byte(&mut self, byte: u8) -> Typed {
        self.typed += 1;
        if self.typed > MAX_TYPED {
            return Typed::Over(Over::TooLong);
        }
        match byte {
            b'\n' => return Typed::Line,
            INTERRUPT | QUIT => return Typed::Over(Over::Interrupted),
            END_OF_INPUT if self.bytes.is_empty() => return Typed::Over(Over::EndOfInput),
            // Some clients send one behind each CR.
            0 => {}
            // Behind a text it sends that off as it is.
            END_OF_INPUT => return Typed::Line,
            // Terminals have the one or the other key.
            BACKSPACE | DELETE => self.erase(),
            KILL_LINE => self.erase_while(|_| true),
            KILL_WORD => {
                self.erase_while(|byte| byte == b' ');
                self.erase_while(|byte| byte != b' ');
            }
            byte if self.bytes.len() < MAX_LINE => {
                self.bytes.push(byte);
                // A control character would be obeyed; it is shown as terminal drivers do.
                if byte.is_ascii_control() {
                    self.show(&[b'^', byte ^ 0x40]);
                } else {
                    self.show(&[byte]);
                }
            }
            _ => return Typed::Over(Over::TooLong),
        }
        Typed::More
    }

    /// What is to be shown for what was typed since this was asked last.
    pub(super) fn take_echo(&mut self) -> Zeroizing<Vec<u8>> {
        let Some(echo) = &mut self.echo else { return Zeroizing::default() };
        let shown = echo.clone();
        echo.zeroize();
        shown
    }

    fn show(&mut self, text: &[u8]) {
        if let Some(echo) = &mut self.echo {
            echo.extend_from_slice(text);
        }
    }

    fn erase_while(&mut self, unwanted: impl Fn(u8) -> bool) {
        while self.bytes.last().is_some_and(|byte| unwanted(*byte)) {
            self.erase();
        }
    }

    /// Erases one character: of UTF-8, all its bytes.
    fn erase(&mut self) {
        let length = match std::str::from_utf8(&self.bytes) {
            Ok(text) => text.chars().next_back().map_or(0, char::len_utf8),
            Err(_) => 1,
        };
        let Some(last) = self.bytes.last().filter(|_| length > 0) else { return };
        let columns = if last.is_ascii_control() { 2 } else { 1 };
        let kept = self.bytes.len() - length;
        self.bytes.truncate(kept);
        for _ in 0..columns {
            self.show(b"\x08 \x08");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(bytes: &[u8]) -> (Vec<u8>, Vec<u8>, Typed) {
        let mut line = Line::new(true);
        let mut last = Typed::More;
        for byte in bytes {
            last = line.type_byte(*byte);
            if last != Typed::More {
                break;
            }
        }
        let echo = line.take_echo().to_vec();
        (line.bytes.to_vec(), echo, last)
    }

    #[test]
    fn both_erase_keys_erase_and_stop_at_the_start() {
        assert_eq!(typed(b"\x08ab\x7fc\n").0, b"ac");
        assert_eq!(typed(b"x\x08\x08\x7f\n").0, b"");
        assert_eq!(typed("a\u{e9}\x7fb\n".as_bytes()).0, b"ab");
        // Latin-1 is erased byte by byte.
        assert_eq!(typed(b"a\xe9\x7fb\n").0, b"ab");
    }

    #[test]
    fn words_and_lines_are_erased() {
        assert_eq!(typed(b"one two \x17x\n").0, b"one x");
        assert_eq!(typed(b"one two\x15x\n").0, b"x");
    }

    #[test]
    fn a_line_ends_as_terminals_end_it() {
        assert_eq!(typed(b"abc\nrest"), (b"abc".to_vec(), b"abc".to_vec(), Typed::Line));
        assert_eq!(typed(b"abc\x04").2, Typed::Line);
        assert_eq!(typed(b"\x04").2, Typed::Over(Over::EndOfInput));
        assert_eq!(typed(b"abc\x03").2, Typed::Over(Over::Interrupted));
        assert_eq!(typed(b"abc\x1c").2, Typed::Over(Over::Interrupted));
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(typed(b"a\x1b[2J\x7f\n").1, b"a^[[2J\x08 \x08");
        assert_eq!(typed(b"\x01\x7f\n").1, b"^A\x08 \x08\x08 \x08");
    }

    #[test]
    fn what_is_not_shown_is_not_kept_twice() {
        let mut line = Line::new(false);
        b"secret\x01\x7f".iter().for_each(|byte| assert_eq!(line.type_byte(*byte), Typed::More));
        assert!(line.echo.is_none() && line.take_echo().is_empty());
        assert_eq!(*line.bytes, b"secret");
    }

    #[test]
    fn neither_line_nor_echo_outgrow_their_room() {
        let lines = [b"\x01".repeat(MAX_LINE), b"\xe9".repeat(MAX_LINE), b"x".to_vec()];
        let erased = lines.iter().flat_map(|line| [b"\x15", b"\x17"].map(|key| [line, &key[..]].concat()));
        for typed in erased.chain([b"\x01\x7f".to_vec(), b"x".repeat(MAX_LINE)]) {
            let mut line = Line::new(true);
            let room = |line: &Line| {
                let echo = line.echo.as_ref().unwrap();
                [(line.bytes.as_ptr(), line.bytes.capacity()), (echo.as_ptr(), echo.capacity())]
            };
            let before = room(&line);
            // Nothing is shown before all of it has been read, as in one burst.
            while typed.iter().all(|byte| line.type_byte(*byte) == Typed::More) {}
            assert!(line.echo.as_ref().is_some_and(|echo| !echo.is_empty()));
            assert_eq!(room(&line), before, "{typed:?}");
            line.take_echo();
            assert_eq!(room(&line), before, "showing it changes nothing");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_over() {
        let (bytes, _, last) = typed(&[b'x'; 5000]);
        assert_eq!((bytes.len(), last), (MAX_LINE, Typed::Over(Over::TooLong)));
        assert_eq!(typed(&[[b'x'; MAX_LINE].as_slice(), b"\n"].concat()).2, Typed::Line);
        for endless in [b"\0\0".as_slice(), b"x\x7f", b"\x15\x17"] {
            assert_eq!(typed(&endless.repeat(MAX_TYPED)).2, Typed::Over(Over::TooLong), "{endless:?}");
            let line = [endless.repeat(MAX_TYPED / 2 - 1).as_slice(), b"\n"].concat();
            assert_eq!(typed(&line).2, Typed::Line, "{endless:?}");
        }
    }
}
