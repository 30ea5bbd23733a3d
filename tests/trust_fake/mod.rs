//! A world made of tables, for the tests of the trust rules.

#![allow(dead_code, reason = "not every test needs every field")]

use std::collections::HashMap;
use std::net::IpAddr;

use rlogind::trust::{Account, FileContent, LookupError, Member, World};

/// Names, groups and files as the test wants them.
pub(crate) struct Fake {
    pub names: HashMap<&'static str, Vec<IpAddr>>,
    pub hosts_of_group: Vec<(&'static str, &'static str)>,
    pub users_of_group: Vec<(&'static str, &'static str)>,
    pub equiv: FileContent,
    pub rhosts: FileContent,
    pub locked: bool,
    pub lookups: usize,
    pub files_read: usize,
    /// After so many look-ups their time is over.
    pub patience: usize,
}

impl Fake {
    pub(crate) fn new(equiv: &str, rhosts: &str) -> Self {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let text = |text: &str| match text {
            "" => FileContent::Absent,
            text => FileContent::Text(text.as_bytes().to_vec()),
        };
        Fake {
            names: HashMap::from([
                ("client", vec![ip("192.0.2.7")]),
                ("client.example.org", vec![ip("192.0.2.9"), ip("192.0.2.7")]),
                ("other", vec![ip("192.0.2.8")]),
                ("six", vec![ip("2001:db8::7")]),
                ("near", vec![ip("fe80::7")]),
                ("near4", vec![ip("169.254.9.7")]),
            ]),
            hosts_of_group: vec![("lab", "client")],
            users_of_group: vec![("staff", "bob")],
            equiv: text(equiv),
            rhosts: text(rhosts),
            locked: false,
            lookups: 0,
            files_read: 0,
            patience: usize::MAX,
        }
    }
}

impl World for Fake {
    fn addresses(&mut self, name: &str, peer: IpAddr) -> Result<Vec<IpAddr>, LookupError> {
        self.lookups += 1;
        if name == "down" {
            return Err(LookupError::NoAnswer("timed out".to_owned()));
        }
        let found = self.names.get(name).into_iter().flatten();
        let found: Vec<_> = found.copied().filter(|ip| ip.is_ipv4() == peer.is_ipv4()).collect();
        if found.is_empty() { Err(LookupError::NoSuchName) } else { Ok(found) }
    }

    fn in_netgroup(&mut self, group: &[u8], member: Member<'_>) -> bool {
        self.lookups += 1;
        let (list, name) = match member {
            Member::Host(host) => (&self.hosts_of_group, host.as_bytes()),
            Member::User(user) => (&self.users_of_group, user),
        };
        list.iter().any(|(g, m)| g.as_bytes() == group && m.as_bytes() == name)
    }

    fn start_over(&mut self) {}

    fn is_late(&mut self) -> bool {
        self.lookups >= self.patience
    }

    fn is_locked(&mut self, _: &Account) -> bool {
        self.locked
    }

    fn hosts_equiv(&mut self) -> FileContent {
        self.files_read += 1;
        self.equiv.clone()
    }

    fn rhosts(&mut self, _: &Account) -> FileContent {
        self.files_read += 1;
        self.rhosts.clone()
    }
}
