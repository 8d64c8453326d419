//! How the cache follows events: every entity is replaced whole, and histories are cut at their bounds.

mod console;
mod rows;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use greenroom_model::wire::Lookup;
use greenroom_model::*;
use rpds::RedBlackTreeMapSync;

use self::console::Console;
use crate::hot::{Hot, RECENT_BUILDS, RECENT_CHANGES, Readable, Shown, Table, show};

/// The cache under construction: the next snapshot, and what only its keeper needs.
pub struct Cache {
    /// The state after the last applied event.
    pub hot: Hot,
    steps_of: HashMap<BuildId, Vec<StepId>>,
    logs_of: HashMap<StepId, Vec<LogId>>,
    /// The newest kept change of a source stamp.
    stamp_changes: HashMap<SourceStampId, ChangeId>,
    /// Builders whose rows must be read again.
    wanted: BTreeSet<BuilderId>,
    /// Builds that were removed since that was asked for.
    gone: HashSet<BuildId>,
    console: Console,
    builds: Bound,
    changes: Bound,
    requests: Bound,
    buildsets: Bound,
}

/// How many finished entities a history keeps.
struct Bound {
    limit: usize,
    finished: usize,
}

impl Bound {
    fn new(limit: usize) -> Self {
        Self { limit, finished: 0 }
    }

    /// An entity above the floor is finished now: raises the floor while too many are kept.
    fn finished<E: Readable>(
        &mut self,
        table: &mut Table<E>,
        floor: &mut i64,
        done: fn(&E) -> bool,
        mut gone: impl FnMut(&E),
    ) {
        self.finished += 1;
        while self.finished > self.limit {
            let next = table.range((std::ops::Bound::Excluded(*floor), std::ops::Bound::Unbounded)).next();
            let Some((id, oldest)) = next.map(|(id, e)| (*id, e.clone())) else { return };
            *floor = id;
            if done(&oldest) {
                table.remove_mut(&id);
                self.finished -= 1;
                gone(&oldest);
            }
        }
    }
}

fn put<E: Readable>(table: &mut Table<E>, entity: &Arc<E>, json: &Arc<str>) -> bool {
    let new = !table.contains_key(&entity.id());
    table.insert_mut(entity.id(), Shown { entity: entity.clone(), json: json.clone() });
    new
}

/// A change is kept no more; a newer one may stand for its stamp by now. Answers the stamp that none stands for any more.
fn forget(stamps: &mut HashMap<SourceStampId, ChangeId>, gone: &Change) -> Option<SourceStampId> {
    let stamp = gone.sourcestamp.id;
    if stamps.get(&stamp) != Some(&gone.id) {
        return None;
    }
    stamps.remove(&stamp);
    Some(stamp)
}

fn filled<E: Readable>(entities: Vec<Arc<E>>, lookup: &dyn Lookup) -> Table<E> {
    let mut table = RedBlackTreeMapSync::new_sync();
    for entity in entities {
        let json = entity.render(lookup);
        table.insert_mut(entity.id(), show(entity, json));
    }
    table
}

/// What the cache begins with; see the storage's `LoadHot`.
pub struct Loaded {
    /// The stored state.
    pub state: greenroom_db::Hot,
    /// Its clock.
    pub clock: Clock,
}

impl Cache {
    /// The cache of a stored state.
    pub fn new(Loaded { state, clock }: Loaded) -> Self {
        let masters = filled(state.masters, &wire::NoLookup);
        let mut hot = Hot { masters, ..Hot::empty(clock) };
        hot.builders = filled(state.builders, &wire::NoLookup);
        hot.workers = filled(state.workers, &wire::NoLookup);
        hot.schedulers = filled(state.schedulers, &hot);
        hot.change_sources = filled(state.change_sources, &hot);
        hot.projects = filled(state.projects, &wire::NoLookup);
        hot.buildsets = filled(state.buildsets, &wire::NoLookup);
        hot.requests = filled(state.requests, &wire::NoLookup);
        hot.builds = filled(state.builds, &wire::NoLookup);
        hot.steps = filled(state.steps, &wire::NoLookup);
        hot.logs = filled(state.logs, &wire::NoLookup);
        hot.changes = filled(state.changes, &wire::NoLookup);
        for (build, properties) in state.properties {
            hot.properties.insert_mut(build, Arc::new(properties));
        }
        for act in state.control {
            hot.controls.insert_mut(act.id.0, act);
        }
        hot.total_builds = state.totals.builds;
        hot.total_changes = state.totals.changes;
        hot.total_requests = state.totals.requests;
        hot.total_buildsets = state.totals.buildsets;
        let mut cache = Self {
            steps_of: HashMap::new(),
            logs_of: HashMap::new(),
            stamp_changes: HashMap::new(),
            wanted: BTreeSet::new(),
            gone: HashSet::new(),
            console: Console::default(),
            builds: Bound::new(RECENT_BUILDS),
            changes: Bound::new(RECENT_CHANGES),
            requests: Bound::new(RECENT_BUILDS),
            buildsets: Bound::new(RECENT_BUILDS),
            hot,
        };
        cache.index();
        cache.begin_rows(state.histories, &state.totals_of);
        cache.begin_console();
        cache
    }

