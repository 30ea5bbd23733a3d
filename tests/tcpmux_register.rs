//! `rlogind tcpmux register|unregister|status` on configuration files as the packages and people have them.
//!
//! Some of it needs root: owners, root's links and a full disk.
#![allow(clippy::unwrap_used, clippy::panic, reason = "so a test fails")]

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;

use rlogind::tcpmux::{self, Entry, How, Named, Places, Superserver, Syntax};
use tempfile::TempDir;

mod safe_folder;

/// As a new installation has it, with a service or two switched on.
const INETD_CONF: &str = "\
# /etc/inetd.conf:  see inetd(8) for further information.
#
# <service_name> <sock_type> <proto> <flags> <user> <server_path> <args>

#:INTERNAL: Internal services
#discard\t\tstream\ttcp6\tnowait\troot\tinternal
daytime\t\tstream\ttcp\tnowait\troot\tinternal

#:STANDARD: These are standard services.
telnet\tstream\ttcp\tnowait\troot\t/usr/sbin/tcpd\t/usr/sbin/telnetd
#<off># login\tstream\ttcp\tnowait\troot\t/usr/sbin/tcpd\t/usr/sbin/in.rlogind
tcpmux/+date stream tcp nowait nobody /bin/date date

#:OTHER: Other services
";

const XINETD_ECHO: &str = "\
# default: off
# description: answers with what it gets
service echo
{
\tdisable\t\t= yes
\ttype\t\t= INTERNAL
\tid\t\t= echo-stream
\tsocket_type\t= stream
\tprotocol\t= tcp
\tuser\t\t= root
\twait\t\t= no
}                                                                               ";

const ENTRY: &str = "\
# BEGIN rlogind tcpmux
tcpmux/+login stream tcp nowait root /usr/sbin/rlogind rlogind inetd
tcpmux/+rlogin stream tcp nowait root /usr/sbin/rlogind rlogind inetd
# END rlogind tcpmux
";

const QUIETLY: How = How { reload: false, dry_run: false };
const RELOAD: How = How { reload: true, dry_run: false };
const DRY_RUN: How = How { reload: true, dry_run: true };

/// A system of its own, with nothing installed.
struct World {
    root: TempDir,
    places: Places,
}

impl World {
    fn new() -> Self {
        let root = safe_folder::new();
        let at = |name: &str| root.path().join(name);
        let superserver = |syntax, name: &str, config: &str| Superserver {
            syntax,
            program: at(name),
            config: at(config),
            pid_file: at(&format!("{name}.pid")),
        };
        let places = Places {
            inetd: superserver(Syntax::Inetd, "inetutils-inetd", "inetd.conf"),
            xinetd: superserver(Syntax::Xinetd, "xinetd", "xinetd.d"),
            port: Vec::new(),
        };
        Self { root, places }
    }

    fn with_inetd(conf: impl AsRef<[u8]>) -> Self {
        let world = Self::new();
        fs::write(&world.places.inetd.program, "").unwrap();
        fs::write(world.inetd_conf(), conf).unwrap();
        fs::set_permissions(world.inetd_conf(), Permissions::from_mode(0o644)).unwrap();
        world
    }

    fn with_xinetd(files: &[(&str, &str)]) -> Self {
        let world = Self::new();
        fs::write(&world.places.xinetd.program, "").unwrap();
        fs::create_dir(&world.places.xinetd.config).unwrap();
        for (name, text) in files {
            fs::write(world.places.xinetd.config.join(name), text).unwrap();
        }
        world
    }

    fn inetd_conf(&self) -> PathBuf {
        self.places.inetd.config.clone()
    }

    fn xinetd_file(&self) -> PathBuf {
        self.places.xinetd.config.join("rlogind-tcpmux")
    }

    fn conf(&self) -> Vec<u8> {
        fs::read(self.inetd_conf()).unwrap()
    }

    fn register(&self, how: How) -> Result<String, String> {
        self.register_as(&entry(&["login", "rlogin"]), Named::default(), how)
    }

    fn register_as(&self, entry: &Entry, named: Named<'_>, how: How) -> Result<String, String> {
        said(|out| tcpmux::register(named, entry, how, &self.places, out))
    }

    fn unregister(&self, how: How) -> Result<String, String> {
        said(|out| tcpmux::unregister(Named::default(), how, &self.places, out))
    }

