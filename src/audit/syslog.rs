//! Writes the audit log: to syslogd and, if asked for, to standard error.
//!
//! For a single-threaded loop: nothing here blocks (but for [`Log::finish`], for
//! as long as it is told) and nothing fails. What syslogd does not take waits in
//! a bounded queue; what does not fit there is counted, and the count becomes an
//! [`Event::Lost`] line as soon as there is room again. And what strangers can cause
//! without end is thinned: after the first lines there is one a minute, with their number.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use syslog::{Facility, LogFormat, Logger};
use time::OffsetDateTime;

use super::escape::Foreign;
use super::event::Event;
use super::format::{self, Line, Severity};
use super::queue::Queue;
use super::stderr::Stderr;
use super::thinning::Thinning;

/// Where syslogd listens.
pub const SOCKET: &str = "/dev/log";

/// What stands before our lines.
const IDENT: &str = "rlogind";
/// What stands before those of PAM's modules, so that none can pass for one of ours.
const MODULE_IDENT: &str = "rlogind-session";

/// More bytes than a line of [`format::line`] and the header before it take.
const LONGEST_LINE: usize = 2200;

/// How long [`Log::finish`] waits at most before it looks again.
const FINISH_STEP: Duration = Duration::from_millis(50);

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The audit log.
pub struct Log {
    logger: Logger<Queue, Header>,
    stderr: Option<Stderr>,
    thinning: Thinning,
    /// Lines of modules for which there was no room, and of which nothing is said yet.
    module_lines_lost: u64,
}

impl Log {
    /// `facility` is a name of syslog.conf(5), and "authpriv" if it is none;
    /// `socket` is where syslogd listens, usually [`SOCKET`]. There need not be
    /// a syslogd yet.
    ///
    /// The process id in the lines, and what standard error is, are those of
    /// this moment: a daemon opens its log after it went to the background.
    #[must_use]
    pub fn open(facility: &str, socket: &Path, stderr: bool) -> Self {
        let facility = Facility::from_str(facility).unwrap_or(Facility::LOG_AUTHPRIV);
        let header = Header { facility, pid: std::process::id() };
        let stderr = if stderr { Stderr::open() } else { None };
        let logger = Logger::new(Queue::new(socket), header);
        Log { logger, stderr, thinning: Thinning::default(), module_lines_lost: 0 }
    }

    /// Uses another facility from now on; one that is none changes nothing.
    pub fn set_facility(&mut self, facility: &str) {
        if let Ok(facility) = Facility::from_str(facility) {
            self.logger.formatter.facility = facility;
        }
    }

    /// Writes the numbers of what was counted, due or not, that another image will not know.
    pub fn write_pending_counts(&mut self) {
        for event in self.thinning.finish_others() {
            self.write_whole(&event, Instant::now());
        }
    }

    /// What was counted, for another image.
    #[must_use]
    pub fn counts(&self, now: Instant) -> Vec<u8> {
        self.thinning.leave(now)
    }

    /// Goes on with what another image has counted.
    pub fn take_counts(&mut self, counts: &[u8], now: Instant) {
        self.thinning.go_on(counts, now);
    }

    /// The lines that syslogd has not taken, for another image.
    #[must_use]
    pub fn pending(&self) -> Vec<Vec<u8>> {
        self.logger.backend.pending()
    }

    /// Lines that another image could not get rid of; they go first.
    pub fn put_back(&mut self, lines: Vec<Vec<u8>>) {
        self.logger.backend.put_back(lines);
    }

    /// Writes the event down, or counts it.
    pub fn write(&mut self, event: &Event, now: Instant) {
        self.retry(now);
        if matches!(event, Event::Stopped { .. }) {
            // It is the last line that anybody looks for.
            self.write_counts(now);
        }
        if self.thinning.lets_through(event, now) {
            self.write_whole(event, now);
        }
    }

    /// Writes down what a module of PAM or of a name service has logged in that session process. When nobody is logged
    /// in there yet, the line is thinned like others of `stranger`, the client.
    ///
    /// It must not push our own lines out, so it needs half of the queue to be free.
    pub fn write_module_line(
        &mut self,
        process: u32,
        stranger: Option<SocketAddr>,
        severity: u8,
        text: &str,
        now: Instant,
    ) {
        self.retry(now);
        let of_login = stranger.map(|peer| Event::ModuleLines { peer, count: 1 });
        if of_login.is_some_and(|line| !self.thinning.lets_through(&line, now)) {
            return;
        }
        let text = Foreign(text).to_string();
        if let Some(stderr) = &self.stderr {
            stderr.write(&format!("{MODULE_IDENT}[{process}]: {text}"));
        }
        let queue = &mut self.logger.backend;
        if queue.lost() > 0 || !queue.is_half_free() {
            self.module_lines_lost += 1;
            return;
        }
        let priority = Facility::LOG_AUTHPRIV as u8 | severity.min(syslog::Severity::LOG_DEBUG as u8);
        // The queue takes every line and has no errors.
        let _ = write_line(queue, priority, MODULE_IDENT, process, &text);
        queue.deliver(now);
    }

