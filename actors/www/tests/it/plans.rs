//! No read walks the history: every statement that the API and the caches run is shown to the database, which says how it would run
//! it. The statements are recorded where they are run, not written down here.

use std::path::Path;

use greenroom_db::Store;
use greenroom_model::write::*;
use greenroom_model::*;
use serde_json::Value;
use sqlx::{Connection, Executor, SqliteConnection};

use crate::world::World;

const BUILDS: i64 = 4_000;
const CHANGES: i64 = 1_000;
const BUILDERS: i64 = 20;
const A_WRITE: i64 = 500;

/// Tables that grow with the history.
const HISTORY: &[&str] = &[
    "builds",
    "buildrequests",
    "buildsets",
    "buildset_properties",
    "buildset_sourcestamps",
    "build_properties",
    "steps",
    "logs",
    "changes",
    "sourcestamps",
    "events",
];

fn configuration() -> Op {
    let builder = |n: i64| ConfiguredBuilder {
        name: format!("b{n}"),
        workers: vec!["w1".into(), "w2".into()],
        ..ConfiguredBuilder::default()
    };
    Op::Configure(Box::new(Configuration {
        builders: (1..=BUILDERS).map(builder).collect(),
        workers: vec!["w1".into(), "w2".into()],
        schedulers: vec!["s".into()],
        change_sources: vec![],
        projects: vec![],
    }))
}

fn stamp(n: i64) -> NewSourceStamp {
    NewSourceStamp {
        branch: Some(if n % 5 == 0 { format!("topic-{}", n % 50) } else { "main".into() }),
        revision: Some(format!("{n:08x}")),
        repository: format!("https://example.org/r{}", n % 3),
        project: format!("p{}", n % 2),
        codebase: format!("c{}", n % 3),
        ..NewSourceStamp::default()
    }
}

fn change(n: i64, at: Timestamp) -> Op {
    let stamp = stamp(n);
    Op::AddChange(Box::new(NewChange {
        id: ChangeId(n),
        origin: ChangeOrigin::Manual,
        author: "ada@example.org".into(),
        committer: None,
        comments: "a change".into(),
        branch: stamp.branch,
        revision: stamp.revision,
        revlink: None,
        when: at,
        category: None,
        repository: stamp.repository,
        codebase: stamp.codebase,
        project: stamp.project,
        files: vec!["a.c".into()],
        properties: Properties::new(),
    }))
}

/// A build with one step and its log, which has ended but for the last few.
fn build(n: i64) -> Vec<Op> {
    let (id, step, log) = (BuildId(n), StepId(n), LogId(n));
    let property = [("branch".to_owned(), Property("main".into(), "Build".into()))];
    let results = match n % 10 {
        0..=6 => Results::Success,
        7 => Results::Warnings,
        8 => Results::Failure,
        _ => Results::Exception,
    };
    let (state, properties) = (String::from("done"), Properties::from(property));
    let mut ops = vec![
        Op::AddBuildset(Box::new(NewBuildset {
            id: BuildsetId(n),
            requests: vec![(BuildRequestId(n), BuilderId(1 + n % BUILDERS))],
            sourcestamps: vec![StampRef::New(stamp(1 + n % CHANGES))],
            reason: "test".into(),
            external_id: None,
            properties: properties.clone(),
            priority: n % 4,
            waited_for: false,
            scheduler: Some("s".into()),
            parent: (n % 100 == 99).then(|| (BuildId(n - 1), "Triggered from".into())),
            rebuilt_build: (n % 50 == 49).then(|| BuildId(n - 1)),
        })),
        Op::StartBuild(Box::new(NewBuild {
            id,
            request: BuildRequestId(n),
            worker: WorkerId(1 + n % 2),
            state_string: state.clone(),
            properties,
        })),
        Op::AddStep { id: step, build: id, number: 0, name: "compile".into(), hidden: false },
        Op::StartStep { step, state_string: state.clone() },
        Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
    ];
    if n <= BUILDS - 5 {
        ops.push(Op::FinishLog { log, num_lines: 0 });
        ops.push(Op::FinishStep { step, results, state_string: state.clone(), hidden: false });
        ops.push(Op::FinishBuild { build: id, results, state_string: state });
    }
    ops
}

async fn fill(world: &World) {
    let rw = world.rw();
    rw.write(vec![configuration()]).await.unwrap();
    let now = rw.now();
    for first in (1..=CHANGES).step_by(A_WRITE as usize) {
        let all = first..(first + A_WRITE).min(CHANGES + 1);
        rw.write(all.map(|n| change(n, now)).collect()).await.unwrap();
    }
    for first in (1..=BUILDS).step_by(A_WRITE as usize) {
        let all = first..(first + A_WRITE).min(BUILDS + 1);
        rw.write(all.flat_map(build).collect()).await.unwrap();
    }
}

