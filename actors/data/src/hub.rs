//! Hubs and subscriptions: how an event finds those who want it.
//!
//! An event crosses threads once per hub (one per web worker thread, one for the actors), and in the hub it costs what its
//! interested subscribers cost: they are found by topic. Subscribers of the same patterns are one audience: what it wants of a
//! batch is found once and shared, so that each of them costs a reference. A subscription's queue is bounded; one that overflows
//! is over, and its subscriber resumes from its clock.

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

/// What an audience wants of a batch, in order: frames, and which of their keys was selected. A queue holds these.
pub(crate) struct Run {
    pub items: Vec<(Arc<Frame>, usize)>,
    bytes: usize,
}

/// Shared between a queue's two ends.
#[derive(Default)]
pub(crate) struct QueueState {
    events: AtomicUsize,
    bytes: AtomicUsize,
    overflown: AtomicBool,
}

impl QueueState {
    /// Whether the queue was closed because it was full.
    pub(crate) fn overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    /// An event of this size waits no more.
    pub(crate) fn taken(&self, size: usize) {
        self.events.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// Makes room for a run; false: it is too much beside what waits already.
    fn take_room(&self, run: &Run) -> bool {
        let events = self.events.fetch_add(run.items.len(), Ordering::Relaxed);
        let bytes = self.bytes.fetch_add(run.bytes, Ordering::Relaxed);
        events == 0 || (events + run.items.len() <= QUEUE_EVENTS && bytes + run.bytes <= QUEUE_BYTES)
    }
}

struct Subscriber {
    queue: mpsc::Sender<Arc<Run>>,
    state: Arc<QueueState>,
}

/// The subscribers of the same patterns.
struct Audience {
    patterns: Vec<Pattern>,
    members: HashMap<u64, Subscriber>,
    /// What it wants of the batch that is being worked on.
    due: Run,
}

/// See the module.
pub struct Hub {
    name: String,
    data: Front<DataActor>,
    me: Front<Self>,
    tasks: Tasks<Self>,
    joining: bool,
    position: Option<Position>,
    /// Audiences by what they want.
    index: TopicIndex<u64>,
    audiences: HashMap<u64, Audience>,
    /// Their ids.
    by_patterns: HashMap<Vec<Pattern>, u64>,
    /// The audience of each subscriber.
    subscribers: HashMap<u64, u64>,
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
            audiences: HashMap::new(),
            by_patterns: HashMap::new(),
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
        self.audiences.clear();
        self.by_patterns.clear();
        self.subscribers.clear();
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// The audience of these patterns, there already or new.
    fn audience(&mut self, patterns: Vec<Pattern>) -> u64 {
        if let Some(known) = self.by_patterns.get(&patterns) {
            return *known;
        }
        let id = self.new_id();
        patterns.iter().for_each(|p| self.index.insert(p, id));
        self.by_patterns.insert(patterns.clone(), id);
        let due = Run { items: Vec::new(), bytes: 0 };
        self.audiences.insert(id, Audience { patterns, members: HashMap::new(), due });
        id
    }

    fn remove(&mut self, id: u64) {
        let Some(of) = self.subscribers.remove(&id) else { return };
        let Some(audience) = self.audiences.get_mut(&of) else { return };
        audience.members.remove(&id);
        if audience.members.is_empty()
            && let Some(gone) = self.audiences.remove(&of)
        {
            gone.patterns.iter().for_each(|p| self.index.remove(p, &of));
            self.by_patterns.remove(&gone.patterns);
        }
    }

    /// Queues what each audience wants of these frames.
    fn queue(&mut self, frames: &[Arc<Frame>]) {
        let mut wanted: Vec<(u64, usize)> = Vec::new();
        let mut touched: Vec<u64> = Vec::new();
        for frame in frames {
            wanted.clear();
            for (at, key) in frame.keys.iter().enumerate() {
                self.index.matching(key, |id| wanted.push((*id, at)));
            }
            // Once to each, by the first of its keys that is selected.
            wanted.sort_unstable();
            wanted.dedup_by_key(|(id, _)| *id);
            for (id, key) in &wanted {
                let Some(audience) = self.audiences.get_mut(id) else { continue };
                if audience.due.items.is_empty() {
                    touched.push(*id);
                }
                audience.due.bytes += frame.size();
                audience.due.items.push((frame.clone(), *key));
            }
        }
        touched.into_iter().for_each(|id| self.hand_over(id));
    }

    /// Gives its members what is due to an audience; who has no room for it is over.
    fn hand_over(&mut self, id: u64) {
        let Some(audience) = self.audiences.get_mut(&id) else { return };
        let run = std::mem::replace(&mut audience.due, Run { items: Vec::new(), bytes: 0 });
        let run = Arc::new(run);
        let mut over = Vec::new();
        for (id, member) in &audience.members {
            if !member.state.take_room(&run) || member.queue.try_send(run.clone()).is_err() {
                member.state.overflown.store(true, Ordering::Release);
                over.push(*id);
            }
        }
        self.lagging += over.len() as u64;
        over.into_iter().for_each(|id| self.remove(id));
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
        json!({"subscribers": self.subscribers.len(), "audiences": self.audiences.len(), "patterns": self.index.len(), "lagging": self.lagging})
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
        self.queue(&batch.frames);
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
    pub queue: mpsc::Receiver<Arc<Run>>,
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
        let id = self.new_id();
        let of = self.audience(msg.patterns);
        // A run is an event at least.
        let (sender, queue) = mpsc::channel(QUEUE_EVENTS);
        let state = Arc::new(QueueState::default());
        self.subscribers.insert(id, of);
        if let Some(audience) = self.audiences.get_mut(&of) {
            audience.members.insert(id, Subscriber { queue: sender, state: state.clone() });
        }
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
