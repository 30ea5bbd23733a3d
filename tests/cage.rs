//! The relay's cage, tried from inside: every way out is denied, or ends the process.
//!
//! Each attempt is a process of its own: this test's executable once more, which enters the
//! cage, says so, and tries one thing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "everything here is test code; the lint's own exemption covers #[test] functions only, not their helpers"
)]

use std::env;
use std::ffi::c_long;
use std::fs::File;
use std::io::{IoSlice, Seek, SeekFrom, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Output};

use nix::unistd::{Gid, Uid, geteuid, getppid};
use rlogind::sys::channel::{Channel, Received};
use rlogind::sys::{pty, sandbox, socket};

/// Names the attempt, for the copy of the test that makes it.
const ATTEMPT: &str = "RLOGIND_CAGE_ATTEMPT";
/// The directory for the empty root.
const SCRATCH: &str = "RLOGIND_CAGE_SCRATCH";

/// A number that no user of this machine has.
const NOBODY: u32 = 64_123;

/// What a process inside is left with.
struct Inside {
    listener: TcpListener,
    client: TcpStream,
    address: libc::sockaddr_in,
    parent: c_long,
    memory: File,
    leader: OwnedFd,
    channel: (Channel, Channel),
}

/// A name, whether it ends the process, and the attempt, which returns what the system call does.
type Attempt = (&'static str, bool, fn(&Inside) -> c_long);

fn call<const N: usize>(number: c_long, arguments: [c_long; N]) -> c_long {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: each attempt below passes integers, or pointers to what outlives the call.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn at<T>(value: &T) -> c_long {
    std::ptr::from_ref(value) as c_long
}

fn mut_at<T>(value: &mut T) -> c_long {
    std::ptr::from_mut(value) as c_long
}

fn fd(of: &impl AsRawFd) -> c_long {
    of.as_raw_fd().into()
}

const PATH: &[u8; 2] = b"/\0";
const ANONYMOUS: c_long = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as c_long;
const EXECUTABLE: c_long = (libc::PROT_READ | libc::PROT_EXEC) as c_long;
const READ_WRITE: c_long = (libc::PROT_READ | libc::PROT_WRITE) as c_long;
const BEHIND: c_long = libc::AT_FDCWD as c_long;

const ATTEMPTS: &[Attempt] = &[
    ("socket", true, |_| call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0])),
    ("socketpair", true, |_| {
        call(libc::SYS_socketpair, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0, at(&[0_i32; 2])])
    }),
    ("connect", true, |inside| call(libc::SYS_connect, [fd(&inside.listener), at(&inside.address), 16])),
    ("connect by sendto", true, |inside| {
        call(libc::SYS_sendto, [fd(&inside.client), at(PATH), 1, 0, at(&inside.address), 16])
    }),
    ("connect by fast open", true, |inside| {
        call(libc::SYS_sendto, [fd(&inside.client), at(PATH), 1, libc::MSG_FASTOPEN.into(), 0, 0])
    }),
    ("stop a listener", true, |inside| {
        call(libc::SYS_shutdown, [fd(&inside.listener), libc::SHUT_RD.into()])
    }),
    ("bind", true, |inside| call(libc::SYS_bind, [fd(&inside.listener), at(&inside.address), 16])),
    ("listen", true, |inside| call(libc::SYS_listen, [fd(&inside.listener), 1])),
    ("openat", true, |_| call(libc::SYS_openat, [BEHIND, at(PATH), libc::O_RDONLY.into(), 0])),
    ("mkdirat", true, |_| call(libc::SYS_mkdirat, [BEHIND, at(b"x\0"), 0o700])),
    ("chroot", true, |_| call(libc::SYS_chroot, [at(PATH)])),
    ("memfd_create", true, |_| call(libc::SYS_memfd_create, [at(PATH), 0])),
    ("execve", true, |_| call(libc::SYS_execve, [at(PATH), 0, 0])),
    ("execveat", true, |inside| {
        call(libc::SYS_execveat, [fd(&inside.client), at(&0_u8), 0, 0, libc::AT_EMPTY_PATH.into()])
    }),
    ("clone", true, |_| call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0])),
    ("clone3", true, |_| call(libc::SYS_clone3, [0, 0])),
    ("unshare", true, |_| call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into()])),
    ("ptrace", true, |inside| call(libc::SYS_ptrace, [libc::PTRACE_ATTACH.into(), inside.parent, 0, 0])),
    ("process_vm_readv", true, |inside| call(libc::SYS_process_vm_readv, [inside.parent, 0, 0, 0, 0, 0])),
    ("kill", true, |inside| call(libc::SYS_kill, [inside.parent, libc::SIGUSR1.into()])),
    ("tgkill of another", true, |inside| {
        call(libc::SYS_tgkill, [inside.parent, inside.parent, libc::SIGUSR1.into()])
    }),
    ("pidfd_open", true, |inside| call(libc::SYS_pidfd_open, [inside.parent, 0])),
    ("signals to an owner", true, |inside| {
        call(libc::SYS_fcntl, [fd(&inside.client), libc::F_SETOWN.into(), inside.parent])
    }),
    ("setuid", true, |_| call(libc::SYS_setuid, [0])),
    ("prctl", true, |_| call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0])),
    ("prlimit64", true, |inside| call(libc::SYS_prlimit64, [inside.parent, 0, 0, 0])),
    ("type into a terminal", true, |inside| {
        call(libc::SYS_ioctl, [fd(&inside.client), libc::TIOCSTI as c_long, at(PATH)])
    }),
    ("a terminal's size", true, |inside| {
        call(libc::SYS_ioctl, [fd(&inside.leader), libc::TIOCSWINSZ as c_long, at(&[0_u16; 4])])
    }),
    ("a terminal's modes", true, |inside| {
        call(libc::SYS_ioctl, [fd(&inside.leader), libc::TCGETS as c_long, at(&[0_u64; 8])])
    }),
    ("another socket option", true, |inside| {
        let (level, option) = (libc::SOL_SOCKET.into(), libc::SO_REUSEPORT.into());
        call(libc::SYS_setsockopt, [fd(&inside.client), level, option, at(&1_i32), 4])
    }),
    ("code in new memory", true, |_| call(libc::SYS_mmap, [0, 4096, EXECUTABLE, ANONYMOUS, -1, 0])),
    ("code in old memory", true, |_| call(libc::SYS_mprotect, [0, 4096, EXECUTABLE])),
    ("a file in memory", true, |inside| {
        call(libc::SYS_mmap, [0, 4096, READ_WRITE, libc::MAP_SHARED.into(), fd(&inside.client), 0])
    }),
    ("bpf", true, |_| call(libc::SYS_bpf, [0, 0, 0])),
    ("io_uring_setup", true, |_| call(libc::SYS_io_uring_setup, [1, 0])),
    // Permitted, for the tests above prove nothing when everything ends the process.
    ("data in new memory", false, |_| call(libc::SYS_mmap, [0, 4096, READ_WRITE, ANONYMOUS, -1, 0])),
    ("the end of what is sent", false, |inside| {
        call(libc::SYS_shutdown, [fd(&inside.client), libc::SHUT_WR.into()])
    }),
    ("what a hand-over needs", false, hand_over),
    ("a panic", false, |_| panic!("a panic's last words")),
    ("an abort", false, |_| std::process::abort()),
];

