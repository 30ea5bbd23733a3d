//! A real client program on a terminal of its own, driven as a person would.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::accounts::{Account, PROMPT};
use crate::world::eventually;

/// How long anything on a screen may take, unless a test says otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The client programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// Debian's rsh-client: the BSD client.
    Netkit,
    /// Debian's rsh-redone-client: never handles ^S and ^Q itself, and has no escape character.
    RshRedone,
    /// PuTTY's; sends no client user, and ignores all urgent bytes but the window request.
    Plink,
    /// C-Kermit, whose commands say what it does. It answers each urgent byte with a read that waits for output.
    Kermit,
}

impl Client {
    /// The program's name: the names that are there even when several clients are installed.
    pub(crate) fn program(self) -> &'static str {
        match self {
            Client::Netkit => "netkit-rlogin",
            Client::RshRedone => "rsh-redone-rlogin",
            Client::Plink => "plink",
            Client::Kermit => "kermit",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            // Without -8, with which it would leave ^S and ^Q alone whatever the server says.
            Client::Netkit | Client::RshRedone => &[],
            Client::Plink => &["-rlogin"],
            // Without anybody's own commands, and then those that follow.
            Client::Kermit => &["-Y", "-C"],
        }
    }
}

/// What came to the screen so far, and whether that was all.
#[derive(Default)]
struct Screen {
    bytes: Vec<u8>,
    ended: bool,
}

/// A client program and the terminal it runs on.
pub(crate) struct Terminal {
    master: File,
    /// The terminal's name on the client's side, e.g. `/dev/pts/0`.
    pub(crate) tty: String,
    child: Child,
    screen: Arc<(Mutex<Screen>, Condvar)>,
    /// Everything before this was expected already.
    seen: usize,
}

