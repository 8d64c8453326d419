//! The PostgreSQL engine. Rows travel as arrays of columns (`unnest`), so a statement of any number of rows has one text.

use std::str::FromStr;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::error::DatabaseError;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, Postgres, Row as _};

use super::gate::{DATABASE, Gate};
use super::replica::ReplicaLink;
use super::server::{Kind, Link, Server, Tx, WRITERS, engine, of_filled};
use super::sql::{Bound, Dialect, Sql};
use super::*;
use crate::options::DatabaseOptions;

const SQL: Dialect = Dialect::Postgres;

/// How to connect to a url; `migrating` without limits of time on statements.
pub fn connect_options(
    url: &str,
    options: &DatabaseOptions,
    migrating: bool,
) -> Result<PgConnectOptions, EngineError> {
    let bad = |_| EngineError::Rejected("the database url is not understood".into());
    let mut connect = PgConnectOptions::from_str(url).map_err(bad)?;
    if let Some(password) = &options.password {
        connect = connect.password(password);
    }
    connect = connect.application_name("greenroom").statement_cache_capacity(512).disable_statement_logging();
    let ms = |time: std::time::Duration| time.as_millis().to_string();
    Ok(connect.options([
        ("statement_timeout", if migrating { "0".into() } else { ms(options.statement_timeout) }),
        ("jit", "off".into()),
        ("lock_timeout", ms(options.lock_timeout)),
        ("idle_in_transaction_session_timeout", ms(options.idle_transaction_timeout)),
    ]))
}

/// Writers find rows by their keys, always: a plan that is made anew for each statement, or one that scans a table because it is
/// small yet or its statistics are old, costs more than the work.
fn by_key(connect: PgConnectOptions) -> PgConnectOptions {
    connect.options([
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ])
}

/// What every connection is prepared with: a commit that is answered is on the disk, whatever the server's default is.
async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    connection
        .execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'",
        )
        .await?;
    Ok(())
}

/// A PostgreSQL database.
pub struct PostgresEngine(pub Link<Postgres>);

impl PostgresEngine {
    /// Prepares the pools; connects when it is asked.
    pub fn new(options: &DatabaseOptions) -> Result<Self, EngineError> {
        let connect = connect_options(&options.url, options, false)?;
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections.max(1))
                .acquire_timeout(options.connect_timeout)
                .test_before_acquire(false)
                .after_connect(|connection, _| Box::pin(prepare(connection)))
        };
        let statement = options.statement_timeout + std::time::Duration::from_secs(1);
        let replica = match &options.read_url {
            Some(url) => {
                let connect = connect_options(url, options, false)?;
                let pool = pool(options.read_connections).connect_lazy_with(connect.clone());
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
            writers: pool(WRITERS).connect_lazy_with(by_key(connect.clone())),
            readers: pool(options.read_connections).connect_lazy_with(connect.clone()),
            replica,
            gate,
            connect: options.connect_timeout,
            statement,
            options: connect,
        }))
    }
}

engine!(PostgresEngine);

/// A text as PostgreSQL takes it, which knows no zero character.
fn text(text: &str) -> std::borrow::Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

