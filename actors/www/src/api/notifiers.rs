//! `notifiers`, and their messages: what waits, and what became of the last ones.

use greenroom_data::Shown;
use greenroom_model::{Delivery, FieldValue, Notifier};

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Arg, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("notifiers", "notifiers", c => collection::all::<Notifier>(&c)),
    route!("notifiers/n:notifierid", "notifiers", c => one(&c)),
    route!("notifiers/s:notifiername", "notifiers", c => one(&c)),
    route!("notifiers/n:notifierid/deliveries", "deliveries", c => deliveries(&c)),
    route!("notifiers/s:notifiername/deliveries", "deliveries", c => deliveries(&c)),
    route!("deliveries", "deliveries", c => collection::all::<Delivery>(&c)),
    route!("deliveries/n:deliveryid", "deliveries",
        c => async { collection::one::<Delivery>(&c, c.number(0)?).await }),
];

/// The notifier named or numbered first in the path.
async fn notifier(call: &Call) -> Result<Option<Shown<Notifier>>, ApiError> {
    let (field, value) = match call.arg(0)? {
        Arg::Number(id) => ("notifierid", FieldValue::Int(*id)),
        Arg::Text(name) => ("name", FieldValue::Text(name.to_string())),
    };
    collection::first::<Notifier>(call, [(field, value)]).await
}

async fn one(call: &Call) -> Result<Answer, ApiError> {
    collection::found(call, notifier(call).await?).await
}

async fn deliveries(call: &Call) -> Result<Answer, ApiError> {
    match notifier(call).await? {
        Some(notifier) => collection::of::<Delivery>(call, "notifier", notifier.name.as_str()).await,
        None => Err(call.not_found()),
    }
}
