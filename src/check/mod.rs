//! `rlogind check`: would it serve with this configuration, and where?
//!
//! For an administrator before a start or a reload, so it must not disturb a
//! daemon that runs: it looks, and changes nothing.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::geteuid;

use crate::config::{self, Config, Limits, Source};
use crate::host::{self, HostError, RunDirectory};

mod port;

use port::Owner;

/// Where shells(5) are listed.
const SHELLS: &str = "/etc/shells";
/// The shells when there is no `/etc/shells` (getusershell(3)).
const FALLBACK_SHELLS: &str = "/bin/sh\n/bin/csh\n";

/// Prints one line for everything rlogind needs, then whether it would serve;
/// says so in the result as well.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(config_path: Option<&Path>, out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report { out, would_serve: true };
    match config::load_default_or(config_path) {
        Err(error) => report.fail("configuration", &error.to_string())?,
        Ok((config, source)) => {
            check_source(&mut report, &source)?;
            check_all(&mut report, &config)?;
        }
    }
    let not = if report.would_serve { "" } else { "not " };
    writeln!(report.out, "rlogind would {not}serve.")?;
    Ok(report.would_serve)
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

fn check_all(report: &mut Report<'_>, config: &Config) -> io::Result<()> {
    check_addresses(report, "listen", &config.listen)?;
    if config.tcpmux.enabled {
        check_addresses(report, "tcpmux", &config.tcpmux.listen)?;
    }
    check_limits(report, config)?;
    check_relay_account(report, &config.user)?;
    check_run_directory(report, &config.control)?;
    check_pam_service(report, &config.login.pam_service, &host::PAM_DIRECTORIES)?;
    check_shells(report, Path::new(SHELLS))?;
    if let Some(banner) = &config.login.banner {
        match fs::File::open(banner) {
            Ok(_) => report.ok("banner", &banner.display().to_string())?,
            Err(e) => report.note("banner", &format!("{}: {e}", banner.display()))?,
        }
    }
    Ok(())
}

