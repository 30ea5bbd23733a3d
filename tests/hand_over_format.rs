//! What one relay writes for the next, held against stored bytes: the two may be of different versions of
//! this program.
//!
//! If a test fails here, the format has changed. Then its number has to change as well (`relay::state::VERSION` and the
//! monitor's own), and an upgrade from the version before has to be refused or understood.

use std::time::Duration;

use rlogind::ipc::ConnectionId;
use rlogind::relay::state::{
    ConnectionState, EntryState, InputState, LiveState, OutputState, PhaseState, RelayState, VERSION,
};
use rlogind::wire::newline::Newlines;
use rlogind::wire::urgent::{FLUSH, FlowControl, Pacer, WINDOW};
use rlogind::wire::window;

fn entry(id: u64, phase: PhaseState) -> EntryState {
    EntryState {
        id: ConnectionId(id),
        peer: ([192, 0, 2, 7], 1023).into(),
        counted: true,
        open: id.is_multiple_of(2),
        connection: ConnectionState {
            phase,
            outgoing: b"out".to_vec(),
            bytes_in: 300,
            bytes_out: 70_000,
            hung_up: false,
            sent_urgent: true,
            logged_in: id.is_multiple_of(3),
        },
    }
}

fn live(input: InputState, output: OutputState) -> PhaseState {
    let start = std::time::Instant::now();
    let mut pacer = Pacer::new(start);
    pacer.sent(WINDOW, start + Duration::from_millis(30));
    pacer.flush(start + Duration::from_millis(40));
    pacer.sent(FLUSH, start + Duration::from_millis(330));
    pacer.flow_control(FlowControl::Program, start + Duration::from_millis(340));
    PhaseState::Live(Box::new(LiveState {
        to_terminal: b"in".to_vec().into(),
        window: window::State { held: b"\xff\xffs".to_vec() },
        pacer: pacer.state(start + Duration::from_millis(400)),
        behind_urgent: 5,
        input,
        output,
        bytes_in: 299,
        quiet: Duration::from_secs(9),
        flow_control_known: true,
        unasked: false,
        newlines: Newlines::at_prompts(),
    }))
}

/// One connection in each state that there is.
fn all() -> RelayState {
    let left = Duration::from_millis(1500);
    let phases = [
        PhaseState::Request { taken: b"rlo".to_vec(), left },
        PhaseState::Handshake { taken: b"\0alice\0".to_vec().into(), left },
        PhaseState::Opening { early: b"ls\r".to_vec(), left },
        live(InputState::Flowing, OutputState::Flowing),
        live(InputState::Ending(left), OutputState::Ending(7)),
        live(InputState::Read(left), OutputState::Read(left)),
        live(InputState::Delivered(left), OutputState::Flowing),
        PhaseState::Closing { told: true, heard: false, budget: 9, left: Some(left) },
        PhaseState::Closing { told: true, heard: false, budget: 9, left: None },
    ];
    RelayState { entries: (1..).zip(phases).map(|(id, phase)| entry(id, phase)).collect() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_relays_state_is_written_as_it_always_was() {
    assert_eq!(VERSION, 3);
    assert_eq!(hex(&all().to_bytes().unwrap()), include_str!("hand_over_format.hex").trim());
}

#[test]
fn what_is_no_state_of_this_version_is_refused() {
    let bytes = all().to_bytes().unwrap();
    assert_eq!(RelayState::from_bytes(&bytes).unwrap().entries, all().entries);
    for end in 0..bytes.len() {
        assert!(RelayState::from_bytes(&bytes[..end]).is_err(), "cut behind {end}");
    }
    let mut later = bytes;
    later[0] += 1;
    assert!(RelayState::from_bytes(&later).is_err());
}
