//! The messages that wait, as intake and sender share them; the rows of the data layer are the truth.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use greenroom_data::{Enqueued, Settled};
use greenroom_model::{BuilderId, Delivery, DeliveryId, DeliveryState, Timestamp};
use tokio::sync::Notify;

use super::pace::Pace;
use super::seed::Seed;

/// A message that waits.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// Its id; ids grow with time.
    pub id: DeliveryId,
    /// When there was something to tell.
    pub created_at: Timestamp,
    /// Not to be sent before.
    pub due_at: Timestamp,
    /// For servers, to know it again.
    pub dedup_key: String,
    /// For people.
    pub subject: String,
    /// How often it was tried and did not go out.
    pub attempts: u32,
    /// Whether an earlier life may have tried once more, and died before it could say so.
    pub uncertain: bool,
    /// What it is about.
    pub seed: Seed,
}

/// What the sender does next.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Nothing before then, or before something changes.
    Wait(Option<Timestamp>),
    /// Send this one.
    Send(Box<Waiting>),
    /// Make one message of these, for that reason.
    Collect(Vec<Waiting>, &'static str),
}

/// How messages are collected.
#[derive(Debug, Clone, Copy, Default)]
pub struct Collecting {
    /// For so long before they are told together, in microseconds.
    pub digest: Option<i64>,
    /// When more than so many are due within a minute.
    pub max_per_minute: Option<u32>,
}

/// See the module.
#[derive(Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
    /// Something was added, or the end is near.
    pub changed: Notify,
}

#[derive(Default)]
struct Inner {
    waiting: BTreeMap<DeliveryId, Waiting>,
    in_flight: Option<DeliveryId>,
    counts: Counts,
    draining: bool,
}

/// Numbers for the tree of actors.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Counts {
    /// Messages that wait.
    pub waiting: usize,
    /// Sent in this life.
    pub sent: u64,
    /// Attempts that failed in this life.
    pub failed: u64,
}

