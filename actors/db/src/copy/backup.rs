//! SQLite's two files at one point in time, while their master runs.
//!
//! One connection reads both files in one transaction, which sees each as it was when the transaction began: the state first, log text
//! right after it. Text is stored before it is announced, so all that the state announces is there; what is newer is left out. The
//! master writes on meanwhile; its write-ahead log grows until the backup ends.

use std::fs::File;
use std::path::{Path, PathBuf};

use greenroom_model::LogId;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::CopyError;
use super::ends::{check_file, logs_beside};
use super::generation::Mark;
use crate::engine::Table;
use crate::engine::migrate::{SQLITE_LOGS, Upto};
use crate::engine::sqlite::Sqlite;
use crate::logs::TextStore;
use crate::logs::store::LogStore;
use crate::options::DatabaseOptions;
use crate::schema::{ALL, GENERATION, LOG_MOVES, LOG_OBJECTS, LOG_SEGMENTS};
use crate::store::{Kind, kind, schema_error};

/// How many logs are looked at in one go when unannounced text is cut.
const LOGS_AT_ONCE: i64 = 500;

/// What was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackedUp {
    /// The state.
    pub file: PathBuf,
    /// The text of logs.
    pub logs: PathBuf,
    /// The rows of each table, counted in both.
    pub tables: Vec<(&'static str, u64)>,
    /// Logs of which the original lacks text that it announced.
    pub lacking: u64,
}

/// Files under way: gone when this is dropped, unless they got their names.
struct Partial {
    state: PathBuf,
    logs: PathBuf,
}

impl Partial {
    fn beside(file: &Path) -> Self {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let state = file.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        Self { logs: state.with_extension("partial-logs"), state }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        for file in [&self.state, &self.logs] {
            for tail in ["", "-wal", "-shm", "-journal"] {
                // Mostly there is none.
                let _ = std::fs::remove_file(format!("{}{tail}", file.display()));
            }
        }
    }
}

