//! What retention removes, with everything that nothing refers to any more. It is looked at again here, in the transaction:
//! whoever asks saw the state of some time ago.
//!
//! Of several masters any may hold a source stamp in its memory, to use it in a new buildset. Those go only while this master is alone.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use greenroom_model::ids::IdKind;
use greenroom_model::*;

use crate::engine::{CHUNK, Comparison, Cond, EngineError, Select, Table, Value};
use crate::messages::{Remove, Removed};
use crate::rows::{Fields, load_where};
use crate::schema::*;
use crate::work::{Fault, Unit};

type Done<T> = Result<T, Fault>;

/// Removes what may be removed of `what`, in this transaction; the rest is left out silently.
pub async fn remove(unit: &mut Unit<'_>, what: &Remove) -> Done<Removed> {
    let mut done = Removed::default();
    let builds = removable(unit, what.builds.iter().map(|b| b.0).collect()).await?;
    let mut textless = removable(unit, what.logs_of.iter().map(|b| b.0).collect()).await?;
    textless.retain(|b| !builds.iter().any(|gone| gone.id == b.id));
    done.builds_without_logs = textless.len() as u64;
    let gone = remove_logs(unit, &ids(&textless), &mut done).await?;
    // Those of a build that goes go with it, without a word of their own.
    announce_gone(unit, &gone);
    mark_textless(unit, &ids(&textless)).await?;
    remove_logs(unit, &ids(&builds), &mut done).await?;
    let requests = builds.iter().map(|b| b.request.0).collect();
    remove_builds(unit, builds, &mut done).await?;
    let mut sets = remove_requests(unit, requests, &mut done).await?;
    sets.extend(what.buildsets.iter().map(|b| b.0));
    let stamps = remove_buildsets(unit, sets, &mut done).await?;
    let more = remove_changes(unit, what.changes.iter().map(|c| c.0).collect(), &mut done).await?;
    if let Some(before) = what.acts_before {
        remove_acts(unit, before, &mut done).await?;
    }
    if alone(unit).await? {
        remove_stamps(unit, stamps.into_iter().chain(more).collect(), &mut done).await?;
    }
    Ok(done)
}

fn ids(builds: &[std::sync::Arc<Build>]) -> Vec<i64> {
    builds.iter().map(|b| b.id.0).collect()
}

/// Deletes the rows whose column has one of the values.
async fn delete(unit: &mut Unit<'_>, table: &'static Table, column: &'static str, ids: &[i64]) -> Done<u64> {
    let mut rows = 0;
    for piece in ids.chunks(CHUNK) {
        rows += unit.tx.delete(table, &[Cond::ids(column, piece.iter().copied())]).await?;
    }
    Ok(rows)
}

/// The integers of one column in the rows whose other column has one of the values.
async fn column(
    unit: &mut Unit<'_>,
    table: &'static Table,
    wanted: &'static str,
    by: &'static str,
    ids: &[i64],
) -> Done<Vec<i64>> {
    let at = table.position(wanted).unwrap_or_default();
    let mut found = Vec::new();
    for piece in ids.chunks(CHUNK) {
        let select = Select::from(table).filter(Cond::ids(by, piece.iter().copied()));
        for row in unit.tx.select(&select).await? {
            if let Some(Value::Int(id)) = row.get(at) {
                found.push(*id);
            }
        }
    }
    Ok(found)
}

/// Those builds that have ended, are not pinned, are not their builder's newest, and that no running build waits for.
async fn removable(unit: &mut Unit<'_>, ids: Vec<i64>) -> Done<Vec<std::sync::Arc<Build>>> {
    let mut builds = load_where::<Build>(unit.tx, "buildid", &ids, &[Cond::eq("complete", 1)]).await?;
    let mut kept: HashSet<i64> = HashSet::new();
    for piece in ids.chunks(CHUNK) {
        let pinned = Select::from(&BUILD_MARKS)
            .filter(Cond::ids("buildid", piece.iter().copied()))
            .filter(Cond::eq("pinned", 1));
        for row in unit.tx.select(&pinned).await? {
            kept.insert(Fields::new(&BUILD_MARKS, row).int()?);
        }
    }
    let mut newest: BTreeMap<i64, i64> = BTreeMap::new();
    for build in &builds {
        if let Entry::Vacant(entry) = newest.entry(build.builder.0) {
            let of_builder = [Cond::eq("builderid", build.builder.0)];
            let number = unit.tx.max(&BUILDS, "number", &of_builder).await?;
            entry.insert(number.unwrap_or_default());
        }
    }
    let waited_for = waited_for(unit, &builds).await?;
    builds.retain(|b| {
        !kept.contains(&b.id.0)
            && newest.get(&b.builder.0) != Some(&b.number)
            && !waited_for.contains(&b.request.0)
    });
    Ok(builds)
}

