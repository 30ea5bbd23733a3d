//! What the modules of PAM and of the name services log with syslog(3).
//!
//! The executable has the functions of syslog(3) itself (`module_log.c`, exported by `build.rs`),
//! so modules call ours and not the C library's, which would wait while syslogd does not read. A
//! line goes into a channel as one datagram, at once or not at all. Until [`redirect`] is called
//! the lines are dropped.
//!
//! A module may log at any time: from a thread of its own, in a callback of ours, in a process that
//! it has forked. So nothing here waits for a lock.

use std::ffi::{c_char, c_int};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::panic::catch_unwind;
use std::slice;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};

/// How long lines are counted.
const PERIOD: Duration = Duration::from_secs(60);
/// Lines that go through in a period.
const MOST: u32 = 64;
/// The severity of a line of our own (syslog(3), `LOG_WARNING`).
const WARNING: u8 = 4;

/// Makes a datagram of a line and its severity, 0 to 7.
pub type Encode = fn(severity: u8, text: &str) -> Option<Vec<u8>>;

static SINK: Mutex<Option<Sink>> = Mutex::new(None);
/// Lines that came while another one was being sent.
static MISSED: AtomicU32 = AtomicU32::new(0);

struct Sink {
    /// The process whose channel it is.
    process: u32,
    sender: Sender,
    count: Count,
}

unsafe extern "C" {
    fn rlogind_receive_module_log(receiver: extern "C" fn(c_int, *const c_char, usize));
}

/// Sends what modules log in this process into the channel from now on.
///
/// # Errors
/// Out of descriptors.
pub fn redirect(channel: BorrowedFd, encode: Encode) -> io::Result<()> {
    let channel = channel.try_clone_to_owned()?;
    let sender = Sender { channel, encode };
    let sink = Sink { process: std::process::id(), sender, count: Count::new(Instant::now()) };
    if let Ok(mut slot) = SINK.lock() {
        *slot = Some(sink);
    }
    // SAFETY: the C file stores the pointer to a function that lives as long as the program.
    unsafe { rlogind_receive_module_log(receive) };
    Ok(())
}

/// Says how many lines were left out, if any were.
pub fn report_left_out() {
    with_sink(|sender, count| count.report(|severity, text| sender.send(severity, text)));
}

/// Gets the lines of the C file.
extern "C" fn receive(priority: c_int, text: *const c_char, length: usize) {
    // SAFETY: by the C file's word, so many bytes that stay as they are until we return.
    let bytes = unsafe { slice::from_raw_parts(text.cast::<u8>(), length) };
    // A panic must not go on into the module.
    let _ = catch_unwind(|| {
        let text = String::from_utf8_lossy(bytes);
        let severity = u8::try_from(priority & 7).unwrap_or(WARNING);
        with_sink(|sender, count| {
            let send = |severity: u8, text: &str| sender.send(severity, text);
            count.line(severity, text.trim_end_matches('\n'), Instant::now(), send);
        });
    });
}

fn with_sink(work: impl FnOnce(&Sender, &mut Count)) {
    let Ok(mut slot) = SINK.try_lock() else {
        MISSED.fetch_add(1, Ordering::Relaxed);
        return;
    };
    // A process that a module has forked is no session; what it logs is dropped.
    if let Some(sink) = slot.as_mut().filter(|sink| sink.process == std::process::id()) {
        sink.count.left_out = sink.count.left_out.saturating_add(MISSED.swap(0, Ordering::Relaxed));
        work(&sink.sender, &mut sink.count);
    }
}

/// What a line is sent with.
struct Sender {
    channel: OwnedFd,
    encode: Encode,
}

impl Sender {
    /// Sends a line, if that is possible at once.
    fn send(&self, severity: u8, text: &str) -> bool {
        let Some(datagram) = (self.encode)(severity, text) else { return false };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        send(self.channel.as_raw_fd(), &datagram, flags).is_ok()
    }
}

/// Bounds the lines of a process. Pure: time is a parameter.
#[derive(Debug)]
struct Count {
    /// When the period began.
    since: Instant,
    /// Lines of this period that went through.
    passed: u32,
    /// Lines that did not, and of which nothing is said yet.
    left_out: u32,
}

impl Count {
    fn new(now: Instant) -> Self {
        Count { since: now, passed: 0, left_out: 0 }
    }

    fn line(&mut self, severity: u8, text: &str, now: Instant, send: impl Fn(u8, &str) -> bool) {
        if now.saturating_duration_since(self.since) >= PERIOD {
            self.report(&send);
            (self.since, self.passed) = (now, 0);
        }
        if self.passed < MOST && send(severity, text) {
            self.passed += 1;
        } else {
            self.left_out = self.left_out.saturating_add(1);
        }
    }

    fn report(&mut self, send: impl Fn(u8, &str) -> bool) {
        if self.left_out > 0 && send(WARNING, &format!("lines of modules left out: {}", self.left_out)) {
            self.left_out = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_flood_is_the_first_lines_and_then_its_number() {
        let start = Instant::now();
        let mut count = Count::new(start);
        let sent = RefCell::new(Vec::new());
        let send = |severity: u8, text: &str| {
            sent.borrow_mut().push((severity, text.to_owned()));
            true
        };
        for n in 0..100 {
            count.line(6, &n.to_string(), start, send);
        }
        assert_eq!(sent.take().len(), 64);
        count.line(6, "later", start + PERIOD, send);
        let expected = [(4, "lines of modules left out: 36".to_owned()), (6, "later".to_owned())];
        assert_eq!(sent.take(), expected);
        count.report(send);
        assert_eq!(sent.take(), []);
    }

    #[test]
    fn what_cannot_be_sent_is_counted_and_said_later() {
        let start = Instant::now();
        let mut count = Count::new(start);
        for _ in 0..3 {
            count.line(6, "x", start, |_, _| false);
        }
        count.report(|_, _| false);
        assert_eq!((count.passed, count.left_out), (0, 3));
        count.report(|_, _| true);
        assert_eq!(count.left_out, 0);
    }
}
