//! The language of `/etc/hosts.allow` and `/etc/hosts.deny`, hosts_access(5) and hosts_options(5): the lines that are
//! about rlogin, and the addresses in them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::networks::{everywhere, joined, without};
use super::options;

/// The names of rlogin servers; those of services are not what these files have.
const DAEMONS: [&str; 2] = ["in.rlogind", "rlogind"];

/// So many bytes are too many for a line, its newline not counted: tcpd has a buffer of 2048 for it.
const LONGEST: usize = 2047;
/// How much of a line is shown.
const SHOWN: usize = 40;

/// A line about rlogin.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The number of its first line in the file, from 1.
    pub number: usize,
    /// Its clients may connect.
    pub grants: bool,
    /// Its clients, as far as they are addresses.
    pub clients: Vec<IpNet>,
    /// The same before `EXCEPT`.
    pub named: Vec<IpNet>,
    /// What is not among them.
    pub lost: Vec<Lost>,
}

/// A word of a line that `allow` and `deny` cannot say.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    /// As it stands there.
    pub word: String,
    /// What it is.
    pub why: &'static str,
    /// What follows from leaving it out.
    pub effect: Effect,
}

/// What it means that a word is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Clients that it shuts out would be let in.
    LetsIn,
    /// Clients that it lets in would be shut out.
    ShutsOut,
    /// Something is not done any more.
    NotDone,
    /// Nothing: tcpd takes it for a mistake, and the translation does what tcpd does then.
    Mistake,
}

impl Effect {
    fn other(self) -> Effect {
        match self {
            Effect::LetsIn => Effect::ShutsOut,
            Effect::ShutsOut => Effect::LetsIn,
            Effect::NotDone => Effect::NotDone,
            Effect::Mistake => Effect::Mistake,
        }
    }
}

/// The lines about rlogin in a file whose lines grant, or refuse, unless they say otherwise.
#[must_use]
pub fn read(text: &str, grants: bool) -> Vec<Entry> {
    let mut lines = lines(text).into_iter();
    let mut entries = Vec::new();
    while let Some(Line { number, text, complete }) = lines.next() {
        if complete {
            entries.extend(entry(number, &text, grants));
            continue;
        }
        // tcpd reads no further. What would let in is passed over; what would refuse refuses all.
        let counts = !grants
            || entry(number, &text, grants).is_some()
            || lines.any(|line| entry(line.number, &line.text, grants).is_some());
        if counts {
            entries.push(broken(number, &text, grants));
        }
        break;
    }
    entries
}

/// A line that tcpd does not read to its end.
fn broken(number: usize, text: &str, grants: bool) -> Entry {
    let word = text.chars().take(SHOWN).collect();
    let why = if grants {
        "too long, or without a newline: tcpd reads neither it nor what follows"
    } else {
        "too long, or without a newline: tcpd refuses everybody"
    };
    let clients = if grants { Vec::new() } else { everywhere() };
    Entry {
        number,
        grants,
        named: clients.clone(),
        clients,
        lost: vec![Lost { word, why, effect: Effect::Mistake }],
    }
}

/// What a file has between newlines, those put together that a backslash goes on with.
struct Line {
    /// Of its first one.
    number: usize,
    text: String,
    /// It has a newline at its end, and fits into tcpd's buffer.
    complete: bool,
}

fn lines(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut begun: Option<Line> = None;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let mut whole = begun.take().unwrap_or(Line { number, text: String::new(), complete: false });
        if let Some(part) = line.strip_suffix("\\\n") {
            whole.text.push_str(part);
            begun = Some(whole);
        } else {
            let part = line.strip_suffix('\n');
            whole.text.push_str(part.unwrap_or(line));
            whole.complete = part.is_some() && whole.text.len() < LONGEST;
            lines.push(whole);
        }
    }
    lines.extend(begun);
    lines
}

fn entry(number: usize, line: &str, grants: bool) -> Option<Entry> {
    if line.starts_with('#') {
        return None;
    }
    let (daemons, rest) = at_colon(line)?;
    let (clients, options) = match at_colon(rest) {
        Some((clients, options)) => (clients, Some(options)),
        None => (rest, None),
    };
    let daemons = words(daemons);
    let applies = applies(&daemons);
    if applies == Applies::No {
        return None;
    }
    let mut lost = Vec::new();
    let grants = options.map_or(grants, |options| options::verdict(options, grants, &mut lost));
    let effect = if grants { Effect::ShutsOut } else { Effect::LetsIn };
    let (mut named, mut included) = (Vec::new(), Vec::new());
    if applies == Applies::Partly {
        let word =
            daemons.iter().find(|word| applies_word(word) == Applies::Partly).copied().unwrap_or_default();
        lost.push(Lost { word: word.to_owned(), why: "holds for one address of this machine only", effect });
    } else {
        (named, included) = clients_of(&words(clients), effect, &mut lost);
    }
    Some(Entry { number, grants, clients: included, named, lost })
}

