//! Schedulers, and the states that schedulers, change sources and status listeners keep.

use greenroom_model::write::{ListenerRecord, SchedulerState};
use greenroom_model::*;
use serde_json::Value;

use super::claims;
use crate::rows::json;
use crate::schema::*;
use crate::work::{Fault, Unit};

pub async fn save(unit: &mut Unit<'_>, id: SchedulerId, state: &SchedulerState) -> Result<(), Fault> {
    let scheduler = unit.get::<Scheduler>(id).await?;
    claims::prove(unit, scheduler.as_ref())?;
    let clock = state.clock.as_ref().map(ToString::to_string);
    unit.upsert(&SCHEDULER_STATES, vec![id.0.into(), clock.into(), json(&state.pending)?]);
    Ok(())
}

pub async fn save_source(unit: &mut Unit<'_>, id: ChangeSourceId, state: &Value) -> Result<(), Fault> {
    let source = unit.get::<ChangeSource>(id).await?;
    claims::prove(unit, source.as_ref())?;
    unit.upsert(&CHANGE_SOURCE_STATES, vec![id.0.into(), json(state)?]);
    Ok(())
}

pub fn save_listener(unit: &mut Unit<'_>, name: &str, state: &ListenerRecord) -> Result<(), Fault> {
    let clock = state.clock.as_ref().map(ToString::to_string);
    unit.upsert(&LISTENERS, vec![name.into(), clock.into(), json(&state.settings)?]);
    Ok(())
}

pub async fn enable(unit: &mut Unit<'_>, id: SchedulerId, enabled: bool) -> Result<(), Fault> {
    let scheduler = unit.get::<Scheduler>(id).await?;
    if scheduler.enabled != enabled {
        unit.change(&scheduler, EventName::Updated, |s| s.enabled = enabled);
    }
    Ok(())
}
