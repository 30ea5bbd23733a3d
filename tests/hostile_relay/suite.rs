//! What `#[test]` would do, for an executable whose first argument may be a role: the part of
//! libtest's command line that cargo and cargo nextest use.

use std::collections::VecDeque;
use std::env;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

/// A test: its name, and its function.
pub(crate) type Test = (&'static str, fn());

/// Names functions as libtest does.
macro_rules! tests {
    ($($module:ident :: $test:ident),* $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($test)), crate::$module::$test as fn())),*]
    };
}
pub(crate) use tests;

/// Lists the tests, or runs those that the command line names.
pub(crate) fn run(tests: &[Test]) -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (mut filters, mut skipped) = (Vec::new(), Vec::new());
    let (mut list, mut exact, mut ignored) = (false, false, false);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--exact" => exact = true,
            "--ignored" => ignored = true,
            "--skip" => skipped.extend(arguments.next()),
            "--format" | "--test-threads" | "--color" => drop(arguments.next()),
            option if option.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let matches = |name: &str, filter: &String| if exact { name == filter } else { name.contains(filter) };
    let wanted = |name: &str| {
        !ignored
            && (filters.is_empty() || filters.iter().any(|filter| matches(name, filter)))
            && !skipped.iter().any(|filter| matches(name, filter))
    };
    let chosen: VecDeque<Test> = tests.iter().filter(|(name, _)| wanted(name)).copied().collect();
    if list {
        for (name, _) in chosen {
            println!("{name}: test");
        }
        return ExitCode::SUCCESS;
    }
    let count = chosen.len();
    println!("\nrunning {count} tests");
    let failed = run_all(chosen);
    let word = if failed == 0 { "ok" } else { "FAILED" };
    let passed = count - failed;
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(101) }
}

/// Returns how many failed.
fn run_all(chosen: VecDeque<Test>) -> usize {
    let workers = thread::available_parallelism().map_or(1, usize::from).min(chosen.len());
    let (waiting, failed) = (Mutex::new(chosen), Mutex::new(0));
    let work = || {
        loop {
            let next = waiting.lock().unwrap().pop_front();
            let Some((name, test)) = next else { return };
            let passed = catch_unwind(test).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            *failed.lock().unwrap() += usize::from(!passed);
        }
    };
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap()
}