/// Backs a SQLite database up into `target`, a file that does not exist yet, and the file of log text beside it. File names are
/// relative to `dir`. Whoever opens the backup begins a new generation.
pub async fn backup(database: &DatabaseOptions, dir: &Path, target: &Path) -> Result<BackedUp, CopyError> {
    let source = match kind(database, dir)? {
        Kind::Memory => return Err(CopyError::Memory),
        Kind::Postgres | Kind::MariaDb => return Err(CopyError::Server(database.to_string())),
        Kind::Sqlite(file) => file,
    };
    check_file(&source).await?;
    let target = dir.join(target);
    let logs = logs_beside(&target);
    if let Some(there) = [&target, &logs].into_iter().find(|file| file.exists()) {
        return Err(CopyError::Exists(there.clone()));
    }
    let parent = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(at(parent))?;
    let partial = Partial::beside(&target);
    make(&partial).await?;
    let (tables, lacking) = fill(&partial, &source).await?;
    cut(&partial, &database.text).await?;
    check(&partial).await?;
    // The state last: without it there is no backup.
    for (from, to) in [(&partial.logs, &logs), (&partial.state, &target)] {
        File::open(from).and_then(|file| file.sync_all()).map_err(at(from))?;
        std::fs::rename(from, to).map_err(at(to))?;
    }
    File::open(parent).and_then(|dir| dir.sync_all()).map_err(at(parent))?;
    Ok(BackedUp { file: target, logs, tables, lacking })
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> CopyError + use<> {
    let path = path.to_path_buf();
    move |source| CopyError::File { path, source }
}

/// Makes both files, empty, of this program's schema.
async fn make(partial: &Partial) -> Result<(), CopyError> {
    let state = Sqlite::open(&partial.state, Upto::default()).await;
    state.map_err(|e| schema_error(&partial.state.display(), e))?.0.close().await;
    let logs = Sqlite::open_as(&partial.logs, SQLITE_LOGS, Upto::default()).await;
    logs.map_err(|e| schema_error(&partial.logs.display(), e))?.0.close().await;
    Ok(())
}

/// A connection to one file, which changes nothing of how it is kept.
async fn connect(file: &Path) -> Result<SqliteConnection, CopyError> {
    let options = SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(std::time::Duration::from_secs(30))
        .foreign_keys(false);
    Ok(SqliteConnection::connect_with(&options).await?)
}

async fn attach(connection: &mut SqliteConnection, file: &Path, name: &str) -> Result<(), CopyError> {
    let attach = sqlx::query(AssertSqlSafe(format!("ATTACH ? AS {name}"))).bind(file.display().to_string());
    attach.execute(connection).await?;
    Ok(())
}

async fn number(connection: &mut SqliteConnection, sql: String) -> Result<i64, CopyError> {
    Ok(sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await?)
}

async fn execute(connection: &mut SqliteConnection, sql: String) -> Result<i64, CopyError> {
    let done = connection.execute(AssertSqlSafe(sql)).await?;
    Ok(i64::try_from(done.rows_affected()).unwrap_or(i64::MAX))
}

/// Log text that the state announces, whole segments.
const ANNOUNCED: &str =
    "source_logs.log_segments AS s JOIN source.logs AS l ON l.logid = s.logid WHERE s.first < l.num_lines";
/// Logs that are shorter than the state says.
const LACKING: &str = "SELECT count(*) FROM main.logs AS l WHERE l.num_lines > coalesce((SELECT s.first + s.lines \
    FROM logs.log_segments AS s WHERE s.logid = l.logid ORDER BY s.first DESC LIMIT 1), 0)";

/// Fills both files from one point in time; answers the rows of each table, and how many logs lack text.
async fn fill(partial: &Partial, source: &Path) -> Result<(Vec<(&'static str, u64)>, u64), CopyError> {
    let mut connection = connect(&partial.state).await?;
    let c = &mut connection;
    attach(c, &partial.logs, "logs").await?;
    // These files are worth nothing until they are whole; then they are synced.
    for schema in ["main", "logs"] {
        execute(c, format!("PRAGMA {schema}.journal_mode = OFF")).await?;
        execute(c, format!("PRAGMA {schema}.synchronous = OFF")).await?;
    }
    attach(c, source, "source").await?;
    attach(c, &logs_beside(source), "source_logs").await?;
    execute(c, "BEGIN".into()).await?;
    // From here on both are seen as they are now.
    let found: Option<i64> =
        sqlx::query_scalar("SELECT generation FROM source.generation").fetch_optional(&mut *c).await?;
    number(c, "SELECT count(*) FROM (SELECT 1 FROM source_logs.log_segments LIMIT 1)".into()).await?;
    let of = match found.map(Mark::of).ok_or(CopyError::Nothing)? {
        Mark::Filling => return Err(CopyError::HalfCopied),
        Mark::Lives(of) | Mark::BackupOf(of) => of,
    };
    let mut tables = Vec::new();
    for table in ALL.iter().filter(|table| table.name != GENERATION.name) {
        tables.push((table.name, fill_table(c, table).await?));
    }
    tables.extend(fill_logs(c).await?);
    let mark = Mark::BackupOf(of).stored();
    execute(c, format!("INSERT INTO main.generation (id, generation) VALUES (1, {mark})")).await?;
    execute(c, "COMMIT".into()).await?;
    let lacking = number(c, LACKING.into()).await?;
    connection.close().await?;
    Ok((tables, u64::try_from(lacking).unwrap_or(0)))
}

/// Log text, and which of it is in objects. Those that are only being written are none of the backup's.
async fn fill_logs(c: &mut SqliteConnection) -> Result<Vec<(&'static str, u64)>, CopyError> {
    let columns = |table: &Table, of: &str| {
        let columns: Vec<String> = table.columns.iter().map(|(column, _)| format!("{of}{column}")).collect();
        columns.join(", ")
    };
    let from = [
        (&LOG_SEGMENTS, ANNOUNCED),
        (&LOG_OBJECTS, "source_logs.log_objects AS s WHERE s.state = 1"),
        (&LOG_MOVES, "source_logs.log_moves AS s"),
    ];
    let mut tables = Vec::new();
    for (table, from) in from {
        let (name, into, what) = (table.name, columns(table, ""), columns(table, "s."));
        execute(c, format!("INSERT INTO logs.{name} ({into}) SELECT {what} FROM {from}")).await?;
        let read = number(c, format!("SELECT count(*) FROM {from}")).await?;
        let written = number(c, format!("SELECT count(*) FROM logs.{name}")).await?;
        tables.push((name, counted(name, read, written)?));
    }
    Ok(tables)
}

async fn fill_table(c: &mut SqliteConnection, table: &Table) -> Result<u64, CopyError> {
    let name = table.name;
    let columns: Vec<String> = table.columns.iter().map(|(column, _)| format!("\"{column}\"")).collect();
    let columns = columns.join(", ");
    execute(c, format!("INSERT INTO main.\"{name}\" ({columns}) SELECT {columns} FROM source.\"{name}\""))
        .await?;
    let read = number(c, format!("SELECT count(*) FROM source.\"{name}\"")).await?;
    counted(name, read, number(c, format!("SELECT count(*) FROM main.\"{name}\"")).await?)
}

fn counted(table: &str, read: i64, written: i64) -> Result<u64, CopyError> {
    match u64::try_from(written) {
        Ok(rows) if read == written => Ok(rows),
        _ => Err(CopyError::Damaged(format!("table {table} has {written} rows of {read}"))),
    }
}

/// Cuts text that goes past what is announced within a segment: logs that grew when the backup was made.
async fn cut(partial: &Partial, text: &TextStore) -> Result<(), CopyError> {
    let failed = |error: &dyn std::fmt::Display| CopyError::Failed(error.to_string());
    let mut connection = connect(&partial.state).await?;
    let logs = LogStore::file(&partial.logs).await.map_err(|e| schema_error(&partial.logs.display(), e))?;
    // Text may have left between the two moments.
    let logs = logs.with_objects(text, usize::MAX).map_err(|e| failed(&e))?;
    let mut last = 0_i64;
    loop {
        let open =
            "SELECT logid, num_lines FROM logs WHERE complete = 0 AND logid > ? ORDER BY logid LIMIT ?";
        let open: Vec<(i64, i64)> =
            sqlx::query_as(open).bind(last).bind(LOGS_AT_ONCE).fetch_all(&mut connection).await?;
        let Some((newest, _)) = open.last() else { break };
        last = *newest;
        for (log, lines) in open {
            logs.cut_to(LogId(log), lines).await.map_err(|e| failed(&e))?;
        }
    }
    logs.close().await;
    connection.close().await?;
    Ok(())
}

/// Has SQLite check both files, and leaves each as one file without a write-ahead log.
async fn check(partial: &Partial) -> Result<(), CopyError> {
    for file in [&partial.state, &partial.logs] {
        let mut connection = connect(file).await?;
        let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut connection).await?;
        if said != "ok" {
            return Err(CopyError::Damaged(said));
        }
        execute(&mut connection, "PRAGMA journal_mode = DELETE".into()).await?;
        connection.close().await?;
    }
    Ok(())
}
