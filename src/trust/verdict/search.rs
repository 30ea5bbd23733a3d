//! The search through the rules of the configuration and the two files.
//!
//! One pass in the order in which they count. It must never go on behind a
//! line that decides, and never make a grant but in [`Search::grant`].

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;

use ipnet::IpNet;

use super::asked::Asked;
use super::{Decision, Granted, Place, Policy, Reason, RefusedBy, Step, StepOutcome, Verdict};
use crate::config::{LockedAccount, RootLogin, Rule, RuleHost, RuleVerdict, UnreservedPort};
use crate::trust::matching::{self, Context, Match};
use crate::trust::rules::{self, Entry, Host, User, printable};
use crate::trust::world::{Account, FileContent, HOSTS_EQUIV, NO_ACCOUNT, Query, World};

/// Whose rights read files for a name that does not exist; the kernel's overflow id.
const NOBODY: u32 = 65534;
/// How many steps are kept for the explanation.
const MAX_STEPS: usize = 1000;
/// How much of a line is shown, in bytes.
const MAX_TEXT: usize = 120;

/// How much work a file may cause. A hostile `.rhosts` delays only the login of
/// its own user, but that need not take minutes.
pub(in crate::trust) struct Bounds {
    pub(in crate::trust) lines: usize,
    /// Of different names and netgroups.
    pub(in crate::trust) lookups: usize,
}
pub(in crate::trust) const HOSTS_EQUIV_BOUNDS: Bounds = Bounds { lines: 65_536, lookups: 4096 };
pub(in crate::trust) const RHOSTS_BOUNDS: Bounds = Bounds { lines: 4096, lookups: 1024 };

/// Goes on, or ends with the verdict.
type Flow = ControlFlow<Verdict>;

