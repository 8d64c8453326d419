//! Whole databases: copied over every engine and back, refused where that would harm, backed up while a master runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::Actor;
use bytes::Bytes;
use greenroom_db::copy::{Copied, CopiedTable, CopyError, backup, begin_generation, copy};
use greenroom_db::*;
use greenroom_model::write::*;
use greenroom_model::*;

use crate::world::{Engine, START, World, change};

const LATER: Timestamp = Timestamp((START + 1000) * 1_000_000);

/// Copies, once whoever had the source is gone.
async fn copied(from: &str, to: &str, dir: &Path) -> Result<Copied, CopyError> {
    for _ in 0..1000 {
        match copy(&from.into(), &to.into(), dir, LATER, |_| ()).await {
            Err(CopyError::Open(OpenError::InUse(_)) | CopyError::Runs(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other,
        }
    }
    panic!("{from} stays in use");
}

/// Opens a database, once whoever had it is gone.
async fn opened(url: &str, dir: &Arc<tempfile::TempDir>) -> World {
    for _ in 0..1000 {
        match Store::open(url, dir.path(), "main", LATER).await {
            Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => return World::over(other.unwrap(), Arc::clone(dir)),
        }
    }
    panic!("{url} stays in use");
}

async fn append(writer: &actix::Addr<LogWriter>, log: LogId, text: &str) {
    let text = Bytes::copy_from_slice(text.as_bytes());
    writer.send(Append { log, stream: Stream::Out, text }).await.unwrap().unwrap();
}

async fn whole(store: &Store, log: LogId) -> String {
    let reader = LogReader::new(store.clone()).start();
    let lines = ReadLines { log, first: 0, count: i64::MAX, max_bytes: usize::MAX };
    String::from_utf8(reader.send(lines).await.unwrap().unwrap().text.to_vec()).unwrap()
}

/// What a database is filled with.
struct Filled {
    build: BuildId,
    log: LogId,
    text: String,
    clock: Clock,
}

/// Builds, a change, odd texts, a log of several segments, a listener that has taken everything.
async fn fill(world: &World) -> Filled {
    world.configure().await;
    let id: ChangeId = world.id();
    let mut odd = change(id, ChangeOrigin::Manual, "abc");
    odd.comments = "Ünïcödé 😀 ' \" \\ $1 ?\n\ttab \0 ".into();
    world.run(vec![Op::AddChange(Box::new(odd))]).await;
    let mut build = BuildId(0);
    for _ in 0..40 {
        let (_, requests) = world.submit(&[1]).await;
        build = world.start_build(requests[0]).await;
        world.finish_build(build, Results::Success).await.unwrap();
    }
    let (_, requests) = world.submit(&[2]).await;
    let running = world.start_build(requests[0]).await;
    let step = world.add_step(running, 0).await;
    let log: LogId = world.id();
    world.run(vec![Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    let writer = LogWriter::new(world.store.clone(), Arc::new(|_, _| ())).start();
    let line = "a line of a log ".repeat(40);
    for _ in 0..2000 {
        append(&writer, log, &format!("{line}\n")).await;
    }
    let lines = writer.send(FinishLog { log }).await.unwrap().unwrap();
    world.run(vec![Op::FinishLog { log, num_lines: lines }]).await;
    let clock = world.snapshot(CurrentClock).await.clock;
    let state = ListenerRecord { clock: Some(clock.clone()), settings: "s".into() };
    world.run(vec![Op::SaveListener { name: "l".into(), state }]).await;
    Filled { build, log, text: whole(&world.store, log).await, clock }
}

#[actix_rt::test]
async fn a_database_goes_over_every_engine_and_back() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let world = World::open_in("sqlite://first.db", Arc::clone(&dir)).await;
    let filled = fill(&world).await;
    let builds = world.list::<Build>(Query::default()).await;
    let old = world.store.generation();
    drop(world);
    let (postgres, mariadb) = (Engine::Postgres.fresh(), Engine::MariaDb.fresh());
    let way = ["sqlite://first.db", &postgres, &mariadb, "sqlite://last.db"];
    let mut generations = vec![old];
    let mut before: Option<Copied> = None;
    for hop in way.windows(2) {
        let now = copied(hop[0], hop[1], dir.path()).await.unwrap_or_else(|e| panic!("{hop:?}: {e}"));
        // PostgreSQL knows no zero character; what it got in its place stays.
        assert_eq!(now.without_zero, u64::from(hop[1] == postgres), "{hop:?}");
        assert!(now.generation > *generations.last().unwrap(), "{generations:?} {}", now.generation);
        generations.push(now.generation);
        if let Some(before) = before {
            // All is the same but what bears the generation.
            let same = |c: &Copied| -> Vec<_> {
                let tables = c.tables.iter().filter(|t| t.table != "listeners");
                tables.map(|t| t.sum).collect()
            };
            assert_eq!(same(&before), same(&now), "{hop:?}");
        }
        before = Some(now);
    }
    let rows =
        |name: &str| before.as_ref().unwrap().tables.iter().find(|t| t.table == name).unwrap().sum.rows;
    assert_eq!((rows("builds"), rows("changes"), rows("builders")), (41, 1, 2));
    assert!(rows("log_segments") > 3 && rows("events") > 100, "{before:?}");
    // What was said of the past holds in the copy; what clients knew does not.
    let world = opened("sqlite://last.db", &dir).await;
    assert_eq!(world.store.generation(), *generations.last().unwrap());
    assert_eq!(world.list::<Build>(Query::default()).await, builds);
    assert!(whole(&world.store, filled.log).await == filled.text);
    assert!(!world.snapshot(CurrentClock).await.clock.covers(&filled.clock), "a clock of another life");
    let mut moved = filled.clock.clone();
    moved.generation = world.store.generation();
    let listener = world.read(ListenerOf { name: "l".into() }).await.unwrap();
    assert_eq!(listener.clock, Some(moved), "it goes on where it was");
    let (_, requests) = world.submit(&[1]).await;
    let next = world.start_build(requests[0]).await;
    assert_eq!(world.get::<Build>(next.0).await.number, 41, "builds go on after {}", filled.build);
}

async fn a_copy_is_refused_where_it_would_harm(engine: Engine) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let url = engine.fresh();
    let world = World::open_in(&url, Arc::clone(&dir)).await;
    world.configure().await;
    let refused = |from: &'static str, to: &'static str| {
        let dir = dir.path().to_owned();
        async move { copy(&from.into(), &to.into(), &dir, LATER, |_| ()).await.unwrap_err() }
    };
    assert!(matches!(refused("memory:", "sqlite://x.db").await, CopyError::Memory));
    assert!(matches!(refused("sqlite://x.db", "sqlite://x.db").await, CopyError::Same));
    assert!(matches!(refused("sqlite://none.db", "sqlite://x.db").await, CopyError::Missing(_)));
    assert!(!dir.path().join("none.db").exists(), "looking makes nothing");
    // The lease of a live master reaches beyond this time.
    let now = Timestamp::from_seconds(START);
    let live = copy(&url.as_str().into(), &"sqlite://x.db".into(), dir.path(), now, |_| ()).await;
    assert!(
        matches!(&live, Err(CopyError::Open(OpenError::InUse(_)) | CopyError::Runs(_))),
        "a master runs on it: {live:?}"
    );
    drop(world);
    copied(&url, "sqlite://x.db", dir.path()).await.unwrap();
    let again = copied(&url, "sqlite://x.db", dir.path()).await;
    assert!(matches!(again, Err(CopyError::NotEmpty(_))), "{again:?}");
    let back = copied("sqlite://x.db", &url, dir.path()).await;
    assert!(matches!(back, Err(CopyError::NotEmpty(_))), "{back:?}");
    assert_eq!(opened(&url, &dir).await.list::<Builder>(Query::default()).await.total, 2, "it is as it was");
}

/// Ends as by a kill in the middle: the future is dropped, what it held is gone.
async fn a_copy_that_broke_off_is_refused_until_it_is_made_anew(engine: Engine) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let world = World::open_in("sqlite://source.db", Arc::clone(&dir)).await;
    let filled = fill(&world).await;
    drop(world);
    let target = engine.fresh();
    let (at, to) = (dir.path().to_owned(), target.clone());
    let broken = actix_rt::spawn(async move {
        let tell = |it: &CopiedTable| assert!(it.table != "steps", "broken off");
        loop {
            let done = copy(&"sqlite://source.db".into(), &to.as_str().into(), &at, LATER, tell).await;
            let Err(CopyError::Open(OpenError::InUse(_))) = done else { break done.map(|_| ()) };
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let ended = broken.await;
    assert!(ended.is_err(), "it ends in the middle: {ended:?}");
    let half = loop {
        match Store::open(target.as_str(), dir.path(), "main", LATER).await {
            Err(OpenError::InUse(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => break other,
        }
    };
    assert!(matches!(half, Err(OpenError::HalfCopied)), "{half:?}");
    let on = copied(&target, "sqlite://other.db", dir.path()).await;
    assert!(matches!(on, Err(CopyError::HalfCopied)), "{on:?}");
    // The server may take a moment to notice that the first is gone.
    let again = loop {
        match copied("sqlite://source.db", &target, dir.path()).await {
            Err(CopyError::Copying) => tokio::time::sleep(Duration::from_millis(5)).await,
            other => break other.unwrap(),
        }
    };
    assert!(again.tables.iter().any(|t| t.table == "builds" && t.sum.rows == 41));
    let world = opened(&target, &dir).await;
    assert!(whole(&world.store, filled.log).await == filled.text);
}

macro_rules! engines {
    ($($name:ident),* $(,)?) => {
        mod sqlite { $(#[actix_rt::test] async fn $name() { super::$name(crate::world::Engine::Sqlite).await })* }
        mod postgres { $(#[actix_rt::test] async fn $name() { super::$name(crate::world::Engine::Postgres).await })* }
        mod mariadb { $(#[actix_rt::test] async fn $name() { super::$name(crate::world::Engine::MariaDb).await })* }
    };
}

engines!(
    a_copy_is_refused_where_it_would_harm,
    a_copy_that_broke_off_is_refused_until_it_is_made_anew,
    a_generation_begins_when_nobody_runs,
);

async fn a_generation_begins_when_nobody_runs(engine: Engine) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let url = engine.fresh();
    let world = World::open_in(&url, Arc::clone(&dir)).await;
    let filled = fill(&world).await;
    let live = begin_generation(&url.as_str().into(), dir.path(), Timestamp::from_seconds(START)).await;
    assert!(matches!(live, Err(CopyError::Open(OpenError::InUse(_)) | CopyError::Runs(_))), "{live:?}");
    drop(world);
    let new = loop {
        match begin_generation(&url.as_str().into(), dir.path(), LATER).await {
            Err(CopyError::Open(OpenError::InUse(_)) | CopyError::Runs(_)) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => break other.unwrap(),
        }
    };
    assert!(new > filled.clock.generation);
    let world = opened(&url, &dir).await;
    assert_eq!(world.store.generation(), new);
    let listener = world.read(ListenerOf { name: "l".into() }).await.unwrap();
    assert_eq!(listener.clock.map(|clock| clock.generation), Some(new));
}

#[actix_rt::test]
async fn a_backup_is_one_moment_of_a_running_master_and_another_life() {
    let world = World::open(Engine::Sqlite).await;
    let filled = fill(&world).await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log: LogId = world.id();
    world.run(vec![Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    let writer = LogWriter::new(world.store.clone(), Arc::new(|_, _| ())).start();
    append(&writer, log, "one\ntwo\nthree\n").await;
    writer.send(FlushLogs).await.unwrap().unwrap();
    world.run(vec![Op::GrowLog { log, num_lines: 2 }]).await;
    // Text of a log that the state does not know yet.
    let unknown: LogId = world.id();
    append(&writer, unknown, "of the future\n").await;
    writer.send(FlushLogs).await.unwrap().unwrap();
    let target = world.path().join("backups/a.db");
    let done = backup(&world.url.as_str().into(), world.path(), &target).await.unwrap();
    assert!(done.tables.contains(&("builds", 42)) && done.lacking == 0, "{done:?}");
    let again = backup(&world.url.as_str().into(), world.path(), &target).await;
    assert!(matches!(again, Err(CopyError::Exists(_))), "{again:?}");
    let mut names: Vec<_> = std::fs::read_dir(world.path().join("backups")).unwrap().collect();
    names.sort_by_key(|entry| entry.as_ref().unwrap().file_name());
    let names: Vec<_> = names.into_iter().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["a.db", "a.logs.db"], "nothing else is left");
    // The master goes on; the backup knows nothing of it.
    world.finish_build(build, Results::Success).await.unwrap();
    let after = world.snapshot(CurrentClock).await.clock;
    let copy = copied("sqlite://backups/a.db", "sqlite://copy.db", world.path()).await.unwrap();
    assert!(copy.generation > world.store.generation(), "a copy of a backup is another life");
    let restored = opened("sqlite://backups/a.db", &world.dir).await;
    assert!(restored.store.generation() > world.store.generation());
    assert!(!restored.snapshot(CurrentClock).await.clock.covers(&after));
    assert_eq!(restored.get::<Build>(build.0).await.results, None);
    assert!(whole(&restored.store, filled.log).await == filled.text);
    assert_eq!(whole(&restored.store, log).await, "oone\notwo\n");
    assert_eq!(whole(&restored.store, unknown).await, "");
    let generation = restored.store.generation();
    drop(restored);
    // One new life, not one each start.
    assert_eq!(opened("sqlite://backups/a.db", &world.dir).await.store.generation(), generation);
    for server in ["postgres://green:hunter2@db/x", "mariadb://green:hunter2@db/x"] {
        let said = backup(&server.into(), world.path(), &target).await.unwrap_err().to_string();
        assert!(said.contains("pg_dump") && !said.contains("hunter2"), "{said}");
    }
}
