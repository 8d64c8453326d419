//! Filling in bulk leaves what the same operations leave one by one.

use greenroom_db::*;
use greenroom_model::ids::IdKind;
use greenroom_model::write::*;
use greenroom_model::*;

use crate::both;
use crate::world::{START, World, change};

both!(filling_leaves_what_builds_leave, a_filling_that_broke_off_goes_on);

const SECOND: i64 = 1_000_000;

/// A change and a few builds of it with steps and logs, each operation at its time; ids are given.
fn history(builds: i64) -> Vec<(Timestamp, Op)> {
    let mut ops = Vec::new();
    let mut at = START * SECOND;
    let mut push = |op: Op| {
        at += SECOND / 4;
        ops.push((Timestamp(at), op));
    };
    push(Op::AddChange(Box::new(change(ChangeId(1), ChangeOrigin::Manual, "abc"))));
    for n in 1..=builds {
        let (build, request, step, log) = (BuildId(n), BuildRequestId(n), StepId(n), LogId(n));
        let stamp = NewSourceStamp {
            branch: Some("main".into()),
            revision: Some("abc".into()),
            repository: "https://example.org/r.git".into(),
            ..Default::default()
        };
        push(Op::AddBuildset(Box::new(NewBuildset {
            id: BuildsetId(n),
            requests: vec![(request, BuilderId(1 + n % 2))],
            sourcestamps: vec![StampRef::New(stamp)],
            reason: format!("build {n}"),
            external_id: None,
            properties: Properties::new(),
            priority: 0,
            waited_for: false,
            scheduler: Some("s".into()),
            parent: None,
            rebuilt_build: None,
        })));
        let properties = Properties::from([("branch".to_owned(), Property("main".into(), "Build".into()))]);
        let state_string = "building".to_owned();
        let new = NewBuild { id: build, request, worker: WorkerId(1), state_string, properties };
        push(Op::StartBuild(Box::new(new)));
        push(Op::AddStep { id: step, build, number: 0, name: "compile".into(), hidden: false });
        push(Op::StartStep { step, state_string: "running".into() });
        push(Op::AddLog { id: log, step, name: "stdio".into(), kind: LogKind::Stdio });
        push(Op::SetStepCommand { step, command: format!("{n:032x}") });
        push(Op::GrowLog { log, num_lines: 7 });
        push(Op::FinishLog { log, num_lines: 9 });
        let results = if n % 3 == 0 { Results::Failure } else { Results::Success };
        push(Op::FinishStep { step, results, state_string: "done".into(), hidden: false });
        push(Op::FinishBuild { build, results, state_string: "done".into() });
    }
    ops
}

/// All that can be read of the history, and the clock.
async fn seen(world: &World) -> (Vec<String>, i64) {
    let mut seen = Vec::new();
    macro_rules! all {
        ($($entity:ty),*) => {$(
            let page = world.list::<$entity>(Query::default()).await;
            seen.push(format!("{} {:#?}", page.total, page.items));
        )*};
    }
    all!(Builder, Worker, Change, SourceStamp, Buildset, BuildRequest, Build, Step, Log);
    let builds = world.list::<Build>(Query::default()).await.items.iter().map(|b| b.id).collect();
    let properties = world.read(BuildPropertiesOf { builds }).await;
    let mut properties: Vec<_> = properties.into_iter().collect();
    properties.sort_by_key(|(build, _)| *build);
    seen.push(format!("{properties:#?}"));
    let clock = world.snapshot(CurrentClock).await.clock;
    (seen, clock.head(world.store.master()))
}

async fn filling_leaves_what_builds_leave(filled: World) {
    let real = World::open(crate::world::Engine::Memory).await;
    real.configure().await;
    filled.configure().await;
    let history = history(7);
    for (at, op) in &history {
        let mut write = real.write(vec![op.clone()]);
        write.at = *at;
        real.commit(write).await.unwrap();
    }
    let store = filled.store.clone();
    let mut filling = Filling::begin(store, "test", 2, &[(IdKind::Build, 10)]).await.unwrap();
    assert_eq!(
        filling.configured().await.unwrap(),
        (vec![BuilderId(1), BuilderId(2)], vec![WorkerId(1), WorkerId(2)])
    );
    let (first, second) = history.split_at(history.len() / 2);
    for part in [first, second] {
        filling.commit(1, part, Timestamp::from_seconds(START)).await.unwrap();
    }
    let (wanted, found) = (seen(&real).await, seen(&filled).await);
    for (wanted, found) in wanted.0.iter().zip(&found.0) {
        assert_eq!(found, wanted);
    }
    assert_eq!(found.1, wanted.1, "the clock counts the events that real builds would have made");
    let master = filled.store.master();
    let since = |after| filled.read(EventsAfter { master, after, limit: 10 });
    assert!(matches!(since(1).await, EventPage::Gone(floor) if floor == found.1), "pruned, not missing");
    assert!(matches!(since(found.1).await, EventPage::Events(events) if events.is_empty()));
    filling.end(Timestamp::from_seconds(START + 9)).await.unwrap();
    let stopped = filled.get::<Master>(master.0).await;
    assert!(!stopped.active, "{stopped:?}");
}

async fn a_filling_that_broke_off_goes_on(world: World) {
    world.configure().await;
    let begin = |plan| Filling::begin(world.store.clone(), plan, 3, &[]);
    let history = history(1);
    let now = Timestamp::from_seconds(START);
    let mut filling = begin("three").await.unwrap();
    filling.commit(2, &history, now).await.unwrap();
    drop(filling);
    match begin("four").await {
        Err(FillError::Unfinished { found, left: 1 }) => assert!(found.ends_with("three"), "{found}"),
        other => panic!("{:?}", other.map(|filling| filling.left())),
    }
    let mut filling = begin("three").await.unwrap();
    assert_eq!(filling.left(), 1);
    filling.commit(1, &[], now).await.unwrap();
    filling.end(now).await.unwrap();
    assert_eq!(begin("four").await.unwrap().left(), 3, "it was whole");
}
