//! Whether one field of a rule means the peer or the remote user.
//!
//! Three answers, because "cannot be told" must neither let anyone in nor
//! take the force out of a refusal.

use std::net::IpAddr;

use super::rules::{Entry, Host, User, printable};
use super::world::{LookupError, Member, Query, World};
use crate::config;

/// How much of a name from a file goes into a note, in bytes.
const SHOWN: usize = 60;

/// What a field says of the peer or the remote user; the text says why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Match {
    /// It means them.
    Yes(String),
    /// It does not.
    No(String),
    /// That cannot be told.
    Unknown(String),
}

/// What every match is made against.
pub(super) struct Context<'a> {
    pub(super) trust: &'a config::Trust,
    pub(super) query: &'a Query<'a>,
    /// The peer's address, never v4-mapped.
    pub(super) peer: IpAddr,
    /// The account's name.
    pub(super) account: &'a str,
}

/// Whether an entry's user field means the remote user, who has a name.
pub(super) fn user(entry: &Entry<'_>, ctx: &Context<'_>, world: &mut dyn World) -> Match {
    let remote = ctx.query.remote_user;
    let shown = printable(remote, SHOWN);
    // As in glibc. The BSDs refuse only the pair, but hosts.equiv(5) promises
    // that nobody at a refused host is trusted.
    if entry.host.refuse {
        return Match::Yes("a refused host is refused for every user".to_owned());
    }
    match entry.user.what {
        User::Missing if remote == ctx.account.as_bytes() => Match::Yes("same name on both sides".to_owned()),
        User::Missing => Match::No(format!(
            "names no user, so only {} is meant, not {shown}",
            printable(ctx.account.as_bytes(), SHOWN)
        )),
        User::Comment => Match::No("a # after the host begins no comment and names no user".to_owned()),
        User::Any => any(entry, ctx, "user"),
        User::Name(name) if name == remote => Match::Yes(format!("the remote user is {shown}")),
        User::Name(_) => Match::No(format!("the remote user is {shown}")),
        User::Group(group) => netgroup(group, Some(Member::User(remote)), ctx, world),
        User::Malformed => Match::Unknown("a sign without a user's name".to_owned()),
    }
}

/// Whether an entry's host field means the peer.
pub(super) fn host(entry: &Entry<'_>, ctx: &Context<'_>, world: &mut dyn World) -> Match {
    match entry.host.what {
        Host::Any => any(entry, ctx, "host"),
        Host::Group(group) => netgroup(group, ctx.query.host.map(Member::Host), ctx, world),
        Host::Malformed => Match::Unknown("neither an address nor a host name".to_owned()),
        Host::Address { ip, .. } if ip == ctx.peer => Match::Yes(format!("the client is {ip}")),
        Host::Address { .. } => Match::No(format!("the client is {}", ctx.peer)),
        Host::Name(name) => by_name(name, ctx.peer, world),
    }
}

/// A bare `+`. In a refusal it needs nobody's leave.
fn any(entry: &Entry<'_>, ctx: &Context<'_>, what: &str) -> Match {
    if entry.refuses() || ctx.trust.wildcards {
        Match::Yes(format!("+ is any {what}"))
    } else {
        Match::No(format!("a bare + for the {what} counts only with trust.wildcards = true"))
    }
}

fn netgroup(group: &[u8], member: Option<Member<'_>>, ctx: &Context<'_>, world: &mut dyn World) -> Match {
    let shown = printable(group, SHOWN);
    if !ctx.trust.netgroups {
        return Match::Unknown("netgroups count only with trust.netgroups = true".to_owned());
    }
    let Some(member) = member else {
        return Match::Unknown("the client has no confirmed name to look for in a netgroup".to_owned());
    };
    let who = match member {
        Member::Host(name) => printable(name.as_bytes(), SHOWN),
        Member::User(name) => printable(name, SHOWN),
    };
    if world.in_netgroup(group, member) {
        Match::Yes(format!("{who} is in netgroup {shown}"))
    } else {
        Match::No(format!("{who} is not in netgroup {shown}"))
    }
}

/// Whether a name, looked up forward, has the peer's address.
pub(super) fn by_name(name: &str, peer: IpAddr, world: &mut dyn World) -> Match {
    let name = name.to_ascii_lowercase();
    match world.addresses(&name, peer) {
        Ok(addresses) if addresses.iter().any(|ip| ip.to_canonical() == peer) => {
            Match::Yes(format!("{name} has the address {peer}"))
        }
        Ok(_) => Match::No(format!("{name} does not have the address {peer}")),
        Err(error @ LookupError::NoSuchName) => Match::No(format!("{name}: {error}")),
        Err(error @ LookupError::NoAnswer(_)) => Match::Unknown(format!("{name}: {error}")),
    }
}
