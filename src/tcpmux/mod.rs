//! `rlogind tcpmux register|unregister|status`: makes this rlogind a TCPMUX service (RFC 1078) of the superserver that
//! owns port 1.
//!
//! The files belong to the administrator. Must never lose a byte of theirs, nor guess where they are not understood.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

mod block;
mod diff;
mod entry;
mod file;
pub mod foreign;
mod probe;
mod superserver;

pub use entry::Entry;
pub use superserver::{Places, Superserver, Syntax};

use crate::sys::file as regular;
use file::{Snapshot, shown};

/// The file next to xinetd's directory that names it.
const XINETD_CONF: &str = "xinetd.conf";
/// The most of a file that is read, in bytes: a superserver's files are small.
const LONGEST_FILE: u64 = 1 << 20;

/// The superservers that were named; when none is, those that are found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// The configuration of an inetd.
    pub inetd_conf: Option<&'a Path>,
    /// The directory of xinetd's files.
    pub xinetd_dir: Option<&'a Path>,
}

impl Named<'_> {
    fn is_any(&self) -> bool {
        self.inetd_conf.is_some() || self.xinetd_dir.is_some()
    }
}

/// How to make a change.
#[derive(Debug, Clone, Copy)]
pub struct How {
    /// Tell the superserver to read its configuration again.
    pub reload: bool,
    /// Only print the difference.
    pub dry_run: bool,
}

/// Writes the entry into the configuration of the superservers named, or of those installed, and says so.
///
/// # Errors
/// When there is no such superserver, a file is not as it should be or cannot be written, or another entry has one
/// of the names. Nothing of a file is lost then.
pub fn register(
    named: Named<'_>,
    entry: &Entry,
    how: How,
    places: &Places,
    out: &mut dyn Write,
) -> io::Result<()> {
    let superservers = choose(named, places, |superserver| superserver.program.exists());
    if superservers.is_empty() {
        return Err(io::Error::other(format!(
            "there is neither {} nor {}: name a superserver's configuration with --inetd-conf or --xinetd-dir",
            shown(&places.inetd.program),
            shown(&places.xinetd.program)
        )));
    }
    // All are looked at before the first is changed.
    let mut changes = Vec::new();
    for superserver in &superservers {
        let snapshot = open(superserver, named)?;
        check(superserver, snapshot.content())?;
        let text = text(superserver, entry, snapshot.content())?;
        let new = block::put(snapshot.content(), &text).map_err(|e| file::error(&superserver.file(), e))?;
        changes.push((superserver, snapshot, new));
    }
    let done = format!("registered {}", entry.services().join(", "));
    for (superserver, snapshot, new) in changes {
        change(superserver, &snapshot, &new, how, (&done, "is registered already"), out)?;
    }
    Ok(())
}

/// Takes the entry out of the configuration of the superservers named, or wherever it is found, and says so.
///
/// # Errors
/// When a file is not as it should be or cannot be written. Nothing of it is lost then.
pub fn unregister(named: Named<'_>, how: How, places: &Places, out: &mut dyn Write) -> io::Result<()> {
    let superservers = choose(named, places, |superserver| superserver.config.exists());
    if superservers.is_empty() {
        writeln!(out, "no superserver's configuration found: nothing is registered")?;
    }
    let mut changes = Vec::new();
    for superserver in &superservers {
        let snapshot = open(superserver, named)?;
        if named.is_any() {
            check_unless_ours(superserver, snapshot.content())?;
        }
        let new = block::take_out(snapshot.content()).map_err(|e| file::error(&superserver.file(), e))?;
        changes.push((superserver, snapshot, new));
    }
    for (superserver, snapshot, new) in changes {
        change(superserver, &snapshot, &new, how, ("unregistered", "nothing is registered"), out)?;
    }
    Ok(())
}

