//! A session as plain data, and a session that another relay had before.

use std::time::{Duration, Instant};

use super::super::ends::Terminal;
use super::super::state::{LiveState, OutputState, ago, ahead, count, left};
use super::input::Input;
use super::{LAST_OUTPUT, Live, Output};
use crate::ipc::Traffic;
use crate::wire::urgent::Pacer;
use crate::wire::window;

impl<T: Terminal> Live<T> {
    /// A session whose relay has died: what that one held is lost.
    pub(in crate::relay) fn recovered(terminal: T, traffic: Traffic, idle: Duration, now: Instant) -> Self {
        let mut live = Live::begin(terminal, Pacer::recovered(now), idle, now);
        live.flow_control_known = false;
        live.input = Input::of_session();
        live.expect_flush(now);
        live.bytes_in = traffic.bytes_in;
        live.urgent_sent_at = traffic.bytes_out;
        live
    }

    /// A session that another relay has handed over.
    pub(in crate::relay) fn resume(
        terminal: T,
        state: &LiveState,
        bytes_out: u64,
        idle: Duration,
        now: Instant,
    ) -> Self {
        let pacer = Pacer::from_state(&state.pacer, now);
        let mut live = Live::begin(terminal, pacer, idle, now);
        // The last key may have come a moment ago.
        live.expect_flush(now);
        live.to_terminal.push(&state.to_terminal);
        live.window = window::Decoder::from_state(&state.window, now);
        live.urgent_sent_at = bytes_out.saturating_sub(state.behind_urgent);
        live.urgent_again = Some(now);
        live.input = Input::from_state(state.input, state.unasked, now);
        live.output = match state.output {
            OutputState::Flowing => Output::Flowing,
            OutputState::Ending(budget) => {
                Output::Ending(usize::try_from(budget).unwrap_or(LAST_OUTPUT).min(LAST_OUTPUT))
            }
            OutputState::Read(left) => Output::Read(ahead(left, now)),
        };
        live.bytes_in = count(state.bytes_in);
        live.last_activity = ago(state.quiet, now);
        live.flow_control_known = state.flow_control_known;
        live.newlines = state.newlines;
        live
    }

    /// This session as plain data. `bytes_out` were sent to its client.
    pub(in crate::relay) fn state(&self, bytes_out: u64, now: Instant) -> LiveState {
        LiveState {
            to_terminal: self.to_terminal.front().to_vec().into(),
            window: self.window.state(),
            pacer: self.pacer.state(now),
            behind_urgent: bytes_out - self.urgent_sent_at,
            input: self.input.state(now),
            output: match self.output {
                Output::Flowing => OutputState::Flowing,
                Output::Ending(budget) => OutputState::Ending(u32::try_from(budget).unwrap_or(u32::MAX)),
                Output::Read(latest) => OutputState::Read(left(latest, now)),
            },
            bytes_in: self.bytes_in,
            quiet: now.saturating_duration_since(self.last_activity),
            flow_control_known: self.flow_control_known,
            newlines: self.newlines,
            unasked: self.input.is_unasked(),
        }
    }
}
