//! Sends what waits, one message at a time, and records what came of it.
//!
//! A message is recorded as sent after its server has taken it, so a death in between repeats it once; the dedup key tells. While
//! the database takes no records nothing else is sent.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use greenroom_data::{DataError, Enqueued, ListenerState, Settled};
use greenroom_model::{BuildId, DeliveryId, DeliveryState, Timestamp, WorkerId};
use greenroom_runtime::Runtime;
use tokio::sync::watch;
use tokio::time::sleep;

use super::Plan;
use super::enrich::Enrich;
use super::outbox::{Collecting, Next, Outbox, Waiting, settled};
use super::pace::{Pace, after, until, wait};
use super::seed::Seed;
use crate::transport::{MakeTransport, Outgoing, SendError, Sent, Transport};

/// How long to wait before trying again what the data layer could not do.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How many messages are settled between two prunings.
const PRUNE_EVERY: u32 = 20;
/// A message at which writing or sending panics so often is given up: it is poisonous, and others wait behind it.
const PANICS: u32 = 5;
/// The longest reason that is recorded, in characters.
const REASON: usize = 500;

/// See the module.
pub struct Sender {
    plan: Arc<Plan>,
    state: ListenerState,
    outbox: Arc<Outbox>,
    transport: Box<dyn Transport>,
    make: MakeTransport,
    runtime: Runtime,
    pace: Pace,
    /// How often what waits has made us panic.
    panics: BTreeMap<DeliveryId, u32>,
    unpruned: u32,
}

/// Why a sender ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEnd {
    /// It was to end.
    Drained,
    /// The transport panicked, and none can be made in its place.
    Panicked(String),
}

/// What a future gives, or the words with which it panics.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(|payload| {
        let text = payload.downcast_ref::<&str>().map(|it| (*it).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
        text.unwrap_or_else(|| "no message".to_owned())
    })
}

impl Sender {
    /// Sends for a notifier. `make` gives another transport when this one has panicked.
    pub fn new(
        plan: Arc<Plan>,
        state: ListenerState,
        outbox: Arc<Outbox>,
        transport: Box<dyn Transport>,
        make: MakeTransport,
        runtime: Runtime,
    ) -> Self {
        let (pace, panics) = (Pace::default(), BTreeMap::new());
        Self { plan, state, outbox, transport, make, runtime, pace, panics, unpruned: 0 }
    }

    /// Runs until the outbox is drained or the transport breaks.
    pub async fn run(mut self, mut claimed: watch::Receiver<bool>) -> SenderEnd {
        if claimed.wait_for(|it| *it).await.is_err() {
            return SenderEnd::Drained;
        }
        let options = &self.plan.notifier.options;
        let machine = self.plan.notifier.is_commit_status();
        let collecting = Collecting {
            digest: options
                .digest
                .filter(|_| !machine)
                .map(|it| i64::try_from(it.as_micros()).unwrap_or(i64::MAX)),
            max_per_minute: self.plan.notifier.max_per_minute().filter(|_| !machine).map(|it| it.get()),
        };
        while !self.outbox.is_draining() {
            let now = self.state.now();
            match self.outbox.next(now, &mut self.pace, collecting) {
                Next::Wait(then) => self.wait(now, then).await,
                Next::Send(waiting) => {
                    if let Err(panic) = self.send(&waiting).await
                        && let Err(why) = self.recover(&waiting, panic, &claimed).await
                    {
                        return SenderEnd::Panicked(why);
                    }
                }
                Next::Collect(waiting, reason) => self.collect(waiting, reason).await,
            }
        }
        SenderEnd::Drained
    }

    async fn wait(&self, now: Timestamp, then: Option<Timestamp>) {
        match then {
            Some(then) => {
                // A little later than needed, so that it is due for certain.
                let wait = until(now, then) + Duration::from_millis(1);
                let _ = tokio::time::timeout(wait, self.outbox.changed.notified()).await;
            }
            None => self.outbox.changed.notified().await,
        }
    }

