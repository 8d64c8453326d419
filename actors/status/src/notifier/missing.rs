//! Workers that are away, and since when.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_data::Hot;
use greenroom_model::{Timestamp, Worker, WorkerId};
use serde_json::{Value, json};

use super::pace::after;

/// Watches over connections. Costs nothing when it is not configured.
#[derive(Debug, Default)]
pub struct Missing {
    /// How long a worker may be away; none: nobody asks.
    patience: Option<Duration>,
    /// Who is away, since when, and not told of yet.
    away: BTreeMap<WorkerId, Timestamp>,
    /// Who was told of, until they come back.
    told: BTreeMap<WorkerId, Timestamp>,
}

impl Missing {
    /// With this patience.
    pub fn new(patience: Option<Duration>) -> Self {
        Self { patience, ..Self::default() }
    }

    /// Begins with what is known, and with those that an earlier life told of.
    pub fn load(&mut self, hot: &Hot, settings: &Value, now: Timestamp) {
        if self.patience.is_none() {
            return;
        }
        self.told = serde_json::from_value(settings["missing"].clone()).unwrap_or_default();
        self.told.retain(|id, _| hot.workers.get(&id.0).is_some_and(|it| it.connected_to.is_empty()));
        let before = std::mem::take(&mut self.away);
        let away = hot.workers.values().filter(|it| is_away(it) && !self.told.contains_key(&it.id));
        // A restart of the master ends all connections: it counts from then.
        self.away =
            away.map(|it| (it.id, before.get(&it.id).copied().or(it.changed_at).unwrap_or(now))).collect();
    }

    /// What an earlier life told of, to be stored.
    pub fn settings(&self) -> Value {
        if self.patience.is_none() { Value::Null } else { json!({ "missing": self.told }) }
    }

    /// A worker came or went. True if what is to be stored changed.
    pub fn changed(&mut self, worker: &Worker, at: Timestamp) -> bool {
        if self.patience.is_none() {
            return false;
        }
        if is_away(worker) {
            if !self.told.contains_key(&worker.id) {
                self.away.entry(worker.id).or_insert(at);
            }
            return false;
        }
        self.away.remove(&worker.id);
        self.told.remove(&worker.id).is_some()
    }

    /// When somebody will have been away for long enough.
    pub fn next_at(&self) -> Option<Timestamp> {
        let patience = self.patience?;
        self.away.values().min().map(|since| after(*since, patience))
    }

    /// Who has been away for long enough; each is given once, until it comes back.
    pub fn due(&mut self, now: Timestamp) -> Vec<(WorkerId, Timestamp)> {
        let Some(patience) = self.patience else { return Vec::new() };
        let due: Vec<(WorkerId, Timestamp)> = self
            .away
            .iter()
            .filter(|(_, since)| after(**since, patience) <= now)
            .map(|(id, since)| (*id, *since))
            .collect();
        for (id, since) in &due {
            self.away.remove(id);
            self.told.insert(*id, *since);
        }
        due
    }
}

/// Configured, and connected nowhere.
fn is_away(worker: &Worker) -> bool {
    worker.connected_to.is_empty() && !worker.configured_on.is_empty()
}

#[cfg(test)]
mod tests {
    use greenroom_model::{BuilderId, MasterId};

    use super::*;

    fn worker(connected: bool) -> Worker {
        Worker {
            id: WorkerId(1),
            name: "w".into(),
            info: None,
            paused: false,
            pause_reason: None,
            graceful: false,
            connected_to: if connected { vec![MasterId(1)] } else { Vec::new() },
            configured_on: vec![(MasterId(1), BuilderId(1))],
            changed_at: None,
            version: 1,
        }
    }

    #[test]
    fn a_worker_is_told_of_once_until_it_is_back() {
        let at = Timestamp::from_seconds;
        let mut missing = Missing::new(Some(Duration::from_secs(60)));
        assert!(!missing.changed(&worker(false), at(0)));
        assert_eq!((missing.next_at(), missing.due(at(59)).len()), (Some(at(60)), 0));
        assert_eq!(missing.due(at(60)), [(WorkerId(1), at(0))]);
        missing.changed(&worker(false), at(70));
        assert_eq!((missing.next_at(), missing.due(at(1_000)).len()), (None, 0));
        assert!(missing.changed(&worker(true), at(2_000)));
        missing.changed(&worker(false), at(3_000));
        assert_eq!(missing.next_at(), Some(at(3_060)));
        // One that is back in time is not told of.
        missing.changed(&worker(true), at(3_010));
        assert_eq!(missing.due(at(9_000)), []);
    }
}
