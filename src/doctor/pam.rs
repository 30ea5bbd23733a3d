//! The PAM service file, as far as it keeps people out, or in, for the wrong reason.
//!
//! Reads what libpam reads (pam.d(5)); it must never ask PAM anything, for modules act.

use std::path::{Path, PathBuf};

use super::machine::Machine;
use crate::check::Report;
use crate::config::{Config, RootLogin};
use crate::host::{self, PAM_DIRECTORIES};

const WHAT: &str = "PAM";
/// How deep libpam follows files that include files.
const DEEPEST: usize = 16;
/// Where modules are; below `/usr/lib` and `/lib` there may be a directory for each architecture as well.
const MODULES: [&str; 4] = ["/usr/lib/security", "/usr/lib64/security", "/lib/security", "/lib64/security"];
/// What pam_nologin looks for.
const NOLOGIN: [&str; 2] = ["/var/run/nologin", "/etc/nologin"];
const SECURETTY: &str = "/etc/securetty";

/// A line that names a module.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    place: String,
    /// `auth`, `account`, `password` or `session`.
    kind: String,
    control: String,
    /// The file name of the module, or its whole path.
    module: String,
    /// It may be missing without a word: a `-` stands in front.
    optional: bool,
}

/// Reports on the service that logins use; [`host::pam_service`] is asked elsewhere whether there is one.
pub(super) fn inspect(report: &mut Report, machine: &Machine, config: &Config) {
    let folders = PAM_DIRECTORIES.map(|folder| machine.path(folder));
    let Ok((service, _)) = host::pam_service(&config.login.pam_service, &folders) else { return };
    let mut lines = Vec::new();
    read(machine, &service.name, DEEPEST, None, &mut lines);
    let before = report.findings.len();
    for line in &lines {
        inspect_line(report, machine, line);
    }
    for kind in ["auth", "account", "session"] {
        if !lines.iter().any(|line| line.kind == kind) {
            let text = format!("{} has no \"{kind}\" line: PAM takes those of \"other\"", service.name);
            report.warn(WHAT, text).mend(format!("write `{kind} required pam_unix.so` into it"));
        }
    }
    nologin(report, machine, &lines);
    securetty(report, machine, config, &lines);
    if report.findings.len() == before {
        let text = format!("the {} lines of {} name modules that are there", lines.len(), service.name);
        report.ok(WHAT, text);
    }
}

fn inspect_line(report: &mut Report, machine: &Machine, line: &Line) {
    let (place, module) = (&line.place, line.module.escape_debug());
    if line.is("pam_rhosts") || line.is("pam_rhosts_auth") {
        let text = format!("{place}: {module}, but whom to trust is rlogind's own decision");
        report
            .warn(WHAT, text)
            .mend(format!("take {place} out; `rlogind trust explain` says who is trusted"));
    } else if !line.optional && !is_there(machine, &line.module) {
        let text = format!("{place}: there is no module {module}");
        let finding = if ["required", "requisite"].contains(&line.control.as_str()) {
            report.fail(WHAT, format!("{text}, so nobody gets in"))
        } else {
            report.warn(WHAT, text)
        };
        finding.mend(format!("install the module, or take {place} out"));
    }
}

fn nologin(report: &mut Report, machine: &Machine, lines: &[Line]) {
    let asked = lines.iter().any(|line| line.is("pam_nologin"));
    for file in NOLOGIN.iter().filter(|file| machine.exists(file)) {
        if asked {
            let text = format!("{file} is there: nobody but root may log in");
            report.warn("nologin", text).mend(format!("rm {file}, when the maintenance is over"));
        } else {
            let text =
                format!("{file} is there, but the PAM service has no pam_nologin: users get in all the same");
            report
                .note("nologin", text)
                .mend("write `account requisite pam_nologin.so` into the PAM service");
        }
    }
}

fn securetty(report: &mut Report, machine: &Machine, config: &Config, lines: &[Line]) {
    let Some(line) = lines.iter().find(|line| line.is("pam_securetty")) else { return };
    if config.login.root == RootLogin::No {
        return;
    }
    let listed = machine.read(SECURETTY).unwrap_or_else(|_| "pts/".to_owned());
    if !listed.lines().any(|tty| tty.trim().starts_with("pts/")) {
        let text = format!("{}: pam_securetty refuses root, for {SECURETTY} has no pts/…", line.place);
        report
            .warn("securetty", text)
            .mend(format!("take {} out, for login.root already decides", line.place));
    }
}

impl Line {
    fn is(&self, name: &str) -> bool {
        let file = Path::new(&self.module).file_stem();
        file.is_some_and(|stem| stem == name)
    }
}

fn is_there(machine: &Machine, module: &str) -> bool {
    if module.starts_with('/') {
        return machine.exists(module);
    }
    let architectures = ["/usr/lib", "/lib"].into_iter().flat_map(|folder| machine.list(folder));
    let architectures = architectures.map(|folder| folder.join("security"));
    let mut folders = MODULES.iter().map(PathBuf::from).chain(architectures);
    folders.any(|folder| machine.exists(folder.join(module)))
}

