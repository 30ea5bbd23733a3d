//! The verdict, against a world made of tables.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of a test fail by panicking")]

mod trust_fake;

use proptest::prelude::*;
use rlogind::config::{LockedAccount, Login, RootLogin, Rule, RuleHost, RuleVerdict, Trust, UnreservedPort};
use rlogind::trust::{
    Account, Decision, FileContent, Place, Policy, Query, Reason, RefusedBy, Skip, StepOutcome, Verdict,
    decide, world,
};
use trust_fake::Fake;

const CONFIG: &str = "/etc/rlogind.toml";
const EQUIV: &str = "/etc/hosts.equiv";
const RHOSTS: &str = "/home/alice/.rhosts";

/// A login of bob@192.0.2.7 to alice, unless changed.
struct Case {
    trust: Trust,
    login: Login,
    peer: &'static str,
    reserved: bool,
    open_here: bool,
    host: Option<&'static str>,
    remote: &'static str,
    account: Option<Account>,
    world: Fake,
}

fn case(equiv: &str, rhosts: &str) -> Case {
    Case {
        trust: Trust::default(),
        login: Login::default(),
        peer: "192.0.2.7",
        reserved: true,
        open_here: false,
        host: Some("client"),
        remote: "bob",
        account: Some(Account { name: "alice".into(), uid: 1000, gid: 1000, home: "/home/alice".into() }),
        world: Fake::new(equiv, rhosts),
    }
}

impl Case {
    fn decide(&mut self) -> Decision {
        let policy = Policy { trust: &self.trust, login: &self.login, config_path: CONFIG };
        let query = Query {
            peer: self.peer.parse().unwrap(),
            port_reserved: self.reserved,
            port_open_here: self.open_here,
            host: self.host,
            remote_user: self.remote.as_bytes(),
            user: "alice",
            account: self.account.as_ref(),
        };
        decide(&policy, &query, &mut self.world)
    }

    fn for_root(mut self) -> Self {
        self.account = Some(Account { name: "root".into(), uid: 0, gid: 0, home: "/root".into() });
        self
    }
}

/// The verdict in one word, with its place.
fn short(decision: &Decision) -> String {
    let at = |place: &Place| format!("{}:{}", place.file.rsplit('/').next().unwrap(), place.line);
    match &decision.verdict {
        Verdict::Trusted { place, wildcard, .. } => {
            format!("trusted {}{}", at(place), if *wildcard { " wildcard" } else { "" })
        }
        Verdict::Denied { place } => format!("denied {}", at(place)),
        Verdict::Refused(RefusedBy::Rule(place)) => format!("refused {}", at(place)),
        Verdict::Refused(RefusedBy::UnreservedPort) => "refused port".to_owned(),
        Verdict::Undecided(Reason::NoMatch) => "no match".to_owned(),
        Verdict::Undecided(reason) => format!("undecided {reason:?}"),
    }
}

fn equiv_says(line: &str) -> String {
    short(&case(line, "").decide())
}

#[test]
fn host_and_user_forms() {
    for (lines, verdict) in [
        ("client bob", "trusted hosts.equiv:1"),
        ("CLIENT bob", "trusted hosts.equiv:1"),
        ("client Bob", "no match"),
        ("client.example.org bob", "trusted hosts.equiv:1"),
        ("192.0.2.7 bob", "trusted hosts.equiv:1"),
        ("::ffff:192.0.2.7 bob", "trusted hosts.equiv:1"),
        ("0xc0000207 bob", "trusted hosts.equiv:1"),
        ("+client +bob", "trusted hosts.equiv:1"),
        ("client", "no match"),
        ("client alice", "no match"),
        ("other bob", "no match"),
        ("six bob", "no match"),
        ("nowhere bob", "no match"),
        ("+@lab bob", "trusted hosts.equiv:1"),
        ("+@lab +@staff", "trusted hosts.equiv:1"),
        ("+@nolab bob", "no match"),
        ("client +@lab", "no match"),
        ("# client bob\n \t client bob extra\r\n", "trusted hosts.equiv:2"),
        ("client # bob", "no match"),
        ("-client", "denied hosts.equiv:1"),
        ("-client # bad", "denied hosts.equiv:1"),
        ("-client alice\nclient bob", "denied hosts.equiv:1"),
        ("-client -\nclient bob", "denied hosts.equiv:1"),
        ("-other bob\nclient bob", "trusted hosts.equiv:2"),
        ("-other\nclient bob", "trusted hosts.equiv:2"),
        ("-nowhere\nclient bob", "trusted hosts.equiv:2"),
        ("client -bob\nclient bob", "denied hosts.equiv:1"),
        ("-client -bob\nclient bob", "denied hosts.equiv:1"),
        ("client -alice\nclient bob", "trusted hosts.equiv:2"),
        ("other -bob\nclient bob", "trusted hosts.equiv:2"),
        ("client -@staff\nclient bob", "denied hosts.equiv:1"),
        ("-@lab\nclient bob", "denied hosts.equiv:1"),
        ("-@nolab\nclient bob", "trusted hosts.equiv:2"),
        ("client bob\n-client bob", "trusted hosts.equiv:1"),
    ] {
        assert_eq!(equiv_says(lines), verdict, "{lines:?}");
    }
}