pub(super) struct Search<'a> {
    policy: &'a Policy<'a>,
    ctx: Context<'a>,
    world: Asked<'a>,
    steps: Vec<Step>,
    omitted: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(policy: &'a Policy<'a>, query: &'a Query<'a>, world: &'a mut dyn World) -> Self {
        let account = query.account.map_or(query.user, |account| account.name.as_str());
        let ctx = Context { trust: policy.trust, query, peer: query.peer.to_canonical(), account };
        Search { policy, ctx, world: Asked::new(world), steps: Vec::new(), omitted: 0 }
    }

    pub(super) fn run(mut self) -> Decision {
        let verdict = match self.search() {
            ControlFlow::Break(verdict) => verdict,
            ControlFlow::Continue(()) => Verdict::Undecided(Reason::NoMatch),
        };
        Decision { verdict, steps: self.steps, omitted: self.omitted }
    }

    fn search(&mut self) -> Flow {
        if !self.ctx.query.port_reserved && self.policy.login.unreserved_port == UnreservedPort::Refuse {
            return Flow::Break(Verdict::Refused(RefusedBy::UnreservedPort));
        }
        self.config_rules()?;
        let account = match self.may_trust() {
            Ok(account) => account,
            Err(Reason::NoSuchAccount) => return self.files_for_nobody(),
            Err(reason) => return Flow::Break(Verdict::Undecided(reason)),
        };
        self.files(account)
    }

    /// Reads for a name that does not exist what is read for one that does, or the time that a login takes would tell
    /// the one from the other.
    fn files_for_nobody(&mut self) -> Flow {
        let shown = (self.steps.len(), self.omitted);
        let home = PathBuf::from("/");
        let nobody = Account { name: NO_ACCOUNT.to_owned(), uid: NOBODY, gid: NOBODY, home };
        let found = self.files(&nobody);
        self.steps.truncate(shown.0);
        self.omitted = shown.1;
        Flow::Break(match found {
            // A line of hosts.equiv: it decides before anybody's account counts.
            Flow::Break(denied @ Verdict::Denied { .. }) => denied,
            Flow::Break(_) | Flow::Continue(()) => Verdict::Undecided(Reason::NoSuchAccount),
        })
    }

    fn files(&mut self, account: &Account) -> Flow {
        if !self.ctx.trust.files_from.iter().any(|net| holds(net, self.ctx.peer)) {
            return Flow::Break(Verdict::Undecided(Reason::NotFrom));
        }
        self.hosts_equiv(account)?;
        self.rhosts(account)
    }

    /// The account, if anything at all may let this login in without a password.
    fn may_trust(&self) -> Result<&'a Account, Reason> {
        let query = self.ctx.query;
        if !query.port_reserved {
            return Err(Reason::PortNotReserved);
        }
        if query.port_open_here {
            return Err(Reason::PortOpenHere);
        }
        if query.remote_user.is_empty() {
            return Err(Reason::NoRemoteUser);
        }
        let account = query.account.ok_or(Reason::NoSuchAccount)?;
        if account.uid == 0 && self.policy.login.root != RootLogin::Trust {
            return Err(Reason::Root);
        }
        Ok(account)
    }

    /// The only place where trust is given.
    fn grant(&mut self, place: Place, wildcard: bool) -> Verdict {
        match self.may_trust() {
            Ok(_) if is_link_local(self.ctx.peer) => Verdict::Undecided(Reason::LinkLocal),
            Ok(account)
                if self.ctx.trust.locked == LockedAccount::Refuse && self.world.is_locked(account) =>
            {
                Verdict::Undecided(Reason::Locked)
            }
            Ok(account) => {
                Verdict::Trusted { place, wildcard, granted: Granted { account: account.name.clone() } }
            }
            Err(reason) => Verdict::Undecided(reason),
        }
    }

    fn config_rules(&mut self) -> Flow {
        // A refusal that could not be checked takes trust away, but it must not
        // shield the client from a later rule that refuses the connection.
        let mut unchecked: Option<Place> = None;
        let trust = self.ctx.trust;
        for rule in &trust.rules {
            let place = Place { file: self.policy.config_path.to_owned(), line: rule.line };
            let found = self.rule(rule);
            self.note(&place, describe(rule), &found, StepOutcome::Unchecked);
            match (found, rule.verdict) {
                (Match::No(_), _) | (Match::Unknown(_), RuleVerdict::Trust) => {}
                (Match::Unknown(_), RuleVerdict::Password | RuleVerdict::Refuse) => {
                    unchecked.get_or_insert(place);
                }
                (Match::Yes(_), RuleVerdict::Refuse) => {
                    return Flow::Break(Verdict::Refused(RefusedBy::Rule(place)));
                }
                (Match::Yes(_), RuleVerdict::Password) => return Flow::Break(Verdict::Denied { place }),
                (Match::Yes(_), RuleVerdict::Trust) => {
                    return Flow::Break(match unchecked {
                        Some(place) => Verdict::Denied { place },
                        None => self.grant(place, wide(rule)),
                    });
                }
            }
        }
        match unchecked {
            Some(place) => Flow::Break(Verdict::Denied { place }),
            None => Flow::Continue(()),
        }
    }

    fn rule(&mut self, rule: &Rule) -> Match {
        let account = self.ctx.account;
        if !rule.users.is_empty() && !rule.users.iter().any(|user| user == account) {
            return Match::No(format!("not for the account {}", printable(account.as_bytes(), MAX_TEXT)));
        }
        let remote = self.ctx.query.remote_user;
        let meant = if rule.remote_users.is_empty() {
            // "This network is never trusted" means all of its users.
            rule.verdict != RuleVerdict::Trust || remote == account.as_bytes()
        } else {
            rule.remote_users.iter().any(|user| user == "+" || user.as_bytes() == remote)
        };
        if !meant {
            return Match::No(format!("not for the remote user {}", printable(remote, MAX_TEXT)));
        }
        self.rule_from(rule)
    }

    fn rule_from(&mut self, rule: &Rule) -> Match {
        let peer = self.ctx.peer;
        if rule.from.is_empty() {
            return Match::Yes("from anywhere".to_owned());
        }
        let mut result = Match::No(format!("not from {peer}"));
        for from in &rule.from {
            let found = match from {
                RuleHost::Net(net) if holds(net, peer) => Match::Yes(format!("{net} holds {peer}")),
                RuleHost::Net(_) => continue,
                RuleHost::Name(name) => matching::by_name(name, peer, &mut self.world),
            };
            match found {
                Match::Yes(_) => return found,
                Match::Unknown(_) => result = found,
                Match::No(_) => {}
            }
        }
        result
    }

    fn hosts_equiv(&mut self, account: &Account) -> Flow {
        if !self.ctx.trust.hosts_equiv {
            self.skip(HOSTS_EQUIV, "trust.hosts_equiv = false");
        } else if account.uid == 0 {
            self.skip(HOSTS_EQUIV, "it never counts for root");
        } else {
            let content = self.world.hosts_equiv();
            self.file(HOSTS_EQUIV, content, &HOSTS_EQUIV_BOUNDS)?;
        }
        Flow::Continue(())
    }

    fn rhosts(&mut self, account: &Account) -> Flow {
        let file = account.home.join(".rhosts").to_string_lossy().into_owned();
        if !self.ctx.trust.rhosts {
            self.skip(&file, "trust.rhosts = false");
            return Flow::Continue(());
        }
        let content = self.world.rhosts(account);
        self.file(&file, content, &RHOSTS_BOUNDS)
    }

    fn file(&mut self, file: &str, content: FileContent, bounds: &Bounds) -> Flow {
        let bytes = match content {
            FileContent::Text(bytes) => bytes,
            FileContent::Absent => {
                self.skip(file, "there is none");
                return Flow::Continue(());
            }
            FileContent::Skipped(why) => {
                self.skip(file, &why.to_string());
                return Flow::Break(Verdict::Undecided(Reason::Skipped { file: file.to_owned(), why }));
            }
        };
        self.world.allow(bounds.lookups);
        for (count, entry) in rules::entries(&bytes).enumerate() {
            if count == bounds.lines {
                return self.too_much(file, entry.line, "too many lines");
            }
            self.entry(file, &entry)?;
        }
        Flow::Continue(())
    }

    /// What stands behind might refuse, so nothing behind is believed.
    fn too_much(&mut self, file: &str, line: u32, what: &str) -> Flow {
        self.skip(file, &format!("from line {line} on: {what}"));
        Flow::Break(Verdict::Undecided(Reason::TooMuch { file: file.to_owned() }))
    }

    fn entry(&mut self, file: &str, entry: &Entry<'_>) -> Flow {
        let place = Place { file: file.to_owned(), line: entry.line };
        let found = self.matches(entry);
        if self.world.is_exhausted() {
            return self.too_much(file, entry.line, "too many look-ups, or they took too long");
        }
        let unchecked = if entry.refuses() { StepOutcome::Decided } else { StepOutcome::NoMatch };
        self.note(&place, printable(entry.text, MAX_TEXT), &found, unchecked);
        match found {
            Match::No(_) => Flow::Continue(()),
            Match::Yes(_) | Match::Unknown(_) if entry.refuses() => Flow::Break(Verdict::Denied { place }),
            Match::Unknown(_) => Flow::Continue(()),
            Match::Yes(_) => {
                let wildcard = entry.host.what == Host::Any || entry.user.what == User::Any;
                Flow::Break(self.grant(place, wildcard))
            }
        }
    }

    /// Both fields. The user is compared first, because that costs no look-up.
    fn matches(&mut self, entry: &Entry<'_>) -> Match {
        let user = matching::user(entry, &self.ctx, &mut self.world);
        if matches!(user, Match::No(_)) {
            return user;
        }
        match (matching::host(entry, &self.ctx, &mut self.world), user) {
            (Match::No(why), _) => Match::No(why),
            (Match::Yes(host), Match::Yes(user)) => Match::Yes(format!("{host}; {user}")),
            (Match::Unknown(why), _) | (_, Match::Unknown(why)) => {
                let so = if entry.refuses() { "so the refusal stands" } else { "so it gives no trust" };
                Match::Unknown(format!("{why}, {so}"))
            }
            (_, Match::No(why)) => Match::No(why),
        }
    }

    /// Writes down what a rule did; `unchecked` is what it did if that could not be told.
    fn note(&mut self, place: &Place, text: String, found: &Match, unchecked: StepOutcome) {
        let (outcome, note) = match found {
            Match::Yes(why) => (StepOutcome::Decided, why),
            Match::No(why) => (StepOutcome::NoMatch, why),
            Match::Unknown(why) => (unchecked, why),
        };
        if outcome == StepOutcome::NoMatch && self.steps.len() >= MAX_STEPS {
            self.omitted += 1;
            return;
        }
        let line = Some(place.line);
        self.steps.push(Step { file: place.file.clone(), line, text, outcome, note: note.clone() });
    }

    fn skip(&mut self, file: &str, note: &str) {
        let (file, note) = (file.to_owned(), note.to_owned());
        self.steps.push(Step { file, line: None, text: String::new(), outcome: StepOutcome::Skipped, note });
    }
}

