//! `greenroom config rollback`.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::{MasterPage, ask_for_configuration};

/// Which version.
#[derive(Args)]
pub struct Options {
    /// Its number, as `greenroom config history` shows it; the one before that in force if it is left out.
    number: Option<i64>,
    #[command(flatten)]
    master: MasterPage,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
}

/// Asks and prints what differs.
pub fn run(options: &Options) -> Result<ExitCode> {
    let params = json!({ "number": options.number, "dry-run": options.dry_run });
    ask_for_configuration(&options.master, "rollback", params)
}
