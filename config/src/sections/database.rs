//! `[database]`: where builds, logs and events are kept.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::extract::{Parts, Report};
use crate::fault::Fault;
use crate::values::{Duration, Secret, serde_fault, url_passwords};

/// The `[database]` section. What stands after `url` concerns servers: PostgreSQL and MariaDB.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Database {
    /// Which engine, and where: `sqlite://FILE` (relative to `data-dir`), `postgres://USER@HOST/DATABASE`,
    /// `mariadb://USER@HOST/DATABASE`, or `memory:`.
    pub url: DatabaseUrl,
    /// A replica of the database, which answers reads of history as long as it is not behind.
    pub read_url: Option<DatabaseUrl>,
    /// The user's password, if it does not stand in the urls.
    pub password: Option<Secret>,
    /// How many connections read at the same time; 8 unless set. Three more write.
    pub read_connections: Option<NonZeroU32>,
    /// How long a connection to the server is waited for, by each try of a write also while it is away (10 s at most); 5 s unless set.
    pub connect_timeout: Option<Duration>,
    /// How long one statement may take; 30 s unless set.
    pub statement_timeout: Option<Duration>,
    /// How long a statement waits for what another master has locked; 5 s unless set.
    pub lock_timeout: Option<Duration>,
    /// After so long without a statement the server ends a transaction of a master that was paused in it; 10 s unless set.
    pub idle_transaction_timeout: Option<Duration>,
}

/// A database, named by a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite://PATH`: one file. After loading, a relative path has been joined to `data-dir`.
    Sqlite(PathBuf),
    /// `memory:`: nothing outlives the process; for tests and trials.
    Memory,
    /// `postgres://…` or `mariadb://…` (`postgresql://…`, `mysql://…`). It may hold a password.
    Server(Secret),
}

impl DatabaseUrl {
    /// Joins a relative SQLite path to the data directory.
    pub(crate) fn resolve(&mut self, data_dir: &Path) {
        if let DatabaseUrl::Sqlite(path) = self {
            *path = data_dir.join(&*path);
        }
    }
}

/// Takes the text, or a secret that is the whole url.
impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UrlVisitor)
    }
}

struct UrlVisitor;

impl<'de> Visitor<'de> for UrlVisitor {
    type Value = DatabaseUrl;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a database url such as \"sqlite://greenroom.db\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<DatabaseUrl, E> {
        if text == "memory:" {
            return Ok(DatabaseUrl::Memory);
        }
        match text.strip_prefix("sqlite://") {
            Some("") => Err(serde_fault("the sqlite url names no file", "write \"sqlite://greenroom.db\"")),
            Some(path) => Ok(DatabaseUrl::Sqlite(PathBuf::from(path))),
            // What has no password may be shown.
            None if url_passwords(text).is_empty() => server(Secret::new(text)),
            None => server(Secret::deserialize(StrDeserializer::new(text))?),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<DatabaseUrl, A::Error> {
        let url = Secret::deserialize(MapAccessDeserializer::new(table))?;
        server(url)
    }
}

/// The url of a server, if it is one.
fn server<E: Error>(url: Secret) -> Result<DatabaseUrl, E> {
    let Some((scheme, rest)) = url.expose().split_once("://") else { return Err(unknown()) };
    if !["postgres", "postgresql", "mariadb", "mysql"].contains(&scheme) {
        return Err(unknown());
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let database = path.split('?').next().unwrap_or_default();
    if host.is_empty() || database.is_empty() {
        return Err(serde_fault(
            "the database url names no server or no database",
            "write \"postgres://USER@HOST/DATABASE\" or \"mariadb://USER@HOST/DATABASE\"",
        ));
    }
    Ok(DatabaseUrl::Server(url))
}

fn unknown<E: Error>() -> E {
    serde_fault(
        "not a database this version knows",
        "use \"sqlite://FILE\" (relative to data-dir), \"postgres://USER@HOST/DATABASE\", \"mariadb://USER@HOST/DATABASE\" \
         or \"memory:\"",
    )
}

/// The settings of `[database]` that are times; none may be zero.
const DATABASE_TIMES: [&str; 4] =
    ["connect-timeout", "statement-timeout", "lock-timeout", "idle-transaction-timeout"];

/// What no value can check alone.
pub(crate) fn check(parts: &Parts, report: &mut Report<'_>) {
    let Some(database) = &parts.database else { return };
    if let Some(fault) = database.read_url.as_ref().and_then(|replica| replica_fault(&database.url, replica))
    {
        report.push(&at("read-url"), false, fault);
    }
    let times = [
        database.connect_timeout,
        database.statement_timeout,
        database.lock_timeout,
        database.idle_transaction_timeout,
    ];
    for (key, _) in DATABASE_TIMES
        .iter()
        .zip(times)
        .filter(|(_, time)| time.is_some_and(|time| time.get().as_millis() == 0))
    {
        let fault = Fault::error("bad-value", format!("`{key}` cannot be zero"))
            .help("leave it out, or write a time such as \"5s\"");
        report.push(&at(key), false, fault);
    }
    if !matches!(database.url, DatabaseUrl::Server(_)) {
        of_servers_only(report);
    }
}

/// What is wrong with a replica of this database.
fn replica_fault(database: &DatabaseUrl, replica: &DatabaseUrl) -> Option<Fault> {
    match (database, replica) {
        (DatabaseUrl::Server(database), DatabaseUrl::Server(replica))
            if is_postgres(database) != is_postgres(replica) =>
        {
            Some(
                Fault::error("bad-value", "a replica is of the same kind as its database")
                    .help("use the url of a replica of the server that `url` names"),
            )
        }
        (_, DatabaseUrl::Server(_)) => None,
        _ => Some(
            Fault::error("bad-value", "a replica is a server's")
                .help("use the url of a PostgreSQL or MariaDB replica"),
        ),
    }
}

fn is_postgres(url: &Secret) -> bool {
    url.expose().starts_with("postgres")
}

/// What concerns servers only does nothing for a file.
fn of_servers_only(report: &mut Report<'_>) {
    let others = ["read-url", "password", "read-connections"].into_iter().chain(DATABASE_TIMES);
    for key in others.filter(|key| report.is_set(&at(key))).collect::<Vec<_>>() {
        let message = format!("`{key}` concerns database servers; this database is none");
        let fault =
            Fault::warning("no-effect", message).help("leave it out, or use a postgres:// or mariadb:// url");
        report.push(&at(key), true, fault);
    }
}

fn at(key: &str) -> [String; 2] {
    ["database", key].map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<DatabaseUrl, String> {
        serde_json::from_str(&serde_json::to_string(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_name_an_engine_and_no_password_is_shown() {
        assert_eq!(read("memory:"), Ok(DatabaseUrl::Memory));
        assert_eq!(read("sqlite://a/b.db"), Ok(DatabaseUrl::Sqlite("a/b.db".into())));
        for url in
            ["postgres://green:hunter2@db/green", "mysql://green:hunter2@db:3306/green?sslmode=required"]
        {
            let read = read(url).unwrap();
            assert!(matches!(&read, DatabaseUrl::Server(it) if it.expose() == url));
            assert!(!format!("{read:?}").contains("hunter2"));
        }
        for wrong in [
            "",
            "sqlite://",
            "postgres://",
            "postgres://db",
            "mariadb:///green",
            "oracle://db/x",
            "postgres:db",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
