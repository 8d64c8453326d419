//! The views that third parties read: the same columns on every engine, for ever, and those that are documented.

use greenroom_model::write::*;
use greenroom_model::*;
use sqlx::{
    AssertSqlSafe, Column, Connection, Executor, MySqlConnection, PgConnection, Row, SqliteConnection,
};

use crate::world::{World, change};

/// A promise: columns may be added at the end of a line, and lines at the end; nothing goes, nothing changes its place or meaning.
const VIEWS: &[(&str, &str)] = &[
    ("v1_builders", "builderid name description projectid tags"),
    (
        "v1_changes",
        "changeid author committer comments branch revision revlink when_timestamp category repository codebase \
        project files properties ssid",
    ),
    (
        "v1_buildsets",
        "bsid external_idstring reason submitted_at complete complete_at results parent_buildid \
        parent_relationship rebuilt_buildid scheduler",
    ),
    (
        "v1_buildrequests",
        "buildrequestid buildsetid builderid priority claimed claimed_at claimed_by_masterid complete \
        complete_at results submitted_at waited_for",
    ),
    (
        "v1_builds",
        "buildid number builderid buildrequestid workerid masterid started_at complete complete_at \
        locks_duration_s results state_string",
    ),
    (
        "v1_steps",
        "stepid number name buildid started_at complete complete_at results state_string urls hidden",
    ),
    ("v1_masters", "masterid name active last_active"),
    ("v1_workers", "workerid name workerinfo paused pause_reason graceful connected_to configured_on"),
    ("v1_schedulers", "schedulerid name enabled masterid"),
    ("v1_projects", "projectid name slug description"),
    ("v1_sourcestamps", "ssid branch revision project repository codebase created_at patchid"),
    ("v1_buildset_sourcestamps", "bsid position ssid"),
    ("v1_logs", "logid name slug stepid complete num_lines type"),
    ("v1_buildset_properties", "bsid properties"),
    ("v1_build_properties", "buildid properties"),
    ("v1_audit", "controlid requested_at identity came_from action target act_key answer answered_at"),
];

crate::over!(sqlite, Sqlite, views_stay_as_they_are);
crate::servers!(views_stay_as_they_are);

/// What a stranger reads: the columns, and the first of the named texts.
enum Stranger {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    MariaDb(MySqlConnection),
}

impl Stranger {
    async fn connect(world: &World) -> Self {
        if world.url.starts_with("postgres") {
            return Self::Postgres(PgConnection::connect(&world.url).await.unwrap());
        }
        if world.url.starts_with("mariadb") {
            let url = world.url.replacen("mariadb://", "mysql://", 1);
            return Self::MariaDb(MySqlConnection::connect(&url).await.unwrap());
        }
        let file = world.path().join("test.db");
        Self::Sqlite(SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap())
    }

    async fn columns(&mut self, view: &str) -> Vec<String> {
        let sql = AssertSqlSafe(format!("SELECT * FROM {view}"));
        macro_rules! columns {
            ($connection:expr) => {{
                let rows = $connection.fetch_all(sql).await.unwrap();
                let row = rows.first().unwrap_or_else(|| panic!("{view} has no row"));
                assert!(row.get::<i64, _>(0) > 0, "{view} begins with an id");
                row.columns().iter().map(|column| column.name().to_owned()).collect()
            }};
        }
        match self {
            Self::Sqlite(connection) => columns!(connection),
            Self::Postgres(connection) => columns!(connection),
            Self::MariaDb(connection) => columns!(connection),
        }
    }

    async fn text(&mut self, sql: &'static str) -> String {
        macro_rules! text {
            ($connection:expr) => {
                $connection.fetch_one(sql).await.unwrap().get::<String, _>(0)
            };
        }
        match self {
            Self::Sqlite(connection) => text!(connection),
            Self::Postgres(connection) => text!(connection),
            Self::MariaDb(connection) => text!(connection),
        }
    }

