//! How the console's cells follow events.
//!
//! Kept are the cells of source stamps that somebody asked for and that a kept change stands for, and those of new changes after
//! that. They are exact at the cache's clock: where events do not tell all, a stamp's cells are dropped, and read again when they are
//! asked for. That a buildset comes before its requests, and these before their builds, is the order of their master's
//! events, and across masters that of a request's versions: whoever builds it has claimed it.

use std::collections::{BTreeMap, HashMap};

use greenroom_db::{ConsoleCell, ConsoleCells, SETS_OF_STAMP};
use greenroom_model::*;

use super::Cache;
use crate::hot::{CellsOf, ConsoleTable};

/// The most cells that are kept; those of the oldest source stamps go first.
const CELLS: usize = 200_000;
/// The most events that may pass while cells are read.
const MEANWHILE: usize = 10_000;

/// What is followed, and what is being read.
#[derive(Default)]
pub(super) struct Console {
    followed: Followed,
    reading: Option<Reading>,
    /// When the newest source stamp was made that a buildset has named.
    newest_used: Timestamp,
}

/// Cells that were asked for.
struct Reading {
    /// The cache's clock then.
    since: Clock,
    /// What has happened since.
    meanwhile: Vec<Event>,
    /// What was read, once it is.
    found: Option<(Clock, ConsoleCells)>,
}

/// Cells with what is needed to find the one that an event concerns.
#[derive(Default)]
struct Followed {
    rows: ConsoleTable,
    /// How many cells there are.
    cells: usize,
    sets_of: BTreeMap<SourceStampId, Vec<BuildsetId>>,
    sets: HashMap<BuildsetId, Members>,
    requests: HashMap<BuildRequestId, BuildsetId>,
}

/// The followed source stamps of a buildset, and its requests.
#[derive(Default)]
struct Members {
    stamps: Vec<SourceStampId>,
    requests: Vec<BuildRequestId>,
}

impl Cache {
    /// Looks at the buildsets that the cache begins with.
    pub(super) fn begin_console(&mut self) {
        for set in self.hot.buildsets.values() {
            self.console.saw_set(set);
        }
    }

    /// Somebody asks for the cells of these source stamps. Answers those that must be read now, if any; what happens from now on is
    /// remembered until they are adopted.
    pub fn want_cells(&mut self, stamps: Vec<SourceStampId>) -> Vec<SourceStampId> {
        let console = &mut self.console;
        // So full that what is read would only drive out what is kept.
        if console.reading.is_some() || console.followed.cells > CELLS / 4 * 3 {
            return Vec::new();
        }
        let lacks = |s: &SourceStampId| {
            self.stamp_changes.contains_key(s) && !console.followed.sets_of.contains_key(s)
        };
        let wanted: Vec<_> = stamps.into_iter().filter(lacks).collect();
        if !wanted.is_empty() {
            let since = self.hot.clock.clone();
            console.reading = Some(Reading { since, meanwhile: Vec::new(), found: None });
        }
        wanted
    }

    /// Cells were read at a clock, which the cache may not have reached yet.
    pub fn found_cells(&mut self, clock: Clock, cells: ConsoleCells) {
        if let Some(reading) = &mut self.console.reading {
            reading.found = Some((clock, cells));
        }
    }

    /// What was asked for could not be read.
    pub fn give_cells_up(&mut self) {
        self.console.reading = None;
    }

    /// Adopts cells that were read, if the cache has reached their clock by now. Answers whether there is anything new.
    pub fn adopt_cells(&mut self) -> bool {
        let now = &self.hot.clock;
        let reached = |it: &mut Reading| it.found.as_ref().is_some_and(|(clock, _)| now.covers(clock));
        let Some(Reading { since, meanwhile, found: Some((clock, cells)) }) =
            self.console.reading.take_if(reached)
        else {
            return false;
        };
        // Something that had passed before this began is not contained.
        if !clock.covers(&since) {
            return false;
        }
        let mut fresh = Followed::read(cells);
        for event in meanwhile.iter().filter(|e| !clock.contains(e.master, e.seq)) {
            fresh.apply(&event.what);
        }
        let stands = |stamp: &SourceStampId| self.stamp_changes.contains_key(stamp);
        self.console.followed.take_over(fresh, stands);
        self.console.followed.make_room();
        self.hot.console = self.console.followed.rows.clone();
        true
    }

