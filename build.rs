//! Builds the C files, and exports their functions from the executable.

/// What modules call of syslog(3), and what the C library makes of it with `_FORTIFY_SOURCE`; and of
/// setrlimit(2), and what it makes of that with large files.
const EXPORTED: [&str; 13] = [
    "syslog",
    "vsyslog",
    "__syslog_chk",
    "__vsyslog_chk",
    "openlog",
    "closelog",
    "setlogmask",
    "setrlimit",
    "setrlimit64",
    "getrlimit",
    "getrlimit64",
    "prlimit",
    "prlimit64",
];
const SOURCES: [&str; 2] = ["src/sys/module_log.c", "src/sys/limits.c"];

fn main() {
    for source in SOURCES {
        println!("cargo:rerun-if-changed={source}");
    }
    cc::Build::new().files(SOURCES).compile("for_modules");
    for symbol in EXPORTED {
        // libpam and the modules that it loads look for a function in the executable first, if
        // it is among the executable's dynamic symbols. The tests have the daemon in them.
        for targets in ["bins", "tests"] {
            println!("cargo:rustc-link-arg-{targets}=-Wl,--export-dynamic-symbol={symbol}");
        }
    }
}
