//! The MariaDB engine. Rows travel as lists of placeholders, in pieces of a power of two and of bounded size.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::mysql::{
    MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlDatabaseError, MySqlPoolOptions, MySqlRow,
};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, MySql, Row as _};

use super::gate::{DATABASE, Gate};
use super::replica::ReplicaLink;
use super::server::{Kind, Link, Server, Tx, WRITERS, engine, of_filled};
use super::sql::{Bound, Dialect, Sql};
use super::*;
use crate::options::DatabaseOptions;

const SQL: Dialect = Dialect::MariaDb;
/// The most rows of one statement.
const ROWS: usize = 64;
/// The most bytes of one statement's values, unless one row alone has more: the server takes packets of 16 MiB by default.
const BYTES: usize = 4 << 20;

/// How to connect to a url.
pub fn connect_options(url: &str, options: &DatabaseOptions) -> Result<MySqlConnectOptions, EngineError> {
    let bad = |_| EngineError::Rejected("the database url is not understood".into());
    let url = url.replacen("mariadb://", "mysql://", 1);
    let mut connect = MySqlConnectOptions::from_str(&url).map_err(bad)?;
    if let Some(password) = &options.password {
        connect = connect.password(password);
    }
    Ok(connect
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .statement_cache_capacity(512)
        .disable_statement_logging())
}

/// What every connection is prepared with: nothing is cut to fit, no statement waits for ever.
pub fn preparation(options: &DatabaseOptions, writes: bool, migrating: bool) -> String {
    let seconds = |time: std::time::Duration| time.as_secs().max(1);
    format!(
        "SET SESSION TRANSACTION ISOLATION LEVEL {}; SET sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
        max_statement_time = {}, innodb_lock_wait_timeout = {lock}, lock_wait_timeout = {lock}, \
        idle_transaction_timeout = {}",
        if writes { "READ COMMITTED" } else { "REPEATABLE READ" },
        if migrating { 0.0 } else { options.statement_timeout.as_secs_f64() },
        seconds(options.idle_transaction_timeout),
        lock = seconds(options.lock_timeout),
    )
}

/// A MariaDB database.
pub struct MariaDbEngine(pub Link<MySql>);

impl MariaDbEngine {
    /// Prepares the pools; connects when it is asked.
    pub fn new(options: &DatabaseOptions) -> Result<Self, EngineError> {
        let connect = connect_options(&options.url, options)?;
        let pool = |connections: u32, writes: bool| {
            let prepare = preparation(options, writes, false);
            MySqlPoolOptions::new()
                .max_connections(connections.max(1))
                .acquire_timeout(options.connect_timeout)
                .test_before_acquire(false)
                .after_connect(move |connection, _| {
                    let prepare = prepare.clone();
                    Box::pin(async move { connection.execute(AssertSqlSafe(prepare)).await.map(drop) })
                })
        };
        let statement = options.statement_timeout + std::time::Duration::from_secs(1);
        let replica = match &options.read_url {
            Some(url) => {
                let connect = connect_options(url, options)?;
                let pool = pool(options.read_connections, false).connect_lazy_with(connect.clone());
                Some(ReplicaLink::new(pool, connect, statement))
            }
            None => None,
        };
        let to_probe = connect.clone();
        let gate = Gate::new(DATABASE, move || {
            let options = to_probe.clone();
            async move {
                let mut connection = options.connect().await.map_err(|error| error.to_string())?;
                connection.ping().await.map_err(|error| error.to_string())?;
                connection.close().await.ok();
                Ok(())
            }
            .boxed()
        });
        Ok(Self(Link {
            writers: pool(WRITERS, true).connect_lazy_with(connect.clone()),
            readers: pool(options.read_connections, false).connect_lazy_with(connect.clone()),
            replica,
            gate,
            connect: options.connect_timeout,
            statement,
            options: connect,
        }))
    }
}

engine!(MariaDbEngine);

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Int(_) => 8,
        Value::Text(v) => v.len(),
        Value::Blob(v) => v.len(),
    }
}

/// Cuts rows into pieces of a power of two, so that few distinct statements are prepared, and of bounded size.
fn pieces(mut rows: &[Row]) -> Vec<&[Row]> {
    let mut pieces = Vec::new();
    while !rows.is_empty() {
        let mut bytes = 0;
        let fits = rows.iter().take(ROWS).take_while(|r| {
            bytes += r.iter().map(size).sum::<usize>();
            bytes <= BYTES
        });
        let fits = fits.count().max(1);
        let (piece, rest) = rows.split_at(1 << fits.ilog2());
        pieces.push(piece);
        rows = rest;
    }
    pieces
}

