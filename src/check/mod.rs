//! `rlogind check`: would it serve with this configuration, and where?
//!
//! For an administrator before a start or a reload, so it must not disturb a
//! daemon that runs: it looks, and changes nothing.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid};

use crate::config::{self, Config, Limits};
use crate::host::{self, HostError, RunDirectory};
use crate::sys::file;
use crate::sys::needed;
use crate::sys::ownership::{self, Unsafe};
use crate::sys::process;

mod finding;
mod port;

pub use finding::{Finding, Report, Verdict};
pub use port::{Owner, is_listened_on, owners};

const TCPMUX: &str = "tcpmux";
/// Where shells(5) are listed.
const SHELLS: &str = "/etc/shells";
/// More than any list of shells has.
const LONGEST_LIST: u64 = 1 << 20;
/// The shells when there is no `/etc/shells` (getusershell(3)).
const FALLBACK_SHELLS: &str = "/bin/sh\n/bin/csh\n";

/// Prints one line for everything rlogind needs, below a failure what mends it, then whether it would serve;
/// says so in the result as well.
///
/// # Errors
/// When `out` cannot be written.
pub fn run(config_path: Option<&Path>, out: &mut dyn Write) -> io::Result<bool> {
    let mut report = Report::default();
    if let Some(config) = read(&mut report, config_path) {
        inspect(&mut report, &config, &|_| false);
    }
    for finding in &report.findings {
        writeln!(out, "{finding}")?;
        if let (Verdict::Fail, Some(mend)) = (finding.verdict, &finding.mend) {
            writeln!(out, "      → {mend}")?;
        }
    }
    let would_serve = report.count(Verdict::Fail) == 0;
    let not = if would_serve { "" } else { "not " };
    writeln!(out, "rlogind would {not}serve.")?;
    Ok(would_serve)
}

/// Reads the configuration, and reports how that went.
pub fn read(report: &mut Report, config_path: Option<&Path>) -> Option<Config> {
    match config::load_default_or(config_path) {
        Err(error) => {
            let mend = match error.refused() {
                Some(why) => only_root(error.path(), why),
                None => "correct it; rlogind.toml(5) has every key".to_owned(),
            };
            for sentence in error.sentences() {
                report.fail("configuration", sentence).mend(mend.clone());
            }
            None
        }
        Ok((config, source)) => {
            report.ok("configuration", source.to_string());
            Some(config)
        }
    }
}

/// Reports on everything a daemon with this configuration needs. `starts_us`: whether a process
/// that has one of the ports starts rlogind for those who connect there.
pub fn inspect(report: &mut Report, config: &Config, starts_us: &dyn Fn(&Owner) -> bool) {
    let tcpmux = if config.tcpmux.enabled { config.tcpmux.listen.as_slice() } else { &[] };
    let served = config.listen.iter().chain(tcpmux).any(|address| port::has_family(*address));
    check_addresses(report, "listen", &config.listen, served, starts_us);
    check_addresses(report, TCPMUX, tcpmux, served, &|_| false);
    check_kernel(report);
    check_limits(report, config);
    check_relay_account(report, &config.user);
    check_run_directory(report, &config.control.socket);
    check_control_socket(report, &config.control.socket);
    check_control_group(report, config.control.group.as_deref());
    check_pam_service(report, &config.login.pam_service, &host::PAM_DIRECTORIES);
    check_shells(report, Path::new(SHELLS));
    if let Some(banner) = &config.login.banner {
        check_banner(report, banner);
    }
}

fn check_kernel(report: &mut Report) {
    // The processes that try it are waited for.
    process::default_child_signal();
    for missing in needed::missing() {
        report.fail("kernel", missing.to_string()).mend(missing.mend());
    }
}

/// What has only root change a file.
fn only_root(path: &Path, why: &Unsafe) -> String {
    match why.folder {
        Some(_) => "put it into a folder that only root can write, such as /etc".to_owned(),
        None => format!("read {0}; then: chown root {0}; chmod go-w {0}", path.display()),
    }
}

fn check_banner(report: &mut Report, banner: &Path) {
    let (shown, what) = (banner.display(), "banner");
    match ownership::open(banner) {
        Ok(_) => report.ok(what, shown.to_string()),
        Err(ownership::Error::Io(e)) => {
            let finding = report.warn(what, format!("{shown}: not shown: {e}"));
            finding.mend("write the file, or take login.banner out of the configuration");
        }
        Err(ownership::Error::NotRegular) => {
            let finding = report.warn(what, format!("{shown}: not shown: not a regular file"));
            finding.mend("put a file there, or take login.banner out of the configuration");
        }
        Err(ownership::Error::Unsafe(why)) => {
            report.warn(what, format!("{shown}: not shown: {why}")).mend(only_root(banner, &why));
        }
    }
}

