//! Changes with what was built of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use greenroom_model::*;

use super::*;
use crate::engine::Comparison::Lt;
use crate::engine::{Cond, Select};
use crate::rows::Fields;
use crate::schema::{BUILDSET_SOURCESTAMPS, CHANGES};

type Read<T> = Result<T, EngineError>;

/// The most buildsets of a source stamp that its cells tell of, newest first.
pub const SETS_OF_STAMP: u64 = 200;

/// A page of changes with their cells.
pub async fn console(tx: &mut dyn ReadTx, msg: ConsoleOf) -> Read<ConsolePage> {
    let (changes, more) = changes(tx, &msg).await?;
    let stamps: Vec<SourceStampId> = changes.iter().map(|c| c.sourcestamp.id).collect();
    let cells = cells_of(tx, stamps).await?.rows;
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

/// Cells of some source stamps, from the primary's newest state.
pub async fn cells_of_stamps(tx: &mut dyn ReadTx, msg: ConsoleCellsOf) -> Read<ConsoleCells> {
    cells_of(tx, msg.stamps).await
}

/// What was built of each source stamp.
async fn cells_of(tx: &mut dyn ReadTx, mut stamps: Vec<SourceStampId>) -> Read<ConsoleCells> {
    stamps.sort_unstable();
    stamps.dedup();
    let sets = sets_of(tx, &stamps).await?;
    let ids: Vec<i64> = sets.keys().map(|set| set.0).collect();
    let requests = load_where::<BuildRequest>(tx, "buildsetid", &ids, &[]).await?;
    let ids: Vec<i64> = requests.iter().map(|r| r.id.0).collect();
    let mut builds_of: HashMap<BuildRequestId, Vec<Arc<Build>>> = HashMap::new();
    for build in load_where::<Build>(tx, "buildrequestid", &ids, &[]).await? {
        builds_of.entry(build.request).or_default().push(build);
    }
    let mut rows: HashMap<_, BTreeMap<_, _>> = stamps.iter().map(|s| (*s, BTreeMap::new())).collect();
    for request in &requests {
        let builds = builds_of.remove(&request.id).unwrap_or_default();
        for stamp in sets.get(&request.buildset).into_iter().flatten() {
            let row = rows.entry(*stamp).or_default();
            let cell = row.entry(request.builder).or_insert_with(|| ConsoleCell::of(request.builder));
            cell.put_request(request);
            builds.iter().for_each(|build| cell.add_build(build));
        }
    }
    let rows = rows.into_iter().map(|(stamp, row)| (stamp, row.into_values().collect())).collect();
    let requests = requests.iter().map(|r| (r.id, r.buildset)).collect();
    Ok(ConsoleCells { rows, sets, requests })
}

/// The newest buildsets of source stamps, each with those of the stamps that it has.
async fn sets_of(
    tx: &mut dyn ReadTx,
    stamps: &[SourceStampId],
) -> Read<BTreeMap<BuildsetId, Vec<SourceStampId>>> {
    let newest = |stamp: &SourceStampId| {
        let of = Select::from(&BUILDSET_SOURCESTAMPS).filter(Cond::eq("ssid", stamp.0));
        of.order("bsid", true).limit(SETS_OF_STAMP)
    };
    let mut sets: BTreeMap<BuildsetId, Vec<SourceStampId>> = BTreeMap::new();
    for row in tx.select_each(&stamps.iter().map(newest).collect::<Vec<_>>()).await? {
        let mut fields = Fields::new(&BUILDSET_SOURCESTAMPS, row);
        let set = fields.id()?;
        fields.skip();
        sets.entry(set).or_default().push(fields.id()?);
    }
    Ok(sets)
}

impl ConsoleCell {
    /// An empty one.
    pub fn of(builder: BuilderId) -> Self {
        Self { builder, latest: None, builds: 0, open: Vec::new() }
    }

    /// A request as it is now.
    pub fn put_request(&mut self, request: &BuildRequest) {
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
    pub fn add_build(&mut self, build: &Build) {
        self.builds += 1;
        self.put_build(build);
    }

    /// A build, counted already, as it is now.
    pub fn put_build(&mut self, build: &Build) {
        if self.latest.is_none_or(|latest| latest.number <= build.number) {
            self.latest = Some(LatestBuild {
                id: build.id,
                number: build.number,
                started_at: build.started_at,
                complete_at: build.complete_at,
                results: build.results,
            });
        }
    }
}
