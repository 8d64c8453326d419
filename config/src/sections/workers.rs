//! `[workers.NAME]`: the machines that run commands.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::Secret;

/// One `[workers.NAME]` table.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Worker {
    /// Whether it connects by itself or is started by the master.
    #[serde(default)]
    pub kind: WorkerKind,
    /// What a remote worker proves itself with; none for a local one.
    pub password: Option<Secret>,
    /// How many builds it may run at once; 1 when left out.
    #[serde(default = "one")]
    pub max_builds: NonZeroU32,
    /// Properties of every build that runs here.
    #[serde(default)]
    pub properties: BTreeMap<String, serde_json::Value>,
    /// Only for a local worker: its directory; `DATA-DIR/workers/NAME` when left out.
    pub dir: Option<PathBuf>,
}

/// How a worker comes to be connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerKind {
    /// A process elsewhere that connects with name and password.
    #[default]
    Remote,
    /// Our agent, started and supervised by the master on its own machine.
    Local,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}
