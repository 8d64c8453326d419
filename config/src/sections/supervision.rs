//! `[supervision]`: when and how actors that ended are started again.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::values::Duration;

/// The `[supervision]` section: defaults, then what differs by kind of actor, then by name.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Supervision {
    /// Which endings are followed by a restart.
    pub restart: Restart,
    /// Who is restarted along with the one that ended.
    pub strategy: Strategy,
    /// Restarts allowed within `period`; one more escalates.
    pub intensity: u32,
    /// The window of `intensity`.
    pub period: Duration,
    /// Waits before restarts, growing from `min` to `max`.
    pub backoff: Backoff,
    /// How long an actor may take to end by itself when it is stopped.
    pub grace: Duration,
    /// What differs for a kind of actor.
    pub kinds: BTreeMap<String, PolicyPatch>,
    /// What differs for one actor, by its name such as `notifier/team`.
    pub names: BTreeMap<String, PolicyPatch>,
}

/// A whole restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Policy {
    pub restart: Restart,
    pub strategy: Strategy,
    pub intensity: u32,
    pub period: Duration,
    pub backoff: Backoff,
    pub grace: Duration,
}

/// The part of a policy that a kind or a name changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[allow(missing_docs)]
pub struct PolicyPatch {
    pub restart: Option<Restart>,
    pub strategy: Option<Strategy>,
    pub intensity: Option<u32>,
    pub period: Option<Duration>,
    pub backoff: Option<Backoff>,
    pub grace: Option<Duration>,
}

/// Which endings are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Every ending but a wanted stop.
    Permanent,
    /// Every ending but success and a wanted stop.
    Transient,
    /// None.
    Temporary,
}

/// Who is restarted along with the one that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nobody.
    OneForOne,
    /// Those started after it.
    RestForOne,
    /// The whole group.
    OneForAll,
}

/// Bounds of the wait before a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "UncheckedBackoff")]
pub struct Backoff {
    /// The first wait.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct UncheckedBackoff {
    min: Duration,
    max: Duration,
}

impl TryFrom<UncheckedBackoff> for Backoff {
    type Error = String;

    fn try_from(UncheckedBackoff { min, max }: UncheckedBackoff) -> Result<Self, String> {
        if min > max {
            Err(format!("`min` ({min}) is longer than `max` ({max})"))
        } else {
            Ok(Backoff { min, max })
        }
    }
}

impl Supervision {
    /// The policy of one actor: the defaults, changed by its kind, changed by its name.
    pub fn policy(&self, kind: &str, name: &str) -> Policy {
        let mut policy = Policy {
            restart: self.restart,
            strategy: self.strategy,
            intensity: self.intensity,
            period: self.period,
            backoff: self.backoff,
            grace: self.grace,
        };
        for patch in [self.kinds.get(kind), self.names.get(name)].into_iter().flatten() {
            policy.apply(patch);
        }
        policy
    }
}

impl Policy {
    fn apply(&mut self, patch: &PolicyPatch) {
        self.restart = patch.restart.unwrap_or(self.restart);
        self.strategy = patch.strategy.unwrap_or(self.strategy);
        self.intensity = patch.intensity.unwrap_or(self.intensity);
        self.period = patch.period.unwrap_or(self.period);
        self.backoff = patch.backoff.unwrap_or(self.backoff);
        self.grace = patch.grace.unwrap_or(self.grace);
    }
}
