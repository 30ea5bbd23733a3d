//! Builds the one C file, and exports its functions from the executable.

/// What modules call of syslog(3), and what the C library makes of it with `_FORTIFY_SOURCE`.
const EXPORTED: [&str; 7] =
    ["syslog", "vsyslog", "__syslog_chk", "__vsyslog_chk", "openlog", "closelog", "setlogmask"];
const SOURCE: &str = "src/sys/module_log.c";

fn main() {
    println!("cargo:rerun-if-changed={SOURCE}");
    cc::Build::new().file(SOURCE).compile("module_log");
    for symbol in EXPORTED {
        // libpam and the modules that it loads look for a function in the executable first, if
        // it is among the executable's dynamic symbols. The tests have the daemon in them.
        for targets in ["bins", "tests"] {
            println!("cargo:rustc-link-arg-{targets}=-Wl,--export-dynamic-symbol={symbol}");
        }
    }
}
