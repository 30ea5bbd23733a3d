//! What the user runs in the shell while something is measured.

use std::io::{self, Read, Write, stdin, stdout};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::{Outcome, failure};

/// What a program says when it is ready.
pub(crate) const READY: &str = "go";
/// What it says when it has everything.
pub(crate) const DONE: &str = "done";
/// Ends `echo`.
pub(crate) const QUIT: u8 = b'q';

/// Runs the program of that name.
pub(crate) fn run(name: &str, bytes: Option<&str>) -> Outcome<()> {
    let bytes = || bytes.unwrap_or_default().parse();
    match name {
        "echo" => raw(echo),
        "flood" => flood(),
        "source" => raw(|| source(bytes()?)),
        "sink" => raw(|| sink(bytes()?)),
        _ => failure("no such program"),
    }
}

/// Runs it with the terminal in raw mode, as an editor has it.
fn raw(program: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    let before: Termios = tcgetattr(stdin())?;
    let mut modes = before.clone();
    cfmakeraw(&mut modes);
    tcsetattr(stdin(), SetArg::TCSADRAIN, &modes)?;
    say(READY)?;
    let done = program();
    tcsetattr(stdin(), SetArg::TCSADRAIN, &before)?;
    done
}

fn say(text: &str) -> io::Result<()> {
    stdout().write_all(text.as_bytes())?;
    stdout().flush()
}

/// Writes each byte that is typed.
fn echo() -> Outcome<()> {
    let mut byte = [0];
    while stdin().read(&mut byte)? == 1 && byte[0] != QUIT {
        stdout().write_all(&byte)?;
        stdout().flush()?;
    }
    Ok(())
}

/// Lines of 64 bytes.
fn lines() -> Vec<u8> {
    let mut line = vec![b'x'; 63];
    line.push(b'\n');
    line.repeat(1024)
}

/// Writes until it is interrupted.
fn flood() -> Outcome<()> {
    let lines = lines();
    let mut terminal = stdout().lock();
    loop {
        terminal.write_all(&lines)?;
    }
}

/// Writes so many bytes when it is told to.
fn source(bytes: usize) -> Outcome<()> {
    stdin().read_exact(&mut [0])?;
    let lines = lines();
    let mut left = bytes;
    while left > 0 {
        let part = lines.get(..left.min(lines.len())).unwrap_or(&lines);
        // Without the buffer of `stdout`, which would only copy.
        left -= nix::unistd::write(stdout(), part)?;
    }
    Ok(())
}

/// Reads so many bytes.
fn sink(bytes: usize) -> Outcome<()> {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let length = nix::unistd::read(stdin(), &mut buffer)?;
        if length == 0 {
            return failure("the terminal is gone");
        }
        left = left.saturating_sub(length);
    }
    say(DONE)?;
    Ok(())
}
