//! What is known about one child from any thread: counters, state, orders. Not generic, so that the registry can hold it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;
use std::time::Duration;

use greenroom_model::restart::{Intensity, Policy, PolicyPatch};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::ending::{Ending, Exit};
use crate::lock;

/// Past ends that are remembered, per child and per supervisor.
pub(crate) const EXITS_KEPT: usize = 20;

/// Where an actor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// About to be born.
    Starting,
    /// Alive.
    Running,
    /// Dead, and waiting to be born again.
    BackingOff,
    /// Finishing its queued work; takes no more.
    Stopping,
    /// Ended for good, as it should.
    Stopped,
    /// Ended for good, badly.
    Failed,
}

impl State {
    /// Whether it will never be born again.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Failed)
    }
}

/// What the task of a child is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// End this birth; the supervisor decides as after any bad end.
    Kill,
    /// End this birth and begin the next at once, uncounted.
    Restart,
    /// Take no more letters, finish the queued ones, end; whatever is left at the instant is cut off.
    Stop(Instant),
    /// End this birth in order, within the instant, without handling what is queued, and wait to be told to go on: a member
    /// of the group has failed.
    Park {
        /// When the birth is cut off.
        until: Instant,
        /// What it is parked for.
        why: Arc<str>,
    },
    /// End this birth, if one lives, and begin the next at the instant.
    Reborn(Instant),
    /// End at once, for good.
    Halt,
}

impl Order {
    /// A later order replaces an earlier one only if it weighs as much.
    fn weight(&self) -> u8 {
        match self {
            Self::Kill | Self::Restart => 0,
            Self::Park { .. } | Self::Reborn(_) => 1,
            Self::Stop(_) => 2,
            Self::Halt => 3,
        }
    }
}

/// What was lost when a child was cut off at the end of its grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CutOff {
    /// The child's name.
    pub name: String,
    /// Letters that no handler had begun.
    pub queued: usize,
    /// Asks without an answer, queued ones included.
    pub in_flight: usize,
}

pub(crate) struct Life {
    pub(crate) state: State,
    /// End of the backoff, microseconds UTC.
    pub(crate) until: Option<i64>,
    pub(crate) births: u64,
    pub(crate) exits: VecDeque<Exit>,
    pub(crate) last: Option<Ending>,
    /// When the last birth ended, until another runs.
    pub(crate) died: Option<Instant>,
    /// When the last birth ended, until another has handled a message.
    pub(crate) unserved_since: Option<Instant>,
    /// No birth lives, and none begins before an order.
    pub(crate) parked: bool,
    /// Restarts within the period, if they are counted apart from those of its siblings.
    pub(crate) restarts: VecDeque<Instant>,
    pub(crate) cut_off: Option<CutOff>,
    pub(crate) slowest: &'static str,
    pub(crate) observed: Option<(Value, Instant)>,
}

pub(crate) struct Vital {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) kind: &'static str,
    pub(crate) parent: Arc<str>,
    /// What the code says about this child.
    pub(crate) code: PolicyPatch,
    pub(crate) handled: AtomicU64,
    pub(crate) stalls: AtomicU64,
    pub(crate) slowest_micros: AtomicU64,
    asks: AtomicUsize,
    tells: AtomicUsize,
    bound: AtomicUsize,
    ask_deadline_ms: AtomicU64,
    hang_after_ms: AtomicU64,
    waiting: AtomicUsize,
    freed: Notify,
    pub(crate) draining: AtomicBool,
    ordered: AtomicBool,
    order: Mutex<Option<Order>>,
    waker: OnceLock<Waker>,
    changed: Notify,
    pub(crate) life: Mutex<Life>,
}

impl Vital {
    pub(crate) fn new(
        id: u64,
        name: Arc<str>,
        kind: &'static str,
        parent: Arc<str>,
        code: PolicyPatch,
        policy: &Policy,
    ) -> Self {
        let vital = Self {
            id,
            name,
            kind,
            parent,
            code,
            handled: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            slowest_micros: AtomicU64::new(0),
            asks: AtomicUsize::new(0),
            tells: AtomicUsize::new(0),
            bound: AtomicUsize::new(0),
            ask_deadline_ms: AtomicU64::new(0),
            hang_after_ms: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            draining: AtomicBool::new(false),
            ordered: AtomicBool::new(false),
            order: Mutex::new(None),
            waker: OnceLock::new(),
            changed: Notify::new(),
            life: Mutex::new(Life {
                state: State::Starting,
                until: None,
                births: 0,
                exits: VecDeque::new(),
                last: None,
                died: None,
                unserved_since: None,
                parked: false,
                restarts: VecDeque::new(),
                cut_off: None,
                slowest: "",
                observed: None,
            }),
        };
        vital.adopt(policy);
        vital
    }

    /// Takes over what of a policy works while the actor lives.
    pub(crate) fn adopt(&self, policy: &Policy) {
        let bound = usize::try_from(policy.mailbox_bound).unwrap_or(usize::MAX).max(1);
        self.ask_deadline_ms.store(policy.ask_deadline.as_millis(), Ordering::Relaxed);
        self.hang_after_ms.store(policy.hang_after.as_millis(), Ordering::Relaxed);
        if self.bound.swap(bound, Ordering::SeqCst) < bound {
            self.freed.notify_waiters();
        }
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound.load(Ordering::Relaxed)
    }

