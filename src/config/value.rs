//! What a string in the configuration may be: durations, addresses, networks,
//! names. Pure; each error is the rest of a sentence about the string.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::{RuleHost, Startups};

/// The longest path of a Unix socket (`sun_path` less its NUL, unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// The longest name of a TCPMUX service: with its line end it fits a request many times over.
const TCPMUX_SERVICE_MAX: usize = 64;

/// The facilities that people use, by syslog.conf(5); there are a few more.
const FACILITIES: [&str; 20] = [
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// No duration is longer: time arithmetic downstream must not overflow.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// An address and port to listen on, e.g. `0.0.0.0:513` or `[::]:513`; a
/// v4-mapped address becomes the IPv4 address.
///
/// # Errors
/// Says what is wrong when it is not one, or when the port is 0.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let address = SocketAddr::from_str(text)
        .map_err(|_| format!("{text:?} is not ADDRESS:PORT{}", address_hint(text)))?;
    match (address.port(), address.ip().to_canonical()) {
        (0, _) => Err(format!("{text:?} has port 0")),
        (port, ip @ IpAddr::V4(_)) => Ok(SocketAddr::new(ip, port)),
        // As it is: an IPv6 address may carry a scope.
        (_, IpAddr::V6(_)) => Ok(address),
    }
}

/// What may have been meant instead of an address and a port.
fn address_hint(text: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let every = |port: &str| format!(" (0.0.0.0:{port} is every IPv4 address, [::]:{port} every address)");
    if text.is_empty() {
        return " (it is empty)".to_owned();
    }
    if text.split([',', ';']).flat_map(str::split_whitespace).nth(1).is_some() {
        return " (write one address only; several are several strings in the list, or several --listen)"
            .to_owned();
    }
    if text.contains(char::is_whitespace) {
        return " (write it without white space)".to_owned();
    }
    if text.contains("://") {
        return " (write only the address and the port, without \"://\" and what is before it)".to_owned();
    }
    if let Some(rest) = text.strip_prefix('[') {
        return bracketed_hint(rest);
    }
    if is_number(text) {
        return every(text);
    }
    let is_ipv4 = |text: &str| text.parse::<Ipv4Addr>().is_ok();
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()) || host.contains(':') {
        return " (an IPv6 address goes in brackets: [::1]:513)".to_owned();
    }
    if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !is_ipv4(host) {
        return format!(" ({host} is not an IPv4 address)");
    }
    if let Some(hint) = port_hint(port) {
        return hint;
    }
    if host.is_empty() || host == "*" {
        return every(port);
    }
    if is_host_name(host) {
        return format!(" ({host} is a name; write its address)");
    }
    format!(" ({host:?} is not an address)")
}

/// As [`address_hint`], for what is behind a first bracket.
fn bracketed_hint(rest: &str) -> String {
    let Some((address, port)) = rest.split_once(']') else {
        return " (the closing bracket is missing: [::1]:513)".to_owned();
    };
    if address.parse::<Ipv4Addr>().is_ok() {
        return format!(" (an IPv4 address has no brackets: {address}:513)");
    }
    let (ipv6, scope) = address.split_once('%').unwrap_or((address, "0"));
    if ipv6.parse::<Ipv6Addr>().is_err() {
        return format!(" ({ipv6:?} is not an IPv6 address)");
    }
    if scope.parse::<u32>().is_err() {
        return format!(
            " ({scope:?} is not a scope's number; \"ip link\" has the numbers of the interfaces: [fe80::1%2]:513)"
        );
    }
    match port.strip_prefix(':') {
        Some(port) => port_hint(port).unwrap_or_default(),
        None if port.is_empty() => " (the port is missing)".to_owned(),
        None => " (the port goes after a colon: [::1]:513)".to_owned(),
    }
}

fn port_hint(port: &str) -> Option<String> {
    if port.is_empty() {
        Some(" (the port is missing)".to_owned())
    } else if port.bytes().any(|b| !b.is_ascii_digit()) {
        Some(format!(" ({port:?} is no port: {PORTS})"))
    } else if port.parse::<u16>().is_err() {
        Some(format!(" (port {port} is more than 65535)"))
    } else {
        None
    }
}

