//! The trust files, as `rlogind trust check` reads them.

use nix::unistd::geteuid;

use crate::check::Report;
use crate::config::Config;
use crate::sys::identity;
use crate::trust::Skip;
use crate::trust::accounts;
use crate::trust::check::{Checker, Finding};
use crate::trust::files::SystemWorld;

const WHAT: &str = "trust files";
/// A machine may have thousands of users.
const MOST: usize = 20;

/// Reports on the files of all accounts that the system lists.
pub(super) fn inspect(report: &mut Report, config: &Config) {
    if !geteuid().is_root() {
        report.note(WHAT, "not looked at: only root can read all users' files").mend("ask as root");
        return;
    }
    let mut world = SystemWorld::default();
    let mut checker = Checker::new(config, &mut world);
    checker.hosts_equiv();
    for name in identity::account_names() {
        match accounts::account(&name) {
            Ok(Some(account)) => checker.rhosts(&account),
            Ok(None) => {}
            Err(error) => {
                let text = format!("the account {} cannot be looked up: {error}", name.escape_debug());
                report.warn(WHAT, text).mend("look after the name service: /etc/nsswitch.conf");
            }
        }
    }
    tell(report, &checker.findings, checker.files);
}

fn tell(report: &mut Report, findings: &[Finding], files: usize) {
    if findings.is_empty() {
        report.ok(WHAT, format!("nothing is wrong in the {files} that exist"));
    }
    for finding in findings.iter().take(MOST) {
        match &finding.skip {
            Some(why) => report.warn(WHAT, finding.to_string()).mend(mend(why, &finding.file)),
            None => {
                let how = if finding.line.is_some() {
                    "correct the line; rlogind-trust(5) says what lines mean"
                } else {
                    "take the file away, or let it count"
                };
                report.note(WHAT, finding.to_string()).mend(how);
            }
        }
    }
    if let Some(more) = findings.len().checked_sub(MOST).filter(|more| *more > 0) {
        report.warn(WHAT, format!("and {more} more")).mend("`rlogind trust check` lists them all");
    }
}

/// How the file comes to be believed.
fn mend(why: &Skip, file: &str) -> String {
    let home = file.strip_suffix("/.rhosts").unwrap_or(file).escape_debug();
    let file = file.escape_debug();
    match why {
        Skip::Symlink | Skip::NotRegular(_) => format!("put a regular file in the place of {file}"),
        Skip::Links(_) => format!("find out who linked it; then: cp {file} {file}.new; mv {file}.new {file}"),
        Skip::Owner(_) => format!("read {file}; if it is meant, chown it to its user"),
        Skip::Writable(_) => format!("read {file}; then: chmod go-w {file}"),
        Skip::TooLarge(_) => "shorten it; netgroups or [[trust.rule]] say the same in less".to_owned(),
        Skip::HomeOwner(_) => format!("chown {home} to its user"),
        Skip::HomeWritable(_) => format!("read {file}; then: chmod go-w {home}"),
        Skip::NeedsRoot => "ask as root".to_owned(),
        Skip::Identity(_) | Skip::Io(_) => format!("see that its user can read {file}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lines;
    use super::*;

    fn finding(line: Option<u32>, skip: Option<Skip>) -> Finding {
        Finding { file: "/home/a/.rhosts".to_owned(), line, text: "x".to_owned(), skip }
    }

    fn told(findings: &[Finding]) -> Vec<String> {
        let mut report = Report::default();
        tell(&mut report, findings, 3);
        lines(&report)
    }

    #[test]
    fn an_unbelieved_file_is_worse_than_a_line() {
        assert_eq!(told(&[]), ["ok trust files nothing is wrong in the 3 that exist"]);
        let expected = [
            "WARN trust files /home/a/.rhosts: x",
            "→ read /home/a/.rhosts; then: chmod go-w /home/a",
            "note trust files /home/a/.rhosts:4: x",
            "→ correct the line; rlogind-trust(5) says what lines mean",
            "note trust files /home/a/.rhosts: x",
            "→ take the file away, or let it count",
        ];
        let findings =
            [finding(None, Some(Skip::HomeWritable(0o775))), finding(Some(4), None), finding(None, None)];
        assert_eq!(told(&findings), expected);
    }

    #[test]
    fn many_are_counted() {
        let many: Vec<Finding> = (0..25).map(|line| finding(Some(line), None)).collect();
        let told = told(&many);
        assert_eq!(told.len(), 2 * MOST + 2);
        assert_eq!(told[2 * MOST], "WARN trust files and 5 more");
    }
}
