//! Who else is there to listen on the rlogin port: entries of inetd and xinetd, and systemd's
//! socket units.

use std::path::{Path, PathBuf};

use super::machine::{LONGEST, Machine};
use crate::check::{Owner, Report};
use crate::sys::file;
use crate::tcpmux::foreign::{inetd_lines, sections};
use crate::tcpmux::{self, Places};

const WHAT: &str = "superserver";
/// The name and the port of the service in services(5).
const SERVICE: [&str; 2] = ["login", "513"];
/// Superservers, by the file names of their executables.
const PROGRAMS: [&str; 4] = ["inetd", "inetutils-inetd", "rlinetd", "xinetd"];
/// Where systemd has units, the first that has one counts (systemd.unit(5)).
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];

/// An entry for the rlogin service.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// File, and line where there is one.
    place: String,
    /// It starts this program.
    ours: bool,
    /// How it is taken out.
    mend: String,
}

/// What stands in superservers' configurations about rlogin.
#[derive(Debug)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    pub(super) fn read(machine: &Machine) -> Entries {
        let mut entries = of_inetd(machine);
        entries.extend(of_xinetd(machine));
        Entries(entries)
    }

    /// Whether a process that has the port starts this program for each connection.
    pub(super) fn start_us(&self, owner: &Owner) -> bool {
        is_superserver(owner) && !self.0.is_empty() && self.0.iter().all(|entry| entry.ours)
    }

    /// Reports on each entry, given who listens on the rlogin ports.
    pub(super) fn report(&self, report: &mut Report, owners: &[Owner]) {
        let superserver = owners.iter().any(is_superserver);
        for entry in &self.0 {
            let place = &entry.place;
            if entry.ours && superserver {
                report.ok(WHAT, format!("{place}: starts rlogind for each connection"));
            } else if entry.ours {
                let text = format!("{place}: would start rlogind, but no superserver has the port");
                report.note(WHAT, text).mend(format!("where rlogind is to listen itself: {}", entry.mend));
            } else if superserver {
                let text = format!("{place}: another rlogin server's entry has the port");
                report.fail(WHAT, text).mend(&entry.mend);
            } else {
                let text = format!("{place}: another rlogin server's entry, which takes the port one day");
                report.warn(WHAT, text).mend(&entry.mend);
            }
        }
        if self.0.is_empty() {
            report.ok(WHAT, "no entry of inetd or xinetd wants the port");
        }
    }
}

fn is_superserver(owner: &Owner) -> bool {
    PROGRAMS.contains(&owner.name.as_str())
}

/// The program may be behind another one that asks for permission first, as tcpd is.
fn starts_us(machine: &Machine, server: &[String]) -> bool {
    server.iter().take(2).any(|word| word.starts_with('/') && machine.is_ours(word))
}

fn of_inetd(machine: &Machine) -> Vec<Entry> {
    let mut files = vec![PathBuf::from("/etc/inetd.conf")];
    files.extend(machine.list("/etc/inetd.d"));
    let mut entries = Vec::new();
    for file in files {
        let text = machine.read(&file).unwrap_or_default();
        for line in inetd_lines(&text).into_iter().filter(|line| SERVICE.contains(&line.service.as_str())) {
            entries.push(Entry {
                place: format!("{}:{}", shown(&file), line.number),
                ours: starts_us(machine, &line.server),
                mend: format!("put a # before line {} of {}, and reload inetd", line.number, shown(&file)),
            });
        }
    }
    entries
}

fn of_xinetd(machine: &Machine) -> Vec<Entry> {
    let mut superserver = Places::system().xinetd;
    superserver.config = machine.path(&superserver.config);
    let mut entries = Vec::new();
    for path in tcpmux::xinetd_files(&superserver).unwrap_or_default() {
        let text = file::read(&path, LONGEST).unwrap_or_default();
        for section in sections(&String::from_utf8_lossy(&text)) {
            let port = section.port.as_deref().unwrap_or(&section.name);
            if section.disabled || section.multiplexed || !SERVICE.contains(&port) {
                continue;
            }
            entries.push(Entry {
                place: shown(&path),
                ours: starts_us(machine, &section.server),
                mend: format!("write `disable = yes` into {}, and reload xinetd", shown(&path)),
            });
        }
    }
    entries
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().escape_debug().to_string()
}

