//! The audit log against real Unix sockets: a syslogd that comes late,
//! restarts, stops reading or is a stream, and a standard error that is stuck.
//!
//! Tests that need a standard error or a time zone of their own run this
//! program again, with `child_writes_lines` as its only test.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "so a test fails")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::Shutdown;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rlogind::audit::Event;
use rlogind::audit::syslog::Log;

/// Much longer than anything here takes, much shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a call that must not block may take on a busy machine.
const PROMPT: Duration = Duration::from_secs(1);

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn socket(&self) -> PathBuf {
        self.0.path().join("log")
    }

    /// A syslogd that replaces the one before.
    fn syslogd(&self) -> UnixDatagram {
        let _ = fs::remove_file(self.socket());
        let syslogd = UnixDatagram::bind(self.socket()).unwrap();
        syslogd.set_read_timeout(Some(PATIENCE)).unwrap();
        syslogd
    }

    fn log(&self) -> Log {
        Log::open("local3", &self.socket(), false)
    }
}

/// Ends a syslogd. Closing alone is not enough: a child that another test has
/// just forked holds a copy of the socket until its exec.
fn end(syslogd: UnixDatagram) {
    syslogd.shutdown(Shutdown::Both).unwrap();
}

fn event(n: usize) -> Event {
    Event::Warning { text: format!("line {n}") }
}

/// What follows the header of a message.
fn body(message: &str) -> &str {
    message.split_once("]: ").expect("a header").1
}

fn want(n: usize) -> String {
    format!("line {n} event=\"warning\"")
}

fn receive(syslogd: &UnixDatagram) -> String {
    let mut buf = [0; 4096];
    let n = syslogd.recv(&mut buf).unwrap();
    String::from_utf8(buf[..n].to_vec()).unwrap()
}

/// Reads and retries, as the loop of a daemon does at the log's own times,
/// until nothing is left on either side.
fn drain(log: &mut Log, syslogd: &UnixDatagram) -> Vec<String> {
    syslogd.set_nonblocking(true).unwrap();
    let (start, mut buf, mut got) = (Instant::now(), [0; 4096], Vec::new());
    loop {
        assert!(start.elapsed() < PATIENCE, "stuck after {} messages", got.len());
        let retry_at = log.retry_at();
        if let Some(at) = retry_at {
            log.retry(at);
        }
        while let Ok(n) = syslogd.recv(&mut buf) {
            got.push(String::from_utf8(buf[..n].to_vec()).unwrap());
        }
        if retry_at.is_none() {
            return got;
        }
    }
}

#[test]
fn a_message_has_its_header() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    log.write(&event(1), Instant::now());
    let message = receive(&syslogd);
    // local3 is 19, a warning 4; RFC 3164, 4.1.1: 19 * 8 + 4.
    let rest = message.strip_prefix("<156>").expect("priority");
    let (stamp, rest) = rest.split_at("Nov  1 06:51:00 ".len());
    assert!(stamp.bytes().zip(b"Aaa .9 99:99:99 ".iter()).all(|(is, like)| match like {
        b'9' => is.is_ascii_digit(),
        b'.' => is.is_ascii_digit() || is == b' ',
        b'A' => is.is_ascii_uppercase(),
        b'a' => is.is_ascii_lowercase(),
        other => is == *other,
    }));
    assert_eq!(rest, format!("rlogind[{}]: {}", std::process::id(), want(1)));
    assert_eq!(log.retry_at(), None);
}

#[test]
fn what_was_counted_is_written_when_it_is_due_and_at_the_end() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    let start = Instant::now();
    let refused = Event::Refused {
        peer: "192.0.2.7:1023".parse().unwrap(),
        reason: "too many connections".to_owned(),
        count: 1,
    };
    let count = |line: &String| line.contains(" count=\"5\"");
    for _ in 0..15 {
        log.write(&refused, start);
    }
    let lines: Vec<String> = (0..10).map(|_| receive(&syslogd)).collect();
    assert!(!lines.iter().any(count), "{lines:#?}");
    let due = log.retry_at().unwrap();
    assert_eq!(due, start + Duration::from_secs(60));
    log.retry(due);
    assert!(count(&receive(&syslogd)));
    assert_eq!(log.retry_at(), None);
    for _ in 0..5 {
        log.write(&refused, due);
    }
    log.write(&Event::Stopped { cause: "SIGTERM".to_owned() }, due);
    assert!(count(&receive(&syslogd)));
    assert!(receive(&syslogd).contains("event=\"stopped\""));
    for _ in 0..15 {
        log.write(&refused, due);
    }
    log.finish(Duration::from_secs(1));
    let lines: Vec<String> = (0..11).map(|_| receive(&syslogd)).collect();
    assert_eq!(lines.iter().position(count), Some(10), "{lines:#?}");
    assert_eq!(log.retry_at(), None);
}