    /// Whether all is well, and what was said.
    fn status(&self) -> (bool, String) {
        let mut out = Vec::new();
        let entry = entry(&["login", "rlogin"]);
        let well = tcpmux::status(Named::default(), &entry, &self.places, &mut out).unwrap();
        (well, String::from_utf8(out).unwrap())
    }

    /// Every file below, with what is in it.
    fn files(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        for directory in [self.root.path(), &self.places.xinetd.config] {
            let entries = fs::read_dir(directory).into_iter().flatten();
            let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            files.extend(paths.map(|path| (path.clone(), fs::read(path).unwrap())));
        }
        files.sort();
        files
    }
}

fn said(run: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<String, String> {
    let mut out = Vec::new();
    run(&mut out).map(|()| String::from_utf8(out).unwrap()).map_err(|error| error.to_string())
}

fn entry(services: &[&str]) -> Entry {
    let services: Vec<String> = services.iter().map(ToString::to_string).collect();
    Entry::new(Path::new("/usr/sbin/rlogind"), None, &services).unwrap()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[test]
fn inetd_conf_gets_the_entry_and_loses_it_again() {
    let world = World::with_inetd(INETD_CONF);
    let said = world.register(QUIETLY).unwrap();
    assert_eq!(said, format!("inetd: {}: registered login, rlogin\n", world.inetd_conf().display()));
    let registered = format!("{INETD_CONF}{ENTRY}");
    assert_eq!(world.conf(), registered.as_bytes());

    let before = fs::metadata(world.inetd_conf()).unwrap();
    let said = world.register(QUIETLY).unwrap();
    assert!(said.ends_with("inetd.conf: is registered already\n"), "{said}");
    assert_eq!(world.conf(), registered.as_bytes());
    assert_eq!(fs::metadata(world.inetd_conf()).unwrap().ino(), before.ino(), "written for nothing");

    // Another name replaces the entry where it stands.
    fs::write(world.inetd_conf(), format!("{registered}# behind it\n")).unwrap();
    world.register_as(&entry(&["shell"]), Named::default(), QUIETLY).unwrap();
    let conf = String::from_utf8(world.conf()).unwrap();
    assert!(conf.starts_with(INETD_CONF) && conf.ends_with("# END rlogind tcpmux\n# behind it\n"), "{conf}");
    assert_eq!(conf.matches("tcpmux/+").count(), 2, "{conf}");

    fs::write(world.inetd_conf(), &registered).unwrap();
    assert!(world.unregister(QUIETLY).unwrap().ends_with("inetd.conf: unregistered\n"));
    assert_eq!(world.conf(), INETD_CONF.as_bytes());
    assert!(world.unregister(QUIETLY).unwrap().ends_with("inetd.conf: nothing is registered\n"));
    assert_eq!(world.conf(), INETD_CONF.as_bytes());
}

#[test]
fn whatever_the_file_is_like_its_bytes_stay() {
    let crlf = INETD_CONF.replace('\n', "\r\n");
    let table: [&[u8]; 7] = [
        b"",
        b"\n",
        b"daytime stream tcp nowait root internal",
        crlf.as_bytes(),
        crlf.trim_end().as_bytes(),
        b"# \xe4\xff not UTF-8\n\n\n",
        b"#@ ipsec policy\n*:\ntcpmux stream tcp nowait root internal\n",
    ];
    for conf in table {
        let world = World::with_inetd(conf);
        world.register(QUIETLY).unwrap();
        let registered = world.conf();
        assert!(registered.starts_with(conf));
        let text = String::from_utf8_lossy(&registered).into_owned();
        // A line of its own, with nothing behind it that inetd would take for an argument's part.
        let line = "\ntcpmux/+login stream tcp nowait root /usr/sbin/rlogind rlogind inetd\n";
        assert_eq!(text.matches(line).count(), 1, "{text}");
        world.register(QUIETLY).unwrap();
        assert_eq!(world.conf(), registered);
        world.unregister(QUIETLY).unwrap();
        assert_eq!(world.conf(), conf);
    }
}

#[test]
fn owner_and_mode_stay() {
    let world = World::with_inetd(INETD_CONF);
    let conf = world.inetd_conf();
    if is_root() {
        chown(&conf, None, Some(34)).unwrap();
    }
    fs::set_permissions(&conf, Permissions::from_mode(0o640)).unwrap();
    let kept = |path: &Path| {
        let data = fs::metadata(path).unwrap();
        (data.uid(), data.gid(), data.mode())
    };
    let before = kept(&conf);
    world.register(QUIETLY).unwrap();
    assert_eq!(kept(&conf), before);
    world.unregister(QUIETLY).unwrap();
    assert_eq!(kept(&conf), before);
}

/// Whoever can write it has a superserver start what they like, as root.
#[test]
fn a_file_that_others_can_write_is_refused() {
    let world = World::with_inetd(INETD_CONF);
    let conf = world.inetd_conf();
    let refused = |why: &str| {
        let expected = format!("{}: refused: {why}", conf.display());
        for result in [world.register(QUIETLY), world.register(DRY_RUN), world.unregister(QUIETLY)] {
            assert_eq!(result.unwrap_err(), expected);
        }
        assert_eq!(world.conf(), INETD_CONF.as_bytes());
    };
    fs::set_permissions(&conf, Permissions::from_mode(0o646)).unwrap();
    refused("writable by group or others (mode 0646)");
    if is_root() {
        fs::set_permissions(&conf, Permissions::from_mode(0o664)).unwrap();
        chown(&conf, None, Some(34)).unwrap();
        refused("writable by group or others (mode 0664)");
        fs::set_permissions(&conf, Permissions::from_mode(0o644)).unwrap();
        chown(&conf, Some(12), None).unwrap();
        refused("owned by user 12, not by root");
    }
}

#[test]
fn xinetd_gets_a_file_of_ours() {
    let world = World::with_xinetd(&[("echo", XINETD_ECHO)]);
    let before = world.files();
    world.register(QUIETLY).unwrap();
    let text = fs::read_to_string(world.xinetd_file()).unwrap();
    assert_eq!(fs::metadata(world.xinetd_file()).unwrap().mode() & 0o7777, 0o644);
    for name in ["tcpmux", "login", "rlogin"] {
        assert_eq!(text.matches(&format!("service {name}\n{{\n")).count(), 1, "{text}");
    }
    assert_eq!(text.matches("type = TCPMUX UNLISTED\n").count(), 2);
    assert_eq!(text.matches("server_args = rlogind inetd --tcpmux-reply\n").count(), 2);
    assert!(!text.contains("TCPMUXPLUS"));

    assert!(world.register(QUIETLY).unwrap().ends_with("is registered already\n"));
    assert_eq!(fs::read_to_string(world.xinetd_file()).unwrap(), text);
    world.unregister(QUIETLY).unwrap();
    assert_eq!(world.files(), before);

    // What somebody has added to our file is theirs.
    fs::write(world.xinetd_file(), format!("# theirs\n{text}")).unwrap();
    world.unregister(QUIETLY).unwrap();
    assert_eq!(fs::read(world.xinetd_file()).unwrap(), b"# theirs\n");
}

#[test]
fn xinetds_own_tcpmux_is_switched_on_once() {
    let tcpmux =
        |disable: &str| format!("service tcpmux\n{{\n\ttype = INTERNAL\n\tdisable = {disable}\n}}\n");
    for (name, disable, ours) in [
        ("tcpmux-server", "no", 0),
        ("tcpmux-server", "yes", 1),
        // xinetd does not read these.
        ("tcpmux.dpkg-old", "no", 1),
        ("tcpmux~", "no", 1),
        ("../xinetd.conf", "no", 0),
    ] {
        let world = World::with_xinetd(&[("echo", XINETD_ECHO), (name, &tcpmux(disable))]);
        world.register(QUIETLY).unwrap();
        let text = fs::read_to_string(world.xinetd_file()).unwrap();
        assert_eq!(text.matches("service tcpmux\n").count(), ours, "{name} {disable}");
    }
}

#[test]
fn an_entry_that_is_not_ours_is_never_doubled() {
    for service in ["tcpmux/+login", "tcpmux/LOGIN", "*:tcpmux/rlogin"] {
        let world = World::with_inetd(format!("{INETD_CONF}{service}\tstream tcp nowait root /x x\n"));
        let before = world.files();
        let error = world.register(QUIETLY).unwrap_err();
        assert!(error.starts_with(&world.inetd_conf().display().to_string()), "{error}");
        assert!(error.contains("that is not ours"), "{error}");
        assert_eq!(world.files(), before);
    }
    let section = |kind: &str, disable: &str| {
        format!("service login\n{{\n\ttype = {kind}\n\tdisable = {disable}\n}}\n")
    };
    for (text, refused) in [
        (section("TCPMUX", "no"), true),
        (section("TCPMUXPLUS UNLISTED", "no"), true),
        (section("UNLISTED\n\ttype += TCPMUX", "no"), true),
        (section("TCPMUX", "yes"), false),
        // rlogin on a port of its own is no hindrance.
        (section("UNLISTED", "no"), false),
    ] {
        let world = World::with_xinetd(&[("login", &text)]);
        assert_eq!(world.register(QUIETLY).is_err(), refused, "{text}");
        assert_eq!(world.xinetd_file().exists(), !refused);
    }
}

/// Something else than an inetd.conf or xinetd's directory was named, by a slip.
#[test]
fn what_is_no_configuration_of_a_superserver_is_refused_and_left_alone() {
    let said = |world: &World, arguments: [&str; 3]| {
        let before = world.files();
        let mut told = Vec::new();
        for (command, more) in [
            ("register", ["--no-reload"].as_slice()),
            ("register", &["--dry-run"]),
            ("unregister", &["--no-reload"]),
            ("status", &[]),
        ] {
            let [option, path, _] = arguments;
            let output = rlogind(&[&["tcpmux", command, option, path], more].concat());
            assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
            told.push(String::from_utf8(output.stderr).unwrap());
        }
        assert_eq!(world.files(), before);
        for told in told {
            assert!(told.starts_with(&format!("rlogind: {}", arguments[1])), "{told}");
            assert!(told.contains(arguments[2]), "{told}");
        }
    };
    for (text, why) in [
        ("root:x:0:0:root:/root:/bin/bash\n", ": line 1 is no line of an inetd.conf"),
        ("# rlogind\n[limits]\nsessions = 7\n", ": line 2 is no line of an inetd.conf"),
        ("\u{7f}ELF\u{2}\u{1}\0\0 \0\n", ": line 1 is no line of an inetd.conf"),
        (XINETD_ECHO, "it is a file of xinetd's, whose directory goes with --xinetd-dir"),
        ("root:x:0:\ndaemon:x:1:\n", ": it has less than these six words"),
        ("root:*::\ndaemon:*::\n", ": it has less than these six words"),
        ("services:\nnetworks:\n", ": line 1 is no line"),
        ("# \0\n", ": it has a control character"),
        ("video stream file.mp4\n", ": it has less than these six words"),
        ("login stream xyz nowait root /x\n", ": \"xyz\" is no protocol"),
    ] {
        let world = World::with_inetd(text);
        said(&world, ["--inetd-conf", world.inetd_conf().to_str().unwrap(), why]);
    }
    let world = World::with_xinetd(&[("sshd", "auth required pam_unix.so\n"), ("other", "# nothing\n")]);
    let directory = world.places.xinetd.config.clone();
    let directory = directory.to_str().unwrap();
    said(&world, ["--xinetd-dir", directory, ": not xinetd's directory: none of its files has a section"]);
    said(&world, ["--inetd-conf", directory, ": not a regular file"]);
    // Nor is one that has only what xinetd does not read.
    let other = |name: &str| World::with_xinetd(&[(name, "a = 1\n")]);
    for world in [other("a.toml"), other(".hidden"), other("a~"), {
        let world = World::with_xinetd(&[]);
        fs::create_dir(world.places.xinetd.config.join("folder")).unwrap();
        world
    }] {
        let directory = world.places.xinetd.config.clone();
        said(
            &world,
            ["--xinetd-dir", directory.to_str().unwrap(), ": not xinetd's directory: none of its files"],
        );
    }
    said(&world, ["--xinetd-dir", "/dev", ": not xinetd's directory: none of its files has a section"]);
    let missing = world.root.path().join("missing");
    said(&world, ["--inetd-conf", missing.to_str().unwrap(), ": there is no such file"]);
    said(&world, ["--xinetd-dir", missing.to_str().unwrap(), ": there is no such directory"]);
    let file = world.places.xinetd.config.join("sshd");
    said(&world, ["--xinetd-dir", file.to_str().unwrap(), "Not a directory"]);
    let fifo = world.root.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    said(&world, ["--inetd-conf", fifo.to_str().unwrap(), ": not a regular file"]);
    // One that is astray among xinetd's is nothing to us.
    let world = World::with_xinetd(&[("echo", XINETD_ECHO), ("README", "read me\n")]);
    world.register(QUIETLY).unwrap();
    // A directory is xinetd's when its configuration says so, and may be when it is empty.
    World::with_xinetd(&[]).register(QUIETLY).unwrap();
    let world = World::with_xinetd(&[("a.toml", "a = 1\n")]);
    let conf = world.root.path().join("xinetd.conf");
    for (directory, is_fine) in [("/etc", false), (world.places.xinetd.config.to_str().unwrap(), true)] {
        fs::write(&conf, format!("defaults\n{{\n}}\n\nincludedir {directory}\n")).unwrap();
        assert_eq!(world.register(QUIETLY).is_ok(), is_fine, "{directory}");
    }
    // What is ours can be taken out of whatever it stands in.
    let world = World::with_inetd(format!("nonsense\n{ENTRY}"));
    world.unregister(QUIETLY).unwrap();
    assert_eq!(world.conf(), b"nonsense\n");
}

/// The second one of two is wrong: the first is not changed either.
#[test]
fn of_two_superservers_none_is_changed_when_one_cannot_be() {
    let world = World::with_inetd(INETD_CONF);
    fs::write(&world.places.xinetd.program, "").unwrap();
    let before = world.files();
    assert!(world.register(QUIETLY).unwrap_err().ends_with("xinetd.d: there is no such directory"));
    assert_eq!(world.files(), before);
}

#[test]
fn a_live_service_under_our_files_name_is_not_doubled() {
    let section = |disable: &str| {
        format!(
            "service login\n{{\n\ttype = TCPMUX UNLISTED\n\tserver = /usr/sbin/other\n\tdisable = {disable}\n}}\n"
        )
    };
    let world = World::with_xinetd(&[("rlogind-tcpmux", &section("no"))]);
    let before = world.files();
    let error = world.register(QUIETLY).unwrap_err();
    assert!(
        error.ends_with(
            "rlogind-tcpmux: has a TCPMUX service login that is not ours: take one of the two out"
        ),
        "{error}"
    );
    assert_eq!(world.files(), before);
    let world = World::with_xinetd(&[("rlogind-tcpmux", &section("yes"))]);
    world.register(QUIETLY).unwrap();
    world.register(QUIETLY).unwrap();
    let text = fs::read_to_string(world.xinetd_file()).unwrap();
    assert!(text.starts_with(&section("yes")) && text.matches("service login\n").count() == 2, "{text}");
    // A multiplexer of theirs in it counts as well.
    let world = World::with_xinetd(&[(
        "rlogind-tcpmux",
        "service tcpmux\n{\n\ttype = INTERNAL\n\tdisable = no\n}\n",
    )]);
    world.register(QUIETLY).unwrap();
    assert_eq!(fs::read_to_string(world.xinetd_file()).unwrap().matches("service tcpmux\n").count(), 1);
    // And what is no file of xinetd's is not added to.
    let world = World::with_xinetd(&[("rlogind-tcpmux", "nonsense\n"), ("echo", XINETD_ECHO)]);
    let error = world.register(QUIETLY).unwrap_err();
    assert!(error.ends_with("rlogind-tcpmux: it is there and is no file of xinetd's"), "{error}");
}

#[test]
fn markers_that_make_no_block_change_nothing() {
    let world = World::with_inetd(format!("{INETD_CONF}# BEGIN rlogind tcpmux\n"));
    let before = world.files();
    let line = INETD_CONF.lines().count() + 1;
    let expected = format!("{}: line {line}: ", world.inetd_conf().display());
    for error in [world.register(QUIETLY), world.unregister(QUIETLY)].map(Result::unwrap_err) {
        assert!(error.starts_with(&expected), "{error}");
    }
    assert_eq!(world.files(), before);
}

#[test]
fn links_are_followed_only_when_root_owns_them() {
    let world = World::with_inetd(INETD_CONF);
    let real = world.root.path().join("real");
    fs::rename(world.inetd_conf(), &real).unwrap();
    symlink("real", world.inetd_conf()).unwrap();
    if is_root() {
        world.register(QUIETLY).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), format!("{INETD_CONF}{ENTRY}"));
        assert_eq!(fs::read_link(world.inetd_conf()).unwrap(), Path::new("real"));
        world.unregister(QUIETLY).unwrap();
        lchown(world.inetd_conf(), Some(1), Some(1)).unwrap();
    }
    for error in [world.register(QUIETLY), world.unregister(QUIETLY)].map(Result::unwrap_err) {
        assert!(error.contains("inetd.conf: a symbolic link that is not root's"), "{error}");
    }
    assert_eq!(fs::read_to_string(&real).unwrap(), INETD_CONF);
}

