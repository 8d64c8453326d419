//! `[[builders.NAME.steps]]`: what a build does.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use greenroom_model::Results;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::expr::{Expr, ExprError, Run, Shell, Template, TemplateValue};
use crate::values::{Duration, Regex, serde_fault};

/// One step: what it does, and how its result counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The keys that every step has.
    pub options: StepOptions,
    /// What it does.
    pub action: StepAction,
}

impl Step {
    /// The name that is shown: `name`, or one made from what the step does.
    pub fn name(&self) -> String {
        if let Some(name) = &self.options.name {
            return name.clone();
        }
        match &self.action {
            StepAction::Shell(it) => it.run.short_name(),
            StepAction::Git(_) => "git".to_owned(),
            StepAction::SetProperty(it) => format!("set {}", it.property),
        }
    }

    /// The word written in `kind`.
    pub fn kind(&self) -> &'static str {
        match self.action {
            StepAction::Shell(_) => "shell",
            StepAction::Git(_) => "git",
            StepAction::SetProperty(_) => "set-property",
        }
    }
}

/// What a step does; `kind` tells, and a step with `run` and no `kind` is `shell`.
#[derive(Clone, Debug, PartialEq)]
pub enum StepAction {
    /// `run = …`: a command on the worker.
    Shell(ShellStep),
    /// `kind = "git"`: a checkout.
    Git(GitStep),
    /// `kind = "set-property"`.
    SetProperty(SetPropertyStep),
}

/// The kinds of step, as written in `kind`.
pub(crate) const KINDS: &[&str] = &["shell", "git", "set-property"];

/// The keys that every step has.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StepOptions {
    /// Shown in lists; made from the command when left out.
    pub name: Option<String>,
    /// Runs only if this expression is true; else the step is skipped.
    #[serde(rename = "if", deserialize_with = "condition")]
    pub condition: Option<Expr>,
    /// Environment of its commands, over the builder's.
    #[serde(deserialize_with = "crate::expr::environment")]
    pub env: BTreeMap<String, Template>,
    /// Directory, relative to the builder's own on the worker; the builder's `workdir` when left out.
    pub workdir: Option<Template>,
    /// Killed after so long without output: 20 min when left out, `"0s"` is never.
    #[serde(deserialize_with = "duration_or_never")]
    pub timeout: Option<Duration>,
    /// Killed after so long in all.
    pub max_time: Option<Duration>,
    /// A failure ends the build (steps that always run still run). False when left out, true for `git`.
    pub halt_on_failure: Option<bool>,
    /// A failure makes the build a failure. True when left out.
    pub flunk_on_failure: bool,
    /// Warnings make the build a failure.
    pub flunk_on_warnings: bool,
    /// A failure makes the build end with warnings, if it does not flunk.
    pub warn_on_failure: bool,
    /// Warnings make the build end with warnings.
    pub warn_on_warnings: bool,
    /// Runs even when an earlier step halted the build.
    pub always_run: bool,
    /// Not shown in the list of steps.
    pub hide: bool,
}

impl Default for StepOptions {
    fn default() -> Self {
        StepOptions {
            name: None,
            condition: None,
            env: BTreeMap::new(),
            workdir: None,
            timeout: Some(Duration::from_secs(1200)),
            max_time: None,
            halt_on_failure: None,
            flunk_on_failure: true,
            flunk_on_warnings: false,
            warn_on_failure: false,
            warn_on_warnings: false,
            always_run: false,
            hide: false,
        }
    }
}

impl Step {
    /// Whether a failure of this step ends the build: as written, or true for a checkout (nothing after it could mean anything).
    pub fn halts_on_failure(&self) -> bool {
        self.options.halt_on_failure.unwrap_or(matches!(self.action, StepAction::Git(_)))
    }
}

fn condition<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Expr::parse_condition(&text).map(Some).map_err(ExprError::into_serde)
}

fn duration_or_never<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let duration = Duration::deserialize(deserializer)?;
    Ok(Some(duration).filter(|it| !it.is_zero()))
}

