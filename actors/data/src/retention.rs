//! The facet of whoever keeps the history short: reads what that is decided by, and removes.

use std::collections::HashMap;

use greenroom_db as db;
use greenroom_model::{BuildId, BuilderId, Timestamp};

pub use greenroom_db::{BuildFacts, Loose, Remove, Removed};

use crate::error::DataError;
use crate::ro::Ro;
use crate::rw::Rw;

/// Removes history. Cheap to clone.
#[derive(Clone)]
pub struct Retention {
    pub(crate) rw: Rw,
}

impl Retention {
    /// The reading facet.
    pub fn ro(&self) -> &Ro {
        &self.rw.ro
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        self.rw.now()
    }

    /// A builder's builds with a number below `below`, newest first, at most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read now; likewise below.
    pub async fn facts(
        &self,
        builder: BuilderId,
        below: i64,
        limit: u64,
    ) -> Result<Vec<BuildFacts>, DataError> {
        let read = self.rw.ro.shared.reader.ask(db::RetentionFacts { builder, below, limit }).await?;
        read.map(|snapshot| snapshot.value).map_err(DataError::unavailable)
    }

    /// The bytes of log text of each build; builds without logs are left out.
    pub async fn log_bytes(&self, builds: Vec<BuildId>) -> Result<HashMap<BuildId, u64>, DataError> {
        self.rw.ro.shared.reader.ask(db::LogBytesOf { builds }).await?.map_err(DataError::unavailable)
    }

    /// Looks at `limit` changes after an id, or buildsets, and says which of them are old and nobody's.
    pub async fn loose_ends(
        &self,
        changes: bool,
        before: Timestamp,
        after: i64,
        limit: u64,
    ) -> Result<Loose, DataError> {
        let ask = db::LooseEnds { changes, before, after, limit };
        let read = self.rw.ro.shared.reader.ask(ask).await?;
        read.map(|snapshot| snapshot.value).map_err(DataError::unavailable)
    }

    /// Removes what of this may go, in one transaction between two commits: writes wait that long, so ask for little at once.
    /// After an error it may have happened; asking again does no harm.
    pub async fn remove(&self, what: Remove) -> Result<Removed, DataError> {
        match self.rw.ro.shared.writer.ask(what).await? {
            Ok(removed) => Ok(removed),
            Err(db::WriteError::Fenced) => Err(DataError::Fenced),
            Err(error) => Err(DataError::unavailable(error)),
        }
    }

    /// Removes a piece of the text of logs that are gone. Answers how many logs' it was, and whether there may be more.
    pub async fn sweep_logs(&self) -> Result<(u64, bool), DataError> {
        let swept = self.rw.ro.shared.log_writer.ask(db::SweepLogs).await?;
        swept.map(|it| (it.logs, it.more)).map_err(DataError::unavailable)
    }
}
