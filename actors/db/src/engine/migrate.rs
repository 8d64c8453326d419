//! Bringing a database's schema up to date: the same steps on every engine, safe to be killed anywhere and run again.
//!
//! On SQLite and PostgreSQL a step is one transaction. MariaDB commits each statement that changes tables by itself; there each
//! statement does no harm when it is repeated, and a step that was broken off is done again from its beginning.

use std::time::Duration;

use sqlx::migrate::{Migration as Step, MigrationType, Migrator};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor, SqlStr};
use tokio::time::Instant;

use super::EngineError;
use super::{mariadb, postgres};
use crate::options::DatabaseOptions;

/// How long a process waits until another has migrated the database, and how often it looks.
const LOCK_WITHIN: Duration = Duration::from_secs(24 * 3600);
const LOCK_AGAIN: Duration = Duration::from_millis(200);
const LOCKED: &str = "another process migrates the database, and has done so for a day";

/// Migrations: number, name, text. Append only.
pub type Migrations = [(i64, &'static str, &'static str)];

/// The folders of `migrations/` go side by side: a number means the same on every engine.
macro_rules! steps {
    ($($file:literal),* $(,)?) => {
        pub const SQLITE: &Migrations =
            &[$((number($file), $file, include_str!(concat!("../../../../migrations/sqlite/", $file, ".sql")))),*];
        pub const POSTGRES: &Migrations =
            &[$((number($file), $file, include_str!(concat!("../../../../migrations/postgres/", $file, ".sql")))),*];
        pub const MARIADB: &Migrations =
            &[$((number($file), $file, include_str!(concat!("../../../../migrations/mariadb/", $file, ".sql")))),*];
    };
}

// A new step: a file in each of the three folders, and its name here.
steps!(
    "0001_first",
    "0002_configurations",
    "0003_notifiers",
    "0004_views",
    "0005_retention",
    "0006_audit",
    "0007_totals",
    "0008_log_objects",
    "0009_event_cuts"
);

/// Log text beside a SQLite file; elsewhere it has tables in the database.
pub const SQLITE_LOGS: &Migrations = &[
    (1, "0001_first", include_str!("../../../../migrations/sqlite-logs/0001_first.sql")),
    (2, "0002_objects", include_str!("../../../../migrations/sqlite-logs/0002_objects.sql")),
];

/// The number that a file's name begins with.
const fn number(file: &str) -> i64 {
    let (bytes, mut i, mut n) = (file.as_bytes(), 0, 0);
    while i < bytes.len() && bytes[i].is_ascii_digit() {
        n = n * 10 + (bytes[i] - b'0') as i64;
        i += 1;
    }
    n
}

