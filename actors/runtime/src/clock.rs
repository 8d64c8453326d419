//! Time and randomness as parameters.
//!
//! Wall-clock time comes from a [`Clock`]; waiting is tokio's, so that a test on paused time controls both.
//! Random numbers come from a [`Dice`], seeded in tests. Nothing else in the project reads either.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

use crate::lock;

/// Wall-clock time, UTC.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since 1970-01-01 00:00 UTC.
    fn now_micros(&self) -> i64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        }
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `micros`.
    pub fn new(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets it, also back: machines' clocks jump.
    pub fn set(&self, micros: i64) {
        self.0.store(micros, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A clock that follows tokio's time, paused or not, from a given instant on.
#[derive(Debug)]
pub struct TokioClock {
    base: i64,
    origin: tokio::time::Instant,
}

impl TokioClock {
    /// Shows `micros` now and goes on with tokio's time.
    pub fn starting_at(micros: i64) -> Self {
        Self { base: micros, origin: tokio::time::Instant::now() }
    }
}

impl Clock for TokioClock {
    fn now_micros(&self) -> i64 {
        let elapsed = tokio::time::Instant::now().saturating_duration_since(self.origin);
        self.base.saturating_add(i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A source of random numbers that many actors share; not for secrets.
pub struct Dice(Mutex<StdRng>);

impl Dice {
    /// The same numbers each time.
    pub fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// Seeded by the operating system.
    pub fn from_os() -> Self {
        Self(Mutex::new(StdRng::from_os_rng()))
    }

    /// Any number.
    pub fn next_u64(&self) -> u64 {
        lock(&self.0).next_u64()
    }

    /// A number from `0.0` up to, not including, `1.0`.
    pub fn fraction(&self) -> f64 {
        lock(&self.0).random()
    }

    /// A generator of one's own, for an actor that draws often.
    pub fn fork(&self) -> StdRng {
        StdRng::seed_from_u64(self.next_u64())
    }
}

impl fmt::Debug for Dice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dice")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_by_seed() {
        let (one, two, other) = (Dice::seeded(1), Dice::seeded(1), Dice::seeded(2));
        let roll = |dice: &Dice| [dice.next_u64(), dice.fork().next_u64(), dice.next_u64()];
        let first = roll(&one);
        assert_eq!(first, roll(&two));
        assert_ne!(first, roll(&other));
        assert!((0.0..1.0).contains(&one.fraction()));
    }

    #[test]
    fn manual_clock_moves_only_by_hand() {
        let clock = ManualClock::new(5);
        clock.advance(Duration::from_millis(2));
        assert_eq!(clock.now_micros(), 2005);
        clock.set(-1);
        assert_eq!(clock.now_micros(), -1);
    }

    #[tokio::test(start_paused = true)]
    async fn tokio_clock_follows_paused_time() {
        let clock = TokioClock::starting_at(10);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(clock.now_micros(), 3_000_010);
    }

    #[test]
    fn system_clock_is_of_this_century() {
        assert!(SystemClock.now_micros() > 1_700_000_000_000_000);
    }
}