/// Whoever can write one of them can put another file, or a link, in the place of what was read.
#[test]
fn a_folder_that_others_can_write_is_refused() {
    let inetd = World::with_inetd(INETD_CONF);
    let xinetd = World::with_xinetd(&[("echo", XINETD_ECHO)]);
    let refused = |world: &World, file: &Path, folder: &Path| {
        let before = world.files();
        fs::set_permissions(folder, Permissions::from_mode(0o1777)).unwrap();
        let expected = format!(
            "{}: refused: the folder {} is writable by group or others (mode 1777): let only root own and write \
             that folder, or keep the file in another one",
            file.display(),
            fs::canonicalize(folder).unwrap().display()
        );
        for result in [world.register(QUIETLY), world.register(DRY_RUN), world.unregister(QUIETLY)] {
            assert_eq!(result.unwrap_err(), expected);
        }
        assert_eq!(world.files(), before);
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    };
    refused(&inetd, &inetd.inetd_conf(), inetd.root.path());
    // The file is not there yet: it would be made in that folder, or in one below it.
    refused(&xinetd, &xinetd.xinetd_file(), &xinetd.places.xinetd.config);
    refused(&xinetd, &xinetd.xinetd_file(), xinetd.root.path());
    // Where a link of root's leads, and where it stands.
    let (real, link) = (inetd.root.path().join("real"), inetd.root.path().join("links"));
    fs::create_dir(&real).unwrap();
    fs::create_dir(&link).unwrap();
    fs::rename(inetd.inetd_conf(), real.join("inetd.conf")).unwrap();
    symlink("../real/inetd.conf", link.join("inetd.conf")).unwrap();
    symlink("links/inetd.conf", inetd.inetd_conf()).unwrap();
    refused(&inetd, &inetd.inetd_conf(), &real);
    refused(&inetd, &inetd.inetd_conf(), &link);
    if is_root() {
        inetd.register(QUIETLY).unwrap();
        let registered = fs::read_to_string(real.join("inetd.conf")).unwrap();
        assert_eq!(registered, format!("{INETD_CONF}{ENTRY}"));
        xinetd.register(QUIETLY).unwrap();
        // A folder's link counts like the file's own.
        fs::rename(&xinetd.places.xinetd.config, xinetd.root.path().join("real.d")).unwrap();
        symlink("real.d", &xinetd.places.xinetd.config).unwrap();
        xinetd.unregister(QUIETLY).unwrap();
        lchown(&xinetd.places.xinetd.config, Some(1), Some(1)).unwrap();
        let error = xinetd.register(QUIETLY).unwrap_err();
        assert!(error.contains("xinetd.d: a symbolic link that is not root's"), "{error}");
    }
}

