//! The cache, as an immutable snapshot that anybody may read without a message.
//!
//! [`crate::actor::DataActor`] keeps it by applying events and publishes a new one after each batch. Maps are persistent
//! (structure is shared between snapshots), so publishing costs what changed, not what is kept.

use std::ops::Deref;
use std::sync::Arc;

use greenroom_db::ConsoleCell;
use greenroom_model::query::Compare;
use greenroom_model::wire::{self, Lookup};
use greenroom_model::*;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use crate::builder_rows::BuilderRow;

/// How many finished builds (with their requests, buildsets and properties) are kept.
pub const RECENT_BUILDS: usize = 1_000;
/// How many changes are kept.
pub const RECENT_CHANGES: usize = 1_000;

/// An entity with its public form, rendered once.
#[derive(Debug)]
pub struct Shown<E> {
    /// The entity.
    pub entity: Arc<E>,
    /// Its public form as JSON text, without optional parts (a build's properties are `{}`).
    pub json: Arc<str>,
}

impl<E> Clone for Shown<E> {
    fn clone(&self) -> Self {
        Self { entity: self.entity.clone(), json: self.json.clone() }
    }
}

impl<E> Deref for Shown<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.entity
    }
}

/// Entities of one kind by id, in order of id.
pub type Table<E> = RedBlackTreeMapSync<i64, Shown<E>>;

/// What was built of a source stamp, by builder.
pub type CellsOf = RedBlackTreeMapSync<BuilderId, ConsoleCell>;

/// The console's cells by source stamp.
pub type ConsoleTable = HashTrieMapSync<SourceStampId, CellsOf>;

/// A snapshot of the hot state: everything configured, everything unfinished, and the newest of the rest.
#[derive(Clone)]
pub struct Hot {
    /// Which events it contains.
    pub clock: Clock,
    /// The same as text.
    pub clock_text: Arc<str>,
    /// All masters.
    pub masters: Table<Master>,
    /// All builders.
    pub builders: Table<Builder>,
    /// All workers.
    pub workers: Table<Worker>,
    /// All schedulers.
    pub schedulers: Table<Scheduler>,
    /// All change sources.
    pub change_sources: Table<ChangeSource>,
    /// All projects.
    pub projects: Table<Project>,
    /// All incomplete requests, and the newest complete ones.
    pub requests: Table<BuildRequest>,
    /// All incomplete buildsets, and the newest complete ones.
    pub buildsets: Table<Buildset>,
    /// All running builds, and the newest finished ones.
    pub builds: Table<Build>,
    /// Properties of the builds kept.
    pub properties: HashTrieMapSync<BuildId, Arc<Properties>>,
    /// The steps of running builds, by step id.
    pub steps: Table<Step>,
    /// The logs of running builds, by log id.
    pub logs: Table<Log>,
    /// The newest changes.
    pub changes: Table<Change>,
    /// A row for each builder, by its id.
    pub rows: HashTrieMapSync<i64, Arc<BuilderRow>>,
    /// What was built of the kept changes that somebody has asked for, and of those after them. A source stamp that is not here was
    /// not asked for.
    pub console: ConsoleTable,
    /// Control acts that are not answered.
    pub controls: RedBlackTreeMapSync<i64, Arc<ControlAct>>,
    /// Every build with an id above this is kept (finished ones below it may be, running ones always are).
    pub builds_floor: i64,
    /// The same for changes.
    pub changes_floor: i64,
    /// The same for requests.
    pub requests_floor: i64,
    /// The same for buildsets.
    pub buildsets_floor: i64,
    /// How many builds there are in all.
    pub total_builds: u64,
    /// How many changes there are in all.
    pub total_changes: u64,
    /// How many requests there are in all.
    pub total_requests: u64,
    /// How many buildsets there are in all.
    pub total_buildsets: u64,
}

