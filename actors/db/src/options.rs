//! Which database, and how it is connected to.

use std::fmt;
use std::time::Duration;

use crate::logs::{OBJECT, TextStore};

/// A database: its url and how patient we are with its server. From a text it is that url with the defaults.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseOptions {
    /// `memory:`, `sqlite://FILE`, `postgres://USER@HOST/DATABASE` or `mariadb://USER@HOST/DATABASE`.
    pub url: String,
    /// A replica that may answer reads of history; the same kind of url.
    pub read_url: Option<String>,
    /// The password, if it does not stand in the urls.
    pub password: Option<String>,
    /// Connections that read at the same time, of each server.
    pub read_connections: u32,
    /// How long a connection is waited for.
    pub connect_timeout: Duration,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// How long a statement waits for rows that another transaction has locked.
    pub lock_timeout: Duration,
    /// Where text of logs goes that has gathered.
    pub text: TextStore,
    /// A log's text leaves for it in pieces of so many bytes, and when the log has ended.
    pub object_bytes: usize,
    /// After so long without a statement the server ends a transaction of ours: a paused master holds nobody up.
    pub idle_transaction_timeout: Duration,
    /// How long a master that shares its database is taken for alive after it last told that it lives, by the database's clock.
    /// All masters of a database have the same.
    pub lease: Duration,
}

/// The lease of a master, if nothing else is said. It is renewed three times as often as need be.
pub const LEASE: Duration = Duration::from_secs(15);

impl From<String> for DatabaseOptions {
    fn from(url: String) -> Self {
        Self {
            url,
            read_url: None,
            password: None,
            read_connections: 8,
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(5),
            idle_transaction_timeout: Duration::from_secs(10),
            text: TextStore::Database,
            object_bytes: OBJECT,
            lease: LEASE,
        }
    }
}

impl From<&str> for DatabaseOptions {
    fn from(url: &str) -> Self {
        url.to_owned().into()
    }
}

/// The url without its password; that of another one is not shown at all.
pub fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.split(':').next().unwrap_or_default()),
        None => authority.to_owned(),
    };
    // Parameters may bear a password, too.
    let tail = tail.split('?').next().unwrap_or_default();
    format!("{scheme}://{authority}{tail}")
}

/// Shows no password.
impl fmt::Display for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.url))
    }
}

impl fmt::Debug for DatabaseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseOptions")
            .field("url", &masked(&self.url))
            .field("read_url", &self.read_url.as_deref().map(masked))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            ("memory:", "memory:"),
            ("sqlite:///var/x.db", "sqlite:///var/x.db"),
            ("postgres://green:hun@ter:2@db:5432/green?sslmode=require", "postgres://green@db:5432/green"),
            ("mariadb://db/green", "mariadb://db/green"),
        ] {
            let mut options = DatabaseOptions::from(url);
            options.read_url = Some(url.to_owned());
            options.password = Some("hunter2".into());
            assert_eq!(options.to_string(), shown);
            let debug = format!("{options:?}");
            assert!(
                !debug.contains("hunter2") && !debug.contains("hun@") && !debug.contains("ter:2"),
                "{debug}"
            );
        }
    }
}
