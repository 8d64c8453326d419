//! Where log text is kept: segments in tables of an engine, of which the large ones may leave for an object store.
//!
//! Every transaction that writes proves first that the place of this master is still ours, by a row that only writers of log
//! text lock; a file of SQLite needs no proof, for it has one writer.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use greenroom_model::{LogId, MasterId};

use super::moves::Marked;
use super::objects::{Objects, TextStore};
use crate::engine::Comparison::{Ge, Le, Lt};
use crate::engine::memory::Memory;
use crate::engine::migrate::{SQLITE_LOGS, SchemaError, Upto};
use crate::engine::sqlite::Sqlite;
use crate::engine::{CHUNK, Cond, Engine, EngineError, ReadTx, Row, Select, Value, WriteTx};
use crate::messages::LogError;
use crate::rows::Fields;
use crate::schema::{LOG_MOVES, LOG_OBJECTS, LOG_SEGMENTS, LOG_TABLES, LOG_WRITERS};

/// The most segments that one read of the store gives.
const AT_ONCE: u64 = 8;

/// Some lines of a log, compressed.
#[derive(Debug, Clone)]
pub struct Segment {
    pub log: LogId,
    /// The first line's number.
    pub first: i64,
    pub lines: i64,
    /// The size of the text.
    pub bytes: i64,
    /// Empty while it is in an object store.
    pub data: Bytes,
    /// Where it is in an object store.
    pub object: Option<Place>,
    /// Takes the place of all segments of the log that begin at or after its first line.
    pub replaces: bool,
}

/// A part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub object: i64,
    pub at: i64,
    pub size: i64,
}

impl Segment {
    fn end(&self) -> i64 {
        self.first + self.lines
    }
}

/// What was read of a log store since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogReads {
    /// Reads of the database and of objects.
    pub reads: u64,
    /// Compressed text that they brought, in bytes.
    pub bytes: u64,
}

/// A store of log text.
pub struct LogStore {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) objects: Option<Objects>,
    /// A running log's text leaves when so much of it has gathered.
    pub(super) object_bytes: i64,
    /// Logs that are known to be marked as having text that is to leave.
    pub(super) marked: Marked,
    /// The engine's file, if it is one of our own.
    file: Option<Arc<Sqlite>>,
    /// Whose text is written; 0: nobody's yet.
    pub(super) master: AtomicI64,
    pub(super) epoch: AtomicI64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    cleared: Mutex<bool>,
}