#[test]
fn a_dry_run_prints_the_difference_and_changes_nothing() {
    let world = World::with_inetd(INETD_CONF);
    let mut other = start_as(&world, "inetutils-inetd");
    fs::write(&world.places.inetd.pid_file, other.0.id().to_string()).unwrap();
    let before = world.files();
    let said = world.register(DRY_RUN).unwrap();
    let added: String =
        said.lines().filter_map(|line| line.strip_prefix('+')).skip(1).map(|l| format!("{l}\n")).collect();
    assert_eq!(added, ENTRY);
    assert!(said.contains("\n tcpmux/+date stream tcp nowait nobody /bin/date date\n"), "{said}");
    assert_eq!(world.files(), before);

    world.register(QUIETLY).unwrap();
    let before = world.files();
    let said = world.unregister(DRY_RUN).unwrap();
    assert_eq!(
        said.lines().filter(|line| line.starts_with('-')).count(),
        1 + ENTRY.lines().count(),
        "{said}"
    );
    assert_eq!(world.files(), before);
    assert!(other.is_alive(), "it was told");

    let world = World::with_xinetd(&[]);
    assert!(world.register(DRY_RUN).unwrap().contains("\n@@ -0,0 +1,"));
    assert!(!world.xinetd_file().exists());
}

/// A process that does nothing, and that a hangup ends; it does not outlast the test.
struct Sleeper(Child);

