//! One scenario with one server, inside a machine of its own. What was found goes
//! to standard output, a line `figure NAME VALUE` for each.

use std::io::{Write, stdout};
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::client::{Client, Ports};
use crate::programs::READY;
use crate::scenario::Scenario;
use crate::servers::{self, Running, Server};
use crate::world::{FAR_CLIENT, TOOL, sources};

mod bulk;
mod crowded;
pub(crate) use crowded::STEPS;
mod interrupt;
mod logins;
mod typing;

/// What a measurement has at hand.
struct Bench {
    server: Running,
    ports: Ports,
    /// Whether a glance is enough.
    quick: bool,
}

/// Measures.
pub(crate) fn run(scenario: Scenario, server: Server, quick: bool) -> Outcome<()> {
    collect_syslog()?;
    let far = scenario.rate().is_some();
    let ports = Ports::of(if far { vec![FAR_CLIENT] } else { sources() });
    let mut bench = Bench { server: servers::start(server, far)?, ports, quick };
    match scenario {
        Scenario::Login => logins::one_by_one(&mut bench),
        Scenario::Burst50 => logins::at_once(&mut bench, "burst50", 50),
        Scenario::Burst200 => logins::at_once(&mut bench, "burst200", 200),
        Scenario::Echo => typing::alone(&mut bench),
        Scenario::Flood4 => typing::among_floods(&mut bench, "flood4", 4, 20),
        Scenario::Flood8 => typing::among_floods(&mut bench, "flood8", 8, 200),
        Scenario::Output => bulk::output(&mut bench),
        Scenario::Input => bulk::input(&mut bench),
        Scenario::Interrupt => interrupt::in_flood(&mut bench, "interrupt", 20, 200),
        Scenario::Link10 => interrupt::in_flood(&mut bench, "link10", 4, 1000),
        Scenario::Link1 => interrupt::in_flood(&mut bench, "link1", 2, 3000),
        Scenario::Memory => crowded::memory(&mut bench),
        Scenario::Many => crowded::many(&mut bench),
    }
}

/// Somebody must read what the servers log, as on any machine.
fn collect_syslog() -> Outcome<()> {
    let log = UnixDatagram::bind("/dev/log")?;
    std::fs::set_permissions("/dev/log", std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
    thread::spawn(move || {
        let mut line = [0; 8192];
        while log.recv(&mut line).is_ok() {}
    });
    Ok(())
}

/// Tells the driver.
fn figure(name: &str, value: f64) -> Outcome<()> {
    writeln!(stdout(), "figure {name} {value}")?;
    Ok(())
}

/// The times in milliseconds at these percentiles, as `NAME.p50` and so on.
fn percentiles(name: &str, times: &mut [Duration]) -> Outcome<()> {
    times.sort_unstable();
    let last = times.len().checked_sub(1).ok_or("nothing was measured")?;
    for (label, permille) in [("p50", 500), ("p90", 900), ("p99", 990), ("p999", 999)] {
        let time = times.get(last * permille / 1000).copied().unwrap_or_default();
        figure(&format!("{name}.{label}"), milliseconds(time))?;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Processor nanoseconds for so many bytes as seconds for a gigabyte.
fn seconds_per_gigabyte(nanoseconds: u64, bytes: u64) -> f64 {
    nanoseconds as f64 / bytes as f64
}

/// Bytes in that time as megabytes a second.
fn megabytes_per_second(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64()
}

impl Bench {
    fn log_in(&mut self) -> Outcome<Client> {
        Client::log_in(&mut self.ports, self.server.address)
    }

    /// Logs in and runs one of the tool's programs that says when it is ready.
    fn running(&mut self, program: &str) -> Outcome<Client> {
        let mut client = self.log_in()?;
        client.send(command(program).as_bytes())?;
        client.wait(Duration::from_secs(10), "program", |client| client.shows(READY))?;
        Ok(client)
    }

    /// Logs in that many at once.
    fn log_in_all(&mut self, count: usize) -> Outcome<Vec<Client>> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = Client::connect(&mut self.ports, self.server.address)?;
            client.hello()?;
            clients.push(client);
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        crate::client::wait_all(&mut clients, deadline, |client| client.prompted.is_some())?;
        Ok(clients)
    }
}

fn command(program: &str) -> String {
    format!("{TOOL} program {program}\r")
}
