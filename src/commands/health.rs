//! `greenroom health`: whether a master can do its work.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::http;

/// Which master.
#[derive(Args)]
pub struct Options {
    /// The master's page.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8010/")]
    master: String,
}

/// Prints what `/health` says; 0 unless the master cannot do its work or is not there.
pub fn run(options: &Options) -> Result<ExitCode> {
    let (well, answer) = http::get_any(&http::under(&options.master, "health")?)?;
    println!("{}", answer.trim());
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
