//! `masters`, and what belongs to one.

use greenroom_model::{Builder, ChangeSource, Master, MasterId, Scheduler, Worker};

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("masters", "masters", c => collection::all::<Master>(&c)),
    route!("masters/n:masterid", "masters", c => async { collection::one::<Master>(&c, c.number(0)?).await }),
    route!("masters/n:masterid/builders", "builders", c => builders(&c)),
    route!("masters/n:masterid/builders/n:builderid", "builders", c => builder(&c)),
    route!("masters/n:masterid/builders/n:builderid/workers", "workers", c => builder_workers(&c)),
    route!("masters/n:masterid/workers", "workers", c => workers(&c)),
    route!("masters/n:masterid/workers/n:workerid", "workers", c => worker(&c)),
    route!("masters/n:masterid/workers/i:name", "workers", c => worker(&c)),
    route!("masters/n:masterid/schedulers", "schedulers", c => schedulers(&c)),
    route!("masters/n:masterid/schedulers/n:schedulerid", "schedulers", c => scheduler(&c)),
    route!("masters/n:masterid/changesources", "changesources", c => change_sources(&c)),
    route!("masters/n:masterid/changesources/n:changesourceid", "changesources", c => change_source(&c)),
];

async fn builders(call: &Call) -> Result<Answer, ApiError> {
    let master = MasterId(call.number(0)?);
    let ids = call.hot.builders.values().filter(|it| it.masters.contains(&master)).map(|it| it.id.0);
    collection::with_ids::<Builder>(call, ids).await
}

async fn builder(call: &Call) -> Result<Answer, ApiError> {
    let master = MasterId(call.number(0)?);
    let builder = call.hot.builders.get(&call.number(1)?).filter(|it| it.masters.contains(&master));
    collection::found(call, builder.cloned()).await
}

fn belongs(worker: &Worker, master: MasterId) -> bool {
    worker.connected_to.contains(&master) || worker.configured_on.iter().any(|(m, _)| *m == master)
}

async fn workers(call: &Call) -> Result<Answer, ApiError> {
    let master = MasterId(call.number(0)?);
    let ids = call.hot.workers.values().filter(|it| belongs(it, master)).map(|it| it.id.0);
    collection::with_ids::<Worker>(call, ids).await
}

async fn worker(call: &Call) -> Result<Answer, ApiError> {
    let master = MasterId(call.number(0)?);
    let worker = super::workers::worker_at(call, 1)?.filter(|it| belongs(it, master));
    collection::found(call, worker).await
}

async fn builder_workers(call: &Call) -> Result<Answer, ApiError> {
    let wanted = (MasterId(call.number(0)?), greenroom_model::BuilderId(call.number(1)?));
    let ids = call.hot.workers.values().filter(|it| it.configured_on.contains(&wanted)).map(|it| it.id.0);
    collection::with_ids::<Worker>(call, ids).await
}

async fn schedulers(call: &Call) -> Result<Answer, ApiError> {
    let master = Some(MasterId(call.number(0)?));
    let ids = call.hot.schedulers.values().filter(|it| it.master == master).map(|it| it.id.0);
    collection::with_ids::<Scheduler>(call, ids).await
}

async fn scheduler(call: &Call) -> Result<Answer, ApiError> {
    let master = Some(MasterId(call.number(0)?));
    let found = call.hot.schedulers.get(&call.number(1)?).filter(|it| it.master == master);
    collection::found(call, found.cloned()).await
}

async fn change_sources(call: &Call) -> Result<Answer, ApiError> {
    let master = Some(MasterId(call.number(0)?));
    let ids = call.hot.change_sources.values().filter(|it| it.master == master).map(|it| it.id.0);
    collection::with_ids::<ChangeSource>(call, ids).await
}

async fn change_source(call: &Call) -> Result<Answer, ApiError> {
    let master = Some(MasterId(call.number(0)?));
    let found = call.hot.change_sources.get(&call.number(1)?).filter(|it| it.master == master);
    collection::found(call, found.cloned()).await
}
