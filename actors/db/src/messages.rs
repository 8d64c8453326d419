//! The public messages of this crate, with their replies.
//!
//! Writes go to [`DbWriter`](crate::DbWriter), reads to [`DbReader`](crate::DbReader), log text to
//! [`LogWriter`](crate::LogWriter) and [`LogReader`](crate::LogReader). Every read answers a [`Snapshot`]: the value
//! and the clock that it stands at, read in one transaction.

use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use actix::Message;
use bytes::Bytes;
use greenroom_model::ids::IdKind;
use greenroom_model::write::{ListenerRecord, SchedulerState};
use greenroom_model::*;
use serde_json::Value;

/// Takes the events of one commit, in order, right after it. It must not block.
pub type EventSink = Arc<dyn Fn(Arc<[Event]>) + Send + Sync>;

/// Told that so many lines of a log are stored and may be announced. It must not block.
pub type LogAnnouncer = Arc<dyn Fn(LogId, i64) + Send + Sync>;

/// Commits a write: to the [`DbWriter`](crate::DbWriter).
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Committed, WriteError>")]
pub struct Commit(pub Write);

/// Reserves so many more ids of a kind, when [`IdAllocator::take`](crate::IdAllocator::take) said that it is exhausted.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), WriteError>")]
pub struct ReserveIds {
    /// Of which kind.
    pub kind: IdKind,
    /// How many.
    pub count: u32,
}

/// Removes old events and remembered write ids. An event goes only when it is older than `older_than` **and** more than
/// `keep` newer events of its master are kept. The DbWriter does it by itself, too.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Pruned, WriteError>")]
pub struct Prune {
    /// Nothing as young as this goes.
    pub older_than: Timestamp,
    /// So many events of this master stay in any case.
    pub keep: i64,
}

/// What a pruning removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Events of this master removed.
    pub events: u64,
    /// Remembered write ids removed.
    pub writes: u64,
    /// Events up to here are gone.
    pub floor: i64,
}

/// Removes history in one transaction, with all that nothing refers to any more: to the [`DbWriter`](crate::DbWriter), which does
/// it between two commits. A few at a time: writes wait for it. What may not go (it runs, is pinned, is its builder's newest, a
/// running build waits for it, something refers to it) is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Message)]
#[rtype(result = "Result<Removed, WriteError>")]
pub struct Remove {
    /// Builds with their steps and logs.
    pub builds: Vec<BuildId>,
    /// Builds that stay and lose their logs.
    pub logs_of: Vec<BuildId>,
    /// Buildsets without builds.
    pub buildsets: Vec<BuildsetId>,
    /// Changes that no buildset is about.
    pub changes: Vec<ChangeId>,
    /// Control acts that were asked for before this and are answered, some of them: ask again until none was removed.
    pub acts_before: Option<Timestamp>,
    /// The time.
    pub at: Timestamp,
}

/// What was removed: rows of each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the collections of those names
pub struct Removed {
    pub builds: u64,
    /// Builds that stayed and lost their logs.
    pub builds_without_logs: u64,
    pub steps: u64,
    pub logs: u64,
    pub requests: u64,
    pub buildsets: u64,
    pub changes: u64,
    pub sourcestamps: u64,
    /// Control acts.
    pub acts: u64,
}

/// Removes some text of logs that are gone: to the [`LogWriter`](crate::LogWriter).
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Swept, LogError>")]
pub struct SweepLogs;

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Logs whose text is gone now.
    pub logs: u64,
    /// Whether there was anything, so that there may be more.
    pub more: bool,
}

/// Reads what retention decides by: a builder's builds from its newest on, at most `limit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<BuildFacts>>")]
pub struct RetentionFacts {
    /// Whose.
    pub builder: BuilderId,
    /// Only those with a smaller number.
    pub below: i64,
    /// At most so many.
    pub limit: u64,
}

/// A build, as retention sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildFacts {
    /// Which.
    pub id: BuildId,
    /// Its number.
    pub number: i64,
    /// How it ended.
    pub results: Option<Results>,
    /// When it ended; none: it runs.
    pub complete_at: Option<Timestamp>,
    /// The branch of its first source stamp.
    pub branch: Option<String>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// Whether its logs are gone.
    pub logs_removed: bool,
}

/// Reads how many bytes of text the logs of each build have; builds without logs are left out.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "Result<HashMap<BuildId, u64>, LogError>")]
pub struct LogBytesOf {
    /// Which.
    pub builds: Vec<BuildId>,
}

/// Reads a page of old changes that no buildset is about, or of old buildsets without builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Loose>")]
pub struct LooseEnds {
    /// Changes, not buildsets.
    pub changes: bool,
    /// Older than this.
    pub before: Timestamp,
    /// With a greater id.
    pub after: i64,
    /// How many are looked at.
    pub limit: u64,
}

