//! `greenroom worker`: our agent.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use greenroom_worker::{AgentOptions, Compress, Ended};

/// Whom to serve.
#[derive(Args)]
pub struct Options {
    /// The master's address.
    #[arg(long, value_name = "ws://HOST:PORT")]
    master: String,
    /// The worker's name, as the master's configuration has it.
    #[arg(long)]
    name: String,
    /// A file whose first line is the password.
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// Where builds work.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Compress output on its way to the master: `auto` does if that is on another machine.
    #[arg(long, value_name = "WHEN", value_enum, default_value = "auto")]
    compress: When,
    /// End when standard input does: for a worker that its master starts.
    #[arg(long, hide = true)]
    end_with_stdin: bool,
}

/// Whether output is compressed.
#[derive(Clone, Copy, ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

/// Runs until the master or a signal says stop.
pub fn run(options: Options) -> Result<ExitCode> {
    // One that a master starts shares its terminal; the master says when it comes and goes.
    crate::logging::start(if options.end_with_stdin { "error" } else { "info" });
    let password = greenroom_worker::read_password(&options.password_file)?;
    let mut agent = AgentOptions::new(options.master, options.name, password, options.dir);
    agent.end_with_stdin = options.end_with_stdin;
    agent.compress = match options.compress {
        When::Auto => Compress::Auto,
        When::Always => Compress::Always,
        When::Never => Compress::Never,
    };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    let stopped = async {
        crate::lifecycle::signal().await;
    };
    let ended = runtime.block_on(greenroom_worker::run_until(agent, stopped))?;
    match ended {
        Ended::Shutdown => tracing::info!("the master told this worker to end"),
        Ended::StdinEnded => tracing::info!("the master is gone"),
        Ended::Stopped => tracing::info!("stopped"),
    }
    Ok(ExitCode::SUCCESS)
}
