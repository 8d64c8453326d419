//! `greenroom copy-db`: a whole database from one engine to another.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use greenroom_db::DatabaseOptions;
use greenroom_db::copy::{Copied, CopiedTable, copy};
use greenroom_model::Timestamp;

use crate::lifecycle::database_url;

/// What stands below the help.
pub const AFTER: &str = "\
The master of FROM must be stopped, and TO must be empty; its schema is made. Every table is read again and compared. The copy begins a new
generation: browsers and other clients take a new snapshot. Broken off, it leaves a target that no master starts on; run it again.

Examples:
  greenroom copy-db farm.toml new-farm.toml       the databases of two configurations, with their passwords
  greenroom copy-db sqlite:///var/lib/greenroom/greenroom.db postgres://greenroom@db.example.org/greenroom";

/// From where to where.
#[derive(Args)]
pub struct Options {
    /// A database url, or a configuration file whose `[database]` is meant. A password on the command line can be seen by
    /// others on this machine: better name a file.
    from: String,
    /// Where to; the same.
    to: String,
}

/// Copies, printing each table as it is verified.
pub fn run(options: &Options) -> Result<ExitCode> {
    crate::logging::start("warn");
    let (Some(from), Some(to)) = (database(&options.from)?, database(&options.to)?) else {
        return Ok(ExitCode::FAILURE);
    };
    carry(&from, &to).map(|_| ExitCode::SUCCESS)
}

/// The database that a url or the name of a configuration file means; none: the file's faults were printed.
fn database(text: &str) -> Result<Option<DatabaseOptions>> {
    if text.contains("://") || text == "memory:" {
        return Ok(Some(text.into()));
    }
    let files = super::ConfigFiles { config: vec![text.into()], set: Vec::new() };
    let Some(loaded) = files.load()? else { return Ok(None) };
    database_url(&loaded.settings).map(Some)
}

/// Copies a database into another, printing what it does.
pub fn carry(from: &DatabaseOptions, to: &DatabaseOptions) -> Result<Copied> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    let copied = runtime.block_on(copy(from, to, Path::new("."), now(), tell))?;
    let rows: u64 = copied.tables.iter().map(|it| it.sum.rows).sum();
    println!("{from} was copied to {to}: {} tables, {rows} rows, verified", copied.tables.len());
    let objects = copied.tables.iter().find(|it| it.table == "log_objects").map_or(0, |it| it.sum.rows);
    if objects > 0 {
        println!(
            "the text of large logs stays where it is, in {objects} objects: give the master of the copy the same [logs], and let only one of \
             the two databases be used"
        );
    }
    if copied.without_zero > 0 {
        println!("{} texts held zero characters, which are U+FFFD now", copied.without_zero);
    }
    Ok(copied)
}

fn tell(it: &CopiedTable) {
    println!("{:<22} {:>12} rows  checksum {:032x}", it.table, it.sum.rows, it.sum.checksum);
}

/// The time as it is stored.
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}