/// The lines of a service, in order, with those of the files it includes. `only`: of this kind.
fn read(machine: &Machine, service: &str, depth: usize, only: Option<&str>, lines: &mut Vec<Line>) {
    // The name may be a path, as libpam has it.
    let files = PAM_DIRECTORIES.iter().map(|folder| Path::new(folder).join(service));
    let found = files.filter_map(|file| Some((machine.read(&file).ok()?, file))).next();
    let Some((text, file)) = found.filter(|_| depth > 0) else { return };
    for (number, text) in (1_usize..).zip(text.replace("\\\n", "  ").lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        let Some((kind, rest)) = text.split_once(char::is_whitespace) else { continue };
        if kind == "@include" {
            read(machine, rest.trim(), depth - 1, only, lines);
            continue;
        }
        let (optional, kind) = kind.strip_prefix('-').map_or((false, kind), |kind| (true, kind));
        let Some((control, module)) = control_and_module(rest.trim()) else { continue };
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        if ["include", "substack"].contains(&control) {
            read(machine, module, depth - 1, Some(kind), lines);
        } else {
            lines.push(Line {
                place: format!("{}:{number}", file.display()).escape_debug().to_string(),
                kind: kind.to_lowercase(),
                control: control.to_lowercase(),
                module: module.to_owned(),
                optional,
            });
        }
    }
}

/// A control may be several words in brackets.
fn control_and_module(rest: &str) -> Option<(&str, &str)> {
    let (control, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => rest.split_once(char::is_whitespace)?,
    };
    Some((control, rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::machine;
    use super::super::tests::lines;
    use super::*;
    use crate::config;

    const UNIX: &str =
        "auth required pam_unix.so\naccount required pam_unix.so\nsession required pam_unix.so\n";

    fn told(service: &str, more: &[(&str, &str)], config: &str) -> Vec<String> {
        let mut files =
            vec![("/etc/pam.d/rlogin", service), ("/usr/lib/x86_64-linux-gnu/security/pam_unix.so", "")];
        files.extend_from_slice(more);
        let (_folder, machine) = machine(&files);
        let config = config::parse(config, Path::new("test")).unwrap();
        let mut report = Report::default();
        inspect(&mut report, &machine, &config);
        lines(&report)
    }

    #[test]
    fn what_is_shipped_is_right() {
        let shipped = include_str!("../../packaging/pam/rlogin");
        let modules = ["faildelay", "nologin", "loginuid", "keyinit", "env", "limits", "motd"];
        let modules = modules.map(|name| format!("/lib/security/pam_{name}.so"));
        let mut files: Vec<(&str, &str)> = modules.iter().map(|path| (path.as_str(), "")).collect();
        let common = ["auth", "account", "session", "password"].map(|kind| {
            (
                format!("/etc/pam.d/common-{kind}"),
                format!("{kind} [success=1 default=ignore] pam_unix.so x\n"),
            )
        });
        files.extend(common.iter().map(|(path, text)| (path.as_str(), text.as_str())));
        let told = told(shipped, &files, "");
        assert!(told.len() == 1 && told[0].starts_with("ok PAM the "), "{told:?}");
    }

    #[test]
    fn pam_rhosts_is_found_in_included_files_as_well() {
        let rhosts = [
            ("/etc/pam.d/common", "# x\nauth sufficient pam_rhosts.so\nsession optional pam_no.so\n"),
            ("/lib/security/pam_rhosts.so", ""),
        ];
        let expected = [
            "WARN PAM /etc/pam.d/common:2: pam_rhosts.so, but whom to trust is rlogind's own decision",
            "→ take /etc/pam.d/common:2 out; `rlogind trust explain` says who is trusted",
        ];
        assert_eq!(told(&format!("auth include common\n{UNIX}"), &rhosts, ""), expected);
        assert_eq!(told(&format!("@include common\n{UNIX}"), &rhosts, "")[..2], expected);
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        assert_eq!(told(&format!("@include rlogin\n{UNIX}"), &[], "").len(), 1);
    }

    #[test]
    fn a_missing_module_locks_everybody_out_where_it_is_required() {
        let service = format!(
            "-auth required pam_a.so\nauth optional pam_b.so\naccount \\\n required pam_c.so x\n{UNIX}"
        );
        let expected = [
            "WARN PAM /etc/pam.d/rlogin:2: there is no module pam_b.so",
            "→ install the module, or take /etc/pam.d/rlogin:2 out",
            "FAIL PAM /etc/pam.d/rlogin:3: there is no module pam_c.so, so nobody gets in",
            "→ install the module, or take /etc/pam.d/rlogin:3 out",
        ];
        assert_eq!(told(&service, &[], ""), expected);
    }

    #[test]
    fn a_kind_without_lines_is_others_affair() {
        let told = told("auth required pam_unix.so\naccount required pam_unix.so\n", &[], "");
        assert_eq!(told[0], "WARN PAM rlogin has no \"session\" line: PAM takes those of \"other\"");
    }

    #[test]
    fn nologin_keeps_users_out_only_where_it_is_asked() {
        let nologin = ("/etc/nologin", "");
        assert!(told(UNIX, &[nologin], "")[0].starts_with("note nologin /etc/nologin is there, but"));
        let asked = format!("account requisite pam_nologin.so\n{UNIX}");
        let files = [nologin, ("/lib/security/pam_nologin.so", "")];
        assert_eq!(
            told(&asked, &files, "")[0],
            "WARN nologin /etc/nologin is there: nobody but root may log in"
        );
    }

    #[test]
    fn securetty_matters_where_root_may_log_in() {
        let service = format!("auth requisite pam_securetty.so\n{UNIX}");
        let files = [("/lib/security/pam_securetty.so", ""), ("/etc/securetty", "tty1\n")];
        let root = "[login]\nroot = \"password\"\n";
        assert!(told(&service, &files, root)[0].starts_with("WARN securetty /etc/pam.d/rlogin:1: "));
        assert!(told(&service, &files, "")[0].starts_with("ok"));
        assert!(told(&service, &files[..1], root)[0].starts_with("ok"));
    }
}
