//! `builders`, and what belongs to one.

use greenroom_data::Shown;
use greenroom_model::{Build, BuildRequest, Builder, Master, Worker, wire};
use serde_json::Value;

use crate::collection;
use crate::error::ApiError;
use crate::json;
use crate::router::{Answer, Arg, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("builders", "builders", c => collection::all::<Builder>(&c)),
    route!("builders/n:builderid", "builders", c => one(&c)),
    route!("builders/s:buildername", "builders", c => one(&c)),
    route!("builders/n:builderid/builds", "builds", c => builds(&c)),
    route!("builders/s:buildername/builds", "builds", c => builds(&c)),
    route!("builders/n:builderid/buildrequests", "buildrequests",
        c => async { collection::of::<BuildRequest>(&c, "builderid", c.number(0)?).await }),
    route!("builders/n:builderid/masters", "masters", c => masters(&c)),
    route!("builders/n:builderid/masters/n:masterid", "masters", c => master(&c)),
    route!("builders/n:builderid/workers", "workers", c => workers(&c)),
    route!("builders/n:builderid/workers/n:workerid", "workers", c => worker(&c)),
    route!("builders/n:builderid/workers/i:name", "workers", c => worker(&c)),
];

/// The builder named or numbered at `index` of the path.
pub(super) fn builder_at(call: &Call, index: usize) -> Result<Option<Shown<Builder>>, ApiError> {
    Ok(match call.arg(index)? {
        Arg::Number(id) => call.hot.builders.get(id).cloned(),
        Arg::Text(name) => call.hot.builder_named(name).cloned(),
    })
}

async fn one(call: &Call) -> Result<Answer, ApiError> {
    collection::found(call, builder_at(call, 0)?).await
}

async fn builds(call: &Call) -> Result<Answer, ApiError> {
    match builder_at(call, 0)? {
        Some(builder) => collection::of::<Build>(call, "builderid", builder.id.0).await,
        None => collection::none::<Build>(call),
    }
}

async fn masters(call: &Call) -> Result<Answer, ApiError> {
    let builder = builder_at(call, 0)?;
    collection::with_ids::<Master>(call, builder.iter().flat_map(|b| &b.masters).map(|m| m.0)).await
}

async fn master(call: &Call) -> Result<Answer, ApiError> {
    let id = call.number(1)?;
    match builder_at(call, 0)?.filter(|b| b.masters.iter().any(|m| m.0 == id)) {
        Some(_) => collection::one::<Master>(call, id).await,
        None => Err(call.not_found()),
    }
}

/// The workers of one builder: each is shown with that builder alone.
async fn workers(call: &Call) -> Result<Answer, ApiError> {
    let id = call.number(0)?;
    let rows = call.hot.workers.values().filter_map(|worker| of_builder(worker, id)).collect();
    collection::plain(call, "workers", greenroom_model::Resource::Workers.fields(), rows)
}

async fn worker(call: &Call) -> Result<Answer, ApiError> {
    let id = call.number(0)?;
    let worker = super::workers::worker_at(call, 1)?;
    let row = worker.and_then(|worker| of_builder(&worker, id));
    collection::plain_one(call, "workers", greenroom_model::Resource::Workers.fields(), row)
}

/// A worker as one of its builders sees it; none if it is not its worker.
fn of_builder(worker: &Worker, builder: i64) -> Option<Value> {
    let mut seen = worker.clone();
    seen.configured_on.retain(|(_, b)| b.0 == builder);
    if seen.configured_on.is_empty() {
        return None;
    }
    serde_json::from_str(&json::compact(&wire::worker(&seen))).ok()
}
