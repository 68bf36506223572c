//! The `bowerbird` command.
#![expect(clippy::print_stderr, reason = "errors go to the terminal here and nowhere else")]

use std::process::ExitCode;

use bowerbird::cli::Cli;
use bowerbird::commands;
use clap::Parser;

fn main() -> ExitCode {
    // Clap ends with code 2 on a command line that is wrong, and with 0 on --help.
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(commands::exit_code(&error))
        }
    }
}
