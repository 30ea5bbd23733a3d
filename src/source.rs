//! Where clients come from, as far as limits tell them apart. Pure.

use std::net::IpAddr;

/// How many widths of networks are told apart.
pub const WIDTHS: usize = 3;

/// What is one source: an IPv4 address, or the /64 an IPv6 host is in, whose addresses are
/// all its own to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Source {
    /// The address, or the first half of an IPv6 one, in the upper bits.
    bits: u64,
    is_ipv6: bool,
}

/// The sources that one customer of a provider may have: an IPv4 /24, or an IPv6 /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network(Source);

impl Source {
    /// The source of a (canonical) address.
    #[must_use]
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(ip) => Source { bits: u64::from(u32::from(ip)) << 32, is_ipv6: false },
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments().map(u64::from);
                Source { bits: a << 48 | b << 32 | c << 16 | d, is_ipv6: true }
            }
        }
    }

    /// The networks it is in that one client may have to itself, the widest first: a /48, a /56 and the /64 of IPv6, a
    /// /24 and the address itself of IPv4.
    #[must_use]
    pub fn networks(self) -> [Source; WIDTHS] {
        let lengths = if self.is_ipv6 { [48, 56, 64] } else { [24, 24, 32] };
        lengths.map(|length| Source { bits: self.bits & (u64::MAX << (64 - length)), ..self })
    }

    /// The widest of these.
    #[must_use]
    pub fn network(self) -> Network {
        let [widest, ..] = self.networks();
        Network(widest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_one() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("0:0:c000:201::1"), source("192.0.2.1"));
    }

    #[test]
    fn networks_have_three_widths() {
        let same = |a, b| {
            let (a, b) = (source(a).networks(), source(b).networks());
            [0, 1, 2].map(|width| a[width] == b[width])
        };
        assert_eq!(same("2001:db8:1:201::1", "2001:db8:1:201::2"), [true, true, true]);
        assert_eq!(same("2001:db8:1:201::1", "2001:db8:1:202::1"), [true, true, false]);
        assert_eq!(same("2001:db8:1:201::1", "2001:db8:1:301::1"), [true, false, false]);
        assert_eq!(same("2001:db8:1:201::1", "2001:db8:2:201::1"), [false, false, false]);
        assert_eq!(same("192.0.2.1", "192.0.2.2"), [true, true, false]);
    }

    #[test]
    fn a_network_is_an_ipv4_24_or_an_ipv6_48() {
        let network = |text| source(text).network();
        assert_eq!(network("192.0.2.1"), network("192.0.2.254"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:ffff::1"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:2:2::1"));
        assert_ne!(network("0:0:c000:201::1"), network("192.0.2.1"));
    }
}