/// Everything that is asked: all that the stock page asks, what ours and other clients do, and what is beside the contract.
async fn ask_everything(world: &World) {
    let calls: Value = serde_json::from_str(include_str!("../contract/ui_calls.json")).unwrap();
    let stock =
        calls["pages"].as_object().unwrap().values().flat_map(|page| page["requests"].as_array().unwrap());
    let stock = stock.map(|it| {
        it.as_str().unwrap().replace("{stepid}", "22").replace("{logid}", "29").replace("{n}", "13")
    });
    let ours = [
        "builders?expand=summary",
        "builders/3/builds?limit=100&order=-number",
        "builders/3/builds?limit=100&order=-number&offset=50&property=branch",
        "builders/3/builds?limit=50&order=-number&number__lt=100&results=2",
        "builders/3/builds/17",
        "builds?order=-buildid&buildid__lt=3000&limit=100",
        "builds?order=buildid&buildid__gt=30&limit=100",
        "builds?order=-buildid&limit=50&offset=2000",
        "builds?complete=true&order=-buildid&limit=50&buildid__lt=2500",
        "builds?order=-started_at&limit=50&offset=1200",
        "builds?results=4&order=-buildid&limit=50",
        "builds?order=-started_at&limit=100&offset=1500",
        "builds?order=-started_at&limit=100&builderid=2&builderid=5&builderid=7",
        "builds?workerid=2&order=-buildid&limit=50",
        "builds?buildid=17&buildid=40&property=branch",
        "builds/17",
        "builds/17?expand=*",
        "builds/17?property=*",
        "builds/3999?expand=*",
        "builds?expand=builder,buildset,changes,logs,properties,request,steps,worker&limit=20&order=-buildid&buildid__lt=900",
        "builds/98/triggered_builds",
        "builds/17/steps/compile/logs/stdio",
        "builders/3/builds/17/steps/0/logs",
        "buildrequests?order=-buildrequestid&limit=50&buildrequestid__lt=3000",
        "buildrequests?order=-submitted_at&limit=50&offset=1500",
        "buildrequests/17?expand=*",
        "buildrequests?complete=false",
        "buildsets?order=-submitted_at&limit=50&offset=1500",
        "buildsets?rebuilt_buildid=48&order=-bsid&limit=1",
        "buildsets/17?expand=*",
        "buildsets/17/properties",
        "changes?order=-changeid&limit=50&changeid__lt=900",
        "changes?branch=topic-10&order=-changeid&limit=50",
        "changes?repository=https://example.org/r1&order=-changeid&limit=50",
        "changes?codebase=c1&order=-changeid&limit=50",
        "changes?project=p1&order=-changeid&limit=50",
        "changes?revision=00000011",
        "changes/17/builds",
        "sourcestamps/17",
        "sourcestamps/17/changes",
        "console",
        "console?branch=main&branch=topic-10&limit=20",
        "console?codebase=c1&limit=20&changeid__lt=900",
        "console?project=p0&limit=20",
        "console?repository=https://example.org/r2&limit=20",
    ];
    let ours = ours.iter().map(|path| format!("/api/v2/{path}"));
    for path in stock.chain(ours).filter(|path| path.starts_with("/api/")) {
        let answer = world.client.get(&path).await;
        assert!(matches!(answer.status, 200 | 404), "{path}: {}", answer.text());
    }
}

/// The history's table that a statement is about.
fn table(text: &str) -> Option<&'static str> {
    let text = text.replace(['"', '`'], "");
    let mut from = text.split(" FROM ").skip(1).filter_map(|rest| rest.split([' ', ')']).next());
    let named = from.find(|it| !it.starts_with('('))?;
    HISTORY.iter().copied().find(|it| *it == named)
}

/// What is wrong with how SQLite runs a statement.
fn fault_of_sqlite(text: &str, plan: &[String]) -> Option<&'static str> {
    let paged = text.contains(" LIMIT ");
    for line in plan {
        if line.starts_with("SCAN ")
            && (!paged || text.contains(" WHERE "))
            && !line.contains("CONSTANT ROW")
            && !line.contains("counted")
            && !line.contains("SCAN part")
        {
            return Some("it walks the table");
        }
        if line.contains("TEMP B-TREE FOR ORDER BY") && paged {
            return Some("it sorts everything that fits for one page");
        }
        // What one build has is little.
        let within_much = paged && line.starts_with("SEARCH ") && !line.contains("(buildid=?");
        if within_much && compared(text).any(|column| !line.contains(&format!("{column}=?"))) {
            return Some("it reads rows that do not fit");
        }
    }
    None
}

/// The columns that a statement compares with one value. Not `complete`: the few rows that are not stand at the end of any index.
fn compared(text: &str) -> impl Iterator<Item = &str> {
    let conditions = text.split(" WHERE ").nth(1).unwrap_or("");
    let conditions =
        conditions.split(" ORDER BY ").next().unwrap_or("").split(" LIMIT ").next().unwrap_or("");
    let columns =
        conditions.split(" AND ").filter_map(|it| it.trim().strip_suffix("\" = ?")?.strip_prefix('"'));
    columns.filter(|column| *column != "complete")
}

