//! The public messages of this layer's actors.

use actix::Message;
use greenroom_data::DataError;
use greenroom_model::*;

/// What became of a control act that was handed to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Done, and answered in the same write.
    Answered,
    /// The target is no longer this owner's; whoever sent it looks again.
    NotMine,
}

/// Stops a running build: its command is interrupted, steps that always run still run, it ends as cancelled.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Handled, DataError>")]
pub struct StopBuild {
    /// The act to answer.
    pub act: ControlId,
    /// Why, in the words of whoever asked.
    pub reason: String,
}

/// Gives a running build up: it ends as retry, its request becomes free again.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct AbandonBuild {
    /// Why.
    pub why: String,
}

/// Hands a control act to the owner of its target, which answers it in the write of its effect.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Handled, DataError>")]
pub struct Act(
    /// The act.
    pub std::sync::Arc<ControlAct>,
);

/// Stops the distributor from claiming any more requests; answers when no claim is under way.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopClaiming;

/// To the distributor: another configuration is in force. Answers what it leaves behind.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Vec<Stranded>")]
pub(crate) struct Reconfigure;

/// Requests that wait for a builder that is not configured (any more) on this master. They are kept: they go on when it is
/// configured again, and can be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranded {
    /// The builder.
    pub builder: BuilderId,
    /// How many wait.
    pub requests: usize,
}

/// Asks why a build request waits; none if it does not wait here.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Option<String>")]
pub struct WhyWaiting(
    /// The request.
    pub BuildRequestId,
);