#[test]
fn a_syslogd_that_comes_late_gets_everything_in_order() {
    let dir = Dir::new();
    let mut log = dir.log();
    let now = Instant::now();
    for n in 0..500 {
        log.write(&event(n), now);
    }
    assert!(log.retry_at().is_some());
    let syslogd = dir.syslogd();
    let messages = drain(&mut log, &syslogd);
    assert_eq!(messages.len(), 500);
    for (n, message) in messages.iter().enumerate() {
        assert_eq!(body(message), want(n));
    }
}

#[test]
fn a_syslogd_that_restarts_misses_nothing_written_after_it_left() {
    let dir = Dir::new();
    let mut log = dir.log();
    let mut now = Instant::now();
    for round in 0..3 {
        let syslogd = dir.syslogd();
        // The connection breaks with this line, and it must not be lost.
        log.write(&event(round), now);
        assert_eq!(body(&receive(&syslogd)), want(round));
        assert_eq!(log.retry_at(), None, "connected again at once");
        end(syslogd);
        log.write(&event(100), now);
        assert!(log.retry_at().is_some());
        let syslogd = dir.syslogd();
        let messages = drain(&mut log, &syslogd);
        assert_eq!(messages.iter().map(|message| body(message)).collect::<Vec<_>>(), [want(100)]);
        now += Duration::from_secs(10);
    }
}

#[test]
fn a_syslogd_that_stops_reading_costs_only_what_the_queue_cannot_hold() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    let now = Instant::now();
    let written = 5000;
    let mut slowest = Duration::ZERO;
    for n in 0..written {
        let start = Instant::now();
        log.write(&event(n), now);
        slowest = slowest.max(start.elapsed());
    }
    assert!(slowest < PROMPT, "{slowest:?}");
    assert!(log.retry_at().is_some());

    let mut messages = drain(&mut log, &syslogd);
    log.write(&event(written), now);
    messages.extend(drain(&mut log, &syslogd));
    // How many lines the socket itself held is the kernel's affair.
    let kept = messages.len() - 2;
    assert!((1000..written).contains(&kept), "{kept}");
    for (n, message) in messages[..kept].iter().enumerate() {
        assert_eq!(body(message), want(n));
    }
    let lost = written - kept;
    assert!(body(&messages[kept]).ends_with(&format!("event=\"lines-lost\" lines=\"{lost}\"")));
    assert_eq!(body(&messages[kept + 1]), want(written), "and it goes on");
}

#[test]
fn lines_of_modules_have_another_name_and_push_out_none_of_ours() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    let now = Instant::now();
    log.write_module_line(7, None, 3, "a\nb \"c\"", now);
    let message = receive(&syslogd);
    // authpriv is 10, whatever is configured for ours.
    assert!(message.starts_with("<83>"), "{message}");
    assert!(message.ends_with(r" rlogind-session[7]: a\x0ab \x22c\x22"), "{message}");
    // No severity makes another facility of it, and no length a line that syslogd cannot take.
    log.write_module_line(7, None, 255, &"\n".repeat(1000), now);
    let message = receive(&syslogd);
    assert!(message.starts_with("<87>") && message.len() < 1100, "{message}");

    // A syslogd that stops reading, and modules that do not stop logging.
    for n in 0..5000 {
        log.write_module_line(7, None, 6, &format!("module {n}"), now);
    }
    for n in 0..400 {
        log.write(&event(n), now);
    }
    let got = drain(&mut log, &syslogd);
    let of_modules = got.iter().filter(|message| message.contains(" rlogind-session[7]: module ")).count();
    let ours: Vec<&str> =
        got.iter().filter(|message| message.contains(" rlogind[")).map(|message| body(message)).collect();
    assert_eq!(ours.len(), 401);
    assert!((0..400).all(|n| ours.contains(&want(n).as_str())), "{ours:#?}");
    assert!((500..700).contains(&of_modules), "{of_modules}");
    let lost = format!("lines of PAM modules lost because syslog did not take them: {}", 5000 - of_modules);
    assert!(ours.last().is_some_and(|last| last.starts_with(&lost)), "{lost}: {:?}", ours.last());
}

#[test]
fn lines_of_modules_before_a_login_are_counted_across_processes() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    let (now, peer) = (Instant::now(), "192.0.2.7:1023".parse().unwrap());
    let of_modules = |got: &[String]| got.iter().filter(|line| line.contains(" rlogind-session[")).count();
    for process in 0..300 {
        log.write_module_line(process, Some(peer), 6, "no such user", now);
    }
    // Who is logged in is no stranger, and who comes from elsewhere is another one.
    log.write_module_line(400, None, 6, "of a session", now);
    log.write_module_line(401, Some("192.0.2.8:1023".parse().unwrap()), 6, "of another one", now);
    let got = drain(&mut log, &syslogd);
    assert_eq!(of_modules(&got), 102, "{got:#?}");
    for text in ["rlogind-session[400]: of a session", "rlogind-session[401]: of another one"] {
        assert!(got.iter().any(|line| line.ends_with(text)), "{text}: {got:#?}");
    }
    let number = got.iter().find(|line| line.contains(" event=\"module-lines\"")).unwrap();
    assert!(number.ends_with(" address=\"192.0.2.7\" port=\"1023\" count=\"200\""), "{number}");
    assert_eq!(got.len(), 103, "{got:#?}");
}

