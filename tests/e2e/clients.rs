//! What a person sees with a client that nobody here wrote.

use std::thread;
use std::time::Duration;

use crate::accounts::{ALICE, Account, BOB, PROMPT, ROOT};
use crate::audit::field;
use crate::terminal::{Client, PATIENCE, Terminal};
use crate::world::{World, world};

/// A module of tests, one for each of the clients named, that run this function.
macro_rules! for_clients {
    ($name:ident: $($test:ident = $client:ident),+) => {
        mod $name {
            use crate::terminal::Client;
            use crate::world::world;
            $(#[test]
            fn $test() {
                world(|world| super::$name(world, Client::$client));
            })+
        }
    };
}

for_clients!(hosts_equiv_lets_the_same_user_in_without_a_password: netkit = Netkit, rsh_redone = RshRedone);
fn hosts_equiv_lets_the_same_user_in_without_a_password(world: &World, client: Client) {
    world.hosts_equiv("localhost\n");
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ALICE, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.expect(PROMPT);
    assert_eq!(screen.run("id -un"), "alice");
    assert!(!screen.everything().contains("assword"));
    let line = world.audit.wait("session-opened");
    assert_eq!(field(&line, "user"), Some("alice"), "{line}");
    assert_eq!(field(&line, "remote_user"), Some("alice"), "{line}");
}

for_clients!(rhosts_lets_the_named_user_in_without_a_password: netkit = Netkit, rsh_redone = RshRedone);
fn rhosts_lets_the_named_user_in_without_a_password(world: &World, client: Client) {
    world.write_for(ALICE, "/home/alice/.rhosts", "# my own\n127.0.0.1 root\n");
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.expect(PROMPT);
    assert_eq!(screen.run("id -un"), "alice");
    let line = world.audit.wait("trust-granted");
    assert_eq!(field(&line, "file"), Some("/home/alice/.rhosts"), "{line}");
    assert_eq!(field(&line, "line"), Some("2"), "{line}");
}