/// The requests among those of these builds whose buildset a running build has triggered.
async fn waited_for(unit: &mut Unit<'_>, builds: &[std::sync::Arc<Build>]) -> Done<HashSet<i64>> {
    let requests: Vec<i64> = builds.iter().map(|b| b.request.0).collect();
    let requests = load_where::<BuildRequest>(unit.tx, "buildrequestid", &requests, &[]).await?;
    let mut sets: Vec<i64> = requests.iter().map(|r| r.buildset.0).collect();
    sets.sort_unstable();
    sets.dedup();
    let parents: BTreeMap<i64, i64> = {
        let mut parents = BTreeMap::new();
        for piece in sets.chunks(CHUNK) {
            let select = Select::from(&BUILDSETS)
                .filter(Cond::ids("bsid", piece.iter().copied()))
                .filter(Cond::NotNull("parent_buildid"));
            let at = BUILDSETS.position("parent_buildid").unwrap_or_default();
            for row in unit.tx.select(&select).await? {
                if let (Some(Value::Int(set)), Some(Value::Int(parent))) = (row.first(), row.get(at)) {
                    parents.insert(*set, *parent);
                }
            }
        }
        parents
    };
    let of: Vec<i64> = parents.values().copied().collect();
    let running = load_where::<Build>(unit.tx, "buildid", &of, &[Cond::eq("complete", 0)]).await?;
    let running: HashSet<i64> = running.iter().map(|b| b.id.0).collect();
    let waits = |set: i64| parents.get(&set).is_some_and(|parent| running.contains(parent));
    Ok(requests.iter().filter(|r| waits(r.buildset.0)).map(|r| r.id.0).collect())
}

/// The rows of logs, which it answers; their text is removed later by whoever writes it.
async fn remove_logs(
    unit: &mut Unit<'_>,
    builds: &[i64],
    done: &mut Removed,
) -> Done<Vec<std::sync::Arc<Log>>> {
    let steps = column(unit, &STEPS, "stepid", "buildid", builds).await?;
    let logs = load_where::<Log>(unit.tx, "stepid", &steps, &[]).await?;
    let ids: Vec<i64> = logs.iter().map(|log| log.id.0).collect();
    for log in &ids {
        let row = vec![(*log).into(), unit.at.0.into()];
        unit.upsert(&REMOVED_LOGS, row);
        unit.cache.logs.forget(log);
    }
    keep_ids(unit, IdKind::Log, &ids).await?;
    done.logs += delete(unit, &LOGS, "logid", &ids).await?;
    Ok(logs)
}

fn announce_gone(unit: &mut Unit<'_>, logs: &[std::sync::Arc<Log>]) {
    for log in logs {
        let mut last = (**log).clone();
        last.version += 1;
        unit.announce(EventName::Deleted, Record::Log(last.into()));
    }
}

async fn mark_textless(unit: &mut Unit<'_>, builds: &[i64]) -> Done<()> {
    for build in builds {
        // What is pinned does not come here, so nothing of a pin is lost.
        let row = vec![(*build).into(), false.into(), Value::Null, Value::Null, unit.at.0.into()];
        unit.upsert(&BUILD_MARKS, row);
    }
    Ok(())
}

