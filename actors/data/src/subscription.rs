//! One subscriber's view of the feed: what came after its clock first, then live; gaps fetched, repeats dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use greenroom_db::{CurrentClock, EventPage, EventsAfter, NextCut, Plant};
use greenroom_model::{Clock, Pattern};
use greenroom_runtime::Front;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::actor::{FramesAfter, read};
use crate::error::DataError;
use crate::frame::{Delivered, Frame};
use crate::hub::{Attach, Detach, Hub, QueueState, Run, delivered};
use crate::merger::Merger;
use crate::ro::Shared;

/// How many events of a master are read at once.
const PAGE: u64 = 500;
/// How long a subscription waits before it asks again while the feed is away.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// What a subscription gives.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// An event that one of its patterns selects.
    Event(Delivered),
    /// The subscription is over.
    Ended(Ended),
}

/// Why a subscription is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It did not keep up: more than 1,000 events or 1 MiB were waiting for it. Subscribe again since the last clock.
    Lagging,
    /// What it still needed was pruned before it was read: take a new snapshot.
    Gone,
}

/// A running subscription: every event after its clock that its patterns select, in order, none missed, none twice, over
/// restarts of the actors below. Dropping it ends it.
pub struct Subscription {
    shared: Arc<Shared>,
    hub: Front<Hub>,
    patterns: Vec<Pattern>,
    /// Everything selected up to here has been given.
    at: Arc<Clock>,
    at_text: Arc<str>,
    live: Option<Live>,
    /// Read, not yet given.
    replay: VecDeque<(Arc<Frame>, usize)>,
    ended: Option<Ended>,
}

struct Live {
    id: u64,
    queue: mpsc::Receiver<Arc<Run>>,
    /// What is being given of it, and how much of that was.
    current: Option<(Arc<Run>, usize)>,
    state: Arc<QueueState>,
    /// Up to here the queue says nothing: it must be replayed.
    from: Clock,
    /// That was replayed.
    caught_up: bool,
    /// All that comes is new: nothing of it was given before.
    all_new: bool,
    hub_clock: Arc<ArcSwap<Clock>>,
}

