//! This master's own row.

use greenroom_model::*;

use super::workers;
use crate::work::{Fault, Unit};

/// This process takes the master's place with a new epoch: it runs, and no worker is connected to it yet.
pub async fn start(unit: &mut Unit<'_>, epoch: i64) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    let master = unit.get::<Master>(id).await?;
    unit.change(&master, EventName::Started, |m| {
        m.active = true;
        m.last_active = at;
        m.epoch = epoch;
    });
    workers::disconnect_all(unit).await
}

pub async fn heartbeat(unit: &mut Unit<'_>) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    let master = unit.get::<Master>(id).await?;
    unit.change_quietly(&master, |m| m.last_active = at);
    Ok(())
}

pub async fn stop(unit: &mut Unit<'_>) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    workers::disconnect_all(unit).await?;
    let master = unit.get::<Master>(id).await?;
    if master.active {
        unit.change(&master, EventName::Stopped, |m| {
            m.active = false;
            m.last_active = at;
        });
    }
    unit.out.released = true;
    Ok(())
}