/// What stands before and behind the first colon that is not in `[…]`.
fn at_colon(line: &str) -> Option<(&str, &str)> {
    let mut bracket = false;
    let at = line.find(|letter| {
        match letter {
            '[' => bracket = true,
            ']' => bracket = false,
            _ => {}
        }
        letter == ':' && !bracket
    })?;
    Some((&line[..at], &line[at + 1..]))
}

fn words(list: &str) -> Vec<&str> {
    list.split([' ', '\t', '\r', ',']).filter(|word| !word.is_empty()).collect()
}

/// The list before the first `EXCEPT`, and the one behind it, in which more of them may stand.
fn at_except<'a, 'b>(list: &'a [&'b str]) -> (&'a [&'b str], Option<&'a [&'b str]>) {
    match list.iter().position(|word| word.eq_ignore_ascii_case("EXCEPT")) {
        Some(at) => (&list[..at], Some(&list[at + 1..])),
        None => (list, None),
    }
}

/// Whether a list of daemons has rlogin servers in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Applies {
    No,
    /// On one address of this machine.
    Partly,
    Yes,
}

fn applies(daemons: &[&str]) -> Applies {
    let (list, except) = at_except(daemons);
    let listed = list.iter().map(|word| applies_word(word)).max().unwrap_or(Applies::No);
    match (listed, except.map_or(Applies::No, applies)) {
        (Applies::No, _) | (_, Applies::Yes) => Applies::No,
        (Applies::Yes, Applies::No) => Applies::Yes,
        (Applies::Yes | Applies::Partly, Applies::No | Applies::Partly) => Applies::Partly,
    }
}

fn applies_word(word: &str) -> Applies {
    let word = word.to_ascii_lowercase();
    let (daemon, applies) = match word.split_once('@') {
        Some((daemon, _)) => (daemon, Applies::Partly),
        None => (word.as_str(), Applies::Yes),
    };
    let known = |name: &str| {
        (daemon.ends_with('.') && name.starts_with(daemon))
            || (daemon.starts_with('.') && name.ends_with(daemon))
            || matches(daemon.as_bytes(), name.as_bytes())
    };
    if ["all", "known"].contains(&daemon) || DAEMONS.iter().any(|name| known(name)) {
        applies
    } else {
        Applies::No
    }
}

/// Whether a pattern with `*` and `?` matches. All ways at once: one after the other, a row of stars takes for ever.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // How much of the name the pattern matches so far, in ascending order.
    let mut ends = vec![0];
    for &wanted in pattern {
        let goes_on = |end: &usize| name.get(*end).is_some_and(|&found| wanted == b'?' || wanted == found);
        ends = match (wanted, ends.first()) {
            (b'*', Some(&least)) => (least..=name.len()).collect(),
            _ => ends.into_iter().filter(goes_on).map(|end| end + 1).collect(),
        };
    }
    ends.contains(&name.len())
}

/// The clients of a list before `EXCEPT`, and all of it. `effect`: that of a word which is left out.
fn clients_of(list: &[&str], effect: Effect, lost: &mut Vec<Lost>) -> (Vec<IpNet>, Vec<IpNet>) {
    let (list, except) = at_except(list);
    let mut named = Vec::new();
    for word in list {
        match client(word) {
            Ok(networks) => named.extend(networks),
            Err(Unsaid::Unknown(why)) => lost.push(Lost { word: (*word).to_owned(), why, effect }),
            Err(Unsaid::Nobody(why)) => {
                lost.push(Lost { word: (*word).to_owned(), why, effect: Effect::Mistake });
            }
        }
    }
    let named = joined(named);
    let (_, holes) = except.map(|list| clients_of(list, effect.other(), lost)).unwrap_or_default();
    let included = without(&named, &holes);
    (named, included)
}

