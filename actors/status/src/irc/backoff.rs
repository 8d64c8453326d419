//! How long to wait before connecting again.

use std::time::Duration;

use greenroom_config::Backoff as Bounds;

/// A connection that stood so long was a good one: after it waiting begins anew.
const GOOD_AFTER: Duration = Duration::from_secs(30);
/// Who was sent away waits at least so long (as far as the longest wait allows).
const AFTER_REFUSAL: Duration = Duration::from_secs(60);

/// Doubles with every failure, with jitter so that many clients of a server that comes back do not come at once.
#[derive(Debug)]
pub struct Backoff {
    bounds: Bounds,
    failures: u32,
}

impl Backoff {
    /// Within these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, failures: 0 }
    }

    /// The wait after a connection that stood for `stood`. `fraction` is a random number from 0 to 1.
    pub fn after(&mut self, stood: Duration, refused: bool, fraction: f64) -> Duration {
        if stood >= GOOD_AFTER {
            self.failures = 0;
        }
        let (min, max) = (self.bounds.min.get(), self.bounds.max.get());
        let mut wait = min.saturating_mul(2u32.saturating_pow(self.failures.min(20))).min(max);
        self.failures = self.failures.saturating_add(1);
        if refused {
            wait = wait.max(AFTER_REFUSAL.min(max));
        }
        // between half and the whole
        wait.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use greenroom_config::values::Duration as Length;

    fn backoff() -> Backoff {
        Backoff::new(Bounds { min: Length::from_secs(1), max: Length::from_secs(300) })
    }

    #[test]
    fn it_doubles_up_to_the_longest_and_begins_anew_after_a_good_connection() {
        let mut it = backoff();
        let waits: Vec<u64> = (0..11).map(|_| it.after(Duration::ZERO, false, 1.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(it.after(GOOD_AFTER, false, 1.0).as_secs(), 1);
    }

    #[test]
    fn jitter_halves_it_at_most() {
        let mut it = backoff();
        it.after(Duration::ZERO, false, 0.0);
        it.after(Duration::ZERO, false, 0.0);
        assert_eq!(it.after(Duration::ZERO, false, 0.0), Duration::from_secs(2));
    }

    #[test]
    fn a_refusal_is_respected() {
        let mut it = backoff();
        assert_eq!(it.after(Duration::ZERO, true, 1.0), AFTER_REFUSAL);
        let mut short = Backoff::new(Bounds { min: Length::from_secs(1), max: Length::from_secs(5) });
        assert_eq!(short.after(Duration::ZERO, true, 1.0).as_secs(), 5);
    }
}
