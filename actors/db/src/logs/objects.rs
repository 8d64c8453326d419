//! Objects of log text in a directory or an S3-compatible store. An object has a name that is never used again, so it is written
//! once and nobody can overwrite it.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use greenroom_model::LogId;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig,
};

use crate::messages::LogError;

/// So many logs share a directory, or the first part of a name.
const LOGS_TOGETHER: i64 = 1_000;
/// How long a connection is waited for, and one request.
const CONNECT: Duration = Duration::from_secs(5);
const REQUEST: Duration = Duration::from_secs(15);
/// How often, and for how long, a request that failed is tried again.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(10);

/// Where text of logs is kept that has left the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TextStore {
    /// None does.
    #[default]
    Database,
    /// Files below a directory.
    Directory(PathBuf),
    /// Objects of a bucket.
    S3(S3Options),
}

/// A bucket of an S3-compatible object store.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct S3Options {
    /// The bucket; it is there already.
    pub bucket: String,
    /// What names of objects begin with.
    pub prefix: Option<String>,
    /// The server, if it is not Amazon's: `http://…` or `https://…`.
    pub endpoint: Option<String>,
    /// The region; `us-east-1` if none is given.
    pub region: Option<String>,
    /// Name of the key and key; without them, what the environment and the machine give.
    pub keys: Option<(String, String)>,
}

/// Shows no key.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// For people.
impl fmt::Display for TextStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextStore::Database => f.write_str("the database"),
            TextStore::Directory(path) => write!(f, "the directory {}", path.display()),
            TextStore::S3(s3) => {
                write!(f, "the bucket {}", s3.bucket)?;
                s3.prefix.iter().try_for_each(|prefix| write!(f, "/{prefix}"))?;
                s3.endpoint.iter().try_for_each(|endpoint| write!(f, " of {endpoint}"))
            }
        }
    }
}

/// An object store that is open.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Of a store that is a directory. It is made at the start only: what vanishes later (a share that is not mounted) is away.
    root: Option<PathBuf>,
}

fn unavailable(error: &dyn std::error::Error) -> LogError {
    // The sentence of the innermost cause is the one that tells what is wrong.
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(it) = cause {
        text = it.to_string();
        cause = it.source();
    }
    LogError::Unavailable(format!("object store: {text}"))
}

impl Objects {
    /// Opens a store; none: text stays in the database. A directory is made, a bucket is not looked for.
    ///
    /// # Errors
    /// The directory cannot be made, or the settings make no sense.
    pub fn open(of: &TextStore) -> Result<Option<Self>, LogError> {
        let store: Arc<dyn ObjectStore> = match of {
            TextStore::Database => return Ok(None),
            TextStore::Directory(path) => {
                let failed = |error: std::io::Error| {
                    LogError::Unavailable(format!("failed to make {}: {error}", path.display()))
                };
                std::fs::create_dir_all(path).map_err(failed)?;
                let files = LocalFileSystem::new_with_prefix(path).map_err(|e| unavailable(&e))?;
                Arc::new(files.with_automatic_cleanup(true).with_fsync(true))
            }
            TextStore::S3(options) => {
                let bucket = bucket(options).map_err(|e| unavailable(&e))?;
                match &options.prefix {
                    Some(prefix) => Arc::new(PrefixStore::new(bucket, prefix.as_str())),
                    None => Arc::new(bucket),
                }
            }
        };
        let root = if let TextStore::Directory(path) = of { Some(path.clone()) } else { None };
        Ok(Some(Self { store, root }))
    }

    fn there(&self) -> Result<(), LogError> {
        match self.root.as_ref().filter(|root| !root.is_dir()) {
            Some(root) => Err(LogError::Unavailable(format!("the directory {} is gone", root.display()))),
            None => Ok(()),
        }
    }

    /// Stores an object durably.
    pub async fn put(&self, log: LogId, object: i64, data: Vec<Bytes>) -> Result<(), LogError> {
        self.there()?;
        let once = PutOptions { mode: PutMode::Overwrite, ..PutOptions::default() };
        let payload = data.into_iter().collect::<object_store::PutPayload>();
        self.store.put_opts(&name(log, object), payload, once).await.map_err(|e| unavailable(&e))?;
        Ok(())
    }

    /// A part of an object.
    pub async fn get(&self, log: LogId, object: i64, range: Range<u64>) -> Result<Bytes, LogError> {
        match self.store.get_range(&name(log, object), range).await {
            Ok(data) => Ok(data),
            Err(object_store::Error::NotFound { path, .. }) => {
                self.there()?;
                Err(LogError::Damaged(format!("the object {path} is missing")))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Removes objects; those that are gone already are no fault.
    pub async fn delete(&self, objects: &[(LogId, i64)]) -> Result<(), LogError> {
        let names: Vec<_> = objects.iter().map(|(log, object)| Ok(name(*log, *object))).collect();
        let mut deleting = self.store.delete_stream(stream::iter(names).boxed());
        while let Some(deleted) = deleting.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Ok(())
    }
}

fn bucket(options: &S3Options) -> Result<object_store::aws::AmazonS3, object_store::Error> {
    // Refused when one is installed already, which then is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = match &options.keys {
        Some((name, key)) => AmazonS3Builder::new().with_access_key_id(name).with_secret_access_key(key),
        None => AmazonS3Builder::from_env(),
    };
    builder = builder.with_bucket_name(&options.bucket);
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &options.endpoint {
        let endpoint = endpoint.trim_end_matches('/');
        builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
    }
    builder
        .with_client_options(
            ClientOptions::new()
                .with_connect_timeout(CONNECT)
                .with_timeout(REQUEST)
                .with_allow_http(options.endpoint.as_ref().is_some_and(|it| it.starts_with("http://"))),
        )
        .with_retry(RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
        })
        .build()
}

/// The name of an object: logs of about the same age stand together.
fn name(log: LogId, object: i64) -> Path {
    Path::from(format!("{:06}/{}-{object:016x}", log.0 / LOGS_TOGETHER, log.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_shown() {
        let options = S3Options {
            bucket: "logs".into(),
            prefix: Some("farm".into()),
            endpoint: Some("https://s3.example.org".into()),
            region: None,
            keys: Some(("name-of-key".into(), "hunter2".into())),
        };
        let store = TextStore::S3(options);
        assert_eq!(store.to_string(), "the bucket logs/farm of https://s3.example.org");
        let shown = format!("{store:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("name-of-key"), "{shown}");
    }

    #[tokio::test]
    async fn an_object_is_read_in_parts_and_gone_once_removed() {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(&TextStore::Directory(dir.path().join("a/b"))).unwrap().unwrap();
        let (log, object) = (LogId(4_711), 0x1234);
        objects.put(log, object, vec![Bytes::from("one"), Bytes::from("two")]).await.unwrap();
        assert!(dir.path().join("a/b/000004/4711-0000000000001234").is_file());
        assert_eq!(objects.get(log, object, 2..5).await.unwrap(), "etw");
        objects.delete(&[(log, object), (log, 5)]).await.unwrap();
        assert!(!dir.path().join("a/b/000004").exists());
        let missing = objects.get(log, object, 0..1).await.unwrap_err();
        assert!(matches!(&missing, LogError::Damaged(why) if why.contains("4711")), "{missing}");
    }
}
