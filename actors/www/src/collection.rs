//! Collections and single entities of the data layer, by one path for all kinds.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::sync::Arc;

use greenroom_data::hot::Readable;
use greenroom_data::{DataError, Ro, Shown, Snapshot};
use greenroom_model::query::Compare;
use greenroom_model::{
    Build, BuildRequest, Builder, Buildset, BuildsetId, Change, ChangeSource, ConfigurationVersion, Delivery,
    FieldValue, Filter, Log, Master, Notifier, Page, Project, Query, Scheduler, SourceStamp, Step, Worker,
    wire,
};

use crate::error::ApiError;
use crate::json;
use crate::query::{Spec, Wanted};
use crate::router::{Answer, Call, Items};
use crate::rows;

/// Rendered entities.
type Texts = Vec<Arc<str>>;

/// What a read gives.
type Read<T> = Result<Snapshot<T>, DataError>;

/// An entity kind that the API serves.
pub(crate) trait Served: Readable {
    /// One entity by its id.
    fn read_one(ro: &Ro, id: i64) -> impl Future<Output = Read<Option<Shown<Self>>>>;

    /// A page of entities.
    fn read_page(ro: &Ro, query: Query) -> impl Future<Output = Read<Page<Shown<Self>>>>;

    /// The public forms with the wanted properties filled in; none if the kind has no such part.
    fn with_properties(
        _ro: &Ro,
        _rows: &[Shown<Self>],
        _wanted: &Wanted,
    ) -> impl Future<Output = Result<Option<Texts>, ApiError>> {
        async { Ok(None) }
    }
}

/// The reads of a kind. (A read is typed down to the store, so it is spelt out per kind.)
macro_rules! reads {
    ($kind:ty) => {
        async fn read_one(ro: &Ro, id: i64) -> Read<Option<Shown<Self>>> {
            ro.get::<$kind>(id).await
        }

        async fn read_page(ro: &Ro, query: Query) -> Read<Page<Shown<Self>>> {
            ro.list::<$kind>(query).await
        }
    };
}

macro_rules! served {
    ($($kind:ty),*) => { $(impl Served for $kind { reads!($kind); })* };
}
served!(
    Master,
    Builder,
    Worker,
    Scheduler,
    ChangeSource,
    Project,
    Change,
    SourceStamp,
    Buildset,
    Step,
    Log,
    ConfigurationVersion,
    Notifier,
    Delivery
);

impl Served for Build {
    reads!(Build);

    async fn with_properties(
        ro: &Ro,
        rows: &[Shown<Self>],
        wanted: &Wanted,
    ) -> Result<Option<Texts>, ApiError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let found = ro.build_properties(&ids).await?.value;
        let render = |row: &Shown<Build>| {
            let shown = found.get(&row.id).map(|all| wanted.pick(all)).unwrap_or_default();
            json::compact(&wire::build(row, &shown)).into()
        };
        Ok(Some(rows.iter().map(render).collect()))
    }
}

impl Served for BuildRequest {
    reads!(BuildRequest);

    async fn with_properties(
        ro: &Ro,
        rows: &[Shown<Self>],
        wanted: &Wanted,
    ) -> Result<Option<Texts>, ApiError> {
        let mut sets: HashMap<BuildsetId, _> = HashMap::new();
        let mut texts = Texts::with_capacity(rows.len());
        for row in rows {
            let shown = match sets.entry(row.buildset) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => {
                    let found = ro.buildset_properties(row.buildset).await?.value;
                    new.insert(found.map(|all| wanted.pick(&all)).unwrap_or_default())
                }
            };
            texts.push(json::compact(&wire::request(row, Some(shown))).into());
        }
        Ok(Some(texts))
    }
}

/// All entities of a kind that the query selects.
pub(crate) async fn all<E: Served>(call: &Call) -> Result<Answer, ApiError> {
    within::<E>(call, Vec::new()).await
}

/// Those of which `field` is `value`.
pub(crate) async fn of<E: Served>(
    call: &Call,
    field: &'static str,
    value: impl Into<FieldValue>,
) -> Result<Answer, ApiError> {
    within::<E>(call, vec![Filter { field, compare: Compare::Eq, values: vec![value.into()] }]).await
}

/// Those with these ids.
pub(crate) async fn with_ids<E: Served>(
    call: &Call,
    ids: impl IntoIterator<Item = i64>,
) -> Result<Answer, ApiError> {
    let values: Vec<_> = ids.into_iter().map(FieldValue::Int).collect();
    if values.is_empty() {
        return none::<E>(call);
    }
    within::<E>(call, vec![Filter { field: E::RESOURCE.id_field(), compare: Compare::Eq, values }]).await
}

