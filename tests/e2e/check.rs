//! `rlogind check`: its exit status says whether the daemon would serve.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use crate::accounts::ALICE;
use crate::audit::field;
use crate::daemon::PROGRAM;
use crate::peer::Peer;
use crate::world::world;

const CONFIG: &str = "/etc/rlogind.toml";

fn check(config: &str) -> Output {
    fs::write("/etc/test.toml", config).unwrap();
    Command::new(PROGRAM).args(["check", "--config", "/etc/test.toml"]).output().unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_configuration_that_serves_is_0_and_says_what_is_there() {
    world(|_world| {
        let output = check("listen = [\"127.0.0.1:513\"]\n");
        let told = told(&output);
        assert_eq!(output.status.code(), Some(0), "{told}");
        for word in ["127.0.0.1:513", "rlogin", "rlogind"] {
            assert!(told.contains(word), "{word} in {told}");
        }
    });
}

#[test]
fn the_defaults_serve() {
    world(|_world| {
        let output = check("");
        assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    });
}

#[test]
fn an_unknown_key_is_an_error_with_file_line_and_key() {
    world(|_world| {
        let output = check("[login]\n\npam_servise = \"rlogin\"\n");
        let told = told(&output);
        assert_ne!(output.status.code(), Some(0), "{told}");
        assert!(
            told.contains("/etc/test.toml") && told.contains('3') && told.contains("pam_servise"),
            "{told}"
        );
    });
}

#[test]
fn a_file_that_is_not_there_is_an_error() {
    world(|_world| {
        let output = Command::new(PROGRAM).args(["check", "--config", "/tmp/nothing.toml"]).output().unwrap();
        assert_ne!(output.status.code(), Some(0), "{}", told(&output));
        assert!(told(&output).contains("/tmp/nothing.toml"), "{}", told(&output));
    });
}

/// Whoever can change it decides who gets in.
#[test]
fn a_configuration_that_others_can_change_is_refused_at_the_start_and_later() {
    world(|world| {
        let daemon = world.serve("");
        let mut alice = Peer::log_in(ALICE);
        fs::write(CONFIG, "[login]\nroot = \"trust\"\n").unwrap();
        chown(CONFIG, None, Some(50)).unwrap();
        fs::set_permissions(CONFIG, Permissions::from_mode(0o664)).unwrap();
        let why = format!("{CONFIG}: refused: writable by group or others (mode 0664)");
        for command in [&["check"][..], &["doctor"], &["reload"], &["upgrade"], &["--daemon"]] {
            let output = Command::new(PROGRAM).args(command).output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{command:?}: {}", told(&output));
            assert!(told(&output).contains(&why), "{command:?}: {}", told(&output));
        }
        daemon.signal(Signal::SIGHUP);
        let refused = world.audit.wait_count("config-refused", 2);
        assert!(refused.iter().all(|line| field(line, "error") == Some(why.as_str())), "{refused:#?}");
        assert_eq!(world.audit.of("config-read").len(), 1, "at the start");
        assert_eq!(alice.run("echo same"), "same");
        fs::set_permissions(CONFIG, Permissions::from_mode(0o644)).unwrap();
        daemon.signal(Signal::SIGHUP);
        world.audit.wait_count("config-read", 2);
    });
}

#[test]
fn a_user_may_check_a_file_of_the_own_but_root_does_not_take_it() {
    world(|world| {
        world.write_for(ALICE, "/home/alice/rlogind.toml", "");
        let id = ALICE.uid.to_string();
        let check = |own: &[&str]| {
            let check = [PROGRAM, "check", "--config", "/home/alice/rlogind.toml"];
            let output = Command::new("setpriv").args(own).args(check).output().unwrap();
            told(&output).lines().next().unwrap().to_owned()
        };
        let own = ["--reuid", &id, "--regid", &id, "--clear-groups"];
        assert_eq!(check(&own), "ok    configuration  /home/alice/rlogind.toml");
        let refused = "FAIL  configuration  /home/alice/rlogind.toml: refused: the folder /home/alice is owned by user 1001, not by root";
        assert_eq!(check(&[]), refused);
        fs::set_permissions("/home/alice/rlogind.toml", Permissions::from_mode(0o606)).unwrap();
        assert!(check(&own).ends_with("refused: writable by group or others (mode 0606)"));
    });
}

#[test]
fn a_machine_without_any_pam_service_file_would_not_serve() {
    world(|_world| {
        fs::remove_file("/etc/pam.d/rlogin").unwrap();
        fs::remove_file("/etc/pam.d/login").unwrap();
        let output = check("");
        assert_ne!(output.status.code(), Some(0), "{}", told(&output));
    });
}

#[test]
fn a_machine_without_an_account_for_the_relay_serves_and_is_told_what_to_do() {
    world(|_world| {
        for user in ["nosuchaccount", "nobody"] {
            let output = check(&format!("user = \"{user}\"\n"));
            assert_eq!(output.status.code(), Some(0), "an unused id stands in: {}", told(&output));
            let text = told(&output);
            assert!(text.contains(user) && text.contains("the unused user id 61184"), "{text}");
        }
    });
}
