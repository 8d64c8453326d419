//! The facet of a status listener: its own clock and settings, its messages, nothing else.

use std::time::Duration;

use greenroom_db::ListenerOf;
use greenroom_model::write::{Duty, ListenerRecord, NewDelivery};
use greenroom_model::*;
use serde_json::Value;

use crate::actor::read;
use crate::error::DataError;
use crate::ro::Ro;
use crate::rw::Rw;

/// How many settled messages are kept, of those that were silenced and of the others, each.
pub const KEPT_DELIVERIES: u64 = 50;

/// The stored state of one listener, by name.
#[derive(Clone)]
pub struct ListenerState {
    pub(crate) rw: Rw,
    /// Of its row.
    pub(crate) key: String,
    /// Of its messages.
    pub(crate) name: String,
}

/// A message to put into the outbox.
#[derive(Debug, Clone, PartialEq)]
pub struct Enqueued {
    /// Its id, from [`ListenerState::new_delivery`].
    pub id: DeliveryId,
    /// Not to be sent before.
    pub due_at: Timestamp,
    /// The same event gives the same key, so that it is told once.
    pub dedup_key: String,
    /// What it is about, for people.
    pub subject: String,
    /// The build that it is about, if it is about one.
    pub build: Option<BuildId>,
    /// What is needed to write it.
    pub notice: Value,
    /// Why it will not be sent, if that is certain already.
    pub silenced: Option<String>,
}

/// What has become of a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// Which.
    pub id: DeliveryId,
    /// Anything but waiting.
    pub state: DeliveryState,
    /// Whether this was an attempt to send it.
    pub attempted: bool,
    /// To whom it was sent.
    pub target: Option<String>,
    /// Why.
    pub reason: Option<String>,
}

impl ListenerState {
    /// Whose state it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The facet that reads.
    pub fn ro(&self) -> &Ro {
        self.rw.ro()
    }

    /// The time, as new rows bear it.
    pub fn now(&self) -> Timestamp {
        self.rw.now()
    }

    /// What was stored, or the default.
    pub async fn load(&self) -> Result<ListenerRecord, DataError> {
        let stored = read(&self.rw.ro().shared.reader, ListenerOf { name: self.key.clone() }).await?;
        Ok(stored.value.unwrap_or_default())
    }

    /// Stores.
    pub async fn save(&self, state: ListenerRecord) -> Result<(), DataError> {
        self.rw.write(vec![self.saved(state)]).await.map(drop)
    }

    fn saved(&self, state: ListenerRecord) -> Op {
        Op::SaveListener { name: self.key.clone(), state }
    }

    /// Takes the notifier of this name for this master. While another one has it, that is read and nothing written.
    ///
    /// # Errors
    /// [`Refusal::Held`] while another master that is active has it.
    pub async fn claim(&self, kind: &str) -> Result<(), DataError> {
        if let Some(other) = self.held_elsewhere().await? {
            return Err(Refusal::Held(format!("the master {other} runs the notifier {}", self.name)).into());
        }
        let new = Some((self.rw.new_id()?, kind.to_owned()));
        self.rw.write(vec![Op::Claim(Duty::Notifier { name: self.name.clone(), new })]).await.map(drop)
    }

    /// The name of the other master that has it, if that one is active.
    async fn held_elsewhere(&self) -> Result<Option<String>, DataError> {
        let ro = self.rw.ro();
        let named = Query::default().eq("name", self.name.as_str()).limit(1);
        let holder = ro.list::<Notifier>(named).await?.value.items.first().and_then(|it| it.master);
        let Some(holder) = holder.filter(|it| *it != ro.me()) else { return Ok(None) };
        Ok(ro.hot().masters.get(&holder.0).filter(|it| it.active).map(|it| it.name.clone()))
    }

    /// Gives it back: it is not configured here any more.
    pub async fn release(&self, within: Duration) -> Result<(), DataError> {
        let duty = Duty::Notifier { name: self.name.clone(), new: None };
        self.rw.write_for(vec![Op::Release(duty)], within).await.map(drop)
    }

    /// The id of a message to come.
    pub fn new_delivery(&self) -> Result<DeliveryId, DataError> {
        self.rw.new_id()
    }

    /// The messages that wait, oldest first.
    pub async fn waiting(&self) -> Result<Vec<std::sync::Arc<Delivery>>, DataError> {
        let query = Query::default()
            .eq("notifier", self.name.as_str())
            .eq("state", DeliveryState::Waiting.word())
            .order_by("deliveryid", false);
        let page = self.rw.ro().list::<Delivery>(query).await?.value;
        Ok(page.items.into_iter().map(|it| it.entity).collect())
    }

    /// Puts messages into the outbox, settles others and stores the state, all or nothing: after a crash each event has been
    /// taken exactly once. A message whose key is known is left out.
    pub async fn enqueue(
        &self,
        new: Vec<Enqueued>,
        settled: Vec<Settled>,
        state: Option<ListenerRecord>,
    ) -> Result<(), DataError> {
        let new = new.into_iter().map(|it| {
            Op::AddDelivery(Box::new(NewDelivery {
                id: it.id,
                notifier: self.name.clone(),
                due_at: it.due_at,
                dedup_key: it.dedup_key,
                subject: it.subject,
                build: it.build,
                notice: it.notice,
                silenced: it.silenced,
            }))
        });
        let ops = new.chain(settled.into_iter().map(settle)).chain(state.map(|it| self.saved(it)));
        self.rw.write(ops.collect()).await.map(drop)
    }

    /// Records what has become of messages.
    pub async fn settle(&self, settled: Vec<Settled>) -> Result<(), DataError> {
        self.rw.write(settled.into_iter().map(settle).collect()).await.map(drop)
    }

    /// Records an attempt that failed, and when the next one is due.
    pub async fn retry(
        &self,
        delivery: DeliveryId,
        due_at: Timestamp,
        reason: String,
    ) -> Result<(), DataError> {
        self.rw.write(vec![Op::RetryDelivery { delivery, due_at, reason }]).await.map(drop)
    }

    /// Forgets all settled messages but the last [`KEPT_DELIVERIES`] (of those silenced and of the others, each).
    pub async fn prune(&self) -> Result<(), DataError> {
        let op = Op::PruneDeliveries { notifier: self.name.clone(), keep: KEPT_DELIVERIES };
        self.rw.write(vec![op]).await.map(drop)
    }
}

fn settle(it: Settled) -> Op {
    Op::SettleDelivery {
        delivery: it.id,
        state: it.state,
        attempted: it.attempted,
        target: it.target,
        reason: it.reason,
    }
}
