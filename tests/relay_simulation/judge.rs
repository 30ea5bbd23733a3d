//! What the relay may do to the bytes, and what it must: checked at every call.

use std::collections::BTreeSet;
use std::time::Duration;

use rlogind::sys::pty::{FLOW_CONTROL_OFF, FLOW_CONTROL_ON, FLUSHED_OUTPUT};
use rlogind::wire::urgent::{COOKED, FLUSH, FlowControl, RAW, WINDOW};
use rlogind::wire::window::WindowSize;

/// What a client that is hung up for being idle is told.
const FAREWELL: &[u8] = b"rlogind: Idle for too long.\r\n";
/// The most the relay may hold of either direction.
const HELD: usize = 128 * 1024;
/// From the zero byte to the first urgent byte at least.
const START: Duration = Duration::from_millis(10);
/// The least time between two urgent bytes.
const GAP: Duration = Duration::from_millis(50);
/// How late a timer of the loop may be, and what it does in the turn after.
const LATENESS: Duration = Duration::from_millis(4);
/// How long the first output waits for the first request, when the client's system takes nothing.
const REQUEST_HOLD: Duration = Duration::from_millis(10);
/// How long a shell says nothing at least before its client gets a byte that means nothing.
const PADDING: Duration = Duration::from_secs(1);
/// The quiet behind an unanswered request for the window size.
const QUIET: Duration = Duration::from_millis(300);

/// A window-size message in the client's stream.
#[derive(Debug)]
struct Message {
    /// Where it begins in [`Judge::input`].
    start: usize,
    size: WindowSize,
    /// It came too slowly: it may count as data.
    slow: bool,
}

const MESSAGE: usize = 12;

#[derive(Debug)]
pub(crate) struct Judge {
    /// What the client sends in all, its messages among it.
    input: Vec<u8>,
    messages: Vec<Message>,
    /// How far into `input` the terminal may have come with what it got.
    reached: BTreeSet<usize>,
    /// The messages up to here cannot be applied any more.
    applied: usize,
    /// The client left, perhaps in the middle of a message.
    pub(crate) cut: bool,
    pub(crate) handshake: usize,
    read: usize,
    pub(crate) to_terminal: u64,

    /// The monitor has made a session.
    pub(crate) opened: bool,
    /// The session is over: what the client still sends is read and thrown away.
    pub(crate) finished: bool,
    pub(crate) refusal: Vec<u8>,
    success: Option<Duration>,
    /// What the terminal gave, and how much of it is sent or was flushed.
    output: Vec<u8>,
    next: usize,
    pub(crate) to_client: u64,
    pub(crate) last_taken: Duration,
    /// A flush was reported that the client does not know of.
    flush_owed: bool,
    /// How much of [`FAREWELL`] was sent.
    pub(crate) farewell: usize,
    /// No flush can have come during a read.
    pub(crate) hasty: bool,
    /// Where the last read begins, as long as no later look has found that no flush came during it.
    doubtful: usize,
    /// From here on the output came behind a flush that is not told of yet.
    untold: Option<usize>,
    wanted: FlowControl,
    told: FlowControl,
    last_urgent: Option<Duration>,
    last_request: Option<Duration>,
    /// Since when an urgent byte is the last thing that the client has, while there is output; and how long it may be.
    bare: Option<(Duration, Duration)>,
    /// So many of the messages were read whole.
    whole: usize,
    requests: usize,
    pub(crate) urgent: usize,
    pub(crate) statuses: usize,
    pub(crate) flushes: usize,
    /// Reads in this turn: of the client, of the terminal.
    pub(crate) reads: (usize, usize),
}

impl Default for Judge {
    fn default() -> Self {
        Judge {
            input: Vec::new(),
            messages: Vec::new(),
            reached: BTreeSet::from([0]),
            applied: 0,
            cut: false,
            handshake: 0,
            read: 0,
            to_terminal: 0,
            opened: false,
            finished: false,
            refusal: Vec::new(),
            success: None,
            output: Vec::new(),
            next: 0,
            to_client: 0,
            last_taken: Duration::ZERO,
            flush_owed: false,
            hasty: false,
            farewell: 0,
            doubtful: 0,
            untold: None,
            wanted: FlowControl::Client,
            told: FlowControl::Client,
            last_urgent: None,
            last_request: None,
            bare: None,
            whole: 0,
            requests: 0,
            urgent: 0,
            statuses: 0,
            flushes: 0,
            reads: (0, 0),
        }
    }
}

/// What the client is going to send.
impl Judge {
    pub(crate) fn expect_data(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
    }

    pub(crate) fn expect_message(&mut self, bytes: [u8; MESSAGE], size: WindowSize, slow: bool) {
        self.messages.push(Message { start: self.input.len(), size, slow });
        self.input.extend_from_slice(&bytes);
    }
}

