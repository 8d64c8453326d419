//! A database as a stranger sees it: its schema and all its rows, on any engine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection, PgConnection, Row, SqliteConnection};
use tokio::runtime::Runtime;

/// All that a database holds, but for when its migrations were done.
#[derive(PartialEq)]
pub struct Everything {
    /// Columns, indexes and views, as the engine tells them.
    schema: Vec<String>,
    rows: BTreeMap<String, Vec<String>>,
}

impl Everything {
    /// What one has and the other has not, in words.
    pub fn difference(&self, other: &Self) -> String {
        let mut lines = Vec::new();
        let mut compare = |what: &str, ours: &[String], theirs: &[String]| {
            lines.extend(ours.iter().filter(|it| !theirs.contains(it)).map(|it| format!("+ {what}: {it}")));
            lines.extend(theirs.iter().filter(|it| !ours.contains(it)).map(|it| format!("- {what}: {it}")));
        };
        compare("schema", &self.schema, &other.schema);
        for table in self.rows.keys().chain(other.rows.keys()) {
            let of = |it: &Self| it.rows.get(table).cloned().unwrap_or_default();
            compare(table, &of(self), &of(other));
        }
        lines.join("\n")
    }
}

enum Connected {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

/// An open database.
pub struct Database {
    runtime: Runtime,
    to: Connected,
    /// What its tables are named after: the file, the schema, or the database.
    place: String,
}

/// The name of a server's database or schema, the last word of its url.
fn last_word(url: &str) -> String {
    url.rsplit(['/', '=']).next().expect("a name").to_owned()
}

impl Database {
    /// Opens it; a file, below `dir`, must not be open elsewhere.
    pub fn open(url: &str, dir: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let connect = async {
            if let Some(name) = url.strip_prefix("sqlite://") {
                let file: PathBuf = dir.join(name);
                std::fs::create_dir_all(dir).expect("a directory");
                let options =
                    sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
                let to = SqliteConnection::connect_with(&options).await.expect("a file");
                return (Connected::Sqlite(to), file.display().to_string());
            }
            let place = last_word(url);
            if url.starts_with("postgres") {
                return (Connected::Postgres(PgConnection::connect(url).await.expect("a server")), place);
            }
            let url = url.replacen("mariadb://", "mysql://", 1);
            (Connected::MariaDb(MySqlConnection::connect(&url).await.expect("a server")), place)
        };
        let (to, place) = runtime.block_on(connect);
        Self { runtime, to, place }
    }

    /// The first column, as text, of what a statement gives.
    fn texts(&mut self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! texts {
            ($connection:expr) => {
                self.runtime.block_on(async {
                    let rows = $connection.fetch_all(sqlx::query(sql)).await.expect("rows");
                    rows.iter().map(|row| row.get::<Option<String>, _>(0).unwrap_or_default()).collect()
                })
            };
        }
        match &mut self.to {
            Connected::Sqlite(connection) => texts!(connection),
            Connected::Postgres(connection) => texts!(connection),
            Connected::MariaDb(connection) => texts!(connection),
        }
    }

    fn run(&mut self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        macro_rules! run {
            ($connection:expr) => {
                self.runtime.block_on(async {
                    $connection.execute(sqlx::raw_sql(sql)).await.expect("a statement that is carried out");
                })
            };
        }
        match &mut self.to {
            Connected::Sqlite(connection) => run!(connection),
            Connected::Postgres(connection) => run!(connection),
            Connected::MariaDb(connection) => run!(connection),
        }
    }

    fn quoted(&self, name: &str) -> String {
        if matches!(self.to, Connected::MariaDb(_)) { format!("`{name}`") } else { format!("\"{name}\"") }
    }

    fn tables(&mut self) -> Vec<String> {
        let all = self.texts(match self.to {
            Connected::Sqlite(_) => "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name",
            Connected::Postgres(_) => {
                "SELECT table_name::text FROM information_schema.tables \
                WHERE table_schema = current_schema() AND table_type = 'BASE TABLE' ORDER BY table_name"
            }
            Connected::MariaDb(_) => {
                "SELECT table_name FROM information_schema.tables \
                WHERE table_schema = database() AND table_type = 'BASE TABLE' ORDER BY table_name"
            }
        });
        all.into_iter().filter(|name| name != "_sqlx_migrations").collect()
    }

    /// The columns of a table that can be written to.
    fn columns(&mut self, table: &str) -> Vec<String> {
        let schema = match self.to {
            Connected::Sqlite(_) => {
                return self.texts(&format!("SELECT name FROM pragma_table_info('{table}') ORDER BY name"));
            }
            Connected::Postgres(_) => "current_schema()",
            Connected::MariaDb(_) => "database()",
        };
        self.texts(&format!(
            "SELECT CONCAT(column_name) FROM information_schema.columns WHERE table_schema = {schema} \
            AND table_name = '{table}' AND is_generated = 'NEVER' ORDER BY column_name"
        ))
    }

    /// How many rows a table has.
    pub fn count(&mut self, table: &str) -> usize {
        let (name, text) =
            (self.quoted(table), if matches!(self.to, Connected::MariaDb(_)) { "CHAR" } else { "TEXT" });
        let counted = self.texts(&format!("SELECT CAST(count(*) AS {text}) FROM {name}"));
        counted[0].parse().expect("a number")
    }