async fn remove_builds(
    unit: &mut Unit<'_>,
    builds: Vec<std::sync::Arc<Build>>,
    done: &mut Removed,
) -> Done<()> {
    let gone = ids(&builds);
    let steps = column(unit, &STEPS, "stepid", "buildid", &gone).await?;
    keep_ids(unit, IdKind::Step, &steps).await?;
    keep_ids(unit, IdKind::Build, &gone).await?;
    done.steps += delete(unit, &STEPS, "buildid", &gone).await?;
    delete(unit, &BUILD_PROPERTIES, "buildid", &gone).await?;
    delete(unit, &BUILD_MARKS, "buildid", &gone).await?;
    done.builds += delete(unit, &BUILDS, "buildid", &gone).await?;
    for step in &steps {
        unit.cache.steps.forget(step);
        unit.cache.logs_of.forget(step);
        unit.cache.slugs_of.forget(step);
    }
    for build in builds {
        unit.cache.builds.forget(&build.id.0);
        unit.cache.properties.forget(&build.id.0);
        unit.cache.steps_of.forget(&build.id.0);
        let mut last = (*build).clone();
        last.version += 1;
        unit.announce(EventName::Deleted, Record::Build(last.into()));
    }
    Ok(())
}

/// Requests that are complete and have no build any more. Answers their buildsets.
async fn remove_requests(unit: &mut Unit<'_>, ids: Vec<i64>, done: &mut Removed) -> Done<Vec<i64>> {
    let in_use = column(unit, &BUILDS, "buildrequestid", "buildrequestid", &ids).await?;
    let complete = [Cond::eq("complete", 1)];
    let mut requests = load_where::<BuildRequest>(unit.tx, "buildrequestid", &ids, &complete).await?;
    requests.retain(|r| !in_use.contains(&r.id.0));
    let gone: Vec<i64> = requests.iter().map(|r| r.id.0).collect();
    keep_ids(unit, IdKind::BuildRequest, &gone).await?;
    done.requests += delete(unit, &BUILDREQUESTS, "buildrequestid", &gone).await?;
    let mut sets = Vec::new();
    for request in requests {
        unit.cache.requests.forget(&request.id.0);
        unit.cache.requests_of.forget(&request.buildset.0);
        sets.push(request.buildset.0);
        let mut last = (*request).clone();
        last.version += 1;
        unit.announce(EventName::Deleted, Record::BuildRequest(last.into()));
    }
    Ok(sets)
}

/// Buildsets that are complete and have no build any more, with what is left of their requests. Answers their source stamps.
async fn remove_buildsets(unit: &mut Unit<'_>, mut ids: Vec<i64>, done: &mut Removed) -> Done<Vec<i64>> {
    ids.sort_unstable();
    ids.dedup();
    let mut sets = load_where::<Buildset>(unit.tx, "bsid", &ids, &[Cond::eq("complete", 1)]).await?;
    let left: Vec<i64> = sets.iter().map(|s| s.id.0).collect();
    let requests = column(unit, &BUILDREQUESTS, "buildrequestid", "buildsetid", &left).await?;
    Box::pin(remove_requests(unit, requests, done)).await?;
    let in_use = column(unit, &BUILDREQUESTS, "buildsetid", "buildsetid", &left).await?;
    sets.retain(|s| !in_use.contains(&s.id.0));
    let gone: Vec<i64> = sets.iter().map(|s| s.id.0).collect();
    keep_ids(unit, IdKind::Buildset, &gone).await?;
    delete(unit, &BUILDSET_SOURCESTAMPS, "bsid", &gone).await?;
    delete(unit, &BUILDSET_PROPERTIES, "bsid", &gone).await?;
    done.buildsets += delete(unit, &BUILDSETS, "bsid", &gone).await?;
    let mut stamps = Vec::new();
    for set in sets {
        unit.cache.buildsets.forget(&set.id.0);
        unit.cache.requests_of.forget(&set.id.0);
        stamps.extend(set.sourcestamps.iter().map(|s| s.id.0));
        let mut last = (*set).clone();
        last.version += 1;
        unit.announce(EventName::Deleted, Record::Buildset(last.into()));
    }
    Ok(stamps)
}

