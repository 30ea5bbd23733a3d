//! Ending a process with all that it has started.
//!
//! The numbers in /proc may belong to other processes by the time they are read. So no signal
//! goes to a number: each is opened first, and only then is looked whose child it is.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::pidfd;

/// The most processes that are ended so.
const MOST: usize = 4096;
/// The most generations: one descriptor is open for each.
const DEEPEST: usize = 64;

/// Ends all that a process has started. The process itself is only stopped, so that it starts
/// nothing more meanwhile.
pub(super) fn end_children(pid: Pid, process: BorrowedFd) {
    let mut left = MOST;
    end_generation(pid, process, DEEPEST, &mut left);
}

fn end_generation(pid: Pid, process: BorrowedFd, deeper: usize, left: &mut usize) {
    let _ = pidfd::send(process, Signal::SIGSTOP);
    if deeper == 0 {
        return;
    }
    for number in children(pid) {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(child) = pidfd::open(number) else { continue };
        let is_child = parent_of(number) == Some(pid);
        // Both still have their numbers, so what /proc said was said of them.
        if is_child && !pidfd::has_ended(child.as_fd()) && !pidfd::has_ended(process) {
            end_generation(number, child.as_fd(), deeper - 1, left);
            let _ = pidfd::send(child.as_fd(), Signal::SIGKILL);
        }
    }
}

/// The children of a process, as far as proc(5) tells.
fn children(parent: Pid) -> Vec<Pid> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>())
        .map(Pid::from_raw)
        .collect()
}

/// The parent of the process that has this number now.
fn parent_of(pid: Pid) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    super::after_name(&stat).split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_whatever_the_name_is() {
        let own = std::process::id().cast_signed();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let number = Pid::from_raw(child.id().cast_signed());
        assert_eq!(parent_of(number), Some(Pid::from_raw(own)));
        assert!(children(Pid::from_raw(own)).contains(&number));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(super::super::after_name(b"7 (a) R 1 (b)) S 42 7").trim(), "S 42 7");
    }

    #[test]
    fn a_number_that_is_no_child_gets_no_signal() {
        let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut process = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(process.id().cast_signed());
        let fd = pidfd::open(pid).unwrap();
        end_children(pid, fd.as_fd());
        assert_eq!(other.try_wait().unwrap(), None);
        for child in [&mut other, &mut process] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