/// From the client to the terminal.
impl Judge {
    pub(crate) fn client_read(&mut self, count: usize) {
        self.read += count;
        self.reads.0 += 1;
        assert!(self.reads.0 <= 4, "too many reads of the client in one turn");
        let session = self.read.saturating_sub(self.handshake);
        let held = session.saturating_sub(usize::try_from(self.to_terminal).unwrap());
        let most = HELD + MESSAGE * self.messages.len();
        assert!(self.finished || held <= most, "{held} bytes of input held");
        // The connection knows the size from here on, and may pass it on later. A slow one may have been taken for
        // data; that is not known here.
        let whole = |message: &&Message| message.start + MESSAGE <= session;
        let whole = self.messages.iter().filter(whole).count();
        if std::mem::replace(&mut self.whole, whole) < whole && self.requests > 0 {
            self.last_request = None;
        }
    }

    pub(crate) fn terminal_wrote(&mut self, bytes: &[u8]) {
        self.to_terminal += bytes.len() as u64;
        let before = std::mem::take(&mut self.reached);
        for start in before {
            self.follow(start, bytes);
        }
        assert!(!self.reached.is_empty(), "the terminal got what the client did not send there");
    }

    /// All places in the input that these bytes, read on from `start`, can lead to.
    fn follow(&mut self, start: usize, bytes: &[u8]) {
        let mut open = vec![(start, bytes)];
        while let Some((place, bytes)) = open.pop() {
            if bytes.is_empty() {
                self.reached.insert(place);
                continue;
            }
            let index = self.messages.partition_point(|message| message.start < place);
            let (mut end, mut plain) = (self.input.len(), true);
            if let Some(message) = self.messages.get(index) {
                end = message.start;
                if message.start == place {
                    open.push((place + MESSAGE, bytes));
                    end += MESSAGE;
                    plain = message.slow || self.cut;
                }
            }
            let count = (end - place).min(bytes.len());
            if plain && count > 0 && self.input[place..place + count] == bytes[..count] {
                open.push((place + count, &bytes[count..]));
            }
        }
    }

    /// Whether the terminal may have got everything that the client sends.
    fn input_is_complete(&self) -> bool {
        self.reached.iter().any(|&start| {
            let mut place = start;
            while self.messages.iter().any(|message| message.start == place) {
                place += MESSAGE;
            }
            place == self.input.len()
        })
    }

    /// Whether all that arrived of the session's input went to the terminal, or was a message.
    pub(crate) fn nothing_left_of(&self, arrived: usize) -> bool {
        let missing = (arrived - self.handshake).checked_sub(usize::try_from(self.to_terminal).unwrap());
        missing.is_some_and(|bytes| bytes % MESSAGE == 0 && bytes / MESSAGE <= self.messages.len())
    }

    pub(crate) fn resized(&mut self, size: WindowSize) {
        let found = self.messages[self.applied..].iter().position(|message| message.size == size);
        let Some(index) = found else { panic!("{size:?} was not sent, or before what was applied already") };
        self.applied += index + 1;
        if self.requests > 0 {
            self.last_request = None;
        }
    }
}

/// From the terminal to the client.
impl Judge {
    /// `behind` of the bytes were written behind a flush that is not told of yet.
    pub(crate) fn terminal_read(&mut self, bytes: &[u8], behind: usize) {
        self.count_terminal_read();
        self.doubtful = self.output.len();
        if behind > 0 {
            self.untold.get_or_insert(self.output.len() + bytes.len() - behind);
        }
        self.output.extend_from_slice(bytes);
        if self.hasty {
            self.doubtful = self.output.len();
        }
        let held = self.output.len() - self.next;
        assert!(held <= HELD, "{held} bytes of output held");
    }

    pub(crate) fn status_read(&mut self, bits: u8) {
        self.count_terminal_read();
        self.statuses += 1;
        if bits & FLUSHED_OUTPUT != 0 {
            self.flushes += 1;
            self.flush_owed = true;
            // What is not sent by now never is, but for the read it may have come in the middle of.
            self.next = self.next.max(self.doubtful);
            // So perhaps nothing can follow the last urgent byte. What does has to wait for its mark.
            self.bare = None;
            let kept = self.untold.take().is_none_or(|behind| self.next <= behind);
            assert!(kept, "output that came behind a flush is dropped");
        }
        self.doubtful = self.output.len();
        if bits & FLOW_CONTROL_OFF != 0 {
            self.wanted = FlowControl::Program;
        }
        if bits & FLOW_CONTROL_ON != 0 {
            self.wanted = FlowControl::Client;
        }
    }

    /// A look at the terminal found neither output nor a status.
    pub(crate) fn terminal_silent(&mut self) {
        self.doubtful = self.output.len();
    }

    fn count_terminal_read(&mut self) {
        self.reads.1 += 1;
        assert!(self.reads.1 <= 200, "too many reads of the terminal in one turn");
    }