    /// Writes the numbers of what was counted, due or not.
    fn write_counts(&mut self, now: Instant) {
        for event in self.thinning.finish() {
            self.write_whole(&event, now);
        }
    }

    fn write_whole(&mut self, event: &Event, now: Instant) {
        if self.logger.backend.lost() > 0 {
            // The gap is not reported yet. A line let in before the report
            // would seem to come from before the gap.
            self.show(&format::line(event));
            self.logger.backend.lose_one();
        } else {
            self.push(event);
            self.logger.backend.deliver(now);
        }
    }

    /// When [`Log::retry`] is to be called: `Some` while syslogd has not taken
    /// everything, or something was counted that is not written yet.
    #[must_use]
    pub fn retry_at(&self) -> Option<Instant> {
        self.logger.backend.retry_at().into_iter().chain(self.thinning.next()).min()
    }

    /// Sends what waits, as far as syslogd takes it, and writes the numbers that are due.
    pub fn retry(&mut self, now: Instant) {
        self.deliver(now);
        for event in self.thinning.due(now) {
            self.write_whole(&event, now);
        }
    }

    fn deliver(&mut self, now: Instant) {
        self.logger.backend.deliver(now);
        // Room for one more line than the report, or the next line would be
        // lost again, and every other line be a report.
        if self.logger.backend.lost() > 0 && self.logger.backend.has_room(2, 2 * LONGEST_LINE) {
            let lines = self.logger.backend.take_lost();
            self.push(&Event::Lost { lines });
            self.logger.backend.deliver(now);
        }
        if self.module_lines_lost > 0 && self.logger.backend.lost() == 0 && self.logger.backend.is_half_free()
        {
            let lines = std::mem::take(&mut self.module_lines_lost);
            let text = format!("lines of PAM modules lost because syslog did not take them: {lines}");
            self.push(&Event::Warning { text });
            self.logger.backend.deliver(now);
        }
    }

    /// At the end of the process: waits until syslogd has everything, but not
    /// longer than `patience`.
    pub fn finish(&mut self, patience: Duration) {
        let start = Instant::now();
        self.write_counts(start);
        loop {
            let now = Instant::now();
            // There is no later, so the pause between two tries does not count.
            self.deliver(self.logger.backend.retry_at().map_or(now, |at| at.max(now)));
            let left = patience.saturating_sub(now - start);
            if self.logger.backend.is_empty() || left.is_zero() {
                return;
            }
            self.wait(left.min(FINISH_STEP));
        }
    }

    fn wait(&self, time: Duration) {
        // A little longer is better than a poll with 0 ms in a tight loop.
        let timeout = time + Duration::from_millis(1);
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::ZERO);
        let fd = self.logger.backend.socket().map(|fd| PollFd::new(fd, PollFlags::POLLOUT));
        // Without a socket this is a sleep. An error ends the waiting early,
        // and the caller looks at the time itself.
        let _ = poll(fd.into_iter().collect::<Vec<_>>().as_mut_slice(), timeout);
    }

    /// Formats the event for both places and puts it into the queue.
    fn push(&mut self, event: &Event) {
        let line = format::line(event);
        self.show(&line);
        let text = line.text.as_str();
        // The queue takes or counts every line and has no errors.
        let _ = match line.severity {
            Severity::Error => self.logger.err(text),
            Severity::Warning => self.logger.warning(text),
            Severity::Notice => self.logger.notice(text),
            Severity::Info => self.logger.info(text),
        };
    }

    fn show(&self, line: &Line) {
        if let Some(stderr) = &self.stderr {
            stderr.write(&line.text);
        }
    }
}

/// What stands before a message, as in RFC 3164, 4.1, without the host name, like the C
/// library's syslog(3).
///
/// The formatter of the `syslog` crate puts the time in UTC there. Many a syslogd
/// takes that for local time, and the audit log would be hours off.
#[derive(Debug)]
struct Header {
    facility: Facility,
    pid: u32,
}

impl LogFormat<&str> for Header {
    fn format<W: Write>(&self, to: &mut W, severity: syslog::Severity, message: &str) -> syslog::Result<()> {
        let priority = self.facility as u8 | severity as u8;
        write_line(to, priority, IDENT, self.pid, message).map_err(syslog::Error::Write)
    }
}

/// Flushes, because that is what ends a line of the [`Queue`].
fn write_line<W: Write>(to: &mut W, priority: u8, ident: &str, pid: u32, message: &str) -> io::Result<()> {
    let time = OffsetDateTime::now_local().unwrap_or_else(|_| OffsetDateTime::now_utc());
    let month = MONTHS.get(usize::from(u8::from(time.month())) - 1).unwrap_or(&"Jan");
    let (day, (hour, minute, second)) = (time.day(), time.to_hms());
    write!(to, "<{priority}>{month} {day:>2} {hour:02}:{minute:02}:{second:02} {ident}[{pid}]: {message}")?;
    to.flush()
}
