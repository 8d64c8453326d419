//! Actors that give no sign of life, and policies that change while they live.

use std::time::Duration;

use greenroom_runtime::{
    AskError, ChildSpec, Ending, Policies, PolicyPatch, Restart, Span, State, SupervisorSpec, TestWorld,
    still_alive,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::probe::{Add, AnswerLater, Book, WaitLong, block, spawn};

const SOON: Duration = Duration::from_secs(5);

fn of_probe(patch: PolicyPatch) -> Policies {
    Policies { kinds: [("probe".to_owned(), patch)].into(), ..Policies::default() }
}

fn hang_after(secs: u64) -> PolicyPatch {
    PolicyPatch { hang_after: Some(Span::from_secs(secs)), ..PolicyPatch::default() }
}

#[actix::test]
async fn a_handler_that_never_ends_is_noticed_and_the_actor_is_born_again() {
    let world = TestWorld::new();
    world.set_policies(of_probe(hang_after(3)));
    let front = spawn(&world.root(), ChildSpec::new("probe"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    let begun = Instant::now();
    assert!(world.inject_hang("probe"));
    let queued = front.ask(Add(1)).await;
    assert_eq!(queued, Err(AskError::Restarted));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_millis(3010), "{took:?}");
    front.wait_ready(SOON).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(front.ask(Add(1)).await, Ok(1));
    let report = world.snapshot().into_iter().find(|it| it.name == "probe").unwrap();
    let exit = &report.exits[0];
    assert_eq!(exit.kind, "hung");
    assert!(exit.message.starts_with("no sign of life for 3s"), "{}", exit.message);
    assert!(exit.served_ms.is_some_and(|it| it >= 1000.0), "{exit:?}");
    assert!(exit.lived_ms >= 3000 && exit.back_ms.is_some_and(|it| it <= 60.0), "{exit:?}");
    assert_eq!(report.restarts, 1, "it counts as a bad end");
    world.finish().await;
}

#[actix::test]
async fn one_that_waits_for_an_answer_and_one_that_says_so_are_alive() {
    let world = TestWorld::new();
    world.set_policies(of_probe(hang_after(3)));
    let patient = spawn(&world.root(), ChildSpec::new("patient"), &Book::default());
    let busy = spawn(&world.root(), ChildSpec::new("busy"), &Book::default());
    // an answer that is outstanding holds nothing else up
    let (open, gate) = oneshot::channel();
    let outstanding = patient.ask_within(Duration::from_secs(60), AnswerLater(gate));
    let others = async {
        busy.tell(WaitLong).unwrap();
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(patient.ask(Add(1)).await, Ok(1));
        open.send(false).unwrap();
    };
    let (answer, ()) = tokio::join!(outstanding, others);
    assert_eq!(answer, Ok(1));
    assert_eq!(
        busy.ask_within(Duration::from_secs(60), Add(5)).await,
        Ok(5),
        "it waited 30 s and said that it is alive"
    );
    assert_eq!((patient.births(), busy.births()), (1, 1));
    still_alive();
    world.finish().await;
}

#[actix::test]
async fn patience_changes_while_an_actor_hangs() {
    let world = TestWorld::new();
    world.set_policies(of_probe(hang_after(3600)));
    let front = spawn(&world.root(), ChildSpec::new("probe"), &Book::default());
    let _blocked = block(&front).await;
    front.tell(Add(1)).unwrap();
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!((front.births(), front.state()), (1, State::Running));
    world.set_policies(of_probe(hang_after(101)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((front.births(), front.state()), (2, State::Running), "counted from when it began to hang");
    let exits = world.snapshot().into_iter().find(|it| it.name == "probe").unwrap().exits;
    assert!(exits[0].message.ends_with("since it was given Block"), "{}", exits[0].message);
    world.finish().await;
}

#[actix::test]
async fn a_live_child_takes_each_new_policy_without_a_restart() {
    let mut world = TestWorld::new();
    world.expect_panic("probe");
    let group = world.root().supervisor(SupervisorSpec::new("above"));
    let front = spawn(&group, ChildSpec::new("probe"), &Book::default());
    let beside = spawn(&group, ChildSpec::new("beside"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    beside.wait_ready(SOON).await.unwrap();

    // backoff
    let backoff = PolicyPatch {
        backoff_min: Some(Span::from_secs(8)),
        backoff_max: Some(Span::from_secs(8)),
        ..PolicyPatch::default()
    };
    world.set_policies(of_probe(backoff));
    world.settle().await;
    assert_eq!(front.births(), 1, "a new policy restarts nobody");
    assert!(world.inject_panic("probe"));
    tokio::time::sleep(Duration::from_millis(3900)).await;
    assert_eq!(front.state(), State::BackingOff);
    front.wait_ready(SOON).await.unwrap();

    // intensity of its own: the second end within the period is one too many, and its siblings are born anew with it
    let intensity = PolicyPatch { intensity: Some(0), ..PolicyPatch::default() };
    world.set_policies(of_probe(intensity));
    assert_eq!((front.births(), beside.births()), (2, 1));
    assert!(world.inject_panic("probe"));
    tokio::time::sleep(SOON).await;
    assert_eq!((front.births(), beside.births()), (3, 2));

    // grace
    world
        .set_policies(of_probe(PolicyPatch { grace: Some(Span::from_millis(70)), ..PolicyPatch::default() }));
    let _blocked = block(&beside).await;
    beside.tell(Add(1)).unwrap();
    let begun = Instant::now();
    let report = group.stop(None).await;
    assert_eq!(report.cut_off.len(), 1);
    assert!(begun.elapsed() < Duration::from_millis(80), "{:?}", begun.elapsed());

    // restart
    let front = spawn(&world.root(), ChildSpec::new("probe"), &Book::default());
    front.wait_ready(SOON).await.unwrap();
    world.set_policies(of_probe(PolicyPatch { restart: Some(Restart::Temporary), ..PolicyPatch::default() }));
    assert!(world.inject_failure("probe"));
    assert_eq!(front.wait_ended().await, Ending::Failed("injected failure".into()));
    assert_eq!(front.births(), 1);
    world.finish().await;
}

#[actix::test]
async fn an_actor_with_an_intensity_of_its_own_is_counted_apart() {
    let mut world = TestWorld::new();
    world.expect_panic("lively");
    world.expect_panic("calm");
    let patch =
        PolicyPatch { intensity: Some(1), period: Some(Span::from_secs(600)), ..PolicyPatch::default() };
    let own = PolicyPatch { intensity: Some(20), ..PolicyPatch::default() };
    world.set_policies(Policies {
        defaults: patch,
        names: [("lively".to_owned(), own)].into(),
        ..Policies::default()
    });
    let group = world.root().supervisor(SupervisorSpec::new("above"));
    let lively = spawn(&group, ChildSpec::new("lively"), &Book::default());
    let calm = spawn(&group, ChildSpec::new("calm"), &Book::default());
    calm.wait_ready(SOON).await.unwrap();
    for n in 1..=20 {
        lively.wait_ready(Duration::from_secs(60)).await.unwrap();
        assert!(world.inject_panic("lively"));
        while lively.births() == n && lively.state() == State::Running {
            tokio::task::yield_now().await;
        }
    }
    lively.wait_ready(Duration::from_secs(60)).await.unwrap();
    assert!(world.inject_panic("calm"));
    tokio::time::sleep(SOON).await;
    let reports = world.snapshot();
    let of = |name: &str| reports.iter().find(|it| it.name == name).unwrap();
    assert_eq!((of("lively").restarts, of("lively").intensity, of("lively").own_intensity), (20, 20, true));
    assert_eq!((of("calm").restarts, of("calm").intensity, of("calm").own_intensity), (1, 1, false));
    assert_eq!(of("above").births, 1, "neither broke a bound");
    assert_eq!(of("lively").origins["intensity"], "[supervision.names.\"lively\"]");
    assert!(world.inject_panic("lively"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((calm.births(), lively.births()), (3, 22), "the 21st is one too many: both are born anew");
    world.finish().await;
}
