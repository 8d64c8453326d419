//! `[logs]`: where the text of logs is kept.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::extract::{Parts, Report};
use crate::fault::Fault;
use crate::values::{Secret, WebUrl};

/// The `[logs]` section. Wherever text is kept, what is new or short of it stands in the database.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Logs {
    /// Where text is kept.
    pub store: LogStoreKind,
    /// The directory, relative to `data-dir`; masters that share a database share it.
    pub directory: PathBuf,
    /// The bucket. It is there already.
    pub bucket: Option<String>,
    /// What names of objects begin with, so that several can share a bucket.
    pub prefix: Option<String>,
    /// The server, if it is not Amazon's; buckets are the first part of its paths.
    pub endpoint: Option<WebUrl>,
    /// The region; `us-east-1` unless set.
    pub region: Option<String>,
    /// The name of the key. Without it and `secret-key`, the variables `AWS_…` and then the machine's role are looked at.
    pub access_key: Option<Secret>,
    /// The key.
    pub secret_key: Option<Secret>,
}

/// Where the text of logs is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogStoreKind {
    /// In the database; of SQLite in a file of its own beside it.
    Database,
    /// In files below `directory`.
    Directory,
    /// In an S3-compatible object store.
    S3,
}

impl Logs {
    /// Joins a relative directory to the data directory.
    pub(crate) fn resolve(&mut self, data_dir: &Path) {
        self.directory = data_dir.join(&self.directory);
    }
}

/// Checks the section.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    let Some(it) = &parts.logs else { return };
    let at = |key: &str| vec!["logs".to_owned(), key.to_owned()];
    let s3 = it.store == LogStoreKind::S3;
    if s3 && it.bucket.as_ref().is_none_or(String::is_empty) {
        let fault = Fault::error("missing-key", "a store of kind `s3` needs `bucket`");
        report.push(&at("store"), false, fault.help("write `bucket = \"NAME\"`"));
    }
    for (key, set, other, there) in [
        ("access-key", it.access_key.is_some(), "secret-key", it.secret_key.is_some()),
        ("secret-key", it.secret_key.is_some(), "access-key", it.access_key.is_some()),
    ] {
        if set && !there {
            let fault = Fault::error("missing-key", format!("`{key}` is nothing without `{other}`"));
            report.push(&at(key), true, fault.help("set both, or none of them"));
        }
    }
    let of_s3 = ["bucket", "prefix", "endpoint", "region", "access-key", "secret-key"];
    let of_s3 = of_s3.iter().filter(|_| !s3).map(|key| (*key, "s3"));
    let of_directory = (it.store != LogStoreKind::Directory).then_some(("directory", "directory"));
    for (key, kind) in of_s3.chain(of_directory) {
        if report.is_set(&at(key)) {
            let fault = Fault::warning("no-effect", format!("`{key}` concerns a store of kind `{kind}`"));
            report.push(&at(key), true, fault.help(format!("leave it out, or write `store = \"{kind}\"`")));
        }
    }
}
