//! A user who stalls the own terminal: with a page that never arrives, or with what a terminal can do by itself.

use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::{ANSWER, CHANGE, Scene, ask, command, session_of, told, types};
use crate::world::world;

/// What ends the session while the terminal is stalled.
#[derive(Clone, Copy, Debug)]
enum Ending {
    ClientResets,
    ShellEnds,
    Kill,
}

const ENDINGS: [Ending; 3] = [Ending::ClientResets, Ending::ShellEnds, Ending::Kill];

/// Alice stalls by that task, her session ends, and nobody else notices.
fn ends_while_stalled(scene: &mut Scene, task: &str, ending: Ending) {
    eprintln!("{task}, {ending:?}");
    scene.alice_stalls(task);
    types(&mut scene.bob);
    match ending {
        Ending::ClientResets => scene.alice.take().expect("alice is logged in").reset(),
        Ending::ShellEnds => scene.alices_shell_ends(),
        Ending::Kill => {
            let id = session_of("alice");
            assert_eq!(ask(&["kill", &id], ANSWER), format!("session {id}: hung up\n"));
        }
    }
    scene.others_are_unhurt_when_alice_ends();
    if let Some(alice) = &mut scene.alice {
        // Her client is not kept waiting, either.
        alice.wait_end(Duration::from_secs(20));
    }
    scene.nothing_is_left();
}

fn ends_while_stalled_in_a_world_of_its_own(world: &crate::world::World, task: &str, endings: &[Ending]) {
    let Some(mut scene) = Scene::begin(world, "") else { return };
    for ending in endings {
        ends_while_stalled(&mut scene, task, *ending);
    }
}

#[test]
fn stalled_window_size_hurts_nobody_else() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        scene.alice_stalls("winsize");
        types(&mut scene.bob);
        scene.alice().send_size(50, 132);
        scene.others_are_unhurt();
        scene.alice().send_size(51, 133);
        scene.others_are_unhurt();
        scene.nothing_is_left();
    });
}

#[test]
fn stalled_window_size_hurts_nobody_else_when_the_session_ends() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "winsize", &ENDINGS));
}

#[test]
fn stalled_write_hurts_nobody_else_when_the_client_resets() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "write", &[Ending::ClientResets]));
}

#[test]
fn stalled_write_hurts_nobody_else_when_the_shell_ends() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "write", &[Ending::ShellEnds]));
}

#[test]
fn stalled_write_hurts_nobody_else_when_the_session_is_killed() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "write", &[Ending::Kill]));
}

#[test]
fn stalled_read_hurts_nobody_else_when_the_client_resets() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "read", &[Ending::ClientResets]));
}

#[test]
fn stalled_read_hurts_nobody_else_when_the_shell_ends() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "read", &[Ending::ShellEnds]));
}

#[test]
fn stalled_read_hurts_nobody_else_when_the_session_is_killed() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "read", &[Ending::Kill]));
}

#[test]
fn terminal_that_is_watched_hurts_nobody_else_when_it_ends() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "epoll", &ENDINGS));
}

#[test]
fn changes_of_the_line_discipline_hurt_nobody_else() {
    world(|world| ends_while_stalled_in_a_world_of_its_own(world, "discipline", &ENDINGS));
}

#[test]
fn output_that_nobody_reads_hurts_nobody_else() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        for ending in ENDINGS {
            // Little fits into the kernel, and she reads nothing.
            setsockopt(&scene.alice_starts("drain").stream, sockopt::RcvBuf, &4096).unwrap();
            scene.stall.wait("on");
            match ending {
                Ending::ClientResets => scene.alice.take().expect("alice is logged in").reset(),
                Ending::ShellEnds => scene.alices_shell_ends(),
                Ending::Kill => drop(ask(&["kill", &session_of("alice")], ANSWER)),
            }
            scene.others_are_unhurt();
            scene.nothing_is_left();
            scene.others_are_unhurt();
        }
    });
}

/// Messages to alice's stalled terminal, and to all: each is answered, and bob's arrives.
fn messages_are_answered(scene: &mut Scene) {
    let id = session_of("alice");
    for round in 1..=3 {
        let begun = thread::spawn({
            let id = id.clone();
            move || command(&["message", &id, "hello"], ANSWER)
        });
        // Others are answered meanwhile.
        ask(&["sessions"], ANSWER);
        types(&mut scene.bob);
        let hers = begun.join().expect("the command ends");
        assert_eq!(hers.status.code(), Some(1), "{}", told(&hers));
        let text = told(&hers);
        let reason = text.strip_prefix(&format!("session {id}: ")).expect(&text);
        assert!(!reason.starts_with("shown"), "{text}");

        let all = command(&["message", "--all", &format!("round {round}")], ANSWER);
        let text = told(&all);
        assert_eq!(all.status.code(), Some(1), "{text}");
        assert!(text.lines().any(|line| line.ends_with(": shown")), "{text}");
        assert!(text.lines().any(|line| line == format!("session {id}: {}", reason.trim_end())), "{text}");
        scene.bob.expect(&format!("round {round}\r"));
        scene.bob.send("\r");
        scene.bob.expect(crate::accounts::PROMPT);
    }
}

/// Alice's terminal is stalled by that task when root writes to it. Hung up as well, for that takes another way.
fn message_to_a_stalled_terminal(world: &crate::world::World, task: &str) {
    let Some(mut scene) = Scene::begin(world, "") else { return };
    scene.alice_stalls(task);
    messages_are_answered(&mut scene);
    scene.others_are_unhurt();
    scene.nothing_is_left();
}

#[test]
fn message_to_a_terminal_with_a_stalled_write_is_answered() {
    world(|world| message_to_a_stalled_terminal(world, "write"));
}

#[test]
fn message_to_a_terminal_that_is_stalled_and_hung_up_is_answered() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        scene.alice_stalls("write");
        let id = session_of("alice");
        scene.alice.take().expect("alice is logged in").reset();
        // The session may have left the table already, which is an answer as well.
        for _ in 0..3 {
            let output = command(&["message", &id, "hello"], ANSWER);
            assert_eq!(output.status.code(), Some(1), "{}", told(&output));
            types(&mut scene.bob);
        }
        ask(&["message", "--all", "to all"], ANSWER);
        scene.bob.expect("to all\r");
        scene.bob.send("\r");
        scene.others_are_unhurt();
        scene.nothing_is_left();
    });
}

#[test]
fn message_to_a_terminal_with_a_stalled_read_or_window_size_is_answered() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        for task in ["read", "winsize"] {
            scene.alice_stalls(task);
            let id = session_of("alice");
            for _ in 0..3 {
                // It may even be shown.
                command(&["message", &id, "hello"], ANSWER);
                types(&mut scene.bob);
            }
            scene.others_are_unhurt();
            scene.nothing_is_left();
        }
    });
}

#[test]
fn many_messages_to_a_stalled_terminal_use_nothing_up() {
    world(|world| {
        let Some(mut scene) = Scene::begin(world, "") else { return };
        scene.alice_stalls("write");
        let id = session_of("alice");
        for _ in 0..5 {
            let at_once = (0..10).map(|_| {
                let id = id.clone();
                thread::spawn(move || command(&["message", &id, "hello"], CHANGE))
            });
            for one in at_once.collect::<Vec<_>>() {
                assert_eq!(one.join().expect("the command ends").status.code(), Some(1));
            }
        }
        scene.others_are_unhurt();
        scene.nothing_is_left();
    });
}
