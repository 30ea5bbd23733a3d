//! What is measured, and what of it somebody wants to have measured.

use crate::servers::{self, Server};
use crate::{Outcome, failure};

/// One situation, measured with one server in a machine of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scenario {
    /// From connecting to the prompt, one login at a time.
    Login,
    /// The same, 50 at once.
    Burst50,
    /// The same, 200 at once.
    Burst200,
    /// One typed byte and its echo.
    Echo,
    /// The same, with 4 sessions that flood and 20 that are idle.
    Flood4,
    /// The same, with 8 and 200.
    Flood8,
    /// Much output of one session.
    Output,
    /// Much input of one session.
    Input,
    /// ^C in a flood, on the loopback interface.
    Interrupt,
    /// The same over a link of 10 Mbit/s.
    Link10,
    /// The same over a link of 1 Mbit/s.
    Link1,
    /// Memory of up to 500 idle sessions.
    Memory,
    /// 2,000 sessions.
    Many,
}

/// All of them, in the order in which they are measured.
pub(crate) const ALL: [Scenario; 13] = [
    Scenario::Login,
    Scenario::Burst50,
    Scenario::Burst200,
    Scenario::Echo,
    Scenario::Flood4,
    Scenario::Flood8,
    Scenario::Output,
    Scenario::Input,
    Scenario::Interrupt,
    Scenario::Link10,
    Scenario::Link1,
    Scenario::Memory,
    Scenario::Many,
];

impl Scenario {
    /// Its name in commands, in files of results, and the first part of its figures' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Scenario::Login => "login",
            Scenario::Burst50 => "burst50",
            Scenario::Burst200 => "burst200",
            Scenario::Echo => "echo",
            Scenario::Flood4 => "flood4",
            Scenario::Flood8 => "flood8",
            Scenario::Output => "output",
            Scenario::Input => "input",
            Scenario::Interrupt => "interrupt",
            Scenario::Link10 => "link10",
            Scenario::Link1 => "link1",
            Scenario::Memory => "memory",
            Scenario::Many => "many",
        }
    }

    /// The one of that name.
    pub(crate) fn named(name: &str) -> Option<Scenario> {
        ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// The speed of the link, as tc(8) has it, when the server is not on the loopback interface.
    pub(crate) fn rate(self) -> Option<&'static str> {
        match self {
            Scenario::Link10 => Some("10mbit"),
            Scenario::Link1 => Some("1mbit"),
            Scenario::Login
            | Scenario::Burst50
            | Scenario::Burst200
            | Scenario::Echo
            | Scenario::Flood4
            | Scenario::Flood8
            | Scenario::Output
            | Scenario::Input
            | Scenario::Interrupt
            | Scenario::Memory
            | Scenario::Many => None,
        }
    }

    /// In how many of the rounds it is measured: fewer, when it takes long or always
    /// finds the same.
    fn rounds(self, wanted: u32) -> u32 {
        match self {
            Scenario::Memory | Scenario::Many => wanted.min(1),
            Scenario::Link1 => wanted.min(2),
            Scenario::Login
            | Scenario::Burst50
            | Scenario::Burst200
            | Scenario::Echo
            | Scenario::Flood4
            | Scenario::Flood8
            | Scenario::Output
            | Scenario::Input
            | Scenario::Interrupt
            | Scenario::Link10 => wanted,
        }
    }

    /// Whether PAM is part of it, so that the floor with PAM has something to say.
    fn is_login(self) -> bool {
        matches!(self, Scenario::Login | Scenario::Burst50 | Scenario::Burst200)
    }
}

/// What the command line asked for.
pub(crate) struct Options {
    rounds: u32,
    scenarios: Vec<Scenario>,
    servers: Vec<Server>,
    /// Whether a glance is enough.
    pub(crate) quick: bool,
}

impl Options {
    /// `only`: names of scenarios (or how they begin) and of servers; empty: all.
    pub(crate) fn read(rounds: &str, only: &str, quick: &str) -> Outcome<Options> {
        let quick = !quick.is_empty() && quick != "0";
        let (mut scenarios, mut servers) = (Vec::new(), Vec::new());
        for word in only.split([',', ' ']).filter(|word| !word.is_empty()) {
            let named = ALL.into_iter().filter(|scenario| scenario.name().starts_with(word));
            let before = scenarios.len() + servers.len();
            scenarios.extend(named);
            servers.extend(Server::named(word));
            if scenarios.len() + servers.len() == before {
                return failure(&format!("ONLY={word}: neither a scenario nor a server"));
            }
        }
        if scenarios.is_empty() {
            scenarios.extend(ALL);
        }
        if servers.is_empty() {
            servers.extend(servers::ALL);
        }
        let rounds = match rounds {
            "" if quick => 1,
            "" => 3,
            text => text.parse().map_err(|_| format!("ROUNDS={text}: not a number"))?,
        };
        Ok(Options { rounds, scenarios, servers, quick })
    }

    /// Whether everything is measured as it should be, so that the documents may say so.
    pub(crate) fn is_complete(&self) -> bool {
        !self.quick && self.scenarios.len() == ALL.len() && self.servers.len() == servers::ALL.len()
    }

    /// All measurements in their order: the servers in turn, a different one first in
    /// each round, so that a slow minute of the machine does not hit the same one always.
    pub(crate) fn plan(&self) -> Vec<(u32, Scenario, Server)> {
        let mut plan = Vec::new();
        let mut servers = self.servers.clone();
        for round in 0..self.rounds {
            for &scenario in &self.scenarios {
                if round >= scenario.rounds(self.rounds) {
                    continue;
                }
                let takes_part = |server: &&Server| **server != Server::FloorPam || scenario.is_login();
                plan.extend(servers.iter().filter(takes_part).map(|&server| (round, scenario, server)));
            }
            servers.rotate_left(1);
        }
        plan
    }
}
