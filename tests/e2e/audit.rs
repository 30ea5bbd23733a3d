//! The syslogd of a test's machine: collects what is sent to `/dev/log`.

use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::world::eventually;

/// The lines received so far; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Audit {
    lines: Arc<Mutex<Vec<String>>>,
}

impl Audit {
    /// Binds `/dev/log` and collects from now on.
    pub(crate) fn listen() -> Audit {
        let socket = UnixDatagram::bind("/dev/log").unwrap();
        let audit = Audit::default();
        let lines = Arc::clone(&audit.lines);
        thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length) = socket.recv(&mut buffer) {
                lines.lock().unwrap().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            }
        });
        audit
    }

    /// All lines, for a person or a search through everything.
    pub(crate) fn text(&self) -> String {
        self.lines.lock().unwrap().join("\n")
    }

    /// How many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// All lines but the first so many.
    pub(crate) fn since(&self, first: usize) -> Vec<String> {
        self.lines.lock().unwrap()[first..].to_vec()
    }

    /// The daemon's lines of one kind of event, e.g. `session-opened`.
    pub(crate) fn of(&self, event: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|line| field(line, "event") == Some(event)).cloned().collect()
    }

    /// Waits for a line of that kind, and returns the first.
    pub(crate) fn wait(&self, event: &str) -> String {
        eventually(&format!("an audit line {event}"), Duration::from_secs(10), || {
            self.of(event).into_iter().next()
        })
    }

    /// Waits for so many lines of that kind, and fails when more come.
    pub(crate) fn wait_count(&self, event: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} audit lines {event}"), Duration::from_secs(20), || {
            (self.of(event).len() >= count).then_some(())
        });
        thread::sleep(Duration::from_millis(300));
        let found = self.of(event);
        assert_eq!(found.len(), count, "audit lines {event}: {found:#?}");
        found
    }
}

/// How many events these lines stand for.
pub(crate) fn total(lines: &[String]) -> usize {
    lines.iter().map(|line| field(line, "count").map_or(1, |count| count.parse().unwrap())).sum()
}

/// The value of `key="value"` in a line.
pub(crate) fn field<'l>(line: &'l str, key: &str) -> Option<&'l str> {
    let start = line.find(&format!(" {key}=\""))? + key.len() + 3;
    let rest = &line[start..];
    rest.find('"').map(|end| &rest[..end])
}
