//! `[database]`: where builds, logs and events are kept.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use crate::values::serde_fault;

/// The `[database]` section.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Database {
    /// Which engine, and where.
    pub url: DatabaseUrl,
}

/// A database, named by a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite://PATH`: one file. After loading, a relative path has been joined to `data-dir`.
    Sqlite(PathBuf),
    /// `memory:`: nothing outlives the process; for tests and trials.
    Memory,
}

impl DatabaseUrl {
    /// Joins a relative SQLite path to the data directory.
    pub(crate) fn resolve(&mut self, data_dir: &Path) {
        if let DatabaseUrl::Sqlite(path) = self {
            *path = data_dir.join(&*path);
        }
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "memory:" {
            return Ok(DatabaseUrl::Memory);
        }
        match text.strip_prefix("sqlite://") {
            Some("") => Err(serde_fault("the sqlite url names no file", "write \"sqlite://greenroom.db\"")),
            Some(path) => Ok(DatabaseUrl::Sqlite(PathBuf::from(path))),
            None => Err(serde_fault(
                "not a database this version knows",
                "use \"sqlite://FILE\" (relative to data-dir) or \"memory:\"",
            )),
        }
    }
}
