//! `greenroom migrate`: bring the database up to date.

use std::process::ExitCode;

use anyhow::{Context, Result};

use super::ConfigFiles;
use crate::lifecycle::database_url;

/// Applies what is missing; again is harmless.
pub fn run(files: ConfigFiles) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = files.load()? else { return Ok(ExitCode::FAILURE) };
    let settings = loaded.settings;
    let url = database_url(&settings)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    let (before, after) = runtime.block_on(greenroom_db::migrate(&url, &settings.master.data_dir))?;
    if before == after {
        println!("{url} is up to date (version {after})");
    } else {
        println!("{url} was brought from version {before} to {after}");
    }
    Ok(ExitCode::SUCCESS)
}
