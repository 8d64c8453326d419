//! What each read selects.

use std::collections::HashMap;
use std::sync::Arc;

use greenroom_model::write::{ListenerRecord, SchedulerState};
use greenroom_model::*;
use serde_json::Value as Json;

use crate::engine::Comparison::{Gt, Le};
use crate::engine::{CHUNK, Cond, EngineError, ReadTx, Select, Table};
use crate::history;
use crate::messages::*;
use crate::ops::lease_of_head;
use crate::rows::{Fields, RowMapped, load, load_where};
use crate::schema::*;
use crate::work::totals;

type Read<T> = Result<T, EngineError>;

/// The clock of this transaction: the heads of all masters.
pub async fn clock(tx: &mut dyn ReadTx, generation: i64) -> Read<Clock> {
    let mut clock = Clock::start(generation);
    for row in tx.select(&Select::from(&MASTER_HEADS)).await? {
        let mut fields = Fields::new(&MASTER_HEADS, row);
        let master = fields.id()?;
        fields.skip();
        clock.set(master, fields.int()?);
    }
    Ok(clock)
}

/// The other masters that count as active and are not.
pub async fn lapsed(tx: &mut dyn ReadTx, me: MasterId, shared: bool) -> Read<Vec<MasterId>> {
    let active = Select::from(&MASTERS).filter(Cond::eq("active", 1));
    let active: Vec<MasterId> = load::<Master>(tx, &active).await?.iter().map(|it| it.id).collect();
    let others: Vec<MasterId> = active.into_iter().filter(|it| *it != me).collect();
    if !shared || others.is_empty() {
        return Ok(others);
    }
    let now = tx.now().await?;
    let heads = Select::from(&MASTER_HEADS).filter(Cond::ids("masterid", others.iter().map(|it| it.0)));
    let leases: Vec<_> = tx.select(&heads).await?.into_iter().map(lease_of_head).collect::<Read<_>>()?;
    Ok(leases.into_iter().filter(|(_, until)| *until <= now).map(|(master, _)| master).collect())
}

pub async fn nothing(_tx: &mut dyn ReadTx, _: CurrentClock) -> Read<()> {
    Ok(())
}

pub async fn by_id<E: RowMapped>(tx: &mut dyn ReadTx, id: i64) -> Read<Option<Arc<E>>> {
    let select = Select::from(E::TABLE).filter(Cond::eq(E::TABLE.columns[0].0, id));
    Ok(load(tx, &select).await?.into_iter().next())
}

/// The JSON in the second column of a table, by the id in its first.
async fn properties_of(
    tx: &mut dyn ReadTx,
    table: &'static Table,
    ids: impl Iterator<Item = i64>,
) -> Read<HashMap<i64, Properties>> {
    let ids: Vec<i64> = ids.collect();
    let mut found = HashMap::new();
    for piece in ids.chunks(CHUNK) {
        let select = Select::from(table).filter(Cond::ids(table.columns[0].0, piece.iter().copied()));
        for row in tx.select(&select).await? {
            let mut fields = Fields::new(table, row);
            let (id, properties): (i64, Properties) = (fields.int()?, fields.json()?);
            if !properties.is_empty() {
                found.insert(id, properties);
            }
        }
    }
    Ok(found)
}

pub async fn build_properties(
    tx: &mut dyn ReadTx,
    msg: BuildPropertiesOf,
) -> Read<HashMap<BuildId, Properties>> {
    let found = properties_of(tx, &BUILD_PROPERTIES, msg.builds.iter().map(|b| b.0)).await?;
    Ok(found.into_iter().map(|(id, p)| (BuildId(id), p)).collect())
}

pub async fn buildset_properties(
    tx: &mut dyn ReadTx,
    msg: BuildsetPropertiesOf,
) -> Read<HashMap<BuildsetId, Properties>> {
    let found = properties_of(tx, &BUILDSET_PROPERTIES, msg.buildsets.iter().map(|b| b.0)).await?;
    Ok(found.into_iter().map(|(id, p)| (BuildsetId(id), p)).collect())
}