/// Whether a rule trusts any host or any user.
fn wide(rule: &Rule) -> bool {
    let everywhere = |from: &RuleHost| matches!(from, RuleHost::Net(net) if net.prefix_len() == 0);
    rule.from.is_empty()
        || rule.from.iter().any(everywhere)
        || rule.remote_users.iter().any(|user| user == "+")
}

/// Whether the address means a host only together with an interface.
pub(in crate::trust) fn is_link_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether a network holds an address, which is never v4-mapped; the network
/// may be written so.
fn holds(net: &IpNet, peer: IpAddr) -> bool {
    match (net, peer) {
        (IpNet::V4(net), IpAddr::V4(ip)) => net.contains(&ip),
        (IpNet::V6(net), IpAddr::V6(ip)) => net.contains(&ip),
        // Not a wider one: ::/0 means all of IPv6.
        (IpNet::V6(net), IpAddr::V4(ip)) => net.prefix_len() >= 96 && net.contains(&ip.to_ipv6_mapped()),
        (IpNet::V4(_), IpAddr::V6(_)) => false,
    }
}

/// A rule of the configuration in one line.
fn describe(rule: &Rule) -> String {
    let verdict = match rule.verdict {
        RuleVerdict::Trust => "trust",
        RuleVerdict::Password => "password",
        RuleVerdict::Refuse => "refuse",
    };
    let from = rule.from.iter().map(|from| match from {
        RuleHost::Net(net) => net.to_string(),
        RuleHost::Name(name) => name.clone(),
    });
    let mut text = verdict.to_owned();
    for (what, list) in [
        ("from", from.collect::<Vec<_>>()),
        ("remote_users", rule.remote_users.clone()),
        ("users", rule.users.clone()),
    ] {
        if !list.is_empty() {
            text.push_str(&format!(" {what}={}", list.join(",")));
        }
    }
    printable(text.as_bytes(), MAX_TEXT)
}