/// Limits that are possible, but mean something that nobody wants.
fn check_limits(report: &mut Report, config: &Config) {
    if config.access.permits_nobody() {
        let text = "nobody may connect: each network is in deny as well, or there is none";
        report.note("allow", text).mend("put the clients' networks into \"allow\"");
    }
    let (limits, usual) = (&config.limits, Limits::default());
    if limits.per_source > limits.sessions && limits.per_source != usual.per_source {
        report.note("limits", "per_source is more than sessions and limits nothing");
    }
    // The default is more than a small machine's sessions, and does no harm there.
    if limits.startups.start >= limits.sessions && limits.startups != usual.startups {
        report.note("limits", "startups begins at no fewer than sessions and limits nothing");
    }
}

/// `served`: there is an address of a family that the kernel has, so that the others keep nobody from starting.
fn check_addresses(
    report: &mut Report,
    what: &'static str,
    addresses: &[SocketAddr],
    served: bool,
    starts_us: &dyn Fn(&Owner) -> bool,
) {
    for &address in addresses {
        match port::try_bind(address, host::is_alone(address, addresses)) {
            Ok(()) => report.ok(what, address.to_string()),
            Err(Errno::EACCES) if !geteuid().is_root() => {
                let text = format!("{address}: not tried, only root may use this port");
                report.note(what, text).mend("ask as root");
            }
            Err(Errno::EADDRINUSE) => {
                report_in_use(report, what, address, &port::owners(address.port()), starts_us);
            }
            Err(errno) if host::lacks_family(&errno.into()) => {
                let text = format!("{address}: {}", host::no_family(address));
                let finding = if served { report.note(what, text) } else { report.fail(what, text) };
                let other = if address.is_ipv4() { "[::]" } else { "0.0.0.0" };
                finding.mend(format!("listen on {other}:{} alone", address.port()));
            }
            Err(errno) => {
                let finding = report.fail(what, format!("{address}: {}", errno.desc()));
                finding.mend("listen on an address that an interface of this machine has");
            }
        }
    }
}

/// A reload is checked while the daemon runs, so an address that a rlogind has
/// is as it should be. Anybody else would keep it from us, but for those who hand
/// their connections to rlogind.
fn report_in_use(
    report: &mut Report,
    what: &'static str,
    address: SocketAddr,
    owners: &[Owner],
    starts_us: &dyn Fn(&Owner) -> bool,
) {
    let names: Vec<String> = owners.iter().map(Owner::to_string).collect();
    let names = names.join(", ");
    if owners.is_empty() {
        let finding = report.note(what, format!("{address}: in use; by whom cannot be seen from here"));
        finding.mend("ask as root; a network namespace or a container may have it");
    } else if owners.iter().any(Owner::is_rlogind) {
        report.note(what, format!("{address}: in use by {names}, which serves already"));
    } else if owners.iter().any(Owner::is_service_manager) {
        let text = format!("{address}: in use by {names}, right if it is for rlogind's own socket unit");
        report.note(what, text).mend("`systemctl list-sockets` says whose it is");
    } else if owners.iter().all(starts_us) {
        report.note(what, format!("{address}: in use by {names}, which starts rlogind"));
    } else {
        // The others are mostly its children.
        let end = owners.first().map(Owner::ending).unwrap_or_default();
        let mend = if what == TCPMUX {
            format!("{end}; or be a service of it: `rlogind tcpmux register`, with tcpmux.enabled = false")
        } else {
            end
        };
        report.fail(what, format!("{address}: in use by {names}")).mend(mend);
    }
}

fn check_relay_account(report: &mut Report, name: &str) {
    let mend = host::create_relay_account(name);
    match host::relay_account(name) {
        Ok((account, warning)) => {
            match warning {
                None => report.ok("relay account", format!("{name} (uid {})", account.uid)),
                Some(warning) => report.note("relay account", warning).mend(mend),
            }
            // Nobody else can become another user.
            let tried = geteuid().is_root().then(|| (Uid::from_raw(account.uid), Gid::from_raw(account.gid)));
            if let Some(missing) = tried.and_then(|(uid, gid)| needed::missing_for_sandbox(uid, gid)) {
                report.fail("kernel", missing.to_string()).mend(missing.mend());
            }
        }
        Err(error) => report.fail("relay account", error.to_string()).mend(mend),
    }
}

