//! Duties: schedulers and change sources run on one master each, by claim.
//!
//! Whoever is configured to run one waits here until it has it, and only then reads what its predecessor stored. What it stores
//! itself is refused unless it has the duty, so two never run one.

use std::time::Duration;

use greenroom_data::{DataError, Hot};
use greenroom_model::write::Duty;
use greenroom_model::*;
use tokio::time::sleep;

use crate::handles::Handles;

/// How often it is looked whether a duty is free. From memory.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Waits until this master has the duty. `name` is for the log.
///
/// # Errors
/// Those of the data layer that waiting does not mend.
pub(crate) async fn claim(h: &Handles, duty: &Duty, name: &str) -> Result<(), DataError> {
    let mut is_told = false;
    loop {
        let hot = h.ro().hot();
        let other = match holder(&hot, duty) {
            // It was claimed in this life of the master: at its start it gave all up.
            Some(holder) if holder == h.me() => return Ok(()),
            Some(holder) => hot.masters.get(&holder.0).filter(|it| it.active),
            None => None,
        };
        match other {
            Some(other) if !is_told => {
                tracing::info!(duty.name = name, master.name = %other.name, "another master runs it; this one stands by");
                is_told = true;
            }
            Some(_) => {}
            None => match h.rw.write(vec![Op::Claim(duty.clone())]).await {
                Ok(committed) => {
                    tracing::info!(duty.name = name, "this master runs it from now on");
                    return h.settle(&committed).await;
                }
                // somebody was faster, or the database is away: asked again
                Err(DataError::Refused(Refusal::Held(_)) | DataError::Unavailable { .. }) => {}
                Err(error) => return Err(error),
            },
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Who has it, as far as is known.
fn holder(hot: &Hot, duty: &Duty) -> Option<MasterId> {
    match duty {
        Duty::Scheduler(id) => hot.schedulers.get(&id.0)?.master,
        Duty::ChangeSource(id) => hot.change_sources.get(&id.0)?.master,
        Duty::Notifier { .. } => None, // theirs are claimed by their own layer
    }
}

/// Gives up all schedulers and change sources of this master, whose actors have ended: others may run them from now on.
pub(crate) async fn release_all(h: &Handles) -> Result<(), DataError> {
    let (hot, me) = (h.ro().hot(), Some(h.me()));
    let schedulers = hot.schedulers.values().filter(|it| it.master == me).map(|it| Duty::Scheduler(it.id));
    let sources =
        hot.change_sources.values().filter(|it| it.master == me).map(|it| Duty::ChangeSource(it.id));
    let ops: Vec<Op> = schedulers.chain(sources).map(Op::Release).collect();
    if ops.is_empty() {
        return Ok(());
    }
    h.rw.write(ops).await.map(drop)
}