    /// Finds floors (below the oldest finished entity if anything older may exist) and what belongs to running builds.
    fn index(&mut self) {
        fn floor<E: Readable>(table: &Table<E>, total: u64, bound: &mut Bound, done: fn(&E) -> bool) -> i64 {
            bound.finished = table.values().filter(|e| done(e)).count();
            if table.size() as u64 >= total {
                return 0;
            }
            table.values().find(|e| done(e)).map_or(i64::MAX, |e| e.id() - 1)
        }
        let hot = &mut self.hot;
        hot.builds_floor =
            floor(&hot.builds, hot.total_builds, &mut self.builds, |b| b.complete_at.is_some());
        hot.changes_floor = floor(&hot.changes, hot.total_changes, &mut self.changes, |_| true);
        hot.requests_floor =
            floor(&hot.requests, hot.total_requests, &mut self.requests, |r| r.complete_at.is_some());
        hot.buildsets_floor =
            floor(&hot.buildsets, hot.total_buildsets, &mut self.buildsets, |b| b.complete_at.is_some());
        for step in hot.steps.values() {
            self.steps_of.entry(step.build).or_default().push(step.id);
        }
        for log in hot.logs.values() {
            self.logs_of.entry(log.step).or_default().push(log.id);
        }
    }

    /// The versions of what may yet change: everything configured or unfinished.
    pub fn versions(&self) -> impl Iterator<Item = (EntityKey, i64)> {
        fn of<E: Readable>(table: &Table<E>, record: fn(Arc<E>) -> Record) -> Vec<(EntityKey, i64)> {
            let records = table.values().map(|e| record(e.entity.clone()));
            records.map(|r| (r.entity(), r.version())).collect()
        }
        let hot = &self.hot;
        let controls = hot.controls.values().map(|c| Record::Control(c.clone()));
        of(&hot.masters, Record::Master)
            .into_iter()
            .chain(of(&hot.builders, Record::Builder))
            .chain(of(&hot.workers, Record::Worker))
            .chain(of(&hot.schedulers, Record::Scheduler))
            .chain(of(&hot.change_sources, Record::ChangeSource))
            .chain(of(&hot.projects, Record::Project))
            .chain(of(&hot.requests, Record::BuildRequest))
            .chain(of(&hot.buildsets, Record::Buildset))
            .chain(of(&hot.builds, Record::Build))
            .chain(of(&hot.steps, Record::Step))
            .chain(of(&hot.logs, Record::Log))
            .chain(controls.map(|r| (r.entity(), r.version())).collect::<Vec<_>>())
    }