impl Sleeper {
    fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process whose executable has this name.
fn start_as(world: &World, name: &str) -> Sleeper {
    let program = world.root.path().join(name);
    // Not by ourselves: a test in another thread that starts a process just then would hand it the descriptor we
    // write through, and a file that is open for writing cannot be executed.
    let copied = Command::new("cp").args(["--remove-destination", "/bin/sleep"]).arg(&program).status();
    assert!(copied.unwrap().success());
    Sleeper(Command::new(program).arg("600").spawn().unwrap())
}

#[test]
fn the_superserver_is_told_and_nobody_else() {
    const SIGHUP: i32 = 1;
    for name in ["inetutils-inetd", "inetd"] {
        let world = World::with_inetd(INETD_CONF);
        let mut process = start_as(&world, name);
        let pid = process.0.id();
        fs::write(&world.places.inetd.pid_file, format!("{pid}\n")).unwrap();
        world.register(QUIETLY).unwrap();
        assert!(world.register(RELOAD).unwrap().ends_with("is registered already\n"));
        assert!(process.is_alive(), "{name} was told without need");
        let said = world.unregister(RELOAD).unwrap();
        assert!(said.ends_with(&format!("inetd: process {pid} reads its configuration again\n")), "{said}");
        assert_eq!(process.0.wait().unwrap().signal(), Some(SIGHUP));
    }

    let world = World::with_inetd(INETD_CONF);
    let mut stranger = start_as(&world, "stranger");
    fs::write(&world.places.inetd.pid_file, stranger.0.id().to_string()).unwrap();
    let said = world.register(RELOAD).unwrap();
    assert!(
        said.contains(&format!("names {}, which is stranger; nobody was told", stranger.0.id())),
        "{said}"
    );
    assert!(stranger.is_alive());

    for content in ["", "0", "-1", "1", "x"] {
        fs::write(&world.places.inetd.pid_file, content).unwrap();
        world.unregister(QUIETLY).unwrap();
        let said = world.register(RELOAD).unwrap();
        assert!(said.contains("inetd: not running"), "{content:?}: {said}");
    }
}

#[test]
fn without_a_name_it_is_what_is_installed() {
    let nothing = World::new();
    let error = nothing.register(QUIETLY).unwrap_err();
    assert!(error.contains("--inetd-conf or --xinetd-dir"), "{error}");
    let said = nothing.unregister(QUIETLY).unwrap();
    assert_eq!(said, "no superserver's configuration found: nothing is registered\n");

    // A file alone is no superserver: another inetd may have left it.
    let world = World::with_xinetd(&[]);
    fs::write(world.inetd_conf(), INETD_CONF).unwrap();
    let said = world.register(QUIETLY).unwrap();
    assert!(said.starts_with("xinetd: ") && said.lines().count() == 1, "{said}");
    assert_eq!(world.conf(), INETD_CONF.as_bytes());

    // Where one is named, it is that one.
    let conf = world.inetd_conf();
    let named = Named { inetd_conf: Some(&conf), xinetd_dir: None };
    fs::remove_file(world.xinetd_file()).unwrap();
    world.register_as(&entry(&["login"]), named, QUIETLY).unwrap();
    assert!(!world.xinetd_file().exists() && world.conf().ends_with(b"# END rlogind tcpmux\n"));

    // An inetd that was just installed may have no file yet.
    let fresh = World::with_inetd("");
    fs::remove_file(fresh.inetd_conf()).unwrap();
    fresh.register(QUIETLY).unwrap();
    assert_eq!(fresh.conf(), ENTRY.as_bytes());
    assert_eq!(fs::metadata(fresh.inetd_conf()).unwrap().mode() & 0o7777, 0o644);

    // It is taken out of wherever it is.
    world.register(QUIETLY).unwrap();
    fs::remove_file(&world.places.xinetd.program).unwrap();
    assert_eq!(world.unregister(QUIETLY).unwrap().matches(": unregistered\n").count(), 2);
    assert_eq!(world.conf(), INETD_CONF.as_bytes());

    // Nothing is made where nothing was.
    let missing = world.root.path().join("missing");
    for named in [
        Named { inetd_conf: Some(&missing), xinetd_dir: None },
        Named { inetd_conf: None, xinetd_dir: Some(&missing) },
    ] {
        let error = world.register_as(&entry(&["login"]), named, QUIETLY).unwrap_err();
        assert!(error.starts_with(&format!("{}: there is no such", missing.display())), "{error}");
    }
    assert!(!missing.exists());
}

#[test]
fn status_tells_the_entry_and_the_port() {
    let mut world = World::with_inetd(INETD_CONF);
    let conf = world.inetd_conf().display().to_string();
    let (well, said) = world.status();
    let expected = format!("inetd: {conf}: not registered\nxinetd: not there\nport 1: nobody answers");
    assert!(!well && said.starts_with(&expected), "{said}");

    world.register(QUIETLY).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.places.port = vec![nobody, listener.local_addr().unwrap()];
    let server = thread::spawn(move || {
        let (mut stream, _): (_, SocketAddr) = listener.accept().unwrap();
        let mut request = [0; 6];
        std::io::Read::read_exact(&mut stream, &mut request).unwrap();
        stream.write_all(b"rlogin\r\nlogin\r\n").unwrap();
    });
    let (well, said) = world.status();
    server.join().unwrap();
    assert!(well, "{said}");
    assert!(said.starts_with(&format!("inetd: {conf}: registered, and current\n")), "{said}");
    assert!(said.ends_with("\nport 1: answers, and offers rlogin, login\n"), "{said}");

    world.register_as(&entry(&["login"]), Named::default(), QUIETLY).unwrap();
    let (well, said) = world.status();
    assert!(!well && said.contains("registered, but not as it would be now"), "{said}");

    let xinetd = World::with_xinetd(&[]);
    assert!(xinetd.status().1.contains("rlogind-tcpmux: not registered\n"));
    xinetd.register(QUIETLY).unwrap();
    let (well, said) = xinetd.status();
    assert!(well && said.contains("rlogind-tcpmux: registered, and current\n"), "{said}");
}

fn rlogind(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rlogind")).args(arguments).output().unwrap()
}

#[test]
fn the_command_writes_its_own_path_and_the_configurations() {
    let world = World::with_inetd(INETD_CONF);
    let folder = safe_folder::new();
    let (conf, config) = (world.inetd_conf(), folder.path().join("rlogind.toml"));
    fs::write(&config, "[tcpmux]\nservices = [\"remote-login\"]\n").unwrap();
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    let (conf, config) = (conf.to_str().unwrap(), config.to_str().unwrap());
    let named = ["--inetd-conf", conf, "--config", config];
    let output = rlogind(&[&["tcpmux", "register", "--no-reload"], &named[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let program = fs::canonicalize(env!("CARGO_BIN_EXE_rlogind")).unwrap();
    let line = format!(
        "tcpmux/+remote-login stream tcp nowait root {} rlogind inetd --config {config}\n",
        program.display()
    );
    let text = String::from_utf8(world.conf()).unwrap();
    assert!(text.contains(&line), "{text}");

    let output = rlogind(&[&["tcpmux", "status"], &named[..]].concat());
    assert!(output.status.success(), "{output:?}");
    let output = rlogind(&["tcpmux", "status", "--inetd-conf", conf]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = rlogind(&["tcpmux", "unregister", "--no-reload", "--inetd-conf", conf]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(world.conf(), INETD_CONF.as_bytes());
}

/// With a file system of its own, in a mount namespace of its own.
#[test]
fn a_full_disk_costs_nothing() {
    if !is_root() {
        return;
    }
    let directory = safe_folder::new();
    let script = "mount -t tmpfs -o size=12k,mode=755 tmpfs \"$1\" && cd \"$1\" && \
                  head -c 8192 /dev/zero | tr '\\0' '#' > inetd.conf && cp inetd.conf \"$2\" && \
                  \"$0\" tcpmux register --no-reload --inetd-conf \"$1\"/inetd.conf; \
                  echo \"status $?\"; cmp inetd.conf \"$2\" && ls -A";
    let copy = tempfile::NamedTempFile::new().unwrap();
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script, env!("CARGO_BIN_EXE_rlogind")])
        .args([directory.path(), copy.path()])
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout, "status 1\ninetd.conf\n", "{stderr}");
    let expected = format!("rlogind: {}/inetd.conf: cannot write ", directory.path().display());
    assert!(stderr.starts_with(&expected) && stderr.contains("No space left on device"), "{stderr}");
}
