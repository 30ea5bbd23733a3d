//! The prompts: what modules can ask and tell, what can be typed and what is shown of it.

use std::time::Duration;

use crate::accounts::{ALICE, PROMPT};
use crate::audit::field;
use crate::ending::nothing_is_left;
use crate::peer::Peer;
use crate::probe::{build, calls, service_with};
use crate::terminal::PATIENCE;
use crate::world::world;

#[test]
fn a_module_may_ask_and_tell_several_things_at_once() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth requisite PROBE codes");
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Shown code: ");
        peer.send("one\r");
        peer.expect("Hidden code: ");
        peer.send("two\r");
        peer.give_password(ALICE);
        let text = String::from_utf8_lossy(&peer.data).into_owned();
        let wanted = "\0Card 7.\r\nShown code: one\r\nTake care.\r\nHidden code: \r\nPassword: \r\n";
        assert!(text.starts_with(wanted), "{text:?}");
        assert!(calls().contains(&"answers one two".to_owned()), "{:?}", calls());

        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Shown code: ");
        peer.send("wrong\r");
        peer.expect("Hidden code: ");
        peer.send("two\r");
        assert_eq!(peer.expect("login: "), "\r\nLogin incorrect\r\n");
    });
}

#[test]
fn questions_no_terminal_can_answer_are_refused_cleanly() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth required PROBE impossible");
        let _daemon = world.serve("");
        Peer::log_in(ALICE);
        // 19 is PAM_CONV_ERR.
        for style in [7, 99] {
            let wanted = format!("style {style} result 19 answers none");
            assert!(calls().contains(&wanted), "{:?}", calls());
        }
    });
}

#[test]
fn an_answer_is_511_bytes_at_most() {
    world(|world| {
        if !build() {
            return;
        }
        service_with("auth requisite PROBE codes");
        let _daemon = world.serve("");
        let longest = "x".repeat(511);
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Shown code: ");
        peer.send("one\r");
        peer.expect("Hidden code: ");
        peer.send(format!("{longest}\r"));
        peer.expect("Login incorrect");
        assert!(calls().contains(&format!("answers one {longest}")), "{:?}", calls());

        for length in [512, 1024] {
            let mut peer = Peer::hello("nobody", "alice");
            peer.expect("Shown code: ");
            peer.send("one\r");
            peer.expect("Hidden code: ");
            peer.send("x".repeat(length));
            peer.send("\r");
            peer.expect("Answer too long");
            // It goes on as after any wrong answer.
            peer.expect("Login incorrect");
            peer.expect("login: ");
        }
        assert_eq!(calls().iter().filter(|line| line.starts_with("answers ")).count(), 1);
    });
}

#[test]
fn a_line_that_never_ends_ends_the_login() {
    world(|world| {
        let daemon = world.serve("");
        let endless: [(&str, &[u8]); 3] = [("", b"x"), ("", b"\0"), ("alice", b"x\x7f")];
        for (number, (user, bytes)) in endless.into_iter().enumerate() {
            let mut peer = Peer::hello("nobody", user);
            peer.expect(if user.is_empty() { "login: " } else { "Password: " });
            // It may be closed before all of it is sent.
            let _ = peer.try_send(&bytes.repeat(1_000_000 / bytes.len()));
            peer.expect("Line too long\r\n");
            peer.wait_end(PATIENCE);
            let lines = world.audit.wait_count("login-abandoned", number + 1);
            assert_eq!(field(&lines[number], "reason"), Some("a line at a prompt was too long"));
        }
        nothing_is_left(&daemon);
    });
}

#[test]
fn control_characters_at_the_prompts_do_what_they_do_on_a_terminal() {
    world(|world| {
        let daemon = world.serve("");
        for (key, reason) in [("\x03", "interrupted"), ("\x1c", "interrupted"), ("\x04", "ended the input")] {
            for prompt in ["login: ", "Password: "] {
                let before = world.audit.of("login-abandoned").len();
                let mut peer = Peer::hello("nobody", if prompt == "login: " { "" } else { "alice" });
                peer.expect(prompt);
                // ^C counts with a text before it, too; ^D sends such a text off.
                peer.send(if key == "\x04" { key.to_owned() } else { format!("half a li{key}") });
                peer.wait_end(PATIENCE);
                let lines = world.audit.wait_count("login-abandoned", before + 1);
                assert!(lines[before].contains(reason), "{key:?} at {prompt:?}: {lines:#?}");
            }
        }
        nothing_is_left(&daemon);
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("rubbish\x15{}x\x08\r", ALICE.password));
        peer.expect(PROMPT);
    });
}

#[test]
fn what_is_typed_ahead_of_a_password_prompt_is_not_shown() {
    world(|world| {
        let _daemon = world.serve("");
        // While PAM is busy, and before the shell has its prompt.
        let mut peer = Peer::hello("nobody", "alice");
        peer.expect("Password: ");
        peer.send(format!("wrong-Secret-9\ralice\r{}\r", ALICE.password));
        peer.expect(PROMPT);
        let text = String::from_utf8_lossy(&peer.data).into_owned();
        assert!(!text.contains("Secret"), "{text:?}");
    });
}

#[test]
fn a_password_in_one_burst_with_the_name_is_not_shown() {
    world(|world| {
        let _daemon = world.serve("");
        let mut peer = Peer::hello("nobody", "");
        peer.expect("login: ");
        peer.send(format!("alicf\x7fe\r{}\recho o\"\"k\r", ALICE.password));
        peer.expect("ok\r\n");
        let text = String::from_utf8_lossy(&peer.data).into_owned();
        assert!(text.starts_with("\0login: alicf\x08 \x08e\r\nPassword: \r\n"), "{text:?}");
        assert!(!text.contains(ALICE.password), "{text:?}");
    });
}

#[test]
fn an_lf_or_nul_behind_a_cr_answers_no_prompt() {
    world(|world| {
        let _daemon = world.serve("");
        for end in ["\r\n", "\r\0", "\r", "\n"] {
            for late in [false, true] {
                let mut peer = Peer::hello("nobody", "");
                let type_line = |peer: &mut Peer, line: &str| {
                    let (first, rest) = end.split_at(1);
                    peer.send(format!("{line}{first}"));
                    if late && !rest.is_empty() {
                        // The next prompt is there by then.
                        peer.listen(Duration::from_millis(300));
                    }
                    peer.send(rest);
                };
                peer.expect("login: ");
                type_line(&mut peer, "alice");
                peer.expect("Password: ");
                type_line(&mut peer, ALICE.password);
                peer.expect(PROMPT);
                peer.listen(Duration::from_millis(100));
                let text = String::from_utf8_lossy(&peer.data);
                assert!(!text.contains("incorrect") && !text.contains(ALICE.password), "{end:?}: {text:?}");
                assert_eq!(text.matches(PROMPT).count(), 1, "{end:?}, late {late}: {text:?}");
                // The shell's input is what was sent.
                assert_eq!(peer.run("printf 'a\\r\\nb' | od -An -c | tr -d ' '"), "a\\r\\nb");
            }
        }
    });
}
