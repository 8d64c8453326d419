//! Masters: this one's own row, and the place of one that is dead.

use std::sync::Arc;

use greenroom_model::*;

use super::{builds, claims, logs, steps, workers};
use crate::engine::{Cond, EngineError, Select, Value};
use crate::rows::{Fields, load};
use crate::schema::*;
use crate::work::{Fault, Unit};

/// This process takes the master's place with a new epoch: it runs, has no duties yet, and no worker is connected to it.
pub async fn start(unit: &mut Unit<'_>, epoch: i64) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    let master = unit.get::<Master>(id).await?;
    unit.change(&master, EventName::Started, |m| {
        m.active = true;
        m.last_active = at;
        m.epoch = epoch;
    });
    // Others may just be taking what an inactive master had: it changes hands by a write, so that one of two is refused.
    claims::free_all(unit, id).await?;
    workers::disconnect_all(unit, id).await
}

pub async fn heartbeat(unit: &mut Unit<'_>) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    let master = unit.get::<Master>(id).await?;
    unit.change_quietly(&master, |m| m.last_active = at);
    Ok(())
}

pub async fn stop(unit: &mut Unit<'_>) -> Result<(), Fault> {
    let (id, at) = (unit.master, unit.at);
    workers::disconnect_all(unit, id).await?;
    claims::free_all(unit, id).await?;
    let master = unit.get::<Master>(id).await?;
    if master.active {
        unit.change(&master, EventName::Stopped, |m| {
            m.active = false;
            m.last_active = at;
        });
    }
    unit.out.released = true;
    Ok(())
}

/// A master's row of `master_heads`, as it is now.
struct Place {
    epoch: i64,
    seq: i64,
    lease_until: i64,
}

async fn place(unit: &mut Unit<'_>, master: MasterId) -> Result<Place, Fault> {
    let select = Select::from(&MASTER_HEADS).filter(Cond::eq("masterid", master.0));
    let Some(mut fields) = unit.first(select).await? else {
        return Err(Refusal::NotFound(format!("master {master}")).into());
    };
    fields.skip();
    let (epoch, seq) = (fields.int()?, fields.int()?);
    fields.skip();
    Ok(Place { epoch, seq, lease_until: fields.int()? })
}

/// Fences a master whose lease is over, in one conditional UPDATE, and frees what it had.
pub async fn take_over(unit: &mut Unit<'_>, dead: MasterId) -> Result<(), Fault> {
    if dead == unit.master {
        return Err(Refusal::Invalid("a master does not take over its own place".to_owned()).into());
    }
    let master = unit.get::<Master>(dead).await?;
    let lives = || Refusal::Held(format!("the master {} lives", master.name));
    let place = place(unit, dead).await?;
    // Who has the database alone has it because nobody else lives.
    if unit.shared && place.lease_until > unit.tx.now().await? {
        return Err(lives().into());
    }
    let epoch = place.epoch + 1;
    let conds = [
        Cond::eq("masterid", dead.0),
        Cond::eq("epoch", place.epoch),
        Cond::eq("seq", place.seq),
        Cond::eq("lease_until", place.lease_until),
    ];
    let values = [("epoch", Value::Int(epoch)), ("lease_until", Value::Int(0))];
    if unit.tx.set(&MASTER_HEADS, &values, &conds).await? != 1 {
        return Err(lives().into());
    }
    if unit.shared {
        // Its log text is fenced by a row of its own.
        unit.tx.set(&LOG_WRITERS, &[("epoch", epoch.into())], &[Cond::eq("masterid", dead.0)]).await?;
    }
    unit.change(&master, EventName::Stopped, |m| {
        m.active = false;
        m.epoch = epoch;
    });
    claims::free_all(unit, dead).await?;
    workers::disconnect_all(unit, dead).await
}

/// Ends builds that a master which is not active has left.
pub async fn end_builds(unit: &mut Unit<'_>, dead: MasterId, limit: u64) -> Result<Outcome, Fault> {
    let master = unit.get::<Master>(dead).await?;
    let place = place(unit, dead).await?;
    // From here to the end of the transaction it cannot come back.
    let conds = [Cond::eq("masterid", dead.0), Cond::eq("epoch", place.epoch)];
    let is_same = unit.tx.set(&MASTER_HEADS, &[("epoch", place.epoch.into())], &conds).await? == 1;
    if !is_same || master.epoch != place.epoch {
        return Err(EngineError::Conflict(format!("the master {} comes back", master.name)).into());
    }
    if master.active {
        return Err(Refusal::Held(format!("the master {} lives", master.name)).into());
    }
    let left = Select::from(&BUILDS)
        .filter(Cond::eq("complete", 0))
        .filter(Cond::eq("masterid", dead.0))
        .order("buildid", false)
        .limit(limit);
    let left: Vec<Arc<Build>> = load::<Build>(unit.tx, &left).await?;
    let text = format!("lost: the master {} is gone", master.name);
    let mut ended = 0;
    foresee(unit, &left).await?;
    for build in left {
        // Another write of this group may have ended it.
        if unit.find::<Build>(build.id.0).await?.is_some_and(|it| it.complete_at.is_none()) {
            builds::finish(unit, build.id, Results::Retry, &text).await?;
            ended += 1;
        }
    }
    Ok(Outcome::Ended(ended))
}

/// Reads all that ending these builds needs at once, instead of a little for each.
async fn foresee(unit: &mut Unit<'_>, builds: &[Arc<Build>]) -> Result<(), Fault> {
    let ids: Vec<i64> = builds.iter().map(|it| it.id.0).collect();
    let requests: Vec<i64> = builds.iter().map(|it| it.request.0).collect();
    unit.find_where::<Build>("buildid", &ids, &[]).await?;
    unit.find_where::<BuildRequest>("buildrequestid", &requests, &[]).await?;
    let steps = steps::foresee(unit, &ids).await?;
    logs::foresee(unit, &steps).await
}

/// Until when a master is taken for alive.
pub fn lease_of_head(row: crate::engine::Row) -> Result<(MasterId, i64), EngineError> {
    let mut fields = Fields::new(&MASTER_HEADS, row);
    let master = fields.id()?;
    (0..3).for_each(|_| fields.skip());
    Ok((master, fields.int()?))
}
