//! The DataActor: owner of caching and consistency.
//!
//! It takes events from the bus as they come, reads from the database what the bus lost, puts all in order, applies each to
//! the cache, publishes the new snapshot and passes the batch to the hubs. It keeps nothing that it cannot reload: reborn, it
//! begins with the database's state.

mod console;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use arc_swap::ArcSwapOption;
use greenroom_db::{
    BuilderHistory, CurrentClock, DbReader, EventPage, EventsAfter, HistoriesOf, LoadHot, Plant, ReadError,
};
use greenroom_model::*;
use greenroom_mq::{Broker, Notice, Publish, Subscribe};
use greenroom_runtime::{AskError, Birth, Front, Supervised, TaskEnd, Tasks, fail};
use serde_json::json;

use crate::cache::{Cache, Loaded};
use crate::error::DataError;
use crate::frame::Frame;
use crate::hot::{Hot, RECENT_BUILDS, RECENT_CHANGES};
use crate::hub::{Batch, Hub};
use crate::merger::{Merger, Wants};

pub use console::KeepCells;

/// How many events are kept for subscribers that come back.
const RING_EVENTS: usize = 10_000;
/// How many bytes of them.
const RING_BYTES: usize = 16 << 20;
/// How often a master tells its clock and renews its subscription at the bus.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(1);
/// How many announcements pass between two looks into the database for what the bus never told.
const POLL_EVERY: u32 = 3;
/// How long after a failure the state is loaded again.
const LOAD_AGAIN: Duration = Duration::from_millis(500);
/// How long after a read that brought nothing of what is missing it is read again.
const SETTLE_AGAIN: Duration = Duration::from_millis(100);
/// How many events are read at once.
const PAGE: u64 = 1_000;

/// Where the published snapshot is found.
pub type Published = Arc<ArcSwapOption<Hot>>;

/// What the DataActor stands on.
#[derive(Clone)]
pub struct Below {
    /// This master.
    pub me: MasterId,
    /// Reads.
    pub reader: Front<DbReader>,
    /// The bus.
    pub broker: Front<Broker>,
    /// Where to publish.
    pub published: Published,
    /// A planted fault; nothing outside of tests.
    pub plant: Plant,
}

/// See the module.
pub struct DataActor {
    below: Below,
    tasks: Tasks<Self>,
    me: Front<Self>,
    birth: u64,
    life: Option<Life>,
    /// What came before the state was loaded, or while something missing is read.
    settling: bool,
    /// A read that brought nothing of what is missing is done again after a pause.
    settles_later: bool,
    /// Rows of builders are being read.
    reading_rows: bool,
    hubs: HashMap<String, Front<Hub>>,
    ticks: u32,
    gaps: u64,
}

/// What exists once the state is loaded.
struct Life {
    cache: Cache,
    merger: Merger,
    ring: VecDeque<Arc<Frame>>,
    ring_bytes: usize,
    /// Rows that were read at a clock which is not reached yet.
    rows: Option<(Clock, Vec<BuilderHistory>)>,
    /// The number of the next frame of this birth.
    next_frame: u64,
}

impl DataActor {
    /// A new birth over what lies below.
    pub fn new(birth: &Birth<Self>, below: Below) -> Self {
        Self {
            below,
            tasks: birth.tasks(),
            me: birth.front(),
            birth: birth.number(),
            life: None,
            settling: false,
            settles_later: false,
            reading_rows: false,
            hubs: HashMap::new(),
            ticks: 0,
            gaps: 0,
        }
    }

    /// Subscribes at the bus (again: a reborn Broker knows nobody) and tells where this master stands.
    fn announce(&mut self) {
        let patterns = vec![Pattern::parse("events/*"), Pattern::parse("heads/*")];
        let name = "data".to_owned();
        let subscribe = Subscribe { name, patterns, to: self.me.recipient() };
        let broker = self.below.broker.clone();
        self.tasks.spawn(async move { broker.ask(subscribe).await }, Subscribed);
        if let Some(life) = &self.life {
            let head = Notice::Head { master: self.below.me, seq: life.cache.hot.clock.head(self.below.me) };
            let _ = self.below.broker.tell(Publish(head));
        }
    }

    /// Loads the state.
    fn load(&mut self) {
        let reader = self.below.reader.clone();
        self.tasks.spawn(async move { load(reader).await }, |end| Began(Box::new(end)));
    }

