//! `changes`, and what belongs to one.

use greenroom_model::{Build, Change, ChangeId};

use super::builds::{PROPERTY_FIELDS, property_rows};
use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("changes", "changes", c => collection::all::<Change>(&c)),
    route!("changes/n:changeid", "changes", c => async { collection::one::<Change>(&c, c.number(0)?).await }),
    route!("changes/n:changeid/builds", "builds", c => builds(&c)),
    route!("changes/n:changeid/properties_list", "_properties", c => properties_list(&c)),
];

async fn builds(call: &Call) -> Result<Answer, ApiError> {
    let found = call.www.ro.builds_of_change(ChangeId(call.number(0)?)).await?.value;
    collection::with_ids::<Build>(call, found.iter().map(|build| build.id.0)).await
}

async fn properties_list(call: &Call) -> Result<Answer, ApiError> {
    let change = call.www.ro.get::<Change>(call.number(0)?).await?.value.ok_or_else(|| call.not_found())?;
    collection::plain(call, "_properties", PROPERTY_FIELDS, property_rows(&change.properties))
}
