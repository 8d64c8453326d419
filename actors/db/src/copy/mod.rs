//! Whole databases: copied from one engine to another, backed up while a master runs, begun anew when they are put back.
//!
//! | file | |
//! |---|---|
//! | `ends` | opening both ends: one that nobody writes to, one that is empty |
//! | `table` | rows page by page, sums over them |
//! | `generation` | marks of what is unfinished or a backup; beginning a generation |
//! | `backup` | SQLite's two files at one point in time |
//!
//! While a copy is under way its target bears a mark, for which every master refuses it; the mark goes when all tables were read
//! again and found to be what was read from the source.

mod backup;
mod ends;
pub(crate) mod generation;
mod table;

use std::path::{Path, PathBuf};

use greenroom_model::Timestamp;

use crate::engine::{Engine, EngineError, ReadTx, Row, Table, Value};
use crate::options::DatabaseOptions;
use crate::schema::GENERATION;
use crate::store::OpenError;

pub use backup::{BackedUp, backup};
use ends::End;
use generation::Mark;
use table::Pages;
pub use table::Sum;

/// Why a database was not copied, backed up or begun anew.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// It could not be opened.
    #[error(transparent)]
    Open(OpenError),
    /// `memory:` is neither source nor target.
    #[error("`memory:` ends with its process: there is nothing to copy")]
    Memory,
    /// Source and target are one.
    #[error("source and target are the same database")]
    Same,
    /// There is no such file.
    #[error("there is no database {0}")]
    Missing(PathBuf),
    /// No master ever ran on the source.
    #[error("the source holds nothing: no master ever ran on it")]
    Nothing,
    /// Its schema is older than this program's.
    #[error(
        "the database has schema {found}, this program writes {known}: run `greenroom migrate` on it first"
    )]
    Outdated {
        /// The database's schema.
        found: i64,
        /// This program's.
        known: i64,
    },
    /// A master runs on it.
    #[error("the master {0:?} runs on this database: stop it first")]
    Runs(String),
    /// The target holds something already.
    #[error("the target is not empty (table {0}): copy into an empty database")]
    NotEmpty(&'static str),
    /// Another copy into the target is under way.
    #[error("another copy into this database is under way")]
    Copying,
    /// The source is itself an unfinished copy.
    #[error("the database holds an unfinished copy")]
    HalfCopied,
    /// Only SQLite is backed up by this program.
    #[error(
        "{0} is a server: back it up by its own tools while the master runs (`pg_dump --format=custom`, `mariadb-dump \
        --single-transaction`, …); after putting it back run `greenroom restore`"
    )]
    Server(String),
    /// The file of a backup is there already.
    #[error("{0} exists already")]
    Exists(PathBuf),
    /// What was written is not what was read. The target keeps its mark.
    #[error("table {table}: {read:?} were read, {written:?} were written")]
    Differs {
        /// Which.
        table: &'static str,
        /// In the source.
        read: Sum,
        /// In the target.
        written: Sum,
    },
    /// A check of SQLite found a fault in what was written.
    #[error("the copy is damaged: {0}")]
    Damaged(String),
    /// A file could not be made.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl From<EngineError> for CopyError {
    fn from(error: EngineError) -> Self {
        CopyError::Failed(error.to_string())
    }
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        CopyError::Failed(error.to_string())
    }
}

/// A table that was copied and read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedTable {
    /// Its name in the target.
    pub table: &'static str,
    /// Its rows, the same in both.
    pub sum: Sum,
}

/// A database that was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Every table.
    pub tables: Vec<CopiedTable>,
    /// The target's generation.
    pub generation: i64,
    /// Texts in which zero characters became U+FFFD, because PostgreSQL knows none.
    pub without_zero: u64,
}

/// Copies a database of which no master runs into an empty one, of whichever engine; `tell` hears of each table that was read again
/// and found the same. File names are relative to `dir`. Broken off, it leaves a target that is refused until it is copied anew.
pub async fn copy(
    from: &DatabaseOptions,
    to: &DatabaseOptions,
    dir: &Path,
    now: Timestamp,
    mut tell: impl FnMut(&CopiedTable),
) -> Result<Copied, CopyError> {
    if from.url == to.url {
        return Err(CopyError::Same);
    }
    let (source, mark) = End::stopped(from, dir).await?;
    if mark == Mark::Filling {
        return Err(CopyError::HalfCopied);
    }
    let target = End::empty(to, dir).await?;
    let old = mark.stored().abs();
    let mut carry =
        Carry { old, new: generation::next(old, now), replace_zero: target.without_zero, replaced: 0 };
    let mut tables = Vec::new();
    for ((from, read), (to, written)) in source.tables().into_iter().zip(target.tables()) {
        let sum = copy_table(&*from, read, &*to, written, &mut carry).await?;
        let found = table::sum(&mut *to.read().await?, written).await?;
        if found != sum {
            return Err(CopyError::Differs { table: written.name, read: sum, written: found });
        }
        let copied = CopiedTable { table: written.name, sum };
        tell(&copied);
        tables.push(copied);
    }
    let mut tx = target.engine.write().await?;
    tx.upsert(&GENERATION, &[vec![1.into(), carry.new.into()]]).await?;
    tx.commit().await?;
    target.close().await;
    source.close().await;
    Ok(Copied { tables, generation: carry.new, without_zero: carry.replaced })
}

/// What rows become on their way.
struct Carry {
    old: i64,
    new: i64,
    replace_zero: bool,
    replaced: u64,
}

impl Carry {
    fn row(&mut self, table: &'static Table, row: Row) -> Row {
        let mut row = generation::carried(table, row, self.old, self.new);
        for value in row.iter_mut().filter(|_| self.replace_zero) {
            if let Value::Text(text) = value
                && text.contains('\0')
            {
                *value = text.replace('\0', "\u{fffd}").into();
                self.replaced += 1;
            }
        }
        row
    }
}

/// Copies one table, a page a transaction; answers the sum of what was read.
async fn copy_table(
    from: &dyn Engine,
    read: &'static Table,
    to: &dyn Engine,
    written: &'static Table,
    carry: &mut Carry,
) -> Result<Sum, CopyError> {
    let mut source: Box<dyn ReadTx> = from.read().await?;
    let (mut pages, mut sum) = (Pages::of(read), Sum::default());
    loop {
        let rows = pages.next(&mut *source).await?;
        if rows.is_empty() {
            return Ok(sum);
        }
        let rows: Vec<Row> = rows.into_iter().map(|row| carry.row(read, row)).collect();
        rows.iter().for_each(|row| sum.add(row));
        let mut tx = to.write().await?;
        tx.insert(written, &rows).await?;
        tx.commit().await?;
    }
}

/// Begins a new generation of a database that was put back from a backup and of which no master runs: whoever holds a clock of what
/// came after the backup is told that it is gone. Answers the generation.
pub async fn begin_generation(
    database: &DatabaseOptions,
    dir: &Path,
    now: Timestamp,
) -> Result<i64, CopyError> {
    let (end, mark) = End::stopped(database, dir).await?;
    if mark == Mark::Filling {
        return Err(CopyError::HalfCopied);
    }
    let mut tx = end.engine.write().await?;
    let generation = generation::begin(&mut *tx, mark, now).await?;
    tx.commit().await?;
    end.close().await;
    Ok(generation)
}
