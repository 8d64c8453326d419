//! Too many restarts, and where they lead.

use std::time::Duration;

use greenroom_runtime::{
    AskError, ChildSpec, Front, Policies, PolicyPatch, Runtime, Span, State, SupervisorSpec, TestWorld,
};
use tokio::time::Instant;

use crate::probe::{Add, Book, Probe, WhichBirth, spawn};

const SOON: Duration = Duration::from_secs(20);

fn intensity(restarts: u32, secs: u64) -> PolicyPatch {
    PolicyPatch { intensity: Some(restarts), period: Some(Span::from_secs(secs)), ..PolicyPatch::default() }
}

/// Panics an actor once, and waits until that is noticed.
async fn panic_once(world: &TestWorld, front: &Front<Probe>) {
    front.wait_ready(SOON).await.unwrap();
    let births = front.births();
    assert!(world.inject_panic(front.name()));
    while front.births() == births && front.state() == State::Running {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn over_the_intensity_a_supervisor_begins_anew_and_its_parent_counts_one() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    let middle = world.root().supervisor(SupervisorSpec::new("middle").intensity(2, Duration::from_secs(60)));
    let sick = spawn(&middle, ChildSpec::new("sick"), &Book::default());
    let sibling = spawn(&middle, ChildSpec::new("sibling"), &Book::default());
    let session = spawn(&middle, ChildSpec::new("session").temporary(), &Book::default());
    let outside = spawn(&world.root(), ChildSpec::new("outside"), &Book::default());
    for front in [&sibling, &session, &outside] {
        assert_eq!(front.ask(WhichBirth).await, Ok((1, true)));
    }
    for _ in 0..2 {
        panic_once(&world, &sick).await;
    }
    sick.wait_ready(SOON).await.unwrap();
    assert_eq!(sibling.ask(WhichBirth).await, Ok((1, true)), "one for one");
    panic_once(&world, &sick).await;
    session.wait_ended().await;
    sick.wait_ready(SOON).await.unwrap();
    sibling.wait_ready(SOON).await.unwrap();
    assert_eq!(sibling.ask(WhichBirth).await, Ok((2, true)), "begun anew");
    assert_eq!(outside.ask(WhichBirth).await, Ok((1, true)), "others undisturbed");

    let reports = world.snapshot();
    let of = |name: &str| reports.iter().find(|report| report.name == name).unwrap();
    assert_eq!((of("root").restarts, of("middle").restarts, of("middle").births), (1, 0, 2));
    assert_eq!(of("root").exits.len(), 1);
    assert!(of("root").exits[0].message.contains("sick panicked: injected panic"));
    assert_eq!(of("sick").births, 4);
    world.finish().await;
}

#[actix::test]
async fn a_failure_climbs_to_the_root_and_out() {
    let mut world = TestWorld::from_builder(Runtime::builder().intensity(1, Duration::from_secs(600)));
    tokio::time::pause();
    world.expect_panic("sick");
    world.expect_escalation();
    let outer = world.root().supervisor(SupervisorSpec::new("outer").intensity(1, Duration::from_secs(600)));
    let inner = outer.supervisor(SupervisorSpec::new("inner").intensity(1, Duration::from_secs(600)));
    let sick = spawn(&inner, ChildSpec::new("sick"), &Book::default());
    let bystander = spawn(&world.root(), ChildSpec::new("bystander"), &Book::default());
    // inner fails at every second panic, outer at every second failure of inner, the root at outer's second
    for n in 1..=8 {
        assert!(futures_util::FutureExt::now_or_never(world.escalation()).is_none(), "too early, at {n}");
        panic_once(&world, &sick).await;
    }
    let escalation = world.escalation().await;
    let words = escalation.to_string();
    for part in ["outer", "inner", "sick panicked: injected panic", "over 1 restarts within 10m"] {
        assert!(words.contains(part), "{words}");
    }
    sick.wait_ended().await;
    bystander.wait_ended().await;
    assert_eq!(bystander.ask(Add(1)).await, Err(AskError::Stopped));
    let late = spawn(&inner, ChildSpec::new("late"), &Book::default());
    assert_eq!(late.state(), State::Stopped, "a failed supervisor takes no children");
    drop(world);
}

#[actix::test]
async fn restarts_are_forgotten_after_the_period() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    let front = spawn(&world.root(), ChildSpec::new("sick"), &Book::default());
    world.set_policies(Policies {
        names: [("root".to_owned(), intensity(1, 10))].into(),
        ..Policies::default()
    });
    for _ in 0..5 {
        panic_once(&world, &front).await;
        front.wait_ready(SOON).await.unwrap();
        tokio::time::sleep(Duration::from_secs(11)).await;
    }
    let root = world.snapshot().remove(0);
    assert_eq!((root.name.as_str(), root.restarts, root.intensity, root.period_ms), ("root", 0, 1, 10_000));
    assert_eq!(front.births(), 6);
    world.finish().await;
}

#[actix::test]
async fn a_supervisor_that_begins_anew_waits_longer_each_time() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    let mut spec = SupervisorSpec::new("middle").intensity(0, Duration::from_secs(60));
    spec.policy.backoff_min = Some(Span::from_millis(1000));
    let middle = world.root().supervisor(spec);
    let sick = spawn(&middle, ChildSpec::new("sick"), &Book::default());
    for full in [1000, 2000, 4000] {
        panic_once(&world, &sick).await;
        let begun = Instant::now();
        let report = world.snapshot().into_iter().find(|report| report.name == "middle").unwrap();
        assert_eq!(report.state, State::BackingOff);
        assert!(report.until.unwrap() > world.now_micros());
        sick.wait_ready(SOON).await.unwrap();
        let waited = begun.elapsed().as_millis();
        assert!(waited >= full / 2 - 5 && waited <= full + 5, "{waited} of {full}");
    }
    world.finish().await;
}
