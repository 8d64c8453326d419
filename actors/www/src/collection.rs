//! Collections and single entities of the data layer, by one path for all kinds.

use std::future::Future;
use std::sync::Arc;

use greenroom_data::hot::Readable;
use greenroom_data::{DataError, Ro, Shown, Snapshot};
use greenroom_model::query::Compare;
use greenroom_model::{
    Build, BuildRequest, Builder, Buildset, Change, ChangeSource, Clock, ConfigurationVersion, ControlAct,
    Delivery, FieldValue, Filter, Log, Master, Notifier, Page, Project, Query, Scheduler, SourceStamp, Step,
    Worker, wire,
};

use crate::error::ApiError;
use crate::expand::{self, Expanded, Parts};
use crate::json;
use crate::query::{Spec, Wanted};
use crate::router::{Answer, Call, Items, Paging};
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

    /// What `expand=` knows of it, besides properties where it has them.
    const PARTS: &'static [&'static str] = &[];
    /// What it knows of one that is read by itself.
    const OWN_PARTS: &'static [&'static str] = &[];

    /// The public forms with the wanted properties filled in, and what they contain; none if the kind has no such part.
    fn with_properties(
        _ro: &Ro,
        _rows: &[Shown<Self>],
        _wanted: &Wanted,
    ) -> impl Future<Output = Result<Option<(Texts, Clock)>, ApiError>> {
        async { Ok(None) }
    }

    /// The parts that were asked for.
    fn parts(
        _call: &Call,
        _rows: &[Shown<Self>],
        _parts: &Parts,
    ) -> impl Future<Output = Result<Expanded, ApiError>> {
        async { Ok(Expanded::default()) }
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
    Worker,
    Scheduler,
    ChangeSource,
    Project,
    Change,
    SourceStamp,
    Step,
    Log,
    ConfigurationVersion,
    Notifier,
    Delivery,
    ControlAct
);

impl Served for Builder {
    reads!(Builder);
    const PARTS: &'static [&'static str] = &["summary"];

    async fn parts(call: &Call, rows: &[Shown<Self>], _: &Parts) -> Result<Expanded, ApiError> {
        Ok(expand::of_builders(call, rows))
    }
}

impl Served for Buildset {
    reads!(Buildset);
    const PARTS: &'static [&'static str] = &["buildrequests", "builds", "properties"];

    async fn parts(call: &Call, rows: &[Shown<Self>], parts: &Parts) -> Result<Expanded, ApiError> {
        expand::of_buildsets(call, rows, parts).await
    }
}

impl Served for Build {
    reads!(Build);
    const PARTS: &'static [&'static str] =
        &["builder", "buildset", "changes", "logs", "properties", "request", "steps", "worker"];
    const OWN_PARTS: &'static [&'static str] =
        &["changes_since_good", "durations", "first_error", "neighbours"];

    async fn parts(call: &Call, rows: &[Shown<Self>], parts: &Parts) -> Result<Expanded, ApiError> {
        expand::of_builds(call, rows, parts).await
    }

    async fn with_properties(
        ro: &Ro,
        rows: &[Shown<Self>],
        wanted: &Wanted,
    ) -> Result<Option<(Texts, Clock)>, ApiError> {
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let Snapshot { value: found, clock } = ro.build_properties(&ids).await?;
        let render = |row: &Shown<Build>| {
            let shown = found.get(&row.id).map(|all| wanted.pick(all)).unwrap_or_default();
            json::compact(&wire::build(row, &shown)).into()
        };
        Ok(Some((rows.iter().map(render).collect(), clock)))
    }
}

impl Served for BuildRequest {
    reads!(BuildRequest);
    const PARTS: &'static [&'static str] = &["builder", "builds", "buildset", "properties"];

    async fn parts(call: &Call, rows: &[Shown<Self>], parts: &Parts) -> Result<Expanded, ApiError> {
        expand::of_requests(call, rows, parts).await
    }

    async fn with_properties(
        ro: &Ro,
        rows: &[Shown<Self>],
        wanted: &Wanted,
    ) -> Result<Option<(Texts, Clock)>, ApiError> {
        let sets = rows.iter().map(|row| row.buildset).collect();
        let Snapshot { value: found, clock } = ro.properties_of_buildsets(sets).await?;
        let render = |row: &Shown<BuildRequest>| {
            let shown = found.get(&row.buildset).map(|all| wanted.pick(all)).unwrap_or_default();
            json::compact(&wire::request(row, Some(&shown))).into()
        };
        Ok(Some((rows.iter().map(render).collect(), clock)))
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
        paging: Paging::default(),
    }))
}

/// Those that pass `base` and the query.
pub(crate) async fn within<E: Served>(call: &Call, base: Vec<Filter>) -> Result<Answer, ApiError> {
    let mut spec = Spec::collection(E::RESOURCE.fields(), &call.params)?;
    let parts = Parts::named(&spec.expand, &[E::PARTS], E::RESOURCE.plural())?;
    let mut query = std::mem::take(&mut spec.query);
    query.filters.splice(0..0, base);
    let next = NextPage::of::<E>(&query);
    let found = E::read_page(&call.www.ro, query).await?;
    let rows = &found.value.items;
    let (items, clock) = render(call, rows, spec, parts, found.clock).await?;
    let next = next.and_then(|next| next.after(call, rows));
    Ok(Answer::Items(Items {
        plural: E::RESOURCE.plural(),
        items,
        total: Some(found.value.total),
        clock: Some(clock),
        lasting: true,
        paging: Paging { at_least: found.value.at_least, more: None, next },
    }))
}

