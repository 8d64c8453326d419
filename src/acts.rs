//! What can be asked of a master itself, its actors and its notifiers: one match, an arm for each.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_model::{ControlAct, ControlAnswer, ControlTarget};
use greenroom_process::Outside;

use crate::actor_acts::ActorActs;

/// Carries out acts on this master.
pub struct MasterActs {
    /// Those on its actors.
    pub actors: ActorActs,
}

impl Outside for MasterActs {
    fn act(&self, act: Arc<ControlAct>) -> BoxFuture<'static, Option<ControlAnswer>> {
        let done = match (&act.target, act.action.as_str()) {
            (ControlTarget::Master(_), "kill-actor" | "restart-actor") => Some(self.actors.act(&act)),
            (ControlTarget::Master(_) | ControlTarget::Notifier(_), action) => {
                Some(ControlAnswer::Failed(format!("action: {action} is not supported")))
            }
            _ => None,
        };
        async move { done }.boxed()
    }
}