impl Server for Postgres {
    const DIALECT: Dialect = SQL;
    const BEGIN_READ: &'static str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
    const BEGIN_WRITE: &'static str = "BEGIN ISOLATION LEVEL READ COMMITTED";
    const WAS_FILLED: &'static [&'static str] =
        &["SET statement_timeout = 0", of_filled!("VACUUM (ANALYZE)")];
    const SUM: (&'static str, &'static str) = ("coalesce(sum(", "), 0)::bigint");

    const NOW: &'static str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

    fn kind(error: &dyn DatabaseError) -> Kind {
        let code = error.code().unwrap_or_default();
        match (&*code, code.get(..2).unwrap_or_default()) {
            // Serialization failure, deadlock.
            ("40001" | "40P01", _) => Kind::Conflict,
            // Lock not available, object in use; a statement that took too long; a standby.
            ("55P03" | "55006" | "57014" | "25006" | "25P02" | "25P03", _) => Kind::Unavailable,
            // Connections, resources, the operator, the system, who may connect, no such database.
            (_, "08" | "53" | "57" | "58" | "28" | "3D") => Kind::Unavailable,
            (_, "XX") => Kind::Damaged,
            _ => Kind::Rejected,
        }
    }

    fn query(sql: Sql<'_>) -> Query<'static, Postgres, PgArguments> {
        let mut query = sqlx::query(AssertSqlSafe(sql.text));
        for bound in sql.values {
            query = match bound {
                Bound::One(Value::Int(v), _) => query.bind(*v),
                Bound::One(Value::Text(v), _) => query.bind(text(v).into_owned()),
                Bound::One(Value::Blob(v), _) => query.bind(v.to_vec()),
                Bound::One(Value::Null, ColumnType::Int) => query.bind(None::<i64>),
                Bound::One(Value::Null, ColumnType::Text) => query.bind(None::<String>),
                Bound::One(Value::Null, ColumnType::Blob) => query.bind(None::<Vec<u8>>),
                Bound::Many(values, ColumnType::Int) => {
                    let int = |v: &&Value| if let Value::Int(v) = v { Some(*v) } else { None };
                    query.bind(values.iter().map(int).collect::<Vec<Option<i64>>>())
                }
                Bound::Many(values, ColumnType::Text) => {
                    let of =
                        |v: &&Value| if let Value::Text(v) = v { Some(text(v).into_owned()) } else { None };
                    query.bind(values.iter().map(of).collect::<Vec<Option<String>>>())
                }
                Bound::Many(values, ColumnType::Blob) => {
                    let of = |v: &&Value| if let Value::Blob(v) = v { Some(v.to_vec()) } else { None };
                    query.bind(values.iter().map(of).collect::<Vec<Option<Vec<u8>>>>())
                }
            };
        }
        query
    }

    fn read_row(table: &Table, row: &PgRow) -> Result<Row, sqlx::Error> {
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

    fn read_number(row: &PgRow) -> Result<Option<i64>, sqlx::Error> {
        row.try_get_unchecked(0)
    }

    fn inserts<'v>(table: &'static Table, rows: &'v [Row], replace: bool) -> Vec<Sql<'v>> {
        if rows.is_empty() {
            return Vec::new();
        }
        let mut sql = Sql::new(SQL, table, "INSERT INTO ");
        sql.name(table.name).push(" (").columns().push(") SELECT * FROM ");
        unnest(&mut sql, table, |column| rows.iter().map(|row| &row[column]).collect(), None);
        if replace {
            sql.push(" ON CONFLICT (");
            for (i, (key, _)) in table.columns[..table.key].iter().enumerate() {
                sql.push(if i > 0 { ", " } else { "" }).name(key);
            }
            sql.push(") DO UPDATE SET ");
            for (i, (column, _)) in table.columns[table.key..].iter().enumerate() {
                sql.push(if i > 0 { ", " } else { "" }).name(column).push(" = excluded.").name(column);
            }
        }
        vec![sql]
    }

    fn update<'t>(
        tx: &'t mut Tx<Self>,
        table: &'static Table,
        rows: &'t [(i64, Row)],
    ) -> BoxFuture<'t, Result<u64, EngineError>> {
        async move {
            let expected: Vec<Value> = rows.iter().map(|(version, _)| Value::Int(*version)).collect();
            tx.execute(update(table, rows, &expected)).await
        }
        .boxed()
    }

    fn fetch<'c>(
        connection: &'c mut PgConnection,
        query: Query<'static, Postgres, PgArguments>,
    ) -> BoxFuture<'c, Result<Vec<PgRow>, sqlx::Error>> {
        query.fetch_all(connection).boxed()
    }

    fn execute<'c>(
        connection: &'c mut PgConnection,
        query: Query<'static, Postgres, PgArguments>,
    ) -> BoxFuture<'c, Result<u64, sqlx::Error>> {
        async move { Ok(query.execute(connection).await?.rows_affected()) }.boxed()
    }

    fn command<'c>(
        connection: &'c mut PgConnection,
        text: &'static str,
    ) -> BoxFuture<'c, Result<(), sqlx::Error>> {
        async move { connection.execute(text).await.map(drop) }.boxed()
    }

    /// A standby applies the log of its primary in order. Subscriptions apply what they get each for itself.
    fn replica_fault<'c>(
        connection: &'c mut PgConnection,
    ) -> BoxFuture<'c, Result<Option<String>, sqlx::Error>> {
        const SUBSCRIPTIONS: &str = "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE (SELECT count(*) FROM pg_subscription \
            WHERE subenabled AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) END";
        async move {
            let count: i64 = sqlx::query_scalar(SUBSCRIPTIONS).fetch_one(connection).await?;
            Ok((count > 1).then(|| {
                format!(
                    "{count} subscriptions feed this replica, each at its own pace, so that a later transaction may be seen without an earlier one: \
                    feed it by one subscription to all tables, or make it a standby (streaming replication)"
                )
            }))
        }
        .boxed()
    }

    fn hold<'c>(connection: &'c mut PgConnection, name: &'c str) -> BoxFuture<'c, Result<bool, sqlx::Error>> {
        let lock = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '.' || $1, 7246))";
        sqlx::query_scalar(lock).bind(name.to_owned()).fetch_one(connection).boxed()
    }
}

fn update<'v>(table: &'static Table, rows: &'v [(i64, Row)], expected: &'v [Value]) -> Sql<'v> {
    let key = table.columns[0].0;
    let mut sql = Sql::new(SQL, table, "UPDATE ");
    sql.name(table.name).push(" SET ");
    for (i, (column, _)) in table.columns[1..].iter().enumerate() {
        sql.push(if i > 0 { ", " } else { "" }).name(column).push(" = v.").name(column);
    }
    sql.push(" FROM ");
    unnest(&mut sql, table, |column| rows.iter().map(|(_, row)| &row[column]).collect(), Some(expected));
    sql.push(" AS v (").columns().push(", expected) WHERE ");
    sql.name(table.name).push(".").name(key).push(" = v.").name(key);
    sql.push(" AND ").name(table.name).push(".version = v.expected");
    sql
}

/// `unnest($1::bigint[], $2::text[], …)`: the columns of some rows, and one more of integers.
fn unnest<'v>(
    sql: &mut Sql<'v>,
    table: &'static Table,
    column: impl Fn(usize) -> Vec<&'v Value>,
    more: Option<&'v [Value]>,
) {
    sql.push("unnest(");
    for (i, (_, ty)) in table.columns.iter().enumerate() {
        sql.push(if i > 0 { ", " } else { "" }).bind_array(*ty, column(i));
    }
    if let Some(more) = more {
        sql.push(", ").bind_array(ColumnType::Int, more.iter().collect());
    }
    sql.push(")");
}
