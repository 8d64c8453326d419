//! Any window of a long log takes a bounded number of reads and bounded unpacking. Counted, not timed.

use bytes::Bytes;
use greenroom_db::*;
use greenroom_model::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::logs::{new_log, read, writer};
use crate::over_objects;
use crate::world::{Engine, World};

/// Lines that one piece has.
const BLOCK: i64 = 10_000;
/// The size of a line.
const LINE: usize = 25;
/// A closed segment's size, and what compressing may add to it.
const SEGMENT: u64 = 256 * 1024 + 1024;

/// Pieces of lines that bear their number, without the cost of writing each.
struct Lines(Vec<u8>);

impl Lines {
    fn new() -> Self {
        let lines = (0..BLOCK).map(|n| format!("00000{n:04} and then some.\n"));
        let text: String = lines.collect();
        assert_eq!(text.len(), LINE * BLOCK as usize);
        Self(text.into_bytes())
    }

    fn block(&mut self, block: i64) -> Bytes {
        let number = format!("{block:05}");
        for line in self.0.chunks_mut(LINE) {
            line[..5].copy_from_slice(number.as_bytes());
        }
        Bytes::copy_from_slice(&self.0)
    }
}

fn line(n: i64) -> String {
    format!("o{n:09} and then some.\n")
}

/// Appends whole blocks of lines to a new log, which is not ended.
async fn write(world: &World, lines: i64) -> (actix::Addr<LogWriter>, LogId) {
    let log = new_log(world).await;
    let (writer, _) = writer(world);
    let mut text = Lines::new();
    for block in 0..lines / BLOCK {
        let text = text.block(block);
        writer.send(Append { log, stream: Stream::Out, text }).await.unwrap().unwrap();
    }
    writer.send(FlushLogs).await.unwrap().unwrap();
    (writer, log)
}

async fn end(world: &World, writer: &actix::Addr<LogWriter>, log: LogId) {
    let num_lines = writer.send(FinishLog { log }).await.unwrap().unwrap();
    world.run(vec![Op::FinishLog { log, num_lines }]).await;
    world.store.settle_logs_for_test().await.unwrap();
}

/// Reads a window, which must be right, and answers what that took.
async fn window(world: &World, log: LogId, first: i64, count: i64) -> LogReads {
    let before = world.store.log_reads();
    let got = read(world, log, first, count, usize::MAX).await;
    let after = world.store.log_reads();
    assert_eq!((got.first, got.count, got.next), (first, count, None));
    let expected: String = (first..first + count).map(line).collect();
    assert!(got.text == expected.as_bytes(), "lines {first} and {count} more");
    LogReads { reads: after.reads - before.reads, bytes: after.bytes - before.bytes }
}

/// Random windows of a log with so many lines, each within these bounds.
async fn windows(world: &World, log: LogId, lines: i64, reads: u64, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..100 {
        let first = dice.random_range(0..lines - 500);
        let took = window(world, log, first, 500).await;
        // 500 such lines are in one closed segment or two.
        assert!(took.reads <= reads && took.bytes <= 2 * SEGMENT, "line {first}: {took:?}");
    }
    for first in [0, lines - 500] {
        let took = window(world, log, first, 500).await;
        assert!(took.reads <= reads && took.bytes <= 2 * SEGMENT, "line {first}: {took:?}");
    }
    assert_eq!(read(world, log, lines, 500, usize::MAX).await.count, 0);
}

async fn ten_million(engine: Engine) {
    const LINES: i64 = 10_000_000;
    let world = World::open(engine).await;
    let (writer, log) = write(&world, LINES).await;
    windows(&world, log, LINES, 2, 1).await;
    end(&world, &writer, log).await;
    windows(&world, log, LINES, 2, 2).await;
}

#[actix_rt::test]
async fn ten_million_lines_in_sqlite() {
    ten_million(Engine::Sqlite).await;
}

#[actix_rt::test]
async fn ten_million_lines_in_postgresql() {
    ten_million(Engine::Postgres).await;
}

over_objects!(a_million_lines);

async fn a_million_lines(world: World) {
    const LINES: i64 = 1_000_000;
    let (writer, log) = write(&world, LINES).await;
    world.run(vec![Op::GrowLog { log, num_lines: LINES }]).await;
    assert!(world.store.settle_logs_for_test().await.unwrap() > 10, "most of it leaves while it grows");
    // Two of the database, and one or two of objects.
    windows(&world, log, LINES, 4, 3).await;
    end(&world, &writer, log).await;
    windows(&world, log, LINES, 4, 4).await;
}

#[actix_rt::test]
async fn the_end_of_a_log_that_grows_slowly_takes_few_reads() {
    let world = World::open(Engine::Sqlite).await;
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    for n in 0..1_000 {
        writer
            .send(Append { log, stream: Stream::Out, text: line(n)[1..].to_owned().into() })
            .await
            .unwrap()
            .unwrap();
        // Each line becomes durable alone.
        writer.send(FlushLogs).await.unwrap().unwrap();
    }
    let took = window(&world, log, 500, 500).await;
    assert!(took.reads <= 8 && took.bytes <= SEGMENT, "{took:?}");
}

#[actix_rt::test]
async fn lines_beside_an_enormous_one_are_read_without_it() {
    let world = World::open(Engine::Sqlite).await;
    let log = new_log(&world).await;
    let (writer, _) = writer(&world);
    // It does not compress well.
    let mut dice = StdRng::seed_from_u64(7);
    let enormous: String = (0..20 << 20).map(|_| char::from(dice.random_range(b'a'..=b'z'))).collect();
    let small: String = (0..100).map(|n| line(n)[1..].to_owned()).collect();
    for text in [small.as_str(), &enormous, "\n", &small] {
        writer
            .send(Append { log, stream: Stream::Out, text: text.to_owned().into() })
            .await
            .unwrap()
            .unwrap();
    }
    end(&world, &writer, log).await;
    assert!(window(&world, log, 0, 100).await.bytes < 100_000);
    // It was split at 16 MiB.
    let before = world.store.log_reads().bytes;
    let after = read(&world, log, 102, 100, usize::MAX).await;
    assert_eq!(after.text.len(), small.len() + 100);
    assert!(world.store.log_reads().bytes - before < 100_000);
    let both = read(&world, log, 100, 2, usize::MAX).await;
    let lines: Vec<&[u8]> =
        both.text.split(|byte| *byte == b'\n').map(|it| it.get(1..).unwrap_or_default()).collect();
    assert_eq!(lines[0].len(), 16 << 20);
    assert!(lines.concat() == enormous.as_bytes());
    // A piece of bounded size has one of them.
    assert_eq!(read(&world, log, 100, 2, 1 << 20).await.count, 1);
}