fn check_run_directory(report: &mut Report, control: &Path) {
    const WHAT: &str = "run directory";
    match host::run_directory(control) {
        Ok(RunDirectory::Ready(path)) => report.ok(WHAT, path.display().to_string()),
        Ok(RunDirectory::Missing(path)) => {
            report.ok(WHAT, format!("{}: is made when rlogind starts", path.display()));
        }
        Err(HostError::RunDirectory { path, error })
            if error.kind() == io::ErrorKind::PermissionDenied && !geteuid().is_root() =>
        {
            report.note(WHAT, format!("{}: only root can look there", path.display()));
        }
        Err(error) => {
            let finding = report.fail(WHAT, error.to_string());
            finding.mend("give \"control\" a directory that is root's and that nobody else can write to");
        }
    }
}

/// What stands in its place is left alone by the daemon, which then has no commands.
fn check_control_socket(report: &mut Report, path: &Path) {
    if let Ok(data) = fs::symlink_metadata(path)
        && !data.file_type().is_socket()
    {
        let kind = if data.is_symlink() { "a symbolic link" } else { file::name(data.file_type()) };
        let text = format!("{} is {kind}: no administrator's command will work", path.display());
        report.warn("control socket", text).mend(format!("move {} away", path.display()));
    }
}

fn check_control_group(report: &mut Report, group: Option<&str>) {
    match group.map(host::control_group) {
        None => {}
        Some(Ok(id)) => {
            report.ok("control group", format!("{} (gid {id})", group.unwrap_or_default()));
        }
        Some(Err(trouble)) => {
            report.note("control group", trouble).mend("make the group, or take control.group out");
        }
    }
}

fn check_pam_service(report: &mut Report, wanted: &str, directories: &[impl AsRef<Path>]) {
    let mend = format!("write /etc/pam.d/{wanted}: packaging/pam/rlogin of the sources is one");
    match host::pam_service(wanted, directories) {
        Ok((service, None)) => report.ok("PAM service", service.file.display().to_string()),
        Ok((_, Some(warning))) => report.note("PAM service", warning).mend(mend),
        Err(error) => report.fail("PAM service", error.to_string()).mend(mend),
    }
}

