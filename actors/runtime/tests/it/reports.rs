//! The live tree as data, and the watchdog.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use greenroom_runtime::{
    ActorReport, ChildSpec, Dice, Front, ManualClock, Runtime, State, SupervisorSpec, TestWorld,
};
use serde_json::json;
use tokio::time::Instant;

use crate::probe::{Add, Book, Hold, Probe, block, spawn};

const SOON: Duration = Duration::from_secs(5);

fn of<'a>(reports: &'a [ActorReport], name: &str) -> &'a ActorReport {
    reports.iter().find(|report| report.name == name).unwrap()
}

#[actix::test]
async fn the_tree_is_told_with_parents_first() {
    let world = TestWorld::new();
    let middle = world.root().supervisor(SupervisorSpec::new("middle").intensity(7, Duration::from_secs(9)));
    let leaf = spawn(&middle, ChildSpec::new("leaf").mailbox_bound(5), &Book::default());
    let top = spawn(&world.root(), ChildSpec::new("top"), &Book::default());
    assert_eq!(leaf.ask(Add(42)).await, Ok(42));
    top.wait_ready(SOON).await.unwrap();
    let reports = world.reports().await;
    let names: Vec<_> = reports.iter().map(|report| report.name.as_str()).collect();
    assert_eq!(names, ["root", "top", "middle", "leaf"]);
    let leaf = of(&reports, "leaf");
    assert_eq!((leaf.kind, leaf.parent.as_deref(), leaf.state), ("probe", Some("middle"), State::Running));
    assert_eq!((leaf.handled, leaf.queue_bound, leaf.intensity, leaf.period_ms), (1, 5, 7, 9000));
    assert_eq!(leaf.observed, json!({"sum": 42}));
    assert_eq!(leaf.slowest.as_ref().unwrap().message, "Add");
    let as_json = serde_json::to_value(leaf).unwrap();
    assert_eq!((&as_json["state"], &as_json["exits"]), (&json!("running"), &json!([])));
    assert_eq!((of(&reports, "root").kind, &of(&reports, "root").parent), ("supervisor", &None));
    world.finish().await;
}

#[actix::test]
async fn an_actor_that_does_not_answer_holds_no_report_up() {
    let world = TestWorld::new();
    let busy = spawn(&world.root(), ChildSpec::new("busy"), &Book::default());
    let quick = spawn(&world.root(), ChildSpec::new("quick"), &Book::default());
    busy.ask(Add(1)).await.unwrap();
    quick.ask(Add(1)).await.unwrap();
    assert_eq!(of(&world.reports().await, "busy").observed, json!({"sum": 1}));
    let unblock = block(&busy).await;
    busy.tell(Add(1)).unwrap();
    quick.ask(Add(1)).await.unwrap();
    assert_eq!(
        of(&world.reports().await, "quick").observed,
        json!({"sum": 1}),
        "observed once a second at most"
    );
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    let reports = world.reports().await;
    assert!(begun.elapsed() <= Duration::from_millis(51), "{:?}", begun.elapsed());
    assert_eq!(of(&reports, "busy").observed, json!({"sum": 1}), "the last known");
    assert_eq!(of(&reports, "busy").queue_depth, 1);
    assert_eq!(of(&reports, "quick").observed, json!({"sum": 2}));
    unblock.send(()).unwrap();
    world.finish().await;
}

#[actix::test]
async fn names_stay_unique_and_leave_with_their_actors() {
    let world = TestWorld::new();
    for n in 0..100 {
        let front =
            spawn(&world.root(), ChildSpec::new(format!("session/{n}")).temporary(), &Book::default());
        front.wait_ready(SOON).await.unwrap();
        front.stop(SOON).await;
    }
    assert_eq!(world.live(), [""; 0]);
    assert_eq!(world.snapshot()[0].exits.len(), 20, "of a hundred");
    let one = spawn(&world.root(), ChildSpec::new("twin"), &Book::default());
    let two = spawn(&world.root(), ChildSpec::new("twin"), &Book::default());
    assert_ne!(one.name(), two.name());
    assert!(two.name().starts_with("twin#"));
    assert_eq!(one.stop(SOON).await, greenroom_runtime::Ending::Stopped);
    assert_eq!(two.ask(Add(1)).await, Ok(1));
    world.finish().await;
}

#[actix::test]
async fn clock_and_dice_are_the_injected_ones() {
    let roll = |seed| {
        let clock = Arc::new(ManualClock::new(77));
        let runtime = Runtime::builder().clock(clock.clone()).dice(Dice::seeded(seed)).build();
        clock.advance(Duration::from_micros(3));
        (runtime.now_micros(), runtime.clock().now_micros(), runtime.dice().next_u64())
    };
    assert_eq!(roll(1), roll(1));
    assert_eq!((roll(1).0, roll(1).1), (80, 80));
    assert_ne!(roll(1).2, roll(2).2);
}

#[actix::test]
async fn a_handler_that_holds_its_arbiter_is_told_by_name_while_it_does() {
    let world = TestWorld::in_real_time();
    let arbiter = Arbiter::new();
    let elsewhere = world.root().supervisor(SupervisorSpec::new("elsewhere").arbiter(arbiter.handle()));
    let holder = spawn(&elsewhere, ChildSpec::new("holder"), &Book::default());
    let innocent = spawn(&elsewhere, ChildSpec::new("innocent"), &Book::default());
    innocent.wait_ready(SOON).await.unwrap();
    let idle = spawn(&world.root(), ChildSpec::new("idle"), &Book::default());
    idle.ask(Add(1)).await.unwrap();
    let begun = std::time::Instant::now();
    let open = hold(&world, &holder).await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // when the next one, elsewhere, has been noticed, the first was looked at several times more
    let second_arbiter = Arbiter::new();
    let spec = SupervisorSpec::new("second").arbiter(second_arbiter.handle());
    let second = spawn(&world.root().supervisor(spec), ChildSpec::new("second-holder"), &Book::default());
    drop(hold(&world, &second).await);
    drop(open);
    holder.ask(Add(1)).await.unwrap();
    let reports = world.snapshot();
    let slowest = of(&reports, "holder").slowest.clone().unwrap();
    assert!(slowest.message == "Hold" && slowest.ms >= 100.0, "{slowest:?}");
    let stalls = ["holder", "innocent", "idle"].map(|name| of(&reports, name).stalls);
    assert_eq!(stalls, [1, 0, 0], "once for each time, and only who holds it");
    world.finish().await;
    for arbiter in [arbiter, second_arbiter] {
        arbiter.stop();
        arbiter.join().unwrap();
    }
}

/// Lets an actor hold its arbiter, until that is noticed and further until the answer is dropped.
async fn hold(world: &TestWorld, front: &Front<Probe>) -> std::sync::mpsc::Sender<()> {
    let (open, gate) = std::sync::mpsc::channel();
    front.tell(Hold(gate)).unwrap();
    let begun = std::time::Instant::now();
    while of(&world.snapshot(), front.name()).stalls == 0 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody noticed");
        tokio::task::yield_now().await;
    }
    open
}
