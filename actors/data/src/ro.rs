//! The facet that reads and subscribes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use greenroom_db as db;
use greenroom_model::query::{Compare, FieldValue};
use greenroom_model::*;
use greenroom_mq::{Broker, Notice};
use greenroom_runtime::{ChildSpec, Front, Supervisor, SupervisorSpec};

use crate::actor::{DataActor, KeepCells, Published, read};
use crate::console::Kept;
use crate::error::DataError;
use crate::hot::{Hot, Readable, Shown, show};
use crate::hub::Hub;
use crate::search::{LogPattern, Searched, scan};
use crate::select::{ById, by_id, order, passes};
use crate::subscription::Subscription;

/// The most text that one read of a log gives, in bytes.
const LOG_PIECE: usize = 1 << 20;
/// The most builds of a change that are read.
const BUILDS_OF_CHANGE: u64 = 1_000;

/// A value with the clock that it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<T> {
    /// The value.
    pub value: T,
    /// Exactly the events of this clock are contained.
    pub clock: Clock,
}

impl<T> Snapshot<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Snapshot<U> {
        Snapshot { value: f(self.value), clock: self.clock }
    }
}

impl<T> From<db::Snapshot<T>> for Snapshot<T> {
    fn from(s: db::Snapshot<T>) -> Self {
        Self { value: s.value, clock: s.clock }
    }
}

/// A window of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLines {
    /// The number of its first line, from 0.
    pub first: i64,
    /// Its lines, each ending in `\n`; in a log of kind stdio each beginning with its stream's letter.
    pub text: Bytes,
    /// How many lines it has.
    pub count: i64,
}

/// What all facets stand on.
pub(crate) struct Shared {
    pub me: MasterId,
    pub supervisor: Supervisor,
    pub published: Published,
    pub data: Front<DataActor>,
    pub reader: Front<db::DbReader>,
    pub logs: Front<db::LogReader>,
    pub writer: Front<db::DbWriter>,
    pub log_writer: Front<db::LogWriter>,
    pub ids: db::IdAllocator,
    /// Whether the last write that ended was not given up because the database took none.
    pub writable: AtomicBool,
    pub store: db::Store,
    #[allow(dead_code, reason = "kept so that the bus lives as long as its users")]
    pub broker: Front<Broker>,
}

impl Shared {
    /// The published snapshot. `start` waits for the first one, so there always is one.
    pub fn hot(&self) -> Arc<Hot> {
        self.published.load_full().unwrap_or_else(|| Arc::new(Hot::empty(Clock::default())))
    }
}

/// Reads and subscribes. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Ro {
    pub(crate) shared: Arc<Shared>,
    pub(crate) hub: Front<Hub>,
}

impl Ro {
    /// The same facet with a hub of its own on the arbiter of the calling thread: its subscribers' events cross threads once,
    /// however many they are. `name` must be unique.
    pub fn on_own_hub(&self, name: &str) -> Ro {
        let supervisor = self
            .shared
            .supervisor
            .supervisor(SupervisorSpec::new(format!("hubs/{name}")).arbiter(actix::Arbiter::current()));
        let hub = spawn_hub(&supervisor, &format!("hub/{name}"), self.shared.data.clone());
        Ro { shared: self.shared.clone(), hub }
    }

    /// This master.
    pub fn me(&self) -> MasterId {
        self.shared.me
    }

    /// Whether the database takes writes, as far as is known: false from when a write was given up because the database took
    /// none (a full disk, say) until one succeeds. No message, no database.
    pub fn writable(&self) -> bool {
        self.shared.writable.load(Ordering::Relaxed)
    }

    /// For how long the database's server has been away, if it is: what is served meanwhile may be stale. No message.
    pub fn stale_for(&self) -> Option<std::time::Duration> {
        self.shared.store.away_since().map(|since| since.elapsed())
    }

    /// Somebody has heard of this clock. What it holds of other masters and this one does not know yet is read now, not when the bus
    /// or the next look into the database tells of it.
    pub fn heard_of(&self, clock: &Clock) {
        let hot = self.hot();
        let news = clock.heads().find(|(master, seq)| hot.clock.head(*master) < *seq);
        if let Some((master, seq)) = news {
            // One that is too busy for it looks by itself.
            let _ = self.shared.data.tell(Notice::Head { master, seq });
        }
    }

    /// The hot state: no message, no database.
    pub fn hot(&self) -> Arc<Hot> {
        self.shared.hot()
    }

