//! `[change-sources.NAME]`: what finds new commits.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::values::{Duration, Patterns, serde_fault};

/// One `[change-sources.NAME]` table, told apart by `kind`.
#[derive(Clone, Debug, PartialEq)]
pub enum ChangeSource {
    /// `kind = "git-poller"`.
    GitPoller(GitPoller),
}

/// The kinds of change source, as written in `kind`.
pub(crate) const KINDS: &[&str] = &["git-poller"];

/// Asks a git repository for new commits at an interval.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GitPoller {
    /// URL (or absolute path) that `git ls-remote` understands.
    #[serde(deserialize_with = "filled")]
    pub repository: String,
    /// Branches to follow: a glob or a list of globs; every branch when left out.
    #[serde(default = "Patterns::any")]
    pub branches: Patterns,
    /// From the end of one poll to the begin of the next; 30 s when left out.
    #[serde(default = "default_interval", deserialize_with = "some_time")]
    pub interval: Duration,
    /// How long one git command may take before it is killed; 2 min when left out.
    #[serde(default = "default_timeout", deserialize_with = "some_time")]
    pub timeout: Duration,
    /// Codebase of the changes; empty is the default codebase.
    #[serde(default)]
    pub codebase: String,
    /// Project of the changes.
    #[serde(default)]
    pub project: String,
    /// Category of the changes.
    pub category: Option<String>,
}

fn default_interval() -> Duration {
    Duration::from_secs(30)
}

fn default_timeout() -> Duration {
    Duration::from_secs(120)
}

fn some_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let duration = Duration::deserialize(deserializer)?;
    if duration.is_zero() { Err(serde_fault("it cannot be zero", "")) } else { Ok(duration) }
}

fn filled<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.trim().is_empty() { Err(serde_fault("it cannot be empty", "")) } else { Ok(text) }
}
