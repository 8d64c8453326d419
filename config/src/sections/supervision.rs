//! `[supervision]`: when and how actors that ended are started again.

use std::collections::BTreeMap;

use greenroom_model::restart;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::Duration;

/// The `[supervision]` section: defaults, then what differs by kind of actor, then by name.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
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
    /// An actor that waits in one handler for longer, and gives no sign of life, is ended as hung.
    pub hang_after: Duration,
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
    pub hang_after: Duration,
}

/// The part of a policy that a kind or a name changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[allow(missing_docs)]
pub struct PolicyPatch {
    pub restart: Option<Restart>,
    pub strategy: Option<Strategy>,
    pub intensity: Option<u32>,
    pub period: Option<Duration>,
    pub backoff: Option<Backoff>,
    pub grace: Option<Duration>,
    pub hang_after: Option<Duration>,
}

/// Which endings are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
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
            hang_after: self.hang_after,
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
        self.hang_after = patch.hang_after.unwrap_or(self.hang_after);
    }
}

/// For the runtime: what these settings say, as patches under and over what the code says.
impl From<&Supervision> for restart::Policies {
    fn from(it: &Supervision) -> Self {
        let defaults = restart::PolicyPatch {
            restart: Some(it.restart.into()),
            strategy: Some(it.strategy.into()),
            intensity: Some(it.intensity),
            period: Some(it.period.into()),
            backoff_min: Some(it.backoff.min.into()),
            backoff_max: Some(it.backoff.max.into()),
            grace: Some(it.grace.into()),
            hang_after: Some(it.hang_after.into()),
            ..Default::default()
        };
        let patches = |map: &BTreeMap<String, PolicyPatch>| {
            map.iter().map(|(name, it)| (name.clone(), it.into())).collect()
        };
        restart::Policies { defaults, kinds: patches(&it.kinds), names: patches(&it.names) }
    }
}

impl From<&PolicyPatch> for restart::PolicyPatch {
    fn from(it: &PolicyPatch) -> Self {
        restart::PolicyPatch {
            restart: it.restart.map(Into::into),
            strategy: it.strategy.map(Into::into),
            intensity: it.intensity,
            period: it.period.map(Into::into),
            hang_after: it.hang_after.map(Into::into),
            backoff_min: it.backoff.map(|it| it.min.into()),
            backoff_max: it.backoff.map(|it| it.max.into()),
            grace: it.grace.map(Into::into),
            ..Default::default()
        }
    }
}

impl From<Restart> for restart::Restart {
    fn from(it: Restart) -> Self {
        match it {
            Restart::Permanent => restart::Restart::Permanent,
            Restart::Transient => restart::Restart::Transient,
            Restart::Temporary => restart::Restart::Temporary,
        }
    }
}

impl From<Strategy> for restart::Strategy {
    fn from(it: Strategy) -> Self {
        match it {
            Strategy::OneForOne => restart::Strategy::OneForOne,
            Strategy::RestForOne => restart::Strategy::RestForOne,
            Strategy::OneForAll => restart::Strategy::OneForAll,
        }
    }
}

/// The runtime counts in milliseconds; what is shorter becomes one.
impl From<Duration> for restart::Span {
    fn from(it: Duration) -> Self {
        restart::Span::from_millis(it.as_micros().div_ceil(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_text;

    #[test]
    fn the_runtime_hears_what_the_settings_say() {
        let text = "[supervision]\nintensity = 7\ngrace = '3s'\n[supervision.kinds.build]\nbackoff = { min = '1ms', max = '2s' }\n\
                    [supervision.names.root]\nintensity = 9\n";
        let settings = load_text(text, std::path::Path::new("/")).unwrap().settings;
        let policies = restart::Policies::from(&settings.supervision);
        let build = policies.resolve("build", "build/1", &restart::PolicyPatch::default());
        assert_eq!((build.restart, build.backoff_max.as_millis()), (restart::Restart::Transient, 2000));
        assert_eq!(build.grace.as_millis(), 3000);
        let other = policies.resolve("poller", "poller/a", &restart::PolicyPatch::default());
        assert_eq!((other.restart, other.backoff_max.as_millis()), (restart::Restart::Permanent, 30_000));
        assert_eq!(policies.intensity("root", None).restarts, 9);
        assert_eq!(policies.intensity("other", None).restarts, 7);
    }
}
