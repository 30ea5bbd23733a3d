//! The filter on system calls, seccomp(2): what the relay's work is made of, and nothing else.
//!
//! Whatever is not on the list ends the process. What is on it for one purpose is bound to
//! that purpose by its arguments, as far as these are numbers: a filter sees no memory.
//! The calls of every byte's way have no such conditions where that can be, for what does
//! not hang on arguments the kernel remembers, and asks the filter no more.
//!
//! An entry more is a wall less: each needs a reason.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The highest number of a signal.
const LAST_SIGNAL: u64 = 64;

/// Lets the process make no other system call than those of the list from now on.
///
/// # Errors
/// When the kernel has no filters.
pub(super) fn install() -> io::Result<()> {
    let program = program().map_err(io::Error::other)?;
    let applied = seccompiler::apply_filter_all_threads(&program);
    if let Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error)) = applied {
        return Err(error);
    }
    applied.map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, BackendError> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(rules()?, SeccompAction::KillProcess, SeccompAction::Allow, arch)?.try_into()
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules() -> Result<Rules, BackendError> {
    let mut rules: Rules = UNCONDITIONAL.iter().map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_epoll_wait, Vec::new());
    for (call, argument, values) in ONE_OF {
        let each = values.iter().map(|value| SeccompRule::new(vec![is(*argument, *value)?]));
        rules.entry(*call).or_default().extend(each.collect::<Result<Vec<_>, _>>()?);
    }
    for (level, options) in OPTIONS {
        for option in *options {
            let rule = SeccompRule::new(vec![is(1, *level)?, is(2, *option)?])?;
            rules.entry(libc::SYS_setsockopt).or_default().push(rule);
        }
    }
    // TCP_INFO alone is asked for: how much the client has acknowledged.
    let info = vec![is(1, number(libc::IPPROTO_TCP))?, is(2, number(libc::TCP_INFO))?];
    rules.insert(libc::SYS_getsockopt, vec![SeccompRule::new(info)?]);
    // Memory for data, never for code, and never a file's.
    let anonymous = number(libc::MAP_ANONYMOUS);
    let memory = vec![none_of(2, libc::PROT_EXEC)?, masked(3, anonymous, anonymous)?];
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(memory)?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![none_of(2, libc::PROT_EXEC)?])?]);
    // MSG_FASTOPEN connects (tcp(7)), and an address says where to.
    let nowhere = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)?;
    let plain = vec![none_of(3, libc::MSG_FASTOPEN)?, nowhere];
    rules.insert(libc::SYS_sendto, vec![SeccompRule::new(plain)?]);
    rules.insert(libc::SYS_sendmsg, vec![SeccompRule::new(vec![none_of(2, libc::MSG_FASTOPEN)?])?]);
    // abort(3) signals the process itself.
    let signal = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::Le, LAST_SIGNAL)?;
    let itself = vec![is(0, u64::from(std::process::id()))?, signal];
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(itself)?]);
    Ok(rules)
}

/// What may be called with any arguments.
const UNCONDITIONAL: &[libc::c_long] = &[
    // Bytes: clients, terminals, and the memory files of a hand-over.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    // With a path these find what the empty root holds: nothing.
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_close,
    // Connections.
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    // The loop.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_clock_gettime,
    // Memory; what mmap and mprotect may do stands elsewhere.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    // Seeds of hash tables.
    libc::SYS_getrandom,
    // A panic and its message, abort, and the end. Signals come from outside only.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What may be called when that argument has one of these values.
const ONE_OF: &[(libc::c_long, u8, &[u64])] = &[
    // Nothing that acts on a terminal: a user can hold the locks of the own one for as long as they like.
    (libc::SYS_ioctl, 1, &[libc::TIOCOUTQ, libc::FIONBIO]),
    // No locks, no leases, no signals (F_SETOWN).
    (
        libc::SYS_fcntl,
        1,
        &[
            number(libc::F_DUPFD_CLOEXEC),
            number(libc::F_GETFD),
            number(libc::F_GETFL),
            number(libc::F_SETFL),
            number(libc::F_GET_SEALS),
        ],
    ),
    // With another one a listener, which is the monitor's too, would listen no more.
    (libc::SYS_shutdown, 1, &[number(libc::SHUT_WR)]),
    // What malloc(3) returns.
    (libc::SYS_madvise, 2, &[number(libc::MADV_DONTNEED), number(libc::MADV_FREE)]),
    // There is one thread: nobody to wait for, but locks are made for more.
    (
        libc::SYS_futex,
        1,
        &[
            number(libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG),
            number(libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG),
            number(libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG),
        ],
    ),
];

/// What may be set of a socket: levels, and options of each.
const OPTIONS: &[(u64, &[u64])] = &[
    (number(libc::SOL_SOCKET), &[number(libc::SO_KEEPALIVE)]),
    (
        number(libc::IPPROTO_TCP),
        &[
            number(libc::TCP_NODELAY),
            number(libc::TCP_KEEPIDLE),
            number(libc::TCP_KEEPINTVL),
            number(libc::TCP_KEEPCNT),
            number(libc::TCP_NOTSENT_LOWAT),
            number(libc::TCP_USER_TIMEOUT),
        ],
    ),
];

/// A constant of the C library; none is negative.
const fn number(value: libc::c_int) -> u64 {
    value.unsigned_abs() as u64
}

/// The kernel takes these arguments for 32 bits wide, and so does the filter.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

fn none_of(argument: u8, flags: libc::c_int) -> Result<SeccompCondition, BackendError> {
    masked(argument, number(flags), 0)
}