/// Writes and reads a memory file, duplicates and passes descriptors, asks for states.
fn hand_over(inside: &Inside) -> c_long {
    let mut file = &inside.memory;
    file.write_all(b"states").unwrap();
    assert_eq!(file.write_vectored(&[IoSlice::new(b"and"), IoSlice::new(b"more")]).unwrap(), 7);
    file.write_all_at(b"S", 0).unwrap();
    file.seek(SeekFrom::Start(1)).unwrap();
    file.set_len(8).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 8);
    let mut text = [0; 8];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"Statesan");
    let (ours, theirs) = &inside.channel;
    ours.set_nonblocking().unwrap();
    ours.send(b"here", &[inside.memory.try_clone().unwrap().as_fd()]).unwrap();
    let Received::Message(_, descriptors) = theirs.receive().unwrap() else { panic!("no message") };
    assert_eq!(descriptors.len(), 1);
    assert_eq!(socket::unacknowledged(inside.client.as_fd()), 0);
    let (mut info, mut length) = ([0_u8; 128], 128_u32);
    let (level, option) = (libc::IPPROTO_TCP.into(), libc::TCP_INFO.into());
    call(libc::SYS_getsockopt, [fd(&inside.client), level, option, mut_at(&mut info), mut_at(&mut length)])
}

/// Makes the attempt that the environment names, inside.
fn attempt(name: &str) -> ! {
    let scratch = env::var_os(SCRATCH).unwrap();
    let (_, _, attempt) = ATTEMPTS.iter().find(|(known, ..)| *known == name).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // SAFETY: a sockaddr_in is plain data; all zeros is one.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET.try_into().unwrap();
    let parent = getppid().as_raw().into();
    // SAFETY: a C string and an integer; the call makes a descriptor of its own.
    let memory = unsafe { File::from_raw_fd(libc::memfd_create(c"test".as_ptr(), libc::MFD_CLOEXEC)) };
    let leader = pty::open().unwrap().leader;
    let channel = Channel::pair().unwrap();
    let inside = Inside { listener, client, address, parent, memory, leader, channel };
    let root = sandbox::empty_root(scratch.as_ref()).unwrap();
    sandbox::enter(root.as_fd(), Uid::from_raw(NOBODY), Gid::from_raw(NOBODY)).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "inside").unwrap();
    out.flush().unwrap();
    // As the runtime does around `main`.
    let Ok(result) = catch_unwind(AssertUnwindSafe(|| attempt(&inside))) else { std::process::exit(101) };
    writeln!(out, "returned {result}").unwrap();
    std::process::exit(0);
}

/// Has the attempt made by another process.
fn made(name: &str) -> Output {
    let scratch = tempfile::tempdir().unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args(["nothing_leads_out", "--exact", "--nocapture", "--test-threads=1"])
        .env(ATTEMPT, name)
        .env(SCRATCH, scratch.path())
        .env("RUST_BACKTRACE", "0")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("inside\n"), "{name}: never inside: {output:?}");
    output
}

#[test]
fn nothing_leads_out() {
    if let Ok(name) = env::var(ATTEMPT) {
        attempt(&name);
    }
    if !geteuid().is_root() || !sandbox::FILTERED {
        eprintln!("SKIPPED: needs root, and an architecture with a filter");
        return;
    }
    for (name, ends, _) in ATTEMPTS {
        let output = made(name);
        let expected = match *name {
            "an abort" => Some(libc::SIGABRT),
            _ => ends.then_some(libc::SIGSYS),
        };
        assert_eq!(output.status.signal(), expected, "{name}: {output:?}");
        let told = String::from_utf8_lossy(&output.stderr);
        match *name {
            "a panic" => {
                assert!(told.contains("a panic's last words"), "{output:?}");
                assert_eq!(output.status.code(), Some(101), "{output:?}");
            }
            "an abort" => {}
            _ if *ends => {}
            _ => {
                let told = String::from_utf8_lossy(&output.stdout);
                assert!(told.contains("returned ") && !told.contains("returned -1"), "{name}: {output:?}");
            }
        }
    }
}
