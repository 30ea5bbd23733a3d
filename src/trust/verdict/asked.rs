//! What a search asks the name services: each thing once, and no more than its bounds allow.
//!
//! A file may have the same name on every line, and a name service may take seconds for each answer.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::trust::world::{Account, FileContent, LookupError, Member, World};

/// The world of one search, whose peer is always the same.
pub(super) struct Asked<'a> {
    world: &'a mut dyn World,
    names: HashMap<String, Result<Vec<IpAddr>, LookupError>>,
    /// By the group, and whether a host was looked for in it: there is one host and one user.
    groups: HashMap<(Vec<u8>, bool), bool>,
    /// How many more questions may be asked.
    left: usize,
    exhausted: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(world: &'a mut dyn World) -> Self {
        Asked { world, names: HashMap::new(), groups: HashMap::new(), left: usize::MAX, exhausted: false }
    }

    /// From now on so many questions may be asked that were not asked before.
    pub(super) fn allow(&mut self, questions: usize) {
        (self.left, self.exhausted) = (questions, false);
    }

    /// Whether a question was not asked because there were too many, or the time for them was over. Its answer was made
    /// up: nothing may follow from it.
    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    fn may_ask(&mut self) -> bool {
        if self.left == 0 || self.world.is_late() {
            self.exhausted = true;
            return false;
        }
        self.left -= 1;
        true
    }
}

impl World for Asked<'_> {
    fn addresses(&mut self, name: &str, peer: IpAddr) -> Result<Vec<IpAddr>, LookupError> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        if !self.may_ask() {
            return Err(LookupError::NoAnswer("not asked, the look-ups took too long".to_owned()));
        }
        let answer = self.world.addresses(name, peer);
        self.names.insert(name.to_owned(), answer.clone());
        answer
    }

    fn in_netgroup(&mut self, group: &[u8], member: Member<'_>) -> bool {
        let key = (group.to_vec(), matches!(member, Member::Host(_)));
        if let Some(known) = self.groups.get(&key) {
            return *known;
        }
        if !self.may_ask() {
            return false;
        }
        let answer = self.world.in_netgroup(group, member);
        self.groups.insert(key, answer);
        answer
    }

    fn start_over(&mut self) {
        self.world.start_over();
    }

    fn is_late(&mut self) -> bool {
        self.world.is_late()
    }

    fn is_locked(&mut self, account: &Account) -> bool {
        self.world.is_locked(account)
    }

    fn hosts_equiv(&mut self) -> FileContent {
        self.world.hosts_equiv()
    }

    fn rhosts(&mut self, account: &Account) -> FileContent {
        self.world.rhosts(account)
    }
}
