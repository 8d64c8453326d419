//! The judge: a client that believes the feed, and says where the feed broke its word.

use std::collections::BTreeMap;

use greenroom_model::{Clock, EntityKey, MasterId};

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// An event came that the clock contained already.
    Twice(MasterId, i64),
    /// A master's events came with a hole, or out of order.
    Gap { master: MasterId, after: i64, got: i64 },
    /// Version n+1 of an entity came before n.
    Version { entity: EntityKey, after: i64, got: i64 },
    /// At the end the client knows another version than the database.
    Missed { entity: EntityKey, knows: i64, wanted: i64 },
    /// It was told to begin anew although nothing that it needs is gone.
    GoneForNothing(Clock),
    /// It got no further than this.
    Stalled(Clock),
    /// A change that was acknowledged is not there.
    Lost(String),
    /// A change that was refused is there all the same.
    RefusedAndThere(String),
    /// A change that was sent once is there twice, or was told twice.
    Doubled(String),
    /// A master wrote after another process had taken its place.
    WroteAfterItsEnd,
    /// The state that this master shows never became the true one.
    Snapshot(usize),
    /// A master keeps cells of the console that are not what is stored.
    Console(usize),
}

/// A client that gets every event (no topic filter) and keeps versions.
#[derive(Debug, Clone, Default)]
pub struct Client {
    /// The clock of what it got.
    pub clock: Clock,
    /// The version of every entity that it knows.
    pub versions: BTreeMap<EntityKey, i64>,
    /// What went wrong.
    pub broken: Vec<Broken>,
}

impl Client {
    /// Begins with a snapshot.
    pub fn begin(clock: Clock, versions: BTreeMap<EntityKey, i64>) -> Self {
        Self { clock, versions, broken: Vec::new() }
    }

    /// Takes an event in.
    pub fn event(&mut self, master: MasterId, seq: i64, entity: EntityKey, version: i64) {
        let last = self.clock.head(master);
        if seq <= last {
            self.broken.push(Broken::Twice(master, seq));
            return;
        }
        if seq != last + 1 {
            self.broken.push(Broken::Gap { master, after: last, got: seq });
        }
        self.clock.set(master, seq);
        let known = self.versions.insert(entity, version).unwrap_or(0);
        if version != known + 1 {
            self.broken.push(Broken::Version { entity, after: known, got: version });
        }
    }

    /// Compares with the truth.
    pub fn judge(mut self, truth: &BTreeMap<EntityKey, i64>) -> Vec<Broken> {
        for (entity, wanted) in truth {
            let knows = self.versions.get(entity).copied().unwrap_or(0);
            if knows != *wanted {
                self.broken.push(Broken::Missed { entity: *entity, knows, wanted: *wanted });
            }
        }
        self.broken
    }
}
