//! A builder's actor: owner of its requests and finished builds as far as people ask for things.

use std::collections::HashSet;

use actix::prelude::*;
use greenroom_data::DataError;
use greenroom_model::write::{NewBuildset, StampRef};
use greenroom_model::*;
use greenroom_runtime::Supervised;
use serde_json::{Value, json};

use crate::builds::plan::buildset_of;
use crate::handles::Handles;
use crate::messages::{Act, Handled, StopBuild};

/// The scheduler named by buildsets that repeat a build.
const REBUILD: &str = "rebuild";

/// A builder's actor.
pub struct BuilderActor {
    h: Handles,
    id: BuilderId,
    /// Acts under way: the control desk may hand one over again after its own restart.
    doing: HashSet<ControlId>,
    acts: u64,
}

impl BuilderActor {
    pub(crate) fn new(h: Handles, id: BuilderId) -> Self {
        Self { h, id, doing: HashSet::new(), acts: 0 }
    }
}

impl Supervised for BuilderActor {
    const KIND: &'static str = "builder";

    fn observe(&self) -> Value {
        let steps = self.h.setup().recipes.get(&self.id).map(|it| it.config.steps.len());
        json!({ "builderid": self.id.0, "steps": steps, "acts": self.acts })
    }
}

impl Actor for BuilderActor {
    type Context = Context<Self>;
}

impl Handler<Act> for BuilderActor {
    type Result = ResponseActFuture<Self, Result<Handled, DataError>>;

    fn handle(&mut self, Act(act): Act, _: &mut Context<Self>) -> Self::Result {
        if !self.doing.insert(act.id) {
            return Box::pin(fut::ready(Ok(Handled::Answered)));
        }
        self.acts += 1;
        let (h, id) = (self.h.clone(), act.id);
        let work = async move {
            match (&act.target, act.action.as_str()) {
                (ControlTarget::Build(build), "rebuild") => rebuild(&h, *build, act.id).await,
                (ControlTarget::BuildRequest(request), "cancel") => cancel(&h, *request, &act).await,
                _ => Ok(Handled::NotMine),
            }
        };
        Box::pin(work.into_actor(self).map(move |handled, actor: &mut Self, _| {
            actor.doing.remove(&id);
            handled
        }))
    }
}

fn done(act: ControlId) -> Op {
    Op::AnswerControl { act, answer: ControlAnswer::Done(Value::Null) }
}

/// A new buildset with the build's source stamps and the properties that it was asked for with.
async fn rebuild(h: &Handles, id: BuildId, act: ControlId) -> Result<Handled, DataError> {
    let found = match h.ro().get::<Build>(id.0).await?.value {
        Some(build) => h.ro().get::<BuildRequest>(build.request.0).await?.value.map(|it| (build, it)),
        None => None,
    };
    let Some((build, request)) = found else {
        let answer = ControlAnswer::Failed(format!("there is no build {id}"));
        h.persist(vec![Op::AnswerControl { act, answer }]).await?;
        return Ok(Handled::Answered);
    };
    let buildset = buildset_of(h, &request).await?;
    let properties = h.buildset_properties(buildset.id).await?;
    let (new, new_request) = (h.new_id::<BuildsetId>().await?, h.new_id::<BuildRequestId>().await?);
    let answer = ControlAnswer::Done(json!([new.0, { build.builder.0.to_string(): new_request.0 }]));
    h.properties.put(new, &properties);
    let buildset = NewBuildset {
        id: new,
        requests: vec![(new_request, build.builder)],
        sourcestamps: buildset.sourcestamps.iter().map(|it| StampRef::Existing(it.id)).collect(),
        reason: REBUILD.to_owned(),
        external_id: buildset.external_id.clone(),
        properties: (*properties).clone(),
        priority: request.priority,
        waited_for: false,
        scheduler: Some(REBUILD.to_owned()),
        parent: None,
        rebuilt_build: Some(id),
    };
    h.rw.write(vec![Op::AddBuildset(Box::new(buildset)), Op::AnswerControl { act, answer }]).await?;
    Ok(Handled::Answered)
}

/// Cancels a request that waits; stops the build of one that is being built.
pub(crate) async fn cancel(
    h: &Handles,
    request: BuildRequestId,
    act: &ControlAct,
) -> Result<Handled, DataError> {
    match h.rw.write(vec![Op::CancelRequest { request }, done(act.id)]).await {
        Ok(_) => Ok(Handled::Answered),
        Err(DataError::Refused(Refusal::ClaimLost)) => {
            let hot = h.ro().hot();
            let build = hot.running_builds().find(|it| it.request == request).map(|it| it.id);
            let Some(front) = build.and_then(|id| h.builds.get(id)) else { return Ok(Handled::NotMine) };
            let stop = StopBuild { act: act.id, reason: reason(act) };
            front.ask(stop).await.unwrap_or(Ok(Handled::NotMine))
        }
        Err(DataError::Refused(_)) => {
            h.persist(vec![done(act.id)]).await?;
            Ok(Handled::Answered)
        }
        Err(error) => Err(error),
    }
}

/// The `reason` parameter of an act.
pub(crate) fn reason(act: &ControlAct) -> String {
    act.params.get("reason").and_then(Value::as_str).unwrap_or_default().trim().to_owned()
}
