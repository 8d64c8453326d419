//! What only a database file can do wrong: kills, second openers, other schemas, full disks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use greenroom_db::*;
use greenroom_model::*;
use sqlx::{Connection, SqliteConnection};

use crate::world::{Engine, START, World};

const URL: &str = "sqlite://test.db";

async fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(URL, dir, "main", Timestamp::from_seconds(START)).await
}

/// Closes the world; answers its directory once the file is free.
async fn close(world: World) -> Arc<tempfile::TempDir> {
    let World { store, writer, reader, dir, .. } = world;
    drop((store, writer, reader));
    for _ in 0..1000 {
        match open(dir.path()).await {
            Err(OpenError::InUse(_)) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Err(other) => panic!("{other}"),
            Ok(_) => return dir,
        }
    }
    panic!("the file stays in use");
}

#[actix_rt::test]
async fn everything_is_there_after_a_restart_and_ids_have_no_gaps() {
    let world = World::open(Engine::Sqlite).await;
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    world.run(vec![Op::ConnectWorker { worker: WorkerId(1), info: WorkerInfo::default() }]).await;
    let (epoch, generation) = (world.store.epoch(), world.store.generation());
    let clock = world.snapshot(CurrentClock).await.clock;
    let dir = close(world).await;
    let world = World::open_in(URL, dir).await;
    // `close` opened it once, too.
    assert_eq!((world.store.epoch(), world.store.generation()), (epoch + 2, generation));
    let after = world.snapshot(CurrentClock).await.clock;
    assert!(after.covers(&clock) && after != clock);
    assert_eq!(world.id::<BuildId>(), BuildId(build.0 + 1));
    assert_eq!(world.id::<LogId>(), LogId(1));
    assert!(world.get::<Worker>(1).await.connected_to.is_empty());
    // The build goes on: its request is not in memory, nor its steps.
    world.finish_build(build, Results::Success).await.unwrap();
    assert_eq!(world.get::<Buildset>(1).await.results, Some(Results::Success));
    let (_, requests) = world.submit(&[1]).await;
    let next = world.start_build(requests[0]).await;
    assert_eq!(world.get::<Build>(next.0).await.number, 2);
}

#[actix_rt::test]
async fn a_second_master_on_the_file_is_refused() {
    let world = World::open(Engine::Sqlite).await;
    assert!(matches!(open(world.path()).await, Err(OpenError::InUse(_))));
    assert!(matches!(migrate(URL, world.path()).await, Err(OpenError::InUse(_))));
    let dir = close(world).await;
    let (before, after) = migrate(URL, dir.path()).await.unwrap();
    assert!(before == after && after > 0, "{before} {after}");
}

#[actix_rt::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (before, known) = migrate(URL, dir.path()).await.unwrap();
    assert!(before == 0 && known > 0, "{before} {known}");
    let file = dir.path().join("test.db");
    let mut raw = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
        VALUES (99, 'later', TRUE, x'00', 0)";
    sqlx::raw_sql(later).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let answer = open(dir.path()).await;
    assert!(matches!(answer, Err(OpenError::Newer { found: 99, known: k }) if k == known), "{answer:?}");
}

#[actix_rt::test]
async fn what_cannot_be_opened_says_why() {
    let dir = tempfile::tempdir().unwrap();
    for url in ["sqlite:/x", "sqlite://", "oracle://x", ""] {
        let answer = Store::open(url, dir.path(), "main", Timestamp(0)).await;
        assert!(matches!(answer, Err(OpenError::Url(_))), "{url}: {answer:?}");
    }
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let answer = open(&file.join("data")).await;
    let Err(error @ OpenError::NotWritable { .. }) = answer else { panic!("{answer:?}") };
    let source = std::error::Error::source(&error).expect("it says why").to_string();
    assert!(!error.to_string().contains(&source), "who shows the chain shows {source:?} twice: {error}");
    std::fs::write(dir.path().join("test.db"), "this is no database, but long enough to be read as one")
        .unwrap();
    let answer = open(dir.path()).await;
    assert!(matches!(answer, Err(OpenError::Failed(_))), "{answer:?}");
}

