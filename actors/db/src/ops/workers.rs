//! Workers: connections, pausing, stopping.

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
    let (master, at) = (unit.master, unit.at);
    let worker = unit.get::<Worker>(worker).await?;
    if worker.connected_to.contains(&master) {
        unit.change(&worker, EventName::Disconnected, |w| {
            w.connected_to.retain(|m| *m != master);
            w.changed_at = Some(at);
        });
    }
    Ok(())
}

/// At the start and end of this master.
pub async fn disconnect_all(unit: &mut Unit<'_>) -> Result<(), Fault> {
    for worker in unit.every::<Worker>().await? {
        disconnect(unit, worker.id).await?;
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
