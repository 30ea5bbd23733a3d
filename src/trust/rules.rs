//! The language of hosts.equiv(5): the bytes of one file in, entries out.
//!
//! Pure, and never fails: a line that makes no sense is an entry that says so,
//! because "ignored" and "refused" are the verdict's to tell apart. Entries
//! borrow from the file, so a line of any length costs nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest host name looked up, in bytes (RFC 1035, section 2.3.4).
pub const MAX_HOST_NAME: usize = 255;

/// One line that is neither blank nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The line's number in the file, from 1.
    pub line: u32,
    /// The line as written, without its end and the white space around it.
    pub text: &'a [u8],
    /// The first word.
    pub host: Field<Host<'a>>,
    /// The second word, or what its absence means.
    pub user: Field<User<'a>>,
    /// Whether there are more words; they mean nothing.
    pub extra_words: bool,
}

impl Entry<'_> {
    /// Whether the line takes trust away rather than giving it.
    pub fn refuses(&self) -> bool {
        self.host.refuse || self.user.refuse
    }
}

/// A host or user field: what it names, and the sign before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<T> {
    /// Written with `-`: whoever is meant is not trusted.
    pub refuse: bool,
    /// A plain name written with `+`, as the BSDs allow it; glibc does not.
    pub plus: bool,
    /// Who is meant.
    pub what: T,
}

/// Which hosts a host field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// `+`: every host.
    Any,
    /// An address; v4-mapped ones are IPv4 already.
    Address {
        /// The address.
        ip: IpAddr,
        /// Written with `%interface` behind it.
        zone: bool,
        /// Written in a spelling of inet_aton(3) other than four decimal numbers.
        odd: bool,
    },
    /// A host name that can be looked up.
    Name(&'a str),
    /// The hosts of a netgroup.
    Group(&'a [u8]),
    /// Neither an address nor a possible host name.
    Malformed,
}

/// Which users of the client's side a user field means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User<'a> {
    /// No second word: the user of the account's own name.
    Missing,
    /// The second word begins with `#`. The language has no comments behind an
    /// entry, so this names nobody.
    Comment,
    /// `+`: everyone.
    Any,
    /// The user of exactly this name.
    Name(&'a [u8]),
    /// The users of a netgroup.
    Group(&'a [u8]),
    /// A sign without a name.
    Malformed,
}

/// The entries of a file, in order.
pub fn entries(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    // Editors that write CRLF also write a byte order mark; left in place, it
    // would hide the sign of a refusal in the first line.
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    (1u32..).zip(file.split(|&b| b == b'\n')).filter_map(|(line, bytes)| entry(line, bytes))
}

/// One line's entry; none for a blank line or a comment.
fn entry(line: u32, bytes: &[u8]) -> Option<Entry<'_>> {
    // Every C implementation stops at a NUL; so must a refusal before one.
    let bytes = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let text = trim(bytes);
    let mut words = text.split(|&b| is_space(b)).filter(|word| !word.is_empty());
    let host = words.next().filter(|word| !word.starts_with(b"#"))?;
    Some(Entry {
        line,
        text,
        host: host_field(host),
        user: user_field(words.next()),
        extra_words: words.next().is_some(),
    })
}

/// The white space of the C locale's isspace(3).
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\x0b' | b'\x0c')
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

fn host_field(word: &[u8]) -> Field<Host<'_>> {
    let (refuse, plus, word) = sign(word);
    let what = match word {
        Word::Any => Host::Any,
        Word::Group(b"") | Word::Plain(b"") => Host::Malformed,
        Word::Group(group) => Host::Group(group),
        Word::Plain(name) => host(name),
    };
    Field { refuse, plus, what }
}

fn user_field(word: Option<&[u8]>) -> Field<User<'_>> {
    let Some(word) = word else {
        return Field { refuse: false, plus: false, what: User::Missing };
    };
    if word.starts_with(b"#") {
        return Field { refuse: false, plus: false, what: User::Comment };
    }
    let (refuse, plus, word) = sign(word);
    let what = match word {
        Word::Any => User::Any,
        Word::Group(b"") | Word::Plain(b"") => User::Malformed,
        Word::Group(group) => User::Group(group),
        Word::Plain(name) => User::Name(name),
    };
    Field { refuse, plus, what }
}

