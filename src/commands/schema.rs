//! `greenroom schema`: what a configuration file may say, for editors.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_config::schema;

/// Which description.
#[derive(Args)]
pub struct Options {
    /// The reference of all keys, in Markdown, instead of the JSON schema.
    #[arg(long)]
    reference: bool,
}

/// Prints it.
pub fn run(options: &Options) -> Result<ExitCode> {
    let text = if options.reference { schema::reference() } else { schema::text() };
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("failed to print"),
        _ => Ok(ExitCode::SUCCESS),
    }
}