/// Whoever asked for the text may have seen it before its length was announced.
#[actix_rt::test]
async fn stored_log_text_that_was_not_announced_outlives_a_restart() {
    let world = World::open(Engine::Sqlite).await;
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log: LogId = world.id();
    world.run(vec![Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    let writer = actix::Actor::start(LogWriter::new(world.store.clone(), Arc::new(|_, _| ())));
    let append = |text: &'static str| Append {
        log,
        stream: Stream::Out,
        text: bytes::Bytes::from_static(text.as_bytes()),
    };
    writer.send(append("a\nb\nc\n")).await.unwrap().unwrap();
    writer.send(FlushLogs).await.unwrap().unwrap();
    world.run(vec![Op::GrowLog { log, num_lines: 2 }]).await;
    drop(writer);
    let dir = close(world).await;
    let world = World::open_in(URL, dir).await;
    let writer = actix::Actor::start(LogWriter::new(world.store.clone(), Arc::new(|_, _| ())));
    writer.send(append("d\n")).await.unwrap().unwrap();
    assert_eq!(writer.send(FinishLog { log }).await.unwrap(), Ok(4));
    let reader = actix::Actor::start(LogReader::new(world.store.clone()));
    let read = ReadLines { log, first: 0, count: 99, max_bytes: 9999 };
    let lines = reader.send(read).await.unwrap().unwrap();
    assert_eq!(&lines.text[..], b"oa\nob\noc\nod\n");
}

/// Starts this test program again, to run one ignored test as a child.
fn child(name: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--ignored", "--nocapture"]).env("GREENROOM_TEST_DIR", dir);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn child_dir() -> std::path::PathBuf {
    std::env::var_os("GREENROOM_TEST_DIR").expect("run by another test").into()
}

/// Commits buildsets for ever, telling each that is durable.
#[actix_rt::test]
#[ignore = "run as a child by the test of kills"]
async fn child_writes_until_killed() {
    let world = World::over(open(&child_dir()).await.unwrap(), Arc::new(tempfile::tempdir().unwrap()));
    world.configure().await;
    loop {
        let writes =
            (0..5).map(|_| Op::AddBuildset(Box::new(world.new_buildset(&[1, 2])))).collect::<Vec<_>>();
        let writes = writes.into_iter().map(|op| world.write(vec![op])).collect();
        for answer in world.commit_together(writes).await {
            let committed = answer.unwrap();
            let Outcome::Buildset { id, .. } = committed.outcomes[0] else { panic!() };
            println!("\ndurable {id} {}", committed.at.1);
        }
    }
}

#[actix_rt::test]
async fn nothing_durable_is_lost_by_a_kill() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut told = (0, 0);
    for round in 0..5 {
        let mut child = child("sqlite::child_writes_until_killed", dir.path());
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let mut words = line.split(' ');
            if words.next() != Some("durable") {
                continue;
            }
            let mut number = || words.next().unwrap().parse::<i64>().unwrap();
            told = (number(), number());
            seen += 1;
            if seen == 7 + round * 11 {
                child.kill().unwrap(); // SIGKILL, in the middle of the next write; what it told till then is still read
            }
        }
        child.wait().unwrap();
        assert!(seen >= 7 + round * 11);
        let world = World::open_in(URL, Arc::clone(&dir)).await;
        let sets = world.list::<Buildset>(Query::default()).await;
        assert!(sets.total as i64 >= told.0, "{} of {}", sets.total, told.0);
        let requests = world.list::<BuildRequest>(Query::default()).await;
        assert_eq!(requests.total, sets.total * 2, "a buildset is there whole or not at all");
        let master = world.store.master();
        let head = world.snapshot(CurrentClock).await.clock.head(master);
        assert!(head >= told.1);
        let EventPage::Events(events) = world.read(EventsAfter { master, after: 0, limit: 1_000_000 }).await
        else {
            panic!("gone")
        };
        assert!(events.iter().map(|e| e.seq).eq(1..=head), "numbers without gaps up to the head");
        let new = events.iter().filter(|e| matches!(e.what.record, Record::Buildset(_))).count() as u64;
        assert_eq!(new, sets.total, "an event for each row and a row for each event");
        close(world).await;
    }
}

/// Writes until the limit of the file's size is met, then waits for it to be raised and goes on.
#[actix_rt::test]
#[ignore = "run as a child by the test of full disks"]
async fn child_fills_the_disk() {
    let world = World::over(open(&child_dir()).await.unwrap(), Arc::new(tempfile::tempdir().unwrap()));
    world.configure().await;
    let mut large = world.new_buildset(&[1]);
    large.reason = "x".repeat(200_000);
    let mut done = 0;
    let refused = loop {
        large.id = world.id();
        large.requests[0].0 = world.id();
        match world.commit(world.write(vec![Op::AddBuildset(Box::new(large.clone()))])).await {
            Ok(_) => done += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WriteError::Unavailable(_)), "{refused:?}");
    println!("\nfull {done}");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    // What is small may fit or not; nothing else than a refusal may come of it. With room again all goes on.
    large.id = world.id();
    large.requests[0].0 = world.id();
    world.commit(world.write(vec![Op::AddBuildset(Box::new(large))])).await.unwrap();
    assert_eq!(world.list::<Buildset>(Query::default()).await.total, done + 1);
    println!("\nwent on");
}

#[actix_rt::test]
async fn a_full_disk_refuses_writes_and_then_all_goes_on() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let exe = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let script = "trap '' XFSZ; ulimit -S -f 8192; exec \"$@\"";
    command.args(["-c", script, "sh"]).arg(exe);
    command.args(["sqlite::child_fills_the_disk", "--exact", "--ignored", "--nocapture"]);
    command.env("GREENROOM_TEST_DIR", dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let full = lines.find(|line| line.starts_with("full ")).expect("the disk fills");
    assert!(full[5..].parse::<u64>().unwrap() > 3);
    let raised = Command::new("prlimit")
        .args([format!("--pid={}", child.id()), "--fsize=unlimited:".into()])
        .status()
        .expect("prlimit of util-linux");
    assert!(raised.success());
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"go on\n").unwrap();
    assert!(lines.any(|line| line == "went on"));
    assert!(child.wait().unwrap().success());
    let world = World::open_in(URL, dir).await;
    assert!(world.list::<Buildset>(Query::default()).await.total > 4);
}
