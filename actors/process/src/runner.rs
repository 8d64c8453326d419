//! The seam to the workers: what a build asks of whoever runs its commands.
//!
//! In the program that is the link layer's `Workers`; in tests it is a scripted one. A command has an id that is stored
//! before it is sent, so that a build which is born again asks for *that* command's end and never starts it twice.

use std::fmt;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use greenroom_model::{LogId, WorkerId};

/// What a build needs to know about the worker it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlace {
    /// The absolute directory that all builders' directories lie in.
    pub basedir: String,
    /// Whether its paths are those of Windows.
    pub windows: bool,
}

impl WorkerPlace {
    /// Joins path elements with the worker's own separator.
    pub fn join(&self, base: &str, below: &str) -> String {
        let separator = if self.windows { '\\' } else { '/' };
        let base = base.trim_end_matches(['/', if self.windows { '\\' } else { '/' }]);
        let below: Vec<&str> = below.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if below.is_empty() {
            return base.to_owned();
        }
        format!("{base}{separator}{}", below.join(if self.windows { "\\" } else { "/" }))
    }
}

/// What is to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// Text for the worker's shell.
    Script(String),
    /// A program and its arguments, executed as they are.
    Argv(Vec<String>),
}

/// A program to run on a worker.
#[derive(Clone, PartialEq)]
pub struct Execution {
    /// Absolute; made if it is missing.
    pub workdir: String,
    /// What to run.
    pub program: Program,
    /// Changes to the worker's environment; `${NAME}` in a value stands for the worker's own variable.
    pub env: Vec<(String, String)>,
    /// Killed after so many seconds without output.
    pub timeout_s: Option<f64>,
    /// Killed after so many seconds in all.
    pub max_time_s: Option<f64>,
}

/// Without the values of the environment, which may be secrets.
impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let env: Vec<&str> = self.env.iter().map(|it| it.0.as_str()).collect();
        f.debug_struct("Execution")
            .field("workdir", &self.workdir)
            .field("program", &self.program)
            .field("env", &env)
            .field("timeout_s", &self.timeout_s)
            .field("max_time_s", &self.max_time_s)
            .finish()
    }
}

/// A command.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerCommand {
    /// Runs a program.
    Execute(Execution),
    /// Removes directories with everything in them; missing ones are fine.
    RemoveDirectories(Vec<String>),
}

/// A command with its id and what becomes of its output.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandOrder {
    /// Unique for ever; stored before this order is sent.
    pub id: String,
    /// What to do.
    pub command: WorkerCommand,
    /// The log that takes its streams, which exists already. The runner writes it; its owner ends it.
    pub log: Option<LogId>,
    /// Keep so many bytes of standard output for [`Finished::captured`].
    pub capture: Option<usize>,
}

/// How a command ended by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Finished {
    /// The exit code; none if the worker told none.
    pub rc: Option<i64>,
    /// Why the worker killed it: `timeout_without_output`, `timeout`, `max_lines_failure`.
    pub failure_reason: Option<String>,
    /// What kept the worker from running it at all.
    pub failure: Option<String>,
    /// Its standard output, if that was asked for.
    pub captured: Option<Bytes>,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEnd {
    /// By itself, or interrupted.
    Finished(Finished),
    /// The worker was lost while it ran.
    Lost {
        /// Why.
        why: String,
    },
    /// The runner knows of no such command: it was never sent, or over an earlier connection. It does not run now.
    Unknown,
}

/// Why a command was not started. It has certainly not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotStarted {
    /// The worker is not there (any more).
    #[error("{0}")]
    WorkerGone(String),
    /// The worker will not run it, now or later.
    #[error("{0}")]
    Refused(String),
}

/// Runs commands on workers.
pub trait CommandRunner: Send + Sync + 'static {
    /// Facts about a connected worker; none if it is not connected.
    fn place(&self, worker: WorkerId) -> Option<WorkerPlace>;

    /// Sends a command. A command whose id was sent before is not started again.
    fn start(&self, worker: WorkerId, order: CommandOrder) -> BoxFuture<'_, Result<(), NotStarted>>;

    /// Waits for a command's end. May be asked again, until the command is forgotten.
    fn wait<'a>(&'a self, worker: WorkerId, id: &'a str) -> BoxFuture<'a, CommandEnd>;

    /// Asks the worker to kill a command; its end is still to be waited for. One that has ended is left alone.
    fn interrupt<'a>(&'a self, worker: WorkerId, id: &'a str, why: &'a str) -> BoxFuture<'a, ()>;

    /// The end of this command is stored; it will not be asked for again.
    fn forget(&self, worker: WorkerId, id: &str);

    /// A worker is not configured any more, and nothing runs on it: its connection is closed, its process, if it is ours, ended.
    /// Of one that is configured nothing happens.
    fn part<'a>(&'a self, worker: WorkerId, name: &'a str) -> BoxFuture<'a, ()>;

    /// Tells a connected worker's program to end.
    fn shut_down<'a>(&'a self, worker: WorkerId, why: &'a str) -> BoxFuture<'a, ()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_joined_as_the_worker_writes_them() {
        let unix = WorkerPlace { basedir: "/w".into(), windows: false };
        assert_eq!(unix.join("/w/", "linux/build"), "/w/linux/build");
        assert_eq!(unix.join("/w", "."), "/w");
        let windows = WorkerPlace { basedir: "C:\\w".into(), windows: true };
        assert_eq!(windows.join("C:\\w", "linux/build"), "C:\\w\\linux\\build");
    }
}