#[test]
fn a_missing_user_is_the_same_name() {
    let mut same = case("client", "");
    same.remote = "alice";
    assert_eq!(short(&same.decide()), "trusted hosts.equiv:1");
}

#[test]
fn the_grant_names_the_account() {
    let decision = case("client bob", "").decide();
    let Verdict::Trusted { granted, .. } = decision.verdict else { panic!() };
    assert_eq!(granted.account(), "alice");
}

#[test]
fn a_bare_plus_permits_only_when_asked_for_and_refuses_always() {
    for (lines, without, with) in [
        ("+ bob", "no match", "trusted hosts.equiv:1 wildcard"),
        ("client +", "no match", "trusted hosts.equiv:1 wildcard"),
        ("+ +", "no match", "trusted hosts.equiv:1 wildcard"),
        ("+", "no match", "no match"),
        ("+ -bob\nclient bob", "denied hosts.equiv:1", "denied hosts.equiv:1"),
        ("-client +\nclient bob", "denied hosts.equiv:1", "denied hosts.equiv:1"),
    ] {
        let mut case = case(lines, "");
        assert_eq!(short(&case.decide()), without, "{lines:?}");
        case.trust.wildcards = true;
        assert_eq!(short(&case.decide()), with, "{lines:?}");
    }
}

#[test]
fn a_refusal_that_cannot_be_checked_stands_and_a_permission_does_not() {
    for (lines, verdict) in [
        ("-down\nclient bob", "denied hosts.equiv:1"),
        ("down -bob\nclient bob", "denied hosts.equiv:1"),
        ("down -alice\nclient bob", "trusted hosts.equiv:2"),
        ("-bad/name\nclient bob", "denied hosts.equiv:1"),
        ("-\nclient bob", "denied hosts.equiv:1"),
        ("client -\nclient bob", "denied hosts.equiv:1"),
        ("down bob\nclient bob", "trusted hosts.equiv:2"),
        ("+@ bob\nclient bob", "trusted hosts.equiv:2"),
    ] {
        assert_eq!(equiv_says(lines), verdict, "{lines:?}");
    }
    for no_groups in [true, false] {
        let refusal = |lines| {
            let mut case = case(lines, "");
            if no_groups {
                case.trust.netgroups = false;
            } else {
                case.host = None;
            }
            short(&case.decide())
        };
        assert_eq!(refusal("-@nolab\nclient bob"), "denied hosts.equiv:1");
        assert_eq!(refusal("+@lab bob"), "no match");
    }
}

#[test]
fn hosts_equiv_before_rhosts() {
    for (equiv, rhosts, verdict) in [
        ("client bob", "-client", "trusted hosts.equiv:1"),
        ("-client", "client bob", "denied hosts.equiv:1"),
        ("client -bob", "client bob", "denied hosts.equiv:1"),
        ("other", "\nclient bob", "trusted .rhosts:2"),
        ("", "-client", "denied .rhosts:1"),
        ("", "", "no match"),
    ] {
        assert_eq!(short(&case(equiv, rhosts).decide()), verdict, "{equiv:?} {rhosts:?}");
    }
}

