//! What a scheduler has taken but not yet built. No I/O; stored as JSON beside the scheduler's clock.

use std::collections::BTreeMap;
use std::time::Duration;

use greenroom_model::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::properties::source;

/// The most authors named by the property `owners`.
const MOST_OWNERS: usize = 20;

/// All that waits, by timer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Pending {
    /// The last change that was looked at, for when its events are not kept any more.
    #[serde(default)]
    pub last_change: Option<ChangeId>,
    /// What waits for its tree to be stable.
    #[serde(default)]
    pub waiting: BTreeMap<String, Waiting>,
}

/// What one timer holds back: it becomes one buildset.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// The newest change of each codebase, and its source stamp.
    pub newest: BTreeMap<String, (ChangeId, SourceStampId)>,
    /// How many changes.
    pub changes: u64,
    /// Who wrote them.
    pub authors: Vec<String>,
    /// Their properties, later changes' over earlier ones'.
    pub properties: Properties,
    /// When the tree counts as stable.
    pub stable_at: Timestamp,
}

impl Waiting {
    /// One change alone.
    pub fn of(change: &Change) -> Self {
        let mut waiting = Self::default();
        waiting.take(change);
        waiting
    }

    /// Takes a change in.
    pub fn take(&mut self, change: &Change) {
        let newest = self.newest.entry(change.codebase.clone()).or_insert((change.id, change.sourcestamp.id));
        if change.id >= newest.0 {
            *newest = (change.id, change.sourcestamp.id);
        }
        self.changes += 1;
        if self.authors.len() < MOST_OWNERS && !self.authors.contains(&change.author) {
            self.authors.push(change.author.clone());
        }
        self.properties.extend(change.properties.clone());
    }

    /// The properties of the buildset.
    pub fn buildset_properties(&self) -> Properties {
        let mut properties = self.properties.clone();
        properties.insert("owners".into(), Property(json!(self.authors), source::CHANGE.into()));
        properties
    }
}

impl Pending {
    /// A change to be built once its tree is stable.
    pub fn hold(&mut self, timer: String, change: &Change, stable_at: Timestamp) {
        let waiting = self.waiting.entry(timer).or_default();
        waiting.take(change);
        waiting.stable_at = stable_at;
    }

    /// Takes out what is due.
    pub fn due(&mut self, now: Timestamp) -> Vec<Waiting> {
        let due: Vec<String> = self
            .waiting
            .iter()
            .filter(|(_, it)| it.stable_at <= now)
            .map(|(timer, _)| timer.clone())
            .collect();
        due.into_iter().filter_map(|timer| self.waiting.remove(&timer)).collect()
    }

    /// How long until something is due. A machine's clock that jumped back makes nobody wait longer than `timer`.
    pub fn next_due(&mut self, now: Timestamp, timer: Duration) -> Option<Duration> {
        let latest = Timestamp(now.0.saturating_add(i64::try_from(timer.as_micros()).unwrap_or(i64::MAX)));
        for waiting in self.waiting.values_mut() {
            waiting.stable_at = waiting.stable_at.min(latest);
        }
        let first = self.waiting.values().map(|it| it.stable_at).min()?;
        Some(Duration::from_micros(u64::try_from(first.micros_since(now)).unwrap_or(0)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    pub(crate) fn change(id: i64, branch: &str, author: &str) -> Change {
        let sourcestamp = SourceStamp {
            id: SourceStampId(id * 10),
            branch: Some(branch.into()),
            revision: Some(format!("r{id}")),
            project: String::new(),
            repository: "repo".into(),
            codebase: String::new(),
            created_at: Timestamp(0),
            patch: None,
        };
        Change {
            id: ChangeId(id),
            author: author.into(),
            committer: None,
            comments: String::new(),
            branch: Some(branch.into()),
            revision: Some(format!("r{id}")),
            revlink: None,
            when: Timestamp(0),
            category: None,
            parents: Vec::new(),
            repository: "repo".into(),
            codebase: String::new(),
            project: String::new(),
            files: Vec::new(),
            properties: Properties::from([("n".into(), Property(json!(id), "Change".into()))]),
            sourcestamp: Arc::new(sourcestamp),
        }
    }

    #[test]
    fn the_newest_change_is_built_and_each_one_restarts_the_timer() {
        let mut pending = Pending::default();
        pending.hold("main".into(), &change(2, "main", "ann"), Timestamp(200));
        pending.hold("main".into(), &change(3, "main", "bob"), Timestamp(300));
        pending.hold("main".into(), &change(1, "main", "ann"), Timestamp(310));
        assert_eq!(pending.due(Timestamp(300)), vec![]);
        let due = pending.due(Timestamp(310));
        assert_eq!(due.len(), 1);
        assert_eq!(due[0].newest[""], (ChangeId(3), SourceStampId(30)));
        assert_eq!(due[0].buildset_properties()["owners"].0, json!(["ann", "bob"]));
        assert_eq!(pending.next_due(Timestamp(0), Duration::from_secs(1)), None);
    }

    #[test]
    fn timers_are_independent() {
        let mut pending = Pending::default();
        pending.hold("a".into(), &change(1, "a", "ann"), Timestamp(100));
        pending.hold("b".into(), &change(2, "b", "ann"), Timestamp(200));
        assert_eq!(pending.due(Timestamp(150)).len(), 1);
        let wait = pending.next_due(Timestamp(150), Duration::from_secs(9));
        assert_eq!(wait, Some(Duration::from_micros(50)));
    }

    #[test]
    fn a_clock_that_jumped_back_delays_nobody_beyond_the_timer() {
        let mut pending = Pending::default();
        pending.hold("a".into(), &change(1, "a", "ann"), Timestamp(1_000_000_000));
        assert_eq!(pending.next_due(Timestamp(0), Duration::from_secs(2)), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_stored_is_what_is_read() {
        let mut pending = Pending { last_change: Some(ChangeId(7)), ..Pending::default() };
        pending.hold("a".into(), &change(1, "a", "ann"), Timestamp(5));
        let stored = serde_json::to_value(&pending).unwrap();
        assert_eq!(serde_json::from_value::<Pending>(stored).unwrap(), pending);
        assert_eq!(serde_json::from_value::<Pending>(json!({})).unwrap(), Pending::default());
    }
}