/// What is loose among what was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Loose {
    /// Their ids.
    pub ids: Vec<i64>,
    /// Where to go on; none: that was the last.
    pub next: Option<i64>,
}

/// Why a write has no outcome to give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// It certainly did not happen, and asking again changes nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It certainly did not happen: the database is down, full or not ready. Ask again later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// It certainly did not happen: another process took this master's place. It must end.
    #[error("this master was taken over by another process")]
    Fenced,
    /// Nobody knows whether it happened: ask again with the same id.
    #[error("whether the write happened is unknown: {0}")]
    Unknown(String),
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The database is down or busy. Ask again later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// A stored row is unreadable: somebody else wrote it, or the file is damaged.
    #[error("a stored row is damaged: {0}")]
    Damaged(String),
}

/// A value with the clock that it stands at.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<T> {
    /// The value.
    pub value: T,
    /// Exactly the events that it contains.
    pub clock: Clock,
}

/// The reply of a read.
pub type ReadResult<T> = Result<Snapshot<T>, ReadError>;

/// Reads a page of entities. Filters and sort keys of [`FieldType::Nested`](greenroom_model::query::FieldType) fields
/// are applied in memory, so use them for small collections only.
#[derive(Debug, Clone)]
pub struct List<E> {
    /// Which.
    pub query: Query,
    entity: PhantomData<fn() -> E>,
}

impl<E> List<E> {
    /// A page of `query`.
    pub fn new(query: Query) -> Self {
        Self { query, entity: PhantomData }
    }
}

impl<E: Entity + 'static> Message for List<E> {
    type Result = ReadResult<Page<Arc<E>>>;
}

/// Reads one entity by id.
#[derive(Debug, Clone)]
pub struct Get<E> {
    /// Which.
    pub id: i64,
    entity: PhantomData<fn() -> E>,
}

impl<E> Get<E> {
    /// The entity of `id`.
    pub fn new(id: i64) -> Self {
        Self { id, entity: PhantomData }
    }
}

impl<E: Entity + 'static> Message for Get<E> {
    type Result = ReadResult<Option<Arc<E>>>;
}

/// Reads the properties of builds; one without properties is left out.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<HashMap<BuildId, Properties>>")]
pub struct BuildPropertiesOf {
    /// Which.
    pub builds: Vec<BuildId>,
}

/// Reads the properties of buildsets; one without properties is left out.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<HashMap<BuildsetId, Properties>>")]
pub struct BuildsetPropertiesOf {
    /// Which.
    pub buildsets: Vec<BuildsetId>,
}

/// Reads a scheduler's state; none was ever saved: the default.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<SchedulerState>")]
pub struct SchedulerStateOf {
    /// Whose.
    pub scheduler: SchedulerId,
}

/// Reads a change source's state; `Null` if none was ever saved.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Value>")]
pub struct ChangeSourceStateOf {
    /// Whose.
    pub source: ChangeSourceId,
}

/// Reads a status listener's clock and settings.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Option<ListenerRecord>>")]
pub struct ListenerOf {
    /// Its name.
    pub name: String,
}

/// Reads a control act.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Option<Arc<ControlAct>>>")]
pub struct ControlActOf {
    /// Which.
    pub act: ControlId,
}

/// Reads the control acts that nobody has answered, oldest first, at most `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<Arc<ControlAct>>>")]
pub struct OpenControlActs {
    /// At most so many.
    pub limit: u64,
}

/// Reads a master's builds that have not ended, with all that is needed to go on with them.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<UnfinishedBuild>>")]
pub struct UnfinishedBuilds {
    /// Whose.
    pub master: MasterId,
}

/// Reads the builds whose buildset holds the change's source stamp, newest first, at most `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<Arc<Build>>>")]
pub struct BuildsOfChange {
    /// Which change.
    pub change: ChangeId,
    /// At most so many.
    pub limit: u64,
}

/// Reads the changes that stand for the build's source stamps.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<Arc<Change>>>")]
pub struct ChangesOfBuild {
    /// Which build.
    pub build: BuildId,
}

/// Reads which other masters count as active and are not: their lease is over by the database's clock, or this process has the
/// database alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<MasterId>>")]
pub struct LapsedMasters;

/// Reads the events of one master after a number, in order, at most `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<EventPage>")]
pub struct EventsAfter {
    /// Whose.
    pub master: MasterId,
    /// After this number.
    pub after: i64,
    /// At most so many.
    pub limit: u64,
}

/// Reads how far to go from a clock so that all is contained that the events up to there build on: the nearest such place, at most `upto`,
/// which must be one. It is some hundred events away, unless those are of a time when none were noted.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Clock>")]
pub struct NextCut {
    /// From here.
    pub after: Clock,
    /// No further.
    pub upto: Clock,
}

/// Reads the clock alone.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<()>")]
pub struct CurrentClock;

