//! Where segments of log text are kept: a file beside a SQLite database, or memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use greenroom_model::{LogId, MasterId};
use sqlx::Row as _;
use sqlx::sqlite::SqlitePool;

use crate::engine::migrate::{SQLITE_LOGS, SchemaError, Upto};
use crate::engine::sqlite::{migrated, pieces, readers, writer};
use crate::engine::{CHUNK, EngineError, WriteTx};
use crate::messages::LogError;

/// Some lines of a log, compressed.
#[derive(Debug, Clone)]
pub struct Segment {
    pub log: LogId,
    /// The first line's number.
    pub first: i64,
    pub lines: i64,
    /// The size of the text.
    pub bytes: i64,
    pub data: Bytes,
    /// Takes the place of all segments of the log that begin at or after its first line.
    pub replaces: bool,
}

/// A store of segments.
#[async_trait]
pub trait LogStore: Send + Sync {
    /// From the commit of this transaction on only this epoch of this master writes.
    async fn claim(&self, _: &mut dyn WriteTx, _: MasterId, _epoch: i64) -> Result<(), EngineError> {
        Ok(()) // a file has one writer
    }
    /// Stores segments, all or none, durably.
    async fn write(&self, segments: &[Segment]) -> Result<(), LogError>;
    /// How many lines and bytes of a log are stored.
    async fn extent(&self, log: LogId) -> Result<(i64, i64), LogError>;
    /// The segment that holds a line.
    async fn segment(&self, log: LogId, line: i64) -> Result<Option<Segment>, LogError>;
    /// Removes whole segments past a line. Answers where the log ends then, if its last segment goes past the line.
    async fn cut(&self, log: LogId, lines: i64) -> Result<(), LogError>;
    /// How many bytes of text these logs have together.
    async fn bytes(&self, logs: &[LogId]) -> Result<i64, LogError>;
    /// Removes at most so many segments of a log that nobody writes any more; answers whether none is left.
    async fn remove(&self, log: LogId, most: i64) -> Result<bool, LogError>;
}

impl From<EngineError> for LogError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Damaged(text) => LogError::Damaged(text),
            other => LogError::Unavailable(other.to_string()),
        }
    }
}

fn unavailable(error: sqlx::Error) -> LogError {
    EngineError::from(error).into()
}

/// Segments in a SQLite file of their own.
pub struct SqliteLogs {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl SqliteLogs {
    pub async fn open(file: &Path) -> Result<Self, SchemaError> {
        let writer = writer(file).await?;
        migrated(&writer, SQLITE_LOGS, Upto::default()).await?;
        Ok(Self { writer, readers: readers(file) })
    }

    /// Closes all connections; the last one folds the write-ahead log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    async fn write_once(&self, segments: &[Segment]) -> Result<(), sqlx::Error> {
        let mut tx = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        for s in segments.iter().filter(|s| s.replaces) {
            let delete = sqlx::query("DELETE FROM segments WHERE logid = ? AND first >= ?")
                .bind(s.log.0)
                .bind(s.first);
            delete.execute(&mut *tx).await?;
        }
        for piece in pieces(segments) {
            let rows = vec!["(?,?,?,?,?)"; piece.len()].join(", ");
            let text = format!("INSERT INTO segments (logid, first, lines, bytes, data) VALUES {rows}");
            let mut insert = sqlx::query(sqlx::AssertSqlSafe(text));
            for s in piece {
                insert = insert.bind(s.log.0).bind(s.first).bind(s.lines).bind(s.bytes).bind(s.data.to_vec());
            }
            insert.execute(&mut *tx).await?;
        }
        tx.commit().await
    }
}

#[async_trait]
impl LogStore for SqliteLogs {
    async fn write(&self, segments: &[Segment]) -> Result<(), LogError> {
        let Err(error) = self.write_once(segments).await else { return Ok(()) };
        // After a full disk the driver may have lost count of the transaction: the next try gets a new connection.
        if let Ok(connection) = self.writer.acquire().await {
            connection.close().await.ok();
        }
        Err(unavailable(error))
    }

    async fn extent(&self, log: LogId) -> Result<(i64, i64), LogError> {
        let sql =
            "SELECT coalesce(max(first + lines), 0), coalesce(sum(bytes), 0) FROM segments WHERE logid = ?";
        sqlx::query_as(sql).bind(log.0).fetch_one(&self.writer).await.map_err(unavailable)
    }

