//! Who may connect: how many in all, and how many from one source.

use std::collections::HashMap;
use std::net::IpAddr;

/// What counts as one source: an IPv4 address, or the /64 an IPv6 host sits in,
/// whose addresses are all its own to choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(u64, bool);

impl Source {
    /// The source of a (canonical) address.
    #[must_use]
    pub fn of(address: IpAddr) -> Source {
        match address.to_canonical() {
            IpAddr::V4(ip) => Source(u64::from(u32::from(ip)), false),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments().map(u64::from);
                Source(a << 48 | b << 32 | c << 16 | d, true)
            }
        }
    }
}

/// Counts live connections.
#[derive(Debug)]
pub struct Admission {
    sessions: u32,
    per_source: u32,
    live: u32,
    sources: HashMap<Source, u32>,
}

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(sessions: u32, per_source: u32) -> Self {
        Admission { sessions, per_source, live: 0, sources: HashMap::new() }
    }

    /// Sets other limits; who is in stays in.
    pub fn set_limits(&mut self, sessions: u32, per_source: u32) {
        (self.sessions, self.per_source) = (sessions, per_source);
    }

    /// Counts a connection in.
    ///
    /// # Errors
    /// The reason why there is no place for it.
    pub fn enter(&mut self, source: Source) -> Result<(), &'static str> {
        if self.live >= self.sessions {
            return Err("too many connections");
        }
        let count = self.sources.entry(source).or_insert(0);
        if *count >= self.per_source {
            return Err("too many connections from this source");
        }
        *count += 1;
        self.live += 1;
        Ok(())
    }

    /// Counts a connection in that another relay had admitted, whatever the limits are now.
    pub fn resume(&mut self, source: Source) {
        *self.sources.entry(source).or_insert(0) += 1;
        self.live += 1;
    }

    /// Counts a connection out that was counted in.
    pub fn leave(&mut self, source: Source) {
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            self.live -= 1;
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn both_limits_hold_and_leaving_makes_room() {
        let mut admission = Admission::new(3, 2);
        let (a, b) = (source("192.0.2.1"), source("192.0.2.2"));
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_ok());
        assert!(admission.enter(a).is_err());
        assert!(admission.enter(b).is_ok());
        assert!(admission.enter(b).is_err());
        admission.leave(a);
        assert!(admission.enter(b).is_ok());
        admission.leave(a);
        admission.leave(b);
        admission.leave(b);
        assert!(admission.sources.is_empty());
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_one() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("0:0:c000:201::1"), source("192.0.2.1"));
    }
}
