//! The program that stalls: it keeps a lock of the kernel's for as long as it likes.
//!
//! It runs as an ordinary user, with nothing but what every user has. In a user namespace of its own it mounts a
//! file system of its own (FUSE), which has one file whose pages never arrive. It hands such a page to a system call
//! that copies to or from it while it holds a lock; so whoever needs the lock waits until the file system's server is killed.
//!
//! The program is this very test executable, started by the script [`SCRIPT`] as the one test [`program`]. It
//! tells how far it is in files beside its folder (see [`note_path`]), for the terminal may be what stands still.

use std::env;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::unistd::{ForkResult, Pid, fork};

use super::fuse::{Device, LENGTH};
use crate::processes;
use crate::world::{eventually, skip};

/// What a user starts, with the task behind it; world.sh's `/mnt` is everybody's to read.
pub(crate) const SCRIPT: &str = "/mnt/stall";
const EXECUTABLE: &str = "/mnt/staller";
/// The variable with the task.
const TASK: &str = "RLOGIND_E2E_STALL";

/// Puts the program where users find it; false (and SKIPPED) when an ordinary user cannot stall here.
pub(crate) fn install() -> bool {
    fs::copy(env::current_exe().unwrap(), EXECUTABLE).unwrap();
    let name = format!("{}::program", module_path!().split_once("::").unwrap().1);
    let script = format!(
        "#!/bin/sh\n{TASK}=\"$*\" exec {EXECUTABLE} {name} --exact --ignored --test-threads=1 >/dev/null 2>&1\n"
    );
    fs::write(SCRIPT, script).unwrap();
    for file in [EXECUTABLE, SCRIPT] {
        fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    }
    // As udev makes it; the machine's own may be closed to users.
    let made = Command::new("mknod").args(["-m", "666", "/dev/fuse", "c", "10", "229"]).status().unwrap();
    if !made.success() {
        skip("there is no /dev/fuse");
        return false;
    }
    let stall = Stall::by("alice", 1001);
    stall.start("serve");
    let begun = eventually("the program starts", Duration::from_secs(10), || {
        stall.note("failed").map(Err).or_else(|| stall.note("ready").map(Ok))
    });
    drop(stall);
    if let Err(why) = &begun {
        skip(&format!("an ordinary user cannot stall here: {why}"));
    }
    begun.is_ok()
}

/// A user who stalls; ends all of that user's processes when dropped.
#[derive(Debug)]
pub(crate) struct Stall {
    user: &'static str,
    uid: u32,
}

impl Stall {
    pub(crate) fn by(user: &'static str, uid: u32) -> Stall {
        Stall { user, uid }
    }

    /// Starts the program without a login and without a terminal.
    pub(crate) fn start(&self, task: &str) {
        let id = self.uid.to_string();
        Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups", "setsid", "-f", SCRIPT, task])
            .env("HOME", format!("/home/{}", self.user))
            .stdin(Stdio::null())
            .status()
            .unwrap();
    }

    /// What the program has noted under that name.
    pub(crate) fn note(&self, name: &str) -> Option<String> {
        // A note that is empty is still being written.
        fs::read_to_string(note_path(&format!("/home/{}", self.user), name))
            .ok()
            .filter(|text| !text.is_empty())
    }

    /// Waits until the program has noted that, e.g. `on`: it stalls.
    pub(crate) fn wait(&self, name: &str) -> String {
        eventually(&format!("the program notes {name:?}"), Duration::from_secs(15), || {
            assert_eq!(self.note("failed"), None, "the program cannot stall");
            self.note(name)
        })
    }

    /// Ends the stall and every process of the user.
    pub(crate) fn release(&self) {
        assert!(self.try_release(), "processes of {} are left:\n{}", self.user, processes::table());
        for name in ["ready", "on", "failed"] {
            let _ = fs::remove_file(note_path(&format!("/home/{}", self.user), name));
        }
    }

