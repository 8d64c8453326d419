//! What the DbWriter measures of itself, for whoever scrapes.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// From 100 µs (a fast disk) to 26 s (a database that is about to be away), by factors of four.
const COMMITS: [f64; 10] = [1e-4, 4e-4, 1.6e-3, 6.4e-3, 0.0256, 0.1024, 0.4096, 1.6384, 6.5536, 26.2144];
/// Writes of one commit.
const GROUPS: [f64; 6] = [1.0, 4.0, 16.0, 64.0, 256.0, 1000.0];

/// Kept by the store, so that a new DbWriter goes on where the old one ended.
#[derive(Debug)]
pub struct WriterMetrics {
    /// How long a group took, from its first statement to its answer.
    pub(crate) commit: Histogram,
    /// How many writes it had.
    pub(crate) group: Histogram,
    /// How many masters were taken over by this one.
    pub takeovers: Counter,
}

impl Default for WriterMetrics {
    fn default() -> Self {
        Self { commit: Histogram::new(COMMITS), group: Histogram::new(GROUPS), takeovers: Counter::default() }
    }
}

impl WriterMetrics {
    /// Names them.
    pub fn register(&self, registry: &mut Registry) {
        let commit = "How long commits took, from the first statement to the answer";
        registry.register_with_unit("db_commit", commit, Unit::Seconds, self.commit.clone());
        registry.register("db_commit_writes", "How many writes a commit took together", self.group.clone());
        let takeovers = "How many masters that were dead this one has taken over";
        registry.register("takeovers", takeovers, self.takeovers.clone());
    }
}
