//! `[master]`: who this master is and where it keeps its data.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::{Name, WebUrl};

/// The `[master]` section.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Master {
    /// Unique among the masters that share one database.
    pub name: Name,
    /// What the page calls this farm.
    pub title: String,
    /// Where people and workers reach the page; links in messages begin with it. The default has the port of `www.listen`.
    pub url: WebUrl,
    /// Directory for everything this master stores. Absolute, or relative to the file that says it.
    pub data_dir: PathBuf,
}
