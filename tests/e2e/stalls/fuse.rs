//! The server of a file system that stands still: the kernel's protocol, linux/fuse.h, as far as it needs it.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use nix::libc;

/// The length of the file that is never read.
pub(super) const LENGTH: usize = 64 * 1024;

/// The kernel's side of a file system that this process serves, fuse(4).
pub(super) struct Device(File);

/// What the kernel asks, by its number in linux/fuse.h.
mod operation {
    pub(super) const LOOKUP: u32 = 1;
    pub(super) const FORGET: u32 = 2;
    pub(super) const GETATTR: u32 = 3;
    pub(super) const OPEN: u32 = 14;
    pub(super) const READ: u32 = 15;
    pub(super) const RELEASE: u32 = 18;
    pub(super) const FLUSH: u32 = 25;
    pub(super) const INIT: u32 = 26;
    pub(super) const BATCH_FORGET: u32 = 42;
}

struct Request {
    operation: u32,
    id: u64,
    node: u64,
}

impl Device {
    pub(super) fn mount(directory: &str) -> io::Result<Device> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
        let others = if user.is_root() { ",allow_other" } else { "" };
        let number = device.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id={user},group_id={group}{others}");
        let [options, directory] = [options.as_str(), directory].map(|text| CString::new(text).unwrap());
        let kind = c"fuse".as_ptr();
        let flags = libc::MS_NOSUID | libc::MS_NODEV;
        // SAFETY: all of them are strings with a NUL byte behind them that outlive the call.
        let mounted = unsafe { libc::mount(kind, directory.as_ptr(), kind, flags, options.as_ptr().cast()) };
        nix::errno::Errno::result(mounted)?;
        Ok(Device(device))
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<Request> {
        let length = self.0.read(buffer)?;
        let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(buffer[at..at + 8].try_into().unwrap());
        assert!(length >= 40, "a request has a header");
        Ok(Request { operation: word(4), id: long(8), node: long(16) })
    }

    fn answer(&mut self, request: &Request, error: i32, body: &[u8]) {
        let mut answer = Vec::new();
        answer.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
        answer.extend(error.to_ne_bytes());
        answer.extend(request.id.to_ne_bytes());
        answer.extend(body);
        // Who asked may have gone.
        let _ = self.0.write_all(&answer);
    }

    /// Serves a directory with the file `f`, until it is unmounted; whoever reads it waits. `read` is called when somebody does.
    pub(super) fn serve(mut self, read: impl Fn()) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let request = self.next(&mut buffer)?;
            match request.operation {
                operation::INIT => self.answer(&request, 0, &greeting()),
                operation::LOOKUP => {
                    let entry = words(&[2, 0, 3600, 3600, 0]);
                    self.answer(&request, 0, &[entry, attributes(2)].concat());
                }
                operation::GETATTR => {
                    let valid = words(&[3600, 0]);
                    self.answer(&request, 0, &[valid, attributes(request.node)].concat());
                }
                operation::OPEN => self.answer(&request, 0, &words(&[1, 0])),
                operation::READ => read(),
                operation::FORGET | operation::BATCH_FORGET => {}
                operation::RELEASE | operation::FLUSH => self.answer(&request, 0, &[]),
                _ => self.answer(&request, -libc::ENOSYS, &[]),
            }
        }
    }

    /// Takes every request and answers none; `mounted` is called when there may be some.
    pub(super) fn hang(mut self, mounted: impl Fn()) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let request = self.next(&mut buffer)?;
        self.answer(&request, 0, &greeting());
        mounted();
        loop {
            self.next(&mut buffer)?;
        }
    }
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct fuse_init_out`: version 7.31, no feature, no reading ahead.
fn greeting() -> Vec<u8> {
    let mut body: Vec<u8> = [7_u32, 31, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    body.extend([8_u16, 8].iter().flat_map(|word| word.to_ne_bytes()));
    body.extend([65_536_u32, 1].iter().flat_map(|word| word.to_ne_bytes()));
    body.resize(64, 0);
    body
}

/// `struct fuse_attr` of the directory, 1, or the file.
fn attributes(node: u64) -> Vec<u8> {
    let mut body = words(&[node, u64::try_from(LENGTH).unwrap(), 128, 0, 0, 0]);
    let mode = if node == 1 { 0o40755 } else { 0o100_666 };
    let (user, group) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    body.extend([0, 0, 0, mode, 1, user, group, 0, 4096, 0_u32].iter().flat_map(|word| word.to_ne_bytes()));
    body
}