for_clients!(rhosts_asks_everybody_else_for_a_password: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn rhosts_asks_everybody_else_for_a_password(world: &World, client: Client) {
    world.write_for(ALICE, "/home/alice/.rhosts", "127.0.0.1 carol\n127.0.0.2\n");
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
}

for_clients!(a_password_logs_in: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn a_password_logs_in(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    assert_eq!(screen.run("id -un"), "alice");
    let terminal = if client == Client::Plink { "xterm" } else { "vt100" };
    assert_eq!(screen.run("echo $TERM"), terminal);
    assert!(!screen.everything().contains(ALICE.password));
    let line = world.audit.wait("session-opened");
    assert_eq!(field(&line, "user"), Some("alice"), "{line}");
    assert_eq!(field(&line, "remote_user"), None, "only a trust rule makes it known: {line}");
}

#[test]
fn plink_logs_in_although_it_sends_lines_that_end_in_newline() {
    world(|world| {
        let _daemon = world.serve("");
        let args = ["-l", "alice", "127.0.0.1"];
        let Some(mut screen) = world.line_mode_plink(&args) else { return };
        screen.log_in(ALICE);
        // Its own terminal adds another return to each line.
        screen.send("echo o\"\"k\r");
        screen.expect("ok\r\r\n");
    });
}

for_clients!(a_bash_with_line_editing_works: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn a_bash_with_line_editing_works(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "bob", "127.0.0.1"]) else { return };
    screen.log_in(BOB);
    // Erases the last letter, goes to the line's start, puts a letter there.
    screen.send("cho o\"\"kx\x7f\x01e\r");
    screen.expect("ok\r\n");
    // Up: the same line again.
    screen.send("\x1b[A\r");
    screen.expect("ok\r\n");
}

for_clients!(a_wrong_password_may_be_followed_by_the_right_one: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn a_wrong_password_may_be_followed_by_the_right_one(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.expect("Password: ");
    screen.send("wrong-Secret-9\r");
    screen.expect("Login incorrect");
    screen.expect("login: ");
    screen.send("alice\r");
    screen.log_in(ALICE);
    assert_eq!(screen.run("id -un"), "alice");
}

for_clients!(the_last_wrong_password_closes_the_connection: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn the_last_wrong_password_closes_the_connection(world: &World, client: Client) {
    let _daemon = world.serve("[login]\nattempts = 2\n");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.expect("Password: ");
    screen.send("wrong-Secret-9\r");
    screen.expect("login: ");
    screen.send("alice\r");
    screen.expect("Password: ");
    screen.send("wrong-Secret-9\r");
    screen.expect("Login incorrect");
    screen.wait_end(PATIENCE);
    assert!(!screen.rest().contains("\nlogin: "), "asked once more: {:?}", screen.rest());
}

for_clients!(the_window_size_arrives_and_its_changes_too: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn the_window_size_arrives_and_its_changes_too(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    // The request may have had to be repeated, a second after the first.
    screen.run("while [ \"$(stty size)\" != '24 80' ]; do sleep 0.1; done");
    // The foreground job hears of a change by SIGWINCH.
    screen.send("sh -c 'trap \"stty size\" WINCH; echo w\"\"ait; while :; do sleep 0.1; done'\r");
    screen.expect("wait\r\n");
    screen.resize(50, 132);
    screen.expect("50 132\r\n");
    screen.resize(24, 81);
    screen.expect("24 81\r\n");
}

for_clients!(a_raw_program_gets_control_s_and_a_cooked_one_lets_the_client_stop: netkit = Netkit, rsh_redone = RshRedone);
fn a_raw_program_gets_control_s_and_a_cooked_one_lets_the_client_stop(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    // The other one leaves ^S to the server's terminal.
    let switches = client == Client::Netkit;
    if switches {
        screen.wait_setting("ixon");
    }
    stops_and_goes_on(&mut screen);

    screen.send("stty -ixon -icanon -echo; echo r\"\"aw; dd bs=1 count=1 2>/dev/null | od -An -tx1\r");
    screen.expect("raw\r\n");
    screen.wait_setting("-ixon");
    screen.send("\x13");
    screen.expect(" 13\r\n");
    screen.expect(PROMPT);

    screen.send("stty sane ixon; echo s\"\"ane\r");
    screen.expect("sane\r\n");
    screen.expect(PROMPT);
    if switches {
        screen.wait_setting("ixon");
    }
    stops_and_goes_on(&mut screen);
}

fn stops_and_goes_on(screen: &mut Terminal) {
    // One process: a shell that starts one after the other may miss the ^C between two of them.
    screen.send("perl -e '$| = 1; for (;;) { print \"tick\\n\"; select undef, undef, undef, 0.01 }'\r");
    screen.expect("tick\r\ntick\r\n");
    screen.send("\x13");
    thread::sleep(Duration::from_millis(300));
    let stopped = screen.count();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(screen.count(), stopped, "^S does not stop the output");
    screen.send("\x11");
    screen.expect("tick\r\ntick\r\n");
    screen.send("\x03");
    screen.expect(PROMPT);
}

for_clients!(control_c_in_a_flood_brings_the_prompt_soon: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn control_c_in_a_flood_brings_the_prompt_soon(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    for _ in 0..3 {
        screen.send("yes 0123456789012345678901234567890123456789012345678901234567890123\r");
        screen.expect("\n01234");
        thread::sleep(Duration::from_millis(700));
        screen.send("\x03");
        // At default buffer sizes the first of these clients takes more than 15 s.
        screen.expect_within(PROMPT, Duration::from_secs(10));
    }
    assert_eq!(screen.run("echo still here"), "still here");
    if client == Client::RshRedone {
        // It reads an urgent byte over a block that its terminal did not take yet, and shows that.
        return;
    }
    let shown = screen.everything();
    let stray = shown.find(['\u{fffd}', '\u{2}']).map(|at| {
        let around: Vec<char> = shown[..at].chars().rev().take(60).collect();
        around.into_iter().rev().chain(shown[at..].chars().take(60)).collect::<String>()
    });
    assert_eq!(stray, None, "an urgent byte shown as text");
}

/// The end of a session whose client ended by `leave`, on its side and on ours.
fn hangs_up_the_shell(world: &World, client: Client, leave: impl FnOnce(&mut Terminal)) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    screen.send(format!("{}\r", crate::ending::TELLS_OF_HANGUP));
    screen.expect("ready\r\n");
    leave(&mut screen);
    let line = world.audit.wait("session-closed");
    assert_eq!(field(&line, "user"), Some("alice"), "{line}");
    assert!(field(&line, "duration").is_some(), "{line}");
    crate::ending::wait_hung_up();
    world.audit.wait_count("session-closed", 1);
}

for_clients!(tilde_dot_hangs_up_the_shell: netkit = Netkit);
fn tilde_dot_hangs_up_the_shell(world: &World, client: Client) {
    hangs_up_the_shell(world, client, |screen| {
        screen.send("\r~.");
        screen.wait_end(PATIENCE);
    });
}

for_clients!(a_client_that_is_killed_hangs_up_the_shell: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn a_client_that_is_killed_hangs_up_the_shell(world: &World, client: Client) {
    hangs_up_the_shell(world, client, Terminal::kill);
}

for_clients!(the_exit_status_is_in_the_log: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn the_exit_status_is_in_the_log(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    screen.send("exit 7\r");
    screen.wait_end(PATIENCE);
    let line = world.audit.wait("session-closed");
    assert_eq!(field(&line, "status"), Some("7"), "{line}");
}

for_clients!(the_last_output_arrives_before_the_end: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn the_last_output_arrives_before_the_end(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    screen.send("exec seq 1 20000\r");
    screen.expect("\r\n");
    let status = screen.wait_end(Duration::from_secs(30));
    let numbers: Vec<String> = (1..=20000).map(|number| number.to_string()).collect();
    let shown = screen.rest();
    let got: Vec<&str> = shown.lines().take(20000).collect();
    assert_eq!(got.len(), 20000, "the end is {:?}", got.last());
    assert!(got.iter().zip(&numbers).all(|(got, number)| got == number), "out of order");
    // An abortive end makes these clients complain.
    assert!(status.success() || client == Client::Plink, "{status}");
}

for_clients!(text_of_eight_bits_passes_both_ways: netkit = Netkit, rsh_redone = RshRedone, plink = Plink);
fn text_of_eight_bits_passes_both_ways(world: &World, client: Client) {
    let _daemon = world.serve("");
    let Some(mut screen) = world.client(client, ROOT, &["-l", "alice", "127.0.0.1"]) else { return };
    screen.log_in(ALICE);
    assert_eq!(screen.run("printf 'gr\\303\\274\\303\\237e \\342\\202\\254\\n'"), "grüße €");
    screen.send("read -r line; printf %s \"$line\" | od -An -tx1\r");
    screen.expect("\r\n");
    screen.send("ä€\r");
    screen.expect(" c3 a4 e2 82 ac\r\n");
}

#[test]
fn a_background_job_on_the_terminal_does_not_hold_the_client() {
    world(|world| {
        let _daemon = world.serve("");
        let args = ["-l", "alice", "127.0.0.1"];
        let Some(mut screen) = world.client(Client::RshRedone, ROOT, &args) else { return };
        screen.log_in(ALICE);
        screen.send("(trap '' HUP; sleep 60) & exit 0\r");
        screen.wait_end(Duration::from_secs(10));
        world.audit.wait("session-closed");
    });
}

/// Longer than it takes until the request for the window size is repeated, also before the first output.
const SLOWLY: Duration = Duration::from_millis(1500);

/// C-Kermit logs in, its user waits so long before the password, and then works as long as `work` says.
fn with_kermit(world: &World, account: Account, wait: Duration, work: impl FnOnce(&mut Terminal)) {
    let _daemon = world.serve("");
    let command = format!("rlogin 127.0.0.1 {}, exit", account.name);
    let Some(mut screen) = world.client(Client::Kermit, ROOT, &[&command]) else { return };
    screen.expect("Password: ");
    thread::sleep(wait);
    screen.send(format!("{}\r", account.password));
    screen.expect(PROMPT);
    work(&mut screen);
    screen.send("exit\r");
    screen.wait_end(PATIENCE);
}

#[test]
fn kermit_takes_a_password_typed_slowly() {
    world(|world| {
        for wait in [SLOWLY, SLOWLY * 2] {
            with_kermit(world, ALICE, wait, |screen| assert_eq!(screen.run("id -un"), "alice"));
        }
    });
}

#[test]
fn kermit_takes_what_is_typed_to_a_shell_that_says_nothing() {
    world(|world| {
        // Its own user is $USER, or that.
        world.write_for(ALICE, "/home/alice/.rhosts", "localhost root\nlocalhost unknown\n");
        world.write_for(ALICE, "/home/alice/.profile", "stty -echo; read x; stty echo; echo got \"$x\"\n");
        let _daemon = world.serve("");
        let command = "rlogin 127.0.0.1 alice, exit";
        let Some(mut screen) = world.client(Client::Kermit, ROOT, &[command]) else { return };
        world.audit.wait("session-opened");
        thread::sleep(SLOWLY);
        screen.send("it\r");
        screen.expect("got it\r\n");
    });
}

/// It has no answer to the request, and waits for output behind all that it is told.
#[test]
fn kermit_takes_what_is_typed_slowly_while_modes_change() {
    world(|world| {
        with_kermit(world, ALICE, SLOWLY, |screen| {
            for command in ["id -un", "stty -ixon", "echo still here", "stty ixon", "stty -ixon", "id -un"] {
                thread::sleep(SLOWLY * 2);
                screen.run(command);
            }
        });
    });
}

#[test]
fn kermit_takes_what_is_typed_slowly_into_a_bash_with_line_editing() {
    world(|world| {
        with_kermit(world, BOB, SLOWLY, |screen| {
            for command in ["id -un", "stty -ixon", "stty ixon"] {
                thread::sleep(SLOWLY * 2);
                screen.send(format!("{command}; echo o\"\"k\r"));
                screen.expect("ok\r\n");
                screen.expect(PROMPT);
            }
        });
    });
}

#[test]
fn kermit_goes_on_behind_an_interrupt() {
    world(|world| {
        with_kermit(world, ALICE, Duration::ZERO, |screen| {
            for _ in 0..2 {
                thread::sleep(SLOWLY);
                screen.send("cat\r");
                thread::sleep(SLOWLY);
                screen.send("\x03");
                screen.expect(&format!("^C\r\n{PROMPT}"));
            }
        });
    });
}
