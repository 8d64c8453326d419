//! `greenroom check`: what is wrong with a configuration.

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Args;
use greenroom_config::check::{self, Format};

use super::ConfigFiles;

/// What to check and how to say it.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// For editors and CI.
    #[arg(long)]
    json: bool,
}

/// Prints the outcome; 0 when the configuration can be used.
pub fn run(options: Options) -> ExitCode {
    let color = std::io::stdout().is_terminal();
    let format = if options.json { Format::Json } else { Format::Text { color } };
    let outcome = check::run(&options.files.layers(), format);
    print!("{}", outcome.text);
    ExitCode::from(outcome.exit_code)
}
