//! Buildsets and build requests.

use std::sync::Arc;

use greenroom_model::write::{NewBuildset, StampRef};
use greenroom_model::*;

use super::changes::find_or_add_stamp;
use crate::engine::{Cond, Select, Value};
use crate::rows::{RowMapped, json};
use crate::schema::*;
use crate::work::{Fault, Unit};

pub async fn add(unit: &mut Unit<'_>, new: &NewBuildset) -> Result<Outcome, Fault> {
    let sourcestamps = stamps(unit, &new.sourcestamps).await?;
    for (_, builder) in &new.requests {
        unit.get::<Builder>(*builder).await?;
    }
    let rows = sourcestamps.iter().zip(0..).map(|(s, i)| vec![new.id.0.into(), Value::Int(i), s.id.0.into()]);
    for row in rows.collect::<Vec<_>>() {
        unit.insert(&BUILDSET_SOURCESTAMPS, row);
    }
    if !new.properties.is_empty() {
        let properties = json(&new.properties)?;
        unit.insert(&BUILDSET_PROPERTIES, vec![new.id.0.into(), properties]);
    }
    let set = Buildset {
        id: new.id,
        external_id: new.external_id.clone(),
        reason: new.reason.clone(),
        submitted_at: unit.at,
        complete_at: None,
        results: None,
        parent_build: new.parent.as_ref().map(|(build, _)| *build),
        parent_relationship: new.parent.as_ref().map(|(_, how)| how.clone()),
        rebuilt_build: new.rebuilt_build,
        scheduler: new.scheduler.clone(),
        sourcestamps,
        version: 1,
    };
    unit.add(set, EventName::New);
    let ids = new.requests.iter().map(|(id, _)| id.0).collect();
    unit.cache.requests_of.put(new.id.0, Arc::new(ids));
    for (id, builder) in &new.requests {
        let request = request(unit, new, *id, *builder);
        unit.add(request, EventName::New);
    }
    if new.requests.is_empty() {
        complete_if_done(unit, new.id).await?;
    }
    let requests = new.requests.iter().map(|(id, builder)| (*builder, *id)).collect();
    Ok(Outcome::Buildset { id: new.id, requests })
}

fn request(unit: &Unit<'_>, new: &NewBuildset, id: BuildRequestId, builder: BuilderId) -> BuildRequest {
    BuildRequest {
        id,
        buildset: new.id,
        builder,
        priority: new.priority,
        claimed_at: None,
        claimed_by: None,
        complete_at: None,
        results: None,
        submitted_at: unit.at,
        waited_for: new.waited_for,
        retries: 0,
        version: 1,
    }
}

async fn stamps(unit: &mut Unit<'_>, refs: &[StampRef]) -> Result<Vec<Arc<SourceStamp>>, Fault> {
    let mut stamps: Vec<Arc<SourceStamp>> = Vec::with_capacity(refs.len());
    for one in refs {
        let stamp = match one {
            StampRef::New(new) => find_or_add_stamp(unit, new).await?,
            StampRef::Existing(id) => existing(unit, *id).await?,
        };
        if stamps.iter().any(|s| s.codebase == stamp.codebase) {
            let text = format!("two source stamps of codebase {:?}", stamp.codebase);
            return Err(Refusal::Invalid(text).into());
        }
        stamps.push(stamp);
    }
    Ok(stamps)
}

async fn existing(unit: &mut Unit<'_>, id: SourceStampId) -> Result<Arc<SourceStamp>, Fault> {
    if let Some(known) = unit.cache.stamps.values().find(|s| s.id == id) {
        return Ok(Arc::clone(known));
    }
    let found =
        unit.load_one::<SourceStamp>(Select::from(SourceStamp::TABLE).filter(Cond::eq("ssid", id.0))).await?;
    found.ok_or_else(|| Refusal::NotFound(format!("source stamp {id}")).into())
}

