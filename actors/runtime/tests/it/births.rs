//! How births end, and what follows.

use std::time::Duration;

use greenroom_runtime::{
    AskError, ChildSpec, Ending, Policies, PolicyPatch, Restart, Span, State, TestWorld,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::probe::{Add, AnswerLater, Book, End, Probe, WhichBirth, block, spawn};

const SOON: Duration = Duration::from_secs(5);

/// Supervisors that grant a hundred restarts.
fn patient(period: Span) -> Policies {
    let defaults = PolicyPatch { intensity: Some(100), period: Some(period), ..PolicyPatch::default() };
    Policies { defaults, ..Policies::default() }
}

/// Ends the first birth this way, under this restart type; says the ending and whether it was born again.
async fn after(world: &TestWorld, how: End, restart: Restart) -> (String, bool) {
    let front = spawn(&world.root(), ChildSpec::new("probe").restart(restart), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    front.tell(how).unwrap();
    world.settle().await;
    let again = front.wait_ready(SOON).await.is_ok();
    let ending = match again {
        true => {
            let report = world.snapshot().into_iter().find(|report| report.name == "probe").unwrap();
            assert_eq!((report.births, report.restarts, report.exits.len()), (2, 1, 1), "{restart:?}");
            format!("{} {}", report.exits[0].kind, report.exits[0].message)
        }
        false => {
            let ending = front.wait_ended().await;
            assert_eq!(front.births(), 1);
            assert!(world.live().is_empty(), "one that ended for good leaves the registry");
            format!("{} {}", ending.kind(), ending.message())
        }
    };
    front.stop(SOON).await;
    (ending, again)
}

#[actix::test]
async fn restart_types_decide_on_endings() {
    use Restart::{Permanent, Temporary, Transient};
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    world.set_policies(patient(Span::from_secs(60)));
    for (how, ending, transient) in [
        (End::Panic, "panicked told to", true),
        (End::PanicInContext, "panicked told to, later", true),
        (End::Fail, "failed told to fail", true),
        (End::FailInWait, "failed failed while waiting", true),
        (End::Complete, "completed ", false),
        (End::Stop, "completed ", false),
    ] {
        assert_eq!(after(&world, how, Permanent).await, (ending.to_owned(), true));
        assert_eq!(after(&world, how, Transient).await, (ending.to_owned(), transient));
        assert_eq!(after(&world, how, Temporary).await, (ending.to_owned(), false));
    }
    world.finish().await;
}

#[actix::test]
async fn a_birth_is_a_new_struct_and_the_front_outlives_it() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    assert_eq!(front.ask(Add(5)).await, Ok(5), "a letter may wait for the first birth");
    assert_eq!(front.ask(WhichBirth).await, Ok((1, true)));
    assert_eq!(front.ask(End::Panic).await, Err(AskError::Restarted));
    front.wait_ready(SOON).await.unwrap();
    assert_eq!(front.ask(Add(1)).await, Ok(1), "no field survives");
    assert_eq!(front.ask(WhichBirth).await, Ok((2, true)));
    assert_eq!(book.count("stopped"), 0, "`stopped` is not called after a panic");
    world.finish().await;
    assert_eq!(book.count("stopped"), 1);
}

#[actix::test]
async fn a_panic_in_started_or_in_the_factory_is_a_bad_birth() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let book = Book::default();
    let front = world.root().spawn(ChildSpec::new("probe"), {
        let book = book.clone();
        move |birth| {
            assert_ne!(birth.number(), 3, "no third");
            Probe { sick_until: 2, ..Probe::new(birth, &book) }
        }
    });
    assert_eq!(front.ask(Add(1)).await, Err(AskError::Restarted));
    front.wait_ready(SOON).await.unwrap();
    assert_eq!(front.ask(WhichBirth).await, Ok((4, true)));
    assert_eq!(book.lines(), ["started 1", "started 2", "started 4"]);
    let report = world.snapshot().into_iter().find(|report| report.name == "probe").unwrap();
    let messages: Vec<_> = report.exits.iter().map(|exit| (exit.birth, exit.message.as_str())).collect();
    assert_eq!((messages[0], messages[1]), ((1, "sick"), (2, "sick")));
    assert!(messages[2].1.contains("no third"), "{messages:?}");
    world.finish().await;
}

#[actix::test]
async fn what_was_queued_or_running_is_answered_restarted() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let (healthy, healthy_gate) = oneshot::channel();
    let (sick, sick_gate) = oneshot::channel();
    let running = front.ask(AnswerLater(healthy_gate));
    let panicking = front.ask(AnswerLater(sick_gate));
    let queued = async {
        while book.count("begun") < 2 {
            tokio::task::yield_now().await;
        }
        let unblock = block(&front).await;
        let both = async { tokio::join!(front.ask(Add(1)), front.ask(Add(2))) };
        let kill = async {
            while front.queue_depth() < 2 {
                tokio::task::yield_now().await;
            }
            assert_eq!(front.in_flight(), 4);
            sick.send(true).unwrap();
            unblock.send(()).unwrap();
        };
        tokio::join!(both, kill).0
    };
    let (running, panicking, (first, second)) = tokio::join!(running, panicking, queued);
    assert_eq!(panicking, Err(AskError::Restarted));
    assert_eq!(running, Err(AskError::Restarted));
    // unblocking and panicking race by design of actix: the queued ones ran before the panic or never
    for (answer, line) in [(first, "add 1"), (second, "add 2")] {
        assert_eq!(answer.is_ok(), book.count(line) == 1);
        assert!(matches!(answer, Ok(_) | Err(AskError::Restarted)));
    }
    drop(healthy);
    world.finish().await;
}

