//! The two phases of a stop.

use std::time::Duration;

use actix_rt::Arbiter;
use greenroom_runtime::{
    AskError, ChildSpec, CutOff, Ending, State, StopOrder, StopReport, SupervisorSpec, TellError, TestWorld,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::probe::{Add, AnswerLater, Book, Hold, Probe, block, spawn};

const SOON: Duration = Duration::from_secs(5);

#[actix::test]
async fn intake_stops_and_queued_work_is_finished() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = spawn(&world.root(), ChildSpec::new("probe"), &book);
    let unblock = block(&front).await;
    let (open, gate) = oneshot::channel();
    front.tell(Add(1)).unwrap();
    let running = front.ask(AnswerLater(gate));
    let stop = front.stop(SOON);
    let rest = async {
        while front.state() != State::Stopping {
            tokio::task::yield_now().await;
        }
        assert_eq!(front.tell(Add(2)), Err(TellError::Stopped));
        assert_eq!(front.ask(Add(3)).await, Err(AskError::Stopped));
        unblock.send(()).unwrap();
        while book.count("begun") == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(front.state(), State::Stopping, "an answer is outstanding");
        open.send(false).unwrap();
    };
    let (answer, ending, ()) = tokio::join!(running, stop, rest);
    assert_eq!((answer, ending), (Ok(1), Ending::Stopped));
    assert_eq!(book.lines(), ["started 1", "blocked", "drain", "add 1", "begun", "stopping", "stopped"]);
    world.finish().await;
}

#[actix::test]
async fn a_straggler_is_cut_off_by_name() {
    let world = TestWorld::new();
    let book = Book::default();
    let straggler =
        spawn(&world.root(), ChildSpec::new("straggler").grace(Duration::from_millis(300)), &book);
    let quick = spawn(&world.root(), ChildSpec::new("quick"), &Book::default());
    quick.wait_ready(SOON).await.unwrap();
    let _blocked = block(&straggler).await;
    straggler.tell(Add(1)).unwrap();
    let asked = straggler.ask(Add(2));
    let stopped = async {
        let begun = Instant::now();
        let report = world.root().stop(None).await;
        (report, begun.elapsed())
    };
    let (answer, (report, took)) = tokio::join!(asked, stopped);
    assert_eq!(answer, Err(AskError::Restarted));
    let cut_off = vec![CutOff { name: "straggler".into(), queued: 2, in_flight: 1 }];
    assert_eq!(report, StopReport { stopped: 1, cut_off });
    assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(310), "{took:?}");
    assert_eq!((book.count("add 1"), book.count("stopped")), (0, 0));
    drop(world);
}

#[actix::test]
async fn the_whole_stop_is_bounded() {
    let world = TestWorld::new();
    let mut gates = Vec::new();
    for n in 0..3 {
        let spec = ChildSpec::new(format!("straggler-{n}")).grace(Duration::from_secs(100));
        gates.push(block(&spawn(&world.root(), spec, &Book::default())).await);
    }
    let begun = Instant::now();
    let report = world.root().stop(Some(Duration::from_secs(2))).await;
    let names: Vec<_> = report.cut_off.iter().map(|cut_off| cut_off.name.as_str()).collect();
    assert_eq!(names, ["straggler-2", "straggler-1", "straggler-0"]);
    assert!(begun.elapsed() < Duration::from_millis(2010), "{:?}", begun.elapsed());
    drop(world);
}