impl LogStore {
    /// A store in the tables of an engine that others use, too.
    pub fn shared(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            objects: None,
            object_bytes: 0,
            marked: Marked::default(),
            file: None,
            master: AtomicI64::new(0),
            epoch: AtomicI64::new(0),
            reads: AtomicU64::new(0),
            read_bytes: AtomicU64::new(0),
            cleared: Mutex::new(false),
        }
    }

    /// A store that lives as long as the process.
    pub fn memory() -> Self {
        Self::shared(Arc::new(Memory::new(LOG_TABLES)))
    }

    /// A store in a SQLite file of its own.
    pub async fn file(file: &Path) -> Result<Self, SchemaError> {
        let (engine, _) = Sqlite::open_as(file, SQLITE_LOGS, Upto::default()).await?;
        let engine = Arc::new(engine);
        Ok(Self { file: Some(Arc::clone(&engine)), ..Self::shared(engine) })
    }

    /// Lets text leave for an object store.
    ///
    /// # Errors
    /// The store cannot be opened.
    pub fn with_objects(mut self, store: &TextStore, object_bytes: usize) -> Result<Self, LogError> {
        self.objects = Objects::open(store)?;
        self.object_bytes = i64::try_from(object_bytes).unwrap_or(i64::MAX);
        Ok(self)
    }

    /// Whether text leaves.
    pub fn moves(&self) -> bool {
        self.objects.is_some()
    }

    /// Closes a file of its own; its last connection folds the write-ahead log into it.
    pub async fn close(&self) {
        if let Some(file) = &self.file {
            file.close().await;
        }
    }

    /// What was read so far.
    pub fn reads(&self) -> LogReads {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogReads { reads: of(&self.reads), bytes: of(&self.read_bytes) }
    }

    /// From the commit of this transaction on only this epoch of this master writes.
    pub async fn claim(&self, tx: &mut dyn WriteTx, master: MasterId, epoch: i64) -> Result<(), EngineError> {
        if !self.engine.exclusive() {
            tx.upsert(&LOG_WRITERS, &[vec![master.0.into(), epoch.into()]]).await?;
        }
        self.master.store(master.0, Ordering::Relaxed);
        self.epoch.store(epoch, Ordering::Relaxed);
        Ok(())
    }

    /// Begins a transaction in which nobody can take our place.
    pub(super) async fn begin(&self) -> Result<Box<dyn WriteTx>, LogError> {
        let mut tx = self.engine.write().await?;
        if self.engine.exclusive() {
            return Ok(tx);
        }
        let (master, epoch) = (self.master.load(Ordering::Relaxed), self.epoch.load(Ordering::Relaxed));
        let conds = [Cond::eq("masterid", master), Cond::eq("epoch", epoch)];
        match tx.set(&LOG_WRITERS, &[("epoch", epoch.into())], &conds).await? {
            1 => Ok(tx),
            _ => Err(LogError::Unavailable("this master was taken over by another process".into())),
        }
    }

    /// Stores segments, all or none, durably. A commit whose answer is lost is tried again: writing the same segments twice is
    /// writing them once.
    pub async fn write(&self, segments: &[Segment]) -> Result<(), LogError> {
        let mut tx = self.begin().await?;
        for s in segments.iter().filter(|s| s.replaces) {
            tx.delete(&LOG_SEGMENTS, &from(s.log, s.first)).await?;
        }
        let rows: Vec<Row> = segments.iter().map(row).collect();
        tx.upsert(&LOG_SEGMENTS, &rows).await?;
        let marked = self.mark(&mut *tx, segments).await?;
        tx.commit().await?;
        self.marked.add(marked);
        Ok(())
    }

    /// How many lines and bytes of a log are stored.
    pub async fn extent(&self, log: LogId) -> Result<(i64, i64), LogError> {
        let mut tx = self.engine.read().await?;
        let Some(last) = last(&mut *tx, log, i64::MAX).await? else { return Ok((0, 0)) };
        let bytes = tx.sum(&LOG_SEGMENTS, "bytes", &[Cond::eq("logid", log.0)]).await?;
        Ok((last.end(), bytes))
    }

    /// The segments that hold the lines from `line` on, at least the first of them and at most so many that they cover `lines`
    /// lines or, the first one aside, `room` bytes of text; none: the line is not stored. Few reads give many.
    pub async fn segments(
        &self,
        log: LogId,
        line: i64,
        lines: i64,
        room: usize,
    ) -> Result<Vec<Segment>, LogError> {
        let (end, room) = (line.saturating_add(lines), i64::try_from(room).unwrap_or(i64::MAX));
        let mut tx = self.engine.read().await?;
        self.count(1, 0);
        let first = last(&mut *tx, log, line).await?.filter(|s| line < s.end());
        let mut found: Vec<Segment> = first.into_iter().collect();
        let mut text = 0;
        while let Some(next) = found.last().map(Segment::end).filter(|next| *next < end && text < room) {
            let most = (room - text) / super::assembly::SEGMENT as i64 + 1;
            let most = u64::try_from(most).unwrap_or(1).min(AT_ONCE);
            self.count(1, 0);
            let more = between(&mut *tx, log, next..end, most).await?;
            let before = found.len();
            for segment in more {
                // What comes after a gap is no part of the text.
                if found.last().is_some_and(|last| last.end() == segment.first) && text < room {
                    text += segment.bytes;
                    found.push(segment);
                }
            }
            if found.len() == before || found.len() as u64 >= AT_ONCE {
                break;
            }
        }
        drop(tx);
        self.count(0, found.iter().map(|s| s.data.len() as u64).sum());
        self.fetch(&mut found).await?;
        Ok(found)
    }

    fn count(&self, reads: u64, bytes: u64) {
        self.reads.fetch_add(reads, Ordering::Relaxed);
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Reads what is in objects: of each object all that is wanted of it in one go.
    async fn fetch(&self, segments: &mut [Segment]) -> Result<(), LogError> {
        let same = |a: &Segment, b: &Segment| match (a.object, b.object) {
            (Some(a), Some(b)) => a.object == b.object && a.at + a.size == b.at,
            _ => false,
        };
        for group in segments.chunk_by_mut(same) {
            let Some(place) = group[0].object else { continue };
            let size: i64 = group.iter().filter_map(|s| s.object).map(|it| it.size).sum();
            let range = unsigned(place.at)?..unsigned(place.at + size)?;
            let whole = self.stored_objects()?.get(group[0].log, place.object, range).await?;
            self.count(1, whole.len() as u64);
            let mut at = 0;
            for segment in group {
                let size = segment.object.map_or(0, |it| usize::try_from(it.size).unwrap_or(0));
                let part = at..at + size;
                if part.end > whole.len() {
                    return Err(LogError::Damaged("an object is too short".into()));
                }
                at = part.end;
                segment.data = whole.slice(part);
            }
        }
        Ok(())
    }

    fn stored_objects(&self) -> Result<&Objects, LogError> {
        let none = || {
            LogError::Unavailable(
                "the text is in an object store that is not configured any more: set [logs] as it was".into(),
            )
        };
        self.objects.as_ref().ok_or_else(none)
    }

    /// Removes whole segments past a line.
    async fn cut(&self, log: LogId, lines: i64) -> Result<(), LogError> {
        let mut tx = self.begin().await?;
        tx.delete(&LOG_SEGMENTS, &from(log, lines)).await?;
        Ok(tx.commit().await?)
    }

    /// Removes what is stored of a log past a line: a copy's log then is as long as its row says.
    pub async fn cut_to(&self, log: LogId, lines: i64) -> Result<(), LogError> {
        if self.extent(log).await?.0 <= lines {
            return Ok(());
        }
        self.cut(log, lines).await?;
        if lines == 0 {
            return Ok(());
        }
        if let Some(last) = self.segments(log, lines - 1, 1, 0).await?.into_iter().next()
            && last.end() > lines
        {
            let text = unpack(&last)?;
            let keep = lines - last.first;
            let end = memchr::memchr_iter(b'\n', &text).nth(usize::try_from(keep - 1).unwrap_or(0));
            let end = end.ok_or_else(|| LogError::Damaged("a segment has too few lines".into()))?;
            self.write(&[pack(log, last.first, keep, &text[..=end], true)?]).await?;
        }
        Ok(())
    }

    /// How many bytes of text these logs have together.
    pub async fn bytes(&self, logs: &[LogId]) -> Result<i64, LogError> {
        let (mut tx, mut sum) = (self.engine.read().await?, 0);
        for piece in logs.chunks(CHUNK) {
            let of = [Cond::ids("logid", piece.iter().map(|log| log.0))];
            sum += tx.sum(&LOG_SEGMENTS, "bytes", &of).await?;
        }
        Ok(sum)
    }

    /// Removes at most so many segments, and objects, of a log that nobody writes any more; answers whether none is left. Nobody
    /// writes to such a log, so the place of this master need not be proved, and no writer waits for it.
    pub async fn remove(&self, log: LogId, most: i64) -> Result<bool, LogError> {
        if !self.remove_objects(log, most).await? {
            return Ok(false);
        }
        let mut tx = self.engine.write().await?;
        let mine = Cond::eq("logid", log.0);
        tx.delete(&LOG_MOVES, std::slice::from_ref(&mine)).await?;
        let end = tx.max(&LOG_SEGMENTS, "first", std::slice::from_ref(&mine)).await?;
        let next = Select::from(&LOG_SEGMENTS).filter(mine.clone()).order("first", false).limit(1);
        let first = tx.select(&next).await?.into_iter().next().map(segment).transpose()?;
        let (Some(end), Some(first)) = (end, first) else {
            tx.commit().await?;
            return Ok(true);
        };
        // Segments of one log are about as long as its first; the last one may be any.
        let upto = first.first.saturating_add(first.lines.max(1).saturating_mul(most)).min(end);
        tx.delete(&LOG_SEGMENTS, &[mine, Cond::is("first", Le, upto)]).await?;
        tx.commit().await?;
        Ok(upto >= end)
    }

    /// Removes at most so many objects of a log; answers whether none is left.
    async fn remove_objects(&self, log: LogId, most: i64) -> Result<bool, LogError> {
        let most = u64::try_from(most).unwrap_or(1);
        let mut tx = self.engine.read().await?;
        let of = Select::from(&LOG_OBJECTS).filter(Cond::eq("logid", log.0)).limit(most);
        let found = tx.select(&of).await?;
        drop(tx);
        let all = (found.len() as u64) < most;
        let names = found.into_iter().map(object).collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            return Ok(all);
        }
        match &self.objects {
            Some(objects) => objects.delete(&names).await?,
            None => self.tell_of_left_objects(),
        }
        self.forget(&names).await?;
        Ok(all)
    }

    /// Forgets objects that are gone.
    pub(super) async fn forget(&self, objects: &[(LogId, i64)]) -> Result<(), LogError> {
        let mut tx = self.engine.write().await?;
        for (log, object) in objects {
            tx.delete(&LOG_OBJECTS, &[Cond::eq("logid", log.0), Cond::eq("objectid", *object)]).await?;
        }
        Ok(tx.commit().await?)
    }

    fn tell_of_left_objects(&self) {
        let mut told = self.cleared.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut told, true) {
            tracing::warn!("text of removed logs is left in an object store that is not configured any more");
        }
    }
}

