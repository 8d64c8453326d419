//! `workers`, and what belongs to one.

use greenroom_data::Shown;
use greenroom_model::{Build, Builder, Worker};

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Arg, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("workers", "workers", c => collection::all::<Worker>(&c)),
    route!("workers/n:workerid", "workers", c => one(&c)),
    route!("workers/i:name", "workers", c => one(&c)),
    route!("workers/n:workerid/builders", "builders", c => builders(&c)),
    route!("workers/n:workerid/builds", "builds",
        c => async { collection::of::<Build>(&c, "workerid", c.number(0)?).await }),
];

/// The worker named or numbered at `index` of the path.
pub(super) fn worker_at(call: &Call, index: usize) -> Result<Option<Shown<Worker>>, ApiError> {
    Ok(match call.arg(index)? {
        Arg::Number(id) => call.hot.workers.get(id).cloned(),
        Arg::Text(name) => call.hot.worker_named(name).cloned(),
    })
}

async fn one(call: &Call) -> Result<Answer, ApiError> {
    collection::found(call, worker_at(call, 0)?).await
}

async fn builders(call: &Call) -> Result<Answer, ApiError> {
    let worker = worker_at(call, 0)?;
    collection::with_ids::<Builder>(call, worker.iter().flat_map(|w| &w.configured_on).map(|(_, b)| b.0))
        .await
}
