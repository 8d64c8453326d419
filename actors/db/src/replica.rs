//! When a replica answers a read.
//!
//! Whatever this master has written, or read as committed, somebody may have been told. A read shows all of that: a replica that lacks
//! some of it is waited for, and past [`PATIENCE`] the primary is asked. So nobody who asks this master sees time go
//! back, with or without a clock; and since a read that names a clock (`after=`) begins when this master has seen it, it shows that.
//! A replica that has lagged for longer than that is not waited for at all.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use greenroom_model::{Clock, MasterId};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{EngineError, ReadTx, Replica};
use crate::messages::Snapshot;
use crate::reader::Read;
use crate::reads;
use crate::store::{Store, generation_of};

/// How long a replica may be behind and is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at how far it is.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How exactly it is known since when something was seen.
const MARK_EVERY: Duration = Duration::from_millis(100);

/// What somebody here has seen committed, and since when.
pub(crate) struct Seen {
    now: Mutex<Marked>,
    /// How far a replica was, as it was last seen by one who waited.
    replica: Mutex<Clock>,
    /// One of those who wait looks; the others hear of it.
    turn: tokio::sync::Mutex<()>,
    told: AtomicBool,
    /// Reads that a replica answered.
    pub answered: AtomicU64,
}

struct Marked {
    clock: Clock,
    /// What had been seen at some times: of the last [`PATIENCE`], and one before.
    marks: VecDeque<(Instant, Clock)>,
}

impl Seen {
    /// Nothing yet, of this life of a database.
    pub fn nothing(generation: i64) -> Self {
        Self {
            now: Mutex::new(Marked { clock: Clock::start(generation), marks: VecDeque::new() }),
            replica: Mutex::new(Clock::start(generation)),
            turn: tokio::sync::Mutex::default(),
            told: AtomicBool::new(false),
            answered: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was committed, or read as committed.
    pub fn saw(&self, master: MasterId, seq: i64) {
        let mut seen = self.lock();
        if seen.clock.head(master) < seq {
            seen.clock.set(master, seq);
            seen.mark();
        }
    }

    fn all(&self) -> Clock {
        let mut seen = self.lock();
        seen.mark();
        seen.clock.clone()
    }

    /// Whether a clock lacks what was seen [`PATIENCE`] ago.
    fn has_left_behind(&self, clock: &Clock) -> bool {
        let seen = self.lock();
        let then = seen.marks.iter().rev().find(|(at, _)| at.elapsed() >= PATIENCE);
        then.is_some_and(|(_, then)| !clock.covers(then))
    }
}

impl Marked {
    fn mark(&mut self) {
        let is_known = |(at, clock): &(Instant, Clock)| at.elapsed() < MARK_EVERY || *clock == self.clock;
        if self.marks.back().is_some_and(is_known) {
            return;
        }
        self.marks.push_back((Instant::now(), self.clock.clone()));
        while self.marks.get(1).is_some_and(|(at, _)| at.elapsed() >= PATIENCE) {
            self.marks.pop_front();
        }
    }
}

/// Reads from the replica. None: there is none, it is not there, or it is too far behind.
pub(crate) async fn read<T>(
    store: &Store,
    work: impl for<'a> Fn(&'a mut dyn ReadTx) -> Read<'a, T>,
) -> Option<Snapshot<T>> {
    let replica = store.0.engine.replica()?;
    let wanted = store.0.seen.all();
    let (mut tx, clock) = timeout(PATIENCE, caught_up(store, replica, &wanted)).await.ok()??;
    let value = tokio::select! {
        value = work(&mut *tx) => value,
        () = replica.lost() => return None,
    };
    match value {
        Ok(value) => {
            store.0.seen.answered.fetch_add(1, Ordering::Relaxed);
            Some(Snapshot { value, clock })
        }
        Err(error) => {
            tracing::debug!(db.error = %error, "the replica did not answer, the primary is asked");
            replica.suspect();
            None
        }
    }
}

type Begun = (Box<dyn ReadTx>, Clock);

/// A transaction of the replica that shows what is wanted, when there is one.
async fn caught_up(store: &Store, replica: &dyn Replica, wanted: &Clock) -> Option<Begun> {
    let seen = &store.0.seen;
    let known = || seen.replica.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let begun = look(store, replica).await?;
        *known() = begun.1.clone();
        if begun.1.covers(wanted) {
            return Some(begun);
        }
        if seen.has_left_behind(&begun.1) {
            return None;
        }
        drop(begun); // it would never show more
        let _turn = seen.turn.lock().await;
        if !known().covers(wanted) {
            sleep(LOOK_AGAIN).await;
        }
    }
}

/// Begins a transaction on the replica, if that is a copy of this database.
async fn look(store: &Store, replica: &dyn Replica) -> Option<Begun> {
    let mut tx = replica.read().await?;
    let read = async {
        let generation = generation_of(&mut *tx).await?;
        let clock = reads::clock(&mut *tx, store.0.generation).await?;
        Ok::<_, EngineError>((generation, clock))
    };
    let why = match read.await {
        Ok((Some(generation), clock)) if generation == store.0.generation => return Some((tx, clock)),
        Ok(_) => "it is another database, or an earlier life of this one".to_owned(),
        Err(error) => {
            replica.suspect();
            error.to_string()
        }
    };
    if !store.0.seen.told.swap(true, Ordering::Relaxed) {
        tracing::warn!(db.error = why, "the replica has no answer, the primary is asked");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(seq: i64) -> Clock {
        let mut clock = Clock::start(1);
        clock.set(MasterId(1), seq);
        clock
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_seen_long_ago_is_not_waited_for() {
        let seen = Seen::nothing(1);
        seen.saw(MasterId(1), 5);
        assert!(!seen.has_left_behind(&clock(0)), "it was just now");
        sleep(PATIENCE - Duration::from_millis(1)).await;
        assert!(!seen.has_left_behind(&clock(4)));
        sleep(Duration::from_millis(1)).await;
        assert!(seen.has_left_behind(&clock(4)));
        assert!(!seen.has_left_behind(&clock(5)));
        // While it goes on, the lag is what counts, not how much there is.
        for seq in 6..2_000 {
            seen.saw(MasterId(1), seq);
            sleep(Duration::from_millis(10)).await;
            // Before that, what was seen long ago is still lacked.
            assert!(seq < 160 || !seen.has_left_behind(&clock(seq - 150)), "1.5 s behind");
            assert!(seq < 300 || seen.has_left_behind(&clock(seq - 250)), "2.5 s behind");
        }
        assert!(seen.lock().marks.len() < 30, "of the last seconds alone");
        assert_eq!(seen.all(), clock(1_999));
    }
}
