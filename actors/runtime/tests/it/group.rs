//! Strategies: who of a group is restarted along with a member that ended, and in which order.

use std::time::Duration;

use greenroom_runtime::{
    AskError, ChildSpec, Ending, Front, Policies, PolicyPatch, Span, State, Strategy, Supervisor,
    SupervisorSpec, TellError, TestWorld,
};
use tokio::time::Instant;

use crate::probe::{Add, Book, Probe, WhichBirth, block, spawn};

const SOON: Duration = Duration::from_secs(5);

fn strategy(world: &TestWorld, name: &str, strategy: Strategy) {
    let patch = PolicyPatch { strategy: Some(strategy), ..PolicyPatch::default() };
    world.set_policies(Policies { names: [(name.to_owned(), patch)].into(), ..Policies::default() });
}

/// Three probes that write into one book, under a supervisor that declares a group.
struct Three {
    group: Supervisor,
    fronts: Vec<Front<Probe>>,
    book: Book,
}

impl Three {
    async fn under(parent: &Supervisor) -> Self {
        let group = parent.supervisor(SupervisorSpec::new("group").group());
        let book = Book::default();
        let fronts: Vec<_> =
            ["a", "b", "c"].map(|it| spawn(&group, ChildSpec::new(it), &book.named(it))).into();
        for front in &fronts {
            front.wait_ready(SOON).await.unwrap();
        }
        book.clear();
        Self { group, fronts, book }
    }

    /// Waits until the second is back and everything has come to rest; says who was born how often.
    async fn births_after(&self, world: &TestWorld) -> Vec<u64> {
        self.fronts[1].wait_ready(SOON).await.unwrap();
        tokio::time::sleep(SOON).await;
        world.settle().await;
        self.fronts.iter().map(Front::births).collect()
    }
}

