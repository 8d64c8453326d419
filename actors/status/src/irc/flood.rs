//! Flood control: servers throw out whoever writes too fast.
//!
//! A token bucket: so many lines may go out at once, after that one each interval. Its rate is below what servers allow by
//! default (one line each two seconds over a credit of some ten seconds).

use std::time::Duration;

use tokio::time::Instant;

/// A token bucket that counts lines.
#[derive(Debug)]
pub struct Bucket {
    burst: u32,
    every: Duration,
    /// When the bucket would be full again.
    full_at: Instant,
}

impl Bucket {
    /// A full bucket: `burst` lines at once, then one `every`.
    pub fn new(burst: u32, every: Duration, now: Instant) -> Self {
        Self { burst: burst.max(1), every, full_at: now }
    }

    /// When the next line may go out: now or later.
    pub fn next(&self, now: Instant) -> Instant {
        let spent = self.full_at.saturating_duration_since(now);
        let credit = self.every * (self.burst - 1);
        now + spent.saturating_sub(credit)
    }

    /// Whether nothing has been taken for long.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// A line goes out.
    pub fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + self.every;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_one_each_interval() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, Duration::from_secs(2), start);
        let mut sent = Vec::new();
        let mut now = start;
        for _ in 0..6 {
            now = bucket.next(now);
            sent.push((now - start).as_secs());
            bucket.take(now);
        }
        assert_eq!(sent, [0, 0, 0, 2, 4, 6]);
        // silence fills it again, but not beyond its size
        now += Duration::from_secs(1_000);
        let mut again = Vec::new();
        for _ in 0..4 {
            let at = bucket.next(now);
            again.push((at - now).as_secs());
            bucket.take(at);
        }
        assert_eq!(again, [0, 0, 0, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_of_nothing_still_lets_one_through() {
        let now = Instant::now();
        let bucket = Bucket::new(0, Duration::from_secs(1), now);
        assert_eq!(bucket.next(now), now);
    }
}
