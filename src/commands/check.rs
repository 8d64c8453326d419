//! `greenroom check`: what is wrong with a configuration.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use greenroom_config::check::{self, Format};
use greenroom_config::explain;

use super::ConfigFiles;

/// What stands below the help.
pub const AFTER: &str = "\
Exit codes: 0 the configuration can be used; 1 it cannot, or it has warnings and these are denied; 2 the command line is not understood.

Examples:
  greenroom check                            greenroom.toml in this directory
  greenroom check -c ci.toml -c local.toml   as a master with these files would read them
  greenroom check --deny-warnings --json     for CI";

/// What to check and how to say it.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// For editors and CI: one JSON object, whose form docs/reference/check.md gives.
    #[arg(long)]
    json: bool,
    /// End with 1 for warnings too.
    #[arg(long, short = 'W')]
    deny_warnings: bool,
    /// When to colour; by itself, on a terminal (unless NO_COLOR is set).
    #[arg(long, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    /// Say what a fault's code means (`unused`, `never-matches`, …), and do nothing else.
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    fn is_on(self) -> bool {
        let wanted = || std::env::var_os("NO_COLOR").is_none_or(|it| it.is_empty());
        self == Color::Always || (self == Color::Auto && std::io::stdout().is_terminal() && wanted())
    }
}

/// Prints the outcome; 0 when the configuration can be used.
pub fn run(options: Options) -> Result<ExitCode> {
    if let Some(code) = &options.explain {
        let Some(found) = explain::find(code) else {
            bail!("there is no fault `{code}`: {}", explain::suggest(code))
        };
        print(&format!("{}\n", found.text))?;
        return Ok(ExitCode::SUCCESS);
    }
    let format = if options.json { Format::Json } else { Format::Text { color: options.color.is_on() } };
    let outcome = check::run(&options.files.layers(), format, options.deny_warnings);
    print(&outcome.text)?;
    Ok(ExitCode::from(outcome.exit_code))
}

/// To standard output; that nobody reads on is no fault.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("failed to print"),
        _ => Ok(()),
    }
}
