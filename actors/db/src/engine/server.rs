//! What the engines over a database server share: pools, transactions that never hang and leave nothing behind, the gate.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{Connection, Pool};
use tokio::time::timeout;

use super::gate::Gate;
use super::replica::ReplicaLink;
use super::sql::{COUNTED, Dialect, EACH, Sql, counts};
use super::*;
use crate::schema::MASTER_HEADS;

/// Connections that write: the DbWriter's, the LogWriter's, and one in reserve.
pub const WRITERS: u32 = 3;
/// What a transaction that was given up may take to be rolled back, before its connection is thrown away.
const ROLLBACK_WITHIN: Duration = Duration::from_secs(2);

/// What kind of fault a server's error is; its text comes with it.
pub enum Kind {
    Unavailable,
    Conflict,
    Rejected,
    Damaged,
}

/// A statement about the tables that a filling fills: ours alone, for the database may have others, whose owners may hold them.
macro_rules! of_filled {
    ($how:literal) => {
        concat!($how, " builds, steps, logs, build_properties, buildrequests, buildsets, buildset_sourcestamps, changes, sourcestamps")
    };
}
pub(super) use of_filled;

/// A kind of database server, below the level of tables.
pub trait Server: sqlx::Database<QueryResult: Send> {
    const DIALECT: Dialect;
    const BEGIN_READ: &'static str;
    const BEGIN_WRITE: &'static str;
    /// Statements that gather statistics, on a connection that is closed afterwards.
    const WAS_FILLED: &'static [&'static str];
    /// The time of the statement in microseconds since 1970.
    const NOW: &'static str;

    fn kind(error: &dyn DatabaseError) -> Kind;
    fn query(sql: Sql<'_>) -> Query<'static, Self, Self::Arguments>;
    fn read_row(table: &Table, row: &Self::Row) -> Result<Row, sqlx::Error>;
    fn read_number(row: &Self::Row) -> Result<Option<i64>, sqlx::Error>;
    /// A sum as a 64-bit integer: what stands before and after the column.
    const SUM: (&'static str, &'static str);
    /// The statements that insert rows, or replace those of the same key.
    fn inserts<'v>(table: &'static Table, rows: &'v [Row], replace: bool) -> Vec<Sql<'v>>;
    /// Replaces rows whose version is still the expected one; answers how many were.
    fn update<'t>(
        tx: &'t mut Tx<Self>,
        table: &'static Table,
        rows: &'t [(i64, Row)],
    ) -> BoxFuture<'t, Result<u64, EngineError>>;

    fn fetch<'c>(
        connection: &'c mut Self::Connection,
        query: Query<'static, Self, Self::Arguments>,
    ) -> BoxFuture<'c, Result<Vec<Self::Row>, sqlx::Error>>;
    /// Answers how many rows it found.
    fn execute<'c>(
        connection: &'c mut Self::Connection,
        query: Query<'static, Self, Self::Arguments>,
    ) -> BoxFuture<'c, Result<u64, sqlx::Error>>;
    fn command<'c>(
        connection: &'c mut Self::Connection,
        text: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>>;
    /// Why a server that is read as a replica may show a later transaction without an earlier one, with what to set; none: it does not.
    fn replica_fault<'c>(
        connection: &'c mut Self::Connection,
    ) -> BoxFuture<'c, Result<Option<String>, sqlx::Error>>;
    /// Takes a lock that lasts as long as the connection; answers whether it got it.
    fn hold<'c>(
        connection: &'c mut Self::Connection,
        name: &'c str,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>>;
}

/// An engine is its link.
macro_rules! engine {
    ($engine:ty) => {
        #[async_trait]
        impl Engine for $engine {
            async fn write(&self) -> Result<Box<dyn WriteTx>, EngineError> {
                Ok(Box::new(self.0.write().await?))
            }

            async fn read(&self) -> Result<Box<dyn ReadTx>, EngineError> {
                Ok(Box::new(self.0.read().await?))
            }

            fn replica(&self) -> Option<&dyn Replica> {
                Some(self.0.replica.as_ref()?)
            }

            fn exclusive(&self) -> bool {
                false // others may be on other machines
            }

            async fn presence(&self, name: &str) -> Result<Option<Box<dyn Send + Sync>>, EngineError> {
                Ok(self.0.presence(name).await?.map(|presence| Box::new(presence) as _))
            }

            async fn was_filled(&self) -> Result<(), EngineError> {
                self.0.was_filled().await
            }

            fn away(&self) -> Option<watch::Receiver<Option<Away>>> {
                Some(self.0.gate.watch())
            }
        }
    };
}
pub(super) use engine;

