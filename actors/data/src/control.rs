//! The facet for what a user may ask for: force, stop, rebuild, cancel, pause, …
//!
//! A control act is a row. The actor that owns the target sees its event (`control/builds/17/stop`), acts, and writes the
//! answer (`Op::AnswerControl`) in the transaction of the effect.

use greenroom_model::*;
use serde_json::Value;

use crate::error::DataError;

/// Asks for acts, once bound to who asks.
#[derive(Clone)]
pub struct Control {}

/// A [`Control`] of one identity.
#[derive(Clone)]
pub struct BoundControl {}

#[allow(unused_variables)]
impl Control {
    /// The permission of `identity` (a user's name or address; `anonymous` where nobody logs in).
    pub fn bind(&self, identity: impl Into<String>) -> BoundControl {
        unimplemented!()
    }
}

#[allow(unused_variables)]
impl BoundControl {
    /// Who asks.
    pub fn identity(&self) -> &str {
        unimplemented!()
    }

    /// Asks and waits up to 10 s for the answer. The same `key` of the same identity asks only once, and gives the
    /// first answer. What has no owner any more is answered here: stopping a finished build is done with null.
    pub async fn act(
        &self,
        target: ControlTarget,
        action: &str,
        params: Value,
        key: Option<String>,
    ) -> Result<ControlAnswer, DataError> {
        unimplemented!()
    }

    /// Adds a change, as a hook or a user sends it. Durable when it answers; tells whether it was new.
    pub async fn add_change(&self, change: SentChange) -> Result<(ChangeId, bool), DataError> {
        unimplemented!()
    }
}

/// A change as it is sent to us: a [`write::NewChange`] that has no id yet.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields of `Change`
pub struct SentChange {
    pub origin: write::ChangeOrigin,
    pub author: String,
    pub committer: Option<String>,
    pub comments: String,
    pub branch: Option<String>,
    pub revision: Option<String>,
    pub revlink: Option<String>,
    /// Now, if it is not told.
    pub when: Option<Timestamp>,
    pub category: Option<String>,
    pub repository: String,
    pub codebase: String,
    pub project: String,
    pub files: Vec<String>,
    pub properties: Properties,
}