    /// Applies an event, whose entity's public form is `json`.
    pub fn apply(&mut self, event: &Event, json: &Arc<str>) {
        self.hot.clock.set(event.master, event.seq);
        self.follow_console(event);
        if event.what.name == EventName::Deleted {
            return self.delete(&event.what.record);
        }
        let hot = &mut self.hot;
        match &event.what.record {
            Record::Master(e) => {
                put(&mut hot.masters, e, json);
                self.show_masters_again();
            }
            Record::Builder(e) => {
                put(&mut hot.builders, e, json);
                self.row_of_builder(e.id);
            }
            Record::Worker(e) => {
                self.row_of_worker(e);
                put(&mut self.hot.workers, e, json);
            }
            Record::Scheduler(e) => _ = put(&mut hot.schedulers, e, json),
            Record::ChangeSource(e) => _ = put(&mut hot.change_sources, e, json),
            Record::Project(e) => _ = put(&mut hot.projects, e, json),
            Record::Change(e) => self.change(e, json),
            Record::Buildset(e) => self.buildset(e, json, event.what.name),
            Record::BuildRequest(e) => self.request(e, json, event.what.name),
            Record::Build(e) => self.build(e, json, event.what.name),
            // Whatever is late would stay for ever: only the end of a build takes its parts along, only its leaving its properties.
            Record::BuildProperties(e) if !hot.builds.contains_key(&e.build.0) => {}
            Record::Step(e) if hot.builds.get(&e.build.0).is_none_or(|b| b.complete_at.is_some()) => {}
            Record::Log(e) if !hot.steps.contains_key(&e.step.0) => {}
            Record::BuildProperties(e) => {
                let mut all = hot.properties.get(&e.build).map(|p| (**p).clone()).unwrap_or_default();
                all.extend(e.changed.iter().map(|(k, v)| (k.clone(), v.clone())));
                hot.properties.insert_mut(e.build, Arc::new(all));
            }
            Record::Step(e) => {
                if put(&mut hot.steps, e, json) {
                    self.steps_of.entry(e.build).or_default().push(e.id);
                }
            }
            Record::Log(e) => {
                if put(&mut hot.logs, e, json) {
                    self.logs_of.entry(e.step).or_default().push(e.id);
                }
            }
            Record::Control(e) if e.answer.is_some() => _ = hot.controls.remove_mut(&e.id.0),
            Record::Control(e) => hot.controls.insert_mut(e.id.0, e.clone()),
            // read when asked for: the master itself knows which one is in force
            Record::Configuration(_) => {}
            // read when asked for; a notifier itself knows what waits
            Record::Notifier(_) | Record::Delivery(_) => {}
        }
    }

    /// Schedulers and change sources show their master whole.
    fn show_masters_again(&mut self) {
        let schedulers: Vec<_> = self.hot.schedulers.values().map(|s| s.entity.clone()).collect();
        self.hot.schedulers = filled(schedulers, &self.hot);
        let sources: Vec<_> = self.hot.change_sources.values().map(|s| s.entity.clone()).collect();
        self.hot.change_sources = filled(sources, &self.hot);
    }

    fn change(&mut self, e: &Arc<Change>, json: &Arc<str>) {
        let hot = &mut self.hot;
        hot.total_changes += 1;
        // Ids come from blocks, one for each master: another's may be among those that have left already.
        if e.id.0 <= hot.changes_floor {
            return;
        }
        put(&mut hot.changes, e, json);
        let newest = self.stamp_changes.entry(e.sourcestamp.id).or_insert(e.id);
        *newest = (*newest).max(e.id);
        let (stamps, mut left) = (&mut self.stamp_changes, Vec::new());
        self.changes.finished(
            &mut hot.changes,
            &mut hot.changes_floor,
            |_| true,
            |gone| left.extend(forget(stamps, gone)),
        );
        left.into_iter().for_each(|stamp| self.leave_console(stamp));
    }

    /// A change is deleted: an older one stands for its source stamp now, if one is kept.
    fn stand_without(&mut self, gone: &Change) {
        let Some(stamp) = forget(&mut self.stamp_changes, gone) else { return };
        let older = self.hot.changes.values().rev().find(|change| change.sourcestamp.id == stamp);
        match older.map(|change| change.id) {
            Some(older) => _ = self.stamp_changes.insert(stamp, older),
            None => self.leave_console(stamp),
        }
    }

    fn buildset(&mut self, e: &Arc<Buildset>, _: &Arc<str>, name: EventName) {
        let hot = &mut self.hot;
        hot.total_buildsets += u64::from(name == EventName::New);
        // The event shows the scheduler too, which the collection does not.
        put(&mut hot.buildsets, e, &e.render(&wire::NoLookup).into());
        if e.complete_at.is_some() {
            if e.id.0 <= hot.buildsets_floor {
                hot.buildsets.remove_mut(&e.id.0);
            } else {
                let done = |b: &Buildset| b.complete_at.is_some();
                self.buildsets.finished(&mut hot.buildsets, &mut hot.buildsets_floor, done, |_| ());
            }
        }
    }

    /// Retention took it away. Floors stay: what is above them and exists is kept.
    fn delete(&mut self, record: &Record) {
        fn drop_from<E>(table: &mut Table<E>, id: i64, bound: &mut Bound, total: &mut u64) {
            *total = total.saturating_sub(1);
            if table.remove_mut(&id) {
                bound.finished = bound.finished.saturating_sub(1);
            }
        }
        let hot = &mut self.hot;
        match record {
            Record::Build(e) => {
                self.row_without_build(e);
                let hot = &mut self.hot;
                drop_from(&mut hot.builds, e.id.0, &mut self.builds, &mut hot.total_builds);
                hot.properties.remove_mut(&e.id);
            }
            Record::BuildRequest(e) => {
                self.row_without_request(e);
                let hot = &mut self.hot;
                drop_from(&mut hot.requests, e.id.0, &mut self.requests, &mut hot.total_requests);
            }
            Record::Buildset(e) => {
                drop_from(&mut hot.buildsets, e.id.0, &mut self.buildsets, &mut hot.total_buildsets);
            }
            Record::Change(e) => {
                drop_from(&mut hot.changes, e.id.0, &mut self.changes, &mut hot.total_changes);
                self.stand_without(e);
            }
            _ => {} // logs of a build that stays: those of finished builds are not kept
        }
    }

