//! Whether this machine's packet filter may be what keeps clients away: a hint, no more.
//!
//! Must never change a rule, nor load what would filter: the lists are asked for only where the
//! kernel filters already.

use std::process::{Command, Stdio};

use super::machine::Machine;
use crate::check::Report;

const WHAT: &str = "firewall";
const NFT: [&str; 2] = ["/usr/sbin/nft", "/sbin/nft"];
/// What the kernel shows of the older filter.
const LEGACY: [(&str, &str); 2] =
    [("/proc/net/ip_tables_names", "iptables-legacy"), ("/proc/net/ip6_tables_names", "ip6tables-legacy")];

/// Reports on the packet filter.
pub(super) fn inspect(report: &mut Report, machine: &Machine, ports: &[u16]) {
    let mut seen = false;
    for (file, program) in LEGACY {
        if machine.read(file).is_ok_and(|text| text.lines().any(|table| table == "filter")) {
            seen = true;
            let text = format!("{program} has rules, which are not read here");
            report.note(WHAT, text).mend(format!("look whether they let clients in: {program} -S INPUT"));
        }
    }
    if machine.exists("/sys/module/nf_tables") {
        seen = true;
        match ruleset(machine) {
            Some(text) => judge(report, &text, ports),
            None => report
                .note(WHAT, "nftables is there, and its rules cannot be read from here")
                .mend("look whether they let clients in: nft list ruleset"),
        }
    }
    if !seen {
        report.ok(WHAT, "no packet filter seen on this machine");
    }
}

/// The rules as nft(8) lists them.
fn ruleset(machine: &Machine) -> Option<String> {
    let program = NFT.into_iter().find(|program| machine.exists(program))?;
    let mut command = Command::new(machine.path(program));
    let output = command.args(["list", "ruleset"]).env_clear().stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether chains for what comes in drop anything, and whether a rule names the ports.
fn judge(report: &mut Report, ruleset: &str, ports: &[u16]) {
    let input: Vec<&str> = ruleset.split("\tchain ").filter(|chain| chain.contains("hook input")).collect();
    let drops = |chain: &&&str| ["drop", "reject"].iter().any(|word| words(chain).any(|w| w == *word));
    let ports: Vec<String> = ports.iter().map(u16::to_string).chain(["login".to_owned()]).collect();
    let names = |chain: &str| {
        let rules = chain.lines().filter(|line| line.contains("dport"));
        rules.flat_map(words).any(|word| ports.iter().any(|port| port == word))
    };
    if input.iter().filter(drops).count() == 0 {
        report.ok(WHAT, "nftables drops nothing that comes in");
    } else if names(ruleset) {
        let text = "nftables drops some of what comes in, and names the port";
        report.note(WHAT, text).mend("look whether the rules let your clients in: nft list ruleset");
    } else {
        let text = format!("nftables drops some of what comes in, and no rule names port {}", ports[0]);
        let port = &ports[0];
        report.warn(WHAT, text).mend(format!(
            "let clients in: ufw allow {port}/tcp, firewall-cmd --permanent --add-port={port}/tcp, or a rule for nft"
        ));
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;

    fn judged(rules: &str) -> String {
        let ruleset = format!(
            "table inet filter {{\n\tset blocked {{\n\t}}\n\n\tchain input {{\n\t\ttype filter hook input \
             priority filter; {rules}\n\t}}\n\n\tchain forward {{\n\t\ttype filter hook forward priority \
             filter; policy drop;\n\t}}\n}}\n"
        );
        let mut report = Report::default();
        judge(&mut report, &ruleset, &[513]);
        lines(&report).remove(0)
    }

    #[test]
    fn rules_of_nftables() {
        assert_eq!(judged("policy accept;"), "ok firewall nftables drops nothing that comes in");
        assert_eq!(
            judged("policy drop;\n\t\ttcp dport { 22, 80 } accept"),
            "WARN firewall nftables drops some of what comes in, and no rule names port 513"
        );
        for rule in [
            "tcp dport { 22, 513 } accept",
            "tcp dport login accept",
            "ip saddr 192.0.2.0/24 tcp dport 513 accept",
        ] {
            assert_eq!(
                judged(&format!("policy drop;\n\t\t{rule}")),
                "note firewall nftables drops some of what comes in, and names the port"
            );
        }
        // 513 as something else than a port.
        assert!(judged("policy accept;\n\t\tcounter packets 513 bytes 513 reject").starts_with("WARN"));
    }

    #[test]
    fn what_the_kernel_shows() {
        let told = |files: &[(&str, &str)]| {
            let (_folder, machine) = machine(files);
            let mut report = Report::default();
            inspect(&mut report, &machine, &[513]);
            lines(&report)
        };
        assert_eq!(told(&[]), ["ok firewall no packet filter seen on this machine"]);
        assert_eq!(told(&[("/proc/net/ip_tables_names", "")]).len(), 1);
        let legacy = told(&[("/proc/net/ip_tables_names", "nat\nfilter\n")]);
        assert_eq!(legacy[0], "note firewall iptables-legacy has rules, which are not read here");
        let nft = told(&[("/sys/module/nf_tables/refcnt", "9")]);
        assert_eq!(nft[0], "note firewall nftables is there, and its rules cannot be read from here");
    }
}
