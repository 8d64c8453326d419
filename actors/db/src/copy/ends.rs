//! The two ends of a copy: a database that nobody writes to, and one that is empty.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use greenroom_model::Master;

use super::CopyError;
use super::generation::Mark;
use crate::engine::mariadb::MariaDbEngine;
use crate::engine::migrate::{self, Migrated, SQLITE_LOGS, SchemaError, Upto};
use crate::engine::postgres::PostgresEngine;
use crate::engine::sqlite::{Sqlite, planned};
use crate::engine::{Engine, Select, Table};
use crate::options::DatabaseOptions;
use crate::rows::load;
use crate::schema::{ALL, GENERATION, LOG_TABLES, LOG_WRITERS, MASTERS};
use crate::store::{Kind, OpenError, generation_of, kind, lease_of, lock, schema_error};

/// A statement may take so long: pages are small, but emptying a table that a copy left half full is one statement.
const STATEMENT: Duration = Duration::from_secs(3600);
/// So long may one end wait for the other in a transaction.
const IDLE: Duration = Duration::from_secs(600);
/// Under this name a copy shows a server that it is under way. No master can have it: names have no blanks.
const COPIES: &str = "copy of a database";

/// The file of log text beside a SQLite database.
pub fn logs_beside(file: &Path) -> PathBuf {
    file.with_extension("logs.db")
}

/// One end of a copy.
pub struct End {
    pub engine: Arc<dyn Engine>,
    /// Where the tables of log text are.
    pub logs: Arc<dyn Engine>,
    /// Its texts hold no zero character.
    pub without_zero: bool,
    files: Vec<Arc<Sqlite>>,
    _lock: Option<File>,
    _presence: Vec<Box<dyn Send + Sync>>,
}

/// Patience for copying.
fn patient(database: &DatabaseOptions) -> DatabaseOptions {
    DatabaseOptions {
        read_url: None,
        statement_timeout: STATEMENT,
        idle_transaction_timeout: IDLE,
        ..database.clone()
    }
}

/// Refuses a schema that is not this program's.
fn current(found: Result<Migrated, SchemaError>, name: &dyn std::fmt::Display) -> Result<(), CopyError> {
    let plan = found.map_err(|error| schema_error(name, error))?;
    match plan.steps.is_empty() {
        true => Ok(()),
        false => Err(CopyError::Outdated { found: plan.before, known: plan.after }),
    }
}

/// Refuses a file that is missing or not of this program's schema; it is left alone.
pub async fn check_file(file: &Path) -> Result<(), CopyError> {
    both_there(file)?;
    current(planned(file, Upto::default()).await, &file.display())
}

/// The text of logs stands beside the state; without it a copy would have logs without text, and nobody would say so.
fn both_there(file: &Path) -> Result<(), CopyError> {
    let missing = [file.to_path_buf(), logs_beside(file)].into_iter().find(|it| !it.is_file());
    missing.map_or(Ok(()), |it| Err(CopyError::Missing(it)))
}

impl End {
    async fn sqlite(file: &Path, lock: File) -> Result<Self, CopyError> {
        let named = |file: &Path, error| schema_error(&file.display(), error);
        let (state, _) = Sqlite::open(file, Upto::default()).await.map_err(|e| named(file, e))?;
        let text = logs_beside(file);
        let logs = Sqlite::open_as(&text, SQLITE_LOGS, Upto::default()).await;
        let (state, logs) = (Arc::new(state), Arc::new(logs.map_err(|e| named(&text, e))?.0));
        Ok(Self {
            engine: Arc::clone(&state) as _,
            logs: Arc::clone(&logs) as _,
            without_zero: false,
            files: vec![state, logs],
            _lock: Some(lock),
            _presence: Vec::new(),
        })
    }

    fn server(engine: Arc<dyn Engine>, without_zero: bool) -> Self {
        Self {
            logs: Arc::clone(&engine),
            engine,
            without_zero,
            files: Vec::new(),
            _lock: None,
            _presence: Vec::new(),
        }
    }

