//! Connections by the networks they come from, and whose there are most. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::ipc::ConnectionId;
use crate::source::{Source, WIDTHS};

/// Some connections, each with its source.
#[derive(Debug, Default)]
pub struct Crowd {
    by_networks: BTreeMap<[Source; WIDTHS], BTreeSet<ConnectionId>>,
    count: usize,
}

/// What one source has of them.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    networks: [Source; WIDTHS],
    count: usize,
    /// The one that has been there longest; `None` when there is none but the newcomer.
    pub oldest: Option<ConnectionId>,
    /// The newcomer is one of them.
    pub has_newcomer: bool,
}

impl Crowd {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// One more.
    pub fn insert(&mut self, id: ConnectionId, source: Source) {
        self.count += usize::from(self.by_networks.entry(source.networks()).or_default().insert(id));
    }

    /// One less, if it is there.
    pub fn remove(&mut self, id: ConnectionId, source: Source) {
        let networks = source.networks();
        let Some(ids) = self.by_networks.get_mut(&networks) else { return };
        self.count -= usize::from(ids.remove(&id));
        if ids.is_empty() {
            self.by_networks.remove(&networks);
        }
    }

    /// The one of this source that has been there longest.
    #[must_use]
    pub fn oldest_of(&self, source: Source) -> Option<ConnectionId> {
        self.by_networks.get(&source.networks())?.first().copied()
    }

    /// The share of whoever has most, a newcomer counted in: of the widest network that has most, of the network
    /// in that one, and so on. Of equals it is the one who has been there longest. `None`: there is nobody.
    #[must_use]
    pub fn most(&self, newcomer: Option<Source>) -> Option<Share> {
        let shares = self.by_networks.iter().map(|(networks, ids)| Share {
            networks: *networks,
            count: ids.len(),
            oldest: ids.first().copied(),
            has_newcomer: false,
        });
        let mut shares: Vec<Share> = shares.collect();
        if let Some(networks) = newcomer.map(Source::networks) {
            let own = Share { networks, count: 1, oldest: None, has_newcomer: true };
            match shares.binary_search_by_key(&networks, |share| share.networks) {
                Ok(index) => {
                    shares[index].count += 1;
                    shares[index].has_newcomer = true;
                }
                Err(index) => shares.insert(index, own),
            }
        }
        for width in 0..WIDTHS {
            let of_network = shares.chunk_by(|a, b| a.networks[width] == b.networks[width]);
            let size = |shares: &&[Share]| shares.iter().map(|share| share.count).sum::<usize>();
            let oldest = |shares: &&[Share]| shares.iter().filter_map(|share| share.oldest).min();
            let age = |shares: &&[Share]| Reverse(oldest(shares).unwrap_or(ConnectionId(u64::MAX)));
            if let Some(most) = of_network.max_by_key(|shares| (size(shares), age(shares))) {
                shares = most.to_vec();
            }
        }
        shares.first().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_network_with_most_is_looked_at_first() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        let mut crowd = Crowd::default();
        assert!(crowd.most(None).is_none());
        // The /48 has three, though no address has more than the other one has.
        for (id, from) in
            (0..).zip(["192.0.2.1", "192.0.2.1", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:2::1"])
        {
            crowd.insert(ConnectionId(id), source(from));
        }
        assert_eq!((crowd.count(), crowd.most(None).unwrap().oldest), (5, Some(ConnectionId(2))));
        // With a newcomer both have three, and this one is older.
        let most = crowd.most(Some(source("192.0.2.1"))).unwrap();
        assert_eq!((most.oldest, most.has_newcomer), (Some(ConnectionId(0)), true));
        crowd.remove(ConnectionId(2), source("2001:db8::1"));
        crowd.remove(ConnectionId(2), source("2001:db8::1"));
        assert_eq!((crowd.count(), crowd.most(None).unwrap().oldest), (4, Some(ConnectionId(0))));
    }
}
