//! Opening a store: which engine, migrations, the lease of the master's row.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use greenroom_model::ids::IdKind;
use greenroom_model::{Log, Master, MasterId, Timestamp};

use crate::core::{BLOCK, counters, reserve_one};
use crate::engine::memory::Memory;
use crate::engine::sqlite::{SchemaError, Sqlite};
use crate::engine::{Cond, Engine, EngineError, Select, Table, Value, WriteTx};
use crate::ids::IdAllocator;
use crate::logs::store::{LogStore, MemoryLogs, SqliteLogs, cut_to};
use crate::metrics::WriterMetrics;
use crate::ops::start_master;
use crate::rows::{Fields, RowMapped, load};
use crate::schema::*;
use crate::work::{Cache, Head, Unit};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The url names no engine that is built in.
    #[error("the database url {0:?} is not understood: `memory:` and `sqlite://FILE` are")]
    Url(String),
    /// The directory cannot be written to.
    #[error("the data directory {path} is not writable")]
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
    pub(crate) engine: Box<dyn Engine>,
    pub(crate) ids: IdAllocator,
    pub(crate) master: MasterId,
    pub(crate) epoch: i64,
    pub(crate) generation: i64,
    pub(crate) logs: Box<dyn LogStore>,
    metrics: WriterMetrics,
    /// Held for as long as anything uses the store.
    _lock: Option<File>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(master {}, epoch {})", self.0.master, self.0.epoch)
    }
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
        let opened = open_engine(url, data_dir).await?;
        let place = Place::take(&*opened.engine, master_name, now).await?;
        cut_logs(&*opened.engine, &*opened.logs).await?;
        Ok(Self(Arc::new(Inner {
            engine: opened.engine,
            ids: place.ids,
            master: place.master,
            epoch: place.epoch,
            generation: place.generation,
            logs: opened.logs,
            metrics: WriterMetrics::default(),
            _lock: opened.lock,
        })))
    }

    /// This master's id.
    pub fn master(&self) -> MasterId {
        self.0.master
    }

    /// Counts the starts and takeovers of this master.
    pub fn epoch(&self) -> i64 {
        self.0.epoch
    }

    /// What is measured of its writer.
    pub fn metrics(&self) -> &WriterMetrics {
        &self.0.metrics
    }

    /// Which life of the database.
    pub fn generation(&self) -> i64 {
        self.0.generation
    }

    /// Does to the master's row what another process that takes its place would do. For tests of fencing.
    #[doc(hidden)]
    pub async fn take_over_for_test(&self) {
        if let Ok(mut tx) = self.0.engine.write().await {
            let now = Timestamp(i64::MAX);
            take_over(&mut *tx, self.0.master, true, now).await.ok();
            tx.commit().await.ok();
        }
    }

    /// Where ids of new entities come from.
    pub fn ids(&self) -> IdAllocator {
        self.0.ids.clone()
    }
}

/// Brings the schema of a database up to date without taking a master's row. Answers (before, after).
pub async fn migrate(url: &str, data_dir: &Path) -> Result<(i64, i64), OpenError> {
    open_engine(url, data_dir).await.map(|opened| opened.schema)
}

struct Opened {
    engine: Box<dyn Engine>,
    logs: Box<dyn LogStore>,
    lock: Option<File>,
    schema: (i64, i64),
}

async fn open_engine(url: &str, data_dir: &Path) -> Result<Opened, OpenError> {
    if url == "memory:" {
        return Ok(Opened {
            engine: Box::new(Memory::new(ALL)),
            logs: Box::new(MemoryLogs::default()),
            lock: None,
            schema: (0, 0),
        });
    }
    let name = url.strip_prefix("sqlite://").filter(|name| !name.is_empty());
    let file = data_dir.join(name.ok_or_else(|| OpenError::Url(url.to_owned()))?);
    let lock = lock(&file)?;
    let (engine, before, after) = Sqlite::open(&file).await.map_err(|e| schema_error(&file, e))?;
    let log_file = file.with_extension("logs.db");
    let logs = SqliteLogs::open(&log_file).await.map_err(|e| schema_error(&log_file, e))?;
    Ok(Opened { engine: Box::new(engine), logs: Box::new(logs), lock: Some(lock), schema: (before, after) })
}

fn schema_error(file: &Path, error: SchemaError) -> OpenError {
    match error {
        SchemaError::Newer(found, known) => OpenError::Newer { found, known },
        SchemaError::Engine(error) => OpenError::Failed(format!("{}: {error}", file.display())),
    }
}

/// Removes text of unfinished logs that was stored but never announced: nobody has seen it, and it may be sent again.
async fn cut_logs(engine: &dyn Engine, logs: &dyn LogStore) -> Result<(), OpenError> {
    let mut tx = engine.read().await.map_err(failed)?;
    let open = Select::from(&LOGS).filter(Cond::eq("complete", 0));
    for log in load::<Log>(&mut *tx, &open).await.map_err(failed)? {
        cut_to(logs, log.id, log.num_lines).await.map_err(failed)?;
    }
    Ok(())
}

/// Locks a file beside the database, for this process's life: a second one must not write to it.
fn lock(file: &Path) -> Result<File, OpenError> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let not_writable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| OpenError::NotWritable { path, source }
    };
    std::fs::create_dir_all(dir).map_err(not_writable(dir))?;
    let path = PathBuf::from(format!("{}.lock", file.display()));
    let lock =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(not_writable(dir))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(file.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(not_writable(&path)(source)),
    }
}

/// This process's place among the masters.
struct Place {
    master: MasterId,
    epoch: i64,
    generation: i64,
    ids: IdAllocator,
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Failed(error.to_string())
}