/// An sqlx error as the engine's, and whether the connection is of no use any more.
pub fn told<DB: Server>(error: &sqlx::Error) -> (EngineError, bool) {
    let text = error.to_string();
    match error {
        sqlx::Error::Database(db) if db.is_unique_violation() => (EngineError::Conflict(text), false),
        sqlx::Error::Database(db) => match DB::kind(&**db) {
            Kind::Conflict => (EngineError::Conflict(text), false),
            Kind::Rejected => (EngineError::Rejected(text), false),
            Kind::Damaged => (EngineError::Damaged(text), false),
            // Some of these end the connection: a rollback shows which.
            Kind::Unavailable => (EngineError::Unavailable(text), true),
        },
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => (EngineError::Damaged(text), false),
        sqlx::Error::Encode(_) => (EngineError::Rejected(text), false),
        _ => (EngineError::Unavailable(text), true),
    }
}

/// The pools of a database, and what is known of its server.
pub struct Link<DB: Server> {
    pub writers: Pool<DB>,
    pub readers: Pool<DB>,
    pub replica: Option<ReplicaLink<DB>>,
    pub gate: Arc<Gate>,
    /// How long a connection is waited for.
    pub connect: Duration,
    /// How long any statement may take.
    pub statement: Duration,
    /// For a connection apart from the pools.
    pub options: <DB::Connection as Connection>::Options,
}

impl<DB: Server> Link<DB>
where
    DB::Connection: Connection<Database = DB>,
{
    /// Begins a transaction on a connection of the pool that works, whatever became of the others.
    async fn begin(&self, pool: &Pool<DB>, text: &'static str) -> Result<Tx<DB>, EngineError> {
        let mut last = EngineError::Unavailable("no connection".into());
        // Every connection of the pool may be stale; after them comes a new one.
        for _ in 0..=pool.options().get_max_connections() {
            let connection = tokio::select! {
                connection = pool.acquire() => connection,
                why = self.gate.closed() => return Err(EngineError::Unavailable(why)),
            };
            let connection = connection.map_err(|error| {
                self.gate.suspect();
                told::<DB>(&error).0
            })?;
            match Tx::begin(connection, text, self.statement, &self.gate).await {
                Ok(tx) => return Ok(tx),
                Err(error) => {
                    self.gate.suspect();
                    last = error;
                }
            }
        }
        Err(last)
    }

    pub async fn write(&self) -> Result<Tx<DB>, EngineError> {
        self.gate.wait(self.connect.min(LONGEST_WAIT)).await.map_err(EngineError::Unavailable)?;
        self.begin(&self.writers, DB::BEGIN_WRITE).await
    }

    pub async fn read(&self) -> Result<Tx<DB>, EngineError> {
        self.gate.check().map_err(EngineError::Unavailable)?;
        self.begin(&self.readers, DB::BEGIN_READ).await
    }

    /// Holds a lock of that name on a connection of its own for as long as the answer lives, over reconnections. None: another
    /// process holds it.
    pub async fn presence(&self, name: &str) -> Result<Option<Presence>, EngineError> {
        let lost = |error: sqlx::Error| told::<DB>(&error).0;
        let mut connection = self.connection().await?;
        if !DB::hold(&mut connection, name).await.map_err(lost)? {
            return Ok(None);
        }
        let (options, name, gate) = (self.options.clone(), name.to_owned(), Arc::clone(&self.gate));
        let keeper = tokio::spawn(async move {
            loop {
                tokio::time::sleep(KEEP).await;
                if timeout(KEEP, connection.ping()).await.is_ok_and(|pong| pong.is_ok()) {
                    continue;
                }
                gate.suspect();
                connection = loop {
                    tokio::time::sleep(KEEP).await;
                    let Ok(mut new) = <DB::Connection as Connection>::connect_with(&options).await else {
                        continue;
                    };
                    // Held by another: its epoch says who of us may write.
                    if DB::hold(&mut new, &name).await.is_ok() {
                        break new;
                    }
                };
            }
        });
        Ok(Some(Presence(keeper)))
    }

    /// Has the server gather its statistics.
    pub async fn was_filled(&self) -> Result<(), EngineError> {
        let mut connection = self.connection().await?;
        for text in DB::WAS_FILLED {
            DB::command(&mut connection, text).await.map_err(|error| told::<DB>(&error).0)?;
        }
        connection.close().await.map_err(|error| told::<DB>(&error).0)
    }

    /// A connection apart from the pools.
    pub async fn connection(&self) -> Result<DB::Connection, EngineError> {
        let connecting = <DB::Connection as Connection>::connect_with(&self.options);
        match timeout(self.connect, connecting).await {
            Ok(connection) => connection.map_err(|error| told::<DB>(&error).0),
            Err(_) => Err(EngineError::Unavailable("the server does not answer".into())),
        }
    }
}

