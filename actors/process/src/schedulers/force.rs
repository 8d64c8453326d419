//! The force scheduler: builds that a person or a program asks for.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use greenroom_config::ForceScheduler as Settings;
use greenroom_data::DataError;
use greenroom_model::write::{Duty, NewBuildset, StampRef};
use greenroom_model::*;
use greenroom_runtime::{Birth, Supervised, TaskEnd, fail};
use serde_json::{Map, Value, json};

use crate::claims::claim;
use crate::handles::Handles;
use crate::messages::{Act, Handled};
use crate::schedulers::change_scheduler::{configured, enable};
use crate::schedulers::force_form::{self, Wanted, Wish};

/// What a force scheduler is.
#[derive(Debug)]
pub(crate) struct Identity {
    pub id: SchedulerId,
    pub name: String,
    pub builders: Vec<BuilderId>,
    pub config: Settings,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Claimed(TaskEnd<Result<(), DataError>>);

/// A scheduler that people start.
pub struct ForceScheduler {
    h: Handles,
    birth: Birth<Self>,
    identity: Arc<Identity>,
    /// Acts under way: the control desk may hand one over again after its own restart.
    doing: HashSet<ControlId>,
    forced: u64,
}

impl ForceScheduler {
    pub(crate) fn new(h: Handles, birth: Birth<Self>, identity: Arc<Identity>) -> Self {
        Self { h, birth, identity, doing: HashSet::new(), forced: 0 }
    }
}

impl Supervised for ForceScheduler {
    const KIND: &'static str = "force-scheduler";

    fn observe(&self) -> Value {
        json!({ "acts": self.forced, "acts_under_way": self.doing.len() })
    }
}

impl Actor for ForceScheduler {
    type Context = Context<Self>;

    /// It keeps nothing, so it takes acts from the start: the control desk sends it those that come while this master has it.
    fn started(&mut self, _: &mut Context<Self>) {
        let (h, identity) = (self.h.clone(), Arc::clone(&self.identity));
        let claim = async move { claim(&h, &Duty::Scheduler(identity.id), &identity.name).await };
        self.birth.tasks().spawn(claim, Claimed);
    }
}

impl Handler<Claimed> for ForceScheduler {
    type Result = ();

    fn handle(&mut self, Claimed(end): Claimed, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(Ok(())) => {}
            TaskEnd::Done(Err(error)) => fail(ctx, error),
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<Act> for ForceScheduler {
    type Result = ResponseActFuture<Self, Result<Handled, DataError>>;

    fn handle(&mut self, Act(act): Act, _: &mut Context<Self>) -> Self::Result {
        if !self.doing.insert(act.id) {
            return Box::pin(fut::ready(Ok(Handled::Answered)));
        }
        self.forced += 1;
        let (h, identity, id) = (self.h.clone(), Arc::clone(&self.identity), act.id);
        let work = async move {
            match act.action.as_str() {
                "force" => force(&h, &identity, &act).await,
                _ => {
                    let enabled = act.params.get("enabled").and_then(Value::as_bool);
                    enable(&h, identity.id, &act, enabled, None).await
                }
            }
        };
        Box::pin(work.into_actor(self).map(move |handled, actor: &mut Self, _| {
            actor.doing.remove(&id);
            handled
        }))
    }
}

async fn force(h: &Handles, identity: &Identity, act: &ControlAct) -> Result<Handled, DataError> {
    let wish = force_form::read(&identity.config, &act.identity, &act.params);
    let enabled = h.ro().hot().schedulers.get(&identity.id.0).is_none_or(|it| it.enabled);
    let ops = match wish {
        _ if !enabled => refused(act, format!("the scheduler '{}' is switched off", identity.name)),
        Err(faults) => vec![Op::AnswerControl { act: act.id, answer: ControlAnswer::Invalid(json!(faults)) }],
        Ok(wish) => match chosen(h, identity, &wish.builders) {
            Err(why) => refused(act, why),
            Ok(builders) => buildset(h, identity, act, wish, builders).await?,
        },
    };
    h.rw.write(ops).await?;
    Ok(Handled::Answered)
}

fn refused(act: &ControlAct, why: String) -> Vec<Op> {
    vec![Op::AnswerControl { act: act.id, answer: ControlAnswer::Failed(why) }]
}

fn chosen(h: &Handles, identity: &Identity, wanted: &Wanted) -> Result<Vec<BuilderId>, String> {
    let of_scheduler = |id: BuilderId, called: &dyn std::fmt::Display| {
        let ours = identity.builders.contains(&id);
        ours.then_some(id).ok_or_else(|| format!("the scheduler '{}' has no builder {called}", identity.name))
    };
    match wanted {
        Wanted::All => Ok(identity.builders.clone()),
        Wanted::Id(id) => Ok(vec![of_scheduler(BuilderId(*id), id)?]),
        Wanted::Names(names) => {
            let setup = h.setup();
            let found = names.iter().map(|name| {
                let id = setup.recipe_named(name).map_or(BuilderId(0), |it| it.id);
                of_scheduler(id, &format_args!("'{name}'"))
            });
            found.collect()
        }
    }
}

async fn buildset(
    h: &Handles,
    identity: &Identity,
    act: &ControlAct,
    wish: Wish,
    builders: Vec<BuilderId>,
) -> Result<Vec<Op>, DataError> {
    let id: BuildsetId = h.new_id().await?;
    let mut requests: Vec<(BuildRequestId, BuilderId)> = Vec::with_capacity(builders.len());
    for builder in builders {
        requests.push((h.new_id().await?, builder));
    }
    let told: Map<String, Value> =
        requests.iter().map(|(request, builder)| (builder.0.to_string(), json!(request.0))).collect();
    let mut properties = configured(&identity.config.properties);
    properties.extend(wish.properties);
    h.properties.put(id, &properties);
    let buildset = NewBuildset {
        id,
        requests,
        sourcestamps: vec![StampRef::New(wish.stamp)],
        reason: format!("A build was forced by '{}': {}", wish.owner, wish.reason),
        external_id: None,
        properties,
        priority: wish.priority,
        waited_for: false,
        scheduler: Some(identity.name.clone()),
        parent: None,
        rebuilt_build: None,
    };
    let answer = ControlAnswer::Done(json!([id.0, told]));
    Ok(vec![Op::AddBuildset(Box::new(buildset)), Op::AnswerControl { act: act.id, answer }])
}