    /// One entity; from the hot state if it is there.
    pub async fn get<E: Readable>(&self, id: i64) -> Result<Snapshot<Option<Shown<E>>>, DataError> {
        let hot = self.hot();
        let found = E::table(&hot).and_then(|t| t.get(&id)).cloned();
        let complete = E::table(&hot).is_some() && E::floor(&hot).is_none();
        if found.is_some() || complete {
            return Ok(Snapshot { value: found, clock: hot.clock.clone() });
        }
        let stored: Snapshot<_> = read(&self.shared.reader, db::Get::<E>::new(id)).await?.into();
        Ok(stored.map(|e| e.map(|e| shown(e, &hot))))
    }

    /// A page of entities; from the hot state if that has all the query needs.
    pub async fn list<E: Readable>(&self, query: Query) -> Result<Snapshot<Page<Shown<E>>>, DataError> {
        let hot = self.hot();
        if let Some(value) = E::otherwise(&hot, &query).or_else(|| from_hot::<E>(&hot, &query)) {
            return Ok(Snapshot { value, clock: hot.clock.clone() });
        }
        let stored: Snapshot<_> = read(&self.shared.reader, db::List::<E>::new(query)).await?.into();
        Ok(stored.map(|page| Page {
            items: page.items.into_iter().map(|e| shown(e, &hot)).collect(),
            total: page.total,
            at_least: page.at_least,
        }))
    }

    /// The properties of some builds; builds that have none are left out.
    pub async fn build_properties(
        &self,
        builds: &[BuildId],
    ) -> Result<Snapshot<HashMap<BuildId, Arc<Properties>>>, DataError> {
        let hot = self.hot();
        let known: HashMap<_, _> =
            builds.iter().filter_map(|b| Some((*b, hot.properties.get(b)?.clone()))).collect();
        // A kept build without kept properties has none.
        if builds.iter().all(|b| known.contains_key(b) || hot.builds.contains_key(&b.0)) {
            return Ok(Snapshot { value: known, clock: hot.clock.clone() });
        }
        let message = db::BuildPropertiesOf { builds: builds.to_vec() };
        let stored: Snapshot<_> = read(&self.shared.reader, message).await?.into();
        Ok(stored.map(|all| all.into_iter().map(|(b, p)| (b, Arc::new(p))).collect()))
    }

    /// The properties of a buildset.
    pub async fn buildset_properties(
        &self,
        buildset: BuildsetId,
    ) -> Result<Snapshot<Option<Arc<Properties>>>, DataError> {
        let message = db::BuildsetPropertiesOf { buildsets: vec![buildset] };
        let stored: Snapshot<_> = read(&self.shared.reader, message).await?.into();
        Ok(stored.map(|mut all| all.remove(&buildset).map(Arc::new)))
    }

    /// The properties of some buildsets; those that have none are left out.
    pub async fn properties_of_buildsets(
        &self,
        mut buildsets: Vec<BuildsetId>,
    ) -> Result<Snapshot<HashMap<BuildsetId, Properties>>, DataError> {
        buildsets.sort_unstable();
        buildsets.dedup();
        Ok(read(&self.shared.reader, db::BuildsetPropertiesOf { buildsets }).await?.into())
    }

    /// The changes that stand for a build's source stamps.
    pub async fn changes_of_build(&self, build: BuildId) -> Result<Snapshot<Vec<Shown<Change>>>, DataError> {
        let stored: Snapshot<_> = read(&self.shared.reader, db::ChangesOfBuild { build }).await?.into();
        Ok(self.shown_all(stored))
    }

    /// The changes that stand for some source stamps, in order of their ids.
    pub async fn changes_of_stamps(
        &self,
        stamps: Vec<SourceStampId>,
    ) -> Result<Snapshot<Vec<Shown<Change>>>, DataError> {
        let stored: Snapshot<_> = read(&self.shared.reader, db::ChangesOfStamps { stamps }).await?.into();
        Ok(self.shown_all(stored))
    }

    /// What surrounds a build, with at most so many changes; none: there is no such build.
    pub async fn build_context(
        &self,
        build: BuildId,
        changes: u64,
    ) -> Result<Snapshot<Option<db::BuildContext>>, DataError> {
        Ok(read(&self.shared.reader, db::BuildContextOf { build, changes }).await?.into())
    }

    /// The newest changes with what was built of them. Of changes that are kept it is read once, then kept too.
    pub async fn console(&self, wanted: db::ConsoleOf) -> Result<Snapshot<db::ConsolePage>, DataError> {
        let hot = self.hot();
        match Kept::find(&hot, &wanted) {
            Kept::Page(value) => return Ok(Snapshot { value, clock: hot.clock.clone() }),
            // One that is too busy for it hears of it from the next who asks.
            Kept::Without(stamps) => _ = self.shared.data.tell(KeepCells(stamps)),
            Kept::Nothing => {}
        }
        Ok(read(&self.shared.reader, wanted).await?.into())
    }

