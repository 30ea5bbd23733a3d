//! Window-size messages in the client's stream: `FF FF 's' 's'` and rows, columns, x and y pixels as
//! big-endian 16-bit numbers (RFC 1282, "Window Size Control Message").
//!
//! The message has no escape: whatever else the client sends is data and must reach the program
//! byte for byte and in order. So nothing may be held back but the true beginning of a message, and that only
//! for a moment.

use std::time::{Duration, Instant};

/// How long the beginning of `FF FF s s` may be held back: somebody typed an `FF` and waits for it.
pub const HOLD: Duration = Duration::from_millis(50);
/// How long a complete `FF FF s s` waits for its eight bytes. Hardly anything else starts so.
pub const SIZE_WAIT: Duration = Duration::from_secs(1);
/// The first number of rows or columns that no screen has.
///
/// Some clients send little-endian numbers, 80 columns as 20480: from 16 columns on such a message ends up here
/// and is ignored. The numbers are not swapped on a guess: a wrong size is worse than none.
pub const ABSURD: u16 = 4096;

const MAGIC: [u8; 4] = *b"\xff\xffss";
const MESSAGE: usize = 12;
/// For each number of matched magic bytes: how many of the last of them are the beginning of a magic again.
const BORDER: [usize; MAGIC.len()] = [0, 0, 1, 0];

/// A terminal window's size, as in `struct winsize` of tty_ioctl(4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSize {
    /// Height in character cells.
    pub rows: u16,
    /// Width in character cells.
    pub columns: u16,
    /// Width in pixels; usually 0, for unknown.
    pub x_pixels: u16,
    /// Height in pixels; usually 0, for unknown.
    pub y_pixels: u16,
}

impl WindowSize {
    /// The size in a message's eight bytes; `None` when there is no such screen.
    fn from_wire(bytes: [u8; 8]) -> Option<Self> {
        let [r0, r1, c0, c1, x0, x1, y0, y1] = bytes;
        let plausible = |cells: u16| 0 < cells && cells < ABSURD;
        let size = Self {
            rows: u16::from_be_bytes([r0, r1]),
            columns: u16::from_be_bytes([c0, c1]),
            x_pixels: u16::from_be_bytes([x0, x1]),
            y_pixels: u16::from_be_bytes([y0, y1]),
        };
        (plausible(size.rows) && plausible(size.columns)).then_some(size)
    }
}

/// A [`Decoder`] as plain data, to be handed to another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The bytes that may be the beginning of a message, at most 11.
    pub matched: Vec<u8>,
    /// How many of them, from the first on, were passed on as data already.
    pub released: usize,
}

/// Takes the window-size messages out of the client's stream.
///
/// Timing never decides what is a message, only whether its first bytes leak into the data: when the held
/// beginning of `FF FF s s` is let go after [`HOLD`], the matching goes on, and if the rest
/// does come, it still is a message. Only a complete `FF FF s s` that gets no size within [`SIZE_WAIT`] is
/// taken for data for good.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The possible beginning of a message is `message[..matched]`.
    message: [u8; MESSAGE],
    matched: usize,
    /// `message[..released]` was passed on as data; what is held is `message[released..matched]`.
    released: usize,
    /// When the oldest held byte came, or one before it; once the magic is complete, when that was.
    since: Option<Instant>,
}

impl Decoder {
    /// Takes the client's next bytes, which came at `now`: appends the data among them to `output`, and returns
    /// the last valid size among them.
    ///
    /// Sizes without rows or columns, or absurd ones (see [`ABSURD`]), are swallowed and ignored. Nothing is let
    /// go for being overdue here, because these bytes may complete the message; see [`Decoder::release`].
    pub fn decode(&mut self, input: &[u8], now: Instant, output: &mut Vec<u8>) -> Option<WindowSize> {
        let mut size = None;
        let mut rest = input;
        loop {
            if self.matched == 0 {
                let plain = rest.iter().position(|&b| b == MAGIC[0]).unwrap_or(rest.len());
                let (data, tail) = rest.split_at(plain);
                output.extend_from_slice(data);
                rest = tail;
            }
            let Some((&byte, tail)) = rest.split_first() else { return size };
            rest = tail;
            size = self.step(byte, now, output).or(size);
        }
    }

    /// Takes one byte; gives the size when it completes a message with a valid one.
    fn step(&mut self, byte: u8, now: Instant, output: &mut Vec<u8>) -> Option<WindowSize> {
        while self.matched < MAGIC.len() && byte != MAGIC[self.matched] {
            if self.matched == 0 {
                output.push(byte);
                return None;
            }
            self.fall_back(output);
        }
        if self.held().is_empty() {
            self.since = Some(now);
        }
        self.message[self.matched] = byte;
        self.matched += 1;
        if self.matched == MAGIC.len() {
            self.since = Some(now);
        }
        if self.matched < MESSAGE {
            return None;
        }
        self.reset();
        let [_, _, _, _, numbers @ ..] = self.message;
        WindowSize::from_wire(numbers)
    }

