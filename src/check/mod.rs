//! `rlogind check`: would it serve with this configuration, and where?
//!
//! For an administrator before a start or a reload, so it must not disturb a
//! daemon that runs: it looks, and changes nothing.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::config::{self, Config, Source};

mod port;

use port::Owner;

/// Stands in when the configured relay account does not exist.
const FALLBACK_ACCOUNT: &str = "nobody";
/// Stands in when the configured PAM service does not exist.
const FALLBACK_SERVICE: &str = "login";
/// The shells when there is no `/etc/shells` (getusershell(3)).
const FALLBACK_SHELLS: &str = "/bin/sh\n/bin/csh\n";

/// Prints one line for everything rlogind needs, then whether it would serve;
/// says so in the result as well.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(config_path: Option<&Path>, out: &mut dyn Write) -> io::Result<bool> {
    let system = System { pam_services: PathBuf::from("/etc/pam.d"), shells: PathBuf::from("/etc/shells") };
    let mut report = Report { out, would_serve: true };
    match config::load_default_or(config_path) {
        Err(error) => report.fail("configuration", &error.to_string())?,
        Ok((config, source)) => {
            check_source(&mut report, &source)?;
            check_all(&mut report, &config, &system)?;
        }
    }
    let not = if report.would_serve { "" } else { "not " };
    writeln!(report.out, "rlogind would {not}serve.")?;
    Ok(report.would_serve)
}

/// The places of the system that are looked at.
struct System {
    pam_services: PathBuf,
    shells: PathBuf,
}

/// What is printed, one finding a line, aligned.
struct Report<'w> {
    out: &'w mut dyn Write,
    would_serve: bool,
}

impl Report<'_> {
    fn ok(&mut self, what: &str, text: &str) -> io::Result<()> {
        self.line("ok", what, text)
    }

    /// Worth knowing, and no reason not to serve.
    fn note(&mut self, what: &str, text: &str) -> io::Result<()> {
        self.line("note", what, text)
    }

    fn fail(&mut self, what: &str, text: &str) -> io::Result<()> {
        self.would_serve = false;
        self.line("FAIL", what, text)
    }

    fn line(&mut self, verdict: &str, what: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "{verdict:<4}  {what:<13}  {text}")
    }
}

fn check_all(report: &mut Report<'_>, config: &Config, system: &System) -> io::Result<()> {
    for &address in &config.listen {
        check_address(report, "listen", address)?;
    }
    if config.tcpmux.enabled {
        for &address in &config.tcpmux.listen {
            check_address(report, "tcpmux", address)?;
        }
    }
    check_relay_account(report, &config.user)?;
    check_pam_service(report, &config.login.pam_service, &system.pam_services)?;
    check_shells(report, &system.shells)?;
    if let Some(banner) = &config.login.banner {
        match fs::File::open(banner) {
            Ok(_) => report.ok("banner", &banner.display().to_string())?,
            Err(e) => report.note("banner", &format!("{}: {e}", banner.display()))?,
        }
    }
    Ok(())
}

/// Who can write the configuration decides who gets in.
fn check_source(report: &mut Report<'_>, source: &Source) -> io::Result<()> {
    let exposed = match source {
        Source::BuiltIn => false,
        Source::File(path) => fs::metadata(path).is_ok_and(|m| m.uid() != 0 || m.mode() & 0o022 != 0),
    };
    if exposed {
        report.note("configuration", &format!("{source}: others than root can write it"))
    } else {
        report.ok("configuration", &source.to_string())
    }
}

fn check_address(report: &mut Report<'_>, what: &str, address: SocketAddr) -> io::Result<()> {
    match port::try_bind(address) {
        Ok(()) => report.ok(what, &address.to_string()),
        Err(Errno::EACCES) if !nix::unistd::geteuid().is_root() => {
            report.note(what, &format!("{address}: not tried, only root may use this port"))
        }
        Err(Errno::EADDRINUSE) => report_in_use(report, what, address, &port::owners(address.port())),
        Err(errno) => report.fail(what, &format!("{address}: {}", errno.desc())),
    }
}

/// A reload is checked while the daemon runs, so an address that a rlogind has
/// is as it should be. Anybody else would keep it from us.
fn report_in_use(
    report: &mut Report<'_>,
    what: &str,
    address: SocketAddr,
    owners: &[Owner],
) -> io::Result<()> {
    let names: Vec<String> = owners.iter().map(Owner::to_string).collect();
    let names = names.join(", ");
    if owners.is_empty() {
        report.note(what, &format!("{address}: in use; by whom cannot be seen from here"))
    } else if owners.iter().any(|owner| owner.name == env!("CARGO_PKG_NAME")) {
        report.note(what, &format!("{address}: in use by {names}, which serves already"))
    } else {
        report.fail(what, &format!("{address}: in use by {names}"))
    }
}

