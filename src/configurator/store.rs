//! The numbered versions: their rows in the database, which everybody may read, and their layers in files of this master.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use greenroom_config::{Difference, Layers, Loaded, Settings, Values};
use greenroom_data::{DataError, Rw};
use greenroom_model::write::NewConfiguration;
use greenroom_model::*;
use serde_json::Value;
use tokio::task::spawn_blocking;

/// Versions whose layers are kept, so that they can be taken back.
pub const KEPT: i64 = 100;
/// How many versions are looked through for one that an act asked for.
const RECENT: u64 = 20;
/// The file with the key of the digests.
const KEY: &str = "key";

/// A version of the configuration, loaded.
pub struct Version {
    /// Its number.
    pub number: i64,
    /// What it says.
    pub settings: Arc<Settings>,
    /// What that came from, to be compared.
    pub values: Values,
    /// The same, to be stored.
    pub layers: Layers,
}

impl Version {
    /// A configuration with its number.
    pub fn new(number: i64, loaded: Loaded) -> Self {
        let Loaded { settings, values, layers, .. } = loaded;
        Self { number, settings: Arc::new(settings), values, layers }
    }

    /// What `new` changes of this one.
    pub fn difference(&self, new: &Loaded) -> Difference {
        Difference::between((&self.settings, &self.values), (&new.settings, &new.values))
    }
}

/// Why a version comes into force.
pub struct Reason {
    /// What made it.
    pub cause: ConfigurationCause,
    /// The number that is taken back.
    pub restores: Option<i64>,
    /// Who wanted it.
    pub who: String,
    /// The act that asked.
    pub act: Option<ControlId>,
}

/// Where versions are kept.
#[derive(Clone)]
pub struct Store {
    rw: Rw,
    dir: PathBuf,
    key: Arc<[u8]>,
}

impl Store {
    /// Opens, or makes, the directory below the data directory.
    pub fn open(data_dir: &Path, rw: Rw) -> Result<Self> {
        let dir = data_dir.join("configurations");
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(&dir).with_context(|| format!("failed to create {}", dir.display()))?;
        let key =
            key(&dir.join(KEY)).with_context(|| format!("failed to keep a key in {}", dir.display()))?;
        Ok(Self { rw, dir, key: key.into() })
    }

    fn dir_of(&self, number: i64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    /// Tells a configuration apart from others.
    pub fn digest(&self, loaded: &Loaded) -> String {
        loaded.values.digest(&loaded.settings.secrets, &self.key)
    }

    /// The newest versions of this master, newest first.
    async fn newest(&self, limit: u64) -> Result<Vec<Arc<ConfigurationVersion>>, DataError> {
        let query =
            Query::default().eq("masterid", self.rw.ro().me().0).order_by("number", true).limit(limit);
        let page = self.rw.ro().list::<ConfigurationVersion>(query).await?.value;
        Ok(page.items.into_iter().map(|it| it.entity).collect())
    }

    /// The newest version of this master: the one in force.
    pub async fn last(&self) -> Result<Option<Arc<ConfigurationVersion>>, DataError> {
        Ok(self.newest(1).await?.into_iter().next())
    }

    /// The version that an act asked for, if that was carried out.
    pub async fn of_act(&self, act: ControlId) -> Result<Option<Arc<ConfigurationVersion>>, DataError> {
        Ok(self.newest(RECENT).await?.into_iter().find(|it| it.act == Some(act)))
    }

    /// Waits until every write that was under way has happened or never will.
    pub async fn barrier(&self) -> Result<(), DataError> {
        self.rw.write(vec![Op::Heartbeat]).await.map(drop)
    }

    /// The stored layers of a version.
    pub async fn layers(&self, number: i64) -> Result<Layers> {
        let dir = self.dir_of(number);
        let layers = spawn_blocking(move || Layers::read(&dir)).await.context("reading was broken off")?;
        Ok(layers?)
    }

    /// Stores the layers of a version that is about to come into force, and forgets those of versions long ago.
    pub async fn keep(&self, number: i64, layers: Layers) -> Result<()> {
        let (dir, old) = (self.dir_of(number), self.dir_of(number - KEPT));
        let done = spawn_blocking(move || {
            layers.store(&dir).with_context(|| format!("failed to store {}", dir.display()))?;
            match fs::remove_dir_all(&old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %old.display(), %error, "an old configuration could not be removed");
                }
                _ => {}
            }
            Ok(())
        });
        done.await.context("storing was broken off")?
    }

    /// Puts a version in force in the database: what it configures, and its number, in one write.
    pub async fn commit(
        &self,
        version: &Version,
        digest: String,
        difference: Value,
        why: Reason,
    ) -> Result<(), DataError> {
        let Reason { cause, restores, who, act } = why;
        let id = self.rw.new_id()?;
        let number = version.number;
        let new = NewConfiguration { id, number, digest, cause, restores, who, difference, act };
        let more = vec![Op::AddConfiguration(Box::new(new))];
        greenroom_process::configure_with(&self.rw, &version.settings, more).await
    }

    /// What a master starts with: the version that was in force if that is what its files say, else a new one.
    pub async fn begin(&self, loaded: Loaded) -> Result<Version> {
        let last = self.last().await.context("failed to read which configuration was in force")?;
        let digest = self.digest(&loaded);
        let known = match &last {
            Some(last) if last.digest == digest => Some(Difference::default()),
            Some(last) => self.since(last.number, &loaded).await,
            None => None,
        };
        let same = last.as_ref().filter(|_| known.as_ref().is_some_and(Difference::is_empty));
        if let Some(last) = same {
            let version = Version::new(last.number, loaded);
            if !self.dir_of(last.number).exists() {
                self.keep(last.number, version.layers.clone()).await?;
            }
            greenroom_process::configure(&self.rw, &version.settings)
                .await
                .context("failed to store the configuration")?;
            return Ok(version);
        }
        let version = Version::new(last.map_or(0, |it| it.number) + 1, loaded);
        self.keep(version.number, version.layers.clone()).await?;
        let difference = known.and_then(|it| serde_json::to_value(it).ok()).unwrap_or_default();
        let who = "master".to_owned();
        let why = Reason { cause: ConfigurationCause::Start, restores: None, who, act: None };
        self.commit(&version, digest, difference, why).await.context("failed to store the configuration")?;
        Ok(version)
    }

    /// What a configuration changes of a stored version; none if that cannot be read any more.
    async fn since(&self, number: i64, loaded: &Loaded) -> Option<Difference> {
        let layers = self.layers(number).await.ok()?;
        let env: Vec<(String, String)> = environment();
        let old = spawn_blocking(move || greenroom_config::load_layers(&layers, &env)).await.ok()?.ok()?;
        Some(Version::new(number, old).difference(loaded))
    }
}

/// This process's environment, for secrets kept there.
pub fn environment() -> Vec<(String, String)> {
    let all = std::env::vars_os();
    all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The key of the digests: without it nobody can try passwords against a digest.
fn key(path: &Path) -> io::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(key) if key.len() >= 32 => return Ok(key),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut key = vec![0; 32];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    io::Write::write_all(&mut options.open(&new)?, &key)?;
    fs::rename(&new, path)?;
    Ok(key)
}
