//! `--daemon`: the process that was started says whether the one in the background serves, and `--pid-file` replaces no
//! file but a regular one.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::daemon::{PROGRAM, listens};
use crate::lacking::without;
use crate::processes::Process;
use crate::terminal::PATIENCE;
use crate::world::{eventually, world};

/// The pid file of these tests.
const FILE: &str = "/run/pid/file";

/// Makes something at a path.
type Make = fn(&Path);

fn start(mut command: Command) -> Output {
    fs::write("/etc/rlogind.toml", "").unwrap();
    // Not the null device, which may not be there.
    command.args(["--daemon", "--pid-file", FILE]).stdin(Stdio::piped()).output().unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks that the exit status is true: either a daemon serves, which is ended then, or nothing is there and standard
/// error says why. Returns whether it served.
fn is_true(what: &str, output: &Output) -> bool {
    assert!(!fs::exists(format!("{FILE}.new")).unwrap(), "{what}");
    let told = complaint(output);
    if output.status.success() {
        assert_eq!(told, "", "{what}");
        assert!(listens(513), "{what}");
        let pid: u32 = fs::read_to_string(FILE).unwrap().trim().parse().unwrap();
        assert!(Process::of(pid).is_some_and(|process| process.state != 'Z'), "{what}");
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGTERM).unwrap();
        eventually("it ends", PATIENCE, || Process::of(pid).is_none_or(|it| it.state == 'Z').then_some(()));
        // Where it could not remove it itself.
        let _ = fs::remove_file(FILE);
    } else {
        assert!(!told.is_empty(), "{what}: {output:?}");
        assert!(!fs::exists(FILE).unwrap(), "{what}: {told}");
    }
    eventually("the port is free", PATIENCE, || (!listens(513)).then_some(()));
    output.status.success()
}

#[test]
fn the_pid_file_replaces_a_regular_file_only() {
    world(|_world| {
        fs::create_dir("/run/pid").unwrap();
        let make: [(&str, Make); 7] = [
            ("a device", |path| {
                assert!(Command::new("cp").arg("-a").arg("/dev/null").arg(path).status().unwrap().success());
            }),
            ("a FIFO", |path| mkfifo(path, Mode::S_IRUSR).unwrap()),
            ("a socket", |path| drop(UnixListener::bind(path).unwrap())),
            ("a symbolic link", |path| {
                fs::write("/run/pid/other", "other").unwrap();
                symlink("/run/pid/other", path).unwrap();
            }),
            ("a symbolic link", |path| symlink("/run/pid/nothing", path).unwrap()),
            ("a directory", |path| fs::create_dir(path).unwrap()),
            ("a directory", |path| {
                fs::create_dir(path).unwrap();
                fs::write(path.join("full"), "").unwrap();
            }),
        ];
        for place in [FILE, "/run/pid/file.new"] {
            for (what, make) in make {
                make(Path::new(place));
                let before = fs::symlink_metadata(place).unwrap();
                let output = start(Command::new(PROGRAM));
                let told = complaint(&output);
                assert_eq!(output.status.code(), Some(1), "{what}: {told}");
                let why = format!("{what} is there; only a regular file is replaced\n");
                let start = format!("rlogind: cannot write the pid file {FILE}: ");
                assert!(told.starts_with(&start) && told.ends_with(&why), "{what}: {told}");
                assert!(told.lines().count() == 1 && !listens(513), "{what}: {told}");
                let after = fs::symlink_metadata(place).unwrap();
                assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()), "{what}");
                assert_eq!(fs::exists(FILE).unwrap_or(true), place == FILE && fs::exists(place).unwrap());
                assert!(Command::new("rm").args(["-rf", place]).status().unwrap().success());
            }
        }
        assert_eq!(fs::read_to_string("/run/pid/other").unwrap(), "other");
        assert!(!fs::exists("/run/pid/nothing").unwrap());
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        // One that a daemon has left that was killed, and a part of one.
        fs::write(FILE, "1\n").unwrap();
        fs::write(format!("{FILE}.new"), "1").unwrap();
        assert!(is_true("files of before", &start(Command::new(PROGRAM))));
    });
}

#[test]
fn the_process_that_was_started_says_why_nothing_serves() {
    world(|_world| {
        let mount = |args: &[&str]| assert!(Command::new("mount").args(args).status().unwrap().success());
        let says = |why: &str| {
            let output = start(Command::new(PROGRAM));
            assert!(!is_true(why, &output));
            assert_eq!(output.status.code(), Some(1), "{why}");
            let told = complaint(&output);
            assert!(told.starts_with("rlogind: ") && told.ends_with(&format!("{why}\n")), "{why}: {told}");
        };
        says("cannot write the pid file /run/pid/file: No such file or directory");
        fs::create_dir("/run/pid").unwrap();
        mount(&["-t", "tmpfs", "-o", "size=4096", "tmpfs", "/run/pid"]);
        fs::write("/run/pid/big", vec![1; 4096]).unwrap();
        says("cannot write the pid file /run/pid/file: No space left on device");
        mount(&["-o", "remount,ro", "/run/pid"]);
        says("cannot write the pid file /run/pid/file: Read-only file system");
        assert!(Command::new("umount").arg("/run/pid").status().unwrap().success());
        fs::rename("/dev/null", "/dev/null-away").unwrap();
        let output = start(Command::new(PROGRAM));
        assert!(!is_true("no null device", &output));
        let told = complaint(&output);
        let expected = "rlogind: cannot go into the background: /dev/null: No such file or directory\n";
        assert_eq!((output.status.code(), told.as_str()), (Some(1), expected));
        fs::rename("/dev/null-away", "/dev/null").unwrap();
        assert!(is_true("nothing in the way", &start(Command::new(PROGRAM))));
    });
}

#[test]
fn the_exit_status_is_true_whatever_is_refused() {
    world(|_world| {
        fs::create_dir("/run/pid").unwrap();
        let (mut served, mut refused) = (0, 0);
        let mut count = |what: &str, command: Command| {
            let number = if is_true(what, &start(command)) { &mut served } else { &mut refused };
            *number += 1;
        };
        for limit in 4..32 {
            let mut command = Command::new("prlimit");
            command.args([&format!("--nofile={limit}"), PROGRAM]);
            count(&format!("{limit} descriptors"), command);
        }
        for limit in [0, 1, 4096] {
            let mut command = Command::new("prlimit");
            command.args([&format!("--fsize={limit}"), PROGRAM]);
            count(&format!("files of {limit} bytes"), command);
        }
        let calls = [
            libc::SYS_setsid,
            libc::SYS_chdir,
            libc::SYS_dup3,
            libc::SYS_pipe2,
            libc::SYS_wait4,
            libc::SYS_signalfd4,
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_memfd_create,
            libc::SYS_socketpair,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_fchmod,
            libc::SYS_unlinkat,
            libc::SYS_sendmsg,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename,
        ];
        for call in calls {
            for errno in [Errno::EPERM, Errno::ENOMEM] {
                let mut command = Command::new(PROGRAM);
                without(&mut command, &[(call, None)], errno);
                count(&format!("system call {call}: {errno:?}"), command);
            }
        }
        assert!(served > 0 && refused > 0, "{served} served, {refused} did not");
    });
}
