//! `configurations`: the numbered versions of each master's configuration; the newest of a master is in force. And how this
//! master stands to its own.

use greenroom_model::ConfigurationVersion;
use greenroom_model::query::Field;
use serde_json::json;

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};
use crate::rows;

pub(super) const ROUTES: &[Route] = &[
    route!("configurations", "configurations", c => collection::all::<ConfigurationVersion>(&c)),
    route!("configurations/n:configurationid", "configurations",
        c => async { collection::one::<ConfigurationVersion>(&c, c.number(0)?).await }),
    route!("masters/n:masterid/configurations", "configurations",
        c => async { collection::of::<ConfigurationVersion>(&c, "masterid", c.number(0)?).await }),
    route!("masters/n:masterid/reload", "reloads", c => reload(&c)),
];

const RELOAD_FIELDS: &[Field] = rows::row_fields![
    "masterid": Int, "number": Int, "refused_at": Int, "refusal": Text, "next_start": Nested,
];

/// How the last reload of this master went. Nothing is stored of refused ones, so others are not known here.
async fn reload(call: &Call) -> Result<Answer, ApiError> {
    let (me, asked) = (call.www.ro.me().0, call.number(0)?);
    let configured = call.www.configured();
    let state = &configured.state;
    let row = (me == asked).then(|| {
        json!({
            "masterid": me, "number": state.number,
            "refused_at": state.refused_at.map(|at| at.div_euclid(1_000_000)),
            "refusal": state.refusal, "next_start": state.next_start,
        })
    });
    collection::plain_one(call, "reloads", RELOAD_FIELDS, row)
}
