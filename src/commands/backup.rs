//! `greenroom backup`: SQLite's two files while their master runs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_db::copy::backup;

use super::ConfigFiles;
use crate::lifecycle::database_url;

/// What stands below the help.
pub const AFTER: &str = "\
The master may run. State and log text are taken at one point in time, counted and checked by SQLite. `greenroom restore` puts a backup
back; a master that is started on it does as well. PostgreSQL and MariaDB have tools of their own (pg_dump, mariadb-dump).

Examples:
  greenroom backup --config farm.toml /backups/                    a file named by the time, and its .logs.db
  greenroom backup --config farm.toml /backups/before-upgrade.db";

/// Where to.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    files: ConfigFiles,
    /// A file that does not exist yet, or a directory, in which the file is named by the time. Log text goes beside it, into
    /// NAME.logs.db.
    #[arg(value_name = "FILE|DIR")]
    target: PathBuf,
}

/// Backs up, printing what was counted.
pub fn run(options: Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let Some(loaded) = options.files.load()? else { return Ok(ExitCode::FAILURE) };
    let database = database_url(&loaded.settings)?;
    let target = match options.target.is_dir() || options.target.as_os_str().to_string_lossy().ends_with('/')
    {
        true => options.target.join(name(jiff::Timestamp::now())),
        false => options.target,
    };
    let target = std::path::absolute(&target).context("failed to find the backup's place")?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    let done = runtime.block_on(backup(&database, Path::new("."), &target))?;
    for (table, rows) in &done.tables {
        println!("{table:<22} {rows:>12} rows");
    }
    println!("{database} was backed up to {} and {}", done.file.display(), done.logs.display());
    let objects = done.tables.iter().find(|(table, _)| *table == "log_objects").map_or(0, |(_, rows)| *rows);
    if objects > 0 {
        println!(
            "the text of large logs is not in it: back up its {objects} objects in {}, now or later",
            database.text
        );
    }
    if done.lacking > 0 {
        println!("{} logs are shorter than their builds say, in the original too", done.lacking);
    }
    Ok(ExitCode::SUCCESS)
}

/// A backup's name, by which backups sort.
fn name(now: jiff::Timestamp) -> String {
    format!("greenroom-{}.db", now.strftime("%Y%m%dT%H%M%SZ"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_named_by_the_time() {
        let at = jiff::Timestamp::from_second(1_800_000_000).unwrap_or_default();
        assert_eq!(name(at), "greenroom-20270115T080000Z.db");
    }
}
