//! `greenroom reload`: a running master loads its files again.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::config::{MasterPage, ask_for_configuration};

/// What to do.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    master: MasterPage,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Asks and prints what differs; 1 when the files have faults.
pub fn run(options: &Options) -> Result<ExitCode> {
    ask_for_configuration(&options.master, "reload", json!({ "dry-run": options.dry_run }))
}