#[test]
fn a_file_that_is_not_believed_gives_no_trust() {
    let mut broken = case("client bob", "client bob");
    broken.world.equiv = FileContent::Skipped(Skip::Symlink);
    // Its refusals are unknown, so the user's file does not count either.
    let reason = Reason::Skipped { file: EQUIV.to_owned(), why: Skip::Symlink };
    assert_eq!(short(&broken.decide()), format!("undecided {reason:?}"));
    broken.world.equiv = FileContent::Absent;
    broken.world.rhosts = FileContent::Skipped(Skip::Links(2));
    let reason = Reason::Skipped { file: RHOSTS.to_owned(), why: Skip::Links(2) };
    assert_eq!(short(&broken.decide()), format!("undecided {reason:?}"));
}

#[test]
fn settings_keep_files_shut() {
    let mut case = case("client bob", "client bob");
    case.trust.hosts_equiv = false;
    assert_eq!(short(&case.decide()), "trusted .rhosts:1");
    case.trust.rhosts = false;
    assert_eq!(short(&case.decide()), "no match");
    assert_eq!(case.world.files_read, 1);
    case.trust.hosts_equiv = true;
    case.trust.files_from = vec!["198.51.100.0/24".parse().unwrap(), "::/0".parse().unwrap()];
    assert_eq!(short(&case.decide()), "undecided NotFrom");
    assert_eq!(case.world.files_read, 1);
    case.trust.files_from.push("::ffff:192.0.2.0/120".parse().unwrap());
    assert_eq!(short(&case.decide()), "trusted hosts.equiv:1");
}

#[test]
fn no_trust_without_a_reserved_port() {
    for (port, is) in [(0, false), (511, false), (512, true), (1023, true), (1024, false), (65535, false)] {
        assert_eq!(world::reserved(port), is, "{port}");
    }
    let mut case = case("client bob", "client bob");
    case.trust.rules = vec![rule(RuleVerdict::Trust, &[], &["bob"])];
    case.reserved = false;
    assert_eq!(short(&case.decide()), "undecided PortNotReserved");
    assert_eq!(case.world.files_read, 0);
    case.trust.rules = vec![rule(RuleVerdict::Refuse, &["192.0.2.0/24"], &[])];
    assert_eq!(short(&case.decide()), "refused rlogind.toml:10");
    case.trust.rules.clear();
    case.login.unreserved_port = UnreservedPort::Refuse;
    assert_eq!(short(&case.decide()), "refused port");
}

#[test]
fn no_trust_in_a_port_of_this_machine_that_anybody_may_open() {
    let mut case = case("client bob", "client bob");
    case.open_here = true;
    assert_eq!((short(&case.decide()).as_str(), case.world.files_read), ("undecided PortOpenHere", 0));
    case.trust.rules = vec![rule(RuleVerdict::Trust, &[], &["bob"])];
    assert_eq!(short(&case.decide()), "undecided PortOpenHere");
    case.trust.rules = vec![rule(RuleVerdict::Refuse, &["192.0.2.0/24"], &[])];
    assert_eq!(short(&case.decide()), "refused rlogind.toml:10");
}

#[test]
fn a_locked_account_is_not_trusted_unless_the_configuration_says_so() {
    let mut case = case("client bob", "");
    case.world.locked = true;
    assert_eq!(short(&case.decide()), "undecided Locked");
    case.trust.rules = vec![rule(RuleVerdict::Trust, &["192.0.2.0/24"], &["bob"])];
    assert_eq!(short(&case.decide()), "undecided Locked");
    case.trust.locked = LockedAccount::Trust;
    assert_eq!(short(&case.decide()), "trusted rlogind.toml:10");
}

#[test]
fn an_unnamed_remote_user_is_never_trusted() {
    let mut case = case("client\nclient +\n+ +", "client +");
    case.trust.wildcards = true;
    case.trust.rules = vec![rule(RuleVerdict::Trust, &[], &["+"])];
    case.remote = "";
    assert_eq!(short(&case.decide()), "undecided NoRemoteUser");
    case.trust.rules = vec![rule(RuleVerdict::Refuse, &[], &["+"])];
    assert_eq!(short(&case.decide()), "refused rlogind.toml:10");
    // Not even when the account has no name either.
    case.trust.rules.clear();
    case.account = Some(Account { name: String::new(), uid: 5, gid: 5, home: "/".into() });
    assert_eq!(short(&case.decide()), "undecided NoRemoteUser");
}

