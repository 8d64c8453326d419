//! Removing history: what goes with it, what stays, and that nobody hears of it wrongly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Actor;
use bytes::Bytes;
use greenroom_db::*;
use greenroom_model::write::*;
use greenroom_model::*;

use crate::both;
use crate::world::{START, World, change};

both!(
    a_build_goes_with_all_that_is_its_own,
    what_is_needed_stays,
    pins_are_kept_and_shown,
    logs_go_before_their_builds,
    changes_go_when_nobody_needs_them,
    facts_are_told_newest_first,
);

/// A build with a step and a finished log, ended with these results.
async fn ended(world: &World, builder: i64, results: Results) -> (BuildId, StepId, LogId) {
    let (_, requests) = world.submit(&[builder]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log = world.id();
    let start = Op::StartStep { step, state_string: "runs".into() };
    world.run(vec![start, Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio }]).await;
    world.finish_build(build, results).await.unwrap();
    (build, step, log)
}

async fn remove(world: &World, what: Remove) -> Removed {
    let at = Timestamp::from_seconds(START);
    world.writer.send(Remove { at, ..what }).await.unwrap().unwrap()
}

async fn remove_builds(world: &World, builds: &[BuildId]) -> Removed {
    remove(world, Remove { builds: builds.to_vec(), ..Remove::default() }).await
}

async fn counts(world: &World) -> [u64; 6] {
    [
        world.list::<Build>(Query::default()).await.total,
        world.list::<Step>(Query::default()).await.total,
        world.list::<Log>(Query::default()).await.total,
        world.list::<BuildRequest>(Query::default()).await.total,
        world.list::<Buildset>(Query::default()).await.total,
        world.list::<SourceStamp>(Query::default()).await.total,
    ]
}