/// What a port is.
const PORTS: &str = "a port is a number from 1 to 65535";

/// A client's port.
///
/// # Errors
/// Says what a port is.
pub fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| PORTS.to_owned())
}

/// A client's address; a v4-mapped one becomes IPv4, as everywhere in this program.
///
/// # Errors
/// Says what is wrong, and not with which text.
pub fn client_address(text: &str) -> Result<IpAddr, String> {
    let parse = |text: &str| text.parse::<IpAddr>().ok();
    parse(text).map(|address| address.to_canonical()).ok_or_else(|| {
        let bracketed = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let name = text.rsplit_once(':').map_or(text, |(host, _)| host);
        let hint = if text.is_empty() {
            " (it is empty)".to_owned()
        } else if let Some(address) = bracketed.and_then(parse).or_else(|| parse(text.trim())) {
            format!(" (write {address}, without anything around it)")
        } else if text.parse::<IpNet>().is_ok() {
            " (it is a network; write one address of it)".to_owned()
        } else if let Ok(address) = text.parse::<SocketAddr>() {
            format!(" (write {}, without the port)", address.ip())
        } else if let Some(address) = text.split_once('%').and_then(|(address, _)| parse(address)) {
            format!(" (write {address}, without the interface)")
        } else if is_host_name(name) {
            format!(" ({name} is a name; write its address)")
        } else {
            String::new()
        };
        format!("not an IP address{hint}")
    })
}

/// The name of an account that is looked for, whatever it is like.
///
/// # Errors
/// It is empty.
pub fn account_to_find(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("the name of the account is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// A whole number with a unit: `500ms`, `10s`, `5m`, `2h`, `1d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    if unit_ms == 0 || number.is_empty() {
        return Err(format!("{text:?} is not a number with a unit: ms, s, m, h or d"));
    }
    let ms = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    ms.map(Duration::from_millis)
        .filter(|d| *d <= LONGEST)
        .ok_or_else(|| format!("{text:?} is longer than a year"))
}

/// A network in CIDR notation or a single address; a v4-mapped one becomes IPv4.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            let name = if is_host_name(text) { "; a name does not do here" } else { "" };
            format!("{text:?} is not a network: an address, or one with the length of its prefix, such as 192.0.2.0/24{name}")
        })?,
    };
    // More bits than the prefix covers: one of the two is a mistake, and the
    // wrong guess would trust more hosts than were meant.
    if net.addr() != net.network() {
        return Err(format!("{text:?} has bits beyond its prefix; is {} meant?", net.trunc()));
    }
    Ok(unmapped(net))
}

/// Peers are compared with v4-mapped addresses turned into IPv4, so networks must be too.
fn unmapped(net: IpNet) -> IpNet {
    let v4 = match net.addr() {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => v6.to_ipv4_mapped(),
    };
    let v4_net = |v4: Ipv4Addr| Some(Ipv4Net::new(v4, net.prefix_len().checked_sub(96)?).ok()?.into());
    v4.and_then(v4_net).unwrap_or(net)
}

/// `start:rate:full`, none of the numbers more than `most`.
pub(super) fn startups(text: &str, most: u32) -> Result<Startups, String> {
    let numbers: Option<Vec<u32>> = text
        .split(':')
        .map(|part| part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit())))
        .collect();
    let Some([start, rate, full]) = numbers.as_deref() else {
        return Err(format!("{text:?} is neither a number nor START:RATE:FULL, three numbers"));
    };
    let (start, rate, full) = (*start, *rate, *full);
    if start == 0 || start > full || full > most || !(1..=100).contains(&rate) {
        let rules = format!("1 or more, 1 to 100, and not less than the first and not more than {most}");
        return Err(format!("{text:?}: START:RATE:FULL must be {rules}"));
    }
    Ok(Startups { start, rate, full })
}

/// An entry of a rule's `from`: a network, an address or a host name.
pub(super) fn rule_host(text: &str) -> Result<RuleHost, String> {
    if text.parse::<IpAddr>().is_ok() || text.contains(['/', ':']) {
        return network(text).map(RuleHost::Net);
    }
    if is_host_name(text) {
        return Ok(RuleHost::Name(text.to_owned()));
    }
    Err(format!("{text:?} is neither a network, nor an address, nor a host name"))
}