#[test]
fn an_unknown_account_is_refused_like_a_known_one_and_never_trusted() {
    let mut unknown = case("other bob", "other bob");
    unknown.account = None;
    assert_eq!(short(&unknown.decide()), "undecided NoSuchAccount");
    assert_eq!(unknown.world.files_read, 2, "as for one that exists");
    let mut case = case("client bob", "client bob");
    case.account = None;
    assert_eq!(short(&case.decide()), "undecided NoSuchAccount");
    assert!(case.decide().steps.iter().all(|step| !step.file.contains("rhosts")));
    case.trust.rules = vec![rule(RuleVerdict::Refuse, &["192.0.2.7/32"], &[])];
    assert_eq!(short(&case.decide()), "refused rlogind.toml:10");
}

#[test]
fn root_only_by_its_own_file_and_only_when_allowed() {
    let mut root = case("client bob", "client bob").for_root();
    for refusing in [RootLogin::No, RootLogin::Password] {
        root.login.root = refusing;
        root.trust.rules.clear();
        assert_eq!(short(&root.decide()), "undecided Root");
        root.trust.rules = vec![rule(RuleVerdict::Trust, &["192.0.2.7/32"], &["bob"])];
        assert_eq!(short(&root.decide()), "undecided Root");
    }
    root.login.root = RootLogin::Trust;
    assert_eq!(short(&root.decide()), "trusted rlogind.toml:10");
    root.trust.rules.clear();
    assert_eq!(short(&root.decide()), "trusted .rhosts:1");
    root.world.rhosts = FileContent::Absent;
    assert_eq!(short(&root.decide()), "no match");
}

#[test]
fn a_link_local_address_names_nobody_but_can_be_refused() {
    for (lines, verdict) in [
        ("fe80::7 bob", "undecided LinkLocal"),
        ("fe80::7%eth0 bob", "undecided LinkLocal"),
        ("near bob", "undecided LinkLocal"),
        ("+ bob", "undecided LinkLocal"),
        ("-fe80::7%eth0\n", "denied hosts.equiv:1"),
        ("-near", "denied hosts.equiv:1"),
    ] {
        let mut case = case(lines, "");
        case.peer = "fe80::7";
        case.trust.wildcards = true;
        assert_eq!(short(&case.decide()), verdict, "{lines:?}");
    }
    for from in ["fe80::/10", "fe80::7/128", "::/0"] {
        let mut case = case("", "");
        case.peer = "fe80::7";
        case.trust.rules = vec![rule(RuleVerdict::Trust, &[from], &["bob"])];
        assert_eq!(short(&case.decide()), "undecided LinkLocal", "{from}");
        case.trust.rules = vec![rule(RuleVerdict::Refuse, &[from], &[])];
        assert_eq!(short(&case.decide()), "refused rlogind.toml:10", "{from}");
    }
}

#[test]
fn a_link_local_address_of_ipv4_is_one_as_well() {
    for peer in ["169.254.9.7", "::ffff:169.254.9.7"] {
        for (lines, verdict) in [
            ("169.254.9.7 bob", "undecided LinkLocal"),
            ("::ffff:169.254.9.7 bob", "undecided LinkLocal"),
            ("near4 bob", "undecided LinkLocal"),
            ("+ bob", "undecided LinkLocal"),
            ("-169.254.9.7\n", "denied hosts.equiv:1"),
            ("-near4", "denied hosts.equiv:1"),
        ] {
            let mut case = case(lines, "");
            case.peer = peer;
            case.trust.wildcards = true;
            assert_eq!(short(&case.decide()), verdict, "{peer} {lines:?}");
        }
        for from in ["169.254.0.0/16", "169.254.9.7/32", "0.0.0.0/0", "::ffff:169.254.0.0/112"] {
            let mut case = case("", "");
            case.peer = peer;
            case.trust.rules = vec![rule(RuleVerdict::Trust, &[from], &["bob"])];
            assert_eq!(short(&case.decide()), "undecided LinkLocal", "{peer} {from}");
            case.trust.rules = vec![rule(RuleVerdict::Refuse, &[from], &[])];
            assert_eq!(short(&case.decide()), "refused rlogind.toml:10", "{peer} {from}");
        }
    }
    // Next to them are others.
    let mut case = case("169.253.9.7 bob", "");
    case.peer = "169.253.9.7";
    assert_eq!(short(&case.decide()), "trusted hosts.equiv:1");
}

