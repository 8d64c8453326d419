//! Several masters on one database: who has what, and what becomes of a dead one.

use std::time::Duration;

use greenroom_db::*;
use greenroom_model::write::{Duty, SchedulerState};
use greenroom_model::*;

use crate::both;
use crate::servers;
use crate::servers::{open, options, other};
use crate::world::World;

both!(
    a_duty_is_claimed_given_back_and_ends_with_the_master,
    who_is_not_active_loses_its_builds_and_nobody_else_does,
);

mod of_servers {
    use super::*;

    servers!(
        a_duty_has_one_master_whoever_asks_at_once,
        a_dead_master_is_taken_over_when_its_lease_is_over_and_writes_nothing_after_that,
        a_master_that_comes_back_keeps_the_builds_that_are_left,
        two_masters_that_end_the_last_two_requests_complete_the_buildset_once,
        what_another_master_gave_up_is_not_refused_for_ever,
    );
}

const SCHEDULER: SchedulerId = SchedulerId(1);

fn claim() -> Op {
    Op::Claim(Duty::Scheduler(SCHEDULER))
}

fn save(pending: i64) -> Op {
    let state = SchedulerState { pending: pending.into(), ..SchedulerState::default() };
    Op::SaveScheduler { scheduler: SCHEDULER, state }
}

async fn holder(world: &World) -> Option<MasterId> {
    world.get::<Scheduler>(SCHEDULER.0).await.master
}

async fn a_duty_is_claimed_given_back_and_ends_with_the_master(world: World) {
    world.configure().await;
    let me = Some(world.store.master());
    assert_eq!(holder(&world).await, me, "what is configured and free is its master's");
    world.run(vec![claim(), Op::Release(Duty::Scheduler(SCHEDULER))]).await;
    assert_eq!(holder(&world).await, None);
    let refused = world.attempt(save(1)).await;
    assert!(matches!(refused, Err(Refusal::Held(_))), "{refused:?}");
    let source = ChangeSourceId(1);
    world.run(vec![claim(), save(2), Op::Release(Duty::ChangeSource(source))]).await;
    let refused = world.attempt(Op::SaveChangeSource { source, state: 1.into() }).await;
    assert!(matches!(refused, Err(Refusal::Held(_))), "{refused:?}");
    world.events();
    world.run(vec![Op::StopMaster]).await;
    assert_eq!(holder(&world).await, None);
    assert_eq!(world.topics(), ["schedulers/1/updated", "masters/1/stopped"]);
}

/// A master of its own, which is not there any more, with a running build.
async fn who_is_not_active_loses_its_builds_and_nobody_else_does(world: World) {
    world.configure().await;
    let (_, requests) = world.submit(&[1, 2]).await;
    let build = world.start_build(requests[0]).await;
    world.add_step(build, 1).await;
    let end = |master| Op::EndBuilds { master, limit: 10 };
    let lives = world.attempt(end(world.store.master())).await;
    assert!(matches!(lives, Err(Refusal::Held(_))), "{lives:?}");
    let nobody = world.attempt(end(MasterId(77))).await;
    assert!(matches!(nobody, Err(Refusal::NotFound(_))), "{nobody:?}");
    world.run(vec![Op::StopMaster]).await;
    world.events();
    assert_eq!(world.attempt(end(world.store.master())).await, Ok(Outcome::Ended(1)));
    assert_eq!(world.attempt(end(world.store.master())).await, Ok(Outcome::Ended(0)));
    assert_eq!(
        world.topics(),
        [
            "builds/1/steps/1/finished",
            "builders/1/builds/1/finished",
            "buildsets/1/builders/1/buildrequests/1/unclaimed",
        ]
    );
    let ended = world.get::<Build>(build.0).await;
    assert_eq!(
        (ended.results, ended.state_string.as_str()),
        (Some(Results::Retry), "lost: the master main is gone")
    );
    let free = world.get::<BuildRequest>(requests[0].0).await;
    assert_eq!((free.claimed_by, free.complete_at, free.retries), (None, None, 1));
}

async fn a_duty_has_one_master_whoever_asks_at_once(world: World) {
    world.configure().await;
    let second = other(&world, "second").await;
    for round in 0..20 {
        let (ours, theirs) = futures_util::join!(world.attempt(claim()), second.attempt(claim()));
        let has = holder(&world).await.unwrap();
        let (won, lost, winner) =
            if has == world.store.master() { (ours, theirs, &world) } else { (theirs, ours, &second) };
        assert!(won.is_ok(), "{round}: {won:?}");
        assert!(matches!(lost, Err(Refusal::Held(_))), "{round}: {lost:?}");
        winner.run(vec![save(round), Op::Release(Duty::Scheduler(SCHEDULER))]).await;
    }
    let state = world.read(SchedulerStateOf { scheduler: SCHEDULER }).await;
    assert_eq!(state.pending, 19);
}

/// A master with a short lease.
async fn mortal(world: &World, name: &str) -> World {
    let mut options = options(&world.url);
    options.lease = Duration::from_millis(700);
    open(options, name).await.unwrap()
}

