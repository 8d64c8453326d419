//! Text that leaves the database for a directory or a bucket, and what can go wrong with that.

use std::sync::Arc;

use actix::Addr;
use greenroom_db::*;
use greenroom_model::*;

use crate::logs::{append, bucket, in_directory, new_log, read, whole, writer};
use crate::objects::{ObjectServer, files};
use crate::over_objects;
use crate::proxy::{Mood, Proxy};
use crate::servers;
use crate::world::{Engine, START, World};

over_objects!(
    text_leaves_while_it_grows,
    short_logs_stay,
    removed_text_takes_its_objects_along,
    two_that_move_the_same_text_move_it_once
);

/// Text of about so many bytes that does not repeat itself much.
fn text(from: usize, bytes: usize) -> String {
    let line = |n: usize| format!("{n} {:x}{:x}\n", n.wrapping_mul(2_654_435_761), n.wrapping_mul(40_503));
    let mut text = String::new();
    let mut n = from;
    while text.len() < bytes {
        text += &line(n);
        n += 1;
    }
    text
}

async fn grow(world: &World, log: LogId, all: &str) {
    let num_lines = all.lines().count() as i64;
    world.run(vec![Op::GrowLog { log, num_lines }]).await;
}

async fn end(world: &World, writer: &Addr<LogWriter>, log: LogId) -> i64 {
    let num_lines = writer.send(FinishLog { log }).await.unwrap().unwrap();
    world.run(vec![Op::FinishLog { log, num_lines }]).await;
    num_lines
}

async fn settle(world: &World) -> usize {
    world.store.settle_logs_for_test().await.unwrap()
}

fn lettered(text: &str) -> String {
    text.lines().map(|line| format!("o{line}\n")).collect()
}

async fn text_leaves_while_it_grows(world: World) {
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    let (mut all, mut objects) = (String::new(), 0);
    for part in 0..4 {
        let more = text(part * 1_000_000, 1 << 20);
        append(&writer, log, Stream::Out, &more).await;
        all += &more;
        writer.send(FlushLogs).await.unwrap().unwrap();
        grow(&world, log, &all).await;
        let left = settle(&world).await;
        assert!(left > 0, "part {part}");
        objects += left;
        assert!(whole(&world, log).await == lettered(&all), "part {part}");
    }
    let lines = end(&world, &writer, log).await;
    objects += settle(&world).await;
    assert_eq!((lines, settle(&world).await), (all.lines().count() as i64, 0));
    assert!((5..=8).contains(&objects), "{objects}");
    assert!(whole(&world, log).await == lettered(&all));
    // A window of a line reads one segment of one object.
    let before = world.store.log_reads();
    let got = read(&world, log, lines / 2, 1, usize::MAX).await;
    assert_eq!(got.count, 1);
    let after = world.store.log_reads();
    assert!(
        after.reads - before.reads <= 2 && after.bytes - before.bytes < 256 * 1024,
        "{before:?} {after:?}"
    );
}

async fn short_logs_stay(world: World) {
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    append(&writer, log, Stream::Out, &text(0, 100_000)).await;
    end(&world, &writer, log).await;
    assert_eq!(settle(&world).await, 0);
}

async fn removed_text_takes_its_objects_along(world: World) {
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    append(&writer, log, Stream::Out, &text(0, 3 << 20)).await;
    end(&world, &writer, log).await;
    assert!(settle(&world).await > 3);
    let build: Arc<Build> = world.get(1).await;
    world.finish_build(build.id, Results::Success).await.unwrap();
    // The newest build of a builder keeps its logs.
    let newer = world.start_build(world.submit(&[1]).await.1[0]).await;
    world.finish_build(newer, Results::Success).await.unwrap();
    let removed = world.writer.send(Remove {
        at: Timestamp::from_seconds(START),
        logs_of: vec![build.id],
        ..Remove::default()
    });
    assert_eq!(removed.await.unwrap().unwrap().logs, 1);
    assert_eq!(settle(&world).await, 0);
    while writer.send(SweepLogs).await.unwrap().unwrap().more {}
    let gone = read(&world, log, 0, 9, usize::MAX).await;
    assert_eq!((gone.count, gone.next), (0, None));
    assert!(files(&world.path().join("text")).is_empty());
}

