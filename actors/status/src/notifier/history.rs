//! The builds before a build on the same builder and branch, newest first, and the changes between them.
//!
//! Reads are bounded: no more than [`REACH`] build numbers back, so that a message costs the same on an old farm as on a new one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use greenroom_config::Notifier;
use greenroom_data::{DataError, Ro};
use greenroom_model::query::Compare;
use greenroom_model::{
    Build, BuildRequest, Builder, Buildset, Change, FieldValue, Filter, Query, Results, SourceStamp, Step,
};

use super::decide::is_verdict;
use super::facts::{Facts, branch_of, passes};

/// How many build numbers it looks back.
pub const REACH: i64 = 100;
/// How many builds are read at once, at first: mostly the last one is all that is asked for.
const FIRST_PIECE: u64 = 10;
/// The most changes that a message names.
pub const CHANGES: usize = 50;

/// Walks back from a build.
pub struct History<'a> {
    ro: &'a Ro,
    notifier: &'a Notifier,
    builder: Arc<Builder>,
    branch: String,
    /// Only builds below this number are still to be read.
    below: i64,
    floor: i64,
    piece: u64,
    found: VecDeque<Facts>,
}

impl<'a> History<'a> {
    /// What came before `facts`.
    pub fn before(ro: &'a Ro, notifier: &'a Notifier, facts: &Facts) -> Self {
        Self::before_number(ro, notifier, facts, facts.build.number)
    }

    /// What came before an older build on the same builder and branch.
    pub fn before_number(ro: &'a Ro, notifier: &'a Notifier, facts: &Facts, number: i64) -> Self {
        Self {
            ro,
            notifier,
            builder: facts.builder.clone(),
            branch: facts.branch().to_owned(),
            below: number,
            floor: number - REACH,
            piece: FIRST_PIECE,
            found: VecDeque::new(),
        }
    }

