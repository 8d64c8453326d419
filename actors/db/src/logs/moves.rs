//! Text leaves the database for an object store.
//!
//! New text always goes to the database, in the commit that makes it durable. When enough of a log has gathered, or a log has ended,
//! its segments are written together as one object, and then their rows are changed to say where in it they are. So a store that
//! is away delays nothing but this, and text is always found by one index.
//!
//! An object is announced by a row (`WRITING`) before it is written, and taken into use (`STORED`) in the transaction that changes the
//! segments' rows, under the same fence as all log text. Whatever breaks off in between leaves a row by which the object is removed
//! later. Rows that are changed must still be as they were read: of two that move the same text, one does.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use greenroom_model::{Log, LogId};

use super::assembly::SEGMENT;
use super::store::{LogStore, Segment, object, segment};
use crate::engine::Comparison::{Ge, Gt, Lt, Ne};
use crate::engine::{Cond, Engine, EngineError, Select, Value, WriteTx};
use crate::messages::LogError;
use crate::rows::{Fields, load};
use crate::schema::{LOG_MOVES, LOG_OBJECTS, LOG_SEGMENTS, LOG_WRITERS, LOGS};

const WRITING: i64 = 0;
const STORED: i64 = 1;
const LEFT: i64 = 2;
/// An object has at most so many segments.
const SEGMENTS: u64 = 64;
/// Logs that are looked at in one go.
const LOGS_AT_ONCE: u64 = 32;
/// Objects that are removed in one go.
const OBJECTS_AT_ONCE: u64 = 100;
/// Logs that are remembered as marked.
const MARKED: usize = 4_096;

/// How large an object is, in bytes of text, unless a log ends before.
pub const OBJECT: usize = 4 * 1024 * 1024;

/// Logs that are known to have a row in `log_moves`.
#[derive(Default)]
pub struct Marked(Mutex<HashSet<LogId>>);

impl Marked {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<LogId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, logs: Vec<LogId>) {
        let mut known = self.lock();
        if known.len() + logs.len() > MARKED {
            known.clear();
        }
        known.extend(logs);
    }
}

/// A log with text that is to leave.
struct Mark {
    log: LogId,
    /// What is before this line has left.
    first: i64,
}

/// What is known of a log's end.
#[derive(Clone, Copy)]
struct Extent {
    /// Lines that everybody knows of; what is after them may be cut.
    lines: i64,
    complete: bool,
}

impl LogStore {
    /// Marks logs of which a whole segment is stored as having text that is to leave. Shorter logs stay.
    pub(super) async fn mark(
        &self,
        tx: &mut dyn WriteTx,
        segments: &[Segment],
    ) -> Result<Vec<LogId>, EngineError> {
        if self.objects.is_none() {
            return Ok(Vec::new());
        }
        let mut large: Vec<LogId> = {
            let known = self.marked.lock();
            let large = segments.iter().filter(|s| s.bytes >= SEGMENT as i64 && s.object.is_none());
            large.map(|s| s.log).filter(|log| !known.contains(log)).collect()
        };
        large.sort_unstable();
        large.dedup();
        for log in &large {
            let there = Select::from(&LOG_MOVES).filter(Cond::eq("logid", log.0));
            if tx.count(&there).await? == 0 {
                let master = self.master.load(Ordering::Relaxed);
                tx.insert(&LOG_MOVES, &[vec![log.0.into(), master.into(), 0.into()]]).await?;
            }
        }
        Ok(large)
    }

    /// Removes objects that were begun and never taken into use: by former lives of masters and, `mine`, by an earlier writer of
    /// this one. Answers whether there may be more.
    pub async fn sweep_objects(&self, mine: bool) -> Result<bool, LogError> {
        let Some(objects) = &self.objects else { return Ok(false) };
        let mut tx = self.engine.read().await?;
        let unused = Select::from(&LOG_OBJECTS)
            .filter(Cond::is("state", Ne, STORED))
            .order("logid", false)
            .limit(OBJECTS_AT_ONCE);
        let rows = tx.select(&unused).await?;
        let more = rows.len() as u64 == OBJECTS_AT_ONCE;
        let mut gone = Vec::new();
        for row in rows {
            let mut f = Fields::new(&LOG_OBJECTS, row.clone());
            (0..2).for_each(|_| f.skip());
            let state = f.int()?;
            f.skip();
            let (master, epoch) = (f.int()?, f.int()?);
            let of_us =
                master == self.master.load(Ordering::Relaxed) && epoch == self.epoch.load(Ordering::Relaxed);
            let living = match self.engine.exclusive() {
                true => of_us,
                false => {
                    let place = [Cond::eq("masterid", master), Cond::eq("epoch", epoch)];
                    let mut select = Select::from(&LOG_WRITERS);
                    select.conds = place.to_vec();
                    tx.count(&select).await? > 0
                }
            };
            if state == LEFT || !living || (of_us && mine) {
                gone.push(object(row)?);
            }
        }
        drop(tx);
        let left = self.leave(&gone).await?;
        objects.delete(&left).await?;
        self.forget(&left).await?;
        Ok(more && !gone.is_empty())
    }

