//! Which urgent (TCP out-of-band) byte the server sends when (RFC 1282, "Rlogin Protocol" and "Window Size
//! Control Message").
//!
//! Receivers have ONE slot for urgent data. A second urgent byte that arrives while anything before the first is
//! unread turns the first into text on the screen, and a client that is still starting up loses it. So
//! this must never allow two urgent bytes close together, and never anything next to the
//! first request for the window size, which some clients recognise only alone.
//!
//! Some receivers read ordinary data as soon as they have an urgent byte, and wait until there is some. So an urgent
//! byte goes directly in front of output: it waits for the next one, and output that comes waits for it. Only the
//! first request may go before there is any output at all, as the shell's start waits for the answer.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The client throws away what it has received but not shown yet, up to the urgent mark.
pub const FLUSH: u8 = 0x02;
/// The client stops handling ^S and ^Q and sends them on ([`FlowControl::Program`]).
pub const RAW: u8 = 0x10;
/// The client handles ^S and ^Q again ([`FlowControl::Client`]).
pub const COOKED: u8 = 0x20;
/// The client sends its window size now, and again whenever it changes.
pub const WINDOW: u8 = 0x80;

/// From the zero byte to [`WINDOW`]: clients that fork a reader lose one that comes directly behind it.
pub const WINDOW_DELAY: Duration = Duration::from_millis(10);
/// How long the first output waits for a [`WINDOW`] that is due, when the client's system takes nothing.
pub const WINDOW_HOLD: Duration = Duration::from_millis(10);
/// How long a due [`WINDOW`] waits for an empty send queue, when somebody sent urgent bytes before us. The first one of a
/// session waits for no acknowledgement: on a long way it would come too late for the shell's start files.
pub const WINDOW_PATIENCE: Duration = Duration::from_millis(220);
/// After an unanswered [`WINDOW`] it is sent once more: clients lose it now and then.
pub const WINDOW_AGAIN: Duration = Duration::from_secs(1);
/// After a [`WINDOW`] without an answer, for so long, nothing else is sent.
pub const WINDOW_ALONE: Duration = Duration::from_millis(300);
/// The least time between two urgent bytes, whatever happens.
pub const GAP: Duration = Duration::from_millis(50);
/// How long any other byte waits for an empty send queue: a slow link delays it but never drops it.
pub const PATIENCE: Duration = Duration::from_secs(1);

const SHORTEST_LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(10);
/// The same for what is in no hurry.
const UNHURRIED_LOOK: Duration = Duration::from_millis(200);

/// Who handles ^S and ^Q.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowControl {
    /// The client does, at once; so every session starts.
    Client,
    /// The client does not: they are input for the program.
    Program,
}

/// What is to be done about urgent data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until something new happens.
    Idle,
    /// Send this byte as urgent data and then call [`Pacer::sent`]. If the socket takes nothing now, try again when it
    /// is writable, after asking again.
    Send(u8),
    /// Ask again at this time, which is still to come.
    At(Instant),
}

/// What is known of the socket's send queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Bytes written and not acknowledged by the client's system (SIOCOUTQ, tcp(7)).
    pub unsent: usize,
    /// Bytes written since the last urgent byte.
    pub behind: usize,
}

impl Queue {
    /// Whether the client's system has the last urgent byte: another one cannot overtake it on the way.
    fn has_last(self) -> bool {
        self.unsent <= self.behind
    }
}

/// How far the request for the window size is. `T` is a moment: an [`Instant`], or how long ago it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Request<T> {
    /// To be sent [`WINDOW_DELAY`] after that.
    Due(T),
    /// Sent once.
    Sent(T),
    /// Sent a second time.
    SentAgain(T),
    /// Answered, or no longer asked.
    Over,
}

impl<T> Request<T> {
    fn map<U>(self, change: impl Fn(T) -> U) -> Request<U> {
        match self {
            Request::Due(time) => Request::Due(change(time)),
            Request::Sent(time) => Request::Sent(change(time)),
            Request::SentAgain(time) => Request::SentAgain(change(time)),
            Request::Over => Request::Over,
        }
    }
}