    /// Takes over the rows of another database on the same server, as far as there are tables and columns for them.
    pub fn fill_from(&mut self, mut other: Database) {
        let mut from = other.place.clone();
        if let Connected::Sqlite(_) = self.to {
            self.run(&format!("ATTACH DATABASE '{from}' AS source"));
            from = "source".to_owned();
        }
        let known = other.tables();
        for table in self.tables() {
            let (from, name) = (self.quoted(&from), self.quoted(&table));
            self.run(&format!("DELETE FROM {name}"));
            if !known.contains(&table) {
                continue;
            }
            let theirs = other.columns(&table);
            let ours: Vec<String> =
                self.columns(&table).into_iter().filter(|it| theirs.contains(it)).collect();
            let columns = ours.iter().map(|it| self.quoted(it)).collect::<Vec<_>>().join(", ");
            self.run(&format!("INSERT INTO {name} ({columns}) SELECT {columns} FROM {from}.{name}"));
        }
    }

    /// The schema and all rows.
    pub fn everything(&mut self) -> Everything {
        let schema = self.schema();
        let rows = self.tables().into_iter().map(|table| {
            let rows = self.rows_of(&table);
            (table, rows)
        });
        Everything { schema, rows: rows.collect() }
    }

    fn rows_of(&mut self, table: &str) -> Vec<String> {
        let name = self.quoted(table);
        let columns = self.columns(table);
        let (each, sql) = match self.to {
            Connected::Postgres(_) => {
                return self.texts(&format!("SELECT to_jsonb(t)::text AS s FROM {name} AS t ORDER BY s"));
            }
            Connected::Sqlite(_) => ("quote", "SELECT json_array({}) AS s FROM {} ORDER BY s"),
            Connected::MariaDb(_) => ("HEX", "SELECT CONCAT(JSON_ARRAY({})) AS s FROM {} ORDER BY s"),
        };
        let values: Vec<String> = columns.iter().map(|it| format!("{each}({})", self.quoted(it))).collect();
        self.texts(&sql.replacen("{}", &values.join(", "), 1).replacen("{}", &name, 1))
    }

    fn schema(&mut self) -> Vec<String> {
        let sql: &[&str] = match self.to {
            Connected::Sqlite(_) => {
                &["SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master \
                WHERE name NOT LIKE '%sqlx_migrations%' ORDER BY 1"]
            }
            Connected::Postgres(_) => &[
                "SELECT CONCAT_WS(' ', table_name, ordinal_position, column_name, data_type, is_nullable, collation_name, \
                column_default) FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1",
                "SELECT replace(indexdef, current_schema() || '.', '') FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1",
                "SELECT replace(viewname || definition, current_schema() || '.', '') FROM pg_views \
                WHERE schemaname = current_schema() ORDER BY 1",
            ],
            Connected::MariaDb(_) => &[
                "SELECT CONCAT_WS(' ', table_name, ordinal_position, column_name, column_type, is_nullable, collation_name, \
                generation_expression) FROM information_schema.columns WHERE table_schema = database() ORDER BY 1",
                "SELECT CONCAT_WS(' ', table_name, index_name, seq_in_index, column_name, sub_part, non_unique) \
                FROM information_schema.statistics WHERE table_schema = database() ORDER BY 1",
                "SELECT CONCAT_WS(' ', table_name, REPLACE(view_definition, CONCAT('`', database(), '`.'), '')) \
                FROM information_schema.views WHERE table_schema = database() ORDER BY 1",
            ],
        };
        sql.iter().flat_map(|sql| self.texts(sql)).collect()
    }

    /// Whether the process that migrates has come to the statement that does not end.
    pub fn is_stalled(&mut self, pid: i32) -> bool {
        match self.to {
            // Nobody else can look into its transaction: it computes, and computes.
            Connected::Sqlite(_) => busy_thread(pid),
            Connected::Postgres(_) | Connected::MariaDb(_) => !self.stalled(pid).is_empty(),
        }
    }

    fn stalled(&mut self, pid: i32) -> Vec<String> {
        let place = self.place.clone();
        match self.to {
            Connected::Sqlite(_) => Vec::new(),
            Connected::Postgres(_) => self.texts(&format!(
                "SELECT pid::text FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE '/* process {pid} */%'"
            )),
            Connected::MariaDb(_) => self.texts(&format!(
                "SELECT CONCAT(id) FROM information_schema.processlist WHERE state = 'User sleep' AND db = '{place}'"
            )),
        }
    }

    /// Ends the statement of a process that is dead: a server would notice with its next answer, which is far away.
    pub fn end_stalled(&mut self, pid: i32) {
        for connection in self.stalled(pid) {
            match self.to {
                Connected::Sqlite(_) => {}
                Connected::Postgres(_) => {
                    self.run(&format!("SELECT pg_terminate_backend({connection}, 10000)"))
                }
                Connected::MariaDb(_) => self.run(&format!("KILL {connection}")),
            }
        }
    }

    /// Notes a migration that a later release made.
    pub fn claim_to_be_newer(&mut self) {
        self.run(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            VALUES (99, 'later', TRUE, '', 0)",
        );
    }
}

/// Whether a thread of a process has computed for a tenth of a second.
fn busy_thread(pid: i32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let worker = |stat: &str| -> Option<u64> {
        // "PID (name) state ppid …": the 14th and 15th fields are user and system time in hundredths of a second.
        let (name, rest) = stat.rsplit_once(") ")?;
        let ticks = rest.split(' ').nth(11)?.parse::<u64>().ok()?;
        name.contains("(sqlx-sqlite").then_some(ticks)
    };
    tasks
        .filter_map(|task| std::fs::read_to_string(task.path().join("stat")).ok())
        .filter_map(|it| worker(&it))
        .any(|t| t >= 10)
}
