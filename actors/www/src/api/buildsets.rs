//! `buildsets`, and what belongs to one.

use greenroom_model::{Buildset, BuildsetId, SourceStamp};

use super::builds::{PROPERTY_FIELDS, only_properties, property_rows};
use crate::collection;
use crate::error::ApiError;
use crate::json;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("buildsets", "buildsets", c => collection::all::<Buildset>(&c)),
    route!("buildsets/n:bsid", "buildsets", c => async { collection::one::<Buildset>(&c, c.number(0)?).await }),
    route!("buildsets/n:bsid/sourcestamps", "sourcestamps", c => sourcestamps(&c)),
    route!("buildsets/n:bsid/properties", "properties", c => properties(&c)),
    route!("buildsets/n:bsid/properties_list", "_properties", c => properties_list(&c)),
];

async fn sourcestamps(call: &Call) -> Result<Answer, ApiError> {
    let set = call.www.ro.get::<Buildset>(call.number(0)?).await?.value;
    collection::with_ids::<SourceStamp>(call, set.iter().flat_map(|s| &s.sourcestamps).map(|s| s.id.0)).await
}

async fn properties(call: &Call) -> Result<Answer, ApiError> {
    let found = call.www.ro.buildset_properties(BuildsetId(call.number(0)?)).await?;
    let text = found.value.map_or_else(|| "{}".to_owned(), |all| json::compact(&*all));
    only_properties(call, text, found.clock)
}

async fn properties_list(call: &Call) -> Result<Answer, ApiError> {
    let found = call.www.ro.buildset_properties(BuildsetId(call.number(0)?)).await?.value;
    let rows = found.map(|all| property_rows(&all)).unwrap_or_default();
    collection::plain(call, "_properties", PROPERTY_FIELDS, rows)
}
