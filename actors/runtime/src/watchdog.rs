//! Finds actors that hold their arbiter.
//!
//! Each arbiter thread has a pulse: which child is being polled, and since when. One thread per runtime looks at
//! the few pulses now and then, so that a stall is reported while it lasts, and costs the actors two stores a poll.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::runtime::World;

/// A poll of an actor that takes longer is reported.
const TOO_LONG: Duration = Duration::from_millis(100);
/// How often the pulses are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What runs on one arbiter right now.
pub(crate) struct Pulse {
    origin: Instant,
    /// Microseconds since the origin, zero when idle.
    since: AtomicU64,
    child: AtomicU64,
    /// The `since` that has been reported as a stall, and the one that has been reported as a block.
    reported: AtomicU64,
    reported_block: AtomicU64,
}

thread_local! {
    static PULSE: Arc<Pulse> = Arc::new(Pulse {
        origin: Instant::now(),
        since: AtomicU64::new(0),
        child: AtomicU64::new(0),
        reported: AtomicU64::new(0),
        reported_block: AtomicU64::new(0),
    });
}

impl Pulse {
    /// The one of this thread.
    pub(crate) fn current() -> Arc<Pulse> {
        PULSE.with(Arc::clone)
    }

    pub(crate) fn enter(&self, child: u64) {
        self.child.store(child, Ordering::Relaxed);
        self.since.store(self.now(), Ordering::Release);
    }

    pub(crate) fn leave(&self) {
        self.since.store(0, Ordering::Release);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    fn held(&self) -> Option<(u64, u64, Duration)> {
        let since = self.since.load(Ordering::Acquire);
        let held = Duration::from_micros(self.now().saturating_sub(since));
        (since != 0).then(|| (since, self.child.load(Ordering::Relaxed), held))
    }

    /// For how long this child has held the thread, if it has for too long.
    pub(crate) fn held_by(&self, child: u64) -> Option<Duration> {
        self.held().filter(|(_, who, held)| *who == child && *held > TOO_LONG).map(|(_, _, held)| held)
    }

    /// The child that has held the thread for too long, told once for each time.
    fn stalled(&self) -> Option<(u64, Duration)> {
        let (since, child, held) = self.held()?;
        let news = held > TOO_LONG && self.reported.swap(since, Ordering::Relaxed) != since;
        news.then_some((child, held))
    }
}

/// Looks at the pulses until its world is gone.
pub(crate) fn watch(world: &Weak<World>, gone: &Receiver<()>) {
    while gone.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
        let Some(world) = world.upgrade() else { return };
        for pulse in world.pulses() {
            if let Some((child, held)) = pulse.stalled() {
                world.report_stall(child, held);
            }
            if let Some((since, child, held)) = pulse.held()
                && held > TOO_LONG
                && pulse.reported_block.load(Ordering::Relaxed) != since
                && world.report_block(child, held)
            {
                pulse.reported_block.store(since, Ordering::Relaxed);
            }
        }
    }
}
