//! Why the data layer could not do what was asked.

use std::time::Duration;

use greenroom_model::Refusal;

/// Why a read, write or subscription failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// The write certainly did not happen, and asking again would not change that.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The data layer cannot serve now (database away, disk full, queue full); ask again after a while.
    #[error("the data layer is not available: {why}")]
    Unavailable {
        /// What is wrong.
        why: String,
        /// When asking again is sensible.
        retry_after: Duration,
    },
    /// Another process has taken over this master's place; nothing more can be written.
    #[error("this master was superseded by another process")]
    Fenced,
    /// The clock is too old, from the future, or of another database generation: take a new snapshot.
    #[error("the clock is gone: take a new snapshot")]
    Gone,
    /// Nobody answered a control act in time; it stands and may still be answered.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
}

impl DataError {
    /// An [`DataError::Unavailable`] with the usual delay.
    pub fn unavailable(why: impl ToString) -> Self {
        DataError::Unavailable { why: why.to_string(), retry_after: Duration::from_secs(1) }
    }
}
