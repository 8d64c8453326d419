//! The merger against a model: several masters write the same entities, the bus loses, doubles and reorders, the reader asks
//! the database when it must. And the check of the check: readers that are wrong in the known ways are caught.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use greenroom_data::merger::{Merger, Wants};
use greenroom_model::*;
use proptest::prelude::*;

use crate::judge::{Broken, Client};

const MASTERS: i64 = 3;
const ENTITIES: i64 = 4;

/// What happens, in order.
#[derive(Debug, Clone)]
enum Step {
    /// A master changes an entity.
    Commit { master: i64, entity: i64 },
    /// The bus hands over a waiting hint (the n-th, so it reorders), perhaps leaving it there (so it doubles).
    Hint { nth: usize, keep: bool },
    /// The bus loses a waiting hint.
    Lose { nth: usize },
    /// The reader looks into the database.
    Poll,
    /// The reader is born again with the database's state.
    Rebirth,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..=MASTERS, 1..=ENTITIES).prop_map(|(master, entity)| Step::Commit { master, entity }),
        4 => (0..8usize, any::<bool>()).prop_map(|(nth, keep)| Step::Hint { nth, keep }),
        1 => (0..8usize).prop_map(|nth| Step::Lose { nth }),
        1 => Just(Step::Poll),
    ];
    let step = prop_oneof![30 => step, 1 => Just(Step::Rebirth)];
    prop::collection::vec(step, 1..120)
}

fn event(master: i64, seq: i64, entity: i64, version: i64) -> Event {
    let builder = Builder {
        id: BuilderId(entity),
        name: format!("b{entity}"),
        description: None,
        project: None,
        tags: vec![],
        masters: vec![],
        version,
    };
    let what = Happening { name: EventName::Update, record: Record::Builder(Arc::new(builder)) };
    Event { master: MasterId(master), seq, at: Timestamp(0), what }
}

/// The database and the bus.
#[derive(Default)]
struct World {
    log: Vec<Event>,
    bus: VecDeque<Event>,
    heads: Clock,
    versions: BTreeMap<EntityKey, i64>,
}

impl World {
    fn commit(&mut self, master: i64, entity: i64) {
        let version = self.versions.entry(EntityKey("builders", entity)).or_insert(0);
        *version += 1;
        let seq = self.heads.head(MasterId(master)) + 1;
        self.heads.set(MasterId(master), seq);
        let event = event(master, seq, entity, *version);
        self.log.push(event.clone());
        self.bus.push_back(event);
    }
}

/// A reader of the feed.
trait Reader {
    fn hint(&mut self, event: Event, world: &World, to: &mut Client);
    fn poll(&mut self, world: &World, to: &mut Client);
    fn reborn(&mut self, world: &World);
}

fn give(to: &mut Client, event: &Event) {
    to.event(event.master, event.seq, event.what.record.entity(), event.what.version());
}

/// The real one.
struct Merging(Merger);

impl Merging {
    fn drain(&mut self, to: &mut Client) {
        while let Some(event) = self.0.next_ready() {
            give(to, &event);
        }
    }
}

impl Reader for Merging {
    fn hint(&mut self, event: Event, world: &World, to: &mut Client) {
        self.0.offer(event);
        self.drain(to);
        if self.0.wants() == Wants::Settling {
            self.poll(world, to);
        }
    }

    fn poll(&mut self, world: &World, to: &mut Client) {
        for event in &world.log {
            self.0.offer(event.clone());
        }
        self.0.settle(&world.heads);
        self.drain(to);
    }

    fn reborn(&mut self, world: &World) {
        self.0 = Merger::new(world.heads.clone());
    }
}

/// Wrong: delivers whatever is newer than the last.
struct NewerThanLast(Clock);

impl Reader for NewerThanLast {
    fn hint(&mut self, event: Event, _: &World, to: &mut Client) {
        if event.seq > self.0.head(event.master) {
            self.0.set(event.master, event.seq);
            give(to, &event);
        }
    }

    fn poll(&mut self, world: &World, to: &mut Client) {
        for event in &world.log {
            if event.seq > self.0.head(event.master) {
                self.0.set(event.master, event.seq);
                give(to, event);
            }
        }
    }

