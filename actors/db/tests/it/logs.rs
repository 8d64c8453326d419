//! Log text: written, announced, read, cut.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use actix::{Actor, Addr};
use bytes::Bytes;
use greenroom_db::*;
use greenroom_model::*;

use crate::both;
use crate::objects::{BUCKET, KEY, ObjectServer};
use crate::world::{Engine, World};

macro_rules! everywhere {
    ($($name:ident),* $(,)?) => {
        both!($($name),*);
        $crate::over_objects!($($name),*);
    };
}

/// Runs tests over stores of text beside a database.
#[macro_export]
macro_rules! over_objects {
    ($($name:ident),* $(,)?) => {
        mod directory { $(
            #[actix_rt::test]
            async fn $name() { super::$name($crate::logs::in_directory($crate::world::Engine::Sqlite).await).await }
        )* }
        mod s3 { $(
            #[actix_rt::test]
            async fn $name() {
                let server = $crate::logs::object_server();
                super::$name($crate::logs::in_bucket($crate::world::Engine::Sqlite, &server).await).await
            }
        )* }
    };
}

/// A world whose text goes to a directory, in small pieces.
pub async fn in_directory(engine: Engine) -> World {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = TextStore::Directory(dir.path().join("text"));
    World::open_as(DatabaseOptions { text, object_bytes: 600_000, ..engine.fresh().into() }, dir).await
}

/// The server that tests share which run at the same time.
pub fn object_server() -> Arc<ObjectServer> {
    static SHARED: Mutex<Weak<ObjectServer>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    let server = shared.upgrade().unwrap_or_else(|| Arc::new(ObjectServer::start()));
    *shared = Arc::downgrade(&server);
    server
}

/// A world whose text goes to a bucket, in small pieces, below a prefix of its own.
pub async fn in_bucket(engine: Engine, server: &ObjectServer) -> World {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let text = TextStore::S3(bucket(&server.endpoint, dir.path().file_name().unwrap().to_str().unwrap()));
    World::open_as(DatabaseOptions { text, object_bytes: 600_000, ..engine.fresh().into() }, dir).await
}

/// The bucket of a server.
pub fn bucket(endpoint: &str, prefix: &str) -> S3Options {
    S3Options {
        bucket: BUCKET.into(),
        prefix: Some(prefix.into()),
        endpoint: Some(endpoint.into()),
        region: None,
        keys: Some((KEY.into(), KEY.into())),
    }
}

everywhere!(
    text_is_read_as_it_was_written,
    an_empty_log_stores_nothing,
    growth_is_announced_after_it_can_be_read,
    a_long_line_is_stored_whole,
    a_large_log_is_read_in_pieces,
    a_new_writer_goes_on_where_the_old_one_ended,
    many_logs_at_once_keep_their_lines,
);

pub type Announced = Arc<Mutex<Vec<(LogId, i64)>>>;

pub fn writer(world: &World) -> (Addr<LogWriter>, Announced) {
    let announced = Announced::default();
    let into = Arc::clone(&announced);
    let announce: LogAnnouncer = Arc::new(move |log, lines| into.lock().unwrap().push((log, lines)));
    (LogWriter::new(world.store.clone(), announce).still().start(), announced)
}

pub async fn append(writer: &Addr<LogWriter>, log: LogId, stream: Stream, text: &str) {
    let text = Bytes::copy_from_slice(text.as_bytes());
    writer.send(Append { log, stream, text }).await.unwrap().unwrap();
}

/// Ends a log, and has its text leave if it is to.
async fn finish(world: &World, writer: &Addr<LogWriter>, log: LogId) -> i64 {
    let num_lines = writer.send(FinishLog { log }).await.unwrap().unwrap();
    world.run(vec![Op::FinishLog { log, num_lines }]).await;
    world.store.settle_logs_for_test().await.unwrap();
    num_lines
}

/// New logs of a step of their own.
pub async fn new_logs(world: &World, count: usize) -> Vec<LogId> {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let ids: Vec<LogId> = (0..count).map(|_| world.id()).collect();
    let add = |(n, id): (usize, &LogId)| Op::AddLog {
        id: *id,
        step,
        name: format!("log{n}"),
        kind: LogKind::Stdio,
    };
    world.run(ids.iter().enumerate().map(add).collect()).await;
    ids
}

pub async fn new_log(world: &World) -> LogId {
    new_logs(world, 1).await[0]
}

pub async fn read(world: &World, log: LogId, first: i64, count: i64, max_bytes: usize) -> LogLines {
    let reader = LogReader::new(world.store.clone()).start();
    reader.send(ReadLines { log, first, count, max_bytes }).await.unwrap().unwrap()
}

pub async fn whole(world: &World, log: LogId) -> String {
    let got = read(world, log, 0, i64::MAX, usize::MAX).await;
    String::from_utf8(got.text.to_vec()).unwrap()
}

