//! Host names: forward by getaddrinfo(3), reverse by getnameinfo(3).
//!
//! Both block for as long as the name service likes, so nothing that must not
//! block may call them. A reverse name is never given out unless its forward
//! look-up leads back to the address: whoever owns the address writes it.

use std::ffi::{CStr, CString};
use std::fmt;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

use libc::{addrinfo, c_char, c_int, sockaddr_in, sockaddr_in6};
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// The most addresses taken from one name. More than fit a DNS message.
const MAX_ADDRESSES: usize = 8192;
/// NI_MAXHOST of getnameinfo(3).
const NAME_BUFFER: u32 = 1025;
/// The longest name taken, in bytes (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 255;

/// Why a forward look-up gave no address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupFailed {
    /// There is no such name, or it has no address of the family.
    NoSuchName,
    /// There was no answer; the resolver's word for it.
    NoAnswer(String),
}

/// Why a peer has no confirmed name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyNot {
    /// The address has no name, or the name service did not answer; its word for it.
    NoName(String),
    /// The name is none that a host can have, or looks like an address.
    Implausible,
    /// The name's own addresses do not include the peer's.
    NotForward(String),
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::NoName(why) => write!(f, "no name: {why}"),
            WhyNot::Implausible => f.write_str("the reverse name is not a host name"),
            WhyNot::NotForward(name) => {
                write!(f, "the reverse name {name} does not lead back to the address")
            }
        }
    }
}

/// The addresses of a host name, of the same family as `like`.
///
/// # Errors
/// Tells "no such name" from "no answer".
pub fn forward(name: &str, like: IpAddr) -> Result<Vec<IpAddr>, LookupFailed> {
    let name = CString::new(name).map_err(|_| LookupFailed::NoSuchName)?;
    // SAFETY: addrinfo is integers and pointers, for which all zero bits are
    // values; getaddrinfo(3) asks for hints prepared so.
    let mut hints: addrinfo = unsafe { mem::zeroed() };
    hints.ai_family = if like.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    hints.ai_socktype = libc::SOCK_STREAM;
    let mut list: *mut addrinfo = ptr::null_mut();
    // SAFETY: name is a C string, hints and list live through the call, and a
    // null service is allowed.
    let code = unsafe { libc::getaddrinfo(name.as_ptr(), ptr::null(), &hints, &mut list) };
    if code != 0 {
        return Err(lookup_failed(code));
    }
    let mut addresses = Vec::new();
    let mut next: *const addrinfo = list;
    // SAFETY: after success the list is a chain of valid nodes that ends with a
    // null, and stays so until freeaddrinfo below.
    while let Some(node) = unsafe { next.as_ref() } {
        if addresses.len() < MAX_ADDRESSES {
            addresses.extend(address(node));
        }
        next = node.ai_next;
    }
    // SAFETY: the list came from getaddrinfo, is freed once, and nothing in
    // `addresses` points into it.
    unsafe { libc::freeaddrinfo(list) };
    Ok(addresses)
}

fn address(node: &addrinfo) -> Option<IpAddr> {
    match node.ai_family {
        libc::AF_INET => {
            // SAFETY: for AF_INET, ai_addr points to a sockaddr_in; read without
            // relying on its alignment.
            let raw = unsafe { ptr::read_unaligned(node.ai_addr.cast::<sockaddr_in>()) };
            Some(IpAddr::V4(Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes())))
        }
        libc::AF_INET6 => {
            // SAFETY: for AF_INET6, ai_addr points to a sockaddr_in6.
            let raw = unsafe { ptr::read_unaligned(node.ai_addr.cast::<sockaddr_in6>()) };
            Some(IpAddr::V6(Ipv6Addr::from(raw.sin6_addr.s6_addr)))
        }
        _ => None,
    }
}

/// Names that parts of the system do not have, as glibc numbers them in netdb.h.
const EAI_NODATA: c_int = -5;
const EAI_ADDRFAMILY: c_int = -9;