/// The row of a key, past its key.
async fn row_of(tx: &mut dyn ReadTx, table: &'static Table, cond: Cond) -> Read<Option<Fields>> {
    let row = tx.select(&Select::from(table).filter(cond)).await?.into_iter().next();
    Ok(row.map(|row| {
        let mut fields = Fields::new(table, row);
        fields.skip();
        fields
    }))
}

fn clock_of(fields: &mut Fields) -> Read<Option<Clock>> {
    let text = fields.opt_text()?;
    text.map(|text| text.parse().map_err(|_| EngineError::Damaged(format!("{text:?} is no clock"))))
        .transpose()
}

pub async fn scheduler_state(tx: &mut dyn ReadTx, msg: SchedulerStateOf) -> Read<SchedulerState> {
    match row_of(tx, &SCHEDULER_STATES, Cond::eq("schedulerid", msg.scheduler.0)).await? {
        Some(mut fields) => Ok(SchedulerState { clock: clock_of(&mut fields)?, pending: fields.json()? }),
        None => Ok(SchedulerState::default()),
    }
}

pub async fn change_source_state(tx: &mut dyn ReadTx, msg: ChangeSourceStateOf) -> Read<Json> {
    match row_of(tx, &CHANGE_SOURCE_STATES, Cond::eq("changesourceid", msg.source.0)).await? {
        Some(mut fields) => fields.json(),
        None => Ok(Json::Null),
    }
}

pub async fn listener(tx: &mut dyn ReadTx, msg: ListenerOf) -> Read<Option<ListenerRecord>> {
    match row_of(tx, &LISTENERS, Cond::eq("name", msg.name.as_str())).await? {
        Some(mut fields) => {
            Ok(Some(ListenerRecord { clock: clock_of(&mut fields)?, settings: fields.json()? }))
        }
        None => Ok(None),
    }
}

pub async fn control_act(tx: &mut dyn ReadTx, msg: ControlActOf) -> Read<Option<Arc<ControlAct>>> {
    by_id(tx, msg.act.0).await
}

pub async fn open_control_acts(tx: &mut dyn ReadTx, msg: OpenControlActs) -> Read<Vec<Arc<ControlAct>>> {
    let select = Select::from(&CONTROL_ACTS).filter(Cond::Null("answered_at")).order("controlid", false);
    load(tx, &select.limit(msg.limit)).await
}

pub async fn unfinished_builds(tx: &mut dyn ReadTx, msg: UnfinishedBuilds) -> Read<Vec<UnfinishedBuild>> {
    let select = Select::from(&BUILDS)
        .filter(Cond::eq("complete", 0))
        .filter(Cond::eq("masterid", msg.master.0))
        .order("buildid", false);
    let builds = load::<Build>(tx, &select).await?;
    let ids: Vec<i64> = builds.iter().map(|b| b.id.0).collect();
    let requests: Vec<i64> = builds.iter().map(|b| b.request.0).collect();
    let requests = load_where::<BuildRequest>(tx, "buildrequestid", &requests, &[]).await?;
    let requests: HashMap<_, _> = requests.into_iter().map(|r| (r.id, r)).collect();
    let mut properties = properties_of(tx, &BUILD_PROPERTIES, ids.iter().copied()).await?;
    let steps = load_where::<Step>(tx, "buildid", &ids, &[]).await?;
    let step_ids: Vec<i64> = steps.iter().map(|s| s.id.0).collect();
    let logs = load_where::<Log>(tx, "stepid", &step_ids, &[]).await?;
    let build_of: HashMap<StepId, BuildId> = steps.iter().map(|s| (s.id, s.build)).collect();
    let mut unfinished = Vec::with_capacity(builds.len());
    for build in builds {
        let Some(request) = requests.get(&build.request).cloned() else {
            return Err(EngineError::Damaged(format!("build {} has no request", build.id)));
        };
        let mut steps: Vec<_> = steps.iter().filter(|s| s.build == build.id).cloned().collect();
        steps.sort_by_key(|s| s.number);
        let logs = logs.iter().filter(|l| build_of.get(&l.step) == Some(&build.id)).cloned().collect();
        let properties = properties.remove(&build.id.0).unwrap_or_default();
        unfinished.push(UnfinishedBuild { build, properties, request, steps, logs });
    }
    Ok(unfinished)
}

