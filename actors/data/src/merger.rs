//! Puts events in order: each master's by number without gaps, and each entity's versions one after the other.
//!
//! Pure: no I/O. Whoever drives it offers events as they come, in any order and as often as they come, takes what is
//! ready, and reads from the database what [`Merger::wants`] says.
//!
//! Between masters there is no order, except that version n+1 of an entity never comes before n. When that cannot be seen
//! from what has been delivered, the other masters' events up to their heads are read first: what version
//! n+1 builds on is committed by necessity.

use std::collections::btree_map::Entry;
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};

use greenroom_db::Plant;
use greenroom_model::{Clock, EntityKey, Event, MasterId};

/// How many entities' last versions are remembered, twice; forgetting costs a read, never the order.
const REMEMBERED_VERSIONS: usize = 50_000;

/// What must be read before more can be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wants {
    /// Nothing.
    Nothing,
    /// Some numbers are missing, or an entity's earlier version may be: read the heads of all masters, offer every event
    /// up to them, then say so ([`Merger::settle`]).
    Settling,
}

/// The state of the merge.
#[derive(Debug)]
pub struct Merger {
    clock: Clock,
    waiting: BTreeMap<MasterId, BTreeMap<i64, Event>>,
    /// The versions that wait.
    waiting_versions: HashMap<EntityKey, Vec<i64>>,
    /// Last versions of the entities seen lately, and of those seen before them.
    versions: [HashMap<EntityKey, i64>; 2],
    /// Everything up to here that an event up to here builds on has been offered.
    settled: Clock,
    /// Only one master's events are merged: its own order says it all.
    alone: bool,
    plant: Plant,
}

impl Merger {
    /// Goes on after `clock`.
    pub fn new(clock: Clock) -> Self {
        let versions = [HashMap::new(), HashMap::new()];
        Self {
            settled: clock.clone(),
            clock,
            waiting: BTreeMap::new(),
            waiting_versions: HashMap::new(),
            versions,
            alone: false,
            plant: Plant::Nothing,
        }
    }

    /// Goes on after `clock`, over events of a single master.
    pub fn of_one_master(clock: Clock) -> Self {
        Self { alone: true, ..Self::new(clock) }
    }

    /// The same with a planted fault. For tests of what notices it.
    #[doc(hidden)]
    #[must_use]
    pub fn planted(self, plant: Plant) -> Self {
        Self { plant, ..self }
    }

    /// Remembers the version that an entity has at the clock begun with: what follows it then needs no read.
    pub fn remember(&mut self, entity: EntityKey, version: i64) {
        if self.versions[0].len() >= REMEMBERED_VERSIONS {
            self.versions.swap(0, 1);
            self.versions[0].clear();
        }
        self.versions[0].insert(entity, version);
    }

    /// What has been delivered.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How many events wait.
    pub fn waiting(&self) -> usize {
        self.waiting.values().map(BTreeMap::len).sum()
    }

    /// Takes in an event; one that was delivered or offered before changes nothing.
    pub fn offer(&mut self, event: Event) {
        if self.clock.contains(event.master, event.seq) {
            return;
        }
        let place = self.waiting.entry(event.master).or_default().entry(event.seq);
        let Entry::Vacant(place) = place else { return };
        if !self.alone {
            let versions = self.waiting_versions.entry(event.what.record.entity()).or_default();
            versions.push(event.what.version());
        }
        place.insert(event);
    }

    /// The number after which `master`'s events must be read to close its first gap.
    pub fn contiguous_head(&self, master: MasterId) -> i64 {
        let mut head = self.clock.head(master);
        if let Some(events) = self.waiting.get(&master) {
            for seq in events.keys() {
                if *seq != head + 1 {
                    break;
                }
                head = *seq;
            }
        }
        head
    }

    /// Tells that every event up to `heads`, which was read from the database after all events offered so far were committed,
    /// has been offered. Answers whether that is more than was told before.
    pub fn settle(&mut self, heads: &Clock) -> bool {
        let mut more = false;
        for (master, seq) in heads.heads() {
            if seq > self.settled.head(master) {
                self.settled.set(master, seq);
                more = true;
            }
        }
        more
    }