/// A word without its sign.
enum Word<'a> {
    Any,
    Group(&'a [u8]),
    Plain(&'a [u8]),
}

/// Splits a word into (refusing, plain name after a plus, the rest).
fn sign(word: &[u8]) -> (bool, bool, Word<'_>) {
    match word {
        b"+" => (false, false, Word::Any),
        [b'+', b'@', group @ ..] => (false, false, Word::Group(group)),
        [b'-', b'@', group @ ..] => (true, false, Word::Group(group)),
        [b'+', name @ ..] => (false, true, Word::Plain(name)),
        [b'-', name @ ..] => (true, false, Word::Plain(name)),
        name => (false, false, Word::Plain(name)),
    }
}

fn host(bytes: &[u8]) -> Host<'_> {
    let Ok(word) = std::str::from_utf8(bytes) else { return Host::Malformed };
    if let Ok(ip) = word.parse::<IpAddr>() {
        return Host::Address { ip: ip.to_canonical(), zone: false, odd: false };
    }
    if let Some((ip, zone)) = word.split_once('%')
        && let Ok(ip) = ip.parse::<Ipv6Addr>()
        && !zone.is_empty()
    {
        return Host::Address { ip: IpAddr::V6(ip).to_canonical(), zone: true, odd: false };
    }
    if let Some(ip) = inet_aton(word) {
        return Host::Address { ip: IpAddr::V4(ip), zone: false, odd: true };
    }
    if plausible_host_name(word) { Host::Name(word) } else { Host::Malformed }
}

/// Whether a word can be a host's name: letters, digits, `-`, `.` and `_`, not
/// beginning with a sign or dot, and at most [`MAX_HOST_NAME`] bytes.
pub fn plausible_host_name(word: &str) -> bool {
    word.len() <= MAX_HOST_NAME
        && word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

/// The spellings of inet_aton(3), which getaddrinfo(3) takes for addresses:
/// one to four numbers, each decimal, octal (`0…`) or hexadecimal (`0x…`), the
/// last of which fills the bytes that are left.
fn inet_aton(word: &str) -> Option<Ipv4Addr> {
    let (leading, last) = match word.rsplit_once('.') {
        Some((leading, last)) => (leading.split('.').collect(), last),
        None => (Vec::new(), word),
    };
    if leading.len() > 3 {
        return None;
    }
    let mut address: u32 = 0;
    let mut free_bits = 32;
    for part in leading {
        free_bits -= 8;
        address |= c_number(part).filter(|&n| n <= 0xff)? << free_bits;
    }
    let last = c_number(last)?;
    (u64::from(last) < 1 << free_bits).then(|| Ipv4Addr::from_bits(address | last))
}

/// A number as C spells it.
fn c_number(digits: &str) -> Option<u32> {
    // from_str_radix would take a sign.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    match digits.strip_prefix('0') {
        None => digits.parse().ok(),
        Some("") => Some(0),
        Some(rest) => match rest.strip_prefix(['x', 'X']) {
            Some(hex) if hex.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                u32::from_str_radix(hex, 16).ok()
            }
            Some(_) => None,
            None if rest.starts_with(|c: char| c.is_ascii_digit()) => u32::from_str_radix(rest, 8).ok(),
            None => None,
        },
    }
}