/// Says for each superserver named, or for each known one, whether the entry is there and current, and what answers on
/// port 1. Gives whether some superserver has the entry and none has an old one.
///
/// # Errors
/// When a file cannot be read or has a block that is not whole.
pub fn status(named: Named<'_>, entry: &Entry, places: &Places, out: &mut dyn Write) -> io::Result<bool> {
    let (mut current, mut old) = (false, false);
    for superserver in choose(named, places, |_| true) {
        let name = superserver.name();
        if !named.is_any() && !superserver.program.exists() && !superserver.config.exists() {
            writeln!(out, "{name}: not there")?;
            continue;
        }
        let file = superserver.file();
        let snapshot = if named.is_any() { open(&superserver, named)? } else { Snapshot::read(&file)? };
        let content = snapshot.content();
        if snapshot.has_folder() {
            check_unless_ours(&superserver, content)?;
        }
        let fault = |e| file::error(&file, e);
        let verdict = if !block::is_there(content).map_err(fault)? {
            "not registered"
        } else if block::put(content, &text(&superserver, entry, content)?).map_err(fault)? == content {
            current = true;
            "registered, and current"
        } else {
            old = true;
            "registered, but not as it would be now: register again"
        };
        writeln!(out, "{name}: {}: {verdict}", shown(&file))?;
    }
    let mut answer = Err(io::Error::from(io::ErrorKind::AddrNotAvailable));
    for port in &places.port {
        answer = probe::ask(*port);
        if answer.is_ok() {
            break;
        }
    }
    let answer = answer.unwrap_or_else(|error| format!("nobody answers: {error}"));
    writeln!(out, "port 1: {answer}")?;
    Ok(current && !old)
}

fn choose(named: Named<'_>, places: &Places, known: fn(&Superserver) -> bool) -> Vec<Superserver> {
    let at = |config: Option<&Path>, known: &Superserver| {
        // Absolute: what stands next to "." is not found by its name.
        let config = config.map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        config.map(|config| Superserver { config, ..known.clone() })
    };
    let chosen = [at(named.inetd_conf, &places.inetd), at(named.xinetd_dir, &places.xinetd)];
    if chosen.iter().any(Option::is_some) {
        return chosen.into_iter().flatten().collect();
    }
    [&places.inetd, &places.xinetd].into_iter().filter(|superserver| known(superserver)).cloned().collect()
}

fn open(superserver: &Superserver, named: Named<'_>) -> io::Result<Snapshot> {
    let snapshot = Snapshot::read(&superserver.file())?;
    // An installed inetd may have no file yet; a file that was named and is not there is a slip.
    if superserver.syntax == Syntax::Inetd && named.inetd_conf.is_some() && !snapshot.exists() {
        return Err(file::error(&superserver.config, "there is no such file"));
    }
    if superserver.syntax == Syntax::Xinetd && !snapshot.has_folder() {
        return Err(file::error(&superserver.config, "there is no such directory"));
    }
    Ok(snapshot)
}

/// Whether the file, or the directory, is what this superserver reads: one that was named may be another one.
fn check(superserver: &Superserver, content: &[u8]) -> io::Result<()> {
    match superserver.syntax {
        Syntax::Inetd => match foreign::inetd_fault(content) {
            Some(fault) => Err(file::error(&superserver.config, fault)),
            None => Ok(()),
        },
        Syntax::Xinetd => {
            let own = String::from_utf8_lossy(content);
            if !foreign::is_blank(&own) && !foreign::is_xinetd(&own) {
                return Err(file::error(&superserver.file(), "it is there and is no file of xinetd's"));
            }
            if foreign::is_xinetd(&own) || is_xinetds_directory(superserver)? {
                return Ok(());
            }
            let why = "not xinetd's directory: none of its files has a section \"service NAME { ... }\", and no \
                       xinetd.conf beside it has an includedir with it";
            Err(file::error(&superserver.config, why))
        }
    }
}

/// Whether xinetd reads the directory, by what is in it or beside it, or nothing says that it is another's.
fn is_xinetds_directory(superserver: &Superserver) -> io::Result<bool> {
    let directory = &superserver.config;
    let ours = superserver.file();
    let mut entries = fs::read_dir(directory).map_err(|e| file::error(directory, e))?;
    if entries.all(|entry| entry.is_ok_and(|entry| entry.path() == ours)) {
        return Ok(true);
    }
    let text = |path: &Path| {
        regular::read(path, LONGEST_FILE).map(|text| String::from_utf8_lossy(&text).into_owned())
    };
    for path in xinetd_files(superserver)? {
        // A file that is astray in there is its owner's affair.
        let Ok(text) = text(&path) else { continue };
        let is_ours = |included: &str| {
            let included = Path::new(included);
            let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
            included.is_absolute() && real(included) == real(directory)
        };
        // The other one is xinetd.conf.
        let inside = path.parent() == Some(directory);
        if if inside { foreign::is_xinetd(&text) } else { foreign::included(&text).any(is_ours) } {
            return Ok(true);
        }
    }
    Ok(false)
}