    /// Opens a database that is there, and keeps its masters from starting.
    pub async fn stopped(database: &DatabaseOptions, dir: &Path) -> Result<(Self, Mark), CopyError> {
        let database = patient(database);
        let dry_run = Upto { dry_run: true, ..Upto::default() };
        let mut end = match kind(&database, dir)? {
            Kind::Memory => return Err(CopyError::Memory),
            Kind::Sqlite(file) => {
                both_there(&file)?;
                let lock = lock(&file)?;
                check_file(&file).await?;
                Self::sqlite(&file, lock).await?
            }
            Kind::Postgres => {
                current(migrate::postgres(&database, dry_run).await, &database)?;
                Self::server(Arc::new(PostgresEngine::new(&database)?), true)
            }
            Kind::MariaDb => {
                current(migrate::mariadb(&database, dry_run).await, &database)?;
                Self::server(Arc::new(MariaDbEngine::new(&database)?), false)
            }
        };
        let mut tx = end.engine.read().await?;
        let mark = generation_of(&mut *tx).await?.map(Mark::of).ok_or(CopyError::Nothing)?;
        let masters = load::<Master>(&mut *tx, &Select::from(&MASTERS)).await?;
        drop(tx);
        for master in masters {
            match end.engine.presence(&master.name).await? {
                Some(presence) => end._presence.push(presence),
                // Cut off, but its lease is over: it can write nothing any more.
                None => {
                    let (until, now) = lease_of(&*end.engine, &master.name).await?;
                    if until > now {
                        return Err(CopyError::Runs(master.name.clone()));
                    }
                }
            }
        }
        Ok((end, mark))
    }

    /// Opens a database to be filled: an empty one, or one that holds an unfinished copy, which is removed. It is marked.
    pub async fn empty(database: &DatabaseOptions, dir: &Path) -> Result<Self, CopyError> {
        let database = patient(database);
        let mut end = match kind(&database, dir)? {
            Kind::Memory => return Err(CopyError::Memory),
            Kind::Sqlite(file) => {
                let lock = lock(&file)?;
                Self::sqlite(&file, lock).await?
            }
            Kind::Postgres => {
                let done = migrate::postgres(&database, Upto::default()).await;
                done.map_err(|error| schema_error(&database, error))?;
                Self::server(Arc::new(PostgresEngine::new(&database)?), true)
            }
            Kind::MariaDb => {
                let done = migrate::mariadb(&database, Upto::default()).await;
                done.map_err(|error| schema_error(&database, error))?;
                Self::server(Arc::new(MariaDbEngine::new(&database)?), false)
            }
        };
        let presence = end.engine.presence(COPIES).await?;
        end._presence.push(presence.ok_or(CopyError::Copying)?);
        let mut tx = end.engine.read().await?;
        let mark = generation_of(&mut *tx).await?.map(Mark::of);
        drop(tx);
        match mark {
            None => end.mark_as_filling().await?,
            Some(Mark::Filling) => end.clear().await?,
            Some(_) => return Err(CopyError::NotEmpty("generation")),
        }
        end.expect_empty().await?;
        Ok(end)
    }

    async fn mark_as_filling(&self) -> Result<(), CopyError> {
        self.expect_empty().await?;
        let mut tx = self.engine.write().await?;
        tx.insert(&GENERATION, &[vec![1.into(), Mark::Filling.stored().into()]]).await?;
        Ok(tx.commit().await?)
    }

    /// All tables but the mark, and where they are.
    pub fn tables(&self) -> Vec<(Arc<dyn Engine>, &'static Table)> {
        let state = ALL.iter().filter(|table| table.name != GENERATION.name);
        let state = state.map(|table| (Arc::clone(&self.engine), *table));
        let logs = LOG_TABLES.iter().map(|table| (Arc::clone(&self.logs), *table));
        state.chain(logs).collect()
    }

    async fn clear(&self) -> Result<(), CopyError> {
        for (engine, table) in self.tables() {
            let mut tx = engine.write().await?;
            tx.delete(table, &[]).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    async fn expect_empty(&self) -> Result<(), CopyError> {
        let fences = self.files.is_empty().then(|| (Arc::clone(&self.engine), &LOG_WRITERS));
        for (engine, table) in self.tables().into_iter().chain(fences) {
            let mut tx = engine.read().await?;
            if !tx.select(&Select::from(table).limit(1)).await?.is_empty() {
                return Err(CopyError::NotEmpty(table.name));
            }
        }
        Ok(())
    }

    /// Closes what is a file.
    pub async fn close(self) {
        for file in &self.files {
            file.close().await;
        }
    }
}

impl From<OpenError> for CopyError {
    fn from(error: OpenError) -> Self {
        CopyError::Open(error)
    }
}