    fn request(&mut self, e: &Arc<BuildRequest>, json: &Arc<str>, name: EventName) {
        let hot = &mut self.hot;
        hot.total_requests += u64::from(name == EventName::New);
        put(&mut hot.requests, e, json);
        self.row_of_request(e, name);
        let hot = &mut self.hot;
        if e.complete_at.is_some() {
            if e.id.0 <= hot.requests_floor {
                hot.requests.remove_mut(&e.id.0);
            } else {
                let done = |r: &BuildRequest| r.complete_at.is_some();
                self.requests.finished(&mut hot.requests, &mut hot.requests_floor, done, |_| ());
            }
        }
    }

    fn build(&mut self, e: &Arc<Build>, json: &Arc<str>, name: EventName) {
        self.row_of_build(e, json, name);
        let hot = &mut self.hot;
        hot.total_builds += u64::from(name == EventName::New);
        put(&mut hot.builds, e, json);
        if e.complete_at.is_none() {
            return;
        }
        for step in self.steps_of.remove(&e.id).unwrap_or_default() {
            hot.steps.remove_mut(&step.0);
            for log in self.logs_of.remove(&step).unwrap_or_default() {
                hot.logs.remove_mut(&log.0);
            }
        }
        if e.id.0 <= hot.builds_floor {
            hot.builds.remove_mut(&e.id.0);
            hot.properties.remove_mut(&e.id);
        } else {
            let properties = &mut hot.properties;
            let done = |b: &Build| b.complete_at.is_some();
            self.builds.finished(&mut hot.builds, &mut hot.builds_floor, done, |gone| {
                properties.remove_mut(&gone.id);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MasterId = MasterId(1);

    fn build(ended: bool) -> Record {
        let at = Timestamp(1);
        Record::Build(Arc::new(Build {
            id: BuildId(1),
            number: 1,
            builder: BuilderId(1),
            request: BuildRequestId(1),
            worker: WorkerId(1),
            master: ME,
            started_at: at,
            complete_at: ended.then_some(at),
            locks_duration_s: 0,
            results: ended.then_some(Results::Success),
            state_string: String::new(),
            version: 1,
        }))
    }

    fn step(id: i64, build: i64) -> Record {
        Record::Step(Arc::new(Step {
            id: StepId(id),
            number: 0,
            name: "compile".into(),
            build: BuildId(build),
            started_at: None,
            locks_acquired_at: None,
            complete_at: None,
            results: None,
            state_string: String::new(),
            urls: Vec::new(),
            hidden: false,
            command: None,
            version: 1,
        }))
    }

    fn log(id: i64, step: i64) -> Record {
        Record::Log(Arc::new(Log {
            id: LogId(id),
            name: "stdio".into(),
            slug: "stdio".into(),
            step: StepId(step),
            kind: LogKind::Stdio,
            num_lines: 0,
            complete: false,
            version: 1,
        }))
    }

    fn properties(build: i64) -> Record {
        let changed = Properties::from([("a".to_owned(), Property(1.into(), "test".into()))]);
        Record::BuildProperties(Arc::new(BuildProperties { build: BuildId(build), changed, version: 2 }))
    }

    fn apply_all(cache: &mut Cache, records: Vec<(EventName, Record)>) {
        for (name, record) in records {
            let seq = cache.hot.clock.head(ME) + 1;
            let event = Event { master: ME, seq, at: Timestamp(1), what: Happening { name, record } };
            cache.apply(&event, &"{}".into());
        }
    }

    fn empty() -> Cache {
        let state = greenroom_db::Hot::default();
        Cache::new(Loaded { state, clock: Clock::default() })
    }

    #[test]
    fn parts_of_running_builds_are_kept_until_they_end() {
        let mut cache = empty();
        let start =
            [(EventName::New, build(false)), (EventName::New, step(1, 1)), (EventName::New, log(1, 1))];
        apply_all(&mut cache, start.into());
        apply_all(&mut cache, vec![(EventName::Update, properties(1))]);
        let hot = &cache.hot;
        assert_eq!((hot.steps.size(), hot.logs.size(), hot.properties.size()), (1, 1, 1));
        apply_all(&mut cache, vec![(EventName::Finished, build(true))]);
        let hot = &cache.hot;
        assert_eq!((hot.steps.size(), hot.logs.size(), hot.properties.size()), (0, 0, 1));
    }

    #[test]
    fn what_is_deleted_leaves_the_cache_and_the_totals() {
        let mut cache = empty();
        apply_all(&mut cache, vec![(EventName::New, build(false)), (EventName::Finished, build(true))]);
        apply_all(&mut cache, vec![(EventName::Update, properties(1))]);
        assert_eq!((cache.hot.builds.size(), cache.hot.total_builds, cache.builds.finished), (1, 1, 1));
        apply_all(&mut cache, vec![(EventName::Deleted, build(true))]);
        let hot = &cache.hot;
        assert_eq!((hot.builds.size(), hot.properties.size(), hot.total_builds), (0, 0, 0));
        assert_eq!(cache.builds.finished, 0);
        assert_eq!(hot.clock.head(ME), 4);
    }

    /// A change of a source stamp.
    pub(super) fn change(id: i64, stamp: i64) -> Record {
        let sourcestamp = Arc::new(SourceStamp {
            id: SourceStampId(stamp),
            branch: None,
            revision: None,
            project: String::new(),
            repository: String::new(),
            codebase: String::new(),
            created_at: Timestamp(0),
            patch: None,
        });
        Record::Change(Arc::new(Change {
            id: ChangeId(id),
            author: String::new(),
            committer: None,
            comments: String::new(),
            branch: None,
            revision: None,
            revlink: None,
            when: Timestamp(0),
            category: None,
            parents: vec![],
            repository: String::new(),
            codebase: String::new(),
            project: String::new(),
            files: vec![],
            properties: Properties::new(),
            sourcestamp,
        }))
    }

    #[test]
    fn a_change_whose_id_is_among_those_that_have_left_is_counted_alone() {
        let mut cache = empty();
        let newer = (5_000..).take(RECENT_CHANGES + 1).map(|id| (EventName::New, change(id, id)));
        apply_all(&mut cache, newer.collect());
        apply_all(&mut cache, vec![(EventName::New, change(7, 7))]);
        let hot = &cache.hot;
        assert_eq!((hot.changes.size(), hot.total_changes), (RECENT_CHANGES, RECENT_CHANGES as u64 + 2));
        assert_eq!((hot.changes_floor, cache.stamp_changes.len()), (5_000, RECENT_CHANGES));
    }

    #[test]
    fn the_newest_kept_change_stands_for_a_source_stamp() {
        let mut cache = empty();
        let stands = |cache: &Cache| cache.stamp_changes.get(&SourceStampId(1)).copied();
        apply_all(&mut cache, vec![(EventName::New, change(10, 1)), (EventName::New, change(9, 1))]);
        assert_eq!(stands(&cache), Some(ChangeId(10)), "the ids come from several masters' blocks");
        apply_all(&mut cache, vec![(EventName::Deleted, change(10, 1))]);
        assert_eq!(stands(&cache), Some(ChangeId(9)));
        apply_all(&mut cache, vec![(EventName::Deleted, change(9, 1))]);
        assert_eq!(stands(&cache), None);
    }

    #[test]
    fn late_parts_of_builds_that_ended_or_are_not_kept_are_left_out() {
        let mut cache = empty();
        let run = [(EventName::New, build(false)), (EventName::New, step(1, 1))];
        apply_all(&mut cache, run.into());
        apply_all(&mut cache, vec![(EventName::Finished, build(true))]);
        let late = [step(1, 1), step(2, 1), step(3, 9), log(1, 1), log(2, 3), properties(9)];
        apply_all(&mut cache, late.into_iter().map(|record| (EventName::Update, record)).collect());
        let hot = &cache.hot;
        assert_eq!((hot.steps.size(), hot.logs.size(), hot.properties.size()), (0, 0, 0));
        assert!(cache.steps_of.is_empty() && cache.logs_of.is_empty());
        assert_eq!(hot.clock.head(ME), 9, "they are passed all the same");
        // Properties of a build that ended but is kept are shown.
        apply_all(&mut cache, vec![(EventName::Update, properties(1))]);
        assert_eq!(cache.hot.properties.size(), 1);
    }
}