async fn a_build_goes_with_all_that_is_its_own(world: World) {
    world.configure().await;
    let (first, step, log) = ended(&world, 1, Results::Failure).await;
    let (second, ..) = ended(&world, 1, Results::Success).await;
    let request = world.get::<Build>(first.0).await.request;
    world.events();
    let removed = remove_builds(&world, &[first]).await;
    let wanted = Removed { builds: 1, steps: 1, logs: 1, requests: 1, buildsets: 1, ..Removed::default() };
    assert_eq!(removed, wanted);
    let events = world.events();
    let topics: Vec<String> = events.iter().map(|e| e.what.topic().to_string()).collect();
    assert_eq!(topics[0], "builders/1/builds/1/deleted");
    assert_eq!(topics.len(), 3, "{topics:?}");
    assert!(events.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
    assert_eq!(counts(&world).await, [1, 1, 1, 1, 1, 1], "the other build and the stamp that it is of");
    assert_eq!(world.read(Get::<Build>::new(first.0)).await, None);
    assert_eq!(world.read(Get::<Step>::new(step.0)).await, None);
    assert_eq!(world.read(Get::<Log>::new(log.0)).await, None);
    assert_eq!(world.read(Get::<BuildRequest>::new(request.0)).await, None);
    assert_eq!(remove_builds(&world, &[first]).await, Removed::default(), "once is enough");
    assert!(world.events().is_empty());
    // What was cached of it is gone as well, and numbers go on.
    assert!(matches!(world.finish_build(first, Results::Success).await, Err(Refusal::NotFound(_))));
    let (third, ..) = ended(&world, 1, Results::Success).await;
    assert_eq!(world.get::<Build>(third.0).await.number, 3);
    remove_builds(&world, &[second]).await;
    assert_eq!(counts(&world).await[0], 1);
}

async fn what_is_needed_stays(world: World) {
    world.configure().await;
    let (old, ..) = ended(&world, 1, Results::Success).await;
    let (newest, ..) = ended(&world, 1, Results::Success).await;
    assert_eq!(remove_builds(&world, &[newest]).await, Removed::default(), "the newest of its builder");
    // One that runs, its ended child, and a child whose sibling still runs.
    let (_, requests) = world.submit(&[1]).await;
    let parent = world.start_build(requests[0]).await;
    let mut triggered = world.new_buildset(&[2]);
    triggered.parent = Some((parent, "triggered".into()));
    let request = triggered.requests[0].0;
    world.run(vec![Op::AddBuildset(Box::new(triggered))]).await;
    let child = world.start_build(request).await;
    world.finish_build(child, Results::Success).await.unwrap();
    ended(&world, 2, Results::Success).await;
    assert_eq!(remove_builds(&world, &[parent, child]).await, Removed::default());
    world.finish_build(parent, Results::Success).await.unwrap();
    assert_eq!(remove_builds(&world, &[child]).await.builds, 1, "now nobody waits");
    // A request that was built twice goes with its last build; a buildset with its last request.
    let (set, requests) = world.submit(&[1, 2]).await;
    let lost = world.start_build(requests[0]).await;
    world.finish_build(lost, Results::Retry).await.unwrap();
    let again = world.start_build(requests[0]).await;
    let beside = world.start_build(requests[1]).await;
    world.finish_build(again, Results::Success).await.unwrap();
    ended(&world, 1, Results::Success).await;
    let removed = remove_builds(&world, &[old, lost, again]).await;
    assert_eq!((removed.builds, removed.requests, removed.buildsets), (3, 2, 1), "{removed:?}");
    assert!(world.read(Get::<Buildset>::new(set.0)).await.is_some(), "one of its builds runs");
    world.finish_build(beside, Results::Success).await.unwrap();
    assert!(world.get::<Buildset>(set.0).await.complete_at.is_some());
}

async fn pins_are_kept_and_shown(world: World) {
    world.configure().await;
    let (old, ..) = ended(&world, 1, Results::Failure).await;
    ended(&world, 1, Results::Failure).await;
    let pin = |pinned| Op::PinBuild { build: old, pinned, by: "ann".into() };
    world.events();
    world.run(vec![pin(true)]).await;
    assert_eq!(world.topics(), [format!("builds/{old}/properties/update")]);
    let properties = world.read(BuildPropertiesOf { builds: vec![old] }).await;
    assert_eq!(properties[&old][PINNED], Property(true.into(), "ann".into()));
    let both = Remove { builds: vec![old], logs_of: vec![old], ..Remove::default() };
    assert_eq!(remove(&world, both.clone()).await, Removed::default());
    let facts = world.read(RetentionFacts { builder: BuilderId(1), below: i64::MAX, limit: 9 }).await;
    assert_eq!(facts.iter().map(|f| f.pinned).collect::<Vec<_>>(), [false, true]);
    world.run(vec![pin(false)]).await;
    assert_eq!(remove(&world, both).await.builds, 1);
    assert!(matches!(world.attempt(pin(true)).await, Err(Refusal::NotFound(_))));
}

async fn logs_go_before_their_builds(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let step = world.add_step(build, 0).await;
    let log: LogId = world.id();
    let start = Op::StartStep { step, state_string: "runs".into() };
    world.run(vec![start, Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Text }]).await;
    let logs = LogWriter::new(world.store.clone(), Arc::new(|_, _| ())).start();
    let text = Bytes::from("a line of text\n".repeat(1000));
    logs.send(Append { log, stream: Stream::Plain, text: text.clone() }).await.unwrap().unwrap();
    let lines = logs.send(greenroom_db::FinishLog { log }).await.unwrap().unwrap();
    assert_eq!(lines, 1000);
    world.finish_build(build, Results::Success).await.unwrap();
    ended(&world, 1, Results::Success).await;
    let bytes = world.reader.send(LogBytesOf { builds: vec![build] }).await.unwrap().unwrap();
    assert_eq!(bytes[&build], text.len() as u64);
    world.events();
    let removed = remove(&world, Remove { logs_of: vec![build], ..Remove::default() }).await;
    assert_eq!((removed.logs, removed.builds, removed.builds_without_logs), (1, 0, 1));
    assert_eq!(world.topics(), [format!("logs/{log}/deleted")]);
    assert_eq!(world.read(Get::<Log>::new(log.0)).await, None);
    assert!(world.read(Get::<Step>::new(step.0)).await.is_some());
    let facts = world.read(RetentionFacts { builder: BuilderId(1), below: i64::MAX, limit: 9 }).await;
    assert_eq!(facts.iter().map(|f| f.logs_removed).collect::<Vec<_>>(), [false, true]);
    // The text itself goes afterwards, and only then the mark of that.
    let reader = LogReader::new(world.store.clone()).start();
    let read = ReadLines { log, first: 0, count: 9, max_bytes: 1000 };
    assert!(reader.send(read).await.unwrap().unwrap().count > 0);
    let mut swept = 0;
    loop {
        let piece = logs.send(SweepLogs).await.unwrap().unwrap();
        swept += piece.logs;
        if !piece.more {
            break;
        }
    }
    assert_eq!(swept, 1);
    assert_eq!(reader.send(read).await.unwrap().unwrap().count, 0);
    assert_eq!(remove_builds(&world, &[build]).await.builds, 1);
}

