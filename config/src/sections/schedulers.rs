//! `[schedulers.NAME]`: what turns changes or a person's wish into buildsets.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::expr::{Expr, ExprError};
use crate::values::{Duration, FilePatterns, NameList, Patterns, Regex};

/// One `[schedulers.NAME]` table, told apart by `kind`.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheduler {
    /// `kind = "single-branch"`: one tree-stable timer for all that passes the filter.
    SingleBranch(ChangeScheduler),
    /// `kind = "any-branch"`: one tree-stable timer per codebase, project, repository and branch.
    AnyBranch(ChangeScheduler),
    /// `kind = "force"`: started by a person or a program.
    Force(ForceScheduler),
}

/// The kinds of scheduler, as written in `kind`.
pub(crate) const KINDS: &[&str] = &["single-branch", "any-branch", "force"];

impl Scheduler {
    /// The builders that it asks for builds.
    pub fn builders(&self) -> &NameList {
        match self {
            Scheduler::SingleBranch(it) | Scheduler::AnyBranch(it) => &it.builders,
            Scheduler::Force(it) => &it.builders,
        }
    }

    pub(crate) fn builders_mut(&mut self) -> &mut NameList {
        match self {
            Scheduler::SingleBranch(it) | Scheduler::AnyBranch(it) => &mut it.builders,
            Scheduler::Force(it) => &mut it.builders,
        }
    }

    /// The word written in `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Scheduler::SingleBranch(_) => "single-branch",
            Scheduler::AnyBranch(_) => "any-branch",
            Scheduler::Force(_) => "force",
        }
    }
}

/// A scheduler that follows changes.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChangeScheduler {
    /// A list of builders, or `"*"`.
    pub builders: NameList,
    /// Which changes count; all when left out.
    #[serde(default)]
    pub filter: Filter,
    /// Waits until no change came for so long; without it each change is a buildset of its own.
    pub tree_stable_timer: Option<Duration>,
    /// Shown as the reason of the buildsets; built from the scheduler's name when left out.
    pub reason: Option<String>,
    /// Properties given to every buildset.
    #[serde(default)]
    pub properties: BTreeMap<String, serde_json::Value>,
}

/// Which changes a scheduler looks at: every field that is given must match, each by any one of its globs, and the condition must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Filter {
    /// Branch; a change without one counts as the empty name.
    pub branch: Option<Patterns>,
    /// Repository URL.
    pub repository: Option<Patterns>,
    /// Project.
    pub project: Option<Patterns>,
    /// Codebase.
    pub codebase: Option<Patterns>,
    /// Category; a change without one counts as the empty name.
    pub category: Option<Patterns>,
    /// At least one changed file matches; `*` stays within a directory, `**` crosses them.
    pub files: Option<FilePatterns>,
    /// Only changes for which this expression over `change` is true. One for which it cannot be evaluated is left out.
    #[serde(deserialize_with = "condition")]
    pub condition: Option<Expr>,
}

/// There is no build yet that other names could speak of.
fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Expr::parse_condition_over(&text, &["change"]).map(Some).map_err(ExprError::into_serde)
}

/// The parts of a change that the globs of a [`Filter`] look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct FilterInput<'a> {
    /// Branch, if any.
    pub branch: Option<&'a str>,
    /// Repository URL.
    pub repository: &'a str,
    /// Project.
    pub project: &'a str,
    /// Codebase.
    pub codebase: &'a str,
    /// Category, if any.
    pub category: Option<&'a str>,
    /// Changed files, with `/` as separator.
    pub files: &'a [String],
}

impl Filter {
    /// Whether a change passes the globs. Whether it meets the condition takes an evaluation, off an actor's thread.
    pub fn globs_match(&self, change: &FilterInput<'_>) -> bool {
        let fits =
            |wanted: &Option<Patterns>, found: &str| wanted.as_ref().is_none_or(|it| it.matches(found));
        fits(&self.branch, change.branch.unwrap_or(""))
            && fits(&self.repository, change.repository)
            && fits(&self.project, change.project)
            && fits(&self.codebase, change.codebase)
            && fits(&self.category, change.category.unwrap_or(""))
            && self.files.as_ref().is_none_or(|it| change.files.iter().any(|file| it.matches(file)))
    }
}

/// A scheduler that a person starts.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ForceScheduler {
    /// A list of builders, or `"*"`.
    pub builders: NameList,
    /// Text of the button; the scheduler's name when left out.
    pub button_name: Option<String>,
    /// Heading of the dialogue; the button's text when left out.
    pub label: Option<String>,
    /// What the reason field holds at first.
    #[serde(default = "default_reason")]
    pub reason: String,
    /// What the dialogue asks for; each becomes a property.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
    /// Properties given to every buildset.
    #[serde(default)]
    pub properties: BTreeMap<String, serde_json::Value>,
}

fn default_reason() -> String {
    "force build".to_owned()
}

/// One field of the force dialogue.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Parameter {
    /// Name of the property that it becomes.
    pub name: String,
    /// What may be entered.
    #[serde(default)]
    pub kind: ParameterKind,
    /// Text beside the field; the name when left out.
    pub label: Option<String>,
    /// What the field holds at first; checked against `kind`.
    pub default: Option<serde_json::Value>,
    /// Whether an empty answer is refused.
    #[serde(default)]
    pub required: bool,
    /// What the whole answer must match; for `string` and `text`.
    pub regex: Option<Regex>,
    /// What can be chosen; for `choice`.
    #[serde(default)]
    pub choices: Vec<String>,
    /// Whether several choices may be made (the property is then a list); for `choice`.
    #[serde(default)]
    pub multiple: bool,
}

/// What a [`Parameter`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParameterKind {
    /// One line.
    #[default]
    String,
    /// Several lines.
    Text,
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// One (or several) of a list.
    Choice,
}