impl Outbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the stored rows for what waits. `reborn`: an attempt at any of them may have been under way.
    pub fn load(&self, rows: &[std::sync::Arc<Delivery>], reborn: bool) -> Vec<Settled> {
        let mut inner = self.inner();
        let in_flight = inner.in_flight;
        let mut unreadable = Vec::new();
        let mut found = BTreeMap::new();
        for row in rows {
            let Ok(seed) = serde_json::from_value::<Seed>(row.notice.clone()) else {
                let reason = "it was stored by another version of this program".to_owned();
                unreadable.push(settled(row.id, DeliveryState::Failed, reason));
                continue;
            };
            let attempts = u32::try_from(row.attempts).unwrap_or(u32::MAX);
            let waiting = Waiting {
                id: row.id,
                created_at: row.created_at,
                due_at: row.due_at,
                dedup_key: row.dedup_key.clone(),
                subject: row.subject.clone(),
                attempts,
                uncertain: reborn,
                seed,
            };
            found.insert(row.id, waiting);
        }
        if let Some(flying) = in_flight.and_then(|id| inner.waiting.remove(&id)) {
            found.insert(flying.id, flying);
        }
        inner.waiting = found;
        drop(inner);
        self.changed.notify_one();
        unreadable
    }

    /// Adds what has been stored, and takes out what has been settled.
    pub fn apply(&self, new: Vec<(Enqueued, Seed)>, settled: &[Settled], now: Timestamp) {
        let mut inner = self.inner();
        for (it, seed) in new.into_iter().filter(|(it, _)| it.silenced.is_none()) {
            let waiting = Waiting {
                id: it.id,
                created_at: now,
                due_at: it.due_at,
                dedup_key: it.dedup_key,
                subject: it.subject,
                attempts: 0,
                uncertain: false,
                seed,
            };
            inner.waiting.insert(it.id, waiting);
        }
        for it in settled {
            inner.waiting.remove(&it.id);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// What the sender does next.
    pub fn next(&self, now: Timestamp, pace: &mut Pace, collecting: Collecting) -> Next {
        let mut inner = self.inner();
        if inner.draining {
            return Next::Wait(None);
        }
        if let Some(until) = pace.closed(now) {
            return Next::Wait((!inner.waiting.is_empty()).then_some(until));
        }
        let next = inner.choose(now, pace, collecting);
        if let Next::Send(it) = &next {
            inner.in_flight = Some(it.id);
        }
        next
    }

    /// The message in flight is settled, and waits no more.
    pub fn settled(&self, id: DeliveryId, sent: bool) {
        let mut inner = self.inner();
        inner.waiting.remove(&id);
        inner.in_flight = None;
        inner.counts.sent += u64::from(sent);
    }

    /// The message in flight is tried again later.
    pub fn retry(&self, id: DeliveryId, due_at: Timestamp) {
        let mut inner = self.inner();
        inner.in_flight = None;
        inner.counts.failed += 1;
        if let Some(it) = inner.waiting.get_mut(&id) {
            it.due_at = due_at;
            it.attempts = it.attempts.saturating_add(1);
        }
    }

    /// The message in flight could not even be written: it is as it was.
    pub fn put_back(&self) {
        self.inner().in_flight = None;
    }

    /// What a good build silences: messages of failures that it ends, and that have not been tried. Only while they settle. Each with
    /// the number of the first build that it tells of.
    pub fn ended_by(
        &self,
        builder: BuilderId,
        branch: &str,
        number: i64,
        now: Timestamp,
    ) -> Vec<(DeliveryId, i64)> {
        let mut inner = self.inner();
        let in_flight = inner.in_flight;
        let settling = inner.waiting.values_mut();
        let settling = settling.filter(|it| it.due_at > now && it.attempts == 0 && Some(it.id) != in_flight);
        settling.filter_map(|it| Some((it.id, it.seed.end_failures(builder, branch, number)?))).collect()
    }

    /// The oldest messages that must go so that `more` find room among at most `bound`.
    pub fn overflow(&self, more: usize, bound: usize) -> Vec<DeliveryId> {
        let inner = self.inner();
        let too_many = (inner.waiting.len() + more).saturating_sub(bound);
        let idle = inner.waiting.keys().filter(|it| Some(**it) != inner.in_flight);
        idle.take(too_many).copied().collect()
    }

    /// Nothing more is to be sent.
    pub fn drain(&self) {
        self.inner().draining = true;
        self.changed.notify_one();
    }

    /// Whether nothing more is to be sent.
    pub fn is_draining(&self) -> bool {
        self.inner().draining
    }

    /// Numbers for the tree of actors.
    pub fn counts(&self) -> Counts {
        let inner = self.inner();
        Counts { waiting: inner.waiting.len(), ..inner.counts }
    }
}

impl Inner {
    fn choose(&self, now: Timestamp, pace: &mut Pace, collecting: Collecting) -> Next {
        let later = |it: &&Waiting| it.due_at > now;
        let mut next_due = self.waiting.values().filter(later).map(|it| it.due_at).min();
        let mut due: Vec<&Waiting> = self.waiting.values().filter(|it| it.due_at <= now).collect();
        // What stands for itself goes first: a digest that is written already, a trial.
        if let Some(it) = due.iter().find(|it| !it.seed.may_be_collected()) {
            return Next::Send(Box::new((*it).clone()));
        }
        if let Some(digest) = collecting.digest
            && let Some(first) = due.iter().map(|it| it.due_at).min()
        {
            let ripe = Timestamp(first.0.saturating_add(digest));
            if ripe <= now && due.len() > 1 {
                return Next::Collect(due.into_iter().cloned().collect(), "digest");
            }
            if ripe > now {
                next_due = Some(next_due.map_or(ripe, |it| it.min(ripe)));
                due.clear();
            }
        }
        if due.is_empty() {
            return Next::Wait(next_due);
        }
        if let Some(bound) = collecting.max_per_minute {
            match pace.free(now, bound) {
                0 => return Next::Wait(Some(pace.free_at(now))),
                free if due.len() > free => {
                    return Next::Collect(due.into_iter().cloned().collect(), "too many messages");
                }
                _ => {}
            }
        }
        let index = usize::from(pace.probes_another()).min(due.len() - 1);
        Next::Send(Box::new(due[index].clone()))
    }
}

/// A message that is settled without an attempt.
pub fn settled(id: DeliveryId, state: DeliveryState, reason: String) -> Settled {
    Settled { id, state, attempted: false, target: None, reason: Some(reason) }
}