    /// Follows an event.
    pub(super) fn follow_console(&mut self, event: &Event) {
        use Record::{Build, BuildRequest, Buildset, Change};
        if !matches!(event.what.record, Change(_) | Buildset(_) | BuildRequest(_) | Build(_)) {
            return;
        }
        let console = &mut self.console;
        if let (Buildset(set), EventName::New) = (&event.what.record, event.what.name) {
            console.saw_set(set);
        }
        match &mut console.reading {
            Some(reading) if reading.meanwhile.len() < MEANWHILE => reading.meanwhile.push(event.clone()),
            // It has taken too long; who asks again makes it be read again.
            reading => *reading = None,
        }
        if console.followed.sets_of.is_empty() {
            return; // nobody has asked
        }
        match (&event.what.record, event.what.name) {
            (Change(change), EventName::New) if change.id.0 <= self.hot.changes_floor => {}
            (Change(change), EventName::New) => console.change(change, event.at),
            _ => console.followed.apply(&event.what),
        }
        self.hot.console = console.followed.rows.clone();
    }

    /// No kept change stands for a source stamp any more.
    pub(super) fn leave_console(&mut self, stamp: SourceStampId) {
        self.console.followed.forget(stamp);
        self.hot.console = self.console.followed.rows.clone();
    }
}

impl Console {
    fn saw_set(&mut self, set: &Buildset) {
        let made = set.sourcestamps.iter().map(|stamp| stamp.created_at).max();
        self.newest_used = self.newest_used.max(made.unwrap_or_default());
    }

    /// Of a source stamp that was made with its change nothing was built yet. Whether an older one has something is not known here.
    fn change(&mut self, change: &Change, at: Timestamp) {
        let stamp = &change.sourcestamp;
        let made_with_it = stamp.created_at == at && stamp.created_at > self.newest_used;
        if made_with_it && !self.followed.sets_of.contains_key(&stamp.id) {
            self.followed.rows.insert_mut(stamp.id, CellsOf::new_sync());
            self.followed.sets_of.insert(stamp.id, Vec::new());
        }
    }
}

impl Followed {
    /// What was read.
    fn read(found: ConsoleCells) -> Self {
        let mut it = Self::default();
        for (stamp, cells) in found.rows {
            it.cells += cells.len();
            it.rows.insert_mut(stamp, cells.into_iter().map(|cell| (cell.builder, cell)).collect());
            it.sets_of.insert(stamp, Vec::new());
        }
        for (set, stamps) in found.sets {
            for stamp in &stamps {
                it.sets_of.entry(*stamp).or_default().push(set);
            }
            it.sets.insert(set, Members { stamps, requests: Vec::new() });
        }
        for (request, set) in found.requests {
            it.put_request(request, set);
        }
        it
    }

    fn put_request(&mut self, request: BuildRequestId, set: BuildsetId) {
        if let Some(members) = self.sets.get_mut(&set) {
            members.requests.push(request);
            self.requests.insert(request, set);
        }
    }

    fn apply(&mut self, what: &Happening) {
        match (&what.record, what.name) {
            (Record::Buildset(e), EventName::New) => self.add_set(e),
            (Record::Buildset(e), EventName::Deleted) => {
                e.sourcestamps.iter().for_each(|stamp| self.forget(stamp.id));
            }
            (Record::BuildRequest(e), EventName::Deleted) => self.forget_set(e.buildset),
            (Record::BuildRequest(e), name) => {
                if name == EventName::New {
                    self.put_request(e.id, e.buildset);
                }
                self.edit(e.buildset, e.builder, |cell| cell.put_request(e));
            }
            (Record::Build(e), name) => {
                let Some(set) = self.requests.get(&e.request).copied() else { return };
                match name {
                    EventName::Deleted => self.forget_set(set),
                    EventName::New => self.edit(set, e.builder, |cell| cell.add_build(e)),
                    _ => self.edit(set, e.builder, |cell| cell.put_build(e)),
                }
            }
            _ => {}
        }
        self.make_room();
    }

    fn add_set(&mut self, set: &Buildset) {
        for stamp in &set.sourcestamps {
            let Some(sets) = self.sets_of.get_mut(&stamp.id) else { continue };
            if sets.len() as u64 >= SETS_OF_STAMP {
                // The cells tell of the newest alone: what the oldest had must go.
                self.forget(stamp.id);
                continue;
            }
            sets.push(set.id);
            self.sets.entry(set.id).or_default().stamps.push(stamp.id);
        }
    }

