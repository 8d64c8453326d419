//! `kind = "github-status"`, `"gitlab-status"` and `"gitea-status"`: the state of a build beside its commit.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::values::Secret;

/// The keys of a notifier that shows the state of commits.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CommitStatus {
    /// The API's URL; the public forge's when left out (Gitea and Forgejo have none).
    pub base_url: Option<String>,
    /// What it proves itself with.
    pub token: Secret,
    /// The name of the status; `{builder}` stands for the builder's name.
    #[serde(default = "context")]
    pub context: String,
    /// `owner/name` of repositories whose URL does not tell it, by their URL.
    #[serde(default)]
    pub repositories: BTreeMap<String, String>,
    /// Whether it may talk to private and loopback addresses.
    #[serde(default)]
    pub allow_private: bool,
}

fn context() -> String {
    "greenroom/{builder}".to_owned()
}
