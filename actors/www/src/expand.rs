//! `expand=`: parts of an entity that come with it in one read.
//!
//! Each part is read for itself. The reply's clock is what all of them contain, so that whoever replaces entities by the events
//! after it has the state, whatever part it is in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greenroom_data::hot::Readable;
use greenroom_data::{DataError, FirstError, Ro, Shown, Snapshot};
use greenroom_model::{
    Build, BuildId, BuildRequest, Builder, Buildset, Change, Clock, Log, Query, SourceStampId, Step, wire,
};
use serde::Serialize;

use crate::collection::Served;
use crate::error::ApiError;
use crate::json;
use crate::router::Call;

/// The most entities of a reply whose parts are given; builders are not among them.
const MOST_ENTITIES: usize = 200;
/// The most changes since the last good build.
const MOST_CHANGES: u64 = 100;

/// A part of an entity: its name and JSON text.
pub(crate) type Part = (&'static str, Arc<str>);

/// The parts that a client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parts(Vec<&'static str>);

impl Parts {
    /// Those of `known` that are named.
    ///
    /// # Errors
    /// If another is, with the list of those that there are.
    pub(crate) fn named(
        given: &[String],
        known: &[&'static [&'static str]],
        plural: &str,
    ) -> Result<Self, ApiError> {
        let known = || known.iter().flat_map(|it| it.iter().copied());
        let mut parts = Vec::new();
        for name in given.iter().flat_map(|it| it.split(',')).map(str::trim).filter(|it| !it.is_empty()) {
            if name == "*" {
                parts.extend(known());
                continue;
            }
            let Some(part) = known().find(|it| *it == name) else {
                let all: Vec<_> = known().collect();
                let there = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                let text = format!("'{name}' is no part of {plural} that expand= knows; there are: {there}");
                return Err(ApiError::BadQuery(text));
            };
            parts.push(part);
        }
        parts.sort_unstable();
        parts.dedup();
        Ok(Self(parts))
    }

    /// Whether this one was asked for.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// Whether none was.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parts of each of some entities.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    /// For each entity, in their order.
    pub(crate) of: Vec<Vec<Part>>,
    /// What all parts contain.
    pub(crate) clock: Option<Clock>,
}

impl Expanded {
    fn empty(rows: usize, plural: &str) -> Result<Self, ApiError> {
        if rows > MOST_ENTITIES {
            let text = format!("expand= is for at most {MOST_ENTITIES} {plural} a reply: give a limit");
            return Err(ApiError::BadQuery(text));
        }
        Ok(Self { of: vec![Vec::new(); rows], clock: None })
    }

    fn meet(&mut self, clock: &Clock) {
        self.clock = Some(self.clock.as_ref().map_or_else(|| clock.clone(), |mine| mine.meet(clock)));
    }

    fn value<T>(&mut self, read: Result<Snapshot<T>, DataError>) -> Result<T, ApiError> {
        let read = read?;
        self.meet(&read.clock);
        Ok(read.value)
    }

    fn add(&mut self, at: usize, name: &'static str, text: impl Into<Arc<str>>) {
        self.of[at].push((name, text.into()));
    }

    /// Adds to each entity one that it names.
    fn one<E: Readable>(
        &mut self,
        name: &'static str,
        all: &HashMap<i64, Shown<E>>,
        ids: impl Iterator<Item = Option<i64>>,
    ) {
        for (at, id) in ids.enumerate() {
            let text = id.and_then(|id| all.get(&id)).map_or_else(|| "null".into(), |e| e.json.clone());
            self.add(at, name, text);
        }
    }
}

/// The text of an entity with its parts.
pub(crate) fn splice(text: &str, parts: &[Part]) -> Arc<str> {
    let Some(open) = text.strip_suffix('}') else { return text.into() };
    let mut out =
        String::with_capacity(text.len() + parts.iter().map(|p| p.0.len() + p.1.len() + 4).sum::<usize>());
    out.push_str(open);
    for (name, part) in parts {
        out.push_str(if out.len() > 1 { ",\"" } else { "\"" });
        out.push_str(name);
        out.push_str("\":");
        out.push_str(part);
    }
    out.push('}');
    out.into()
}

/// A list of JSON texts as one.
fn list(texts: impl Iterator<Item = Arc<str>>) -> String {
    let texts: Vec<_> = texts.collect();
    format!("[{}]", texts.join(","))
}

