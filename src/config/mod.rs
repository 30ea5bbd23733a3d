//! The configuration: one immutable [`Config`], from `/etc/rlogind.toml` and
//! the command line.
//!
//! Every key is optional and has the default documented here; an unknown key, a
//! wrong type or an impossible value is an error that names file, line and key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

mod access;
mod error;
mod parse;
mod table;
mod value;

pub use access::Access;
pub use error::Error;
pub use parse::{Source, load, load_default_or, parse};
pub use value::{account_to_find, client_address, listen_address, port};

/// Where the configuration is read from unless `--config` names another file.
pub const DEFAULT_PATH: &str = "/etc/rlogind.toml";

/// What is said of an address to listen on that is there already.
#[must_use]
pub fn twice(address: SocketAddr) -> String {
    format!("{address} stands there twice")
}

/// Everything an administrator can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Addresses and ports the rlogin service listens on.
    pub listen: Vec<SocketAddr>,
    /// The account the relay runs as; an unused user id stands in when it is missing.
    pub user: String,
    /// `[control]`: the socket for the administrator's commands.
    pub control: Control,
    /// `allow` and `deny`: who may connect at all.
    pub access: Access,
    /// `[trust]`: who gets in without a password.
    pub trust: Trust,
    /// `[login]`: how the others get in.
    pub login: Login,
    /// `[limits]`: how many, and how long.
    pub limits: Limits,
    /// `[tcpmux]`: the RFC 1078 listener.
    pub tcpmux: Tcpmux,
    /// `[audit]`: what is written down, and where.
    pub audit: Audit,
}

/// `[control]`; a string instead of the table is its `socket`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// Where the socket is.
    pub socket: PathBuf,
    /// The group whose members may use it as well as root; root alone by default.
    pub group: Option<String>,
}

/// `[trust]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Look at `/etc/hosts.equiv`.
    pub hosts_equiv: bool,
    /// Look at `~/.rhosts`.
    pub rhosts: bool,
    /// Honour a bare `+` as host or user in those files.
    pub wildcards: bool,
    /// Honour `+@netgroup` and `-@netgroup`.
    pub netgroups: bool,
    /// What becomes of accounts whose password is locked.
    pub locked: LockedAccount,
    /// Networks from which the files count at all; everywhere by default.
    pub files_from: Vec<IpNet>,
    /// Rules looked at before the files; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// One `[[trust.rule]]`. An empty list of `from` or `users` matches every peer
/// or account. An empty `remote_users` matches everyone where the verdict is
/// `password` or `refuse`; where it is `trust`, only the remote user who has the
/// same name as the account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Where the peer must come from.
    pub from: Vec<RuleHost>,
    /// Names of the user on the client's side; `"+"` is anyone.
    pub remote_users: Vec<String>,
    /// Accounts on this side.
    pub users: Vec<String>,
    /// What the rule says.
    pub verdict: RuleVerdict,
    /// The line of the rule's `[[trust.rule]]` header, from 1, for the audit log.
    pub line: u32,
}

/// One entry of a rule's `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleHost {
    /// A network, or one address as a network of one.
    Net(IpNet),
    /// A host name, looked up forward.
    Name(String),
}

/// What a `[[trust.rule]]` says of a connection that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleVerdict {
    /// No password is asked.
    Trust,
    /// A password is asked whatever the files say.
    Password,
    /// The connection is refused.
    Refuse,
}

/// `[login]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// The PAM service; "login" stands in when `/etc/pam.d` has no such file.
    pub pam_service: String,
    /// How root may log in.
    pub root: RootLogin,
    /// What becomes of clients whose source port is not a reserved one (512 to 1023).
    pub unreserved_port: UnreservedPort,
    /// How often a user may try before the connection is closed.
    pub attempts: u32,
    /// Refuse clients whose address and name do not confirm each other.
    pub confirm_host: bool,
    /// A file shown before the login; none by default.
    pub banner: Option<PathBuf>,
}

/// `login.root`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootLogin {
    /// Never; a password is asked all the same and always found wrong.
    No,
    /// By password only.
    Password,
    /// By password, or by root's own `.rhosts` or a `[[trust.rule]]`.
    Trust,
}

