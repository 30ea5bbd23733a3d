//! Measures rlogind beside the servers people have, and beside a floor.
//!
//! One executable in several roles: the driver (`run`, and `report`, which writes
//! the documents again from the last results), and inside a machine of its own a
//! measurement (`measure`), the floor server (`serve`) and what the user runs in the
//! shell (`program`). See docs/BENCHMARKS.md for what is measured.

use std::error::Error;
use std::process::ExitCode;

use scenario::{Options, Scenario};
use servers::Server;

mod chart;
mod client;
mod crowd;
mod driver;
mod figures;
mod floor;
mod measure;
mod processes;
mod programs;
mod report;
mod results;
mod scenario;
mod servers;
mod sys;
mod world;

/// What a step of the benchmark gives. Errors are for a person to read.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// An error that says this.
fn failure<T>(why: &str) -> Outcome<T> {
    Err(why.into())
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["run", rounds, only, quick] => {
            Options::read(rounds, only, quick).and_then(|options| driver::run(&options))
        }
        ["report"] => driver::report(),
        ["measure", scenario, server, quick] => measure(scenario, server, quick),
        ["serve", "floor"] => floor::serve(floor::Login::Bare),
        ["serve", "floor-pam"] => floor::serve(floor::Login::Pam),
        ["program", name] => programs::run(name, None),
        ["program", name, bytes] => programs::run(name, Some(bytes)),
        _ => failure("usage: rlogind-bench run ROUNDS ONLY QUICK | report"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rlogind-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(scenario: &str, server: &str, quick: &str) -> Outcome<()> {
    let scenario = Scenario::named(scenario).ok_or("no such scenario")?;
    let server = Server::named(server).ok_or("no such server")?;
    measure::run(scenario, server, quick == "quick")
}