/// A write waits no longer than that for a server that is away, however long a connection is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often the presence is kept alive.
const KEEP: Duration = Duration::from_secs(2);

/// A lock that tells other processes of this one; it ends when this is dropped.
pub struct Presence(tokio::task::JoinHandle<()>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A transaction. Dropped before its commit it is rolled back; a connection in doubt is closed.
pub struct Tx<DB: Server> {
    connection: Option<PoolConnection<DB>>,
    /// False while a statement is under way, and after one whose connection is in doubt.
    usable: bool,
    within: Duration,
    gate: Arc<Gate>,
}

impl<DB: Server> Tx<DB> {
    async fn begin(
        connection: PoolConnection<DB>,
        text: &'static str,
        within: Duration,
        gate: &Arc<Gate>,
    ) -> Result<Self, EngineError> {
        let mut tx = Self { connection: Some(connection), usable: true, within, gate: Arc::clone(gate) };
        let begun = tx.command(text).await;
        tx.usable = begun.is_ok();
        begun.map(|()| tx)
    }

    /// Begins to read one state of the database.
    pub async fn begin_read(
        connection: PoolConnection<DB>,
        within: Duration,
        gate: &Arc<Gate>,
    ) -> Result<Self, EngineError> {
        Self::begin(connection, DB::BEGIN_READ, within, gate).await
    }

    /// Runs one statement within the time, and no longer than the server is there: one that hangs answers nothing.
    async fn run<'t, T>(
        &'t mut self,
        work: impl FnOnce(&'t mut DB::Connection) -> BoxFuture<'t, Result<T, sqlx::Error>> + Send,
    ) -> Result<T, EngineError> {
        let Some(connection) = &mut self.connection else {
            return Err(EngineError::Rejected("the transaction is over".into()));
        };
        self.usable = false;
        let answer = tokio::select! {
            biased;
            answer = within(self.within, work(connection)) => answer,
            why = self.gate.closed() => Err(sqlx::Error::Io(std::io::Error::other(why))),
        };
        match answer {
            Ok(value) => {
                self.usable = true;
                Ok(value)
            }
            Err(error) => {
                let (told, broken) = told::<DB>(&error);
                self.usable = !broken;
                Err(told)
            }
        }
    }

    async fn command(&mut self, text: &'static str) -> Result<(), EngineError> {
        self.run(|c| DB::command(c, text)).await
    }

    pub async fn fetch(&mut self, sql: Sql<'_>) -> Result<Vec<DB::Row>, EngineError> {
        record::note(DB::DIALECT, &sql);
        let query = DB::query(sql);
        self.run(|c| DB::fetch(c, query)).await
    }

    pub async fn execute(&mut self, sql: Sql<'_>) -> Result<u64, EngineError> {
        let query = DB::query(sql);
        self.run(|c| DB::execute(c, query)).await
    }

    /// What a statement gives, as rows of a table.
    async fn rows(&mut self, table: &Table, sql: Sql<'_>) -> Result<Vec<Row>, EngineError> {
        let rows = self.fetch(sql).await?;
        rows.iter().map(|row| DB::read_row(table, row).map_err(|error| told::<DB>(&error).0)).collect()
    }

    async fn number(&mut self, sql: Sql<'_>) -> Result<Option<i64>, EngineError> {
        let rows = self.fetch(sql).await?;
        let row = rows.first().ok_or_else(|| EngineError::Damaged("an aggregate gave no row".into()))?;
        DB::read_number(row).map_err(|error| told::<DB>(&error).0)
    }
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match timeout(time, work).await {
        Ok(answer) => answer,
        Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
            std::io::ErrorKind::TimedOut,
            format!("no answer within {} s", time.as_secs_f32()),
        ))),
    }
}

impl<DB: Server> Drop for Tx<DB> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let runtime = tokio::runtime::Handle::try_current();
        match (self.usable, runtime) {
            (true, Ok(runtime)) => drop(runtime.spawn(async move {
                if !timeout(ROLLBACK_WITHIN, DB::command(&mut connection, "ROLLBACK"))
                    .await
                    .is_ok_and(|done| done.is_ok())
                {
                    drop(connection.detach()); // closed: the server rolls back
                }
            })),
            _ => drop(connection.detach()),
        }
    }
}

