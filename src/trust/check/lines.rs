//! What is wrong with single lines of a trust file.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Finding;
use crate::config::Trust;
use crate::trust::rules::{self, Entry, Host, User, printable};
use crate::trust::verdict::Place;
use crate::trust::verdict::search::{Bounds, is_link_local};
use crate::trust::world::{LookupError, World};

/// How much of a word from a file is shown, in bytes.
const SHOWN: usize = 60;

/// What is wrong with a line, and whether it can decide all the same.
type Wrong = (String, bool);

/// Which hosts a line decides for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum HostKey {
    Any,
    Address(IpAddr),
    Name(String),
    Group(Vec<u8>),
}

/// Which users a line decides for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum UserKey {
    Any,
    /// The user of the account's own name, while the account is not known.
    Same,
    Name(Vec<u8>),
    Group(Vec<u8>),
}

/// The lines that decide, by whom they decide for.
#[derive(Debug, Default)]
pub(super) struct Seen(HashMap<(HostKey, UserKey), Place>);

impl Seen {
    /// A line that decides at least for all of these.
    fn deciding(&self, host: &HostKey, user: &UserKey, account: Option<&str>) -> Option<&Place> {
        let own_name = matches!(user, UserKey::Name(name) if account.is_some_and(|a| a.as_bytes() == name));
        let users = [Some(user), Some(&UserKey::Any), own_name.then_some(&UserKey::Same)];
        let pairs = [host, &HostKey::Any].into_iter().flat_map(|host| users.map(|user| (host, user)));
        pairs
            .filter_map(|(host, user)| self.0.get(&(host.clone(), user?.clone())))
            .min_by_key(|place| place.line)
    }
}

/// The look-ups that a file needs: each name once, and those of a line that names a user only for that user.
#[derive(Debug, Default)]
struct LookUps {
    for_all: HashSet<HostKey>,
    by_user: HashMap<Vec<u8>, HashSet<HostKey>>,
    groups: HashSet<Vec<u8>>,
    /// Of those who are named, the most for one.
    most_of_one: usize,
    /// The most for anybody.
    most: usize,
}

impl LookUps {
    fn add(&mut self, entry: &Entry<'_>) {
        let host = match entry.host.what {
            Host::Name(name) => Some(HostKey::Name(name.to_ascii_lowercase())),
            Host::Group(group) => Some(HostKey::Group(group.to_vec())),
            Host::Any | Host::Address { .. } | Host::Malformed => None,
        };
        match entry.user.what {
            User::Comment => return,
            User::Name(user) if !entry.host.refuse => {
                let own = self.by_user.entry(user.to_vec()).or_default();
                own.extend(host);
                self.most_of_one = self.most_of_one.max(own.len());
            }
            User::Group(group) if !entry.host.refuse => {
                self.groups.insert(group.to_vec());
                self.for_all.extend(host);
            }
            User::Name(_) | User::Group(_) | User::Missing | User::Any | User::Malformed => {
                self.for_all.extend(host);
            }
        }
        self.most = self.for_all.len() + self.groups.len() + self.most_of_one;
    }
}