fn check_relay_account(report: &mut Report<'_>, name: &str) -> io::Result<()> {
    let is_root = |user: &users::User| user.uid() == 0 || user.primary_group_id() == 0;
    match (users::get_user_by_name(name), users::get_user_by_name(FALLBACK_ACCOUNT)) {
        (Some(user), _) if is_root(&user) => {
            report.fail("relay account", &format!("{name} has the user or group id of root"))
        }
        (Some(user), _) => report.ok("relay account", &format!("{name} (uid {})", user.uid())),
        (None, Some(_)) => {
            report.note("relay account", &format!("no account {name}; {FALLBACK_ACCOUNT} stands in"))
        }
        (None, None) => {
            report.fail("relay account", &format!("neither {name} nor {FALLBACK_ACCOUNT} is an account"))
        }
    }
}

fn check_pam_service(report: &mut Report<'_>, service: &str, directory: &Path) -> io::Result<()> {
    let file = directory.join(service);
    let fallback = directory.join(FALLBACK_SERVICE);
    let (file_name, fallback_name) = (file.display(), fallback.display());
    if file.is_file() {
        report.ok("PAM service", &file_name.to_string())
    } else if fallback.is_file() {
        report.note("PAM service", &format!("no file {file_name}; {fallback_name} stands in"))
    } else {
        report.fail("PAM service", &format!("neither {file_name} nor {fallback_name} is a file"))
    }
}

fn check_shells(report: &mut Report<'_>, list: &Path) -> io::Result<()> {
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(e) => {
            report.note("shells", &format!("{}: {e}; /bin/sh and /bin/csh count", list.display()))?;
            FALLBACK_SHELLS.to_owned()
        }
    };
    let mut usable = Vec::new();
    for shell in shells(&text) {
        match trouble_with_shell(Path::new(shell)) {
            None => usable.push(shell),
            Some(trouble) => report.note("shells", &format!("{shell}: {trouble}"))?,
        }
    }
    if usable.is_empty() {
        report.fail("shells", &format!("{} has none that can be started", list.display()))
    } else {
        report.ok("shells", &usable.join(" "))
    }
}

/// The paths in the text of shells(5).
fn shells(text: &str) -> impl Iterator<Item = &str> {
    let uncommented = text.lines().map(|line| line.split('#').next().unwrap_or("").trim());
    uncommented.filter(|line| line.starts_with('/'))
}

