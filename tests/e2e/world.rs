//! A machine of its own for each test.
//!
//! [`world`] runs the test's executable once more, with the one test to run, as
//! process 1's only child in new namespaces that `world.sh` furnishes. So the
//! test itself lives inside, and uses files, sockets and processes plainly; with
//! it end all processes it left. It must never touch anything before it is inside.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::accounts::{Account, ROOT};
use crate::audit::Audit;
use crate::daemon::Daemon;
use crate::terminal::{Client, Terminal};

/// Set for the copy of the test that runs inside.
const INSIDE: &str = "RLOGIND_E2E_INSIDE";
/// Names a file that lists the tests which did not run.
const SKIPPED_LIST: &str = "RLOGIND_E2E_SKIPPED";
/// No test takes nearly as long; then it and all its processes are ended.
const LONGEST: &str = "180";
/// So many seconds instead, for those that are told to do much more than usually.
const LONGEST_INSTEAD: &str = "RLOGIND_E2E_LONGEST";

/// The machine, seen from inside.
pub(crate) struct World {
    /// All that was sent to syslog so far.
    pub(crate) audit: Audit,
}

/// Runs the test in a machine of its own; returns in the outer process only.
/// The test's name is that of the function whose closure this is given.
pub(crate) fn world<F: FnOnce(&World)>(test: F) {
    if is_inside() {
        let world = World { audit: Audit::listen() };
        test(&world);
    } else if let Some(missing) = missing_here() {
        skip(&format!("{}: {missing}", test_name::<F>()));
    } else {
        run_inside(test_name::<F>());
    }
}

/// Whether this is the copy of the test that runs inside.
pub(crate) fn is_inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Says that the test did not run; in CI that is a failure.
pub(crate) fn skip(why: &str) {
    assert!(env::var_os("CI").is_none(), "not run: {why}");
    eprintln!("SKIPPED: {why}");
    // A test runner hides what a test prints; this file is shown when all have run.
    if let Some(list) = env::var_os(SKIPPED_LIST).filter(|_| !is_inside()) {
        let mut list = File::options().create(true).append(true).open(list).unwrap();
        writeln!(list, "SKIPPED: {why}").unwrap();
    }
}

/// What this machine lacks to make another one.
fn missing_here() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root, to make namespaces");
    }
    let missing = |tool: &&str| find_program(tool).is_none();
    ["unshare", "setpriv", "ip", "mount", "stty", "ps"].into_iter().find(missing)
}

/// Where a program of that name is.
pub(crate) fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// `e2e::login::a_test::{{closure}}` is the test `login::a_test`.
fn test_name<F>() -> &'static str {
    let name = std::any::type_name::<F>();
    name.split_once("::")
        .and_then(|(_crate, rest)| rest.strip_suffix("::{{closure}}"))
        .expect("a closure's name")
}

fn run_inside(name: &str) {
    let longest = env::var(LONGEST_INSTEAD).unwrap_or_else(|_| LONGEST.to_owned());
    // setpriv: whoever ends this process, by whatever means, ends the others too.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "timeout", "--foreground", "-s", "KILL", &longest])
        .args(["setpriv", "--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--mount-proc", "--kill-child=KILL"])
        .args([
            "sh",
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/world.sh"),
            env!("CARGO_BIN_EXE_rlogind"),
        ])
        .arg(env::current_exe().unwrap())
        .args([name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("RUST_BACKTRACE", "0")
        .env_remove("NEXTEST")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    eprint!("{complained}");
    print!("{told}");
    if let Some(why) = complained.lines().find_map(|line| line.strip_prefix("SKIPPED: ")) {
        skip(&format!("{name}: {why}"));
    }
    assert!(output.status.success(), "failed inside: {}", output.status);
    assert!(told.contains(" 1 passed;"), "the test did not run inside");
}

impl World {
    /// Starts the daemon on all addresses, port 513, with this configuration.
    pub(crate) fn serve(&self, config: &str) -> Daemon {
        Daemon::start(config)
    }

    /// A client program on a terminal of its own; `None` (and SKIPPED) when it is not installed.
    pub(crate) fn client(&self, client: Client, local: Account, args: &[&str]) -> Option<Terminal> {
        if find_program(client.program()).is_none() {
            skip(&format!("there is no {}", client.program()));
            return None;
        }
        let screen = Terminal::start(client, local, args);
        if client == Client::Plink {
            screen.leave_line_mode();
        }
        Some(screen)
    }

    /// PuTTY's client as root, its terminal as it leaves it: in line mode, with echo.
    pub(crate) fn line_mode_plink(&self, args: &[&str]) -> Option<Terminal> {
        if find_program(Client::Plink.program()).is_none() {
            skip("there is no plink");
            return None;
        }
        Some(Terminal::start(Client::Plink, ROOT, args))
    }

    /// Writes a file that belongs to that account, mode 0600.
    pub(crate) fn write_for(&self, account: Account, path: &str, text: &str) {
        fs::write(path, text).unwrap();
        chown(path, Some(account.uid), Some(account.uid)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes `/etc/hosts.equiv`.
    pub(crate) fn hosts_equiv(&self, text: &str) {
        fs::write("/etc/hosts.equiv", text).unwrap();
        fs::set_permissions("/etc/hosts.equiv", fs::Permissions::from_mode(0o644)).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- syslog received:\n{}\n---", self.audit.text());
        }
    }
}

/// Waits until the probe says something; panics with `what` when it does not in time.
pub(crate) fn eventually<T>(what: &str, timeout: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {timeout:?}: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where the tests put what the daemon writes to standard error.
pub(crate) fn stderr_file() -> &'static Path {
    Path::new("/mnt/stderr")
}
