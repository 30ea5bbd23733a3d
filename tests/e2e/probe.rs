//! PAM's service file of a test's machine, and the tests' own module in it.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::world::{find_program, skip};

/// The module, inside.
const MODULE: &str = "/mnt/probe.so";
/// What it writes down.
const LOG: &str = "/mnt/probe.log";

/// Makes these lines the service file `rlogin`. `PROBE` stands for the module and its log.
pub(crate) fn service(lines: &str) {
    let probe = format!("{MODULE} log={LOG}");
    fs::write("/etc/pam.d/rlogin", lines.replace("PROBE", &probe)).unwrap();
}

/// The service file of `world.sh` with these lines before it.
pub(crate) fn service_with(lines: &str) {
    service(&format!(
        "{lines}\nauth required pam_unix.so nodelay\naccount required pam_unix.so\n\
         password required pam_unix.so\nsession required pam_unix.so\n"
    ));
}

/// Compiles the module; false (and SKIPPED) without a compiler.
pub(crate) fn build() -> bool {
    compile(&["-shared", "-fPIC", "-o", MODULE], include_str!("../pam/probe.c"))
}

/// Compiles a program of the tests; false (and SKIPPED) without a compiler.
pub(crate) fn compile(args: &[&str], source: &str) -> bool {
    if find_program("cc").is_none() {
        skip("there is no cc");
        return false;
    }
    let mut compiler =
        Command::new("cc").args(args).args(["-x", "c", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    compiler.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    assert!(compiler.wait().unwrap().success(), "the compiler failed");
    true
}

/// What the module has written down so far.
pub(crate) fn calls() -> Vec<String> {
    fs::read_to_string(LOG).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// How often it was called so.
pub(crate) fn count(call: &str) -> usize {
    calls().iter().filter(|line| line.split(' ').next() == Some(call)).count()
}
