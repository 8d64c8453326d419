//! `greenroom populate`: a history to measure on.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::ConfigFiles;

/// How much.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// Finished builds.
    #[arg(long)]
    builds: u64,
    /// Steps of each, with a log each.
    #[arg(long, default_value_t = 5)]
    steps: u64,
    /// Changes.
    #[arg(long, default_value_t = 1_000)]
    changes: u64,
}

/// Fills the database.
pub fn run(options: Options) -> Result<ExitCode> {
    let _ = (options.builds, options.steps, options.changes, options.files);
    anyhow::bail!("not yet")
}