#[actix::test]
async fn each_strategy_restarts_whom_it_names_in_order() {
    for (chosen, births, lines) in [
        (Strategy::OneForOne, [1, 2, 1], vec!["b started 2"]),
        (Strategy::RestForOne, [1, 2, 2], vec!["c stopping", "c stopped", "b started 2", "c started 2"]),
        (
            Strategy::OneForAll,
            [2, 2, 2],
            vec![
                "c stopping",
                "c stopped",
                "a stopping",
                "a stopped",
                "a started 2",
                "b started 2",
                "c started 2",
            ],
        ),
    ] {
        let mut world = TestWorld::new();
        world.expect_panic("b");
        strategy(&world, "group", chosen);
        let three = Three::under(&world.root()).await;
        assert!(world.inject_panic("b"));
        while three.fronts[1].state() == State::Running {
            tokio::task::yield_now().await;
        }
        assert_eq!(three.births_after(&world).await, births, "{chosen:?}");
        assert_eq!(three.book.lines(), lines, "{chosen:?}");
        let reports = world.snapshot();
        let of = |name: &str| reports.iter().find(|report| report.name == name).unwrap();
        assert_eq!(of("group").strategy, Some(chosen));
        assert_eq!(
            (of("b").restarts, of("c").restarts),
            (1, 0),
            "one restart is counted, however many it takes along"
        );
        if chosen != Strategy::OneForOne {
            let exit = &of("c").exits[0];
            assert_eq!((exit.kind, exit.message.as_str()), ("stopped", "b panicked: injected panic"));
        }
        world.finish().await;
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_supervisor_without_a_group_restarts_each_alone() {
    let mut world = TestWorld::new();
    world.expect_panic("x");
    strategy(&world, "crowd", Strategy::OneForAll);
    let crowd = world.root().supervisor(SupervisorSpec::new("crowd"));
    let (x, y) = (
        spawn(&crowd, ChildSpec::new("x"), &Book::default()),
        spawn(&crowd, ChildSpec::new("y"), &Book::default()),
    );
    assert_eq!((x.ask(Add(1)).await, y.ask(Add(1)).await), (Ok(1), Ok(1)));
    assert!(world.inject_panic("x"));
    tokio::time::sleep(SOON).await;
    assert_eq!((x.births(), y.births()), (2, 1));
    assert_eq!(world.snapshot().iter().find(|it| it.name == "crowd").unwrap().strategy, None);
    world.finish().await;
}

#[actix::test]
async fn what_was_queued_at_a_sibling_is_answered_and_its_front_goes_on() {
    let mut world = TestWorld::new();
    world.expect_panic("b");
    strategy(&world, "group", Strategy::OneForAll);
    let three = Three::under(&world.root()).await;
    let c = three.fronts[2].clone();
    let _blocked = block(&c).await;
    let queued = c.ask(Add(7));
    let trouble = async {
        while c.queue_depth() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(world.inject_panic("b"));
    };
    let begun = Instant::now();
    let (answer, ()) = tokio::join!(queued, trouble);
    assert_eq!(answer, Err(AskError::Restarted), "outcome unknown, at once");
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(c.tell(Add(8)), Err(TellError::Unavailable), "certainly not handled");
    c.wait_ready(SOON).await.unwrap();
    assert_eq!(c.ask(Add(1)).await, Ok(1), "the same Front, a new struct");
    assert_eq!(three.book.count("c add 7"), 0);
    world.finish().await;
}

#[actix::test]
async fn a_sibling_gets_its_grace_for_last_work_and_no_more() {
    for (grace, lasts, ending) in [(5000, 1000, "stopped"), (500, 1000, "killed")] {
        let mut world = TestWorld::new();
        world.expect_panic("a");
        strategy(&world, "group", Strategy::OneForAll);
        let group = world.root().supervisor(SupervisorSpec::new("group").group());
        let a = spawn(&group, ChildSpec::new("a"), &Book::default());
        let book = Book::default();
        let for_b = book.clone();
        let spec = ChildSpec::new("b").grace(Duration::from_millis(grace));
        let b = group.spawn(spec, move |birth| Probe {
            last_work: (birth.number() == 1).then_some(Duration::from_millis(lasts)),
            ..Probe::new(birth, &for_b)
        });
        a.wait_ready(SOON).await.unwrap();
        b.wait_ready(SOON).await.unwrap();
        assert!(world.inject_panic("a"));
        tokio::time::sleep(SOON).await;
        assert_eq!((a.births(), b.births()), (2, 2));
        let reports = world.snapshot();
        let exit = &reports.iter().find(|it| it.name == "b").unwrap().exits[0];
        assert_eq!((exit.kind, book.count("last work")), (ending, usize::from(ending == "stopped")));
        world.finish().await;
        tokio::time::resume();
    }
}

#[actix::test]
async fn a_failure_while_the_group_restarts_joins_in() {
    let mut world = TestWorld::new();
    world.expect_panic("b");
    world.expect_panic("a");
    strategy(&world, "group", Strategy::RestForOne);
    let three = Three::under(&world.root()).await;
    let (a, b, c) = (&three.fronts[0], &three.fronts[1], &three.fronts[2]);
    assert!(world.inject_panic("b"));
    while c.state() == State::Running {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.state(), State::Running);
    assert!(world.inject_panic("a"));
    tokio::time::sleep(SOON).await;
    assert_eq!((a.births(), b.births(), c.births()), (2, 2, 2), "one round for both");
    assert_eq!(three.book.lines().last().map(String::as_str), Some("c started 2"));
    world.finish().await;
}

#[actix::test]
async fn temporary_children_end_with_their_group_and_finished_ones_stay_finished() {
    let mut world = TestWorld::new();
    world.expect_panic("a");
    strategy(&world, "group", Strategy::OneForAll);
    let group = world.root().supervisor(SupervisorSpec::new("group").group());
    let a = spawn(&group, ChildSpec::new("a"), &Book::default());
    let below = group.supervisor(SupervisorSpec::new("below"));
    let session = spawn(&below, ChildSpec::new("session").temporary(), &Book::default());
    let inner = spawn(&below, ChildSpec::new("inner").transient(), &Book::default());
    for front in [&a, &session, &inner] {
        front.wait_ready(SOON).await.unwrap();
    }
    assert!(world.inject_panic("a"));
    assert_eq!(session.wait_ended().await, Ending::Stopped);
    inner.wait_ready(SOON).await.unwrap();
    tokio::time::sleep(SOON).await;
    assert_eq!(inner.ask(WhichBirth).await, Ok((2, true)), "below a supervisor of the group, too");
    let reports = world.snapshot();
    let below = reports.iter().find(|it| it.name == "below").unwrap();
    assert_eq!((below.births, below.state), (2, State::Running));
    world.finish().await;
}

#[actix::test]
async fn a_supervisor_that_fails_takes_along_whom_its_parent_s_strategy_names() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    strategy(&world, "group", Strategy::RestForOne);
    let group = world.root().supervisor(SupervisorSpec::new("group").group());
    let before = spawn(&group, ChildSpec::new("before"), &Book::default());
    let middle = group.supervisor(SupervisorSpec::new("middle").intensity(0, Duration::from_secs(60)));
    let sick = spawn(&middle, ChildSpec::new("sick"), &Book::default());
    let after = spawn(&group, ChildSpec::new("after"), &Book::default());
    for front in [&before, &sick, &after] {
        front.wait_ready(SOON).await.unwrap();
    }
    assert!(world.inject_panic("sick"));
    tokio::time::sleep(SOON).await;
    assert_eq!((before.births(), sick.births(), after.births()), (1, 2, 2));
    world.finish().await;
}

#[actix::test]
async fn a_stop_in_the_middle_of_a_round_ends_it() {
    let mut world = TestWorld::new();
    world.expect_panic("b");
    strategy(&world, "group", Strategy::OneForAll);
    let three = Three::under(&world.root()).await;
    assert!(world.inject_panic("b"));
    while three.fronts[0].state() == State::Running {
        tokio::task::yield_now().await;
    }
    let report = three.group.stop(None).await;
    assert!(report.cut_off.is_empty());
    tokio::time::sleep(SOON).await;
    assert!(three.fronts.iter().all(|it| it.state().is_final() && it.births() == 1));
    world.finish().await;
}

#[actix::test]
async fn a_member_that_keeps_failing_while_the_group_restarts_breaks_the_intensity() {
    let mut world = TestWorld::new();
    world.expect_panic("sick");
    world.expect_escalation();
    let patch = PolicyPatch {
        strategy: Some(Strategy::OneForAll),
        intensity: Some(2),
        period: Some(Span::from_secs(600)),
        ..PolicyPatch::default()
    };
    world.set_policies(Policies { defaults: patch, ..Policies::default() });
    let group = world.root().supervisor(SupervisorSpec::new("group").group());
    let well = spawn(&group, ChildSpec::new("well"), &Book::default());
    let book = Book::default();
    let sick = group
        .spawn(ChildSpec::new("sick"), move |birth| Probe { sick_until: 99, ..Probe::new(birth, &book) });
    let words = world.escalation().await;
    assert_eq!(words.chain.len(), 3, "{words:?}");
    assert_eq!(words.chain[0], "actor sick (kind probe) panicked: sick");
    assert_eq!(words.chain[1], "supervisor group failed: over 2 restarts within 10m; sick ended 3 times");
    assert_eq!(words.chain[2], "supervisor root failed: over 2 restarts within 10m; group ended 3 times");
    sick.wait_ended().await;
    well.wait_ended().await;
    drop(world);
}