    /// Delivers what is ready, and sees to what is missing.
    fn advance(&mut self) {
        let Some(life) = &mut self.life else { return };
        let mut frames = Vec::new();
        while let Some(event) = life.merger.next_ready() {
            frames.push(life.apply(event));
        }
        if !frames.is_empty() {
            let batch = life.publish(frames, &self.below.published, self.birth);
            self.hubs.retain(|_, hub| !hub.state().is_final());
            for hub in self.hubs.values() {
                // A hub that could not take it sees the gap in the numbers of the next.
                let _ = hub.tell(batch.clone());
            }
        }
        if life.merger.wants() == Wants::Settling {
            self.gaps += 1;
            self.settle();
        }
        self.see_to_rows();
        self.see_to_cells();
    }

    /// Takes in what was read of what was missing. Answers whether that helped: what is still missing is then read at once.
    fn take_in(&mut self, heads: &Clock, events: Vec<Event>) -> bool {
        let Some(life) = &mut self.life else { return true };
        let before = life.merger.clock().clone();
        events.into_iter().for_each(|e| life.merger.offer(e));
        let settled_more = life.merger.settle(heads);
        // Until it is known whether that helped nothing is read again.
        self.settling = true;
        self.advance();
        self.settling = false;
        let Some(life) = &self.life else { return true };
        let helped = settled_more || *life.merger.clock() != before;
        let wants = life.merger.wants();
        if helped && wants == Wants::Settling {
            self.settle();
        }
        helped || wants == Wants::Nothing
    }

    /// Takes over rows of builders that were read, once the cache is as far, and has those read that events do not tell all of.
    fn see_to_rows(&mut self) {
        let Some(life) = &mut self.life else { return };
        let reached = |(clock, _): &mut (Clock, Vec<BuilderHistory>)| life.cache.hot.clock.covers(clock);
        if let Some((_, histories)) = life.rows.take_if(reached) {
            self.reading_rows = false;
            life.cache.adopt_rows(histories);
            self.below.published.store(Some(Arc::new(life.cache.hot.clone())));
        }
        if self.reading_rows {
            return;
        }
        let builders = life.cache.take_wanted();
        if builders.is_empty() {
            return;
        }
        self.reading_rows = true;
        let reader = self.below.reader.clone();
        self.tasks.spawn(
            async move {
                let read = read(&reader, HistoriesOf { builders: builders.clone() }).await;
                (builders, read.map(|it| (it.clock, it.value)))
            },
            |end| RowsRead(Box::new(end)),
        );
    }

    /// Reads all masters' events up to their heads.
    fn settle(&mut self) {
        let Some(life) = &self.life else { return };
        if std::mem::replace(&mut self.settling, true) {
            return;
        }
        let reader = self.below.reader.clone();
        let known = life.merger.clock().clone();
        let heads: HashMap<MasterId, i64> =
            known.heads().map(|(m, _)| (m, life.merger.contiguous_head(m))).collect();
        self.tasks.spawn(async move { read_missing(reader, heads).await }, Missing);
    }
}

impl Life {
    fn apply(&mut self, event: Event) -> Arc<Frame> {
        let mut clock = self.cache.hot.clock.clone();
        clock.set(event.master, event.seq);
        let frame = Arc::new(Frame::new(event, clock, &self.cache.hot));
        self.cache.apply(&frame.event, &frame.json);
        self.cache.hot.clock_text = frame.clock.clone();
        self.ring_bytes += frame.size();
        self.ring.push_back(frame.clone());
        while self.ring.len() > RING_EVENTS || self.ring_bytes > RING_BYTES {
            let Some(old) = self.ring.pop_front() else { break };
            self.ring_bytes -= old.size();
        }
        frame
    }

    fn publish(&mut self, frames: Vec<Arc<Frame>>, published: &Published, birth: u64) -> Batch {
        published.store(Some(Arc::new(self.cache.hot.clone())));
        let first = self.next_frame;
        self.next_frame += frames.len() as u64;
        Batch { birth, first, frames: frames.into(), after: self.cache.hot.clock.clone() }
    }
}

/// What a read of rows gave.
type Rows = (Vec<BuilderId>, Result<(Clock, Vec<BuilderHistory>), DataError>);

/// Rows of builders were read, or not.
#[derive(Message)]
#[rtype(result = "()")]
struct RowsRead(Box<TaskEnd<Rows>>);

impl Handler<RowsRead> for DataActor {
    type Result = ();