/// The entities of a kind whose field has one of these values.
async fn whose<E: Served>(
    into: &mut Expanded,
    ro: &Ro,
    field: &'static str,
    values: impl Iterator<Item = i64>,
) -> Result<Vec<Shown<E>>, ApiError> {
    let mut values: Vec<i64> = values.collect();
    values.sort_unstable();
    values.dedup();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    Ok(into.value(E::read_page(ro, Query::default().any(field, values)).await)?.items)
}

/// The entities of these ids: from the hot state if it has them all.
async fn by_id<E: Served>(
    into: &mut Expanded,
    call: &Call,
    ids: impl Iterator<Item = i64> + Clone,
) -> Result<HashMap<i64, Shown<E>>, ApiError> {
    if let Some(table) = E::table(&call.hot) {
        let found: HashMap<_, _> = ids.clone().filter_map(|id| Some((id, table.get(&id)?.clone()))).collect();
        if E::floor(&call.hot).is_none() || ids.clone().all(|id| found.contains_key(&id)) {
            into.meet(&call.hot.clock);
            return Ok(found);
        }
    }
    let id_field = E::RESOURCE.id_field();
    let found = whose::<E>(into, &call.www.ro, id_field, ids).await?;
    Ok(found.into_iter().map(|e| (e.id(), e)).collect())
}

/// The rows of builders, as the hot state has them.
pub(crate) fn of_builders(call: &Call, rows: &[Shown<Builder>]) -> Expanded {
    let mut all = Expanded { of: vec![Vec::new(); rows.len()], clock: Some(call.hot.clock.clone()) };
    for (at, builder) in rows.iter().enumerate() {
        let row = call.hot.rows.get(&builder.id.0);
        all.add(at, "summary", row.map_or_else(|| "null".into(), |row| row.summary()));
    }
    all
}

/// Parts of builds. `single`: those too that only a build by itself has.
pub(crate) async fn of_builds(
    call: &Call,
    rows: &[Shown<Build>],
    parts: &Parts,
) -> Result<Expanded, ApiError> {
    let mut all = Expanded::empty(rows.len(), "builds")?;
    if parts.has("builder") {
        let found = by_id::<Builder>(&mut all, call, rows.iter().map(|b| b.builder.0)).await?;
        all.one("builder", &found, rows.iter().map(|b| Some(b.builder.0)));
    }
    if parts.has("worker") {
        let found = by_id(&mut all, call, rows.iter().map(|b| b.worker.0)).await?;
        all.one::<greenroom_model::Worker>("worker", &found, rows.iter().map(|b| Some(b.worker.0)));
    }
    if ["request", "buildset", "changes"].iter().any(|part| parts.has(part)) {
        sources(&mut all, call, rows, parts).await?;
    }
    if ["steps", "logs", "first_error"].iter().any(|part| parts.has(part)) {
        steps(&mut all, call, rows, parts).await?;
    }
    if let ([build], true) = (rows, parts.has("changes_since_good") || parts.has("neighbours")) {
        surroundings(&mut all, call, build, parts).await?;
    }
    if let ([build], true) = (rows, parts.has("durations")) {
        all.meet(&call.hot.clock);
        let row = call.hot.rows.get(&build.builder.0);
        all.add(0, "durations", row.map_or_else(|| "null".into(), |row| row.durations()));
    }
    Ok(all)
}

/// The request of each build, its buildset, and the changes of that one's source stamps.
async fn sources(
    all: &mut Expanded,
    call: &Call,
    rows: &[Shown<Build>],
    parts: &Parts,
) -> Result<(), ApiError> {
    let requests: HashMap<i64, Shown<BuildRequest>> =
        by_id(all, call, rows.iter().map(|b| b.request.0)).await?;
    let set_of = |build: &Shown<Build>| requests.get(&build.request.0).map(|r| r.buildset.0);
    let ids: Vec<i64> = rows.iter().filter_map(set_of).collect();
    let sets: HashMap<i64, Shown<Buildset>> = by_id(all, call, ids.into_iter()).await?;
    if parts.has("request") {
        all.one("request", &requests, rows.iter().map(|b| Some(b.request.0)));
    }
    if parts.has("buildset") {
        all.one("buildset", &sets, rows.iter().map(set_of));
    }
    if parts.has("changes") {
        let stamps = sets.values().flat_map(|set| set.sourcestamps.iter().map(|s| s.id)).collect();
        let changes = all.value(call.www.ro.changes_of_stamps(stamps).await)?;
        let mut of: BTreeMap<SourceStampId, Vec<Arc<str>>> = BTreeMap::new();
        for change in changes {
            of.entry(change.sourcestamp.id).or_default().push(change.json);
        }
        for (at, build) in rows.iter().enumerate() {
            let set = set_of(build).and_then(|set| sets.get(&set));
            let stamps = set.iter().flat_map(|set| &set.sourcestamps);
            let texts = stamps.flat_map(|stamp| of.get(&stamp.id).into_iter().flatten().cloned());
            all.add(at, "changes", list(texts));
        }
    }
    Ok(())
}