async fn text_is_read_as_it_was_written(world: World) {
    let (writer, _) = writer(&world);
    let log = new_log(&world).await;
    append(&writer, log, Stream::Out, "one\ntw").await;
    append(&writer, log, Stream::Err, "bad\n").await;
    append(&writer, log, Stream::Out, "o\nthree").await;
    assert_eq!(finish(&world, &writer, log).await, 4);
    assert_eq!(writer.send(FinishLog { log }).await.unwrap(), Ok(4));
    let late = Append { log, stream: Stream::Out, text: Bytes::from_static(b"x\n") };
    assert_eq!(writer.send(late).await.unwrap(), Err(LogError::Finished));
    assert_eq!(whole(&world, log).await, "oone\nebad\notwo\nothree\n");
    let got = read(&world, log, 1, 2, usize::MAX).await;
    assert_eq!((got.first, got.count, &got.text[..], got.next), (1, 2, &b"ebad\notwo\n"[..], None));
    let got = read(&world, log, 1, 3, 6).await;
    assert_eq!((got.count, &got.text[..], got.next), (1, &b"ebad\n"[..], Some(2)));
    assert_eq!(read(&world, log, 4, 9, usize::MAX).await, LogLines { first: 4, ..Default::default() });
}

async fn an_empty_log_stores_nothing(world: World) {
    let (writer, announced) = writer(&world);
    let log = new_log(&world).await;
    assert_eq!(finish(&world, &writer, log).await, 0);
    assert_eq!(read(&world, log, 0, 9, 99).await, LogLines::default());
    assert!(announced.lock().unwrap().is_empty());
}

/// Waits until `done` holds; the harness's own time limit ends a wait in vain.
async fn until(done: impl Fn() -> bool) {
    while !done() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn growth_is_announced_after_it_can_be_read(world: World) {
    let (writer, announced) = writer(&world);
    let log = new_log(&world).await;
    let begun = tokio::time::Instant::now();
    for n in 1..=3 {
        append(&writer, log, Stream::Out, "a line\n").await;
        until(|| announced.lock().unwrap().last() == Some(&(log, n))).await;
        assert_eq!(whole(&world, log).await, "oa line\n".repeat(n as usize));
    }
    // Three announcements need at least two intervals of 250 ms.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(announced.lock().unwrap().len(), 3);
    assert_eq!(finish(&world, &writer, log).await, 3);
    assert_eq!(whole(&world, log).await, "oa line\n".repeat(3));
}

async fn a_long_line_is_stored_whole(world: World) {
    let (writer, _) = writer(&world);
    let log = new_log(&world).await;
    let long = "0123456789".repeat(1024 * 1024);
    for piece in long.as_bytes().chunks(700_001) {
        append(&writer, log, Stream::Plain, std::str::from_utf8(piece).unwrap()).await;
    }
    append(&writer, log, Stream::Plain, "\nend\n").await;
    assert_eq!(finish(&world, &writer, log).await, 2);
    assert!(whole(&world, log).await == long + "\nend\n");
}

async fn a_large_log_is_read_in_pieces(world: World) {
    let (writer, _) = writer(&world);
    let log = new_log(&world).await;
    let mut all = String::new();
    for block in 0..40 {
        let text: String = (0..500).map(|n| format!("line {block}.{n} with some text after it\n")).collect();
        append(&writer, log, Stream::Plain, &text).await;
        all += &text;
    }
    assert_eq!(finish(&world, &writer, log).await, 20_000);
    let (mut got, mut next) = (String::new(), Some(0));
    while let Some(first) = next {
        let piece = read(&world, log, first, i64::MAX, 50_000).await;
        assert!(piece.text.len() <= 50_000 && piece.count > 0);
        got += std::str::from_utf8(&piece.text).unwrap();
        next = piece.next;
    }
    assert!(got == all);
    let middle = read(&world, log, 12_345, 1, usize::MAX).await;
    assert_eq!(&middle.text[..], b"line 24.345 with some text after it\n");
}

async fn a_new_writer_goes_on_where_the_old_one_ended(world: World) {
    let (first, _) = writer(&world);
    let log = new_log(&world).await;
    append(&first, log, Stream::Out, "a\nb\n").await;
    first.send(FlushLogs).await.unwrap().unwrap();
    let (second, _) = writer(&world);
    append(&second, log, Stream::Out, "c\n").await;
    assert_eq!(finish(&world, &second, log).await, 3);
    assert_eq!(whole(&world, log).await, "oa\nob\noc\n");
}

async fn many_logs_at_once_keep_their_lines(world: World) {
    let (writer, _) = writer(&world);
    let logs = new_logs(&world, 50).await;
    for n in 0..20 {
        for log in &logs {
            append(&writer, *log, Stream::Out, &format!("{log}:{n}\n")).await;
        }
        if n % 7 == 0 {
            writer.send(FlushLogs).await.unwrap().unwrap();
        }
    }
    for log in logs {
        assert_eq!(finish(&world, &writer, log).await, 20);
        let wanted: String = (0..20).map(|n| format!("o{log}:{n}\n")).collect();
        assert_eq!(whole(&world, log).await, wanted);
    }
}
