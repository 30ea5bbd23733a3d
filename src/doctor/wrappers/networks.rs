//! Sets of addresses, as lists of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// All addresses.
pub(super) fn everywhere() -> Vec<IpNet> {
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
        .map(|address| IpNet::new_assert(address, 0))
        .to_vec()
}

/// The same set in as few networks as can be, sorted.
pub(super) fn joined(networks: Vec<IpNet>) -> Vec<IpNet> {
    let mut networks = IpNet::aggregate(&networks);
    networks.sort();
    networks
}

/// What is in `networks` and in none of `holes`.
pub(super) fn without(networks: &[IpNet], holes: &[IpNet]) -> Vec<IpNet> {
    let mut left = Vec::new();
    for &network in networks {
        cut(network, holes, &mut left);
    }
    joined(left)
}

fn cut(network: IpNet, holes: &[IpNet], left: &mut Vec<IpNet>) {
    if holes.iter().any(|hole| hole.contains(&network)) {
        return;
    }
    let inside: Vec<IpNet> = holes.iter().copied().filter(|hole| network.contains(hole)).collect();
    if inside.is_empty() {
        left.push(network);
        return;
    }
    // A hole is longer than the network that it is in, so there is a longer prefix.
    for half in network.subnets(network.prefix_len() + 1).into_iter().flatten() {
        cut(half, &inside, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn holes_are_cut_out() {
        let table: [(&[&str], &[&str], &[&str]); 6] = [
            (&["192.0.2.0/24"], &[], &["192.0.2.0/24"]),
            (&["192.0.2.0/24"], &["192.0.0.0/16"], &[]),
            (&["192.0.2.0/24"], &["192.0.3.0/24", "2001:db8::/32"], &["192.0.2.0/24"]),
            (&["192.0.2.0/30"], &["192.0.2.1/32"], &["192.0.2.0/32", "192.0.2.2/31"]),
            (&["192.0.2.0/31", "192.0.2.2/31"], &["192.0.2.3/32"], &["192.0.2.0/31", "192.0.2.2/32"]),
            (&["2001:db8::/126"], &["2001:db8::2/127"], &["2001:db8::/127"]),
        ];
        for (networks, holes, expected) in table {
            assert_eq!(without(&nets(networks), &nets(holes)), nets(expected), "{networks:?} {holes:?}");
        }
    }

    #[test]
    fn what_was_cut_out_and_what_is_left_are_everything() {
        for holes in [&["0.0.0.0/0"][..], &["::/0"], &["192.0.2.7/32", "2001:db8::1/128"], &["10.0.0.0/8"]] {
            let holes = nets(holes);
            let left = without(&everywhere(), &holes);
            assert!(without(&holes, &left) == holes && without(&left, &holes) == left);
            assert_eq!(joined([left, holes].concat()), everywhere());
        }
        assert!(without(&everywhere(), &everywhere()).is_empty());
    }
}
