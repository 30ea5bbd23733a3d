//! Writes what bash, zsh and fish need to complete rlogind's command line into a
//! directory: `cargo run --example completions -- DIRECTORY`. For the packages; the
//! program itself carries none of it.

use std::io;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_complete::generate_to;
use rlogind::cli::Cli;

fn main() -> io::Result<()> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from);
    let directory = directory.ok_or_else(|| io::Error::other("which directory?"))?;
    std::fs::create_dir_all(&directory)?;
    let mut command = Cli::command();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command, "rlogind", &directory)?;
    }
    Ok(())
}