/// Takes a master over as soon as that can be done; says how often it was refused before.
async fn take_over(heir: &World, dead: MasterId) -> usize {
    for refused in 0.. {
        let lapsed = heir.read(LapsedMasters).await;
        let answer = heir.attempt(Op::TakeOver { master: dead }).await;
        match answer {
            Ok(_) => return refused,
            Err(Refusal::Held(_)) => assert!(refused < 500, "its lease never ends"),
            Err(other) => panic!("{other}"),
        }
        assert!(lapsed.is_empty(), "what is read to be over is over: {lapsed:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    unreachable!()
}

async fn a_dead_master_is_taken_over_when_its_lease_is_over_and_writes_nothing_after_that(world: World) {
    world.configure().await;
    let dead = mortal(&world, "dead").await;
    dead.configure().await;
    world.run(vec![Op::Release(Duty::Scheduler(SCHEDULER))]).await;
    dead.run(vec![claim(), save(1)]).await;
    let (_, requests) = world.submit(&[1, 1, 1]).await;
    let builds = [dead.start_build(requests[0]).await, dead.start_build(requests[1]).await];
    let ours = world.start_build(requests[2]).await;
    let step = dead.add_step(builds[0], 1).await;
    let info = WorkerInfo::default();
    dead.run(vec![Op::ConnectWorker { worker: WorkerId(1), info }]).await;
    let (me, it) = (world.store.master(), dead.store.master());
    let head = |clock: Clock| clock.head(it);
    assert!(take_over(&world, it).await > 3, "its lease lasted for a while");
    let fenced = head(world.snapshot(CurrentClock).await.clock);
    let again = world.attempt(Op::TakeOver { master: it }).await;
    assert!(again.is_ok(), "a master that is gone may be gone twice: {again:?}");

    let gone = world.get::<Master>(it.0).await;
    assert!(!gone.active && gone.epoch > dead.store.epoch(), "{gone:?}");
    assert_eq!(holder(&world).await, None);
    assert!(world.get::<Worker>(1).await.connected_to.is_empty());
    assert_eq!(world.attempt(Op::EndBuilds { master: it, limit: 1 }).await, Ok(Outcome::Ended(1)));
    assert_eq!(world.attempt(Op::EndBuilds { master: it, limit: 9 }).await, Ok(Outcome::Ended(1)));
    assert_eq!(world.get::<Step>(step.0).await.results, Some(Results::Retry));
    assert_eq!(world.get::<Build>(ours.0).await.complete_at, None, "ours goes on");
    // Everything that was done stands under the heir's own name.
    assert_eq!(head(world.snapshot(CurrentClock).await.clock), fenced);
    assert_eq!(world.events().iter().filter(|event| event.master != me).count(), 0);

    // The dead one wakes up.
    for op in [save(2), Op::Heartbeat, dead.start_op(requests[0]).1, Op::TakeOver { master: me }] {
        assert_eq!(dead.commit(dead.write(vec![op])).await, Err(WriteError::Fenced));
    }
    tokio::time::timeout(Duration::from_secs(5), dead.store.lost_place()).await.unwrap();
    assert_eq!(head(world.snapshot(CurrentClock).await.clock), fenced);
    world.run(vec![claim()]).await;
    assert_eq!(world.read(SchedulerStateOf { scheduler: SCHEDULER }).await.pending, 1);
}

async fn a_master_that_comes_back_keeps_the_builds_that_are_left(world: World) {
    world.configure().await;
    let dead = mortal(&world, "dead").await;
    let (_, requests) = world.submit(&[1, 2]).await;
    for request in &requests {
        dead.start_build(*request).await;
    }
    let it = dead.store.master();
    take_over(&world, it).await;
    assert_eq!(world.attempt(Op::EndBuilds { master: it, limit: 1 }).await, Ok(Outcome::Ended(1)));
    dead.store.vanish_for_test();
    let back = mortal(&world, "dead").await;
    assert!(back.store.epoch() > dead.store.epoch() + 1, "a takeover and a start");
    let late = world.attempt(Op::EndBuilds { master: it, limit: 1 }).await;
    assert!(matches!(late, Err(Refusal::Held(_))), "{late:?}");
    let left = back.read(UnfinishedBuilds { master: it }).await;
    assert_eq!(left.len(), 1);
    back.finish_build(left[0].build.id, Results::Success).await.unwrap();
}

async fn two_masters_that_end_the_last_two_requests_complete_the_buildset_once(world: World) {
    world.configure().await;
    let second = other(&world, "second").await;
    for round in 0..40 {
        let (set, requests) = world.submit(&[1, 2, 2]).await;
        let (ours, theirs) =
            futures_util::join!(world.start_build(requests[0]), second.start_build(requests[1]));
        let cancelled = world.attempt(Op::CancelRequest { request: requests[2] });
        let (ended, also, cancelled) = futures_util::join!(
            world.finish_build(ours, Results::Success),
            second.finish_build(theirs, Results::Failure),
            cancelled,
        );
        for done in [ended, also] {
            done.unwrap();
        }
        cancelled.unwrap();
        let stored = world.get::<Buildset>(set.0).await;
        assert_eq!((stored.results, stored.version), (Some(Results::Cancelled), 2), "{round}: {stored:?}");
        let told = [&world, &second].map(|it| it.events());
        let complete = |it: &&Event| it.what.topic().to_string() == format!("buildsets/{set}/complete");
        assert_eq!(told.iter().flatten().filter(complete).count(), 1, "{round}");
    }
}

async fn what_another_master_gave_up_is_not_refused_for_ever(world: World) {
    world.configure().await;
    let second = other(&world, "second").await;
    let (_, requests) = world.submit(&[1]).await;
    let build = world.start_build(requests[0]).await;
    for _ in 0..2 {
        let lost = second.attempt(second.start_op(requests[0]).1).await;
        assert_eq!(lost, Err(Refusal::ClaimLost));
    }
    world.finish_build(build, Results::Retry).await.unwrap();
    second.start_build(requests[0]).await;
    let held = second.attempt(claim()).await;
    assert!(matches!(held, Err(Refusal::Held(_))), "{held:?}");
    world.run(vec![Op::Release(Duty::Scheduler(SCHEDULER))]).await;
    second.run(vec![claim()]).await;
}