fn trouble_with_shell(shell: &Path) -> Option<String> {
    match fs::metadata(shell) {
        Err(e) => Some(e.to_string()),
        Ok(meta) if !meta.is_file() => Some("not a file".to_owned()),
        Ok(meta) if meta.permissions().mode() & 0o111 == 0 => Some("not executable".to_owned()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a check prints, and whether rlogind would still serve.
    fn report(check: impl FnOnce(&mut Report<'_>) -> io::Result<()>) -> (String, bool) {
        let mut out = Vec::new();
        let mut report = Report { out: &mut out, would_serve: true };
        check(&mut report).unwrap();
        let would_serve = report.would_serve;
        (String::from_utf8(out).unwrap(), would_serve)
    }

    fn run_on(config: &str) -> (String, bool) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), config).unwrap();
        let mut out = Vec::new();
        let would_serve = run(Some(file.path()), &mut out).unwrap();
        (String::from_utf8(out).unwrap().replace(&file.path().display().to_string(), "FILE"), would_serve)
    }

    #[test]
    fn a_wrong_configuration_is_all_there_is_to_say() {
        let (text, would_serve) = run_on("[login]\nattempts = 0\n");
        let expected = "FAIL  configuration  FILE:2: login.attempts: must be from 1 to 100, not 0\n\
                        rlogind would not serve.\n";
        assert_eq!((text.as_str(), would_serve), (expected, false));
    }

    #[test]
    fn a_missing_file_that_was_named_is_a_failure() {
        let mut out = Vec::new();
        assert!(!run(Some(Path::new("/nonexistent/rlogind.toml")), &mut out).unwrap());
        assert!(
            String::from_utf8(out).unwrap().starts_with("FAIL  configuration  /nonexistent/rlogind.toml: ")
        );
    }

    #[test]
    fn every_address_is_named_and_one_that_another_program_has_is_a_failure() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let free = SocketAddr::from(([127, 0, 0, 2], taken.port()));
        let tcpmux = SocketAddr::from(([127, 0, 0, 3], taken.port()));
        let config = format!("listen = [\"{free}\"]\n[tcpmux]\nenabled = true\nlisten = [\"{tcpmux}\"]\n");
        let (text, _) = run_on(&config);
        assert!(text.contains(&format!("ok    listen         {free}\n")), "{text}");
        assert!(text.contains(&format!("ok    tcpmux         {tcpmux}\n")), "{text}");

        let (text, would_serve) = run_on(&format!("listen = [\"{free}\", \"{taken}\"]\n"));
        assert!(text.contains(&format!("FAIL  listen         {taken}: in use by ")), "{text}");
        assert!(text.ends_with("rlogind would not serve.\n") && !would_serve, "{text}");
        assert!(!text.contains("tcpmux"), "{text}");
    }

    #[test]
    fn an_address_that_does_not_exist_here_is_a_failure() {
        let (text, would_serve) = run_on("listen = [\"192.0.2.77:5513\"]\n");
        assert!(
            text.contains("FAIL  listen         192.0.2.77:5513: Cannot assign requested address\n"),
            "{text}"
        );
        assert!(!would_serve);
    }

    #[test]
    fn an_address_in_use_depends_on_who_has_it() {
        let address = SocketAddr::from(([127, 0, 0, 1], 513));
        let owner = |name: &str| Owner { name: name.to_owned(), pid: 812 };
        for (owners, text, serves) in [
            (vec![], "note  listen         127.0.0.1:513: in use; by whom cannot be seen from here\n", true),
            (
                vec![owner("rlogind")],
                "note  listen         127.0.0.1:513: in use by rlogind (pid 812), which serves already\n",
                true,
            ),
            (vec![owner("inetd")], "FAIL  listen         127.0.0.1:513: in use by inetd (pid 812)\n", false),
        ] {
            let printed = report(|r| report_in_use(r, "listen", address, &owners));
            assert_eq!(printed, (text.to_owned(), serves));
        }
    }

    #[test]
    fn a_configuration_that_others_can_write_is_noted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = Source::File(file.path().to_owned());
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o620)).unwrap();
        let (text, serves) = report(|r| check_source(r, &source));
        assert!(
            text.starts_with("note") && text.ends_with("others than root can write it\n") && serves,
            "{text}"
        );
        assert_eq!(
            report(|r| check_source(r, &Source::BuiltIn)).0,
            "ok    configuration  built-in defaults\n"
        );
    }

    #[test]
    fn relay_accounts() {
        let (text, serves) = report(|r| check_relay_account(r, "nobody"));
        assert!(text.starts_with("ok    relay account  nobody (uid ") && serves, "{text}");
        let (text, serves) = report(|r| check_relay_account(r, "no-such-account"));
        assert_eq!(text, "note  relay account  no account no-such-account; nobody stands in\n");
        assert!(serves);
        assert!(!report(|r| check_relay_account(r, "root")).1);
    }

    #[test]
    fn pam_services() {
        let dir = tempfile::tempdir().unwrap();
        let check = || report(|r| check_pam_service(r, "rlogin", dir.path()));
        assert!(check().0.starts_with("FAIL") && !check().1);
        fs::write(dir.path().join("login"), "").unwrap();
        assert!(check().0.starts_with("note") && check().0.ends_with("/login stands in\n") && check().1);
        fs::write(dir.path().join("rlogin"), "").unwrap();
        assert!(check().0.starts_with("ok") && check().0.ends_with("/rlogin\n") && check().1);
    }

    #[test]
    fn shells_are_there_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("shells");
        let (good, plain) = (dir.path().join("good"), dir.path().join("plain"));
        fs::write(&good, "").unwrap();
        fs::write(&plain, "").unwrap();
        fs::set_permissions(&good, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&plain, fs::Permissions::from_mode(0o644)).unwrap();
        let (good, plain, folder) = (good.display(), plain.display(), dir.path().display());

        fs::write(&list, format!("# comment\n\n{good} # its own\n{plain}\n{folder}\n{good}.missing\n"))
            .unwrap();
        let (text, serves) = report(|r| check_shells(r, &list));
        let expected = format!(
            "note  shells         {plain}: not executable\n\
             note  shells         {folder}: not a file\n\
             note  shells         {good}.missing: No such file or directory (os error 2)\n\
             ok    shells         {good}\n"
        );
        assert_eq!((text, serves), (expected, true));

        fs::write(&list, format!("{plain}\n")).unwrap();
        assert!(!report(|r| check_shells(r, &list)).1);

        let (text, serves) = report(|r| check_shells(r, &dir.path().join("none")));
        assert!(
            text.contains("/bin/sh and /bin/csh count")
                && text.contains("ok    shells         /bin/sh")
                && serves
        );
    }
}
