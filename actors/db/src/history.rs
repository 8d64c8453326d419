//! What read models begin with, and what pages about builds need beside them: ranges of indexes with a bound, whatever the length of
//! the history.

mod builders;
mod console;
mod context;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use actix::Message;
use greenroom_model::*;

use crate::engine::{EngineError, ReadTx};
use crate::messages::ReadResult;
use crate::rows::load_where;

pub use builders::{all as histories, histories_of, took};
pub use console::{SETS_OF_STAMP, cells_of_stamps, console};
pub use context::{build_context, changes_of_stamps};

/// How many finished builds of a builder, and how many of its successes, its history holds.
pub const RECENT_OF_BUILDER: usize = 20;
/// How far a streak is counted.
pub const LONGEST_STREAK: u64 = 100;
/// The most characters of a line about a build.
const WHAT_CHARS: usize = 200;

/// Where a build comes from, in a few words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// When it was asked for.
    pub submitted_at: Timestamp,
    /// The branch of its change, or of its first source stamp.
    pub branch: Option<String>,
    /// Likewise.
    pub revision: Option<String>,
    /// The newest change of the first source stamp that has one.
    pub change: Option<ChangeId>,
    /// Of that change.
    pub author: Option<String>,
    /// The first line of that change, else the reason of the buildset.
    pub what: String,
}

impl Source {
    /// Where the builds of a request come from. `change_of` gives the newest change of a source stamp.
    pub fn of(
        request: &BuildRequest,
        set: &Buildset,
        change_of: impl Fn(SourceStampId) -> Option<Arc<Change>>,
    ) -> Self {
        let change = set.sourcestamps.iter().find_map(|stamp| change_of(stamp.id));
        let (branch, revision) = match (&change, set.sourcestamps.first()) {
            (Some(change), _) => (change.branch.clone(), change.revision.clone()),
            (None, Some(stamp)) => (stamp.branch.clone(), stamp.revision.clone()),
            (None, None) => (None, None),
        };
        let what = change.as_ref().map_or(&set.reason, |change| &change.comments);
        Self {
            submitted_at: request.submitted_at,
            branch,
            revision,
            what: what.trim_start().lines().next().unwrap_or_default().chars().take(WHAT_CHARS).collect(),
            author: change.as_ref().map(|change| change.author.clone()),
            change: change.map(|change| change.id),
        }
    }
}

/// Whether a build says that the work is good (success, warnings) or broken (failure, exception); the other results say nothing of it.
pub fn verdict(results: Option<Results>) -> Option<Verdict> {
    match results? {
        Results::Success | Results::Warnings => Some(Verdict::Good),
        Results::Failure | Results::Exception => Some(Verdict::Broken),
        Results::Skipped | Results::Retry | Results::Cancelled => None,
    }
}

/// What a build says of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Good,
    /// It is broken.
    Broken,
}

/// Builds in a row that say the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    /// What they say.
    pub verdict: Verdict,
    /// How many, at most [`LONGEST_STREAK`].
    pub count: u64,
    /// The first of them: its number and id.
    pub since: (i64, BuildId),
}

/// What precedes the recent builds of a builder, as far as a streak needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was not looked at: the recent ones say it all, or something was removed since.
    Unknown,
    /// Nothing that says anything.
    Nothing,
    /// A row of builds, the last of which is the last one that says something.
    Row(Streak),
}

/// What is known of a builder's builds, however old.
#[derive(Debug, Clone, PartialEq)]
pub struct BuilderHistory {
    /// Whose.
    pub builder: BuilderId,
    /// The last finished ones, newest (by number) first, at most [`RECENT_OF_BUILDER`].
    pub recent: Vec<(Arc<Build>, Arc<Source>)>,
    /// What runs.
    pub running: Vec<(Arc<Build>, Arc<Source>)>,
    /// The last successes, newest first: number, and how long it took in microseconds.
    pub successes: Vec<(i64, i64)>,
    /// What precedes the recent ones.
    pub before: Before,
}

/// Reads the histories of some builders.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<BuilderHistory>>")]
pub struct HistoriesOf {
    /// Which.
    pub builders: Vec<BuilderId>,
}

/// Reads what surrounds a build; none: there is no such build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Option<BuildContext>>")]
pub struct BuildContextOf {
    /// Which.
    pub build: BuildId,
    /// The most changes.
    pub changes: u64,
}

/// What surrounds a build.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildContext {
    /// The builder's build before it.
    pub previous: Option<Arc<Build>>,
    /// The one after it.
    pub next: Option<Arc<Build>>,
    /// The last good build before it of the same builder and branch.
    pub good: Option<Arc<Build>>,
    /// What changed since then, newest first; its own changes, if there is no such build.
    pub changes: Vec<Arc<Change>>,
    /// Whether there are more than these.
    pub more: bool,
}