async fn changes_go_when_nobody_needs_them(world: World) {
    world.configure().await;
    let mut ids = Vec::new();
    for revision in ["a", "b", "c"] {
        let new = change(
            world.id(),
            ChangeOrigin::Hook { source: "h".into(), delivery: Some(revision.into()) },
            revision,
        );
        ids.push(new.id);
        world.run(vec![Op::AddChange(Box::new(new))]).await;
    }
    let stamp = world.get::<Change>(ids[1].0).await.sourcestamp.id;
    let mut set = world.new_buildset(&[1]);
    set.sourcestamps = vec![StampRef::Existing(stamp)];
    let request = set.requests[0].0;
    world.run(vec![Op::AddBuildset(Box::new(set))]).await;
    let before = Timestamp::from_seconds(START + 1);
    let ask = LooseEnds { changes: true, before, after: 0, limit: 100 };
    let loose = world.read(ask).await;
    assert_eq!((loose.ids.clone(), loose.next), (vec![ids[0].0, ids[2].0], None));
    let nothing = LooseEnds { before: Timestamp::from_seconds(START), ..ask };
    assert_eq!(world.read(nothing).await.ids, Vec::<i64>::new(), "none is that old");
    world.events();
    let all = Remove { changes: ids.clone(), ..Remove::default() };
    let removed = remove(&world, all).await;
    assert_eq!((removed.changes, removed.sourcestamps), (1, 1), "one is built, one is its branch's newest");
    assert_eq!(world.topics(), ["changes/1/deleted"]);
    assert_eq!(world.list::<Change>(Query::default()).await.total, 2);
    // The same delivery once more is news now; its stamp is a new one.
    let again =
        change(world.id(), ChangeOrigin::Hook { source: "h".into(), delivery: Some("a".into()) }, "a");
    let id = again.id;
    assert_eq!(world.attempt(Op::AddChange(Box::new(again))).await, Ok(Outcome::Change { id, new: true }));
    // A buildset whose requests were given up has no build that it could go with.
    world.run(vec![Op::CancelRequest { request }]).await;
    let sets =
        world.read(LooseEnds { changes: false, before: Timestamp(i64::MAX), after: 0, limit: 9 }).await;
    assert_eq!(sets.ids.len(), 1);
    let buildsets = sets.ids.into_iter().map(BuildsetId).collect();
    let removed = remove(&world, Remove { buildsets, ..Remove::default() }).await;
    assert_eq!((removed.buildsets, removed.requests, removed.sourcestamps), (1, 1, 0));
}

async fn facts_are_told_newest_first(world: World) {
    world.configure().await;
    for results in [Results::Success, Results::Failure, Results::Success] {
        ended(&world, 1, results).await;
    }
    let (_, requests) = world.submit(&[1]).await;
    world.start_build(requests[0]).await;
    let facts = |below| RetentionFacts { builder: BuilderId(1), below, limit: 3 };
    let first = world.read(facts(i64::MAX)).await;
    assert_eq!(first.iter().map(|f| f.number).collect::<Vec<_>>(), [4, 3, 2]);
    assert_eq!(first[0].complete_at, None);
    assert!(first.iter().all(|f| f.branch.as_deref() == Some("main") && !f.pinned));
    assert_eq!(world.read(facts(2)).await.len(), 1);
    assert_eq!(world.read(facts(1)).await, []);
}