/// A [`Pacer`] as plain data, to be handed to another process: times are how long ago they were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    request: Request<Duration>,
    last: Option<Duration>,
    flush: Option<Duration>,
    change: Option<Duration>,
    wanted: FlowControl,
    told: FlowControl,
}

/// A byte that waits to be sent.
struct Waiting {
    byte: u8,
    /// Not before.
    due: Instant,
    /// No longer than this for the send queue to run empty; `None`: as long as it takes.
    patience: Option<Instant>,
}

/// Decides over one session's urgent bytes. Time and the length of the send queue are given to it; it does
/// nothing itself.
///
/// [`WINDOW`] is sent alone. Of everything else at most one byte is on its way; what comes in the meantime is
/// merged: flushes become one, the last flow control wins, and one that the client has already is not sent.
#[derive(Debug)]
pub struct Pacer {
    request: Request<Instant>,
    /// When the last urgent byte was sent.
    last: Option<Instant>,
    /// Since when a flush is pending.
    flush: Option<Instant>,
    /// Since when the client's flow control is not the wanted one.
    change: Option<Instant>,
    wanted: FlowControl,
    /// What the client does, as far as it was told.
    told: FlowControl,
}

impl Pacer {
    /// For a session that begins: the zero byte was written at `now`.
    pub fn new(now: Instant) -> Self {
        let told = FlowControl::Client;
        Self { request: Request::Due(now), last: None, flush: None, change: None, wanted: told, told }
    }

    /// For a session that is taken over at `now` from somebody who can say nothing any more. The client is asked for
    /// its window size again; [`Pacer::insist_on_flow_control`] follows when it is known.
    pub fn recovered(now: Instant) -> Self {
        // An urgent byte may have been sent a moment ago.
        Self { last: Some(now), ..Pacer::new(now) }
    }

    /// The terminal handles ^S and ^Q so, and what the client was told of it is not known: it is told, whatever it
    /// may know.
    pub fn insist_on_flow_control(&mut self, wanted: FlowControl, now: Instant) {
        self.told = match wanted {
            FlowControl::Client => FlowControl::Program,
            FlowControl::Program => FlowControl::Client,
        };
        self.flow_control(wanted, now);
    }

    /// This pacer as plain data.
    pub fn state(&self, now: Instant) -> State {
        let ago = |time: Instant| now.saturating_duration_since(time);
        State {
            request: self.request.map(ago),
            last: self.last.map(ago),
            flush: self.flush.map(ago),
            change: self.change.map(ago),
            wanted: self.wanted,
            told: self.told,
        }
    }

    /// The pacer that gave `state`, at `now`.
    pub fn from_state(state: &State, now: Instant) -> Self {
        // Before the system's clock began is as good as then.
        let then = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        Self {
            request: state.request.map(then),
            last: state.last.map(then),
            flush: state.flush.map(then),
            change: state.change.map(then),
            wanted: state.wanted,
            told: state.told,
        }
    }

    /// The terminal's output was flushed. The caller has thrown away what it had not sent yet.
    pub fn flush(&mut self, now: Instant) {
        self.flush.get_or_insert(now);
    }

    /// The terminal wants ^S and ^Q handled so from `now` on.
    pub fn flow_control(&mut self, wanted: FlowControl, now: Instant) {
        self.wanted = wanted;
        if wanted == self.told {
            self.change = None;
        } else {
            self.change.get_or_insert(now);
        }
    }

    /// The client sent its window size. Before it was asked that says nothing about the request, which is sent all
    /// the same: it is what makes most clients report later changes.
    pub fn window_size_came(&mut self) {
        match self.request {
            Request::Due(_) => {}
            Request::Sent(_) | Request::SentAgain(_) | Request::Over => self.request = Request::Over,
        }
    }

