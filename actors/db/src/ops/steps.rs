//! Steps.

use std::sync::Arc;

use greenroom_model::*;

use super::{builds, logs};
use crate::engine::Cond;
use crate::work::{Fault, Unit};

pub async fn add(
    unit: &mut Unit<'_>,
    id: StepId,
    build: BuildId,
    number: i64,
    name: &str,
    hidden: bool,
) -> Result<(), Fault> {
    builds::running(unit, build).await?;
    let open = open_of(unit, build).await?;
    let step = Step {
        id,
        number,
        name: name.to_owned(),
        build,
        started_at: None,
        locks_acquired_at: None,
        complete_at: None,
        results: None,
        state_string: "pending".to_owned(),
        urls: Vec::new(),
        hidden,
        command: None,
        version: 1,
    };
    unit.add(step, EventName::New);
    unit.cache.steps_of.put(build.0, Arc::new(open.iter().copied().chain([id.0]).collect()));
    unit.cache.logs_of.put(id.0, Arc::default());
    unit.cache.slugs_of.put(id.0, Arc::default());
    Ok(())
}

/// The ids of a build's open steps.
async fn open_of(unit: &mut Unit<'_>, build: BuildId) -> Result<Arc<Vec<i64>>, Fault> {
    if let Some(known) = unit.cache.steps_of.get(&build.0) {
        return Ok(Arc::clone(known));
    }
    let open = unit.find_where::<Step>("buildid", &[build.0], &[Cond::eq("complete", 0)]).await?;
    let ids = Arc::new(open.iter().map(|s| s.id.0).collect());
    Ok(Arc::clone(unit.cache.steps_of.learn(build.0, ids)))
}

/// Reads the open steps of builds at once; gives their ids.
pub async fn foresee(unit: &mut Unit<'_>, builds: &[i64]) -> Result<Vec<i64>, Fault> {
    let open = unit.find_where::<Step>("buildid", builds, &[Cond::eq("complete", 0)]).await?;
    for build in builds {
        let ids = open.iter().filter(|step| step.build.0 == *build).map(|step| step.id.0).collect();
        unit.cache.steps_of.learn(*build, Arc::new(ids));
    }
    Ok(open.iter().map(|step| step.id.0).collect())
}

/// A step that has not ended.
pub async fn open(unit: &mut Unit<'_>, id: StepId) -> Result<Arc<Step>, Fault> {
    let step = unit.get::<Step>(id).await?;
    if step.complete_at.is_some() {
        return Err(Refusal::Final(format!("step {id}")).into());
    }
    Ok(step)
}

pub async fn start(unit: &mut Unit<'_>, id: StepId, state_string: &str) -> Result<(), Fault> {
    let at = unit.at;
    let step = open(unit, id).await?;
    if step.started_at.is_some() {
        return Ok(());
    }
    unit.change(&step, EventName::Started, |s| {
        s.started_at = Some(at);
        s.locks_acquired_at = Some(at);
        s.state_string = state_string.to_owned();
    });
    Ok(())
}

/// The command's id concerns only the build's owner: no event, so no new version.
pub async fn set_command(unit: &mut Unit<'_>, id: StepId, command: &str) -> Result<(), Fault> {
    let step = open(unit, id).await?;
    unit.change_quietly(&step, |s| s.command = Some(command.to_owned()));
    Ok(())
}

pub async fn describe(
    unit: &mut Unit<'_>,
    id: StepId,
    state_string: Option<&str>,
    urls: &[Url],
) -> Result<(), Fault> {
    let step = open(unit, id).await?;
    let new: Vec<Url> = urls.iter().filter(|url| !step.urls.contains(url)).cloned().collect();
    let text = state_string.filter(|text| *text != step.state_string);
    if text.is_some() || !new.is_empty() {
        unit.change(&step, EventName::Updated, |s| {
            if let Some(text) = text {
                s.state_string = text.to_owned();
            }
            s.urls.extend(new);
        });
    }
    Ok(())
}

pub async fn finish(
    unit: &mut Unit<'_>,
    id: StepId,
    results: Results,
    state_string: &str,
    hidden: bool,
) -> Result<(), Fault> {
    let at = unit.at;
    let step = open(unit, id).await?;
    logs::finish_open(unit, id).await?;
    unit.change(&step, EventName::Finished, |s| {
        s.complete_at = Some(at);
        s.results = Some(results);
        s.state_string = state_string.to_owned();
        s.hidden = hidden;
    });
    let open = open_of(unit, step.build).await?;
    unit.cache.steps_of.put(step.build.0, Arc::new(open.iter().copied().filter(|s| *s != id.0).collect()));
    Ok(())
}

/// Ends a build's open steps with it; what they did when last seen says nothing of how they ended.
pub async fn finish_open(unit: &mut Unit<'_>, build: BuildId, results: Results) -> Result<(), Fault> {
    let text = if results == Results::Retry { "lost" } else { results.word() };
    for id in open_of(unit, build).await?.iter() {
        let step = unit.get::<Step>(StepId(*id)).await?;
        finish(unit, step.id, results, text, step.hidden).await?;
    }
    Ok(())
}
