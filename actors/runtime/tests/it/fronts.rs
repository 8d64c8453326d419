//! What callers hear, and how many are admitted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_rt::Arbiter;
use greenroom_runtime::{
    AskError, ChildSpec, Ending, Front, Policies, PolicyPatch, SupervisorSpec, TellError, Teller, TestWorld,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::probe::{Add, AnswerLater, Book, End, Probe, WhichBirth, block, spawn};

const SOON: Duration = Duration::from_secs(5);

#[actix::test]
async fn an_ask_that_was_not_begun_by_its_deadline_never_runs() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let unblock = block(&front).await;
    let begun = Instant::now();
    let late = front.ask_within(Duration::from_millis(100), Add(1)).await;
    assert_eq!(late, Err(AskError::Deadline));
    assert!(begun.elapsed().as_millis().abs_diff(100) <= 1, "{:?}", begun.elapsed());
    assert!(AskError::Deadline.outcome_is_unknown() && !AskError::Unavailable.outcome_is_unknown());
    front.tell(Add(2)).unwrap();
    unblock.send(()).unwrap();
    assert_eq!(front.ask(Add(0)).await, Ok(2));
    assert_eq!(book.count("add 1"), 0);
    world.finish().await;
}

#[actix::test]
async fn an_ask_whose_asker_went_away_is_not_begun() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let unblock = block(&front).await;
    {
        let ask = front.ask(Add(1));
        tokio::pin!(ask);
        assert!(futures_util::poll!(ask).is_pending());
        assert_eq!(front.queue_depth(), 1);
    }
    assert_eq!(front.in_flight(), 1, "it takes its place until the queue lets it go");
    unblock.send(()).unwrap();
    assert_eq!(front.ask(Add(2)).await, Ok(2));
    assert_eq!((book.count("add 1"), front.in_flight()), (0, 0));
    world.finish().await;
}

#[actix::test]
async fn the_deadline_travels_in_the_letter() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let unblock = block(&front).await;
    let ask = front.ask_within(Duration::from_millis(100), Add(1));
    tokio::pin!(ask);
    assert!(futures_util::poll!(&mut ask).is_pending());
    // the asker is not polled, as if its own arbiter were held: only the letter knows that it is too late
    tokio::time::sleep(Duration::from_millis(200)).await;
    unblock.send(()).unwrap();
    assert_eq!(front.ask(Add(2)).await, Ok(2));
    assert_eq!(book.count("add 1"), 0);
    assert_eq!(ask.await, Err(AskError::Deadline));
    world.finish().await;
}

#[actix::test]
async fn tells_over_the_bound_come_back() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe").mailbox_bound(3), &book);
    let unblock = block(&front).await;
    for n in 1..=3 {
        front.tell(Add(n)).unwrap();
    }
    let (error, Add(n)) = front.tell_or_return(Add(4)).unwrap_err();
    assert_eq!((error, n), (TellError::Overloaded, 4));
    assert_eq!(front.recipient::<Add>().tell(Add(5)), Err(TellError::Overloaded));
    assert_eq!(front.queue_depth(), 3);
    unblock.send(()).unwrap();
    assert_eq!(front.ask(Add(0)).await, Ok(6));
    front.tell(Add(7)).unwrap();
    assert_eq!(front.ask(Add(0)).await, Ok(13));
    world.finish().await;
}

#[actix::test]
async fn asks_over_the_bound_wait_their_turn_or_are_refused() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe").mailbox_bound(2), &book);
    let (open, gate) = oneshot::channel();
    let (open2, gate2) = oneshot::channel();
    let slow = async { tokio::join!(front.ask(AnswerLater(gate)), front.ask(AnswerLater(gate2))) };
    let rest = async {
        while book.count("begun") < 2 {
            tokio::task::yield_now().await;
        }
        let refused = front.ask_within(Duration::from_millis(50), Add(1)).await;
        assert_eq!(refused, Err(AskError::Overloaded), "answers outstanding count too");
        let (waited, ()) = tokio::join!(front.ask(Add(2)), async {
            tokio::task::yield_now().await;
            assert_eq!(book.count("add 2"), 0);
            open.send(false).unwrap();
        });
        assert_eq!(waited, Ok(2));
        open2.send(false).unwrap();
    };
    let ((first, second), ()) = tokio::join!(slow, rest);
    assert_eq!((first, second), (Ok(0), Ok(2)));
    assert_eq!((book.count("add 1"), front.in_flight()), (0, 0));
    world.finish().await;
}

