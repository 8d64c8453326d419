//! The commands the agent knows, each from its arguments to its `complete`.
//!
//! *To add one*: a function in a file here, a line in [`NAMES`] and one in [`run`].

mod files;
mod shell;
mod trees;

use greenroom_protocol::{Command, UpdateItem};
use tokio::time::Instant;

use crate::outbox::Gone;
use crate::process::{Groups, Interrupt, Outcome};
use crate::report::Report;

/// Names announced to the master.
pub(crate) const NAMES: [&str; 8] = ["shell", "mkdir", "rmdir", "rmfile", "cpdir", "stat", "glob", "listdir"];

/// Whether the agent can run this command.
pub(crate) fn is_known(command: &Command) -> bool {
    NAMES.contains(&command.name())
}

/// The result of a command: its exit status and the text of a failure of the command itself.
struct Done {
    rc: Option<i64>,
    interrupted: bool,
    failure: Option<String>,
}

impl Done {
    fn failed(failure: String) -> Self {
        Self { rc: None, interrupted: false, failure: Some(failure) }
    }
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Self {
        Self { rc: Some(outcome.rc), interrupted: outcome.interrupted, failure: outcome.failure }
    }
}

/// Runs a command and reports it, its end included.
pub(crate) async fn run(
    command: Command,
    basedir: &std::path::Path,
    mut report: Report,
    mut interrupt: Interrupt,
    groups: &Groups,
) -> Result<(), Gone> {
    let started = Instant::now();
    let done = match command {
        Command::Shell(args) => shell::run(*args, basedir, &mut report, &mut interrupt, groups).await?,
        Command::Rmdir(args) => trees::rmdir(args, basedir, &mut report, &mut interrupt, groups).await?,
        Command::Cpdir(args) => trees::cpdir(args, basedir, &mut report, &mut interrupt, groups).await?,
        other => files::run(other, basedir, &mut report).await,
    };
    if let Some(rc) = done.rc {
        report.push(UpdateItem::Rc(rc));
        if !done.interrupted {
            report.push(UpdateItem::Elapsed(started.elapsed().as_secs_f64()));
        }
    }
    report.complete(done.failure).await
}