    /// `bytes` were taken, of `asked` that the relay wanted to write.
    pub(crate) fn client_wrote(&mut self, bytes: &[u8], asked: &[u8], now: Duration) {
        self.last_taken = now;
        if asked == &FAREWELL[self.farewell..] && self.success.is_some() {
            self.farewell += bytes.len();
        } else if let Some(success) = self.success {
            assert_eq!(self.farewell, 0, "output behind the farewell");
            let asked = self.requests > 0 || now < success + START + REQUEST_HOLD;
            assert!(asked || self.finished, "output goes ahead of the first request");
            // Of one that is given up for being idle the mark does not come any more.
            assert!(!self.flush_owed || self.finished, "output before the mark of its flush");
            let due = self.output.get(self.next..self.next + bytes.len());
            let padding = bytes == [0] && self.next == 0 && self.requests == 1 && now >= success + PADDING;
            assert!(due == Some(bytes) || padding, "the client got what is not the next output");
            if due == Some(bytes) {
                self.next += bytes.len();
            }
            self.bare = None;
            assert!(self.untold.is_none_or(|behind| self.next <= behind), "output sent ahead of its flush");
            self.to_client += bytes.len() as u64;
        } else if self.opened {
            assert_eq!((bytes, asked), ([0].as_slice(), [0].as_slice()), "the zero byte is not alone");
            self.success = Some(now);
        } else {
            self.refusal.extend_from_slice(bytes);
        }
    }

    /// `overtakes`: the client's system has not acknowledged the last urgent byte.
    pub(crate) fn urgent_sent(&mut self, byte: u8, now: Duration, overtakes: bool) {
        let Some(success) = self.success else { panic!("urgent data before the zero byte") };
        let (least, since) = self.last_urgent.map_or((START, now - success), |last| (GAP, now - last));
        assert!(since >= least, "{byte:#x} only {since:?} behind the last one");
        let follows = !self.all_output_is_sent();
        let first = byte == WINDOW && self.requests == 0 && self.to_client == 0;
        assert!(follows || first, "{byte:#x} with nothing behind it");
        if follows {
            // Output behind the request may have to wait for what goes in front of it, and that for the request's quiet.
            let longest = if byte == WINDOW { QUIET } else { GAP };
            self.bare = Some((now, longest));
        }
        assert!(!overtakes, "{byte:#x} while the last one is on its way");
        if byte == WINDOW {
            self.requests += 1;
            assert!(self.requests <= 2, "asked for the window size again and again");
            self.last_request = Some(now);
        } else {
            assert_eq!(byte & !(FLUSH | RAW | COOKED), 0, "{byte:#x} is no urgent byte");
            assert!(self.requests > 0, "{byte:#x} before the first request for the window size");
            let quiet = self.last_request.is_none_or(|request| now - request >= QUIET);
            assert!(quiet, "{byte:#x} next to an unanswered request for the window size");
            self.check_change(byte);
        }
        self.last_urgent = Some(now);
        self.last_taken = now;
        self.urgent += 1;
    }

    fn check_change(&mut self, byte: u8) {
        if byte & FLUSH != 0 {
            assert!(self.flush_owed, "a flush that was none");
            self.flush_owed = false;
        }
        let mode = match byte & (RAW | COOKED) {
            0 => return assert_eq!(byte, FLUSH),
            RAW => FlowControl::Program,
            COOKED => FlowControl::Client,
            _ => panic!("both modes at once"),
        };
        assert_eq!(mode, self.wanted, "not the terminal's mode");
        assert_ne!(mode, self.told, "a mode that the client has");
        self.told = mode;
    }

    /// At `now`; `arrived`: the client's system has all that was sent, and takes more.
    pub(crate) fn check_bare(&mut self, now: Duration, arrived: bool) {
        if let Some((since, longest)) = &mut self.bare {
            if !arrived {
                *since = now;
            }
            let time = now - *since;
            assert!(time <= *longest + LATENESS, "an urgent byte is the last thing for {time:?}");
        }
    }

    /// Whether something urgent may be waiting for its time.
    pub(crate) fn urgent_is_pending(&self) -> bool {
        self.flush_owed || self.told != self.wanted || (self.success.is_some() && self.requests < 2)
    }

    /// Whether the client has to be told or asked something, in front of the next output.
    pub(crate) fn waits_for_output(&self) -> bool {
        self.flush_owed || self.told != self.wanted || self.requests == 0
    }

    /// How much the terminal has given so far.
    pub(crate) fn output_read(&self) -> usize {
        self.output.len()
    }

    pub(crate) fn all_output_is_sent(&self) -> bool {
        self.next == self.output.len()
    }

    /// Everybody does his part, and nothing more will happen.
    pub(crate) fn assert_settled(&self, mode: FlowControl) {
        assert!(self.input_is_complete(), "input is missing");
        let last = self.messages.iter().rposition(|message| !message.slow).map_or(0, |index| index + 1);
        assert!(self.applied >= last, "the last window size was not applied");
        assert!(self.all_output_is_sent(), "output is missing");
        assert!(!self.flush_owed, "the client does not know of the flush");
        assert_eq!(self.told, mode, "the client does not have the terminal's mode");
        assert!(self.requests > 0, "the window size was not asked for");
    }
}
