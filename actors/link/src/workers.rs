//! The facet by which `process` uses workers.

use std::sync::Arc;

use greenroom_model::WorkerId;

use crate::command::{CommandEnd, CommandStart, LinkError};
use crate::facts::WorkerFacts;

/// Starts, waits for and interrupts commands on connected workers. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Workers {}

#[allow(unused_variables)]
impl Workers {
    /// What a worker told of itself; none if it is not usable now. Costs no message.
    pub fn facts(&self, worker: WorkerId) -> Option<Arc<WorkerFacts>> {
        unimplemented!()
    }

    /// A new command id, unique over all workers and restarts of the master.
    pub fn new_command_id(&self) -> String {
        unimplemented!()
    }

    /// Starts a command and answers when the worker has accepted it. A command id that the session knows already is
    /// not started again, and the answer is Ok.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn start(&self, worker: WorkerId, start: CommandStart) -> Result<(), LinkError> {
        unimplemented!()
    }

    /// Waits for the end of a command. May be called again, by several callers, until the command is forgotten: a
    /// build that was born again takes its command up here.
    pub async fn wait(&self, worker: WorkerId, command_id: &str) -> CommandEnd {
        unimplemented!()
    }

    /// Asks the worker to kill a command; its end comes to [`Workers::wait`] as usual. Of a command that is not
    /// running nothing happens.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn interrupt(&self, worker: WorkerId, command_id: &str, why: &str) -> Result<(), LinkError> {
        unimplemented!()
    }

    /// Lets the session drop what it knows of a command. One that still runs is dropped when it ends.
    pub fn forget(&self, worker: WorkerId, command_id: &str) {
        unimplemented!()
    }

    /// Asks the worker's program to end. It does not wait for running commands.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn shutdown(&self, worker: WorkerId) -> Result<(), LinkError> {
        unimplemented!()
    }
}