    /// Moves text of some logs; `state` has the rows of logs. Answers how many objects were made: if any, there may be more.
    pub async fn move_some(&self, state: &dyn Engine) -> Result<usize, LogError> {
        if self.objects.is_none() {
            return Ok(0);
        }
        let (mut moved, mut after) = (0, 0);
        loop {
            let marks = self.marks(after).await?;
            let Some(last) = marks.last() else { return Ok(moved) };
            after = last.log.0;
            for mark in marks {
                let extent = extent_of(state, mark.log).await?;
                moved += usize::from(self.move_of(mark, extent).await?);
            }
        }
    }

    async fn marks(&self, after: i64) -> Result<Vec<Mark>, EngineError> {
        let mut tx = self.engine.read().await?;
        let mut select = Select::from(&LOG_MOVES).filter(Cond::is("logid", Gt, after));
        if !self.engine.exclusive() {
            select = select.filter(Cond::eq("masterid", self.master.load(Ordering::Relaxed)));
        }
        let rows = tx.select(&select.order("logid", false).limit(LOGS_AT_ONCE)).await?;
        let mark = |row| {
            let mut f = Fields::new(&LOG_MOVES, row);
            let log = f.id()?;
            f.skip();
            Ok(Mark { log, first: f.int()? })
        };
        rows.into_iter().map(mark).collect()
    }

    /// Moves the next object's worth of a log, if it has that much; answers whether it did.
    async fn move_of(&self, mark: Mark, extent: Option<Extent>) -> Result<bool, LogError> {
        // Its text is about to be removed.
        let Some(extent) = extent else { return self.unmark(mark.log).await.map(|()| false) };
        let segments = self.movable(&mark, extent).await?;
        if segments.is_empty() {
            if extent.complete {
                self.unmark(mark.log).await?;
            }
            return Ok(false);
        }
        let object = i64::from_ne_bytes(rand::random::<[u8; 8]>()) & i64::MAX;
        self.announce(mark.log, object, &segments).await?;
        let data: Vec<Bytes> = segments.iter().map(|s| s.data.clone()).collect();
        let Some(objects) = &self.objects else { return Ok(false) };
        let stored = match objects.put(mark.log, object, data).await {
            Ok(()) => self.take_into_use(mark.log, object, &segments).await,
            Err(error) => Err(error),
        };
        let this = [(mark.log, object)];
        match stored {
            Ok(true) => {}
            Ok(false) => {
                objects.delete(&this).await?;
                self.forget(&this).await?;
            }
            // If this fails, too, the next life of this writer does it.
            Err(_) => drop(self.leave(&this).await?),
        }
        stored
    }

    /// The segments that make the next object.
    async fn movable(&self, mark: &Mark, extent: Extent) -> Result<Vec<Segment>, LogError> {
        let mut tx = self.engine.read().await?;
        let here = vec![
            Cond::eq("logid", mark.log.0),
            Cond::is("first", Ge, mark.first),
            Cond::is("first", Lt, extent.lines),
            Cond::Null("object"),
        ];
        if !extent.complete {
            // What is shorter is replaced when the log grows.
            let closed = [here.clone(), vec![Cond::is("bytes", Ge, SEGMENT as i64)]].concat();
            if tx.sum(&LOG_SEGMENTS, "bytes", &closed).await? < self.object_bytes {
                return Ok(Vec::new());
            }
        }
        let mut select = Select::from(&LOG_SEGMENTS).order("first", false).limit(SEGMENTS);
        select.conds = here;
        let (mut taken, mut text) = (Vec::new(), 0);
        for row in tx.select(&select).await? {
            let segment = segment(row)?;
            if text >= self.object_bytes || segment.first + segment.lines > extent.lines {
                break;
            }
            text += segment.bytes;
            taken.push(segment);
        }
        if !extent.complete {
            let closed = taken.iter().rposition(|s| s.bytes >= SEGMENT as i64).map_or(0, |at| at + 1);
            taken.truncate(closed);
        }
        Ok(taken)
    }

