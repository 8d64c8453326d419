//! Schemas of servers: killed at any statement and run again, told beforehand, stopped on the way, newer ones refused.

use std::time::Duration;

use greenroom_db::{DatabaseOptions, OpenError, Store, Upto, migrate, migrate_to};
use greenroom_model::Timestamp;
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, Row};

use crate::databases::fresh;

const MARIADB: &str = include_str!("../../../../migrations/mariadb/0001_first.sql");
const POSTGRES: &str = include_str!("../../../../migrations/postgres/0001_first.sql");

fn dir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn statements(text: &str) -> Vec<String> {
    let plain: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    plain.join("\n").split(';').map(|s| s.trim().to_owned()).filter(|s| !s.is_empty()).collect()
}

async fn mariadb(url: &str) -> MySqlConnection {
    MySqlConnection::connect(&url.replacen("mariadb://", "mysql://", 1)).await.unwrap()
}

/// All columns and indexes, as the server tells them.
async fn shape(url: &str) -> Vec<String> {
    let columns = "SELECT CONCAT_WS(' ', table_name, column_name, column_type, is_nullable, collation_name) AS s \
        FROM information_schema.columns WHERE table_schema = database() \
        UNION ALL SELECT CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name, sub_part, non_unique) \
        FROM information_schema.statistics WHERE table_schema = database() ORDER BY s";
    let rows = mariadb(url).await.fetch_all(columns).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

#[actix_rt::test]
async fn mariadb_migrations_may_be_killed_at_any_statement() {
    let whole = fresh("mariadb");
    let (before, newest) = migrate(whole.as_str(), dir().path()).await.unwrap();
    assert_eq!(before, 0);
    let wanted = shape(&whole).await;
    assert!(wanted.len() > 200, "{}", wanted.len());
    let all = statements(MARIADB);
    for killed_after in (0..=all.len()).step_by(3).chain([all.len()]) {
        let url = fresh("mariadb");
        // What a migrator leaves that is killed there: its own table, the mark of the step, and the statements so far.
        assert_eq!(
            migrate_to(url.as_str(), dir().path(), Upto { version: Some(0), dry_run: false })
                .await
                .unwrap()
                .after,
            0
        );
        let mut raw = mariadb(&url).await;
        raw.execute(
            "CREATE TABLE _sqlx_migrations (version BIGINT PRIMARY KEY, description TEXT NOT NULL, \
            installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP, success BOOLEAN NOT NULL, \
            checksum BLOB NOT NULL, execution_time BIGINT NOT NULL)",
        )
        .await
        .unwrap();
        raw.execute("INSERT INTO _sqlx_migrations VALUES (1, '0001_first', now(), FALSE, '', -1)")
            .await
            .unwrap();
        for statement in &all[..killed_after] {
            raw.execute(AssertSqlSafe(statement.clone())).await.unwrap();
        }
        raw.close().await.unwrap();
        let again = migrate(url.as_str(), dir().path()).await.unwrap();
        assert_eq!(again, (0, newest), "killed after statement {killed_after}");
        assert!(shape(&url).await == wanted, "killed after statement {killed_after}");
    }
}

#[actix_rt::test]
async fn postgres_migrations_that_are_killed_leave_nothing() {
    let url = fresh("postgres");
    let all = statements(POSTGRES);
    for killed_after in [1, all.len() / 2, all.len()] {
        let mut raw = PgConnection::connect(&url).await.unwrap();
        raw.execute("BEGIN").await.unwrap();
        for statement in &all[..killed_after] {
            raw.execute(AssertSqlSafe(statement.clone())).await.unwrap();
        }
        drop(raw); // the connection of a killed process
    }
    let (before, newest) = migrate(url.as_str(), dir().path()).await.unwrap();
    assert!(before == 0 && newest > 0);
    assert_eq!(migrate(url.as_str(), dir().path()).await.unwrap(), (newest, newest));
}

async fn steps_are_told_taken_one_by_one_and_never_back(kind: &str) {
    let url = fresh(kind);
    let go = |version, dry_run| {
        migrate_to(url.as_str(), std::path::Path::new("/nowhere"), Upto { version, dry_run })
    };
    let told = go(None, true).await.unwrap();
    assert_eq!(go(None, true).await.unwrap(), told, "saying changes nothing");
    assert!(told.steps.len() > 1 && told.before == 0, "{told:?}");
    let first = go(Some(1), false).await.unwrap();
    assert_eq!((first.before, first.after, first.steps.len()), (0, 1, 1));
    let rest = go(None, false).await.unwrap();
    assert_eq!((rest.before, rest.after, &rest.steps[..]), (1, told.after, &told.steps[1..]));
    let back = go(Some(1), false).await;
    assert!(matches!(back, Err(OpenError::Back { wanted: 1, found }) if found == told.after), "{back:?}");
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (99, 'later', TRUE, '', 0)";
    match kind {
        "mariadb" => drop(mariadb(&url).await.execute(later).await.unwrap()),
        _ => drop(PgConnection::connect(&url).await.unwrap().execute(later).await.unwrap()),
    }
    let opened = Store::open(url.as_str(), dir().path(), "main", Timestamp(1)).await;
    assert!(
        matches!(opened, Err(OpenError::Newer { found: 99, known }) if known == told.after),
        "{opened:?}"
    );
}

#[actix_rt::test]
async fn postgres_steps_are_told_taken_one_by_one_and_never_back() {
    steps_are_told_taken_one_by_one_and_never_back("postgres").await;
}

#[actix_rt::test]
async fn mariadb_steps_are_told_taken_one_by_one_and_never_back() {
    steps_are_told_taken_one_by_one_and_never_back("mariadb").await;
}

/// Two programs that start together: one migrates, the other finds it done.
#[actix_rt::test]
async fn two_migrators_at_once_do_it_once() {
    for kind in ["postgres", "mariadb"] {
        let url = fresh(kind);
        let dir = dir();
        let answers = futures_util::future::join_all((0..3).map(|_| migrate(url.as_str(), dir.path()))).await;
        let newest = answers.iter().map(|a| a.as_ref().unwrap().1).max().unwrap();
        assert_eq!(migrate(url.as_str(), dir.path()).await.unwrap(), (newest, newest), "{answers:?}");
    }
}

/// However long another takes: `lock-timeout` is for single statements.
#[actix_rt::test]
async fn a_migrator_waits_for_another() {
    let url = fresh("postgres");
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("SELECT pg_advisory_lock(hashtextextended(current_schema() || '.schema', 7246))")
        .await
        .unwrap();
    let lock_timeout = Duration::from_millis(10);
    let options = DatabaseOptions { lock_timeout, ..url.as_str().into() };
    let dir = dir();
    let mut waiting = Box::pin(migrate(options, dir.path()));
    let early = tokio::time::timeout(30 * lock_timeout, &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    other.close().await.unwrap();
    let (before, after) = waiting.await.unwrap();
    assert!(before == 0 && after > 0);
}
