//! Notifiers: their outboxes and records.

use greenroom_model::write::NewDelivery;
use greenroom_model::*;
use serde_json::Value;

use crate::engine::{Comparison, Cond, Select};
use crate::schema::*;
use crate::work::{Fault, Unit};

pub async fn add(unit: &mut Unit<'_>, new: &NewDelivery) -> Result<(), Fault> {
    let key = (new.notifier.clone(), new.dedup_key.clone());
    let select = Select::from(&DELIVERIES)
        .filter(Cond::eq("notifier", new.notifier.as_str()))
        .filter(Cond::eq("dedup_key", new.dedup_key.as_str()));
    if unit.cache.delivery_keys.get(&key).is_some() || unit.first(select).await?.is_some() {
        return Ok(());
    }
    unit.cache.delivery_keys.put(key, ());
    let silenced = new.silenced.is_some();
    let delivery = Delivery {
        id: new.id,
        notifier: new.notifier.clone(),
        created_at: unit.at,
        due_at: new.due_at,
        dedup_key: new.dedup_key.clone(),
        subject: new.subject.clone(),
        build: new.build,
        notice: if silenced { Value::Null } else { new.notice.clone() },
        state: if silenced { DeliveryState::Silenced } else { DeliveryState::Waiting },
        attempts: 0,
        target: None,
        reason: new.silenced.clone(),
        settled_at: silenced.then_some(unit.at),
        version: 1,
    };
    unit.add(delivery, if silenced { EventName::Settled } else { EventName::New });
    Ok(())
}

pub async fn retry(
    unit: &mut Unit<'_>,
    id: DeliveryId,
    due_at: Timestamp,
    reason: &str,
) -> Result<(), Fault> {
    if let Some(delivery) = waiting(unit, id).await? {
        unit.change(&delivery, EventName::Updated, |it| {
            it.attempts += 1;
            it.due_at = due_at;
            it.reason = Some(reason.to_owned());
        });
    }
    Ok(())
}

pub async fn settle(
    unit: &mut Unit<'_>,
    id: DeliveryId,
    (state, attempted): (DeliveryState, bool),
    target: Option<&str>,
    reason: Option<&str>,
) -> Result<(), Fault> {
    if state == DeliveryState::Waiting {
        return Err(Refusal::Invalid("a message that waits is not settled".to_owned()).into());
    }
    let at = unit.at;
    if let Some(delivery) = waiting(unit, id).await? {
        unit.change(&delivery, EventName::Settled, |it| {
            it.state = state;
            it.attempts += i64::from(attempted);
            it.target = target.map(str::to_owned);
            it.reason = reason.map(str::to_owned);
            it.settled_at = Some(at);
            it.notice = Value::Null;
        });
    }
    Ok(())
}

/// A message that is not settled; one that is gone has been settled long ago.
async fn waiting(unit: &mut Unit<'_>, id: DeliveryId) -> Result<Option<std::sync::Arc<Delivery>>, Fault> {
    Ok(unit.find::<Delivery>(id.0).await?.filter(|it| it.settled_at.is_none()))
}

/// What may be forgotten, each kind of outcome by itself: many that were silenced do not push out what was sent.
const RECORDS: [&[DeliveryState]; 2] =
    [&[DeliveryState::Silenced], &[DeliveryState::Sent, DeliveryState::Failed, DeliveryState::Dropped]];

pub async fn prune(unit: &mut Unit<'_>, notifier: &str, keep: u64) -> Result<(), Fault> {
    for states in RECORDS {
        let states = states.iter().map(|it| it.word().into()).collect();
        let conds = [Cond::eq("notifier", notifier), Cond::In("state", states)];
        let mut select = Select::from(&DELIVERIES).order("deliveryid", true);
        select.conds = conds.to_vec();
        select.offset = keep;
        let Some(mut oldest) = unit.first(select).await? else { continue };
        let gone = Cond::is("deliveryid", Comparison::Le, oldest.int()?);
        unit.tx.delete(&DELIVERIES, &[conds.to_vec(), vec![gone]].concat()).await?;
    }
    Ok(())
}
