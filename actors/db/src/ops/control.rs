//! Control acts: rows that the owner of the target answers. They are the audit log, too: who asked for what, when, from where, and
//! what came of it, each in the transaction of what it tells.

use std::sync::Arc;

use greenroom_model::write::NewControl;
use greenroom_model::*;

use crate::engine::{Cond, Select};
use crate::schema::*;
use crate::work::{Fault, Unit};

pub async fn ask(unit: &mut Unit<'_>, new: &NewControl) -> Result<Outcome, Fault> {
    if let Some(known) = known(unit, new).await? {
        let same = known.target == new.target && known.action == new.action && known.params == new.params;
        if !same {
            return Err(Refusal::KeyUsed(new.key.clone().unwrap_or_default()).into());
        }
        return Ok(Outcome::Control(known));
    }
    let act = ControlAct {
        id: new.id,
        identity: new.identity.clone(),
        key: new.key.clone(),
        target: new.target.clone(),
        action: new.action.clone(),
        params: new.params.clone(),
        requested_at: unit.at,
        answer: None,
        answered_at: None,
        version: 1,
        came_from: new.came_from.clone(),
    };
    if let Some(key) = &act.key {
        unit.cache.control_keys.put((act.identity.clone(), key.clone()), act.id.0);
    }
    Ok(Outcome::Control(unit.add(act, EventName::Requested)))
}

async fn known(unit: &mut Unit<'_>, new: &NewControl) -> Result<Option<Arc<ControlAct>>, Fault> {
    let Some(key) = &new.key else { return Ok(None) };
    if let Some(id) = unit.cache.control_keys.get(&(new.identity.clone(), key.clone())).copied() {
        return unit.find::<ControlAct>(id).await;
    }
    let select = Select::from(&CONTROL_ACTS)
        .filter(Cond::eq("identity", new.identity.as_str()))
        .filter(Cond::eq("act_key", key.as_str()));
    match unit.first(select).await? {
        Some(mut fields) => {
            let id = fields.int()?;
            unit.find::<ControlAct>(id).await
        }
        None => Ok(None),
    }
}

pub async fn answer(unit: &mut Unit<'_>, id: ControlId, answer: &ControlAnswer) -> Result<(), Fault> {
    let at = unit.at;
    let act = unit.get::<ControlAct>(id).await?;
    if act.answer.is_some() {
        // Whoever answers again did again what the act asks for: that effect stands in the same write and must not happen.
        return Err(Refusal::Final(format!("control act {id}")).into());
    }
    unit.change(&act, EventName::Answered, |a| {
        a.answer = Some(answer.clone());
        a.answered_at = Some(at);
    });
    Ok(())
}
