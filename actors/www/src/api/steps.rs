//! Steps, by id or below their build.

use greenroom_data::Shown;
use greenroom_model::{Log, Step};

use super::builds::{build_at, step_filter};
use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};

macro_rules! of_build {
    ($build:literal, $below_builder:literal) => {
        [
            route!(concat!($build, "/steps"), "steps", c => steps(&c, $below_builder)),
            route!(concat!($build, "/steps/n:step_number"), "steps", c => one(&c, $below_builder)),
            route!(concat!($build, "/steps/i:step_name"), "steps", c => one(&c, $below_builder)),
            route!(concat!($build, "/steps/n:step_number/logs"), "logs", c => logs(&c, $below_builder)),
            route!(concat!($build, "/steps/i:step_name/logs"), "logs", c => logs(&c, $below_builder)),
        ]
    };
}

const OWN: [Route; 2] = [
    route!("steps/n:stepid", "steps", c => async { collection::one::<Step>(&c, c.number(0)?).await }),
    route!("steps/n:stepid/logs", "logs", c => async { collection::of::<Log>(&c, "stepid", c.number(0)?).await }),
];
const OF_BUILD: [Route; 5] = of_build!("builds/n:buildid", false);
const OF_BUILDER_ID: [Route; 5] = of_build!("builders/n:builderid/builds/n:build_number", true);
const OF_BUILDER_NAME: [Route; 5] = of_build!("builders/s:buildername/builds/n:build_number", true);

pub(super) const ROUTES: &[Route] =
    &super::root::join::<17>(&[&OWN, &OF_BUILD, &OF_BUILDER_ID, &OF_BUILDER_NAME]);

/// The step that a path below a build names.
pub(super) async fn step_at(
    call: &Call,
    below_builder: bool,
) -> Result<Option<(Shown<Step>, usize)>, ApiError> {
    let Some((build, next)) = build_at(call, below_builder).await? else { return Ok(None) };
    let step = collection::first(call, [("buildid", build.into()), step_filter(call.arg(next)?)]).await?;
    Ok(step.map(|step| (step, next + 1)))
}

async fn steps(call: &Call, below_builder: bool) -> Result<Answer, ApiError> {
    match build_at(call, below_builder).await? {
        Some((build, _)) => collection::of::<Step>(call, "buildid", build).await,
        None => collection::none::<Step>(call),
    }
}

async fn one(call: &Call, below_builder: bool) -> Result<Answer, ApiError> {
    collection::found(call, step_at(call, below_builder).await?.map(|(step, _)| step)).await
}

async fn logs(call: &Call, below_builder: bool) -> Result<Answer, ApiError> {
    match step_at(call, below_builder).await? {
        Some((step, _)) => collection::of::<Log>(call, "stepid", step.id.0).await,
        None => collection::none::<Log>(call),
    }
}
