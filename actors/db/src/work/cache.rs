//! The identity map: the entities that are worked on, kept from commit to commit so that the common write reads nothing.
//!
//! It may be stale when another master writes the same row; then the conditional UPDATE of a flush tells so and the cache is
//! thrown away. So it is when a write is refused because somebody else has something: he may have given it up since. Every change of it is logged, so that a refused write can be taken back.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use greenroom_model::*;

use crate::rows::RowMapped;

/// So many requests, and so many of the others, are kept at most; past it everything is forgotten and read again when needed.
const BOUND: usize = 50_000;

/// A map whose changes can be taken back.
pub struct Tracked<K, V> {
    map: HashMap<K, V>,
    undo: Vec<(K, Option<V>)>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Self {
        Self { map: HashMap::new(), undo: Vec::new() }
    }
}

impl<K: Hash + Eq + Clone, V> Tracked<K, V> {
    pub fn get(&self, key: &K) -> Option<&V> {
        self.map.get(key)
    }

    /// What was read from the database: nothing to take back.
    pub fn learn(&mut self, key: K, value: V) -> &V {
        self.map.entry(key).or_insert(value)
    }

    /// What was read from the database again: nothing to take back.
    pub fn renew(&mut self, key: K, value: V) {
        self.map.insert(key, value);
    }

    pub fn put(&mut self, key: K, value: V) {
        let old = self.map.insert(key.clone(), value);
        self.undo.push((key, old));
    }

    pub fn forget(&mut self, key: &K) {
        self.map.remove(key);
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.map.values()
    }

