//! The engine: tables, rows and conditions, no domain word.
//!
//! Everything above this module is written once for all databases. To add one: a module beside `sqlite` that implements
//! [`Engine`], [`ReadTx`] and [`WriteTx`] (of a server: `server::Server`), its migrations, and its url in `store`; the
//! conformance suite then runs over it. What an engine must promise:
//!
//! - a read transaction sees one state of the whole database;
//! - of two write transactions that update the same row under a condition, the second sees what the first did;
//! - a transaction that is dropped leaves nothing.

mod gate;
pub(crate) mod mariadb;
pub(crate) mod memory;
pub(crate) mod migrate;
pub(crate) mod postgres;
pub(crate) mod record;
mod replica;
mod server;
mod sql;
pub(crate) mod sqlite;
pub(crate) mod troubled;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

pub use gate::Away;

/// A stored value. Ordered as databases do: null first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    Null,
    Int(i64),
    Text(Arc<str>),
    Blob(Bytes),
}

impl From<i64> for Value {
    fn from(v: i64) -> Self {
        Value::Int(v)
    }
}
impl From<bool> for Value {
    fn from(v: bool) -> Self {
        Value::Int(i64::from(v))
    }
}
impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.into())
    }
}
impl From<String> for Value {
    fn from(v: String) -> Self {
        Value::Text(v.into())
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(v: Option<T>) -> Self {
        v.map_or(Value::Null, Into::into)
    }
}

/// The values of a row, in the order of its table's columns.
pub type Row = Vec<Value>;

/// What a column holds; any may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    Int,
    Text,
    Blob,
}

/// A table as code sees it; the migrations create it.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, ColumnType)],
    /// How many of the first columns are its key.
    pub key: usize,
    /// Other sets of columns that are unique; a null in one is like no other.
    pub unique: &'static [&'static [&'static str]],
    /// Sets of columns that are searched by.
    pub indexes: &'static [&'static [&'static str]],
}

impl Table {
    /// The place of a column.
    pub fn position(&self, column: &str) -> Option<usize> {
        self.columns.iter().position(|(name, _)| *name == column)
    }
}

/// How a column is compared. Comparisons with null never hold, except that `Ne` and `NotIn` do for a null column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The column's text holds the value's.
    Contains,
}