    /// The names of all views of a version.
    async fn views(&mut self) -> Vec<String> {
        macro_rules! names {
            ($connection:expr, $sql:literal) => {
                $connection.fetch_all($sql).await.unwrap().iter().map(|row| row.get::<String, _>(0)).collect()
            };
        }
        match self {
            Self::Sqlite(connection) => {
                names!(connection, "SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")
            }
            Self::Postgres(connection) => names!(
                connection,
                "SELECT table_name::text FROM information_schema.views WHERE table_schema = current_schema() \
                ORDER BY table_name COLLATE \"C\""
            ),
            Self::MariaDb(connection) => names!(
                connection,
                "SELECT table_name FROM information_schema.views WHERE table_schema = database() ORDER BY table_name"
            ),
        }
    }
}

async fn views_stay_as_they_are(world: World) {
    world.configure().await;
    let id: ChangeId = world.id();
    world.run(vec![Op::AddChange(Box::new(change(id, ChangeOrigin::Manual, "abc")))]).await;
    let mut set = world.new_buildset(&[1]);
    set.properties.insert("owner".into(), Property("Ada".into(), "test".into()));
    let request = set.requests[0].0;
    world.run(vec![Op::AddBuildset(Box::new(set))]).await;
    let (build, op) = world.start_op(request);
    let Op::StartBuild(mut new) = op else { panic!("it starts a build") };
    new.properties.insert("job".into(), Property(7.into(), "test".into()));
    world.run(vec![Op::StartBuild(new)]).await;
    let step = world.add_step(build, 0).await;
    let log: LogId = world.id();
    world.run(vec![Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    world.finish_build(build, Results::Failure).await.unwrap();
    let act = Op::AskControl(Box::new(NewControl {
        id: world.id(),
        identity: "ann".into(),
        key: Some("k".into()),
        target: ControlTarget::Build(build),
        action: "rebuild".into(),
        params: serde_json::json!({}),
        came_from: Some("192.0.2.7".into()),
    }));
    world.run(vec![act]).await;
    let mut stranger = Stranger::connect(&world).await;
    let mut names: Vec<String> = VIEWS.iter().map(|(view, _)| (*view).to_owned()).collect();
    names.sort();
    let mut found = stranger.views().await;
    found.sort();
    assert_eq!(found, names, "every view is promised");
    for (view, columns) in VIEWS {
        let wanted: Vec<&str> = columns.split_whitespace().collect();
        assert_eq!(stranger.columns(view).await, wanted, "{view}");
    }
    let told = "SELECT b.name FROM v1_builds AS d JOIN v1_builders AS b ON b.builderid = d.builderid \
        JOIN v1_build_properties AS p ON p.buildid = d.buildid WHERE d.results = 2 AND p.properties LIKE '%\"job\"%'";
    assert_eq!(stranger.text(told).await, "b1");
    let told = "SELECT s.branch FROM v1_buildset_sourcestamps AS l JOIN v1_sourcestamps AS s ON s.ssid = l.ssid \
        JOIN v1_buildset_properties AS p ON p.bsid = l.bsid WHERE p.properties LIKE '%Ada%'";
    assert_eq!(stranger.text(told).await, "main");
    assert_eq!(stranger.text("SELECT came_from FROM v1_audit WHERE action = 'rebuild'").await, "192.0.2.7");
}

/// The page names each view and each column, in order.
#[test]
fn views_are_documented_column_by_column() {
    let page = include_str!("../../../../docs/operator-guide/database-views.md");
    let mut found = Vec::<(String, Vec<String>)>::new();
    let quoted = |text: &str| text.split('`').nth(1).map(str::to_owned);
    for line in page.lines() {
        if line.starts_with("## `v1_") {
            found.push((quoted(line).expect("a name"), Vec::new()));
        } else if line.starts_with("## ") {
            break; // what follows is no list
        } else if let (true, Some((_, columns))) = (line.starts_with("| `"), found.last_mut()) {
            columns.extend(quoted(line));
        }
    }
    let promised: Vec<(String, Vec<String>)> = VIEWS
        .iter()
        .map(|(view, columns)| ((*view).into(), columns.split_whitespace().map(str::to_owned).collect()))
        .collect();
    for (documented, promised) in found.iter().zip(&promised) {
        assert_eq!(documented, promised);
    }
    assert_eq!(found.len(), promised.len());
}
