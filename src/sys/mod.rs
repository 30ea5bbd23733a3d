//! Every `unsafe` block and every raw system call of the program.
//!
//! Nothing here knows what rlogin is, and nothing here uses the rest of the
//! program: each file wraps one thing of the kernel or the C library in a type
//! that cannot be misused.

pub mod activation;
pub mod background;
pub mod channel;
pub mod directories;
pub mod file;
pub mod fork;
pub mod identity;
pub mod launch;
pub mod limits;
pub mod liveness;
pub mod local;
pub mod memory;
pub mod memory_file;
pub mod module_log;
pub mod needed;
pub mod netgroup;
pub mod notify;
pub mod ownership;
pub mod pam;
pub mod process;
pub mod pty;
pub mod records;
pub mod resolve;
pub mod route;
pub mod sandbox;
pub mod shadow;
pub mod shell;
pub mod socket;
pub mod watchdog;

/// An error in the words of strerror(3), without its number.
#[must_use]
pub fn words(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_owned())
}