/// An empty collection of a kind: what a missing parent has.
pub(crate) fn none<E: Served>(call: &Call) -> Result<Answer, ApiError> {
    Spec::collection(E::RESOURCE.fields(), &call.params)?;
    Ok(Answer::Items(Items {
        plural: E::RESOURCE.plural(),
        items: Vec::new(),
        total: Some(0),
        clock: None,
        lasting: true,
    }))
}

/// Those that pass `base` and the query.
pub(crate) async fn within<E: Served>(call: &Call, base: Vec<Filter>) -> Result<Answer, ApiError> {
    let mut spec = Spec::collection(E::RESOURCE.fields(), &call.params)?;
    let mut query = std::mem::take(&mut spec.query);
    query.filters.splice(0..0, base);
    let found = E::read_page(&call.www.ro, query).await?;
    let items = render(call, &found.value.items, &spec).await?;
    Ok(Answer::Items(Items {
        plural: E::RESOURCE.plural(),
        items,
        total: Some(found.value.total),
        clock: Some(found.clock),
        lasting: true,
    }))
}

/// One entity by its id.
pub(crate) async fn one<E: Served>(call: &Call, id: i64) -> Result<Answer, ApiError> {
    Spec::single(E::RESOURCE.fields(), &call.params)?;
    let found = E::read_one(&call.www.ro, id).await?;
    single(call, found.value.ok_or_else(|| call.not_found())?, Some(found.clock)).await
}

/// One entity that was found already (or not).
pub(crate) async fn found<E: Served>(call: &Call, entity: Option<Shown<E>>) -> Result<Answer, ApiError> {
    single(call, entity.ok_or_else(|| call.not_found())?, None).await
}

async fn single<E: Served>(
    call: &Call,
    entity: Shown<E>,
    clock: Option<greenroom_model::Clock>,
) -> Result<Answer, ApiError> {
    let spec = Spec::single(E::RESOURCE.fields(), &call.params)?;
    let items = render(call, std::slice::from_ref(&entity), &spec).await?;
    Ok(Answer::Items(Items { plural: E::RESOURCE.plural(), items, total: None, clock, lasting: true }))
}

/// The first entity that matches all of `filters`.
pub(crate) async fn first<E: Served>(
    call: &Call,
    filters: impl IntoIterator<Item = (&'static str, FieldValue)>,
) -> Result<Option<Shown<E>>, ApiError> {
    let query =
        filters.into_iter().fold(Query::default().limit(1), |query, (field, value)| query.eq(field, value));
    Ok(E::read_page(&call.www.ro, query).await?.value.items.into_iter().next())
}

/// Every entity of a kind that matches; for kinds of which there are few, or filters that select few.
pub(crate) async fn every<E: Served>(
    call: &Call,
    filters: impl IntoIterator<Item = (&'static str, FieldValue)>,
) -> Result<Vec<Shown<E>>, ApiError> {
    let query = filters.into_iter().fold(Query::default(), |query, (field, value)| query.eq(field, value));
    Ok(E::read_page(&call.www.ro, query).await?.value.items)
}

async fn render<E: Served>(call: &Call, rows: &[Shown<E>], spec: &Spec) -> Result<Texts, ApiError> {
    let filled = match spec.properties {
        Wanted::None => None,
        _ => E::with_properties(&call.www.ro, rows, &spec.properties).await?,
    };
    let texts = filled.unwrap_or_else(|| rows.iter().map(|row| row.json.clone()).collect());
    if spec.fields.is_none() {
        return Ok(texts);
    }
    Ok(texts.into_iter().map(|text| rows::project_text(&text, spec).map_or(text, Arc::from)).collect())
}

/// A collection of plain rows that the query selects.
pub(crate) fn plain(
    call: &Call,
    plural: &'static str,
    fields: &'static [greenroom_model::query::Field],
    rows: Vec<serde_json::Value>,
) -> Result<Answer, ApiError> {
    let spec = Spec::collection(fields, &call.params)?;
    let (rows, total) = rows::page(rows, &spec);
    Ok(Answer::Items(Items {
        plural,
        items: rows.iter().map(|row| json::compact(row).into()).collect(),
        total: Some(total),
        clock: None,
        lasting: false,
    }))
}

/// A single plain row.
pub(crate) fn plain_one(
    call: &Call,
    plural: &'static str,
    fields: &'static [greenroom_model::query::Field],
    row: Option<serde_json::Value>,
) -> Result<Answer, ApiError> {
    let spec = Spec::single(fields, &call.params)?;
    let row = rows::project(row.ok_or_else(|| call.not_found())?, &spec);
    let items = vec![json::compact(&row).into()];
    Ok(Answer::Items(Items { plural, items, total: None, clock: None, lasting: false }))
}
