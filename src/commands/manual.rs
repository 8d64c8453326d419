//! `greenroom completions` and `greenroom manual`: made from the command line's own description.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use clap_complete::Shell;

/// For which shell.
#[derive(Args)]
pub struct Completions {
    /// The shell whose completions are printed.
    shell: Shell,
}

/// Where manual pages go.
#[derive(Args)]
pub struct Manual {
    /// A directory that exists.
    dir: PathBuf,
}

/// Prints what a shell wants.
pub fn completions(options: &Completions) -> ExitCode {
    clap_complete::generate(options.shell, &mut crate::command(), "greenroom", &mut std::io::stdout());
    ExitCode::SUCCESS
}

/// Writes a page for each subcommand.
pub fn manual(options: &Manual) -> Result<ExitCode> {
    clap_mangen::generate_to(crate::command(), &options.dir)
        .with_context(|| format!("failed to write to {}", options.dir.display()))?;
    Ok(ExitCode::SUCCESS)
}
