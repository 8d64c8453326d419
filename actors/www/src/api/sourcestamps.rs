//! `sourcestamps`, and the changes that stand for one.

use greenroom_model::{Change, FieldValue, SourceStamp};

use crate::collection;
use crate::error::ApiError;
use crate::router::{Answer, Call, Route, route};

pub(super) const ROUTES: &[Route] = &[
    route!("sourcestamps", "sourcestamps", c => collection::all::<SourceStamp>(&c)),
    route!("sourcestamps/n:ssid", "sourcestamps",
        c => async { collection::one::<SourceStamp>(&c, c.number(0)?).await }),
    route!("sourcestamps/n:ssid/changes", "changes", c => changes(&c)),
];

/// Found by what a change and its source stamp have in common, then told apart by the source stamp's id.
async fn changes(call: &Call) -> Result<Answer, ApiError> {
    let id = call.number(0)?;
    let Some(stamp) = call.www.ro.get::<SourceStamp>(id).await?.value else {
        return collection::none::<Change>(call);
    };
    let text = |value: &str| FieldValue::Text(value.to_owned());
    let mut alike = vec![
        ("repository", text(&stamp.repository)),
        ("codebase", text(&stamp.codebase)),
        ("project", text(&stamp.project)),
    ];
    alike.extend(stamp.revision.as_deref().map(|it| ("revision", text(it))));
    alike.extend(stamp.branch.as_deref().map(|it| ("branch", text(it))));
    let changes = collection::every::<Change>(call, alike).await?;
    let ids = changes.iter().filter(|change| change.sourcestamp.id.0 == id).map(|change| change.id.0);
    collection::with_ids::<Change>(call, ids).await
}
