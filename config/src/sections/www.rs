//! `[www]`: the page, the API and the port that workers share with them.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::Listen;

/// The `[www]` section.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Www {
    /// Address and port to listen on; port 0 lets the system choose.
    pub listen: Listen,
    /// Who may act.
    pub auth: Auth,
    /// Which change hooks answer under `/change_hook/`.
    pub change_hooks: Vec<ChangeHook>,
}

/// How users are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Whoever reaches the port may do everything; works only on a loopback address.
    None,
}

/// A dialect of change hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeHook {
    /// Form fields or JSON in Buildbot's own words, at `/change_hook/base`.
    Base,
}

impl ChangeHook {
    /// The last segment of the hook's URL.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeHook::Base => "base",
        }
    }
}
