//! What storage costs on this machine: `cargo bench -p greenroom-db`.
//!
//! Prints events a second and CPU per event of trivial builds in groups, the time of a single write beside a bare
//! fdatasync, and the rate at which log text is taken in and stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use actix::{Actor, Addr};
use bytes::Bytes;
use greenroom_db::*;
use greenroom_model::write::*;
use greenroom_model::*;

type Failure = Box<dyn std::error::Error>;

#[actix_rt::main]
async fn main() -> Result<(), Failure> {
    let dir = tempfile::tempdir_in(std::env::var_os("GREENROOM_BENCH_DIR").unwrap_or_else(|| ".".into()))?;
    println!("fdatasync             {:>10.0} us", fdatasync(dir.path())?.as_secs_f64() * 1e6);
    let url = std::env::var("GREENROOM_BENCH_DATABASE").unwrap_or_else(|_| "sqlite://bench.db".into());
    let store = Store::open(url, dir.path(), "bench", Timestamp(1)).await?;
    let events = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&events);
    let sink: EventSink = Arc::new(move |batch| {
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
    });
    let writer = DbWriter::new(store.clone(), sink).start();
    let configuration = Configuration {
        builders: vec![ConfiguredBuilder {
            name: "b".into(),
            workers: vec!["w".into()],
            ..Default::default()
        }],
        workers: vec!["w".into()],
        ..Default::default()
    };
    commit(&writer, vec![Op::Configure(Box::new(configuration))]).await?;
    single_writes(&writer).await?;
    for slots in [1, 16, 64] {
        builds(&store, &writer, &events, slots).await?;
    }
    log_text(&store).await
}

fn fdatasync(dir: &std::path::Path) -> Result<Duration, Failure> {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("sync"))?;
    let begun = Instant::now();
    for _ in 0..200 {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
    }
    Ok(begun.elapsed() / 200)
}

async fn commit(writer: &Addr<DbWriter>, ops: Vec<Op>) -> Result<Committed, Failure> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = WriteId(
        u128::from(NEXT.fetch_add(1, Ordering::Relaxed))
            .wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835),
    );
    Ok(writer.send(Commit(Write { id, at: Timestamp(1_000_000), ops })).await??)
}

async fn single_writes(writer: &Addr<DbWriter>) -> Result<(), Failure> {
    let begun = Instant::now();
    for n in 0..300 {
        let state = ListenerRecord { clock: None, settings: n.into() };
        commit(writer, vec![Op::SaveListener { name: "l".into(), state }]).await?;
    }
    println!("a single write        {:>10.0} us", begun.elapsed().as_secs_f64() * 1e6 / 300.0);
    Ok(())
}

/// The writes of one trivial build, as its owner makes them.
async fn one_build(store: &Store, writer: &Addr<DbWriter>) -> Result<(), Failure> {
    let ids = store.ids();
    let (request, build, step, log) = (ids.new_id()?, ids.new_id()?, ids.new_id()?, ids.new_id()?);
    let set = NewBuildset {
        id: ids.new_id()?,
        requests: vec![(request, BuilderId(1))],
        sourcestamps: vec![StampRef::New(NewSourceStamp::default())],
        reason: "bench".into(),
        external_id: None,
        properties: Properties::new(),
        priority: 0,
        waited_for: false,
        scheduler: None,
        parent: None,
        rebuilt_build: None,
    };
    commit(writer, vec![Op::AddBuildset(Box::new(set))]).await?;
    let state_string = "running".to_owned();
    let new =
        NewBuild { id: build, request, worker: WorkerId(1), state_string, properties: Properties::new() };
    commit(writer, vec![Op::StartBuild(Box::new(new))]).await?;
    let text = || "'true'".to_owned();
    let begin = vec![
        Op::AddStep { id: step, build, number: 0, name: "shell".into(), hidden: false },
        Op::StartStep { step, state_string: text() },
        Op::SetStepCommand { step, command: "1".into() },
        Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
    ];
    commit(writer, begin).await?;
    let end = vec![
        Op::FinishLog { log, num_lines: 3 },
        Op::FinishStep { step, results: Results::Success, state_string: text(), hidden: false },
        Op::FinishBuild { build, results: Results::Success, state_string: text() },
    ];
    commit(writer, end).await?;
    Ok(())
}

async fn builds(
    store: &Store,
    writer: &Addr<DbWriter>,
    events: &AtomicU64,
    slots: usize,
) -> Result<(), Failure> {
    let (before, begun, cpu) = (events.load(Ordering::Relaxed), Instant::now(), cpu_time()?);
    let each = 4000 / slots.max(4);
    let slot = || async {
        for _ in 0..each {
            one_build(store, writer).await?;
        }
        Ok::<_, Failure>(())
    };
    futures_util::future::try_join_all((0..slots).map(|_| slot())).await?;
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), (cpu_time()? - cpu).as_secs_f64());
    let (n, builds) = ((events.load(Ordering::Relaxed) - before) as f64, (each * slots) as f64);
    println!(
        "{slots:>3} builds at once     {:>10.0} builds/s {:>8.0} events/s {:>6.1} us CPU/event {:>6.0} us CPU/build",
        builds / wall,
        n / wall,
        cpu * 1e6 / n,
        cpu * 1e6 / builds
    );
    Ok(())
}

async fn log_text(store: &Store) -> Result<(), Failure> {
    let writer = LogWriter::new(store.clone(), Arc::new(|_, _| ())).start();
    let line = "[ 42%] Building C object src/CMakeFiles/thing.dir/some/where/file.c.o\n";
    let text = Bytes::from(line.repeat(64 * 1024 / line.len()));
    let (begun, cpu) = (Instant::now(), cpu_time()?);
    let one = || async {
        let log = store.ids().new_id()?;
        for _ in 0..1600 {
            writer.send(Append { log, stream: Stream::Out, text: text.clone() }).await??;
        }
        writer.send(FinishLog { log }).await??;
        Ok::<_, Failure>(())
    };
    futures_util::future::try_join_all((0..4).map(|_| one())).await?;
    let mb = (text.len() * 1600 * 4) as f64 / 1e6;
    let (wall, cpu) = (begun.elapsed().as_secs_f64(), (cpu_time()? - cpu).as_secs_f64());
    println!("log text              {:>10.0} MB/s {:>8.2} ms CPU/MB", mb / wall, cpu * 1e3 / mb);
    Ok(())
}

/// User and system time of this process.
fn cpu_time() -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().ok_or("no stat")?;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().unwrap_or(0)).sum();
    Ok(Duration::from_millis(ticks * 10))
}