    /// Changes the builder's cell of each source stamp of a buildset.
    fn edit(&mut self, set: BuildsetId, builder: BuilderId, edit: impl Fn(&mut ConsoleCell)) {
        for stamp in self.sets.get(&set).into_iter().flat_map(|members| &members.stamps) {
            let mut row = self.rows.get(stamp).cloned().unwrap_or_default();
            let known = row.get(&builder).cloned();
            self.cells += usize::from(known.is_none());
            let mut cell = known.unwrap_or_else(|| ConsoleCell::of(builder));
            edit(&mut cell);
            row.insert_mut(builder, cell);
            self.rows.insert_mut(*stamp, row);
        }
    }

    fn forget_set(&mut self, set: BuildsetId) {
        let stamps = self.sets.get(&set).map(|members| members.stamps.clone());
        stamps.into_iter().flatten().for_each(|stamp| self.forget(stamp));
    }

    /// Drops the cells of a source stamp.
    fn forget(&mut self, stamp: SourceStampId) {
        let Some(sets) = self.sets_of.remove(&stamp) else { return };
        self.cells -= self.rows.get(&stamp).map_or(0, CellsOf::size);
        self.rows.remove_mut(&stamp);
        for set in sets {
            let Some(members) = self.sets.get_mut(&set) else { continue };
            members.stamps.retain(|it| *it != stamp);
            if members.stamps.is_empty() {
                members.requests.iter().for_each(|request| _ = self.requests.remove(request));
                self.sets.remove(&set);
            }
        }
    }

    /// Takes over the rows of `fresh` that `stands` lets in and that are not here yet.
    fn take_over(&mut self, mut fresh: Followed, stands: impl Fn(&SourceStampId) -> bool) {
        let unwanted: Vec<_> =
            fresh.sets_of.keys().filter(|s| self.sets_of.contains_key(s) || !stands(s)).copied().collect();
        unwanted.into_iter().for_each(|stamp| fresh.forget(stamp));
        for (stamp, row) in fresh.rows.iter() {
            self.rows.insert_mut(*stamp, row.clone());
        }
        self.cells += fresh.cells;
        self.sets_of.extend(fresh.sets_of);
        self.requests.extend(fresh.requests);
        for (set, members) in fresh.sets {
            let known = self.sets.entry(set).or_default();
            known.stamps.extend(members.stamps);
            if known.requests.is_empty() {
                known.requests = members.requests;
            }
        }
    }