/// The steps of each build with their logs, and what went wrong first.
async fn steps(
    all: &mut Expanded,
    call: &Call,
    rows: &[Shown<Build>],
    parts: &Parts,
) -> Result<(), ApiError> {
    let ro = &call.www.ro;
    let mut steps: Vec<Shown<Step>> = whose(all, ro, "buildid", rows.iter().map(|b| b.id.0)).await?;
    steps.sort_by_key(|step| (step.build, step.number));
    let error_of = rows.first().filter(|_| parts.has("first_error")).map(|build| build.id);
    let mut logs: Vec<Shown<Log>> = match parts.has("logs") || error_of.is_some() {
        true => whose(all, ro, "stepid", steps.iter().map(|step| step.id.0)).await?,
        false => Vec::new(),
    };
    logs.sort_by_key(|log| log.id);
    if parts.has("steps") || parts.has("logs") {
        let mut texts: HashMap<BuildId, Vec<Arc<str>>> = HashMap::new();
        for step in &steps {
            let own = logs.iter().filter(|log| log.step == step.id).map(|log| log.json.clone());
            let text = match parts.has("logs") {
                true => splice(&step.json, &[("logs", list(own).into())]),
                false => step.json.clone(),
            };
            texts.entry(step.build).or_default().push(text);
        }
        for (at, build) in rows.iter().enumerate() {
            all.add(at, "steps", list(texts.remove(&build.id).unwrap_or_default().into_iter()));
        }
    }
    if error_of.is_some() {
        let found = ro.first_error(steps.iter().map(|s| &**s), logs.iter().map(|l| &**l)).await?;
        let text = found.map(|error| first_error(&error, &steps, &logs));
        all.add(0, "first_error", text.unwrap_or_else(|| "null".to_owned()));
    }
    Ok(())
}

/// What comes before and after a build, and what changed since the last good one.
async fn surroundings(
    all: &mut Expanded,
    call: &Call,
    build: &Shown<Build>,
    parts: &Parts,
) -> Result<(), ApiError> {
    let context = all.value(call.www.ro.build_context(build.id, MOST_CHANGES).await)?;
    let text =
        |build: Option<Arc<Build>>| build.map_or_else(|| "null".to_owned(), |b| b.render(&wire::NoLookup));
    let Some(context) = context else { return Err(call.not_found()) };
    if parts.has("changes_since_good") {
        let changes =
            list(context.changes.iter().map(|change| Change::render(change, &wire::NoLookup).into()));
        let (good, more) = (text(context.good), context.more);
        all.add(
            0,
            "changes_since_good",
            format!("{{\"changes\":{changes},\"good\":{good},\"more\":{more}}}"),
        );
    }
    if parts.has("neighbours") {
        let (next, previous) = (text(context.next), text(context.previous));
        all.add(0, "neighbours", format!("{{\"next\":{next},\"previous\":{previous}}}"));
    }
    Ok(())
}

#[derive(Serialize)]
struct ErrorForm<'a> {
    around: Vec<LineForm<'a>>,
    line: i64,
    logid: i64,
    logname: &'a str,
    slug: &'a str,
    stepid: i64,
    stepname: &'a str,
    stepnumber: i64,
    text: &'a str,
}

#[derive(Serialize)]
struct LineForm<'a> {
    line: i64,
    text: &'a str,
}

fn first_error(error: &FirstError, steps: &[Shown<Step>], logs: &[Shown<Log>]) -> String {
    let step = steps.iter().find(|step| step.id == error.step);
    let log = logs.iter().find(|log| log.id == error.log);
    json::compact(&ErrorForm {
        around: error.around.iter().map(|(line, text)| LineForm { line: *line, text }).collect(),
        line: error.line,
        logid: error.log.0,
        logname: log.map_or("", |log| &log.name),
        slug: log.map_or("", |log| &log.slug),
        stepid: error.step.0,
        stepname: step.map_or("", |step| &step.name),
        stepnumber: step.map_or(0, |step| step.number),
        text: &error.text,
    })
}