    /// Since when the client has the first request and has not answered it, unless something else waits to be sent.
    pub fn unanswered_since(&self) -> Option<Instant> {
        let Request::Sent(at) = self.request else { return None };
        (self.flush.is_none() && self.change.is_none()).then_some(at)
    }

    /// Whether only the send queue can stand in the way of an urgent byte: then [`Pacer::next`] wants to know it.
    pub fn is_due(&self, now: Instant) -> bool {
        self.first_waiting().is_some_and(|waiting| waiting.due <= now)
    }

    /// What to do at `now`. The queue is looked at only when a byte [is due](Pacer::is_due). `follows`: there is output
    /// that goes out directly behind an urgent byte.
    pub fn next(&self, now: Instant, queue: Queue, follows: bool) -> Next {
        let Some(waiting) = self.first_waiting() else { return Next::Idle };
        // Never while the last one is on its way: the client would take that for text.
        let patience = waiting.patience.filter(|_| self.last.is_none() || queue.has_last());
        if now < waiting.due {
            Next::At(waiting.due)
        } else if !follows && !self.may_go_first(queue) {
            Next::Idle
        } else if queue.unsent == 0 || patience.is_some_and(|end| now >= end) {
            Next::Send(waiting.byte)
        } else {
            // The longer it takes, the longer it will take: look less often.
            let longest = if waiting.patience.is_some() { LONGEST_LOOK } else { UNHURRIED_LOOK };
            let look = (now.duration_since(waiting.due) / 4).clamp(SHORTEST_LOOK, longest);
            let again = now + look;
            Next::At(patience.map_or(again, |end| end.min(again)))
        }
    }

    /// Whether what comes next is the request, and all output is still to come.
    fn may_go_first(&self, queue: Queue) -> bool {
        matches!(self.request, Request::Due(_)) && self.last.is_none() && queue.behind == 0
    }

    /// `byte` was sent as urgent data at `now`.
    pub fn sent(&mut self, byte: u8, now: Instant) {
        self.last = Some(now);
        if byte & WINDOW != 0 {
            self.request = match self.request {
                Request::Due(_) => Request::Sent(now),
                Request::Sent(_) | Request::SentAgain(_) | Request::Over => Request::SentAgain(now),
            };
        }
        if byte & FLUSH != 0 {
            self.flush = None;
        }
        if byte & RAW != 0 {
            self.told = FlowControl::Program;
        }
        if byte & COOKED != 0 {
            self.told = FlowControl::Client;
        }
        if self.told == self.wanted {
            self.change = None;
        }
    }

    /// Whether terminal output has to wait at `now`.
    ///
    /// While a flush is pending it must, always: what is sent before the mark the client throws away. For a
    /// change of flow control it must, unless that is far off, so that it can follow and the send queue can run empty;
    /// for the first request a moment. The second one holds nothing up.
    pub fn holds_output(&self, now: Instant) -> bool {
        let change = || self.change_waiting().is_some_and(|waiting| waiting.due <= now + GAP);
        let request = match self.request {
            Request::Due(since) => now < self.after_gap(since + WINDOW_DELAY) + WINDOW_HOLD,
            Request::Sent(_) | Request::SentAgain(_) | Request::Over => false,
        };
        self.flush.is_some() || request || change()
    }

    /// What goes first: what is due first, and at the same time the request, so that nothing can crowd it out. The
    /// second request, which is in no hurry, lets everything else pass.
    fn first_waiting(&self) -> Option<Waiting> {
        match (self.request_waiting(), self.change_waiting()) {
            (Some(request), Some(change)) if change.due < request.due || request.patience.is_none() => {
                Some(change)
            }
            (Some(request), _) => Some(request),
            (None, change) => change,
        }
    }

