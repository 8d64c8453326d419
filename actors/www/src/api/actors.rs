//! `actors`: the live tree of supervised actors.

use greenroom_model::query::Field;
use serde_json::Value;

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Arg, Call, Route, route};
use crate::rows;

// Names have a part before a `/` and one behind it, or none; a `/` in the second part is written `%2F`.
pub(super) const ROUTES: &[Route] = &[
    route!("actors", "actors", c => actors(&c)),
    route!("actors/s:name", "actors", c => actor(&c)),
    route!("actors/s:kind/s:name", "actors", c => actor(&c)),
];

const FIELDS: &[Field] = rows::row_fields![
    "name": Text, "kind": Text, "parent": Text, "masterid": Int, "state": Text, "until": Int, "policy": Nested,
    "strategy": Text, "origins": Nested, "births": Int, "restarts": Int, "intensity": Int, "own_intensity": Bool,
    "period_ms": Int, "exits": Nested, "queue_depth": Int, "in_flight": Int, "queue_bound": Int, "handled": Int,
    "slowest": Nested, "stalls": Int, "held_ms": Int, "observed": Nested,
];

async fn tree(call: &Call) -> impl Iterator<Item = Value> {
    let me = call.www.ro.me();
    let reports = call.www.runtime.reports().await;
    reports.into_iter().filter_map(move |report| {
        let mut row = serde_json::to_value(report).ok()?;
        row["masterid"] = me.0.into();
        Some(row)
    })
}

async fn actors(call: &Call) -> Result<Answer, ApiError> {
    let rows = tree(call).await.collect();
    collection::plain(call, "actors", FIELDS, rows)
}

async fn actor(call: &Call) -> Result<Answer, ApiError> {
    let parts = call.args.iter().map(|it| match it {
        Arg::Number(number) => number.to_string(),
        Arg::Text(text) => text.clone(),
    });
    let name = parts.collect::<Vec<_>>().join("/");
    let row = tree(call).await.find(|it| it["name"] == name.as_str());
    collection::plain_one(call, "actors", FIELDS, row)
}