/// Checks lines, and remembers the names it looked up.
pub(super) struct Lines<'a> {
    trust: &'a Trust,
    world: &'a mut dyn World,
    /// What is wrong with each name, if anything.
    names: HashMap<String, Option<String>>,
    /// How many more of them are looked up for this file.
    left: usize,
    /// One was not looked up.
    gave_up: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(trust: &'a Trust, world: &'a mut dyn World) -> Self {
        Lines { trust, world, names: HashMap::new(), left: 0, gave_up: false }
    }

    pub(super) fn world(&mut self) -> &mut dyn World {
        self.world
    }

    /// The findings in one file, and what its lines decide. `account` is the
    /// file's owner; `before` is what was decided before the file is looked at.
    pub(super) fn check(
        &mut self,
        file: &str,
        bytes: &[u8],
        bounds: &Bounds,
        account: Option<&str>,
        before: &Seen,
    ) -> (Seen, Vec<Finding>) {
        let mut seen = Seen::default();
        let mut findings = Vec::new();
        let mut lookups = LookUps::default();
        // The file may be anybody's, and a check of all users' has to come to its end.
        (self.left, self.gave_up) = (bounds.lookups, false);
        self.world.start_over();
        for (count, entry) in rules::entries(bytes).enumerate() {
            let mut found = |text: String| {
                findings.push(Finding { file: file.to_owned(), line: Some(entry.line), text, skip: None })
            };
            lookups.add(&entry);
            if count == bounds.lines || lookups.most > bounds.lookups {
                found("a login may stop here: too many lines or look-ups in one file".to_owned());
                break;
            }
            let gave_up = self.gave_up;
            let wrong = self.entry(&entry);
            if self.gave_up && !gave_up {
                found("from here on new names are not looked up: too many, or it took too long".to_owned());
            }
            let works = wrong.iter().all(|(_, works)| *works);
            wrong.into_iter().for_each(|(text, _)| found(text));
            let Some((host, user)) = self.keys(&entry, account) else { continue };
            let earlier = before.deciding(&host, &user, account).or(seen.deciding(&host, &user, account));
            if let Some(place) = earlier {
                found(format!("never reached: {place} decides before it"));
            } else if works || entry.refuses() {
                seen.0.insert((host, user), Place { file: file.to_owned(), line: entry.line });
            }
        }
        (seen, findings)
    }

    /// What is wrong with an entry, each with whether it can decide all the same.
    fn entry(&mut self, entry: &Entry<'_>) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        self.host(entry, &mut wrong);
        self.user(entry, &mut wrong);
        if entry.extra_words && entry.user.what != User::Comment {
            wrong.push(("the words after the second mean nothing".to_owned(), true));
        }
        wrong
    }

    fn host(&mut self, entry: &Entry<'_>, wrong: &mut Vec<Wrong>) {
        let plus = entry.host.plus;
        match entry.host.what {
            Host::Any => self.any(entry, "host", wrong),
            Host::Address { ip, odd: true, .. } => {
                wrong.push((format!("an unusual spelling of the address {ip}"), true));
            }
            Host::Address { ip, zone, .. } if zone || is_link_local(ip) => {
                if !entry.refuses() {
                    wrong.push(("a link-local address is never trusted".to_owned(), false));
                }
            }
            Host::Address { .. } => {}
            Host::Name(name) => wrong.extend(self.name(name).map(|text| (text, false))),
            Host::Group(_) => self.group(entry, wrong),
            Host::Malformed => {
                wrong
                    .push((unreadable(entry, "the first word is neither an address nor a host name"), false));
            }
        }
        if plus && entry.host.what != Host::Malformed {
            wrong.push(("+host is understood here and by the BSDs, but not by glibc".to_owned(), true));
        }
    }

    fn user(&self, entry: &Entry<'_>, wrong: &mut Vec<Wrong>) {
        if entry.host.refuse {
            if !matches!(entry.user.what, User::Missing | User::Any) {
                wrong.push((
                    "a refused host is refused for every user: the second word means nothing".to_owned(),
                    true,
                ));
            }
            return;
        }
        match entry.user.what {
            User::Missing | User::Name(_) => {}
            User::Comment => {
                let text = "a # behind the host begins no comment";
                wrong.push((text.to_owned(), false));
            }
            User::Any => self.any(entry, "user", wrong),
            User::Group(_) => self.group(entry, wrong),
            User::Malformed => {
                wrong.push((unreadable(entry, "the second word is a sign without a name"), false))
            }
        }
        if entry.user.plus && entry.user.what != User::Malformed {
            wrong.push(("+user is understood here and by the BSDs, but not by glibc".to_owned(), true));
        }
    }

    fn any(&self, entry: &Entry<'_>, what: &str, wrong: &mut Vec<Wrong>) {
        if entry.refuses() {
            // Refusing everyone is no risk.
        } else if self.trust.wildcards {
            wrong.push((format!("a bare + trusts any {what}"), true));
        } else {
            wrong.push((
                format!("a bare + for any {what} is honoured only with trust.wildcards = true"),
                false,
            ));
        }
    }

    fn group(&self, entry: &Entry<'_>, wrong: &mut Vec<Wrong>) {
        if !self.trust.netgroups {
            wrong.push((unreadable(entry, "netgroups count only with trust.netgroups = true"), false));
        }
    }

    /// What is wrong with a host name.
    fn name(&mut self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        if let Some(known) = self.names.get(&name) {
            return known.clone();
        }
        if self.left == 0 || self.world.is_late() {
            self.gave_up = true;
            return None;
        }
        self.left -= 1;
        let answers = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
            .map(|family| self.world.addresses(&name, family));
        let wrong = match &answers {
            [Ok(_), _] | [_, Ok(_)] => None,
            [Err(LookupError::NoSuchName), Err(LookupError::NoSuchName)] => {
                Some(format!("{} has no address", printable(name.as_bytes(), SHOWN)))
            }
            [Err(LookupError::NoAnswer(why)), _] | [_, Err(LookupError::NoAnswer(why))] => {
                Some(format!("{} cannot be looked up: {why}", printable(name.as_bytes(), SHOWN)))
            }
        };
        self.names.insert(name, wrong.clone());
        wrong
    }

    /// Whom a line decides for; none if for nobody. A refusal that cannot be
    /// checked decides for everyone.
    fn keys(&self, entry: &Entry<'_>, account: Option<&str>) -> Option<(HostKey, UserKey)> {
        let host = match entry.host.what {
            Host::Any => HostKey::Any,
            Host::Address { ip, .. } => HostKey::Address(ip),
            Host::Name(name) => HostKey::Name(name.to_ascii_lowercase()),
            Host::Group(group) if self.trust.netgroups => HostKey::Group(group.to_vec()),
            Host::Group(_) | Host::Malformed if entry.refuses() => HostKey::Any,
            Host::Group(_) | Host::Malformed => return None,
        };
        if entry.host.refuse {
            return Some((host, UserKey::Any));
        }
        let user = match entry.user.what {
            User::Missing => account.map_or(UserKey::Same, |name| UserKey::Name(name.as_bytes().to_vec())),
            User::Any => UserKey::Any,
            User::Name(name) => UserKey::Name(name.to_vec()),
            User::Group(group) if self.trust.netgroups => UserKey::Group(group.to_vec()),
            User::Group(_) | User::Malformed if entry.refuses() => UserKey::Any,
            User::Comment | User::Group(_) | User::Malformed => return None,
        };
        Some((host, user))
    }
}

/// The consequence of something that cannot be checked.
fn unreadable(entry: &Entry<'_>, text: &str) -> String {
    let so = if entry.refuses() { "the refusal stands" } else { "the line trusts nobody" };
    format!("{text}, so {so}")
}
