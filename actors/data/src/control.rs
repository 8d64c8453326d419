//! The facet for what a user may ask for: force, stop, rebuild, cancel, pause, …
//!
//! A control act is a row. The actor that owns the target sees its event (`control/builds/17/stop`), acts, and writes the
//! answer (`Op::AnswerControl`) in the transaction of the effect.

use std::sync::Arc;
use std::time::Duration;

use greenroom_model::write::{NewChange, NewControl};
use greenroom_model::*;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::error::DataError;
use crate::rw::Rw;
use crate::subscription::{Delivery, Subscription};

/// How long the answer to an act is waited for.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// How long a write may take to become readable before its writer is answered all the same.
const READABLE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Asks for acts, once bound to who asks.
#[derive(Clone)]
pub struct Control {
    pub(crate) rw: Rw,
}

/// A [`Control`] of one identity.
#[derive(Clone)]
pub struct BoundControl {
    rw: Rw,
    identity: String,
    came_from: Option<String>,
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

impl Control {
    /// The permission of `identity` (a user's name or address; `anonymous` where nobody logs in).
    pub fn bind(&self, identity: impl Into<String>) -> BoundControl {
        BoundControl { rw: self.rw.clone(), identity: identity.into(), came_from: None }
    }
}

impl BoundControl {
    /// The same, asking from an address that the audit log keeps.
    #[must_use]
    pub fn from_address(self, address: Option<String>) -> Self {
        Self { came_from: address, ..self }
    }

    /// Who asks.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Asks and waits up to 10 s for the answer. The same `key` of the same identity asks only once, and gives the
    /// first answer, on whichever master and for as long as the act is kept; to ask for something else with it is refused. What has no owner any more is answered here: stopping a finished build is done with null.
    pub async fn act(
        &self,
        target: ControlTarget,
        action: &str,
        params: Value,
        key: Option<String>,
    ) -> Result<ControlAnswer, DataError> {
        if action == "stop"
            && key.is_none()
            && let ControlTarget::Build(build) = &target
            && self.rw.ro().get::<Build>(build.0).await?.value.is_none_or(|b| b.complete_at.is_some())
        {
            return Ok(ControlAnswer::Done(Value::Null));
        }
        let id = self.rw.new_id::<ControlId>()?;
        // Listening begins before asking, so that no answer is missed.
        let answers = self.listen(id).await?;
        let action = action.to_owned();
        let (identity, came_from) = (self.identity.clone(), self.came_from.clone());
        let new = NewControl { id, identity, key, target, action, params, came_from };
        let asked = self.rw.write(vec![Op::AskControl(Box::new(new))]).await?;
        let act = match asked.outcomes.into_iter().next() {
            Some(Outcome::Control(act)) => act,
            other => return Err(DataError::unavailable(format!("unexpected outcome {other:?}"))),
        };
        if let Some(answer) = &act.answer {
            return Ok(answer.clone());
        }
        let answers = if act.id == id { answers } else { self.listen(act.id).await? };
        self.answer_to(act, answers).await
    }

    /// Waits until the published snapshot contains a write, so that whoever wrote reads it. The write stands in any case.
    async fn until_readable(&self, done: &Committed) {
        let (master, seq) = done.at;
        let readable = async {
            while !self.rw.ro().hot().clock.contains(master, seq) {
                sleep(LOOK_AGAIN).await;
            }
        };
        if timeout(READABLE_WITHIN, readable).await.is_err() {
            tracing::debug!(seq, "a write is not in the snapshot yet");
        }
    }

    async fn listen(&self, id: ControlId) -> Result<Subscription, DataError> {
        let topic = Pattern::parse(&format!("control/acts/{id}/answered"));
        self.rw.ro().subscribe(vec![topic], None).await
    }

    async fn answer_to(
        &self,
        act: Arc<ControlAct>,
        mut answers: Subscription,
    ) -> Result<ControlAnswer, DataError> {
        // An act that was asked for before may have been answered just before listening began.
        if let Some(answer) = self.rw.ro().control_act(act.id).await?.value.and_then(|a| a.answer.clone()) {
            return Ok(answer);
        }
        let wait = async {
            loop {
                match answers.next().await {
                    Delivery::Event(event) => {
                        if let Record::Control(act) = &event.frame.event.what.record
                            && let Some(answer) = &act.answer
                        {
                            return Ok(answer.clone());
                        }
                    }
                    Delivery::Ended(_) => return Err(DataError::NoAnswer(ANSWER_WITHIN)),
                }
            }
        };
        timeout(ANSWER_WITHIN, wait).await.unwrap_or(Err(DataError::NoAnswer(ANSWER_WITHIN)))
    }

    /// Adds a change, as a hook or a user sends it. Durable when it answers; tells whether it was new.
    pub async fn add_change(&self, change: SentChange) -> Result<(ChangeId, bool), DataError> {
        let new = NewChange {
            id: self.rw.new_id()?,
            origin: change.origin,
            author: change.author,
            committer: change.committer,
            comments: change.comments,
            branch: change.branch,
            revision: change.revision,
            revlink: change.revlink,
            when: change.when.unwrap_or_else(|| self.rw.now()),
            category: change.category,
            repository: change.repository,
            codebase: change.codebase,
            project: change.project,
            files: change.files,
            properties: change.properties,
        };
        let done = self.rw.write(vec![Op::AddChange(Box::new(new))]).await?;
        self.until_readable(&done).await;
        match done.outcomes.first() {
            Some(Outcome::Change { id, new }) => Ok((*id, *new)),
            other => Err(DataError::unavailable(format!("unexpected outcome {other:?}"))),
        }
    }
}