    /// The keys changed since the last [`Tracked::settle`], each once, sorted.
    pub fn touched(&self) -> Vec<K>
    where
        K: Ord,
    {
        let mut keys: Vec<K> = self.undo.iter().map(|(k, _)| k.clone()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn mark(&self) -> usize {
        self.undo.len()
    }

    fn roll_back(&mut self, mark: usize) {
        while self.undo.len() > mark {
            match self.undo.pop() {
                Some((key, Some(old))) => drop(self.map.insert(key, old)),
                Some((key, None)) => drop(self.map.remove(&key)),
                None => return,
            }
        }
    }

    fn settle(&mut self) {
        self.undo.clear();
        if self.map.len() > BOUND {
            self.map.clear();
        }
    }
}

/// An entity and the version that its row has, if it has one.
#[derive(Clone)]
pub struct Entry<E> {
    pub now: Arc<E>,
    pub stored: Option<i64>,
}

/// What was last seen on a branch of a repository.
#[derive(Clone)]
pub struct Newest {
    pub change: ChangeId,
    pub revision: Option<String>,
    pub origin: String,
}

macro_rules! cache {
    ($($(#[$doc:meta])* $field:ident: $key:ty => $value:ty),* $(,)?) => {
        /// Everything kept.
        #[derive(Default)]
        pub struct Cache { $($(#[$doc])* pub $field: Tracked<$key, $value>),* }

        /// A point to roll back to.
        pub struct Mark { $($field: usize),* }

        impl Cache {
            pub fn mark(&self) -> Mark {
                Mark { $($field: self.$field.mark()),* }
            }

            pub fn roll_back(&mut self, mark: &Mark) {
                $(self.$field.roll_back(mark.$field);)*
            }

            fn clear_logs(&mut self) {
                $(self.$field.settle();)*
            }
        }
    };
}

cache! {
    masters: i64 => Entry<Master>,
    builders: i64 => Entry<Builder>,
    workers: i64 => Entry<Worker>,
    schedulers: i64 => Entry<Scheduler>,
    change_sources: i64 => Entry<ChangeSource>,
    projects: i64 => Entry<Project>,
    buildsets: i64 => Entry<Buildset>,
    requests: i64 => Entry<BuildRequest>,
    builds: i64 => Entry<Build>,
    steps: i64 => Entry<Step>,
    logs: i64 => Entry<Log>,
    control: i64 => Entry<ControlAct>,
    notifiers: i64 => Entry<Notifier>,
    deliveries: i64 => Entry<Delivery>,
    properties: i64 => Arc<Properties>,
    /// The last build number of a builder.
    numbers: i64 => i64,
    /// This master's rows of what is counted.
    totals: String => i64,
    /// All requests of a buildset.
    requests_of: i64 => Arc<Vec<i64>>,
    /// The open steps of a build.
    steps_of: i64 => Arc<Vec<i64>>,
    /// The open logs of a step.
    logs_of: i64 => Arc<Vec<i64>>,
    /// The slugs of a step's logs, ended ones too.
    slugs_of: i64 => Arc<Vec<String>>,
    /// By hash.
    stamps: String => Arc<SourceStamp>,
    /// By repository and branch.
    newest: (String, Option<String>) => Option<Newest>,
    /// Keys of change origins, of this group only.
    origins: String => ChangeId,
    /// Idempotency keys of control acts, of this group only.
    control_keys: (String, String) => i64,
    /// Keys of messages by notifier, of this group only.
    delivery_keys: (String, String) => (),
}

impl Cache {
    /// After a commit: rows are what the entries say; what has ended is forgotten.
    pub fn settle(&mut self) {
        let done: Vec<i64> = self.builds.touched();
        for id in done {
            if self.builds.get(&id).is_some_and(|b| b.now.complete_at.is_some()) {
                self.builds.forget(&id);
                self.properties.forget(&id);
                self.steps_of.forget(&id);
            }
        }
        for id in self.steps.touched() {
            if self.steps.get(&id).is_some_and(|s| s.now.complete_at.is_some()) {
                self.steps.forget(&id);
                self.logs_of.forget(&id);
                self.slugs_of.forget(&id);
            }
        }
        for id in self.logs.touched() {
            if self.logs.get(&id).is_some_and(|l| l.now.complete) {
                self.logs.forget(&id);
            }
        }
        for id in self.buildsets.touched() {
            if self.buildsets.get(&id).is_some_and(|s| s.now.complete_at.is_some()) {
                self.buildsets.forget(&id);
                for request in self.requests_of.get(&id).cloned().iter().flat_map(|r| r.iter()) {
                    self.requests.forget(request);
                }
                self.requests_of.forget(&id);
            }
        }
        for id in self.deliveries.touched() {
            if self.deliveries.get(&id).is_some_and(|d| d.now.settled_at.is_some()) {
                self.deliveries.forget(&id);
            }
        }
        self.control = Tracked::default();
        self.origins = Tracked::default();
        self.control_keys = Tracked::default();
        self.delivery_keys = Tracked::default();
        self.clear_logs();
    }
}

/// An entity with a version that operations change.
pub trait Kind: RowMapped + Clone {
    /// What a person calls it.
    const NAME: &'static str;
    fn entries(cache: &mut Cache) -> &mut Tracked<i64, Entry<Self>>;
    fn key(&self) -> i64;
    fn version(&self) -> i64;
    fn version_mut(&mut self) -> &mut i64;
    fn record(this: Arc<Self>) -> Record;
}

macro_rules! kinds {
    ($($ty:ident => $field:ident, $name:literal, $record:ident);* $(;)?) => {$(
        impl Kind for $ty {
            const NAME: &'static str = $name;
            fn entries(cache: &mut Cache) -> &mut Tracked<i64, Entry<Self>> {
                &mut cache.$field
            }
            fn key(&self) -> i64 {
                self.id.0
            }
            fn version(&self) -> i64 {
                self.version
            }
            fn version_mut(&mut self) -> &mut i64 {
                &mut self.version
            }
            fn record(this: Arc<Self>) -> Record {
                Record::$record(this)
            }
        }
    )*};
}

kinds! {
    Master => masters, "master", Master;
    Builder => builders, "builder", Builder;
    Worker => workers, "worker", Worker;
    Scheduler => schedulers, "scheduler", Scheduler;
    ChangeSource => change_sources, "change source", ChangeSource;
    Project => projects, "project", Project;
    Buildset => buildsets, "buildset", Buildset;
    BuildRequest => requests, "build request", BuildRequest;
    Build => builds, "build", Build;
    Step => steps, "step", Step;
    Log => logs, "log", Log;
    ControlAct => control, "control act", Control;
    Notifier => notifiers, "notifier", Notifier;
    Delivery => deliveries, "delivery", Delivery;
}
