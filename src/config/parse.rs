//! From the text of the file to a [`Config`]: which key stands where, and what
//! it may hold. Whatever is not understood is an error, never a guess.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::error::Error;
use super::table::{Document, Table, Value};
use super::{
    Audit, Config, Control, DEFAULT_PATH, Limits, LockedAccount, Login, Records, RootLogin, Rule,
    RuleVerdict, Startups, Tcpmux, Trust, UnreservedPort, value,
};
use crate::sys::ownership;

/// More connections than any machine has descriptors for.
const MOST_SESSIONS: u32 = 1_000_000;
const MOST_ATTEMPTS: u32 = 100;
/// Networks in `allow`, and in `deny`: each client is compared with all of them, and
/// the lists go to the relay in a single message.
const MOST_NETWORKS: usize = 256;
/// The names of the TCPMUX service go with them.
const MOST_SERVICES: usize = 32;
/// A client that was not understood in so long never will be.
const LONGEST_HANDSHAKE: Duration = Duration::from_secs(3600);
const LONGEST_LOGIN: Duration = Duration::from_secs(24 * 3600);
const SHORTEST_UNACKNOWLEDGED: Duration = Duration::from_secs(1);
const LONGEST_UNACKNOWLEDGED: Duration = Duration::from_secs(24 * 3600);

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// There is no file.
    BuiltIn,
    /// This file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::BuiltIn => f.write_str("built-in defaults"),
            Source::File(path) => path.display().fmt(f),
        }
    }
}

/// Reads the file `path`, as given with `--config`, or else the one at
/// [`DEFAULT_PATH`], which alone may be missing: then the defaults count.
///
/// # Errors
/// As [`load`].
pub fn load_default_or(path: Option<&Path>) -> Result<(Config, Source), Error> {
    match path {
        Some(path) => Ok((load(path)?, Source::File(path.to_owned()))),
        None => load_if_there(Path::new(DEFAULT_PATH)),
    }
}

/// Reads a configuration file.
///
/// # Errors
/// When it cannot be read, others than root can change it, it is not TOML, or it holds
/// an unknown key, a wrong type or an impossible value.
pub fn load(path: &Path) -> Result<Config, Error> {
    let bytes = read(path).map_err(|e| Error::of_file(path, e))?;
    parse_bytes(bytes, path)
}

/// What a file holds that is a file, and that only root can change: who can decides who gets in.
fn read(path: &Path) -> Result<Vec<u8>, ownership::Error> {
    let mut bytes = Vec::new();
    ownership::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn load_if_there(path: &Path) -> Result<(Config, Source), Error> {
    match read(path) {
        Ok(bytes) => Ok((parse_bytes(bytes, path)?, Source::File(path.to_owned()))),
        Err(ownership::Error::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
            Ok((Config::default(), Source::BuiltIn))
        }
        Err(e) => Err(Error::of_file(path, e)),
    }
}

fn parse_bytes(bytes: Vec<u8>, path: &Path) -> Result<Config, Error> {
    let text = String::from_utf8(bytes).map_err(|e| {
        let valid = e.as_bytes().iter().take(e.utf8_error().valid_up_to());
        let line =
            u32::try_from(valid.filter(|&&b| b == b'\n').count()).unwrap_or(u32::MAX).saturating_add(1);
        Error::at(path, line, "", "not UTF-8")
    })?;
    parse(&text, path)
}

/// Parses the text of a configuration file; `path` is for the errors only.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path) -> Result<Config, Error> {
    let (errors, mut config) = (RefCell::new(Vec::new()), Config::default());
    Document::new(path, text, &errors).read(|top| {
        top.set("listen", &mut config.listen, listen);
        top.set("user", &mut config.user, |v| v.string("a string", value::relay_account));
        top.set("control", &mut config.control, control);
        top.set("allow", &mut config.access.allow, client_networks);
        top.set("deny", &mut config.access.deny, client_networks);
        top.table("trust", |table| trust(table, &mut config.trust));
        top.table("login", |table| login(table, &mut config.login));
        top.table("limits", |table| limits(table, &mut config.limits));
        top.table("tcpmux", |table| tcpmux(table, &mut config.tcpmux));
        top.table("audit", |table| audit(table, &mut config.audit));
    });
    Error::of_all(errors.into_inner()).map_or(Ok(config), Err)
}