#[async_trait]
impl<DB: Server> ReadTx for Tx<DB> {
    async fn select(&mut self, select: &Select) -> Result<Vec<Row>, EngineError> {
        self.rows(select.table, Sql::select(DB::DIALECT, select)).await
    }

    async fn select_each(&mut self, selects: &[Select]) -> Result<Vec<Row>, EngineError> {
        let mut all = Vec::new();
        for piece in selects.chunks(EACH) {
            let table = piece[0].table;
            all.extend(self.rows(table, Sql::select_each(DB::DIALECT, table, piece)).await?);
        }
        Ok(all)
    }

    async fn count_each(&mut self, selects: &[Select]) -> Result<Vec<u64>, EngineError> {
        let mut all = Vec::with_capacity(selects.len());
        for piece in selects.chunks(EACH) {
            let rows = self.rows(&COUNTED, Sql::count_each(DB::DIALECT, piece[0].table, piece)).await?;
            all.extend(counts(rows, piece.len())?);
        }
        Ok(all)
    }

    async fn count(&mut self, select: &Select) -> Result<u64, EngineError> {
        let sql = Sql::count(DB::DIALECT, select);
        Ok(u64::try_from(self.number(sql).await?.unwrap_or(0)).unwrap_or(0))
    }

    async fn max(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<Option<i64>, EngineError> {
        self.number(Sql::aggregate(DB::DIALECT, table, "max(", Some(column), ")", conds)).await
    }

    async fn explain(&mut self) -> Result<Vec<Explained>, EngineError> {
        let how = if DB::DIALECT == Dialect::MariaDb { "EXPLAIN FORMAT=JSON " } else { "EXPLAIN " };
        if DB::DIALECT == Dialect::Postgres {
            // A small table is scanned because it is small; what is wanted is what is left when it is not.
            self.command("SET LOCAL enable_seqscan = off").await?;
        }
        let mut all = Vec::new();
        for statement in record::seen(DB::DIALECT) {
            let mut plan = Vec::new();
            for row in self.fetch(statement.after(DB::DIALECT, how, DB::DIALECT == Dialect::MariaDb)).await? {
                let row = DB::read_row(&record::PLAN, &row).map_err(|error| told::<DB>(&error).0)?;
                if let Some(Value::Text(line)) = row.first() {
                    plan.push(line.to_string());
                }
            }
            all.push((statement.text.clone(), plan));
        }
        Ok(all)
    }

    async fn sum(
        &mut self,
        table: &'static Table,
        column: &'static str,
        conds: &[Cond],
    ) -> Result<i64, EngineError> {
        let (before, after) = DB::SUM;
        let sql = Sql::aggregate(DB::DIALECT, table, before, Some(column), after, conds);
        Ok(self.number(sql).await?.unwrap_or(0))
    }

    async fn now(&mut self) -> Result<i64, EngineError> {
        let sql = Sql::new(DB::DIALECT, &MASTER_HEADS, DB::NOW);
        self.number(sql).await?.ok_or_else(|| EngineError::Damaged("the database tells no time".into()))
    }
}

#[async_trait]
impl<DB: Server> WriteTx for Tx<DB> {
    async fn insert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        for sql in DB::inserts(table, rows, false) {
            self.execute(sql).await?;
        }
        Ok(())
    }

    async fn upsert(&mut self, table: &'static Table, rows: &[Row]) -> Result<(), EngineError> {
        for sql in DB::inserts(table, rows, true) {
            self.execute(sql).await?;
        }
        Ok(())
    }

    async fn update(&mut self, table: &'static Table, rows: &[(i64, Row)]) -> Result<u64, EngineError> {
        if rows.is_empty() { Ok(0) } else { DB::update(self, table, rows).await }
    }

    async fn set(
        &mut self,
        table: &'static Table,
        values: &[(&'static str, Value)],
        conds: &[Cond],
    ) -> Result<u64, EngineError> {
        self.execute(Sql::set(DB::DIALECT, table, values, conds)).await
    }

    async fn delete(&mut self, table: &'static Table, conds: &[Cond]) -> Result<u64, EngineError> {
        self.execute(Sql::delete(DB::DIALECT, table, conds)).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), EngineError> {
        match self.command("COMMIT").await {
            Ok(()) => {
                self.connection = None; // back to its pool
                Ok(())
            }
            // The server itself said that it was not done.
            Err(error @ (EngineError::Conflict(_) | EngineError::Rejected(_))) => Err(error),
            Err(error) => {
                self.usable = false;
                Err(EngineError::Unknown(error.to_string()))
            }
        }
    }
}
