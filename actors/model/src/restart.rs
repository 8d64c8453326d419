//! Restart-policy values: what a supervisor does when a child ends, as plain data.
//!
//! The code states what a child *is* (a build is transient), the operator's settings say how patient
//! a supervisor should be. Both are [`PolicyPatch`]es; [`Policies::resolve`] lays them over each other.
//! To add a knob: a field in [`Policy`], its optional twin in [`PolicyPatch`], a line in `PolicyPatch::apply`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// When a child that ended is born again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Always, unless its supervisor stopped it.
    #[default]
    Permanent,
    /// Only when it ended badly (failed, panicked, killed).
    Transient,
    /// Never.
    Temporary,
}

/// How many restarts a supervisor grants its children before it fails itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Intensity {
    /// Restarts allowed within the period; one more and the supervisor fails to its parent.
    pub restarts: u32,
    /// The period that they are counted in.
    pub within: Span,
}

impl Default for Intensity {
    fn default() -> Self {
        Self { restarts: 10, within: Span::from_secs(60) }
    }
}

/// The resolved policy of one child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Restart type.
    pub restart: Restart,
    /// Wait before the first restart; doubles with each further one.
    pub backoff_min: Span,
    /// The wait never grows past this.
    pub backoff_max: Span,
    /// A birth that lived this long was healthy: the next wait starts at `backoff_min` again.
    pub healthy_after: Span,
    /// Time to finish queued work at a stop, before it is cut off.
    pub grace: Span,
    /// Asks in flight, and likewise tells queued, that a Front admits.
    pub mailbox_bound: u32,
    /// Deadline of an ask that names none.
    pub ask_deadline: Span,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            restart: Restart::Permanent,
            backoff_min: Span::from_millis(50),
            backoff_max: Span::from_secs(30),
            healthy_after: Span::from_secs(60),
            grace: Span::from_secs(5),
            mailbox_bound: 1024,
            ask_deadline: Span::from_secs(30),
        }
    }
}

/// A policy with holes: what one layer (code, kind, name) has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PolicyPatch {
    /// See [`Policy::restart`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// See [`Policy::backoff_min`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_min: Option<Span>,
    /// See [`Policy::backoff_max`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_max: Option<Span>,
    /// See [`Policy::healthy_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthy_after: Option<Span>,
    /// See [`Policy::grace`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace: Option<Span>,
    /// See [`Policy::mailbox_bound`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox_bound: Option<u32>,
    /// See [`Policy::ask_deadline`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask_deadline: Option<Span>,
}

impl PolicyPatch {
    /// Lays this patch over `policy`: what it names wins.
    pub fn apply(&self, policy: &mut Policy) {
        fn set<T: Copy>(slot: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *slot = value;
            }
        }
        set(&mut policy.restart, self.restart);
        set(&mut policy.backoff_min, self.backoff_min);
        set(&mut policy.backoff_max, self.backoff_max);
        set(&mut policy.healthy_after, self.healthy_after);
        set(&mut policy.grace, self.grace);
        set(&mut policy.mailbox_bound, self.mailbox_bound);
        set(&mut policy.ask_deadline, self.ask_deadline);
    }
}

/// Settings of supervision (`[supervision]`): defaults, per kind and per name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policies {
    /// Under everything that the code says about a child.
    pub defaults: PolicyPatch,
    /// Over the code, by the kind of the actor (`build`, `db-writer`).
    pub kinds: BTreeMap<String, PolicyPatch>,
    /// Over all, by the name of the child.
    pub names: BTreeMap<String, PolicyPatch>,
    /// Intensity of every supervisor whose code and settings name none.
    pub intensity: Option<Intensity>,
    /// Intensity by the name of the supervisor; over the code.
    pub intensities: BTreeMap<String, Intensity>,
}

