//! What retention decides by: a builder's history from its newest build on, and what nothing refers to.

use std::collections::{HashMap, HashSet};

use greenroom_model::*;

use crate::engine::Comparison::{Gt, Lt};
use crate::engine::{CHUNK, Cond, EngineError, ReadTx, Select, Table, Value};
use crate::messages::{BuildFacts, LogError, Loose, LooseEnds, RetentionFacts};
use crate::rows::{Fields, load, load_where};
use crate::schema::*;
use crate::store::Store;

type Read<T> = Result<T, EngineError>;

/// A page of ended builds with what retention asks of them; those that run are left out.
pub async fn facts(tx: &mut dyn ReadTx, msg: RetentionFacts) -> Read<Vec<BuildFacts>> {
    let page = Select::from(&BUILDS)
        .filter(Cond::eq("builderid", msg.builder.0))
        .filter(Cond::is("number", Lt, msg.below))
        .order("number", true)
        .limit(msg.limit);
    let builds = load::<Build>(tx, &page).await?;
    let branches = branches(tx, &builds.iter().map(|b| b.request.0).collect::<Vec<_>>()).await?;
    let marks = marks(tx, &builds.iter().map(|b| b.id.0).collect::<Vec<_>>()).await?;
    let fact = |b: std::sync::Arc<Build>| {
        let (pinned, logs_removed) = marks.get(&b.id.0).copied().unwrap_or_default();
        BuildFacts {
            id: b.id,
            number: b.number,
            results: b.results,
            complete_at: b.complete_at,
            branch: branches.get(&b.request.0).cloned().flatten(),
            pinned,
            logs_removed,
        }
    };
    Ok(builds.into_iter().map(fact).collect())
}

/// The branch of each request's first source stamp.
async fn branches(tx: &mut dyn ReadTx, requests: &[i64]) -> Read<HashMap<i64, Option<String>>> {
    let requests = load_where::<BuildRequest>(tx, "buildrequestid", requests, &[]).await?;
    let mut sets: Vec<i64> = requests.iter().map(|r| r.buildset.0).collect();
    sets.sort_unstable();
    sets.dedup();
    let mut stamp_of: HashMap<i64, i64> = HashMap::new();
    for piece in sets.chunks(CHUNK) {
        let first = Select::from(&BUILDSET_SOURCESTAMPS)
            .filter(Cond::ids("bsid", piece.iter().copied()))
            .filter(Cond::eq("position", 0));
        for row in tx.select(&first).await? {
            let mut fields = Fields::new(&BUILDSET_SOURCESTAMPS, row);
            let set = fields.int()?;
            fields.skip();
            stamp_of.insert(set, fields.int()?);
        }
    }
    let mut stamps: Vec<i64> = stamp_of.values().copied().collect();
    stamps.sort_unstable();
    stamps.dedup();
    let mut branch_of: HashMap<i64, Option<String>> = HashMap::new();
    for piece in stamps.chunks(CHUNK) {
        let select = Select::from(&SOURCESTAMPS).filter(Cond::ids("ssid", piece.iter().copied()));
        for row in tx.select(&select).await? {
            let mut fields = Fields::new(&SOURCESTAMPS, row);
            branch_of.insert(fields.int()?, fields.opt_text()?);
        }
    }
    let branch = |set: i64| branch_of.get(stamp_of.get(&set)?).cloned().flatten();
    Ok(requests.iter().map(|r| (r.id.0, branch(r.buildset.0))).collect())
}

/// Of the builds that have a mark: whether they are pinned, and whether their logs are gone.
async fn marks(tx: &mut dyn ReadTx, builds: &[i64]) -> Read<HashMap<i64, (bool, bool)>> {
    let mut marks = HashMap::new();
    for piece in builds.chunks(CHUNK) {
        let select = Select::from(&BUILD_MARKS).filter(Cond::ids("buildid", piece.iter().copied()));
        for row in tx.select(&select).await? {
            let mut fields = Fields::new(&BUILD_MARKS, row);
            let (id, pinned) = (fields.int()?, fields.opt_int()? == Some(1));
            fields.skip();
            fields.skip();
            marks.insert(id, (pinned, fields.opt_int()?.is_some()));
        }
    }
    Ok(marks)
}

