//! What a process hands on to those it starts, and a service manager may have given to the daemon.

use std::fs;

use nix::errno::Errno;

/// The first process of the machine or container: what it has, every login has.
const FIRST: libc::pid_t = 1;
/// What the kernel gives the first process, in nanoseconds.
const DEFAULT_SLACK: libc::c_ulong = 50_000;
/// For 65536 processors; the kernel takes as much of it as it has use for.
const MASK_WORDS: usize = 1024;

/// Makes this process one like the others of the machine: in how the kernel treats it when memory is short, when and
/// where it runs, and how long its input and output and its timers wait. These are the first process's.
///
/// What this process has no right to change stays as it is.
pub fn take_ordinary_standing() {
    if let Ok(adjustment) = fs::read(format!("/proc/{FIRST}/oom_score_adj")) {
        let _ = fs::write("/proc/self/oom_score_adj", adjustment);
    }
    take_schedule();
    take_processors();
    let slack = fs::read_to_string(format!("/proc/{FIRST}/timerslack_ns")).ok();
    let slack = slack.and_then(|text| text.trim().parse().ok()).filter(|slack| *slack > 0);
    // SAFETY: integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack.unwrap_or(DEFAULT_SLACK)) };
    // By the nice value, as for who never asked for anything else.
    // SAFETY: integers: this process (IOPRIO_WHO_PROCESS), and no class.
    unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, 0) };
}

/// The usual policy, with the first process's nice value.
fn take_schedule() {
    let ordinary = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const ordinary) };
    Errno::clear();
    // SAFETY: integers.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, FIRST.unsigned_abs()) };
    // -1 is a nice value as well.
    let nice = if nice == -1 && Errno::last_raw() != 0 { 0 } else { nice };
    // SAFETY: integers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}

/// The processors that the first process may run on: an administrator may keep some from all.
fn take_processors() {
    let mut mask = [0_u64; MASK_WORDS];
    let size = size_of_val(&mask);
    // SAFETY: the kernel writes at most `size` bytes there, and returns how many.
    let length = unsafe { libc::syscall(libc::SYS_sched_getaffinity, FIRST, size, mask.as_mut_ptr()) };
    if length > 0 {
        // SAFETY: the kernel reads at most as many bytes.
        unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, length, mask.as_ptr()) };
    }
}