    /// Sends it and records what came of that.
    ///
    /// # Errors
    /// With the words of a panic; then nothing is recorded.
    async fn send(&mut self, waiting: &Waiting) -> Result<(), String> {
        let age = until(waiting.created_at, self.state.now());
        if waiting.attempts > 0 && age >= self.plan.notifier.options.give_up_after.get() {
            let reason = format!("given up after {} attempts", waiting.attempts);
            self.record(settled(waiting.id, DeliveryState::Failed, reason), false).await;
            return Ok(());
        }
        let notice = match caught(self.write(&waiting.seed)).await? {
            Ok(Some(notice)) => notice,
            Ok(None) => {
                let reason = "what it is about is gone".to_owned();
                self.record(settled(waiting.id, DeliveryState::Failed, reason), false).await;
                return Ok(());
            }
            Err(error) => {
                tracing::warn!(notifier.name = %self.plan.name, %error, "a message cannot be written yet");
                self.outbox.put_back();
                sleep(AGAIN_AFTER).await;
                return Ok(());
            }
        };
        let message = Arc::new(Outgoing {
            id: waiting.id.0,
            notifier: self.plan.name.clone(),
            dedup_key: format!("{}-{}", dedup_name(&self.plan.name), waiting.dedup_key),
            attempt: waiting.attempts.saturating_add(1).saturating_add(u32::from(waiting.uncertain)),
            at: waiting.created_at,
            farm: self.plan.farm.clone(),
            notice,
        });
        let outcome = self.attempt(message).await?;
        self.settle(waiting, outcome).await;
        Ok(())
    }

    /// After a panic: the transport is in a state that nobody knows, so another takes its place; the message is tried again later,
    /// a few times. The notifier itself lives on: however many messages make it panic, its supervisor has no part in that.
    async fn recover(
        &mut self,
        waiting: &Waiting,
        panic: String,
        claimed: &watch::Receiver<bool>,
    ) -> Result<(), String> {
        let count = *self.panics.entry(waiting.id).and_modify(|it| *it += 1).or_insert(1);
        tracing::error!(notifier.name = %self.plan.name, delivery.id = waiting.id.0, reason = %panic,
            "sending a message panicked");
        let why = format!("sending it panicked: {panic}");
        if count >= PANICS {
            self.settle(waiting, Err(SendError::never(why))).await;
        } else {
            // That is no sign of the server's health: others go on.
            let due_at = after(self.state.now(), wait(count, None, self.runtime.dice().fraction()));
            self.record_retry(waiting, due_at, shorten(&why)).await;
        }
        self.transport = (self.make)().map_err(|error| format!("{panic}; and another: {error}"))?;
        self.transport.while_claimed(claimed.clone());
        Ok(())
    }

    async fn write(&self, seed: &Seed) -> Result<Option<crate::notice::Notice>, DataError> {
        let enrich = Enrich {
            ro: self.state.ro(),
            notifier: &self.plan.notifier,
            farm: &self.plan.farm,
            masks: self.plan.masks.current(),
        };
        enrich.notice(seed).await
    }

    async fn attempt(&mut self, message: Arc<Outgoing>) -> Result<Result<Sent, SendError>, String> {
        let limit = self.plan.notifier.options.timeout.get();
        // Also the making of the future may panic.
        let sending = async { tokio::time::timeout(limit, self.transport.send(message)).await };
        let late = SendError::later(format!("no answer within {} s", limit.as_secs()));
        Ok(caught(sending).await?.unwrap_or(Err(late)))
    }

    async fn settle(&mut self, waiting: &Waiting, outcome: Result<Sent, SendError>) {
        let now = self.state.now();
        let mut settled = Settled {
            id: waiting.id,
            state: DeliveryState::Sent,
            attempted: true,
            target: None,
            reason: None,
        };
        match outcome {
            Ok(sent) => {
                self.pace.sent(now);
                settled.target = Some(shorten(&sent.target));
                settled.reason = sent.note.map(|it| shorten(&it));
                self.record(settled, true).await;
            }
            Err(SendError::Nobody { why }) => {
                self.pace.answered();
                let settled =
                    Settled { state: DeliveryState::Silenced, reason: Some(shorten(&why)), ..settled };
                self.record(settled, false).await;
            }
            Err(SendError::Never { why }) => {
                self.pace.answered();
                tracing::warn!(notifier.name = %self.plan.name, delivery.id = waiting.id.0, reason = %why,
                    "a message was refused");
                let settled =
                    Settled { state: DeliveryState::Failed, reason: Some(shorten(&why)), ..settled };
                self.record(settled, false).await;
            }
            Err(SendError::Later { why, retry_after }) => {
                let fraction = self.runtime.dice().fraction();
                let open = self.pace.failed(now, retry_after, fraction);
                let own = wait(waiting.attempts.saturating_add(1), retry_after, fraction);
                let due_at = open.max(after(now, own));
                tracing::info!(notifier.name = %self.plan.name, delivery.id = waiting.id.0, reason = %why,
                    "a message will be sent again");
                self.record_retry(waiting, due_at, shorten(&why)).await;
            }
        }
    }