impl Place {
    /// Takes the master's row in one transaction, which also announces that the master started.
    async fn take(engine: &dyn Engine, name: &str, now: Timestamp) -> Result<Self, OpenError> {
        let mut tx = engine.write().await.map_err(failed)?;
        let generation = generation(&mut *tx, now).await.map_err(failed)?;
        let ids = IdAllocator::empty();
        let alone = engine.exclusive();
        let reserved = first_ids(&mut *tx, alone).await.map_err(failed)?;
        let found = Select::from(&MASTERS).filter(Cond::eq("name", name));
        let known = load::<Master>(&mut *tx, &found).await.map_err(failed)?.into_iter().next();
        let (master, head) = match known {
            Some(known) => {
                let head = take_over(&mut *tx, known.id, alone, now).await.map_err(failed)?;
                (known.id, head.ok_or_else(|| OpenError::NameInUse(name.to_owned()))?)
            }
            None => add_master(&mut *tx, name, now).await.map_err(failed)?,
        };
        let mut cache = Cache::default();
        let mut unit = Unit::new(&mut *tx, &mut cache, master, &ids);
        unit.at = now;
        start_master(&mut unit, head.epoch).await.map_err(|fault| failed(format!("{fault:?}")))?;
        unit.flush(head, now).await.map_err(failed)?.ok_or_else(|| failed("the master's row was taken"))?;
        tx.commit().await.map_err(failed)?;
        for (kind, first, end) in reserved {
            ids.add(kind, first, end);
        }
        Ok(Self { master, epoch: head.epoch, generation, ids })
    }
}

/// Which life of the database this is; a new one begins its first.
async fn generation(tx: &mut dyn WriteTx, now: Timestamp) -> Result<i64, EngineError> {
    if let Some(row) = tx.select(&Select::from(&GENERATION)).await?.into_iter().next() {
        let mut fields = Fields::new(&GENERATION, row);
        fields.skip();
        return fields.int();
    }
    tx.insert(&GENERATION, &[vec![Value::Int(1), now.0.into()]]).await?;
    Ok(now.0)
}

/// Raises the epoch of a master that no live process has. None: one has.
async fn take_over(
    tx: &mut dyn WriteTx,
    master: MasterId,
    alone: bool,
    now: Timestamp,
) -> Result<Option<Head>, EngineError> {
    let select = Select::from(&MASTER_HEADS).filter(Cond::eq("masterid", master.0));
    let Some(row) = tx.select(&select).await?.into_iter().next() else {
        return Err(EngineError::Damaged(format!("master {master} has no head")));
    };
    let mut fields = Fields::new(&MASTER_HEADS, row);
    fields.skip();
    let (epoch, seq, _floor, lease) = (fields.int()?, fields.int()?, fields.int()?, fields.int()?);
    if !alone && lease > now.0 {
        return Ok(None);
    }
    let conds = [Cond::eq("masterid", master.0), Cond::eq("epoch", epoch)];
    let taken = tx.set(&MASTER_HEADS, &[("epoch", (epoch + 1).into())], &conds).await? == 1;
    Ok(taken.then_some(Head { epoch: epoch + 1, seq }))
}

async fn add_master(
    tx: &mut dyn WriteTx,
    name: &str,
    now: Timestamp,
) -> Result<(MasterId, Head), EngineError> {
    let id = MasterId(tx.max(&MASTERS, "masterid", &[]).await?.unwrap_or(0) + 1);
    let master = Master { id, name: name.to_owned(), active: false, last_active: now, epoch: 0, version: 0 };
    tx.insert(&MASTERS, &[master.to_row()?]).await?;
    tx.insert(
        &MASTER_HEADS,
        &[vec![id.0.into(), Value::Int(1), Value::Int(0), Value::Int(0), Value::Int(0)]],
    )
    .await?;
    Ok((id, Head { epoch: 1, seq: 0 }))
}

/// The tables whose first column is an id of the kind.
fn table_of(kind: IdKind) -> &'static Table {
    match kind {
        IdKind::Master => &MASTERS,
        IdKind::Builder => &BUILDERS,
        IdKind::Worker => &WORKERS,
        IdKind::Scheduler => &SCHEDULERS,
        IdKind::ChangeSource => &CHANGE_SOURCES,
        IdKind::Project => &PROJECTS,
        IdKind::Codebase => &CODEBASES,
        IdKind::Change => &CHANGES,
        IdKind::SourceStamp => &SOURCESTAMPS,
        IdKind::Patch => &PATCHES,
        IdKind::Buildset => &BUILDSETS,
        IdKind::BuildRequest => &BUILDREQUESTS,
        IdKind::Build => &BUILDS,
        IdKind::Step => &STEPS,
        IdKind::Log => &LOGS,
        IdKind::Control => &CONTROL_ACTS,
        IdKind::Configuration => &CONFIGURATIONS,
    }
}

/// Reserves the first block of each kind. When no other process writes, counters go on after the last id that was used, so that ids
/// have no gaps over a restart.
async fn first_ids(tx: &mut dyn WriteTx, alone: bool) -> Result<Vec<(IdKind, i64, i64)>, EngineError> {
    let mut next = counters(tx).await?;
    let mut reserved = Vec::new();
    for kind in IdKind::ALL.iter().copied() {
        if let (true, Some(old)) = (alone, next.get(kind.name()).copied()) {
            let table = table_of(kind);
            let used = tx.max(table, table.columns[0].0, &[]).await?.unwrap_or(0);
            let conds = [Cond::eq("kind", kind.name()), Cond::eq("next", old)];
            tx.set(&COUNTERS, &[("next", (used + 1).into())], &conds).await?;
            next.insert(kind.name().to_owned(), used + 1);
        }
        reserved.push(reserve_one(tx, &next, kind, BLOCK).await?);
    }
    Ok(reserved)
}
