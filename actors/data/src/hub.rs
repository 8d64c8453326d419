//! Hubs and subscriptions: how an event finds those who want it.
//!
//! An event crosses threads once per hub (one per web worker thread, one for the actors), and in the hub it costs what its
//! interested subscribers cost: they are found by topic. A subscription's queue is bounded; one that overflows is
//! over, and its subscriber resumes from its clock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use greenroom_model::{Clock, Pattern};
use greenroom_mq::TopicIndex;
use greenroom_runtime::{Birth, Front, Supervised, TaskEnd, Tasks, fail};
use serde_json::json;
use tokio::sync::mpsc;

use crate::actor::{DataActor, HubStart, JoinHub};
use crate::error::DataError;
use crate::frame::{Delivered, Frame};
pub use crate::subscription::{Delivery, Ended, Subscription};

/// How many events may wait for a subscriber.
pub const QUEUE_EVENTS: usize = 1_000;
/// How many bytes of events may wait for a subscriber.
pub const QUEUE_BYTES: usize = 1 << 20;
/// How often a hub makes sure that the DataActor knows it.
const REJOIN_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a refused join is tried again: the DataActor is loading its state.
const JOIN_AGAIN: Duration = Duration::from_millis(5);

/// Frames in a row, as the DataActor passes them on.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Batch {
    /// Which birth of the DataActor.
    pub birth: u64,
    /// The number of the first frame.
    pub first: u64,
    /// The frames.
    pub frames: Arc<[Arc<Frame>]>,
    /// The clock after the last.
    pub after: Clock,
}

/// What a queue holds.
pub(crate) struct Queued {
    pub frame: Arc<Frame>,
    pub key: usize,
}

/// Shared between a queue's two ends.
#[derive(Default)]
pub(crate) struct QueueState {
    bytes: AtomicUsize,
    overflown: AtomicBool,
}

impl QueueState {
    /// Whether the queue was closed because it was full.
    pub(crate) fn overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    pub(crate) fn taken(&self, size: usize) {
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

struct Subscriber {
    patterns: Vec<Pattern>,
    queue: mpsc::Sender<Queued>,
    state: Arc<QueueState>,
}

/// See the module.
pub struct Hub {
    name: String,
    data: Front<DataActor>,
    me: Front<Self>,
    tasks: Tasks<Self>,
    joining: bool,
    position: Option<Position>,
    index: TopicIndex<u64>,
    subscribers: HashMap<u64, Subscriber>,
    next_id: u64,
    /// The clock up to which every live subscriber has everything queued.
    clock: Arc<ArcSwap<Clock>>,
    lagging: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    birth: u64,
    next_frame: u64,
}

impl Hub {
    /// A new birth.
    pub fn new(birth: &Birth<Self>, data: Front<DataActor>) -> Self {
        Self {
            name: birth.name().to_owned(),
            data,
            me: birth.front(),
            tasks: birth.tasks(),
            joining: false,
            position: None,
            index: TopicIndex::new(),
            subscribers: HashMap::new(),
            next_id: 0,
            clock: Arc::new(ArcSwap::from_pointee(Clock::default())),
            lagging: 0,
        }
    }

    fn join(&mut self) {
        if std::mem::replace(&mut self.joining, true) {
            return;
        }
        let (data, name, hub) = (self.data.clone(), self.name.clone(), self.me.clone());
        let ask = async move { data.ask(JoinHub { name, hub }).await.map_err(DataError::from)? };
        self.tasks.spawn(ask, Joined);
    }

    /// What was missed cannot be queued any more: every subscriber resumes from its own clock.
    fn restart_all(&mut self) {
        self.index = TopicIndex::new();
        self.subscribers.clear();
    }

    fn remove(&mut self, id: u64) {
        if let Some(gone) = self.subscribers.remove(&id) {
            gone.patterns.iter().for_each(|p| self.index.remove(p, &id));
        }
    }

    fn queue(&mut self, frame: &Arc<Frame>) {
        let mut wanted: Vec<(u64, usize)> = Vec::new();
        for (at, key) in frame.keys.iter().enumerate() {
            self.index.matching(key, |id| {
                if !wanted.iter().any(|(w, _)| w == id) {
                    wanted.push((*id, at));
                }
            });
        }
        for (id, key) in wanted {
            let Some(subscriber) = self.subscribers.get(&id) else { continue };
            let size = frame.size();
            let held = subscriber.state.bytes.fetch_add(size, Ordering::Relaxed);
            let full = held > 0 && held + size > QUEUE_BYTES;
            if full || subscriber.queue.try_send(Queued { frame: frame.clone(), key }).is_err() {
                self.lagging += 1;
                subscriber.state.overflown.store(true, Ordering::Release);
                self.remove(id);
            }
        }
    }
}

impl Actor for Hub {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.join();
        ctx.run_interval(REJOIN_EVERY, |act, _| act.join());
    }
}

impl Supervised for Hub {
    const KIND: &'static str = "hub";

