//! Segments in tables of a database that masters share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use async_trait::async_trait;
use greenroom_model::{LogId, MasterId};

use super::store::{LogStore, Segment};
use crate::engine::Comparison::{Ge, Le};
use crate::engine::{CHUNK, Cond, Engine, EngineError, Row, Select, Value, WriteTx};
use crate::messages::LogError;
use crate::rows::Fields;
use crate::schema::{LOG_SEGMENTS, LOG_WRITERS};

/// Segments in the tables of an engine. Each transaction proves first that the place of this master is still ours, by a row
/// that only writers of log text lock.
pub struct TableLogs {
    engine: Arc<dyn Engine>,
    /// Whose text is written; 0: nobody's yet.
    master: AtomicI64,
    epoch: AtomicI64,
}

impl TableLogs {
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine, master: AtomicI64::new(0), epoch: AtomicI64::new(0) }
    }

    /// Begins a transaction in which nobody can take our place.
    async fn begin(&self) -> Result<Box<dyn WriteTx>, LogError> {
        let mut tx = self.engine.write().await?;
        let (master, epoch) = (self.master.load(Ordering::Relaxed), self.epoch.load(Ordering::Relaxed));
        let conds = [Cond::eq("masterid", master), Cond::eq("epoch", epoch)];
        match tx.set(&LOG_WRITERS, &[("epoch", epoch.into())], &conds).await? {
            1 => Ok(tx),
            _ => Err(LogError::Unavailable("this master was taken over by another process".into())),
        }
    }
}

fn from(log: LogId, first: i64) -> Vec<Cond> {
    vec![Cond::eq("logid", log.0), Cond::is("first", Ge, first)]
}

fn row(s: &Segment) -> Row {
    vec![s.log.0.into(), s.first.into(), s.lines.into(), s.bytes.into(), Value::Blob(s.data.clone())]
}

fn segment(row: Row) -> Result<Segment, EngineError> {
    let mut f = Fields::new(&LOG_SEGMENTS, row);
    let (log, first, lines, bytes) = (f.id()?, f.int()?, f.int()?, f.int()?);
    Ok(Segment { log, first, lines, bytes, data: f.blob()?, replaces: false })
}

/// The last segment that begins at or before a line.
async fn last(
    tx: &mut dyn crate::engine::ReadTx,
    log: LogId,
    line: i64,
) -> Result<Option<Segment>, EngineError> {
    let select = Select::from(&LOG_SEGMENTS)
        .filter(Cond::eq("logid", log.0))
        .filter(Cond::is("first", Le, line))
        .order("first", true)
        .limit(1);
    tx.select(&select).await?.into_iter().next().map(segment).transpose()
}

/// A commit whose answer is lost is tried again: writing the same segments twice is writing them once.
fn stored(outcome: Result<(), EngineError>) -> Result<(), LogError> {
    outcome.map_err(LogError::from)
}

#[async_trait]
impl LogStore for TableLogs {
    async fn claim(&self, tx: &mut dyn WriteTx, master: MasterId, epoch: i64) -> Result<(), EngineError> {
        tx.upsert(&LOG_WRITERS, &[vec![master.0.into(), epoch.into()]]).await?;
        self.master.store(master.0, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    async fn write(&self, segments: &[Segment]) -> Result<(), LogError> {
        let mut tx = self.begin().await?;
        for s in segments.iter().filter(|s| s.replaces) {
            tx.delete(&LOG_SEGMENTS, &from(s.log, s.first)).await?;
        }
        let rows: Vec<Row> = segments.iter().map(row).collect();
        tx.upsert(&LOG_SEGMENTS, &rows).await?;
        stored(tx.commit().await)
    }

    async fn extent(&self, log: LogId) -> Result<(i64, i64), LogError> {
        let mut tx = self.engine.read().await?;
        let Some(last) = last(&mut *tx, log, i64::MAX).await? else { return Ok((0, 0)) };
        let bytes = tx.sum(&LOG_SEGMENTS, "bytes", &[Cond::eq("logid", log.0)]).await?;
        Ok((last.first + last.lines, bytes))
    }

    async fn segment(&self, log: LogId, line: i64) -> Result<Option<Segment>, LogError> {
        let mut tx = self.engine.read().await?;
        let found = last(&mut *tx, log, line).await?;
        Ok(found.filter(|s| line < s.first + s.lines))
    }

    async fn cut(&self, log: LogId, lines: i64) -> Result<(), LogError> {
        let mut tx = self.begin().await?;
        tx.delete(&LOG_SEGMENTS, &from(log, lines)).await?;
        stored(tx.commit().await)
    }

    async fn bytes(&self, logs: &[LogId]) -> Result<i64, LogError> {
        let (mut tx, mut sum) = (self.engine.read().await?, 0);
        for piece in logs.chunks(CHUNK) {
            let of = [Cond::ids("logid", piece.iter().map(|log| log.0))];
            sum += tx.sum(&LOG_SEGMENTS, "bytes", &of).await?;
        }
        Ok(sum)
    }

    /// Nobody writes to such a log, so the place of this master need not be proved, and no writer waits for it.
    async fn remove(&self, log: LogId, most: i64) -> Result<bool, LogError> {
        let mut tx = self.engine.write().await?;
        let mine = Cond::eq("logid", log.0);
        let Some(end) = tx.max(&LOG_SEGMENTS, "first", std::slice::from_ref(&mine)).await? else {
            return Ok(true);
        };
        let next = Select::from(&LOG_SEGMENTS).filter(mine.clone()).order("first", false).limit(1);
        let first = match tx.select(&next).await?.into_iter().next() {
            Some(row) => segment(row)?,
            None => return Ok(true),
        };
        // Segments of one log are about as long as its first; the last one may be any.
        let upto = first.first.saturating_add(first.lines.max(1).saturating_mul(most)).min(end);
        tx.delete(&LOG_SEGMENTS, &[mine, Cond::is("first", Le, upto)]).await?;
        stored(tx.commit().await)?;
        Ok(upto >= end)
    }
}
