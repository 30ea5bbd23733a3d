//! What lies between client and server: names, services(5), and who forgets silent connections.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::machine::Machine;
use crate::check::Report;
use crate::config::Config;
use crate::sys::resolve::WhyNot;
use crate::sys::socket::KEEPALIVE_IDLE;

const SERVICES: &str = "/etc/services";
const RLOGIN_PORT: u16 = 513;
/// A name service that takes longer is felt at each login.
const SLOW: Duration = Duration::from_secs(2);

/// Reports on the service's name, which clients and superservers of this machine look up.
pub(super) fn services(report: &mut Report, machine: &Machine) {
    const WHAT: &str = "services";
    let mend = "write `login 513/tcp` into /etc/services";
    match machine.read(SERVICES) {
        Err(error) => report.warn(WHAT, format!("{SERVICES}: {error}")).mend(mend),
        Ok(text) => match login_port(&text) {
            Some(RLOGIN_PORT) => report.ok(WHAT, format!("{SERVICES}: login is 513/tcp")),
            Some(port) => {
                let text = format!("{SERVICES}: login is {port}/tcp, and clients here go there");
                report.warn(WHAT, text).mend(mend);
            }
            None => {
                let text = format!("{SERVICES} has no login 513/tcp: clients here do not find the port");
                report.warn(WHAT, text).mend(mend);
            }
        },
    }
}

fn login_port(text: &str) -> Option<u16> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let name = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?.parse().ok()?;
        (name == "login" || words.any(|alias| alias == "login")).then_some(port)
    })
}

/// Reports on a client as a login would see it. `confirm` looks its name up.
pub(super) fn client(
    report: &mut Report,
    config: &Config,
    client: IpAddr,
    confirm: impl FnOnce(IpAddr) -> Result<String, WhyNot>,
) {
    const WHAT: &str = "client";
    if !config.access.permits(client) {
        let finding = report.fail(WHAT, format!("{client}: may not connect"));
        finding.mend("put its network into \"allow\", and take it out of \"deny\"");
    }
    let start = Instant::now();
    let confirmed = confirm(client);
    let took = start.elapsed();
    match confirmed {
        Ok(name) => report.ok(WHAT, format!("{client}: is {name}, and {name} is {client}")),
        Err(why) => {
            let text = format!("{client}: {why}");
            let mend = "let its address and its name lead to one another, in the DNS or in /etc/hosts";
            if config.login.confirm_host {
                report.fail(WHAT, format!("{text}; login.confirm_host refuses it")).mend(mend);
            } else if matches!(why, WhyNot::NoName(_)) {
                report
                    .note(WHAT, format!("{text}; netgroups do not know it, the log has its address"))
                    .mend(mend);
            } else {
                report.warn(WHAT, text).mend(mend);
            }
        }
    }
    if took >= SLOW {
        let text = format!("{client}: its name took {:.1} s, and so does each login", took.as_secs_f64());
        report.warn(WHAT, text).mend("look after /etc/resolv.conf and the hosts line of /etc/nsswitch.conf");
    }
    let files = &config.trust;
    if (files.hosts_equiv || files.rhosts) && !files.files_from.iter().any(|net| net.contains(&client)) {
        let text = format!("{client}: hosts.equiv and .rhosts do not count from there");
        report.note(WHAT, text).mend("where they should, put its network into trust.files_from");
    }
}

