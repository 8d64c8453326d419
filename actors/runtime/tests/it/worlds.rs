//! A test world fails when it should: the check of the check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use greenroom_runtime::{ChildSpec, Runtime, TestWorld};

use crate::probe::{Book, spawn};

const SOON: Duration = Duration::from_secs(5);

/// What a world complains about when dropped.
fn complaint(world: TestWorld) -> Option<String> {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(world)));
    dropped.err().map(|payload| payload.downcast_ref::<String>().cloned().unwrap())
}

#[actix::test]
async fn live_actors_are_a_leak() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("forgotten"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    assert_eq!(complaint(world).unwrap(), "actors still live: forgotten");
    front.wait_ended().await;
}

#[actix::test]
async fn a_panic_that_nobody_expected() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("sick").temporary(), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    world.inject_panic("sick");
    front.wait_ended().await;
    assert_eq!(complaint(world).unwrap(), "unexpected panics: sick: injected panic");
}

#[actix::test]
async fn an_escalation_that_nobody_expected() {
    let mut world = TestWorld::from_builder(Runtime::builder().intensity(0, SOON));
    world.expect_panic("sick");
    let front = spawn(&world.root(), ChildSpec::new("sick"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    world.inject_panic("sick");
    front.wait_ended().await;
    assert!(complaint(world).unwrap().starts_with("unexpected escalation: supervisor root"));
}

#[actix::test]
async fn a_clean_world_is_silent() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    let front = spawn(&world.root(), ChildSpec::new("sick").temporary(), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    world.inject_panic("sick");
    front.wait_ended().await;
    assert_eq!(complaint(world), None);
}

#[actix::test]
async fn paused_time_flies() {
    let world = TestWorld::new();
    let (real, begun) = (std::time::Instant::now(), world.now_micros());
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    let passed = world.now_micros() - begun;
    assert!(passed.abs_diff(86_400_000_000) <= 1000, "tokio's timers round to a millisecond: {passed}");
    assert!(real.elapsed() < Duration::from_secs(5));
    world.finish().await;
}
