//! `actors`: the live tree of supervised actors.

use greenroom_model::query::Field;

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};
use crate::rows;

pub(super) const ROUTES: &[Route] = &[route!("actors", "actors", c => actors(&c))];

const FIELDS: &[Field] = rows::row_fields![
    "name": Text, "kind": Text, "parent": Text, "state": Text, "until": Int, "births": Int, "restarts": Int,
    "intensity": Int, "period_ms": Int, "exits": Nested, "queue_depth": Int, "in_flight": Int, "queue_bound": Int,
    "handled": Int, "slowest": Nested, "stalls": Int, "observed": Nested,
];

async fn actors(call: &Call) -> Result<Answer, ApiError> {
    let reports = call.www.runtime.reports().await;
    let rows = reports.iter().filter_map(|report| serde_json::to_value(report).ok()).collect();
    collection::plain(call, "actors", FIELDS, rows)
}