/// Reads the changes that stand for some source stamps.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<Vec<Arc<Change>>>")]
pub struct ChangesOfStamps {
    /// Which.
    pub stamps: Vec<SourceStampId>,
}

/// Reads the newest changes with what was built of them.
#[derive(Debug, Clone, PartialEq, Default, Message)]
#[rtype(result = "ReadResult<ConsolePage>")]
pub struct ConsoleOf {
    /// Any of these branches; none given: all.
    pub branches: Vec<String>,
    /// Likewise.
    pub codebases: Vec<String>,
    /// Likewise.
    pub projects: Vec<String>,
    /// Likewise.
    pub repositories: Vec<String>,
    /// Only changes with a smaller id.
    pub before: Option<ChangeId>,
    /// At most so many.
    pub limit: u64,
}

/// Some changes with what was built of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ConsolePage {
    /// Newest first.
    pub rows: Vec<ConsoleRow>,
    /// Whether there are older ones.
    pub more: bool,
}

/// A change with what was built of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsoleRow {
    /// The change.
    pub change: Arc<Change>,
    /// In order of the builder.
    pub cells: Vec<ConsoleCell>,
}

/// What a builder has built of a change, or is to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleCell {
    /// The builder.
    pub builder: BuilderId,
    /// The newest build.
    pub latest: Option<LatestBuild>,
    /// How many builds there are.
    pub builds: u64,
    /// Requests that are not complete, and whether each is claimed.
    pub open: Vec<(BuildRequestId, bool)>,
}

/// What a cell shows of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatestBuild {
    /// Its id.
    pub id: BuildId,
    /// Its number among its builder's.
    pub number: i64,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended, if it has.
    pub complete_at: Option<Timestamp>,
    /// How it ended.
    pub results: Option<Results>,
}

/// Reads what was built of source stamps.
#[derive(Debug, Clone, PartialEq, Eq, Message)]
#[rtype(result = "ReadResult<ConsoleCells>")]
pub struct ConsoleCellsOf {
    /// Which.
    pub stamps: Vec<SourceStampId>,
}

/// What was built of source stamps, with all that is needed to follow it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsoleCells {
    /// For each stamp asked for its cells, in order of the builder.
    pub rows: HashMap<SourceStampId, Vec<ConsoleCell>>,
    /// The buildsets that they tell of, at most [`SETS_OF_STAMP`] of a stamp, with those of the stamps that each has.
    pub sets: BTreeMap<BuildsetId, Vec<SourceStampId>>,
    /// Those buildsets' requests.
    pub requests: Vec<(BuildRequestId, BuildsetId)>,
}

/// The buildsets of some ids that have one.
async fn sets_by_id(
    tx: &mut dyn ReadTx,
    mut ids: Vec<i64>,
) -> Result<HashMap<BuildsetId, Arc<Buildset>>, EngineError> {
    ids.sort_unstable();
    ids.dedup();
    let sets = load_where::<Buildset>(tx, "bsid", &ids, &[]).await?;
    Ok(sets.into_iter().map(|set| (set.id, set)).collect())
}

/// The newest change of each source stamp of some that has one.
async fn newest_changes(
    tx: &mut dyn ReadTx,
    mut stamps: Vec<i64>,
) -> Result<HashMap<SourceStampId, Arc<Change>>, EngineError> {
    stamps.sort_unstable();
    stamps.dedup();
    let changes = load_where::<Change>(tx, "ssid", &stamps, &[]).await?;
    // In order of their ids piece by piece, and a stamp is in one piece only.
    Ok(changes.into_iter().map(|change| (change.sourcestamp.id, change)).collect())
}

/// Where builds come from.
async fn sources(
    tx: &mut dyn ReadTx,
    builds: &[Arc<Build>],
) -> Result<HashMap<BuildRequestId, Arc<Source>>, EngineError> {
    let mut requests: Vec<i64> = builds.iter().map(|b| b.request.0).collect();
    requests.sort_unstable();
    requests.dedup();
    let requests = load_where::<BuildRequest>(tx, "buildrequestid", &requests, &[]).await?;
    let sets = sets_by_id(tx, requests.iter().map(|r| r.buildset.0).collect()).await?;
    let stamps = sets.values().flat_map(|set| set.sourcestamps.iter().map(|s| s.id.0)).collect();
    let changes = newest_changes(tx, stamps).await?;
    let source = |request: Arc<BuildRequest>| {
        let set = sets.get(&request.buildset)?;
        let source = Source::of(&request, set, |stamp| changes.get(&stamp).cloned());
        Some((request.id, Arc::new(source)))
    };
    Ok(requests.into_iter().filter_map(source).collect())
}