/// Reads all that the cache holds from the start: everything small or unfinished, and the newest of the rest.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Hot>")]
pub struct LoadHot {
    /// So many finished builds, newest first, with their properties.
    pub builds: u64,
    /// So many changes, newest first.
    pub changes: u64,
    /// So many complete buildsets, newest first.
    pub buildsets: u64,
    /// So many complete requests, newest first.
    pub requests: u64,
}

/// A build that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct UnfinishedBuild {
    /// The build.
    pub build: Arc<Build>,
    /// Its properties.
    pub properties: Properties,
    /// Its request.
    pub request: Arc<BuildRequest>,
    /// Its steps, by number.
    pub steps: Vec<Arc<Step>>,
    /// Their logs, by id.
    pub logs: Vec<Arc<Log>>,
}

/// Events of one master.
#[derive(Debug, Clone, PartialEq)]
pub enum EventPage {
    /// The events after the asked number, without a gap; empty when there are none yet.
    Events(Vec<Event>),
    /// Some of what was asked for is pruned: events up to this number are gone.
    Gone(i64),
}

/// What a cache begins with.
#[derive(Debug, Clone, PartialEq, Default)]
#[allow(missing_docs)] // the entities of those names
pub struct Hot {
    pub masters: Vec<Arc<Master>>,
    pub builders: Vec<Arc<Builder>>,
    pub workers: Vec<Arc<Worker>>,
    pub schedulers: Vec<Arc<Scheduler>>,
    pub change_sources: Vec<Arc<ChangeSource>>,
    pub projects: Vec<Arc<Project>>,
    /// Unfinished ones and the newest of the others; likewise below. Ascending by id.
    pub buildsets: Vec<Arc<Buildset>>,
    pub requests: Vec<Arc<BuildRequest>>,
    pub builds: Vec<Arc<Build>>,
    /// Of every build above that has some.
    pub properties: HashMap<BuildId, Properties>,
    /// Of unfinished builds only.
    pub steps: Vec<Arc<Step>>,
    /// Of unfinished builds only.
    pub logs: Vec<Arc<Log>>,
    pub changes: Vec<Arc<Change>>,
    /// Not answered yet.
    pub control: Vec<Arc<ControlAct>>,
    pub totals: Totals,
    /// How many builds and how many requests each builder has in all.
    pub totals_of: HashMap<BuilderId, (u64, u64)>,
    /// Of every builder.
    pub histories: Vec<crate::BuilderHistory>,
}

/// How many there are in all, the ones not loaded included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)] // the collections of those names
pub struct Totals {
    pub builds: u64,
    pub changes: u64,
    pub requests: u64,
    pub buildsets: u64,
}

/// Which stream a piece of log text belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output: lines are stored with the letter `o`.
    Out,
    /// Standard error: `e`.
    Err,
    /// The master's own remarks: `h`.
    Header,
    /// A log without streams (kinds `t` and `h`): no letter.
    Plain,
}

/// Adds text to a log: to the [`LogWriter`](crate::LogWriter). It is answered as soon as there is room for it (not when it is
/// stored), so waiting for the answer before sending more is the flow control. Texts of one log keep their order.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), LogError>")]
pub struct Append {
    /// Which log.
    pub log: LogId,
    /// Which stream.
    pub stream: Stream,
    /// Valid UTF-8: whole lines, or a fragment that a later text of the same stream goes on with.
    pub text: Bytes,
}

/// Ends a log: stores what is left, an unfinished last line too. Answers the number of lines, for
/// [`Op::FinishLog`]. Asking again answers the same.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<i64, LogError>")]
pub struct FinishLog {
    /// Which log.
    pub log: LogId,
}

/// Stores everything appended so far of all logs, announced or not: for a stop in good order.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<(), LogError>")]
pub struct FlushLogs;

/// Reads stored lines: to the [`LogReader`](crate::LogReader). To read a whole log in bounded memory ask again from
/// [`LogLines::next`] until it is none.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<LogLines, LogError>")]
pub struct ReadLines {
    /// Which log.
    pub log: LogId,
    /// From this line on, counted from 0.
    pub first: i64,
    /// At most so many lines.
    pub count: i64,
    /// At most so many bytes, but at least one line.
    pub max_bytes: usize,
}

/// Some lines of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogLines {
    /// The first one's number.
    pub first: i64,
    /// How many.
    pub count: i64,
    /// Their text: each ends with a newline and, in a log of streams, begins with its letter.
    pub text: Bytes,
    /// Where to go on; none: no more lines are stored, or as many as asked for were given.
    pub next: Option<i64>,
}

/// Why log text could not be stored or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The log store is down or full; what was not stored is kept and tried again as long as there is room.
    #[error("the log store is not available: {0}")]
    Unavailable(String),
    /// The log has ended.
    #[error("the log has ended")]
    Finished,
    /// A stored segment is unreadable.
    #[error("a stored log segment is damaged: {0}")]
    Damaged(String),
}
