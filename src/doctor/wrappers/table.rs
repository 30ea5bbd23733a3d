//! The language of `/etc/hosts.allow` and `/etc/hosts.deny`, hosts_access(5) and hosts_options(5): the lines that are
//! about rlogin, and the addresses in them. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::networks::{everywhere, joined, without};

/// The names of rlogin servers; those of services are not what these files have.
const DAEMONS: [&str; 2] = ["in.rlogind", "rlogind"];

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
}

impl Effect {
    fn other(self) -> Effect {
        match self {
            Effect::LetsIn => Effect::ShutsOut,
            Effect::ShutsOut => Effect::LetsIn,
            Effect::NotDone => Effect::NotDone,
        }
    }
}

/// The lines about rlogin in a file whose lines grant, or refuse, unless they say otherwise.
#[must_use]
pub fn read(text: &str, grants: bool) -> Vec<Entry> {
    lines(text).into_iter().filter_map(|(number, line)| entry(number, &line, grants)).collect()
}

/// The lines with their numbers, those put together that a backslash goes on with.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut begun: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let (first, mut whole) = begun.take().unwrap_or((number, String::new()));
        if let Some(part) = line.strip_suffix('\\') {
            whole.push_str(part);
            begun = Some((first, whole));
        } else {
            whole.push_str(line);
            lines.push((first, whole));
        }
    }
    lines.extend(begun);
    lines
}

fn entry(number: usize, line: &str, mut grants: bool) -> Option<Entry> {
    if line.starts_with('#') {
        return None;
    }
    let fields = fields(line);
    let (daemons, rest) = fields.split_first()?;
    let (clients, options) = rest.split_first()?;
    let daemons = words(daemons);
    let applies = applies(&daemons);
    if applies == Applies::No {
        return None;
    }
    let mut lost = Vec::new();
    for option in options {
        grants = self::option(option, grants, &mut lost);
    }
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

/// What stands between colons; not those in `[…]` and behind a backslash.
fn fields(line: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let (mut begin, mut bracket, mut escaped) = (0, false, false);
    for (at, letter) in line.char_indices() {
        match letter {
            '[' => bracket = true,
            ']' => bracket = false,
            ':' if !bracket && !escaped => {
                fields.push(line[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
        escaped = letter == '\\';
    }
    fields.push(line[begin..].trim());
    fields
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
    if daemon == "all" || DAEMONS.iter().any(|name| known(name)) { applies } else { Applies::No }
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
            Err(why) => lost.push(Lost { word: (*word).to_owned(), why, effect }),
        }
    }
    let named = joined(named);
    let (_, holes) = except.map(|list| clients_of(list, effect.other(), lost)).unwrap_or_default();
    let included = without(&named, &holes);
    (named, included)
}

/// The addresses that a word means; or why it means none.
fn client(word: &str) -> Result<Vec<IpNet>, &'static str> {
    let upper = word.to_ascii_uppercase();
    match upper.as_str() {
        "ALL" => return Ok(everywhere()),
        "LOCAL" => return Err("names without a dot"),
        "KNOWN" | "UNKNOWN" | "PARANOID" => {
            return Err(
                "depends on the client's name; login.confirm_host refuses clients without a confirmed one",
            );
        }
        _ => {}
    }
    if word.starts_with('@') {
        return Err("a netgroup");
    }
    if word.starts_with('/') {
        return Err("a file with patterns");
    }
    if word.contains('@') {
        return Err("depends on the client's user");
    }
    network(word).map(|network| vec![network])
}

fn network(word: &str) -> Result<IpNet, &'static str> {
    if let Some(rest) = word.strip_prefix('[') {
        return ipv6(rest).ok_or("not an IPv6 network").and_then(without_bits);
    }
    if let Some(prefix) = word.strip_suffix('.')
        && let Some(network) = octets(prefix)
    {
        return Ok(network);
    }
    if let Some((address, mask)) = word.split_once('/') {
        return ipv4(address, mask).ok_or("not a network with a mask").and_then(without_bits);
    }
    if let Ok(address) = word.parse::<Ipv4Addr>() {
        return Ok(IpNet::from(IpAddr::V4(address)));
    }
    Err(if word.contains(['*', '?']) {
        "a pattern"
    } else if word.starts_with('.') {
        "a domain"
    } else {
        "a host name"
    })
}

/// `192.0.2.` without its last dot.
fn octets(prefix: &str) -> Option<IpNet> {
    let mut octets = [0; 4];
    let mut bits = 0;
    for part in prefix.split('.') {
        *octets.get_mut(usize::from(bits / 8)).filter(|_| bits < 24)? = part.parse().ok()?;
        bits += 8;
    }
    Some(Ipv4Net::new(Ipv4Addr::from(octets), bits).ok()?.into())
}

fn ipv4(address: &str, mask: &str) -> Option<IpNet> {
    let address: Ipv4Addr = address.parse().ok()?;
    let net = match mask.parse::<Ipv4Addr>() {
        Ok(mask) => Ipv4Net::with_netmask(address, mask),
        Err(_) => Ipv4Net::new(address, mask.parse().ok()?),
    };
    net.ok().map(IpNet::from)
}

/// What stands behind the `[`.
fn ipv6(rest: &str) -> Option<IpNet> {
    let (address, behind) = rest.split_once(']')?;
    let address: Ipv6Addr = address.parse().ok()?;
    let bits = match behind.strip_prefix('/') {
        Some(bits) => bits.parse().ok()?,
        None if behind.is_empty() => 128,
        None => return None,
    };
    Ipv6Net::new(address, bits).ok().map(IpNet::from)
}

/// tcpd compares the client's address under the mask with all of what stands there.
fn without_bits(network: IpNet) -> Result<IpNet, &'static str> {
    if network.addr() == network.network() {
        return Ok(network);
    }
    Err("has bits beyond its mask, and matches nobody")
}

