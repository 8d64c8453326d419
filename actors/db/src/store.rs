//! Opening a store: which engine, migrations, the lease of the master's row.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use greenroom_model::ids::IdKind;
use greenroom_model::{Clock, Master, MasterId, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::copy::generation::{self, Mark};
use crate::core::{BLOCK, counters, reserve_one};
use crate::engine::mariadb::MariaDbEngine;
use crate::engine::memory::Memory;
use crate::engine::migrate::{self, Migrated, SchemaError, Upto};
use crate::engine::postgres::PostgresEngine;
use crate::engine::sqlite::Sqlite;
use crate::engine::troubled::{Fates, Troubled};
use crate::engine::{Cond, Engine, EngineError, ReadTx, Select, Table, Value, WriteTx};
use crate::ids::IdAllocator;
use crate::logs::LogReads;
use crate::logs::store::LogStore;
use crate::messages::LogError;
use crate::metrics::WriterMetrics;
use crate::ops::{gone_counter, lease_of_head, start_master};
use crate::options::DatabaseOptions;
use crate::plant::Plant;
use crate::replica::Seen;
use crate::rows::{Fields, RowMapped, load};
use crate::schema::*;
use crate::work::{Cache, Head, Unit};

/// For so much longer than its lease the place of a master that was killed is waited for.
const PLACE_SLACK: Duration = Duration::from_secs(5);

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The url names no engine that is built in.
    #[error(
        "the database url {0:?} is not understood: `memory:`, `sqlite://FILE`, `postgres://…` and `mariadb://…` are"
    )]
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
    /// A copy into the database broke off, or is under way.
    #[error("the database holds an unfinished copy: let `greenroom copy-db` end, or run it again")]
    HalfCopied,
    /// Other masters that start at the same moment were faster, each time.
    #[error("many masters start on this database at once; start this one again")]
    Contended,
    /// There is no way back to an older schema.
    #[error("the database has schema {found}; there is no way back to {wanted}")]
    Back {
        /// The version asked for.
        wanted: i64,
        /// The database's schema.
        found: i64,
    },
    /// The replica may show a later transaction without an earlier one.
    #[error("`read-url`: {0}")]
    Replica(String),
    /// Anything else.
    #[error("failed to open the database: {0}")]
    Failed(String),
}

/// An opened store, this master's row taken. Cheap to clone: every actor of this crate is made from one.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) ids: IdAllocator,
    pub(crate) master: MasterId,
    pub(crate) epoch: i64,
    pub(crate) generation: i64,
    pub(crate) logs: LogStore,
    metrics: WriterMetrics,
    /// What somebody here has seen committed: a replica must not be behind it.
    pub(crate) seen: Seen,
    /// Held for as long as anything uses the store.
    _lock: Option<File>,
    presence: Mutex<Option<Box<dyn Send + Sync>>>,
    /// How long this master is taken for alive after it last told that it lives.
    pub(crate) lease: Duration,
    /// Whether another process is known to have this master's place.
    lost: watch::Sender<bool>,
    pub(crate) plant: Plant,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store(master {}, epoch {})", self.0.master, self.0.epoch)
    }
}

