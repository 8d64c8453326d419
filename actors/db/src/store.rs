//! Opening a store: which engine, migrations, the lease of the master's row.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use greenroom_model::{MasterId, Timestamp};

use crate::ids::IdAllocator;

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The url names no engine that is built in.
    #[error("the database url {0:?} is not understood: `memory:` and `sqlite://FILE` are")]
    Url(String),
    /// The directory cannot be written to.
    #[error("the data directory {path} is not writable: {source}")]
    NotWritable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the database open for writing.
    #[error("another master uses {0}; stop it first")]
    InUse(PathBuf),
    /// A master of that name runs already (its lease is not over).
    #[error("a master named {0:?} runs already on this database")]
    NameInUse(String),
    /// A later release wrote the database.
    #[error("the database has schema {found}, this program knows only up to {known}: use a newer release")]
    Newer {
        /// The database's schema.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// Anything else.
    #[error("failed to open the database: {0}")]
    Failed(String),
}

/// An opened store, this master's row taken. Cheap to clone: every actor of this crate is made from one.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) ids: IdAllocator,
    pub(crate) master: MasterId,
    pub(crate) epoch: i64,
    pub(crate) generation: i64,
}

impl Store {
    /// Opens the store of `url` (`memory:`, or `sqlite://FILE` relative to `data_dir`), brings its schema up to date and takes
    /// the row of the master named `master_name` with a new epoch.
    pub async fn open(
        url: &str,
        data_dir: &Path,
        master_name: &str,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let _ = (data_dir, master_name, now);
        Err(OpenError::Url(url.to_owned()))
    }

    /// This master's id.
    pub fn master(&self) -> MasterId {
        self.0.master
    }

    /// Counts the starts and takeovers of this master.
    pub fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// Which life of the database.
    pub fn generation(&self) -> i64 {
        self.0.generation
    }

    /// Where ids of new entities come from.
    pub fn ids(&self) -> IdAllocator {
        self.0.ids.clone()
    }
}

/// Brings the schema of a database up to date without taking a master's row. Answers (before, after).
pub async fn migrate(url: &str, data_dir: &Path) -> Result<(i64, i64), OpenError> {
    let _ = data_dir;
    Err(OpenError::Url(url.to_owned()))
}