fn lookup_failed(code: c_int) -> LookupFailed {
    match code {
        libc::EAI_NONAME | EAI_NODATA | EAI_ADDRFAMILY => LookupFailed::NoSuchName,
        code => LookupFailed::NoAnswer(message(code)),
    }
}

fn message(code: c_int) -> String {
    // SAFETY: gai_strerror(3) returns a constant, terminated string for any code.
    let text = unsafe { CStr::from_ptr(libc::gai_strerror(code)) };
    text.to_string_lossy().into_owned()
}

/// The peer's name, confirmed: its reverse name, if that is a possible host
/// name whose forward look-up holds the address. In lower case.
///
/// # Errors
/// Why there is none.
pub fn confirmed_name(peer: IpAddr) -> Result<String, WhyNot> {
    let peer = peer.to_canonical();
    let name = plausible(&reverse(peer).map_err(WhyNot::NoName)?).ok_or(WhyNot::Implausible)?;
    match forward(&name, peer) {
        Ok(addresses) if addresses.contains(&peer) => Ok(name),
        Ok(_) | Err(_) => Err(WhyNot::NotForward(name)),
    }
}

/// The name in lower case, if it is made of letters, digits, `-`, `.` and `_`
/// and does not read as an address: getaddrinfo would "confirm" such a name
/// without asking anyone.
fn plausible(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let possible = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    (possible && !reads_as_address(&name)).then_some(name)
}

/// Every spelling of inet_aton(3) ends in a decimal, octal or hexadecimal number.
fn reads_as_address(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let last = name.rsplit('.').next().unwrap_or(name);
    let digits = last.bytes().all(|b| b.is_ascii_digit());
    let hex = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    digits || hex
}

/// The name of an address as the name service has it, unchecked.
fn reverse(peer: IpAddr) -> Result<Vec<u8>, String> {
    let address = SockaddrStorage::from(SocketAddr::new(peer, 0));
    let mut name = [0u8; NAME_BUFFER as usize];
    // SAFETY: address is a whole socket address of the length it tells; the
    // buffer is written up to the length given; a null service of length zero
    // is allowed.
    let code = unsafe {
        libc::getnameinfo(
            address.as_ptr(),
            address.len(),
            name.as_mut_ptr().cast::<c_char>(),
            NAME_BUFFER,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if code != 0 {
        return Err(message(code));
    }
    Ok(CStr::from_bytes_until_nul(&name).map(|name| name.to_bytes().to_vec()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_read_as_addresses_are_not_names() {
        for name in ["127.0.0.1", "127.1", "1", "0x7f000001", "host.0x1", "a.b.10", "1.2.3.4."] {
            assert_eq!(plausible(name.as_bytes()), None, "{name}");
        }
        for name in ["", "-froot", ".x", "a b", "a%b", "a\x1b[2J", "::1", "h\u{e9}", &"a".repeat(256)] {
            assert_eq!(plausible(name.as_bytes()), None, "{name}");
        }
        assert_eq!(plausible(b"\xff"), None);
        for name in ["Client.Example.org", "a_b", "10.example", "0xff.example.", "1a", "host0x"] {
            assert_eq!(plausible(name.as_bytes()), Some(name.to_ascii_lowercase()), "{name}");
        }
    }

    #[test]
    fn loopback_by_the_hosts_file() {
        let four: IpAddr = "127.0.0.1".parse().unwrap();
        let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        if !hosts.lines().any(|line| line.split_whitespace().eq(["127.0.0.1", "localhost"])) {
            eprintln!("SKIPPED: /etc/hosts does not name localhost alone");
            return;
        }
        assert!(forward("localhost", four).unwrap().contains(&four));
        assert!(confirmed_name("::ffff:127.0.0.1".parse().unwrap()).is_ok());
    }

    #[test]
    fn only_the_family_asked_for() {
        let (four, six): (IpAddr, IpAddr) = ("127.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(forward("127.0.0.1", four), Ok(vec![four]));
        assert_eq!(forward("::1", six), Ok(vec![six]));
        assert_eq!(forward("::1", four), Err(LookupFailed::NoSuchName));
        assert_eq!(forward("a\0b", four), Err(LookupFailed::NoSuchName));
    }
}
