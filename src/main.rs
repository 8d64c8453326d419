//! The `greenroom` binary: a buildmaster, its agent and its tools behind subcommands.

mod about;
mod actor_acts;
mod acts;
mod commands;
mod configurator;
mod help;
mod http;
mod janitor;
mod lifecycle;
mod limits;
mod logging;
mod metrics;
mod rehearse;
mod systemd;
mod tree;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};

use commands::Command;

/// Greenroom, an actor-model buildmaster.
///
/// It watches source code, decides what to build, hands builds to workers, keeps every result and shows it live.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The command line as it is described in help, manual pages and completions.
fn command() -> clap::Command {
    help::grouped(Cli::command())
}

fn main() -> ExitCode {
    let cli = Cli::from_arg_matches(&command().get_matches()).unwrap_or_else(|error| error.exit());
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes, each said once.
            eprintln!("greenroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