fn check_shells(report: &mut Report, list: &Path) {
    let text = match file::read(list, LONGEST_LIST) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(e) => {
            report.note("shells", format!("{}: {e}; /bin/sh and /bin/csh count", list.display()));
            FALLBACK_SHELLS.to_owned()
        }
    };
    let mut usable = Vec::new();
    for shell in shells(&text) {
        match trouble_with_shell(Path::new(shell)) {
            None => usable.push(shell),
            Some(trouble) => {
                let finding = report.note("shells", format!("{shell}: {trouble}"));
                finding.mend(format!("install it, or take it out of {}", list.display()));
            }
        }
    }
    if usable.is_empty() {
        let finding = report.fail("shells", format!("{} has none that can be started", list.display()));
        finding.mend(format!("put the users' login shells into {}", list.display()));
    } else {
        report.ok("shells", usable.join(" "));
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
    fn report(check: impl FnOnce(&mut Report)) -> (String, bool) {
        let mut report = Report::default();
        check(&mut report);
        let text = report.findings.iter().map(|finding| format!("{finding}\n")).collect();
        (text, report.count(Verdict::Fail) == 0)
    }

    fn run_on(config: &str) -> (String, bool) {
        let folder = ownership::tests::folder();
        let file = tempfile::NamedTempFile::new_in(folder.path()).unwrap();
        fs::write(file.path(), config).unwrap();
        let mut out = Vec::new();
        let would_serve = run(Some(file.path()), &mut out).unwrap();
        (String::from_utf8(out).unwrap().replace(&file.path().display().to_string(), "FILE"), would_serve)
    }

    #[test]
    fn a_wrong_configuration_is_all_there_is_to_say() {
        let (text, would_serve) = run_on("[login]\nattempts = 0\n");
        let expected = "FAIL  configuration  FILE:2: login.attempts: must be from 1 to 100, not 0\n\
                        \x20     → correct it; rlogind.toml(5) has every key\n\
                        rlogind would not serve.\n";
        assert_eq!((text.as_str(), would_serve), (expected, false));
        let (text, _) = run_on("[login]\nattempts = 0\nrot = 1\n");
        assert!(
            text.contains("FILE:2: login.attempts")
                && text.contains("FAIL  configuration  FILE:3: login.rot")
        );
        assert_eq!(text.lines().count(), 5, "{text}");
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
        let owner = |name: &str, pid| Owner { name: name.to_owned(), pid, unit: None };
        let starts_us = |owner: &Owner| owner.name == "xinetd";
        for (owners, text, serves) in [
            (vec![], "note  listen         127.0.0.1:513: in use; by whom cannot be seen from here\n", true),
            (
                vec![owner("rlogind", 812)],
                "note  listen         127.0.0.1:513: in use by rlogind (pid 812), which serves already\n",
                true,
            ),
            (
                vec![owner("systemd", 1)],
                "note  listen         127.0.0.1:513: in use by systemd (pid 1), right if it is for rlogind's own socket unit\n",
                true,
            ),
            (
                vec![owner("systemd", 812)],
                "FAIL  listen         127.0.0.1:513: in use by systemd (pid 812)\n",
                false,
            ),
            (
                vec![owner("xinetd", 812)],
                "note  listen         127.0.0.1:513: in use by xinetd (pid 812), which starts rlogind\n",
                true,
            ),
            (
                vec![owner("inetd", 812)],
                "FAIL  listen         127.0.0.1:513: in use by inetd (pid 812)\n",
                false,
            ),
        ] {
            let printed = report(|r| report_in_use(r, "listen", address, &owners, &starts_us));
            assert_eq!(printed, (text.to_owned(), serves));
        }
    }

    #[test]
    fn a_configuration_that_others_can_write_is_a_failure() {
        let folder = ownership::tests::folder();
        let file = folder.path().join("rlogind.toml");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o602)).unwrap();
        let read = || {
            let mut report = Report::default();
            assert_eq!(read(&mut report, Some(&file)), None);
            let finding = &report.findings[0];
            (finding.to_string(), finding.mend.clone().unwrap())
        };
        let (shown, above) = (file.display(), folder.path().display());
        let text = "refused: writable by group or others (mode 0602)";
        let mend = format!("read {shown}; then: chown root {shown}; chmod go-w {shown}");
        assert_eq!(read(), (format!("FAIL  configuration  {shown}: {text}"), mend));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let text = format!("refused: the folder {above} is writable by group or others (mode 1777)");
        let mend = "put it into a folder that only root can write, such as /etc".to_owned();
        assert_eq!(read(), (format!("FAIL  configuration  {shown}: {text}"), mend));
    }

    #[test]
    fn banners_that_are_not_shown() {
        let folder = ownership::tests::folder();
        let file = folder.path().join("banner");
        let (path, shown) = (file.as_path(), file.display());
        let check = || report(|r| check_banner(r, path));
        let missing =
            format!("WARN  banner         {shown}: not shown: No such file or directory (os error 2)\n");
        assert_eq!(check(), (missing, true));
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(check(), (format!("WARN  banner         {shown}: not shown: not a regular file\n"), true));
        fs::remove_file(path).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o646)).unwrap();
        let writable = "not shown: writable by group or others (mode 0646)";
        assert_eq!(check(), (format!("WARN  banner         {shown}: {writable}\n"), true));
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(check(), (format!("ok    banner         {shown}\n"), true));
        // Where others can write, they can put any other file there, or a link to one.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o757)).unwrap();
        let open = format!(
            "not shown: the folder {} is writable by group or others (mode 0757)",
            folder.path().display()
        );
        assert_eq!(check(), (format!("WARN  banner         {shown}: {open}\n"), true));
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
    fn control_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let check = || report(|r| check_control_socket(r, &path)).0;
        assert_eq!(check(), "");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(check(), "");
        drop(socket);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(check().contains("is a directory: no administrator's command will work"), "{}", check());
    }

    #[test]
    fn relay_accounts() {
        let (text, serves) = report(|r| check_relay_account(r, "daemon"));
        assert!(text.starts_with("ok    relay account  daemon (uid ") && serves, "{text}");
        let stands_in = "; the relay runs as the unused user id ";
        for (name, problem) in [
            ("no-such-account", "account 'no-such-account' not found"),
            ("root", "account 'root' has the user or group id of root"),
            ("nobody", "account 'nobody' is shared with other programs, create one for the relay alone"),
        ] {
            let (text, serves) = report(|r| check_relay_account(r, name));
            assert!(
                text.starts_with(&format!("note  relay account  {problem}{stands_in}")) && serves,
                "{text}"
            );
        }
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