#[actix::test]
async fn a_wider_bound_lets_waiting_asks_in() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("probe").mailbox_bound(1), &Book::default());
    let (open, gate) = oneshot::channel();
    let slow = front.ask(AnswerLater(gate));
    let quick = front.ask(Add(1));
    let widen = async {
        while front.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        let mut policies = Policies::default();
        let wider = PolicyPatch { mailbox_bound: Some(2), ..PolicyPatch::default() };
        policies.names.insert("probe".into(), wider);
        world.set_policies(policies);
    };
    let answered = async {
        let (answer, ()) = tokio::join!(quick, widen);
        assert_eq!(answer, Ok(1));
        open.send(false).unwrap();
    };
    let (slow, ()) = tokio::join!(slow, answered);
    assert_eq!(slow, Ok(1));
    world.finish().await;
}

#[actix::test]
async fn after_the_end_nothing_is_taken() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("probe").transient(), &Book::default());
    front.tell(End::Complete).unwrap();
    assert_eq!(front.wait_ended().await, Ending::Completed);
    assert_eq!(front.ask(Add(1)).await, Err(AskError::Stopped));
    assert_eq!(front.tell(Add(1)), Err(TellError::Stopped));
    assert_eq!(front.wait_ready(SOON).await, Err(AskError::Stopped));
    let again = spawn(&world.root(), ChildSpec::new("probe").transient(), &Book::default());
    assert_eq!(again.name(), "probe", "the name is free again");
    assert_ne!(front, again);
    world.finish().await;
}

#[actix::test]
async fn a_flood_does_not_starve_the_neighbours() {
    let world = TestWorld::new();
    let front = spawn(&world.root(), ChildSpec::new("probe").mailbox_bound(10_000), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    for _ in 0..10_000 {
        front.tell(Add(1)).unwrap();
    }
    let turned = Arc::new(AtomicBool::new(false));
    let neighbour = actix_rt::spawn({
        let (front, turned) = (front.clone(), Arc::clone(&turned));
        async move {
            assert!(front.queue_depth() > 1000, "the neighbour came only after the flood");
            turned.store(true, Ordering::SeqCst);
        }
    });
    assert_eq!(front.ask(Add(0)).await, Ok(10_000));
    neighbour.await.unwrap();
    assert!(turned.load(Ordering::SeqCst));
    world.finish().await;
}

#[actix::test]
async fn fronts_work_across_arbiters_and_threads() {
    fn sendable<T: Send + Sync + Clone>(_: &T) {}
    let world = TestWorld::in_real_time();
    let arbiter = Arbiter::new();
    let elsewhere = world.root().supervisor(SupervisorSpec::new("elsewhere").arbiter(arbiter.handle()));
    let here = std::thread::current().id();
    let (place, told) = std::sync::mpsc::channel();
    let front = elsewhere.spawn(ChildSpec::new("far"), move |birth| {
        let _ = place.send(std::thread::current().id());
        Probe::new(birth, &Book::default())
    });
    let teller: Teller<Add> = front.recipient();
    sendable(&front);
    sendable(&teller);
    assert_eq!(front.ask(WhichBirth).await, Ok((1, true)));
    assert_ne!(told.recv().unwrap(), here);
    let from_a_thread = std::thread::spawn({
        let supervisor = world.root();
        move || {
            for _ in 0..100 {
                teller.tell(Add(1)).unwrap();
            }
            supervisor.spawn(ChildSpec::new("near"), |birth| Probe::new(birth, &Book::default()))
        }
    });
    let near: Front<Probe> = from_a_thread.join().unwrap();
    assert_eq!(near.ask(Add(1)).await, Ok(1));
    assert_eq!(front.ask(Add(0)).await, Ok(100));
    assert_eq!(world.finish().await.stopped, 2);
    arbiter.stop();
    arbiter.join().unwrap();
}

#[actix::test]
async fn a_dead_arbiter_ends_its_actors_in_the_books() {
    let world = TestWorld::in_real_time();
    let arbiter = Arbiter::new();
    let elsewhere = world.root().supervisor(SupervisorSpec::new("elsewhere").arbiter(arbiter.handle()));
    let front = spawn(&elsewhere, ChildSpec::new("far"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    let (_open, gate) = oneshot::channel();
    let (answer, ()) = tokio::join!(front.ask(AnswerLater(gate)), async {
        while front.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        arbiter.stop();
    });
    assert_eq!(answer, Err(AskError::Restarted));
    front.wait_ended().await;
    arbiter.join().unwrap();
    assert!(world.live().is_empty());
    let unborn = spawn(&elsewhere, ChildSpec::new("unborn"), &Book::default());
    assert_eq!(unborn.ask(Add(1)).await, Err(AskError::Stopped));
    world.finish().await;
}
