//! Waiting for markers, never for time to pass.

use std::time::{Duration, Instant};

/// How often a marker is looked for.
const LOOK: Duration = Duration::from_millis(10);

/// Looks for a marker until it is there. Fails, naming what was waited for, when it does not come in time.
#[track_caller]
pub fn patience<T>(within: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < within, "waited {within:?} in vain for: {what}");
        std::thread::sleep(LOOK);
    }
}

/// [`patience`] of twenty seconds: longer than anything takes that works.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    patience(Duration::from_secs(20), what, look)
}
