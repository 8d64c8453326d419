//! The link layer's `Workers` as the [`CommandRunner`] of this layer.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use greenroom_link::{
    Command, CommandEnd as LinkEnd, CommandLine, CommandStart, EnvValue, LinkError, Rmdir, Shell, Workers,
};
use greenroom_model::WorkerId;

use crate::runner::{
    CommandEnd, CommandOrder, CommandRunner, Finished, NotStarted, Program, WorkerCommand, WorkerPlace,
};

/// How often a session that has too many commands is asked again, and the pause between.
const BUSY_TRIES: u32 = 100;
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// Seconds without a sign of progress after which removing a directory is given up.
const REMOVE_TIMEOUT_S: f64 = 1200.0;

impl CommandRunner for Workers {
    fn place(&self, worker: WorkerId) -> Option<WorkerPlace> {
        let facts = self.facts(worker)?;
        Some(WorkerPlace { basedir: facts.basedir.clone(), windows: facts.system == "nt" })
    }

    fn start(&self, worker: WorkerId, order: CommandOrder) -> BoxFuture<'_, Result<(), NotStarted>> {
        let start = CommandStart {
            command_id: order.id,
            command: command(order.command),
            stdio: order.log,
            logs: BTreeMap::new(),
            capture_stdout: order.capture,
        };
        async move {
            for _ in 0..BUSY_TRIES {
                match Workers::start(self, worker, start.clone()).await {
                    // without an answer the command is known to the session, or ends as lost: `wait` tells
                    Ok(()) | Err(LinkError::NoAnswer) => return Ok(()),
                    Err(LinkError::Busy) => tokio::time::sleep(BUSY_PAUSE).await,
                    Err(LinkError::Refused(why)) => return Err(NotStarted::Refused(why)),
                    Err(error) => return Err(NotStarted::WorkerGone(error.to_string())),
                }
            }
            Err(NotStarted::Refused(LinkError::Busy.to_string()))
        }
        .boxed()
    }

    fn wait<'a>(&'a self, worker: WorkerId, id: &'a str) -> BoxFuture<'a, CommandEnd> {
        async move {
            match Workers::wait(self, worker, id).await {
                LinkEnd::Finished { rc, failure_reason, failure, captured, .. } => {
                    let captured = Some(Bytes::from(captured));
                    CommandEnd::Finished(Finished { rc, failure_reason, failure, captured })
                }
                LinkEnd::Lost { why } => CommandEnd::Lost { why },
                LinkEnd::Unknown => CommandEnd::Unknown,
            }
        }
        .boxed()
    }

    fn interrupt<'a>(&'a self, worker: WorkerId, id: &'a str, why: &'a str) -> BoxFuture<'a, ()> {
        async move {
            if let Err(error) = Workers::interrupt(self, worker, id, why).await {
                tracing::debug!(worker.id = worker.0, command.id = id, %error, "an interrupt went nowhere");
            }
        }
        .boxed()
    }

    fn forget(&self, worker: WorkerId, id: &str) {
        Workers::forget(self, worker, id);
    }

    fn part<'a>(&'a self, worker: WorkerId, name: &'a str) -> BoxFuture<'a, ()> {
        Workers::part(self, worker, name).boxed()
    }

    fn shut_down<'a>(&'a self, worker: WorkerId, why: &'a str) -> BoxFuture<'a, ()> {
        async move {
            if let Err(error) = self.shutdown(worker).await {
                tracing::debug!(worker.id = worker.0, why, %error, "a worker was not told to end");
            }
        }
        .boxed()
    }
}

fn command(command: WorkerCommand) -> Command {
    match command {
        WorkerCommand::Execute(it) => {
            let line = match it.program {
                Program::Script(text) => CommandLine::Shell(text),
                Program::Argv(argv) => CommandLine::Argv(argv),
            };
            let mut shell = Shell::new(it.workdir, line);
            shell.env = it.env.into_iter().map(|(name, value)| (name, EnvValue::Text(value))).collect();
            (shell.timeout, shell.max_time, shell.log_environ) = (it.timeout_s, it.max_time_s, false);
            Command::Shell(Box::new(shell))
        }
        WorkerCommand::RemoveDirectories(paths) => Command::Rmdir(Rmdir {
            paths,
            log_environ: false,
            timeout: Some(REMOVE_TIMEOUT_S),
            max_time: None,
        }),
    }
}
