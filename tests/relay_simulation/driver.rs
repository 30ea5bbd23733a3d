//! The loop of the relay in small, around one connection: events, timers, messages
//! of the monitor, then a turn. It also holds the connection to what it promises
//! about time: no stall, no spin, an end.

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rlogind::ipc::{CloseCause, ConnectionId, Services};
use rlogind::relay::connection::{Connection, Outcome, Ready, Turn};
use rlogind::relay::state::{EntryState, RelayState};
use rlogind::relay::{Pace, Scratch};

use crate::kernel::{FakeClient, FakeTerminal, Happening, Kernel};
use crate::random::Random;
use crate::script::{self, Answer, Ending, Opening, Script};
use crate::seen::Seen;

/// Time for a handshake, as in the shipped configuration.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// No timer of the loop is later than this.
const LATENESS: Duration = Duration::from_millis(2);
/// What the relay promises: for the monitor's answer, for a client that has gone, for
/// what is urgent at the end, and for the close of a client that was not logged in.
const OPENING: Duration = Duration::from_secs(30);
const LEFT: Duration = Duration::from_secs(10);
const LAST_URGENT: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_secs(2);
/// So many pieces of output have all that is urgent in front of them: the first request, and what goes in one byte.
const PROMPTS: usize = 2;

#[derive(Debug, Clone, Copy)]
enum Message {
    Opened,
    Refused,
    Ended,
}

pub(crate) struct Run {
    kernel: Rc<RefCell<Kernel>>,
    connection: Connection<FakeClient, FakeTerminal>,
    start: Instant,
    script: Script,
    messages: VecDeque<(Duration, Message)>,
    again: bool,
    wake: Option<Duration>,
    settling: bool,
    /// How often the program wrote more so that something urgent could go in front of it.
    prompts: usize,
    ending: bool,
    live: bool,
    /// The session could not be opened: the loop drops the connection at once.
    forgotten: bool,
    opening_since: Option<Duration>,
    left_at: Option<Duration>,
    ended_at: Option<Duration>,
    /// Bytes the terminal has to have given before the session may be finished, unless
    /// there are more flushes than this.
    due_output: Option<(usize, usize)>,
    finished_at: Option<Duration>,
    /// The user will take the last output, and go.
    goes: bool,
    closing_since: Option<Duration>,
    moved: (u64, u64, usize),
    moved_at: Duration,
    idle_turns: u64,
    idle_timers: u64,
    pending_time: Duration,
    seen: Seen,
}

impl Run {
    pub(crate) fn new(seed: u64, trace: bool) -> (Run, Rc<RefCell<Kernel>>) {
        let mut random = Random::new(seed);
        let script = Script::new(&mut random);
        let mut kernel = Kernel::new(random, trace);
        kernel.note(|| format!("{script:?}"));
        script.plan_opening(&mut kernel);
        let kernel = Rc::new(RefCell::new(kernel));
        let start = Instant::now();
        let client = FakeClient(Rc::clone(&kernel));
        let run = Run {
            kernel: Rc::clone(&kernel),
            connection: Connection::new(client, HANDSHAKE, script.idle, start),
            start,
            script,
            messages: VecDeque::new(),
            again: true,
            wake: None,
            settling: false,
            prompts: 0,
            ending: false,
            live: false,
            forgotten: false,
            opening_since: None,
            left_at: None,
            ended_at: None,
            due_output: None,
            finished_at: None,
            goes: false,
            closing_since: None,
            moved: (0, 0, 0),
            moved_at: Duration::ZERO,
            idle_turns: 0,
            idle_timers: 0,
            pending_time: Duration::ZERO,
            seen: Seen::default(),
        };
        (run, kernel)
    }