#[test]
fn a_mapped_peer_is_an_ipv4_peer() {
    let mut case = case("client bob", "");
    case.peer = "::ffff:192.0.2.7";
    assert_eq!(short(&case.decide()), "trusted hosts.equiv:1");
}

fn rule(verdict: RuleVerdict, from: &[&str], remote_users: &[&str]) -> Rule {
    let host = |from: &&str| from.parse().map_or_else(|_| RuleHost::Name((*from).to_owned()), RuleHost::Net);
    Rule {
        from: from.iter().map(host).collect(),
        remote_users: remote_users.iter().map(|&user| user.to_owned()).collect(),
        users: Vec::new(),
        verdict,
        line: 10,
    }
}

#[test]
fn rules_of_the_configuration() {
    use RuleVerdict::{Password, Refuse, Trust};
    for (rules, verdict) in [
        (vec![rule(Trust, &["192.0.2.0/24"], &["bob"])], "trusted rlogind.toml:10"),
        (vec![rule(Trust, &["client"], &["bob"])], "trusted rlogind.toml:10"),
        (vec![rule(Trust, &["client"], &["+"])], "trusted rlogind.toml:10 wildcard"),
        (vec![rule(Trust, &[], &["bob"])], "trusted rlogind.toml:10 wildcard"),
        (vec![rule(Trust, &["0.0.0.0/0"], &["bob"])], "trusted rlogind.toml:10 wildcard"),
        (vec![rule(Trust, &["client"], &[])], "no match"),
        (vec![rule(Trust, &["2001:db8::/32", "other"], &["bob"])], "no match"),
        (vec![rule(Password, &["192.0.2.0/24"], &[])], "denied rlogind.toml:10"),
        (vec![rule(Password, &["192.0.2.0/24"], &["carol"])], "no match"),
        (vec![rule(Refuse, &["client"], &[])], "refused rlogind.toml:10"),
        (vec![rule(Trust, &["client"], &["bob"]), rule(Refuse, &[], &[])], "trusted rlogind.toml:10"),
        (vec![rule(Refuse, &[], &[]), rule(Trust, &["client"], &["bob"])], "refused rlogind.toml:10"),
        // A refusal that cannot be checked takes trust, and shields from none.
        (vec![rule(Refuse, &["down"], &[]), rule(Trust, &["client"], &["bob"])], "denied rlogind.toml:10"),
        (vec![rule(Refuse, &["down"], &[])], "denied rlogind.toml:10"),
        (vec![rule(Password, &["down"], &[]), rule(Refuse, &["client"], &[])], "refused rlogind.toml:10"),
        (vec![rule(Trust, &["down"], &["bob"])], "no match"),
        (vec![rule(Refuse, &["down", "client"], &[])], "refused rlogind.toml:10"),
    ] {
        let mut case = case("", "");
        case.trust.rules = rules.clone();
        assert_eq!(short(&case.decide()), verdict, "{rules:?}");
    }
    let mut for_carol = case("client bob", "");
    for_carol.trust.rules = vec![Rule { users: vec!["carol".into()], ..rule(Refuse, &[], &[]) }];
    assert_eq!(short(&for_carol.decide()), "trusted hosts.equiv:1");
    let mut before_files = case("client bob", "client bob");
    before_files.trust.rules = vec![rule(Password, &["192.0.2.0/24"], &[])];
    assert_eq!(short(&before_files.decide()), "denied rlogind.toml:10");
}

