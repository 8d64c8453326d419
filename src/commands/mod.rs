//! The subcommands, a file each.

mod actors;
mod backup;
mod check;
mod config;
mod copy_db;
mod demo;
mod force;
mod gc;
mod health;
mod init;
mod manual;
mod master;
mod migrate;
mod notify;
mod populate;
mod reload;
mod restore;
mod schema;
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
    /// Write a configuration that fits a git repository.
    Init(init::Options),
    /// Say what is wrong with a configuration, all of it at once.
    #[command(after_help = check::AFTER)]
    Check(check::Options),
    /// Print the JSON schema of a configuration, for completion and help in an editor.
    Schema(schema::Options),
    /// Print completions for a shell.
    Completions(manual::Completions),
    /// Write manual pages.
    #[command(hide = true)]
    Manual(manual::Manual),
    /// Send a change to a master, as a hook would.
    SendChange(send_change::Options),
    /// Ask a master's force scheduler for builds.
    Force(force::Options),
    /// Show the live tree of a master's actors; end or restart one for rehearsal.
    Actors(actors::Options),
    /// Say whether a master can do its work.
    Health(health::Options),
    /// List a master's notifiers, show what became of their messages, send a trial.
    #[command(subcommand)]
    Notify(notify::Command),
    /// Let a running master remove history that is older than `[retention]` says, or say what would go.
    Gc(gc::Options),
    /// Let a running master load its files again.
    Reload(reload::Options),
    /// The versions of a running master's configuration.
    #[command(subcommand)]
    Config(config::Command),
    /// Bring the database up to date with this version.
    Migrate(migrate::Options),
    /// Copy a stopped master's database into an empty one, of any engine.
    #[command(after_help = copy_db::AFTER)]
    CopyDb(copy_db::Options),
    /// Back up a SQLite database while its master runs.
    #[command(after_help = backup::AFTER)]
    Backup(backup::Options),
    /// Put a backup back, or begin a new generation of a database that was put back.
    #[command(after_help = restore::AFTER)]
    Restore(restore::Options),
    /// Fill a stopped master's database, for benchmarks.
    #[command(hide = true)]
    Populate(populate::Options),
}

/// Which configuration to use.
#[derive(Args, Clone)]
pub struct ConfigFiles {
    /// A configuration file; later ones win. Each file's `NAME.d/*.toml` belongs to it. Without any, `greenroom.toml` here, or
    /// /etc/greenroom/*.toml alone.
    #[arg(long, short, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Override one value: `--set workers.w1.max-builds=4`. Wins over files and GREENROOM_… variables.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigFiles {
    /// Which layers these are.
    pub fn layers(self) -> LoadOptions {
        let files = if self.config.is_empty() { found_files() } else { self.config };
        LoadOptions::from_process(files, self.set)
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

/// The files that are read when none is named: `greenroom.toml` here; none where only the system has some.
fn found_files() -> Vec<PathBuf> {
    let here = PathBuf::from("greenroom.toml");
    let system = LoadOptions::from_process(Vec::new(), Vec::new()).system_dir;
    let entries = system.and_then(|it| std::fs::read_dir(it).ok()).into_iter().flatten().flatten();
    let system = entries.into_iter().any(|it| it.path().extension().is_some_and(|it| it == "toml"));
    if here.exists() || !system { vec![here] } else { Vec::new() }
}

/// Runs a command. The code is what the process ends with.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Demo(options) => demo::run(options),
        Command::Master(files) => master::run(files),
        Command::Worker(options) => worker::run(options),
        Command::Init(options) => init::run(options),
        Command::Check(options) => check::run(options),
        Command::Schema(options) => schema::run(&options),
        Command::Completions(options) => Ok(manual::completions(&options)),
        Command::Manual(options) => manual::manual(&options),
        Command::SendChange(options) => send_change::run(options),
        Command::Force(options) => force::run(options),
        Command::Actors(options) => actors::run(options),
        Command::Notify(command) => notify::run(command),
        Command::Health(options) => health::run(&options),
        Command::Gc(options) => gc::run(&options),
        Command::Reload(options) => reload::run(&options),
        Command::Config(command) => config::run(command),
        Command::Migrate(options) => migrate::run(options),
        Command::CopyDb(options) => copy_db::run(&options),
        Command::Backup(options) => backup::run(options),
        Command::Restore(options) => restore::run(options),
        Command::Populate(options) => populate::run(options),
    }
}