/// Bytes of a file or a name, fit for a log or a terminal: printable ASCII as
/// it is, everything else as `\xNN`, cut with `...` after `max` bytes.
pub fn printable(bytes: &[u8], max: usize) -> String {
    let mut text = String::new();
    for &byte in bytes.iter().take(max) {
        match byte {
            b'\\' => text.push_str("\\\\"),
            b'\t' => text.push(' '),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    if bytes.len() > max {
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(file: &[u8]) -> Vec<Entry<'_>> {
        entries(file).collect()
    }

    fn one(line: &str) -> Entry<'_> {
        let found = all(line.as_bytes());
        assert_eq!(found.len(), 1, "{line:?}");
        found[0].clone()
    }

    fn host_of(word: &str) -> (bool, Host<'_>) {
        let entry = one(word);
        (entry.host.refuse, entry.host.what)
    }

    fn user_of(line: &str) -> (bool, User<'_>) {
        let entry = one(line);
        (entry.user.refuse, entry.user.what)
    }

    fn address(ip: &str, odd: bool) -> Host<'static> {
        Host::Address { ip: ip.parse().unwrap(), zone: false, odd }
    }

    #[test]
    fn host_field_forms() {
        assert_eq!(host_of("client"), (false, Host::Name("client")));
        assert_eq!(host_of("-client"), (true, Host::Name("client")));
        assert_eq!(host_of("+client"), (false, Host::Name("client")));
        assert!(one("+client").host.plus && !one("client").host.plus);
        assert_eq!(host_of("+"), (false, Host::Any));
        assert_eq!(host_of("+@lab"), (false, Host::Group(b"lab")));
        assert_eq!(host_of("-@lab"), (true, Host::Group(b"lab")));
        for malformed in ["-", "+@", "-@", "--x", "-+x", "++", "a/24", "*", ".x", "a\u{e9}"] {
            assert_eq!(host_of(malformed).1, Host::Malformed, "{malformed}");
        }
        assert!(one("-").host.refuse && one("--x").host.refuse && !one("+@").host.refuse);
    }

    #[test]
    fn user_field_forms() {
        assert_eq!(user_of("h"), (false, User::Missing));
        assert_eq!(user_of("h bob"), (false, User::Name(b"bob")));
        assert_eq!(user_of("h +bob"), (false, User::Name(b"bob")));
        assert_eq!(user_of("h -bob"), (true, User::Name(b"bob")));
        assert_eq!(user_of("h +"), (false, User::Any));
        assert_eq!(user_of("h +@staff"), (false, User::Group(b"staff")));
        assert_eq!(user_of("h -@staff"), (true, User::Group(b"staff")));
        assert_eq!(user_of("h -"), (true, User::Malformed));
        assert_eq!(user_of("h # the build host"), (false, User::Comment));
        assert_eq!(user_of("h Bob"), (false, User::Name(b"Bob")));
        assert!(one("h u extra").extra_words && !one("h u ").extra_words);
    }

    #[test]
    fn addresses_in_any_spelling() {
        for (word, ip) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("0:0:0:0:0:FFFF:c000:0207", "192.0.2.7"),
            ("2001:DB8:0::0001", "2001:db8::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(host_of(word), (false, address(ip, false)), "{word}");
        }
        for (word, ip) in [
            ("127.1", "127.0.0.1"),
            ("0x7f000001", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("010.0.0.1", "8.0.0.1"),
            ("0xC0.0.519", "192.0.2.7"),
            ("192.0.02.7", "192.0.2.7"),
            ("0", "0.0.0.0"),
        ] {
            assert_eq!(host_of(word), (false, address(ip, true)), "{word}");
        }
        for name in
            ["1.2.3.4.5", "256.1.1.1", "1.2.3.256", "08.1.1.1", "0x", "0xg.1", "4294967296", "1.2.", "1..2"]
        {
            assert_eq!(host_of(name), (false, Host::Name(name)), "{name}");
        }
        let zoned = Host::Address { ip: "fe80::1".parse().unwrap(), zone: true, odd: false };
        assert_eq!(host_of("fe80::1%eth0"), (false, zoned));
        assert_eq!(host_of("-fe80::1%2"), (true, zoned));
        assert_eq!(host_of("fe80::1%").1, Host::Malformed);
    }

    #[test]
    fn lines_and_white_space() {
        let file = b"# comment\n\n  \t\n \t# indented\r\n\tclient  bob \r\nother\r\nlast + more words";
        let found = all(file);
        let seen: Vec<_> = found.iter().map(|e| (e.line, e.host.what, e.user.what)).collect();
        assert_eq!(
            seen,
            [
                (5, Host::Name("client"), User::Name(b"bob")),
                (6, Host::Name("other"), User::Missing),
                (7, Host::Name("last"), User::Any),
            ]
        );
        assert_eq!(found[0].text, b"client  bob");
    }

    #[test]
    fn odd_bytes() {
        assert_eq!(one("client\u{b}bob").user.what, User::Name(b"bob"));
        let found = all(b"\xff\xfe user\n-client\0 bob\n\0\0\0\nx y");
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].host.what, Host::Malformed);
        assert_eq!((found[1].host.refuse, found[1].host.what), (true, Host::Name("client")));
        assert_eq!(found[1].user.what, User::Missing);
        assert_eq!(found[2].line, 4);
        assert!(all(b"\xef\xbb\xbf-client").iter().all(|e| e.host.refuse));
    }

    #[test]
    fn long_lines_and_names() {
        let name = "a".repeat(MAX_HOST_NAME);
        assert_eq!(host_of(&name), (false, Host::Name(&name)));
        let longer = format!("-{name}b");
        assert_eq!(host_of(&longer), (true, Host::Malformed));
        let line = format!("client {}bob", " ".repeat(900_000));
        assert_eq!(one(&line).user.what, User::Name(b"bob"));
    }

    #[test]
    fn printable_escapes_and_cuts() {
        assert_eq!(printable(b"a\tb\x1b[2J\xe2\x80\xae\\", 99), "a b\\x1b[2J\\xe2\\x80\\xae\\\\");
        assert_eq!(printable(b"abcdef", 4), "abcd...");
    }
}