/// How the next page of a list is found: by the key that it is in order of.
struct NextPage {
    key: &'static str,
    descending: bool,
    limit: usize,
}

impl NextPage {
    /// For lists with a limit in order of their id, or, of one builder's builds, of their number.
    fn of<E: Served>(query: &Query) -> Option<Self> {
        let limit = usize::try_from(query.limit?).ok().filter(|limit| *limit > 0)?;
        let (id, default) = (E::RESOURCE.id_field(), E::RESOURCE.default_order());
        let (key, descending) = match query.order.as_slice() {
            [] => (default, false),
            [first, ..] => *first,
        };
        let of_builder = || {
            let one = |f: &&Filter| f.field == "builderid" && f.compare == Compare::Eq && f.values.len() == 1;
            query.filters.iter().filter(one).count() == 1
        };
        let numbered = E::RESOURCE == greenroom_model::Resource::Builds && key == "number" && of_builder();
        (query.offset == 0 && (key == id || numbered)).then_some(Self { key, descending, limit })
    }

    /// The address of the page after these, if there may be one.
    fn after<E: Served>(self, call: &Call, rows: &[Shown<E>]) -> Option<String> {
        let last = rows.last().filter(|_| rows.len() == self.limit)?;
        match last.field(self.key) {
            FieldValue::Int(last) => Some(call.next_page(self.key, self.descending, last)),
            _ => None,
        }
    }
}

/// One entity by its id.
pub(crate) async fn one<E: Served>(call: &Call, id: i64) -> Result<Answer, ApiError> {
    let wanted = wanted_of_one::<E>(call)?;
    let found = E::read_one(&call.www.ro, id).await?;
    single(call, found.value.ok_or_else(|| call.not_found())?, wanted, found.clock).await
}

/// One entity that was found already (or not).
pub(crate) async fn found<E: Served>(call: &Call, entity: Option<Shown<E>>) -> Result<Answer, ApiError> {
    let entity = entity.ok_or_else(|| call.not_found())?;
    single(call, entity, wanted_of_one::<E>(call)?, call.hot.clock.clone()).await
}

/// What is asked of a single entity.
fn wanted_of_one<E: Served>(call: &Call) -> Result<(Spec, Parts), ApiError> {
    let spec = Spec::single(E::RESOURCE.fields(), &call.params)?;
    let parts = Parts::named(&spec.expand, &[E::PARTS, E::OWN_PARTS], E::RESOURCE.plural())?;
    Ok((spec, parts))
}

async fn single<E: Served>(
    call: &Call,
    entity: Shown<E>,
    (spec, parts): (Spec, Parts),
    clock: Clock,
) -> Result<Answer, ApiError> {
    let (items, clock) = render(call, std::slice::from_ref(&entity), spec, parts, clock).await?;
    let plural = E::RESOURCE.plural();
    let paging = Paging::default();
    Ok(Answer::Items(Items { plural, items, total: None, clock: Some(clock), lasting: true, paging }))
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

/// The public forms of entities that were read at a clock, and what they contain with all their parts.
async fn render<E: Served>(
    call: &Call,
    rows: &[Shown<E>],
    mut spec: Spec,
    parts: Parts,
    mut clock: Clock,
) -> Result<(Texts, Clock), ApiError> {
    if parts.has("properties") {
        spec.properties = Wanted::All;
    }
    let filled = match spec.properties {
        Wanted::None => None,
        _ => E::with_properties(&call.www.ro, rows, &spec.properties).await?,
    };
    let mut texts = match filled {
        Some((texts, read_at)) => {
            clock = clock.meet(&read_at);
            texts
        }
        None => rows.iter().map(|row| row.json.clone()).collect(),
    };
    if spec.fields.is_some() {
        let project = |text: Arc<str>| match rows::project_text(&text, &spec) {
            Some(text) => text.into(),
            None => text,
        };
        texts = texts.into_iter().map(project).collect();
    }
    if !parts.is_empty() {
        let all = E::parts(call, rows, &parts).await?;
        clock = all.clock.map_or(clock.clone(), |read_at| clock.meet(&read_at));
        texts = texts.iter().zip(&all.of).map(|(text, parts)| expand::splice(text, parts)).collect();
    }
    Ok((texts, clock))
}

/// A collection of plain rows that the query selects.
pub(crate) fn plain(
    call: &Call,
    plural: &'static str,
    fields: &'static [greenroom_model::query::Field],
    rows: Vec<serde_json::Value>,
) -> Result<Answer, ApiError> {
    let spec = Spec::collection(fields, &call.params)?;
    Parts::named(&spec.expand, &[], plural)?;
    let (rows, total) = rows::page(rows, &spec);
    Ok(Answer::Items(Items {
        plural,
        items: rows.iter().map(|row| json::compact(row).into()).collect(),
        total: Some(total),
        clock: None,
        lasting: false,
        paging: Paging::default(),
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
    Parts::named(&spec.expand, &[], plural)?;
    let row = rows::project(row.ok_or_else(|| call.not_found())?, &spec);
    let items = vec![json::compact(&row).into()];
    Ok(Answer::Items(Items {
        plural,
        items,
        total: None,
        clock: None,
        lasting: false,
        paging: Paging::default(),
    }))
}
