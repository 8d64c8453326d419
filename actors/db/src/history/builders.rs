//! The builds of each builder that its row shows, however old.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use greenroom_model::*;

use super::*;
use crate::engine::Comparison::{Gt, Lt};
use crate::engine::{Cond, Select};
use crate::rows::{load, load_each};
use crate::schema::BUILDS;

type Read<T> = Result<T, EngineError>;

fn codes(verdict: Verdict) -> [Results; 2] {
    match verdict {
        Verdict::Good => [Results::Success, Results::Warnings],
        Verdict::Broken => [Results::Failure, Results::Exception],
    }
}

/// The histories of some builders; of none that does not exist.
pub async fn histories_of(tx: &mut dyn ReadTx, msg: HistoriesOf) -> Read<Vec<BuilderHistory>> {
    let running = load::<Build>(tx, &Select::from(&BUILDS).filter(Cond::eq("complete", 0))).await?;
    all(tx, &msg.builders, &running).await
}

/// The histories of builders, of which `running` are all the running builds.
pub async fn all(
    tx: &mut dyn ReadTx,
    builders: &[BuilderId],
    running: &[Arc<Build>],
) -> Read<Vec<BuilderHistory>> {
    let mut recent = recent(tx, builders, None).await?;
    let succeeded = |builds: &[Arc<Build>]| builds.iter().all(|b| b.results == Some(Results::Success));
    let hidden = recent.iter().filter(|(_, it)| it.len() == RECENT_OF_BUILDER && !succeeded(it));
    let hidden: Vec<BuilderId> = hidden.map(|(builder, _)| *builder).collect();
    let mut successes = self::recent(tx, &hidden, Some(Results::Success)).await?;
    let before = before(tx, &recent).await?;
    let shown = recent.values().flatten().chain(running.iter().filter(|b| builders.contains(&b.builder)));
    let sources = sources(tx, &shown.cloned().collect::<Vec<_>>()).await?;
    let history = |builder: &BuilderId| {
        let recent = recent.remove(builder).unwrap_or_default();
        let success = |b: &&Arc<Build>| b.results == Some(Results::Success);
        let successes =
            successes.remove(builder).unwrap_or_else(|| recent.iter().filter(success).cloned().collect());
        let mut running: Vec<_> = running.iter().filter(|b| b.builder == *builder).cloned().collect();
        running.sort_unstable_by_key(|b| b.number);
        BuilderHistory {
            builder: *builder,
            before: before.get(builder).copied().unwrap_or(Before::Nothing),
            recent: with_sources(recent, &sources),
            running: with_sources(running, &sources),
            successes: successes.iter().map(|b| (b.number, took(b))).collect(),
        }
    };
    Ok(builders.iter().map(history).collect())
}

fn with_sources(
    builds: Vec<Arc<Build>>,
    sources: &HashMap<BuildRequestId, Arc<Source>>,
) -> Vec<(Arc<Build>, Arc<Source>)> {
    let source = |build: &Build| sources.get(&build.request).cloned().unwrap_or_default();
    builds.into_iter().map(|build| (Arc::clone(&build), source(&build))).collect()
}

/// How long a build took, in microseconds.
pub fn took(build: &Build) -> i64 {
    build.complete_at.map_or(0, |end| end.micros_since(build.started_at).max(0))
}

/// The builds of a builder, with one result or all finished ones.
fn of(builder: BuilderId, results: Option<Results>) -> Select {
    let of = Select::from(&BUILDS).filter(Cond::eq("builderid", builder.0));
    match results {
        Some(results) => of.filter(Cond::eq("results", results.code())),
        None => of.filter(Cond::eq("complete", 1)),
    }
}

/// The last finished builds of builders, newest first.
async fn recent(
    tx: &mut dyn ReadTx,
    builders: &[BuilderId],
    results: Option<Results>,
) -> Read<HashMap<BuilderId, Vec<Arc<Build>>>> {
    let last = |b: &BuilderId| of(*b, results).order("number", true).limit(RECENT_OF_BUILDER as u64);
    let mut found: HashMap<_, Vec<_>> = HashMap::new();
    for build in load_each::<Build>(tx, &builders.iter().map(last).collect::<Vec<_>>()).await? {
        found.entry(build.builder).or_default().push(build);
    }
    found.values_mut().for_each(|builds| builds.sort_unstable_by_key(|b| Reverse(b.number)));
    Ok(found)
}