    fn make_room(&mut self) {
        while self.cells > CELLS {
            let Some(oldest) = self.sets_of.keys().next().copied() else { return };
            self.forget(oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::super::Loaded;
    use super::super::tests::change;
    use super::*;

    const ME: MasterId = MasterId(1);
    const STAMPS: i64 = 4;

    fn stamp(id: i64) -> Arc<SourceStamp> {
        Arc::new(SourceStamp {
            id: SourceStampId(id),
            branch: None,
            revision: Some(id.to_string()),
            project: String::new(),
            repository: String::new(),
            codebase: String::new(),
            created_at: Timestamp(0),
            patch: None,
        })
    }

    fn set(id: i64, stamps: Vec<i64>) -> Record {
        Record::Buildset(Arc::new(Buildset {
            id: BuildsetId(id),
            external_id: None,
            reason: String::new(),
            submitted_at: Timestamp(1),
            complete_at: None,
            results: None,
            parent_build: None,
            parent_relationship: None,
            rebuilt_build: None,
            scheduler: None,
            sourcestamps: stamps.into_iter().map(stamp).collect(),
            version: 1,
        }))
    }

    fn request(id: i64, set: i64, done: bool) -> Record {
        let at = done.then_some(Timestamp(1));
        Record::BuildRequest(Arc::new(BuildRequest {
            id: BuildRequestId(id),
            buildset: BuildsetId(set),
            builder: BuilderId(id % 3),
            priority: 0,
            claimed_at: at,
            claimed_by: None,
            complete_at: at,
            results: None,
            submitted_at: Timestamp(1),
            waited_for: false,
            retries: 0,
            version: 1,
        }))
    }

    fn build(id: i64, request: i64, done: bool) -> Record {
        Record::Build(Arc::new(Build {
            id: BuildId(id),
            number: id,
            builder: BuilderId(request % 3),
            request: BuildRequestId(request),
            worker: WorkerId(1),
            master: ME,
            started_at: Timestamp(1),
            complete_at: done.then_some(Timestamp(2)),
            locks_duration_s: 0,
            results: done.then_some(Results::Success),
            state_string: String::new(),
            version: 1,
        }))
    }

    /// Something happens to buildsets of one request each, whose number they share.
    fn happening(dice: &mut StdRng, sets: &mut i64, builds: &mut Vec<i64>) -> Vec<(EventName, Record)> {
        match dice.random_range(0..8) {
            0 => {
                *sets += 1;
                let stamps = (1..=STAMPS).filter(|_| dice.random()).collect();
                vec![(EventName::New, set(*sets, stamps)), (EventName::New, request(*sets, *sets, false))]
            }
            _ if *sets == 0 => vec![],
            1 => {
                let id = dice.random_range(1..=*sets);
                vec![(EventName::Complete, request(id, id, true))]
            }
            2 if !builds.is_empty() && dice.random_range(0..6) == 0 => {
                let id = dice.random_range(0..builds.len());
                vec![(EventName::Deleted, build(id as i64 + 1, builds[id], true))]
            }
            3..=5 => {
                builds.push(dice.random_range(1..=*sets));
                vec![(EventName::New, build(builds.len() as i64, builds[builds.len() - 1], false))]
            }
            _ if builds.is_empty() => vec![],
            _ => {
                let id = dice.random_range(0..builds.len());
                vec![(EventName::Finished, build(id as i64 + 1, builds[id], true))]
            }
        }
    }

    fn stored(of: &Followed) -> ConsoleCells {
        ConsoleCells {
            rows: of.rows.iter().map(|(stamp, row)| (*stamp, row.values().cloned().collect())).collect(),
            sets: of.sets.iter().map(|(set, of)| (*set, of.stamps.clone())).collect(),
            requests: of.requests.iter().map(|(request, set)| (*request, *set)).collect(),
        }
    }

    fn clock(seq: usize) -> Clock {
        let mut clock = Clock::start(1);
        clock.set(ME, seq as i64);
        clock
    }

    /// Cells that were read in the middle of events are those that were followed from the first event on.
    #[test]
    fn what_is_read_in_between_ends_as_what_is_followed_from_the_beginning() {
        let mut adopted = 0;
        for seed in 0..300 {
            let mut dice = StdRng::seed_from_u64(seed);
            let (mut sets, mut builds) = (0, Vec::new());
            let mut records: Vec<_> = (1..=STAMPS).map(|id| (EventName::New, change(id, id))).collect();
            while records.len() < 60 {
                records.extend(happening(&mut dice, &mut sets, &mut builds));
            }
            let events: Vec<Event> = (1..)
                .zip(records)
                .map(|(seq, (name, record))| Event {
                    master: ME,
                    seq,
                    at: Timestamp(1),
                    what: Happening { name, record },
                })
                .collect();
            // The truth of each prefix.
            let rows = (1..=STAMPS).map(|id| (SourceStampId(id), Vec::new()));
            let empty = ConsoleCells { rows: rows.collect(), ..ConsoleCells::default() };
            let truth = |upto: usize| {
                let mut truth = Followed::read(empty.clone());
                events[..upto].iter().for_each(|event| truth.apply(&event.what));
                truth
            };
            let mut cache =
                Cache::new(Loaded { state: greenroom_db::Hot::default(), clock: Clock::start(1) });
            // Never back: what has passed stays.
            let play = |cache: &mut Cache, upto: usize| {
                let at = usize::try_from(cache.hot.clock.head(ME)).unwrap();
                events[at..upto.max(at)].iter().for_each(|event| cache.apply(event, &"{}".into()));
            };
            let asked = dice.random_range(4..30);
            play(&mut cache, asked);
            // Some are followed already.
            for some in [1..=2, 1..=STAMPS] {
                let wanted = cache.want_cells(some.map(SourceStampId).collect());
                let (read, answered) = (dice.random_range(0..50), dice.random_range(asked..50));
                let mut found = stored(&truth(read));
                found.rows.retain(|stamp, _| wanted.contains(stamp));
                found.sets.values_mut().for_each(|stamps| stamps.retain(|s| wanted.contains(s)));
                play(&mut cache, answered);
                cache.found_cells(clock(read), found);
                adopted += u32::from(cache.adopt_cells());
                play(&mut cache, read);
                adopted += u32::from(cache.adopt_cells());
            }
            play(&mut cache, events.len());
            let whole = truth(events.len());
            for (stamp, row) in cache.hot.console.iter() {
                if let Some(wanted) = whole.rows.get(stamp) {
                    assert_eq!(row, wanted, "seed {seed}, stamp {stamp}, asked at {asked}");
                }
            }
            let cells: usize = cache.hot.console.values().map(CellsOf::size).sum();
            assert_eq!(cache.console.followed.cells, cells);
            let requests: usize = cache.console.followed.sets.values().map(|set| set.requests.len()).sum();
            assert_eq!(cache.console.followed.requests.len(), requests, "none is left over");
        }
        assert!(adopted > 100, "{adopted} reads were adopted");
    }
}