impl Server for MySql {
    const DIALECT: Dialect = SQL;
    const BEGIN_READ: &'static str = "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY";
    const BEGIN_WRITE: &'static str = "START TRANSACTION READ WRITE";
    const WAS_FILLED: &'static [&'static str] = &["SET max_statement_time = 0", of_filled!("ANALYZE TABLE")];
    const SUM: (&'static str, &'static str) = ("CAST(coalesce(sum(", "), 0) AS SIGNED)");

    const NOW: &'static str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED)";

    fn kind(error: &dyn DatabaseError) -> Kind {
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map_or(0, MySqlDatabaseError::number);
        match number {
            // Deadlock; the record has changed since it was read.
            1213 | 1020 => Kind::Conflict,
            // Disk full, table full, no memory, too many connections, shutdown, access, killed, read-only, locks, time.
            1003
            | 1021
            | 1026
            | 1037
            | 1038
            | 1040
            | 1041
            | 1042
            | 1043
            | 1044
            | 1045
            | 1047
            | 1049
            | 1053
            | 1077
            | 1079
            | 1080
            | 1105
            | 1114
            | 1129
            | 1130
            | 1135
            | 1152
            | 1157..=1161
            | 1180
            | 1184
            | 1203
            | 1205
            | 1206
            | 1226
            | 1290
            | 1317
            | 1792
            | 1836
            | 1927
            | 1968
            | 1969
            | 1970
            | 4165 => Kind::Unavailable,
            // Wrong key file, crashed tables.
            1034 | 1035 | 1194 | 1195 => Kind::Damaged,
            _ => Kind::Rejected,
        }
    }

    fn query(sql: Sql<'_>) -> Query<'static, MySql, MySqlArguments> {
        let mut query = sqlx::query(AssertSqlSafe(sql.text));
        for bound in sql.values {
            let Bound::One(value, ty) = bound else { continue }; // arrays are PostgreSQL's
            query = match (value, ty) {
                (Value::Int(v), _) => query.bind(*v),
                (Value::Text(v), _) => query.bind(v.to_string()),
                (Value::Blob(v), _) => query.bind(v.to_vec()),
                (Value::Null, ColumnType::Int) => query.bind(None::<i64>),
                (Value::Null, ColumnType::Text) => query.bind(None::<String>),
                (Value::Null, ColumnType::Blob) => query.bind(None::<Vec<u8>>),
            };
        }
        query
    }

    fn read_row(table: &Table, row: &MySqlRow) -> Result<Row, sqlx::Error> {
        let value = |(i, (_, ty)): (usize, &(&str, ColumnType))| -> Result<Value, sqlx::Error> {
            Ok(match ty {
                ColumnType::Int => row.try_get_unchecked::<Option<i64>, _>(i)?.into(),
                ColumnType::Text => row.try_get_unchecked::<Option<&str>, _>(i)?.into(),
                ColumnType::Blob => row
                    .try_get_unchecked::<Option<&[u8]>, _>(i)?
                    .map_or(Value::Null, |b| Value::Blob(Bytes::copy_from_slice(b))),
            })
        };
        table.columns.iter().enumerate().map(value).collect()
    }

    fn read_number(row: &MySqlRow) -> Result<Option<i64>, sqlx::Error> {
        row.try_get_unchecked(0)
    }

    fn inserts<'v>(table: &'static Table, rows: &'v [Row], replace: bool) -> Vec<Sql<'v>> {
        let insert = |piece: &'v [Row]| {
            let mut sql = Sql::new(SQL, table, "INSERT INTO ");
            sql.name(table.name).push(" (").columns().push(") VALUES ").rows(piece);
            if replace {
                sql.push(" ON DUPLICATE KEY UPDATE ");
                for (i, (column, _)) in table.columns[table.key..].iter().enumerate() {
                    sql.push(if i > 0 { ", " } else { "" }).name(column);
                    sql.push(" = VALUES(").name(column).push(")");
                }
            }
            sql
        };
        pieces(rows).into_iter().map(insert).collect()
    }

    fn update<'t>(
        tx: &'t mut Tx<Self>,
        table: &'static Table,
        rows: &'t [(i64, Row)],
    ) -> BoxFuture<'t, Result<u64, EngineError>> {
        match rows {
            [(version, row)] => update_one(tx, table, *version, row).boxed(),
            rows => update_many(tx, table, rows).boxed(),
        }
    }

    fn fetch<'c>(
        connection: &'c mut MySqlConnection,
        query: Query<'static, MySql, MySqlArguments>,
    ) -> BoxFuture<'c, Result<Vec<MySqlRow>, sqlx::Error>> {
        query.fetch_all(connection).boxed()
    }

    fn execute<'c>(
        connection: &'c mut MySqlConnection,
        query: Query<'static, MySql, MySqlArguments>,
    ) -> BoxFuture<'c, Result<u64, sqlx::Error>> {
        // The connection counts rows that were found (CLIENT_FOUND_ROWS), not only those that became different.
        async move { Ok(query.execute(connection).await?.rows_affected()) }.boxed()
    }

    fn command<'c>(
        connection: &'c mut MySqlConnection,
        text: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        async move { connection.execute(text).await.map(drop) }.boxed()
    }

    /// Transactions of one domain are committed in their order, however many threads apply them; those of several are not.
    fn replica_fault<'c>(
        connection: &'c mut MySqlConnection,
    ) -> BoxFuture<'c, Result<Option<String>, sqlx::Error>> {
        const SETTINGS: &str =
            "SELECT @@GLOBAL.slave_parallel_threads, @@GLOBAL.slave_parallel_mode, @@GLOBAL.gtid_slave_pos";
        async move {
            let row = sqlx::query(SETTINGS).fetch_one(connection).await?;
            let (threads, mode, place): (i64, String, String) =
                (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?, row.try_get_unchecked(2)?);
            Ok(out_of_order(threads, &mode, &place))
        }
        .boxed()
    }

    fn hold<'c>(
        connection: &'c mut MySqlConnection,
        name: &'c str,
    ) -> BoxFuture<'c, Result<bool, sqlx::Error>> {
        async move {
            let lock = "SELECT GET_LOCK(CONCAT('greenroom.', SHA1(CONCAT(DATABASE(), '.', ?))), 0)";
            let got: Option<i64> =
                sqlx::query(lock).bind(name.to_owned()).fetch_one(connection).await?.try_get(0)?;
            Ok(got == Some(1))
        }
        .boxed()
    }
}

