//! What the verdict is asked, and what it asks in turn.
//!
//! Values and one trait, so that the deciding code can be tested against a
//! world made of tables. Nothing here touches the system.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

/// The file of the administrator's rules.
pub const HOSTS_EQUIV: &str = "/etc/hosts.equiv";

/// The name that is used where there is no account. No account can have it, for no line of passwd(5) begins so.
pub const NO_ACCOUNT: &str = ":unknown";

/// A trust file counts only below this size in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// The first reserved source port that proves anything. Ports below it are
/// privileged too, but belong to services that may relay for anyone.
const FIRST_RESERVED: u16 = 512;

/// Whether a source port proves that root of the client's host opened it: 512
/// to 1023, as rresvport(3) gives them out.
pub fn reserved(port: u16) -> bool {
    (FIRST_RESERVED..1024).contains(&port)
}

/// An account of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name, as the system spells it.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its home directory.
    pub home: PathBuf,
}

/// A login that wants a verdict.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The client's address, from the socket itself.
    pub peer: IpAddr,
    /// Whether the client's port is a reserved one; see [`reserved`].
    pub port_reserved: bool,
    /// Whether the client is this machine, and anybody on it may open that port.
    pub port_open_here: bool,
    /// The client's name, only if it was confirmed forward. Serves netgroups.
    pub host: Option<&'a str>,
    /// The user on the client's side, as the client sent it.
    pub remote_user: &'a [u8],
    /// The account asked for, as the client sent it.
    pub user: &'a str,
    /// That account, if it exists.
    pub account: Option<&'a Account>,
}

/// Who may be in a netgroup. Always exactly one of the two: innetgr(3) takes a
/// missing field for "anyone", which would turn an unknown name into a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member<'a> {
    /// A host, by its confirmed name.
    Host(&'a str),
    /// A user of the client's side.
    User(&'a [u8]),
}

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The name service says that there is no such name, or none with an
    /// address of the client's family.
    NoSuchName,
    /// The name service gave no answer; the text says why.
    NoAnswer(String),
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LookupError::NoSuchName => f.write_str("no such name with an address of the client's family"),
            LookupError::NoAnswer(why) => write!(f, "the look-up failed: {why}"),
        }
    }
}

/// What became of opening a trust file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// Its bytes; it may be believed.
    Text(Vec<u8>),
    /// There is none.
    Absent,
    /// There is one, and it must not be believed or could not be read.
    Skipped(Skip),
}

/// Why a trust file is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Skip {
    /// It is a symbolic link.
    Symlink,
    /// It is not a regular file but what the word says.
    NotRegular(&'static str),
    /// It has more than one link, so that another user may have put it there.
    Links(u64),
    /// It belongs to this user id.
    Owner(u32),
    /// Group or others can write it; the permission bits.
    Writable(u32),
    /// It is too large; bytes.
    TooLarge(u64),
    /// The home directory belongs to this user id.
    HomeOwner(u32),
    /// Group or others can write the home directory; the permission bits.
    HomeWritable(u32),
    /// The file must be read as its user, and only root can become that user.
    NeedsRoot,
    /// Becoming the user failed; the text says how.
    Identity(String),
    /// The system's word on opening or reading it.
    Io(String),
}

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Skip::Symlink => f.write_str("it is a symbolic link"),
            Skip::NotRegular(what) => write!(f, "it is {what}, not a regular file"),
            Skip::Links(links) => write!(f, "it has {links} links"),
            Skip::Owner(uid) => write!(f, "it belongs to uid {uid}"),
            Skip::Writable(mode) => write!(f, "its mode {mode:04o} lets group or others write it"),
            Skip::TooLarge(size) => write!(f, "its {size} bytes are too many (the limit is {MAX_FILE})"),
            Skip::HomeOwner(uid) => write!(f, "the home directory belongs to uid {uid}"),
            Skip::HomeWritable(mode) => {
                write!(f, "the home directory's mode {mode:04o} lets group or others write it")
            }
            Skip::NeedsRoot => f.write_str("only root can read it with the account's own rights"),
            Skip::Identity(why) => write!(f, "reading it with the account's own rights failed: {why}"),
            Skip::Io(why) => write!(f, "it cannot be read: {why}"),
        }
    }
}

/// What the verdict needs to know of the world.
pub trait World {
    /// The addresses of a host name, of the same family as `peer`.
    fn addresses(&mut self, name: &str, peer: IpAddr) -> Result<Vec<IpAddr>, LookupError>;

    /// Whether the netgroup has the member.
    fn in_netgroup(&mut self, group: &[u8], member: Member<'_>) -> bool;

    /// Gives look-ups their whole time again.
    fn start_over(&mut self);

    /// Whether the look-ups of this login have taken all the time that they may take, and no other may begin.
    fn is_late(&mut self) -> bool;

    /// Whether the account's password is locked.
    fn is_locked(&mut self, account: &Account) -> bool;

    /// The content of [`HOSTS_EQUIV`].
    fn hosts_equiv(&mut self) -> FileContent;

    /// The content of the account's `~/.rhosts`.
    fn rhosts(&mut self, account: &Account) -> FileContent;
}