    fn request_waiting(&self) -> Option<Waiting> {
        let (from, patience) = match self.request {
            Request::Due(since) => {
                let from = since + WINDOW_DELAY;
                let patience = if self.last.is_some() { WINDOW_PATIENCE } else { Duration::ZERO };
                (from, Some(from + patience))
            }
            // The first one may still be unread, by a client that reads nothing at all.
            Request::Sent(at) => (at + WINDOW_AGAIN, None),
            Request::SentAgain(_) | Request::Over => return None,
        };
        Some(Waiting { byte: WINDOW, due: self.after_gap(from), patience })
    }

    fn change_waiting(&self) -> Option<Waiting> {
        let since = match (self.flush, self.change) {
            (Some(flush), Some(change)) => flush.min(change),
            (Some(since), None) | (None, Some(since)) => since,
            (None, None) => return None,
        };
        let from = match self.request {
            Request::Due(_) => return None,
            Request::Sent(at) | Request::SentAgain(at) => since.max(at + WINDOW_ALONE),
            Request::Over => since,
        };
        let flush = if self.flush.is_some() { FLUSH } else { 0 };
        let change = match (self.change, self.wanted) {
            (None, _) => 0,
            (Some(_), FlowControl::Program) => RAW,
            (Some(_), FlowControl::Client) => COOKED,
        };
        Some(Waiting { byte: flush | change, due: self.after_gap(from), patience: Some(since + PATIENCE) })
    }

    fn after_gap(&self, from: Instant) -> Instant {
        self.last.map_or(from, |last| from.max(last + GAP))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `unsent` bytes, all behind the last urgent byte.
    fn queue(unsent: usize) -> Queue {
        Queue { unsent, behind: usize::MAX }
    }

    /// An empty one, before anything was output.
    const UNUSED: Queue = Queue { unsent: 0, behind: 0 };

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A pacer whose request was sent and answered at 10 ms; and the time of its zero byte.
    fn settled() -> (Pacer, Instant) {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.sent(WINDOW, start + ms(10));
        pacer.window_size_came();
        (pacer, start)
    }

    #[test]
    fn the_request_goes_out_alone_a_moment_after_the_zero_byte() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        assert_eq!(pacer.next(start, queue(0), true), Next::At(start + ms(10)));
        assert_eq!(pacer.next(start + ms(10), queue(0), true), Next::Send(WINDOW));
        // On a long way the zero byte is not acknowledged yet.
        assert_eq!(pacer.next(start + ms(10), queue(1), true), Next::Send(WINDOW));
        // A mode that changes meanwhile waits, and holds nothing up.
        pacer.flow_control(FlowControl::Program, start + ms(15));
        assert_eq!(pacer.next(start + ms(20), queue(0), true), Next::Send(WINDOW));
        assert!(!pacer.holds_output(start + ms(20)));
        pacer.sent(WINDOW, start + ms(20));
        assert_eq!(pacer.next(start + ms(21), queue(0), true), Next::At(start + ms(320)));
        // Not until it is near.
        assert!(!pacer.holds_output(start + ms(269)));
        assert!(pacer.holds_output(start + ms(270)));
        assert_eq!(pacer.next(start + ms(319), queue(0), true), Next::At(start + ms(320)));
        assert_eq!(pacer.next(start + ms(320), queue(0), true), Next::Send(RAW));
    }