/// Parts of build requests.
pub(crate) async fn of_requests(
    call: &Call,
    rows: &[Shown<BuildRequest>],
    parts: &Parts,
) -> Result<Expanded, ApiError> {
    let mut all = Expanded::empty(rows.len(), "build requests")?;
    if parts.has("builder") {
        let found: HashMap<_, Shown<Builder>> =
            by_id(&mut all, call, rows.iter().map(|r| r.builder.0)).await?;
        all.one("builder", &found, rows.iter().map(|r| Some(r.builder.0)));
    }
    if parts.has("buildset") {
        let found: HashMap<_, Shown<Buildset>> =
            by_id(&mut all, call, rows.iter().map(|r| r.buildset.0)).await?;
        all.one("buildset", &found, rows.iter().map(|r| Some(r.buildset.0)));
    }
    if parts.has("builds") {
        let ids = rows.iter().map(|r| r.id.0);
        let builds: Vec<Shown<Build>> = whose(&mut all, &call.www.ro, "buildrequestid", ids).await?;
        for (at, request) in rows.iter().enumerate() {
            let own = builds.iter().filter(|b| b.request == request.id).map(|b| b.json.clone());
            all.add(at, "builds", list(own));
        }
    }
    Ok(all)
}

/// Parts of buildsets.
pub(crate) async fn of_buildsets(
    call: &Call,
    rows: &[Shown<Buildset>],
    parts: &Parts,
) -> Result<Expanded, ApiError> {
    let mut all = Expanded::empty(rows.len(), "buildsets")?;
    let ro = &call.www.ro;
    if parts.has("buildrequests") || parts.has("builds") {
        let requests: Vec<Shown<BuildRequest>> =
            whose(&mut all, ro, "buildsetid", rows.iter().map(|s| s.id.0)).await?;
        let builds: Vec<Shown<Build>> = match parts.has("builds") {
            true => whose(&mut all, ro, "buildrequestid", requests.iter().map(|r| r.id.0)).await?,
            false => Vec::new(),
        };
        let mut builds_of: HashMap<_, Vec<Arc<str>>> = HashMap::new();
        for build in builds {
            builds_of.entry(build.request).or_default().push(build.json);
        }
        for (at, set) in rows.iter().enumerate() {
            let own: Vec<_> = requests.iter().filter(|r| r.buildset == set.id).collect();
            if parts.has("builds") {
                let texts = own.iter().flat_map(|r| builds_of.remove(&r.id).unwrap_or_default());
                let texts = list(texts);
                all.add(at, "builds", texts);
            }
            if parts.has("buildrequests") {
                all.add(at, "buildrequests", list(own.iter().map(|r| r.json.clone())));
            }
        }
    }
    if parts.has("properties") {
        let found = all.value(ro.properties_of_buildsets(rows.iter().map(|s| s.id).collect()).await)?;
        for (at, set) in rows.iter().enumerate() {
            all.add(at, "properties", found.get(&set.id).map_or_else(|| "{}".to_owned(), json::compact));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_named_and_unknown_ones_told() {
        let known: &[&[&str]] = &[&["steps", "logs"], &["durations"]];
        let named = |text: &str| Parts::named(&[text.to_owned()], known, "builds");
        assert_eq!(named("logs, steps,logs").unwrap().0, ["logs", "steps"]);
        assert_eq!(named("*").unwrap().0, ["durations", "logs", "steps"]);
        assert!(named("").unwrap().is_empty());
        let text = named("step").unwrap_err().to_string();
        assert_eq!(text, "'step' is no part of builds that expand= knows; there are: steps, logs, durations");
    }

    #[test]
    fn parts_are_put_into_the_text() {
        let parts: [Part; 2] = [("b", "1".into()), ("c", "[]".into())];
        assert_eq!(&*splice("{\"a\":{}}", &parts), "{\"a\":{},\"b\":1,\"c\":[]}");
        assert_eq!(&*splice("{}", &parts), "{\"b\":1,\"c\":[]}");
        assert_eq!(&*splice("{\"a\":1}", &[]), "{\"a\":1}");
    }
}
