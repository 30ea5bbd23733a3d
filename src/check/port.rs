//! Whether an address could be listened on right now, and if not, who has it.
//!
//! Binds and lets go at once, and never listens: a client must not be able to
//! connect to a socket that nobody will read. This goes unnoticed by a running daemon.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use nix::errno::Errno;

use crate::host;
use crate::sys::socket;

/// A process that has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The file name of its executable.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// The unit of systemd that it belongs to.
    pub unit: Option<String>,
}

impl Owner {
    /// Whether it is this program.
    #[must_use]
    pub fn is_rlogind(&self) -> bool {
        self.name == env!("CARGO_PKG_NAME")
    }

    /// Whether it is the system's service manager, which listens for others.
    #[must_use]
    pub fn is_service_manager(&self) -> bool {
        self.pid == 1 && self.name == "systemd"
    }

    /// How it comes to give its port back, and to stay away. A command that stops the unit would be
    /// bad advice: somebody's login may be in it.
    pub(super) fn ending(&self) -> String {
        let unit = self.unit.as_ref().map(|unit| format!(", which belongs to {unit}")).unwrap_or_default();
        format!("end {self}{unit}, and see that it is not started again")
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name.escape_debug(), self.pid)
    }
}

/// Binds a socket as the daemon does, and closes it; `alone` as in [`socket::listen`].
pub(super) fn try_bind(address: SocketAddr, alone: bool) -> Result<(), Errno> {
    socket::bind(address, alone).map(drop)
}

/// Whether the kernel has the address's family.
pub(super) fn has_family(address: SocketAddr) -> bool {
    let elsewhere = SocketAddr::new(address.ip(), 0);
    !try_bind(elsewhere, false).is_err_and(|errno| host::lacks_family(&errno.into()))
}

/// The processes that listen on the port, at whatever address, as far as this
/// process may see them (root: all).
#[must_use]
pub fn owners(port: u16) -> Vec<Owner> {
    let links: Vec<String> = listeners(port).iter().map(|inode| format!("socket:[{inode}]")).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let owner = |pid| Owner { name: executable(pid), pid, unit: unit(pid) };
    pids.filter(|&pid| holds(pid, &links)).map(owner).collect()
}

/// Whether anybody listens on the port, at whatever address: everybody may see that.
#[must_use]
pub fn is_listened_on(port: u16) -> bool {
    !listeners(port).is_empty()
}

/// The inodes of the sockets that listen on the port.
fn listeners(port: u16) -> Vec<String> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines());
    lines.filter_map(|line| listener_inode(line, port)).map(str::to_owned).collect()
}

/// The inode of the socket in a line of `/proc/net/tcp` (proc(5)), when it
/// listens on the port.
fn listener_inode(line: &str, port: u16) -> Option<&str> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
    let listens = fields.get(3) == Some(&LISTEN) && u16::from_str_radix(local_port, 16) == Ok(port);
    if listens { fields.get(9).copied() } else { None }
}

/// Whether one of the process's descriptors is one of these.
fn holds(pid: u32, links: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| links.iter().any(|link| target == Path::new(link)))
}

/// The executable's name; the process's own idea of its name could be anything.
fn executable(pid: u32) -> String {
    let target = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // What the kernel says of an executable that was replaced, as by an update.
    name.strip_suffix(" (deleted)").unwrap_or(&name).to_owned()
}

/// The service of systemd that the process belongs to, by its control group.
fn unit(pid: u32) -> Option<String> {
    service(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)
}

/// The service in the text of `/proc/PID/cgroup` (cgroups(7)). What runs in a container
/// has its manager's path in front, and the innermost is what its own `systemctl` knows.
fn service(text: &str) -> Option<String> {
    let path =
        text.lines().find_map(|line| line.strip_prefix("0::").or(line.strip_prefix("1:name=systemd:")))?;
    let named = |part: &&str| part.ends_with(".service") && part.bytes().all(|b| b.is_ascii_graphic());
    path.rsplit('/').find(named).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_owner() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let address = listener.local_addr().unwrap();
            assert_eq!(try_bind(address, true), Err(Errno::EADDRINUSE));
            let owners = owners(address.port());
            assert!(owners.iter().any(|owner| owner.pid == std::process::id()), "{owners:?}");
            drop(listener);
            assert_eq!(try_bind(address, true), Ok(()));
        }
    }

    #[test]
    fn both_families_have_the_port_to_themselves_unless_ipv6_serves_both() {
        let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = v4.local_addr().unwrap().port();
        let wildcard = format!("[::]:{port}").parse().unwrap();
        assert_eq!(try_bind(wildcard, false), Ok(()));
        assert_eq!(try_bind(wildcard, true), Err(Errno::EADDRINUSE));
    }

    #[test]
    fn only_listening_sockets_on_the_port_count() {
        let line = |port: &str, state: &str| {
            format!(
                "   0: 00000000:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 482 1 0 100"
            )
        };
        assert_eq!(listener_inode(&line("0201", "0A"), 513), Some("482"));
        assert_eq!(listener_inode(&line("0201", "01"), 513), None);
        assert_eq!(listener_inode(&line("0202", "0A"), 513), None);
        assert_eq!(listener_inode("  sl  local_address rem_address   st tx_queue", 513), None);
        assert_eq!(listener_inode("", 513), None);
    }

    #[test]
    fn the_unit_is_the_innermost_service() {
        let unit = |text| service(text);
        assert_eq!(unit("0::/system.slice/inetd.service\n").as_deref(), Some("inetd.service"));
        assert_eq!(unit("0::/a.service/b.service/x.scope\n").as_deref(), Some("b.service"));
        assert_eq!(
            unit("2:cpu:/\n1:name=systemd:/system.slice/xinetd.service\n").as_deref(),
            Some("xinetd.service")
        );
        assert_eq!(unit("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(unit(""), None);
    }
}
