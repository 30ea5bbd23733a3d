//! `rlogind check`: its exit status says whether the daemon would serve.

use std::fs;
use std::process::{Command, Output};

use crate::daemon::PROGRAM;
use crate::world::world;

fn check(config: &str) -> Output {
    fs::write("/tmp/test.toml", config).unwrap();
    Command::new(PROGRAM).args(["check", "--config", "/tmp/test.toml"]).output().unwrap()
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
            told.contains("/tmp/test.toml") && told.contains('3') && told.contains("pam_servise"),
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
