//! Runs the measurements, each in a machine of its own, and has the documents written.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::report::Report;
use crate::results::Results;
use crate::scenario::{Options, Scenario};
use crate::servers::Server;
use crate::{Outcome, failure};

/// No measurement takes nearly as long, in seconds; then it and all its processes are ended.
const LONGEST: &str = "240";

/// Above this load average the machine is not quiet.
const BUSY: f64 = 0.5;

/// The project's directory.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/")).to_owned()
}

fn results_file() -> PathBuf {
    project().join("target/bench/results.tsv")
}

/// Measures, shows the table, and writes the documents when nothing was left out.
pub(crate) fn run(options: &Options) -> Outcome<()> {
    if !nix::unistd::geteuid().is_root() {
        return failure("needs root, to make namespaces");
    }
    let started = Instant::now();
    let plan = options.plan();
    let mut results = Results::default();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    results.begin(load);
    if load.parse::<f64>().is_ok_and(|load| load > BUSY) {
        eprintln!("The machine has other things to do (load average {load}): the figures will be noise.");
    }
    for (number, &(round, scenario, server)) in plan.iter().enumerate() {
        let place = format!("{}/{}", number + 1, plan.len());
        eprint!("{place:>8}  round {}  {:<10} {:<10} ", round + 1, scenario.name(), server.name());
        let began = Instant::now();
        let (told, failed) = measure(scenario, server, options.quick)?;
        // What was found before it failed counts.
        results.take(scenario, server, &told);
        match failed {
            None => eprintln!("{:6.1} s", began.elapsed().as_secs_f64()),
            Some(why) => {
                eprintln!("failed: {why}");
                results.fail(scenario, server, &why);
            }
        }
    }
    let report = Report { results: &results, project: &project() };
    writeln!(std::io::stdout(), "\n{}", report.table()?)?;
    eprintln!("It took {} s.", started.elapsed().as_secs());
    let folder = project().join("target/bench");
    fs::create_dir_all(&folder)?;
    if options.quick {
        eprintln!("QUICK: shorter runs, and 100 sessions where the table says 2,000.");
    }
    if !options.is_complete() {
        results.write(&folder.join("partial.tsv"))?;
        eprintln!("Only a whole run (without ONLY and QUICK) is written to docs/BENCHMARKS.md.");
        return Ok(());
    }
    results.write(&results_file())?;
    report.write()
}

/// Writes the documents again from the last whole run.
pub(crate) fn report() -> Outcome<()> {
    let results = Results::read(&results_file())?;
    Report { results: &results, project: &project() }.write()
}

/// What the measurement told, and why it failed when it did.
fn measure(scenario: Scenario, server: Server, quick: bool) -> Outcome<(String, Option<String>)> {
    let tool = std::env::current_exe()?;
    // setpriv: whoever ends this process, by whatever means, ends the others too.
    let output = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "timeout", "--foreground", "-s", "KILL", LONGEST])
        .args(["setpriv", "--pdeathsig", "KILL"])
        .args(["unshare", "--mount", "--net", "--pid", "--ipc", "--uts", "--mount-proc", "--kill-child=KILL"])
        .arg(project().join("benches/machine.sh"))
        .args([project().join("target"), tool])
        .args([scenario.rate().unwrap_or("-"), "measure", scenario.name(), server.name()])
        .arg(if quick { "quick" } else { "full" })
        .stdin(Stdio::null())
        .output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    let last = complained.lines().last().unwrap_or("it took too long");
    // It becomes part of a table.
    let why = || last.trim_start_matches("rlogind-bench: ").replace(['|', '\t'], " ");
    Ok((told, (!output.status.success()).then(why)))
}