/// The integers of one column.
async fn ints(tx: &mut dyn ReadTx, select: Select, column: &str) -> Read<Vec<i64>> {
    let place = select.table.position(column).unwrap_or_default();
    let rows = tx.select(&select).await?;
    Ok(rows
        .into_iter()
        .filter_map(|row| if let crate::engine::Value::Int(v) = row[place] { Some(v) } else { None })
        .collect())
}

pub async fn builds_of_change(tx: &mut dyn ReadTx, msg: BuildsOfChange) -> Read<Vec<Arc<Build>>> {
    let Some(change) = by_id::<Change>(tx, msg.change.0).await? else { return Ok(Vec::new()) };
    let select = Select::from(&BUILDSET_SOURCESTAMPS)
        .filter(Cond::eq("ssid", change.sourcestamp.id.0))
        .order("bsid", true)
        .limit(msg.limit);
    let sets = ints(tx, select, "bsid").await?;
    let requests = load_where::<BuildRequest>(tx, "buildsetid", &sets, &[]).await?;
    let requests: Vec<i64> = requests.iter().map(|r| r.id.0).collect();
    let mut builds = load_where::<Build>(tx, "buildrequestid", &requests, &[]).await?;
    builds.sort_unstable_by_key(|b| std::cmp::Reverse(b.id));
    builds.truncate(usize::try_from(msg.limit).unwrap_or(usize::MAX));
    Ok(builds)
}

pub async fn changes_of_build(tx: &mut dyn ReadTx, msg: ChangesOfBuild) -> Read<Vec<Arc<Change>>> {
    let Some(build) = by_id::<Build>(tx, msg.build.0).await? else { return Ok(Vec::new()) };
    let Some(request) = by_id::<BuildRequest>(tx, build.request.0).await? else { return Ok(Vec::new()) };
    let select = Select::from(&BUILDSET_SOURCESTAMPS).filter(Cond::eq("bsid", request.buildset.0));
    let stamps = ints(tx, select, "ssid").await?;
    load_where::<Change>(tx, "ssid", &stamps, &[]).await
}

pub async fn events_after(tx: &mut dyn ReadTx, msg: EventsAfter) -> Read<EventPage> {
    let Some(mut head) = row_of(tx, &MASTER_HEADS, Cond::eq("masterid", msg.master.0)).await? else {
        return Ok(EventPage::Events(Vec::new()));
    };
    let (_, seq, floor) = (head.int()?, head.int()?, head.int()?);
    if msg.after < floor {
        return Ok(EventPage::Gone(floor));
    }
    let last = seq.min(msg.after.saturating_add(i64::try_from(msg.limit).unwrap_or(i64::MAX)));
    let select = Select::from(&EVENTS)
        .filter(Cond::eq("masterid", msg.master.0))
        .filter(Cond::is("seq", Gt, msg.after))
        .filter(Cond::is("seq", Le, last))
        .order("seq", false);
    let mut events = Vec::new();
    for row in tx.select(&select).await? {
        let mut fields = Fields::new(&EVENTS, row);
        let (master, seq) = (fields.id()?, fields.int()?);
        fields.skip();
        let (what, at) = (fields.json()?, fields.time()?);
        events.push(Event { master, seq, at, what });
    }
    Ok(EventPage::Events(events))
}

