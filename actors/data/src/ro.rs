//! The facet that reads and subscribes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use greenroom_model::*;

use crate::error::DataError;
use crate::hot::{Hot, Readable, Shown};
use crate::hub::Subscription;

/// A value with the clock that it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot<T> {
    /// The value.
    pub value: T,
    /// Exactly the events of this clock are contained.
    pub clock: Clock,
}

/// A window of a log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLines {
    /// The number of its first line, from 0.
    pub first: i64,
    /// Its lines, each ending in `\n`; in a log of kind stdio each beginning with its stream's letter.
    pub text: Bytes,
    /// How many lines it has.
    pub count: i64,
}

/// Reads and subscribes. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Ro {}

#[allow(unused_variables)]
impl Ro {
    /// This master.
    pub fn me(&self) -> MasterId {
        unimplemented!()
    }

    /// The hot state: no message, no database.
    pub fn hot(&self) -> Arc<Hot> {
        unimplemented!()
    }

    /// One entity; from the hot state if it is there.
    pub async fn get<E: Readable>(&self, id: i64) -> Result<Snapshot<Option<Shown<E>>>, DataError> {
        unimplemented!()
    }

    /// A page of entities; from the hot state if that has all the query needs.
    pub async fn list<E: Readable>(&self, query: Query) -> Result<Snapshot<Page<Shown<E>>>, DataError> {
        unimplemented!()
    }

    /// The properties of some builds; builds that do not exist are left out.
    pub async fn build_properties(
        &self,
        builds: &[BuildId],
    ) -> Result<Snapshot<HashMap<BuildId, Arc<Properties>>>, DataError> {
        unimplemented!()
    }

    /// The properties of a buildset.
    pub async fn buildset_properties(
        &self,
        buildset: BuildsetId,
    ) -> Result<Snapshot<Option<Arc<Properties>>>, DataError> {
        unimplemented!()
    }

    /// The changes that a build has and its builder's last successful build before it on the same branch had not.
    pub async fn changes_of_build(&self, build: BuildId) -> Result<Snapshot<Vec<Shown<Change>>>, DataError> {
        unimplemented!()
    }

    /// The builds of a change's source stamp.
    pub async fn builds_of_change(&self, change: ChangeId) -> Result<Snapshot<Vec<Shown<Build>>>, DataError> {
        unimplemented!()
    }

    /// What a scheduler must remember over a crash.
    pub async fn scheduler_state(
        &self,
        scheduler: SchedulerId,
    ) -> Result<Snapshot<write::SchedulerState>, DataError> {
        unimplemented!()
    }

    /// What a change source must remember over a crash; null if nothing was stored.
    pub async fn change_source_state(
        &self,
        source: ChangeSourceId,
    ) -> Result<Snapshot<serde_json::Value>, DataError> {
        unimplemented!()
    }

    /// Some lines of a log, from line `first` (0-based), at most `count`. Past the end: none.
    pub async fn log_lines(&self, log: LogId, first: i64, count: i64) -> Result<LogLines, DataError> {
        unimplemented!()
    }

    /// All stored text of a log in the form of [`LogLines::text`], in pieces of bounded size.
    pub fn log_text(&self, log: LogId) -> BoxStream<'static, Result<Bytes, DataError>> {
        unimplemented!()
    }

    /// Every event after `since` (now, if none is given) that a pattern selects.
    ///
    /// # Errors
    /// [`DataError::Gone`] if the clock is too old, from the future or of another generation.
    pub async fn subscribe(
        &self,
        patterns: Vec<Pattern>,
        since: Option<Clock>,
    ) -> Result<Subscription, DataError> {
        unimplemented!()
    }
}
