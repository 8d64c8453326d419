//! A runtime for one test, which fails when something is left behind.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Dice, TokioClock};
use crate::runtime::{Builder, Runtime};
use crate::supervisor::StopReport;

/// 2030-01-01 00:00 UTC: where a test's clock begins, in microseconds.
const BEGIN: i64 = 1_893_456_000_000_000;

/// A runtime on paused time with seeded randomness. Dropping it fails the test (unless that fails already) when
/// actors still live, an actor panicked unexpectedly, or an escalation was not expected.
///
/// To be made inside `#[actix::test]`. Time is tokio's and stands still while anything can run; a test that uses
/// sockets, processes or SQLite takes [`TestWorld::in_real_time`].
#[derive(Debug)]
pub struct TestWorld {
    runtime: Runtime,
    expected: Vec<String>,
    escalation_expected: bool,
}

impl TestWorld {
    /// On paused time, with seed 1.
    pub fn new() -> Self {
        Self::seeded(1)
    }

    /// On paused time, with this seed.
    pub fn seeded(seed: u64) -> Self {
        tokio::time::pause();
        Self::from_builder(Runtime::builder().dice(Dice::seeded(seed)))
    }

    /// On real time, for tests with sockets, processes or SQLite.
    pub fn in_real_time() -> Self {
        Self::from_builder(Runtime::builder().dice(Dice::seeded(1)))
    }

    /// With a runtime of one's own making; its clock follows tokio's time.
    pub fn from_builder(builder: Builder) -> Self {
        let clock = Arc::new(TokioClock::starting_at(BEGIN));
        let runtime = builder.clock(clock).collect_panics().build();
        Self { runtime, expected: Vec::new(), escalation_expected: false }
    }

    /// Actors of this name may panic.
    pub fn expect_panic(&mut self, name: impl Into<String>) {
        self.expected.push(name.into());
    }

    /// The root supervisor may fail.
    pub fn expect_escalation(&mut self) {
        self.escalation_expected = true;
    }

    /// The runtime, to be handed on.
    pub fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    /// Lets everything run until nothing can go on without time passing. On paused time only.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Stops all actors and checks what dropping would check.
    ///
    /// # Panics
    /// When the test must fail.
    pub async fn finish(self) -> StopReport {
        let report = self.runtime.root().stop(None).await;
        drop(self);
        report
    }

    fn complaint(&self) -> Option<String> {
        let world = self.runtime.world();
        let panics: Vec<String> = world
            .take_panics()
            .into_iter()
            .filter(|exit| !self.expected.contains(&exit.name))
            .map(|exit| format!("{}: {}", exit.name, exit.message))
            .collect();
        let live = self.runtime.live();
        match world.escalation() {
            _ if !panics.is_empty() => Some(format!("unexpected panics: {}", panics.join("; "))),
            Some(escalation) if !self.escalation_expected => {
                Some(format!("unexpected escalation: {escalation}"))
            }
            _ if !live.is_empty() => Some(format!("actors still live: {}", live.join(", "))),
            _ => None,
        }
    }
}

impl Default for TestWorld {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for TestWorld {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        &self.runtime
    }
}

impl Drop for TestWorld {
    #[allow(clippy::panic, reason = "this is how a test fails")]
    fn drop(&mut self) {
        let complaint = self.complaint();
        self.runtime.root().give_up();
        if let (Some(complaint), false) = (complaint, std::thread::panicking()) {
            panic!("{complaint}");
        }
    }
}
