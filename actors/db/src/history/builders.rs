//! The builds of each builder that its row shows, however old.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use greenroom_model::*;

use super::*;
use crate::engine::Comparison::{Gt, Lt};
use crate::engine::{Cond, Select};
use crate::rows::load;
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
    let mut found = Vec::with_capacity(builders.len());
    for builder in builders {
        let recent = recent(tx, *builder, None).await?;
        let whole = recent.len() < RECENT_OF_BUILDER;
        let successes = match whole || recent.iter().all(|b| b.results == Some(Results::Success)) {
            true => recent.iter().filter(|b| b.results == Some(Results::Success)).cloned().collect(),
            false => self::recent(tx, *builder, Some(Results::Success)).await?,
        };
        let before = if whole { Before::Nothing } else { before(tx, *builder, &recent).await? };
        let mut running: Vec<_> = running.iter().filter(|b| b.builder == *builder).cloned().collect();
        running.sort_unstable_by_key(|b| b.number);
        found.push((*builder, recent, running, successes, before));
    }
    let builds: Vec<_> = found.iter().flat_map(|f| f.1.iter().chain(&f.2)).cloned().collect();
    let sources = sources(tx, &builds).await?;
    Ok(found
        .into_iter()
        .map(|(builder, recent, running, successes, before)| BuilderHistory {
            builder,
            recent: with_sources(recent, &sources),
            running: with_sources(running, &sources),
            successes: successes.iter().map(|b| (b.number, took(b))).collect(),
            before,
        })
        .collect())
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

/// The last finished builds of a builder.
async fn recent(tx: &mut dyn ReadTx, builder: BuilderId, results: Option<Results>) -> Read<Vec<Arc<Build>>> {
    load(tx, &of(builder, results).order("number", true).limit(RECENT_OF_BUILDER as u64)).await
}

/// What precedes the recent builds: looked at only if these do not say where their streak began.
///
/// No number is bounded on both sides: of two such bounds SQLite makes so much that it walks all builds of the builder.
async fn before(tx: &mut dyn ReadTx, builder: BuilderId, recent: &[Arc<Build>]) -> Read<Before> {
    let says: Vec<Verdict> = recent.iter().filter_map(|b| verdict(b.results)).collect();
    if says.windows(2).any(|pair| pair[0] != pair[1]) {
        return Ok(Before::Unknown);
    }
    let oldest = recent.last().map_or(i64::MAX, |b| b.number);
    let good = newest_of(tx, builder, Verdict::Good, oldest).await?;
    let broken = newest_of(tx, builder, Verdict::Broken, oldest).await?;
    let (verdict, after) = match good.cmp(&broken) {
        Ordering::Greater => (Verdict::Good, broken.unwrap_or(0)),
        Ordering::Less => (Verdict::Broken, good.unwrap_or(0)),
        Ordering::Equal => return Ok(Before::Nothing),
    };
    let (mut count, mut since) = (0, None);
    for results in codes(verdict) {
        let row = of(builder, Some(results)).filter(Cond::is("number", Gt, after));
        let among_recent = recent.iter().filter(|b| b.results == Some(results)).count() as u64;
        let counted = tx.count(&row.clone().limit(LONGEST_STREAK + among_recent)).await?;
        count += counted.saturating_sub(among_recent);
        let first = load::<Build>(tx, &row.order("number", false).limit(1)).await?;
        let first = first.first().map(|b| (b.number, b.id));
        since = [since, first].into_iter().flatten().min();
    }
    let streak = since.map(|since| Streak { verdict, count: count.min(LONGEST_STREAK), since });
    Ok(streak.map_or(Before::Nothing, Before::Row))
}

/// The number of the newest build before `below` that says this.
async fn newest_of(
    tx: &mut dyn ReadTx,
    builder: BuilderId,
    verdict: Verdict,
    below: i64,
) -> Read<Option<i64>> {
    let mut newest = None;
    for results in codes(verdict) {
        let select = of(builder, Some(results)).filter(Cond::is("number", Lt, below));
        let found = load::<Build>(tx, &select.order("number", true).limit(1)).await?;
        newest = newest.max(found.first().map(|b| b.number));
    }
    Ok(newest)
}