    pub(crate) fn ask_deadline(&self) -> Duration {
        Duration::from_millis(self.ask_deadline_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn hang_after(&self) -> Duration {
        Duration::from_millis(self.hang_after_ms.load(Ordering::Relaxed))
    }

    pub(crate) fn asks(&self) -> usize {
        self.asks.load(Ordering::SeqCst)
    }

    /// Takes a place among the asks in flight, if there is one.
    pub(crate) fn try_admit_ask(&self) -> bool {
        try_take(&self.asks, self.bound.load(Ordering::SeqCst))
    }

    /// Waits for a place among the asks in flight.
    pub(crate) async fn admit_ask(&self) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.try_admit_ask() {
                return;
            }
            freed.await;
        }
    }

    pub(crate) fn release_ask(&self) {
        let left = self.asks.fetch_sub(1, Ordering::SeqCst) - 1;
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
        if left == 0 && self.draining.load(Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Takes a place among the queued tells, if there is one.
    pub(crate) fn try_admit_tell(&self) -> bool {
        try_take(&self.tells, self.bound.load(Ordering::Relaxed))
    }

    pub(crate) fn release_tell(&self) {
        self.tells.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn set_waker(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    pub(crate) fn command(&self, order: Order) {
        {
            let mut slot = lock(&self.order);
            if slot.as_ref().is_none_or(|old| old.weight() <= order.weight()) {
                *slot = Some(order);
            }
            self.ordered.store(true, Ordering::SeqCst);
        }
        self.wake();
    }

    /// The order that waits, if any. Cheap when there is none.
    pub(crate) fn take_order(&self) -> Option<Order> {
        if !self.ordered.load(Ordering::SeqCst) {
            return None;
        }
        let mut slot = lock(&self.order);
        self.ordered.store(false, Ordering::SeqCst);
        slot.take()
    }

    pub(crate) fn has_order(&self) -> bool {
        self.ordered.load(Ordering::SeqCst)
    }

    pub(crate) fn state(&self) -> State {
        lock(&self.life).state
    }

    pub(crate) fn set_state(&self, state: State, until: Option<i64>) {
        {
            let mut life = lock(&self.life);
            life.state = state;
            life.until = until;
        }
        self.changed.notify_waiters();
    }

    /// A birth runs; says in the last exit how long that took.
    pub(crate) fn set_running(&self) {
        {
            let mut life = lock(&self.life);
            if let (Some(died), Some(exit)) = (life.died.take(), life.exits.back_mut()) {
                exit.back_ms = Some(died.elapsed().as_secs_f64() * 1000.0);
            }
        }
        self.set_state(State::Running, None);
    }

    /// A birth has handled its first message; says in the last exit how long that took.
    pub(crate) fn set_serving(&self) {
        let mut life = lock(&self.life);
        if let (Some(since), Some(exit)) = (life.unserved_since.take(), life.exits.back_mut()) {
            exit.served_ms = Some(since.elapsed().as_secs_f64() * 1000.0);
        }
    }

    pub(crate) fn set_parked(&self, parked: bool) {
        lock(&self.life).parked = parked;
        self.changed.notify_waiters();
    }

    /// Says when it is born again, if it is parked.
    pub(crate) fn parked_until(&self, micros: i64) {
        let mut life = lock(&self.life);
        if life.parked {
            life.until = Some(micros);
        }
    }

    /// Waits until no birth lives, and none begins before an order.
    pub(crate) async fn wait_parked(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (ended, parked) = {
                let life = lock(&self.life);
                (life.state.is_final(), life.parked)
            };
            // one that has not seen its order yet may be on its way to another birth
            if ended || (parked && !self.has_order()) {
                return;
            }
            changed.await;
        }
    }

    /// Counts a restart of its own; says how many there were within the period.
    pub(crate) fn count_restart(&self, intensity: Intensity) -> usize {
        let (mut life, now) = (lock(&self.life), Instant::now());
        life.restarts.push_back(now);
        forget_before(&mut life.restarts, now, intensity.within.duration(), |at| *at);
        life.restarts.len()
    }

    /// Waits until `ready` holds for the state.
    pub(crate) async fn wait_for(&self, ready: impl Fn(State) -> bool) -> State {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let state = self.state();
            if ready(state) {
                return state;
            }
            changed.await;
        }
    }

    /// Counts a handled letter.
    pub(crate) fn count(&self, message: &'static str, took: Duration) {
        self.handled.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if micros > self.slowest_micros.load(Ordering::Relaxed) {
            let mut life = lock(&self.life);
            self.slowest_micros.store(micros, Ordering::Relaxed);
            life.slowest = message;
        }
    }
}

/// Whether so many restarts are more than granted.
pub(crate) fn exceeds(restarts: usize, intensity: Intensity) -> bool {
    restarts > usize::try_from(intensity.restarts).unwrap_or(usize::MAX)
}

/// Forgets what lies further back than the period.
pub(crate) fn forget_before<T>(
    restarts: &mut VecDeque<T>,
    now: Instant,
    within: Duration,
    at: impl Fn(&T) -> Instant,
) {
    while restarts.front().is_some_and(|it| now.saturating_duration_since(at(it)) > within) {
        restarts.pop_front();
    }
}

fn try_take(counter: &AtomicUsize, bound: usize) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |taken| (taken < bound).then_some(taken + 1))
        .is_ok()
}

/// Counts somebody who waits, also when the wait is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Remembers an end among the last [`EXITS_KEPT`].
pub(crate) fn remember(exits: &mut VecDeque<Exit>, exit: Exit) {
    if exits.len() == EXITS_KEPT {
        exits.pop_front();
    }
    exits.push_back(exit);
}