    fn observe(&self) -> serde_json::Value {
        json!({"subscribers": self.subscribers.len(), "patterns": self.index.len(), "lagging": self.lagging})
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Joined(TaskEnd<Result<HubStart, DataError>>);

impl Handler<Joined> for Hub {
    type Result = ();

    fn handle(&mut self, Joined(end): Joined, ctx: &mut Context<Self>) {
        match end {
            TaskEnd::Done(Ok(start)) => {
                self.joining = false;
                let at = Position { birth: start.birth, next_frame: start.next_frame };
                // Batches that overtook this answer have moved the position on already.
                let known =
                    self.position.is_some_and(|p| p.birth == at.birth && p.next_frame >= at.next_frame);
                if !known {
                    let missed_nothing = self.position.is_some() && **self.clock.load() == start.clock;
                    if !missed_nothing {
                        self.restart_all();
                    }
                    self.position = Some(at);
                    self.clock.store(Arc::new(start.clock));
                }
            }
            TaskEnd::Done(Err(_)) => {
                ctx.run_later(JOIN_AGAIN, |act, _| {
                    act.joining = false;
                    act.join();
                });
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<Batch> for Hub {
    type Result = ();

    fn handle(&mut self, batch: Batch, _: &mut Context<Self>) {
        let at = Position { birth: batch.birth, next_frame: batch.first };
        if self.position != Some(at) {
            // Something was missed (or this hub has not heard where it begins): nobody may be left believing otherwise.
            self.restart_all();
        }
        for frame in batch.frames.iter() {
            self.queue(frame);
        }
        self.position = Some(Position { next_frame: batch.first + batch.frames.len() as u64, ..at });
        self.clock.store(Arc::new(batch.after));
    }
}

/// Queues from now on what the patterns select.
#[derive(Message)]
#[rtype(result = "Result<Attached, DataError>")]
pub(crate) struct Attach {
    pub patterns: Vec<Pattern>,
}

/// A live queue.
pub(crate) struct Attached {
    pub id: u64,
    pub queue: mpsc::Receiver<Queued>,
    pub state: Arc<QueueState>,
    /// Everything after this clock is queued.
    pub from: Clock,
    /// The hub's clock: with an empty queue, also the subscriber's.
    pub hub_clock: Arc<ArcSwap<Clock>>,
}

impl Handler<Attach> for Hub {
    type Result = Result<Attached, DataError>;

    fn handle(&mut self, msg: Attach, _: &mut Context<Self>) -> Self::Result {
        if self.position.is_none() {
            return Err(DataError::unavailable("the feed is starting"));
        }
        let id = self.next_id;
        self.next_id += 1;
        let (sender, queue) = mpsc::channel(QUEUE_EVENTS);
        let state = Arc::new(QueueState::default());
        msg.patterns.iter().for_each(|p| self.index.insert(p, id));
        self.subscribers
            .insert(id, Subscriber { patterns: msg.patterns, queue: sender, state: state.clone() });
        let from = (**self.clock.load()).clone();
        Ok(Attached { id, queue, state, from, hub_clock: self.clock.clone() })
    }
}

/// Forgets a subscriber.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Detach(pub u64);

impl Handler<Detach> for Hub {
    type Result = ();

    fn handle(&mut self, Detach(id): Detach, _: &mut Context<Self>) {
        self.remove(id);
    }
}

/// Builds a delivery from what was queued or replayed.
pub(crate) fn delivered(frame: Arc<Frame>, key: usize, clock: Arc<str>) -> Delivered {
    Delivered { frame, key, clock }
}