/// Likewise PostgreSQL, which is asked with scans of whole tables forbidden: one that is left has no other way.
fn fault_of_postgres(text: &str, plan: &[String]) -> Option<&'static str> {
    let paged = text.contains(" LIMIT ");
    for (i, line) in plan.iter().enumerate() {
        let node = line.trim_start().trim_start_matches("->").trim_start();
        if node.starts_with("Seq Scan") || node.starts_with("Parallel Seq Scan") {
            return Some("it walks the table");
        }
        if (node.starts_with("Index Scan") || node.starts_with("Index Only Scan")) && !paged {
            let depth = |it: &str| it.len() - it.trim_start().len();
            let below = plan[i + 1..].iter().take_while(|it| depth(it) > depth(line) && !it.contains("->"));
            // Many keys of a small table are found by reading it whole.
            let by_keys = |it: &String| it.trim_start().starts_with("Index Cond") || it.contains(" = ANY (");
            if !below.into_iter().any(by_keys) {
                return Some("it walks an index");
            }
        }
    }
    None
}

/// Likewise MariaDB.
fn fault_of_mariadb(text: &str, plan: &[String]) -> Option<&'static str> {
    let plan: Value = serde_json::from_str(&plan.concat()).unwrap();
    let paged = text.contains(" LIMIT ");
    let mut fault = None;
    let mut stack = vec![&plan];
    while let Some(at) = stack.pop() {
        if let Value::Object(map) = at {
            let of_table = !map.get("table_name").and_then(Value::as_str).unwrap_or("").starts_with('<');
            // Of a small table much is read whole rather than looked up; what counts is that it could be.
            let by_key = map.contains_key("possible_keys");
            match map.get("access_type").and_then(Value::as_str) {
                Some("ALL") if of_table && !by_key => fault = Some("it walks the table"),
                Some("index") if !by_key && (!paged || map.contains_key("attached_condition")) => {
                    fault = Some("it walks an index");
                }
                _ => {}
            }
            if map.contains_key("filesort") && paged {
                fault = Some("it sorts everything that fits for one page");
            }
        }
        match at {
            Value::Object(map) => stack.extend(map.values()),
            Value::Array(all) => stack.extend(all),
            _ => {}
        }
    }
    fault
}

/// The statements about history that are run in a bad way.
async fn faults(store: &Store, url: &str) -> Vec<String> {
    let judge = match url.split(':').next().unwrap() {
        "sqlite" => fault_of_sqlite,
        "mariadb" | "mysql" => fault_of_mariadb,
        _ => fault_of_postgres,
    };
    let all = store.explain_for_test().await.unwrap();
    let of_history: Vec<_> = all.iter().filter(|(text, _)| table(text).is_some()).collect();
    assert!(of_history.len() > 60, "statements are recorded: {}", of_history.len());
    let bad = |(text, plan): &&(String, Vec<String>)| {
        judge(text, plan).map(|why| {
            let where_from = text.find(" FROM ").unwrap_or(0);
            format!("{why}: {}\n    {}", &text[where_from..], plan.join("\n    "))
        })
    };
    of_history.iter().filter_map(bad).collect()
}

async fn open(url: &str, dir: &Path) -> Store {
    Store::open(url, dir, "main", Timestamp(1_800_000_000_000_000)).await.unwrap()
}

/// Fills a database, begins anew over it, asks everything; the store, and its faults.
async fn asked(url: &str, dir: &Path) -> Vec<String> {
    let world = World::over_store(open(url, dir).await).await;
    fill(&world).await;
    world.finish().await;
    // So that a planner knows what there is, as on a database that has grown.
    let store = open(url, dir).await;
    store.explain_for_test().await.unwrap();
    Store::record_for_test();
    let world = World::over_store(store.clone()).await;
    ask_everything(&world).await;
    let faults = faults(&store, url).await;
    world.finish().await;
    faults
}

#[actix_rt::test]
async fn no_read_walks_the_history_on_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let url = "sqlite://plans.db";
    assert_eq!(asked(url, dir.path()).await, Vec::<String>::new());
    // The check of the check: without these indexes something is found.
    let file = format!("sqlite://{}", dir.path().join("plans.db").display());
    let mut raw = SqliteConnection::connect(&file).await.unwrap();
    for index in ["changes_branch_changeid", "builds_buildrequestid", "buildset_sourcestamps_ssid_bsid"] {
        raw.execute(sqlx::AssertSqlSafe(format!("DROP INDEX {index}"))).await.unwrap();
    }
    raw.close().await.unwrap();
    // Opened now: a connection that has seen the indexes would still explain with them.
    let store = open(url, dir.path()).await;
    assert_ne!(faults(&store, url).await, Vec::<String>::new());
}

#[actix_rt::test]
async fn no_read_walks_the_history_on_postgresql() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(asked(&crate::databases::fresh("postgres"), dir.path()).await, Vec::<String>::new());
}

#[actix_rt::test]
async fn no_read_walks_the_history_on_mariadb() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(asked(&crate::databases::fresh("mariadb"), dir.path()).await, Vec::<String>::new());
}