/// The bytes of text in the logs of each build; a build without logs is left out.
pub async fn log_bytes(store: Store, builds: Vec<BuildId>) -> Result<HashMap<BuildId, u64>, LogError> {
    let mut tx = store.0.engine.read().await?;
    let builds: Vec<i64> = builds.iter().map(|b| b.0).collect();
    let steps = load_where::<Step>(&mut *tx, "buildid", &builds, &[]).await?;
    let of: HashMap<i64, BuildId> = steps.iter().map(|s| (s.id.0, s.build)).collect();
    let steps: Vec<i64> = steps.iter().map(|s| s.id.0).collect();
    let mut logs: HashMap<BuildId, Vec<LogId>> = HashMap::new();
    for log in load_where::<Log>(&mut *tx, "stepid", &steps, &[]).await? {
        if let Some(build) = of.get(&log.step.0) {
            logs.entry(*build).or_default().push(log.id);
        }
    }
    drop(tx);
    let mut bytes = HashMap::new();
    for (build, logs) in logs {
        let size = store.0.logs.bytes(&logs).await?;
        bytes.insert(build, u64::try_from(size).unwrap_or_default());
    }
    Ok(bytes)
}

/// A page of old buildsets without builds, or of old changes that no buildset is about.
pub async fn loose(tx: &mut dyn ReadTx, msg: LooseEnds) -> Read<Loose> {
    let (table, time): (&'static Table, _) = match msg.changes {
        true => (&CHANGES, Cond::is("when_timestamp", Lt, msg.before.0)),
        false => (&BUILDSETS, Cond::is("complete_at", Lt, msg.before.0)),
    };
    let key = table.columns[0].0;
    // The time is looked at here: said to the database, it could lead it to walk the whole history for one page.
    let page = Select::from(table).filter(Cond::is(key, Gt, msg.after)).order(key, false).limit(msg.limit);
    let Cond::Is(column, _, Value::Int(before)) = time else { return Ok(Loose::default()) };
    let at = table.position(column).unwrap_or_default();
    let mut found: Vec<(i64, i64)> = Vec::new();
    let (mut next, ssid) = (None, CHANGES.position("ssid").unwrap_or_default());
    let rows = tx.select(&page).await?;
    let whole = rows.len() as u64 == msg.limit;
    for row in rows {
        let Some(Value::Int(id)) = row.first() else { continue };
        next = Some(*id);
        if matches!(row.get(at), Some(Value::Int(time)) if *time < before) {
            let stamp = match (msg.changes, row.get(ssid)) {
                (true, Some(Value::Int(stamp))) => *stamp,
                _ => *id,
            };
            found.push((*id, stamp));
        }
    }
    let used = used(tx, msg.changes, &found.iter().map(|f| f.1).collect::<Vec<_>>()).await?;
    let ids = found.into_iter().filter(|(_, by)| !used.contains(by)).map(|(id, _)| id).collect();
    Ok(Loose { ids, next: next.filter(|_| whole) })
}

/// The source stamps that buildsets have, or the buildsets that have builds.
async fn used(tx: &mut dyn ReadTx, stamps: bool, ids: &[i64]) -> Read<HashSet<i64>> {
    let mut used = HashSet::new();
    if stamps {
        for piece in ids.chunks(CHUNK) {
            let select =
                Select::from(&BUILDSET_SOURCESTAMPS).filter(Cond::ids("ssid", piece.iter().copied()));
            for row in tx.select(&select).await? {
                if let Some(Value::Int(stamp)) = row.get(2) {
                    used.insert(*stamp);
                }
            }
        }
        return Ok(used);
    }
    let requests = load_where::<BuildRequest>(tx, "buildsetid", ids, &[]).await?;
    let set_of: HashMap<i64, i64> = requests.iter().map(|r| (r.id.0, r.buildset.0)).collect();
    let requests: Vec<i64> = requests.iter().map(|r| r.id.0).collect();
    for build in load_where::<Build>(tx, "buildrequestid", &requests, &[]).await? {
        used.extend(set_of.get(&build.request.0));
    }
    Ok(used)
}