    fn handle(&mut self, RowsRead(end): RowsRead, ctx: &mut Context<Self>) {
        match *end {
            TaskEnd::Done((_, Ok(read))) => {
                let Some(life) = &mut self.life else { return };
                let reached = life.cache.hot.clock.covers(&read.0);
                life.rows = Some(read);
                if !reached {
                    self.settle();
                }
                self.see_to_rows();
            }
            // The database is away.
            TaskEnd::Done((builders, Err(error))) => {
                tracing::debug!(error = %error, "rows of builders could not be read; will try again");
                ctx.run_later(LOAD_AGAIN, move |act, _| {
                    act.reading_rows = false;
                    if let Some(life) = &mut act.life {
                        life.cache.want_rows(builders);
                    }
                    act.see_to_rows();
                });
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

/// Reads the events of all masters after `known`, up to the heads at the time of asking.
async fn read_missing(
    reader: Front<DbReader>,
    known: HashMap<MasterId, i64>,
) -> Result<(Clock, Vec<Event>), DataError> {
    let heads = read(&reader, CurrentClock).await?.clock;
    let mut events = Vec::new();
    for (master, head) in heads.heads() {
        let mut after = known.get(&master).copied().unwrap_or(0);
        while after < head {
            let page = read(&reader, EventsAfter { master, after, limit: PAGE }).await?.value;
            let EventPage::Events(page) = page else { return Err(DataError::Gone) };
            let Some(last) = page.last() else { break };
            after = last.seq;
            events.extend(page);
        }
    }
    Ok((heads, events))
}

/// Asks the reader, with its errors made ours.
pub(crate) async fn read<M, T>(reader: &Front<DbReader>, message: M) -> Result<T, DataError>
where
    M: Message<Result = Result<T, ReadError>> + Send + 'static,
    T: Send + 'static,
    DbReader: Handler<M>,
{
    match reader.ask(message).await {
        Ok(answer) => answer.map_err(DataError::unavailable),
        Err(error) => Err(DataError::unavailable(error)),
    }
}

impl Actor for DataActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.announce();
        self.load();
        ctx.run_interval(ANNOUNCE_EVERY, |act, _| {
            act.announce();
            act.ticks += 1;
            if act.ticks.is_multiple_of(POLL_EVERY) {
                act.settle();
            }
        });
    }
}

impl Supervised for DataActor {
    const KIND: &'static str = "data";

    fn observe(&self) -> serde_json::Value {
        let Some(life) = &self.life else { return json!({"loaded": false}) };
        let hot = &life.cache.hot;
        json!({
            "clock": &*hot.clock_text, "frames": life.next_frame, "ring": life.ring.len(), "ring_bytes": life.ring_bytes,
            "waiting": life.merger.waiting(), "gaps": self.gaps, "hubs": self.hubs.len(), "builds_kept": hot.builds.size(),
        })
    }
}

async fn load(reader: Front<DbReader>) -> Result<Loaded, DataError> {
    let (builds, changes) = (RECENT_BUILDS as u64, RECENT_CHANGES as u64);
    let loaded = read(&reader, LoadHot { builds, changes, buildsets: builds, requests: builds }).await?;
    Ok(Loaded { state: loaded.value, clock: loaded.clock })
}

/// The state was loaded, or not.
#[derive(Message)]
#[rtype(result = "()")]
struct Began(Box<TaskEnd<Result<Loaded, DataError>>>);

impl Handler<Began> for DataActor {
    type Result = ();

    fn handle(&mut self, Began(end): Began, ctx: &mut Context<Self>) {
        match *end {
            TaskEnd::Done(Ok(loaded)) => {
                let cache = Cache::new(loaded);
                self.below.published.store(Some(Arc::new(cache.hot.clone())));
                let mut merger = Merger::new(cache.hot.clock.clone()).planted(self.below.plant);
                cache.versions().for_each(|(entity, version)| merger.remember(entity, version));
                self.life = Some(Life {
                    cache,
                    merger,
                    ring: VecDeque::new(),
                    ring_bytes: 0,
                    rows: None,
                    next_frame: 0,
                });
                self.settle();
            }
            // The database is away: the published snapshot is still served, and deaths would mend nothing.
            TaskEnd::Done(Err(error @ DataError::Unavailable { .. })) => {
                tracing::debug!(error = %error, "the state could not be loaded; will try again");
                ctx.run_later(LOAD_AGAIN, |act, _| act.load());
            }
            TaskEnd::Done(Err(error)) => fail(ctx, format!("failed to load the state: {error}")),
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

/// What was missing was read, or not.
#[derive(Message)]
#[rtype(result = "()")]
struct Missing(TaskEnd<Result<(Clock, Vec<Event>), DataError>>);

impl Handler<Missing> for DataActor {
    type Result = ();

    fn handle(&mut self, Missing(end): Missing, ctx: &mut Context<Self>) {
        self.settling = false;
        match end {
            TaskEnd::Done(Ok((heads, events))) => {
                let helped = self.take_in(&heads, events);
                if !helped && !std::mem::replace(&mut self.settles_later, true) {
                    // Something that must be there is not: to look without a pause would keep everybody from working.
                    ctx.run_later(SETTLE_AGAIN, |act, _| {
                        act.settles_later = false;
                        act.settle();
                    });
                }
            }
            // Reborn, it begins with the state as it is now.
            TaskEnd::Done(Err(DataError::Gone)) => fail(ctx, "events that were missed are pruned already"),
            // The database is away: the next tick tries again.
            TaskEnd::Done(Err(error)) => {
                tracing::debug!(error = %error, "events could not be read; will try again")
            }
            TaskEnd::Panicked(why) => fail(ctx, why),
        }
    }
}

impl Handler<Notice> for DataActor {
    type Result = ();

    fn handle(&mut self, notice: Notice, _: &mut Context<Self>) {
        // Before the state is loaded a notice has nothing to say: what it tells is read then.
        let Some(life) = &mut self.life else { return };
        match notice {
            Notice::Events(events) => {
                events.iter().for_each(|e| life.merger.offer(e.clone()));
                self.advance();
            }
            Notice::Head { master, seq } if seq > life.merger.contiguous_head(master) => self.settle(),
            Notice::Head { .. } => {}
        }
    }
}

/// The bus has this actor among its subscribers, or could not be asked.
#[derive(Message)]
#[rtype(result = "()")]
struct Subscribed(TaskEnd<Result<bool, AskError>>);

impl Handler<Subscribed> for DataActor {
    type Result = ();

    /// Of a bus that did not know this actor until now nothing was heard; what it would have told is read. A refusal mends itself
    /// with the next tick.
    fn handle(&mut self, Subscribed(end): Subscribed, _: &mut Context<Self>) {
        if matches!(end, TaskEnd::Done(Ok(true))) {
            self.settle();
        }
    }
}

/// A hub wants every batch from now on. Repeating it is harmless.
#[derive(Message)]
#[rtype(result = "Result<HubStart, DataError>")]
pub struct JoinHub {
    /// Its name.
    pub name: String,
    /// The hub.
    pub hub: Front<Hub>,
}

/// Where a hub begins.
pub struct HubStart {
    /// The birth of the DataActor that its batches come from.
    pub birth: u64,
    /// The number of the first frame that will come.
    pub next_frame: u64,
    /// What precedes it.
    pub clock: Clock,
    /// A planted fault; nothing outside of tests.
    pub plant: Plant,
}

impl Handler<JoinHub> for DataActor {
    type Result = Result<HubStart, DataError>;

    fn handle(&mut self, msg: JoinHub, _: &mut Context<Self>) -> Self::Result {
        let Some(life) = &self.life else { return Err(DataError::unavailable("the state is being loaded")) };
        self.hubs.insert(msg.name, msg.hub);
        Ok(HubStart {
            birth: self.birth,
            next_frame: life.next_frame,
            clock: life.cache.hot.clock.clone(),
            plant: self.below.plant,
        })
    }
}

/// The newest frames that are not contained in a clock, if memory reaches that far back.
#[derive(Message)]
#[rtype(result = "Option<Vec<Arc<Frame>>>")]
pub struct FramesAfter {
    /// The clock.
    pub since: Clock,
}

impl Handler<FramesAfter> for DataActor {
    type Result = Option<Vec<Arc<Frame>>>;

    fn handle(&mut self, msg: FramesAfter, _: &mut Context<Self>) -> Self::Result {
        let life = self.life.as_ref()?;
        if msg.since.covers(&life.cache.hot.clock) {
            return Some(Vec::new());
        }
        // What the ring does not hold must all be contained.
        let mut before = life.cache.hot.clock.clone();
        for frame in life.ring.iter().rev() {
            before.set(frame.event.master, frame.event.seq - 1);
        }
        if !msg.since.covers(&before) {
            return None;
        }
        let missing = |f: &&Arc<Frame>| !msg.since.contains(f.event.master, f.event.seq);
        Some(life.ring.iter().filter(missing).cloned().collect())
    }
}

impl From<AskError> for DataError {
    fn from(error: AskError) -> Self {
        DataError::unavailable(error)
    }
}
