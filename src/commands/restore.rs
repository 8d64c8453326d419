//! `greenroom restore`: a database from a backup, as a new generation.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_db::DatabaseOptions;
use greenroom_db::copy::begin_generation;

use super::ConfigFiles;
use super::copy_db::{carry, now};
use crate::lifecycle::database_url;

/// What stands below the help.
pub const AFTER: &str = "\
With a backup: copies it into the configured database, which must be empty; it may be another engine than the backup is of. Without: the
database was put back by its server's own tools (pg_restore, mariadb …), and only a new generation begins. The master must be stopped.
In a new generation every client that remembers more than the backup holds takes a new snapshot.

Examples:
  greenroom restore --config farm.toml /backups/greenroom-20270115T080000Z.db
  pg_restore --dbname greenroom backup.dump && greenroom restore --config farm.toml";

/// From what.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// What `greenroom backup` made.
    #[arg(value_name = "BACKUP")]
    backup: Option<PathBuf>,
}

/// Restores.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = options.files.load()? else { return Ok(ExitCode::FAILURE) };
    let database = database_url(&loaded.settings)?;
    if let Some(backup) = &options.backup {
        let backup = std::path::absolute(backup).context("failed to find the backup")?;
        carry(&DatabaseOptions::from(format!("sqlite://{}", backup.display())), &database)?;
        return Ok(ExitCode::SUCCESS);
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(begin_generation(&database, Path::new("."), now()))?;
    println!("{database} begins a new generation");
    Ok(ExitCode::SUCCESS)
}
