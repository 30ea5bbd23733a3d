//! A relay that was taken over, against the real monitor.
//!
//! The monitor starts its roles from the executable that it runs in. So this one is the
//! daemon, too: started as the relay it is the real one, or hands its connection to the
//! monitor over to the test (see [`hostile`]), which then says and holds whatever it likes.
//! That is more than a relay in its cage could do, and none of it may lead anywhere. Each test
//! runs in a machine of its own, as those of `tests/e2e` do, whose helpers it uses.
//!
//! `RLOGIND_HOSTILE_SECONDS=n` fuzzes for that long from seeds of its own;
//! `RLOGIND_HOSTILE_SEED=n` replays one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "everything here is test code; the lints' own exemption covers #[test] functions only"
)]

#[path = "../e2e/accounts.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod accounts;
#[path = "../e2e/audit.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod audit;
#[path = "../e2e/daemon.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod daemon;
#[path = "../e2e/peer.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod peer;
#[path = "../e2e/processes.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod processes;
#[path = "../relay_simulation/random.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod random;
#[path = "../e2e/terminal.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod terminal;
#[path = "../e2e/world.rs"]
#[allow(dead_code, reason = "these tests need less of it")]
mod world;

mod fuzz;
mod hostile;
mod messages;
mod opening;
mod succession;
mod suite;

use std::env;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;

use rlogind::monitor::{self, Options};
use rlogind::sys::channel::Channel;
use rlogind::sys::process;
use rlogind::{config, session};

fn main() -> ExitCode {
    match env::args().nth(1).as_deref() {
        Some(monitor::RELAY_ROLE) => finish(inherited_channel().and_then(hostile::start)),
        Some(monitor::SESSION_ROLE) => finish(inherited_channel().and_then(session::run)),
        Some(monitor::REHEARSAL_ROLE) => {
            let read = || {
                let loaded = config::load_default_or(None).map_err(|error| error.to_string())?;
                Ok((loaded.0, loaded.1.to_string()))
            };
            finish(inherited_channel().and_then(|channel| monitor::rehearse(&channel, read)))
        }
        // As `Daemon` starts it.
        Some("--stderr") if monitor::is_trial() => {
            finish(inherited_channel().and_then(|channel| monitor::try_out(&channel)))
        }
        Some("--stderr") => serve(),
        _ => suite::run(&suite::tests![
            fuzz::random_messages_lead_nowhere,
            messages::what_is_no_message_ends_the_relay,
            messages::what_its_state_does_not_permit_ends_the_relay,
            messages::a_relay_that_closes_its_link_is_ended,
            messages::a_relay_that_does_not_read_is_ended,
            messages::descriptors_that_nobody_asked_for_are_closed,
            messages::what_it_says_of_closed_sessions_cannot_harm,
            messages::a_flood_of_log_lines_stays_bounded_and_escaped,
            opening::only_a_client_of_a_listener_gets_a_session,
            opening::a_listener_made_to_connect_is_no_client,
            opening::a_handshake_is_checked_again,
            opening::a_session_is_opened_once_and_by_a_name_of_its_own,
            succession::a_relay_that_does_not_hand_back_is_ended,
            succession::what_it_hands_back_is_not_believed,
            succession::what_it_carries_is_not_believed,
            succession::descriptors_that_wait_do_not_stop_the_next_relay,
            succession::a_death_at_any_point_takes_no_session_with_it,
            succession::an_upgrade_waits_for_no_relay,
            succession::a_successor_that_is_never_ready_changes_nothing,
        ]),
    }
}

fn serve() -> ExitCode {
    let (config, source) = config::load_default_or(None).unwrap();
    let options = Options {
        config,
        source: source.to_string(),
        stderr: true,
        daemon: None,
        arguments: vec!["--stderr".into()],
    };
    finish(monitor::run(options).map_err(io::Error::other))
}

fn inherited_channel() -> io::Result<Channel> {
    let channel = Channel::from_inherited(io::stdin().as_fd().try_clone_to_owned()?)?;
    process::close_stdin()?;
    process::close_inherited(&channel);
    Ok(channel)
}

fn finish(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hostile_relay: {error}");
            ExitCode::FAILURE
        }
    }
}
