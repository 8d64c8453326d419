//! The SQLite engine: WAL, every commit synced, one writing connection and a few that read.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Row as _, Sqlite as Db, Transaction};

use super::migrate::{self, Migrated, Migrations, SchemaError, Upto};
use super::sql::{Bound, COUNTED, Dialect, EACH, Sql, counts};
use super::*;

const SQL: Dialect = Dialect::Sqlite;
/// The most rows of one statement.
const ROWS: usize = 64;
/// Connections that read at the same time.
const READERS: u32 = 4;
/// How long a transaction waits for its connection.
const ACQUIRE: Duration = Duration::from_secs(10);

/// A database in a file.
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// The options of every connection to a file.
pub fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(false)
        .statement_cache_capacity(512)
        .pragma("journal_size_limit", "67108864")
        .pragma("temp_store", "memory")
}

/// A pool of one connection that writes.
pub async fn writer(file: &Path) -> Result<SqlitePool, EngineError> {
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_with(options(file).create_if_missing(true).pragma("cache_size", "-16384"));
    Ok(pool.await?)
}

/// A pool of connections that only read.
pub fn readers(file: &Path) -> SqlitePool {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(ACQUIRE)
        .test_before_acquire(false)
        .connect_lazy_with(options(file).read_only(true))
}

impl Sqlite {
    /// Opens the file, bringing its schema up to date. Answers what was done, too.
    pub async fn open(file: &Path, upto: Upto) -> Result<(Self, Migrated), SchemaError> {
        Self::open_as(file, migrate::SQLITE, upto).await
    }

    /// As [`Sqlite::open`], of a file of another schema.
    pub async fn open_as(
        file: &Path,
        known: &Migrations,
        upto: Upto,
    ) -> Result<(Self, Migrated), SchemaError> {
        let writer = writer(file).await?;
        let migrated = migrated(&writer, known, upto).await?;
        Ok((Self { writer, readers: readers(file) }, migrated))
    }

    /// Closes all connections; the last one folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Brings a file's schema up to date.
pub async fn migrated(pool: &SqlitePool, known: &Migrations, upto: Upto) -> Result<Migrated, SchemaError> {
    let mut connection = pool.acquire().await.map_err(EngineError::from)?;
    migrate::sqlite(&mut connection, known, upto).await
}

/// What opening a file would do; the file is left alone.
pub async fn planned(file: &Path, upto: Upto) -> Result<Migrated, SchemaError> {
    if !file.exists() {
        return migrate::plan(migrate::SQLITE, 0, upto);
    }
    // Not even its journal is changed: a backup has none.
    let looking =
        SqliteConnectOptions::new().filename(file).read_only(true).busy_timeout(Duration::from_secs(5));
    let pool =
        SqlitePoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).connect_lazy_with(looking);
    let planned = migrated(&pool, migrate::SQLITE, Upto { dry_run: true, ..upto }).await;
    pool.close().await;
    planned
}

impl From<sqlx::Error> for EngineError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
            sqlx::Error::Database(db) if db.is_unique_violation() => EngineError::Conflict(text),
            sqlx::Error::Database(db) => {
                match db.code().and_then(|c| c.parse::<i32>().ok()).map(|c| c & 0xff) {
                    // busy, locked, out of memory, read-only, I/O, full, cannot open
                    Some(5 | 6 | 7 | 8 | 10 | 13 | 14) => EngineError::Unavailable(text),
                    // corrupt, not a database
                    Some(11 | 26) => EngineError::Damaged(text),
                    _ => EngineError::Rejected(text),
                }
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => EngineError::Damaged(text),
            sqlx::Error::Encode(_) | sqlx::Error::Protocol(_) => EngineError::Rejected(text),
            _ => EngineError::Unavailable(text),
        }
    }
}

#[async_trait]
impl Engine for Sqlite {
    async fn write(&self) -> Result<Box<dyn WriteTx>, EngineError> {
        let begun = match self.writer.begin_with("BEGIN IMMEDIATE").await {
            Ok(begun) => begun,
            Err(error) => {
                // When the disk is full SQLite ends the transaction by itself and the driver loses count of it: start anew.
                tracing::debug!(db.error = %error, "the writing connection is replaced");
                self.writer.acquire().await?.close().await.ok();
                self.writer.begin_with("BEGIN IMMEDIATE").await?
            }
        };
        Ok(Box::new(SqliteTx(begun)))
    }

