//! The tcp wrappers' files: any text is lines about rlogin in their order, a comment in front moves them by one and
//! changes nothing else, and `allow` and `deny` say of each address what its first line says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rlogind::config::Access;
use rlogind::doctor::wrappers::table::{Entry, read};
use rlogind::doctor::wrappers::{permitted, translated};

/// hosts.allow, and hosts.deny behind a NUL.
pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (allow, deny) = text.split_once('\0').unwrap_or((text, ""));
    let mut entries = file(allow, true);
    entries.extend(file(deny, false));
    decide(&entries);
}

fn file(text: &str, grants: bool) -> Vec<Entry> {
    let entries = read(text, grants);
    assert!(entries.is_sorted_by(|one, next| one.number < next.number));
    assert!(entries.iter().all(|entry| (1..=text.lines().count()).contains(&entry.number)));
    for Entry { clients, named, .. } in &entries {
        for networks in [clients, named] {
            // Sorted, so one that is in another, or the same, would be next to it.
            let mut pairs = networks.windows(2);
            assert!(pairs.all(|pair| pair[0] < pair[1] && !pair[0].contains(&pair[1])), "{networks:?}");
        }
        assert!(clients.iter().all(|client| named.iter().any(|named| named.contains(client))));
    }
    let mut moved = read(&format!("# ALL: ALL\n{text}"), grants);
    moved.iter_mut().for_each(|entry| entry.number -= 1);
    assert_eq!(moved, entries);
    entries
}

/// Asks of addresses on both sides of each network's ends.
fn decide(entries: &[Entry]) {
    let permitted = permitted(entries);
    let lists = translated(&permitted, entries);
    let access = lists.map(|(allow, deny)| Access { allow, deny });
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for network in entries.iter().flat_map(|entry| entry.named.iter().chain(&entry.clients)) {
        addresses.extend(around(network.network()).into_iter().chain(around(network.broadcast())));
    }
    for address in addresses {
        let first = entries.iter().find(|entry| entry.clients.iter().any(|client| client.contains(&address)));
        let may_connect = first.is_none_or(|entry| entry.grants);
        assert_eq!(permitted.iter().any(|network| network.contains(&address)), may_connect, "{address}");
        // rlogind counts a mapped address as its IPv4 one, and no client has one.
        if let Some(access) = &access
            && address == address.to_canonical()
        {
            assert_eq!(access.permits(address), may_connect, "{address}");
        }
    }
}

/// The address and its neighbours.
fn around(address: IpAddr) -> [IpAddr; 3] {
    match address {
        IpAddr::V4(ip) => {
            [u32::MAX, 0, 1].map(|step| Ipv4Addr::from(u32::from(ip).wrapping_add(step)).into())
        }
        IpAddr::V6(ip) => {
            [u128::MAX, 0, 1].map(|step| Ipv6Addr::from(u128::from(ip).wrapping_add(step)).into())
        }
    }
}
