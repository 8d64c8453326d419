//! Restart-policy values: what a supervisor does when a child ends, as plain data.
//!
//! The code states what a child *is* (a build is transient), the operator's settings say how patient
//! a supervisor should be. Both are [`PolicyPatch`]es; [`Policies::resolve`] lays them over each other.
//! To add a knob: a field in [`Policy`], its optional twin in [`PolicyPatch`], a line in `PolicyPatch::apply` and in
//! [`PolicyPatch::names`].

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

/// Who of a group is restarted along with a member that ended. Only supervisors that declare a group take another than
/// one-for-one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Nobody.
    #[default]
    OneForOne,
    /// Those that were started after it.
    RestForOne,
    /// The whole group.
    OneForAll,
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
    /// A birth that waits in one handler for longer, and gives no sign of life, is ended as hung.
    pub hang_after: Span,
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
            hang_after: Span::from_secs(30),
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
    /// See [`Policy::hang_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hang_after: Option<Span>,
    /// Of a supervisor: who is restarted along with a member that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Restarts granted within the period: of a supervisor for its children together, of an actor for itself alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u32>,
    /// The period of `intensity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Span>,
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
        set(&mut policy.hang_after, self.hang_after);
    }

    /// The knobs that this patch has something to say about, as they are called in settings; the two of `backoff` are one.
    pub fn names(&self) -> Vec<&'static str> {
        let said = [
            ("restart", self.restart.is_some()),
            ("strategy", self.strategy.is_some()),
            ("intensity", self.intensity.is_some()),
            ("period", self.period.is_some()),
            ("backoff", self.backoff_min.is_some() || self.backoff_max.is_some()),
            ("healthy-after", self.healthy_after.is_some()),
            ("grace", self.grace.is_some()),
            ("hang-after", self.hang_after.is_some()),
            ("mailbox-bound", self.mailbox_bound.is_some()),
            ("ask-deadline", self.ask_deadline.is_some()),
        ];
        said.into_iter().filter(|(_, said)| *said).map(|(name, _)| name).collect()
    }
}

/// The kind that supervisors have in settings and reports.
pub const SUPERVISOR_KIND: &str = "supervisor";

/// Settings of supervision (`[supervision]`): defaults, per kind and per name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Policies {
    /// Under everything that the code says about a child.
    pub defaults: PolicyPatch,
    /// Over the code, by the kind of the actor (`build`, `db-writer`).
    pub kinds: BTreeMap<String, PolicyPatch>,
    /// Over all, by the name of the actor or supervisor.
    pub names: BTreeMap<String, PolicyPatch>,
}

impl Policies {
    /// The policy of a child: built-in, then `defaults`, the code's own patch, its kind, its name; later wins.
    pub fn resolve(&self, kind: &str, name: &str, code: &PolicyPatch) -> Policy {
        let mut policy = Policy::default();
        self.defaults.apply(&mut policy);
        code.apply(&mut policy);
        for patch in self.over_code(kind, name).into_iter().rev() {
            patch.apply(&mut policy);
        }
        policy.mailbox_bound = policy.mailbox_bound.max(1);
        policy.backoff_max = policy.backoff_max.max(policy.backoff_min);
        policy
    }

    /// What the operator says about this one in particular: by its name, then by its kind.
    fn over_code(&self, kind: &str, name: &str) -> Vec<&PolicyPatch> {
        [self.names.get(name), self.kinds.get(kind)].into_iter().flatten().collect()
    }

    /// The intensity of a supervisor, over its children together: its name's, else that of all supervisors, else the code's,
    /// else the general one.
    pub fn intensity(&self, name: &str, code: Option<Intensity>) -> Intensity {
        let code = PolicyPatch {
            intensity: code.map(|it| it.restarts),
            period: code.map(|it| it.within),
            ..PolicyPatch::default()
        };
        let mut layers = self.over_code(SUPERVISOR_KIND, name);
        layers.extend([&code, &self.defaults]);
        intensity_of(&layers)
    }

    /// The intensity of one actor, if its name or its kind has one: then its restarts are counted by themselves, and not
    /// among those of its siblings.
    pub fn own_intensity(&self, kind: &str, name: &str) -> Option<Intensity> {
        let mut layers = self.over_code(kind, name);
        let own = layers.iter().any(|it| it.intensity.is_some() || it.period.is_some());
        layers.push(&self.defaults);
        own.then(|| intensity_of(&layers))
    }