/// Reports on socket units that are switched on and have one of the ports.
pub(super) fn socket_units(report: &mut Report, machine: &Machine, ports: &[u16], owners: &[Owner]) {
    let manager = owners.iter().any(Owner::is_service_manager);
    let wanted = |target: &str| {
        let mut names: Vec<String> = UNITS
            .iter()
            .flat_map(|folder| machine.list(Path::new(folder).join(target)))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let listens = |name: &String| {
        let files = UNITS.iter().map(|folder| Path::new(folder).join(name));
        let text = files.filter_map(|file| machine.read(file).ok()).next().unwrap_or_default();
        stream_ports(&text).any(|port| ports.contains(&port))
    };
    let sockets: Vec<String> = wanted("sockets.target.wants").into_iter().filter(listens).collect();
    let (ours, others): (Vec<String>, Vec<String>) =
        sockets.into_iter().partition(|name| name.starts_with("rlogind"));
    for name in others {
        let name = name.escape_debug();
        let text = format!("{name} listens on the port, for another rlogin server");
        let finding =
            if manager { report.fail("socket unit", text) } else { report.warn("socket unit", text) };
        finding.mend(format!("systemctl disable --now {name}"));
    }
    let service = wanted("multi-user.target.wants").iter().any(|name| name == "rlogind.service");
    for name in ours {
        if service {
            let text = format!("{name} and rlogind.service are both enabled; the second is refused the port");
            report.warn("socket unit", text).mend(format!("systemctl disable {name}, or rlogind.service"));
        } else {
            report.ok("socket unit", format!("{name} is enabled"));
        }
    }
}

/// The TCP ports of a socket unit (systemd.socket(5)).
fn stream_ports(text: &str) -> impl Iterator<Item = u16> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("ListenStream"));
    let values = values.filter_map(|rest| rest.trim_start().strip_prefix('='));
    values.filter_map(|value| value.trim().rsplit(':').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;

    fn owner(name: &str, pid: u32) -> Owner {
        Owner { name: name.to_owned(), pid, unit: None }
    }

    fn told(files: &[(&str, &str)], owners: &[Owner]) -> Vec<String> {
        let (folder, machine) = machine(files);
        let mut report = Report::default();
        Entries::read(&machine).report(&mut report, owners);
        let root = folder.path().canonicalize().unwrap().display().to_string();
        lines(&report).into_iter().map(|line| line.replace(&root, "")).collect()
    }

    const OTHER: &str = "# inetd\nlogin stream tcp nowait root /usr/sbin/tcpd /usr/sbin/other\n";
    const OURS: &str = "login stream tcp nowait root /usr/sbin/rlogind rlogind inetd\n";

    #[test]
    fn without_entries_all_is_well() {
        let files = [
            (
                "/etc/inetd.conf",
                "#login stream tcp nowait root /a\ntcpmux/login stream tcp nowait root /a a\n",
            ),
            ("/etc/xinetd.d/rlogin", "service login\n{\n disable = yes\n server = /a\n}\n"),
            ("/etc/xinetd.d/mux", "service login\n{\n type = TCPMUX\n server = /a\n}\n"),
        ];
        assert_eq!(told(&files, &[]), ["ok superserver no entry of inetd or xinetd wants the port"]);
        assert_eq!(told(&[], &[owner("inetd", 7)]).len(), 1);
    }

    #[test]
    fn anothers_entry_is_in_the_way_when_a_superserver_has_the_port() {
        let files = [("/etc/inetd.conf", OTHER)];
        let mend = "→ put a # before line 2 of /etc/inetd.conf, and reload inetd";
        let now = "FAIL superserver /etc/inetd.conf:2: another rlogin server's entry has the port";
        assert_eq!(told(&files, &[owner("inetd", 7)]), [now, mend]);
        let later =
            "WARN superserver /etc/inetd.conf:2: another rlogin server's entry, which takes the port one day";
        assert_eq!(told(&files, &[owner("rlogind", 7)]), [later, mend]);
        assert_eq!(told(&[("/etc/inetd.d/x", OTHER)], &[owner("rlinetd", 7)]).len(), 2);
    }

    #[test]
    fn our_own_entry_is_right() {
        let files = [("/etc/inetd.conf", OURS)];
        assert_eq!(
            told(&files, &[owner("inetutils-inetd", 7)]),
            ["ok superserver /etc/inetd.conf:1: starts rlogind for each connection"]
        );
        assert!(told(&files, &[])[0].starts_with("note superserver /etc/inetd.conf:1: would start rlogind"));
        let (_folder, machine) = machine(&files);
        let entries = Entries::read(&machine);
        assert!(entries.start_us(&owner("inetd", 7)) && !entries.start_us(&owner("nc", 7)));
    }

    #[test]
    fn xinetd_by_name_or_by_port() {
        for section in ["service login\n{\n server = /a\n}\n", "service x\n{\n port = 513\n server = /a\n}\n"]
        {
            let told = told(&[("/etc/xinetd.d/rlogin", section)], &[owner("xinetd", 7)]);
            assert_eq!(told[1], "→ write `disable = yes` into /etc/xinetd.d/rlogin, and reload xinetd");
        }
    }

    #[test]
    fn socket_units_of_others_and_of_our_own() {
        let told = |files: &[(&str, &str)], owners: &[Owner]| {
            let (_folder, machine) = machine(files);
            let mut report = Report::default();
            socket_units(&mut report, &machine, &[513], owners);
            lines(&report)
        };
        let wants = "/etc/systemd/system/sockets.target.wants";
        let other = [
            (&format!("{wants}/rlogin.socket")[..], ""),
            ("/usr/lib/systemd/system/rlogin.socket", "[Socket]\nListenStream = 0.0.0.0:513\n"),
        ];
        let expected = [
            "FAIL socket unit rlogin.socket listens on the port, for another rlogin server",
            "→ systemctl disable --now rlogin.socket",
        ];
        assert_eq!(told(&other, &[owner("systemd", 1)]), expected);
        assert!(told(&other, &[])[0].starts_with("WARN"));
        let elsewhere = [
            (&format!("{wants}/x.socket")[..], ""),
            ("/usr/lib/systemd/system/x.socket", "[Socket]\nListenStream=5130\nListenStream=/run/513\n"),
        ];
        assert!(told(&elsewhere, &[]).is_empty());
        let ours = [
            (&format!("{wants}/rlogind.socket")[..], ""),
            ("/usr/lib/systemd/system/rlogind.socket", "[Socket]\nListenStream=513\n"),
            ("/etc/systemd/system/multi-user.target.wants/rlogind.service", ""),
        ];
        assert_eq!(told(&ours[..2], &[]), ["ok socket unit rlogind.socket is enabled"]);
        assert!(
            told(&ours, &[])[0].starts_with("WARN socket unit rlogind.socket and rlogind.service are both")
        );
    }
}