    fn try_release(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            // What waits for a page ends when the server has ended; a zombie is its parent's.
            let all = processes::all().into_iter();
            let left: Vec<_> =
                all.filter(|process| process.uid == self.uid && process.state != 'Z').collect();
            if left.is_empty() || deadline < Instant::now() {
                return left.is_empty();
            }
            for process in left {
                let _ = kill(Pid::from_raw(i32::try_from(process.pid).unwrap()), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.try_release();
        for name in ["ready", "on", "failed"] {
            let _ = fs::remove_file(note_path(&format!("/home/{}", self.user), name));
        }
    }
}

/// A directory on a file system that has stopped answering; it is back to what it was when dropped.
#[derive(Debug)]
pub(crate) struct Hung {
    server: Child,
    directory: &'static str,
}

impl Hung {
    /// Mounts it, as root; [`install`] comes first.
    pub(crate) fn mount(directory: &'static str) -> Hung {
        let server =
            Command::new(SCRIPT).args(["hang", directory]).env("HOME", "/mnt").stdin(Stdio::null()).spawn();
        let hung = Hung { server: server.unwrap(), directory };
        eventually("the file system is mounted", Duration::from_secs(10), || {
            assert_eq!(fs::read_to_string(note_path("/mnt", "failed")).ok(), None, "it cannot be mounted");
            fs::exists(note_path("/mnt", "ready")).unwrap().then_some(())
        });
        hung
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").args(["-l", self.directory]).status();
        let _ = fs::remove_file(note_path("/mnt", "ready"));
    }
}

/// The file `name` of a user's notes. `failed`: why it cannot stall. `ready`: it is about to. `on`: it does.
fn note_path(home: &str, name: &str) -> String {
    format!("{home}/stall.{name}")
}

// From here on, inside the program.

fn home() -> String {
    env::var("HOME").unwrap()
}

fn note(name: &str, text: &str) {
    fs::write(note_path(&home(), name), text).unwrap();
}

#[test]
#[ignore = "the program of the tests in stalls, which they start themselves"]
fn program() {
    let Ok(task) = env::var(TASK) else { return };
    // It stays, whatever becomes of its terminal.
    for ignored in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT, Signal::SIGTTOU, Signal::SIGTTIN] {
        // SAFETY: no handler is installed.
        unsafe { signal(ignored, SigHandler::SigIgn) }.unwrap();
    }
    let words: Vec<&str> = task.split(' ').collect();
    if let Err(why) = perform(&words) {
        note("failed", &format!("{task}: {why}"));
    }
}

fn perform(words: &[&str]) -> io::Result<()> {
    match *words {
        ["hang", directory] => return Device::mount(directory)?.hang(|| note("ready", "mounted")),
        ["lock", ..] => return lock(&words[1..]),
        ["epoll"] => return watch_terminal(),
        ["discipline"] => return change_discipline(),
        ["drain"] => return wait_for_output(),
        _ => {}
    }
    // Only a process with a single thread may have a user namespace of its own, and a test has several.
    // SAFETY: the test harness's other thread only waits, so no lock is held that the child needs.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            nix::sys::wait::waitpid(child, None)?;
        }
        ForkResult::Child => {
            if let Err(why) = stall(words) {
                note("failed", &format!("{words:?}: {why}"));
            }
            std::process::exit(0);
        }
    }
    Ok(())
}

/// Hands a page that never arrives to a system call.
fn stall(words: &[&str]) -> io::Result<()> {
    let target = match *words {
        ["list" | "file", path] => Some(File::open(path)?),
        _ => None,
    };
    let page = missing_page()?;
    // By way of this process the user's others find the file system.
    note("ready", &std::process::id().to_string());
    let file = target.as_ref().map_or(0, AsRawFd::as_raw_fd);
    // SAFETY: the page is a mapping of our own, at least as long as what is said here.
    let result = unsafe {
        match words[0] {
            "winsize" => i64::from(libc::ioctl(0, libc::TIOCGWINSZ, page)),
            "write" => i64::try_from(libc::write(0, page, 10)).unwrap(),
            "read" | "file" => i64::try_from(libc::read(file, page, 4096)).unwrap(),
            "list" => libc::syscall(libc::SYS_getdents64, file, page, LENGTH),
            "serve" => wait_for_ever(),
            other => return Err(io::Error::other(format!("no task {other}"))),
        }
    };
    Err(io::Error::other(format!("the call came back with {result}: {}", io::Error::last_os_error())))
}