    async fn announce(&self, log: LogId, object: i64, segments: &[Segment]) -> Result<(), LogError> {
        let size: usize = segments.iter().map(|s| s.data.len()).sum();
        let mut tx = self.begin().await?;
        let row = vec![
            log.0.into(),
            object.into(),
            WRITING.into(),
            (size as i64).into(),
            self.master.load(Ordering::Relaxed).into(),
            self.epoch.load(Ordering::Relaxed).into(),
        ];
        tx.insert(&LOG_OBJECTS, &[row]).await?;
        Ok(tx.commit().await?)
    }

    /// Has the segments' rows point into an object that is stored; answers whether they were still as they had been.
    async fn take_into_use(&self, log: LogId, object: i64, segments: &[Segment]) -> Result<bool, LogError> {
        let mut tx = self.begin().await?;
        let announced = [Cond::eq("logid", log.0), Cond::eq("objectid", object), Cond::eq("state", WRITING)];
        if tx.set(&LOG_OBJECTS, &[("state", STORED.into())], &announced).await? != 1 {
            return Ok(false);
        }
        let (mut at, mut end) = (0, 0);
        for segment in segments {
            let size = segment.data.len() as i64;
            let values = [
                ("data", Value::Blob(Bytes::new())),
                ("object", object.into()),
                ("object_at", at.into()),
                ("object_size", size.into()),
            ];
            let as_read = [
                Cond::eq("logid", log.0),
                Cond::eq("first", segment.first),
                Cond::eq("lines", segment.lines),
                Cond::eq("bytes", segment.bytes),
                Cond::Null("object"),
            ];
            if tx.set(&LOG_SEGMENTS, &values, &as_read).await? != 1 {
                return Ok(false);
            }
            at += size;
            end = segment.first + segment.lines;
        }
        tx.set(&LOG_MOVES, &[("first", end.into())], &[Cond::eq("logid", log.0)]).await?;
        match tx.commit().await {
            Ok(()) => Ok(true),
            // Then rows may point into it: it is not removed before somebody has looked.
            Err(EngineError::Unknown(_)) => self.is_in_use(log, object).await,
            Err(error) => Err(error.into()),
        }
    }

    async fn is_in_use(&self, log: LogId, object: i64) -> Result<bool, LogError> {
        let mut tx = self.engine.read().await?;
        let mut stored = Select::from(&LOG_OBJECTS);
        stored.conds =
            vec![Cond::eq("logid", log.0), Cond::eq("objectid", object), Cond::eq("state", STORED)];
        Ok(tx.count(&stored).await? > 0)
    }

    /// Gives up objects that are not in use, so that they never will be. Answers which are left to be removed.
    async fn leave(&self, objects: &[(LogId, i64)]) -> Result<Vec<(LogId, i64)>, LogError> {
        let mut left = Vec::new();
        if objects.is_empty() {
            return Ok(left);
        }
        let mut tx = self.begin().await?;
        for (log, object) in objects {
            let unused =
                [Cond::eq("logid", log.0), Cond::eq("objectid", *object), Cond::is("state", Ne, STORED)];
            if tx.set(&LOG_OBJECTS, &[("state", LEFT.into())], &unused).await? > 0 {
                left.push((*log, *object));
            }
        }
        tx.commit().await?;
        Ok(left)
    }

    async fn unmark(&self, log: LogId) -> Result<(), LogError> {
        let mut tx = self.begin().await?;
        tx.delete(&LOG_MOVES, &[Cond::eq("logid", log.0)]).await?;
        tx.commit().await?;
        self.marked.lock().remove(&log);
        Ok(())
    }
}