/// Reports on whether a reserved port of this machine proves anything. `open`: whether anybody here may open one.
pub(super) fn own_ports(report: &mut Report, machine: &Machine, open: bool) {
    const WHAT: &str = "own ports";
    if open {
        let text = "anybody on this machine may open reserved ports: it is not trusted itself, and others that trust it \
                    let anybody here in as anybody else";
        report.warn(WHAT, text).mend("set net.ipv4.ip_unprivileged_port_start to 1024 (sysctl)");
        for (family, name) in [("IPv4", "net.ipv4.ip_nonlocal_bind"), ("IPv6", "net.ipv6.ip_nonlocal_bind")] {
            // Then any address can be bound, and none can be told from an own one.
            if machine.number(&format!("/proc/sys/{}", name.replace('.', "/"))).is_some_and(|set| set != 0) {
                let text = format!(
                    "{name} is set: each {family} address passes for one of this machine's own, so that \
                     nobody is trusted from a port that anybody may open here"
                );
                report
                    .note(WHAT, text)
                    .mend("set it to 0 (sysctl), or net.ipv4.ip_unprivileged_port_start to 1024");
            }
        }
    } else {
        report.ok(WHAT, "only root may open reserved ports on this machine");
    }
}

/// Reports on how long a silent connection lives.
pub(super) fn timeouts(report: &mut Report, machine: &Machine, config: &Config) {
    const WHAT: &str = "time-outs";
    let keepalive = Duration::from_secs(u64::from(KEEPALIVE_IDLE));
    let conntrack = machine.number("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established");
    let conntrack = conntrack.map(Duration::from_secs);
    let forgets = conntrack.map(|time| format!("; this machine's conntrack forgets after {}", span(time)));
    let forgets = forgets.unwrap_or_default();
    if !config.limits.keepalive {
        let text = format!("limits.keepalive is off: a client that vanished keeps its session{forgets}");
        report.warn(WHAT, text).mend("limits.keepalive = true, or an end by limits.idle");
    } else if conntrack.is_some_and(|time| time <= keepalive) {
        let text = format!("silent clients are asked after {} only{forgets}", span(keepalive));
        let name = "net.netfilter.nf_conntrack_tcp_timeout_established";
        report.warn(WHAT, text).mend(format!("sysctl -w {name}=432000, and in /etc/sysctl.d"));
    } else {
        report.ok(WHAT, format!("silent clients are asked after {}{forgets}", span(keepalive)));
    }
    let retries = machine.number("/proc/sys/net/ipv4/tcp_retries2");
    if let Some(retries) = retries.filter(|&retries| retries < 8 && config.limits.unacknowledged.is_zero()) {
        let text = format!("net.ipv4.tcp_retries2 is {retries}: a short break of the network ends sessions");
        report.warn(WHAT, text).mend("sysctl -w net.ipv4.tcp_retries2=15, and in /etc/sysctl.d");
    }
}