    /// The next byte does not go on with the magic: gives up the bytes that begin nothing any more. In `FF FF FF s s`
    /// only the first is given up, and the message starts with the second.
    fn fall_back(&mut self, output: &mut Vec<u8>) {
        let keep = BORDER[self.matched];
        let given_up = self.matched - keep;
        output.extend_from_slice(&self.message[self.released.min(given_up)..given_up]);
        self.message.copy_within(given_up..self.matched, 0);
        self.matched = keep;
        self.released = self.released.saturating_sub(given_up);
    }

    /// When [`Decoder::release`] has to be called; `None` while nothing is held back.
    pub fn hold_deadline(&self) -> Option<Instant> {
        if self.held().is_empty() {
            return None;
        }
        let patience = if self.matched < MAGIC.len() { HOLD } else { SIZE_WAIT };
        self.since.map(|since| since + patience)
    }

    /// Appends what is held to `output` if its time is over at `now`.
    pub fn release(&mut self, now: Instant, output: &mut Vec<u8>) {
        if self.hold_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        output.extend_from_slice(self.held());
        if self.matched < MAGIC.len() {
            self.released = self.matched;
        } else {
            self.reset();
        }
    }

    /// The client's stream has ended: all that is held is data and is appended to `output`.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.held());
        self.reset();
    }

    /// The bytes held back, at most 11.
    pub fn held(&self) -> &[u8] {
        &self.message[self.released..self.matched]
    }

    /// This decoder as plain data.
    pub fn state(&self) -> State {
        State { matched: self.message[..self.matched].to_vec(), released: self.released }
    }

    /// The decoder that gave `state`, with its waiting time starting again at `now`.
    ///
    /// A state that no decoder gives is not an error; it makes some decoder that works.
    pub fn from_state(state: &State, now: Instant) -> Self {
        let mut decoder = Self::default();
        decoder.decode(&state.matched, now, &mut Vec::new());
        // More than this is never released of a message that may still come.
        decoder.released = state.released.min(decoder.matched).min(MAGIC.len() - 1);
        decoder
    }

    fn reset(&mut self) {
        self.matched = 0;
        self.released = 0;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE_24_80: &[u8] = b"\xff\xffss\0\x18\0\x50\x02\x80\x01\xe0";
    const SIZE_24_80: WindowSize = WindowSize { rows: 24, columns: 80, x_pixels: 640, y_pixels: 480 };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// All of `input` at once, then the end of the stream.
    fn whole(input: &[u8]) -> (Vec<u8>, Option<WindowSize>) {
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let size = decoder.decode(input, Instant::now(), &mut output);
        decoder.finish(&mut output);
        (output, size)
    }

    #[test]
    fn data_goes_through_untouched() {
        let table: [&[u8]; 9] = [
            b"",
            b"ls -l\r",
            b"\xff",
            b"\xff\xff\xff\xff",
            b"a\xffb\xff\xffc\xff\xffsd\xff",
            b"\xff\xffs\xff\xffs\xff",
            b"\xff\xffsS\0\x18\0\x50\0\0\0\0",
            b"\xff\xffss\0\x18\0\x50\0\0\0",
            b"\xff\xffs",
        ];
        for input in table {
            assert_eq!(whole(input), (input.to_vec(), None));
        }
        let every_byte: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(whole(&every_byte), (every_byte, None));
    }

    #[test]
    fn messages_are_taken_out() {
        let mut later = MESSAGE_24_80.to_vec();
        later[5] = 50;
        let table: [(&[&[u8]], &[u8]); 5] = [
            (&[MESSAGE_24_80], b""),
            (&[b"ab", MESSAGE_24_80, b"cd"], b"abcd"),
            (&[b"\xff", MESSAGE_24_80], b"\xff"),
            (&[b"\xff\xffs", MESSAGE_24_80, b"\xff"], b"\xff\xffs\xff"),
            (&[&later, b"x", MESSAGE_24_80], b"x"),
        ];
        for (input, data) in table {
            assert_eq!(whole(&input.concat()), (data.to_vec(), Some(SIZE_24_80)));
        }
    }

    #[test]
    fn sizes_of_no_screen_are_swallowed() {
        let table: [([u8; 4], bool); 9] = [
            ([0, 0, 0, 0], false),
            ([0, 24, 0, 0], false),
            ([0, 0, 0, 80], false),
            ([24, 0, 80, 0], false), // little-endian
            ([0, 24, 80, 0], false),
            ([0x10, 0, 0, 80], false),
            ([0xff, 0xff, 0xff, 0xff], false),
            ([0, 1, 0, 1], true),
            ([0x0f, 0xff, 0x0f, 0xff], true),
        ];
        for (cells, valid) in table {
            let message = [b"a\xff\xffss", cells.as_slice(), b"\0\0\0\0b"].concat();
            let (data, size) = whole(&message);
            assert_eq!((data.as_slice(), size.is_some()), (b"ab".as_slice(), valid), "{cells:?}");
        }
        // An ignored one does not hide the valid one before it.
        let two = [MESSAGE_24_80, b"\xff\xffss\0\0\0\0\0\0\0\0"].concat();
        assert_eq!(whole(&two), (vec![], Some(SIZE_24_80)));
    }

    #[test]
    fn a_beginning_is_held_for_a_moment_only() {
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let start = Instant::now();
        assert_eq!(decoder.hold_deadline(), None);
        decoder.decode(b"a\xff", start, &mut output);
        assert_eq!((output.as_slice(), decoder.held()), (b"a".as_slice(), b"\xff".as_slice()));
        // A later byte does not prolong the first one's time.
        decoder.decode(b"\xff", start + ms(30), &mut output);
        assert_eq!(decoder.hold_deadline(), Some(start + HOLD));
        decoder.release(start + ms(49), &mut output);
        assert_eq!(output, b"a");
        decoder.release(start + HOLD, &mut output);
        assert_eq!(output, b"a\xff\xff");
        assert_eq!((decoder.held(), decoder.hold_deadline()), (b"".as_slice(), None));
    }

    #[test]
    fn the_rest_of_a_released_beginning_is_still_a_message() {
        for leak in 1..=3 {
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            let start = Instant::now();
            decoder.decode(&MESSAGE_24_80[..leak], start, &mut output);
            decoder.release(start + HOLD, &mut output);
            assert_eq!(output, MESSAGE_24_80[..leak]);
            let size = decoder.decode(&MESSAGE_24_80[leak..], start + ms(500), &mut output);
            assert_eq!((output.as_slice(), size), (&MESSAGE_24_80[..leak], Some(SIZE_24_80)));
        }
    }

    #[test]
    fn falling_back_after_a_release_doubles_nothing() {
        // Both FFs leak, a third one comes: the message begins with the second, which is out already.
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let start = Instant::now();
        decoder.decode(b"\xff\xff", start, &mut output);
        decoder.release(start + HOLD, &mut output);
        decoder.decode(b"\xff", start + ms(60), &mut output);
        assert_eq!((output.as_slice(), decoder.held()), (b"\xff\xff".as_slice(), b"\xff".as_slice()));
        assert_eq!(decoder.hold_deadline(), Some(start + ms(60) + HOLD));
        let size = decoder.decode(&MESSAGE_24_80[2..], start + ms(70), &mut output);
        assert_eq!((output.as_slice(), size), (b"\xff\xff".as_slice(), Some(SIZE_24_80)));

        // FF leaks, FF is held, then it was no message after all.
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        decoder.decode(b"\xff", start, &mut output);
        decoder.release(start + HOLD, &mut output);
        decoder.decode(b"\xffsx\xff", start + ms(60), &mut output);
        assert_eq!((output.as_slice(), decoder.held()), (b"\xff\xffsx".as_slice(), b"\xff".as_slice()));
    }

    #[test]
    fn a_complete_magic_waits_a_second_for_its_size() {
        let start = Instant::now();
        for held in 4..=11 {
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            decoder.decode(b"\xff\xffs", start, &mut output);
            decoder.decode(&MESSAGE_24_80[3..held], start + ms(10), &mut output);
            assert_eq!(decoder.hold_deadline(), Some(start + ms(10) + SIZE_WAIT));
            decoder.release(start + ms(1009), &mut output);
            assert_eq!((output.as_slice(), decoder.held()), (b"".as_slice(), &MESSAGE_24_80[..held]));
            decoder.release(start + ms(1010), &mut output);
            // Data for good: what comes now is data as well.
            assert_eq!(decoder.decode(&MESSAGE_24_80[held..], start + ms(1020), &mut output), None);
            assert_eq!(output, MESSAGE_24_80);
        }
    }

    #[test]
    fn a_late_rest_is_taken_when_nobody_released() {
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let start = Instant::now();
        decoder.decode(&MESSAGE_24_80[..5], start, &mut output);
        let size = decoder.decode(&MESSAGE_24_80[5..], start + ms(5000), &mut output);
        assert_eq!((output.as_slice(), size), (b"".as_slice(), Some(SIZE_24_80)));
    }

    #[test]
    fn a_state_no_decoder_gives_does_no_harm() {
        let now = Instant::now();
        let table: [(&[u8], usize); 5] =
            [(b"", 7), (b"abc", 2), (b"\xff\xff", 9), (b"\xff\xffss123", 7), (&[0xff; 40], usize::MAX)];
        for (matched, released) in table {
            let mut decoder = Decoder::from_state(&State { matched: matched.to_vec(), released }, now);
            let mut output = Vec::new();
            // Whatever was made of it does not wait for ever.
            decoder.release(now + SIZE_WAIT, &mut output);
            assert!(decoder.state().matched.len() < MAGIC.len());
            decoder.finish(&mut output);
            assert_eq!(decoder.decode(MESSAGE_24_80, now, &mut output), Some(SIZE_24_80));
        }
    }
}