#[test]
fn a_loss_is_reported_before_anything_later() {
    let dir = Dir::new();
    let mut log = dir.log();
    let now = Instant::now();
    for n in 0..1002 {
        log.write(&event(n), now);
    }
    let syslogd = dir.syslogd();
    // The first thing after the gap is a line, not a retry.
    log.write(&event(2000), log.retry_at().unwrap());
    let messages = drain(&mut log, &syslogd);
    assert_eq!(messages.len(), 1002);
    assert_eq!(body(&messages[999]), want(999));
    assert!(body(&messages[1000]).ends_with("event=\"lines-lost\" lines=\"2\""), "{}", messages[1000]);
    assert_eq!(body(&messages[1001]), want(2000));
}

#[test]
fn while_there_is_no_room_for_the_report_nothing_overtakes_it() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    let now = Instant::now();
    for n in 0..5000 {
        log.write(&event(n), now);
    }
    // One line fits again, but not the report as well.
    let first = receive(&syslogd);
    log.write(&event(5000), now);
    let messages = drain(&mut log, &syslogd);
    let (report, lines) = messages.split_last().unwrap();
    assert_eq!(body(&first), want(0));
    for (n, message) in lines.iter().enumerate() {
        assert_eq!(body(message), want(n + 1));
    }
    let lost = 5001 - 1 - lines.len();
    assert!(report.ends_with(&format!("event=\"lines-lost\" lines=\"{lost}\"")), "{report}");
}

fn until_nul(reader: &mut BufReader<UnixStream>) -> String {
    let mut message = Vec::new();
    reader.read_until(0, &mut message).unwrap();
    assert_eq!(message.pop(), Some(0));
    String::from_utf8(message).unwrap()
}

fn accept(listener: &UnixListener) -> BufReader<UnixStream> {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn a_stream_syslogd_gets_lines_that_end_in_nul() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.socket()).unwrap();
    let mut log = dir.log();
    let now = Instant::now();
    log.write(&event(1), now);
    log.write(&event(2), now);
    let mut first = accept(&listener);
    assert_eq!(body(&until_nul(&mut first)), want(1));
    assert_eq!(body(&until_nul(&mut first)), want(2));
    // The daemon restarts.
    first.get_ref().shutdown(Shutdown::Both).unwrap();
    drop(listener);
    fs::remove_file(dir.socket()).unwrap();
    log.write(&event(3), now);
    let listener = UnixListener::bind(dir.socket()).unwrap();
    log.retry(log.retry_at().unwrap());
    assert_eq!(body(&until_nul(&mut accept(&listener))), want(3));
}

#[test]
fn a_stream_syslogd_that_stops_reading_gets_whole_lines_in_order_later() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.socket()).unwrap();
    let mut log = dir.log();
    let now = Instant::now();
    let text = "x".repeat(500);
    let mut written = 0;
    // Until the socket is full, most likely within a line, and then some.
    while log.retry_at().is_none() {
        log.write(&Event::Warning { text: format!("{written} {text}") }, now);
        written += 1;
    }
    for _ in 0..50 {
        log.write(&Event::Warning { text: format!("{written} {text}") }, now);
        written += 1;
    }
    let reader = std::thread::spawn(move || {
        let mut reader = accept(&listener);
        (0..written).map(|_| until_nul(&mut reader)).collect::<Vec<_>>()
    });
    log.finish(PATIENCE);
    for (n, message) in reader.join().unwrap().iter().enumerate() {
        assert!(body(message).starts_with(&format!("{n} xxx")), "{message}");
    }
}

#[test]
fn a_stream_syslogd_with_a_full_backlog_does_not_block() {
    let dir = Dir::new();
    let listener = UnixListener::bind(dir.socket()).unwrap();
    // A backlog of none: listen(2) again changes it.
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let _waiting = UnixStream::connect(dir.socket()).unwrap();
    let mut log = dir.log();
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        log.write(&event(1), Instant::now());
        done.send(log.retry_at().is_some())
    });
    let waits = is_done.recv_timeout(PATIENCE).expect("it blocks");
    assert!(waits, "the backlog was not full");
}