impl Hot {
    /// Nothing, at a clock.
    pub(crate) fn empty(clock: Clock) -> Self {
        Self {
            clock_text: clock.to_string().into(),
            clock,
            masters: Table::new_sync(),
            builders: Table::new_sync(),
            workers: Table::new_sync(),
            schedulers: Table::new_sync(),
            change_sources: Table::new_sync(),
            projects: Table::new_sync(),
            requests: Table::new_sync(),
            buildsets: Table::new_sync(),
            builds: Table::new_sync(),
            properties: HashTrieMapSync::new_sync(),
            steps: Table::new_sync(),
            logs: Table::new_sync(),
            changes: Table::new_sync(),
            rows: HashTrieMapSync::new_sync(),
            console: ConsoleTable::new_sync(),
            controls: RedBlackTreeMapSync::new_sync(),
            builds_floor: 0,
            changes_floor: 0,
            requests_floor: 0,
            buildsets_floor: 0,
            total_builds: 0,
            total_changes: 0,
            total_requests: 0,
            total_buildsets: 0,
        }
    }

    /// The builder of that name.
    pub fn builder_named(&self, name: &str) -> Option<&Shown<Builder>> {
        self.builders.values().find(|b| b.name == name)
    }

    /// The worker of that name.
    pub fn worker_named(&self, name: &str) -> Option<&Shown<Worker>> {
        self.workers.values().find(|w| w.name == name)
    }

    /// The scheduler of that name.
    pub fn scheduler_named(&self, name: &str) -> Option<&Shown<Scheduler>> {
        self.schedulers.values().find(|s| s.name == name)
    }

    /// The incomplete requests, oldest first.
    pub fn waiting_requests(&self) -> impl Iterator<Item = &Shown<BuildRequest>> {
        self.requests.values().filter(|r| r.complete_at.is_none() && r.claimed_at.is_none())
    }

    /// The running builds, oldest first.
    pub fn running_builds(&self) -> impl Iterator<Item = &Shown<Build>> {
        self.builds.values().filter(|b| b.complete_at.is_none())
    }
}

impl Lookup for Hot {
    fn master(&self, id: MasterId) -> Option<Arc<Master>> {
        self.masters.get(&id.0).map(|m| m.entity.clone())
    }
}

/// Renders an entity by its `wire` form.
pub(crate) fn show<E>(entity: Arc<E>, json: String) -> Shown<E> {
    Shown { entity, json: json.into() }
}

/// An entity kind that can be read through [`crate::Ro`].
pub trait Readable: greenroom_db::Stored {
    /// Its public form without optional parts.
    fn render(&self, lookup: &dyn Lookup) -> String;

    /// Where the hot snapshot keeps it, if it does.
    fn table(hot: &Hot) -> Option<&Table<Self>>;

    /// Up to which id the table may lack finished entities: `Some(floor)` for histories, `None` when the table holds all.
    fn floor(hot: &Hot) -> Option<Floor>;

    /// The answer to a query that something else of the hot snapshot has.
    fn otherwise(_hot: &Hot, _query: &Query) -> Option<Page<Shown<Self>>> {
        None
    }
}

/// What a hot table of a history lacks.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Every entity with a greater id is kept.
    pub id: i64,
    /// How many entities there are in all, if it is known.
    pub total: Option<u64>,
    /// Whether all unfinished entities (`complete = false`) are kept whatever their id.
    pub unfinished_kept: bool,
}

macro_rules! readable {
    ($ty:ty, $table:ident, $render:expr, $floor:expr $(, $otherwise:path)?) => {
        impl Readable for $ty {
            fn render(&self, lookup: &dyn Lookup) -> String {
                let render: fn(&$ty, &dyn Lookup) -> String = $render;
                render(self, lookup)
            }

            fn table(hot: &Hot) -> Option<&Table<Self>> {
                Some(&hot.$table)
            }

            fn floor(hot: &Hot) -> Option<Floor> {
                let floor: fn(&Hot) -> Option<Floor> = $floor;
                floor(hot)
            }

            $(fn otherwise(hot: &Hot, query: &Query) -> Option<Page<Shown<Self>>> {
                $otherwise(hot, query)
            })?
        }
    };
}

