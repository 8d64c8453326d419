//! Groups of writes: isolation, repeated ids, the clock, pruning, ids.

use greenroom_db::*;
use greenroom_model::ids::IdKind;
use greenroom_model::write::SchedulerState;
use greenroom_model::*;

use crate::both;
use crate::world::World;

both!(
    a_refused_write_leaves_nothing_in_its_group,
    a_bad_write_harms_only_itself,
    a_repeated_id_gets_the_first_outcome,
    events_are_numbered_without_gaps_and_read_back,
    a_snapshot_stands_exactly_at_its_clock,
    old_events_go_and_the_floor_tells,
    ids_can_be_reserved_when_they_run_out,
    a_fenced_writer_writes_nothing,
);

async fn a_refused_write_leaves_nothing_in_its_group(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1, 2]).await;
    world.events();
    let (first, start_first) = world.start_op(requests[0]);
    let (second, start_second) = world.start_op(requests[1]);
    let (_, again) = world.start_op(requests[0]);
    let step = Op::AddStep { id: world.id(), build: second, number: 0, name: "s".into(), hidden: false };
    let answers = world
        .commit_together(vec![
            world.write(vec![start_first]),
            // Starts the second build, adds a step, and then asks for what cannot be: none of it happens.
            world.write(vec![start_second.clone(), step, again]),
            world.write(vec![Op::DescribeBuild { build: first, state_string: "x".into() }]),
        ])
        .await;
    assert!(answers[0].is_ok() && answers[2].is_ok(), "{answers:?}");
    assert_eq!(answers[1], Err(WriteError::Refused(Refusal::ClaimLost)));
    assert_eq!(world.list::<Build>(Query::default()).await.total, 1);
    assert_eq!(world.list::<Step>(Query::default()).await.total, 0);
    assert_eq!(world.get::<BuildRequest>(requests[1].0).await.version, 1);
    assert_eq!(world.topics().len(), 3);
    world.run(vec![start_second]).await;
    assert_eq!(world.get::<Build>(second.0).await.number, 1);
}

async fn a_bad_write_harms_only_itself(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1, 2, 1, 2]).await;
    let mut writes: Vec<Write> = requests.iter().map(|r| world.write(vec![world.start_op(*r).1])).collect();
    // A build id that is taken: the engine refuses the row, not an operation.
    let (id, _) = world.start_op(requests[0]);
    world.submit(&[1]).await;
    let mut clash = world.new_buildset(&[1]);
    clash.id = BuildsetId(1);
    writes.insert(2, world.write(vec![Op::AddBuildset(Box::new(clash))]));
    world.events();
    let answers = world.commit_together(writes).await;
    assert!(matches!(answers[2], Err(WriteError::Refused(Refusal::Invalid(_)))), "{:?}", answers[2]);
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 4);
    assert_eq!(world.list::<Build>(Query::default()).await.total, 4);
    assert!(id.0 > 4);
    let seqs: Vec<i64> = world.events().iter().map(|e| e.seq).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "{seqs:?}");
}

async fn a_repeated_id_gets_the_first_outcome(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1]).await;
    let write = world.write(vec![world.start_op(requests[0]).1]);
    let first = world.commit(write.clone()).await.unwrap();
    world.events();
    let again = world.commit(write.clone()).await.unwrap();
    assert_eq!(first.outcomes, again.outcomes);
    let together = world.commit_together(vec![write.clone(), write.clone()]).await;
    assert!(together.iter().all(|a| a.as_ref().unwrap().outcomes == first.outcomes));
    assert_eq!(world.topics(), Vec::<String>::new());
    let twice = world.write(vec![Op::AddBuildset(Box::new(world.new_buildset(&[1])))]);
    let answers = world.commit_together(vec![twice.clone(), twice]).await;
    assert_eq!(answers[0].as_ref().unwrap(), answers[1].as_ref().unwrap());
    assert_eq!(world.list::<Buildset>(Query::default()).await.total, 2);
}

async fn events_are_numbered_without_gaps_and_read_back(world: World) {
    world.configure().await;
    let start = world.snapshot(CurrentClock).await.clock;
    let master = world.store.master();
    let after = start.head(master);
    for _ in 0..3 {
        let (_, requests) = world.submit(&[1, 2]).await;
        let build = world.start_build(requests[0]).await;
        world.finish_build(build, Results::Failure).await.unwrap();
    }
    let announced = world.events();
    let EventPage::Events(read) = world.read(EventsAfter { master, after, limit: 1000 }).await else {
        panic!("gone")
    };
    assert_eq!(read, announced);
    assert_eq!(read[0].seq, after + 1);
    let last = read.last().unwrap().seq;
    assert_eq!(world.snapshot(CurrentClock).await.clock.head(master), last);
    let piece = world.read(EventsAfter { master, after: after + 2, limit: 3 }).await;
    assert_eq!(piece, EventPage::Events(announced[2..5].to_vec()));
    let none = EventPage::Events(vec![]);
    assert_eq!(world.read(EventsAfter { master, after: last, limit: 9 }).await, none);
    assert_eq!(world.read(EventsAfter { master: MasterId(99), after: 0, limit: 9 }).await, none);
}