fn listen(value: &Value<'_, '_>) -> Result<Vec<SocketAddr>, Error> {
    let mut seen = Vec::new();
    value.list("an array of addresses", |entry| {
        let address = entry.string("an address in a string", value::listen_address)?;
        if seen.contains(&address) {
            return Err(entry.error(super::twice(address)));
        }
        seen.push(address);
        Ok(())
    })?;
    if seen.is_empty() {
        return Err(value.error("an empty list: nothing to listen on"));
    }
    at_most(MOST_ADDRESSES, seen, value)
}

/// The table, or the path of the socket alone.
fn control(value: &Value<'_, '_>) -> Result<Control, Error> {
    let mut control = Control::default();
    if value.is_string() {
        control.socket = value.string("", value::socket_path)?;
        return Ok(control);
    }
    value.table(|table| {
        table.set("socket", &mut control.socket, |v| v.string("a string", value::socket_path));
        table.set("group", &mut control.group, |v| v.string("a string", value::optional_group));
    })?;
    Ok(control)
}

fn networks(value: &Value<'_, '_>) -> Result<Vec<IpNet>, Error> {
    value.list("an array of networks", |entry| entry.string("a network in a string", value::network))
}

fn client_networks(value: &Value<'_, '_>) -> Result<Vec<IpNet>, Error> {
    at_most(MOST_NETWORKS, networks(value)?, value)
}

/// Addresses in `listen`, and as many in `tcpmux.listen`: one message has to carry all listeners.
const MOST_ADDRESSES: usize = 32;

fn at_most<T>(most: usize, list: Vec<T>, value: &Value<'_, '_>) -> Result<Vec<T>, Error> {
    if list.len() > most {
        return Err(value.error(format!("{} entries; there may be {most} at most", list.len())));
    }
    Ok(list)
}

fn trust(table: &mut Table<'_, '_>, trust: &mut Trust) {
    table.set("hosts_equiv", &mut trust.hosts_equiv, Value::boolean);
    table.set("rhosts", &mut trust.rhosts, Value::boolean);
    table.set("wildcards", &mut trust.wildcards, Value::boolean);
    table.set("netgroups", &mut trust.netgroups, Value::boolean);
    table.set("locked", &mut trust.locked, |v| {
        v.one_of(&[("refuse", LockedAccount::Refuse), ("trust", LockedAccount::Trust)])
    });
    table.set("files_from", &mut trust.files_from, networks);
    table.set("rule", &mut trust.rules, |v| v.list("[[trust.rule]] tables", rule))
}

fn rule(entry: &Value<'_, '_>) -> Result<Rule, Error> {
    entry.table(|table| {
        let faults = table.faults();
        let mut rule = Rule {
            from: Vec::new(),
            remote_users: Vec::new(),
            users: Vec::new(),
            verdict: RuleVerdict::Refuse,
            line: table.line(),
        };
        let mut verdict = None;
        table.set("from", &mut rule.from, |v| some(v, value::rule_host));
        table.set("remote_users", &mut rule.remote_users, |v| some(v, value::remote_user));
        table.set("users", &mut rule.users, |v| some(v, value::account));
        table.set("verdict", &mut verdict, |v| rule_verdict(v).map(Some));
        table.refuse_unknown();
        if table.faults() > faults {
            // A missing key may be there in another spelling, or with a wrong value.
            return rule;
        }
        let whole_world = rule.from.is_empty();
        match verdict {
            None => table.missing("verdict", "missing: \"trust\", \"password\" or \"refuse\""),
            Some(RuleVerdict::Trust) if whole_world => table.missing(
                "from",
                "missing, and the rule trusts: name the networks, or write [\"0.0.0.0/0\", \"::/0\"]",
            ),
            Some(verdict) => rule.verdict = verdict,
        }
        rule
    })
}

fn rule_verdict(value: &Value<'_, '_>) -> Result<RuleVerdict, Error> {
    value.one_of(&[
        ("trust", RuleVerdict::Trust),
        ("password", RuleVerdict::Password),
        ("refuse", RuleVerdict::Refuse),
    ])
}