    pub(crate) fn play(mut self, scratch: &mut Scratch) -> Seen {
        for _ in 0..100_000 {
            if !self.sleep() {
                self.quiet();
                continue;
            }
            let reason = self.hear();
            if self.forgotten {
                return self.seen;
            }
            if reason.is_some() || self.again || self.timer_is_due() {
                if self.turn(scratch, reason) {
                    return self.seen;
                }
                self.check_times();
                let often = self.script.hand_over;
                if often > 0 && self.kernel().random.one_in(often) {
                    self.hand_over();
                }
            }
        }
        panic!("it does not come to an end");
    }

    fn kernel(&self) -> RefMut<'_, Kernel> {
        self.kernel.borrow_mut()
    }

    fn now(&self) -> Duration {
        self.kernel.borrow().now
    }

    fn timer_is_due(&self) -> bool {
        self.wake.is_some_and(|time| time <= self.now())
    }

    /// Lets time pass until something is to be done; false when nothing ever will be.
    fn sleep(&mut self) -> bool {
        let mut kernel = self.kernel.borrow_mut();
        kernel.catch_up();
        let now = kernel.now;
        let woken = kernel.socket.is_woken() || (self.live && kernel.pty.is_woken());
        let soon = (self.again || woken).then(|| now + kernel.random.micros(1, 200));
        let lateness = kernel.random.micros(0, u64::try_from(LATENESS.as_micros()).unwrap());
        let timer = self.wake.map(|time| time + lateness);
        let planned = kernel.agenda.first_key_value().map(|(key, _)| key.0);
        let message = self.messages.front().map(|(time, _)| *time);
        let done = planned.is_none() && message.is_none();
        drop(kernel);
        if done && self.ended_at.is_some() && self.finished_at.is_none() {
            self.go_on_in_background();
        }
        if done && self.is_patient() && !std::mem::replace(&mut self.goes, true) {
            // Whenever it pleases the user.
            self.settle();
            let mut kernel = self.kernel();
            let delay = kernel.random.micros(10_000, 30_000_000);
            kernel.plan(delay, Happening::ClientTakes(usize::MAX));
            kernel.plan(delay * 2, Happening::ClientLeaves);
            return true;
        }
        if done && self.live && !self.settling {
            self.settle();
            return true;
        }
        let Some(next) = [soon, timer, planned, message].into_iter().flatten().min() else { return false };
        let mut kernel = self.kernel.borrow_mut();
        if self.live && kernel.judge.urgent_is_pending() {
            self.pending_time += next.saturating_sub(now);
        }
        kernel.now = next.max(now);
        let arrived = kernel.socket.unacknowledged() == 0 && kernel.socket.takes_bytes();
        if self.live && !arrived {
            let until = kernel.now;
            kernel.judge.check_bare(until, false);
        }
        kernel.elapse();
        drop(kernel);
        if !self.again && !self.timer_is_due() {
            self.kernel().catch_up();
        }
        true
    }

    /// The last output is for somebody who was logged in.
    fn is_patient(&self) -> bool {
        self.script.logged_in && self.due_output.is_some() && self.finished_at.is_some()
    }

    /// The script is over: from now on everybody takes what there is.
    fn settle(&mut self) {
        self.settling = true;
        let mut kernel = self.kernel();
        kernel.note(|| "--- everybody takes what there is".to_owned());
        kernel.socket.eager = true;
        kernel.pty.eager = true;
        for what in
            [Happening::RoomAgain, Happening::ClientTakes(usize::MAX), Happening::ProgramReads(usize::MAX)]
        {
            let delay = kernel.random.micros(0, 3_000);
            kernel.plan(delay, what);
        }
    }

    /// Nothing will ever happen by itself.
    fn quiet(&mut self) {
        if self.live && !self.script.logged_in && self.left_at.is_some() && self.ended_at.is_none() {
            let now = self.now();
            self.messages.push_back((now, Message::Ended));
            return;
        }
        assert!(self.live && self.settling && !self.ending, "stalled");
        if self.kernel().judge.waits_for_output() && self.prompts < PROMPTS {
            self.prompts += 1;
            self.kernel().plan(Duration::ZERO, Happening::ProgramWrites(1));
            return;
        }
        self.check_settled();
        self.end();
    }

    fn check_settled(&mut self) {
        let kernel = self.kernel.borrow();
        assert_eq!(kernel.socket.unread(), 0, "the client is not read");
        assert_eq!(kernel.pty.unread(), 0, "the terminal is not read");
        assert!(!kernel.pty.has_status(), "the terminal's state is not read");
        kernel.judge.assert_settled(kernel.pty.mode);
        self.seen.settled += 1;
    }

    /// Begins the end that the script has.
    fn end(&mut self) {
        self.ending = true;
        let mut kernel = self.kernel.borrow_mut();
        let delay = kernel.random.micros(0, 50_000);
        match self.script.ending {
            Ending::ClientLeaves => kernel.plan(delay, Happening::ClientLeaves),
            Ending::ClientResets => kernel.plan(delay, Happening::ClientResets),
            Ending::SessionEnds | Ending::SessionEndsInBackground => {
                let size = kernel.random.size(70_000);
                kernel.plan(delay, Happening::ProgramWrites(size));
                if self.script.ending == Ending::SessionEnds {
                    kernel.plan(delay, Happening::FollowersClose);
                }
                let message = kernel.now + delay + kernel.random.micros(0, 300);
                self.messages.push_back((message, Message::Ended));
            }
        }
    }

    /// A job that the session left behind has more to say.
    fn go_on_in_background(&mut self) {
        let mut kernel = self.kernel.borrow_mut();
        if self.script.ending == Ending::SessionEndsInBackground && kernel.pty.unread() < 60_000 {
            let delay = kernel.random.micros(50, 2_000);
            let size = kernel.random.size(10_000);
            kernel.plan(delay, Happening::ProgramWrites(size));
        }
    }

    /// Takes the events and messages; says what they were.
    fn hear(&mut self) -> Option<&'static str> {
        let mut reason = None;
        let mut kernel = self.kernel.borrow_mut();
        if let Some(ready) = kernel.socket.event() {
            kernel.note(|| format!("client event {}", show(ready)));
            self.connection.client_ready(ready);
            reason = Some("event");
        }
        if self.live
            && let Some(ready) = kernel.pty.event()
        {
            kernel.note(|| format!("terminal event {}", show(ready)));
            self.connection.terminal_ready(ready);
            reason = Some("event");
        }
        if kernel.socket.has_left() || kernel.socket.is_broken() {
            self.left_at.get_or_insert(kernel.now);
        }
        let now = kernel.now;
        drop(kernel);
        if self.messages.front().is_some_and(|(time, _)| *time <= now)
            && let Some((_, message)) = self.messages.pop_front()
        {
            self.obey(message);
            reason = Some("message");
        }
        reason
    }

    fn obey(&mut self, message: Message) {
        self.kernel().note(|| format!("monitor: {message:?}"));
        let now = self.now();
        match message {
            Message::Opened => {
                self.kernel().judge.opened = true;
                let terminal = FakeTerminal(Rc::clone(&self.kernel));
                if self.connection.opened(terminal, self.start + now).is_err() {
                    let no_room = !self.kernel().socket.takes_bytes();
                    assert!(self.left_at.is_some() || no_room, "failed without a reason");
                    self.forgotten = true;
                    return;
                }
                if self.script.logged_in {
                    self.connection.logged_in(self.start + now);
                }
                self.live = true;
                self.moved_at = now;
                let length = script::plan_session(&mut self.kernel());
                if self.script.early {
                    self.end_early(length);
                }
            }
            Message::Refused => {
                self.connection.refuse("Permission denied", self.start + now);
                self.closing_since = Some(now);
            }
            Message::Ended => {
                self.ended_at = Some(now);
                let kernel = self.kernel.borrow();
                let due = kernel.judge.output_read() + kernel.pty.unread();
                self.due_output = Some((due, kernel.pty.flushes));
                drop(kernel);
                self.connection.session_ended();
            }
        }
    }

    /// The end comes in the middle of it all.
    fn end_early(&mut self, length: Duration) {
        let share = self.kernel().random.between(0, 100);
        let at = length * u32::try_from(share).unwrap() / 100;
        let mut kernel = self.kernel.borrow_mut();
        self.ending = true;
        match self.script.ending {
            Ending::ClientLeaves => kernel.plan(at, Happening::ClientLeaves),
            Ending::ClientResets => kernel.plan(at, Happening::ClientResets),
            Ending::SessionEnds | Ending::SessionEndsInBackground => {
                let close = kernel.random.micros(0, 1_000);
                if self.script.ending == Ending::SessionEnds {
                    kernel.plan(at, Happening::FollowersClose);
                }
                let message = kernel.now + at + close;
                self.messages.push_back((message, Message::Ended));
            }
        }
    }

    /// Another relay goes on with the connection.
    fn hand_over(&mut self) {
        let now = self.start + self.now();
        let entry = EntryState {
            id: ConnectionId(1),
            peer: ([127, 0, 0, 1], 1023).into(),
            counted: true,
            open: self.live,
            connection: self.connection.state(now),
        };
        let bytes = RelayState { entries: vec![entry.clone()] }.to_bytes().unwrap();
        let read = RelayState::from_bytes(&bytes).unwrap().entries.pop().unwrap();
        assert_eq!(read, entry);
        // A size that waits for its time is passed on first.
        if let Some(size) = self.connection.last_size() {
            self.kernel().judge.resized(size);
        }
        let client = FakeClient(Rc::clone(&self.kernel));
        let terminal = self.live.then(|| FakeTerminal(Rc::clone(&self.kernel)));
        let services = Rc::new(Services { names: Vec::new(), help: false });
        let idle = self.script.idle;
        self.connection =
            Connection::resume(client, terminal, &read.connection, &services, idle, now).unwrap();
        let mut kernel = self.kernel.borrow_mut();
        kernel.note(|| format!("--- handed over: {:?}", read.connection));
        kernel.socket.wake();
        kernel.pty.wake();
        // The new relay does not know when the last key came.
        kernel.control_at = self.live.then_some(kernel.now);
        drop(kernel);
        self.again = true;
        self.idle_turns = 0;
        self.seen.handed_over += 1;
    }

    /// One turn, as the loop does it; true when the connection is gone.
    fn turn(&mut self, scratch: &mut Scratch, reason: Option<&'static str>) -> bool {
        let now = self.now();
        let timer = self.timer_is_due();
        let asked = self.again;
        if timer {
            self.wake = None;
        }
        let mut kernel = self.kernel.borrow_mut();
        let cause = reason.unwrap_or(if timer { "timer" } else { "again" });
        kernel.note(|| format!("turn ({cause})"));
        kernel.calls = 0;
        kernel.judge.reads = (0, 0);
        let before = kernel.progress;
        drop(kernel);
        let one_in_two = || self.kernel.borrow_mut().random.one_in(2);
        let pace = if one_in_two() { Pace::Prompt } else { Pace::Crowded };
        let room = self.kernel().random.between(8 * 1024, 64 * 1024);
        scratch.limit(room, pace);
        let ended = self.ended_at.is_some();
        self.kernel().hasty = !ended;
        let Turn { outcome, again, wake, size, look } = self.connection.turn(scratch, self.start + now);
        if let Some(size) = size {
            let mut kernel = self.kernel();
            kernel.note(|| format!("    size {}x{}", size.rows, size.columns));
            kernel.progress += 1;
            kernel.judge.resized(size);
            drop(kernel);
            // Or the terminal's user holds its lock.
            if self.kernel().random.one_in(2) {
                self.connection.resized();
            }
        }
        if look {
            self.answer_look(now);
        }
        let moved = self.kernel().progress != before;
        self.again = again;
        self.wake = wake.map(|time| time - self.start);
        self.kernel().note(|| format!("  = {} again {again} wake {:?}", name(&outcome), self.wake));
        if self.live {
            let judge = &self.kernel.borrow().judge;
            let moved = (judge.to_terminal, judge.to_client, judge.urgent);
            if self.moved != moved {
                self.moved = moved;
                self.moved_at = now;
            }
        }
        if self.obey_outcome(outcome, now) {
            return true;
        }
        self.check_spin(reason.is_some(), asked, moved, now);
        false
    }

    /// The session process looks whether the terminal holds unread input, unless question or answer is lost.
    fn answer_look(&mut self, now: Duration) {
        let mut kernel = self.kernel();
        kernel.progress += 1;
        if kernel.random.one_in(4) {
            return;
        }
        let unread = kernel.pty.unread_input();
        kernel.note(|| format!("    looked: unread {unread}"));
        drop(kernel);
        self.connection.looked(unread, self.start + now);
    }

    fn check_spin(&mut self, event: bool, asked: bool, moved: bool, now: Duration) {
        assert!(self.again || self.wake.is_none_or(|time| time > now), "a timer that is due already");
        if moved || event {
            self.idle_turns = 0;
            return;
        }
        if asked {
            self.idle_turns += 1;
            assert!(self.idle_turns <= 2, "asks for turns and does nothing");
        } else {
            self.idle_timers += 1;
            let judge = &self.kernel.borrow().judge;
            let looks = u64::try_from(self.pending_time.as_millis()).unwrap() / 10;
            let starts = 40 * u64::try_from(judge.statuses.min(20) + 3).unwrap();
            assert!(self.idle_timers <= starts + looks, "wakes {} times for nothing", self.idle_timers);
        }
    }

    fn obey_outcome(&mut self, outcome: Outcome, now: Duration) -> bool {
        match outcome {
            Outcome::None => {}
            Outcome::Open(handshake) => {
                assert_eq!(handshake.client_user.as_bytes(), b"alice");
                assert_eq!(handshake.server_user.as_bytes(), b"bob");
                assert_eq!(handshake.terminal_field(), "xterm/38400");
                self.opening_since = Some(now);
                let message = match self.script.answer {
                    Answer::Opened => Some(Message::Opened),
                    Answer::Refused => Some(Message::Refused),
                    Answer::Nothing => None,
                };
                self.messages.extend(message.map(|message| (now + self.script.answer_delay, message)));
            }
            Outcome::Refused(_) => {
                let timed_out = self.script.opening == Opening::Silence && now >= HANDSHAKE;
                let other = [Opening::Garbage, Opening::Leaves, Opening::Resets];
                assert!(timed_out || other.contains(&self.script.opening), "refused without a reason");
                self.closing_since = Some(now);
            }
            Outcome::Finished(CloseCause::Idle) => self.idled(now),
            Outcome::Finished(cause) => {
                assert_eq!(cause, CloseCause::Ended, "finished otherwise than by the session's end");
                self.finished(now);
            }
            Outcome::Gone(cause) => {
                self.gone(cause, now);
                return true;
            }
        }
        false
    }

    fn finished(&mut self, now: Duration) {
        assert!(self.finished_at.is_none(), "finished twice");
        let Some((due, flushes)) = self.due_output else { panic!("finished before the session ended") };
        let kernel = self.kernel.borrow();
        let complete = kernel.judge.output_read() >= due || kernel.pty.flushes > flushes;
        assert!(complete, "the last output was not read");
        assert_eq!(self.connection.bytes(), (kernel.judge.to_terminal, kernel.judge.to_client));
        drop(kernel);
        self.kernel().judge.finished = true;
        self.finished_at = Some(now);
        self.closing_since = Some(now);
        self.live = false;
        self.seen.finished += 1;
    }

    /// Hung up for being idle; what is left of the connection is closed in order.
    fn idled(&mut self, now: Duration) {
        assert!(!self.script.idle.is_zero() && now >= self.moved_at + self.script.idle, "not idle yet");
        assert!(now <= self.moved_at + self.script.idle + LATENESS * 2, "idle for longer");
        self.seen.idle += 1;
        self.kernel().judge.finished = true;
        self.finished_at = Some(now);
        self.closing_since = Some(now);
        self.live = false;
    }

    fn gone(&mut self, cause: CloseCause, now: Duration) {
        let kernel = self.kernel.borrow();
        match cause {
            CloseCause::Ended => {
                assert!(self.closing_since.is_some(), "ended, but nothing has");
                let whole = kernel.judge.all_output_is_sent() || kernel.socket.is_broken();
                let idle = !self.script.idle.is_zero()
                    && self.finished_at.is_some_and(|at| now >= at + self.script.idle);
                assert!(!self.is_patient() || whole || idle, "closed before the last output was sent");
            }
            CloseCause::ClientLeft => {
                let socket = &kernel.socket;
                // It may have happened in the middle of this turn.
                let just_now = (socket.has_left() || socket.is_broken()).then_some(now);
                let Some(left) = self.left_at.or(just_now) else { panic!("the client has not left") };
                let whole = !kernel.socket.is_broken() && now < left + LEFT && self.live;
                assert!(!whole || kernel.judge.nothing_left_of(kernel.socket.arrived()), "input is missing");
                assert!(!whole || kernel.pty.unread_input() == 0, "the terminal holds unread input");
                self.seen.left += 1;
            }
            CloseCause::Idle => panic!("the connection is dropped instead of closed"),
            CloseCause::Shortage | CloseCause::GaveWay | CloseCause::Silent => {
                panic!("nothing here leads to that")
            }
            CloseCause::Abandoned if self.opening_since.is_some() && !kernel.judge.opened => {
                assert!(self.opening_since.is_some_and(|since| now >= since + OPENING));
                self.seen.stuck += 1;
            }
            CloseCause::Abandoned => panic!("a session is given up"),
        }
        if self.live {
            assert_eq!(self.connection.bytes(), (kernel.judge.to_terminal, kernel.judge.to_client));
        }
        let refusal = &kernel.judge.refusal;
        if !refusal.is_empty() && !kernel.socket.is_broken() {
            assert!(refusal.starts_with(b"\x01rlogind: ") && refusal.ends_with(b".\r\n"), "{refusal:?}");
            self.seen.refused += 1;
        }
        self.seen.flushes += kernel.judge.flushes;
        self.seen.urgent += kernel.judge.urgent;
        self.seen.bytes += kernel.judge.to_terminal + kernel.judge.to_client;
    }

    /// Nothing that has an end takes longer than promised.
    fn check_times(&self) {
        let now = self.now();
        if self.live {
            let mut kernel = self.kernel();
            let arrived = kernel.socket.unacknowledged() == 0 && kernel.socket.takes_bytes();
            kernel.judge.check_bare(now, arrived);
        }
        let within = |since: Option<Duration>, limit: Duration, what: &str| {
            assert!(since.is_none_or(|since| now <= since + limit + LATENESS * 2), "{what}");
        };
        if !self.is_patient() {
            within(self.closing_since, LINGER, "the close takes too long");
        }
        if self.live {
            match self.ended_at {
                Some(_) => within(self.ended_at, LAST_URGENT, "the last output is not let go of"),
                // A login that nobody was asked anything for ends by itself.
                None if !self.script.logged_in => {}
                None => within(self.left_at, LEFT, "the client has gone long ago"),
            }
        } else if !self.kernel.borrow().judge.opened && self.closing_since.is_none() {
            within(self.opening_since, OPENING, "no answer of the monitor, and still waiting");
            if self.opening_since.is_none() {
                within(Some(Duration::ZERO), HANDSHAKE, "no handshake, and still waiting");
            }
        }
    }
}

fn show(ready: Ready) -> String {
    let Ready { readable, writable, hung_up, changed } = ready;
    let flags = [(readable, "readable"), (writable, "writable"), (hung_up, "hung up"), (changed, "changed")];
    flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

fn name(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Open(_) => "Open".to_owned(),
        Outcome::None | Outcome::Refused(_) | Outcome::Finished(_) | Outcome::Gone(_) => {
            format!("{outcome:?}")
        }
    }
}