async fn a_snapshot_stands_exactly_at_its_clock(world: World) {
    world.configure().await;
    let master = world.store.master();
    let read = async {
        for _ in 0..30 {
            let snapshot = world.snapshot(List::<Buildset>::new(Query::default())).await;
            let upto = snapshot.clock.head(master);
            let EventPage::Events(all) = world.read(EventsAfter { master, after: 0, limit: 10_000 }).await
            else {
                panic!("gone")
            };
            let is_new =
                |e: &&Event| matches!(e.what.record, Record::Buildset(_)) && e.what.name == EventName::New;
            let new = all.iter().filter(|e| e.seq <= upto).filter(is_new).count() as u64;
            assert_eq!(snapshot.value.total, new);
        }
    };
    let write = async {
        for _ in 0..60 {
            world.submit(&[1]).await;
        }
    };
    futures_util::join!(read, write);
}

async fn old_events_go_and_the_floor_tells(world: World) {
    world.configure().await;
    let master = world.store.master();
    for _ in 0..5 {
        world.submit(&[1]).await;
    }
    let old = world.snapshot(CurrentClock).await.clock.head(master);
    world.advance(100);
    world.submit(&[1]).await;
    let now = world.snapshot(CurrentClock).await.clock.head(master);
    let prune = |older_than: i64, keep: i64| {
        let older_than = Timestamp::from_seconds(crate::world::START + older_than);
        world.writer.send(Prune { older_than, keep })
    };
    // Both must be passed: age and number.
    let pruned = prune(0, 0).await.unwrap().unwrap();
    assert_eq!((pruned.events, pruned.floor), (0, 0));
    let pruned = prune(200, now).await.unwrap().unwrap();
    assert_eq!((pruned.events, pruned.floor), (0, 0));
    let pruned = prune(50, 1).await.unwrap().unwrap();
    assert_eq!((pruned.events, pruned.floor), (old as u64, old));
    let gone = world.read(EventsAfter { master, after: old - 1, limit: 9 }).await;
    assert_eq!(gone, EventPage::Gone(old));
    let EventPage::Events(rest) = world.read(EventsAfter { master, after: old, limit: 99 }).await else {
        panic!("gone")
    };
    assert_eq!(rest.len() as i64, now - old);
    let pruned = prune(200, 1).await.unwrap().unwrap();
    assert_eq!(pruned.floor, now - 1);
    assert!(world.snapshot(CurrentClock).await.clock.head(master) == now);
}

async fn ids_can_be_reserved_when_they_run_out(world: World) {
    let ids = world.store.ids();
    let mut last = 0;
    while let Ok(id) = ids.take(IdKind::Control) {
        assert_eq!(id, last + 1);
        last = id;
    }
    assert_eq!(ids.take(IdKind::Control), Err(Exhausted(IdKind::Control)));
    world.writer.send(ReserveIds { kind: IdKind::Control, count: 10 }).await.unwrap().unwrap();
    assert_eq!(ids.take(IdKind::Control), Ok(last + 1));
    // Any commit reserves more of what is nearly gone.
    while ids.take(IdKind::Log).is_ok() {}
    world.run(vec![Op::Heartbeat]).await;
    assert!(ids.take(IdKind::Log).is_ok());
}

async fn a_fenced_writer_writes_nothing(world: World) {
    world.configure().await;
    let (scheduler, state) = (SchedulerId(1), SchedulerState { pending: 1.into(), ..Default::default() });
    world.store.take_over_for_test().await;
    let write = world.write(vec![Op::SaveScheduler { scheduler, state }]);
    assert_eq!(world.commit(write).await, Err(WriteError::Fenced));
    let (_, clock) = (world.events(), world.snapshot(CurrentClock).await.clock);
    assert_eq!(world.read(SchedulerStateOf { scheduler }).await, SchedulerState::default());
    let write = world.write(vec![Op::StopMaster]);
    assert_eq!(world.commit(write).await, Err(WriteError::Fenced));
    assert_eq!(world.snapshot(CurrentClock).await.clock, clock);
}
