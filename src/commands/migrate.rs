//! `greenroom migrate`: bring the database up to date.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use greenroom_db::Upto;

use super::ConfigFiles;
use crate::lifecycle::database_url;

/// How far.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// Only say what would be done; nothing is changed.
    #[arg(long)]
    dry_run: bool,
    /// Go no further than this version; there is no way back.
    #[arg(long, value_name = "VERSION")]
    to: Option<i64>,
}

/// Applies what is missing; again is harmless, also after it was killed. A newer schema is refused.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = options.files.load()? else { return Ok(ExitCode::FAILURE) };
    let settings = loaded.settings;
    let database = database_url(&settings)?;
    let shown = database.to_string();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    let upto = Upto { version: options.to, dry_run: options.dry_run };
    if let Some(to) = options.to {
        let upto = Upto { dry_run: true, ..upto };
        let known =
            runtime.block_on(greenroom_db::migrate_to(database.clone(), &settings.master.data_dir, upto))?;
        ensure!(
            to <= known.after,
            "there is no version {to}: the newest that this program knows is {}",
            known.after
        );
    }
    let done = runtime.block_on(greenroom_db::migrate_to(database, &settings.master.data_dir, upto))?;
    for (_, name) in &done.steps {
        println!("{} {name}", if options.dry_run { "would apply" } else { "applied" });
    }
    match (done.before == done.after, options.dry_run) {
        (true, _) => println!("{shown} is up to date (version {})", done.after),
        (false, false) => println!("{shown} was brought from version {} to {}", done.before, done.after),
        (false, true) => println!("{shown} would be brought from version {} to {}", done.before, done.after),
    }
    Ok(ExitCode::SUCCESS)
}