async fn two_that_move_the_same_text_move_it_once(world: World) {
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    let all = text(0, 6 << 20);
    append(&writer, log, Stream::Out, &all).await;
    end(&world, &writer, log).await;
    let moved = tokio::join!(settle(&world), settle(&world), settle(&world));
    assert!(whole(&world, log).await == lettered(&all));
    let kept = files(&world.path().join("text")).len();
    assert!(kept == 0 || kept == moved.0 + moved.1 + moved.2, "{kept} of {moved:?}");
    assert_eq!(settle(&world).await, 0);
}

/// Text in a directory: of a master that shares its database with others.
async fn shared_with_a_directory(engine: Engine) -> (World, LogId, String) {
    let world = in_directory(engine).await;
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    let all = text(0, 2 << 20);
    append(&writer, log, Stream::Out, &all).await;
    end(&world, &writer, log).await;
    (world, log, all)
}

async fn a_master_that_was_taken_over_moves_nothing(engine: Engine) {
    let (world, log, all) = shared_with_a_directory(engine).await;
    world.store.vanish_for_test();
    let mut options = servers::options(&world.url);
    options.text = TextStore::Directory(world.path().join("text"));
    options.object_bytes = 600_000;
    let heir = servers::open(options, "main").await.unwrap();
    let refused = world.store.settle_logs_for_test().await;
    assert!(matches!(refused, Err(LogError::Unavailable(_))), "{refused:?}");
    assert!(files(&world.path().join("text")).is_empty(), "it did not get as far as that");
    assert!(settle(&heir).await > 0);
    assert!(whole(&heir, log).await == lettered(&all));
}

#[actix_rt::test]
async fn a_master_that_was_taken_over_moves_nothing_in_postgresql() {
    a_master_that_was_taken_over_moves_nothing(Engine::Postgres).await;
}

#[actix_rt::test]
async fn a_master_that_was_taken_over_moves_nothing_in_mariadb() {
    a_master_that_was_taken_over_moves_nothing(Engine::MariaDb).await;
}

#[actix_rt::test]
async fn a_bucket_that_is_away_delays_nothing_and_loses_nothing() {
    let server = ObjectServer::start();
    let proxy = Proxy::to(server.address());
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text_store = TextStore::S3(bucket(&format!("http://{}", proxy.address), "farm"));
    let options =
        DatabaseOptions { text: text_store, object_bytes: 600_000, ..Engine::Sqlite.fresh().into() };
    let world = World::open_as(options, dir).await;
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    let mut all = text(0, 2 << 20);
    append(&writer, log, Stream::Out, &all).await;
    writer.send(FlushLogs).await.unwrap().unwrap();
    grow(&world, log, &all).await;
    assert!(settle(&world).await > 0);
    for away in 0..2 {
        match away {
            0 => proxy.set(Mood::Cut),
            _ => server.stop(),
        }
        // Text is taken and stored all the same.
        let more = text((away + 1) * 1_000_000, 1 << 20);
        append(&writer, log, Stream::Out, &more).await;
        all += &more;
        writer.send(FlushLogs).await.unwrap().unwrap();
        grow(&world, log, &all).await;
        let failed = world.store.settle_logs_for_test().await;
        assert!(matches!(&failed, Err(LogError::Unavailable(_))), "{failed:?}");
        // What has left cannot be read now, and that is said; what has not can.
        let reader = actix::Actor::start(LogReader::new(world.store.clone()));
        let first = |first| ReadLines { log, first, count: 1, max_bytes: 1 << 20 };
        let lines = all.lines().count() as i64;
        let gone = reader.send(first(0)).await.unwrap();
        assert!(matches!(&gone, Err(LogError::Unavailable(why)) if why.contains("object store")), "{gone:?}");
        assert_eq!(reader.send(first(lines - 1)).await.unwrap().unwrap().count, 1);
        match away {
            0 => proxy.set(Mood::Pass),
            _ => server.again(),
        }
        assert!(settle(&world).await > 0);
        assert!(whole(&world, log).await == lettered(&all));
    }
    end(&world, &writer, log).await;
    settle(&world).await;
    assert!(whole(&world, log).await == lettered(&all));
}
