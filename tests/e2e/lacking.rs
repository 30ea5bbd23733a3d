//! A kernel that lacks something: a filter of system calls answers in its place (seccomp(2)).

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Has a program and all that it starts get this error from these system calls. With a number: only when that is the
/// first argument.
pub(crate) fn without(command: &mut Command, calls: &[(i64, Option<i32>)], errno: Errno) {
    let rules = calls.iter().map(|(call, first)| {
        let is = |number: &i32| {
            let (number, equal) = (u64::try_from(*number).unwrap(), SeccompCmpOp::Eq);
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, equal, number).unwrap();
            SeccompRule::new(vec![condition]).unwrap()
        };
        (*call, first.iter().map(is).collect())
    });
    let refused = SeccompAction::Errno((errno as i32).unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules.collect(), SeccompAction::Allow, refused, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    // SAFETY: two system calls, and of the program what was made before.
    unsafe {
        command.pre_exec(move || seccompiler::apply_filter(&program).map_err(std::io::Error::other));
    }
}

/// Without a family of addresses.
pub(crate) fn without_family(command: &mut Command, family: i32) {
    without(command, &[(libc::SYS_socket, Some(family))], Errno::EAFNOSUPPORT);
}
