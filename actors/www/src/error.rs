//! Why a request is not answered as it hoped, as the contract shows it.

use std::time::Duration;

use actix_web::http::StatusCode;
use greenroom_data::DataError;
use greenroom_model::Refusal;

/// A refused or failed read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiError {
    /// No such endpoint.
    #[error("Invalid path: {0}")]
    NoPath(String),
    /// No such entity.
    #[error("not found while getting {0}")]
    NotFound(String),
    /// It was there, and will not be again.
    #[error("{0}")]
    Gone(String),
    /// Whoever asks may not know.
    #[error("you may not read {0}")]
    Forbidden(&'static str),
    /// The query makes no sense.
    #[error("{0}")]
    BadQuery(String),
    /// The data layer cannot serve now.
    #[error("{why}")]
    Unavailable {
        /// What is wrong.
        why: String,
        /// When asking again is sensible.
        retry_after: Duration,
    },
    /// A bug of ours.
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    /// The HTTP status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            ApiError::NoPath(_) | ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::Gone(_) => StatusCode::GONE,
            ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
            ApiError::BadQuery(_) => StatusCode::BAD_REQUEST,
            ApiError::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<DataError> for ApiError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Unavailable { why, retry_after } => ApiError::Unavailable { why, retry_after },
            DataError::Fenced => {
                ApiError::Unavailable { why: error.to_string(), retry_after: Duration::from_secs(5) }
            }
            DataError::Refused(Refusal::NotFound(what)) => ApiError::NotFound(what),
            DataError::Refused(Refusal::Invalid(why)) => ApiError::BadQuery(why),
            other => ApiError::Internal(other.to_string()),
        }
    }
}