fn wait_for_ever() -> ! {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Maps the file of a file system of our own, whose server goes on in a process of its own.
fn missing_page() -> io::Result<*mut libc::c_void> {
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    // SAFETY: no memory is involved.
    nix::errno::Errno::result(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))?;
    let folder = format!("{}/stall", home());
    fs::create_dir_all(&folder)?;
    let device = Device::mount(&folder)?;
    // SAFETY: this process has no other thread.
    if let ForkResult::Child = unsafe { fork() }? {
        let _ = device.serve(|| note("on", &std::process::id().to_string()));
        std::process::exit(0);
    }
    drop(device);
    let file = OpenOptions::new().read(true).write(true).open(format!("{folder}/f"))?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, which overlaps nothing.
    let page = unsafe { libc::mmap(ptr::null_mut(), LENGTH, access, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if page == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(page) }
}

// What needs no file system.

/// Keeps read locks on files.
fn lock(paths: &[&str]) -> io::Result<()> {
    let files: io::Result<Vec<File>> = paths.iter().map(File::open).collect();
    let files = files?;
    for file in &files {
        let whole = libc::flock {
            l_type: i16::try_from(libc::F_RDLCK).unwrap(),
            l_whence: 0,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        nix::fcntl::fcntl(file, nix::fcntl::FcntlArg::F_SETLK(&whole))?;
    }
    note("on", "locked");
    wait_for_ever()
}

/// Has the terminal watched by epoll(7), has no other file of it, and stays.
fn watch_terminal() -> io::Result<()> {
    let terminal = OpenOptions::new().read(true).write(true).open(nix::unistd::ttyname(io::stdin())?)?;
    let null = File::open("/dev/null")?;
    for number in 0..3 {
        // SAFETY: the standard descriptors are replaced, not closed.
        nix::errno::Errno::result(unsafe { libc::dup2(null.as_raw_fd(), number) })?;
    }
    let mut event = libc::epoll_event { events: u32::try_from(libc::EPOLLIN).unwrap(), u64: 1 };
    // SAFETY: no memory is involved.
    let watch = nix::errno::Errno::result(unsafe { libc::epoll_create1(0) })?;
    // SAFETY: the kernel reads the event, which outlives the call.
    let added = unsafe { libc::epoll_ctl(watch, libc::EPOLL_CTL_ADD, terminal.as_raw_fd(), &raw mut event) };
    nix::errno::Errno::result(added)?;
    note("on", "watching");
    wait_for_ever()
}

/// Changes the terminal's line discipline for as long as it has one.
fn change_discipline() -> io::Result<()> {
    let set = |discipline: libc::c_int| {
        // SAFETY: the kernel reads one number.
        unsafe { libc::ioctl(0, libc::TIOCSETD, &raw const discipline) }
    };
    note("on", "changing");
    loop {
        // 27 discards everything; where the kernel has none of that number, the other call is left.
        set(27);
        set(0);
    }
}

/// Fills the terminal, and waits until the output is read.
fn wait_for_output() -> io::Result<()> {
    let number: RawFd = 0;
    // SAFETY: no memory is involved.
    nix::errno::Errno::result(unsafe { libc::fcntl(number, libc::F_SETFL, libc::O_NONBLOCK) })?;
    let mut idle = Instant::now();
    while idle.elapsed() < Duration::from_millis(500) {
        // SAFETY: the bytes are there.
        if unsafe { libc::write(number, [b'x'; 4096].as_ptr().cast(), 4096) } > 0 {
            idle = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(20));
        }
    }
    note("on", "full");
    loop {
        for when in [nix::sys::termios::SetArg::TCSADRAIN, nix::sys::termios::SetArg::TCSAFLUSH] {
            let Ok(settings) = nix::sys::termios::tcgetattr(io::stdin()) else { wait_for_ever() };
            let _ = nix::sys::termios::tcsetattr(io::stdin(), when, &settings);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