/// All requests of a buildset.
async fn requests_of(unit: &mut Unit<'_>, set: BuildsetId) -> Result<Vec<Arc<BuildRequest>>, Fault> {
    if let Some(ids) = unit.cache.requests_of.get(&set.0).cloned() {
        let mut requests = Vec::with_capacity(ids.len());
        for id in ids.iter() {
            requests.push(unit.get::<BuildRequest>(BuildRequestId(*id)).await?);
        }
        return Ok(requests);
    }
    let requests = unit.find_where::<BuildRequest>("buildsetid", &[set.0], &[]).await?;
    unit.cache.requests_of.learn(set.0, Arc::new(requests.iter().map(|r| r.id.0).collect()));
    Ok(requests)
}

/// The requests of a buildset of which one was just completed, as they are in truth. Two masters may complete the last two at the
/// same time, each in a transaction that does not see the other's: so the buildset's row is locked before the others are read.
/// What has not ended is otherwise only certain of this master's own builds.
async fn judged_requests(unit: &mut Unit<'_>, id: BuildsetId) -> Result<Vec<Arc<BuildRequest>>, Fault> {
    let requests = requests_of(unit, id).await?;
    let me = unit.master;
    let open = requests.iter().filter(|it| it.complete_at.is_none() && it.claimed_by != Some(me));
    let open: Vec<i64> = open.map(|it| it.id.0).collect();
    if !unit.shared || open.is_empty() {
        return Ok(requests);
    }
    let row = [Cond::eq("bsid", id.0), Cond::eq("complete", 0)];
    unit.tx.set(&BUILDSETS, &[("complete", 0.into())], &row).await?;
    unit.refresh::<BuildRequest>(&open).await?;
    requests_of(unit, id).await
}

/// Completes the buildset with its last request.
async fn complete_if_done(unit: &mut Unit<'_>, id: BuildsetId) -> Result<(), Fault> {
    let at = unit.at;
    let requests = judged_requests(unit, id).await?;
    let Some(results) = requests.iter().map(|r| r.results).collect::<Option<Vec<_>>>() else { return Ok(()) };
    let set = unit.get::<Buildset>(id).await?;
    if set.complete_at.is_none() {
        unit.change(&set, EventName::Complete, |s| {
            s.complete_at = Some(at);
            s.results = Some(Results::combine(results));
        });
    }
    Ok(())
}

/// Completes a request, and its buildset with the last one.
pub async fn complete_request(
    unit: &mut Unit<'_>,
    request: &Arc<BuildRequest>,
    results: Results,
) -> Result<(), Fault> {
    let at = unit.at;
    unit.change(request, EventName::Complete, |r| {
        r.complete_at = Some(at);
        r.results = Some(results);
    });
    complete_if_done(unit, request.buildset).await
}

/// Takes a request for this master.
pub fn claim(unit: &mut Unit<'_>, request: &Arc<BuildRequest>) -> Arc<BuildRequest> {
    let (at, master) = (unit.at, unit.master);
    unit.change(request, EventName::Claimed, |r| {
        r.claimed_at = Some(at);
        r.claimed_by = Some(master);
    })
}

/// Gives a request back after its build was lost.
pub fn unclaim(unit: &mut Unit<'_>, request: &Arc<BuildRequest>) {
    unit.change(request, EventName::Unclaimed, |r| {
        r.claimed_at = None;
        r.claimed_by = None;
        r.retries += 1;
    });
}

pub async fn cancel_request(unit: &mut Unit<'_>, id: BuildRequestId) -> Result<(), Fault> {
    let request = unit.get::<BuildRequest>(id).await?;
    if request.complete_at.is_some() {
        return Err(Refusal::Final(format!("build request {id}")).into());
    }
    if request.claimed_at.is_some() {
        return Err(Refusal::ClaimLost.into());
    }
    // Clients of the event contract expect a cancelled request to be claimed first.
    let request = claim(unit, &request);
    complete_request(unit, &request, Results::Cancelled).await
}
