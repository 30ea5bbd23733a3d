//! The tcp wrappers' files, `/etc/hosts.allow` and `/etc/hosts.deny`. tcpd asks them for an rlogin server that it
//! starts; rlogind never reads them, so what they shut out gets in when it takes the port over.

use ipnet::IpNet;

use super::machine::Machine;
use crate::check::Report;
use crate::config::{Access, Config};
use networks::{everywhere, joined, without};
use table::{Effect, Entry};

mod networks;
mod options;
pub mod table;

const WHAT: &str = "tcp wrappers";
/// The files in the order in which they are asked, and whether their lines grant.
const FILES: [(&str, bool); 2] = [("/etc/hosts.allow", true), ("/etc/hosts.deny", false)];
/// As many networks may stand in `allow`, and in `deny` (rlogind.toml(5)).
const MOST_NETWORKS: usize = 256;

/// Reports on the lines that are about rlogin. `asked`: a superserver starts rlogind, and may ask them.
pub(super) fn inspect(report: &mut Report, machine: &Machine, config: &Config, asked: bool) {
    let mut entries = Vec::new();
    for (file, grants) in FILES {
        let text = machine.read(file).unwrap_or_default();
        entries.extend(table::read(&text, grants).into_iter().map(|entry| (file, entry)));
    }
    if entries.is_empty() {
        return;
    }
    let permitted = permitted(entries.iter().map(|(_, entry)| entry));
    let lost = entries.iter().any(|(_, entry)| entry.lost.iter().any(|lost| lost.effect != Effect::Mistake));
    let ours = without(&joined(config.access.allow.clone()), &config.access.deny);
    if ours == permitted && !lost {
        return report.ok(WHAT, format!("{} say what allow and deny say", places(&entries)));
    }
    // Where somebody has written their own, they have decided already.
    let decided = config.access != Access::default();
    let mut found = |text: String, mend: String| {
        let finding = if asked || decided { report.note(WHAT, text) } else { report.warn(WHAT, text) };
        finding.mend(mend);
    };
    let why = if asked {
        "apply only where the superserver asks them"
    } else {
        "are about rlogin, and rlogind does not read them"
    };
    found(format!("{} {why}", places(&entries)), advice(&permitted, &entries));
    for (file, entry) in &entries {
        for lost in &entry.lost {
            let (effect, mend) = in_words(lost.effect);
            let word = lost.word.escape_debug();
            let is_mistake = lost.effect == Effect::Mistake;
            let what = if is_mistake { "a mistake" } else { "not translated" };
            found(
                format!("{file}:{}: {what}: {word} ({}): {effect}", entry.number, lost.why),
                mend.to_owned(),
            );
        }
    }
}

/// Where the lines stand.
fn places(entries: &[(&str, Entry)]) -> String {
    let places: Vec<String> =
        entries.iter().map(|(file, entry)| format!("{file}:{}", entry.number)).collect();
    places.join(", ")
}

fn in_words(effect: Effect) -> (&'static str, &'static str) {
    match effect {
        Effect::LetsIn => (
            "clients that it shuts out would be let in",
            "write the addresses of those clients into \"deny\"",
        ),
        Effect::ShutsOut => (
            "clients that it lets in would be shut out",
            "write the addresses of those clients into \"allow\"",
        ),
        Effect::NotDone => {
            ("is not done", "the audit log names each connection; rlogind runs no command for it")
        }
        Effect::Mistake => (
            "the translation does what tcpd does with it",
            "if the line was meant otherwise, mend it and ask again",
        ),
    }
}

/// Who may connect: the first line that matches decides, and without one everybody may. The entries of both files, in
/// the order in which they are asked.
pub fn permitted<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<IpNet> {
    let (mut undecided, mut permitted) = (everywhere(), Vec::new());
    // Lines that say the same of one another decide together: thousands of them, as blocking tools write them, one by
    // one would take too long.
    let entries: Vec<&Entry> = entries.into_iter().collect();
    for lines in entries.chunk_by(|one, next| one.grants == next.grants) {
        let clients = lines.iter().flat_map(|entry| entry.clients.clone()).collect();
        let left = without(&undecided, &joined(clients));
        if lines.iter().any(|entry| entry.grants) {
            permitted.extend(without(&undecided, &left));
        }
        undecided = left;
    }
    permitted.extend(undecided);
    joined(permitted)
}

