//! `allow` and `deny`: who may connect at all, by address alone. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// `allow` and `deny`. IPv4 networks are in IPv4 notation, as the parser makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Networks from which clients may come.
    pub allow: Vec<IpNet>,
    /// Networks from which they may not, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

impl Default for Access {
    fn default() -> Self {
        Access { allow: super::everywhere(), deny: Vec::new() }
    }
}

impl Access {
    /// Whether a client with this address may connect; a v4-mapped one counts as IPv4.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let within = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        within(&self.allow) && !within(&self.deny)
    }

    /// Whether each network of `allow` lies within one of `deny`.
    #[must_use]
    pub fn permits_nobody(&self) -> bool {
        self.allow.iter().all(|allowed| self.deny.iter().any(|denied| denied.contains(allowed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(allow: &[&str], deny: &[&str]) -> Access {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Access { allow: nets(allow), deny: nets(deny) }
    }

    fn permits(access: &Access, address: &str) -> bool {
        access.permits(address.parse().unwrap())
    }

    #[test]
    fn deny_goes_before_allow_and_what_is_in_neither_is_out() {
        let access = access(&["192.0.2.0/24", "2001:db8::/32"], &["192.0.2.64/26", "2001:db8:1::/48"]);
        for (address, may) in [
            ("192.0.2.1", true),
            ("192.0.2.65", false),
            ("192.0.3.1", false),
            ("::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.65", false),
            ("2001:db8::1", true),
            ("2001:db8:1::1", false),
            ("::1", false),
        ] {
            assert_eq!(permits(&access, address), may, "{address}");
        }
    }

    #[test]
    fn by_default_everybody_may() {
        for address in ["127.0.0.1", "::1", "::ffff:192.0.2.1", "2001:db8::1", "255.255.255.255"] {
            assert!(permits(&Access::default(), address), "{address}");
        }
    }

    /// Whoever allows all of IPv6 has said nothing of IPv4 clients, even on an IPv6 listener.
    #[test]
    fn an_ipv4_client_is_in_no_ipv6_network() {
        assert!(!permits(&access(&["::/0"], &[]), "::ffff:192.0.2.1"));
        assert!(permits(&access(&["0.0.0.0/0"], &["::/0"]), "::ffff:192.0.2.1"));
    }

    #[test]
    fn lists_that_let_nobody_in_are_seen() {
        assert!(access(&[], &[]).permits_nobody());
        assert!(access(&["192.0.2.0/24"], &["192.0.0.0/16"]).permits_nobody());
        assert!(access(&["0.0.0.0/0", "::/0"], &["::/0", "0.0.0.0/0"]).permits_nobody());
        assert!(!access(&["0.0.0.0/0", "::/0"], &["0.0.0.0/0"]).permits_nobody());
        assert!(!access(&["192.0.2.0/24"], &["192.0.2.0/25"]).permits_nobody());
    }
}