    async fn segment(&self, log: LogId, line: i64) -> Result<Option<Segment>, LogError> {
        let sql = "SELECT first, lines, bytes, data FROM segments WHERE logid = ? AND first <= ? \
            ORDER BY first DESC LIMIT 1";
        let row = sqlx::query(sql)
            .bind(log.0)
            .bind(line)
            .fetch_optional(&self.readers)
            .await
            .map_err(unavailable)?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<Segment, sqlx::Error> {
            let data: Vec<u8> = row.try_get(3)?;
            let (first, lines, bytes) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Segment { log, first, lines, bytes, data: data.into(), replaces: false })
        };
        let segment = read().map_err(unavailable)?;
        Ok((line < segment.first + segment.lines).then_some(segment))
    }

    async fn cut(&self, log: LogId, lines: i64) -> Result<(), LogError> {
        let delete =
            sqlx::query("DELETE FROM segments WHERE logid = ? AND first >= ?").bind(log.0).bind(lines);
        delete.execute(&self.writer).await.map_err(unavailable)?;
        Ok(())
    }

    async fn bytes(&self, logs: &[LogId]) -> Result<i64, LogError> {
        let mut sum = 0;
        for piece in logs.chunks(CHUNK) {
            let marks = vec!["?"; piece.len()].join(",");
            let text = format!("SELECT coalesce(sum(bytes), 0) FROM segments WHERE logid IN ({marks})");
            let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
            for log in piece {
                query = query.bind(log.0);
            }
            let bytes: i64 = query.fetch_one(&self.readers).await.map_err(unavailable)?;
            sum += bytes;
        }
        Ok(sum)
    }

    async fn remove(&self, log: LogId, most: i64) -> Result<bool, LogError> {
        let sql = "DELETE FROM segments WHERE rowid IN (SELECT rowid FROM segments WHERE logid = ? LIMIT ?)";
        let delete = sqlx::query(sql).bind(log.0).bind(most);
        let done = delete.execute(&self.writer).await.map_err(unavailable)?;
        Ok(done.rows_affected() < u64::try_from(most).unwrap_or(1))
    }
}

/// Segments in memory.
#[derive(Default)]
pub struct MemoryLogs(Mutex<BTreeMap<(i64, i64), Segment>>);

impl MemoryLogs {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(i64, i64), Segment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl LogStore for MemoryLogs {
    async fn write(&self, segments: &[Segment]) -> Result<(), LogError> {
        let mut all = self.lock();
        for s in segments {
            if s.replaces {
                all.retain(|(log, first), _| *log != s.log.0 || *first < s.first);
            }
            all.insert((s.log.0, s.first), s.clone());
        }
        Ok(())
    }

    async fn extent(&self, log: LogId) -> Result<(i64, i64), LogError> {
        let all = self.lock();
        let mine = || all.range((log.0, 0)..=(log.0, i64::MAX)).map(|(_, s)| s);
        Ok((mine().last().map_or(0, |s| s.first + s.lines), mine().map(|s| s.bytes).sum()))
    }

    async fn segment(&self, log: LogId, line: i64) -> Result<Option<Segment>, LogError> {
        let all = self.lock();
        let found = all.range((log.0, 0)..=(log.0, line)).next_back().map(|(_, s)| s.clone());
        Ok(found.filter(|s| line < s.first + s.lines))
    }

    async fn cut(&self, log: LogId, lines: i64) -> Result<(), LogError> {
        self.lock().retain(|(id, first), _| *id != log.0 || *first < lines);
        Ok(())
    }

    async fn bytes(&self, logs: &[LogId]) -> Result<i64, LogError> {
        let all = self.lock();
        let of = |log: &LogId| all.range((log.0, 0)..=(log.0, i64::MAX)).map(|(_, s)| s.bytes).sum::<i64>();
        Ok(logs.iter().map(of).sum())
    }

    async fn remove(&self, log: LogId, _most: i64) -> Result<bool, LogError> {
        self.lock().retain(|(id, _), _| *id != log.0);
        Ok(true)
    }
}

/// The text of a segment.
pub fn unpack(segment: &Segment) -> Result<Vec<u8>, LogError> {
    let size = usize::try_from(segment.bytes).map_err(|_| LogError::Damaged("a negative size".into()))?;
    let text = zstd::bulk::decompress(&segment.data, size).map_err(|e| LogError::Damaged(e.to_string()))?;
    if text.len() == size { Ok(text) } else { Err(LogError::Damaged("a segment is too short".into())) }
}

/// A segment of text.
pub fn pack(log: LogId, first: i64, lines: i64, text: &[u8], replaces: bool) -> Result<Segment, LogError> {
    let data = zstd::bulk::compress(text, 1).map_err(|e| LogError::Unavailable(e.to_string()))?;
    Ok(Segment { log, first, lines, bytes: text.len() as i64, data: data.into(), replaces })
}

/// Removes what is stored of a log past its announced lines, so that it can be sent again.
pub async fn cut_to(store: &dyn LogStore, log: LogId, lines: i64) -> Result<(), LogError> {
    if store.extent(log).await?.0 <= lines {
        return Ok(());
    }
    store.cut(log, lines).await?;
    if lines == 0 {
        return Ok(());
    }
    if let Some(last) = store.segment(log, lines - 1).await?
        && last.first + last.lines > lines
    {
        let text = unpack(&last)?;
        let keep = lines - last.first;
        let end = memchr::memchr_iter(b'\n', &text).nth(usize::try_from(keep - 1).unwrap_or(0));
        let end = end.ok_or_else(|| LogError::Damaged("a segment has too few lines".into()))?;
        store.write(&[pack(log, last.first, keep, &text[..=end], true)?]).await?;
    }
    Ok(())
}