/// Changes whose source stamp no buildset has, but never the newest of a branch: the next one is compared with it. Answers their
/// source stamps.
async fn remove_changes(unit: &mut Unit<'_>, ids: Vec<i64>, done: &mut Removed) -> Done<Vec<i64>> {
    let changes = load_where::<Change>(unit.tx, "changeid", &ids, &[]).await?;
    let stamps: Vec<i64> = changes.iter().map(|c| c.sourcestamp.id.0).collect();
    let in_use = column(unit, &BUILDSET_SOURCESTAMPS, "ssid", "ssid", &stamps).await?;
    let (mut gone, mut freed) = (Vec::new(), Vec::new());
    for change in changes {
        if in_use.contains(&change.sourcestamp.id.0) || is_newest(unit, &change).await? {
            continue;
        }
        gone.push(change.id.0);
        freed.push(change.sourcestamp.id.0);
        unit.announce(EventName::Deleted, Record::Change(change));
    }
    keep_ids(unit, IdKind::Change, &gone).await?;
    delete(unit, &CHANGE_ORIGINS, "changeid", &gone).await?;
    done.changes += delete(unit, &CHANGES, "changeid", &gone).await?;
    Ok(freed)
}

/// So many control acts go in one transaction.
const ACTS: u64 = 100;

/// Some of the answered control acts that are older.
async fn remove_acts(unit: &mut Unit<'_>, before: Timestamp, done: &mut Removed) -> Done<()> {
    let old = Select::from(&CONTROL_ACTS)
        .filter(Cond::is("requested_at", Comparison::Lt, before.0))
        .filter(Cond::NotNull("answered_at"))
        .order("requested_at", false);
    let mut gone = Vec::new();
    for row in unit.tx.select(&old.limit(ACTS)).await? {
        gone.push(Fields::new(&CONTROL_ACTS, row).int()?);
    }
    keep_ids(unit, IdKind::Control, &gone).await?;
    done.acts += delete(unit, &CONTROL_ACTS, "controlid", &gone).await?;
    Ok(())
}

async fn is_newest(unit: &mut Unit<'_>, change: &Change) -> Done<bool> {
    let branch = change.branch.as_deref().map_or(Cond::Null("branch"), |b| Cond::eq("branch", b));
    let newer = Select::from(&CHANGES)
        .filter(Cond::eq("repository", change.repository.as_str()))
        .filter(branch)
        .filter(Cond::is("changeid", Comparison::Gt, change.id.0));
    Ok(unit.tx.select(&newer.limit(1)).await?.is_empty())
}

/// Source stamps that no buildset and no change has, with their patches.
async fn remove_stamps(unit: &mut Unit<'_>, mut ids: Vec<i64>, done: &mut Removed) -> Done<()> {
    ids.sort_unstable();
    ids.dedup();
    let mut in_use = column(unit, &BUILDSET_SOURCESTAMPS, "ssid", "ssid", &ids).await?;
    in_use.extend(column(unit, &CHANGES, "ssid", "ssid", &ids).await?);
    ids.retain(|id| !in_use.contains(id));
    if ids.is_empty() {
        return Ok(());
    }
    let patches = column(unit, &SOURCESTAMPS, "patchid", "ssid", &ids).await?;
    keep_ids(unit, IdKind::SourceStamp, &ids).await?;
    keep_ids(unit, IdKind::Patch, &patches).await?;
    done.sourcestamps += delete(unit, &SOURCESTAMPS, "ssid", &ids).await?;
    delete(unit, &PATCHES, "patchid", &patches).await?;
    unit.cache.stamps = Default::default();
    Ok(())
}

/// Whether no other master runs, as far as the database knows.
async fn alone(unit: &mut Unit<'_>) -> Result<bool, EngineError> {
    let others = Select::from(&MASTERS)
        .filter(Cond::is("masterid", Comparison::Ne, unit.master.0))
        .filter(Cond::eq("active", 1));
    Ok(unit.tx.select(&others.limit(1)).await?.is_empty())
}

/// Under which name the counters tell the largest id of a kind that is gone.
pub fn gone_counter(kind: IdKind) -> String {
    format!("{}.gone", kind.name())
}

/// Sees to it that no id is given to something else after a restart, which counts on from the largest in use.
async fn keep_ids(unit: &mut Unit<'_>, kind: IdKind, ids: &[i64]) -> Done<()> {
    let Some(largest) = ids.iter().copied().max() else { return Ok(()) };
    let name = gone_counter(kind);
    let known = unit.first(Select::from(&COUNTERS).filter(Cond::eq("kind", name.as_str()))).await?;
    let known = match known {
        Some(mut fields) => {
            fields.skip();
            fields.int()?
        }
        None => 0,
    };
    if largest > known {
        unit.upsert(&COUNTERS, vec![name.into(), largest.into()]);
    }
    Ok(())
}