#[test]
fn the_steps_tell_what_was_looked_at_in_order() {
    let mut case = case("-other\nclient carol", "#\nclient bob\nnever seen");
    case.trust.rules = vec![rule(RuleVerdict::Refuse, &["198.51.100.0/24"], &[])];
    let decision = case.decide();
    let told: Vec<_> = decision.steps.iter().map(|s| (s.file.as_str(), s.line, s.text.as_str())).collect();
    assert_eq!(
        told,
        [
            (CONFIG, Some(10), "refuse from=198.51.100.0/24"),
            (EQUIV, Some(1), "-other"),
            (EQUIV, Some(2), "client carol"),
            (RHOSTS, Some(2), "client bob"),
        ]
    );
    assert_eq!(decision.steps[3].outcome, StepOutcome::Decided);
    assert!(decision.steps[..3].iter().all(|s| s.outcome == StepOutcome::NoMatch));
}

#[test]
fn hostile_files_are_bounded() {
    let many_names: String = (0..10_000).map(|n| format!("host{n} bob\n")).collect();
    let mut case = case("", &format!("{many_names}client bob"));
    let reason = Reason::TooMuch { file: RHOSTS.to_owned() };
    assert_eq!(short(&case.decide()), format!("undecided {reason:?}"));
    assert!(case.world.lookups <= 1024, "{}", case.world.lookups);
    let many_lines = "192.0.2.1 bob\n".repeat(3000);
    case.world.rhosts = FileContent::Text(format!("{many_lines}client bob").into_bytes());
    let decision = case.decide();
    assert_eq!(short(&decision), "trusted .rhosts:3001");
    assert!(decision.steps.len() + decision.omitted > 3000 && decision.steps.len() < 1100);
    assert_eq!(decision.steps.last().unwrap().outcome, StepOutcome::Decided);
    case.world.rhosts = FileContent::Text("192.0.2.1 bob\n".repeat(5000).into_bytes());
    assert_eq!(short(&case.decide()), format!("undecided {reason:?}"));
}

#[test]
fn two_thousand_lines_of_two_hundred_hosts_are_no_hostile_file() {
    let lines: String = (0..2000).map(|n| format!("host{} +\n", n % 200)).collect();
    for (file, place) in [(EQUIV, "equiv"), (RHOSTS, ".rhosts")] {
        let text = format!("{lines}client bob\n");
        let mut case = if file == EQUIV { case(&text, "") } else { case("", &text) };
        case.trust.wildcards = true;
        let told = short(&case.decide());
        assert!(told.starts_with("trusted") && told.contains("2001"), "{place}: {told}");
        assert_eq!(case.world.lookups, 201, "{place}: each name once");
    }
}

#[test]
fn a_name_is_looked_up_once_in_both_files_and_the_rules() {
    let mut case =
        case("OTHER bob\nother carol\nOther bob", "other bob\n+@lab bob\n+@lab bob\nclient +@staff\n");
    case.trust.rules =
        vec![rule(RuleVerdict::Refuse, &["other"], &[]), rule(RuleVerdict::Refuse, &["Other"], &[])];
    case.trust.netgroups = true;
    case.host = Some("stranger");
    assert_eq!(short(&case.decide()), "trusted .rhosts:4");
    // "other", the host in @lab, the user in @staff, "client".
    assert_eq!(case.world.lookups, 4);
}

#[test]
fn a_line_of_another_user_costs_no_look_up() {
    let others: String = (0..4000).map(|n| format!("host{n} user{n}\n")).collect();
    let mut case = case("", &format!("{others}client bob\n"));
    assert_eq!(short(&case.decide()), "trusted .rhosts:4001");
    assert_eq!(case.world.lookups, 1);
}

#[test]
fn look_ups_that_take_too_long_end_in_a_password() {
    let reason = Reason::TooMuch { file: RHOSTS.to_owned() };
    for refusal in ["", "-other\n"] {
        let mut case = case("", &format!("other bob\nslow bob\n{refusal}client bob\n"));
        case.world.patience = 1;
        assert_eq!(short(&case.decide()), format!("undecided {reason:?}"));
        assert_eq!(case.world.lookups, 1, "none begins when the time is over");
    }
    // What needs no look-up, or none but those that were made, is still believed.
    let mut in_time = case("", "other bob\nother bob\n192.0.2.7 bob\n");
    in_time.world.patience = 1;
    assert_eq!(short(&in_time.decide()), "trusted .rhosts:3");
    // A refusal of the configuration that could not be checked stands.
    let mut refused = case("", "192.0.2.7 bob\n");
    refused.trust.rules = vec![rule(RuleVerdict::Refuse, &["other"], &[])];
    refused.world.patience = 0;
    assert!(short(&refused.decide()).starts_with("denied"), "{}", short(&refused.decide()));
}

