//! Changes with what was built of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greenroom_model::*;

use super::*;
use crate::engine::Comparison::Lt;
use crate::engine::{Cond, Select, Value};
use crate::schema::{BUILDSET_SOURCESTAMPS, CHANGES};

type Read<T> = Result<T, EngineError>;

/// The most buildsets of a source stamp that are looked at, newest first.
const SETS_OF_STAMP: u64 = 200;

/// A page of changes with their cells.
pub async fn console(tx: &mut dyn ReadTx, msg: ConsoleOf) -> Read<ConsolePage> {
    let (changes, more) = changes(tx, &msg).await?;
    let stamps: Vec<SourceStampId> = changes.iter().map(|c| c.sourcestamp.id).collect();
    let cells = cells_of(tx, &stamps).await?;
    let row = |change: Arc<Change>| {
        let cells = cells.get(&change.sourcestamp.id).cloned().unwrap_or_default();
        ConsoleRow { change, cells }
    };
    Ok(ConsolePage { rows: changes.into_iter().map(row).collect(), more })
}

/// The newest changes that pass the filters.
async fn changes(tx: &mut dyn ReadTx, msg: &ConsoleOf) -> Read<(Vec<Arc<Change>>, bool)> {
    let mut select = Select::from(&CHANGES);
    let filters = [
        ("branch", &msg.branches),
        ("codebase", &msg.codebases),
        ("project", &msg.projects),
        ("repository", &msg.repositories),
    ];
    for (column, values) in filters {
        match values.as_slice() {
            [] => {}
            [only] => select.conds.push(Cond::eq(column, only.as_str())),
            many => select.conds.push(Cond::In(column, many.iter().map(|v| v.as_str().into()).collect())),
        }
    }
    if let Some(before) = msg.before {
        select.conds.push(Cond::is("changeid", Lt, before.0));
    }
    let rows = crate::pages::rows(tx, &select.order("changeid", true).limit(msg.limit + 1)).await?;
    let mut changes: Vec<_> =
        <Change as crate::rows::RowMapped>::from_rows(rows, tx).await?.into_iter().map(Arc::new).collect();
    let limit = usize::try_from(msg.limit).unwrap_or(usize::MAX);
    let more = changes.len() > limit;
    changes.truncate(limit);
    Ok((changes, more))
}

/// What was built of each source stamp.
pub async fn cells_of(
    tx: &mut dyn ReadTx,
    stamps: &[SourceStampId],
) -> Read<HashMap<SourceStampId, Arc<Vec<ConsoleCell>>>> {
    let mut stamps = stamps.to_vec();
    stamps.sort_unstable();
    stamps.dedup();
    let mut stamps_of_set: HashMap<i64, Vec<SourceStampId>> = HashMap::new();
    for stamp in &stamps {
        let select = Select::from(&BUILDSET_SOURCESTAMPS)
            .filter(Cond::eq("ssid", stamp.0))
            .order("bsid", true)
            .limit(SETS_OF_STAMP);
        for row in tx.select(&select).await? {
            if let Some(Value::Int(set)) = row.first() {
                stamps_of_set.entry(*set).or_default().push(*stamp);
            }
        }
    }
    let mut sets: Vec<i64> = stamps_of_set.keys().copied().collect();
    sets.sort_unstable();
    let requests = load_where::<BuildRequest>(tx, "buildsetid", &sets, &[]).await?;
    let ids: Vec<i64> = requests.iter().map(|r| r.id.0).collect();
    let builds = load_where::<Build>(tx, "buildrequestid", &ids, &[]).await?;
    let mut builds_of: HashMap<BuildRequestId, Vec<Arc<Build>>> = HashMap::new();
    for build in builds {
        builds_of.entry(build.request).or_default().push(build);
    }
    let mut cells: HashMap<SourceStampId, BTreeMap<BuilderId, ConsoleCell>> = HashMap::new();
    for request in requests {
        let builds = builds_of.remove(&request.id).unwrap_or_default();
        for stamp in stamps_of_set.get(&request.buildset.0).into_iter().flatten() {
            let cell = cells.entry(*stamp).or_default().entry(request.builder);
            let cell = cell.or_insert_with(|| ConsoleCell::of(request.builder));
            cell.add_request(&request);
            builds.iter().for_each(|build| cell.add_build(build));
        }
    }
    Ok(cells.into_iter().map(|(stamp, row)| (stamp, Arc::new(row.into_values().collect()))).collect())
}

impl ConsoleCell {
    /// An empty one.
    pub fn of(builder: BuilderId) -> Self {
        Self { builder, latest: None, builds: 0, open: Vec::new() }
    }

    /// A request as it is now.
    pub fn add_request(&mut self, request: &BuildRequest) {
        let at = self.open.binary_search_by_key(&request.id, |(id, _)| *id);
        let now = (request.id, request.claimed_at.is_some());
        match (at, request.complete_at.is_some()) {
            (Ok(at), true) => drop(self.open.remove(at)),
            (Ok(at), false) => self.open[at] = now,
            (Err(at), false) => self.open.insert(at, now),
            (Err(_), true) => {}
        }
    }

    /// A build that was not counted yet.
    pub fn add_build(&mut self, build: &Arc<Build>) {
        self.builds += 1;
        if self.latest.as_ref().is_none_or(|latest| latest.number < build.number) {
            self.latest = Some(Arc::clone(build));
        }
    }
}
