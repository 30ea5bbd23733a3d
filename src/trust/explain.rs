//! `rlogind trust explain`: what would become of a login, and why.
//!
//! Not a second telling: the account and the name are looked up as for a login,
//! the same [`decide`] is asked, and its own steps are shown. It must never log
//! anyone in: the proof in the verdict is dropped here.

use std::io::{self, Write};
use std::net::IpAddr;

use nix::unistd::geteuid;
use serde::Serialize;

use super::accounts;
use super::files::SystemWorld;
use super::rules::printable;
use super::verdict::{Decision, Place, Policy, RefusedBy, Step, StepOutcome, Verdict, decide};
use super::world::{Account, Query, reserved};
use crate::config::{Config, RootLogin};
use crate::sys::{resolve, socket};

/// The source port of a login when none is given: the first that clients try.
const USUAL_PORT: u16 = 1023;
/// How much of a name is shown, in bytes.
const SHOWN: usize = 64;

/// The login to explain.
#[derive(Debug, Clone)]
pub struct ExplainArgs<'a> {
    /// The client's address.
    pub from: IpAddr,
    /// Its source port; a reserved one by default.
    pub port: Option<u16>,
    /// The user on the client's side.
    pub remote_user: &'a str,
    /// The account.
    pub user: &'a str,
    /// The configuration in force.
    pub config: &'a Config,
    /// Where it was read from.
    pub config_path: &'a str,
    /// JSON rather than text.
    pub json: bool,
}

/// Everything that is told, in the order of the text and the names of the JSON.
#[derive(Debug, Serialize)]
struct Report<'a> {
    from: IpAddr,
    port: u16,
    /// The confirmed name.
    host: Option<String>,
    /// Why there is none.
    host_unconfirmed: Option<String>,
    remote_user: &'a str,
    user: &'a str,
    uid: Option<u32>,
    /// Whether this ran with the rights a login has.
    as_root: bool,
    verdict: &'static str,
    #[serde(flatten)]
    place: Option<Place>,
    wildcard: bool,
    /// Why no rule decided, or what else refused.
    reason: Option<String>,
    steps: Vec<Step>,
    omitted_steps: usize,
}

/// Explains one login on `out`.
///
/// # Errors
/// When the user data base does not answer or `out` cannot be written.
pub fn explain(args: &ExplainArgs<'_>, out: &mut dyn Write) -> io::Result<()> {
    let account = accounts::account(args.user)?;
    let from = args.from.to_canonical();
    let host = resolve::confirmed_name(from);
    let port = args.port.unwrap_or(USUAL_PORT);
    let policy =
        Policy { trust: &args.config.trust, login: &args.config.login, config_path: args.config_path };
    let query = Query {
        peer: from,
        port_reserved: reserved(port),
        port_open_here: socket::is_open_to_all(port) && socket::is_local(from),
        host: host.as_deref().ok(),
        remote_user: args.remote_user.as_bytes(),
        user: args.user,
        account: account.as_ref(),
    };
    let Decision { verdict, steps, omitted } = decide(&policy, &query, &mut SystemWorld::default());
    let (verdict, place, wildcard, reason) = told(verdict);
    let report = Report {
        from,
        port,
        host_unconfirmed: host.as_ref().err().map(ToString::to_string),
        host: host.ok(),
        remote_user: args.remote_user,
        user: args.user,
        uid: account.as_ref().map(|account| account.uid),
        as_root: geteuid().is_root(),
        verdict,
        place,
        wildcard,
        reason,
        steps,
        omitted_steps: omitted,
    };
    if args.json {
        serde_json::to_writer_pretty(&mut *out, &report)?;
        writeln!(out)
    } else {
        text(&report, account.as_ref(), args.config.login.root, out)
    }
}