    async fn read(&self) -> Result<Box<dyn ReadTx>, EngineError> {
        Ok(Box::new(SqliteTx(self.readers.begin().await?)))
    }

    async fn will_be_filled(&self) -> Result<(), EngineError> {
        // Pages to which each of thousands of indexed rows adds are kept, and written to the file seldom.
        for pragma in ["PRAGMA cache_size = -262144", "PRAGMA wal_autocheckpoint = 50000"] {
            sqlx::query(pragma).execute(&self.writer).await?;
        }
        Ok(())
    }

    fn exclusive(&self) -> bool {
        true // by the lock on the file beside it
    }
}

struct SqliteTx(Transaction<'static, Db>);

/// The statement with its values.
fn query(sql: Sql<'_>) -> Query<'static, Db, SqliteArguments> {
    record::note(SQL, &sql);
    let mut query = sqlx::query(AssertSqlSafe(sql.text));
    for bound in sql.values {
        let Bound::One(value, _) = bound else { continue }; // arrays are PostgreSQL's
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Int(v) => query.bind(*v),
            Value::Text(v) => query.bind(v.to_string()),
            Value::Blob(v) => query.bind(v.to_vec()),
        };
    }
    query
}

/// Cuts rows into pieces of a power of two, so that few distinct statements are prepared.
pub fn pieces<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = if rows.len() >= ROWS { ROWS } else { 1 << rows.len().checked_ilog2()? };
        let (piece, rest) = rows.split_at(size);
        rows = rest;
        Some(piece)
    })
}

fn read_row(table: &Table, row: &SqliteRow) -> Result<Row, EngineError> {
    let value = |(i, (_, ty)): (usize, &(&str, ColumnType))| -> Result<Value, sqlx::Error> {
        Ok(match ty {
            ColumnType::Int => row.try_get_unchecked::<Option<i64>, _>(i)?.into(),
            ColumnType::Text => row.try_get_unchecked::<Option<&str>, _>(i)?.into(),
            ColumnType::Blob => row
                .try_get_unchecked::<Option<&[u8]>, _>(i)?
                .map_or(Value::Null, |b| Value::Blob(Bytes::copy_from_slice(b))),
        })
    };
    Ok(table.columns.iter().enumerate().map(value).collect::<Result<_, _>>()?)
}

#[async_trait]
impl ReadTx for SqliteTx {
    async fn select(&mut self, select: &Select) -> Result<Vec<Row>, EngineError> {
        let rows = query(Sql::select(SQL, select)).fetch_all(&mut *self.0).await?;
        rows.iter().map(|row| read_row(select.table, row)).collect()
    }

    async fn select_each(&mut self, selects: &[Select]) -> Result<Vec<Row>, EngineError> {
        let mut all = Vec::new();
        for piece in selects.chunks(EACH) {
            let table = piece[0].table;
            let rows = query(Sql::select_each(SQL, table, piece)).fetch_all(&mut *self.0).await?;
            for row in &rows {
                all.push(read_row(table, row)?);
            }
        }
        Ok(all)
    }

    async fn count_each(&mut self, selects: &[Select]) -> Result<Vec<u64>, EngineError> {
        let mut all = Vec::with_capacity(selects.len());
        for piece in selects.chunks(EACH) {
            let rows = query(Sql::count_each(SQL, piece[0].table, piece)).fetch_all(&mut *self.0).await?;
            let rows = rows.iter().map(|row| read_row(&COUNTED, row)).collect::<Result<_, _>>()?;
            all.extend(counts(rows, piece.len())?);
        }
        Ok(all)
    }

