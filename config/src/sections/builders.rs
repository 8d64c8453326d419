//! `[builders.NAME]`: named recipes with their workers.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::expr::{Run, Template, TemplateValue};
use crate::sections::steps::{Step, StepAction};
use crate::values::Duration;

/// One `[builders.NAME]` table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Builder {
    /// Everything but the steps.
    pub options: BuilderOptions,
    /// What a build does, in order.
    pub steps: Vec<Step>,
}

impl Builder {
    /// The names of the secrets that its steps need.
    pub fn secrets(&self) -> BTreeSet<&str> {
        let mut names: BTreeSet<&str> = self.options.env.values().flat_map(Template::secrets).collect();
        for step in &self.steps {
            names.extend(step.options.env.values().flat_map(Template::secrets));
            let run = match &step.action {
                StepAction::Shell(it) => Some(&it.run),
                StepAction::SetProperty(it) => it.run.as_ref(),
                StepAction::Git(_) => None,
            };
            if let Some(Run::Script(script)) = run {
                names.extend(script.secrets());
            }
        }
        names
    }
}

impl std::ops::Deref for Builder {
    type Target = BuilderOptions;

    fn deref(&self) -> &BuilderOptions {
        &self.options
    }
}

/// The keys of a builder besides `steps`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BuilderOptions {
    /// Names of workers; every worker when left out.
    pub workers: Option<Vec<String>>,
    /// Words to group builders by.
    pub tags: Vec<String>,
    /// One line about the builder, shown on its page.
    pub description: Option<String>,
    /// The project that it belongs to.
    pub project: Option<String>,
    /// What happens to older requests that a newer one makes needless.
    pub collapse: Collapse,
    /// Environment of every command of every step; a step's own `env` wins.
    #[serde(deserialize_with = "crate::expr::environment")]
    pub env: BTreeMap<String, Template>,
    /// Properties of every build; those of the request win.
    pub properties: BTreeMap<String, TemplateValue>,
    /// Directory of the sources below the builder's own on the worker; `build` when left out.
    pub workdir: Option<Template>,
    /// How long a build may take; without end when left out.
    pub max_time: Option<Duration>,
}

/// When older requests are dropped for newer ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Collapse {
    /// Every request becomes a build.
    #[default]
    Never,
}
