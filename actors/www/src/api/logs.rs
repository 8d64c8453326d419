//! Logs: the entity, and its text as `contents`, `raw` and `raw_inline`, and searched.

use greenroom_data::Shown;
use greenroom_model::{FieldValue, Log};

use super::log_search::search;
use super::log_text::{contents, raw};
use super::steps::step_at;
use crate::collection;
use crate::error::ApiError;
use crate::router::{Arg, Call, Route, route};

/// The five views of a log at one kind of address.
macro_rules! views {
    ($log:expr, $find:expr) => {
        [
            route!($log, "logs", c => async { collection::found(&c, $find(&c).await?).await }),
            route!(concat!($log, "/contents"), "logchunks", c => async { contents(&c, $find(&c).await?).await }),
            route!(concat!($log, "/raw"), "logchunks", c => async { raw(&c, $find(&c).await?, true).await }),
            route!(concat!($log, "/raw_inline"), "logchunks", c => async { raw(&c, $find(&c).await?, false).await }),
            route!(concat!($log, "/search"), "logmatches", c => async { search(&c, $find(&c).await?).await }),
        ]
    };
}

const BY_ID: [Route; 5] = views!("logs/n:logid", by_id);
const OF_STEP: [Route; 5] = views!("steps/n:stepid/logs/i:log_slug", of_step);
const OF_BUILD_NUMBER: [Route; 5] = views!("builds/n:buildid/steps/n:step_number/logs/i:log_slug", of_build);
const OF_BUILD_NAME: [Route; 5] = views!("builds/n:buildid/steps/i:step_name/logs/i:log_slug", of_build);
const OF_BUILDER_ID_NUMBER: [Route; 5] =
    views!("builders/n:builderid/builds/n:build_number/steps/n:step_number/logs/i:log_slug", of_builder);
const OF_BUILDER_ID_NAME: [Route; 5] =
    views!("builders/n:builderid/builds/n:build_number/steps/i:step_name/logs/i:log_slug", of_builder);
const OF_BUILDER_NAME_NUMBER: [Route; 5] =
    views!("builders/s:buildername/builds/n:build_number/steps/n:step_number/logs/i:log_slug", of_builder);
const OF_BUILDER_NAME_NAME: [Route; 5] =
    views!("builders/s:buildername/builds/n:build_number/steps/i:step_name/logs/i:log_slug", of_builder);

pub(super) const ROUTES: &[Route] = &super::root::join::<40>(&[
    &BY_ID,
    &OF_STEP,
    &OF_BUILD_NUMBER,
    &OF_BUILD_NAME,
    &OF_BUILDER_ID_NUMBER,
    &OF_BUILDER_ID_NAME,
    &OF_BUILDER_NAME_NUMBER,
    &OF_BUILDER_NAME_NAME,
]);

type Found = Result<Option<Shown<Log>>, ApiError>;

async fn by_id(call: &Call) -> Found {
    Ok(call.www.ro.get::<Log>(call.number(0)?).await?.value)
}

async fn of_step(call: &Call) -> Found {
    in_step(call, call.number(0)?, 1).await
}

async fn of_build(call: &Call) -> Found {
    match step_at(call, false).await? {
        Some((step, next)) => in_step(call, step.id.0, next).await,
        None => Ok(None),
    }
}

async fn of_builder(call: &Call) -> Found {
    match step_at(call, true).await? {
        Some((step, next)) => in_step(call, step.id.0, next).await,
        None => Ok(None),
    }
}

async fn in_step(call: &Call, step: i64, slug: usize) -> Found {
    let Arg::Text(slug) = call.arg(slug)? else { return Ok(None) };
    collection::first(call, [("stepid", step.into()), ("slug", FieldValue::Text(slug.clone()))]).await
}