impl Subscription {
    /// Checks the clock and attaches. Used by [`crate::Ro::subscribe`].
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        hub: Front<Hub>,
        patterns: Vec<Pattern>,
        mut since: Option<Clock>,
    ) -> Result<Self, DataError> {
        if let (Plant::TrustsAnyClock, Some(since)) = (shared.store.plant(), &mut since) {
            since.generation = shared.hot().clock.generation;
        }
        if let Some(since) = &since {
            check(&shared, since).await?;
        }
        let at = Arc::new(since.clone().unwrap_or_default());
        let at_text = at.to_string().into();
        let mut new =
            Self { shared, hub, patterns, at, at_text, live: None, replay: VecDeque::new(), ended: None };
        let from = new.attach().await;
        if since.is_none() || new.shared.store.plant() == Plant::ForgetsBetween {
            new.stand_at(from);
        }
        Ok(new)
    }

    /// The next delivery. After [`Delivery::Ended`] there is nothing else.
    pub async fn next(&mut self) -> Delivery {
        loop {
            self.ready().await;
            if let Some(delivery) = self.try_next() {
                return delivery;
            }
        }
    }

    /// Reads what came before now until there is something to give, or nothing is left to read: then only news are waited for.
    pub async fn replayed(&mut self) {
        while self.ended.is_none() && self.replay.is_empty() && !self.caught_up() {
            if let Err(ended) = self.read_on().await {
                self.ended = Some(ended);
            }
        }
    }

    /// Waits until there may be something to give in memory: [`Subscription::try_next`] and [`Subscription::try_next_run`] tell.
    pub async fn ready(&mut self) {
        while self.ended.is_none() && self.replay.is_empty() {
            if !self.caught_up() {
                if let Err(ended) = self.read_on().await {
                    self.ended = Some(ended);
                }
                continue;
            }
            let Some(live) = &mut self.live else {
                self.attach().await;
                continue;
            };
            if live.current.is_some() {
                return;
            }
            match live.queue.recv().await {
                Some(run) => live.current = Some((run, 0)),
                None => self.queue_closed(),
            }
        }
    }

    /// All at once of what is to be given next, if it is in memory, new as a whole, and shared with others of the same patterns. For
    /// those who pass it on as it is; the others, and those that get none, take [`Subscription::try_next`].
    pub fn try_next_run(&mut self) -> Option<Arc<Run>> {
        if self.ended.is_some() || !self.replay.is_empty() || !self.caught_up() {
            return None;
        }
        let live = self.live.as_mut()?;
        if live.current.is_none() {
            live.current = live.queue.try_recv().ok().map(|run| (run, 0));
        }
        let (run, _) = live.current.as_ref().filter(|(_, given)| *given == 0)?;
        let (last, _) = run.items.last()?;
        if !live.all_new {
            let known =
                |(frame, _): &(Arc<Frame>, usize)| self.at.contains(frame.event.master, frame.event.seq);
            if run.items.iter().any(known) || !last.clock_value.covers(&self.at) {
                return None;
            }
            live.all_new = true;
        }
        self.at = last.clock_value.clone();
        self.at_text = last.clock.clone();
        let (run, _) = live.current.take()?;
        live.state.taken(run.items.len(), run.bytes);
        Some(run)
    }

    /// The next delivery, if there is one in memory now.
    pub fn try_next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(ended) = self.ended {
                return Some(Delivery::Ended(ended));
            }
            if let Some(event) = self.take_replayed() {
                return Some(Delivery::Event(event));
            }
            if !self.caught_up() {
                return None;
            }
            if let Some(event) = self.take_queued() {
                return Some(Delivery::Event(event));
            }
            let live = self.live.as_mut()?;
            match live.queue.try_recv() {
                Ok(run) => live.current = Some((run, 0)),
                Err(mpsc::error::TryRecvError::Empty) => return None,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    self.queue_closed();
                    return self.ended.map(Delivery::Ended);
                }
            }
        }
    }

    /// The clock of the last event given, or the one begun with.
    pub fn clock(&self) -> Clock {
        (*self.at).clone()
    }

    /// The same as text.
    pub fn clock_text(&self) -> Arc<str> {
        self.at_text.clone()
    }

    /// If nothing waits to be given: the clock of the whole feed, at which this subscription then stands too, as text. For
    /// progress marks on quiet subscriptions.
    pub fn idle_clock(&mut self) -> Option<Arc<str>> {
        // The hub queues first and moves its clock on afterwards; so its clock is read first here.
        let hub_clock = self.live.as_ref()?.hub_clock.load_full();
        if self.ended.is_some()
            || !self.replay.is_empty()
            || !self.caught_up()
            || self.live.as_ref().is_none_or(|live| live.current.is_some() || !live.queue.is_empty())
        {
            return None;
        }
        if hub_clock.covers(&self.at) && hub_clock != self.at {
            self.stand_at((*hub_clock).clone());
        }
        Some(self.at_text.clone())
    }

    fn stand_at(&mut self, clock: Clock) {
        self.at_text = clock.to_string().into();
        self.at = Arc::new(clock);
    }

    /// Moves the clock on to an event.
    fn reach(&mut self, frame: &Frame) {
        Arc::make_mut(&mut self.at).set(frame.event.master, frame.event.seq);
        self.at_text = self.at.to_string().into();
    }

    /// Whether all that the queue does not hold has been given.
    fn caught_up(&mut self) -> bool {
        let Some(live) = &mut self.live else { return true };
        live.caught_up = live.caught_up || self.at.covers(&live.from);
        live.caught_up
    }

    fn take_replayed(&mut self) -> Option<Delivered> {
        let (frame, key) = self.replay.pop_front()?;
        self.reach(&frame);
        Some(delivered(frame, key, self.at_text.clone()))
    }

    /// The next of the run that is being given, without what was given before.
    fn take_queued(&mut self) -> Option<Delivered> {
        loop {
            let live = self.live.as_mut()?;
            let (run, next) = live.current.as_mut()?;
            let (frame, key) = run.items.get(*next).cloned()?;
            *next += 1;
            if *next == run.items.len() {
                live.current = None;
            }
            live.state.taken(1, frame.size());
            if !self.at.contains(frame.event.master, frame.event.seq) {
                return Some(self.give(frame, key));
            }
        }
    }

    fn give(&mut self, frame: Arc<Frame>, key: usize) -> Delivered {
        // A subscription that began in the hub's future has a head that the frame's clock does not know yet.
        let known: bool = self.at.heads().all(|(m, s)| s <= frame.clock_value.head(m));
        if known {
            self.at = frame.clock_value.clone();
            self.at_text = frame.clock.clone();
        } else {
            self.reach(&frame);
        }
        delivered(frame, key, self.at_text.clone())
    }

    /// The hub dropped the queue: because it was full, or because the hub began anew.
    fn queue_closed(&mut self) {
        let Some(live) = self.live.take() else { return };
        if live.state.overflown() {
            self.ended = Some(Ended::Lagging);
        }
    }

    /// Attaches to the hub, as soon as it is there. Gives the clock after which everything is queued.
    async fn attach(&mut self) -> Clock {
        loop {
            if let Ok(Ok(attached)) = self.hub.ask(Attach { patterns: self.patterns.clone() }).await {
                let from = attached.from.clone();
                let (id, state, hub_clock) = (attached.id, attached.state, attached.hub_clock);
                let (queue, from_there) = (attached.queue, attached.from);
                let live = Live {
                    id,
                    queue,
                    current: None,
                    state,
                    from: from_there,
                    caught_up: false,
                    all_new: false,
                    hub_clock,
                };
                self.live = Some(live);
                return from;
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    /// Reads some of what lies between this subscription's clock and where its queue begins.
    async fn read_on(&mut self) -> Result<(), Ended> {
        let Some(target) = self.live.as_ref().map(|l| l.from.clone()) else { return Ok(()) };
        if let Ok(Some(frames)) = self.shared.data.ask(FramesAfter { since: self.clock() }).await {
            let wanted = frames.into_iter().filter(|f| target.contains(f.event.master, f.event.seq));
            for frame in wanted {
                self.push_replay(frame);
            }
            self.replayed_up_to(target);
            return Ok(());
        }
        match self.read_stored(&target).await {
            Ok(reached) => {
                self.replayed_up_to(reached);
                Ok(())
            }
            Err(DataError::Gone) => Err(Ended::Gone),
            Err(_) => {
                sleep(AGAIN_AFTER).await;
                Ok(())
            }
        }
    }

    /// With the replay given, everything up to `reached` will have been given.
    fn replayed_up_to(&mut self, reached: Clock) {
        if self.replay.is_empty() {
            let mut at = self.clock();
            for (master, seq) in reached.heads() {
                if seq > at.head(master) {
                    at.set(master, seq);
                }
            }
            self.stand_at(at);
        }
    }

    fn push_replay(&mut self, frame: Arc<Frame>) {
        let selected = frame.keys.iter().position(|key| self.patterns.iter().any(|p| p.matches(key)));
        if let Some(key) = selected {
            self.replay.push_back((frame, key));
        }
    }

    /// Reads pages of every master's events from the database until some can be given. Gives the clock that is reached with
    /// them.
    async fn read_stored(&mut self, target: &Clock) -> Result<Clock, DataError> {
        let alone = target.heads().count() == 1;
        let mut merger = if alone { Merger::of_one_master(self.clock()) } else { Merger::new(self.clock()) };
        let mut target = target.clone();
        if !alone {
            // Several masters' events are put in order up to a place that needs nothing from beyond it.
            target = read(&self.shared.reader, NextCut { after: self.clock(), upto: target }).await?.value;
        }
        let mut heads = self.clock();
        let hot = self.shared.hot();
        while merger.clock() == &*self.at && !merger.clock().covers(&target) {
            for (master, head) in target.heads() {
                let after = heads.head(master);
                if after >= head {
                    continue;
                }
                let page = read(&self.shared.reader, EventsAfter { master, after, limit: PAGE }).await?.value;
                let events = match page {
                    EventPage::Events(events) => events,
                    EventPage::Gone(_) if self.shared.store.plant() == Plant::TrustsPruned => {
                        return Ok(target.clone());
                    }
                    EventPage::Gone(_) => return Err(DataError::Gone),
                };
                for event in events.into_iter().filter(|e| e.seq <= head) {
                    heads.set(master, event.seq);
                    merger.offer(event);
                }
                if heads.head(master) == after {
                    return Err(DataError::unavailable("events that must exist are not there yet"));
                }
            }
            if heads.covers(&target) {
                merger.settle(&target);
            }
            while let Some(event) = merger.next_ready() {
                let clock = merger.clock().clone();
                self.push_replay(Arc::new(Frame::new(event, clock, &*hot)));
            }
        }
        Ok(merger.clock().clone())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(live) = &self.live {
            // A full mailbox only delays it: the closed queue is noticed with its next event.
            let _ = self.hub.tell(Detach(live.id));
        }
    }
}

/// Whether the feed can go on after `since`.
async fn check(shared: &Shared, since: &Clock) -> Result<(), DataError> {
    let hot = shared.hot();
    if shared.store.plant() == Plant::TrustsAnyClock {
        return Ok(());
    }
    if since.generation != hot.clock.generation {
        return Err(DataError::Gone);
    }
    if !hot.clock.covers(since) && !read(&shared.reader, CurrentClock).await?.clock.covers(since) {
        return Err(DataError::Gone); // from the future
    }
    if since.covers(&hot.clock)
        || matches!(shared.data.ask(FramesAfter { since: since.clone() }).await, Ok(Some(_)))
    {
        return Ok(());
    }
    if shared.store.plant() == Plant::TrustsPruned {
        return Ok(());
    }
    for (master, head) in hot.clock.heads() {
        let after = since.head(master);
        if after < head {
            let page = read(&shared.reader, EventsAfter { master, after, limit: 1 }).await?.value;
            if matches!(page, EventPage::Gone(_)) {
                return Err(DataError::Gone);
            }
        }
    }
    Ok(())
}