    fn reborn(&mut self, world: &World) {
        self.0 = world.heads.clone();
    }
}

/// Wrong: each master's events in order, but blind for versions.
struct BlindForVersions(Clock);

impl BlindForVersions {
    fn drain(&mut self, world: &World, master: MasterId, to: &mut Client) {
        for event in world.log.iter().filter(|e| e.master == master) {
            if event.seq == self.0.head(master) + 1 {
                self.0.set(master, event.seq);
                give(to, event);
            }
        }
    }
}

impl Reader for BlindForVersions {
    fn hint(&mut self, event: Event, world: &World, to: &mut Client) {
        self.drain(world, event.master, to);
    }

    fn poll(&mut self, world: &World, to: &mut Client) {
        for master in (1..=MASTERS).rev() {
            self.drain(world, MasterId(master), to);
        }
    }

    fn reborn(&mut self, world: &World) {
        self.0 = world.heads.clone();
    }
}

/// Plays the steps, lets the reader look into the database at the end, and judges.
fn play(steps: &[Step], reader: &mut dyn Reader) -> Vec<Broken> {
    let mut world = World::default();
    let mut client = Client::default();
    for step in steps {
        match *step {
            Step::Commit { master, entity } => world.commit(master, entity),
            Step::Hint { nth, keep } if !world.bus.is_empty() => {
                let at = nth % world.bus.len();
                let event = if keep { world.bus.get(at).cloned() } else { world.bus.remove(at) };
                if let Some(event) = event {
                    reader.hint(event, &world, &mut client);
                }
            }
            Step::Lose { nth } if !world.bus.is_empty() => {
                let at = nth % world.bus.len();
                world.bus.remove(at);
            }
            Step::Hint { .. } | Step::Lose { .. } => {}
            Step::Poll => reader.poll(&world, &mut client),
            Step::Rebirth => {
                // A reborn reader has new clients: they begin with a snapshot of the same clock.
                let broken = std::mem::take(&mut client.broken);
                reader.reborn(&world);
                client = Client::begin(world.heads.clone(), world.versions.clone());
                client.broken = broken;
            }
        }
    }
    reader.poll(&world, &mut client);
    client.judge(&world.versions)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_bus_does_nothing_is_missed_doubled_or_out_of_order(steps in steps()) {
        let broken = play(&steps, &mut Merging(Merger::new(Clock::default())));
        prop_assert!(broken.is_empty(), "{broken:?}");
    }
}

/// How many of many random plays a reader gets wrong.
fn caught(mut reader: impl FnMut() -> Box<dyn Reader>) -> usize {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    (0..200)
        .filter(|_| {
            let steps = steps().new_tree(&mut runner).expect("steps").current();
            !play(&steps, &mut *reader()).is_empty()
        })
        .count()
}

#[test]
fn a_reader_of_what_is_newer_than_the_last_is_caught() {
    assert!(caught(|| Box::new(NewerThanLast(Clock::default()))) > 100);
}

#[test]
fn a_reader_that_skips_versions_is_caught() {
    assert!(caught(|| Box::new(BlindForVersions(Clock::default()))) > 50);
}

/// The classic fault: numbers are taken before they become visible, and a reader asks for `seq > last`.
#[test]
fn numbers_taken_before_the_commit_are_caught() {
    let mut client = Client::default();
    let (first, second) = (event(1, 1, 1, 1), event(1, 2, 2, 1));
    let mut last = 0;
    let mut read = |visible: &[&Event], client: &mut Client| {
        for event in visible.iter().filter(|e| e.seq > last) {
            give(client, event);
        }
        last = visible.iter().map(|e| e.seq).max().unwrap_or(last);
    };
    read(&[&second], &mut client); // transaction 2 commits before transaction 1
    read(&[&first, &second], &mut client);
    let truth = BTreeMap::from([(EntityKey("builders", 1), 1), (EntityKey("builders", 2), 1)]);
    let broken = client.judge(&truth);
    assert!(
        broken.contains(&Broken::Missed { entity: EntityKey("builders", 1), knows: 0, wanted: 1 }),
        "{broken:?}"
    );
}
