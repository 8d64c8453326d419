//! Taking a build up again from its records.

use std::sync::Arc;

use greenroom_data::DataError;
use greenroom_model::query::Query;
use greenroom_model::*;

use crate::builds::plan::{Begun, Plan, PlannedStep, STDIO, buildset_of, runs_commands, step_names};
use crate::builds::tally::{Interruption, Rules, Tally};
use crate::handles::Handles;
use crate::properties::{CONFIGURATION, source};
use crate::runner::WorkerPlace;
use crate::setup::Began;
use crate::steps::StepEnd;

/// The property by which a stop outlives the actor that was told of it.
pub(crate) const STOP_PROPERTY: &str = "stop_reason";

/// A build as its records show it.
#[derive(Debug)]
pub(crate) struct Resumed {
    pub plan: Plan,
    pub tally: Tally,
    /// The first step that has not ended.
    pub from: usize,
}

/// What the records say about a build.
#[derive(Debug)]
pub(crate) enum Records {
    /// It has ended, or there is none.
    Ended,
    /// It cannot be taken up: the reason.
    Unusable(String),
    /// It goes on.
    Running(Box<Resumed>),
}

/// Reads the records of a build. The caller has made sure that nothing is under way any more ([`Handles::barrier`]).
/// A build that is known to have begun with something keeps that, whatever the configuration says by now.
pub(crate) async fn read(h: &Handles, id: BuildId, began: Option<Began>) -> Result<Records, DataError> {
    let Some(build) = h.ro().get::<Build>(id.0).await?.value.map(|shown| shown.entity) else {
        return Ok(Records::Ended);
    };
    if build.complete_at.is_some() || build.master != h.me() {
        return Ok(Records::Ended);
    }
    let Some(request) = h.ro().get::<BuildRequest>(build.request.0).await?.value else {
        return Ok(Records::Unusable("its request is gone".to_owned()));
    };
    let buildset = buildset_of(h, &request).await?;
    let properties = h.ro().build_properties(&[id]).await?.value.remove(&id).unwrap_or_default();
    let Some(began) = began.or_else(|| recorded(h, &build, &properties)) else {
        return Ok(Records::Unusable("its builder or worker is not configured any more".to_owned()));
    };
    let Began { configuration, recipe, worker } = began;
    let recipe = &recipe;
    let steps = steps_of(h, id).await?;
    let names = step_names(recipe);
    let mut planned = Vec::with_capacity(names.len());
    for (number, name) in (1_i64..).zip(names) {
        match steps.iter().find(|step| step.number == number && step.name == name) {
            Some(step) => planned.push(PlannedStep { id: step.id, name }),
            None => return Ok(Records::Unusable("its recipe has changed".to_owned())),
        }
    }
    // The worker may be away: then the command's end will be told as lost, and until then no path is needed.
    let place = h.runner.place(build.worker).unwrap_or_else(|| place_in(&properties));
    let (tally, from) = replay(&steps, recipe, &properties);
    let mut plan = Plan {
        build,
        configuration,
        recipe: Arc::clone(recipe),
        worker,
        place,
        stamps: buildset.sourcestamps.clone(),
        properties: (*properties).clone(),
        steps: planned,
        begun: None,
        fault: None,
    };
    plan.begun = begun(h, &plan, &steps, from).await?;
    Ok(Records::Running(Box::new(Resumed { plan, tally, from })))
}

/// What a build began with by its records: the version that it names, or the one in force if that is not kept any more (then
/// its steps must be the same).
fn recorded(h: &Handles, build: &Build, properties: &Properties) -> Option<Began> {
    let named = properties.get(CONFIGURATION).and_then(|it| it.0.as_i64());
    let known = named.and_then(|number| h.setups.began(number, build.builder, build.worker));
    known.or_else(|| h.setups.began(h.setup().number, build.builder, build.worker))
}

async fn steps_of(h: &Handles, id: BuildId) -> Result<Vec<Arc<Step>>, DataError> {
    let query = Query::default().eq("buildid", id.0).order_by("number", false);
    Ok(h.ro().list::<Step>(query).await?.value.items.into_iter().map(|shown| shown.entity).collect())
}

fn place_in(properties: &Properties) -> WorkerPlace {
    let basedir = properties.get("basedir").and_then(|it| it.0.as_str()).unwrap_or_default().to_owned();
    WorkerPlace { windows: basedir.contains('\\'), basedir }
}

/// Counts the steps that have ended, as the first birth did, and finds the first that has not.
fn replay(steps: &[Arc<Step>], recipe: &crate::setup::Recipe, properties: &Properties) -> (Tally, usize) {
    let mut tally = Tally::default();
    let mut from = recipe.config.steps.len();
    for (index, config) in recipe.config.steps.iter().enumerate().rev() {
        let number = i64::try_from(index + 1).unwrap_or(i64::MAX);
        if steps.iter().any(|step| step.number == number && step.complete_at.is_none()) {
            from = index;
        }
        if let Some(ended) = steps.iter().find(|step| step.number == number && step.results.is_some()) {
            let end = StepEnd::new(ended.results.unwrap_or(Results::Success), ended.state_string.clone());
            tally.add(Rules::of(config), &ended.name, &end);
        }
    }
    if let Some(Property(reason, by)) = properties.get(STOP_PROPERTY)
        && by == source::STOP
    {
        let reason = reason.as_str().unwrap_or_default().to_owned();
        tally.interrupt(&Interruption::Stop { reason });
    }
    (tally, from)
}

/// The step that was running, with its log and command.
async fn begun(
    h: &Handles,
    plan: &Plan,
    steps: &[Arc<Step>],
    from: usize,
) -> Result<Option<Begun>, DataError> {
    let (Some(planned), Some(config)) = (plan.steps.get(from), plan.recipe.config.steps.get(from)) else {
        return Ok(None);
    };
    let step = steps.iter().find(|step| step.id == planned.id);
    let Some(step) = step.filter(|step| step.started_at.is_some() && runs_commands(&config.action)) else {
        return Ok(None);
    };
    let logs = h.ro().list::<Log>(Query::default().eq("stepid", step.id.0)).await?.value.items;
    let log = logs.iter().find(|log| log.name == STDIO && !log.complete).map(|log| log.id);
    Ok(Some(Begun { index: from, log, command: step.command.clone(), perhaps_sent: step.command.is_some() }))
}
