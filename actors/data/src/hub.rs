//! Hubs and subscriptions: how an event finds those who want it.
//!
//! An event crosses threads once per hub (one per web worker thread, one for the actors), and in the hub it costs what its
//! interested subscribers cost: they are found by topic. Subscribers of the same patterns are one audience: what it wants of a
//! batch is found once and shared, so that each of them costs a reference. A subscription's queue is bounded; one that overflows
//! is over, and its subscriber resumes from its clock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwap;
use bytes::Bytes;
use greenroom_db::Plant;
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

/// The hub of actors: they decide by what they hear, so it never waits.
const OF_ACTORS: &str = "hub/actors";
/// After it handed frames over a hub rests, so long for each subscriber that begins to write: in a burst each of many gets much in one write,
/// not little in many. Who is alone gets everything at once.
const REST: Duration = Duration::from_micros(200);
/// Shorter rests are not worth a timer.
const SHORTEST_REST: Duration = Duration::from_millis(1);
/// Longer ones would be noticed.
const LONGEST_REST: Duration = Duration::from_millis(50);

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

/// What the subscribers of the same patterns get together, in order; all of them share it.
#[derive(Debug, Default)]
pub struct Run {
    /// Frames, and which of their keys was selected.
    pub(crate) items: Vec<(Arc<Frame>, usize)>,
    pub(crate) bytes: usize,
    encoded: OnceLock<Bytes>,
}

impl Run {
    /// How many events it has.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether it has none. None that is given is.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Its events, each with the clock of the whole feed after it.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivered> + '_ {
        self.items.iter().map(|(frame, key)| delivered(frame.clone(), *key, frame.clock.clone()))
    }

    /// What goes over the wire for all of it, made by whoever asks first and shared by all. There is one form of it: that of `/ws`
    /// without clocks.
    pub fn encoded(&self, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded.get_or_init(|| make(self)).clone()
    }
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

    /// So many events of so many bytes wait no more.
    pub(crate) fn taken(&self, events: usize, size: usize) {
        self.events.fetch_sub(events, Ordering::Relaxed);
        self.bytes.fetch_sub(size, Ordering::Relaxed);
    }

    /// Whether nothing waits, so that its subscriber wakes up by what comes next.
    fn is_empty(&self) -> bool {
        self.events.load(Ordering::Relaxed) == 0
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
    /// Audiences to which something is due.
    touched: Vec<u64>,
    /// The clock after what is due.
    after: Option<Clock>,
    resting: bool,
    lagging: u64,
    plant: Plant,
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
            touched: Vec::new(),
            after: None,
            resting: false,
            lagging: 0,
            plant: Plant::Nothing,
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
        if self.plant == Plant::AcrossGap {
            return;
        }
        self.index = TopicIndex::new();
        self.audiences.clear();
        self.by_patterns.clear();
        self.subscribers.clear();
        self.touched.clear();
        self.after = None;
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
        let audience = Audience { patterns, members: HashMap::new(), due: Run::default() };
        self.audiences.insert(id, audience);
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

    /// Finds what each audience wants of these frames.
    fn sort(&mut self, frames: &[Arc<Frame>]) {
        let mut wanted: Vec<(u64, usize)> = Vec::new();
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
                if audience.due.is_empty() {
                    self.touched.push(*id);
                }
                audience.due.bytes += frame.size();
                audience.due.items.push((frame.clone(), *key));
            }
        }
    }

    /// Queues all that is due, and rests.
    fn hand_over(&mut self, ctx: &mut Context<Self>) {
        let mut members = 0;
        for id in std::mem::take(&mut self.touched) {
            members += self.hand_over_to(id);
        }
        if let Some(after) = self.after.take() {
            self.clock.store(Arc::new(after));
        }
        let rest = REST.saturating_mul(members).min(LONGEST_REST);
        if !self.resting && rest >= SHORTEST_REST && self.name != OF_ACTORS {
            self.resting = true;
            ctx.run_later(rest, |act, ctx| {
                act.resting = false;
                if act.after.is_some() {
                    act.hand_over(ctx);
                }
            });
        }
    }

    /// Gives its members what is due to an audience; who has no room for it is over. Answers how many begin to write.
    fn hand_over_to(&mut self, id: u64) -> u32 {
        let Some(audience) = self.audiences.get_mut(&id) else { return 0 };
        let run = Arc::new(std::mem::take(&mut audience.due));
        let (mut over, mut members) = (Vec::new(), 0);
        for (id, member) in &audience.members {
            let wakes = member.state.is_empty();
            if member.state.take_room(&run) && member.queue.try_send(run.clone()).is_ok() {
                // Who does not read costs nothing more, and holds nobody up.
                members += u32::from(wakes);
            } else {
                member.state.overflown.store(true, Ordering::Release);
                over.push(*id);
            }
        }
        self.lagging += over.len() as u64;
        over.into_iter().for_each(|id| self.remove(id));
        members
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
                self.plant = start.plant;
                let at = Position { birth: start.birth, next_frame: start.next_frame };
                // Batches that overtook this answer have moved the position on already.
                let known =
                    self.position.is_some_and(|p| p.birth == at.birth && p.next_frame >= at.next_frame);
                if !known {
                    self.hand_over(ctx);
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

    fn handle(&mut self, batch: Batch, ctx: &mut Context<Self>) {
        let at = Position { birth: batch.birth, next_frame: batch.first };
        if self.position != Some(at) {
            // Something was missed (or this hub has not heard where it begins): nobody may be left believing otherwise.
            self.restart_all();
        }
        self.sort(&batch.frames);
        self.position = Some(Position { next_frame: batch.first + batch.frames.len() as u64, ..at });
        self.after = Some(batch.after);
        if !self.resting {
            self.hand_over(ctx);
        }
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

    fn handle(&mut self, msg: Attach, ctx: &mut Context<Self>) -> Self::Result {
        if self.position.is_none() {
            return Err(DataError::unavailable("the feed is starting"));
        }
        if self.after.is_some() {
            // What is due was sorted without this one: its queue begins behind it.
            self.hand_over(ctx);
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