    /// The builds of a change's source stamp, newest first.
    pub async fn builds_of_change(&self, change: ChangeId) -> Result<Snapshot<Vec<Shown<Build>>>, DataError> {
        let message = db::BuildsOfChange { change, limit: BUILDS_OF_CHANGE };
        let stored: Snapshot<_> = read(&self.shared.reader, message).await?.into();
        Ok(self.shown_all(stored))
    }

    fn shown_all<E: Readable>(&self, stored: Snapshot<Vec<Arc<E>>>) -> Snapshot<Vec<Shown<E>>> {
        let hot = self.hot();
        stored.map(|all| all.into_iter().map(|e| shown(e, &hot)).collect())
    }

    /// What a scheduler must remember over a crash.
    pub async fn scheduler_state(
        &self,
        scheduler: SchedulerId,
    ) -> Result<Snapshot<write::SchedulerState>, DataError> {
        Ok(read(&self.shared.reader, db::SchedulerStateOf { scheduler }).await?.into())
    }

    /// What a change source must remember over a crash; null if nothing was stored.
    pub async fn change_source_state(
        &self,
        source: ChangeSourceId,
    ) -> Result<Snapshot<serde_json::Value>, DataError> {
        Ok(read(&self.shared.reader, db::ChangeSourceStateOf { source }).await?.into())
    }

    /// A control act, answered or not.
    pub async fn control_act(&self, act: ControlId) -> Result<Snapshot<Option<Arc<ControlAct>>>, DataError> {
        Ok(read(&self.shared.reader, db::ControlActOf { act }).await?.into())
    }

    /// Some lines of a log, from line `first` (0-based), at most `count`. Past the end: none.
    pub async fn log_lines(&self, log: LogId, first: i64, count: i64) -> Result<LogLines, DataError> {
        // A window of very long lines comes in pieces.
        let mut lines = read_lines(&self.shared.logs, log, first, count).await?;
        let mut text = Vec::new();
        while let Some(next) = lines.next.filter(|_| lines.total < count) {
            text.extend_from_slice(&lines.text);
            let more = read_lines(&self.shared.logs, log, next, count - lines.total).await?;
            lines = Piece { total: lines.total + more.total, ..more };
        }
        let text = if text.is_empty() {
            lines.text
        } else {
            text.extend_from_slice(&lines.text);
            text.into()
        };
        Ok(LogLines { first, text, count: lines.total })
    }

    /// The stored text of some lines of a log in the form of [`LogLines::text`], in pieces of bounded size: about 1 MiB, or one
    /// line. The next piece is read when the last one is taken.
    pub fn log_text(
        &self,
        log: LogId,
        range: std::ops::Range<i64>,
    ) -> BoxStream<'static, Result<Bytes, DataError>> {
        let logs = self.shared.logs.clone();
        stream::try_unfold(Some(range.start), move |next| {
            let (logs, end) = (logs.clone(), range.end);
            async move {
                let Some(first) = next.filter(|first| *first < end) else { return Ok(None) };
                let piece = read_lines(&logs, log, first, end - first).await?;
                if piece.text.is_empty() && piece.next.is_none() {
                    return Ok(None);
                }
                Ok(Some((piece.text, piece.next)))
            }
        })
        .boxed()
    }

    /// Searches the lines `first..end` of a log: a stream of how far it is, each time with what was found since, at most `most`
    /// matches in all (the rest is only counted). `streams`: the lines begin with letters. Dropping the stream ends the search.
    pub fn search_log(
        &self,
        log: LogId,
        pattern: LogPattern,
        range: std::ops::Range<i64>,
        streams: bool,
        most: usize,
    ) -> BoxStream<'static, Result<Searched, DataError>> {
        let logs = self.shared.logs.clone();
        let begin = Searched { upto: range.start, ..Searched::default() };
        stream::try_unfold((begin, most), move |(so_far, most)| {
            let (logs, pattern, end) = (logs.clone(), pattern.clone(), range.end);
            async move {
                if so_far.upto >= end {
                    return Ok(None);
                }
                let first = so_far.upto;
                let piece = read_lines(&logs, log, first, end - first).await?;
                if piece.total == 0 {
                    return Ok(None);
                }
                let scanning =
                    tokio::task::spawn_blocking(move || scan(&pattern, &piece.text, first, streams, most));
                let mut found = scanning.await.map_err(DataError::unavailable)?;
                found.count += so_far.count;
                let left = most - found.matches.len();
                let so_far = Searched { matches: Vec::new(), ..found };
                Ok(Some((found, (so_far, left))))
            }
        })
        .boxed()
    }

    /// Every event after `since` (now, if none is given) that a pattern selects.
    ///
    /// # Errors
    /// [`DataError::Gone`] if the clock is too old, from the future or of another generation.
    pub async fn subscribe(
        &self,
        patterns: Vec<Pattern>,
        since: Option<Clock>,
    ) -> Result<Subscription, DataError> {
        Subscription::begin(self.shared.clone(), self.hub.clone(), patterns, since).await
    }
}

