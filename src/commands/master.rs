//! `greenroom master`: run a master until a signal says stop.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;

use super::ConfigFiles;
use crate::lifecycle;

/// Runs it.
pub fn run(files: ConfigFiles) -> Result<ExitCode> {
    crate::logging::start("info");
    let Some(loaded) = files.load()? else { return Ok(ExitCode::FAILURE) };
    lifecycle::run(Arc::new(loaded.settings), |master| async move {
        tracing::info!(url = %master.page(), "serving");
        master.stop_asked().await;
        Ok(())
    })
}