impl Terminal {
    /// Starts the client as that local account on a terminal of 24 lines of 80 characters.
    pub(crate) fn start(client: Client, local: Account, args: &[&str]) -> Terminal {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let tty = ptsname_r(&master).unwrap();
        set_size(&tty, 24, 80);
        // Without O_NOCTTY, yet no hazard: only a session leader acquires a terminal so.
        let slave = File::options().read(true).write(true).open(&tty).unwrap();
        let id = local.uid.to_string();
        let child = Command::new("setsid")
            .args(["--ctty", "setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", client.program()])
            .args(client.options())
            .args(args)
            .env_clear()
            .envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("TERM", "vt100"), ("HOME", "/tmp")])
            .current_dir("/")
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave)
            .spawn()
            .unwrap();
        let master = File::from(master.as_fd().try_clone_to_owned().unwrap());
        let screen = Arc::new((Mutex::new(Screen::default()), Condvar::new()));
        collect(master.try_clone().unwrap(), Arc::clone(&screen));
        Terminal { master, tty, child, screen, seen: 0 }
    }

    /// Types.
    pub(crate) fn send(&mut self, text: impl AsRef<[u8]>) {
        self.master.write_all(text.as_ref()).unwrap();
    }

    /// Waits for the text and returns what came before it.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.expect_within(text, PATIENCE)
    }

    /// The same with a time limit of its own.
    pub(crate) fn expect_within(&mut self, text: &str, timeout: Duration) -> String {
        let (lock, changed) = &*self.screen;
        let deadline = Instant::now() + timeout;
        let mut screen = lock.lock().unwrap();
        let mut searched = self.seen;
        loop {
            if let Some(at) = find(&screen.bytes[searched..], text.as_bytes()) {
                let before = &screen.bytes[self.seen..searched + at];
                self.seen = searched + at + text.len();
                return String::from_utf8_lossy(before).into_owned();
            }
            // What is searched for may have begun in the last bytes.
            searched = searched.max((screen.bytes.len() + 1).saturating_sub(text.len()));
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || screen.ended {
                let rest = String::from_utf8_lossy(&screen.bytes[self.seen..]).into_owned();
                let end = if screen.ended { "the client ended" } else { "not in time" };
                drop(screen);
                panic!("{text:?} is not on the screen ({end}); there is {:?}", shorten(&rest));
            }
            screen = changed.wait_timeout(screen, left).unwrap().0;
        }
    }

    /// All that came so far and was not expected yet.
    pub(crate) fn rest(&self) -> String {
        String::from_utf8_lossy(&self.screen.0.lock().unwrap().bytes[self.seen..]).into_owned()
    }

    /// All that ever came to the screen.
    pub(crate) fn everything(&self) -> String {
        String::from_utf8_lossy(&self.screen.0.lock().unwrap().bytes).into_owned()
    }

    /// How many bytes came so far.
    pub(crate) fn count(&self) -> usize {
        self.screen.0.lock().unwrap().bytes.len()
    }

    /// Gives the password and waits for the shell.
    pub(crate) fn log_in(&mut self, account: Account) {
        self.expect("Password: ");
        self.send(format!("{}\r", account.password));
        self.expect(PROMPT);
    }

    /// Runs a command in the remote shell, which must be at its prompt, and
    /// returns what it wrote; it must succeed. The shell must be one without line editing.
    pub(crate) fn run(&mut self, command: &str) -> String {
        // The quotes keep the echo of this line from looking like the answer.
        self.send(format!("{command}; echo \"@\"\"@$?@\"\r"));
        self.expect("\r\n");
        let output = self.expect("@@");
        let status = self.expect("@");
        self.expect(PROMPT);
        assert_eq!(status, "0", "{command:?} failed: {output}");
        output.replace("\r\n", "\n").trim_end().to_owned()
    }

    /// Changes the size of the client's terminal; the kernel tells the client with SIGWINCH.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.tty, rows, columns);
    }

    /// Makes the terminal raw once plink has set it up: for rlogin it leaves
    /// lines and echo to the terminal, and a graphical PuTTY would not.
    pub(crate) fn leave_line_mode(&self) {
        self.wait_setting("parmrk");
        let status = Command::new("stty").args(["-F", &self.tty, "raw", "-echo"]).status().unwrap();
        assert!(status.success());
    }

    /// The settings of the client's terminal, as stty(1) prints them.
    pub(crate) fn settings(&self) -> Vec<String> {
        let output = Command::new("stty").args(["-a", "-F", &self.tty]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split([' ', ';', '\n']).map(str::to_owned).collect()
    }

    /// Waits until stty(1) names that setting (e.g. `-ixon`) of the client's terminal.
    pub(crate) fn wait_setting(&self, setting: &str) {
        eventually(&format!("the client sets {setting}"), PATIENCE, || {
            self.settings().iter().any(|word| word == setting).then_some(())
        });
    }

    /// Waits for the client to end by itself and all it wrote to be there.
    pub(crate) fn wait_end(&mut self, timeout: Duration) -> ExitStatus {
        let child = &mut self.child;
        let status = eventually("the client ends", timeout, || child.try_wait().unwrap());
        let screen = &self.screen;
        eventually("the client's terminal closes", PATIENCE, || screen.0.lock().unwrap().ended.then_some(()));
        status
    }

    /// Kills the client, so that its connection breaks off.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the client's screen:\n{:?}\n---", shorten(&self.everything()));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the terminal into the screen until the client has closed it (EIO).
fn collect(mut master: File, screen: Arc<(Mutex<Screen>, Condvar)>) {
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        loop {
            let length = master.read(&mut buffer).unwrap_or(0);
            let mut now = screen.0.lock().unwrap();
            now.bytes.extend_from_slice(&buffer[..length]);
            now.ended = length == 0;
            screen.1.notify_all();
            if now.ended {
                return;
            }
        }
    });
}

fn set_size(tty: &str, rows: u16, columns: u16) {
    let (rows, columns) = (rows.to_string(), columns.to_string());
    let status = Command::new("stty").args(["-F", tty, "rows", &rows, "columns", &columns]).status().unwrap();
    assert!(status.success());
}

/// Where the needle first is.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// The end of a long text.
fn shorten(text: &str) -> &str {
    let start = (text.len().saturating_sub(3000)..).find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    &text[start..]
}

/// How many terminals there are in this machine.
pub(crate) fn terminals() -> usize {
    let names = fs::read_dir("/dev/pts").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name != "ptmx").count()
}
