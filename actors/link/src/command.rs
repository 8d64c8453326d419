//! What `process` asks of a worker's session, and what it hears.

use std::collections::BTreeMap;

use greenroom_model::LogId;
use greenroom_protocol::{Command, FileStat};

/// A command to start on a worker.
#[derive(Debug, Clone)]
pub struct CommandStart {
    /// Unique over all workers and restarts of the master: [`crate::Workers::new_command_id`]. To be persisted
    /// (`Op::SetStepCommand`) before the start, so that it can be interrupted after a crash.
    pub command_id: String,
    /// What to run.
    pub command: Command,
    /// The log that gets standard output, standard error and header texts; none: they are dropped.
    pub stdio: Option<LogId>,
    /// The logs of followed files, by the name given in the command's `logfiles`.
    pub logs: BTreeMap<String, LogId>,
    /// Keep standard output up to so many bytes for [`CommandEnd::Finished::captured`], beside logging it.
    pub capture_stdout: Option<usize>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq)]
pub enum CommandEnd {
    /// The worker said that it is over, and all its output has been accepted by the log store.
    Finished {
        /// Exit status, -1 if killed by a signal; none if the command broke, or was interrupted where the worker gives none.
        rc: Option<i64>,
        /// Why the worker killed it: `timeout_without_output`, `timeout` or `max_lines_failure`.
        failure_reason: Option<String>,
        /// The command itself broke, or its output could not be taken: a failure whatever `rc` says, and no reason to
        /// try again.
        failure: Option<String>,
        /// Standard output, as far as [`CommandStart::capture_stdout`] asked for it.
        captured: String,
        /// Answer of `glob` or `listdir`, unsorted.
        files: Vec<String>,
        /// Answer of `stat`.
        stat: Option<FileStat>,
        /// Seconds that it took, if the worker said so.
        elapsed: Option<f64>,
    },
    /// The worker was lost while it ran; it will be interrupted before that worker is used again.
    Lost {
        /// What happened to the connection.
        why: String,
    },
    /// The session that is connected now knows no such command: it was never started, or on an earlier connection
    /// and has been interrupted since, or it was forgotten. In no case does it run now.
    Unknown,
}

impl CommandEnd {
    /// The end of a command of which nothing is known but that the connection is gone.
    pub fn lost(why: impl Into<String>) -> Self {
        CommandEnd::Lost { why: why.into() }
    }

    /// The end of a command that failed for a reason of ours.
    pub fn failed(failure: impl Into<String>) -> Self {
        CommandEnd::Finished {
            rc: None,
            failure_reason: None,
            failure: Some(failure.into()),
            captured: String::new(),
            files: Vec::new(),
            stat: None,
            elapsed: None,
        }
    }
}

/// Why a worker could not be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// No usable connection of that worker. A command was certainly not started.
    #[error("the worker is not connected")]
    NotConnected,
    /// The worker said no: it does not know the command, or an argument is missing. A command was not started.
    #[error("the worker refused: {0}")]
    Refused(String),
    /// The session has as many commands as it takes. The command was not started.
    #[error("the worker's session has too many commands")]
    Busy,
    /// The connection was lost before the worker answered. Outcome unknown; a command ends as [`CommandEnd::Lost`].
    #[error("the connection to the worker was lost: {0}")]
    Lost(String),
    /// The worker did not answer in time. Outcome unknown; a command stays known and may be waited for.
    #[error("the worker did not answer in time")]
    NoAnswer,
}
