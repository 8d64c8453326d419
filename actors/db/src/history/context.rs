//! What surrounds a build: its neighbours, and what changed since the last good one.

use std::collections::BTreeMap;
use std::sync::Arc;

use greenroom_model::*;

use super::*;
use crate::engine::Comparison::{Gt, Le, Lt};
use crate::engine::{Cond, Select};
use crate::reads::by_id;
use crate::rows::load;
use crate::schema::{BUILDS, CHANGES};

type Read<T> = Result<T, EngineError>;

/// How many good builds of other branches are passed over, and by how many at once.
const FAR: usize = 500;
const AT_ONCE: u64 = 50;

/// The changes of some source stamps, in order of their ids.
pub async fn changes_of_stamps(tx: &mut dyn ReadTx, msg: ChangesOfStamps) -> Read<Vec<Arc<Change>>> {
    let stamps: Vec<i64> = msg.stamps.iter().map(|s| s.0).collect();
    let mut changes = load_where::<Change>(tx, "ssid", &stamps, &[]).await?;
    changes.sort_unstable_by_key(|c| c.id);
    Ok(changes)
}

/// What surrounds a build.
pub async fn build_context(tx: &mut dyn ReadTx, msg: BuildContextOf) -> Read<Option<BuildContext>> {
    let Some(build) = by_id::<Build>(tx, msg.build.0).await? else { return Ok(None) };
    let of_builder = || Select::from(&BUILDS).filter(Cond::eq("builderid", build.builder.0));
    let before = of_builder().filter(Cond::is("number", Lt, build.number)).order("number", true).limit(1);
    let after = of_builder().filter(Cond::is("number", Gt, build.number)).order("number", false).limit(1);
    let previous = load(tx, &before).await?.into_iter().next();
    let next = load(tx, &after).await?.into_iter().next();
    let stamps = stamps_of(tx, &build).await?;
    let good = last_good(tx, &build, &stamps).await?;
    let (changes, more) = changes_since(tx, &stamps, good.as_ref(), msg.changes).await?;
    Ok(Some(BuildContext { previous, next, good: good.map(|(build, _)| build), changes, more }))
}

type Stamps = Vec<Arc<SourceStamp>>;

/// The source stamps of a build.
async fn stamps_of(tx: &mut dyn ReadTx, build: &Build) -> Read<Stamps> {
    let Some(request) = by_id::<BuildRequest>(tx, build.request.0).await? else { return Ok(Vec::new()) };
    let set = by_id::<Buildset>(tx, request.buildset.0).await?;
    Ok(set.map(|set| set.sourcestamps.clone()).unwrap_or_default())
}

/// Whether two sets of source stamps are about the same branch: that of the first.
fn same_branch(a: &[Arc<SourceStamp>], b: &[Arc<SourceStamp>]) -> bool {
    a.first().map(|s| &s.branch) == b.first().map(|s| &s.branch)
}

/// The last good build before this one on the same branch, with its source stamps.
async fn last_good(
    tx: &mut dyn ReadTx,
    build: &Build,
    stamps: &[Arc<SourceStamp>],
) -> Read<Option<(Arc<Build>, Stamps)>> {
    let mut best: Option<(Arc<Build>, Stamps)> = None;
    for results in [Results::Success, Results::Warnings] {
        let (mut below, mut seen) = (build.number, 0);
        'pages: while seen < FAR {
            let page = Select::from(&BUILDS)
                .filter(Cond::eq("builderid", build.builder.0))
                .filter(Cond::eq("results", results.code()))
                .filter(Cond::is("number", Lt, below))
                .order("number", true)
                .limit(AT_ONCE);
            let builds = load::<Build>(tx, &page).await?;
            let requests: Vec<i64> = builds.iter().map(|b| b.request.0).collect();
            let requests = load_where::<BuildRequest>(tx, "buildrequestid", &requests, &[]).await?;
            let sets = sets_by_id(tx, requests.iter().map(|r| r.buildset.0).collect()).await?;
            let set_of: BTreeMap<_, _> = requests.iter().map(|r| (r.id, r.buildset)).collect();
            for candidate in &builds {
                if best.as_ref().is_some_and(|(best, _)| best.number > candidate.number) {
                    break 'pages;
                }
                let set = set_of.get(&candidate.request).and_then(|set| sets.get(set));
                if let Some(set) = set.filter(|set| same_branch(&set.sourcestamps, stamps)) {
                    best = Some((Arc::clone(candidate), set.sourcestamps.clone()));
                    break 'pages;
                }
            }
            seen += builds.len();
            match builds.last() {
                Some(last) if builds.len() as u64 == AT_ONCE => below = last.number,
                _ => break,
            }
        }
    }
    Ok(best)
}

/// The changes on the branches of `stamps` after those of the good build, newest first, and whether there are more than `limit`.
async fn changes_since(
    tx: &mut dyn ReadTx,
    stamps: &[Arc<SourceStamp>],
    good: Option<&(Arc<Build>, Stamps)>,
    limit: u64,
) -> Read<(Vec<Arc<Change>>, bool)> {
    let mut found: BTreeMap<ChangeId, Arc<Change>> = BTreeMap::new();
    let mut more = false;
    for stamp in stamps {
        let own = load_where::<Change>(tx, "ssid", &[stamp.id.0], &[]).await?;
        let last = own.iter().map(|c| c.id.0).max();
        found.extend(own.into_iter().map(|c| (c.id, c)));
        let Some(last) = last else { continue };
        let before = good.and_then(|(_, all)| all.iter().find(|s| s.codebase == stamp.codebase));
        let Some(before) = before else { continue };
        let first = load_where::<Change>(tx, "ssid", &[before.id.0], &[]).await?;
        let Some(first) = first.iter().map(|c| c.id.0).max() else { continue };
        let branch = stamp.branch.as_deref().map_or(Cond::Null("branch"), |b| Cond::eq("branch", b));
        let between = Select::from(&CHANGES)
            .filter(Cond::eq("repository", stamp.repository.as_str()))
            .filter(branch)
            .filter(Cond::is("changeid", Gt, first))
            .filter(Cond::is("changeid", Le, last))
            .order("changeid", true)
            .limit(limit + 1);
        found.extend(load::<Change>(tx, &between).await?.into_iter().map(|c| (c.id, c)));
        // A build of what the good one built: nothing of it is new.
        found.retain(|id, change| id.0 > first || change.codebase != stamp.codebase);
    }
    let mut changes: Vec<_> = found.into_values().rev().collect();
    if changes.len() as u64 > limit {
        more = true;
        changes.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    Ok((changes, more))
}
