//! The `greenroom` binary: a buildmaster, its agent and its tools behind subcommands.

mod actor_acts;
mod acts;
mod commands;
mod http;
mod lifecycle;
mod logging;
mod metrics;
mod rehearse;
mod tree;

use std::process::ExitCode;

use clap::Parser;

use commands::Command;

/// Greenroom, an actor-model buildmaster.
///
/// It watches source code, decides what to build, hands builds to workers, keeps every result and shows it live.
/// Start with `greenroom demo`.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli.command) {
        Ok(code) => code,
        Err(error) => {
            // The chain of causes, each said once.
            eprintln!("greenroom: {error:#}");
            ExitCode::FAILURE
        }
    }
}