/// A condition on a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cond {
    Is(&'static str, Comparison, Value),
    /// One of the values, of which none is null.
    In(&'static str, Vec<Value>),
    Null(&'static str),
    NotNull(&'static str),
    /// Any of; none given: never.
    Any(Vec<Cond>),
    /// All of; none given: always.
    All(Vec<Cond>),
}

impl Cond {
    pub fn eq(column: &'static str, value: impl Into<Value>) -> Self {
        Cond::Is(column, Comparison::Eq, value.into())
    }

    pub fn is(column: &'static str, comparison: Comparison, value: impl Into<Value>) -> Self {
        Cond::Is(column, comparison, value.into())
    }

    pub fn ids(column: &'static str, ids: impl IntoIterator<Item = i64>) -> Self {
        Cond::In(column, ids.into_iter().map(Value::Int).collect())
    }
}

/// Which rows, in which order.
#[derive(Debug, Clone)]
pub struct Select {
    pub table: &'static Table,
    /// All must hold.
    pub conds: Vec<Cond>,
    /// Column and whether descending; nulls are smallest.
    pub order: Vec<(&'static str, bool)>,
    pub limit: Option<u64>,
    pub offset: u64,
}

impl Select {
    pub fn from(table: &'static Table) -> Self {
        Self { table, conds: Vec::new(), order: Vec::new(), limit: None, offset: 0 }
    }

    pub fn filter(mut self, cond: Cond) -> Self {
        self.conds.push(cond);
        self
    }

    pub fn order(mut self, column: &'static str, descending: bool) -> Self {
        self.order.push((column, descending));
        self
    }

    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// Why an engine did not do what it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Not now: down, busy, full. Nothing happened.
    #[error("{0}")]
    Unavailable(String),
    /// Somebody else changed or inserted the row meanwhile. Nothing happened.
    #[error("conflict: {0}")]
    Conflict(String),
    /// It will never do that: a value too large, a constraint. Nothing happened.
    #[error("{0}")]
    Rejected(String),
    /// A stored value is not what it must be.
    #[error("{0}")]
    Damaged(String),
    /// The commit's answer was lost: it happened or it did not.
    #[error("{0}")]
    Unknown(String),
}

/// The most values of an `IN` list and rows of an insert that callers give at once; engines cut as they need.
pub const CHUNK: usize = 500;

/// A database.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Begins a transaction that may write.
    async fn write(&self) -> Result<Box<dyn WriteTx>, EngineError>;
    /// Begins a transaction that sees one state of the database.
    async fn read(&self) -> Result<Box<dyn ReadTx>, EngineError>;
    /// Whether this process alone can write to the database, so that whoever held a lease before is gone.
    fn exclusive(&self) -> bool;

    /// The replica, if there is one.
    fn replica(&self) -> Option<&dyn Replica> {
        None
    }

    /// Shows other processes that this one lives, under a name, for as long as the answer lives. None: another one of that name
    /// does.
    async fn presence(&self, _name: &str) -> Result<Option<Box<dyn Send + Sync>>, EngineError> {
        Ok(Some(Box::new(())))
    }

    /// From now on until its end this process fills the database, many rows at a time.
    async fn will_be_filled(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Takes note of how much there is now: a server plans by statistics, which it would otherwise gather some time later.
    async fn was_filled(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Whether the database's server is away, as it changes; none: there is no server.
    fn away(&self) -> Option<watch::Receiver<Option<Away>>> {
        None
    }
}

/// A copy of the database that is kept by its server, and may be behind.
#[async_trait]
pub trait Replica: Send + Sync {
    /// As [`Engine::read`], at once; none: it cannot be read now.
    async fn read(&self) -> Option<Box<dyn ReadTx>>;
    /// Something was wrong with it: it is looked at, and left alone until it can be read.
    fn suspect(&self);
    /// Answers when it is known that it cannot be read.
    async fn lost(&self);
    /// Why it must not be read, however well it works: it may show a later transaction without an earlier one. None: it may be, as far
    /// as can be seen now.
    async fn fault(&self) -> Option<String>;
}

/// A transaction that reads.
#[async_trait]
pub trait ReadTx: Send {
    async fn select(&mut self, select: &Select) -> Result<Vec<Row>, EngineError>;
    /// How many rows there are without order and offset, counted up to the limit if there is one.
    async fn count(&mut self, select: &Select) -> Result<u64, EngineError>;
    /// The rows of several selections of one table, together in no order: of hundreds it takes a few statements.
    async fn select_each(&mut self, selects: &[Select]) -> Result<Vec<Row>, EngineError> {
        let mut rows = Vec::new();
        for select in selects {
            rows.extend(self.select(select).await?);
        }
        Ok(rows)
    }
    /// [`count`](ReadTx::count) of each of several selections of one table, which have a limit.
    async fn count_each(&mut self, selects: &[Select]) -> Result<Vec<u64>, EngineError> {
        let mut counts = Vec::with_capacity(selects.len());
        for select in selects {
            counts.push(self.count(select).await?);
        }
        Ok(counts)
    }
    /// The largest value of a column.
    async fn max(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<Option<i64>, EngineError>;
    /// How the statements that were recorded ([`record`]) are run. For tests; none: this engine has no plans.
    async fn explain(&mut self) -> Result<Vec<Explained>, EngineError> {
        Ok(Vec::new())
    }
    /// The sum of a column; 0 of none.
    async fn sum(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<i64, EngineError>;

    /// The time by the database's clock, in microseconds since 1970: the one clock by which leases are judged. A database
    /// without a server has that of this process.
    async fn now(&mut self) -> Result<i64, EngineError> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// How a database runs a statement: the statement, and its plan in the database's words.
pub type Explained = (String, Vec<String>);

/// A transaction that writes. Dropped without a commit it leaves nothing.
#[async_trait]
pub trait WriteTx: ReadTx {
    async fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError>;
    /// Inserts rows or replaces those of the same key. No key comes twice.
    async fn upsert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError>;
    /// Replaces whole rows by their key (one integer), each only if its column `version` still has the given value; answers
    /// how many were.
    async fn update(&mut self, table: &'static Table, rows: &[(i64, Row)]) -> Result<u64, EngineError>;
    /// Sets columns of the rows that fulfil all conditions; answers how many did.
    async fn set(
        &mut self,
        table: &'static Table,
        values: &[(&'static str, Value)],
        conds: &[Cond],
    ) -> Result<u64, EngineError>;
    async fn delete(&mut self, table: &'static Table, conds: &[Cond]) -> Result<u64, EngineError>;
    async fn commit(self: Box<Self>) -> Result<(), EngineError>;
}