#[actix::test]
async fn queued_letters_never_reach_the_next_birth() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let _blocked = block(&front).await;
    let asked = front.ask(Add(1));
    let killed = async {
        front.tell(Add(2)).unwrap();
        world.kill("probe");
    };
    let (answer, ()) = tokio::join!(asked, killed);
    assert_eq!(answer, Err(AskError::Restarted));
    assert_eq!(front.ask(Add(3)).await, Err(AskError::Unavailable), "backing off: certainly not run");
    assert_eq!(front.state(), State::BackingOff);
    front.wait_ready(SOON).await.unwrap();
    assert_eq!(front.ask(Add(4)).await, Ok(4));
    assert_eq!((book.count("add 1"), book.count("add 2"), book.count("add 3")), (0, 0, 0));
    world.finish().await;
}

#[actix::test]
async fn backoff_doubles_with_jitter_and_starts_over_after_health() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    world.set_policies(patient(Span::from_secs(1)));
    let spec = ChildSpec::new("probe")
        .backoff(Duration::from_millis(100), Duration::from_secs(1))
        .healthy_after(Duration::from_secs(60));
    let front = spawn(&world.root(), spec, &Book::default());
    let mut waits = Vec::new();
    for _ in 0..6 {
        front.wait_ready(SOON).await.unwrap();
        assert!(world.inject_panic("probe"));
        front.wait_ended_birth().await;
        let died = Instant::now();
        front.wait_ready(SOON).await.unwrap();
        waits.push(died.elapsed());
    }
    for (wait, full) in waits.iter().zip([100, 200, 400, 800, 1000, 1000]) {
        let full = Duration::from_millis(full);
        assert!(*wait >= full / 2 && *wait <= full + Duration::from_millis(2), "{waits:?}");
    }
    let exact = [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis);
    assert!(
        waits.iter().zip(exact).any(|(wait, full)| wait.abs_diff(full) > full / 20),
        "no jitter: {waits:?}"
    );

    tokio::time::sleep(Duration::from_secs(61)).await;
    world.inject_panic("probe");
    front.wait_ended_birth().await;
    let died = Instant::now();
    front.wait_ready(SOON).await.unwrap();
    assert!(died.elapsed() <= Duration::from_millis(102));
    world.finish().await;
}

/// Waits until the present birth is over.
trait WaitEndedBirth {
    async fn wait_ended_birth(&self);
}

impl WaitEndedBirth for greenroom_runtime::Front<Probe> {
    async fn wait_ended_birth(&self) {
        while self.state() == State::Running {
            tokio::task::yield_now().await;
        }
    }
}

#[actix::test]
async fn policies_change_while_running() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let front = spawn(&world.root(), ChildSpec::new("probe"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    let mut policies = Policies::default();
    let patch = PolicyPatch {
        restart: Some(Restart::Temporary),
        mailbox_bound: Some(3),
        ask_deadline: Some(Span::from_millis(70)),
        ..PolicyPatch::default()
    };
    policies.kinds.insert("probe".into(), patch);
    world.set_policies(policies);
    assert_eq!(front.births(), 1, "nobody was restarted for it");
    let report = world.snapshot().into_iter().find(|report| report.name == "probe").unwrap();
    assert_eq!(report.queue_bound, 3);

    let begun = Instant::now();
    let (_open, gate) = oneshot::channel();
    assert_eq!(front.ask(AnswerLater(gate)).await, Err(AskError::Deadline));
    assert!(begun.elapsed() >= Duration::from_millis(70) && begun.elapsed() < Duration::from_millis(80));

    world.inject_panic("probe");
    assert_eq!(front.wait_ended().await, Ending::Panicked("injected panic".into()));
    assert!(world.live().is_empty(), "temporary by now");
    world.finish().await;
}

#[actix::test]
async fn an_operator_restarts_without_counting() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &Book::default());
    for birth in 1..=30 {
        front.wait_ready(SOON).await.unwrap();
        assert_eq!(front.ask(WhichBirth).await, Ok((birth, true)));
        assert!(world.restart("probe"));
        while front.births() == birth {
            tokio::task::yield_now().await;
        }
    }
    let report = world.snapshot().into_iter().find(|report| report.name == "probe").unwrap();
    assert_eq!((report.births, report.restarts, report.exits.len()), (31, 0, 20));
    assert!(!world.restart("nobody") && !world.kill("nobody") && !world.inject_panic("nobody"));
    world.finish().await;
}