/// The nearest noted place after a clock, cut off at `upto`: what two such places have in common is one, too.
pub async fn next_cut(tx: &mut dyn ReadTx, msg: NextCut) -> Read<Clock> {
    let mut nearest = (i64::MAX, msg.upto.clone());
    for (master, head) in msg.upto.heads() {
        let after = msg.after.head(master);
        if after >= head {
            continue;
        }
        let first = Select::from(&EVENT_CUTS)
            .filter(Cond::eq("masterid", master.0))
            .filter(Cond::is("seq", Gt, after))
            .order("seq", false)
            .limit(1);
        let Some(row) = tx.select(&first).await?.into_iter().next() else { continue };
        let mut fields = Fields::new(&EVENT_CUTS, row);
        fields.skip();
        fields.skip();
        let Some(cut) = clock_of(&mut fields)? else { continue };
        let cut = msg.upto.meet(&cut);
        let way = cut.heads().map(|(m, seq)| (seq - msg.after.head(m)).max(0)).sum();
        if way < nearest.0 {
            nearest = (way, cut);
        }
    }
    Ok(nearest.1)
}

/// All unfinished ones and the newest of the others, ascending.
async fn newest<E: RowMapped>(tx: &mut dyn ReadTx, limit: u64) -> Read<Vec<Arc<E>>> {
    let id = E::TABLE.columns[0].0;
    let all = |done: i64| Select::from(E::TABLE).filter(Cond::eq("complete", done)).order(id, true);
    let mut found = load::<E>(tx, &all(1).limit(limit)).await?;
    found.reverse();
    let open = load::<E>(tx, &all(0)).await?;
    found.extend(open.into_iter().rev());
    Ok(found)
}

pub async fn hot(tx: &mut dyn ReadTx, msg: LoadHot) -> Read<Hot> {
    let mut builds = newest::<Build>(tx, msg.builds).await?;
    builds.sort_unstable_by_key(|b| b.id);
    let open: Vec<i64> = builds.iter().filter(|b| b.complete_at.is_none()).map(|b| b.id.0).collect();
    let steps = load_where::<Step>(tx, "buildid", &open, &[]).await?;
    let step_ids: Vec<i64> = steps.iter().map(|s| s.id.0).collect();
    let logs = load_where::<Log>(tx, "stepid", &step_ids, &[]).await?;
    let properties = properties_of(tx, &BUILD_PROPERTIES, builds.iter().map(|b| b.id.0)).await?;
    let mut buildsets = newest::<Buildset>(tx, msg.buildsets).await?;
    buildsets.sort_unstable_by_key(|s| s.id);
    let mut requests = newest::<BuildRequest>(tx, msg.requests).await?;
    requests.sort_unstable_by_key(|r| r.id);
    let newest_changes = Select::from(&CHANGES).order("changeid", true).limit(msg.changes);
    let mut changes = load::<Change>(tx, &newest_changes).await?;
    changes.reverse();
    let builders = small::<Builder>(tx).await?;
    let ids: Vec<BuilderId> = builders.iter().map(|b| b.id).collect();
    let running: Vec<_> = builds.iter().filter(|b| b.complete_at.is_none()).cloned().collect();
    let histories = history::histories(tx, &ids, &running).await?;
    let totals = totals::all(tx).await?;
    let total = |name: &str| totals.get(name).copied().unwrap_or(0);
    let of = |b: &BuilderId, what| total(&totals::of_builder(b.0, what));
    let totals_of =
        ids.iter().map(|b| (*b, (of(b, Resource::Builds), of(b, Resource::BuildRequests)))).collect();
    Ok(Hot {
        masters: small(tx).await?,
        builders,
        workers: small(tx).await?,
        schedulers: small(tx).await?,
        change_sources: small(tx).await?,
        projects: small(tx).await?,
        buildsets,
        requests,
        builds,
        properties: properties.into_iter().map(|(id, p)| (BuildId(id), p)).collect(),
        steps,
        logs,
        changes,
        control: open_control_acts(tx, OpenControlActs { limit: u64::from(u32::MAX) }).await?,
        totals: Totals {
            builds: total("builds"),
            changes: total("changes"),
            requests: total("buildrequests"),
            buildsets: total("buildsets"),
        },
        totals_of,
        histories,
    })
}

/// Every entity of a small collection.
async fn small<E: RowMapped>(tx: &mut dyn ReadTx) -> Read<Vec<Arc<E>>> {
    load(tx, &Select::from(E::TABLE).order(E::TABLE.columns[0].0, false)).await
}
