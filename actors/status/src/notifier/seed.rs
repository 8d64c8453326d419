//! What the outbox stores of a message: enough to write it later, and no more.
//!
//! The message itself is written when it is sent (see [`super::enrich`]): what is silenced, or told in a digest, costs no reads, and
//! an outbox of a thousand messages is small.

use greenroom_config::Mode;
use greenroom_model::{BuildId, BuilderId, BuildsetId, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

use crate::notice::BuildEvent;

/// What a message is about. Stored as JSON: add fields with a default, never rename.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum Seed {
    /// A build.
    Build {
        /** Which. */
        build: BuildId,
        /** Whether it began or ended. */
        event: BuildEvent,
        /** Which modes it fits. */
        modes: Vec<Mode>,
        /** The failure that it tells, if it tells one. */
        failure: Option<Failure>,
    },
    /// A buildset.
    Buildset {
        /** Which. */
        buildset: BuildsetId,
        /** Which modes any of its builds fits. */
        modes: Vec<Mode>,
        /** The builds to tell of, worst first, at most 50. */
        builds: Vec<BuildId>,
        /** How many more there are. */
        more: usize,
        /** The failures that it tells. */
        failures: Vec<Failure>,
    },
    /// A worker that is away.
    Worker {
        /** Which. */
        worker: WorkerId,
        /** Since when. */
        since: Timestamp,
    },
    /// A trial.
    Test {
        /** Who wants it. */
        by: String,
        /** When. */
        at: Timestamp,
    },
    /// Many messages in one.
    Digest {
        /** The first was due. */
        since: Timestamp,
        /** The last was due. */
        until: Timestamp,
        /** Why they were collected. */
        reason: String,
        /** How many there were. */
        total: u64,
        /** The builds among them. */
        builds: Vec<BuildId>,
        /** The workers among them. */
        workers: Vec<WorkerId>,
    },
}

/// A failure, as a later success on the same builder and branch ends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The builder.
    pub builder: BuilderId,
    /// The branch; empty when the source has none.
    pub branch: String,
    /// The build's number.
    pub number: i64,
}

impl Failure {
    /// Whether a good build of that builder, branch and number ends it.
    pub fn is_ended_by(&self, builder: BuilderId, branch: &str, number: i64) -> bool {
        self.builder == builder && self.branch == branch && self.number < number
    }
}

impl Seed {
    /// Whether it may be told in a digest instead of by itself.
    pub fn may_be_collected(&self) -> bool {
        matches!(self, Seed::Build { .. } | Seed::Buildset { .. } | Seed::Worker { .. })
    }

    /// Ends the failures that a good build ends. When it told of failures and none is left, gives the number of the first that ended.
    pub fn end_failures(&mut self, builder: BuilderId, branch: &str, number: i64) -> Option<i64> {
        match self {
            Seed::Build { failure, .. } => {
                failure.as_ref().filter(|it| it.is_ended_by(builder, branch, number)).map(|it| it.number)
            }
            Seed::Buildset { failures, .. } => {
                let ended = failures.extract_if(.., |it| it.is_ended_by(builder, branch, number));
                let first = ended.map(|it| it.number).min();
                first.filter(|_| failures.is_empty())
            }
            _ => None,
        }
    }
}