#[actix::test]
async fn the_last_started_stops_first_and_supervisors_stop_as_a_whole() {
    let world = TestWorld::new();
    let book = Book::default();
    let noted = |name: &'static str| {
        let book = book.clone();
        move |birth: &greenroom_runtime::Birth<Probe>| {
            book.write(format!("{name} born"));
            Probe::new(birth, &book)
        }
    };
    let first = world.root().spawn(ChildSpec::new("first"), noted("first"));
    let middle = world.root().supervisor(SupervisorSpec::new("middle").stop_order(StopOrder::Together));
    let [a, b] = ["a", "b"].map(|name| middle.spawn(ChildSpec::new(name), noted(name)));
    let last = world.root().spawn(ChildSpec::new("last"), noted("last"));
    for front in [&first, &a, &b, &last] {
        front.wait_ready(SOON).await.unwrap();
    }
    let open_last = block(&last).await;
    let open_a = block(&a).await;
    let stop = async { world.root().stop(None).await };
    let watch = async {
        while last.state() != State::Stopping {
            tokio::task::yield_now().await;
        }
        assert_eq!([&first, &a, &b].map(|front| front.state()), [State::Running; 3]);
        open_last.send(()).unwrap();
        b.wait_ended().await;
        assert_eq!((a.state(), first.state()), (State::Stopping, State::Running));
        open_a.send(()).unwrap();
        a.wait_ended().await;
    };
    let (report, ()) = tokio::join!(stop, watch);
    assert_eq!((report.stopped, report.cut_off.len()), (4, 0));
    assert_eq!(world.snapshot().len(), 1, "only the root is left");
    assert_eq!(spawn(&middle, ChildSpec::new("late"), &book).state(), State::Stopped);
    world.finish().await;
}

#[actix::test]
async fn an_actor_may_take_time_for_its_last_work() {
    let world = TestWorld::new();
    let book = Book::default();
    let front = world.root().spawn(ChildSpec::new("probe"), {
        let book = book.clone();
        move |birth| Probe { last_work: Some(Duration::from_secs(2)), ..Probe::new(birth, &book) }
    });
    front.wait_ready(SOON).await.unwrap();
    assert_eq!(front.stop(SOON).await, Ending::Stopped);
    assert_eq!(book.lines(), ["started 1", "drain", "stopping", "last work", "stopping", "stopped"]);

    let hasty = world.root().spawn(ChildSpec::new("hasty"), {
        let book = book.clone();
        move |birth| Probe { last_work: Some(Duration::from_secs(9)), ..Probe::new(birth, &book) }
    });
    hasty.wait_ready(SOON).await.unwrap();
    assert_eq!(hasty.stop(SOON).await, Ending::Killed, "its grace is shorter than its work");
    world.finish().await;
}

#[actix::test]
async fn a_child_that_backs_off_stops_at_once() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let spec = ChildSpec::new("probe").backoff(Duration::from_secs(60), Duration::from_secs(60));
    let front = spawn(&world.root(), spec, &Book::default());
    front.wait_ready(SOON).await.unwrap();
    world.inject_panic("probe");
    world.settle().await;
    assert_eq!(front.state(), State::BackingOff);
    let begun = Instant::now();
    assert_eq!(world.root().stop(None).await.stopped, 1);
    assert!(begun.elapsed() < Duration::from_millis(10));
    assert_eq!((front.state(), front.births()), (State::Stopped, 1));
    world.finish().await;
}

#[actix::test]
async fn an_actor_that_holds_its_arbiter_does_not_hold_up_the_stop() {
    let world = TestWorld::in_real_time();
    let arbiter = Arbiter::new();
    let elsewhere = world.root().supervisor(SupervisorSpec::new("elsewhere").arbiter(arbiter.handle()));
    let front =
        spawn(&elsewhere, ChildSpec::new("holder").grace(Duration::from_millis(20)), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    let (open, gate) = std::sync::mpsc::channel();
    front.tell(Hold(gate)).unwrap();
    while front.queue_depth() > 0 {
        tokio::task::yield_now().await;
    }
    let report = elsewhere.stop(None).await;
    assert_eq!(report.cut_off.iter().map(|each| each.name.as_str()).collect::<Vec<_>>(), ["holder"]);
    open.send(()).unwrap();
    assert_eq!(front.wait_ended().await, Ending::Killed);
    arbiter.stop();
    arbiter.join().unwrap();
    world.finish().await;
}
