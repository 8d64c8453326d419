//! `builds`, and what belongs to one.

use greenroom_data::Shown;
use greenroom_model::{Build, BuildId, BuildRequest, Buildset, Change, FieldValue, wire};

use super::builders::builder_at;
use crate::collection;
use crate::error::ApiError;
use crate::json;
use crate::router::{Answer, Arg, Call, Items, Route, route};
use crate::rows;

pub(super) const ROUTES: &[Route] = &[
    route!("builds", "builds", c => collection::all::<Build>(&c)),
    route!("builds/n:buildid", "builds", c => async { collection::one::<Build>(&c, c.number(0)?).await }),
    route!("builders/n:builderid/builds/n:build_number", "builds", c => by_number(&c)),
    route!("builders/s:buildername/builds/n:build_number", "builds", c => by_number(&c)),
    route!("builds/n:buildid/changes", "changes", c => async { changes(&c, Some(c.number(0)?)).await }),
    route!("builders/n:builderid/builds/n:build_number/changes", "changes",
        c => async { changes(&c, numbered(&c).await?.map(|b| b.id.0)).await }),
    route!("builds/n:buildid/properties", "properties", c => async { properties(&c, Some(c.number(0)?)).await }),
    route!("builders/n:builderid/builds/n:build_number/properties", "properties",
        c => async { properties(&c, numbered(&c).await?.map(|b| b.id.0)).await }),
    route!("builds/n:buildid/property_list", "_properties", c => property_list(&c)),
    route!("builds/n:buildid/triggered_builds", "builds", c => triggered(&c)),
];

/// The build of `builders/…/builds/n:build_number`, if there is one.
pub(super) async fn numbered(call: &Call) -> Result<Option<Shown<Build>>, ApiError> {
    let Some(builder) = builder_at(call, 0)? else { return Ok(None) };
    let number = call.number(1)?;
    collection::first(call, [("builderid", builder.id.0.into()), ("number", number.into())]).await
}

/// The build that a path names: by id, or below its builder by number. Also the position after it.
pub(super) async fn build_at(call: &Call, below_builder: bool) -> Result<Option<(i64, usize)>, ApiError> {
    if below_builder {
        return Ok(numbered(call).await?.map(|build| (build.id.0, 2)));
    }
    Ok(Some((call.number(0)?, 1)))
}

async fn by_number(call: &Call) -> Result<Answer, ApiError> {
    collection::found(call, numbered(call).await?).await
}

async fn changes(call: &Call, build: Option<i64>) -> Result<Answer, ApiError> {
    let Some(build) = build else { return collection::none::<Change>(call) };
    let found = call.www.ro.changes_of_build(BuildId(build)).await?.value;
    collection::with_ids::<Change>(call, found.iter().map(|change| change.id.0)).await
}

/// All properties as one object; that of a build that does not exist is empty.
async fn properties(call: &Call, build: Option<i64>) -> Result<Answer, ApiError> {
    let id = BuildId(build.unwrap_or(0));
    let found = call.www.ro.build_properties(&[id]).await?;
    let text = found.value.get(&id).map_or_else(|| "{}".to_owned(), |all| json::compact(&**all));
    only_properties(call, text, found.clock)
}

/// The envelope around an object of properties.
pub(super) fn only_properties(
    call: &Call,
    text: String,
    clock: greenroom_model::Clock,
) -> Result<Answer, ApiError> {
    if call
        .params
        .iter()
        .any(|(name, _)| !matches!(name.as_str(), "field" | "property" | "limit" | "order" | "offset"))
    {
        return Err(crate::query::not_a_collection());
    }
    let items = vec![text.into()];
    Ok(Answer::Items(Items {
        plural: "properties",
        items,
        total: None,
        clock: Some(clock),
        lasting: true,
        paging: Default::default(),
    }))
}

/// The fields of a property row.
pub(super) const PROPERTY_FIELDS: &[greenroom_model::query::Field] =
    rows::row_fields!["name": Text, "source": Text, "value": Text];

async fn property_list(call: &Call) -> Result<Answer, ApiError> {
    let id = BuildId(call.number(0)?);
    let found = call.www.ro.build_properties(&[id]).await?.value;
    let rows = found.get(&id).map(|all| property_rows(all)).unwrap_or_default();
    collection::plain(call, "_properties", PROPERTY_FIELDS, rows)
}

/// Properties as rows, each value as JSON text.
pub(super) fn property_rows(properties: &greenroom_model::Properties) -> Vec<serde_json::Value> {
    let rows = wire::property_list(properties);
    rows.iter().filter_map(|row| serde_json::to_value(row).ok()).collect()
}

/// The builds of the buildsets that this build asked for.
async fn triggered(call: &Call) -> Result<Answer, ApiError> {
    let sets = collection::every::<Buildset>(call, [("parent_buildid", call.number(0)?.into())]).await?;
    let mut builds = Vec::new();
    for set in sets {
        let asked = [("buildsetid", FieldValue::Int(set.id.0))];
        for request in collection::every::<BuildRequest>(call, asked).await? {
            let asked = [("buildrequestid", FieldValue::Int(request.id.0))];
            builds.extend(collection::every::<Build>(call, asked).await?.iter().map(|build| build.id.0));
        }
    }
    collection::with_ids::<Build>(call, builds).await
}

/// A path element that names a step: its number or its name, as a field and its value.
pub(super) fn step_filter(arg: &Arg) -> (&'static str, FieldValue) {
    match arg {
        Arg::Number(number) => ("number", FieldValue::Int(*number)),
        Arg::Text(name) => ("name", FieldValue::Text(name.clone())),
    }
}