/// An id that is gone does not come back as something else's, also over a restart.
#[actix_rt::test]
async fn ids_are_not_given_again() {
    let world = World::open(crate::world::Engine::Sqlite).await;
    world.configure().await;
    ended(&world, 2, Results::Success).await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    let largest = ended(&world, 2, Results::Success).await;
    // Made the builder's second newest, and the largest id of all.
    world.finish_build(build, Results::Success).await.unwrap();
    let removed = remove(&world, Remove { logs_of: vec![largest.0], ..Remove::default() }).await;
    assert_eq!(removed.logs, 0, "its builder's newest keeps its logs");
    let (first, _, log) = ended(&world, 1, Results::Success).await;
    let (_, requests) = world.submit(&[1]).await;
    let newest = world.start_build(requests[0]).await;
    world.finish_build(newest, Results::Success).await.unwrap();
    assert_eq!(remove_builds(&world, &[first]).await.builds, 1);
    let dir = Arc::clone(&world.dir);
    let url = world.url.clone();
    let World { store, writer, reader, .. } = world;
    drop((writer, reader));
    let weak = store.clone();
    drop((store, weak));
    let again = loop {
        // The actors of the first one end when they are told that nobody has their addresses.
        match Store::open(url.as_str(), dir.path(), "main", Timestamp::from_seconds(START)).await {
            Ok(store) => break World::over(store, Arc::clone(&dir)),
            Err(OpenError::InUse(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert!(again.id::<LogId>() > log, "the largest log of all is gone, its id is not free");
}

/// How long single writes take while builds are removed, beside what they take before: a thousand, or as many as
/// `GREENROOM_REMOVE_BUILDS` says.
#[actix_rt::test]
async fn builds_are_not_delayed_while_many_are_removed() {
    let world = World::open(crate::world::Engine::Sqlite).await;
    world.configure().await;
    let wanted = std::env::var("GREENROOM_REMOVE_BUILDS").map_or(1_000, |n| n.parse().unwrap());
    let mut builds = Vec::with_capacity(wanted);
    for _ in 0..wanted / 100 {
        let mut ops = Vec::new();
        for _ in 0..100 {
            let set = world.new_buildset(&[1]);
            let request = set.requests[0].0;
            ops.push(Op::AddBuildset(Box::new(set)));
            let (build, start) = world.start_op(request);
            let step = loop {
                match world.store.ids().new_id::<StepId>() {
                    Ok(id) => break id,
                    Err(_) => world
                        .writer
                        .send(ReserveIds { kind: StepId::KIND, count: 4096 })
                        .await
                        .unwrap()
                        .unwrap(),
                }
            };
            let log = match world.store.ids().new_id::<LogId>() {
                Ok(id) => id,
                Err(_) => panic!("ids of logs"),
            };
            ops.extend([
                start,
                Op::AddStep { id: step, build, number: 0, name: "s".into(), hidden: false },
                Op::StartStep { step, state_string: String::new() },
                Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio },
                Op::FinishBuild { build, results: Results::Success, state_string: String::new() },
            ]);
            builds.push(build);
        }
        world.run(ops).await;
    }
    let single = || async {
        let begun = Instant::now();
        world.submit(&[2]).await;
        begun.elapsed()
    };
    let mut before = Vec::new();
    for _ in 0..200 {
        before.push(single().await);
    }
    let begun = Instant::now();
    let (writer, at) = (world.writer.clone(), Timestamp::from_seconds(START));
    let removal = actix_rt::spawn(async move {
        let (mut gone, mut longest) = (0, Duration::ZERO);
        for piece in builds.chunks(10) {
            let begun = Instant::now();
            let what = Remove { builds: piece.to_vec(), at, ..Remove::default() };
            gone += writer.send(what).await.unwrap().unwrap().builds;
            longest = longest.max(begun.elapsed());
            tokio::time::sleep(begun.elapsed()).await; // as the janitor does: half of the writer's time is others'
        }
        (gone, longest)
    });
    let mut during = Vec::new();
    while !removal.is_finished() {
        during.push(single().await);
    }
    let (gone, longest) = removal.await.unwrap();
    let taken = begun.elapsed();
    let at = |all: &mut Vec<Duration>, part: f64| {
        all.sort_unstable();
        all[((all.len() - 1) as f64 * part) as usize]
    };
    println!(
        "{gone} builds removed in {taken:?}, longest step {longest:?}; single writes: median {:?} and p99 {:?} before, \
         median {:?}, p99 {:?} and longest {:?} of {} meanwhile",
        at(&mut before, 0.5),
        at(&mut before, 0.99),
        at(&mut during, 0.5),
        at(&mut during, 0.99),
        at(&mut during, 1.0),
        during.len(),
    );
    assert_eq!(gone, wanted as u64 - 1, "all but the newest");
    // Far above what is measured, and far below what anybody would notice of a build.
    assert!(at(&mut during, 0.99) < Duration::from_millis(500), "{:?}", at(&mut during, 0.99));
}