/// The segments of a log that begin at or after a line.
fn from(log: LogId, first: i64) -> Vec<Cond> {
    vec![Cond::eq("logid", log.0), Cond::is("first", Ge, first)]
}

fn row(s: &Segment) -> Row {
    let place = |of: fn(&Place) -> i64| Value::from(s.object.as_ref().map(of));
    vec![
        s.log.0.into(),
        s.first.into(),
        s.lines.into(),
        s.bytes.into(),
        Value::Blob(s.data.clone()),
        place(|it| it.object),
        place(|it| it.at),
        place(|it| it.size),
    ]
}

pub(super) fn segment(row: Row) -> Result<Segment, EngineError> {
    let mut f = Fields::new(&LOG_SEGMENTS, row);
    let (log, first, lines, bytes) = (f.id()?, f.int()?, f.int()?, f.int()?);
    let (data, object) = (f.blob()?, f.opt_int()?);
    let object = match object {
        Some(object) => Some(Place { object, at: f.int()?, size: f.int()? }),
        None => None,
    };
    Ok(Segment { log, first, lines, bytes, data, object, replaces: false })
}

/// Which object a row is about.
pub(super) fn object(row: Row) -> Result<(LogId, i64), EngineError> {
    let mut f = Fields::new(&LOG_OBJECTS, row);
    Ok((f.id()?, f.int()?))
}

