//! `sourcestamps`, and the changes that stand for one.

use greenroom_model::{Change, SourceStamp, SourceStampId};

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("sourcestamps", "sourcestamps", c => collection::all::<SourceStamp>(&c)),
    route!("sourcestamps/n:ssid", "sourcestamps",
        c => async { collection::one::<SourceStamp>(&c, c.number(0)?).await }),
    route!("sourcestamps/n:ssid/changes", "changes", c => changes(&c)),
];

async fn changes(call: &Call) -> Result<Answer, ApiError> {
    let stamps = vec![SourceStampId(call.number(0)?)];
    let changes = call.www.ro.changes_of_stamps(stamps).await?.value;
    collection::with_ids::<Change>(call, changes.iter().map(|change| change.id.0)).await
}