/// RFC 1123 section 2.1, with `_` as many networks have it. A last label that
/// the resolver would read as a number (`10.1`, `0x7f000001`) is no name:
/// inet_aton(3) makes an address of it that nobody meant.
fn is_host_name(text: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or("").to_ascii_lowercase();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= 253 && text.split('.').all(label_fits) && !numeric
}

/// The name of an account, or of a user on the client's side.
pub(super) fn account(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("an empty name".to_owned());
    }
    // "-name", "+" and "@group" mean something in hosts.equiv, and nothing here:
    // who writes one must not believe that it works.
    if text.starts_with(['-', '+', '@']) {
        return Err(format!("{text:?} is not a name: it starts with '-', '+' or '@'"));
    }
    if text.contains([':', '/']) || text.contains(char::is_whitespace) {
        return Err(format!("{text:?} is not a name: it has ':', '/' or white space"));
    }
    Ok(text.to_owned())
}

/// The account the relay runs as.
pub(super) fn relay_account(text: &str) -> Result<String, String> {
    if text == "root" {
        return Err("the relay must not run as root".to_owned());
    }
    account(text)
}

/// A name in a rule's `remote_users`: as an account's, or `+` for anyone.
pub(super) fn remote_user(text: &str) -> Result<String, String> {
    if text == "+" { Ok(text.to_owned()) } else { account(text) }
}

/// A file name below `/etc/pam.d`. PAM reads service names in lower case
/// whatever their spelling, so another spelling would name a file that is not used.
pub(super) fn pam_service(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if text.is_empty() || text.starts_with('.') || !text.bytes().all(fits) {
        return Err(format!("{text:?} is not the name of a PAM service (lower case, digits, '-', '_', '.')"));
    }
    Ok(text.to_owned())
}

/// The path of the control socket.
pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > SOCKET_PATH_MAX {
        return Err(format!("{text:?} is longer than a socket's path can be ({SOCKET_PATH_MAX} bytes)"));
    }
    absolute(text)
}

/// The name of a group, or `""` for none.
pub(super) fn optional_group(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { account(text).map(Some) }
}

/// A file to show, or `""` for none.
pub(super) fn optional_file(text: &str) -> Result<Option<PathBuf>, String> {
    if text.is_empty() { Ok(None) } else { absolute(text).map(Some) }
}

/// The daemon's working directory is nothing an administrator should have to know.
fn absolute(text: &str) -> Result<PathBuf, String> {
    if !Path::new(text).is_absolute() || text.ends_with('/') {
        return Err(format!("{text:?} is not the absolute path of a file"));
    }
    Ok(PathBuf::from(text))
}

/// The name of a TCPMUX service. Superservers write it into files of words, so it is one that means nothing else there.
pub(super) fn tcpmux_service(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) || !text.bytes().all(fits) {
        return Err(format!("{text:?} is not a service's name (letters, digits, '-', '_', '.')"));
    }
    if text.len() > TCPMUX_SERVICE_MAX {
        return Err(format!("{text:?} is longer than {TCPMUX_SERVICE_MAX} bytes"));
    }
    if text.eq_ignore_ascii_case("help") {
        return Err(format!("{text:?} asks for the names of the services, and cannot be one"));
    }
    Ok(text.to_owned())
}