    /// The next older build that says something of the code and passes the notifier's filters.
    pub async fn next(&mut self) -> Result<Option<Facts>, DataError> {
        loop {
            while let Some(facts) = self.found.pop_front() {
                if passes(self.ro, self.notifier, &facts).await? {
                    return Ok(Some(facts));
                }
            }
            if self.below <= self.floor.max(1) {
                return Ok(None);
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), DataError> {
        let verdicts = Results::ALL.into_iter().filter(|it| is_verdict(*it));
        let number =
            |compare, value| Filter { field: "number", compare, values: vec![FieldValue::Int(value)] };
        let mut query =
            Query::default().eq("builderid", self.builder.id.0).order_by("number", true).limit(self.piece);
        query.filters.push(number(Compare::Lt, self.below));
        query.filters.push(number(Compare::Ge, self.floor));
        let query = query.any("results", verdicts.map(|it| it.code()));
        let builds = self.ro.list::<Build>(query).await?.value.items;
        self.below = match builds.last() {
            Some(last) if builds.len() as u64 == self.piece => last.number,
            _ => 0,
        };
        self.piece = REACH.unsigned_abs();
        let builds: Vec<Arc<Build>> = builds.into_iter().map(|it| it.entity).collect();
        for (build, buildset) in with_buildsets(self.ro, builds).await? {
            if branch_of(&buildset) == self.branch {
                self.found.push_back(Facts { build, builder: self.builder.clone(), buildset });
            }
        }
        Ok(())
    }
}

/// Builds with their buildsets, read in two queries at most.
pub async fn with_buildsets(
    ro: &Ro,
    builds: Vec<Arc<Build>>,
) -> Result<Vec<(Arc<Build>, Arc<Buildset>)>, DataError> {
    let hot = ro.hot();
    let mut requests: HashMap<i64, Arc<BuildRequest>> = HashMap::new();
    let mut missing = Vec::new();
    for id in builds.iter().map(|it| it.request.0) {
        match hot.requests.get(&id) {
            Some(found) => _ = requests.insert(id, found.entity.clone()),
            None => missing.push(id),
        }
    }
    if !missing.is_empty() {
        let found =
            ro.list::<BuildRequest>(Query::default().any("buildrequestid", missing)).await?.value.items;
        requests.extend(found.into_iter().map(|it| (it.id.0, it.entity)));
    }
    let mut buildsets: HashMap<i64, Arc<Buildset>> = HashMap::new();
    let mut missing = Vec::new();
    for id in requests.values().map(|it| it.buildset.0) {
        match hot.buildsets.get(&id) {
            Some(found) => _ = buildsets.insert(id, found.entity.clone()),
            None => missing.push(id),
        }
    }
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        let found = ro.list::<Buildset>(Query::default().any("bsid", missing)).await?.value.items;
        buildsets.extend(found.into_iter().map(|it| (it.id.0, it.entity)));
    }
    let pairs = builds.into_iter().filter_map(|build| {
        let request = requests.get(&build.request.0)?;
        Some((build, buildsets.get(&request.buildset.0)?.clone()))
    });
    Ok(pairs.collect())
}

/// The step that decided a build's result: the first that failed, else the first that broke, else the first with warnings.
pub async fn deciding_step(ro: &Ro, build: &Build) -> Result<Option<Arc<Step>>, DataError> {
    let steps = ro.list::<Step>(Query::default().eq("buildid", build.id.0)).await?.value.items;
    let with = |results| steps.iter().find(|it| it.results == Some(results));
    let wanted: &[Results] = match build.results {
        Some(Results::Warnings) => &[Results::Warnings, Results::Failure],
        Some(Results::Failure) => &[Results::Failure, Results::Warnings],
        Some(Results::Exception) => &[Results::Exception, Results::Failure],
        Some(Results::Cancelled) => &[Results::Cancelled],
        _ => &[],
    };
    Ok(wanted.iter().find_map(|it| with(*it)).map(|it| it.entity.clone()))
}

/// The changes that came into `facts` since `base` (or with the build itself, if there is no base), newest first, at most
/// [`CHANGES`], and how many more there are.
pub async fn changes_since(
    ro: &Ro,
    base: Option<&Facts>,
    facts: &Facts,
) -> Result<(Vec<Arc<Change>>, usize), DataError> {
    let own = ro.changes_of_build(facts.build.id).await?.value;
    let Some(base) = base else {
        let mut own: Vec<Arc<Change>> = own.into_iter().map(|it| it.entity).collect();
        own.sort_by_key(|it| std::cmp::Reverse(it.id));
        let more = own.len().saturating_sub(CHANGES);
        own.truncate(CHANGES);
        return Ok((own, more));
    };
    let before = ro.changes_of_build(base.build.id).await?.value;
    let newest = |changes: &[greenroom_data::Shown<Change>], stamp: &SourceStamp| {
        changes.iter().filter(|it| it.codebase == stamp.codebase).map(|it| it.id.0).max()
    };
    let mut found = Vec::new();
    let mut total = 0;
    for stamp in &facts.buildset.sourcestamps {
        let Some(last) = newest(&own, stamp) else { continue };
        // A base that was forced has no change of its own: then only what came with this build is certain.
        let first = newest(&before, stamp).unwrap_or(last - 1);
        let id = |compare, value| Filter { field: "changeid", compare, values: vec![FieldValue::Int(value)] };
        let mut query = Query::default()
            .eq("repository", stamp.repository.as_str())
            .eq("branch", stamp.branch.as_deref())
            .eq("codebase", stamp.codebase.as_str())
            .order_by("changeid", true)
            .limit(CHANGES as u64);
        query.filters.extend([id(Compare::Gt, first), id(Compare::Le, last)]);
        let page = ro.list::<Change>(query).await?.value;
        total += usize::try_from(page.total).unwrap_or(usize::MAX);
        found.extend(page.items.into_iter().map(|it| it.entity));
    }
    found.sort_by_key(|it| std::cmp::Reverse(it.id));
    found.truncate(CHANGES);
    let more = total.saturating_sub(found.len());
    Ok((found, more))
}