/// What is wrong with a replica of these settings; `place` is how far it is in each domain: `0-1-4711,1-2-17`.
fn out_of_order(threads: i64, mode: &str, place: &str) -> Option<String> {
    let domains: HashSet<&str> =
        place.split(',').filter_map(|it| it.trim().split_once('-')).map(|it| it.0).collect();
    (threads > 0 && mode != "none" && domains.len() > 1).then(|| {
        format!(
            "this replica applies {} domains side by side (slave_parallel_threads={threads}), so that a later transaction may be seen \
            without an earlier one: set slave_parallel_threads=0 on it, or one gtid_domain_id for all that write to the primary and \
            gtid_slave_pos without the others",
            domains.len()
        )
    })
}

async fn update_one(
    tx: &mut Tx<MySql>,
    table: &'static Table,
    version: i64,
    row: &Row,
) -> Result<u64, EngineError> {
    let (key, expected) = (table.columns[0].0, Value::Int(version));
    let mut sql = Sql::new(SQL, table, "UPDATE ");
    sql.name(table.name).push(" SET ");
    for (i, (column, _)) in table.columns.iter().enumerate().skip(1) {
        sql.push(if i > 1 { ", " } else { "" }).name(column).push(" = ").bind(column, &row[i]);
    }
    sql.push(" WHERE ").name(key).push(" = ").bind(key, &row[0]);
    sql.push(" AND ").name("version").push(" = ").bind("version", &expected);
    tx.execute(sql).await
}

/// Locks the rows, looks at their versions, and replaces those that have the expected one: two statements for any number of rows.
/// (One statement over a joined list of rows would do, had its columns not the length of the text in the first.)
async fn update_many(
    tx: &mut Tx<MySql>,
    table: &'static Table,
    rows: &[(i64, Row)],
) -> Result<u64, EngineError> {
    let keys = [Cond::In(table.columns[0].0, rows.iter().map(|(_, row)| row[0].clone()).collect())];
    let mut sql = Sql::new(SQL, table, "SELECT ");
    sql.name(table.columns[0].0).push(", ").name("version").push(" FROM ").name(table.name);
    sql.filter(&keys).push(" FOR UPDATE");
    let found: Result<HashMap<i64, i64>, sqlx::Error> =
        tx.fetch(sql).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect();
    let found = found.map_err(|error| EngineError::Damaged(error.to_string()))?;
    let as_expected =
        |(version, row): &&(i64, Row)| matches!(&row[0], Value::Int(key) if found.get(key) == Some(version));
    let rows: Vec<Row> = rows.iter().filter(as_expected).map(|(_, row)| row.clone()).collect();
    for sql in MySql::inserts(table, &rows, true) {
        tx.execute(sql).await?;
    }
    Ok(rows.len() as u64)
}