/// The verdict in the words of the report.
fn told(verdict: Verdict) -> (&'static str, Option<Place>, bool, Option<String>) {
    match verdict {
        Verdict::Trusted { place, wildcard, granted: _ } => ("trusted", Some(place), wildcard, None),
        Verdict::Denied { place } => ("denied", Some(place), false, None),
        Verdict::Refused(RefusedBy::Rule(place)) => ("refused", Some(place), false, None),
        Verdict::Refused(RefusedBy::UnreservedPort) => {
            let reason = "the source port is not a reserved one and login.unreserved_port = \"refuse\"";
            ("refused", None, false, Some(reason.to_owned()))
        }
        Verdict::Undecided(reason) => ("undecided", None, false, Some(reason.to_string())),
    }
}

fn text(
    report: &Report<'_>,
    account: Option<&Account>,
    root: RootLogin,
    out: &mut dyn Write,
) -> io::Result<()> {
    heading(report, account, out)?;
    for group in report.steps.chunk_by(|a, b| a.file == b.file) {
        rules_of_file(group, out)?;
    }
    if report.omitted_steps > 0 {
        writeln!(out, "\n{} more lines that did not match are not shown.", report.omitted_steps)?;
    }
    writeln!(out, "\nVerdict: {}", sentence(report))?;
    if account.is_some_and(|account| account.uid == 0) && root == RootLogin::No && report.verdict != "refused"
    {
        writeln!(out, "         No password is right for root: login.root = \"no\".")?;
    }
    Ok(())
}

fn heading(report: &Report<'_>, account: Option<&Account>, out: &mut dyn Write) -> io::Result<()> {
    let shown = |name: &str| match name {
        "" => "(no name)".to_owned(),
        name => printable(name.as_bytes(), SHOWN),
    };
    let port = if reserved(report.port) { "reserved" } else { "not reserved" };
    writeln!(
        out,
        "From     {} at {}, port {} ({port})",
        shown(report.remote_user),
        report.from,
        report.port
    )?;
    match (&report.host, &report.host_unconfirmed) {
        (Some(host), _) => writeln!(out, "Host     {host} (confirmed; it serves netgroups and the log)")?,
        (None, Some(why)) => writeln!(out, "Host     not confirmed: {why}")?,
        (None, None) => {}
    }
    match account {
        Some(account) => writeln!(
            out,
            "Account  {} (uid {}, home {})",
            shown(&account.name),
            account.uid,
            printable(account.home.as_os_str().as_encoded_bytes(), SHOWN)
        )?,
        None => writeln!(out, "Account  {}: there is no such account", shown(report.user))?,
    }
    if !report.as_root {
        writeln!(out, "\nThis was not run by root, so it may have to skip files that a login would read.")?;
    }
    Ok(())
}

/// The steps of one file, in columns.
fn rules_of_file(steps: &[Step], out: &mut dyn Write) -> io::Result<()> {
    let file = steps.first().map_or("", |step| step.file.as_str());
    writeln!(out, "\n{}", printable(file.as_bytes(), 2 * SHOWN))?;
    let width = steps.iter().map(|step| step.text.len()).max().unwrap_or(0).min(40);
    for step in steps {
        let (mark, word) = match step.outcome {
            StepOutcome::Decided => ("=>", "yes"),
            StepOutcome::NoMatch => ("  ", "no"),
            StepOutcome::Unchecked => ("!!", "no trust any more"),
            StepOutcome::Skipped => ("  ", "skipped"),
        };
        match step.line {
            Some(line) => {
                writeln!(out, "{mark} {line:>5}  {:<width$}  {word}: {}", step.text, step.note)?;
            }
            None => writeln!(out, "{mark}        {word}: {}", step.note)?,
        }
    }
    Ok(())
}

/// The verdict as a sentence.
fn sentence(report: &Report<'_>) -> String {
    let place = report.place.as_ref().map(ToString::to_string).unwrap_or_default();
    let reason = report.reason.as_deref().unwrap_or_default();
    match report.verdict {
        "trusted" if report.wildcard => {
            format!("trusted by a wildcard, {place}. No password is asked; the log has a warning.")
        }
        "trusted" => format!("trusted by {place}. No password is asked."),
        "denied" => format!("not trusted, {place} says so. A password is asked."),
        "refused" if place.is_empty() => format!("the connection is refused: {reason}."),
        "refused" => format!("the connection is refused by {place}."),
        _ => format!("a password is asked: {reason}."),
    }
}