/// Limits that are possible, but mean something that nobody wants.
fn check_limits(report: &mut Report<'_>, config: &Config) -> io::Result<()> {
    if config.access.permits_nobody() {
        report.note("allow", "nobody may connect: each network is in deny as well, or there is none")?;
    }
    let (limits, usual) = (&config.limits, Limits::default());
    if limits.per_source > limits.sessions && limits.per_source != usual.per_source {
        report.note("limits", "per_source is more than sessions and limits nothing")?;
    }
    // The default is more than a small machine's sessions, and does no harm there.
    if limits.startups.start >= limits.sessions && limits.startups != usual.startups {
        report.note("limits", "startups begins at no fewer than sessions and limits nothing")?;
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

fn check_addresses(report: &mut Report<'_>, what: &str, addresses: &[SocketAddr]) -> io::Result<()> {
    for &address in addresses {
        match port::try_bind(address, host::is_alone(address, addresses)) {
            Ok(()) => report.ok(what, &address.to_string())?,
            Err(Errno::EACCES) if !geteuid().is_root() => {
                report.note(what, &format!("{address}: not tried, only root may use this port"))?;
            }
            Err(Errno::EADDRINUSE) => report_in_use(report, what, address, &port::owners(address.port()))?,
            Err(errno) => report.fail(what, &format!("{address}: {}", errno.desc()))?,
        }
    }
    Ok(())
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
    match host::relay_account(name) {
        Ok((account, None)) => report.ok("relay account", &format!("{name} (uid {})", account.uid)),
        Ok((_, Some(warning))) => report.note("relay account", &warning),
        Err(error) => report.fail("relay account", &error.to_string()),
    }
}

fn check_run_directory(report: &mut Report<'_>, control: &Path) -> io::Result<()> {
    const WHAT: &str = "run directory";
    match host::run_directory(control) {
        Ok(RunDirectory::Ready(path)) => report.ok(WHAT, &path.display().to_string()),
        Ok(RunDirectory::Missing(path)) => {
            report.ok(WHAT, &format!("{}: is made when rlogind starts", path.display()))
        }
        Err(HostError::RunDirectory { path, error })
            if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() =>
        {
            report.note(WHAT, &format!("{}: only root can look there", path.display()))
        }
        Err(error) => report.fail(WHAT, &error.to_string()),
    }
}

fn check_pam_service(
    report: &mut Report<'_>,
    wanted: &str,
    directories: &[impl AsRef<Path>],
) -> io::Result<()> {
    match host::pam_service(wanted, directories) {
        Ok((service, None)) => report.ok("PAM service", &service.file.display().to_string()),
        Ok((_, Some(warning))) => report.note("PAM service", &warning),
        Err(error) => report.fail("PAM service", &error.to_string()),
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
    fn an_ipv6_wildcard_is_bound_as_the_daemon_does_it() {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let (text, serves) = run_on(&format!("listen = [\"[::]:{port}\"]\n"));
        assert!(text.contains(&format!("FAIL  listen         [::]:{port}: in use by ")), "{text}");
        assert!(!serves);
        let (text, _) = run_on(&format!("listen = [\"[::]:{port}\", \"127.0.0.2:{port}\"]\n"));
        assert!(text.contains(&format!("ok    listen         [::]:{port}\n")), "{text}");
    }

    #[test]
    fn limits_that_make_no_sense_are_noted() {
        let check = |text: &str| {
            let config = config::parse(text, Path::new("test")).unwrap();
            report(|r| check_limits(r, &config))
        };
        assert_eq!(check("[limits]\nsessions = 5\n"), (String::new(), true));
        let nobody =
            "note  allow          nobody may connect: each network is in deny as well, or there is none\n";
        for text in ["allow = []\n", "deny = [\"0.0.0.0/0\", \"::/0\"]\n"] {
            assert_eq!(check(text), (nobody.to_owned(), true));
        }
        let (text, serves) = check("[limits]\nsessions = 5\nper_source = 6\nstartups = 5\n");
        let expected = "note  limits         per_source is more than sessions and limits nothing\n\
                        note  limits         startups begins at no fewer than sessions and limits nothing\n";
        assert_eq!((text.as_str(), serves), (expected, true));
    }

    #[test]
    fn run_directories() {
        let check = |control: &str| report(|r| check_run_directory(r, Path::new(control)));
        assert_eq!(check("/usr/control"), ("ok    run directory  /usr\n".to_owned(), true));
        let missing = "ok    run directory  /usr/no/such: is made when rlogind starts\n";
        assert_eq!(check("/usr/no/such/control"), (missing.to_owned(), true));
        assert!(!Path::new("/usr/no").exists(), "a check makes nothing");
        let open = "FAIL  run directory  cannot use the directory /tmp: others than root can write there\n";
        assert_eq!(check("/tmp/control"), (open.to_owned(), false));
        let (text, serves) = run_on("control = \"/tmp/control\"\n");
        assert!(text.contains(open) && !serves, "{text}");
    }

    #[test]
    fn relay_accounts() {
        let (text, serves) = report(|r| check_relay_account(r, "nobody"));
        assert!(text.starts_with("ok    relay account  nobody (uid ") && serves, "{text}");
        let (text, serves) = report(|r| check_relay_account(r, "no-such-account"));
        assert_eq!(text, "note  relay account  no account no-such-account; nobody stands in\n");
        assert!(serves);
        let (text, serves) = report(|r| check_relay_account(r, "root"));
        assert!(text.starts_with("note") && text.ends_with("nobody stands in\n") && serves, "{text}");
    }

    #[test]
    fn pam_services() {
        let dir = tempfile::tempdir().unwrap();
        let check = || report(|r| check_pam_service(r, "rlogin", &[dir.path()]));
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
