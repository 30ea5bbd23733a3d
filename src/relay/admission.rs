//! Who may connect: how many in all, how many from one source, and how many that are
//! not logged in yet.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use crate::config::Startups;
use crate::ipc::RelayLimits;

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

/// Counts live connections, and those among them that are not logged in yet.
///
/// Pure: what is random comes from outside.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    live: u32,
    starting: u32,
    sources: HashMap<Source, u32>,
}

/// How many there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub sessions: u32,
    /// Of one source.
    pub per_source: u32,
    /// That are not logged in yet.
    pub startups: Startups,
}

impl From<&RelayLimits> for Limits {
    fn from(limits: &RelayLimits) -> Limits {
        let RelayLimits { sessions, per_source, startups, .. } = *limits;
        Limits { sessions, per_source, startups }
    }
}

impl Admission {
    /// With these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Admission { limits, live: 0, starting: 0, sources: HashMap::new() }
    }

    /// Sets other limits; who is in stays in.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Counts a connection in, as one that is not logged in yet. `random` is any number,
    /// and another one each time.
    ///
    /// # Errors
    /// The reason why there is no place for it.
    pub fn enter(&mut self, source: Source, random: u64) -> Result<(), &'static str> {
        if self.live >= self.limits.sessions {
            return Err("too many connections");
        }
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if of_source >= self.limits.per_source {
            return Err("too many connections from this source");
        }
        if self.is_drawn(random) {
            return Err("too many connections that are not logged in");
        }
        self.sources.insert(source, of_source + 1);
        self.live += 1;
        self.starting += 1;
        Ok(())
    }

    /// Counts a connection in that another relay had admitted, whatever the limits are now;
    /// `starting` while nobody is logged in.
    pub fn resume(&mut self, source: Source, starting: bool) {
        *self.sources.entry(source).or_insert(0) += 1;
        self.live += 1;
        self.starting += u32::from(starting);
    }

    /// Whether one more that is not logged in is one of those to refuse: none of them below
    /// `start`, all of them from `full` on, and from `rate` percent up to that in between.
    fn is_drawn(&self, random: u64) -> bool {
        let Startups { start, rate, full } = self.limits.startups;
        if self.starting < start {
            return false;
        }
        if self.starting >= full {
            return true;
        }
        // In parts of 100 * span, so that nothing is rounded.
        let [rate, span, above] = [rate, full - start, self.starting - start].map(u64::from);
        random % (100 * span) < rate * span + (100 - rate.min(100)) * above
    }

    /// A connection that was counted in is logged in.
    pub fn logged_in(&mut self) {
        self.starting -= 1;
    }

    /// Counts a connection out that was counted in; `starting` when it never was logged in.
    pub fn leave(&mut self, source: Source, starting: bool) {
        if let Some(count) = self.sources.get_mut(&source) {
            *count -= 1;
            self.live -= 1;
            self.starting -= u32::from(starting);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

/// Numbers that a stranger cannot foresee, without a system call for each: a keyed hash
/// of a counter, with a key of its own for each process.
#[derive(Debug, Default)]
pub struct Dice {
    key: RandomState,
    throws: u64,
}

impl Dice {
    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.throws = self.throws.wrapping_add(1);
        self.key.hash_one(self.throws)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    fn admission(sessions: u32, per_source: u32, startups: Startups) -> Admission {
        Admission::new(Limits { sessions, per_source, startups })
    }

    #[test]
    fn both_limits_hold_and_leaving_makes_room() {
        let mut admission = admission(3, 2, Startups::limit(9));
        let (a, b) = (source("192.0.2.1"), source("192.0.2.2"));
        assert!(admission.enter(a, 0).is_ok());
        assert!(admission.enter(a, 0).is_ok());
        assert_eq!(admission.enter(a, 0), Err("too many connections from this source"));
        assert!(admission.enter(b, 0).is_ok());
        assert_eq!(admission.enter(b, 0), Err("too many connections"));
        admission.leave(a, true);
        assert!(admission.enter(b, 0).is_ok());
        admission.leave(a, true);
        admission.leave(b, true);
        admission.leave(b, true);
        assert!(admission.sources.is_empty());
        assert_eq!((admission.live, admission.starting), (0, 0));
    }

    #[test]
    fn who_is_refused_leaves_nothing_behind() {
        let mut admission = admission(1, 9, Startups::limit(9));
        assert!(admission.enter(source("192.0.2.1"), 0).is_ok());
        for last in 2..100 {
            assert!(admission.enter(source(&format!("192.0.2.{last}")), 0).is_err());
        }
        assert_eq!(admission.sources.len(), 1);
    }

    #[test]
    fn who_is_logged_in_does_not_count_as_starting_any_more() {
        let mut admission = admission(9, 9, Startups::limit(2));
        let a = source("192.0.2.1");
        let refused = Err("too many connections that are not logged in");
        assert!(admission.enter(a, 0).is_ok() && admission.enter(a, 0).is_ok());
        assert_eq!(admission.enter(a, u64::MAX), refused);
        admission.logged_in();
        assert!(admission.enter(a, 0).is_ok());
        assert_eq!(admission.enter(a, 0), refused);
        admission.leave(a, false);
        assert_eq!(admission.enter(a, 0), refused, "the one that left was not starting");
        admission.leave(a, true);
        assert!(admission.enter(a, 0).is_ok());
    }

    /// Out of 1000 numbers, evenly spread, how many refuse when so many are starting.
    fn refused(startups: Startups, starting: u32) -> u32 {
        let mut admission = admission(u32::MAX, u32::MAX, startups);
        admission.starting = starting;
        let span = u64::from(startups.full - startups.start).max(1) * 100;
        (0..1000_u64).map(|part| u32::from(admission.is_drawn(part * span / 1000))).sum()
    }

    #[test]
    fn between_the_thresholds_the_chance_rises_evenly() {
        let startups = Startups { start: 10, rate: 30, full: 60 };
        for (starting, of_1000) in
            [(0, 0), (9, 0), (10, 300), (35, 650), (59, 986), (60, 1000), (61, 1000), (u32::MAX, 1000)]
        {
            assert_eq!(refused(startups, starting), of_1000, "{starting}");
        }
        assert_eq!(refused(Startups { start: 10, rate: 100, full: 60 }, 10), 1000);
        assert_eq!((refused(Startups::limit(5), 4), refused(Startups::limit(5), 5)), (0, 1000));
    }

    #[test]
    fn the_dice_are_even() {
        let mut dice = Dice::default();
        let low = (0..10_000).filter(|_| dice.throw() % 100 < 30).count();
        // Ten times the standard deviation of 46 on either side.
        assert!((2540..3460).contains(&low), "{low} of 10000 below 30 %");
    }

    #[test]
    fn one_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4_one() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("0:0:c000:201::1"), source("192.0.2.1"));
    }
}