/// A time for people, in its largest whole unit.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        172_800.. => format!("{} days", seconds / 86400),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;
    use crate::config;

    fn config(text: &str) -> Config {
        config::parse(text, Path::new("test")).unwrap()
    }

    #[test]
    fn the_services_name() {
        let told = |text: &str| {
            let (_folder, machine) = machine(&[(SERVICES, text)]);
            let mut report = Report::default();
            services(&mut report, &machine);
            lines(&report).remove(0)
        };
        let fine = "ok services /etc/services: login is 513/tcp";
        assert_eq!(told("who 513/udp\nlogin\t\t513/tcp\nshell 514/tcp\n"), fine);
        assert_eq!(told("rlogin 513/tcp remote login # x\n"), fine);
        assert!(told("login 5130/tcp\n").starts_with("WARN services /etc/services: login is 5130/tcp"));
        for text in ["#login 513/tcp\n", "login 513/udp\n", "rlogin 513/tcp # login\n", ""] {
            assert!(told(text).starts_with("WARN services /etc/services has no login 513/tcp"), "{text}");
        }
    }

    #[test]
    fn a_client_as_a_login_sees_it() {
        let told = |text: &str, confirmed: Result<&str, WhyNot>| {
            let mut report = Report::default();
            let confirm = |_| confirmed.map(str::to_owned);
            client(&mut report, &config(text), "192.0.2.7".parse().unwrap(), confirm);
            lines(&report)
        };
        let nameless = || Err(WhyNot::NoName("unknown".to_owned()));
        let other = || Err(WhyNot::NotForward("x.example".to_owned()));
        assert_eq!(
            told("", Ok("c.example")),
            ["ok client 192.0.2.7: is c.example, and c.example is 192.0.2.7"]
        );
        assert!(told("", nameless())[0].starts_with("note client 192.0.2.7: no name: unknown; netgroups"));
        assert!(
            told("", other())[0].starts_with("WARN client 192.0.2.7: the reverse name x.example does not")
        );
        let strict = "[login]\nconfirm_host = true\n";
        for why in [nameless(), other()] {
            let told = told(strict, why);
            assert!(
                told[0].starts_with("FAIL") && told[0].ends_with("; login.confirm_host refuses it"),
                "{told:?}"
            );
        }
        let elsewhere = told("allow = [\"10.0.0.0/8\"]\n[trust]\nfiles_from = [\"10.0.0.0/8\"]\n", Ok("c"));
        assert_eq!(elsewhere[0], "FAIL client 192.0.2.7: may not connect");
        assert_eq!(elsewhere[3], "note client 192.0.2.7: hosts.equiv and .rhosts do not count from there");
    }

    #[test]
    fn reserved_ports_that_prove_nothing() {
        let told = |open: bool, files: &[(&str, &str)]| {
            let (_folder, machine) = machine(files);
            let mut report = Report::default();
            own_ports(&mut report, &machine, open);
            lines(&report)
        };
        let [any4, any6] = ["ipv4", "ipv6"].map(|family| format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
        let set = [(any4.as_str(), "1\n"), (any6.as_str(), "1\n")];
        let off = [(any4.as_str(), "0\n"), (any6.as_str(), "0\n")];
        assert_eq!(told(false, &set), ["ok own ports only root may open reserved ports on this machine"]);
        for files in [&[][..], &off] {
            let told = told(true, files);
            assert!(told[0].starts_with("WARN own ports anybody on this machine"), "{told:?}");
            assert!(!told.iter().any(|line| line.contains("nonlocal")), "{told:?}");
        }
        let told = told(true, &set);
        let notes: Vec<_> = told.iter().filter(|line| line.starts_with("note own ports ")).collect();
        assert_eq!(notes.len(), 2, "{told:?}");
        assert!(notes[0].contains("net.ipv4.ip_nonlocal_bind is set: each IPv4 address"), "{told:?}");
        assert!(notes[1].contains("net.ipv6.ip_nonlocal_bind is set: each IPv6 address"), "{told:?}");
    }

    #[test]
    fn who_forgets_silent_connections() {
        let told = |files: &[(&str, &str)], text: &str| {
            let (_folder, machine) = machine(files);
            let mut report = Report::default();
            timeouts(&mut report, &machine, &config(text));
            lines(&report)
        };
        let conntrack = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established";
        assert_eq!(told(&[], ""), ["ok time-outs silent clients are asked after 2 min"]);
        assert_eq!(
            told(&[(conntrack, "432000\n")], ""),
            [
                "ok time-outs silent clients are asked after 2 min; this machine's conntrack forgets after 5 days"
            ]
        );
        assert!(told(&[(conntrack, "100\n")], "")[0].starts_with("WARN"));
        assert!(
            told(&[], "[limits]\nkeepalive = false\n")[0]
                .starts_with("WARN time-outs limits.keepalive is off")
        );
        let retries = ("/proc/sys/net/ipv4/tcp_retries2", "3\n");
        assert!(told(&[retries], "")[1].starts_with("WARN time-outs net.ipv4.tcp_retries2 is 3"));
        assert_eq!(told(&[retries], "[limits]\nunacknowledged = \"60s\"\n").len(), 1);
    }

    #[test]
    fn spans() {
        let spans = [100, 120, 7199, 7200, 432_000].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["100 s", "2 min", "119 min", "2 h", "5 days"]);
    }
}