/// How far to go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upto {
    /// Not past this version; none: all.
    pub version: Option<i64>,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What was, or would be, done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Migrated {
    /// The version before.
    pub before: i64,
    /// The version after.
    pub after: i64,
    /// The steps between them: number and name.
    pub steps: Vec<(i64, &'static str)>,
}

/// Why a database is none of ours.
#[derive(Debug)]
pub enum SchemaError {
    /// (found, known)
    Newer(i64, i64),
    /// (wanted, found): there is no way back.
    Back(i64, i64),
    Engine(EngineError),
}

impl From<EngineError> for SchemaError {
    fn from(error: EngineError) -> Self {
        SchemaError::Engine(error)
    }
}

fn unavailable(error: impl std::fmt::Display) -> SchemaError {
    SchemaError::Engine(EngineError::Unavailable(error.to_string()))
}

/// What is to be done to a database of this version.
pub fn plan(known: &Migrations, found: i64, upto: Upto) -> Result<Migrated, SchemaError> {
    let newest = known.iter().map(|m| m.0).max().unwrap_or(0);
    let wanted = upto.version.unwrap_or(newest).min(newest);
    if found > newest {
        return Err(SchemaError::Newer(found, newest));
    }
    if found > wanted {
        return Err(SchemaError::Back(wanted, found));
    }
    let steps: Vec<_> =
        known.iter().map(|m| (m.0, m.1)).filter(|(n, _)| (found + 1..=wanted).contains(n)).collect();
    let after = steps.iter().map(|s| s.0).max().unwrap_or(found);
    Ok(Migrated { before: found, after, steps })
}

fn migrator(known: &Migrations, stall: &str) -> Migrator {
    let step = |(n, name, sql): &(i64, &'static str, &'static str)| {
        let text = rehearsal::cut(*n, sql, stall).unwrap_or_else(|| SqlStr::from_static(sql));
        Step::new(*n, (*name).into(), MigrationType::Simple, text, false)
    };
    let mut migrator = Migrator::with_migrations(known.iter().map(step).collect());
    migrator.set_locking(false); // SQLx's lock is one for all schemas of a database; ours are below
    migrator
}

/// Rehearsing kills, in debug builds alone: `GREENROOM_REHEARSE_KILL=STEP:STATEMENTS` sends only so many statements of that step, and then
/// one that does not end, so that a test can kill the process right there.
pub mod rehearsal {
    use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

    use super::Migrations;

    const VARIABLE: &str = "GREENROOM_REHEARSE_KILL";

    /// The statements of a step; their texts hold no semicolons.
    pub fn statements(sql: &str) -> Vec<String> {
        let plain: Vec<&str> = sql.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
        plain.join("\n").split(';').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
    }

    /// How many statements each step has: number, statements.
    pub fn counts(known: &Migrations) -> Vec<(i64, usize)> {
        known.iter().map(|(n, _, sql)| (*n, statements(sql).len())).collect()
    }

    /// The text that stands for a step in a rehearsal.
    pub(super) fn cut(step: i64, sql: &str, stall: &str) -> Option<SqlStr> {
        if !cfg!(debug_assertions) {
            return None;
        }
        let wanted = std::env::var(VARIABLE).ok()?;
        let (of, count) = wanted.split_once(':')?;
        if of.parse() != Ok(step) {
            return None;
        }
        let mut sent = statements(sql);
        sent.truncate(count.parse().ok()?);
        sent.push(stall.to_owned());
        // Servers show the beginning of what they do.
        let text = format!("/* process {} */ {}", std::process::id(), sent.join(";\n"));
        Some(AssertSqlSafe(text).into_sql_str())
    }
}

macro_rules! up {
    ($(#[$doc:meta])* $name:ident, $connection:ty, $exists:literal, $stall:literal) => {
        $(#[$doc])*
        pub async fn $name(
            connection: &mut $connection,
            known: &Migrations,
            upto: Upto,
        ) -> Result<Migrated, SchemaError> {
            let exists: i64 =
                sqlx::query_scalar($exists).fetch_one(&mut *connection).await.map_err(unavailable)?;
            let version = "SELECT coalesce(max(version), 0) FROM _sqlx_migrations WHERE success";
            let found: i64 = match exists {
                0 => 0,
                _ => sqlx::query_scalar(version).fetch_one(&mut *connection).await.map_err(unavailable)?,
            };
            let plan = plan(known, found, upto)?;
            if !upto.dry_run && !plan.steps.is_empty() {
                let done = migrator(known, $stall).run_direct(Some(plan.after), connection, false).await;
                done.map_err(|error| EngineError::Rejected(format!("migration: {error}")))?;
            }
            Ok(plan)
        }
    };
}

up!(
    /// Migrates a SQLite file.
    sqlite,
    SqliteConnection,
    "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'",
    "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT count(*) FROM endless"
);
up!(
    postgres_up,
    PgConnection,
    "SELECT count(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = '_sqlx_migrations'",
    "SELECT pg_sleep(600)"
);
up!(
    mariadb_up,
    MySqlConnection,
    "SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = '_sqlx_migrations'",
    "DO SLEEP(600)"
);

/// Migrates a PostgreSQL database.
pub async fn postgres(options: &DatabaseOptions, upto: Upto) -> Result<Migrated, SchemaError> {
    let connect = postgres::connect_options(&options.url, options, true)?;
    let mut connection = connected(options, PgConnection::connect_with(&connect)).await?;
    let encoding: String =
        sqlx::query_scalar("SHOW server_encoding").fetch_one(&mut connection).await.map_err(unavailable)?;
    if encoding != "UTF8" {
        let why = format!("the database's encoding is {encoding}, it must be UTF8");
        return Err(EngineError::Rejected(why).into());
    }
    let done = postgres_alone(&mut connection, upto).await;
    connection.close().await.ok(); // and with it the lock, also after a failure
    done
}

/// Under a lock that is asked for again and again: waiting for it has no other bound than that of [`LOCK_WITHIN`], while a
/// statement of a step may wait for others' locks for `lock-timeout` only.
async fn postgres_alone(connection: &mut PgConnection, upto: Upto) -> Result<Migrated, SchemaError> {
    let lock = "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || '.schema', 7246))";
    let begun = Instant::now();
    let mut told = false;
    while !upto.dry_run
        && !sqlx::query_scalar::<_, bool>(lock).fetch_one(&mut *connection).await.map_err(unavailable)?
    {
        if begun.elapsed() > LOCK_WITHIN {
            return Err(unavailable(LOCKED));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!("another process migrates the database: this one waits for it");
        }
        tokio::time::sleep(LOCK_AGAIN).await;
    }
    postgres_up(connection, POSTGRES, upto).await
}

/// Migrates a MariaDB database.
pub async fn mariadb(options: &DatabaseOptions, upto: Upto) -> Result<Migrated, SchemaError> {
    let connect = mariadb::connect_options(&options.url, options)?;
    let mut connection = connected(options, MySqlConnection::connect_with(&connect)).await?;
    let version: String =
        sqlx::query_scalar("SELECT version()").fetch_one(&mut connection).await.map_err(unavailable)?;
    if !version.contains("MariaDB") {
        let why = format!("the server is no MariaDB (it says {version:?}); MySQL is not supported");
        return Err(EngineError::Rejected(why).into());
    }
    let prepare = mariadb::preparation(options, true, true);
    connection.execute(sqlx::AssertSqlSafe(prepare)).await.map_err(unavailable)?;
    let done = mariadb_settled(&mut connection, MARIADB, upto).await;
    connection.close().await.ok();
    done
}

/// Under a lock of our own: a step that was broken off leaves a mark, which says that it is to be done again.
pub async fn mariadb_settled(
    connection: &mut MySqlConnection,
    known: &Migrations,
    upto: Upto,
) -> Result<Migrated, SchemaError> {
    if !upto.dry_run {
        let lock = "SELECT GET_LOCK(CONCAT('greenroom-schema.', SHA1(DATABASE())), ?)";
        let lock = sqlx::query_scalar::<_, Option<i64>>(lock).bind(LOCK_WITHIN.as_secs());
        if lock.fetch_one(&mut *connection).await.map_err(unavailable)? != Some(1) {
            return Err(unavailable(LOCKED));
        }
        let marks = "SELECT count(*) FROM information_schema.tables \
            WHERE table_schema = database() AND table_name = '_sqlx_migrations'";
        let exists: i64 = sqlx::query_scalar(marks).fetch_one(&mut *connection).await.map_err(unavailable)?;
        if exists > 0 {
            let again =
                sqlx::query("DELETE FROM _sqlx_migrations WHERE NOT success").execute(&mut *connection);
            if again.await.map_err(unavailable)?.rows_affected() > 0 {
                tracing::info!("a migration that was broken off is done again");
            }
        }
    }
    mariadb_up(connection, known, upto).await
}

async fn connected<C>(
    options: &DatabaseOptions,
    connecting: impl Future<Output = Result<C, sqlx::Error>>,
) -> Result<C, SchemaError> {
    match tokio::time::timeout(options.connect_timeout, connecting).await {
        Ok(connection) => connection.map_err(unavailable),
        Err(_) => Err(unavailable("the server does not answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &Migrations = &[(1, "0001_a", ""), (2, "0002_b", ""), (4, "0004_d", "")];

    fn upto(version: Option<i64>) -> Upto {
        Upto { version, dry_run: false }
    }

    #[test]
    fn a_plan_goes_forward_only() {
        let steps = |found, version| plan(SOME, found, upto(version)).map(|m| (m.after, m.steps.len())).ok();
        assert_eq!(steps(0, None), Some((4, 3)));
        assert_eq!(steps(0, Some(2)), Some((2, 2)));
        assert_eq!(steps(2, Some(3)), Some((2, 0)));
        assert_eq!(steps(2, None), Some((4, 1)));
        assert_eq!(steps(4, Some(9)), Some((4, 0)));
        assert!(matches!(plan(SOME, 5, upto(None)), Err(SchemaError::Newer(5, 4))));
        assert!(matches!(plan(SOME, 4, upto(Some(2))), Err(SchemaError::Back(2, 4))));
    }

    #[test]
    fn steps_are_numbered_without_gaps() {
        let numbers: Vec<i64> = SQLITE.iter().map(|m| m.0).collect();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    }

    /// MariaDB has no transaction around a step: what is repeated must do no harm.
    #[test]
    fn each_statement_of_mariadb_can_be_repeated() {
        for (_, name, text) in MARIADB {
            for statement in rehearsal::statements(text) {
                let first = statement.split('\n').next().unwrap_or_default();
                let harmless = ["IF NOT EXISTS", "IF EXISTS", "OR REPLACE"].iter().any(|w| first.contains(w));
                assert!(harmless, "{name}: {first}");
            }
        }
    }
}