    /// Records an outcome, however long the database takes.
    async fn record(&mut self, settled: Settled, sent: bool) {
        while let Err(error) = self.state.settle(vec![settled.clone()]).await {
            tracing::warn!(notifier.name = %self.plan.name, %error, "an outcome cannot be recorded yet");
            sleep(AGAIN_AFTER).await;
        }
        self.outbox.settled(settled.id, sent);
        self.panics.remove(&settled.id);
        self.prune(1).await;
    }

    async fn record_retry(&mut self, waiting: &Waiting, due_at: Timestamp, reason: String) {
        while let Err(error) = self.state.retry(waiting.id, due_at, reason.clone()).await {
            tracing::warn!(notifier.name = %self.plan.name, %error, "an outcome cannot be recorded yet");
            sleep(AGAIN_AFTER).await;
        }
        self.outbox.retry(waiting.id, due_at);
    }

    async fn prune(&mut self, more: u32) {
        self.unpruned += more;
        if self.unpruned >= PRUNE_EVERY {
            // Whatever is left is pruned the next time.
            match self.state.prune().await {
                Ok(()) => self.unpruned = 0,
                Err(error) => tracing::debug!(%error, "the record of a notifier was not pruned"),
            }
        }
    }

    /// Makes one message of many, in one write.
    async fn collect(&mut self, waiting: Vec<Waiting>, reason: &'static str) {
        if let Err(error) = self.try_collect(&waiting, reason).await {
            tracing::warn!(notifier.name = %self.plan.name, %error, "a digest cannot be stored yet");
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn try_collect(&mut self, waiting: &[Waiting], reason: &'static str) -> Result<(), DataError> {
        let now = self.state.now();
        let id = self.state.new_delivery()?;
        let (builds, workers) = members(waiting);
        let seed = Seed::Digest {
            since: waiting.iter().map(|it| it.created_at).min().unwrap_or(now),
            until: waiting.iter().map(|it| it.created_at).max().unwrap_or(now),
            reason: reason.to_owned(),
            total: waiting.len() as u64,
            builds,
            workers,
        };
        let digest = Enqueued {
            id,
            due_at: now,
            dedup_key: format!("digest-{id}"),
            subject: format!("digest of {} messages", waiting.len()),
            build: None,
            notice: serde_json::to_value(&seed).map_err(DataError::unavailable)?,
            silenced: None,
        };
        let told = format!("told in the digest {id} ({reason})");
        let settled: Vec<Settled> =
            waiting.iter().map(|it| settled(it.id, DeliveryState::Silenced, told.clone())).collect();
        self.state.enqueue(vec![digest.clone()], settled.clone(), None).await?;
        self.outbox.apply(vec![(digest, seed)], &settled, now);
        self.prune(u32::try_from(settled.len()).unwrap_or(u32::MAX)).await;
        Ok(())
    }
}

/// What the messages are about.
fn members(waiting: &[Waiting]) -> (Vec<BuildId>, Vec<WorkerId>) {
    let (mut builds, mut workers) = (Vec::new(), Vec::new());
    for it in waiting {
        match &it.seed {
            Seed::Build { build, .. } => builds.push(*build),
            Seed::Buildset { builds: several, .. } => builds.extend(several),
            Seed::Worker { worker, .. } => workers.push(*worker),
            Seed::Test { .. } | Seed::Digest { .. } => {}
        }
    }
    builds.sort_unstable();
    builds.dedup();
    (builds, workers)
}

fn shorten(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).take(REASON).collect()
}

/// A name in the characters of a dedup key.
fn dedup_name(name: &str) -> String {
    name.chars().map(|it| if it.is_ascii_alphanumeric() || it == '.' { it } else { '-' }).collect()
}
