//! A step of what retention removes: one small transaction between two commits.

use std::sync::Arc;

use super::{Core, Failure};
use crate::engine::EngineError;
use crate::messages::{Remove, Removed, WriteError};
use crate::ops;
use crate::work::{Fault, Unit};

impl Core {
    /// Removes what may go of `what`, in one transaction with its events. After an error it is asked for again: what is gone is left out.
    pub async fn remove_step(&mut self, what: &Remove) -> Result<Removed, WriteError> {
        match self.removed(what).await {
            Ok(done) => Ok(done),
            Err(failure) => {
                self.forget();
                Err(match failure {
                    Failure::Fenced => {
                        self.store.lose_place();
                        WriteError::Fenced
                    }
                    Failure::Stale => WriteError::Unavailable("it was read too early".into()),
                    Failure::Exhausted(kind) => {
                        WriteError::Unavailable(format!("ids of {} ran out", kind.name()))
                    }
                    Failure::Engine(EngineError::Unknown(text)) => WriteError::Unknown(text),
                    Failure::Engine(error) => WriteError::Unavailable(error.to_string()),
                })
            }
        }
    }

    async fn removed(&mut self, what: &Remove) -> Result<Removed, Failure> {
        self.now = self.now.max(what.at);
        let store = self.store.clone();
        let mut tx = store.0.engine.write().await?;
        let head = self.head(&mut *tx).await?;
        let mut unit = Unit::new(&mut *tx, &mut self.cache, store.0.master, &store.0.ids);
        (unit.at, unit.shared) = (self.now, store.is_shared());
        let done = match ops::remove(&mut unit, what).await {
            Ok(done) => done,
            Err(Fault::Engine(error)) => return Err(error.into()),
            Err(Fault::Exhausted(kind)) => return Err(Failure::Exhausted(kind)),
            Err(Fault::Refused(refusal)) => {
                return Err(EngineError::Rejected(refusal.to_string()).into());
            }
        };
        if done == Removed::default() {
            return Ok(done);
        }
        let Some(events) = unit.flush(head, None).await? else {
            return Err(self.outrun(&mut *tx).await?);
        };
        tx.commit().await?;
        self.cache.settle();
        let seq = head.seq + events.len() as i64;
        self.head = Some(crate::work::Head { seq, ..head });
        self.commits += 1;
        self.events += events.len() as u64;
        self.store.saw(store.0.master, seq);
        if !events.is_empty() {
            (self.sink)(Arc::from(events));
        }
        Ok(done)
    }
}