/// What an option says of those who match: whether they may connect.
fn option(option: &str, grants: bool, lost: &mut Vec<Lost>) -> bool {
    let name = option.split([' ', '\t', '=']).next().unwrap_or_default().to_ascii_lowercase();
    match name.as_str() {
        "" => return grants,
        "allow" => return true,
        "deny" => return false,
        _ => {}
    }
    let twist = name == "twist";
    let why = match name.as_str() {
        "twist" => "another program in the place of rlogin; its clients are refused here",
        "aclexec" => "a program that decides",
        "severity" | "keepalive" | "linger" | "nice" | "rfc931" | "setenv" | "umask" | "user" | "group"
        | "banners" | "daemon" => "an option of tcpd",
        // An old line's third field is the command itself.
        _ => "a command for each connection",
    };
    lost.push(Lost { word: option.to_owned(), why, effect: Effect::NotDone });
    grants && !twist
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
            "# one\\\nin.rlogind: ALL\nin.rlogind: 192.0.2.1 \\\n 192.0.2.2\\\r\n\nALL:10.\r\nALL: 192.0.2.9";
        let expected = ["3: 192.0.2.1/32 192.0.2.2/32", "6: 10.0.0.0/8", "7: 192.0.2.9/32"];
        assert_eq!(told(text), expected);
        assert_eq!(told("ALL: 10.\\"), ["1: 10.0.0.0/8"]);
    }

    #[test]
    fn clients_that_are_addresses() {
        for (clients, networks) in [
            ("ALL", "0.0.0.0/0 ::/0"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.", "192.0.2.0/24"),
            ("10.", "10.0.0.0/8"),
            ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
            ("192.0.2.0/255.255.255.255", "192.0.2.0/32"),
            ("0.0.0.0/0.0.0.0", "0.0.0.0/0"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("[2001:db8::]/32", "2001:db8::/32"),
            ("[2001:db8::1]", "2001:db8::1/128"),
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
            ("192.0.2.7/255.255.255.0", "has bits beyond its mask, and matches nobody"),
            ("[2001:db8::1]/32", "has bits beyond its mask, and matches nobody"),
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
        assert!(client("PARANOID").unwrap_err().contains("login.confirm_host"));
    }

    #[test]
    fn options_decide_or_are_lost() {
        let text = "ALL: 10.: deny\nALL: 10.: severity auth.info: DENY\nALL: 10.: twist /bin/echo no\n\
                    ALL: 10.: spawn (/bin/log %h)&: allow\nALL: 10.: (/bin/mail root) &\nALL: 10. :\n";
        let expected = [
            "1: 10.0.0.0/8 refused",
            "2: 10.0.0.0/8 refused -severity auth.info",
            "3: 10.0.0.0/8 refused -twist /bin/echo no",
            "4: 10.0.0.0/8 -spawn (/bin/log %h)&",
            "5: 10.0.0.0/8 -(/bin/mail root) &",
            "6: 10.0.0.0/8",
        ];
        assert_eq!(told(text), expected);
        assert!(read("ALL: 10.: allow\n", false)[0].grants);
    }

    #[test]
    fn a_line_for_one_address_of_the_machine_is_lost() {
        assert_eq!(told("in.rlogind@192.0.2.1: 10.\n"), ["1:  -in.rlogind@192.0.2.1"]);
        assert_eq!(told("in.rlogind@192.0.2.1 ALL: 10.\n"), ["1: 10.0.0.0/8"]);
        assert_eq!(told("ALL EXCEPT in.rlogind@192.0.2.1: 10.\n"), ["1:  -in.rlogind@192.0.2.1"]);
        assert!(told("sshd@192.0.2.1: 10.\n").is_empty());
    }
}