/// `allow` and `deny` that say the same, as short as can be; `None` when these lists would be longer than they may.
pub fn translated<'a>(
    permitted: &[IpNet],
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Option<(Vec<IpNet>, Vec<IpNet>)> {
    let granting = entries.into_iter().filter(|entry| entry.grants);
    let named = joined(granting.flat_map(|entry| entry.named.clone()).collect());
    let choices = [everywhere(), permitted.to_vec(), named].into_iter().filter_map(|allow| {
        let deny = without(&allow, permitted);
        let says_it = without(permitted, &allow).is_empty();
        let short = allow.len() <= MOST_NETWORKS && deny.len() <= MOST_NETWORKS;
        (says_it && short).then_some((allow, deny))
    });
    choices.min_by_key(|(allow, deny)| allow.len() + deny.len())
}

/// The lines that say the same.
fn advice(permitted: &[IpNet], entries: &[(&str, Entry)]) -> String {
    let Some((allow, deny)) = translated(permitted, entries.iter().map(|(_, entry)| entry)) else {
        return "say it with \"allow\" and \"deny\" in rlogind.toml; the same needs more networks than they take"
            .to_owned();
    };
    format!("in rlogind.toml: `allow = {}` and `deny = {}`", list(&allow), list(&deny))
}

/// As TOML has it.
fn list(networks: &[IpNet]) -> String {
    let whole = |network: &IpNet| network.prefix_len() == network.max_prefix_len();
    let shown = networks.iter().map(|network| {
        if whole(network) { format!("\"{}\"", network.addr()) } else { format!("\"{network}\"") }
    });
    format!("[{}]", shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;
    use crate::config;

    fn told_with(config: &str, allow: &str, deny: &str, asked: bool) -> Vec<String> {
        let (_folder, machine) = machine(&[(FILES[0].0, allow), (FILES[1].0, deny)]);
        let config = config::parse(config, Path::new("test")).unwrap();
        let mut report = Report::default();
        inspect(&mut report, &machine, &config, asked);
        lines(&report)
    }

    fn told(allow: &str, deny: &str) -> Vec<String> {
        told_with("", allow, deny, false)
    }

    /// The lines to use, which have to be a configuration that permits the same.
    fn advised(allow: &str, deny: &str) -> String {
        let told = told(allow, deny);
        let mend = told.get(1).expect("a line with a mend").strip_prefix("→ in rlogind.toml: ").unwrap();
        let toml = mend.trim_matches('`').replace("` and `", "\n");
        let said = told_with(&toml, allow, deny, false);
        assert!(said[0].starts_with("ok ") || told.len() > 2, "{said:?}");
        toml.replace('"', "").replace('\n', " ")
    }

    #[test]
    fn without_a_line_about_rlogin_there_is_nothing_to_say() {
        assert!(told("", "").is_empty());
        assert!(told("sshd: ALL\n", "ALL EXCEPT in.rlogind: ALL\n# rlogind: ALL\n").is_empty());
        let (_folder, machine) = machine(&[]);
        let mut report = Report::default();
        inspect(&mut report, &machine, &Config::default(), false);
        assert!(report.findings.is_empty());
        let ok = "ok tcp wrappers /etc/hosts.allow:1 say what allow and deny say";
        assert_eq!(told("ALL: ALL\n", ""), [ok]);
    }

    #[test]
    fn lines_are_named_and_translated() {
        let told = told("sshd: ALL\nin.rlogind: 192.0.2.\n", "ALL: ALL\n");
        let expected = [
            "WARN tcp wrappers /etc/hosts.allow:2, /etc/hosts.deny:1 are about rlogin, and rlogind does not read them",
            "→ in rlogind.toml: `allow = [\"192.0.2.0/24\"]` and `deny = []`",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn the_first_line_that_matches_decides() {
        let everywhere = "allow = [0.0.0.0/0, ::/0]";
        for (allow, deny, toml) in [
            ("", "ALL: ALL", "allow = [] deny = []".to_owned()),
            ("", "in.rlogind: 192.0.2.7", format!("{everywhere} deny = [192.0.2.7]")),
            ("", "in.rlogind: ALL EXCEPT 192.0.2.", "allow = [192.0.2.0/24] deny = []".to_owned()),
            (
                "ALL: 192.0.2.7 [2001:db8::]/32",
                "ALL: ALL",
                "allow = [192.0.2.7, 2001:db8::/32] deny = []".to_owned(),
            ),
            ("ALL: 10. EXCEPT 10.1.2.3", "ALL: ALL", "allow = [10.0.0.0/8] deny = [10.1.2.3]".to_owned()),
            (
                "ALL: 10.1.2.3: deny\nALL: 10.",
                "ALL: ALL",
                "allow = [10.0.0.0/8] deny = [10.1.2.3]".to_owned(),
            ),
            ("ALL: 10.128.0.0/9", "ALL: 10.", format!("{everywhere} deny = [10.0.0.0/9]")),
            ("", "ALL: 10.\nALL: 10.1.2.3: allow", format!("{everywhere} deny = [10.0.0.0/8]")),
        ] {
            assert_eq!(advised(&format!("{allow}\n"), &format!("{deny}\n")), toml, "{allow} | {deny}");
        }
    }

    #[test]
    fn what_cannot_be_translated_is_said_line_by_line() {
        let told = told(
            "in.rlogind: 192.0.2. .example.org\nin.rlogind: LOCAL EXCEPT @guests: spawn /bin/log %h\n",
            "# all\nALL: ALL: twist /bin/echo \u{1b}no\n",
        );
        let name = "WARN tcp wrappers /etc/hosts.allow:1: not translated: .example.org (a domain): clients that it lets \
                    in would be shut out";
        assert_eq!(told[2..4], [name, "→ write the addresses of those clients into \"allow\""]);
        let netgroup = "clients that it shuts out would be let in";
        assert!(
            told.iter().any(|line| line.contains("@guests (a netgroup)") && line.ends_with(netgroup)),
            "{told:#?}"
        );
        assert!(
            told.iter().any(|line| line.contains("allow:2: not translated: LOCAL (names without a dot)"))
        );
        assert!(
            told.iter().any(|line| line.contains("allow:2: not translated: spawn /bin/log %h (a command"))
        );
        let twist =
            "deny:2: not translated: twist /bin/echo \\u{1b}no (another program in the place of rlogin; its";
        assert!(told.iter().any(|line| line.contains(twist)), "{told:#?}");
        assert!(told[1].contains("`allow = [\"192.0.2.0/24\"]` and `deny = []`"), "{told:#?}");
    }

    #[test]
    fn who_has_decided_or_is_asked_by_tcpd_gets_no_warning() {
        let deny = "ALL: ALL\n";
        let decided = told_with("allow = [\"192.0.2.0/24\"]\n", "in.rlogind: .example.org\n", deny, false);
        assert!(decided.len() == 4 && decided[0].starts_with("note ") && decided[2].starts_with("note "));
        let asked = told_with("", "", deny, true);
        assert_eq!(
            asked[0],
            "note tcp wrappers /etc/hosts.deny:1 apply only where the superserver asks them"
        );
    }

    #[test]
    fn more_networks_than_allow_takes_are_not_advised() {
        let lines: Vec<String> = (0..300).map(|n| format!("ALL: 10.{}.{}.1\n", n / 256, n % 256)).collect();
        let told = told(&lines.concat(), "ALL: ALL\n");
        assert!(told[1].ends_with("the same needs more networks than they take"), "{told:?}");
    }
}