#[test]
fn finish_waits_for_a_busy_syslogd_and_gives_up_on_a_dead_one() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let mut log = dir.log();
    for n in 0..500 {
        log.write(&event(n), Instant::now());
    }
    let reader = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        (0..500).map(|_| receive(&syslogd)).collect::<Vec<_>>()
    });
    log.finish(PATIENCE);
    for (n, message) in reader.join().unwrap().iter().enumerate() {
        assert_eq!(body(message), want(n));
    }

    let dir = Dir::new();
    let mut log = dir.log();
    log.write(&event(0), Instant::now());
    let (start, patience) = (Instant::now(), Duration::from_millis(200));
    log.finish(patience);
    assert!(start.elapsed() >= patience);
    assert!(start.elapsed() < patience + PROMPT);
}

/// Writes as many lines as it is told, with standard error as it is. Without
/// another test that runs it in a process of its own it has nothing to do.
#[test]
fn child_writes_lines() {
    let Some(socket) = std::env::var_os("AUDIT_SOCKET") else { return };
    let lines: usize = std::env::var("AUDIT_LINES").unwrap().parse().unwrap();
    let mut log = Log::open("authpriv", Path::new(&socket), true);
    for n in 0..lines {
        log.write(&event(n), Instant::now());
        // Never more than the queue holds, however busy the machine is.
        if n % 500 == 0 {
            log.finish(PATIENCE);
        }
    }
    log.finish(PATIENCE);
}

fn child(dir: &Dir, lines: usize, stderr: impl Into<Stdio>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child_writes_lines", "--nocapture"])
        .env("AUDIT_SOCKET", dir.socket())
        .env("AUDIT_LINES", lines.to_string())
        .stdout(Stdio::null())
        .stderr(stderr);
    command
}

fn wait(mut child: Child) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    panic!("stuck");
}

/// Everything that a child writes to standard error besides our lines is
/// libtest's and does not look like them.
fn assert_lines(text: &str, count: usize) {
    let lines: Vec<_> = text.lines().filter(|line| line.ends_with("event=\"warning\"")).collect();
    assert_eq!(lines, (0..count).map(want).collect::<Vec<_>>());
}

#[test]
fn the_same_lines_go_to_standard_error() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let process = child(&dir, 3, writer).spawn().unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    wait(process);
    assert_lines(&text, 3);
    for n in 0..3 {
        assert_eq!(body(&receive(&syslogd)), want(n));
    }
}

#[test]
fn standard_error_may_be_a_file_or_a_socket() {
    let dir = Dir::new();
    let _syslogd = dir.syslogd();
    let path = dir.0.path().join("stderr");
    // What other processes write through the same descriptor stays.
    let file = fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut &file, b"before\n").unwrap();
    wait(child(&dir, 3, file.try_clone().unwrap()).spawn().unwrap());
    std::io::Write::write_all(&mut &file, b"after\n").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
    assert_lines(&text, 3);

    let (ours, theirs) = UnixStream::pair().unwrap();
    wait(child(&dir, 3, std::os::fd::OwnedFd::from(theirs)).spawn().unwrap());
    let mut text = String::new();
    (&ours).read_to_string(&mut text).unwrap();
    assert_lines(&text, 3);
}

#[test]
fn a_standard_error_that_nobody_reads_does_not_block() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let reader = std::thread::spawn(move || (0..3000).map(|_| receive(&syslogd)).collect::<Vec<_>>());
    let (stuck, writer) = std::io::pipe().unwrap();
    let process = child(&dir, 3000, writer).spawn().unwrap();
    wait(process);
    drop(stuck);
    // All of it is more than a pipe holds, and syslog has it all.
    let messages = reader.join().unwrap();
    assert!(messages.iter().map(String::len).sum::<usize>() > 65536 + 4096);
    assert_eq!(body(messages.last().unwrap()), want(2999));
}

#[test]
fn a_standard_error_that_is_closed_does_not_kill() {
    let dir = Dir::new();
    let syslogd = dir.syslogd();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    wait(child(&dir, 3, writer).spawn().unwrap());
    for n in 0..3 {
        assert_eq!(body(&receive(&syslogd)), want(n));
    }
}

#[test]
fn the_time_is_local_time() {
    let stamp = |zone: &str| {
        let dir = Dir::new();
        let syslogd = dir.syslogd();
        wait(child(&dir, 1, Stdio::null()).env("TZ", zone).spawn().unwrap());
        let message = receive(&syslogd);
        let clock = &message["<84>Nov 21 ".len()..][..5];
        let (hours, minutes) = clock.split_once(':').unwrap();
        hours.parse::<i32>().unwrap() * 60 + minutes.parse::<i32>().unwrap()
    };
    // POSIX counts west of Greenwich; so this is UTC+05:45.
    let ahead = (stamp("TST-5:45") - stamp("UTC0")).rem_euclid(24 * 60);
    assert!((5 * 60 + 44..=5 * 60 + 45).contains(&ahead), "{ahead} minutes");
}
