//! `audit`: who asked for what, newest first. A control act is its own entry, written with its effect and its answer.

use std::sync::Arc;

use greenroom_config::Settings;
use greenroom_config::mask::Masks;
use greenroom_config::values::Secret;
use greenroom_model::{ControlAct, ControlTarget};
use serde_json::Value;

use crate::collection;
use crate::error::ApiError;
use crate::identity::may_read_audit;
use crate::json;
use crate::query::Params;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] =
    &[route!("audit", "audit", c => all(c)), route!("audit/n:controlid", "audit", c => one(c))];

/// The length of a page whose length nobody named: the log may be long.
const PAGE: &str = "100";
/// What the rows are sorted by where nobody says otherwise.
const NEWEST_FIRST: &str = "-controlid";

async fn all(call: Call) -> Result<Answer, ApiError> {
    allowed(&call)?;
    let mut params: Params = Vec::clone(&call.params);
    as_stored(&mut params)?;
    let has = |params: &Params, wanted: &str| params.iter().any(|(name, _)| name == wanted);
    let selected =
        |params: &Params| params.iter().any(|(name, value)| name == "field" && value == "controlid");
    if !has(&params, "order") && (!has(&params, "field") || selected(&params)) {
        params.push(("order".to_owned(), NEWEST_FIRST.to_owned()));
    }
    if !has(&params, "limit") {
        params.push(("limit".to_owned(), PAGE.to_owned()));
    }
    let call = Call { params: params.into(), ..call };
    let answer = collection::all::<ControlAct>(&call).await?;
    Ok(masked(answer, &masks(&call.settings)))
}

async fn one(call: Call) -> Result<Answer, ApiError> {
    allowed(&call)?;
    let answer = collection::one::<ControlAct>(&call, call.number(0)?).await?;
    Ok(masked(answer, &masks(&call.settings)))
}

fn allowed(call: &Call) -> Result<(), ApiError> {
    if may_read_audit(&call.www) { Ok(()) } else { Err(ApiError::Forbidden("the audit log")) }
}

/// Filters name targets as the rows show them: `target=builds/7`.
fn as_stored(params: &mut Params) -> Result<(), ApiError> {
    for (name, value) in params.iter_mut().filter(|(name, _)| name.split("__").next() == Some("target")) {
        let target = ControlTarget::of_path(value).ok_or_else(|| {
            ApiError::BadQuery(format!("{name}={value} names nothing: write builds/7, say"))
        })?;
        *value = target.stored();
    }
    Ok(())
}

fn masks(settings: &Settings) -> Masks {
    Masks::new(settings.secrets.values().into_iter().map(Secret::expose))
}

/// Without the values of secrets that the configuration knows, wherever they stand.
fn masked(answer: Answer, masks: &Masks) -> Answer {
    let Answer::Items(mut items) = answer else { return answer };
    if !masks.is_empty() {
        for item in &mut items.items {
            if let Ok(mut row) = serde_json::from_str(item) {
                mask(&mut row, masks);
                *item = Arc::from(json::compact(&row));
            }
        }
    }
    Answer::Items(items)
}

fn mask(value: &mut Value, masks: &Masks) {
    match value {
        Value::String(text) => *text = masks.mask(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, masks)),
        Value::Object(map) => map.values_mut().for_each(|value| mask(value, masks)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
