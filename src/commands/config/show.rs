//! `greenroom config show`.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_config::{load, show};

use crate::commands::ConfigFiles;

/// What to show and how.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// Say beside each value which file and line, variable or flag it comes from.
    #[arg(long)]
    origin: bool,
    /// One JSON object with `values` and `origins`.
    #[arg(long)]
    json: bool,
}

/// Prints it; a configuration with faults is not shown, but its faults are.
pub fn run(options: Options) -> Result<ExitCode> {
    let terminal =
        std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
    let loaded = match load(&options.files.layers()) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{}", faults.render(std::io::stderr().is_terminal()));
            return Ok(ExitCode::FAILURE);
        }
    };
    let text = match options.json {
        true => format!("{:#}\n", show::json(&loaded)),
        false => show::toml(&loaded, show::Style { origin: options.origin, color: terminal }),
    };
    std::io::stdout().write_all(text.as_bytes()).context("failed to print")?;
    Ok(ExitCode::SUCCESS)
}
