//! Window-size messages in the client's stream: `FF FF 's' 's'` and rows, columns, x and y pixels as
//! big-endian 16-bit numbers (RFC 1282, "Window Size Control Message").
//!
//! The message has no escape: whatever else the client sends is data and must reach the program
//! byte for byte and in order. So nothing may be held back but the true beginning of a message, and that only
//! for a moment.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long the beginning of `FF FF s s` waits for its next byte. Not long: somebody may have typed that `FF`
/// and look for it on the screen.
pub const HOLD: Duration = Duration::from_millis(80);
/// How long a complete `FF FF s s` waits for each of its eight bytes. Hardly anything else starts so.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The bytes held back, at most 11.
    pub held: Vec<u8>,
}

/// Takes the window-size messages out of the client's stream.
///
/// What was let go by [`Decoder::release`] is data for good, and the matching begins anew behind it: if it went on,
/// an `FF FF s` that was typed would swallow the `stty raw` typed after it.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The beginning of a message, held back, is `message[..matched]`.
    message: [u8; MESSAGE],
    matched: usize,
    /// When the last of the held bytes came; without meaning while none is held.
    latest: Option<Instant>,
}

impl Decoder {
    /// Takes the client's next bytes, which came at `now`: appends the data among them to `output`, and returns
    /// the last valid size among them.
    ///
    /// Sizes without rows or columns, or absurd ones (see [`ABSURD`]), are swallowed and ignored. Nothing is let
    /// go for being overdue here: these bytes may have come in time and waited to be read. See [`Decoder::release`].
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
        self.message[self.matched] = byte;
        self.matched += 1;
        self.latest = Some(now);
        if self.matched < MESSAGE {
            return None;
        }
        self.matched = 0;
        let [_, _, _, _, numbers @ ..] = self.message;
        WindowSize::from_wire(numbers)
    }

    /// The next byte does not go on with the magic: gives up the bytes that begin nothing any more. In `FF FF FF s s`
    /// only the first is given up, and the message starts with the second.
    fn fall_back(&mut self, output: &mut Vec<u8>) {
        let keep = BORDER[self.matched];
        let given_up = self.matched - keep;
        output.extend_from_slice(&self.message[..given_up]);
        self.message.copy_within(given_up..self.matched, 0);
        self.matched = keep;
    }

    /// When [`Decoder::release`] has to be called; `None` while nothing is held back.
    ///
    /// Every byte that goes on with the message puts it off, so the beginning of a magic is held for three times
    /// [`HOLD`] at most, and a complete magic for eight times [`SIZE_WAIT`].
    pub fn hold_deadline(&self) -> Option<Instant> {
        let patience = match self.matched {
            0 => return None,
            matched if matched < MAGIC.len() => HOLD,
            _ => SIZE_WAIT,
        };
        self.latest.map(|latest| latest + patience)
    }

    /// If the time of what is held is over at `now`, it is data and is appended to `output`.
    ///
    /// To be called only when the client's input was read as far as it came: the rest of a message that waits unread
    /// would become data too.
    pub fn release(&mut self, now: Instant, output: &mut Vec<u8>) {
        if self.hold_deadline().is_some_and(|deadline| deadline <= now) {
            self.finish(output);
        }
    }

    /// The client's stream has ended: all that is held is data and is appended to `output`.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        output.extend_from_slice(self.held());
        self.matched = 0;
    }

    /// The bytes held back, at most 11.
    pub fn held(&self) -> &[u8] {
        &self.message[..self.matched]
    }

    /// This decoder as plain data.
    pub fn state(&self) -> State {
        State { held: self.held().to_vec() }
    }

    /// The decoder that gave `state`, with its waiting time starting again at `now`.
    ///
    /// A state that no decoder gives is not an error; it makes some decoder that works.
    pub fn from_state(state: &State, now: Instant) -> Self {
        let mut decoder = Self::default();
        decoder.decode(&state.held, now, &mut Vec::new());
        decoder
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
        assert_eq!(decoder.hold_deadline(), Some(start + ms(80)));
        // A byte that goes on with the beginning puts the deadline off.
        decoder.decode(b"\xff", start + ms(30), &mut output);
        assert_eq!(decoder.hold_deadline(), Some(start + ms(110)));
        decoder.release(start + ms(109), &mut output);
        assert_eq!(output, b"a");
        decoder.release(start + ms(110), &mut output);
        assert_eq!(output, b"a\xff\xff");
        assert_eq!((decoder.held(), decoder.hold_deadline()), (b"".as_slice(), None));
    }

    #[test]
    fn a_message_may_come_byte_by_byte() {
        let (mut decoder, mut output, mut now) = (Decoder::default(), Vec::new(), Instant::now());
        let mut size = None;
        for (i, byte) in MESSAGE_24_80.iter().enumerate() {
            now += if i < MAGIC.len() { ms(79) } else { ms(999) };
            decoder.release(now, &mut output);
            size = decoder.decode(&[*byte], now, &mut output).or(size);
        }
        assert_eq!((output.as_slice(), size), (b"".as_slice(), Some(SIZE_24_80)));
    }

    #[test]
    fn text_typed_behind_a_released_beginning_is_data() {
        // In one piece this would begin with a message.
        let typed = b"\xff\xffsstty raw -echo; stty size\r";
        for split in 1..=3 {
            let (before, after) = typed.split_at(split);
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            let start = Instant::now();
            decoder.decode(before, start, &mut output);
            decoder.release(start + HOLD, &mut output);
            assert_eq!(output, before);
            let size = decoder.decode(after, start + HOLD, &mut output);
            assert_eq!((output.as_slice(), decoder.held(), size), (typed.as_slice(), b"".as_slice(), None));
        }
    }

    #[test]
    fn a_whole_message_behind_a_released_beginning_is_one() {
        for pause_behind in 1..=3 {
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            let start = Instant::now();
            decoder.decode(&MAGIC[..pause_behind], start, &mut output);
            decoder.release(start + HOLD, &mut output);
            let size = decoder.decode(MESSAGE_24_80, start + HOLD, &mut output);
            assert_eq!((output.as_slice(), size), (&MAGIC[..pause_behind], Some(SIZE_24_80)));
        }
    }

    #[test]
    fn many_ffs_push_one_another_out() {
        let (mut decoder, mut output) = (Decoder::default(), Vec::new());
        let start = Instant::now();
        for count in 1..100 {
            let now = start + ms(70) * count;
            decoder.release(now, &mut output);
            decoder.decode(b"\xff", now, &mut output);
            assert_eq!(decoder.hold_deadline(), Some(now + HOLD));
            assert_eq!(decoder.held(), if count == 1 { b"\xff".as_slice() } else { b"\xff\xff" });
        }
        assert_eq!(output, [0xff; 97]);
        let size = decoder.decode(&MESSAGE_24_80[2..], start + ms(70) * 100, &mut output);
        assert_eq!((output.as_slice(), size), ([0xff; 97].as_slice(), Some(SIZE_24_80)));
    }

    #[test]
    fn a_complete_magic_waits_a_second_for_its_size() {
        let start = Instant::now();
        for held in 4..=11 {
            let (mut decoder, mut output) = (Decoder::default(), Vec::new());
            decoder.decode(&MESSAGE_24_80[..held - 1], start, &mut output);
            decoder.decode(&MESSAGE_24_80[held - 1..held], start + ms(10), &mut output);
            assert_eq!(decoder.hold_deadline(), Some(start + ms(1010)));
            decoder.release(start + ms(1009), &mut output);
            assert_eq!((output.as_slice(), decoder.held()), (b"".as_slice(), &MESSAGE_24_80[..held]));
            decoder.release(start + ms(1010), &mut output);
            assert_eq!(output, MESSAGE_24_80[..held]);
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
    fn a_taken_over_decoder_waits_anew() {
        let start = Instant::now();
        for (held, patience) in [(3, HOLD), (4, SIZE_WAIT), (11, SIZE_WAIT)] {
            let (mut first, mut output) = (Decoder::default(), Vec::new());
            first.decode(&MESSAGE_24_80[..held], start, &mut output);
            let mut second = Decoder::from_state(&first.state(), start + ms(60));
            assert_eq!((second.held(), second.state()), (first.held(), first.state()));
            assert_eq!(second.hold_deadline(), Some(start + ms(60) + patience));
            let size = second.decode(&MESSAGE_24_80[held..], start + ms(60), &mut output);
            assert_eq!((output.as_slice(), size), (b"".as_slice(), Some(SIZE_24_80)));
        }
    }

    #[test]
    fn a_state_no_decoder_gives_does_no_harm() {
        let now = Instant::now();
        let table: [&[u8]; 5] = [b"abc", b"\xff\xffx", MESSAGE_24_80, &[0xff; 40], &[b's'; 40]];
        for held in table {
            let mut decoder = Decoder::from_state(&State { held: held.to_vec() }, now);
            let mut output = Vec::new();
            // Whatever was made of it does not wait for ever.
            decoder.release(now + SIZE_WAIT, &mut output);
            assert_eq!(decoder.held(), b"");
            assert_eq!(decoder.decode(MESSAGE_24_80, now, &mut output), Some(SIZE_24_80));
        }
    }
}
