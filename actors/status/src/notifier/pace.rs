//! How fast a notifier sends: waits that grow while its server is down, and a bound on messages a minute.

use std::collections::VecDeque;
use std::time::Duration;

use greenroom_model::Timestamp;

/// The first wait after a failed attempt; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that we choose ourselves.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// The longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3_600);
/// The window of [`Pace::free`].
const MINUTE: i64 = 60_000_000;
/// Every so many failed attempts another message is tried, in case only the first one cannot be sent.
const PROBE_ANOTHER: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub struct Pace {
    /// When messages were sent within the last minute.
    sent: VecDeque<Timestamp>,
    /// Attempts that failed since one succeeded.
    failed: u32,
    /// Nothing is tried before.
    closed_until: Timestamp,
}

impl Pace {
    /// Until when nothing is to be tried, if so.
    pub fn closed(&self, now: Timestamp) -> Option<Timestamp> {
        Some(self.closed_until).filter(|it| *it > now)
    }

    /// Whether the second message in line is to be tried instead of the first.
    pub fn probes_another(&self) -> bool {
        self.failed % PROBE_ANOTHER == PROBE_ANOTHER - 1
    }

    /// How many more messages may be sent now, out of so many a minute.
    pub fn free(&mut self, now: Timestamp, per_minute: u32) -> usize {
        while self.sent.front().is_some_and(|at| now.micros_since(*at) >= MINUTE) {
            self.sent.pop_front();
        }
        usize::try_from(per_minute).unwrap_or(usize::MAX).saturating_sub(self.sent.len())
    }

    /// When the next message may be sent, when [`Pace::free`] says none.
    pub fn free_at(&self, now: Timestamp) -> Timestamp {
        self.sent.front().map_or(now, |at| Timestamp(at.0 + MINUTE))
    }

    /// A message was sent.
    pub fn sent(&mut self, now: Timestamp) {
        self.failed = 0;
        self.closed_until = Timestamp(0);
        self.sent.push_back(now);
        // Without a bound a minute nobody looks at them.
        if self.sent.len() > 10_000 {
            self.sent.pop_front();
        }
    }

    /// The server is well, though nothing was sent.
    pub fn answered(&mut self) {
        self.failed = 0;
        self.closed_until = Timestamp(0);
    }

    /// An attempt failed. Gives when the next one is due.
    pub fn failed(&mut self, now: Timestamp, asked: Option<Duration>, fraction: f64) -> Timestamp {
        self.failed = self.failed.saturating_add(1);
        let wait = wait(self.failed, asked, fraction);
        self.closed_until = after(now, wait);
        self.closed_until
    }
}

/// How long to wait after so many failed attempts: doubling, with jitter (`fraction` is from 0 to 1), and at least what the server
/// asked for.
pub fn wait(failed: u32, asked: Option<Duration>, fraction: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1u32 << failed.saturating_sub(1).min(16));
    let longest = doubled.min(LONGEST_WAIT);
    let ours = longest.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0);
    ours.max(asked.unwrap_or_default().min(LONGEST_ASKED))
}

/// A time so much later.
pub fn after(at: Timestamp, by: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

/// How long it is until then.
pub fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(then.micros_since(now)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_heed_the_server() {
        let whole: Vec<u64> = (1..=10).map(|n| wait(n, None, 1.0).as_secs()).collect();
        assert_eq!(whole, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert_eq!(wait(3, None, 0.0), Duration::from_secs(2));
        assert_eq!(wait(u32::MAX, None, 1.0), LONGEST_WAIT);
        assert_eq!(wait(1, Some(Duration::from_secs(120)), 0.3), Duration::from_secs(120));
        assert_eq!(wait(1, Some(Duration::from_secs(1 << 40)), 0.3), LONGEST_ASKED);
    }

    #[test]
    fn no_more_than_so_many_a_minute() {
        let mut pace = Pace::default();
        let at = |seconds: i64| Timestamp::from_seconds(1_000 + seconds);
        pace.sent(at(0));
        pace.sent(at(30));
        assert_eq!(pace.free(at(30), 3), 1);
        pace.sent(at(31));
        assert_eq!((pace.free(at(59), 3), pace.free_at(at(59))), (0, at(60)));
        assert_eq!(pace.free(at(60), 3), 1);
        assert_eq!(pace.free(at(91), 3), 3);
    }

    #[test]
    fn another_message_is_probed_once_in_a_while() {
        let mut pace = Pace::default();
        let now = Timestamp(0);
        let probes: Vec<bool> = (0..9)
            .map(|_| {
                let other = pace.probes_another();
                pace.failed(now, None, 0.5);
                other
            })
            .collect();
        assert_eq!(probes, [false, false, false, true, false, false, false, true, false]);
        pace.sent(now);
        assert!(!pace.probes_another() && pace.closed(now).is_none());
    }
}
