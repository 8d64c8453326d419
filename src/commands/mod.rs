//! The subcommands, a file each.

mod actors;
mod check;
mod demo;
mod force;
mod master;
mod migrate;
mod populate;
mod send_change;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use greenroom_config::{LoadOptions, Loaded};

/// What `greenroom` can do.
#[derive(Subcommand)]
pub enum Command {
    /// Show a live farm: a master, a local worker and a real repository in which somebody works.
    Demo(demo::Options),
    /// Run a master.
    Master(ConfigFiles),
    /// Run a worker: it connects to a master and runs the commands of its builds.
    Worker(worker::Options),
    /// Say what is wrong with a configuration, all of it at once.
    Check(check::Options),
    /// Send a change to a master, as a hook would.
    SendChange(send_change::Options),
    /// Ask a master's force scheduler for builds.
    Force(force::Options),
    /// Show the live tree of a master's actors; end or restart one for rehearsal.
    Actors(actors::Options),
    /// Bring the database up to date with this version.
    Migrate(ConfigFiles),
    /// Fill a stopped master's database, for benchmarks.
    #[command(hide = true)]
    Populate(populate::Options),
}

/// Which configuration to use.
#[derive(Args, Clone)]
pub struct ConfigFiles {
    /// A configuration file; later ones win. Each file's `NAME.d/*.toml` belongs to it.
    #[arg(long, short, value_name = "FILE", required = true)]
    pub config: Vec<PathBuf>,
    /// Override one value: `--set workers.w1.max-builds=4`. Wins over files and GREENROOM_… variables.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigFiles {
    /// Which layers these are.
    pub fn layers(self) -> LoadOptions {
        LoadOptions::from_process(self.config, self.set)
    }

    /// Loads them. All faults are printed at once; then there is no configuration.
    pub fn load(self) -> Result<Option<Loaded>> {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        match greenroom_config::load(&self.layers()) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    tracing::warn!(key = %warning.key, "{}", warning.message);
                }
                Ok(Some(loaded))
            }
            Err(faults) => {
                eprintln!("{}", faults.render(color));
                Ok(None)
            }
        }
    }
}

/// Runs a command. The code is what the process ends with.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(options) => demo::run(options),
        Command::Master(files) => master::run(files),
        Command::Worker(options) => worker::run(options),
        Command::Check(options) => check::run(options),
        Command::SendChange(options) => send_change::run(options),
        Command::Force(options) => force::run(options),
        Command::Actors(options) => actors::run(options),
        Command::Migrate(files) => migrate::run(files),
        Command::Populate(options) => populate::run(options),
    }
}
