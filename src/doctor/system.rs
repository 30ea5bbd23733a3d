//! What the system has to have: a syslogd, the files of the login records, room for the sessions,
//! and a kernel that can lock the relay up.

use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::sys::resource::{Resource, getrlimit};

use super::machine::Machine;
use crate::audit::syslog;
use crate::check::Report;
use crate::config::{Config, Records};
use crate::sys::file;
use crate::sys::records::{BTMP, UTMP, WTMP};
use crate::sys::sandbox;

/// What the monitor holds of one session: socket, terminal, process and channel. The relay has fewer.
const PER_SESSION: u64 = 4;
/// What a daemon has open without any.
const ANYWAY: u64 = 64;
/// The first kernel with all the calls that are needed (waitid(2) with P_PIDFD).
const OLDEST_KERNEL: (u32, u32) = (5, 4);

/// Reports on the way to syslogd. It is connected to, and nothing is written.
pub(super) fn syslog(report: &mut Report, machine: &Machine) {
    let path = machine.path(syslog::SOCKET);
    let reached = UnixDatagram::unbound().and_then(|socket| socket.connect(&path));
    // Some listen on a stream.
    match reached.or_else(|error| UnixStream::connect(&path).map(drop).map_err(|_| error)) {
        Ok(()) => report.ok("syslog", format!("somebody reads {}", syslog::SOCKET)),
        Err(error) => {
            let text = format!("{}: {error}; the audit log gets nowhere", syslog::SOCKET);
            report.warn("syslog", text).mend("start rsyslogd, or systemd-journald-dev-log.socket");
        }
    }
}

/// Reports on the files of the login records.
pub(super) fn records(report: &mut Report, machine: &Machine, config: &Config) {
    const WHAT: &str = "login records";
    if config.audit.records == Records::No {
        report.note(WHAT, "none: audit.records is \"no\", so who and last know of nobody");
        return;
    }
    let files = [(UTMP, "who", "664"), (WTMP, "last", "664"), (BTMP, "lastb", "660")];
    let (there, missing): (Vec<_>, Vec<_>) = files.into_iter().partition(|(file, ..)| machine.exists(file));
    let (wrong, there): (Vec<_>, Vec<_>) =
        there.into_iter().partition(|(file, ..)| file::other_kind(&machine.path(file)).is_some());
    for (file, program, mode) in wrong {
        let kind = file::other_kind(&machine.path(file)).unwrap_or_default();
        // PAM modules and the C library open it as well, and wait.
        let text = format!("{file} is {kind}: logins may wait for it, and {program} cannot read it");
        report.fail(WHAT, text).mend(format!("rm {file}; install -m {mode} -g utmp /dev/null {file}"));
    }
    if !there.is_empty() {
        let names: Vec<&str> = there.iter().map(|(file, ..)| *file).collect();
        report.ok(WHAT, names.join(" "));
    }
    for (file, program, mode) in missing.iter().filter(|_| config.audit.records == Records::Auto) {
        let finding = report.note(WHAT, format!("there is no {file}: {program} knows nothing of logins"));
        finding.mend(format!("install -m {mode} -g utmp /dev/null {file}, or audit.records = \"yes\""));
    }
}

/// Reports on descriptors and terminals. `daemon`: the one that runs.
pub(super) fn room(report: &mut Report, machine: &Machine, config: &Config, daemon: Option<u32>) {
    let sessions = u64::from(config.limits.sessions);
    let of_daemon = daemon.and_then(|pid| {
        let limits = machine.read(format!("/proc/{pid}/limits")).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        let hard = line.split_whitespace().nth(1)?;
        Some(hard.parse().unwrap_or(u64::MAX))
    });
    let own = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard);
    descriptors(report, sessions, of_daemon.unwrap_or(own));
    let most = machine.number("/proc/sys/kernel/pty/max");
    let reserve = machine.number("/proc/sys/kernel/pty/reserve").unwrap_or(0);
    let used = machine.number("/proc/sys/kernel/pty/nr").unwrap_or(0);
    match most {
        Some(most) if most < sessions.saturating_add(reserve) => {
            let text = format!("the system has {most} ({reserve} of them reserved), for {sessions} sessions");
            report
                .warn("terminals", text)
                .mend("sysctl -w kernel.pty.max=8192, or a smaller limits.sessions");
        }
        Some(most) => report.ok("terminals", format!("{used} of {most} are in use")),
        None => {
            let finding = report.warn("terminals", "the system does not say how many there can be");
            finding.mend("mount /proc, and devpts on /dev/pts");
        }
    }
}

fn descriptors(report: &mut Report, sessions: u64, hard: u64) {
    let needed = sessions * PER_SESSION + ANYWAY;
    if hard >= needed {
        report.ok("descriptors", format!("enough for {sessions} sessions"));
        return;
    }
    let enough = hard.saturating_sub(ANYWAY) / PER_SESSION;
    let text = format!("the hard limit of {hard} is enough for {enough} sessions, not for {sessions}");
    // Shells get the old limit back, so a unit's LimitNOFILE= does them no harm.
    let mend = format!("LimitNOFILE=1024:{needed} in a drop-in for the unit, or a smaller limits.sessions");
    report.warn("descriptors", text).mend(mend);
}

/// Reports on the kernel.
pub(super) fn kernel(report: &mut Report, machine: &Machine) {
    kernel_with(report, machine, sandbox::landlock_version(), sandbox::FILTERED);
}