/// A command.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShellStep {
    /// A string for `sh -c`, or a list of arguments that is executed as it is.
    pub run: Run,
    /// What reads a text in `run`; the worker's own shell when left out (`sh`; `cmd` on Windows).
    pub shell: Option<Shell>,
    /// Lines of output that match count as warnings, and one of them makes the step's result `warnings`.
    pub warnings: Option<Regex>,
    /// Results of exit codes; others than 0 are a failure.
    #[serde(default)]
    pub decode_rc: BTreeMap<ExitCode, ResultName>,
}

/// A checkout.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GitStep {
    /// URL to clone from.
    pub repository: Template,
    /// Branch when the source stamp has none; the remote's default when left out.
    pub branch: Option<Template>,
    /// Revision instead of the source stamp's.
    pub revision: Option<Template>,
    /// Whose source stamp is checked out; empty is the default codebase.
    #[serde(default)]
    pub codebase: String,
    /// Keep what earlier builds left, or begin clean.
    #[serde(default)]
    pub mode: GitMode,
    /// How `mode = "full"` cleans.
    #[serde(default)]
    pub method: GitMethod,
    /// Fetch only so many commits: a number, or `true` for 1.
    #[serde(default, deserialize_with = "shallow")]
    #[schemars(with = "Option<crate::schema::forms::Depth>")]
    pub shallow: Option<NonZeroU32>,
}

/// What a checkout keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitMode {
    /// Fetch and reset; files that are not tracked stay.
    #[default]
    Incremental,
    /// As after a new clone, by `method`.
    Full,
}

/// How a full checkout begins clean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GitMethod {
    /// Remove all untracked files, ignored ones too.
    #[default]
    Fresh,
    /// Remove untracked files, keep ignored ones.
    Clean,
    /// Remove the directory and clone anew.
    Clobber,
}

fn shallow<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    struct Visitor;
    impl serde::de::Visitor<'_> for Visitor {
        type Value = Option<NonZeroU32>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("true, false or a number of commits")
        }

        fn visit_bool<E>(self, on: bool) -> Result<Self::Value, E> {
            Ok(on.then_some(NonZeroU32::MIN))
        }

        fn visit_i64<E: serde::de::Error>(self, depth: i64) -> Result<Self::Value, E> {
            u32::try_from(depth)
                .ok()
                .and_then(NonZeroU32::new)
                .map(Some)
                .ok_or_else(|| serde_fault("a depth is at least 1", "write `shallow = 1`, or leave it out"))
        }

        fn visit_u64<E: serde::de::Error>(self, depth: u64) -> Result<Self::Value, E> {
            self.visit_i64(i64::try_from(depth).unwrap_or(0))
        }
    }
    deserializer.deserialize_any(Visitor)
}

/// A property, from an expression or from a command's output.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetPropertyStep {
    /// Name of the property.
    pub property: String,
    /// The value; either this or `run`.
    pub value: Option<TemplateValue>,
    /// A command whose output, without white space around it, becomes the value.
    pub run: Option<Run>,
    /// What reads a text in `run`; the worker's own shell when left out.
    pub shell: Option<Shell>,
}

/// A process's exit code, as a key of `decode-rc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExitCode(pub i32);

impl<'de> Deserialize<'de> for ExitCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map(ExitCode)
            .map_err(|_| serde_fault("an exit code is a whole number", "write it as `77 = \"skipped\"`"))
    }
}

/// The name of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum ResultName {
    Success,
    Warnings,
    Failure,
    Skipped,
    Exception,
    Retry,
    Cancelled,
}

impl From<ResultName> for Results {
    fn from(name: ResultName) -> Results {
        match name {
            ResultName::Success => Results::Success,
            ResultName::Warnings => Results::Warnings,
            ResultName::Failure => Results::Failure,
            ResultName::Skipped => Results::Skipped,
            ResultName::Exception => Results::Exception,
            ResultName::Retry => Results::Retry,
            ResultName::Cancelled => Results::Cancelled,
        }
    }
}