impl Store {
    /// Opens the store of a url (`memory:`, `sqlite://FILE` relative to `data_dir`, `postgres://…`, `mariadb://…`), brings its
    /// schema up to date and takes the row of the master named `master_name` with a new epoch.
    pub async fn open(
        database: impl Into<DatabaseOptions>,
        data_dir: &Path,
        master_name: &str,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let database = database.into();
        let opened = open_engine(&database, data_dir).await?;
        if let Some(replica) = opened.engine.replica()
            && let Some(fault) = replica.fault().await
        {
            return Err(OpenError::Replica(fault));
        }
        let (engine, logs) = (&*opened.engine, &opened.logs);
        let (presence, now) = wait_for_place(engine, master_name, now, database.lease).await?;
        let place = Place::take(engine, logs, master_name, now, database.lease).await?;
        let inner = place.inner(opened.engine, opened.logs, database.lease);
        Ok(Self(Arc::new(Inner { _lock: opened.lock, presence: Mutex::new(presence), ..inner })))
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

    /// What was read of log text.
    pub fn log_reads(&self) -> LogReads {
        self.0.logs.reads()
    }

    /// Has all text leave for the object store that is to. For tests.
    #[doc(hidden)]
    pub async fn settle_logs_for_test(&self) -> Result<usize, LogError> {
        let mut moved = 0;
        loop {
            match self.0.logs.move_some(&*self.0.engine).await? {
                0 => return Ok(moved),
                more => moved += more,
            }
        }
    }

    /// Which life of the database.
    pub fn generation(&self) -> i64 {
        self.0.generation
    }

    /// From now on every statement that reads is recorded, of every store of this process. For tests of plans.
    #[doc(hidden)]
    pub fn record_for_test() {
        crate::engine::record::begin();
    }

    /// How this database runs each recorded statement of its kind: text and plan. Statistics are gathered first. For tests.
    #[doc(hidden)]
    pub async fn explain_for_test(&self) -> Result<Vec<(String, Vec<String>)>, OpenError> {
        self.0.engine.was_filled().await.map_err(failed)?;
        let mut tx = self.0.engine.read().await.map_err(failed)?;
        tx.explain().await.map_err(failed)
    }

    /// Does to the master's row what another process that takes its place would do. For tests of fencing.
    #[doc(hidden)]
    pub async fn take_over_for_test(&self) {
        if let Ok(mut tx) = self.0.engine.write().await {
            take_over(&mut *tx, self.0.master).await.ok();
            tx.commit().await.ok();
        }
    }

    /// Begins a transaction that has changed a worker's row and goes no further, as of a process that is paused there. For tests.
    #[doc(hidden)]
    pub async fn hold_for_test(&self, worker: i64) -> impl Send + use<> {
        let mut tx = self.0.engine.write().await.ok();
        if let Some(tx) = &mut tx {
            tx.set(&WORKERS, &[("paused", 0.into())], &[Cond::eq("workerid", worker)]).await.ok();
        }
        tx
    }

    /// The same store, opened just now and not shared yet, with a planted fault and with commits that go wrong. For tests of what
    /// notices that.
    #[doc(hidden)]
    pub fn planted_for_test(mut self, plant: Plant, fates: Fates) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            inner.plant = plant;
            inner.engine = Arc::new(Troubled { engine: Arc::clone(&inner.engine), fates });
        }
        self
    }

    /// Another master of this process over the same database, or a new life of the one of that name. It has no log text. For tests.
    #[doc(hidden)]
    pub async fn beside_for_test(&self, name: &str, now: Timestamp) -> Result<Self, OpenError> {
        let (engine, lease) = (Arc::clone(&self.0.engine), self.0.lease);
        let logs = LogStore::memory();
        let place = Place::take(&*engine, &logs, name, now, lease).await?;
        let inner = place.inner(engine, logs, lease);
        Ok(Self(Arc::new(Inner { plant: self.0.plant, ..inner })))
    }

    /// Whether events that follow this clock are gone. For tests.
    #[doc(hidden)]
    pub async fn lacks_for_test(&self, clock: &Clock) -> bool {
        let Ok(mut tx) = self.0.engine.read().await else { return false };
        let heads = tx.select(&Select::from(&MASTER_HEADS)).await.unwrap_or_default();
        let floor = MASTER_HEADS.position("floor").unwrap_or_default();
        heads.iter().any(|row| match (&row[0], &row[floor]) {
            (Value::Int(master), Value::Int(floor)) => clock.head(MasterId(*master)) < *floor,
            _ => false,
        })
    }

    /// What is planted; nothing outside of tests.
    #[doc(hidden)]
    pub fn plant(&self) -> Plant {
        self.0.plant
    }

    /// Takes the sign of life away that keeps others from this master's place, as if it had been cut off for long. For tests.
    #[doc(hidden)]
    pub fn vanish_for_test(&self) {
        drop(self.0.presence.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Whether several masters may share the database, so that this one must tell that it lives.
    pub fn is_shared(&self) -> bool {
        !self.0.engine.exclusive()
    }

    /// Since when the database's server is away; none: it is there, as far as is known, or there is no server.
    pub fn away_since(&self) -> Option<Instant> {
        Some(self.0.engine.away()?.borrow().as_ref()?.since)
    }

    /// How long a master is taken for alive after it last told that it lives.
    pub fn lease(&self) -> Duration {
        self.0.lease
    }

    /// Notes that another process has this master's place.
    pub(crate) fn lose_place(&self) {
        if !self.0.lost.send_replace(true) {
            tracing::error!(
                master.id = self.0.master.0,
                master.epoch = self.0.epoch,
                "this master was taken over by another process; it can write nothing any more"
            );
        }
    }

    /// Answers when another process has this master's place: nothing that it does is accepted any more.
    pub async fn lost_place(&self) {
        let mut lost = self.0.lost.subscribe();
        if lost.wait_for(|lost| *lost).await.is_err() {
            std::future::pending().await // the sender lives as long as we do
        }
    }

    /// Notes what was committed, or read as committed.
    pub(crate) fn saw(&self, master: MasterId, seq: i64) {
        self.0.seen.saw(master, seq);
    }

    /// How many reads a replica has answered.
    pub fn replica_answers(&self) -> u64 {
        self.0.seen.answered.load(Ordering::Relaxed)
    }

    /// Where ids of new entities come from.
    pub fn ids(&self) -> IdAllocator {
        self.0.ids.clone()
    }
}

/// Brings the schema of a database up to date without taking a master's row. Answers (before, after).
pub async fn migrate(database: impl Into<DatabaseOptions>, data_dir: &Path) -> Result<(i64, i64), OpenError> {
    let done = migrate_to(database, data_dir, Upto::default()).await?;
    Ok((done.before, done.after))
}

/// As [`migrate`], as far as is wished, or only saying what would be done.
pub async fn migrate_to(
    database: impl Into<DatabaseOptions>,
    data_dir: &Path,
    upto: Upto,
) -> Result<Migrated, OpenError> {
    let database = database.into();
    match kind(&database, data_dir)? {
        Kind::Memory => Ok(Migrated::default()),
        Kind::Sqlite(file) if upto.dry_run => {
            crate::engine::sqlite::planned(&file, upto).await.map_err(|e| schema_error(&file.display(), e))
        }
        Kind::Sqlite(file) => {
            let _lock = lock(&file)?;
            let opened = Sqlite::open(&file, upto).await;
            opened.map(|(_, migrated)| migrated).map_err(|e| schema_error(&file.display(), e))
        }
        Kind::Postgres => migrate::postgres(&database, upto).await.map_err(|e| schema_error(&database, e)),
        Kind::MariaDb => migrate::mariadb(&database, upto).await.map_err(|e| schema_error(&database, e)),
    }
}

/// The migrations of an engine (`sqlite`, `postgres`, `mariadb`) and how many statements each has. For tests that kill them.
#[doc(hidden)]
pub fn migration_statements(engine: &str) -> Vec<(i64, usize)> {
    migrate::rehearsal::counts(match engine {
        "postgres" => migrate::POSTGRES,
        "mariadb" => migrate::MARIADB,
        _ => migrate::SQLITE,
    })
}

/// What a url means.
pub(crate) enum Kind {
    Memory,
    Sqlite(PathBuf),
    Postgres,
    MariaDb,
}

pub(crate) fn kind(database: &DatabaseOptions, data_dir: &Path) -> Result<Kind, OpenError> {
    let unknown = || OpenError::Url(database.to_string());
    match database.url.split_once(':').ok_or_else(unknown)? {
        ("memory", "") => Ok(Kind::Memory),
        ("sqlite", rest) => match rest.strip_prefix("//").filter(|name| !name.is_empty()) {
            Some(name) => Ok(Kind::Sqlite(data_dir.join(name))),
            None => Err(unknown()),
        },
        ("postgres" | "postgresql", rest) if rest.starts_with("//") => Ok(Kind::Postgres),
        ("mariadb" | "mysql", rest) if rest.starts_with("//") => Ok(Kind::MariaDb),
        _ => Err(unknown()),
    }
}

struct Opened {
    engine: Arc<dyn Engine>,
    logs: LogStore,
    lock: Option<File>,
}

async fn open_engine(database: &DatabaseOptions, data_dir: &Path) -> Result<Opened, OpenError> {
    let text = |logs: LogStore| logs.with_objects(&database.text, database.object_bytes).map_err(failed);
    let shared = |engine: Arc<dyn Engine>| -> Result<Opened, OpenError> {
        Ok(Opened { logs: text(LogStore::shared(Arc::clone(&engine)))?, engine, lock: None })
    };
    let upto = Upto::default();
    match kind(database, data_dir)? {
        Kind::Memory => {
            Ok(Opened { engine: Arc::new(Memory::new(ALL)), logs: text(LogStore::memory())?, lock: None })
        }
        Kind::Sqlite(file) => {
            let lock = lock(&file)?;
            let (engine, _) =
                Sqlite::open(&file, upto).await.map_err(|e| schema_error(&file.display(), e))?;
            let log_file = file.with_extension("logs.db");
            let had_logs = log_file.exists();
            let logs = LogStore::file(&log_file).await.map_err(|e| schema_error(&log_file.display(), e))?;
            if !had_logs && knows_logs(&engine).await.map_err(failed)? {
                tracing::warn!(file = %log_file.display(), "the file with the text of logs was missing: unless it is put back while no master runs, \
                     that text is lost");
            }
            Ok(Opened { engine: Arc::new(engine), logs: text(logs)?, lock: Some(lock) })
        }
        Kind::Postgres => {
            migrate::postgres(database, upto).await.map_err(|e| schema_error(database, e))?;
            shared(Arc::new(PostgresEngine::new(database).map_err(failed)?))
        }
        Kind::MariaDb => {
            migrate::mariadb(database, upto).await.map_err(|e| schema_error(database, e))?;
            shared(Arc::new(MariaDbEngine::new(database).map_err(failed)?))
        }
    }
}

/// Waits until no live process has the place of the master of this name: a killed one's connections are closed at once, one
/// that cannot be reached any more loses its lease. Answers the time then, too.
async fn wait_for_place(
    engine: &dyn Engine,
    name: &str,
    now: Timestamp,
    lease: Duration,
) -> Result<(Option<Box<dyn Send + Sync>>, Timestamp), OpenError> {
    let begun = Instant::now();
    let mut first_lease = None;
    loop {
        let waited = i64::try_from(begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        let now = Timestamp(now.0.saturating_add(waited));
        if let Some(presence) = engine.presence(name).await.map_err(failed)? {
            return Ok((Some(presence), now));
        }
        let (until, by_database) = lease_of(engine, name).await.map_err(failed)?;
        if until <= by_database {
            return Ok((None, now));
        }
        if *first_lease.get_or_insert(until) != until || begun.elapsed() > lease + PLACE_SLACK {
            return Err(OpenError::NameInUse(name.to_owned()));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Until when the master of this name is taken for alive (0: there is none), and the time, both by the database's clock.
pub(crate) async fn lease_of(engine: &dyn Engine, name: &str) -> Result<(i64, i64), EngineError> {
    let mut tx = engine.read().await?;
    let now = tx.now().await?;
    let named = Select::from(&MASTERS).filter(Cond::eq("name", name));
    let Some(master) = load::<Master>(&mut *tx, &named).await?.into_iter().next() else {
        return Ok((0, now));
    };
    let head = Select::from(&MASTER_HEADS).filter(Cond::eq("masterid", master.id.0));
    let Some(row) = tx.select(&head).await?.into_iter().next() else { return Ok((0, now)) };
    Ok((lease_of_head(row)?.1, now))
}

pub(crate) fn schema_error(database: &dyn std::fmt::Display, error: SchemaError) -> OpenError {
    match error {
        SchemaError::Newer(found, known) => OpenError::Newer { found, known },
        SchemaError::Back(wanted, found) => OpenError::Back { wanted, found },
        SchemaError::Engine(error) => OpenError::Failed(format!("{database}: {error}")),
    }
}

async fn knows_logs(engine: &dyn Engine) -> Result<bool, EngineError> {
    Ok(!engine.read().await?.select(&Select::from(&LOGS).limit(1)).await?.is_empty())
}

/// Locks a file beside the database, for this process's life: a second one must not write to it.
pub(crate) fn lock(file: &Path) -> Result<File, OpenError> {
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
    /// Its last event.
    seq: i64,
    generation: i64,
    ids: IdAllocator,
}

fn failed(error: impl std::fmt::Display) -> OpenError {
    OpenError::Failed(error.to_string())
}

/// Why a place was not taken.
enum NotTaken {
    /// Another master starts at the same moment; nothing is written.
    Faster,
    For(OpenError),
}

impl From<EngineError> for NotTaken {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Conflict(_) => NotTaken::Faster,
            error => NotTaken::For(failed(error)),
        }
    }
}

impl Place {
    /// A store in this place, which nothing else holds.
    fn inner(self, engine: Arc<dyn Engine>, logs: LogStore, lease: Duration) -> Inner {
        let seen = Seen::nothing(self.generation);
        seen.saw(self.master, self.seq);
        Inner {
            engine,
            ids: self.ids,
            master: self.master,
            epoch: self.epoch,
            generation: self.generation,
            logs,
            metrics: WriterMetrics::default(),
            seen,
            _lock: None,
            presence: Mutex::new(None),
            lease,
            lost: watch::Sender::new(false),
            plant: Plant::Nothing,
        }
    }

    /// Takes the master's row, again while others that start at the same moment are faster.
    async fn take(
        engine: &dyn Engine,
        logs: &LogStore,
        name: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Self, OpenError> {
        for pause in [10, 30, 100, 300, 1_000] {
            match Self::take_once(engine, logs, name, now, lease).await {
                Ok(place) => return Ok(place),
                Err(NotTaken::For(error)) => return Err(error),
                Err(NotTaken::Faster) => tokio::time::sleep(Duration::from_millis(pause)).await,
            }
        }
        Err(OpenError::Contended)
    }

    /// Takes the master's row in one transaction, which also announces that the master started.
    async fn take_once(
        engine: &dyn Engine,
        logs: &LogStore,
        name: &str,
        now: Timestamp,
        lease: Duration,
    ) -> Result<Self, NotTaken> {
        let mut tx = engine.write().await?;
        let generation = generation(&mut *tx, now).await?.ok_or(NotTaken::For(OpenError::HalfCopied))?;
        let ids = IdAllocator::empty();
        let reserved = first_ids(&mut *tx, name).await?;
        let found = Select::from(&MASTERS).filter(Cond::eq("name", name));
        let known = load::<Master>(&mut *tx, &found).await?.into_iter().next();
        let (master, head) = match known {
            Some(known) => {
                let head = take_over(&mut *tx, known.id).await?;
                (known.id, head.ok_or_else(|| NotTaken::For(OpenError::NameInUse(name.to_owned())))?)
            }
            None => add_master(&mut *tx, name, now).await?,
        };
        logs.claim(&mut *tx, master, head.epoch).await?;
        let mut cache = Cache::default();
        let mut unit = Unit::new(&mut *tx, &mut cache, master, &ids);
        (unit.at, unit.shared) = (now, !engine.exclusive());
        let started = start_master(&mut unit, head.epoch).await;
        started.map_err(|fault| NotTaken::For(failed(format!("{fault:?}"))))?;
        let events = unit.flush(head, Some(lease)).await?;
        let events = events.ok_or_else(|| NotTaken::For(failed("the master's row was taken")))?;
        tx.commit().await?;
        for (kind, first, end) in reserved {
            ids.add(kind, first, end);
        }
        let seq = head.seq + events.len() as i64;
        Ok(Self { master, epoch: head.epoch, seq, generation, ids })
    }
}

/// Which life of the database a transaction reads.
pub async fn generation_of(tx: &mut dyn ReadTx) -> Result<Option<i64>, EngineError> {
    let Some(row) = tx.select(&Select::from(&GENERATION)).await?.into_iter().next() else { return Ok(None) };
    let mut fields = Fields::new(&GENERATION, row);
    fields.skip();
    fields.int().map(Some)
}

/// Which life of the database this is; a new one begins its first, a backup another. None: it is not whole.
async fn generation(tx: &mut dyn WriteTx, now: Timestamp) -> Result<Option<i64>, EngineError> {
    let Some(known) = generation_of(tx).await? else {
        tx.insert(&GENERATION, &[vec![Value::Int(1), now.0.into()]]).await?;
        return Ok(Some(now.0));
    };
    match Mark::of(known) {
        Mark::Lives(generation) => Ok(Some(generation)),
        Mark::Filling => Ok(None),
        mark @ Mark::BackupOf(old) => {
            let generation = generation::begin(tx, mark, now).await?;
            tracing::info!(
                db.generation = generation,
                db.backup_of = old,
                "a backup begins a new generation"
            );
            Ok(Some(generation))
        }
    }
}

/// Raises the epoch of a master: whoever had its place can write no more. None: another process was faster.
async fn take_over(tx: &mut dyn WriteTx, master: MasterId) -> Result<Option<Head>, EngineError> {
    let select = Select::from(&MASTER_HEADS).filter(Cond::eq("masterid", master.0));
    let Some(row) = tx.select(&select).await?.into_iter().next() else {
        return Err(EngineError::Damaged(format!("master {master} has no head")));
    };
    let mut fields = Fields::new(&MASTER_HEADS, row);
    fields.skip();
    let (epoch, seq) = (fields.int()?, fields.int()?);
    let conds = [Cond::eq("masterid", master.0), Cond::eq("epoch", epoch), Cond::eq("seq", seq)];
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
        IdKind::Notifier => &NOTIFIERS,
        IdKind::Delivery => &DELIVERIES,
    }
}

/// Reserves the first block of each kind. When no other master was ever there, counters go on after the last id that was used, so
/// that ids have no gaps over a restart: what an earlier process of this name had reserved it can use no more.
async fn first_ids(tx: &mut dyn WriteTx, name: &str) -> Result<Vec<(IdKind, i64, i64)>, EngineError> {
    let mut next = counters(tx).await?;
    if let Some((plan, left)) = next.iter().find(|(kind, _)| kind.starts_with(crate::fill::MARK)) {
        tracing::warn!(
            db.plan = plan,
            db.left = left,
            "the database is filled only in part: a filling was broken off"
        );
    }
    // Looked for after the counters are read: a master that is new since then has moved them, which the condition below tells.
    let others = Select::from(&MASTERS).filter(Cond::is("name", crate::engine::Comparison::Ne, name));
    let alone = tx.count(&others).await? == 0;
    let mut reserved = Vec::new();
    for kind in IdKind::ALL.iter().copied() {
        if let (true, Some(old)) = (alone, next.get(kind.name()).copied()) {
            let table = table_of(kind);
            let used = tx.max(table, table.columns[0].0, &[]).await?.unwrap_or(0);
            // An id that retention took away does not come back as something else's.
            let used = used.max(next.get(&gone_counter(kind)).copied().unwrap_or(0));
            let conds = [Cond::eq("kind", kind.name()), Cond::eq("next", old)];
            tx.set(&COUNTERS, &[("next", (used + 1).into())], &conds).await?;
            next.insert(kind.name().to_owned(), used + 1);
        }
        reserved.push(reserve_one(tx, &next, kind, BLOCK).await?);
    }
    Ok(reserved)
}