    /// The strategy of a supervisor that declares a group.
    pub fn strategy(&self, name: &str) -> Strategy {
        let mut layers = self.over_code(SUPERVISOR_KIND, name);
        layers.push(&self.defaults);
        layers.iter().find_map(|it| it.strategy).unwrap_or_default()
    }

    /// Where each knob of an actor's policy comes from that is not built in: `[supervision]`, `code`,
    /// `[supervision.kinds.…]` or `[supervision.names.…]`.
    pub fn origins(&self, kind: &str, name: &str, code: &PolicyPatch) -> BTreeMap<&'static str, String> {
        let layers = [
            (Some(&self.defaults), "[supervision]".to_owned()),
            (Some(code), "code".to_owned()),
            (self.kinds.get(kind), format!("[supervision.kinds.{kind}]")),
            (self.names.get(name), format!("[supervision.names.\"{name}\"]")),
        ];
        let mut origins = BTreeMap::new();
        for (patch, origin) in layers {
            for knob in patch.map(PolicyPatch::names).unwrap_or_default() {
                origins.insert(knob, origin.clone());
            }
        }
        origins
    }
}

/// What the first of these layers says that says something, for each part.
fn intensity_of(layers: &[&PolicyPatch]) -> Intensity {
    let built_in = Intensity::default();
    Intensity {
        restarts: layers.iter().find_map(|it| it.intensity).unwrap_or(built_in.restarts),
        within: layers.iter().find_map(|it| it.period).unwrap_or(built_in.within),
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
                "names": {"root": {"intensity": 3, "period": "10s"}}}"#,
        )
        .unwrap();
        assert_eq!(policies.resolve("build", "b", &PolicyPatch::default()).grace, Span::from_secs(120));
        assert_eq!(policies.intensity("root", None).restarts, 3);
        assert_eq!(policies.intensity("other", None), Intensity::default());
        let code = Intensity { restarts: 100, within: Span::from_secs(1) };
        assert_eq!(policies.intensity("other", Some(code)), code);
        assert_eq!(policies.intensity("root", Some(code)).restarts, 3);
        assert!(serde_json::from_str::<Policies>(r#"{"defaults": {"retsart": "permanent"}}"#).is_err());
    }

    #[test]
    fn an_actor_is_counted_by_itself_only_where_somebody_says_so() {
        let policies: Policies = serde_json::from_str(
            r#"{"defaults": {"intensity": 5, "period": "1m", "strategy": "one-for-all"}, "kinds": {"build": {"intensity": 3}},
                "names": {"build/1": {"period": "2s"}, "process": {"strategy": "rest-for-one"}}}"#,
        )
        .unwrap();
        let own = |name| policies.own_intensity("build", name);
        assert_eq!(own("build/2"), Some(Intensity { restarts: 3, within: Span::from_secs(60) }));
        assert_eq!(own("build/1"), Some(Intensity { restarts: 3, within: Span::from_secs(2) }));
        assert_eq!(policies.own_intensity("hub", "hub/1"), None);
        assert_eq!(policies.strategy("process"), Strategy::RestForOne);
        assert_eq!(policies.strategy("data-layer"), Strategy::OneForAll);
        assert_eq!(Policies::default().strategy("process"), Strategy::OneForOne);
    }

    #[test]
    fn a_policy_says_where_it_comes_from() {
        let policies: Policies = serde_json::from_str(
            r#"{"defaults": {"grace": "9s", "restart": "permanent"}, "kinds": {"build": {"intensity": 3}},
                "names": {"build/1": {"intensity": 4}}}"#,
        )
        .unwrap();
        let code = PolicyPatch { restart: Some(Restart::Transient), ..Default::default() };
        let origins = policies.origins("build", "build/1", &code);
        let origin = |knob| origins.get(knob).map(String::as_str);
        assert_eq!(origin("grace"), Some("[supervision]"));
        assert_eq!(origin("restart"), Some("code"));
        assert_eq!(origin("intensity"), Some("[supervision.names.\"build/1\"]"));
        assert_eq!(policies.origins("build", "build/2", &code)["intensity"], "[supervision.kinds.build]");
        assert_eq!(origin("backoff"), None, "built in");
    }
}