fn kernel_with(report: &mut Report, machine: &Machine, landlock: i64, filtered: bool) {
    const WHAT: &str = "kernel";
    let release = machine.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().escape_debug().to_string();
    let (oldest, younger) = OLDEST_KERNEL;
    if version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        report.fail(WHAT, format!("{release} is too old")).mend(format!("Linux {oldest}.{younger} or later"));
    }
    let status = machine.read("/proc/self/status").unwrap_or_default();
    let seccomp = status.lines().any(|line| line.starts_with("Seccomp:"));
    if filtered && !seccomp {
        let finding =
            report.fail(WHAT, format!("{release} has no seccomp filters, so the relay does not start"));
        finding.mend("a kernel with CONFIG_SECCOMP_FILTER");
    } else if !filtered {
        report
            .note(WHAT, "system calls are not filtered on this architecture; the relay's other walls stand");
    }
    if landlock == 0 {
        let text = format!("{release} has no Landlock; the relay's other walls stand");
        report.note(WHAT, text).mend("Linux 5.13 or later, with \"landlock\" in its lsm= list");
    } else if filtered && seccomp {
        report.ok(WHAT, format!("{release}, with seccomp and Landlock (version {landlock})"));
    } else {
        report.ok(WHAT, format!("{release}, with Landlock (version {landlock})"));
    }
}

/// The first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;
    use crate::config;

    fn told(files: &[(&str, &str)], inspect: impl FnOnce(&mut Report, &Machine)) -> Vec<String> {
        let (_folder, machine) = machine(files);
        let mut report = Report::default();
        inspect(&mut report, &machine);
        lines(&report)
    }

    #[test]
    fn syslog_is_read_by_somebody_or_not() {
        let (_folder, machine) = machine(&[("/dev/x", "")]);
        let told = || {
            let mut report = Report::default();
            syslog(&mut report, &machine);
            lines(&report).remove(0)
        };
        assert!(told().starts_with("WARN syslog /dev/log: No such file"));
        let reader = UnixDatagram::bind(machine.path("/dev/log")).unwrap();
        assert_eq!(told(), "ok syslog somebody reads /dev/log");
        drop(reader);
        assert!(told().starts_with("WARN syslog /dev/log: Connection refused"));
        std::fs::remove_file(machine.path("/dev/log")).unwrap();
        let _stream = UnixListener::bind(machine.path("/dev/log")).unwrap();
        assert_eq!(told(), "ok syslog somebody reads /dev/log");
    }

    #[test]
    fn records_that_are_there_and_missing() {
        let config = |text: &str| config::parse(text, Path::new("test")).unwrap();
        let files = [(UTMP, ""), (BTMP, "")];
        let expected = [
            "ok login records /var/run/utmp /var/log/btmp",
            "note login records there is no /var/log/wtmp: last knows nothing of logins",
            "→ install -m 664 -g utmp /dev/null /var/log/wtmp, or audit.records = \"yes\"",
        ];
        assert_eq!(told(&files, |r, m| records(r, m, &config(""))), expected);
        let all = "[audit]\nrecords = \"yes\"\n";
        assert_eq!(told(&files, |r, m| records(r, m, &config(all))), expected[..1]);
        let odd = told(&files, |report, machine| {
            std::fs::create_dir(machine.path(WTMP)).unwrap();
            records(report, machine, &config(""));
        });
        assert_eq!(
            odd[0],
            "FAIL login records /var/log/wtmp is a directory: logins may wait for it, and last cannot read it"
        );
        let none = "[audit]\nrecords = \"no\"\n";
        assert!(told(&files, |r, m| records(r, m, &config(none)))[0].starts_with("note login records none"));
    }

    #[test]
    fn room_for_the_sessions() {
        let config = config::parse("[limits]\nsessions = 100\n", Path::new("test")).unwrap();
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 264                 files\n";
        let files = [
            ("/proc/7/limits", limits),
            ("/proc/sys/kernel/pty/max", "110\n"),
            ("/proc/sys/kernel/pty/reserve", "20\n"),
        ];
        let expected = [
            "WARN descriptors the hard limit of 264 is enough for 50 sessions, not for 100",
            "→ LimitNOFILE=1024:464 in a drop-in for the unit, or a smaller limits.sessions",
            "WARN terminals the system has 110 (20 of them reserved), for 100 sessions",
            "→ sysctl -w kernel.pty.max=8192, or a smaller limits.sessions",
        ];
        assert_eq!(told(&files, |r, m| room(r, m, &config, Some(7))), expected);
        let limits = limits.replace("264", "464");
        let files = [
            ("/proc/7/limits", &limits[..]),
            ("/proc/sys/kernel/pty/max", "120\n"),
            ("/proc/sys/kernel/pty/reserve", "20\n"),
        ];
        assert_eq!(
            told(&files, |r, m| room(r, m, &config, Some(7))),
            ["ok descriptors enough for 100 sessions", "ok terminals 0 of 120 are in use"]
        );
    }

    #[test]
    fn kernels() {
        let of = |release: &str, status: &str, landlock, filtered| {
            let files = [("/proc/sys/kernel/osrelease", release), ("/proc/self/status", status)];
            told(&files, |r, m| kernel_with(r, m, landlock, filtered))
        };
        let seccomp = "Name:\tx\nSeccomp:\t0\n";
        assert_eq!(
            of("6.1.0-9\n", seccomp, 2, true),
            ["ok kernel 6.1.0-9, with seccomp and Landlock (version 2)"]
        );
        assert!(of("5.10.0\n", seccomp, 0, true)[0].starts_with("note kernel 5.10.0 has no Landlock"));
        assert_eq!(of("4.19.0\n", seccomp, 0, true)[0], "FAIL kernel 4.19.0 is too old");
        assert!(of("6.1.0\n", "", 2, true)[0].starts_with("FAIL kernel 6.1.0 has no seccomp filters"));
        assert!(of("6.1.0\n", "", 2, false)[0].starts_with("note kernel system calls are not filtered"));
    }
}
