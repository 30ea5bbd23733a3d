//! `rlogind doctor` on machines that are broken for real.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::accounts::ALICE;
use crate::daemon::PROGRAM;
use crate::peer::{Peer, handshake};
use crate::superserver::{Kind, Superserver};
use crate::world::world;

fn doctor(config: &str, arguments: &[&str]) -> Output {
    fs::write("/etc/rlogind.toml", config).unwrap();
    Command::new(PROGRAM).arg("doctor").args(arguments).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The line that begins so, and what mends it.
fn finding(told: &str, verdict: &str, what: &str) -> (String, String) {
    let beginning = format!("{verdict:<4}  {what:<13}  ");
    let mut lines = told.lines().skip_while(|line| !line.starts_with(&beginning));
    let line = lines.next().unwrap_or_else(|| panic!("no {beginning:?} in {told}"));
    let mend = lines.next().and_then(|line| line.strip_prefix("      → ")).unwrap_or_default();
    (line[beginning.len()..].to_owned(), mend.to_owned())
}

#[test]
fn a_machine_that_is_well_has_no_complaint() {
    world(|world| {
        let daemon = world.serve("");
        let output = doctor("", &["--client", "127.0.0.2"]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        assert!(!told.contains("FAIL  ") && !told.contains("WARN  "), "{told}");
        assert_eq!(finding(&told, "ok", "daemon").0, format!("runs (pid {})", daemon.pid()));
        assert_eq!(
            finding(&told, "ok", "client").0,
            "127.0.0.2: is trusted.example.net, and trusted.example.net is 127.0.0.2"
        );
        assert_eq!(finding(&told, "ok", "syslog").0, "somebody reads /dev/log");
        assert!(told.ends_with("Nothing is wrong.\n"), "{told}");
        // It has asked the daemon nothing and told syslog nothing.
        assert!(!world.audit.text().contains("event=\"connection\""), "{}", world.audit.text());
    });
}

#[test]
fn a_port_that_another_program_has_is_a_failure_with_its_name() {
    world(|_world| {
        let _listener = TcpListener::bind("0.0.0.0:513").unwrap();
        let output = doctor("listen = [\"0.0.0.0:513\"]\n", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let (text, mend) = finding(&told(&output), "FAIL", "listen");
        let pid = std::process::id();
        assert!(
            text.starts_with("0.0.0.0:513: in use by ") && text.contains(&format!("(pid {pid})")),
            "{text}"
        );
        assert!(mend.starts_with("end ") && mend.contains(&format!("(pid {pid})")), "{mend}");
        finding(&told(&output), "WARN", "daemon");
    });
}

#[test]
fn an_entry_of_inetd_for_another_server_is_found() {
    world(|_world| {
        fs::write("/etc/inetd.conf", "login stream tcp nowait root /usr/sbin/tcpd /usr/sbin/no.rlogind\n")
            .unwrap();
        let (text, mend) = finding(&told(&doctor("", &[])), "WARN", "superserver");
        assert!(text.starts_with("/etc/inetd.conf:1: another rlogin server's entry"), "{text}");
        assert_eq!(mend, "put a # before line 1 of /etc/inetd.conf, and reload inetd");
        let ours = "login stream tcp nowait root /mnt/in.rlogind in.rlogind -a\n";
        fs::write("/etc/inetd.conf", ours).unwrap();
        let (text, _) = finding(&told(&doctor("", &[])), "note", "superserver");
        assert!(text.starts_with("/etc/inetd.conf:1: would start rlogind"), "{text}");
    });
}

#[test]
fn lines_for_tcpd_are_translated_and_apply_when_they_are_written() {
    world(|world| {
        fs::write("/etc/hosts.allow", "sshd: ALL\nin.rlogind: 127.0.0.2, \\\n .example.org\n").unwrap();
        fs::write("/etc/hosts.deny", "# everybody else\nALL: ALL\n").unwrap();
        let before = told(&doctor("", &[]));
        let (text, mend) = finding(&before, "WARN", "tcp wrappers");
        let places = "/etc/hosts.allow:2, /etc/hosts.deny:2 are about rlogin, and rlogind does not read them";
        assert_eq!(text, places);
        assert_eq!(mend, "in rlogind.toml: `allow = [\"127.0.0.2\"]` and `deny = []`");
        let name = "/etc/hosts.allow:2: not translated: .example.org (a domain): clients that it lets in would be shut out";
        assert!(before.contains(name), "{before}");

        fs::write("/etc/hosts.allow", "in.rlogind: 127.0.0.2\n").unwrap();
        let lines = mend.trim_start_matches("in rlogind.toml: ").trim_matches('`').replace("` and `", "\n");
        let after = told(&doctor(&lines, &[]));
        let ok = "/etc/hosts.allow:1, /etc/hosts.deny:2 say what allow and deny say";
        assert_eq!(finding(&after, "ok", "tcp wrappers").0, ok);
        let _daemon = world.serve(&lines);
        let mut peer = Peer::connect_from([127, 0, 0, 2].into());
        peer.send(handshake("nobody", "alice", "vt100/38400"));
        peer.expect("Password: ");
        Peer::connect().expect("Permission denied");
    });
}

#[test]
fn a_superserver_that_starts_rlogind_may_have_the_port() {
    world(|_world| {
        let Some(_server) = Superserver::rlogin(Kind::Inetutils, &["-a"]) else { return };
        let output = doctor("listen = [\"0.0.0.0:513\"]\n", &[]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        let (text, _) = finding(&told, "note", "listen");
        assert!(
            text.contains("in use by inetutils-inetd (pid ") && text.ends_with("which starts rlogind"),
            "{text}"
        );
        assert_eq!(finding(&told, "ok", "daemon").0, "does not run; it is started for those who connect");
        let ours = "/etc/inetd.conf:1: starts rlogind for each connection";
        assert_eq!(finding(&told, "ok", "superserver").0, ours);
    });
}

#[test]
fn a_superserver_that_starts_another_server_may_not() {
    world(|_world| {
        let entry = "login stream tcp nowait root /bin/false false\n";
        let Some(_server) = Superserver::start(Kind::Openbsd, entry, 513) else { return };
        let output = doctor("listen = [\"0.0.0.0:513\"]\n", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        finding(&told(&output), "FAIL", "listen");
        let (text, mend) = finding(&told(&output), "FAIL", "superserver");
        assert_eq!(text, "/etc/inetd.conf:1: another rlogin server's entry has the port");
        assert_eq!(mend, "put a # before line 1 of /etc/inetd.conf, and reload inetd");
    });
}

#[test]
fn pam_without_its_file_and_with_pam_rhosts() {
    world(|_world| {
        let rlogin = fs::read_to_string("/etc/pam.d/rlogin").unwrap();
        fs::write(
            "/etc/pam.d/rlogin",
            format!("auth sufficient pam_rhosts.so\nauth required pam_nosuch.so\n{rlogin}"),
        )
        .unwrap();
        let output = doctor("", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let (text, mend) = finding(&told(&output), "WARN", "PAM");
        assert!(text.starts_with("/etc/pam.d/rlogin:1: pam_rhosts.so"), "{text}");
        assert!(mend.starts_with("take /etc/pam.d/rlogin:1 out"), "{mend}");
        let (text, _) = finding(&told(&output), "FAIL", "PAM");
        assert!(text.starts_with("/etc/pam.d/rlogin:2: there is no module pam_nosuch.so"), "{text}");

        fs::remove_file("/etc/pam.d/rlogin").unwrap();
        let (text, mend) = finding(&told(&doctor("", &[])), "note", "PAM service");
        assert!(
            text.contains("/etc/pam.d/login stands in") && mend.starts_with("write /etc/pam.d/rlogin"),
            "{text}"
        );
        fs::remove_file("/etc/pam.d/login").unwrap();
        assert_eq!(doctor("", &[]).status.code(), Some(1));
    });
}

#[test]
fn files_that_others_can_write_are_named_with_the_mend() {
    world(|world| {
        world.write_for(ALICE, "/home/alice/.rhosts", "trusted\n");
        fs::set_permissions("/home/alice/.rhosts", fs::Permissions::from_mode(0o664)).unwrap();
        let (text, mend) = finding(&told(&doctor("", &[])), "WARN", "trust files");
        assert!(text.starts_with("/home/alice/.rhosts: not believed: its mode 0664"), "{text}");
        assert_eq!(mend, "read /home/alice/.rhosts; then: chmod go-w /home/alice/.rhosts");
        fs::set_permissions("/home/alice/.rhosts", fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(
            finding(&told(&doctor("", &[])), "ok", "trust files").0,
            "nothing is wrong in the 1 that exist"
        );
    });
}

#[test]
fn what_clients_miss_is_told() {
    world(|_world| {
        fs::write("/etc/services", "who 513/udp\n").unwrap();
        fs::write("/etc/nologin", "").unwrap();
        fs::remove_file("/var/log/wtmp").unwrap();
        let config = "deny = [\"127.0.0.9\"]\n[login]\nconfirm_host = true\n";
        let output = doctor(config, &["--client", "127.0.0.9"]);
        let told = told(&output);
        assert_eq!(output.status.code(), Some(1), "{told}");
        finding(&told, "WARN", "services");
        finding(&told, "note", "nologin");
        assert_eq!(finding(&told, "FAIL", "client").0, "127.0.0.9: may not connect");
        assert!(told.contains("; login.confirm_host refuses it\n"), "{told}");
        assert!(finding(&told, "note", "login records").0.starts_with("there is no /var/log/wtmp"), "{told}");
    });
}

#[test]
fn a_syslog_that_nobody_reads_is_told() {
    world(|_world| {
        fs::remove_file("/dev/log").unwrap();
        assert!(finding(&told(&doctor("", &[])), "WARN", "syslog").0.starts_with("/dev/log: "));
    });
}

#[test]
fn a_daemon_whose_executable_was_replaced_or_that_listens_elsewhere_is_told() {
    world(|_world| {
        fs::copy(PROGRAM, "/tmp/rlogind").unwrap();
        let _daemon = crate::daemon::Daemon::start_copy("/tmp/rlogind", "listen = [\"127.0.0.1:513\"]\n");
        fs::copy(PROGRAM, "/tmp/new").unwrap();
        fs::rename("/tmp/new", "/tmp/rlogind").unwrap();
        let told = told(&doctor("listen = [\"127.0.0.1:513\", \"127.0.0.1:5130\"]\n", &[]));
        let (text, mend) = finding(&told, "WARN", "daemon");
        assert!(text.ends_with("runs an executable that was replaced since"), "{text}");
        assert!(mend.starts_with("rlogind upgrade: "), "{mend}");
        assert!(told.contains("does not listen on 127.0.0.1:5130"), "{told}");
    });
}

#[test]
fn a_wrong_configuration_is_told_with_the_rest_and_json_has_it_all() {
    world(|_world| {
        let output = doctor("[login]\nattempts = 0\n", &["--json"]);
        assert_eq!(output.status.code(), Some(1), "{}", told(&output));
        let told = told(&output);
        let first = "[\n  {\n    \"verdict\": \"fail\",\n    \"what\": \"configuration\",\n    \"text\": \
                     \"/etc/rlogind.toml:2: login.attempts";
        assert!(told.starts_with(first) && told.ends_with("]\n"), "{told}");
        for what in ["daemon", "kernel"] {
            assert!(told.contains(&format!("\"what\": \"{what}\"")), "{what} in {told}");
        }
    });
}

/// What doctor and check read by its path, and what of it they say when it is no file.
#[test]
fn nothing_that_is_read_by_its_path_is_waited_for_or_taken_for_a_file() {
    const FILES: [&str; 13] = [
        "/etc/inetd.conf",
        "/etc/inetd.d/login",
        "/etc/xinetd.conf",
        "/etc/xinetd.d/login",
        "/etc/shells",
        "/etc/services",
        "/etc/hosts.allow",
        "/etc/hosts.deny",
        "/etc/securetty",
        "/etc/nologin",
        "/etc/hosts.equiv",
        "/etc/issue.net",
        "/home/alice/.rhosts",
    ];
    const CONFIG: &str = "[login]\nbanner = \"/etc/issue.net\"\n";
    const KINDS: [(&str, &[&str]); 3] =
        [("a FIFO", &["mkfifo"]), ("a directory", &["mkdir"]), ("a device", &["cp", "-R", "/dev/zero"])];
    world(|_world| {
        for folder in ["/etc/inetd.d", "/etc/xinetd.d"] {
            fs::create_dir_all(folder).unwrap();
        }
        for (kind, make) in KINDS {
            for file in FILES {
                let _ = fs::remove_dir_all(file).or_else(|_| fs::remove_file(file));
                assert!(Command::new(make[0]).args(&make[1..]).arg(file).status().unwrap().success());
            }
            fs::write("/etc/rlogind.toml", CONFIG).unwrap();
            for words in [&["check"][..], &["doctor"], &["trust", "check"]] {
                let output = Command::new("timeout").arg("10").arg(PROGRAM).args(words).output().unwrap();
                let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
                assert!(
                    !matches!(output.status.code(), Some(124) | None),
                    "{words:?} hangs on {kind}: {told}"
                );
                if words == ["trust", "check"] {
                    assert_eq!(told.matches("not a regular file").count(), 2, "{kind}: {told}");
                    continue;
                }
                let shells =
                    format!("/etc/shells: it is {kind}, not a regular file; /bin/sh and /bin/csh count");
                assert!(told.contains(&shells), "{kind}: {told}");
                assert!(told.contains("/etc/issue.net: not shown: not a regular file"), "{kind}: {told}");
            }
        }
    });
}