/// The last segment that begins at or before a line.
async fn last(tx: &mut dyn ReadTx, log: LogId, line: i64) -> Result<Option<Segment>, EngineError> {
    let select = Select::from(&LOG_SEGMENTS)
        .filter(Cond::eq("logid", log.0))
        .filter(Cond::is("first", Le, line))
        .order("first", true)
        .limit(1);
    tx.select(&select).await?.into_iter().next().map(segment).transpose()
}

/// The first segments that begin in a range of lines.
async fn between(
    tx: &mut dyn ReadTx,
    log: LogId,
    lines: Range<i64>,
    most: u64,
) -> Result<Vec<Segment>, EngineError> {
    let mut select = Select::from(&LOG_SEGMENTS).filter(Cond::is("first", Lt, lines.end));
    select.conds.extend(from(log, lines.start));
    tx.select(&select.order("first", false).limit(most)).await?.into_iter().map(segment).collect()
}

fn unsigned(number: i64) -> Result<u64, LogError> {
    u64::try_from(number).map_err(|_| LogError::Damaged("a negative place in an object".into()))
}

impl From<EngineError> for LogError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Damaged(text) => LogError::Damaged(text),
            other => LogError::Unavailable(other.to_string()),
        }
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
    Ok(Segment { log, first, lines, bytes: text.len() as i64, data: data.into(), object: None, replaces })
}