/// `trust.locked`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockedAccount {
    /// It is not trusted.
    Refuse,
    /// It is trusted like any other.
    Trust,
}

/// `login.unreserved_port`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnreservedPort {
    /// A password is asked, whatever the trust rules say.
    Password,
    /// The connection is refused.
    Refuse,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Live connections in all.
    pub sessions: u32,
    /// Live connections of one source: an IPv4 address or an IPv6 /64.
    pub per_source: u32,
    /// Connections that are not logged in yet.
    pub startups: Startups,
    /// Total time for the client's handshake.
    pub handshake: Duration,
    /// Total time from the handshake to the shell.
    pub login: Duration,
    /// Ask silent clients whether they are still there.
    pub keepalive: bool,
    /// Close a session after so long without a byte either way; zero: never.
    pub idle: Duration,
    /// Close a connection whose client has not acknowledged what was sent, or has
    /// kept its window shut, for so long; zero: the kernel's own limit.
    pub unacknowledged: Duration,
}

/// `limits.startups`: below `start` nobody is refused, from there on `rate` percent of whoever has most,
/// rising evenly up to `full`, from which on the oldest of these gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startups {
    /// Connections from which on some are refused.
    pub start: u32,
    /// How many percent of them, 1 to 100.
    pub rate: u32,
    /// Connections from which on the oldest give way; not less than `start`.
    pub full: u32,
}

impl Startups {
    /// A plain limit.
    #[must_use]
    pub fn limit(count: u32) -> Startups {
        Startups { start: count, rate: 100, full: count }
    }
}

/// `[tcpmux]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcpmux {
    /// Whether the relay serves TCPMUX itself.
    pub enabled: bool,
    /// Where.
    pub listen: Vec<SocketAddr>,
    /// The names under which rlogin is offered, in whatever case; never `help`, which is the protocol's own.
    pub services: Vec<String>,
    /// Whether a client that asks for `HELP` is told those names.
    pub help: bool,
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// The syslog facility, by its syslog.conf(5) name.
    pub facility: String,
    /// Whether utmp, wtmp and btmp are written.
    pub records: Records,
}

/// `audit.records`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Records {
    /// Those files that exist.
    Auto,
    /// All of them.
    Yes,
    /// None.
    No,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, 513)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, 513)),
            ],
            user: "rlogind".to_owned(),
            control: Control::default(),
            access: Access::default(),
            trust: Trust::default(),
            login: Login::default(),
            limits: Limits::default(),
            tcpmux: Tcpmux::default(),
            audit: Audit::default(),
        }
    }
}

impl Default for Control {
    fn default() -> Self {
        Control { socket: PathBuf::from("/run/rlogind/control"), group: None }
    }
}

/// All of IPv4 and all of IPv6.
fn everywhere() -> Vec<IpNet> {
    vec![
        IpNet::new_assert(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpNet::new_assert(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    ]
}

impl Default for Trust {
    fn default() -> Self {
        Trust {
            hosts_equiv: true,
            rhosts: true,
            wildcards: false,
            netgroups: true,
            locked: LockedAccount::Refuse,
            files_from: everywhere(),
            rules: Vec::new(),
        }
    }
}

impl Default for Login {
    fn default() -> Self {
        Login {
            pam_service: "rlogin".to_owned(),
            root: RootLogin::No,
            unreserved_port: UnreservedPort::Password,
            attempts: 3,
            confirm_host: false,
            banner: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sessions: 1000,
            per_source: 100,
            startups: Startups { start: 250, rate: 30, full: 500 },
            handshake: Duration::from_secs(10),
            login: Duration::from_secs(60),
            keepalive: true,
            idle: Duration::ZERO,
            unacknowledged: Duration::ZERO,
        }
    }
}

impl Default for Tcpmux {
    fn default() -> Self {
        Tcpmux {
            enabled: false,
            listen: vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 1))],
            services: vec!["login".to_owned(), "rlogin".to_owned()],
            help: true,
        }
    }
}

impl Default for Audit {
    fn default() -> Self {
        Audit { facility: "authpriv".to_owned(), records: Records::Auto }
    }
}
