//! Whether a daemon runs, and whether it is the one that should.

use std::path::PathBuf;

use nix::unistd::geteuid;

use super::machine::Machine;
use crate::check::{self, Owner, Report};
use crate::config::{Config, Control};

const WHAT: &str = "daemon";

/// What listens on a port: the port, and the processes.
pub(super) type Listening = (u16, Vec<Owner>);

/// The process id of the daemon that has one of the ports: the monitor, whose children have the
/// listener as well.
pub(super) fn pid(machine: &Machine, listening: &[Listening]) -> Option<u32> {
    let owners = listening.iter().flat_map(|(_, owners)| owners);
    let ours: Vec<u32> = owners.filter(|owner| owner.is_rlogind()).map(|owner| owner.pid).collect();
    ours.iter().copied().find(|&pid| parent(machine, pid).is_none_or(|parent| !ours.contains(&parent)))
}

/// Reports on the daemon. `handed`: somebody else listens, and starts rlogind.
pub(super) fn inspect(
    report: &mut Report,
    machine: &Machine,
    config: &Config,
    listening: &[Listening],
    handed: bool,
) {
    let Some(pid) = pid(machine, listening) else {
        let in_use = listening.iter().any(|(port, _)| check::is_listened_on(*port));
        if handed {
            report.ok(WHAT, "does not run; it is started for those who connect");
        } else if in_use && !geteuid().is_root() {
            report.note(WHAT, "somebody listens; who it is cannot be seen from here").mend("ask as root");
        } else {
            let text = "does not run, and nobody listens in its place";
            report.warn(WHAT, text).mend("systemctl start rlogind, or: rlogind --daemon");
        }
        return;
    };
    report.ok(WHAT, format!("runs (pid {pid})"));
    let image = std::fs::read_link(machine.path(format!("/proc/{pid}/exe"))).unwrap_or_default();
    if image.to_string_lossy().ends_with(" (deleted)") {
        let text = format!("pid {pid} runs an executable that was replaced since");
        report
            .warn(WHAT, text)
            .mend(format!("{}: it executes the new one and keeps the sessions", command("upgrade", config)));
    }
    // What a service manager opened takes the place of the configuration's addresses.
    let activated = listening.iter().flat_map(|(_, owners)| owners).any(Owner::is_service_manager);
    for address in config.listen.iter().filter(|_| !activated) {
        let there = listening.iter().any(|(port, owners)| *port == address.port() && !owners.is_empty());
        if !there {
            let text = format!("pid {pid} does not listen on {address}, though \"listen\" has it");
            report
                .warn(WHAT, text)
                .mend(format!("{}, unless it was started with --listen", command("reload", config)));
        }
    }
}

/// A command for the daemon that has this configuration's socket.
fn command(name: &str, config: &Config) -> String {
    let socket = &config.control.socket;
    if *socket == Control::default().socket {
        return format!("rlogind {name}");
    }
    format!("rlogind {name} --socket {}", socket.display())
}

fn parent(machine: &Machine, pid: u32) -> Option<u32> {
    let status = machine.read(PathBuf::from(format!("/proc/{pid}/status"))).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;
    use crate::config;

    fn owner(name: &str, pid: u32) -> Owner {
        Owner { name: name.to_owned(), pid, unit: None }
    }

    #[test]
    fn the_monitor_is_told_from_its_relay() {
        let (_folder, machine) =
            machine(&[("/proc/9/status", "Name:\tx\nPPid:\t12\n"), ("/proc/12/status", "PPid:\t1\n")]);
        let rlogind = |pid| owner("rlogind", pid);
        assert_eq!(pid(&machine, &[(513, vec![rlogind(9), rlogind(12), owner("systemd", 1)])]), Some(12));
        assert_eq!(pid(&machine, &[(513, vec![owner("systemd", 1)]), (1, vec![])]), None);
    }

    #[test]
    fn one_that_does_not_run() {
        let (_folder, machine) = machine(&[]);
        let told = |handed| {
            let mut report = Report::default();
            inspect(&mut report, &machine, &Config::default(), &[], handed);
            lines(&report)
        };
        assert_eq!(told(true), ["ok daemon does not run; it is started for those who connect"]);
        assert_eq!(told(false)[0], "WARN daemon does not run, and nobody listens in its place");
    }

    #[test]
    fn one_that_is_old_or_listens_elsewhere() {
        let (_folder, machine) = machine(&[("/proc/12/status", "PPid:\t1\n")]);
        symlink("/usr/sbin/rlogind (deleted)", machine.path("/proc/12/exe")).unwrap();
        let config =
            config::parse("listen = [\"[::]:513\", \"127.0.0.1:514\"]\n", Path::new("test")).unwrap();
        let mut report = Report::default();
        let listening = [(513, vec![owner("rlogind", 12)]), (514, vec![])];
        inspect(&mut report, &machine, &config, &listening, false);
        let expected = [
            "ok daemon runs (pid 12)",
            "WARN daemon pid 12 runs an executable that was replaced since",
            "→ rlogind upgrade: it executes the new one and keeps the sessions",
            "WARN daemon pid 12 does not listen on 127.0.0.1:514, though \"listen\" has it",
            "→ rlogind reload, unless it was started with --listen",
        ];
        assert_eq!(lines(&report), expected);
        let elsewhere = Config {
            control: Control { socket: "/run/other/control".into(), ..Control::default() },
            ..Config::default()
        };
        assert_eq!(command("reload", &elsewhere), "rlogind reload --socket /run/other/control");
        let mut report = Report::default();
        let listening = [(513, vec![owner("rlogind", 12), owner("systemd", 1)]), (514, vec![])];
        inspect(&mut report, &machine, &config, &listening, true);
        assert_eq!(lines(&report), expected[..3]);
    }
}
