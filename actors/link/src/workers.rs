//! The facet by which `process` uses workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use greenroom_model::WorkerId;
use greenroom_protocol::MasterOp;
use greenroom_runtime::AskError;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::command::{CommandEnd, CommandStart, LinkError};
use crate::credentials::Credentials;
use crate::directory::{Board, Posted};
use crate::facts::WorkerFacts;
use crate::locals::Locals;
use crate::messages::{Answer, AskWorker, ForgetCommand, InterruptCommand, Part, StartCommand, WatchCommand};

/// How long a worker may take to answer a request.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The wait before a session that is busy is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts, waits for and interrupts commands on connected workers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Workers {
    board: watch::Receiver<Board>,
    ids: Arc<CommandIds>,
    credentials: Arc<ArcSwap<Credentials>>,
    locals: Arc<Locals>,
}

/// Makes command ids: a random text of this process and a number.
struct CommandIds {
    prefix: String,
    next: AtomicU64,
}

impl Workers {
    pub(crate) fn new(
        board: watch::Receiver<Board>,
        prefix: String,
        credentials: Arc<ArcSwap<Credentials>>,
        locals: Arc<Locals>,
    ) -> Self {
        let ids = Arc::new(CommandIds { prefix, next: AtomicU64::new(0) });
        Self { board, ids, credentials, locals }
    }

    fn posted(&self, worker: WorkerId) -> Option<Posted> {
        self.board.borrow().get(&worker).cloned()
    }

    fn usable(&self, worker: WorkerId) -> Result<Posted, LinkError> {
        let posted = self.posted(worker).filter(|posted| posted.facts.is_some());
        posted.ok_or(LinkError::NotConnected)
    }

    /// What a worker told of itself; none if it is not usable now (not connected, or it missed its last ping). Costs
    /// no message.
    pub fn facts(&self, worker: WorkerId) -> Option<Arc<WorkerFacts>> {
        let board = self.board.borrow();
        board.get(&worker).filter(|posted| posted.responsive).and_then(|posted| posted.facts.clone())
    }

    /// Tells when any worker has become usable or unusable. The data layer's event that a worker is connected may
    /// come a moment before [`Workers::facts`] has it, and one that missed a ping causes no event at all: who hands out
    /// work follows this.
    pub fn changes(&self) -> WorkerChanges {
        WorkerChanges(self.board.clone())
    }

    /// A new command id, unique over all workers and restarts of the master.
    pub fn new_command_id(&self) -> String {
        format!("{}-{}", self.ids.prefix, self.ids.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts a command and answers when the worker has accepted it. A command id that the session knows already is
    /// not started again, and the answer is Ok.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn start(&self, worker: WorkerId, start: CommandStart) -> Result<(), LinkError> {
        let session = self.usable(worker)?.session;
        let answer = session.ask(StartCommand(start)).await.map_err(unasked)??;
        match timeout(ANSWER_WITHIN, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(lost()),
            Err(_) => Err(LinkError::NoAnswer),
        }
    }

    /// Waits for the end of a command. May be called again, by several callers, until the command is forgotten: a
    /// build that was born again takes its command up here. Of a worker that is not connected every command is lost.
    pub async fn wait(&self, worker: WorkerId, command_id: &str) -> CommandEnd {
        loop {
            let Some(posted) = self.posted(worker) else {
                return CommandEnd::lost("the worker is not connected");
            };
            match posted.session.ask(WatchCommand(command_id.to_owned())).await {
                Ok(Some(end)) => return ended(end).await,
                // While it connects, a command of the connection before may not be interrupted yet.
                Ok(None) if posted.facts.is_none() => return CommandEnd::lost("the worker connects again"),
                Ok(None) => return CommandEnd::Unknown,
                Err(AskError::Deadline | AskError::Overloaded) => sleep(PAUSE).await,
                Err(AskError::Restarted | AskError::Unavailable | AskError::Stopped) => {
                    return CommandEnd::lost("the worker's session has ended");
                }
            }
        }
    }

    /// Asks the worker to kill a command and answers when it has heard; the end comes to [`Workers::wait`] as usual.
    /// Of a command that is not running nothing happens.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn interrupt(&self, worker: WorkerId, command_id: &str, why: &str) -> Result<(), LinkError> {
        let session = self.posted(worker).ok_or(LinkError::NotConnected)?.session;
        let msg = InterruptCommand { command_id: command_id.to_owned(), why: why.to_owned() };
        match session.ask(msg).await.map_err(unasked)?? {
            Some(answer) => answered(answer).await,
            None => Ok(()),
        }
    }

    /// Lets the session drop what it knows of a command. One that still runs is dropped when it ends.
    pub fn forget(&self, worker: WorkerId, command_id: &str) {
        if let Some(posted) = self.posted(worker) {
            // What cannot be told now is dropped with the session, or when newer ends need the room.
            let _ = posted.session.tell(ForgetCommand(command_id.to_owned()));
        }
    }

    /// Closes the connection of a worker that is not configured any more, and ends its process if that is ours. Of one that is
    /// configured nothing happens. Nothing may run on it.
    pub async fn part(&self, worker: WorkerId, name: &str) {
        if self.credentials.load().knows(name) {
            return;
        }
        if let Some(posted) = self.posted(worker)
            && let Err(error) = posted.session.ask(Part).await
        {
            tracing::debug!(worker.name = name, %error, "a session ended before it was closed");
        }
        self.locals.part(name);
    }

    /// Asks the worker's program to end. It does not wait for running commands, and does not come back by itself.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn shutdown(&self, worker: WorkerId) -> Result<(), LinkError> {
        let session = self.usable(worker)?.session;
        let answer = session.ask(AskWorker(MasterOp::Shutdown)).await.map_err(unasked)??;
        match answered(answer).await {
            // It may be gone before its answer is read: that is what was wanted.
            Err(LinkError::Lost(_)) => Ok(()),
            other => other,
        }
    }
}

/// See [`Workers::changes`].
#[derive(Clone)]
pub struct WorkerChanges(watch::Receiver<Board>);

impl WorkerChanges {
    /// Waits until something may have changed since the last call. Pending for ever when the layer has ended.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

async fn ended(mut end: watch::Receiver<Option<CommandEnd>>) -> CommandEnd {
    let known = end.wait_for(Option::is_some).await.map(|end| end.clone());
    match known {
        Ok(Some(end)) => end,
        // The session died without a word.
        Ok(None) | Err(_) => CommandEnd::lost("the worker's session has ended"),
    }
}

async fn answered(answer: Answer) -> Result<(), LinkError> {
    match timeout(ANSWER_WITHIN, answer).await {
        Ok(Ok(Ok(_))) => Ok(()),
        Ok(Ok(Err(text))) => Err(LinkError::Refused(text)),
        Ok(Err(_)) => Err(lost()),
        Err(_) => Err(LinkError::NoAnswer),
    }
}

fn lost() -> LinkError {
    LinkError::Lost("it ended before the worker answered".to_owned())
}

fn unasked(error: AskError) -> LinkError {
    match error {
        AskError::Restarted => lost(),
        AskError::Unavailable | AskError::Stopped => LinkError::NotConnected,
        AskError::Deadline => LinkError::NoAnswer,
        AskError::Overloaded => LinkError::Busy,
    }
}