/// What precedes the recent builds: looked at only if these do not say where their streak began.
///
/// No number is bounded on both sides: of two such bounds SQLite makes so much that it walks all builds of the builder.
async fn before(
    tx: &mut dyn ReadTx,
    recent: &HashMap<BuilderId, Vec<Arc<Build>>>,
) -> Read<HashMap<BuilderId, Before>> {
    let mut found = HashMap::new();
    let mut older = Vec::new();
    for (builder, builds) in recent.iter().filter(|(_, builds)| builds.len() == RECENT_OF_BUILDER) {
        let says: Vec<Verdict> = builds.iter().filter_map(|b| verdict(b.results)).collect();
        if says.windows(2).any(|pair| pair[0] != pair[1]) {
            found.insert(*builder, Before::Unknown);
        } else if let Some(oldest) = builds.last() {
            older.push((*builder, oldest.number));
        }
    }
    let newest = newest(tx, &older).await?;
    let streaks = newest.into_iter().filter_map(|(builder, [good, broken])| match good.cmp(&broken) {
        Ordering::Greater => Some((builder, Verdict::Good, broken)),
        Ordering::Less => Some((builder, Verdict::Broken, good)),
        Ordering::Equal => None,
    });
    for (builder, streak) in self::streaks(tx, recent, streaks.collect()).await? {
        found.insert(builder, Before::Row(streak));
    }
    Ok(found)
}

/// The numbers of the newest builds that say good and broken, before a number each; 0: there is none.
async fn newest(tx: &mut dyn ReadTx, before: &[(BuilderId, i64)]) -> Read<HashMap<BuilderId, [i64; 2]>> {
    let codes = [codes(Verdict::Good), codes(Verdict::Broken)].concat();
    let last = |(builder, number): &(BuilderId, i64), results| {
        of(*builder, Some(results)).filter(Cond::is("number", Lt, *number)).order("number", true).limit(1)
    };
    let selects: Vec<_> = before.iter().flat_map(|it| codes.iter().map(|code| last(it, *code))).collect();
    let mut found: HashMap<_, [i64; 2]> = HashMap::new();
    for build in load_each::<Build>(tx, &selects).await? {
        let at = usize::from(verdict(build.results) == Some(Verdict::Broken));
        let numbers = found.entry(build.builder).or_default();
        numbers[at] = numbers[at].max(build.number);
    }
    Ok(found)
}

/// The builds that say the same, from after a number to before the recent ones.
async fn streaks(
    tx: &mut dyn ReadTx,
    recent: &HashMap<BuilderId, Vec<Arc<Build>>>,
    wanted: Vec<(BuilderId, Verdict, i64)>,
) -> Read<Vec<(BuilderId, Streak)>> {
    let mut counted = Vec::new();
    for (builder, verdict, after) in &wanted {
        for results in codes(*verdict) {
            let all = of(*builder, Some(results)).filter(Cond::is("number", Gt, *after));
            let builds = recent.get(builder).into_iter().flatten();
            let among_recent = builds.filter(|b| b.results == Some(results)).count() as u64;
            counted.push((*builder, among_recent, all));
        }
    }
    let limited: Vec<_> =
        counted.iter().map(|(_, recent, all)| all.clone().limit(LONGEST_STREAK + recent)).collect();
    let mut counts: HashMap<BuilderId, u64> = HashMap::new();
    for ((builder, recent, _), count) in counted.iter().zip(tx.count_each(&limited).await?) {
        *counts.entry(*builder).or_default() += count.saturating_sub(*recent);
    }
    let firsts: Vec<_> = counted.into_iter().map(|(.., all)| all.order("number", false).limit(1)).collect();
    let mut since: HashMap<BuilderId, (i64, BuildId)> = HashMap::new();
    for build in load_each::<Build>(tx, &firsts).await? {
        let first = since.entry(build.builder).or_insert((build.number, build.id));
        *first = (*first).min((build.number, build.id));
    }
    let streak = |(builder, verdict, _): (BuilderId, Verdict, i64)| {
        let count = counts.get(&builder).map_or(0, |count| (*count).min(LONGEST_STREAK));
        Some((builder, Streak { verdict, count, since: *since.get(&builder)? }))
    };
    Ok(wanted.into_iter().filter_map(streak).collect())
}
