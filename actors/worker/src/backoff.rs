//! How long to wait before the next attempt to connect.

use std::time::Duration;

/// Delays that double from a first to a longest, each with jitter so that a fleet does not return at once.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The last attempt was a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The delay after one more failure: between half of the step and the whole of it. `random` is in 0..1.
    pub(crate) fn next(&mut self, random: f64) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
        let steps: Vec<_> = (0..7).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(steps, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        for _ in 0..100 {
            assert_eq!(backoff.next(0.0), Duration::from_secs(5));
        }
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(250));
    }
}