/// Lines that mean something in the world of [`Fake`], and some noise.
fn a_line() -> impl Strategy<Value = String> {
    let host = prop::sample::select(vec![
        "client",
        "other",
        "down",
        "nowhere",
        "192.0.2.7",
        "::ffff:c000:207",
        "+",
        "+@lab",
        "-@lab",
        "-client",
        "-other",
        "-192.0.2.7",
        "+client",
        "-",
        "-+",
        "-nowhere",
    ]);
    let user = prop::sample::select(vec![
        "", "bob", "alice", "+", "-bob", "-alice", "+@staff", "-@staff", "+bob", "-",
    ]);
    (host, user, prop::sample::select(vec!["", " ", "\t"]))
        .prop_map(|(h, u, pad)| format!("{pad}{h} {u}{pad}"))
}

fn of(lines: &[String], wildcards: bool) -> String {
    let mut case = case(&lines.join("\n"), "");
    case.trust.wildcards = wildcards;
    short(&case.decide())
}

fn kind(verdict: &str) -> String {
    verdict.split(' ').next().unwrap().to_owned()
}

proptest! {
    #[test]
    fn never_panics(equiv in prop::collection::vec(any::<u8>(), 0..400), wildcards: bool) {
        let mut case = case("", "");
        case.world.equiv = FileContent::Text(equiv);
        case.trust.wildcards = wildcards;
        case.decide();
    }

    #[test]
    fn a_refusal_before_anything_wins(
        refusal in prop::sample::select(vec!["-client", "client -bob", "+ -bob", "-@lab", "-down", "-client +"]),
        lines in prop::collection::vec(a_line(), 0..8),
        wildcards: bool,
    ) {
        let lines: Vec<_> = [refusal.to_owned()].into_iter().chain(lines).collect();
        prop_assert_eq!(of(&lines, wildcards), "denied hosts.equiv:1");
    }

    #[test]
    fn comments_and_blank_lines_change_no_verdict(
        mut lines in prop::collection::vec(a_line(), 0..8),
        at in any::<prop::sample::Index>(),
        noise in prop::sample::select(vec!["", "  \t", "# client bob", " #-client", "\r"]),
    ) {
        let before = of(&lines, true);
        lines.insert(at.index(lines.len() + 1), noise.to_owned());
        prop_assert_eq!(kind(&of(&lines, true)), kind(&before));
    }

    #[test]
    fn line_ends_and_outer_space_change_nothing(lines in prop::collection::vec(a_line(), 0..8)) {
        let other: Vec<_> = lines.iter().map(|line| format!("  {line}\t extra words\r")).collect();
        // A user field that was missing would be given by the extra words.
        prop_assume!(lines.iter().all(|line| line.split_whitespace().count() == 2));
        prop_assert_eq!(of(&other, true), of(&lines, true));
    }

    #[test]
    fn a_line_changes_nothing_before_it(
        lines in prop::collection::vec(a_line(), 0..6),
        more in prop::collection::vec(a_line(), 0..6),
    ) {
        let alone = of(&lines, true);
        let together = of(&[lines, more].concat(), true);
        prop_assert!(alone == "no match" || alone == together);
    }

    #[test]
    fn wildcards_off_never_trusts_more(lines in prop::collection::vec(a_line(), 0..8)) {
        if kind(&of(&lines, false)) == "trusted" {
            prop_assert_eq!(kind(&of(&lines, true)), "trusted");
        }
    }

    #[test]
    fn rhosts_cannot_undo_a_refusal(
        lines in prop::collection::vec(a_line(), 1..6),
        rhosts in prop::collection::vec(a_line(), 0..6),
    ) {
        let alone = of(&lines, true);
        prop_assume!(kind(&alone) == "denied");
        let mut both = case(&lines.join("\n"), &rhosts.join("\n"));
        both.trust.wildcards = true;
        prop_assert_eq!(short(&both.decide()), alone);
    }
}