/// As [`check`]: but an entry of ours can be taken out of whatever it stands in.
fn check_unless_ours(superserver: &Superserver, content: &[u8]) -> io::Result<()> {
    match block::is_there(content) {
        Ok(false) => check(superserver, content),
        // The fault is said with what is to be done.
        Ok(true) | Err(_) => Ok(()),
    }
}

/// Our entry as this superserver wants it, unless another one has one of the names.
fn text(superserver: &Superserver, entry: &Entry, content: &[u8]) -> io::Result<String> {
    match superserver.syntax {
        Syntax::Inetd => {
            let rest = block::take_out(content).map_err(|e| file::error(&superserver.config, e))?;
            let others = foreign::inetd_services(&rest);
            match others.iter().find(|(_, name)| is_ours(entry, name)) {
                Some((_, name)) => Err(taken(&superserver.config, name)),
                None => Ok(entry.inetd()),
            }
        }
        Syntax::Xinetd => {
            let mut multiplexer = true;
            let own = superserver.file();
            // What stands beside our entry in the file that has our name counts like any other.
            let rest = block::take_out(content).map_err(|e| file::error(&own, e))?;
            let mut texts = vec![(own, rest)];
            for path in xinetd_files(superserver)? {
                let text = regular::read(&path, LONGEST_FILE).map_err(|e| file::error(&path, e))?;
                texts.push((path, text));
            }
            for (path, text) in texts {
                let sections = foreign::sections(&String::from_utf8_lossy(&text));
                for section in sections.iter().filter(|section| !section.disabled) {
                    if section.multiplexed && is_ours(entry, &section.name) {
                        return Err(taken(&path, &section.name));
                    }
                    multiplexer &= section.name != "tcpmux";
                }
            }
            Ok(entry.xinetd(multiplexer))
        }
    }
}

fn is_ours(entry: &Entry, name: &str) -> bool {
    entry.services().iter().any(|service| service.eq_ignore_ascii_case(name))
}

fn taken(path: &Path, name: &str) -> io::Error {
    let name = name.escape_debug();
    file::error(path, format!("has a TCPMUX service {name} that is not ours: take one of the two out"))
}

/// The files that xinetd reads, less ours.
///
/// # Errors
/// When the directory cannot be read.
pub fn xinetd_files(superserver: &Superserver) -> io::Result<Vec<PathBuf>> {
    let directory = &superserver.config;
    let ours = superserver.file();
    // xinetd.conf(5), "includedir".
    let read_by_xinetd = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        *path != ours && path.is_file() && !name.contains('.') && !name.ends_with('~')
    };
    let paths: io::Result<Vec<PathBuf>> =
        fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut files = paths.map_err(|e| file::error(directory, e))?;
    files.retain(read_by_xinetd);
    files.extend(directory.parent().map(|parent| parent.join(XINETD_CONF)).filter(|path| path.is_file()));
    files.sort();
    Ok(files)
}

/// Makes the change, or shows it. `words`: what is said when there is one, and when there is none.
fn change(
    superserver: &Superserver,
    snapshot: &Snapshot,
    new: &[u8],
    how: How,
    words: (&str, &str),
    out: &mut dyn Write,
) -> io::Result<()> {
    let path = shown(&superserver.file());
    if new == snapshot.content() {
        return writeln!(out, "{}: {path}: {}", superserver.name(), words.1);
    }
    if how.dry_run {
        return out.write_all(diff::unified(&path, snapshot.content(), new).as_bytes());
    }
    // The file in xinetd's directory is there for our entry only.
    if new.is_empty() && superserver.syntax == Syntax::Xinetd {
        snapshot.remove()?;
    } else {
        snapshot.replace(new)?;
    }
    writeln!(out, "{}: {path}: {}", superserver.name(), words.0)?;
    if how.reload { superserver.reload(out) } else { Ok(()) }
}
