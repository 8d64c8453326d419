//! `greenroom master`: run a master until a signal says stop.

use std::process::ExitCode;

use anyhow::Result;

use super::ConfigFiles;
use crate::lifecycle::{self, Configured};

/// Runs it.
pub fn run(files: ConfigFiles) -> Result<ExitCode> {
    crate::logging::start("info");
    crate::limits::open_all_files();
    let options = files.clone().layers();
    let Some(loaded) = files.load()? else { return Ok(ExitCode::FAILURE) };
    lifecycle::run(Configured { loaded, options: Some(options) }, |master| async move {
        tracing::info!(url = %master.page(), "serving");
        crate::systemd::ready(master.page());
        master.stop_asked().await;
        crate::systemd::stopping();
        Ok(())
    })
}
