//! Schedulers: what turns changes, or a person's wish, into buildsets.
//!
//! - [`change_scheduler`]: single-branch and any-branch, which follow changes from their own stored clock;
//! - [`pending`]: what such a scheduler has taken but not yet built (no I/O);
//! - [`judge`]: whether a change meets such a scheduler's condition;
//! - [`force`]: started by people and programs; [`force_form`] checks what they entered (no I/O).
//!
//! *To add one*: its settings in `config`, an actor here that answers [`crate::messages::Act`], a variant of
//! [`SchedulerFront`], an arm in `components.rs`. Whatever makes it ask for builds must be stored in the same write as the buildset.

pub(crate) mod change_scheduler;
pub(crate) mod force;
pub(crate) mod force_form;
pub(crate) mod judge;
pub(crate) mod pending;

use std::sync::Arc;
use std::time::Duration;

use greenroom_data::DataError;
use greenroom_model::ControlAct;
use greenroom_runtime::{AskError, Ending, Front};

pub use change_scheduler::{AnyBranch, ChangeScheduler, SingleBranch};
pub use force::ForceScheduler;

use crate::messages::{Act, Handled};

/// The Front of a scheduler of any kind.
#[derive(Debug, Clone)]
pub(crate) enum SchedulerFront {
    SingleBranch(Front<SingleBranch>),
    AnyBranch(Front<AnyBranch>),
    Force(Front<ForceScheduler>),
}

impl SchedulerFront {
    /// Hands over a control act.
    pub async fn act(&self, act: Arc<ControlAct>) -> Result<Result<Handled, DataError>, AskError> {
        match self {
            SchedulerFront::SingleBranch(front) => front.ask(Act(act)).await,
            SchedulerFront::AnyBranch(front) => front.ask(Act(act)).await,
            SchedulerFront::Force(front) => front.ask(Act(act)).await,
        }
    }

    /// Stops it within the grace, and waits for its end.
    pub async fn stop(&self, grace: Duration) -> Ending {
        match self {
            SchedulerFront::SingleBranch(front) => front.stop(grace).await,
            SchedulerFront::AnyBranch(front) => front.stop(grace).await,
            SchedulerFront::Force(front) => front.stop(grace).await,
        }
    }
}