/// A list that is there and empty could be read as "none" as well as "any": a
/// rule must not hang on that.
fn some<T>(value: &Value<'_, '_>, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, Error> {
    let list = value.list("an array of strings", |entry| entry.string("a string", parse))?;
    if list.is_empty() {
        return Err(value.error("an empty list: name something, or leave the key out"));
    }
    Ok(list)
}

fn login(table: &mut Table<'_, '_>, login: &mut Login) {
    table.set("pam_service", &mut login.pam_service, |v| v.string("a string", value::pam_service));
    table.set("root", &mut login.root, |v| {
        v.one_of(&[("no", RootLogin::No), ("password", RootLogin::Password), ("trust", RootLogin::Trust)])
    });
    table.set("unreserved_port", &mut login.unreserved_port, |v| {
        v.one_of(&[("password", UnreservedPort::Password), ("refuse", UnreservedPort::Refuse)])
    });
    table.set("attempts", &mut login.attempts, |v| v.integer(1..=MOST_ATTEMPTS));
    table.set("confirm_host", &mut login.confirm_host, Value::boolean);
    table.set("banner", &mut login.banner, |v| v.string("a string", value::optional_file))
}

fn limits(table: &mut Table<'_, '_>, limits: &mut Limits) {
    table.set("sessions", &mut limits.sessions, |v| v.integer(1..=MOST_SESSIONS));
    table.set("per_source", &mut limits.per_source, |v| v.integer(1..=MOST_SESSIONS));
    table.set("startups", &mut limits.startups, startups);
    table.set("handshake", &mut limits.handshake, |v| deadline(v, LONGEST_HANDSHAKE));
    table.set("login", &mut limits.login, |v| deadline(v, LONGEST_LOGIN));
    table.set("idle", &mut limits.idle, time);
    table.set("unacknowledged", &mut limits.unacknowledged, unacknowledged);
    table.set("keepalive", &mut limits.keepalive, Value::boolean)
}

/// Milliseconds would end every connection whose first packet is lost.
fn unacknowledged(value: &Value<'_, '_>) -> Result<Duration, Error> {
    let limit = time(value)?;
    if limit > LONGEST_UNACKNOWLEDGED || (!limit.is_zero() && limit < SHORTEST_UNACKNOWLEDGED) {
        return Err(value.error("must be 0s, or from 1s to 24h"));
    }
    Ok(limit)
}

/// A number, or `start:rate:full`.
fn startups(value: &Value<'_, '_>) -> Result<Startups, Error> {
    if value.is_string() {
        return value.string("", |text| value::startups(text, MOST_SESSIONS));
    }
    value.integer(1..=MOST_SESSIONS).map(Startups::limit)
}

fn time(value: &Value<'_, '_>) -> Result<Duration, Error> {
    value.string("a duration such as \"10s\"", value::duration)
}

/// A deadline: zero would let nobody in.
fn deadline(value: &Value<'_, '_>, longest: Duration) -> Result<Duration, Error> {
    let duration = time(value)?;
    if duration.is_zero() || duration > longest {
        return Err(
            value.error(format!("must be more than 0s and not more than {}h", longest.as_secs() / 3600))
        );
    }
    Ok(duration)
}

fn tcpmux(table: &mut Table<'_, '_>, tcpmux: &mut Tcpmux) {
    table.set("enabled", &mut tcpmux.enabled, Value::boolean);
    table.set("listen", &mut tcpmux.listen, listen);
    table.set("services", &mut tcpmux.services, services);
    table.set("help", &mut tcpmux.help, Value::boolean)
}

fn services(value: &Value<'_, '_>) -> Result<Vec<String>, Error> {
    let mut seen: Vec<String> = Vec::new();
    value.list("an array of strings", |entry| {
        let name = entry.string("a string", value::tcpmux_service)?;
        // The case of a service's name does not count (RFC 1078).
        if seen.iter().any(|other| other.eq_ignore_ascii_case(&name)) {
            return Err(entry.error(format!("{name:?} stands there twice")));
        }
        seen.push(name);
        Ok(())
    })?;
    if seen.is_empty() {
        return Err(value.error("an empty list: nothing to offer"));
    }
    at_most(MOST_SERVICES, seen, value)
}

fn audit(table: &mut Table<'_, '_>, audit: &mut Audit) {
    table.set("facility", &mut audit.facility, |v| v.string("a string", value::facility));
    table.set("records", &mut audit.records, |v| {
        v.one_of(&[("auto", Records::Auto), ("yes", Records::Yes), ("no", Records::No)])
    })
}