/// The name of a syslog facility, by syslog.conf(5).
pub(super) fn facility(text: &str) -> Result<String, String> {
    match syslog::Facility::from_str(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(()) => Err(format!("{text:?} is no syslog facility: {}", FACILITIES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "10",
            "s",
            "10 s",
            "10S",
            "1.5s",
            "-1s",
            "+1s",
            "1h30m",
            "10µs",
            "366d",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn listen_addresses() {
        for (text, same_as) in [
            ("0.0.0.0:513", "0.0.0.0:513"),
            ("[::]:513", "[::]:513"),
            ("[fe80::1%2]:513", "[fe80::1%2]:513"),
            ("[::ffff:192.0.2.1]:513", "192.0.2.1:513"),
        ] {
            assert_eq!(listen_address(text), Ok(same_as.parse().unwrap()), "{text}");
        }
        for text in
            ["", "513", ":513", "*:513", "::513", "0.0.0.0", "0.0.0.0:0", "0.0.0.0:65536", "localhost:513"]
        {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_to_listen_on_is_told_with_a_hint() {
        for (text, hint) in [
            ("localhost:513", " (localhost is a name; write its address)"),
            ("127.0.0.1:65536", " (port 65536 is more than 65535)"),
            ("[::1]:70000", " (port 70000 is more than 65535)"),
            ("::513", " (an IPv6 address goes in brackets: [::1]:513)"),
            ("::1:99999", " (an IPv6 address goes in brackets: [::1]:513)"),
            ("127.0.0.1", " (the port is missing)"),
            ("[::1]", " (the port is missing)"),
            ("513", " (0.0.0.0:513 is every IPv4 address, [::]:513 every address)"),
            ("*:513", " (0.0.0.0:513 is every IPv4 address, [::]:513 every address)"),
            (
                "http://1.2.3.4:513",
                " (write only the address and the port, without \"://\" and what is before it)",
            ),
            (
                "127.0.0.1:513 [::]:513",
                " (write one address only; several are several strings in the list, or several --listen)",
            ),
            (
                "127.0.0.1:513,[::]:513",
                " (write one address only; several are several strings in the list, or several --listen)",
            ),
            (" 127.0.0.1:513", " (write it without white space)"),
            ("1.2.3.4:", " (the port is missing)"),
            ("[::1]:", " (the port is missing)"),
            ("1.2.3.4:-1", " (\"-1\" is no port: a port is a number from 1 to 65535)"),
            ("[::1]:+1", " (\"+1\" is no port: a port is a number from 1 to 65535)"),
            ("127.0.0.1:rlogin", " (\"rlogin\" is no port: a port is a number from 1 to 65535)"),
            ("256.1.1.1:513", " (256.1.1.1 is not an IPv4 address)"),
            ("10.1", " (10.1 is not an IPv4 address)"),
            ("[127.0.0.1]:513", " (an IPv4 address has no brackets: 127.0.0.1:513)"),
            ("[host]:513", " (\"host\" is not an IPv6 address)"),
            (
                "[fe80::1%lo]:513",
                " (\"lo\" is not a scope's number; \"ip link\" has the numbers of the interfaces: [fe80::1%2]:513)",
            ),
            ("[::1:513", " (the closing bracket is missing: [::1]:513)"),
            ("[::1]513", " (the port goes after a colon: [::1]:513)"),
            ("", " (it is empty)"),
        ] {
            assert_eq!(listen_address(text), Err(format!("{text:?} is not ADDRESS:PORT{hint}")));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_wrong_address_is_without_a_hint(
            text in proptest::prop_oneof!["[0-9a-fgz:.%*/\\[\\], -]{0,24}", "\\PC{0,12}"]
        ) {
            if let Err(why) = listen_address(&text) {
                proptest::prop_assert!(why.ends_with(')') || why.ends_with("has port 0"), "{}", why);
            }
            let _ = client_address(&text);
        }
    }

    #[test]
    fn what_is_no_clients_address_is_told_with_a_hint() {
        assert_eq!(client_address("::ffff:192.0.2.7"), Ok("192.0.2.7".parse().unwrap()));
        for (text, hint) in [
            ("[::1]", " (write ::1, without anything around it)"),
            ("::1 ", " (write ::1, without anything around it)"),
            ("localhost", " (localhost is a name; write its address)"),
            ("localhost:513", " (localhost is a name; write its address)"),
            ("10.0.0.0/8", " (it is a network; write one address of it)"),
            ("1.2.3.4:5", " (write 1.2.3.4, without the port)"),
            ("[::1]:5", " (write ::1, without the port)"),
            ("fe80::1%eth0", " (write fe80::1, without the interface)"),
            ("256.1.1.1", ""),
            ("", " (it is empty)"),
        ] {
            assert_eq!(client_address(text), Err(format!("not an IP address{hint}")), "{text}");
        }
    }

    #[test]
    fn tcpmux_services() {
        let longest = "x".repeat(64);
        for text in ["login", "RLOGIN", "7", "acme-login_2.0", "helper", &longest] {
            assert_eq!(tcpmux_service(text), Ok(text.to_owned()), "{text}");
        }
        let too_long = "x".repeat(65);
        for text in ["", "help", "HELP", "+login", "-login", ".login", "a/b", "a b", "a#b", "é", &too_long] {
            assert!(tcpmux_service(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        for (text, same_as) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text), Ok(same_as.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "192.0.2.1/24",
            "192.0.2.0/33",
            "192.0.2",
            "2001:db8::1/32",
            "::/129",
            "host",
            "fe80::1%eth0",
        ] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn startups_are_three_numbers_that_make_sense() {
        assert_eq!(startups("10:30:60", 60), Ok(Startups { start: 10, rate: 30, full: 60 }));
        assert_eq!(startups("1:100:1", 60), Ok(Startups::limit(1)));
        for text in [
            "",
            "10",
            "10:30",
            "10:30:60:1",
            "10:30:",
            "+10:30:60",
            "-1:30:60",
            "10: 30:60",
            "0:30:60",
            "10:0:60",
            "10:101:60",
            "10:30:9",
            "10:30:61",
            "99999999999:30:99999999999",
        ] {
            assert!(startups(text, 60).is_err(), "{text}");
        }
    }

    #[test]
    fn rule_hosts() {
        for name in ["host", "host.example.org", "a_b-c", "3com", "9to5.example"] {
            assert_eq!(rule_host(name), Ok(RuleHost::Name(name.to_owned())));
        }
        assert_eq!(rule_host("192.0.2.7"), Ok(RuleHost::Net("192.0.2.7/32".parse().unwrap())));
        assert_eq!(rule_host("::1"), Ok(RuleHost::Net("::1/128".parse().unwrap())));
        let long_label = "a".repeat(64);
        let long_name = ["a"; 128].join(".");
        for text in [
            "",
            ".",
            "+",
            "-host",
            "host-",
            "a..b",
            "host.",
            "@group",
            "+@group",
            "10.1",
            "300.0.0.1",
            "2130706433",
            "0x7f000001",
            "0X7F000001",
            "host/24",
            "host:1",
            "höst",
            "two words",
            &long_label,
            &long_name,
        ] {
            assert!(rule_host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names() {
        for text in ["rlogind", "_rlogind", "Some.One", "win$", "jörg"] {
            assert_eq!(account(text), Ok(text.to_owned()));
        }
        for text in ["", "-froot", "+", "@group", "a b", "a:b", "a/b"] {
            assert!(account(text).is_err(), "{text}");
        }
        assert_eq!(remote_user("+"), Ok("+".to_owned()));
        assert!(remote_user("+alice").is_err() && remote_user("-alice").is_err());
        assert_eq!(optional_group(""), Ok(None));
        assert_eq!(optional_group("adm"), Ok(Some("adm".to_owned())));
        assert!(optional_group("a b").is_err());
        assert!(relay_account("root").is_err());
        assert_eq!(relay_account("nobody"), Ok("nobody".to_owned()));
        assert_eq!(pam_service("rlogin"), Ok("rlogin".to_owned()));
        for text in ["", "Rlogin", "../shadow", ".", "..", "a/b", "a b"] {
            assert!(pam_service(text).is_err(), "{text}");
        }
        assert!(FACILITIES.iter().all(|name| facility(name).is_ok()));
        assert!(facility("authpriv").is_ok() && facility("local7").is_ok());
        assert!(facility("").is_err() && facility("authprivate").is_err());
    }

    #[test]
    fn paths() {
        assert_eq!(optional_file(""), Ok(None));
        assert_eq!(optional_file("/etc/issue.net"), Ok(Some(PathBuf::from("/etc/issue.net"))));
        let longest = format!("/{}", "a".repeat(106));
        assert_eq!(socket_path(&longest), Ok(PathBuf::from(&longest)));
        assert!(socket_path(&format!("{longest}a")).is_err());
        for text in ["control", "./control", "/run/rlogind/"] {
            assert!(socket_path(text).is_err() && optional_file(text).is_err(), "{text}");
        }
        assert!(socket_path("").is_err());
    }
}
