//! What can be asked of a master itself, its actors and its notifiers: one match, an arm for each.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_model::{ControlAct, ControlAnswer, ControlTarget};
use greenroom_process::Outside;
use greenroom_runtime::{AskError, Front};
use greenroom_status::StatusLayer;
use serde_json::Value;

use crate::actor_acts::ActorActs;
use crate::configurator::{Configurator, From, Reconfigure};
use crate::janitor::{self, Janitor};

/// How long a reload may take, those that wait before it included.
const RECONFIGURED_WITHIN: Duration = Duration::from_secs(600);

/// Carries out acts on this master.
pub struct MasterActs {
    /// Those on its actors.
    pub actors: ActorActs,
    /// Those on its configuration; set when the master has begun.
    pub configurator: Arc<OnceLock<Front<Configurator>>>,
    /// Those on its history; set when the janitor has begun.
    pub janitor: Arc<OnceLock<Front<Janitor>>>,
    /// Those on its notifiers; set when they have begun.
    pub status: Arc<OnceLock<StatusLayer>>,
}

impl Outside for MasterActs {
    fn act(&self, act: Arc<ControlAct>) -> BoxFuture<'static, Option<ControlAnswer>> {
        if let (ControlTarget::Master(_), "reload" | "rollback") = (&act.target, act.action.as_str()) {
            let configurator = self.configurator.get().cloned();
            return async move { reconfigure(&configurator?, &act).await }.boxed();
        }
        if let (ControlTarget::Master(_), "gc") = (&act.target, act.action.as_str()) {
            let janitor = self.janitor.get().cloned();
            if let Some(faults) = faults(&act, &["dry-run"]) {
                return async { Some(faults) }.boxed();
            }
            let dry_run = is_dry_run(&act);
            return async move { janitor::act(&janitor?, dry_run).await }.boxed();
        }
        if let (ControlTarget::Notifier(name), "test") = (&act.target, act.action.as_str()) {
            let (status, name) = (self.status.get().cloned(), name.clone());
            return async move { Some(test_notifier(&status?, &name, &act.identity).await) }.boxed();
        }
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

/// What is wrong with an act's parameters, if something is: one that is misspelled must not turn a trial into the real thing.
fn faults(act: &ControlAct, known: &[&str]) -> Option<ControlAnswer> {
    let mut faults = serde_json::Map::new();
    for (name, value) in act.params.as_object().into_iter().flatten() {
        let fault = match name.as_str() {
            // who asks, as the API adds it
            "owner" => continue,
            it if !known.contains(&it) => {
                format!("there is no such parameter; there are: {}", known.join(", "))
            }
            "dry-run" if !value.is_boolean() => "must be true or false".to_owned(),
            "number" if !value.is_i64() && !value.is_null() => "must be the number of a version".to_owned(),
            _ => continue,
        };
        faults.insert(name.clone(), fault.into());
    }
    (!faults.is_empty()).then_some(ControlAnswer::Invalid(faults.into()))
}

fn is_dry_run(act: &ControlAct) -> bool {
    act.params.get("dry-run").and_then(Value::as_bool).unwrap_or(false)
}

/// Puts a trial message into a notifier's outbox.
async fn test_notifier(status: &StatusLayer, name: &str, by: &str) -> ControlAnswer {
    match status.test(name, by).await {
        Ok(delivery) => ControlAnswer::Done(serde_json::json!({ "deliveryid": delivery.0 })),
        Err(error) => ControlAnswer::Failed(error.to_string()),
    }
}

/// Asks the configurator. None when it is away: it finishes what it had begun, and hears of the act again.
async fn reconfigure(configurator: &Front<Configurator>, act: &ControlAct) -> Option<ControlAnswer> {
    let reload = act.action == "reload";
    if let Some(faults) = faults(act, if reload { &["dry-run"] } else { &["dry-run", "number"] }) {
        return Some(faults);
    }
    let number = act.params.get("number").and_then(Value::as_i64);
    let from = if reload { From::Files } else { From::Version(number) };
    let wish = Reconfigure { from, dry_run: is_dry_run(act), who: act.identity.clone(), act: Some(act.id) };
    match configurator.ask_within(RECONFIGURED_WITHIN, wish).await {
        Ok(outcome) => Some(outcome.answer()),
        Err(AskError::Stopped) => Some(ControlAnswer::Failed("the master is stopping".to_owned())),
        Err(error) => {
            tracing::warn!(control.id = act.id.0, %error, "a reload is asked for again");
            None
        }
    }
}
