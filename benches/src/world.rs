//! What `machine.sh` has furnished, by name.

use std::ffi::CStr;
use std::net::Ipv4Addr;

/// The user, on both sides.
pub(crate) const ACCOUNT: &str = "alice";
/// The user's id, and that of the group.
pub(crate) const UID: u32 = 1001;
/// The user's home directory.
pub(crate) const HOME: &str = "/home/alice";
/// The user's shell.
pub(crate) const SHELL: &CStr = c"/bin/sh";
/// What the shell says when it waits for a command.
pub(crate) const PROMPT: &str = "ready> ";
/// This tool.
pub(crate) const TOOL: &str = "/mnt/bench";
/// A network namespace behind a link of limited speed, when the machine was given one.
pub(crate) const FAR: &str = "/run/netns/far";
/// The address of the server there.
pub(crate) const FAR_SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The client's, over that link.
pub(crate) const FAR_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// The addresses that the clients come from on the loopback interface, each of them
/// trusted by a line of its own in /etc/hosts.equiv, in this order.
pub(crate) fn sources() -> Vec<Ipv4Addr> {
    (2..=9).map(|last| Ipv4Addr::new(127, 0, 0, last)).collect()
}