    async fn count(&mut self, select: &Select) -> Result<u64, EngineError> {
        let sql = Sql::count(SQL, select);
        let row = query(sql).fetch_one(&mut *self.0).await?;
        Ok(u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0))
    }

    async fn max(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<Option<i64>, EngineError> {
        let sql = Sql::aggregate(SQL, table, "max(", Some(column), ")", conds);
        let row = query(sql).fetch_one(&mut *self.0).await?;
        Ok(row.try_get_unchecked::<Option<i64>, _>(0)?)
    }

    async fn explain(&mut self) -> Result<Vec<Explained>, EngineError> {
        let mut all = Vec::new();
        for statement in record::seen(SQL) {
            let plan =
                query(statement.after(SQL, "EXPLAIN QUERY PLAN ", false)).fetch_all(&mut *self.0).await;
            let plan = match plan {
                // A statement for another file.
                Err(error) if error.to_string().contains("no such table") => continue,
                plan => plan?,
            };
            let plan = plan.iter().map(|row| row.try_get::<String, _>("detail"));
            all.push((statement.text.clone(), plan.collect::<Result<_, _>>()?));
        }
        Ok(all)
    }

    async fn sum(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<i64, EngineError> {
        let sql = Sql::aggregate(SQL, table, "coalesce(sum(", Some(column), "), 0)", conds);
        let row = query(sql).fetch_one(&mut *self.0).await?;
        Ok(row.try_get_unchecked::<i64, _>(0)?)
    }
}

impl SqliteTx {
    async fn insert_by(&mut self, how: &str, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        for piece in pieces(rows) {
            let mut sql = Sql::new(SQL, table, how);
            sql.name(table.name).push(" (").columns().push(") VALUES ").rows(piece);
            query(sql).execute(&mut *self.0).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl WriteTx for SqliteTx {
    async fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        self.insert_by("INSERT INTO ", table, rows).await
    }

    async fn upsert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        self.insert_by("INSERT OR REPLACE INTO ", table, rows).await
    }

    async fn update(&mut self, table: &'static Table, rows: &[(i64, Row)]) -> Result<u64, EngineError> {
        let (key, columns) = (table.columns[0].0, table.columns);
        let mut done = 0;
        for piece in pieces(rows) {
            let expected: Vec<Value> = piece.iter().map(|(version, _)| Value::Int(*version)).collect();
            let mut sql = Sql::new(SQL, table, "UPDATE ");
            sql.name(table.name).push(" SET ");
            for (i, (name, _)) in columns.iter().enumerate().skip(1) {
                sql.push(if i > 1 { ", " } else { "" }).name(name).push(&format!(" = v.column{}", i + 1));
            }
            sql.push(" FROM (VALUES ")
                .rows(piece.iter().zip(&expected).map(|((_, row), e)| row.iter().chain([e])));
            sql.push(&format!(
                ") AS v WHERE {0}.{key} = v.column1 AND {0}.version = v.column{1}",
                table.name,
                columns.len() + 1
            ));
            done += query(sql).execute(&mut *self.0).await?.rows_affected();
        }
        Ok(done)
    }

    async fn set(
        &mut self,
        table: &'static Table,
        values: &[(&'static str, Value)],
        conds: &[Cond],
    ) -> Result<u64, EngineError> {
        Ok(query(Sql::set(SQL, table, values, conds)).execute(&mut *self.0).await?.rows_affected())
    }

    async fn delete(&mut self, table: &'static Table, conds: &[Cond]) -> Result<u64, EngineError> {
        Ok(query(Sql::delete(SQL, table, conds)).execute(&mut *self.0).await?.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), EngineError> {
        self.0.commit().await.map_err(|error| {
            let text = error.to_string();
            match &error {
                // Busy and full are told before anything is made durable.
                sqlx::Error::Database(db)
                    if matches!(
                        db.code().and_then(|c| c.parse::<i32>().ok()).map(|c| c & 0xff),
                        Some(5 | 13)
                    ) =>
                {
                    EngineError::Unavailable(text)
                }
                _ => EngineError::Unknown(text),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_row_once_in_order() {
        for n in [0, 1, 2, 3, 63, 64, 65, 200] {
            let rows: Vec<usize> = (0..n).collect();
            let cut: Vec<&[usize]> = pieces(&rows).collect();
            assert_eq!(cut.concat(), rows);
            assert!(cut.iter().all(|p| p.len().is_power_of_two() && p.len() <= ROWS));
        }
    }

    #[tokio::test]
    async fn the_migrations_make_the_schema() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.db");
        let Ok((db, _)) = Sqlite::open(&file, Upto::default()).await else { panic!("no database") };
        for table in crate::schema::ALL {
            let sql = format!("SELECT name FROM pragma_table_info('{}') ORDER BY cid", table.name);
            let found: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&db.writer).await.unwrap();
            let wanted: Vec<&str> = table.columns.iter().map(|c| c.0).collect();
            assert_eq!(found, wanted, "{}", table.name);
        }
    }
}