readable!(Master, masters, |e, _| wire::to_json(&wire::master(e)), |_| None);
readable!(Builder, builders, |e, _| wire::to_json(&wire::builder(e)), |_| None);
readable!(Worker, workers, |e, _| wire::to_json(&wire::worker(e)), |_| None);
readable!(Scheduler, schedulers, |e, l| wire::to_json(&wire::scheduler(e, l)), |_| None);
readable!(ChangeSource, change_sources, |e, l| wire::to_json(&wire::change_source(e, l)), |_| None);
readable!(Project, projects, |e, _| wire::to_json(&wire::project(e)), |_| None);
readable!(Change, changes, |e, _| wire::to_json(&wire::change(e)), |h| Some(Floor {
    id: h.changes_floor,
    total: Some(h.total_changes),
    unfinished_kept: false
}));
readable!(Buildset, buildsets, |e, _| wire::to_json(&wire::buildset(e)), |h| Some(Floor {
    id: h.buildsets_floor,
    total: Some(h.total_buildsets),
    unfinished_kept: true
}));
readable!(BuildRequest, requests, |e, _| wire::to_json(&wire::request(e, None)), |h| Some(Floor {
    id: h.requests_floor,
    total: Some(h.total_requests),
    unfinished_kept: true
}));
readable!(
    Build,
    builds,
    |e, _| wire::to_json(&wire::build(e, &Properties::new())),
    |h| Some(Floor { id: h.builds_floor, total: Some(h.total_builds), unfinished_kept: true }),
    builds_of_builder
);
readable!(Step, steps, |e, _| wire::to_json(&wire::step(e)), |_| Some(Floor {
    id: i64::MAX,
    total: None,
    unfinished_kept: false
}));
readable!(Log, logs, |e, _| wire::to_json(&wire::log(e)), |_| Some(Floor {
    id: i64::MAX,
    total: None,
    unfinished_kept: false
}));

/// The newest builds of one builder, from its row.
fn builds_of_builder(hot: &Hot, query: &Query) -> Option<Page<Shown<Build>>> {
    let mut builder = None;
    let mut complete = None;
    for filter in &query.filters {
        match (filter.field, filter.compare, filter.values.as_slice()) {
            ("builderid", Compare::Eq, [FieldValue::Int(id)]) if builder.is_none() => builder = Some(*id),
            ("complete", Compare::Eq, [FieldValue::Bool(yes)]) if complete.is_none() => complete = Some(*yes),
            _ => return None,
        }
    }
    if query.order.first() != Some(&("number", true)) {
        return None;
    }
    let row = hot.rows.get(&builder?)?;
    let (newest, whole) = row.newest();
    let fits = |build: &&&Shown<Build>| complete.is_none_or(|yes| build.complete_at.is_some() == yes);
    let found: Vec<_> = newest.iter().filter(fits).collect();
    let wanted = query.limit.and_then(|limit| query.offset.checked_add(limit));
    if !whole && wanted.is_none_or(|wanted| wanted > found.len() as u64) {
        return None;
    }
    let total = match complete {
        None => row.total_builds,
        Some(true) => row.total_builds.saturating_sub(row.running.len() as u64),
        Some(false) => row.running.len() as u64,
    };
    let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let take = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let items = found.into_iter().skip(skip).take(take).map(|build| (*build).clone()).collect();
    Some(Page { items, total, at_least: false })
}

/// Kept nowhere: read from the database each time.
macro_rules! stored_only {
    ($($ty:ty => $form:path),* $(,)?) => {$(
        impl Readable for $ty {
            fn render(&self, _: &dyn Lookup) -> String {
                wire::to_json(&$form(self))
            }

            fn table(_: &Hot) -> Option<&Table<Self>> {
                None
            }

            fn floor(_: &Hot) -> Option<Floor> {
                None
            }
        }
    )*};
}

stored_only!(
    ConfigurationVersion => wire::configuration,
    SourceStamp => wire::sourcestamp,
    Notifier => wire::notifier,
    Delivery => wire::delivery,
    ControlAct => wire::audit,
);