    /// The next event to deliver.
    pub fn next_ready(&mut self) -> Option<Event> {
        let master = self.waiting.iter().find_map(|(master, events)| {
            let (seq, event) = events.first_key_value()?;
            let follows = *seq == self.clock.head(*master) + 1 || self.plant == Plant::AnythingNewer;
            (follows && self.may_follow(event)).then_some(*master)
        })?;
        let events = self.waiting.get_mut(&master)?;
        let (_, event) = events.pop_first()?;
        if events.is_empty() {
            self.waiting.remove(&master);
        }
        self.clock.set(master, event.seq);
        if !self.alone {
            let (entity, version) = (event.what.record.entity(), event.what.version());
            self.waits_no_more(entity, version);
            self.remember(entity, version);
        }
        Some(event)
    }

    /// What must be read, once [`Merger::next_ready`] has nothing more.
    pub fn wants(&self) -> Wants {
        if self.waiting.is_empty() { Wants::Nothing } else { Wants::Settling }
    }

    /// Whether every earlier version of the event's entity has been delivered.
    fn may_follow(&self, event: &Event) -> bool {
        let version = event.what.version();
        if self.alone || version <= 1 || self.plant == Plant::SkippedVersion {
            return true;
        }
        let entity = event.what.record.entity();
        match self.versions.iter().find_map(|v| v.get(&entity)) {
            Some(last) if *last >= version - 1 => true,
            _ => self.settled.contains(event.master, event.seq) && !self.waits_earlier(entity, version),
        }
    }

    fn waits_earlier(&self, entity: EntityKey, version: i64) -> bool {
        self.waiting_versions.get(&entity).is_some_and(|waiting| waiting.iter().any(|it| *it < version))
    }

    fn waits_no_more(&mut self, entity: EntityKey, version: i64) {
        if let MapEntry::Occupied(mut waiting) = self.waiting_versions.entry(entity) {
            let at = waiting.get().iter().position(|it| *it == version);
            at.map(|at| waiting.get_mut().swap_remove(at));
            if waiting.get().is_empty() {
                waiting.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use greenroom_model::*;

    use super::*;

    fn event(master: i64, seq: i64, builder: i64, version: i64) -> Event {
        let builder = Builder {
            id: BuilderId(builder),
            name: "b".into(),
            description: None,
            project: None,
            tags: vec![],
            masters: vec![],
            version,
        };
        Event {
            master: MasterId(master),
            seq,
            at: Timestamp(0),
            what: Happening { name: EventName::Update, record: Record::Builder(Arc::new(builder)) },
        }
    }

    fn drain(merger: &mut Merger) -> Vec<(i64, i64)> {
        std::iter::from_fn(|| merger.next_ready()).map(|e| (e.master.0, e.seq)).collect()
    }

    #[test]
    fn lost_doubled_and_reordered_events_come_out_in_order() {
        let mut merger = Merger::new(Clock::start(1));
        for seq in [2, 3, 2, 5] {
            merger.offer(event(1, seq, seq, 1));
        }
        assert_eq!(drain(&mut merger), []);
        assert_eq!(merger.wants(), Wants::Settling);
        assert_eq!(merger.contiguous_head(MasterId(1)), 0);
        merger.offer(event(1, 1, 1, 1));
        assert_eq!(drain(&mut merger), [(1, 1), (1, 2), (1, 3)]);
        merger.offer(event(1, 3, 3, 1));
        merger.offer(event(1, 4, 4, 1));
        assert_eq!(drain(&mut merger), [(1, 4), (1, 5)]);
        assert_eq!(merger.wants(), Wants::Nothing);
    }

    #[test]
    fn a_later_version_waits_for_an_earlier_one_of_another_master() {
        let mut merger = Merger::new(Clock::start(1));
        merger.offer(event(2, 1, 7, 1));
        assert_eq!(drain(&mut merger), [(2, 1)]);
        merger.offer(event(1, 1, 7, 3)); // builds on version 2, which master 2 wrote
        assert_eq!(drain(&mut merger), []);
        assert_eq!(merger.wants(), Wants::Settling);
        merger.offer(event(2, 2, 7, 2));
        assert_eq!(drain(&mut merger), [(2, 2), (1, 1)]);
    }

    #[test]
    fn an_unknown_entity_is_delivered_once_all_heads_are_read() {
        let mut clock = Clock::start(1);
        clock.set(MasterId(1), 4);
        clock.set(MasterId(2), 9);
        let mut merger = Merger::new(clock.clone());
        merger.offer(event(1, 5, 7, 30));
        assert_eq!(drain(&mut merger), []);
        clock.set(MasterId(1), 5);
        merger.settle(&clock);
        assert_eq!(drain(&mut merger), [(1, 5)]);
    }
}
