//! Builds and their properties.

use std::sync::Arc;

use greenroom_model::properties::MAX_PROPERTY_BYTES;
use greenroom_model::write::NewBuild;
use greenroom_model::*;

use super::{buildsets, steps};
use crate::engine::{Cond, Select};
use crate::schema::*;
use crate::work::{Fault, Unit};

pub async fn start(unit: &mut Unit<'_>, new: &NewBuild) -> Result<Outcome, Fault> {
    let request = unit.get::<BuildRequest>(new.request).await?;
    if request.claimed_at.is_some() || request.complete_at.is_some() {
        return Err(Refusal::ClaimLost.into());
    }
    unit.get::<Worker>(new.worker).await?;
    let number = next_number(unit, request.builder).await?;
    buildsets::claim(unit, &request);
    let build = Build {
        id: new.id,
        number,
        builder: request.builder,
        request: request.id,
        worker: new.worker,
        master: unit.master,
        started_at: unit.at,
        complete_at: None,
        locks_duration_s: 0,
        results: None,
        state_string: new.state_string.clone(),
        version: 1,
    };
    let mut build = unit.add(build, EventName::New);
    unit.cache.steps_of.put(new.id.0, Arc::default());
    unit.cache.properties.put(new.id.0, Arc::default());
    if !new.properties.is_empty() {
        build = put_properties(unit, &build, &new.properties).await?;
    }
    Ok(Outcome::Build(build))
}

async fn next_number(unit: &mut Unit<'_>, builder: BuilderId) -> Result<i64, Fault> {
    let last = match unit.cache.numbers.get(&builder.0) {
        Some(last) => *last,
        None => {
            let newest = unit.tx.max(&BUILDS, "number", &[Cond::eq("builderid", builder.0)]).await?;
            *unit.cache.numbers.learn(builder.0, newest.unwrap_or(0))
        }
    };
    unit.cache.numbers.put(builder.0, last + 1);
    Ok(last + 1)
}

/// A build that has not ended.
pub async fn running(unit: &mut Unit<'_>, id: BuildId) -> Result<Arc<Build>, Fault> {
    let build = unit.get::<Build>(id).await?;
    if build.complete_at.is_some() {
        return Err(Refusal::Final(format!("build {id}")).into());
    }
    Ok(build)
}

pub async fn describe(unit: &mut Unit<'_>, id: BuildId, state_string: &str) -> Result<(), Fault> {
    let build = running(unit, id).await?;
    if build.state_string != state_string {
        unit.change(&build, EventName::Update, |b| b.state_string = state_string.to_owned());
    }
    Ok(())
}

pub async fn set_properties(unit: &mut Unit<'_>, id: BuildId, new: &Properties) -> Result<(), Fault> {
    let build = running(unit, id).await?;
    put_properties(unit, &build, new).await?;
    Ok(())
}

pub async fn put_properties(
    unit: &mut Unit<'_>,
    build: &Arc<Build>,
    new: &Properties,
) -> Result<Arc<Build>, Fault> {
    let old = properties(unit, build.id).await?;
    let differs = |(name, value): &(&String, &Property)| old.get(*name) != Some(*value);
    let changed: Properties =
        new.iter().filter(differs).map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, Property(value, _)) in &changed {
        if serde_json::to_string(value).map_or(0, |text| text.len()) > MAX_PROPERTY_BYTES {
            let text = format!("the property {name:?} is larger than {MAX_PROPERTY_BYTES} bytes");
            return Err(Refusal::Invalid(text).into());
        }
    }
    if changed.is_empty() {
        return Ok(Arc::clone(build));
    }
    let mut all = (*old).clone();
    all.extend(changed.clone());
    unit.cache.properties.put(build.id.0, Arc::new(all));
    let build = unit.raise(build, |_| ());
    let announced = BuildProperties { build: build.id, changed, version: build.version };
    unit.announce(EventName::Update, Record::BuildProperties(Arc::new(announced)));
    Ok(build)
}

async fn properties(unit: &mut Unit<'_>, id: BuildId) -> Result<Arc<Properties>, Fault> {
    if let Some(known) = unit.cache.properties.get(&id.0) {
        return Ok(Arc::clone(known));
    }
    let stored = match unit.first(Select::from(&BUILD_PROPERTIES).filter(Cond::eq("buildid", id.0))).await? {
        Some(mut fields) => {
            fields.skip();
            fields.json()?
        }
        None => Properties::new(),
    };
    Ok(Arc::clone(unit.cache.properties.learn(id.0, Arc::new(stored))))
}

pub async fn finish(
    unit: &mut Unit<'_>,
    id: BuildId,
    mut results: Results,
    state_string: &str,
) -> Result<(), Fault> {
    let at = unit.at;
    let build = running(unit, id).await?;
    let request = unit.get::<BuildRequest>(build.request).await?;
    if results == Results::Retry && request.retries >= MAX_RETRIES {
        results = Results::Exception;
    }
    steps::finish_open(unit, id, results).await?;
    unit.change(&build, EventName::Finished, |b| {
        b.complete_at = Some(at);
        b.results = Some(results);
        b.state_string = state_string.to_owned();
    });
    if request.complete_at.is_some() {
        return Ok(());
    }
    if results == Results::Retry {
        buildsets::unclaim(unit, &request);
        return Ok(());
    }
    buildsets::complete_request(unit, &request, results).await
}