/// Starts a hub.
pub(crate) fn spawn_hub(supervisor: &Supervisor, name: &str, data: Front<DataActor>) -> Front<Hub> {
    supervisor.spawn(ChildSpec::new(name).permanent().mailbox_bound(8_192), move |birth| {
        Hub::new(birth, data.clone())
    })
}

struct Piece {
    text: Bytes,
    total: i64,
    next: Option<i64>,
}

async fn read_lines(
    logs: &Front<db::LogReader>,
    log: LogId,
    first: i64,
    count: i64,
) -> Result<Piece, DataError> {
    let message = db::ReadLines { log, first, count, max_bytes: LOG_PIECE };
    let lines = logs.ask(message).await?.map_err(DataError::unavailable)?;
    Ok(Piece { text: lines.text, total: lines.count, next: lines.next })
}

fn shown<E: Readable>(entity: Arc<E>, hot: &Hot) -> Shown<E> {
    let json = entity.render(hot);
    show(entity, json)
}

/// The answer from the hot state, if that holds everything the query needs.
fn from_hot<E: Readable>(hot: &Hot, query: &Query) -> Option<Page<Shown<E>>> {
    let table = E::table(hot)?;
    let Some(floor) = E::floor(hot) else {
        let mut items: Vec<Shown<E>> =
            table.values().filter(|e| passes::<E>(e, &query.filters)).cloned().collect();
        // The table is in order of id already.
        if by_id::<E>(query) != Some(ById::Ascending) {
            order(&mut items, query);
        }
        return Some(cut(items, query));
    };
    let wants = |name: &str, value: FieldValue| {
        query
            .filters
            .iter()
            .any(|f| f.field == name && f.compare == Compare::Eq && f.values == [value.clone()])
    };
    // All kept: the whole history, or all that is unfinished.
    let nothing_missing = floor.total == Some(table.size() as u64);
    // What nobody has claimed is not complete either: a request that is cancelled is claimed first.
    let unfinished = ["complete", "claimed"].iter().any(|field| wants(field, FieldValue::Bool(false)));
    if nothing_missing || (floor.unfinished_kept && unfinished) {
        let mut items: Vec<Shown<E>> =
            table.values().filter(|e| passes::<E>(e, &query.filters)).cloned().collect();
        order(&mut items, query);
        return Some(cut(items, query));
    }
    newest::<E>(table, floor.id, query, known_total::<E>(hot, query)?)
}

fn cut<E>(items: Vec<Shown<E>>, query: &Query) -> Page<Shown<E>> {
    let total = items.len() as u64;
    let (offset, limit) = (query.offset as usize, query.limit.map_or(usize::MAX, |l| l as usize));
    Page { items: items.into_iter().skip(offset).take(limit).collect(), total, at_least: false }
}

/// The newest entities first, if enough of them are kept.
fn newest<E: Readable>(
    table: &crate::hot::Table<E>,
    floor: i64,
    query: &Query,
    total: u64,
) -> Option<Page<Shown<E>>> {
    let limit = query.limit?;
    if by_id::<E>(query) != Some(ById::Descending) || query.order.len() > 1 {
        return None;
    }
    let wanted = query.offset.checked_add(limit)? as usize;
    let above = table.range((std::ops::Bound::Excluded(floor), std::ops::Bound::Unbounded));
    let found: Vec<Shown<E>> = above
        .rev()
        .map(|(_, e)| e)
        .filter(|e| passes::<E>(e, &query.filters))
        .take(wanted)
        .cloned()
        .collect();
    (found.len() == wanted).then(|| Page {
        items: found.into_iter().skip(query.offset as usize).collect(),
        total,
        at_least: false,
    })
}

/// How many entities pass the filters, where that is known without counting.
fn known_total<E: Readable>(hot: &Hot, query: &Query) -> Option<u64> {
    let all = E::floor(hot)?.total?;
    match query.filters.as_slice() {
        [] => Some(all),
        [f] if f.field == "complete" && f.compare == Compare::Eq && f.values == [FieldValue::Bool(true)] => {
            let table = E::table(hot)?;
            let unfinished =
                table.values().filter(|e| e.field("complete") == FieldValue::Bool(false)).count();
            Some(all - unfinished as u64)
        }
        _ => None,
    }
}