impl Policies {
    /// The policy of a child: built-in, then `defaults`, the code's own patch, its kind, its name; later wins.
    pub fn resolve(&self, kind: &str, name: &str, code: &PolicyPatch) -> Policy {
        let mut policy = Policy::default();
        self.defaults.apply(&mut policy);
        code.apply(&mut policy);
        for patch in [self.kinds.get(kind), self.names.get(name)].into_iter().flatten() {
            patch.apply(&mut policy);
        }
        policy.mailbox_bound = policy.mailbox_bound.max(1);
        policy.backoff_max = policy.backoff_max.max(policy.backoff_min);
        policy
    }

    /// The intensity of a supervisor: its name's, else the code's, else the general one.
    pub fn intensity(&self, name: &str, code: Option<Intensity>) -> Intensity {
        self.intensities.get(name).copied().or(code).or(self.intensity).unwrap_or_default()
    }
}

/// A length of time, written `250ms`, `5s`, `2m`, `1h` or `1d` in settings. Whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(u64);

impl Span {
    /// A span of whole milliseconds.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// A span of whole seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Its length in milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// As the standard library's duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// Reads `250ms`, `5s`, `2m`, `1h`, `1d`.
    pub fn parse(text: &str) -> Result<Self, SpanError> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(SpanError),
        };
        let number: u64 = number.parse().map_err(|_| SpanError)?;
        number.checked_mul(factor).map(Self).ok_or(SpanError)
    }
}

impl From<Duration> for Span {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
        match units.iter().find(|(size, _)| self.0 > 0 && self.0.is_multiple_of(*size)) {
            Some((size, unit)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}ms", self.0),
        }
    }
}

/// The text is no length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a length of time such as `250ms`, `5s`, `2m`, `1h` or `1d`")]
pub struct SpanError;

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as `250ms`, `5s`, `2m`, `1h` or `1d`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                Span::parse(text).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_win() {
        let mut policies = Policies::default();
        policies.defaults.restart = Some(Restart::Temporary);
        policies.defaults.mailbox_bound = Some(7);
        let code = PolicyPatch { restart: Some(Restart::Transient), ..Default::default() };
        let policy = policies.resolve("build", "build/1", &code);
        assert_eq!(policy.restart, Restart::Transient, "the code knows what a child is");
        assert_eq!(policy.mailbox_bound, 7);

        policies.kinds.insert("build".into(), PolicyPatch { mailbox_bound: Some(8), ..Default::default() });
        policies.names.insert(
            "build/1".into(),
            PolicyPatch { restart: Some(Restart::Permanent), ..Default::default() },
        );
        let policy = policies.resolve("build", "build/1", &code);
        assert_eq!((policy.restart, policy.mailbox_bound), (Restart::Permanent, 8));
        assert_eq!(policies.resolve("build", "build/2", &code).restart, Restart::Transient);
    }

    #[test]
    fn senseless_values_are_made_sensible() {
        let code = PolicyPatch {
            mailbox_bound: Some(0),
            backoff_min: Some(Span::from_secs(9)),
            backoff_max: Some(Span::from_secs(1)),
            ..Default::default()
        };
        let policy = Policies::default().resolve("k", "n", &code);
        assert_eq!((policy.mailbox_bound, policy.backoff_max), (1, Span::from_secs(9)));
    }

    #[test]
    fn spans_read_and_print() {
        for text in ["0ms", "250ms", "5s", "2m", "1h", "3d"] {
            assert_eq!(Span::parse(text).map(|span| span.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(Span::parse("90s").map(Span::as_millis), Ok(90_000));
        for text in ["", "5", "s", "-1s", "1w", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(Span::parse(text), Err(SpanError), "{text}");
        }
    }

    #[test]
    fn settings_read_from_data() {
        let policies: Policies = serde_json::from_str(
            r#"{"kinds": {"build": {"restart": "transient", "grace": "2m"}},
                "intensities": {"root": {"restarts": 3, "within": "10s"}}}"#,
        )
        .unwrap();
        assert_eq!(policies.resolve("build", "b", &PolicyPatch::default()).grace, Span::from_secs(120));
        assert_eq!(policies.intensity("root", None).restarts, 3);
        assert_eq!(policies.intensity("other", None), Intensity::default());
        assert!(serde_json::from_str::<Policies>(r#"{"defaults": {"retsart": "permanent"}}"#).is_err());
    }
}