/// What is announced of a log; none: there is no such log any more.
async fn extent_of(state: &dyn Engine, log: LogId) -> Result<Option<Extent>, EngineError> {
    let mut tx = state.read().await?;
    let select = Select::from(&LOGS).filter(Cond::eq("logid", log.0));
    let log = load::<Log>(&mut *tx, &select).await?.into_iter().next();
    Ok(log.map(|log| Extent { lines: log.num_lines, complete: log.complete }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::objects::TextStore;
    use super::super::store::pack;
    use super::*;
    use crate::engine::memory::Memory;
    use crate::rows::RowMapped;
    use crate::schema::{ALL, LOG_TABLES};

    const LOG: LogId = LogId(7);

    fn store(engine: &Arc<Memory>, dir: &std::path::Path, epoch: i64) -> LogStore {
        let store = LogStore::shared(Arc::clone(engine) as _);
        let store = store.with_objects(&TextStore::Directory(dir.to_owned()), SEGMENT).unwrap();
        store.epoch.store(epoch, Ordering::Relaxed);
        store
    }

    /// A segment of 5,000 lines, not all alike.
    fn part(n: i64) -> Segment {
        let text: String = (0..5_000).map(|i| format!("oline {} {:050}\n", n * 5_000 + i, i * i)).collect();
        pack(LOG, n * 5_000, 5_000, text.as_bytes(), false).unwrap()
    }

    /// The rows of logs, in which this one has so many lines.
    async fn state(lines: i64, complete: bool) -> Memory {
        let log = Log {
            id: LOG,
            name: "stdio".into(),
            slug: "stdio".into(),
            step: greenroom_model::StepId(1),
            kind: greenroom_model::LogKind::Stdio,
            num_lines: lines,
            complete,
            version: 1,
        };
        let memory = Memory::new(ALL);
        let mut tx = memory.write().await.unwrap();
        tx.insert(&LOGS, &[log.to_row().unwrap()]).await.unwrap();
        tx.commit().await.unwrap();
        memory
    }

    fn files(dir: &std::path::Path) -> usize {
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        entries
            .map(|it| if it.as_ref().unwrap().path().is_dir() { files(&it.unwrap().path()) } else { 1 })
            .sum()
    }

    async fn lines(store: &LogStore) -> usize {
        let (mut line, mut text) = (0, Vec::new());
        loop {
            let segments = store.segments(LOG, line, i64::MAX, usize::MAX).await.unwrap();
            let Some(last) = segments.last() else { break };
            line = last.first + last.lines;
            segments.iter().for_each(|s| text.extend(super::super::store::unpack(s).unwrap()));
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.lines().enumerate().all(|(n, it)| it.starts_with(&format!("oline {n} "))));
        text.lines().count()
    }

    #[tokio::test]
    async fn an_object_without_use_is_removed_by_the_next_life() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(Memory::new(LOG_TABLES)));
        let first = store(&engine, dir.path(), 1);
        first.write(&[part(0), part(1)]).await.unwrap();
        // It ends between the object and the rows.
        let segments = [part(0), part(1)];
        first.announce(LOG, 99, &segments).await.unwrap();
        let data = segments.iter().map(|s| s.data.clone()).collect();
        first.objects.as_ref().unwrap().put(LOG, 99, data).await.unwrap();
        assert!(!first.sweep_objects(false).await.unwrap());
        assert_eq!(files(dir.path()), 1, "it may be under way");
        let second = store(&engine, dir.path(), 2);
        assert!(!second.sweep_objects(false).await.unwrap());
        assert_eq!(files(dir.path()), 0);
        // What was paused there does not come to take it into use.
        assert!(!first.take_into_use(LOG, 99, &segments).await.unwrap());
        assert_eq!(lines(&second).await, 10_000);
        // A later writer of the same life removes what an earlier one began.
        second.announce(LOG, 100, &segments).await.unwrap();
        second.sweep_objects(true).await.unwrap();
        assert!(!second.take_into_use(LOG, 100, &segments).await.unwrap());
        assert_eq!(second.move_some(&state(10_000, true).await).await.unwrap(), 1);
        second.sweep_objects(true).await.unwrap();
        assert_eq!((files(dir.path()), lines(&second).await), (1, 10_000), "what is in use stays");
    }

    #[tokio::test]
    async fn text_that_changed_meanwhile_is_not_replaced() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(Memory::new(LOG_TABLES)));
        let store = store(&engine, dir.path(), 1);
        store.write(&[part(0), part(1)]).await.unwrap();
        let read =
            store.movable(&Mark { log: LOG, first: 0 }, Extent { lines: 10_000, complete: true }).await;
        let read = read.unwrap();
        store.announce(LOG, 5, &read).await.unwrap();
        store.cut_to(LOG, 3_000).await.unwrap();
        assert!(!store.take_into_use(LOG, 5, &read).await.unwrap());
        assert_eq!(lines(&store).await, 3_000);
    }

    #[tokio::test]
    async fn text_that_has_left_can_be_cut() {
        let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(Memory::new(LOG_TABLES)));
        let store = store(&engine, dir.path(), 1);
        store.write(&[part(0), part(1), part(2)]).await.unwrap();
        assert_eq!(store.move_some(&state(9_999, false).await).await.unwrap(), 1, "only what is announced");
        for moved in [1, 1, 0] {
            assert_eq!(store.move_some(&state(15_000, true).await).await.unwrap(), moved);
        }
        store.cut_to(LOG, 7_000).await.unwrap();
        assert_eq!((lines(&store).await, store.extent(LOG).await.unwrap().0), (7_000, 7_000));
        while !store.remove(LOG, 1).await.unwrap() {}
        assert_eq!((files(dir.path()), lines(&store).await), (0, 0));
    }
}
