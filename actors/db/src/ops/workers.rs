//! Workers: connections, pausing, stopping.

use std::sync::Arc;

use greenroom_model::*;

use crate::work::{Fault, Unit};

pub async fn connect(unit: &mut Unit<'_>, worker: WorkerId, info: &WorkerInfo) -> Result<(), Fault> {
    let (master, at) = (unit.master, unit.at);
    let worker = unit.get::<Worker>(worker).await?;
    unit.change(&worker, EventName::Connected, |w| {
        w.info = Some(info.clone());
        w.connected_to.retain(|m| *m != master);
        w.connected_to.push(master);
        w.changed_at = Some(at);
    });
    Ok(())
}

pub async fn disconnect(unit: &mut Unit<'_>, worker: WorkerId) -> Result<(), Fault> {
    let master = unit.master;
    let worker = unit.get::<Worker>(worker).await?;
    disconnect_from(unit, &worker, master);
    Ok(())
}

fn disconnect_from(unit: &mut Unit<'_>, worker: &Arc<Worker>, master: MasterId) {
    let at = unit.at;
    if worker.connected_to.contains(&master) {
        unit.change(worker, EventName::Disconnected, |w| {
            w.connected_to.retain(|m| *m != master);
            w.changed_at = Some(at);
        });
    }
}

/// At the start and end of a master.
pub async fn disconnect_all(unit: &mut Unit<'_>, master: MasterId) -> Result<(), Fault> {
    for worker in unit.every::<Worker>().await? {
        disconnect_from(unit, &worker, master);
    }
    Ok(())
}

pub async fn pause(
    unit: &mut Unit<'_>,
    worker: WorkerId,
    paused: bool,
    reason: Option<&str>,
) -> Result<(), Fault> {
    let worker = unit.get::<Worker>(worker).await?;
    let reason = reason.filter(|_| paused).map(str::to_owned);
    if (worker.paused, &worker.pause_reason) != (paused, &reason) {
        unit.change(&worker, EventName::StateUpdated, |w| {
            w.paused = paused;
            w.pause_reason = reason;
        });
    }
    Ok(())
}

pub async fn set_graceful(unit: &mut Unit<'_>, worker: WorkerId, graceful: bool) -> Result<(), Fault> {
    let worker = unit.get::<Worker>(worker).await?;
    if worker.graceful != graceful {
        unit.change(&worker, EventName::StateUpdated, |w| w.graceful = graceful);
    }
    Ok(())
}