    #[test]
    fn the_first_request_alone_goes_before_there_is_output() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let due = start + WINDOW_DELAY;
        assert_eq!(pacer.next(start, UNUSED, false), Next::At(due));
        assert_eq!(pacer.next(due, UNUSED, false), Next::Send(WINDOW));
        // The zero byte may still be on its way.
        assert_eq!(pacer.next(due, Queue { unsent: 1, ..UNUSED }, false), Next::Send(WINDOW));
        // Output that went out meanwhile ends that.
        assert_eq!(pacer.next(due, queue(0), false), Next::Idle);
        assert_eq!(pacer.next(due, queue(0), true), Next::Send(WINDOW));
        // And so does an urgent byte: the second one, or one that somebody sent before us.
        pacer.sent(WINDOW, due);
        assert_eq!(pacer.next(due + WINDOW_AGAIN, UNUSED, false), Next::Idle);
        let recovered = Pacer::recovered(start);
        assert_eq!(recovered.next(start + GAP, UNUSED, false), Next::Idle);
        assert_eq!(recovered.next(start + GAP, UNUSED, true), Next::Send(WINDOW));
    }

    #[test]
    fn what_is_due_waits_for_output_to_follow() {
        let (mut pacer, start) = settled();
        let now = start + ms(20);
        pacer.flush(now);
        pacer.flow_control(FlowControl::Program, now);
        // Before it is due, its time is all that counts.
        assert_eq!(pacer.next(now, queue(0), false), Next::At(start + ms(60)));
        assert!(pacer.holds_output(now));
        // However long it takes, and whatever the send queue.
        for later in [start + ms(60), now + PATIENCE, now + ms(60_000)] {
            assert!(pacer.is_due(later));
            assert_eq!(pacer.next(later, queue(0), false), Next::Idle);
            assert_eq!(pacer.next(later, queue(5), false), Next::Idle);
            assert_eq!(pacer.next(later, UNUSED, false), Next::Idle);
            assert!(pacer.holds_output(later));
            assert_eq!(pacer.next(later, queue(0), true), Next::Send(FLUSH | RAW));
        }
        // The wait for output is patience enough.
        assert_eq!(pacer.next(now + ms(60_000), queue(5), true), Next::Send(FLUSH | RAW));
    }

    #[test]
    fn the_first_output_waits_a_moment_for_the_request() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        let end = start + WINDOW_DELAY + WINDOW_HOLD;
        assert!(pacer.holds_output(start));
        assert!(pacer.holds_output(end - ms(1)));
        // When the client's system takes nothing it goes first, and the request in front of what comes later.
        assert!(!pacer.holds_output(end));
        assert_eq!(pacer.next(end, queue(9), false), Next::Idle);
        assert_eq!(pacer.next(end, queue(9), true), Next::Send(WINDOW));
        pacer.sent(WINDOW, start + WINDOW_DELAY);
        assert!(!pacer.holds_output(start + WINDOW_DELAY));
        // The gap to what somebody sent before us comes first.
        let recovered = Pacer::recovered(start);
        assert_eq!(recovered.next(start + GAP, queue(9), true), Next::At(start + GAP + ms(1)));
        assert_eq!(recovered.next(start + GAP + WINDOW_PATIENCE, queue(9), true), Next::Send(WINDOW));
        assert!(recovered.holds_output(start + GAP + WINDOW_HOLD - ms(1)));
        assert!(!recovered.holds_output(start + GAP + WINDOW_HOLD));
    }

    #[test]
    fn the_second_request_holds_nothing_up() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.sent(WINDOW, start + ms(10));
        let due = start + ms(1010);
        for now in [due - ms(1), due, due + ms(9000)] {
            assert!(!pacer.holds_output(now));
        }
        assert_eq!(pacer.next(due, queue(0), false), Next::Idle);
        assert_eq!(pacer.next(due + ms(9000), queue(0), false), Next::Idle);
        assert_eq!(pacer.next(due + ms(9000), queue(1), true), Next::At(due + ms(9200)));
        assert_eq!(pacer.next(due + ms(9000), queue(0), true), Next::Send(WINDOW));
    }

    #[test]
    fn an_answer_ends_the_quiet_but_not_the_gap() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.sent(WINDOW, start + ms(10));
        pacer.flow_control(FlowControl::Program, start + ms(11));
        assert_eq!(pacer.next(start + ms(15), queue(0), true), Next::At(start + ms(310)));
        assert!(!pacer.holds_output(start + ms(15)));
        pacer.window_size_came();
        assert_eq!(pacer.next(start + ms(15), queue(0), true), Next::At(start + ms(60)));
        assert!(pacer.holds_output(start + ms(15)));
        assert_eq!(pacer.next(start + ms(60), queue(0), true), Next::Send(RAW));
        pacer.sent(RAW, start + ms(60));
        assert_eq!(pacer.next(start + ms(60), queue(0), true), Next::Idle);
    }

    #[test]
    fn without_an_answer_the_request_goes_once_more() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.sent(WINDOW, start + ms(10));
        assert_eq!(pacer.next(start + ms(11), queue(0), true), Next::At(start + ms(1010)));
        assert_eq!(pacer.next(start + ms(1010), queue(5), true), Next::At(start + ms(1011)));
        // It is never in a hurry: the first one may still be unread.
        assert_eq!(pacer.next(start + ms(9999), queue(5), true), Next::At(start + ms(10_199)));
        assert_eq!(pacer.next(start + ms(1010), queue(0), true), Next::Send(WINDOW));
        pacer.sent(WINDOW, start + ms(1010));
        assert_eq!(pacer.next(start + ms(1010), queue(0), true), Next::Idle);
        // Alone, as the first time.
        pacer.flush(start + ms(1060));
        assert_eq!(pacer.next(start + ms(1060), queue(0), true), Next::At(start + ms(1310)));
        pacer.window_size_came();
        assert_eq!(pacer.next(start + ms(1060), queue(0), true), Next::Send(FLUSH));
    }

    #[test]
    fn the_second_request_keeps_its_distance_and_lets_others_pass() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.sent(WINDOW, start + ms(10));
        pacer.flush(start + ms(1000));
        assert_eq!(pacer.next(start + ms(1005), queue(0), true), Next::Send(FLUSH));
        pacer.sent(FLUSH, start + ms(1005));
        pacer.flush(start + ms(1006));
        assert_eq!(pacer.next(start + ms(1055), queue(0), true), Next::Send(FLUSH));
        pacer.sent(FLUSH, start + ms(1055));
        assert_eq!(pacer.next(start + ms(1060), queue(0), true), Next::At(start + ms(1105)));
        assert_eq!(pacer.next(start + ms(1105), queue(0), true), Next::Send(WINDOW));
    }

    #[test]
    fn a_size_that_comes_unasked_does_not_replace_the_request() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.window_size_came();
        assert_eq!(pacer.next(start + ms(10), queue(0), true), Next::Send(WINDOW));
    }

    #[test]
    fn nothing_overtakes_an_urgent_byte_that_is_on_its_way() {
        let (mut pacer, start) = settled();
        pacer.flush(start + ms(100));
        let late = start + ms(5000);
        // One byte was written behind the last urgent one, and two are not acknowledged.
        assert_eq!(pacer.next(late, Queue { unsent: 2, behind: 1 }, true), Next::At(late + ms(10)));
        assert_eq!(pacer.next(late, Queue { unsent: 1, behind: 1 }, true), Next::Send(FLUSH));
    }

    #[test]
    fn pending_bytes_merge() {
        let (mut pacer, start) = settled();
        let now = start + ms(100);
        pacer.flow_control(FlowControl::Client, now);
        assert_eq!(pacer.next(now, queue(0), true), Next::Idle, "cooked already");
        pacer.flow_control(FlowControl::Program, now);
        pacer.flow_control(FlowControl::Client, now);
        assert_eq!(pacer.next(now, queue(0), true), Next::Idle, "and back again");
        assert!(!pacer.holds_output(now));
        pacer.flush(now);
        pacer.flush(now);
        pacer.flow_control(FlowControl::Program, now);
        assert_eq!(pacer.next(now, queue(0), true), Next::Send(FLUSH | RAW));
        pacer.sent(FLUSH | RAW, now);
        assert_eq!(pacer.told, FlowControl::Program);
        assert_eq!(pacer.next(now, queue(0), true), Next::Idle);
        assert!(!pacer.holds_output(now));
        pacer.flow_control(FlowControl::Client, now);
        assert_eq!(pacer.next(now, queue(0), true), Next::At(now + GAP));
        assert_eq!(pacer.next(now + GAP, queue(0), true), Next::Send(COOKED));
        pacer.flush(now + ms(1));
        assert_eq!(pacer.next(now + GAP, queue(0), true), Next::Send(FLUSH | COOKED));
        pacer.sent(FLUSH | COOKED, now + GAP);
        assert_eq!(pacer.told, FlowControl::Client);
        assert_eq!(pacer.next(now + GAP, queue(0), true), Next::Idle);
    }

    #[test]
    fn a_full_queue_delays_but_never_drops() {
        let (mut pacer, start) = settled();
        let now = start + ms(100);
        pacer.flow_control(FlowControl::Program, now);
        assert_eq!(pacer.next(now + ms(500), queue(9), true), Next::At(now + ms(510)));
        assert_eq!(pacer.next(now + ms(999), queue(9), true), Next::At(now + ms(1000)));
        assert_eq!(pacer.next(now + ms(1000), queue(9), true), Next::Send(RAW));
        // Wanting it again does not start the waiting again.
        pacer.flow_control(FlowControl::Program, now + ms(700));
        assert_eq!(pacer.next(now + ms(1000), queue(9), true), Next::Send(RAW));
        // The gap holds even then.
        pacer.sent(FLUSH, now + ms(995));
        assert_eq!(pacer.next(now + ms(1000), queue(9), true), Next::At(now + ms(1045)));
        assert_eq!(pacer.next(now + ms(1045), queue(9), true), Next::Send(RAW));
    }

    #[test]
    fn output_waits_for_the_mark_of_a_flush() {
        let start = Instant::now();
        let mut pacer = Pacer::new(start);
        pacer.flush(start + ms(1));
        assert!(pacer.holds_output(start + ms(1)), "even before anything may be sent");
        pacer.sent(WINDOW, start + ms(10));
        assert!(pacer.holds_output(start + ms(11)));
        pacer.sent(FLUSH, start + ms(310));
        assert!(!pacer.holds_output(start + ms(310)));
    }

    #[test]
    fn a_pacer_taken_over_goes_on_where_it_was() {
        let start = Instant::now();
        let now = start + ms(700);
        let flush_and_change = |pacer: &mut Pacer| {
            pacer.flush(start + ms(690));
            pacer.flow_control(FlowControl::Program, start + ms(695));
        };
        let mut asked = Pacer::new(start);
        asked.sent(WINDOW, start + ms(10));
        let mut urgent = settled().0;
        flush_and_change(&mut urgent);
        let mut busy = asked.state(now);
        busy.flush = Some(ms(10));
        for state in [Pacer::new(start).state(now), asked.state(now), urgent.state(now), busy] {
            let later = now + ms(5000);
            let taken = Pacer::from_state(&state, later);
            assert_eq!(taken.state(later), state);
            assert_eq!(taken.holds_output(later), Pacer::from_state(&state, now).holds_output(now));
        }
        // Asked once, it asks a second time only.
        let mut taken = Pacer::from_state(&asked.state(now), now);
        assert_eq!(taken.next(now, queue(0), true), Next::At(start + ms(1010)));
        taken.window_size_came();
        assert_eq!(taken.next(now, queue(0), true), Next::Idle);
    }

    #[test]
    fn a_pacer_that_knows_nothing_asks_for_the_size_and_tells_of_flow_control() {
        for (wanted, byte) in [(FlowControl::Client, COOKED), (FlowControl::Program, RAW)] {
            let now = Instant::now();
            let mut pacer = Pacer::recovered(now);
            pacer.insist_on_flow_control(wanted, now);
            assert_eq!(pacer.next(now, queue(0), true), Next::At(now + GAP));
            assert_eq!(pacer.next(now + ms(50), queue(0), true), Next::Send(WINDOW));
            pacer.sent(WINDOW, now + ms(50));
            pacer.window_size_came();
            assert_eq!(pacer.next(now + ms(100), queue(0), true), Next::Send(byte));
            pacer.sent(byte, now + ms(100));
            assert_eq!(pacer.next(now + ms(5000), queue(0), true), Next::Idle);
        }
    }
}