/// Why a word means no addresses.
#[derive(Debug, PartialEq, Eq)]
enum Unsaid {
    /// It means some that are not known here.
    Unknown(&'static str),
    /// tcpd finds that it matches nobody.
    Nobody(&'static str),
}

/// The addresses that a word means.
fn client(word: &str) -> Result<Vec<IpNet>, Unsaid> {
    let upper = word.to_ascii_uppercase();
    let why = match upper.as_str() {
        "ALL" | "*" => return Ok(everywhere()),
        "LOCAL" => "names without a dot",
        "KNOWN" | "UNKNOWN" | "PARANOID" => {
            "depends on the client's name; login.confirm_host refuses clients without a confirmed one"
        }
        _ if word.starts_with('@') => "a netgroup",
        _ if word.starts_with('/') => "a file with patterns",
        _ if word.contains('@') => "depends on the client's user",
        _ => return network(word).map(|network| vec![network]),
    };
    Err(Unsaid::Unknown(why))
}

fn network(word: &str) -> Result<IpNet, Unsaid> {
    if let Some(rest) = word.strip_prefix('[') {
        return ipv6(rest).ok_or(Unsaid::Unknown("not an IPv6 network"));
    }
    if let Some(prefix) = word.strip_suffix('.')
        && let Some(network) = octets(prefix)
    {
        return Ok(network);
    }
    if let Some((address, mask)) = word.split_once('/') {
        return ipv4(address, mask);
    }
    if let Ok(address) = word.parse::<Ipv4Addr>() {
        return Ok(IpNet::from(IpAddr::V4(address)));
    }
    Err(Unsaid::Unknown(if word.contains(['*', '?']) {
        "a pattern"
    } else if word.starts_with('.') {
        "a domain"
    } else {
        "a host name"
    }))
}

/// `192.0.2.` without its last dot. tcpd compares the text.
fn octets(prefix: &str) -> Option<IpNet> {
    let mut octets = [0_u8; 4];
    let mut bits = 0;
    for part in prefix.split('.') {
        let octet = octets.get_mut(usize::from(bits / 8)).filter(|_| bits < 24)?;
        *octet = part.parse().ok()?;
        if octet.to_string() != part {
            return None;
        }
        bits += 8;
    }
    Some(Ipv4Net::new(Ipv4Addr::from(octets), bits).ok()?.into())
}

/// tcpd compares the client's address under the mask with all of what stands there.
fn ipv4(address: &str, mask: &str) -> Result<IpNet, Unsaid> {
    const NO_NETWORK: Unsaid = Unsaid::Unknown("not a network with a mask");
    let Ok(address) = address.parse::<Ipv4Addr>() else { return Err(NO_NETWORK) };
    let net = match (mask.parse::<Ipv4Addr>(), mask.parse::<u8>()) {
        (Ok(Ipv4Addr::BROADCAST), _) | (_, Ok(0)) => {
            return Err(Unsaid::Nobody("a mask that tcpd does not take; matches nobody"));
        }
        (Ok(mask), _) => Ipv4Net::with_netmask(address, mask),
        (_, Ok(bits)) => Ipv4Net::new(address, bits),
        _ => return Err(NO_NETWORK),
    };
    match net {
        Ok(net) if net.addr() == net.network() => Ok(net.into()),
        Ok(_) => Err(Unsaid::Nobody("has bits beyond its mask, and matches nobody")),
        Err(_) => Err(NO_NETWORK),
    }
}

/// What stands behind the `[`. Here tcpd compares what is under the mask on both sides.
fn ipv6(rest: &str) -> Option<IpNet> {
    let (address, behind) = rest.split_once(']')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let bits = match behind.strip_prefix('/') {
        Some(bits) => bits.parse().ok()?,
        None if behind.is_empty() => 128,
        None => return None,
    };
    Ipv6Net::new(address, bits).ok().map(|net| net.trunc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entries of a file that grants: number, clients, and what is lost.
    fn told(text: &str) -> Vec<String> {
        let shown = |entry: Entry| {
            let clients: Vec<String> = entry.clients.iter().map(IpNet::to_string).collect();
            let lost = entry.lost.iter().map(|lost| format!(" -{}", lost.word));
            let verdict = if entry.grants { "" } else { " refused" };
            format!("{}: {}{verdict}{}", entry.number, clients.join(" "), lost.collect::<String>())
        };
        read(text, true).into_iter().map(shown).collect()
    }

    #[test]
    fn lines_of_rlogin_are_found_among_others() {
        for daemons in [
            "in.rlogind",
            "rlogind",
            "IN.RLOGIND",
            "ALL",
            "all",
            "sshd, in.rlogind in.telnetd",
            "sshd\tin.rlogind",
            "in.",
            "in.rlogin*",
            "in.?logind",
            "*",
            "*.*l*n?*",
            "****************************************d",
            "ALL EXCEPT sshd in.telnetd",
            "ALL EXCEPT in.rlogind EXCEPT in.rlogind",
            "KNOWN",
            "known",
        ] {
            assert_eq!(told(&format!("{daemons}: 192.0.2.7\n")), ["1: 192.0.2.7/32"], "{daemons}");
        }
        for line in [
            "sshd: ALL",
            "in.rlogin: ALL",
            "in.rlogind?: ALL",
            "****************************************x: ALL",
            "login: ALL",
            "ALL EXCEPT in.rlogind: ALL",
            "ALL EXCEPT ALL: ALL",
            "ALL EXCEPT KNOWN: ALL",
            "UNKNOWN: ALL",
            "@group: ALL",
            "in.rlogind\\: ALL",
            "# in.rlogind: ALL",
            "in.rlogind",
            "",
            " ",
            ": ALL",
        ] {
            assert!(told(&format!("{line}\n")).is_empty(), "{line}");
        }
    }

    #[test]
    fn lines_are_put_together_and_numbered_by_their_first() {
        let text =
            "# one\\\nin.rlogind: ALL\nin.rlogind: 192.0.2.1 \\\n 192.0.2.2\r\n\nALL:10.\r\nALL: 192.0.2.9\n";
        let expected = ["3: 192.0.2.1/32 192.0.2.2/32", "6: 10.0.0.0/8", "7: 192.0.2.9/32"];
        assert_eq!(told(text), expected);
        assert_eq!(told("ALL: 10. \\\r\n"), ["1: 10.0.0.0/8 -\\"], "a backslash elsewhere is a letter");
    }

    #[test]
    fn clients_that_are_addresses() {
        for (clients, networks) in [
            ("ALL", "0.0.0.0/0 ::/0"),
            ("*", "0.0.0.0/0 ::/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.", "192.0.2.0/24"),
            ("10.", "10.0.0.0/8"),
            ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
            ("192.0.2.0/255.255.255.254", "192.0.2.0/31"),
            ("192.0.2.1/32", "192.0.2.1/32"),
            ("0.0.0.0/1", "0.0.0.0/1"),
            ("0.0.0.0/0.0.0.0", "0.0.0.0/0"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("[2001:db8::]/32", "2001:db8::/32"),
            ("[2001:db8::1]", "2001:db8::1/128"),
            ("[2001:db8::1]/32", "2001:db8::/32"),
            ("[2001:db8::1]/0", "::/0"),
            ("192.0.2.1,192.0.2.3", "192.0.2.1/32 192.0.2.3/32"),
            ("192.0.2. EXCEPT 192.0.2.128/25", "192.0.2.0/25"),
            ("192.0.2. except 192.0.2. EXCEPT 192.0.2.7", "192.0.2.7/32"),
            ("[2001:db8::]/32 : spawn /bin/log a\\:b", "2001:db8::/32"),
        ] {
            let entries = read(&format!("ALL: {clients}\n"), true);
            let networks: Vec<IpNet> = networks.split(' ').map(|net| net.parse().unwrap()).collect();
            assert_eq!(entries[0].clients, networks, "{clients}");
            assert!(entries[0].lost.len() == usize::from(clients.contains("spawn")), "{entries:?}");
        }
    }

    #[test]
    fn clients_that_are_none_are_named_with_what_that_means() {
        for (word, why) in [
            ("host.example.org", "a host name"),
            ("localhost", "a host name"),
            ("192.0.2", "a host name"),
            (".example.org", "a domain"),
            ("192.0.2.*", "a pattern"),
            ("LOCAL", "names without a dot"),
            ("@trusted", "a netgroup"),
            ("alice@192.0.2.7", "depends on the client's user"),
            ("/etc/hosts.list", "a file with patterns"),
            ("192.0.2.0/255.0.255.0", "not a network with a mask"),
            ("192.0.2.0/33", "not a network with a mask"),
            ("[2001:db8::]/129", "not an IPv6 network"),
            ("[2001:db8::]/", "not an IPv6 network"),
            ("0192.0.2.", "a host name"),
            ("192.0.002.", "a host name"),
            ("[2001:db8::", "not an IPv6 network"),
            ("[192.0.2.1]", "not an IPv6 network"),
            ("300.0.2.", "a host name"),
        ] {
            for (grants, except, effect) in [
                (true, "", Effect::ShutsOut),
                (false, "", Effect::LetsIn),
                (true, "10. EXCEPT ", Effect::LetsIn),
                (false, "10. EXCEPT ", Effect::ShutsOut),
                (true, "10. EXCEPT 10.1. EXCEPT ", Effect::ShutsOut),
            ] {
                let entries = read(&format!("in.rlogind: {except}{word}\n"), grants);
                assert_eq!(entries[0].lost, [Lost { word: word.to_owned(), why, effect }], "{except}{word}");
            }
        }
        let Err(Unsaid::Unknown(why)) = client("PARANOID") else { panic!("it is known") };
        assert!(why.contains("login.confirm_host"));
    }

    #[test]
    fn networks_that_match_nobody_are_mistakes() {
        for word in [
            "0.0.0.0/0",
            "192.0.2.0/0",
            "192.0.2.1/255.255.255.255",
            "192.0.2.7/255.255.255.0",
            "192.0.2.7/24",
        ] {
            for grants in [true, false] {
                let entries = read(&format!("ALL: {word} 10.\n"), grants);
                assert_eq!(entries[0].clients, ["10.0.0.0/8".parse().unwrap()], "{word}");
                assert!(
                    matches!(&entries[0].lost[..], [lost] if lost.effect == Effect::Mistake),
                    "{entries:?}"
                );
            }
        }
    }

    #[test]
    fn options_decide_or_are_lost() {
        let text = "ALL: 10.: deny\nALL: 10.: severity auth.info: DENY\nALL: 10.: twist /bin/echo no\n\
                    ALL: 10.: spawn (/bin/log %h)&: allow\nALL: 10.: (/bin/mail root) &\nALL: 10. :\n\
                    ALL: [2001:db8::]/32 : allow\nALL: 10. [2001:db8:: : deny\n";
        let expected = [
            "1: 10.0.0.0/8 refused",
            "2: 10.0.0.0/8 refused -severity auth.info",
            "3: 10.0.0.0/8 refused -twist /bin/echo no",
            "4: 10.0.0.0/8 -spawn (/bin/log %h)&",
            "5: 10.0.0.0/8 refused -(/bin/mail root) &",
            "6: 10.0.0.0/8 refused -",
            "7: 2001:db8::/32",
            "8: 10.0.0.0/8 -[2001:db8:: -: -deny",
        ];
        assert_eq!(told(text), expected);
        assert!(read("ALL: 10.: allow\n", false)[0].grants);
    }

    #[test]
    fn a_line_without_a_newline_or_too_long_ends_the_file() {
        let fits = format!("sshd: {}\n", "x".repeat(LONGEST - 7));
        let longer = format!("sshd: {}\n", "x".repeat(LONGEST - 6));
        let joined = longer.replace("sshd: ", "sshd: \\\n");
        for broken in
            ["ALL: 192.0.2.1", "sshd: ALL", "# x", " ", "sshd: ALL\\", "sshd: ALL\\\n", &longer, &joined]
        {
            let entries = read(&format!("ALL: 10.: allow\n{broken}"), false);
            assert!(entries.len() == 2 && !entries[1].grants && entries[1].number == 2, "{entries:?}");
            assert_eq!(entries[1].clients, everywhere(), "{broken}");
            assert_eq!(entries[1].lost[0].effect, Effect::Mistake);
        }
        assert!(read(&fits, false).is_empty());
        // Lines that would grant are passed over.
        assert!(read("sshd: ALL", true).is_empty() && read(&longer, true).is_empty());
        assert_eq!(told("in.rlogind: ALL"), ["1:  -in.rlogind: ALL"]);
        let told = told(&format!("ALL: 10.\n{longer}ALL: 10.1.: deny\nALL: ALL\n"));
        assert!(told.len() == 2 && told[1].starts_with("2:  -sshd: xxx"), "{told:?}");
    }

    #[test]
    fn a_line_for_one_address_of_the_machine_is_lost() {
        assert_eq!(told("in.rlogind@192.0.2.1: 10.\n"), ["1:  -in.rlogind@192.0.2.1"]);
        assert_eq!(told("in.rlogind@192.0.2.1 ALL: 10.\n"), ["1: 10.0.0.0/8"]);
        assert_eq!(told("ALL EXCEPT in.rlogind@192.0.2.1: 10.\n"), ["1:  -in.rlogind@192.0.2.1"]);
        assert!(told("sshd@192.0.2.1: 10.\n").is_empty());
    }
}
